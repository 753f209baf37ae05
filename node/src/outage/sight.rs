//! What this node sees of the others: whom it lost, whom it found again, and that it is itself cut off.
//!
//! In: the states of its peers, a look a second. Out: SIGHT words, few: a loss is told once it has lasted `HOLD` beyond the
//! mesh's own verdict, a return at once.
//! A node blames itself first: who hears fewer than half of those it heard says that it is alone, and names nobody lost.
//! Above `ALL_TELL` members only the `OBSERVERS` nearest to a node by rendezvous hashing, of those that are heard, tell of it.
//! Absent: verdicts, and who else saw it; the fold puts that together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use outlast_mesh::{NodeId, PeerState};

use super::testimony::{Ident, Lost, NAMED, Sight, Telling, Word};

/// How many tell of one node in a large mesh.
pub(crate) const OBSERVERS: usize = 5;

/// Up to so many members each tells of each.
const ALL_TELL: usize = 16;

/// How long a loss waits: the others that go with it are seen within two beats.
const HOLD: Duration = Duration::from_secs(3);

/// One peer at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// As the mesh judges.
    pub(crate) state: PeerState,
    /// By this node's clock, milliseconds. `None`: not since the start.
    pub(crate) last_heard_ms: Option<i64>,
    /// Its clock less ours, milliseconds.
    pub(crate) ahead_ms: Option<i64>,
    /// Its last run that is known here.
    pub(crate) run: Option<Ident>,
}

/// What was told, and what is about to be.
#[derive(Debug)]
pub(crate) struct Watch {
    me: NodeId,
    run: Ident,
    /// Of whom the last word was that they are lost.
    lost: BTreeSet<NodeId>,
    /// Down, and not told yet: since when.
    waiting: BTreeMap<NodeId, Instant>,
    /// Heard in this run.
    heard: BTreeSet<NodeId>,
    alone: bool,
}

impl Watch {
    /// Goes on from what this node told in earlier runs.
    pub(crate) fn new(me: NodeId, run: Ident, told: &[Telling]) -> Self {
        let mut watch = Self {
            me,
            run,
            lost: BTreeSet::new(),
            waiting: BTreeMap::new(),
            heard: BTreeSet::new(),
            alone: false,
        };
        for telling in told.iter().filter(|telling| telling.author == me) {
            match &telling.word {
                Some(Word::Sight(Sight::Lost(lost))) => {
                    watch.lost.insert(lost.node);
                }
                Some(Word::Sight(Sight::Found { node, .. })) => {
                    watch.lost.remove(node);
                }
                Some(Word::Sight(Sight::Alone { .. })) => watch.alone = true,
                Some(Word::Sight(Sight::Together { .. })) => watch.alone = false,
                _ => {}
            }
        }
        watch
    }

    /// This node stood still or had its clock set: what it believes of the others is from before.
    pub(crate) fn handle_standstill(&mut self) {
        self.waiting.clear();
    }

    /// Looks at every other member.
    pub(crate) fn handle_look(
        &mut self,
        peers: &BTreeMap<NodeId, Peer>,
        now: Instant,
    ) -> Vec<Sight> {
        let mut said = Vec::new();
        self.lost.retain(|node| peers.contains_key(node));
        self.waiting.retain(|node, _| peers.contains_key(node));
        for (node, peer) in peers {
            match peer.state {
                PeerState::Alive => {
                    self.heard.insert(*node);
                    self.waiting.remove(node);
                    if self.lost.remove(node) {
                        said.push(Sight::Found {
                            node: *node,
                            run: self.run,
                        });
                    }
                }
                PeerState::Down | PeerState::Left
                    if self.heard.contains(node) && !self.lost.contains(node) =>
                {
                    self.waiting.entry(*node).or_insert(now);
                }
                PeerState::Stale => {
                    self.waiting.remove(node);
                }
                _ => {}
            }
        }
        said.extend(self.judge(peers, now));
        said
    }

