//! What takes minutes and hours: renewal, expiry, sleep, a process that stood still. The real
//! crate with its clock bent to the told time.

use super::*;

#[test]
fn what_takes_hours_passes_with_the_clock_bent() {
    bend::run("node::tests::ageing::", bend::Clocks::All, 8);
}

#[test]
#[ignore = "run by `what_takes_hours_passes_with_the_clock_bent`"]
fn sessions_are_renewed_for_hours_without_a_lost_message() {
    let mut world = bent(2);
    world.run(2_000);
    let (mut said, hours) = (0, 2);
    for _ in 0..hours * 3_600 {
        world.run(1_000);
        world.say(0, 1, b"there").unwrap();
        world.say(1, 0, b"back").unwrap();
        said += 1;
    }
    world.run(100);

    assert_eq!([world.heard(0), world.heard(1)], [said, said]);
    let renewed = world.nodes[0].counters.handshakes;
    assert!((55..65).contains(&renewed), "{renewed} in {hours} hours");
    assert_eq!(world.disconnected(0) + world.disconnected(1), 0);
    assert_eq!(world.dropped(0, "waiting queue full"), 0);
}

#[test]
#[ignore = "run by `what_takes_hours_passes_with_the_clock_bent`"]
fn an_idle_mesh_lives_for_hours() {
    let mut world = bent(2);
    world.run(2 * 3_600_000);

    for at in 0..2 {
        assert_eq!(world.disconnected(at), 0);
        assert_eq!(world.nodes[at].connected().count(), 1);
    }
}

#[test]
#[ignore = "run by `what_takes_hours_passes_with_the_clock_bent`"]
fn sessions_that_began_together_are_renewed_up_to_a_third_of_a_second_apart() {
    let mut world = bent(12);
    world.run(2_000);
    let began = world.now.boot;
    for _ in 0..130 {
        world.run(1_000);
        let peers: Vec<usize> = (1..12).collect();
        for at in peers {
            world.say(0, at, b"there").unwrap();
            world.say(at, 0, b"back").unwrap();
        }
    }

    // Who renews one session lets the tick decide, and then the jitter.
    let renewals = world
        .sent
        .iter()
        .filter(|(at, _, kind)| (*kind, *at > began) == (1, true));
    let past_the_tick: Vec<u128> = renewals
        .map(|(at, ..)| at.saturating_sub(began).as_micros() % 250_000)
        .collect();
    assert!(past_the_tick.len() >= 11, "{past_the_tick:?}");
    let distinct: BTreeSet<_> = past_the_tick.iter().collect();
    assert!(
        distinct.len() + 2 >= past_the_tick.len(),
        "{past_the_tick:?}"
    );
    for at in 0..12 {
        assert_eq!(world.disconnected(at), 0);
    }
}

#[test]
#[ignore = "run by `what_takes_hours_passes_with_the_clock_bent`"]
fn a_peer_silent_for_hours_is_dialled_each_minute_though_boringtun_gave_up_after_90_s() {
    let mut world = bent(2);
    world.run(2_000);
    world.cut = true;
    world.run(100_000);
    for minute in 0..60 {
        let before = world.sent.len();
        world.run(61_000);
        let knocked = world.sent[before..].iter().filter(|(_, at, _)| *at == 0);
        assert!(knocked.clone().all(|(_, _, kind)| *kind == 1));
        assert!((1..=40).contains(&knocked.count()), "minute {minute}");
    }
    assert!(!world.peer(0, 1).is_live());

    world.cut = false;
    world.run(61_000);

    assert_eq!(world.nodes[0].connected().count(), 1);
    assert_eq!(world.state(0, 1), PeerState::Alive);
    world.say(0, 1, b"again").unwrap();
    world.run(10);
    assert_eq!(world.heard(1), 1);
}

