//! The sponsor's side: the guests in the joining tunnel.
//!
//! Keeps who is being admitted, from where, until when. Bounds: `MOST_GUESTS` at a time, the
//! oldest that proved nothing makes room; `STAY` each; `MOST_FRAMES` frames each. The same seed
//! may be in two hands at once (a token for two machines), so a guest is a key and a source.
//! Absent: what is verified and witnessed, which is `trust`'s and `node`'s business.

use std::collections::BTreeMap;
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

/// Frames a guest may send.
const MOST_FRAMES: u32 = 512;

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

    /// Makes room and says the number of the next guest, with whoever had to go. `None` when
    /// everybody here has proved to be a guest or just arrived.
    pub(crate) fn make_room(&mut self, now: Instant) -> Option<(u64, Option<Guest>)> {
        let mut gone = None;
        if self.guests.len() >= MOST_GUESTS {
            let oldest = self
                .guests
                .iter()
                .find(|(_, guest)| !guest.proved && now >= guest.since + UNPROVED_STAY)
                .map(|(number, _)| *number)?;
            gone = self.guests.remove(&oldest);
        }
        self.next += 1;
        Some((self.next, gone))
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
