//! Signed runs that disagree: every keeper ends with the same one, and none of it goes unnoticed.

use super::*;

/// Rows of one log with a salt of their own, sealed.
fn run(rows: std::ops::RangeInclusive<Seq>, salt: i64) -> Block {
    let rows: Vec<Row> = rows.map(|seq| row(PEER, seq, salt).row).collect();
    Draft::build(&rows).unwrap().seal(&sign(PEER))
}

/// Turns to a new generation after every flush.
fn open_turning(dir: &Path) -> Store {
    let turning = Tuning {
        generation_bytes: 1,
        ..tuning()
    };
    let store = Store::open_tuned(config(dir), keys(ME), turning).unwrap();
    wait_ready(&store);
    store
}

/// Brings two runs in both orders; which rows are held at last and what they hash to, each also after a start.
fn held_of_two(one: &Block, other: &Block) -> Vec<(u64, [u8; 32])> {
    let mut held = Vec::new();
    for pair in [[one, other], [other, one]] {
        let dir = TempDir::new().unwrap();
        let store = open_turning(dir.path());
        define(&store, PEER);
        let brought = pair.map(|block| {
            let appended = store.insert_block(&block.encode()).unwrap();
            store.flush().unwrap();
            appended
        });
        assert_eq!(brought, [Appended::New, Appended::Conflict]);
        assert_eq!(store.stats().conflicts, 1);
        let tally = store.tally();
        held.push((tally[0].rows, tally[0].digest));
        store.close().unwrap();
        let store = open_turning(dir.path());
        let tally = store.tally();
        held.push((tally[0].rows, tally[0].digest));
        assert_eq!(store.stats().conflicts, 1, "the evidence is on disk");
    }
    held
}

#[test]
fn a_longer_run_with_other_contents_is_evidence_and_stays_whichever_came_first() {
    let held = held_of_two(&run(1..=50, 1), &run(1..=51, 2));
    assert_eq!(held[0].0, 51);
    assert!(held.iter().all(|each| *each == held[0]), "{held:?}");
}

#[test]
fn of_two_runs_as_long_the_lower_content_stays_whichever_came_first() {
    for (one, other) in [(1, 2), (3, 4), (5, 6)] {
        let (one, other) = (run(1..=60, one), run(1..=60, other));
        let held = held_of_two(&one, &other);
        assert!(held.iter().all(|each| *each == held[0]), "{held:?}");
    }
}

#[test]
fn of_two_runs_that_cross_and_disagree_the_longer_stays_whichever_came_first() {
    let held = held_of_two(&run(1..=10, 5), &run(5..=20, 6));
    assert_eq!(held[0].0, 16);
    assert!(held.iter().all(|each| *each == held[0]), "{held:?}");
}

#[test]
fn what_a_lost_run_alone_had_is_welcome_again_and_counted_as_damaged() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    insert_all(&store, &[run(1..=10, 5).encode()]);
    let longer = run(5..=20, 6).encode();
    assert_eq!(store.insert_block(&longer).unwrap(), Appended::Conflict);
    assert_eq!(store.stats().gone_rows, [(Reason::Damaged, 4)].into());
    insert_all(&store, &[run(1..=4, 6).encode()]);
    assert_eq!((store.stats().rows, store.stats().gone_rows.len()), (20, 0));
}

#[test]
fn a_seal_that_is_known_costs_no_look_at_the_disk() {
    let dir = TempDir::new().unwrap();
    let store = open_turning(dir.path());
    define(&store, PEER);
    let held = run(1..=60, 1);
    insert_all(&store, &[held.encode()]);
    store.flush().unwrap();
    store.close().unwrap();
    let store = open_turning(dir.path());
    assert_eq!(store.apply_seal(held.seal()).unwrap(), Sealed::Known);
    // Whoever looks from here on finds nothing, and the generation is given up.
    fs::rename(dir.path().join("copies-000001"), dir.path().join("away")).unwrap();
    store.shared.shelf.close();
    let other = (2..).map(|salt| run(1..=60, salt).seal());
    let mut higher = other.filter(|other| other.content > held.seal().content);
    for _ in 0..3 {
        assert_eq!(store.apply_seal(held.seal()).unwrap(), Sealed::Known);
        let contradicted = store.apply_seal(higher.next().unwrap()).unwrap();
        assert_eq!(contradicted, Sealed::Contradicted { wins: false });
    }
    assert_eq!((store.stats().rows, store.stats().conflicts), (60, 3));
}

#[test]
fn a_seal_of_a_lower_content_calls_for_its_block() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    let (one, other) = (run(1..=60, 1), run(1..=60, 2));
    let (high, low) = if one.seal().content > other.seal().content {
        (one, other)
    } else {
        (other, one)
    };
    insert_all(&store, &[high.encode()]);
    let contradicted = store.apply_seal(low.seal()).unwrap();
    assert_eq!(contradicted, Sealed::Contradicted { wins: true });
    assert_eq!(
        store.insert_block(&low.encode()).unwrap(),
        Appended::Conflict
    );
    assert_eq!(store.apply_seal(low.seal()).unwrap(), Sealed::Known);
}
