//! Meshes too large for a session with everybody: real tunnels, told time, tens to hundreds of members.
//!
//! `Crowd` runs a `World` as `World::run` does, but touches only the nodes that have something to do. boringtun's clock all
//! but stands still here, so sessions never expire; what takes longer than one has the clock bent.

use std::collections::BTreeSet;

use super::*;
use crate::spread::lives::{Say, Word};
use crate::wire::word;

/// A world, who is switched off, and what the wire loses.
pub(super) struct Crowd {
    pub(super) world: World,
    places: BTreeMap<SocketAddr, usize>,
    off: BTreeSet<usize>,
    /// Two that no datagram passes between, the lower first.
    pub(super) walls: BTreeSet<(usize, usize)>,
    /// Behind routers that let in nobody but whom their node has sent to, and nobody behind another.
    pub(super) hidden: BTreeSet<usize>,
    /// To whom those have sent.
    opened: BTreeSet<(usize, usize)>,
    /// Datagrams between the two sides are lost.
    side: BTreeSet<usize>,
    /// The part of all datagrams that is lost.
    loss: f64,
    random: ChaCha8Rng,
    due: Vec<Instant>,
}

impl Crowd {
    /// Members that have all heard of each other's start, but nothing else.
    pub(super) fn new(count: u8) -> Self {
        let mut world = World::new(count);
        let mut all = world.first.clone();
        for node in &world.nodes {
            for statement in node.statements.iter() {
                all.insert(statement.clone()).unwrap();
            }
        }
        let now = world.now;
        for node in &mut world.nodes {
            node.statements = all.clone();
            node.root = all.root();
            node.meet_members(now);
        }
        world.first = all;
        Self {
            places: world.homes.iter().copied().zip(0..).collect(),
            off: BTreeSet::new(),
            walls: BTreeSet::new(),
            hidden: BTreeSet::new(),
            opened: BTreeSet::new(),
            side: BTreeSet::new(),
            loss: 0.0,
            random: ChaCha8Rng::seed_from_u64(1),
            due: vec![now.mono; usize::from(count)],
            world,
        }
    }

    pub(super) fn run(&mut self, seconds: u64) {
        let end = self.world.now.after(Duration::from_secs(seconds));
        while self.world.now.mono < end.mono {
            let step = Duration::from_millis(25);
            self.world.now = self.world.now.after(step);
            let now = self.world.now;
            bend::to(now, 0);
            let on = (0..self.due.len()).filter(|at| !self.off.contains(at));
            let due: BTreeSet<usize> = on.filter(|at| self.due[*at] <= now.mono).collect();
            for at in &due {
                self.world.nodes[*at].handle_timeout(now);
            }
            self.deliver(due);
        }
    }

    /// Delivers what these nodes have to send, and what follows from it.
    fn deliver(&mut self, mut busy: BTreeSet<usize>) {
        let now = self.world.now;
        while let Some(at) = busy.pop_first() {
            self.world.nodes[at].poll_journal();
            while let Some(transmit) = self.world.nodes[at].poll_transmit(now) {
                let Some(to) = self.places.get(&transmit.to).copied() else {
                    continue;
                };
                let walled = self.walls.contains(&(at.min(to), at.max(to)));
                let aside = self.side.contains(&at) != self.side.contains(&to);
                let apart = walled || aside || !self.is_let_in(at, to);
                let lost = self.loss > 0.0 && self.random.random_bool(self.loss);
                if apart || lost || self.off.contains(&to) {
                    continue;
                }
                let from = self.world.homes[at];
                self.world.nodes[to].handle_datagram(from, &transmit.bytes, now);
                busy.insert(to);
            }
            while let Some(event) = self.world.nodes[at].poll_event() {
                self.world.seen.entry(at).or_default().push(event);
            }
            self.due[at] = self.world.nodes[at]
                .poll_timeout()
                .map_or(now.mono, |due| due.0);
        }
    }

    /// Whether the router before a node, if there is one, lets in what comes from another.
    fn is_let_in(&mut self, from: usize, to: usize) -> bool {
        if self.hidden.contains(&from) {
            self.opened.insert((from, to));
        }
        let is_asked = !self.hidden.contains(&from) && self.opened.contains(&(to, from));
        !self.hidden.contains(&to) || is_asked
    }

    fn state(&self, at: usize, of: usize) -> PeerState {
        let node = &self.world.nodes[at];
        let peer = &node.peers[&self.world.nodes[of].me()];
        node.peer_state(peer, self.world.now)
    }

    /// How many of those that are on and not this one see it in this state.
    fn seen_as(&self, of: usize, state: PeerState) -> usize {
        self.on()
            .filter(|at| *at != of && self.state(*at, of) == state)
            .count()
    }

