//! Datagrams of those who don't belong: garbage, floods, guests beyond the bound.

use super::*;

#[test]
fn garbage_in_a_member_s_name_does_not_shut_the_member_out() {
    let mut world = World::new(2);
    let key = world.nodes[1].identity.tunnel.secret();
    let public = world.nodes[0].identity.tunnel.public();
    let mut garbage = vec![7; 148];
    garbage[..4].copy_from_slice(&[1, 0, 0, 0]);
    for _ in 0..100 {
        world.give(0, address(1), &garbage);
    }

    let initiation = Session::new(&key, public, 9).initiate().unwrap();
    world.give(0, address(1), &initiation);

    assert_eq!(world.dropped(0, "mac1"), 100);
    assert!(world.peer(0, 1).accepted.is_some());
}

#[test]
fn one_source_begins_a_bounded_number_of_handshakes() {
    let mut world = World::new(2);
    let mut stranger = world.stranger(0);
    let mut cookie = Vec::new();
    for _ in 0..300 {
        world.give(0, address(50), &stranger.initiate().unwrap());
        cookie = world.sent(0).pop().unwrap_or(cookie);
    }
    assert_eq!(world.dropped(0, "under load"), 100);

    // With a cookie the source is known, and has a share of its own.
    assert_eq!(
        stranger.open(address(0).ip(), &cookie),
        Opened::CookieStored
    );
    for _ in 0..100 {
        world.give(0, address(50), &stranger.initiate().unwrap());
    }

    assert_eq!(world.dropped(0, "source limit"), 68);
    assert_eq!(world.dropped(0, "unknown key"), 232);
}

#[test]
fn random_datagrams_are_dropped_and_counted() {
    let mut world = World::new(2);
    world.run(1_000);
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let index = world.peer(0, 1).session.as_ref().unwrap().index();

    for _ in 0..3_000 {
        let length = random.random_range(0..400);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        if bytes.len() > 8 {
            bytes[..4].copy_from_slice(&[random.random_range(0..6), 0, 0, 0]);
            bytes[4..8].copy_from_slice(&(index << 8 | random.random_range(0..4)).to_le_bytes());
        }
        world.give(0, address(9), &bytes);
    }

    assert_eq!(world.peer(0, 1).route.address(), Some(address(1)));
    assert!(world.nodes[0].counters.dropped.values().sum::<u64>() >= 3_000);
}

#[test]
fn guests_are_bounded_and_strangers_hear_nothing() {
    let mut world = World::new(2);
    let public = world.nodes[0].identity.tunnel.public();
    let now = world.now;
    let guest = world.invite.tunnel().secret();
    while world.nodes[0].poll_transmit(now).is_some() {}
    for host in 0..40_u8 {
        let from = SocketAddr::from(([10, 0, 0, host], 9_000));
        let mut session = Session::new(&guest, public, u32::from(host));
        world.nodes[0].handle_datagram(from, &session.initiate().unwrap(), now);
    }
    let mut stranger = Session::new(&TunnelKey::generate().secret(), public, 77);
    let from = SocketAddr::from(([10, 0, 1, 1], 9));
    world.nodes[0].handle_datagram(from, &stranger.initiate().unwrap(), now);

    let answers = std::iter::from_fn(|| world.nodes[0].poll_transmit(now)).count();

    assert_eq!(answers, crate::admission::desk::MOST_GUESTS);
    assert_eq!(world.dropped(0, "joining tunnels full"), 24);
    assert_eq!(world.dropped(0, "unknown key"), 1);
    let later = now.after(Duration::from_secs(31));
    world.nodes[0].handle_timeout(later);
    assert!(world.nodes[0].desk.overdue(later.mono).is_empty());
}

