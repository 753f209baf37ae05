//! The kept inputs, and what today's encoders write, run through every target.

use super::*;
use crate::block::{encode_first, inside, put_heads};
use crate::rollup::{Fold, rollups};
use crate::{Draft, Kind, Step};

const STORE: &str = "store";

#[test]
fn kept_inputs_are_survived() {
    kept::replay(STORE, TARGETS);
}

#[test]
fn what_encoders_write_is_taken() {
    kept::sow(STORE, TARGETS, seeds);
}

#[test]
fn released_encodings_are_written_as_ever() {
    let rows = rows();
    let signed = |row: &Row| row.clone().sign(&|_| [7; 64]);
    let pin = |name, bytes: &[u8]| pinned::pinned(STORE, name, bytes);
    let ledger = |kind, body: &[u8]| {
        let mut out = Vec::new();
        record::put(&mut out, kind, body);
        out
    };
    pin("row", &signed(&rows[1]).encode());
    pin("row-message", &rows[1].message());
    pin("delta-row", &signed(&rows[1]).delta(&key_row()));
    pin("spool-record", &ledger(1, &signed(&rows[1]).encode()));
    // The columns before packing: how zstd packs them may change, and any frame of the same columns is read.
    let block = block_of(&rows);
    pin("block-inside", &inside(&block));
    pin("block-content", &block.seal().content);
    pin(
        "pack-heads",
        &put_heads(1, std::slice::from_ref(&block)).unwrap(),
    );
    pin("seal", &block.seal().encode());
    pin("seal-message", &block.seal().message());
    let ranges: IntervalSet = [1..=60, 62..=62, 70..=4_000].into_iter().collect();
    pin("intervals", &postcard::to_stdvec(&ranges).unwrap());
    let delta = delta_of(Some(SchemaHash([1; 32])));
    pin("schema", &delta.encode());
    pin("schema-hash", &delta.hash().0);
    pin("schema-value", &schema::encode_value(&delta));
    let log = key_row().log;
    pin("block-key", &BlockKey { log, first: 61 }.encode());
    pin("gone-key", &gone::GoneKey { log, first: 61 }.encode());
    let gone = gone::Gone {
        last: 99,
        reason: gone::Reason::Unwritten,
    };
    pin("gone-value", &gone.encode());
    // Before packing, as with blocks.
    pin(
        "rollup-inside",
        &crate::rollup::inside(&rollup_of(Step::S10)),
    );
    pin("rollup-record-head", &rollup_of(Step::H1)[..60]);
}

/// As this release's first build packed it: another zstd must go on reading it.
#[test]
fn a_block_of_the_first_release_is_read() {
    let block = block_of(&rows());
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/released/store/block.bin"
    );
    if std::env::var_os("BLESS").is_some() && !std::path::Path::new(path).exists() {
        std::fs::write(path, block.encode()).unwrap();
    }
    let released = std::fs::read(path).unwrap();
    let read = Block::decode(&released, &|_, _, _| true).unwrap();
    assert_eq!((read.rows(), read.seal()), (rows(), block.seal()));
}

/// As both versions were packed by the builds that brought them.
#[test]
fn packs_of_every_release_are_read() {
    let rows = rows();
    let blocks: Vec<Block> = [&rows[..], &later(&rows)].map(block_of).into();
    type Encode = fn(&[Block]) -> Result<Vec<u8>, crate::FormatError>;
    let versions: [(&str, Encode); 2] = [("pack-1", encode_first), ("pack-2", Pack::encode)];
    for (name, encode) in versions {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/released/store");
        let path = std::path::Path::new(dir).join(format!("{name}.bin"));
        if std::env::var_os("BLESS").is_some() && !path.exists() {
            std::fs::write(&path, encode(&blocks).unwrap()).unwrap();
        }
        let read = Pack::read(&std::fs::read(path).unwrap()).unwrap();
        let back = read.blocks(|_| true).unwrap();
        let encoded = |blocks: &[Block]| blocks.iter().map(Block::encode).collect::<Vec<_>>();
        assert_eq!(encoded(&back), encoded(&blocks), "{name}");
    }
}

/// The rows of the window after.
fn later(rows: &[Row]) -> Vec<Row> {
    let mut later = rows.to_vec();
    for row in &mut later {
        row.seq += 60;
        row.boot_ms += 60_000;
    }
    later
}

