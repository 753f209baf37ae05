//! The store against its bounds, on a simulated disk: what goes, in which order, what is left of it.

use proptest::collection::vec;

use super::rig::Rig;
use super::*;
use crate::retain::Room;

const LIMIT: u64 = 1 << 20;
const GREEDY: Origin = Origin([9; 32]);

/// Between two turns of the writer.
const A_TURN: Duration = Duration::from_secs(30);

/// With generations of a sixteenth of the bound.
fn bounded(limit_bytes: u64) -> Rig {
    let tuning = Tuning {
        generation_bytes: limit_bytes / 16,
        flush_every: A_TURN,
        segment_bytes: 16 << 10,
        ..tuning()
    };
    Rig {
        limit_bytes,
        tuning,
        ..Rig::new()
    }
}

/// A block of an origin, window by window; noise that compression can do nothing about where asked for.
fn block(origin: Origin, window: u32, noisy: bool) -> Vec<u8> {
    let rows: Vec<Row> = (window * 60 + 1..=window * 60 + 60)
        .map(|seq| {
            let mut row = row(origin, seq, 0).row;
            // Seq 1 falls on a full hour, so that buckets and steps are the same.
            row.clock.offset_ms = 1_700_002_800_000 - 1_000;
            if noisy {
                let noise = blake3::hash(&[&seq.to_le_bytes()[..], &origin.0].concat());
                row.values = noise
                    .as_bytes()
                    .chunks(4)
                    .take(3)
                    .map(|bytes| {
                        let bytes: [u8; 4] = bytes.try_into().unwrap();
                        Some(i64::from(i32::from_le_bytes(bytes)))
                    })
                    .collect();
            }
            row
        })
        .collect();
    Draft::build(&rows).unwrap().seal(&sign(origin)).encode()
}

fn all(step: Step) -> Query {
    Query {
        origins: Some(vec![PEER]),
        series: "*".into(),
        from_ms: 0,
        to_ms: 1_800_000_000_000,
        step,
        now_ms: None,
    }
}

#[test]
fn what_went_is_answered_from_roll_ups_as_the_rows_would() {
    let mut rig = bounded(256 << 10);
    let (small, mut large) = (rig.open(), bounded(64 << 20));
    let large = large.open();
    let log = row(PEER, 1, 0).row.log;
    define(&small, PEER);
    define(&large, PEER);
    for window in 0..400 {
        let block = block(PEER, window, true);
        small.insert_block(&block).unwrap();
        large.insert_block(&block).unwrap();
        rig.step(&small, A_TURN);
    }
    let stats = small.stats();
    let went = small.gone()[&log].clone();
    assert!(went.len() > 200 * 60, "{stats:?}");
    assert_eq!(stats.gone_rows[&Reason::Budget], went.len());
    let left: u64 = stats.tiers.values().map(|tier| tier.rows).sum();
    assert_eq!(
        left,
        went.len(),
        "every row that went is in just one tier: {:?}",
        stats.tiers
    );
    let coarsest = *stats.tiers.keys().next_back().unwrap();
    assert!(coarsest >= Step::M1, "{:?}", stats.tiers);

    for step in [Step::S10, Step::M1, Step::H1] {
        let (few, whole) = (
            small.query(&all(step)).unwrap(),
            large.query(&all(step)).unwrap(),
        );
        assert_eq!(few.len(), whole.len());
        for (few, whole) in few.iter().zip(&whole) {
            // The generation that is still written may hold the oldest rows, and a step has the name of its coarsest rows.
            let tiers = few.tiers.iter().map(|span| span.tier);
            let coarse: Vec<Step> = tiers.filter(|tier| *tier > Step::Raw).collect();
            assert!(
                !coarse.is_empty() && coarse.is_sorted_by(|a, b| a > b),
                "{coarse:?}"
            );
            assert_eq!(whole.tiers.len(), 1);
            if step >= coarsest {
                assert_eq!((&few.points, &few.extents), (&whole.points, &whole.extents));
            } else {
                let present = |line: &SeriesPoints| {
                    line.extents
                        .iter()
                        .flatten()
                        .map(|extent| extent.count)
                        .sum::<u64>()
                };
                assert_eq!(present(few), present(whole));
                assert!(few.points.iter().all(|(_, value)| value.is_some()
                    || whole.points.iter().any(|(_, value)| value.is_none())));
            }
        }
    }
    // Nobody asks for it again, also after a start.
    assert_eq!(
        small.insert_block(&block(PEER, 0, true)).unwrap(),
        Appended::Known
    );
    let (before, answer) = (small.stats(), small.query(&all(Step::H1)).unwrap());
    small.close().unwrap();
    let small = rig.open();
    let after = small.stats();
    assert_eq!(
        (&after.tiers, &after.gone_rows),
        (&before.tiers, &before.gone_rows)
    );
    assert_eq!(small.gone()[&log], went);
    assert_eq!(small.query(&all(Step::H1)).unwrap(), answer);
}

