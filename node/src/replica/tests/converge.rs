//! After cuts and crashes, keepers end up with the same.

use std::time::Duration;

use super::world::World;

#[test]
fn after_the_faults_stop_all_keepers_hold_equal_sets() {
    for seed in 0..40 {
        let mut world = World::new(seed, 3 + (seed % 3) as usize);
        world.faults(Duration::from_secs(300));
        world.quiet(Duration::from_secs(90));
        world.assert_equal();
    }
}

#[test]
fn the_same_seed_gives_the_same_log_of_events() {
    for seed in [3, 17] {
        let logs: Vec<_> = (0..2)
            .map(|_| {
                let mut world = World::new(seed, 4);
                world.faults(Duration::from_secs(200));
                world.quiet(Duration::from_secs(40));
                world.events
            })
            .collect();
        assert!(logs[0].len() > 200, "seed {seed}: {} events", logs[0].len());
        assert_eq!(logs[0], logs[1], "seed {seed}");
    }
}

#[test]
fn a_cut_of_a_minute_is_whole_five_seconds_after_it_heals() {
    let mut world = World::new(1, 3);
    world.quiet(Duration::from_secs(30));
    world.cut(2, true);
    world.quiet(Duration::from_secs(60));
    assert!(world.backlog_of(0, 2) > 0, "the cut shows as backlog");
    world.cut(2, false);
    world.quiet(Duration::from_secs(6));
    world.assert_equal();
    assert_eq!(world.backlog_of(0, 2), 0);
    assert_eq!(world.backlog_of(2, 0), 0);
}

#[test]
fn a_cut_too_short_to_be_noticed_is_repaired_by_the_next_live_row() {
    let mut world = World::new(2, 3);
    world.quiet(Duration::from_secs(15));
    world.nodes[2].cut = true;
    world.quiet(Duration::from_secs(2));
    world.nodes[2].cut = false;
    world.quiet(Duration::from_millis(4_500));
    world.assert_equal();
}

#[test]
fn what_was_evicted_here_is_not_asked_for_again() {
    let mut world = World::new(9, 2);
    world.quiet(Duration::from_secs(130));
    let log = world.nodes[1].running;
    world.nodes[0].evict(log, 1..=60);
    let asked = world.requests;
    world.quiet(Duration::from_secs(40));
    assert!(!world.nodes[0].held[&log].contains(60));
    assert_eq!(world.requests, asked, "and the two count as equal");
}
