//! Memory of two stores and two replicas over a day of real rows, fed at speed.
//!
//! One side takes the recorded rows as its own, the other keeps them: as deltas against a key row
//! each ten, stored as from their origin, sealed; one row in fifty is lost on the way and comes by
//! repair. Both sides compare digests. Time is told to the replicas, a second a row; the stores
//! have their own threads and clock. The recording is 45 minutes long and begins again.
//! Absent: the flow's own task and the mesh, which read real clocks: `pair` watches those.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use outlast::replica::{Ask, Replica, Request};
use outlast::replica::{Member, digest::Entry};
use outlast_store::{
    Block, Clock, ClockSource, IntervalSet, LogId, Origin, Parcel, SchemaDelta, SchemaHash, Seal,
    SignedRow, Store, StoreError,
};
use outlast_tests::Usage;
use outlast_tests::recording::{self, Tick};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::allocator::live_bytes;
use crate::disk;

/// Rows fed: a day at one a second.
const ROWS: u32 = 24 * HOUR;

const HOUR: u32 = 3_600;

/// After so many rows memory is looked at. The growth that counts is from the third to the last.
const MARKS: [u32; 5] = [0, HOUR, 6 * HOUR, 12 * HOUR, ROWS];

/// Before memory is looked at: sealed blocks wait up to 30 s in memory, and their rows with them,
/// which at this speed is hours of rows.
const WRITTEN: Duration = Duration::from_secs(35);

/// Rows from one key row to the next, as the flow sends them.
const KEY_EVERY: u32 = 10;

/// One row in so many is lost on the way.
const LOST: u32 = 50;

/// What the heap may grow by from a quarter of the day to its end, in bytes, for two stores: 2 KiB
/// for each block sealed meanwhile, which is the engine's index of the generation being written
/// and goes when that turns, and a MiB of what was written since the engine was last opened.
const BOUND: i64 = 2 * (1_080 * (2 << 10) + (1 << 20));

pub(crate) fn measure() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/rows-45min.zst");
    let ticks = recording::load(&file).expect("read the recorded rows");
    let (one, two) = (
        tempfile::tempdir().expect("a scratch directory"),
        tempfile::tempdir().expect("a scratch directory"),
    );
    let mut pair = Pair::new(one.path(), two.path());
    println!(
        "\nfeed, {ROWS} rows at speed      live heap KiB   resident KiB   rows held   repaired"
    );
    let began = Instant::now();
    let mut marks = Vec::new();
    for number in 0..ROWS {
        if MARKS.contains(&number) {
            marks.push(pair.mark(number));
        }
        pair.feed(number, &ticks);
    }
    marks.push(pair.mark(ROWS));
    let growth = marks[4] - marks[2];
    println!(
        "heap from a quarter to the end: {:+} KiB, bound {} KiB: {}; {:.1} s",
        growth / 1_024,
        BOUND / 1_024,
        if growth <= BOUND { "kept" } else { "EXCEEDED" },
        began.elapsed().as_secs_f64()
    );
    assert_eq!(pair.lacking(), 0, "rows the keeper lacks");
}

/// The node that takes rows, and the one that keeps them.
struct Pair {
    taker: Side,
    keeper: Side,
    log: LogId,
    schema: Option<SchemaHash>,
    series: usize,
    key: Option<SignedRow>,
    start: Instant,
    repaired: u64,
}

struct Side {
    store: Store,
    replica: Replica,
    origin: Origin,
}

impl Side {
    fn new(dir: &Path, seed: u8, start: Instant) -> Self {
        let (store, origin) = disk::open(dir, seed);
        let rng = ChaCha8Rng::seed_from_u64(seed.into());
        Self {
            replica: Replica::new(origin, rng, start),
            store,
            origin,
        }
    }
}

