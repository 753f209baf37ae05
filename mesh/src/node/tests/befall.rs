//! Everything that befalls machines and networks, in any order: whatever it was, a minute after
//! the last of it every member is with every other. Kept seeds; the clock is bent.

use super::*;

/// How many things happen in one life.
const BLOWS: usize = 12;

/// The redial's longest pause, and the handshake after it.
const HEALED: u64 = 65_000;

#[test]
fn whatever_befalls_passes_with_the_clock_bent() {
    bend::run("node::tests::befall::", bend::Clocks::All, 2);
}

#[test]
#[ignore = "run by `whatever_befalls_passes_with_the_clock_bent`"]
fn a_minute_after_the_last_blow_everybody_is_together_and_talks() {
    assert!(bend::is_on(), "meaningless with boringtun's clock as it is");
    for seed in (0..6).chain([24]) {
        live(seed, 7);
    }
}

#[test]
#[ignore = "run by `whatever_befalls_passes_with_the_clock_bent`"]
fn the_same_while_tunnel_keys_are_replaced() {
    assert!(bend::is_on(), "meaningless with boringtun's clock as it is");
    for seed in 100..106 {
        live(seed, 9);
    }
}

/// A life in which `kinds` different things happen, and a minute of peace.
fn live(seed: u64, kinds: u32) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut world = World::new(3);
    world.run(2_000);
    let mut befell = Vec::new();
    for _ in 0..BLOWS {
        befell.push(strike(&mut world, &mut random, kinds));
    }
    heal(&mut world);

    world.run(HEALED);

    let said: Vec<usize> = (0..3).map(|at| world.heard(at)).collect();
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let sent = world.say(from, to, b"there");
        assert_eq!(sent, Ok(()), "seed {seed}, {from} to {to}: {befell:?}");
    }
    world.run(100);
    for (at, before) in said.into_iter().enumerate() {
        assert_eq!(world.heard(at), before + 2, "seed {seed}, {at}: {befell:?}");
    }
    for at in 0..3 {
        let indices = world.nodes[at].table.sizes()[0];
        assert!(indices <= 2 * 5, "seed {seed}, {at}: {indices} tunnels");
    }
}

/// Lets one thing happen for a while, and says what.
fn strike(world: &mut World, random: &mut ChaCha8Rng, kinds: u32) -> (&'static str, u64) {
    let at = random.random_range(0..3);
    // A moment, a while, or longer than any key lives.
    let lasts = [500, 20_000, 400_000][random.random_range(0..3)];
    let what = match random.random_range(0..kinds) {
        0 => {
            world.cut = !world.cut;
            "cut or mended"
        }
        1 => {
            world.frozen = match world.frozen {
                Some(_) => None,
                None => Some(at),
            };
            "stopped or continued"
        }
        2 => {
            world.sleep(Duration::from_millis(lasts));
            "slept"
        }
        3 => {
            world.restart_with_memory(at);
            "restarted"
        }
        4 => {
            world.homes[at] = address(40 + at);
            "moved"
        }
        5 => {
            world.homes[at] = address(at);
            "moved back"
        }
        7.. => {
            rotate(world, at);
            "replaced its key"
        }
        _ => {
            world.bad = match world.bad {
                Some(_) => None,
                None => Some(bad::Network::new(random.random())),
            };
            "a bad network, or a good one"
        }
    };
    for at in 0..3 {
        drop(world.say(at, (at + 1) % 3, b"meanwhile"));
    }
    world.run(lasts);
    (what, lasts)
}

/// Both keys are on its disk from then on. It may refuse, while others still change over.
fn rotate(world: &mut World, at: usize) {
    let (key, now) = (TunnelKey::generate(), world.now_at(at));
    if world.nodes[at].handle_rotate(key.clone(), now).is_ok() {
        let old = std::mem::replace(&mut world.keys[at].1, key);
        world.former.entry(at).or_default().insert(0, old);
    }
}

fn heal(world: &mut World) {
    world.cut = false;
    world.frozen = None;
    world.bad = None;
    for at in 0..3 {
        world.homes[at] = address(at);
    }
}