#[test]
#[ignore = "run by `what_takes_hours_passes_with_the_clock_bent`"]
fn after_a_sleep_nothing_is_sealed_with_the_keys_from_before() {
    for slept in [Duration::from_secs(200), Duration::from_secs(10_000)] {
        let mut world = bent(2);
        world.run(2_000);
        world.sleep(slept);
        let woke = world.sent.len();

        world.say(0, 1, b"good morning").unwrap();
        world.run(5_000);

        let kinds: Vec<u8> = world.sent[woke..].iter().map(|(.., kind)| *kind).collect();
        let first_data = kinds.iter().position(|kind| *kind == 4).unwrap();
        assert!(kinds[..first_data].contains(&2), "{kinds:?}");
        assert_eq!(world.heard(1), 1, "slept {slept:?}");
        let took = world.sent[woke + first_data].0 - world.sent[woke].0;
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

#[test]
#[ignore = "run by `what_takes_hours_passes_with_the_clock_bent`"]
fn a_process_that_stood_still_for_four_minutes_is_back_within_seconds() {
    let mut world = bent(3);
    world.run(2_000);
    world.frozen = Some(1);
    world.run(240_000);
    assert_eq!(world.state(0, 1), PeerState::Down);
    world.frozen = None;
    let woke = world.sent.len();

    // What it had to say comes before any timer of its.
    let refused = world.say(1, 0, b"still here");
    assert_eq!(refused, Err(SendError::NotConnected(world.nodes[0].me())));
    world.run(3_000);
    world.say(1, 0, b"still here").unwrap();
    world.run(10);

    let of_it = world.sent[woke..].iter().filter(|(_, at, _)| *at == 1);
    assert_eq!(of_it.map(|(.., kind)| *kind).next(), Some(1));
    for at in 0..3 {
        assert_eq!(world.nodes[at].connected().count(), 2, "node {at}");
    }
    assert_eq!(world.heard(0), 1);
}

#[test]
#[ignore = "run by `what_takes_hours_passes_with_the_clock_bent`"]
fn what_is_sealed_while_a_renewal_is_on_its_way_is_understood() {
    let mut world = bent(2);
    let (a, b) = (TunnelKey::generate(), TunnelKey::generate());
    let mut begins = Session::new(&a.secret(), b.public(), 1);
    let mut answers = Session::new(&b.secret(), a.public(), 2);
    let source = address(0).ip();
    let inner = packet::build(world.nodes[0].address(), world.nodes[1].address(), 9, b"x");
    let Opened::Answer(answer) = answers.open(source, &begins.initiate().unwrap()) else {
        panic!("not answered");
    };
    let Opened::Established(first) = begins.open(source, &answer) else {
        panic!("not established");
    };
    assert_eq!(
        answers.open(source, &first),
        Opened::Keepalive { fresh: true }
    );

    let mut renewed = 0;
    for _ in 0..4 * 200 {
        world.now = world.now.after(Duration::from_millis(250));
        world.now_at(0);
        assert_eq!(answers.tick(), Tick::Idle, "who began a session renews it");
        if let Tick::Initiation(initiation) = begins.tick() {
            let Opened::Answer(answer) = answers.open(source, &initiation) else {
                panic!("not answered");
            };
            let crossing = answers.seal(&inner).unwrap();
            let Opened::Established(first) = begins.open(source, &answer) else {
                panic!("not established");
            };
            assert!(matches!(
                begins.open(source, &crossing),
                Opened::Inner { fresh: false, .. }
            ));
            assert_eq!(
                answers.open(source, &first),
                Opened::Keepalive { fresh: true }
            );
            renewed += 1;
        }
        let sealed = begins.seal(&inner).expect("live all the time");
        assert!(matches!(
            answers.open(source, &sealed),
            Opened::Inner { .. }
        ));
        let sealed = answers.seal(&inner).expect("live all the time");
        assert!(matches!(begins.open(source, &sealed), Opened::Inner { .. }));
    }
    assert_eq!(renewed, 1, "after 120 s");
}

#[test]
#[ignore = "run by `what_takes_hours_passes_with_the_clock_bent`"]
fn a_network_that_loses_repeats_and_replays_for_hours_locks_nobody_out() {
    for seed in 1..=4 {
        let mut world = bent(2);
        world.run(2_000);
        world.bad = Some(bad::Network::new(seed));
        let (mut heard, mut silent, mut longest) = ([0; 2], [0; 2], 0);
        let seconds = 2_400;
        for _ in 0..seconds {
            world.run(1_000);
            for at in 0..2 {
                // It is refused while the other is lost, which counts as silence.
                drop(world.say(at, 1 - at, b"there"));
                let now = world.heard(at);
                silent[at] = if now > heard[at] { 0 } else { silent[at] + 1 };
                heard[at] = now;
                longest = longest.max(silent[at]);
            }
        }

        assert!(longest <= 20, "seed {seed}: silent for {longest} s");
        let least = heard[0].min(heard[1]);
        assert!(
            least > seconds * 6 / 10,
            "seed {seed}: {least} of {seconds}"
        );
        world.bad = None;
        world.run(15_000);
        for at in 0..2 {
            assert_eq!(world.state(at, 1 - at), PeerState::Alive, "seed {seed}");
            assert_eq!(
                world.peer(at, 1 - at).route.address(),
                Some(address(1 - at))
            );
        }
    }
}

/// A world whose boringtun goes by the told time.
fn bent(count: u8) -> World {
    assert!(bend::is_on(), "meaningless with boringtun's clock as it is");
    World::new(count)
}