#[test]
fn a_bound_that_is_lowered_while_the_store_is_open_holds_from_then_on() {
    let (was, is) = (4 << 20, 256 << 10);
    let mut rig = bounded(was);
    let store = rig.open();
    define(&store, PEER);
    for window in 0..600 {
        store.insert_block(&block(PEER, window, true)).unwrap();
        rig.step(&store, A_TURN);
    }
    let full = store.stats();
    assert!(full.bytes > is + was / 16, "{full:?}");
    assert!(full.gone_rows.is_empty(), "{full:?}");

    store.set_limit(is);
    // Generations as large as the old bound asked for are closed by the next write.
    for window in 600..620 {
        store.insert_block(&block(PEER, window, true)).unwrap();
        rig.step(&store, A_TURN);
    }
    let stats = store.stats();
    assert_eq!(stats.limit_bytes, is);
    assert!(stats.bytes <= is + was / 16, "{stats:?}");
    assert!(stats.gone_rows[&Reason::Budget] > 0, "{stats:?}");
}

#[test]
fn an_answer_in_parts_is_the_whole_answer() {
    let mut rig = bounded(256 << 10);
    let store = rig.open();
    define(&store, PEER);
    for window in (0..40).chain(100..400) {
        store.insert_block(&block(PEER, window, true)).unwrap();
        rig.step(&store, A_TURN);
    }
    for step in [Step::Raw, Step::S10, Step::M1, Step::H1] {
        let mut count = 0;
        let mut joined: BTreeMap<String, SeriesPoints> = BTreeMap::new();
        let told = store.query_parts(&all(step), |part| {
            count += 1;
            let name = part.series.name.clone();
            match joined.get_mut(&name) {
                Some(so_far) => so_far.append(part),
                None => drop(joined.insert(name, part)),
            }
            Ok::<(), StoreError>(())
        });
        assert_eq!(told.unwrap(), Told::default());
        let whole = store.query(&all(step)).unwrap();
        assert_eq!(joined.into_values().collect::<Vec<_>>(), whole);
        let gaps = whole[0]
            .points
            .iter()
            .filter(|(_, value)| value.is_none())
            .count();
        assert!(
            count >= 3 && (2..=3).contains(&gaps),
            "{step:?}: {count} parts, {gaps} gaps"
        );
    }
}

#[test]
fn rows_stamped_far_ahead_are_held_and_left_out_until_then() {
    let mut rig = bounded(LIMIT);
    let store = rig.open();
    define(&store, PEER);
    store.insert_block(&block(PEER, 0, false)).unwrap();
    for seq in 61..=70 {
        let mut row = row(PEER, seq, 0).row;
        row.clock.offset_ms += 86_400_000;
        store.append(row.sign(&sign(PEER))).unwrap();
    }
    rig.step(&store, A_TURN);
    let at = |now_ms| Query {
        now_ms,
        ..all(Step::Raw)
    };
    let asked = |query: &Query| {
        let mut rows = 0;
        let told = store.query_parts(query, |part| {
            rows = rows.max(
                part.points
                    .iter()
                    .filter(|(_, value)| value.is_some())
                    .count()
                    + rows * usize::from(part.series.name == "a_total"),
            );
            Ok::<(), StoreError>(())
        });
        (rows, told.unwrap().ahead)
    };
    let now = 1_700_003_000_000;
    let shown = |query: &Query| {
        store.query(query).unwrap()[0]
            .points
            .iter()
            .filter(|(_, value)| value.is_some())
            .count()
    };
    assert_eq!((shown(&at(Some(now))), asked(&at(Some(now))).1), (60, 10));
    assert_eq!(
        (shown(&at(Some(now + 86_400_000))), asked(&at(None)).1),
        (70, 0)
    );
    assert_eq!(store.stats().rows, 70);
}