#[test]
fn a_hundred_thousand_foreign_datagrams_get_no_reply_and_leave_everything_as_it_was() {
    let mut world = World::new(3);
    let mut foreign = Foreign::capture(&mut world);
    world.run(1_000);
    let handshakes = world.nodes[0].counters.handshakes;
    let mut ledger = Ledger::default();

    for number in 0..100_000_u32 {
        let bytes = foreign.make(number);
        // Half of it in a member's name, half of it from everywhere.
        let from = if foreign.random.random() {
            address(1 + number as usize % 2)
        } else {
            foreign.anywhere()
        };
        ledger.pass(&mut world, from, &bytes);
        if number % 1_000 == 0 {
            world.run(1_000);
        }
    }
    world.run(10);

    assert_eq!(ledger.answers, BTreeMap::new());
    assert_eq!(world.strayed, []);
    let node = &world.nodes[0];
    assert_eq!(
        node.table.sizes(),
        [2, 2, 2, 2],
        "indices, keys, addresses, homes"
    );
    assert_eq!(node.limiter.sources(), 0);
    assert!(node.counters.dropped.values().sum::<u64>() >= 100_000);
    assert!(node.counters.dropped.len() < 20);
    assert!(node.notices.is_empty() && node.outgoing.is_empty());
    assert_eq!(
        node.counters.handshakes, handshakes,
        "sessions were left alone"
    );
    for at in 1..3 {
        assert_eq!(world.peer(0, at).route.address(), Some(address(at)));
        let (from, to) = (world.nodes[at].me(), world.nodes[0].me());
        let now = world.now;
        world.nodes[at]
            .handle_message(to, 64, b"still here", now)
            .unwrap();
        world.run(1);
        let heard =
            |event: &NodeEvent| matches!(event, NodeEvent::Message { from: by, .. } if *by == from);
        assert_eq!(world.events(0, heard), 1);
    }
    let lost = world.events(0, |event| matches!(event, NodeEvent::Disconnected(_)));
    assert_eq!(lost, 0);
}

#[test]
fn a_flood_of_initiations_gets_cookies_shorter_than_themselves_and_fills_nothing() {
    let mut world = World::new(2);
    world.run(1_000);
    let mut foreign = Foreign::capture(&mut world);
    let mut ledger = Ledger::default();

    for number in 0..20_000_u32 {
        let from = foreign.anywhere();
        let bytes = foreign.initiation();
        ledger.pass(&mut world, from, &bytes);
        if number % 1_000 == 0 {
            world.run(50);
        }
    }

    assert_eq!(ledger.answers.keys().copied().collect::<Vec<_>>(), [(1, 3)]);
    assert!(
        world.dropped(0, "unknown key") <= 200 + 200,
        "Diffie-Hellmans in a second"
    );
    assert_eq!(world.nodes[0].limiter.sources(), 0);
    assert_eq!(world.nodes[0].table.sizes(), [1, 1, 1, 1]);
}

#[test]
fn a_member_comes_back_while_a_flood_runs_in_its_own_name() {
    for spoofed in [true, false] {
        let mut world = World::new(2);
        world.run(5_000);
        let mut foreign = Foreign::capture(&mut world);
        world.restart(1);
        let renewed = world.nodes[0].counters.handshakes;

        for _ in 0..300 {
            for _ in 0..50 {
                let from = if spoofed {
                    address(1)
                } else {
                    foreign.anywhere()
                };
                let bytes = foreign.initiation();
                world.give(0, from, &bytes);
            }
            world.run(10);
        }

        assert!(world.dropped(0, "under load") > 10_000);
        assert!(world.nodes[0].counters.handshakes > renewed);
        assert_eq!(world.nodes[0].connected().count(), 1);
        assert_eq!(world.nodes[1].connected().count(), 1);
    }
}

#[test]
fn whatever_is_replayed_never_more_goes_to_an_unconfirmed_address_than_came_from_it() {
    let mut world = World::new(2);
    let mut captured = Vec::new();
    for _ in 0..40 {
        captured.push(world.initiation_of(1));
    }
    // The member is gone, and nothing of it has reached this node since its start.
    world.cut = true;
    let mut ledger = Ledger::default();

    // The newer ones are accepted, the rest have old stamps; each again and again.
    for round in 0..600_usize {
        let initiation = captured[(round / 3 * 7) % captured.len()].clone();
        ledger.pass(&mut world, address(5_000 + round % 3), &initiation);
        world.run(100);
        ledger.count(&world.strayed);
        world.strayed.clear();
    }

    assert!(ledger.answers.contains_key(&(1, 2)), "{:?}", ledger.answers);
    assert!(ledger.answers.contains_key(&(1, 1)), "{:?}", ledger.answers);
}

#[test]
fn replays_do_not_keep_us_from_dialling_where_the_member_is() {
    let mut world = World::new(2);
    let old = world.initiation_of(1);
    world.run(1_000);
    world.cut = true;
    world.run(600_000);

    let mut dialled = 0;
    for _ in 0..300 {
        let before = world.peer(0, 1).dial.last();
        world.give(0, address(5_000), &old);
        world.run(1_000);
        let peer = world.peer(0, 1);
        dialled += usize::from(
            peer.dial.last() != before && peer.initiated_to == [Way::Direct(address(1))],
        );
    }

    assert!(dialled >= 5, "{dialled} attempts in five minutes");
}

