//! Who keeps the rows of an origin.
//!
//! Up to 16 members everybody keeps everything. Above that an origin is kept by itself and by the
//! three members with the highest hash of (origin, member), one of them in another site where sites
//! are named. Machines that may be off keep nothing for others, metered ones only where there are
//! not enough others. A keeper that is silent keeps its place for 15 to 30 min, each origin by a
//! time of its own, so that nothing is copied for a reboot and not everything at once for a dead
//! machine; one that comes back takes its place again at once. A replaced member's rows are kept by
//! its successor in its stead.
//! Invariant: any two nodes that see the same members present agree without a word.
//! Cost: a hash per member when it is first seen, then an integer mix per pair; whether somebody
//! keeps an origin is decided after a few dozen looks, whatever the size of the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use outlast_store::Origin;

/// Up to this many members everybody keeps everything.
pub const EVERYBODY: usize = 16;
/// Keepers besides the origin in a larger mesh.
pub const KEEPERS: usize = 3;
/// How long a silent keeper keeps its place at least.
pub const LEAST_ABSENCE: Duration = Duration::from_secs(15 * 60);
/// And at most; between the two each origin has its own time.
pub const MOST_ABSENCE: Duration = Duration::from_secs(30 * 60);

/// A member, as far as keeping goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Whose rows, and who keeps.
    pub origin: Origin,
    /// Where it stands. `None`: not named.
    pub site: Option<String>,
    /// Its traffic costs money: it gets sealed blocks and no live rows.
    pub metered: bool,
    /// On battery, or switched off at times: no copy there counts.
    pub may_be_off: bool,
    /// Whether it was retired or evicted: its rows are kept, and it keeps none.
    pub gone: bool,
    /// Whether nobody hears it at this moment.
    pub absent: bool,
    /// Who carries on its history; keeps its rows as it would itself.
    pub successor: Option<Origin>,
}

impl Member {
    /// A member that is here, with nothing special about it.
    #[must_use]
    pub fn new(origin: Origin) -> Self {
        Self {
            origin,
            site: None,
            metered: false,
            may_be_off: false,
            gone: false,
            absent: false,
            successor: None,
        }
    }
}

/// All members ever and since when the absent ones are.
#[derive(Debug, Default)]
pub struct Roster {
    seats: Seats,
    sites: BTreeMap<String, u32>,
    keeping: usize,
}

/// The seats by origin, side by side: all are gone through when somebody goes or comes, and dozens to find who keeps what.
#[derive(Debug, Default)]
struct Seats(Vec<Seat>);

#[derive(Debug, Clone)]
struct Seat {
    origin: Origin,
    keys: Keys,
    site: Option<u32>,
    metered: bool,
    may_be_off: bool,
    gone: bool,
    absent: Option<Instant>,
    successor: Option<Origin>,
}

/// A member's part in the weights, drawn from its id once.
#[derive(Debug, Clone, Copy)]
struct Keys {
    as_origin: u64,
    as_keeper: u64,
}

/// Unmetered before metered, then by weight.
type Rank = (bool, u64, Origin);

impl Roster {
    /// Takes the members as they are, each once; says whether that may change who keeps what.
    pub fn handle_members(&mut self, members: &[Member], now: Instant) -> bool {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by_key(|member| member.origin);
        let mut changed = members.len() != self.seats.0.len();
        let before = std::mem::take(&mut self.seats);
        let mut before = before.0.iter().peekable();
        let mut seats = Vec::with_capacity(members.len());
        for member in members {
            while before.next_if(|seat| seat.origin < member.origin).is_some() {}
            let old = before.next_if(|seat| seat.origin == member.origin);
            let site = member.site.as_ref().map(|site| self.site(site));
            let since = old.and_then(|seat| seat.absent).unwrap_or(now);
            let seat = Seat {
                origin: member.origin,
                keys: old.map_or_else(|| Keys::of(&member.origin), |seat| seat.keys),
                site,
                metered: member.metered,
                may_be_off: member.may_be_off,
                gone: member.gone,
                absent: member.absent.then_some(since),
                successor: member.successor,
            };
            changed |= old.is_none_or(|old| old.differs(&seat, now));
            seats.push(seat);
        }
        self.seats = Seats(seats);
        self.keeping = self.seats.values().filter(|seat| !seat.gone).count();
        changed
    }