#[test]
fn one_that_fills_the_disk_with_good_rows_costs_nobody_else_his_history() {
    let mut rig = bounded(4 << 20);
    let store = rig.open();
    define(&store, PEER);
    define(&store, GREEDY);
    for window in 0..60 {
        store.insert_block(&block(PEER, window, true)).unwrap();
    }
    rig.step(&store, A_TURN);
    let all_of_peer = store.held_of(&PEER);
    for window in 0..3_000 {
        store.insert_block(&block(GREEDY, window, true)).unwrap();
        if window % 20 == 0 {
            rig.step(&store, A_TURN);
            assert!(rig.disk.used_bytes() < (4 << 20) + (512 << 10));
        }
    }
    let stats = store.stats();
    assert_eq!(store.held_of(&PEER), all_of_peer, "{stats:?}");
    let gone: Vec<LogId> = store.gone().into_keys().collect();
    assert!(gone.iter().all(|log| log.origin == GREEDY) && !gone.is_empty());
    assert!(
        stats.bytes < 2 << 20,
        "a quarter, and what is left of the rest: {stats:?}"
    );
}

#[test]
fn own_rows_that_every_keeper_has_go_before_those_they_lack_and_copies_before_both() {
    let mut rig = bounded(512 << 10);
    let store = rig.open();
    define(&store, PEER);
    let log = store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    let mut window = 0;
    let mut delivered = IntervalSet::new();
    let mut gone_of_own = IntervalSet::new();
    for seq in 1..=24_000 {
        let noise = blake3::hash(&u32::to_le_bytes(seq));
        let values = noise
            .as_bytes()
            .chunks(8)
            .take(3)
            .map(|bytes| Some(i64::from_le_bytes(bytes.try_into().unwrap())));
        store
            .append_own(u64::from(seq) * 1_000, CLOCK, schema, values.collect())
            .unwrap();
        if seq % 600 == 0 && window < 20 {
            store.insert_block(&block(PEER, window, true)).unwrap();
            window += 1;
        }
        // What was taken first is delivered last.
        if seq > 6_000 {
            delivered.insert(6_000..=seq);
            if seq % 60 == 0 {
                store.delivered(BTreeMap::from([(log, delivered.clone())]));
            }
        }
        if seq % 30 == 0 {
            rig.step(&store, A_TURN);
        }
        if let Some(gone) = store.gone().get(&log).filter(|_| seq % 600 == 0) {
            gone_of_own = gone.clone();
        }
    }
    assert!(
        gone_of_own.first().is_some_and(|first| first > 5_000),
        "{gone_of_own:?}"
    );
    assert!(store.held()[&log].contains(1));
}

