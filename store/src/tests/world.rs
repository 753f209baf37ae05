//! What the tests of the store open, put in and break.

use super::*;

pub(super) fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        dir: dir.to_owned(),
        limit_bytes: 64 << 20,
        sync_every: Duration::from_millis(20),
        check: None,
    }
}

pub(super) fn tuning() -> Tuning {
    Tuning {
        generation_bytes: 64 << 20,
        generation_age: Duration::from_secs(86_400),
        flush_every: Duration::from_millis(200),
        reopen_bytes: 4 << 20,
        pack_blocks: 30,
        packs_at_close: 16,
        open_deadline: Duration::from_secs(60),
        segment_bytes: 1 << 20,
    }
}

pub(super) fn keys(origin: Origin) -> Keys {
    Keys {
        origin,
        sign: Box::new(sign(origin)),
        verify: Box::new(verify),
    }
}

pub(super) fn open(dir: &Path, origin: Origin) -> Store {
    let store = Store::open_tuned(config(dir), keys(origin), tuning()).unwrap();
    wait_ready(&store);
    store
}

pub(super) fn wait_ready(store: &Store) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !store.ready() {
        assert!(
            Instant::now() < deadline,
            "generations did not open in time"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(super) fn delta() -> SchemaDelta {
    let series = |name: &str, kind| Series::new(name, [], "bytes", kind, 0).unwrap();
    let appended = vec![
        series("a_total", Kind::Counter),
        series("b", Kind::Gauge),
        series("c", Kind::Gauge),
    ];
    SchemaDelta {
        parent: None,
        appended,
    }
}

pub(super) fn define(store: &Store, origin: Origin) -> SchemaHash {
    store.define(origin, delta()).unwrap()
}

pub(super) fn values(seq: Seq) -> Vec<Option<i64>> {
    let seq = i64::from(seq);
    vec![
        Some(seq * 1_000),
        (seq % 7 != 0).then_some(seq % 13),
        Some(-seq),
    ]
}

pub(super) fn append_own(
    store: &Store,
    schema: SchemaHash,
    seq: Seq,
) -> (std::sync::Arc<SignedRow>, Option<Seal>) {
    let appended = store
        .append_own(u64::from(seq) * 1_000, CLOCK, schema, values(seq))
        .unwrap();
    assert_eq!(appended.0.row.seq, seq);
    appended
}

pub(super) fn row(origin: Origin, seq: Seq, salt: i64) -> SignedRow {
    let epoch = Epoch {
        counter: 1,
        nonce: 77,
    };
    let mut values = values(seq);
    values[2] = Some(salt);
    let row = Row {
        log: LogId {
            origin,
            store: StoreId(5),
            epoch,
        },
        seq,
        schema: delta().hash(),
        boot_ms: u64::from(seq) * 1_000,
        clock: CLOCK,
        values,
    };
    row.sign(&sign(origin))
}

pub(super) fn blocks_of(origin: Origin, windows: u32) -> Vec<Vec<u8>> {
    let rows = |window: u32| {
        (window * 60 + 1..=window * 60 + 60)
            .map(|seq| row(origin, seq, 0).row)
            .collect::<Vec<_>>()
    };
    (0..windows)
        .map(|window| {
            Draft::build(&rows(window))
                .unwrap()
                .seal(&sign(origin))
                .encode()
        })
        .collect()
}

pub(super) fn insert_all(store: &Store, blocks: &[Vec<u8>]) {
    for block in blocks {
        assert_eq!(store.insert_block(block).unwrap(), Appended::New);
    }
}

pub(super) fn noise(seq: Seq) -> Vec<Option<i64>> {
    let one = |of: u8| {
        let hash = blake3::hash(&[&seq.to_le_bytes()[..], &[of]].concat());
        i64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
    };
    (0..3).map(|of| Some(one(of))).collect()
}

/// Blocks that compression can do nothing about.
pub(super) fn noisy_blocks(origin: Origin, windows: u32) -> Vec<Vec<u8>> {
    let block = |window: u32| {
        let rows: Vec<Row> = (window * 60 + 1..=window * 60 + 60)
            .map(|seq| {
                let mut row = row(origin, seq, 0).row;
                row.values = noise(seq);
                row
            })
            .collect();
        Draft::build(&rows).unwrap().seal(&sign(origin)).encode()
    };
    (0..windows).map(block).collect()
}

pub(super) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}

pub(super) fn cut_metadata(generation: &Path) {
    for file in files_below(&generation.join("metadata")) {
        let len = fs::metadata(&file).unwrap().len();
        fs::File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_len(len / 2)
            .unwrap();
    }
}

pub(super) fn garble_everything(generation: &Path) {
    for file in files_below(generation) {
        let len = fs::metadata(&file).unwrap().len() as usize;
        fs::write(&file, vec![0xa5; len]).unwrap();
    }
}

pub(super) fn flip_in_the_middle(generation: &Path) {
    for file in files_below(&generation.join("slabs")) {
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x10;
            fs::write(&file, bytes).unwrap();
        }
    }
}

impl Store {
    pub(super) fn latest_in_tail(&self, log: &LogId) -> Box<SignedRow> {
        let parcels = self.export(log, 1..=Seq::MAX, usize::MAX).unwrap();
        let Some(Parcel::Row(bytes)) = parcels.last() else {
            panic!("a row in the tail")
        };
        Box::new(SignedRow::decode(bytes).unwrap())
    }
}