    /// A number for the name of a site. Names come from an administrator's settings; those that are
    /// used no more cost a few bytes each.
    fn site(&mut self, name: &str) -> u32 {
        if let Some(number) = self.sites.get(name) {
            return *number;
        }
        let number = u32::try_from(self.sites.len()).unwrap_or(u32::MAX);
        self.sites.insert(name.to_owned(), number);
        number
    }

    /// Every member ever.
    pub fn members(&self) -> impl Iterator<Item = &Origin> {
        self.seats.values().map(|seat| &seat.origin)
    }

    /// Whether this is a member, or was one.
    #[must_use]
    pub fn contains(&self, member: &Origin) -> bool {
        self.seats.get(member).is_some()
    }

    /// Whether its traffic costs money.
    #[must_use]
    pub fn is_metered(&self, member: &Origin) -> bool {
        self.seats.get(member).is_some_and(|seat| seat.metered)
    }

    /// Whether it was retired or evicted: it keeps nothing, and nobody waits for it.
    #[must_use]
    pub fn is_gone(&self, member: &Origin) -> bool {
        self.seats.get(member).is_some_and(|seat| seat.gone)
    }

    /// Whether no copy there counts.
    #[must_use]
    pub fn may_be_off(&self, member: &Origin) -> bool {
        self.seats.get(member).is_some_and(|seat| seat.may_be_off)
    }

    /// The site of a member, for comparing. `None`: not named.
    #[must_use]
    pub fn site_of(&self, member: &Origin) -> Option<u32> {
        self.seats.get(member)?.site
    }

    /// Who keeps the rows of `origin`, besides itself.
    #[must_use]
    pub fn keepers_of(&self, origin: &Origin, now: Instant) -> BTreeSet<Origin> {
        if self.keeping <= EVERYBODY {
            let keeping = self.seats.values().filter(|seat| !seat.gone);
            return keeping
                .map(|seat| seat.origin)
                .filter(|member| member != origin)
                .collect();
        }
        let keys = self.keys_of(origin);
        let home = self.site_of(origin);
        let mut best: Vec<(Rank, &Seat)> = Vec::with_capacity(KEEPERS + 1);
        let mut away: Option<(Rank, &Seat)> = None;
        for seat in self.eligible(origin, keys, now) {
            let rank = seat.rank(keys);
            if is_elsewhere(home, seat.site) && away.is_none_or(|(other, _)| rank > other) {
                away = Some((rank, seat));
            }
            let place = best.partition_point(|(other, _)| *other > rank);
            if place < KEEPERS {
                best.insert(place, (rank, seat));
                best.truncate(KEEPERS);
            }
        }
        let covered = best.iter().any(|(_, seat)| is_elsewhere(home, seat.site));
        if let Some(away) = away.filter(|_| !covered) {
            best.pop();
            best.push(away);
        }
        let best = best.into_iter().map(|(_, seat)| seat.origin);
        best.chain(self.heir(origin)).collect()
    }

    /// Whether `member` keeps the rows of `origin`: the same as asking `keepers_of`, after a few
    /// looks instead of one at everybody.
    #[must_use]
    pub fn keeps(&self, origin: &Origin, member: &Origin, now: Instant) -> bool {
        let Some(seat) = self.seats.get(member).filter(|seat| !seat.gone) else {
            return false;
        };
        if origin == member || self.keeping <= EVERYBODY || self.heir(origin) == Some(*member) {
            return true;
        }
        let keys = self.keys_of(origin);
        let home = self.site_of(origin);
        let mine = seat.rank(keys);
        let heavier = || {
            let others = self.eligible(origin, keys, now);
            others.filter(|other| other.rank(keys) > mine)
        };
        let outranked = heavier().take(KEEPERS).count() == KEEPERS;
        let away_first = || {
            let mut away = heavier().filter(|other| is_elsewhere(home, other.site));
            is_elsewhere(home, seat.site) && away.next().is_none()
        };
        if outranked && !away_first() {
            return false;
        }
        self.keepers_of(origin, now).contains(member)
    }