    /// Tells of whoever is down for long enough, or of this node's own solitude instead.
    fn judge(&mut self, peers: &BTreeMap<NodeId, Peer>, now: Instant) -> Vec<Sight> {
        let left = |node: &NodeId| {
            peers
                .get(node)
                .is_some_and(|peer| peer.state == PeerState::Left)
        };
        let (gone, silent): (Vec<NodeId>, Vec<NodeId>) =
            self.waiting.keys().copied().partition(left);
        let mut said: Vec<Sight> = gone.iter().map(|node| self.lose(*node, peers)).collect();
        // Whoever was lost before is missed by this node and by everybody: only the others count.
        let within = peers.iter().filter(|(node, peer)| {
            matches!(
                peer.state,
                PeerState::Alive | PeerState::Stale | PeerState::Suspect
            ) && self.heard.contains(*node)
        });
        let within: Vec<NodeId> = within.map(|(node, _)| *node).collect();
        let (sees, of) = (1 + within.len(), 1 + within.len() + silent.len());
        if sees * 2 >= of {
            if std::mem::replace(&mut self.alone, false) {
                said.push(Sight::Together { run: self.run });
                // Those who are not back yet have as long as anybody.
                self.waiting.values_mut().for_each(|since| *since = now);
            }
            for node in silent {
                let ripe = self
                    .waiting
                    .get(&node)
                    .is_some_and(|since| now >= *since + HOLD);
                if ripe && self.tells_of(node, peers, &within) {
                    said.push(self.lose(node, peers));
                }
            }
            return said;
        }
        let ripe = silent.iter().all(|node| {
            self.waiting
                .get(node)
                .is_some_and(|since| now >= *since + HOLD)
        });
        if ripe && !self.alone {
            self.alone = true;
            let last_heard = silent
                .iter()
                .filter_map(|node| peers.get(node)?.last_heard_ms);
            said.push(Sight::Alone {
                run: self.run,
                since_ms: last_heard.max().unwrap_or(0),
                sees: within.into_iter().take(NAMED).collect(),
                count: u16::try_from(sees).unwrap_or(u16::MAX),
                of: u16::try_from(of).unwrap_or(u16::MAX),
            });
        }
        said
    }

    fn lose(&mut self, node: NodeId, peers: &BTreeMap<NodeId, Peer>) -> Sight {
        self.waiting.remove(&node);
        self.lost.insert(node);
        let peer = peers.get(&node);
        let sees = peers.iter().filter(|(other, peer)| {
            **other != node && matches!(peer.state, PeerState::Alive | PeerState::Stale)
        });
        Sight::Lost(Lost {
            node,
            by_run: self.run,
            last_heard_ms: peer.and_then(|peer| peer.last_heard_ms).unwrap_or(0),
            sees: u16::try_from(1 + sees.count()).unwrap_or(u16::MAX),
            goodbye: peer.is_some_and(|peer| peer.state == PeerState::Left),
            run: peer.and_then(|peer| peer.run),
            ahead_ms: peer.and_then(|peer| peer.ahead_ms),
        })
    }

