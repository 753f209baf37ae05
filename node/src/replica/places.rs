//! Whose rows this node keeps, with whom, and who gets them from here.
//!
//! In: the members, from the mesh. Out: who gets live rows directly, who has them handed on, whom a
//! session is wanted with, what every keeper has.
//! A row crosses to another site once: of its keepers there the heaviest that is connected gets it and
//! hands it on. What was missed goes the same way: that one fetches it, its neighbours from it.
//! Who holds rows that it keeps no longer tells their keepers and their origin of them until these have them too, and
//! asks again whenever one comes back and each hour: nobody else would tell it that they lost them since.
//! Absent: the rule itself (`keeper`), deleting anything (the store, by bytes).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use outlast_store::{IntervalSet, LogId, Origin};

use super::Replica;
use super::keeper::Member;

/// How long a neighbour may fetch nothing of what it is to fetch for all, before everybody fetches.
const NEIGHBOURLY: Duration = Duration::from_secs(30);

/// What the rule says of the origins this node has to do with.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Whose rows are to be kept here.
    kept: BTreeSet<Origin>,
    /// The keepers of each origin that is kept here or of which rows are held.
    of: BTreeMap<Origin, BTreeSet<Origin>>,
    /// Of the origins of which rows are held without being kept, who else is known to have all of those: a keeper, or
    /// the origin.
    handed_over: BTreeSet<(Origin, Origin)>,
    /// As of when; origins that turn up later are looked at as they were then.
    at: Option<Instant>,
    /// When absences may next move something.
    next_move: Option<Instant>,
    /// Logs that a neighbour is to fetch first: since when nothing came of it, and what it had then.
    waits: BTreeMap<LogId, (Instant, u64)>,
}

impl Places {
    pub(super) fn deadline(&self, now: Instant) -> Option<(Instant, &'static str)> {
        let waits = self.waits.values().map(|(since, _)| *since + NEIGHBOURLY);
        let waits = waits.map(|at| (at, "neighbour"));
        let all = waits.chain(self.next_move.map(|at| (at, "keepers")));
        all.filter(|(at, _)| *at > now).min()
    }
}

impl Replica {
    /// All members ever, as they are at this moment; to be told again when one changes, is silent or
    /// is back.
    pub fn handle_members(&mut self, members: &[Member], now: Instant) {
        self.stir();
        let mine = members.iter().any(|member| member.origin == self.me);
        let changed = if mine {
            self.roster.handle_members(members, now)
        } else {
            let me = [Member::new(self.me)];
            self.roster.handle_members(&[members, &me].concat(), now)
        };
        if changed {
            let roster = &self.roster;
            self.peers.retain(|peer, _| roster.contains(peer));
            self.settle_places(now);
        }
        self.places.next_move = self.roster.next_move(now);
    }

    /// Moves the places of those who have been silent for long.
    pub(super) fn handle_absences(&mut self, now: Instant) {
        if self.is_move_due(now) {
            self.settle_places(now);
            self.places.next_move = self.roster.next_move(now);
        }
    }

    pub(super) fn is_move_due(&self, now: Instant) -> bool {
        self.places.next_move.is_some_and(|at| at <= now)
    }

    fn settle_places(&mut self, now: Instant) {
        let before = std::mem::take(&mut self.places.kept);
        let mine =
            |origin: &&Origin| **origin == self.me || self.roster.keeps(origin, &self.me, now);
        let kept: BTreeSet<_> = self.roster.members().filter(mine).copied().collect();
        let origins = kept.iter().copied().chain(self.holdings.origins());
        let of: BTreeMap<_, _> = origins
            .map(|origin| (origin, self.roster.keepers_of(&origin, now)))
            .collect();
        let moved = kept != before || of != self.places.of;
        self.places.kept = kept;
        self.places.of = of;
        self.places.at = Some(now);
        if moved {
            self.settle_held();
            let logs = self.peers.values().flat_map(|peer| peer.logs.keys());
            self.suspects.extend(logs.copied());
            self.hasten(now);
        }
    }

    /// Looks again at what is held: new origins among it, and those nobody needs it for.
    pub(super) fn settle_held(&mut self) {
        let held: BTreeSet<_> = self.holdings.origins().collect();
        if let Some(at) = self.places.at {
            for origin in &held {
                let roster = &self.roster;
                let of = self.places.of.entry(*origin);
                of.or_insert_with(|| roster.keepers_of(origin, at));
            }
        }
        let surplus = held.into_iter().filter(|origin| !self.keeps(origin));
        let pairs = surplus.flat_map(|origin| {
            let there = self.keepers_and(&origin).into_iter();
            there.map(move |peer| (origin, peer))
        });
        let over = pairs.filter(|(origin, peer)| self.is_handed_over(origin, peer));
        self.places.handed_over = over.collect();
    }

