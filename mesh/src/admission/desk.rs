//! The sponsor's side: the guests in the joining tunnel.
//!
//! Keeps who is being admitted, from where, until when. Bounds: `MOST_GUESTS` at a time, the
//! oldest that proved nothing makes room; `STAY` each; `MOST_FRAMES` frames each; the last
//! `MOST_ANSWERED` initiations are remembered. The same seed may be in two hands at once (a token
//! for two machines), so a guest is a key and a source.
//! Invariant: an initiation is answered once. Each guest has a fresh tunnel, which takes an old
//! initiation for a new one, so whoever repeats a recorded one could fill every slot.
//! Absent: what is verified and witnessed, which is `trust`'s and `node`'s business.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::tunnel::keys::TunnelPublic;
use crate::tunnel::session::Session;

/// Guests at a time.
pub(crate) const MOST_GUESTS: usize = 16;

/// How long a guest may stay.
const STAY: Duration = Duration::from_secs(30);

/// A guest that proved nothing makes room after this time, if room is needed.
const UNPROVED_STAY: Duration = Duration::from_secs(3);

/// Answered initiations remembered, the oldest forgotten first; only an invite's holders make new
/// ones.
const MOST_ANSWERED: usize = 256;

/// Frames a guest may send.
const MOST_FRAMES: u32 = 512;

/// Bytes of an initiation before its two codes.
const SIGNED: usize = 116;

/// Somebody with a token.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) key: TunnelPublic,
    pub(crate) source: SocketAddr,
    pub(crate) session: Session,
    pub(crate) admitted: bool,
    since: Instant,
    proved: bool,
    frames: u32,
}

/// All guests, by number.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    guests: BTreeMap<u64, Guest>,
    next: u64,
    /// The initiations that were answered, as far as they are signed.
    answered: VecDeque<[u8; SIGNED]>,
}

impl Guest {
    /// Counts one frame; false when the guest has had its share.
    pub(crate) fn spend(&mut self) -> bool {
        self.frames += 1;
        self.frames <= MOST_FRAMES
    }

    /// Notes that it holds the key it claims.
    pub(crate) fn proved(&mut self) {
        self.proved = true;
    }
}

impl Desk {
    /// How many there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.guests.len()
    }

    /// The guest with this key from this source.
    pub(crate) fn find(&self, key: TunnelPublic, source: SocketAddr) -> Option<u64> {
        self.guests
            .iter()
            .find(|(_, guest)| guest.key == key && guest.source == source)
            .map(|(number, _)| *number)
    }

    /// A number nobody had.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Makes room and says who had to go. `None` when everybody here has proved to be a guest or
    /// just arrived.
    pub(crate) fn make_room(&mut self, now: Instant) -> Option<Option<Guest>> {
        let mut gone = None;
        if self.guests.len() >= MOST_GUESTS {
            let oldest = self
                .guests
                .iter()
                .find(|(_, guest)| !guest.proved && now >= guest.since + UNPROVED_STAY)
                .map(|(number, _)| *number)?;
            gone = self.guests.remove(&oldest);
        }
        Some(gone)
    }

    /// Lets a guest in.
    pub(crate) fn seat(
        &mut self,
        number: u64,
        key: TunnelPublic,
        source: SocketAddr,
        session: Session,
        now: Instant,
    ) {
        let guest = Guest {
            key,
            source,
            session,
            admitted: false,
            since: now,
            proved: false,
            frames: 0,
        };
        self.guests.insert(number, guest);
    }

    /// Whether this initiation was answered before. Its two codes at the end are left out: they
    /// depend on the cookie of whoever sends it.
    pub(crate) fn has_answered(&self, initiation: &[u8]) -> bool {
        let signed = initiation.get(..SIGNED);
        self.answered
            .iter()
            .any(|answered| signed == Some(&answered[..]))
    }

    /// Notes that this initiation was answered.
    pub(crate) fn note_answered(&mut self, initiation: &[u8]) {
        let signed = initiation.get(..SIGNED);
        if let Some(signed) = signed.and_then(|signed| signed.try_into().ok()) {
            if self.answered.len() >= MOST_ANSWERED {
                self.answered.pop_front();
            }
            self.answered.push_back(signed);
        }
    }

    /// A guest by its number.
    pub(crate) fn guest(&mut self, number: u64) -> Option<&mut Guest> {
        self.guests.get_mut(&number)
    }

    /// Sends a guest away.
    pub(crate) fn dismiss(&mut self, number: u64) -> Option<Guest> {
        self.guests.remove(&number)
    }

    /// The guests whose time is over.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<u64> {
        self.guests
            .iter()
            .filter(|(_, guest)| now >= guest.since + STAY)
            .map(|(number, _)| *number)
            .collect()
    }
}