#[expect(clippy::too_many_lines, reason = "a flat table, one entry a target")]
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let (key, rows) = (key_row(), rows());
    let signed = |row: &Row| row.clone().sign(&|_| [7; 64]);
    match target {
        "row" => vec![signed(&key).encode(), signed(&rows[59]).encode()],
        "delta" => {
            let mut other = signed(&rows[1]);
            let near = signed(&rows[1]).delta(&key);
            other.row.schema = SchemaHash([9; 32]);
            other.row.values.push(None);
            other.row.clock.offset_ms -= 7;
            vec![near, other.delta(&key), signed(&key).encode()]
        }
        "block" => {
            let encoded = [&rows[..], &rows[3..9], &rows[..1]].map(|run| {
                let mut bytes = block_of(run).encode();
                bytes.truncate(bytes.len() - 4);
                bytes
            });
            encoded.into()
        }
        "columns" => [&rows[..], &rows[3..9], &rows[..1]]
            .map(|run| inside(&block_of(run)))
            .into(),
        "pack" => {
            let first = [&rows[..], &rows[..1]].map(|run| encode_first(&[block_of(run)]).unwrap());
            let second = [&rows[..], &rows[..1]].map(|run| Pack::encode(&[block_of(run)]).unwrap());
            let mut encoded = [first, second].concat();
            for bytes in &mut encoded {
                bytes.truncate(bytes.len() - 4);
            }
            encoded
        }
        "seal" => vec![block_of(&rows).seal().encode()],
        "rollup" => [Step::S10, Step::M1, Step::H1].map(rollup_of).into(),
        "rollup-columns" => [Step::S10, Step::M1, Step::H1]
            .map(|tier| crate::rollup::inside(&rollup_of(tier)))
            .into(),
        "schema" => vec![
            delta_of(None).encode(),
            delta_of(Some(SchemaHash([1; 32]))).encode(),
        ],
        "intervals" => [&[][..], &[1..=60, 62..=62, 70..=4_000], &[0..=Seq::MAX]]
            .map(|ranges| {
                let set: IntervalSet = ranges.iter().cloned().collect();
                postcard::to_stdvec(&set).unwrap()
            })
            .into(),
        "bitmap" => vec![b"\x00\x01\x05\x01\x03\xff\x02\x02\x01\x03\x80\x01".to_vec()],
        "records" => vec![vec![], vec![0, 3, 1, 0, 40, 255], vec![0, 20, 7, 9]],
        "files" => {
            let (mut spool, mut schemas, mut gone) = (Vec::new(), Vec::new(), Vec::new());
            record::put(&mut spool, 1, &signed(&rows[4]).encode());
            let delta = delta_of(Some(SchemaHash([1; 32])));
            let name = schema::SchemaKey {
                origin: key.log.origin,
                hash: delta.hash(),
            };
            let body = [&name.encode()[..], &schema::encode_value(&delta)].concat();
            record::put(&mut schemas, 1, &body);
            let name = gone::GoneKey {
                log: key.log,
                first: 9,
            };
            let value = gone::Gone {
                last: 70,
                reason: gone::Reason::Budget,
            };
            record::put(
                &mut gone,
                1,
                &[&name.encode()[..], &value.encode()].concat(),
            );
            vec![spool, schemas, gone]
        }
        "keys" => {
            let block = BlockKey {
                log: key.log,
                first: 61,
            };
            let range = gone::GoneKey {
                log: key.log,
                first: 61,
            };
            let schema = schema::SchemaKey {
                origin: key.log.origin,
                hash: SchemaHash([3; 32]),
            };
            let gone = gone::Gone {
                last: 99,
                reason: gone::Reason::Damaged,
            }
            .encode();
            let with = |kind: u8, bytes: &[u8]| [&[kind][..], bytes].concat();
            vec![
                with(0, &block.encode()),
                with(1, &range.encode()),
                with(2, &schema.encode()),
                with(3, &gone[..gone.len() - 4]),
                with(4, &delta_of(None).encode()),
            ]
        }
        "pattern" => [
            "*",
            "node_network_*",
            r#"node_cpu_seconds_total{cpu="0",mode="*"}"#,
            r#"a{b="\"\\[a-z]?"}"#,
        ]
        .map(|text| text.as_bytes().to_vec())
        .into(),
        other => panic!("no seeds for {other}"),
    }
}

fn delta_of(parent: Option<SchemaHash>) -> SchemaDelta {
    let load = Series::new("node_load1", [], "", Kind::Gauge, -2).unwrap();
    SchemaDelta {
        parent,
        appended: vec![a_series(), load],
    }
}

fn rollup_of(tier: Step) -> Vec<u8> {
    let mut fold = Fold::new(tier);
    fold.block(&block_of(&rows()), &[1..=Seq::MAX].into_iter().collect());
    rollups(&key_row().log, tier, &fold.finish()).remove(0)
}

fn block_of(rows: &[Row]) -> Block {
    Draft::build(rows).unwrap().seal(&|_| [7; 64])
}

/// The window of the key row: counters that grow, a gauge with holes, one change of schema, one step of the clock.
fn rows() -> Vec<Row> {
    let row = |i: u32| {
        let mut row = key_row();
        row.seq += i;
        row.boot_ms += 1_000 * u64::from(i) + u64::from(i % 7);
        let i = i64::from(i);
        row.values = vec![
            Some(1 + 100 * i),
            (i % 3 > 0).then_some(-i),
            Some(-3),
            Some(i64::MAX - i),
            None,
        ];
        if i >= 40 {
            row.schema = SchemaHash([9; 32]);
            row.clock.offset_ms += 250;
            row.values.push(Some(i * i));
        }
        row
    };
    (0..60).map(row).collect()
}