impl Pair {
    fn new(one: &Path, two: &Path) -> Self {
        let start = Instant::now();
        let mut taker = Side::new(one, 7, start);
        let mut keeper = Side::new(two, 8, start);
        let members = [taker.origin, keeper.origin].map(Member::new);
        let log = taker.store.begin_epoch().expect("begin an epoch");
        taker.replica.handle_started(log);
        for side in [&mut taker, &mut keeper] {
            side.replica.handle_members(&members, start);
            look(side);
        }
        taker.replica.handle_connected(keeper.origin, start);
        keeper.replica.handle_connected(taker.origin, start);
        Self {
            taker,
            keeper,
            log,
            schema: None,
            series: 0,
            key: None,
            start,
            repaired: 0,
        }
    }

    /// Prints what is in use, once what waited for the disk is written, and returns the heap.
    fn mark(&self, number: u32) -> i64 {
        if number > 0 {
            std::thread::sleep(WRITTEN);
        }
        let heap = i64::try_from(live_bytes()).expect("memory fits");
        let resident = Usage::of(std::process::id()).resident_bytes / 1_024.0;
        println!(
            "{:>25} rows {:15} {resident:14.0} {:11} {:10}",
            number,
            heap / 1_024,
            self.keeper.store.stats().rows,
            self.repaired
        );
        heap
    }

    fn feed(&mut self, number: u32, ticks: &[Tick]) {
        let now = self.start + Duration::from_secs(u64::from(number) + 1);
        let (row, seal) = self.take(number, ticks);
        self.taker
            .replica
            .handle_row(self.log, row.row.seq, row.row.samples() as u64, now);
        self.taker.replica.handle_fresh(self.log, row.row.seq, now);
        if number % LOST == LOST - 1 {
            self.key = None;
        } else {
            self.carry(&row, now);
        }
        if let Some(seal) = seal {
            // Of a window with a lost row it waits for the repair.
            drop(self.keeper.store.apply_seal(seal));
        }
        if number.is_multiple_of(10) {
            look(&mut self.taker);
            look(&mut self.keeper);
            let windows = self.keeper.store.unsealed(Duration::from_millis(1));
            let windows: Vec<_> = windows
                .iter()
                .map(|(log, first, _)| (*log, *first))
                .collect();
            self.keeper.replica.handle_unsealed(&windows, now);
        }
        self.talk(now);
    }

    /// The next tick becomes a row of the taker's.
    fn take(&mut self, number: u32, ticks: &[Tick]) -> (SignedRow, Option<Seal>) {
        let round = number as usize / ticks.len();
        let tick = &ticks[number as usize % ticks.len()];
        if round == 0 && !tick.appended.is_empty() {
            let delta = SchemaDelta {
                parent: self.schema,
                appended: tick.appended.clone(),
            };
            self.series += tick.appended.len();
            for store in [&self.taker.store, &self.keeper.store] {
                let defined = store.define(self.taker.origin, delta.clone());
                self.schema = Some(defined.expect("define the schema"));
            }
        }
        let clock = Clock {
            offset_ms: disk::PLAYED_AT_MS,
            uncertainty_ms: 1,
            source: ClockSource::Ntp,
        };
        let mut values = tick.values.clone();
        values.resize(self.series, None);
        let boot_ms = u64::from(number) * 1_000 + ticks[0].boot_ms;
        let schema = self.schema.expect("the first tick numbers its series");
        let (row, seal) = patiently(|| {
            self.taker
                .store
                .append_own(boot_ms, clock, schema, values.clone())
        });
        ((*row).clone(), seal)
    }

    /// The row crosses as the flow sends it and is stored as from its origin.
    fn carry(&mut self, row: &SignedRow, now: Instant) {
        let arrived = match &self.key {
            Some(key)
                if key.row.schema == row.row.schema && row.row.seq < key.row.seq + KEY_EVERY =>
            {
                let delta = row.delta(&key.row);
                SignedRow::from_delta(&key.row, &delta).expect("a delta against its key")
            }
            _ => {
                let bytes = row.encode();
                self.key = Some(row.clone());
                SignedRow::decode(&bytes).expect("a row as it was encoded")
            }
        };
        patiently(|| self.keeper.store.append(arrived.clone()));
        let (log, seq, samples) = (row.row.log, row.row.seq, row.row.samples() as u64);
        self.keeper.replica.handle_row(log, seq, samples, now);
        self.keeper.replica.handle_fresh(log, seq, now);
    }