    /// Who keeps the rows of `origin` besides itself, the heaviest first.
    #[must_use]
    pub fn holders(&self, origin: &Origin, now: Instant) -> Vec<Origin> {
        let keys = self.keys_of(origin);
        let keepers = self.keepers_of(origin, now);
        let seats = keepers.iter().filter_map(|keeper| self.seats.get(keeper));
        let mut ranks: Vec<_> = seats.map(|seat| seat.rank(keys)).collect();
        ranks.sort_unstable_by(|one, other| other.cmp(one));
        ranks.into_iter().map(|(_, _, origin)| origin).collect()
    }

    /// Of some members the one that speaks for the others to `origin`: the heaviest.
    #[must_use]
    pub fn first_of(
        &self,
        origin: &Origin,
        members: impl IntoIterator<Item = Origin>,
    ) -> Option<Origin> {
        let keys = self.keys_of(origin);
        let seats = members
            .into_iter()
            .filter_map(|member| self.seats.get(&member));
        seats
            .max_by_key(|seat| seat.rank(keys))
            .map(|seat| seat.origin)
    }

    /// When absences may next move a place. `None`: nobody is absent, or all places have moved.
    #[must_use]
    pub fn next_move(&self, now: Instant) -> Option<Instant> {
        /// While places are moving, one look at them this often is enough.
        const LOOK: Duration = Duration::from_secs(15);
        let absences = self.seats.values().filter_map(|seat| seat.absent);
        absences
            .filter(|since| now < *since + MOST_ABSENCE + LOOK)
            .map(|since| (since + LEAST_ABSENCE).max(now + LOOK))
            .min()
    }

    /// Who carries on the history of a replaced member: the last of those who took its place one after another.
    fn heir(&self, origin: &Origin) -> Option<Origin> {
        let mut heir = self.seats.get(origin)?.successor?;
        // Each successor was admitted after whom it replaces, so the chain ends; a liar's may be no longer than this.
        for _ in self.seats.values() {
            match self.seats.get(&heir)?.successor {
                Some(next) => heir = next,
                None => break,
            }
        }
        let seat = self.seats.get(&heir).filter(|seat| !seat.gone);
        seat.map(|seat| seat.origin)
    }

    fn eligible(&self, origin: &Origin, keys: Keys, now: Instant) -> impl Iterator<Item = &Seat> {
        let patience = patience(keys);
        self.seats.values().filter(move |seat| {
            !seat.gone
                && !seat.may_be_off
                && seat.origin != *origin
                && seat
                    .absent
                    .is_none_or(|since| now.saturating_duration_since(since) < patience)
        })
    }

    fn keys_of(&self, origin: &Origin) -> Keys {
        let known = self.seats.get(origin);
        known.map_or_else(|| Keys::of(origin), |seat| seat.keys)
    }
}

impl Seats {
    fn get(&self, origin: &Origin) -> Option<&Seat> {
        let place = self.0.binary_search_by_key(origin, |seat| seat.origin);
        place.ok().map(|place| &self.0[place])
    }

    fn values(&self) -> impl Iterator<Item = &Seat> {
        self.0.iter()
    }
}

impl Seat {
    fn rank(&self, origin: Keys) -> Rank {
        let weight = mix(origin.as_origin ^ self.keys.as_keeper);
        (!self.metered, weight, self.origin)
    }

    /// Whether `next` may keep something else. A silence moves nothing yet, nor does the end of a
    /// short one.
    fn differs(&self, next: &Self, now: Instant) -> bool {
        let long = |since: Instant| now.saturating_duration_since(since) >= LEAST_ABSENCE;
        let returned = self.absent.is_some_and(long) && next.absent.is_none();
        returned
            || self.successor != next.successor
            || (self.site, self.metered, self.may_be_off, self.gone)
                != (next.site, next.metered, next.may_be_off, next.gone)
    }
}

impl Keys {
    fn of(origin: &Origin) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("outlast/keeper/2");
        hasher.update(&origin.0);
        let hash = *hasher.finalize().as_bytes();
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&hash[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Self {
            as_origin: word(0),
            as_keeper: word(8),
        }
    }
}

/// How long a keeper of this origin may be silent.
fn patience(origin: Keys) -> Duration {
    let spread = (MOST_ABSENCE - LEAST_ABSENCE).as_secs();
    LEAST_ABSENCE + Duration::from_secs(origin.as_origin % spread)
}

fn is_elsewhere(home: Option<u32>, site: Option<u32>) -> bool {
    home.is_some() && site.is_some() && site != home
}

/// Spreads each bit over all others: the finaliser of `SplitMix64`.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
