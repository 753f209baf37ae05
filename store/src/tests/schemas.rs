//! The schemas a store keeps: on disk before the rows that need them, and no longer than they do.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::rig::Rig;
use super::*;

const AN_HOUR: Duration = Duration::from_secs(3_600);

fn file_bytes(rig: &Rig) -> usize {
    let file = rig.disk().read(Path::new("/store/schemas"));
    file.unwrap().len()
}

/// Series whose names make them a tenth of what an origin may define.
fn large(parent: Option<SchemaHash>, name: &str) -> SchemaDelta {
    let series = |at: usize| {
        let name = format!("{name}{at:0>120}");
        Series::new(name, [], "", Kind::Gauge, 0).unwrap()
    };
    SchemaDelta {
        parent,
        appended: (0..2_000).map(series).collect(),
    }
}

/// Time for more than one look, each of a few turns of the writer.
fn a_day(rig: &mut Rig, store: &Store) {
    (0..24).for_each(|_| rig.step(store, AN_HOUR));
}

fn row_of(schema: SchemaHash, seq: Seq) -> Row {
    Row {
        schema,
        ..row(PEER, seq, 0).row
    }
}

#[test]
fn a_schema_and_its_rows_are_taken_at_once_on_a_stalled_disk_and_lie_there_together_later() {
    let mut rig = Rig::new();
    let store = rig.open();
    rig.disk.stall(true);
    define(&store, PEER);
    let own = define(&store, ME);
    let log = store.begin_epoch().unwrap();
    append_own(&store, own, 1);
    assert_eq!(store.append(row(PEER, 1, 0)).unwrap(), Appended::New);
    rig.step(&store, Duration::from_secs(1));
    assert!(!rig.disk().exists(Path::new("/store/schemas")));
    rig.disk.stall(false);
    rig.step(&store, Duration::from_secs(1));
    drop(store);
    rig.disk.power_cut(&mut ChaCha8Rng::seed_from_u64(1));
    let store = rig.open();
    assert!(store.holds(&log, 1..=1) && store.holds(&row(PEER, 1, 0).row.log, 1..=1));
    assert!(store.schema(&own).is_some() && store.schema(&delta().hash()).is_some());
}

#[test]
fn while_the_disk_takes_nothing_schemas_of_others_wait_up_to_a_bound() {
    let mut rig = Rig::new();
    let store = rig.open();
    rig.disk.stall(true);
    let origin = |number: u8| Origin([100 + number; 32]);
    let refused = (0..60).find_map(|number| {
        let delta = large(None, &format!("s{number}"));
        store.define(origin(number), delta).err()
    });
    let Some(StoreError::Busy { held, limit }) = refused else {
        panic!("{refused:?}");
    };
    assert!(held <= limit && limit == 8 << 20, "{held} of {limit}");
    rig.disk.stall(false);
    rig.step(&store, Duration::from_secs(1));
    assert!(store.define(origin(99), large(None, "again")).is_ok());
}

#[test]
fn the_schemas_of_an_origin_of_which_nothing_is_held_are_forgotten_an_hour_after_their_last_use() {
    let mut rig = Rig::new();
    let store = rig.open();
    let define_large = |name: &str| store.define(PEER, large(None, name)).unwrap();
    let gone: Vec<SchemaHash> = (0..6).map(|at| define_large(&format!("d{at}"))).collect();
    let own = define(&store, ME);
    store.begin_epoch().unwrap();
    append_own(&store, own, 1);
    rig.step(&store, Duration::from_secs(1));
    let long = file_bytes(&rig);
    assert!(long > 1 << 20, "{long}");
    let known = |store: &Store| {
        gone.iter()
            .filter(|hash| store.schema_delta(hash).is_some())
            .count()
    };
    rig.step(&store, AN_HOUR / 2);
    assert_eq!(known(&store), 6, "their rows may be on their way");
    drop(store);
    let store = rig.open();
    rig.step(&store, AN_HOUR / 2);
    assert_eq!(known(&store), 6, "nor does a start make them old");
    a_day(&mut rig, &store);
    assert_eq!(known(&store), 0);
    assert!(file_bytes(&rig) < 1 << 10, "{}", file_bytes(&rig));
    drop(store);
    let store = rig.open();
    assert!(store.schema(&own).is_some());
    assert_eq!(known(&store), 0);
}

/// Two machines with the same series share a schema, which has the name of its content.
#[test]
fn a_schema_stays_for_the_rows_of_one_origin_though_another_defined_it_and_is_gone() {
    let mut rig = Rig::new();
    let store = rig.open();
    let departed = Origin([77; 32]);
    let shared = store.define(departed, delta()).unwrap();
    assert_eq!(define(&store, PEER), shared);
    insert_all(&store, &blocks_of(PEER, 2));
    for at in 0..6 {
        store
            .define(departed, large(None, &format!("d{at}")))
            .unwrap();
    }
    let forgotten = large(None, "d0").hash();
    a_day(&mut rig, &store);
    assert!(store.schema_delta(&forgotten).is_none());
    assert!(store.schema(&shared).is_some());
}

#[test]
fn of_an_origin_s_many_schemas_those_stay_that_a_block_a_row_or_another_of_them_needs() {
    let mut rig = Rig::new();
    let store = rig.open();
    let define = |parent, name: &str| store.define(PEER, large(parent, name)).unwrap();
    let first = define(None, "a");
    let second = define(Some(first), "b");
    let of_a_row = define(None, "c");
    let idle: Vec<SchemaHash> = (0..8).map(|at| define(None, &format!("d{at}"))).collect();
    let rows: Vec<Row> = (1..=60).map(|seq| row_of(second, seq)).collect();
    let block = Draft::build(&rows).unwrap().seal(&sign(PEER));
    store.insert_block(&block.encode()).unwrap();
    let last = row_of(of_a_row, 61).sign(&sign(PEER));
    store.append(last).unwrap();
    rig.step(&store, Duration::from_secs(30));
    let long = file_bytes(&rig);
    assert!(long > 2 << 20, "{long}");
    a_day(&mut rig, &store);
    let kept = |store: &Store, hash: &SchemaHash| store.schema_delta(hash).is_some();
    assert!(!idle.iter().any(|hash| kept(&store, hash)));
    assert!(
        file_bytes(&rig) < long / 2,
        "{} of {long}",
        file_bytes(&rig)
    );
    // There is room again for as many.
    for at in 0..8 {
        define(None, &format!("e{at}"));
    }
    drop(store);
    let store = rig.open();
    for hash in [first, second, of_a_row] {
        assert!(store.schema(&hash).is_some());
    }
    assert!(!idle.iter().any(|hash| kept(&store, hash)));
}