#[test]
fn copies_stop_before_own_rows_do_when_the_disk_runs_full_and_both_go_on_after() {
    let mut rig = bounded(LIMIT);
    let store = rig.open();
    define(&store, PEER);
    store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    append_own(&store, schema, 1);
    rig.step(&store, A_TURN);
    let used = rig.disk.used_bytes();
    // A twelfth is free.
    rig.disk.set_capacity(used * 12 / 11);
    rig.step(&store, A_TURN);
    let refused = store.append(row(PEER, 1, 0));
    assert!(matches!(refused, Err(StoreError::NoRoom)), "{refused:?}");
    assert_eq!(
        store.latest(&PEER).unwrap().row.seq,
        1,
        "it is shown all the same"
    );
    assert!(matches!(
        store.insert_block(&block(PEER, 0, false)),
        Err(StoreError::NoRoom)
    ));
    append_own(&store, schema, 2);
    rig.step(&store, A_TURN);
    let stats = store.stats();
    assert_eq!(
        (stats.unkept, store.synced().map(|(_, seq)| seq)),
        (2, Some(2))
    );
    assert!(
        stats.health.contains("rows of other nodes are not kept"),
        "{stats:?}"
    );
    // A thirtieth is free.
    rig.disk.set_capacity(rig.disk.used_bytes() * 30 / 29);
    rig.step(&store, A_TURN);
    append_own(&store, schema, 3);
    rig.step(&store, A_TURN);
    assert_eq!(store.synced().map(|(_, seq)| seq), Some(2));
    assert!(store.stats().health.contains("nothing is kept on disk"));
    rig.disk.set_capacity(1 << 30);
    rig.step(&store, A_TURN);
    rig.step(&store, A_TURN);
    assert_eq!(store.synced().map(|(_, seq)| seq), Some(3));
    assert_eq!(
        (
            store.stats().health.as_str(),
            store.append(row(PEER, 1, 0)).unwrap()
        ),
        ("", Appended::New)
    );
}

#[test]
fn the_floors_are_parts_of_small_disks_and_sizes_on_large_ones() {
    let gib = 1u64 << 30;
    for (size, free, own, copies) in [
        (10 * gib, gib, true, true),
        (10 * gib, gib - 1, true, false),
        (10 * gib, gib / 2 - 1, false, false),
        (1_000 * gib, 2 * gib, true, true),
        (1_000 * gib, 2 * gib - 1, true, false),
        (1_000 * gib, gib / 2 - 1, false, false),
        (0, 0, true, true),
    ] {
        assert_eq!(
            Room::of(size, free),
            Room { own, copies },
            "{free} of {size}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5))]

    /// Blocks of some origins and own rows in any order, with starts in between: the bound holds to within a generation, and
    /// each row is held or gone.
    #[test]
    fn the_bound_holds_whatever_comes_and_no_row_is_forgotten(steps in vec((0u8..12, any::<bool>()), 200..400)) {
        let mut rig = bounded(LIMIT / 2);
        let mut store = rig.open();
        let peers = [Origin([2; 32]), Origin([3; 32]), Origin([4; 32])];
        let begin = |store: &Store| {
            let own = define(store, ME);
            for peer in peers {
                define(store, peer);
            }
            (store.begin_epoch().unwrap(), own)
        };
        let (_, mut schema) = begin(&store);
        let mut windows = [0u32; 3];
        let mut seq = 0;
        let mut taken: BTreeMap<LogId, Seq> = BTreeMap::new();
        for (what, noisy) in steps {
            match what {
                0..9 => {
                    let which = usize::from(what % 3);
                    for _ in 0..8 {
                        let block = block(peers[which], windows[which], noisy);
                        store.insert_block(&block).unwrap();
                        windows[which] += 1;
                    }
                    let log = row(peers[which], 1, 0).row.log;
                    taken.insert(log, windows[which] * 60);
                }
                9 | 10 => {
                    for _ in 0..120 {
                        seq += 1;
                        let (row, _) = append_own(&store, schema, seq);
                        taken.insert(row.row.log, seq);
                    }
                }
                _ => {
                    store.close().unwrap();
                    store = rig.open();
                    (_, schema) = begin(&store);
                    seq = 0;
                }
            }
            rig.step(&store, A_TURN);
            let (used, most) = (rig.disk.used_bytes(), LIMIT / 2 + LIMIT / 16);
            prop_assert!(used <= most, "{} bytes of {}", used, most);
            let (held, gone) = (store.held(), store.gone());
            for (log, last) in &taken {
                let of = |sets: &BTreeMap<LogId, IntervalSet>| sets.get(log).cloned().unwrap_or_default();
                prop_assert_eq!(of(&held).union(&of(&gone)), [1..=*last].into_iter().collect());
                prop_assert!(of(&held).intersect(&of(&gone)).is_empty());
            }
        }
    }
}