    fn on(&self) -> impl Iterator<Item = usize> {
        (0..self.due.len()).filter(|at| !self.off.contains(at))
    }

    /// Bytes and datagrams a second that one node sends, all together over `seconds`.
    fn rate(&mut self, seconds: u64) -> (f64, f64) {
        let sum = |crowd: &Self| {
            let nodes = crowd.world.nodes.iter();
            nodes.fold((0, 0), |(bytes, datagrams), node| {
                let counters = &node.counters;
                (bytes + counters.tx_bytes, datagrams + counters.tx_datagrams)
            })
        };
        let before = sum(self);
        self.run(seconds);
        let after = sum(self);
        let part = (self.due.len() as u64 * seconds) as f64;
        (
            (after.0 - before.0) as f64 / part,
            (after.1 - before.1) as f64 / part,
        )
    }
}

#[test]
fn at_rest_a_node_of_a_hundred_sends_what_one_of_fifty_does() {
    let mut rates = Vec::new();
    for count in [48, 50, 100] {
        let mut crowd = Crowd::new(count);
        crowd.run(15);
        let (bytes, datagrams) = crowd.rate(30);
        println!("{count} members: {bytes:.0} B/s, {datagrams:.1} datagrams/s");
        rates.push(bytes);
    }
    let [all, few, many] = rates[..] else {
        panic!("three meshes");
    };
    assert!(all > 2.0 * few, "{rates:?}");
    assert!((0.85..1.15).contains(&(many / few)), "{rates:?}");
}

#[test]
fn who_dies_is_down_for_all_the_others_within_15_s_and_alive_again_when_back() {
    let mut crowd = Crowd::new(100);
    crowd.run(40);
    assert_eq!(crowd.seen_as(7, PeerState::Alive), 99);

    crowd.off.insert(7);
    crowd.run(5);
    assert_eq!(crowd.seen_as(7, PeerState::Down), 0, "too few observers");
    crowd.run(10);
    assert_eq!(crowd.seen_as(7, PeerState::Down), 99);

    crowd.off.remove(&7);
    crowd.run(15);
    assert_eq!(crowd.seen_as(7, PeerState::Alive), 99);
    let others = (0..100).filter(|at| *at != 7);
    assert!(
        others
            .clone()
            .all(|at| crowd.seen_as(at, PeerState::Down) == 0)
    );
}

#[test]
fn who_says_goodbye_has_left_for_everybody_and_comes_back_by_starting() {
    let mut crowd = Crowd::new(66);
    crowd.run(30);
    let now = crowd.world.now;
    crowd.world.nodes[7].handle_shutdown(now);
    crowd.deliver([7].into());
    crowd.off.insert(7);
    crowd.run(5);
    assert_eq!(crowd.seen_as(7, PeerState::Left), 65);

    crowd.world.restart(7);
    crowd.off.remove(&7);
    crowd.run(15);
    assert_eq!(crowd.seen_as(7, PeerState::Alive), 65);
}

#[test]
fn who_starts_again_at_once_is_never_called_silent() {
    let mut crowd = Crowd::new(66);
    crowd.run(30);
    for at in [7, 8, 9] {
        crowd.world.restart(at);
    }
    for _ in 0..20 {
        crowd.run(1);
        for node in &crowd.world.nodes {
            let words = node.wide.lives.words();
            let said: Vec<_> = words.map(|word| (word.say, word.life >> 32)).collect();
            assert!(said.is_empty(), "{said:?}");
        }
    }
    for at in [7, 8, 9] {
        assert_eq!(crowd.seen_as(at, PeerState::Alive), 65);
    }
}

#[test]
fn loss_of_one_datagram_in_fifty_brings_nobody_down() {
    let mut crowd = Crowd::new(66);
    crowd.loss = 0.02;
    crowd.run(30);
    for _ in 0..15 {
        crowd.run(10);
        for at in 0..66 {
            assert_eq!(crowd.seen_as(at, PeerState::Down), 0);
        }
    }
}

#[test]
fn a_statement_reaches_everybody_within_seconds() {
    let mut crowd = Crowd::new(100);
    crowd.run(10);
    let now = crowd.world.now;
    crowd.world.nodes[3].publish_own_info(now);
    let root = crowd.world.nodes[3].statements.root();

    crowd.run(2);

    let nodes = crowd.world.nodes.iter();
    let reached = nodes.filter(|node| node.statements.root() == root).count();
    assert_eq!(reached, 100);
}