#[test]
fn a_guest_is_answered_where_it_shook_hands_and_nowhere_else() {
    let mut world = World::new(2);
    let public = world.nodes[0].identity.tunnel.public();
    let guest = world.invite.tunnel().secret();
    let mut session = Session::new(&guest, public, 3);
    world.sent(0);
    world.give(0, address(40), &session.initiate().unwrap());
    let answer = world.sent(0).pop().unwrap();
    assert!(matches!(
        session.open(address(0).ip(), &answer),
        Opened::Established(_)
    ));
    let asks = |session: &mut Session| {
        let mut payload = Vec::new();
        let join = message::pack(&[]).pop().unwrap_or_default();
        frame::push(&mut payload, kind::JOIN, &join);
        let ends = (crate::admission::JOINER, crate::admission::SPONSOR);
        session
            .seal(&packet::build(ends.0, ends.1, MESSAGE_PORT, &payload))
            .unwrap()
    };

    let elsewhere = asks(&mut session);
    world.give(0, address(41), &elsewhere);
    assert_eq!(world.dropped(0, "guest from elsewhere"), 1);
    let here = asks(&mut session);
    world.give(0, address(40), &here);

    assert_eq!(world.dropped(0, "frame malformed"), 1, "it was read");
}

#[test]
fn a_recorded_handshake_of_a_guest_fills_no_place_and_is_answered_once() {
    let mut world = World::new(2);
    let public = world.nodes[0].identity.tunnel.public();
    let guest = world.invite.tunnel().secret();
    let mut session = Session::new(&guest, public, 3);
    let recorded = [session.initiate().unwrap(), session.initiate().unwrap()];
    world.sent(0);

    for _ in 0..3 {
        for host in 0..40_u8 {
            let from = SocketAddr::from(([10, 0, 0, host], 9_000));
            for initiation in &recorded {
                world.give(0, from, initiation);
            }
        }
        // Long enough for every guest to be sent away.
        world.run(31_000);
    }

    assert_eq!(world.sent(0).len() + world.strayed.len(), 2);
    assert_eq!(world.dropped(0, "guest repeats itself"), 3 * 2 * 40 - 2);
    assert_eq!(world.dropped(0, "joining tunnels full"), 0);
}

#[test]
fn who_borrows_a_heard_member_s_address_makes_us_send_nothing() {
    let mut world = World::new(2);
    world.run(2_000);
    let mut junk = vec![0; 64];
    junk[..4].copy_from_slice(&[4, 0, 0, 0]);
    world.sent(0);
    for index in 0..1_000_u32 {
        junk[4..8].copy_from_slice(&index.to_le_bytes());
        world.give(0, address(1), &junk);
    }

    assert_eq!(world.sent(0), Vec::<Vec<u8>>::new());
    assert_eq!(world.dropped(0, "unknown session"), 1_000);
}

/// What came in from where, and what went back: never more.
#[derive(Default)]
struct Ledger {
    came: BTreeMap<SocketAddr, usize>,
    went: BTreeMap<SocketAddr, usize>,
    /// How often a datagram of one type was answered with one of another type.
    answers: BTreeMap<(u8, u8), usize>,
    last: u8,
}

impl Ledger {
    /// Gives node 0 a datagram, and counts what it says at once.
    fn pass(&mut self, world: &mut World, from: SocketAddr, bytes: &[u8]) {
        *self.came.entry(from).or_default() += bytes.len();
        self.last = bytes.first().copied().unwrap_or(0);
        world.give(0, from, bytes);
        let now = world.now;
        let sent: Vec<_> = std::iter::from_fn(|| world.nodes[0].poll_transmit(now)).collect();
        self.count(&sent);
    }

    fn count(&mut self, sent: &[Transmit]) {
        for transmit in sent {
            *self
                .answers
                .entry((self.last, transmit.bytes[0]))
                .or_default() += 1;
            let went = self.went.entry(transmit.to).or_default();
            *went += transmit.bytes.len();
            let came = self.came.get(&transmit.to).copied().unwrap_or(0);
            assert!(*went <= came, "{went} bytes to {} for {came}", transmit.to);
        }
    }
}