    /// Digests and requests cross, both ways, until nobody has more to say.
    fn talk(&mut self, now: Instant) {
        let (taker, keeper) = (self.taker.origin, self.keeper.origin);
        let told: Vec<Vec<Entry>> = digests(&mut self.taker.replica, now);
        for entries in told {
            self.keeper.replica.handle_digest(taker, entries, now);
        }
        for entries in digests(&mut self.keeper.replica, now) {
            self.taker.replica.handle_digest(keeper, entries, now);
        }
        while let Some(request) = self.keeper.replica.poll_request(now) {
            self.repaired += serve(&self.taker, &mut self.keeper, &request, now);
        }
        while let Some(request) = self.taker.replica.poll_request(now) {
            serve(&self.keeper, &mut self.taker, &request, now);
        }
    }

    /// Rows the keeper doesn't hold; the newest window may wait for its repair.
    fn lacking(&self) -> u64 {
        let held = |side: &Side| -> IntervalSet {
            side.store.held().remove(&self.log).unwrap_or_default()
        };
        let settled = ROWS - 60;
        let mut lacking = held(&self.taker).subtract(&held(&self.keeper));
        lacking.remove(settled + 1..=u32::MAX);
        lacking.len()
    }
}

/// Lets a replica hear what its store holds, as the flow does every ten seconds.
fn look(side: &mut Side) {
    let store = &side.store;
    side.replica
        .handle_store(store.held(), store.gone(), store.ready());
}

fn digests(replica: &mut Replica, now: Instant) -> Vec<Vec<Entry>> {
    std::iter::from_fn(|| replica.poll_digest(now).map(|(_, entries)| entries)).collect()
}

/// Answers a request out of one side's store into the other's; returns the rows that brought.
fn serve(from: &Side, to: &mut Side, request: &Request, now: Instant) -> u64 {
    let mut brought = 0;
    match &request.ask {
        Ask::Rows { log, rows } => {
            for range in rows.ranges() {
                let parcels = from.store.export(log, range, 2 << 20).expect("export");
                for parcel in parcels {
                    brought += take_in(to, *log, &parcel);
                }
            }
        }
        Ask::Held { origins } => {
            for origin in origins {
                let held: BTreeMap<_, _> = from.replica.held(origin);
                to.replica
                    .handle_held(request.id, from.origin, *origin, held, now);
            }
        }
        Ask::Seals { windows } => {
            for (log, first) in windows {
                if let Some(seal) = from.store.seal_of(log, *first) {
                    // Already applied is as good.
                    drop(to.store.apply_seal(seal));
                }
            }
        }
    }
    to.replica.handle_done(request.id, now);
    brought
}

fn take_in(to: &mut Side, log: LogId, parcel: &Parcel) -> u64 {
    let (first, last) = match parcel {
        Parcel::Row(bytes) => {
            let row = SignedRow::decode(bytes).expect("a row as exported");
            let seq = row.row.seq;
            patiently(|| to.store.append(row.clone()));
            (seq, seq)
        }
        Parcel::Block(bytes) => {
            let block = Block::read(bytes).expect("a block as exported");
            let span = (block.head().first, block.head().last());
            patiently(|| to.store.insert_block(bytes));
            span
        }
    };
    to.replica.handle_stored(log, first, last);
    u64::from(last - first) + 1
}

/// At speed the disk is behind at times.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, StoreError>) -> T {
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(StoreError::Busy { .. }) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => panic!("{error}"),
        }
    }
}
