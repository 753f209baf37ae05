//! The work of the store's threads, done step by step on a simulated disk.
//!
//! Each step is told the time and does what is due: a beat of the spool every `sync_every`, a turn of the writer as often as
//! its thread would or when half a megabyte waits. While the disk stalls nothing is done, as the threads would hang; the
//! health says so after the usual patience.
//! Absent: waiting.

use std::time::Instant;

use crate::disk::Disk;
use crate::open::Shared;
use crate::shelf::locked;
use crate::spooler::Spooler;
use crate::writer;

/// What the two threads would have between their turns.
#[derive(Debug)]
pub(crate) struct Steps {
    spooler: Spooler,
    beat_at: Instant,
    turn_at: Instant,
}

impl Steps {
    /// Reads the generations.
    pub(crate) fn begin(shared: &Shared, spooler: Spooler, now: Instant) -> Self {
        writer::begin(shared);
        Self {
            spooler,
            beat_at: now + shared.sync_every,
            turn_at: now + writer::patience(shared),
        }
    }

    pub(crate) fn run(&mut self, shared: &Shared, now: Instant) {
        let Disk::Simulated(disk) = &shared.disk else {
            return;
        };
        disk.set_now(now);
        if disk.is_stalled() {
            if now >= self.beat_at {
                shared.state().spooling.get_or_insert(self.beat_at);
            }
            return;
        }
        if now >= self.beat_at {
            while self.spooler.beat(shared, false) {}
            self.beat_at = now + shared.sync_every;
        }
        let hurry = std::mem::take(&mut locked(&shared.orders).flush_wanted);
        if hurry || now >= self.turn_at {
            writer::turn(shared, false);
            self.turn_at = now + writer::patience(shared);
        }
    }

    /// Everything at once, as when the store closes.
    pub(crate) fn run_all(&mut self, shared: &Shared) {
        writer::turn(shared, true);
        while self.spooler.beat(shared, true) {}
    }
}