/// Datagrams of those who don't belong, of every class.
struct Foreign {
    random: ChaCha8Rng,
    /// What two members said to node 0 before their sessions settled, handshakes included.
    captured: Vec<Vec<u8>>,
    /// Initiations by keys nobody knows, with a right `mac1`.
    initiations: Vec<Vec<u8>>,
    indices: Vec<u32>,
}

impl Foreign {
    /// Listens in while the members of a world meet.
    fn capture(world: &mut World) -> Self {
        let mut initiations = Vec::new();
        for _ in 0..50 {
            initiations.push(world.stranger(0).initiate().unwrap());
        }
        world.overheard = Some(Vec::new());
        world.run(1_500);
        let captured = world.overheard.take().unwrap_or_default();
        let peers = world.nodes[0].peers.values();
        let indices = peers.filter_map(|peer| peer.session.as_ref().map(Session::index));
        Self {
            random: ChaCha8Rng::seed_from_u64(3),
            captured,
            initiations,
            indices: indices.collect(),
        }
    }

    fn anywhere(&mut self) -> SocketAddr {
        let port = self.random.random_range(3_000..60_000);
        if self.random.random() {
            SocketAddr::from((self.random.random::<[u8; 4]>(), port))
        } else {
            SocketAddr::from((self.random.random::<[u8; 16]>(), port))
        }
    }

    fn initiation(&mut self) -> Vec<u8> {
        let at = self.random.random_range(0..self.initiations.len());
        self.initiations[at].clone()
    }

    fn overheard(&mut self) -> Vec<u8> {
        let at = self.random.random_range(0..self.captured.len());
        self.captured[at].clone()
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.random.random()).collect()
    }

    fn make(&mut self, number: u32) -> Vec<u8> {
        match number % 10 {
            0 => {
                let length = self.random.random_range(0..1_500);
                self.noise(length)
            }
            1 => {
                let mut cut = self.overheard();
                cut.truncate(self.random.random_range(0..cut.len()));
                cut
            }
            2 => vec![number as u8; MAX_DATAGRAM + 1 + number as usize % 7_000],
            // Every type byte, with the length of a true message and without.
            3 => {
                let length = [16, 31, 32, 64, 92, 148, 149, 1_280][self.random.random_range(0..8)];
                let mut bytes = self.noise(length);
                bytes[..4].copy_from_slice(&[(number / 10) as u8, 0, 0, 0]);
                bytes
            }
            4 => {
                let mut reserved = self.overheard();
                reserved[1 + number as usize / 10 % 3] ^= 1 << (number / 30 % 8);
                reserved
            }
            // Types 2, 3 and 4 for a session that lives.
            5 | 6 => {
                let (kind, length) =
                    [(2, 92), (3, 64), (4, 32), (4, 1_280)][number as usize / 10 % 4];
                let mut bytes = self.noise(length);
                bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
                let index = self.indices[self.random.random_range(0..self.indices.len())];
                let at = if kind == 2 { 8 } else { 4 };
                let index = index << 8 | self.random.random_range(0..8);
                bytes[at..at + 4].copy_from_slice(&index.to_le_bytes());
                bytes
            }
            // Few in a second: what is beyond the rate gets cookies, and has a test of its own.
            7 if number % 1_000 == 7 => self.initiation(),
            7 => {
                let mut forged = self.initiation();
                let at = self.random.random_range(4..148);
                forged[at] ^= 1;
                forged
            }
            _ => self.overheard(),
        }
    }
}

impl World {
    /// Somebody with the node's public key and a key nobody knows.
    fn stranger(&self, at: usize) -> Session {
        let public = self.nodes[at].identity.tunnel.public();
        Session::new(&TunnelKey::generate().secret(), public, 9)
    }

    /// What this member would begin a handshake with node 0 with.
    fn initiation_of(&mut self, at: usize) -> Vec<u8> {
        let (to, now) = (self.nodes[0].me(), self.now);
        self.nodes[at].ensure_session(to, now);
        let session = self.nodes[at].peers.get_mut(&to).unwrap().session.as_mut();
        session.unwrap().initiate().unwrap()
    }

    /// What a node wants sent, whoever to.
    fn sent(&mut self, at: usize) -> Vec<Vec<u8>> {
        let now = self.now;
        std::iter::from_fn(|| self.nodes[at].poll_transmit(now))
            .map(|transmit| transmit.bytes)
            .collect()
    }
}
