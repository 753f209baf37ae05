//! What was answered and is still on its way: how long that takes is how fast the way to a peer is.
//!
//! Only answers that never waited for the peer's bucket tell: the others are as fast as they were let.
//! Bound: `MOST`, beyond which the oldest is forgotten.

use std::time::Instant;

use outlast_mesh::NodeId;

use super::{Core, StreamId};

/// Answers on their way: each is there, or given up, within seconds.
const MOST: usize = 128;

#[derive(Debug)]
pub(super) struct Delivery {
    to: NodeId,
    bytes: usize,
    began: Instant,
}

impl Core {
    /// An answer has been written to its end; `began` is when its first bytes were.
    pub(super) fn await_delivery(
        &mut self,
        stream: StreamId,
        to: NodeId,
        bytes: usize,
        began: Instant,
    ) {
        let delivery = Delivery { to, bytes, began };
        self.deliveries.insert(stream, delivery);
        if self.deliveries.len() > MOST {
            self.deliveries.pop_first();
        }
    }

    /// The peer has all of a stream that was finished.
    pub fn handle_delivered(&mut self, stream: StreamId, now: Instant) {
        if let Some(delivery) = self.deliveries.remove(&stream)
            && let Some(bucket) = self.buckets.get_mut(&delivery.to)
        {
            bucket.handle_delivered(delivery.bytes, delivery.began, now);
        }
    }
}