    /// Who is to have the rows of `origin`, itself included.
    pub(super) fn keepers_and(&self, origin: &Origin) -> BTreeSet<Origin> {
        let keepers = self.places.of.get(origin).into_iter().flatten();
        keepers.chain([origin]).copied().collect()
    }

    /// Whether `peer` said lately that it has, or had and let go, all that is held here of `origin`.
    fn is_handed_over(&self, origin: &Origin, peer: &Origin) -> bool {
        let peer = self.peers.get(peer);
        let peer = peer.filter(|peer| peer.told.contains_key(origin));
        peer.is_some_and(|peer| {
            let mut held = self.holdings.held_of(origin);
            held.all(|(log, rows)| peer.covers(log, rows))
        })
    }

    /// Whether rows of `origin` are held here without being kept.
    pub(super) fn is_surplus(&self, origin: &Origin) -> bool {
        !self.keeps(origin) && self.holdings.held_of(origin).next().is_some()
    }

    /// Whether rows of `origin` are to be kept here: always those of this node.
    #[must_use]
    pub fn keeps(&self, origin: &Origin) -> bool {
        *origin == self.me || self.places.kept.contains(origin)
    }

    /// Whether `peer` is to keep rows of `origin`, as far as this node has to do with them.
    pub(super) fn is_keeper_of(&self, origin: &Origin, peer: &Origin) -> bool {
        let keepers = self.places.of.get(origin);
        keepers.is_some_and(|keepers| keepers.contains(peer))
    }

    /// Whether `peer` keeps our own rows.
    #[must_use]
    pub fn is_keeper_of_mine(&self, peer: &Origin) -> bool {
        self.is_keeper_of(&self.me, peer)
    }

    /// Who keeps the rows of `origin` besides itself, the first in rendezvous order first.
    #[must_use]
    pub fn holders(&self, origin: &Origin, now: Instant) -> Vec<Origin> {
        self.roster.holders(origin, now)
    }

    /// Whether a digest to `peer` tells of `origin`.
    pub(super) fn tells(&self, origin: &Origin, peer: &Origin) -> bool {
        (origin == peer || self.is_keeper_of(origin, peer))
            && !self.places.handed_over.contains(&(*origin, *peer))
    }

    /// Who keeps anything that is held or kept here.
    pub(super) fn partners(&self) -> BTreeSet<Origin> {
        let keepers = self.places.of.values().flatten();
        let mut partners: BTreeSet<_> = keepers.chain(&self.places.kept).copied().collect();
        partners.remove(&self.me);
        partners
    }

    /// Whom a session is wanted with: who keeps our rows, whose rows we keep, for those of them that
    /// are away the other keepers, and whoever still lacks what we hold and keep no longer. Nobody waits for whom another machine replaced.
    #[must_use]
    pub fn wanted(&self) -> BTreeSet<Origin> {
        let is_here = |peer: &Origin| {
            let peer = self.peers.get(peer);
            peer.is_some_and(|peer| peer.connected.is_some())
        };
        let mut wanted = self.places.kept.clone();
        for (origin, keepers) in &self.places.of {
            if self.is_surplus(origin) {
                let there = self.keepers_and(origin).into_iter();
                wanted.extend(there.filter(|peer| self.tells(origin, peer)));
            } else if self.keeps(origin) && (*origin == self.me || !is_here(origin)) {
                wanted.extend(keepers);
            }
        }
        wanted.remove(&self.me);
        wanted.retain(|peer| is_here(peer) || !self.roster.is_gone(peer));
        wanted
    }

    /// Who gets a row of this node as it is taken, and whether to hand it on to its site.
    #[must_use]
    pub fn live_to(&self) -> Vec<(Origin, bool)> {
        let home = self.roster.site_of(&self.me);
        let mut sites: BTreeMap<Option<u32>, Vec<Origin>> = BTreeMap::new();
        for keeper in self.live_keepers(&self.me) {
            let site = self.roster.site_of(&keeper);
            let elsewhere = site.filter(|_| home.is_some() && site != home);
            sites.entry(elsewhere).or_default().push(keeper);
        }
        let mut to = Vec::new();
        for (site, keepers) in sites {
            if site.is_none() || keepers.len() == 1 {
                to.extend(keepers.into_iter().map(|keeper| (keeper, false)));
            } else if let Some(first) = self.roster.first_of(&self.me, keepers) {
                to.push((first, true));
            }
        }
        to
    }

    /// Who gets a row that `origin`, in another site, asked this node to hand on: its other keepers
    /// here.
    #[must_use]
    pub fn hand_on_to(&self, origin: &Origin) -> Vec<Origin> {
        let here = self.roster.site_of(&self.me);
        if here.is_none() || here == self.roster.site_of(origin) {
            return Vec::new();
        }
        self.live_keepers(origin)
            .filter(|keeper| self.roster.site_of(keeper) == here)
            .collect()
    }