    /// Whether this node is one of those that tell of another.
    fn tells_of(&self, node: NodeId, peers: &BTreeMap<NodeId, Peer>, within: &[NodeId]) -> bool {
        if peers.len() < ALL_TELL {
            return true;
        }
        let distance = |by: NodeId| *blake3::hash(&[node.0, by.0].concat()).as_bytes();
        let mine = distance(self.me);
        within.iter().filter(|by| distance(**by) < mine).count() < OBSERVERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: Ident = [7; 16];

    fn node(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    /// Node 0 among `others`, all alive, at a look each second.
    struct Eye {
        watch: Watch,
        peers: BTreeMap<NodeId, Peer>,
        now: Instant,
    }

    impl Eye {
        fn among(others: u8) -> Self {
            let peer = Peer {
                state: PeerState::Alive,
                last_heard_ms: Some(1_000),
                ahead_ms: Some(3),
                run: Some([1; 16]),
            };
            let peers = (1..=others).map(|number| (node(number), peer)).collect();
            let mut eye = Self {
                watch: Watch::new(node(0), RUN, &[]),
                peers,
                now: Instant::now(),
            };
            assert_eq!(eye.seconds(5), []);
            eye
        }

        fn set(&mut self, number: u8, state: PeerState) {
            self.peers.get_mut(&node(number)).unwrap().state = state;
        }

        fn seconds(&mut self, count: u32) -> Vec<Sight> {
            let looks = (0..count).flat_map(|_| {
                self.now += Duration::from_secs(1);
                self.watch.handle_look(&self.peers, self.now)
            });
            looks.collect()
        }
    }

    fn lost(number: u8, sees: u16, goodbye: bool) -> Sight {
        Sight::Lost(Lost {
            node: node(number),
            by_run: RUN,
            last_heard_ms: 1_000,
            sees,
            goodbye,
            run: Some([1; 16]),
            ahead_ms: Some(3),
        })
    }

    const FOUND: fn(u8) -> Sight = |number| Sight::Found {
        node: node(number),
        run: RUN,
    };

    #[test]
    fn a_loss_is_told_once_after_a_while_and_a_return_at_once() {
        let mut eye = Eye::among(3);
        eye.set(2, PeerState::Suspect);
        assert_eq!(eye.seconds(20), [], "suspect is not down");
        eye.set(2, PeerState::Down);
        assert_eq!(eye.seconds(3), []);
        assert_eq!(eye.seconds(1), [lost(2, 3, false)]);
        assert_eq!(eye.seconds(20), []);
        eye.set(2, PeerState::Alive);
        assert_eq!(eye.seconds(1), [FOUND(2)]);
    }

    #[test]
    fn a_goodbye_is_told_at_once() {
        let mut eye = Eye::among(2);
        eye.set(1, PeerState::Left);
        assert_eq!(eye.seconds(1), [lost(1, 2, true)]);
    }

    #[test]
    fn who_hears_fewer_than_half_says_so_and_names_nobody_until_it_hears_most_again() {
        let mut eye = Eye::among(4);
        for number in 2..=4 {
            eye.set(number, PeerState::Down);
        }
        assert_eq!(
            eye.seconds(20),
            [Sight::Alone {
                run: RUN,
                since_ms: 1_000,
                sees: vec![node(1)],
                count: 2,
                of: 5
            }]
        );
        eye.set(2, PeerState::Alive);
        eye.set(3, PeerState::Alive);
        assert_eq!(eye.seconds(2), [Sight::Together { run: RUN }]);
        assert_eq!(eye.seconds(2), [lost(4, 4, false)]);
    }

    #[test]
    fn the_only_other_node_is_lost_and_whoever_was_lost_before_counts_no_more() {
        let mut eye = Eye::among(1);
        eye.set(1, PeerState::Down);
        assert_eq!(eye.seconds(9), [lost(1, 1, false)]);
        let mut eye = Eye::among(2);
        eye.set(1, PeerState::Down);
        assert_eq!(eye.seconds(9), [lost(1, 2, false)]);
        eye.set(2, PeerState::Down);
        assert_eq!(eye.seconds(9), [lost(2, 1, false)]);
    }

    #[test]
    fn who_was_never_heard_is_not_lost_and_a_restart_goes_on_from_what_was_told() {
        let mut eye = Eye::among(2);
        eye.set(1, PeerState::Down);
        let told = eye
            .seconds(9)
            .into_iter()
            .enumerate()
            .map(|(at, sight)| Telling {
                author: node(0),
                seq: at as u64 + 1,
                at_ms: 0,
                certain: true,
                word: Some(Word::Sight(sight)),
            });
        let told: Vec<Telling> = told.collect();
        eye.watch = Watch::new(node(0), [8; 16], &told);
        assert_eq!(eye.seconds(9), [], "told in the run before");
        eye.set(1, PeerState::Alive);
        let again = Sight::Found {
            node: node(1),
            run: [8; 16],
        };
        assert_eq!(eye.seconds(1), [again]);
        eye.watch = Watch::new(node(0), RUN, &[]);
        eye.set(1, PeerState::Down);
        eye.set(2, PeerState::Down);
        assert_eq!(eye.seconds(9), [], "neither was heard in this run");
    }

    #[test]
    fn in_a_large_mesh_five_tell_of_each() {
        let all: Vec<NodeId> = (0..40).map(node).collect();
        let peer = |state| Peer {
            state,
            last_heard_ms: Some(0),
            ahead_ms: None,
            run: None,
        };
        let telling = all[1..].iter().filter(|me| {
            let mut peers: BTreeMap<NodeId, Peer> = all
                .iter()
                .filter(|other| other != me)
                .map(|other| (*other, peer(PeerState::Alive)))
                .collect();
            let (mut watch, now) = (Watch::new(**me, RUN, &[]), Instant::now());
            assert_eq!(watch.handle_look(&peers, now), []);
            peers.insert(node(0), peer(PeerState::Down));
            assert_eq!(watch.handle_look(&peers, now), []);
            !watch.handle_look(&peers, now + HOLD).is_empty()
        });
        assert_eq!(telling.count(), OBSERVERS);
    }
}
