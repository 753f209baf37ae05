//! The sponsor's side: the guests in the joining tunnel.
//!
//! Keeps who is being admitted or told why it is a member no more, from where, until when. Bounds:
//! `MOST_GUESTS` at a time, `MOST_DEPARTED` of them former members; `STAY` each; `MOST_FRAMES`
//! frames each; the last `MOST_ANSWERED` initiations are remembered. When all places are taken,
//! whoever has had its answer makes room, then who proved nothing, then one of the token, and
//! of the network, that has more places than the newcomer's, then who has been here longer than
//! an honest joiner needs: one token in wrong hands keeps nobody else out, and many keep nobody
//! out for longer than `CROWDED_STAY`. The same seed may be in two hands at once (a token for two
//! machines), so a guest is a key and a source.
//! Invariant: an initiation is answered once. Each guest has a fresh tunnel, which takes an old
//! initiation for a new one, so whoever repeats a recorded one could fill every slot.
//! Absent: what is verified and witnessed, which is `trust`'s and `node`'s business.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::id::NodeId;
use crate::tunnel::keys::TunnelPublic;
use crate::tunnel::limiter;
use crate::tunnel::session::Session;

/// Guests at a time.
pub(crate) const MOST_GUESTS: usize = 16;

/// How long a guest may stay.
const STAY: Duration = Duration::from_secs(30);

/// Former members told at a time why they are no members any more.
const MOST_DEPARTED: usize = 4;

/// How long a guest may stay that nobody has answered, if room is needed: an honest one is admitted
/// within a second, and who waits for an admin lets go by itself.
const CROWDED_STAY: Duration = Duration::from_secs(5);

/// A guest that proved nothing makes room after this time, if room is needed.
const UNPROVED_STAY: Duration = Duration::from_secs(3);

/// Answered initiations remembered, the oldest forgotten first; only an invite's holders make new
/// ones.
const MOST_ANSWERED: usize = 256;

/// Frames a guest may send.
const MOST_FRAMES: u32 = 512;

/// Bytes of an initiation before its two codes.
const SIGNED: usize = 116;

/// What somebody who is no member is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// It has a token.
    Join,
    /// It was a member, and hears why it is none any more.
    Departed(NodeId),
}

/// Somebody with a token, or who was a member.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) key: TunnelPublic,
    pub(crate) source: SocketAddr,
    pub(crate) session: Session,
    pub(crate) errand: Errand,
    pub(crate) admitted: bool,
    /// It was told all it will hear.
    pub(crate) answered: bool,
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

    /// The network it comes from, if it has this key.
    fn network_of(&self, key: TunnelPublic) -> Option<IpAddr> {
        (self.key == key).then(|| limiter::prefix(self.source.ip()))
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

    /// Makes room for a newcomer and says who had to go. `None` when everybody here has as good a
    /// claim.
    pub(crate) fn make_room(
        &mut self,
        key: TunnelPublic,
        source: SocketAddr,
        errand: Errand,
        now: Instant,
    ) -> Option<Option<Guest>> {
        let departed = |guest: &Guest| guest.errand != Errand::Join;
        let whom = if errand != Errand::Join
            && self.guests.values().filter(|guest| departed(guest)).count() >= MOST_DEPARTED
        {
            self.oldest(|guest| departed(guest) && now >= guest.since + CROWDED_STAY)?
        } else if self.guests.len() >= MOST_GUESTS {
            self.least_wanted(key, source, now)?
        } else {
            return Some(None);
        };
        Some(self.guests.remove(&whom))
    }

    fn least_wanted(&self, key: TunnelPublic, source: SocketAddr, now: Instant) -> Option<u64> {
        let held = |age| move |guest: &Guest| now >= guest.since + age;
        let (unproved, crowded) = (held(UNPROVED_STAY), held(CROWDED_STAY));
        let network = limiter::prefix(source.ip());
        self.oldest(|guest| guest.answered)
            .or_else(|| self.oldest(|guest| !guest.proved && unproved(guest)))
            .or_else(|| self.of_the_many(|guest| Some(guest.key), key))
            .or_else(|| self.of_the_many(|guest| guest.network_of(key), network))
            .or_else(|| self.oldest(crowded))
    }

    /// The oldest of some; guests are numbered in the order they came.
    fn oldest(&self, wanted: impl Fn(&Guest) -> bool) -> Option<u64> {
        let mut guests = self.guests.iter();
        guests
            .find(|(_, guest)| wanted(guest))
            .map(|(number, _)| *number)
    }

    /// The oldest guest that is not being served, of the party with the most places, if the
    /// newcomer's would still have fewer with one more.
    fn of_the_many<P: Ord + Copy>(
        &self,
        party: impl Fn(&Guest) -> Option<P>,
        newcomer: P,
    ) -> Option<u64> {
        let mut places: BTreeMap<P, usize> = BTreeMap::new();
        for party in self.guests.values().filter_map(&party) {
            *places.entry(party).or_default() += 1;
        }
        let own = places.get(&newcomer).copied().unwrap_or(0);
        let (most, count) = places.into_iter().max_by_key(|(_, count)| *count)?;
        if count <= own + 1 {
            return None;
        }
        self.oldest(|guest| !guest.admitted && party(guest) == Some(most))
    }

    /// Lets a guest in.
    pub(crate) fn seat(
        &mut self,
        number: u64,
        key: TunnelPublic,
        source: SocketAddr,
        errand: Errand,
        session: Session,
        now: Instant,
    ) {
        let guest = Guest {
            key,
            source,
            session,
            errand,
            admitted: false,
            answered: false,
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