#[test]
fn a_message_to_a_sleeper_begins_a_session_and_arrives() {
    let mut crowd = Crowd::new(66);
    crowd.run(60);
    let to = crowd.world.nodes[5].me();
    let asleep = (10..66).find(|at| !crowd.world.nodes[*at].wide.awake.contains(&to));
    let from = asleep.expect("most have no session with it");

    for number in 0..10 {
        crowd.world.say(from, 5, &[number]).unwrap();
    }
    crowd.run(1);

    let said: Vec<u8> = crowd.world.seen[&5]
        .iter()
        .filter_map(|event| match event {
            NodeEvent::Message { body, .. } => body.first().copied(),
            _ => None,
        })
        .collect();
    assert_eq!(said, (0..10).collect::<Vec<u8>>());
    crowd.run(60);
    let me = crowd.world.nodes[from].me();
    let both = [(from, to), (5, me)];
    for (at, of) in both {
        let peer = &crowd.world.nodes[at].peers[&of];
        assert!(!peer.connected || crowd.world.nodes[at].wide.keeps(of, peer));
    }
    assert_eq!(crowd.seen_as(5, PeerState::Alive), 65);
}

#[test]
fn whom_the_application_wants_stays_connected() {
    let mut crowd = Crowd::new(66);
    let wanted: BTreeSet<NodeId> = (1..=20).map(|at| crowd.world.nodes[at].me()).collect();
    let now = crowd.world.now;
    crowd.world.nodes[0].handle_want(wanted.clone(), now);
    crowd.run(5);
    let before = crowd.world.disconnected(0);

    crowd.run(90);

    let connected: BTreeSet<NodeId> = crowd.world.nodes[0].connected().collect();
    assert!(connected.is_superset(&wanted));
    let lost = crowd.world.seen[&0]
        .iter()
        .filter(|event| matches!(event, NodeEvent::Disconnected(id) if wanted.contains(id)));
    assert_eq!((lost.count(), before), (0, 0));
}

#[test]
fn halves_that_were_apart_are_one_mesh_again() {
    let mut crowd = Crowd::new(66);
    crowd.run(30);
    crowd.side = (0..33).collect();
    crowd.run(30);
    let down: usize = (33..66).map(|of| crowd.seen_as(of, PeerState::Down)).sum();
    assert!(down > 33 * 32, "told of the other half: {down}");

    crowd.side.clear();
    crowd.run(60);

    for at in 0..66 {
        assert_eq!(crowd.seen_as(at, PeerState::Alive), 65, "node {at}");
    }
    let roots: BTreeSet<_> = crowd
        .world
        .nodes
        .iter()
        .map(|n| n.statements.root())
        .collect();
    assert_eq!(roots.len(), 1);
}

#[test]
fn one_that_is_cut_off_says_so_and_calls_nobody_down() {
    let mut crowd = Crowd::new(66);
    crowd.run(30);
    crowd.side = (0..3).collect();
    crowd.run(45);

    for at in 0..3 {
        let notices = crowd.world.nodes[at].snapshot(crowd.world.now).notices;
        let said = notices
            .iter()
            .any(|notice| notice.contains("of 66 members"));
        assert!(said, "{notices:?}");
        for of in 3..66 {
            assert_ne!(crowd.state(at, of), PeerState::Down);
            assert_ne!(crowd.state(at, of), PeerState::Alive);
        }
    }
    let down: Vec<usize> = (0..3)
        .map(|of| crowd.seen_as(of, PeerState::Down))
        .collect();
    assert_eq!(down, [63; 3]);

    crowd.side.clear();
    crowd.run(45);
    for at in 0..66 {
        assert_eq!(crowd.seen_as(at, PeerState::Alive), 65, "node {at}");
        assert!(
            crowd.world.nodes[at]
                .snapshot(crowd.world.now)
                .notices
                .is_empty()
        );
    }
}

#[test]
fn a_process_that_stood_still_blames_nobody() {
    let mut crowd = Crowd::new(66);
    crowd.run(30);
    crowd.off.insert(0);
    crowd.run(40);
    assert_eq!(crowd.seen_as(0, PeerState::Down), 65);
    crowd.off.remove(&0);
    for _ in 0..15 {
        crowd.run(1);
        for of in 1..66 {
            assert_ne!(crowd.state(0, of), PeerState::Down);
        }
    }
    crowd.run(15);
    assert_eq!(crowd.seen_as(0, PeerState::Alive), 65);
}

