//! Whole records that a liar put inside its own row or block: found when a power cut or a flipped bit breaks what they lie
//! in, and believed only where their origin signed them.

use super::*;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::key::block::BlockKey;
use crate::record;
use crate::varint::Reader;

/// A schema wide enough for a record among the values.
fn wide() -> SchemaDelta {
    let gauge = |at: usize| Series::new(format!("s{at}"), [], "", Kind::Gauge, 0).unwrap();
    SchemaDelta {
        parent: None,
        appended: (0..600).map(gauge).collect(),
    }
}

/// Values whose encoding is these bytes. None: some of them are no varint.
fn values_spelling(bytes: &[u8]) -> Option<Vec<Option<i64>>> {
    let mut reader = Reader::new(bytes, "bytes");
    let mut values = Vec::new();
    while !reader.clone().rest().is_empty() {
        values.push(Some(reader.i64().ok()?));
    }
    Some(values)
}

/// A row of `log` that its origin never signed.
fn unsigned(log: LogId, salt: u8) -> SignedRow {
    let row = Row {
        log,
        seq: 2,
        schema: SchemaHash([9; 32]),
        boot_ms: 4_096,
        clock: CLOCK,
        values: vec![Some(1); 100],
    };
    row.sign(&|_| [salt; 64])
}

/// A row the peer signed, with a record of an unsigned row of `log` in its values.
fn outer(log: LogId, seq: Seq) -> SignedRow {
    let spelled = (0..128).find_map(|salt| {
        let mut inner = Vec::new();
        record::put(&mut inner, 1, &unsigned(log, salt).encode());
        values_spelling(&inner)
    });
    let mut row = row(PEER, seq, 0).row;
    row.schema = wide().hash();
    row.values = spelled.expect("some checksum is a varint");
    row.sign(&sign(PEER))
}

#[test]
fn a_row_inside_the_values_of_a_torn_or_flipped_row_is_not_held_and_rows_behind_it_are() {
    let dir = TempDir::new().unwrap();
    let in_spool = Path::new("spool/00000001");
    let segment = dir.path().join(in_spool);
    let store = open(dir.path(), ME);
    let log = row(ME, 1, 0).row.log;
    define(&store, ME);
    store.define(PEER, wide()).unwrap();
    store.append(row(ME, 1, 0)).unwrap();
    store.sync().unwrap();
    let before = fs::metadata(&segment).unwrap().len() as usize;
    store.append(outer(log, 1)).unwrap();
    store.sync().unwrap();
    let end = fs::metadata(&segment).unwrap().len() as usize;
    store.append(row(ME, 3, 0)).unwrap();
    store.append(row(PEER, 2, 0)).unwrap();
    store.close().unwrap();

    let whole = fs::read(&segment).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let torn = whole[..end - 1].to_vec();
    let damages = [
        (flipped(before), 3),
        (flipped(before + 4), 3),
        (flipped(end - 1), 3),
        (torn, 1),
    ];
    for (bytes, rows) in damages {
        let place = TempDir::new().unwrap();
        for file in files_below(dir.path()) {
            let copy = place.path().join(file.strip_prefix(dir.path()).unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(file, copy).unwrap();
        }
        fs::write(place.path().join(in_spool), &bytes).unwrap();
        // Again after what was found has been sealed.
        for _ in 0..2 {
            let store = open(place.path(), ME);
            assert!(!store.holds(&log, 2..=2), "nobody signed it");
            assert_eq!(store.stats().rows, rows);
            let seals = store.seal_closed(&log);
            assert!(seals.iter().all(|seal| seal.count == 1), "{seals:?}");
            store.close().unwrap();
        }
    }
}

#[test]
fn what_lies_inside_a_damaged_block_puts_no_other_there_and_takes_none_out() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("gen-000001");
    let mut made = blocks_of(PEER, 3).into_iter();
    let mut made = || made.next().unwrap();
    let (before, broken, behind) = (made(), made(), made());
    let forged = {
        let rows: Vec<Row> = (1..=60).map(|seq| row(ME, seq, 0).row).collect();
        Draft::build(&rows).unwrap().seal(&sign(PEER)).encode()
    };
    let key = |origin, first| {
        let log = row(origin, 1, 0).row.log;
        BlockKey { log, first }.encode()
    };
    let (key_of_forged, key_before) = (key(ME, 1), key(PEER, 1));
    let stamp = [&[1][..], &crc32c::crc32c(&forged).to_le_bytes()].concat();
    let len = [key_of_forged.len() as u8];
    let mut inside = broken;
    let put = [&len[..], &key_of_forged, &stamp, &forged].concat();
    record::put(&mut inside, 1, &put);
    record::put(&mut inside, 2, &[&len[..], &key_before].concat());
    let mut engine = Engine::open(&Disk::Real, &path).unwrap();
    for (first, block) in [(1, &before), (61, &inside), (121, &behind)] {
        engine.put(&key(PEER, first), block).unwrap();
    }
    engine.sync().unwrap();
    drop(engine);
    let waiting = path.join("waiting");
    let mut bytes = fs::read(&waiting).unwrap();
    let at = record::size(1 + BlockKey::LEN + 5 + before.len());
    bytes[at + 60] ^= 1;
    fs::write(&waiting, bytes).unwrap();

    let mut engine = Engine::open_believing(&Disk::Real, &path, &verify).unwrap();
    assert_eq!(engine.get(&key_of_forged), Ok(None), "not its origin's");
    assert_eq!(engine.get(&key_before), Ok(Some(before.clone())));
    assert_eq!(engine.get(&key(PEER, 61)), Ok(None), "what the bit hit");
    assert_eq!(engine.get(&key(PEER, 121)), Ok(Some(behind)));
    drop(engine);
    let mut without_keys = Engine::open(&Disk::Real, &path).unwrap();
    assert_eq!(without_keys.get(&key(PEER, 121)), Ok(None));
    assert_eq!(without_keys.get(&key_before), Ok(Some(before)));
}
