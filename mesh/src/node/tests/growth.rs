//! An hour of everything that happens to a mesh leaves no table longer than it was.
//!
//! Told time for the node, and boringtun's own clock bent to it: sessions are renewed, guests and
//! limits expire as in life. Nothing is simulated but the clock and the wire. Five members: the
//! first runs all the hour, each minute one of the others is restarted. Everybody is heard from
//! strange addresses, guests knock and never come in, strangers and garbage arrive from
//! everywhere, members talk.

use super::*;

const MEMBERS: usize = 5;

/// Sizes are compared each time every member but the first has been restarted once more.
const ROUND: usize = MEMBERS - 1;

/// By this minute every table has seen all it will see.
const FULL: usize = 12;

#[test]
fn an_hour_passes_with_the_clock_bent() {
    bend::run("node::tests::growth::", bend::Clocks::All, 1);
}

#[test]
#[ignore = "run by `an_hour_passes_with_the_clock_bent`"]
fn no_table_grows_over_an_hour_of_restarts_moves_guests_and_junk() {
    assert!(bend::is_on());
    let mut world = World::new(MEMBERS as u8);
    let mut random = ChaCha8Rng::seed_from_u64(60);
    let mut seen = BTreeMap::new();
    for minute in 1..=60 {
        churn(&mut world, minute, &mut random);
        if minute >= FULL && minute.is_multiple_of(ROUND) {
            let sizes: Vec<_> = world.nodes.iter().map(sizes).collect();
            seen.insert(minute, sizes);
        }
    }

    for (minute, sizes) in &seen {
        assert_eq!(sizes, &seen[&FULL], "minute {minute} against {FULL}");
    }
    let handshakes: u64 = world
        .nodes
        .iter()
        .map(|node| node.counters.handshakes)
        .sum();
    assert!(handshakes > 40, "sessions were renewed: {handshakes}");
}

fn churn(world: &mut World, minute: usize, random: &mut ChaCha8Rng) {
    world.restart(1 + minute % ROUND);
    for second in 0..60 {
        world.run(1_000);
        match second {
            5 | 10 | 15 => roam(world, 40 + (minute * 3 + second) % 20),
            20 => knock(world),
            21..25 => junk(world, random),
            _ if second % 3 == 0 => talk(world),
            _ => {}
        }
    }
    world.seen.clear();
    world.sent.clear();
    world.strayed.clear();
}

/// Everybody is heard by everybody from another address; what goes there is lost.
fn roam(world: &mut World, place: usize) {
    for (from, to) in pairs() {
        world.deliver();
        // Whoever has just been restarted may not be connected.
        let _ = world.say(from, to, b"moved");
        for bytes in transmits(world, from) {
            world.give(to, address(place), &bytes);
        }
    }
}

fn talk(world: &mut World) {
    for (from, to) in pairs() {
        let _ = world.say(from, to, b"a row");
    }
}

/// Guests with the key of an open invite and strangers with none begin handshakes.
fn knock(world: &mut World) {
    let guest = world.invite.tunnel().secret();
    for at in 0..MEMBERS {
        let public = world.nodes[at].identity.tunnel.public();
        for host in 0..10_u8 {
            let from = SocketAddr::from(([10, 0, at as u8, host], 2_009));
            let mut knocking = Session::new(&guest, public, u32::from(host));
            world.give(at, from, &knocking.initiate().unwrap());
            let secret = TunnelKey::generate().secret();
            let mut stranger = Session::new(&secret, public, u32::from(host));
            world.give(at, from, &stranger.initiate().unwrap());
        }
    }
}

fn junk(world: &mut World, random: &mut ChaCha8Rng) {
    for at in 0..MEMBERS {
        for _ in 0..50 {
            let mut bytes = vec![0; random.random_range(0..400)];
            random.fill(&mut bytes[..]);
            if let Some(kind) = bytes.first_mut() {
                *kind = random.random_range(0..6);
            }
            let from = SocketAddr::from((random.random::<[u8; 4]>(), 2_007));
            world.give(at, from, &bytes);
        }
    }
}

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..MEMBERS).flat_map(|from| {
        (0..MEMBERS)
            .filter(move |to| *to != from)
            .map(move |to| (from, to))
    })
}

fn transmits(world: &mut World, from: usize) -> Vec<Vec<u8>> {
    let now = world.now_at(from);
    std::iter::from_fn(|| world.nodes[from].poll_transmit(now))
        .map(|transmit| transmit.bytes)
        .collect()
}

/// How long everything is that could grow.
fn sizes(node: &Node) -> Vec<(&'static str, usize)> {
    let peers = || node.peers.values();
    let [indices, keys, addresses, homes] = node.table.sizes();
    vec![
        ("peers", peers().count()),
        ("connected", node.connected().count()),
        ("indices", indices),
        ("keys", keys),
        ("addresses", addresses),
        ("homes", homes),
        (
            "candidates",
            peers().map(|peer| peer.candidates.len()).sum(),
        ),
        ("waiting", peers().map(Peer::waits).sum()),
        ("payload", peers().map(|peer| peer.payload.len()).sum()),
        ("sources", node.limiter.sources()),
        ("guests", node.desk.len()),
        ("statements", node.statements.iter().count()),
        ("filled", node.filled.len()),
        ("outgoing", node.outgoing.len()),
        ("events", node.events.len()),
        ("journal", node.journal.len()),
        ("offences", node.reckoning.tallies().count()),
        ("notices", node.notices.len()),
    ]
}