#[test]
fn all_powered_on_at_once_find_each_other_though_a_third_has_moved() {
    let mut crowd = Crowd::new(66);
    for at in (0..66).step_by(3) {
        let moved = address(at + 500);
        crowd.world.homes[at] = moved;
        crowd.places.insert(moved, at);
        crowd.places.remove(&address(at));
        let now = crowd.world.now;
        let endpoints = vec![Endpoint {
            kind: EndpointKind::Local,
            addr: moved,
        }];
        crowd.world.nodes[at].handle_endpoints(endpoints, now);
    }

    crowd.run(60);

    for at in 0..66 {
        assert_eq!(crowd.seen_as(at, PeerState::Alive), 65, "node {at}");
        assert!(crowd.world.nodes[at].connected().count() >= 8);
    }
    let roots: BTreeSet<_> = crowd
        .world
        .nodes
        .iter()
        .map(|n| n.statements.root())
        .collect();
    assert_eq!(roots.len(), 1);
}

#[test]
fn what_outlasts_a_session_passes_with_the_clock_bent() {
    bend::run("node::tests::wide::", bend::Clocks::All, 1);
}

#[test]
#[ignore = "run by `what_outlasts_a_session_passes_with_the_clock_bent`"]
fn a_sleeper_whose_session_has_long_expired_is_reached_by_a_message_at_once() {
    assert!(bend::is_on());
    let mut crowd = Crowd::new(40);
    for node in &mut crowd.world.nodes {
        node.handle_full(24);
        node.wide.awake.clear();
    }
    crowd.run(215);
    let to = crowd.world.nodes[5].me();
    let fast_asleep = |at: &usize| {
        let node = &crowd.world.nodes[*at];
        node.peers[&to].session.is_none() && *at != 5
    };
    let from = (0..40).find(fast_asleep).expect("most have none with it");
    for node in &crowd.world.nodes {
        let awake = node.wide.awake.len();
        let [indices, ..] = node.table.sizes();
        assert!(indices <= awake, "{indices} sessions of {awake} awake");
    }

    crowd.world.say(from, 5, b"good morning").unwrap();
    crowd.deliver([from].into());
    crowd.run(1);

    assert_eq!(crowd.world.heard(5), 1);
    assert_eq!(crowd.seen_as(5, PeerState::Alive), 39);
}

/// A word of node `by` about node `about`, in its life at the start.
fn silent(crowd: &Crowd, by: usize, about: usize) -> Word {
    let id = crowd.world.nodes[about].me();
    let life = crowd.world.nodes[by].wide.lives.life(id).unwrap();
    let (key, mesh) = (&crowd.world.keys[by].0, crowd.world.first.mesh());
    word::sign(key, &mesh, id, life, Say::Silent)
}

/// Node `from` says these words to all its peers.
fn say_words(crowd: &mut Crowd, from: usize, words: &[Word]) {
    let now = crowd.world.now;
    let peers: Vec<NodeId> = crowd.world.nodes[from].connected().collect();
    for (to, word) in peers
        .iter()
        .flat_map(|to| words.iter().map(move |w| (to, w)))
    {
        crowd.world.nodes[from].say(*to, kind::WORDS, &word::encode(word), now);
    }
    crowd.deliver([from].into());
}

#[test]
fn a_liar_brings_nobody_down_and_is_named() {
    let mut crowd = Crowd::new(66);
    crowd.run(20);
    let forged: Vec<Word> = (2..5)
        .map(|by| Word {
            signature: [7; 64],
            ..silent(&crowd, by, 9)
        })
        .collect();
    let own: Vec<Word> = (2..66).map(|about| silent(&crowd, 1, about)).collect();

    say_words(&mut crowd, 1, &forged);
    assert_eq!(crowd.seen_as(9, PeerState::Alive), 65);
    let named = (2..66).filter(|at| crowd.world.blamed(*at, 1, Offence::ForgedWord) > 0);
    assert!(named.count() >= 8);

    // Node 9 can't answer for itself at this moment.
    crowd.off.insert(9);
    say_words(&mut crowd, 1, &own);
    // Many words wait for each other for up to a second at each hop.
    crowd.run(4);
    crowd.off.remove(&9);
    let suspect = crowd.seen_as(9, PeerState::Suspect);
    assert!(suspect > 30, "{suspect} took the liar's word for a doubt");
    for of in 2..66 {
        assert_eq!(crowd.seen_as(of, PeerState::Down), 0);
    }
    crowd.run(10);
    for of in 0..66 {
        assert_eq!(
            crowd.seen_as(of, PeerState::Alive),
            65,
            "node {of} refuted it"
        );
    }
    for _ in 0..100 {
        let again: Vec<Word> = (2..66).map(|about| silent(&crowd, 1, about)).collect();
        say_words(&mut crowd, 1, &again);
    }
    let named = (2..66).filter(|at| crowd.world.blamed(*at, 1, Offence::Words) > 0);
    assert!(named.count() >= 8);
}
