//! One stream with a peer, carried out for the core: bytes in, bytes out, nothing understood.
//!
//! A task a stream, of either side. It reads and writes only when it is told to, at bulk priority: live datagrams never
//! wait for it. It ends with its orders, or when the stream does.

use std::time::Duration;

use bytes::Bytes;
use outlast_mesh::{Mesh, NodeId};
use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;

use super::core::StreamId;

/// Orders that may wait for a stream's task: the core gives the next when the last is done.
pub(super) const ORDERS: usize = 4;
/// Read at most this much at a time.
const CHUNK: usize = 64 * 1024;
const PRIORITY: i32 = -10;
/// How long it is waited for that the other side has what was sent.
const DELIVERY: Duration = Duration::from_secs(20);

/// What a stream's task is told.
#[derive(Debug)]
pub(super) enum Order {
    Read,
    Write(Bytes),
    Finish,
}

/// What a stream's task says.
#[derive(Debug)]
pub(super) enum Said {
    Read(StreamId, Bytes),
    Written(StreamId),
    /// The other side has all that was written, up to the end.
    Delivered(StreamId),
    /// It ended, broke or was never opened.
    Broken(StreamId),
}

/// A stream and where to say how it goes.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) stream: StreamId,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) said: mpsc::Sender<Said>,
}

impl Pipe {
    /// A stream a peer opened.
    pub(super) async fn serve(self, send: SendStream, recv: RecvStream) {
        // The stream may be gone already; then nothing comes from it either.
        let _ = send.set_priority(PRIORITY);
        self.carry(send, recv).await;
    }

    /// A stream of ours, opened first.
    pub(super) async fn ask(self, mesh: Mesh, peer: NodeId, question: Bytes) {
        match open(&mesh, peer, &question).await {
            Ok((send, recv)) => self.carry(send, recv).await,
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "no stream to ask on");
                let _ = self.said.send(Said::Broken(self.stream)).await;
            }
        }
    }

    async fn carry(mut self, mut send: SendStream, mut recv: RecvStream) {
        while let Some(order) = self.orders.recv().await {
            let done = match order {
                Order::Read => match recv.read_chunk(CHUNK, true).await {
                    Ok(Some(chunk)) => Said::Read(self.stream, chunk.bytes),
                    Ok(None) | Err(_) => Said::Broken(self.stream),
                },
                Order::Write(bytes) => match send.write_all(&bytes).await {
                    Ok(()) => Said::Written(self.stream),
                    Err(_) => Said::Broken(self.stream),
                },
                Order::Finish => {
                    let _ = send.finish();
                    return self.see_delivered(&send).await;
                }
            };
            if self.said.send(done).await.is_err() {
                return;
            }
        }
    }
}

impl Pipe {
    /// Waits until everything has arrived, if it does before anybody loses interest.
    async fn see_delivered(&self, send: &SendStream) {
        let stopped = tokio::time::timeout(DELIVERY, send.stopped()).await;
        if matches!(stopped, Ok(Ok(None))) {
            // The flow may have ended: then nobody asks.
            let _ = self.said.send(Said::Delivered(self.stream)).await;
        }
    }
}

async fn open(
    mesh: &Mesh,
    peer: NodeId,
    question: &Bytes,
) -> anyhow::Result<(SendStream, RecvStream)> {
    let (mut send, recv) = mesh.open_stream(peer).await?;
    send.write_all(question).await?;
    send.finish()?;
    Ok((send, recv))
}
