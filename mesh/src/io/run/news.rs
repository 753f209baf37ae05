//! What the application hears: events in their order, and the snapshot that shows them.
//!
//! Bounds: events nobody takes wait; messages beyond `MOST_PENDING` of them are dropped and
//! counted. Absent: what happened, which is the node's to say.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};

use tokio::sync::mpsc;

use super::super::{Event, Within, now};
use super::Shell;
use super::upkeep::SNAPSHOT_EVERY;
use crate::node::NodeEvent;
use crate::wire::STREAM_PORT;

/// Events that wait for the application before messages are dropped.
const MOST_PENDING: usize = 1_024;

impl Shell {
    pub(super) fn take_events(&mut self) {
        while let Some(event) = self.node.poll_event() {
            match event {
                NodeEvent::StreamPacket { from, bytes } => {
                    let from = SocketAddr::new(IpAddr::V6(from), STREAM_PORT);
                    // A full queue counts for itself; see `show`.
                    let _taken = self.socket.deliver(from, bytes);
                }
                NodeEvent::Removed(peer) => self.connections.close(peer),
                NodeEvent::Pong { number, took } => {
                    if let Some(waiting) = self.pings.remove(&number) {
                        let _gone = waiting.send(Ok(took));
                    }
                }
                NodeEvent::Message { from, kind, body } => {
                    if self.pending.len() >= MOST_PENDING {
                        self.node.count_drop("application too slow");
                    } else {
                        self.pending.push_back(Event::Message { from, kind, body });
                    }
                }
                NodeEvent::Connected(peer) => {
                    self.set_connected();
                    self.pending.push_back(Event::Connected(peer));
                }
                NodeEvent::Disconnected(peer) => {
                    // It may have started again; its old connection would swallow what is sent
                    // until it has been idle for long enough.
                    self.connections.close(peer);
                    self.set_connected();
                    self.pending.push_back(Event::Disconnected(peer));
                }
                NodeEvent::MembersChanged => {
                    self.set_connected();
                    self.pending.push_back(Event::MembersChanged);
                }
            }
        }
    }

    /// Hands events to the application, after the snapshot that shows them.
    pub(super) fn hand_over(&mut self) {
        while let Some(event) = self.pending.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.pending.push_front(event);
                    return;
                }
                // Nobody listens; the mesh goes on for the sake of the others.
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
    }

    fn set_connected(&mut self) {
        self.changed = true;
        let mut connected = self
            .connected
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *connected = Within::of(&self.node);
    }

    pub(super) fn show(&mut self) {
        let now = now();
        if !self.changed && now.mono < self.due.snapshot {
            return;
        }
        for peer in self.connections.take_excess() {
            self.node.blame_connections(peer, now);
        }
        self.changed = false;
        self.due.snapshot = now.mono + SNAPSHOT_EVERY;
        let mut snapshot = self.node.snapshot(now);
        let full = self.socket.dropped();
        if full > 0 {
            snapshot.counters.dropped.insert("stream queue full", full);
        }
        if self.writer.is_behind() {
            snapshot
                .notices
                .push("statements cannot be written to disk; see the log".into());
        }
        self.snapshots.send_replace(Arc::new(snapshot));
    }
}