    /// Whether `peer` may hand on rows of `origin` to this node: both keep them here, and it is elsewhere.
    #[must_use]
    pub fn is_handed_on_by(&self, peer: &Origin, origin: &Origin) -> bool {
        self.keeps(origin) && self.hand_on_to(origin).contains(peer)
    }

    /// Who gets the seals of this node's windows.
    #[must_use]
    pub fn seal_to(&self) -> Vec<Origin> {
        self.live_keepers(&self.me).collect()
    }

    /// The keepers of an origin that are connected and don't pay for each row.
    fn live_keepers(&self, origin: &Origin) -> impl Iterator<Item = Origin> + '_ {
        let keepers = self.places.of.get(origin).into_iter().flatten();
        let origin = *origin;
        keepers.copied().filter(move |keeper| {
            let peer = self.peers.get(keeper);
            *keeper != origin
                && peer.is_some_and(|peer| peer.connected.is_some())
                && !self.roster.is_metered(keeper)
        })
    }

    /// What counts as missing where traffic is paid for: whole windows, whose blocks are small. Of an
    /// origin that writes to another log by now, everything.
    pub(super) fn sealed_of(&self, log: &LogId, rows: &IntervalSet) -> IntervalSet {
        if self.open.get(&log.origin).is_some_and(|open| open != log) {
            return rows.clone();
        }
        let top = rows.last().unwrap_or(0).max(self.known_top(log));
        let whole: IntervalSet = (top >= 60).then(|| 1..=top / 60 * 60).into_iter().collect();
        rows.intersect(&whole)
    }

    /// Notes for which of the logs that are looked at a neighbour goes first.
    pub(super) fn settle_waits(&mut self, looked_at: &BTreeSet<LogId>, now: Instant) {
        if self.roster.site_of(&self.me).is_none() {
            return;
        }
        let mut waits = self.places.waits.clone();
        waits.retain(|log, _| self.suspects.contains(log) && !looked_at.contains(log));
        for log in looked_at {
            if let Some(first) = self.first_neighbour(log) {
                let has = self.peers.get(&first).and_then(|peer| peer.logs.get(log));
                let has = has.map_or(0, |coverage| coverage.held.len());
                let before = self.places.waits.get(log);
                let same = before.filter(|(_, had)| *had == has);
                waits.insert(*log, same.copied().unwrap_or((now, has)));
            }
        }
        self.places.waits = waits;
    }

    /// Who of this site fetches rows of another site's origin for all here. `None`: this node itself.
    fn first_neighbour(&self, log: &LogId) -> Option<Origin> {
        if log.origin == self.me {
            return None;
        }
        let neighbours = self.hand_on_to(&log.origin).into_iter();
        let first = self
            .roster
            .first_of(&log.origin, neighbours.chain([self.me]))?;
        (first != self.me).then_some(first)
    }

    /// Whether `peer` may be asked for rows of `log`: while a neighbour is to fetch them, only
    /// neighbours.
    pub(super) fn may_fetch_from(&self, log: &LogId, peer: &Origin, now: Instant) -> bool {
        let here = self.roster.site_of(&self.me);
        let waits = self.places.waits.get(log);
        waits.is_none_or(|(since, _)| {
            now.saturating_duration_since(*since) >= NEIGHBOURLY
                || self.roster.site_of(peer) == here
        })
    }

    /// How far a peer is to be asked: paid traffic last, another site before that.
    pub(super) fn distance(&self, peer: &Origin) -> (bool, bool) {
        let (here, there) = (self.roster.site_of(&self.me), self.roster.site_of(peer));
        let elsewhere = here.is_some() && there.is_some() && here != there;
        (self.roster.is_metered(peer), elsewhere)
    }

    /// The rows of each log that everybody who keeps them has, or had: what the store may let go
    /// before others. Machines that may be off don't count.
    #[must_use]
    pub fn delivered(&self) -> BTreeMap<LogId, IntervalSet> {
        let mut delivered = BTreeMap::new();
        for (log, held) in self.holdings.held() {
            let keepers = self.places.of.get(&log.origin).into_iter().flatten();
            let mut counted = keepers
                .filter(|keeper| **keeper != self.me && !self.roster.may_be_off(keeper))
                .map(|keeper| self.peers.get(keeper))
                .peekable();
            if counted.peek().is_none() {
                continue;
            }
            let rows = counted.fold(held.clone(), |rows, peer| {
                let covered = peer.map(|peer| peer.covered(log)).unwrap_or_default();
                rows.intersect(&covered)
            });
            if !rows.is_empty() {
                delivered.insert(*log, rows);
            }
        }
        delivered
    }
}
