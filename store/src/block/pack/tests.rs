//! Packs: bytes fixed by hand, every run of blocks back as it was, damage.

use super::*;
use crate::block::window_of;
use crate::given;
use crate::row::Row;
use proptest::prelude::*;

#[test]
fn a_pack_has_the_documented_bytes() {
    let blocks = minutes(&[60, 2]);
    let bytes = Pack::encode(&blocks).unwrap();
    let first = encode_first(&blocks).unwrap();
    let mut expected = vec![2];
    expected.extend(given::a_log().to_bytes());
    expected.extend([0, 0, 0, 61, 2]); // first seq, blocks
    expected.extend([60, 0x90, 0xb9, 7, 0xf8, 0xcc, 3]); // rows; boot from 61,000 to 59,000 above
    expected.extend([0x80, 0x89, 0x7a, 0, 1, 0]); // offset 1,000,000, one only and synced
    expected.extend(blocks[0].signature);
    expected.extend([2, 0xd0, 15, 0xe8, 7]); // rows; boot from 1,000 after that to 1,000 above
    expected.extend([0, 0, 1, 0]); // the same offset
    expected.extend(blocks[1].signature);
    assert_eq!(bytes[..expected.len()], expected);
    let (rest, crc) = bytes[expected.len()..].split_at(bytes.len() - expected.len() - 4);
    assert_eq!(crc, crc32c::crc32c(&bytes[..bytes.len() - 4]).to_be_bytes());
    let front = unpack(&rest[1..=usize::from(rest[0])], MAX_RAW_BYTES).unwrap();
    assert_eq!(front[..2], [1, 62], "one schema, of 62 rows");

    expected[0] = 1;
    expected.push(1);
    assert_eq!(first[..expected.len()], expected, "the first version");
    let raw = unpack(&first[expected.len()..first.len() - 4], MAX_RAW_BYTES).unwrap();
    assert_eq!(raw[..2], [1, 62]);
}

#[test]
fn only_a_run_of_blocks_is_packed() {
    let blocks = minutes(&[60, 60, 60]);
    assert!(Pack::encode(&[]).is_err());
    assert!(Pack::encode(&blocks[..1]).is_ok());
    assert!(Pack::encode(&[blocks[0].clone(), blocks[2].clone()]).is_err());
    assert!(Pack::encode(&[blocks[1].clone(), blocks[0].clone()]).is_err());
    assert!(Pack::encode(&minutes(&[60; MAX_PACK_BLOCKS])).is_ok());
    assert!(Pack::encode(&minutes(&[60; MAX_PACK_BLOCKS + 1])).is_err());
}

#[test]
fn rows_too_wide_for_a_pack_are_not_packed() {
    let names: Vec<String> = (0..5_000).map(|i| format!("s{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let schema = given::a_schema(&names);
    let wide = |windows: u32| {
        let blocks = (0..windows).map(|window| {
            let rows: Vec<Row> = (1..=60)
                .map(|i| given::a_row(window * 60 + i, &schema, &vec![Some(7); 5_000]))
                .collect();
            sealed(&rows)
        });
        Pack::encode(&blocks.collect::<Vec<_>>())
    };
    assert_eq!(rows_that_fit(5_000), 209);
    assert!(wide(1).is_ok());
    assert!(matches!(wide(4), Err(FormatError::Limit { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_run_of_blocks_comes_back_as_it_was(rows in given::long_run(), wanted: u64, first: bool, cut: Range<usize>) {
        let blocks = blocks(&rows);
        let bytes = if first { encode_first(&blocks) } else { Pack::encode(&blocks) }.unwrap();
        let pack = Pack::read(&bytes).unwrap();
        let whole = pack.blocks(|_| true).unwrap();
        for (block, back) in blocks.iter().zip(&whole) {
            prop_assert_eq!(block.encode(), back.encode());
            prop_assert_eq!(back.seal().verify(&given::verify), Ok(()));
        }
        prop_assert_eq!(whole.len(), blocks.len());
        let heads: Vec<Head> = blocks.iter().map(|block| block.head().clone()).collect();
        prop_assert_eq!(&Pack::peek(&bytes).unwrap(), &heads);
        prop_assert!(pack.heads().eq(&heads));
        let some = |head: &Head| wanted >> (head.first / 60 % 64) & 1 == 1;
        let picked: Vec<_> = pack.blocks(some).unwrap().iter().map(Block::encode).collect();
        let expected: Vec<_> = blocks.iter().filter(|b| some(b.head())).map(Block::encode).collect();
        prop_assert_eq!(picked, expected);
        let samples: usize = rows.iter().map(Row::samples).sum();
        prop_assert_eq!(pack.sheet().samples(), samples as u64);
        let cut = cut.start % (rows.len() + 1)..cut.end % (rows.len() + 1);
        let part = pack.sheet().columns_of(&[1, 0, 9_999], cut.clone());
        for (series, column) in [1, 0, 9_999].into_iter().zip(part) {
            let of_rows = rows.get(cut.clone()).unwrap_or_default().iter();
            let expected: Vec<_> = of_rows.map(|row| row.values.get(series).copied().flatten()).collect();
            prop_assert_eq!(column, expected);
        }
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_refused(rows in given::long_run(), bit: usize) {
        let mut bytes = Pack::encode(&blocks(&rows)).unwrap();
        prop_assert!(Pack::read(&bytes[..bit % bytes.len()]).is_err());
        given::flip(&mut bytes, bit);
        prop_assert!(Pack::read(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Pack::read(&bytes).is_err());
        let _ = Pack::peek(&[&[1][..], &bytes].concat());
        let _ = Pack::peek(&[&[2][..], &bytes].concat());
    }
}

fn blocks(rows: &[Row]) -> Vec<Block> {
    rows.chunk_by(|a, b| window_of(a.seq) == window_of(b.seq))
        .map(sealed)
        .collect()
}

/// Blocks with so many rows each, from seq 61 on.
fn minutes(counts: &[u8]) -> Vec<Block> {
    let schema = given::a_schema(&["a", "b"]);
    let mut seq = 60;
    let block = |count: &u8| {
        let rows: Vec<Row> = (0..*count)
            .map(|_| {
                seq += 1;
                given::a_row(seq, &schema, &[Some(i64::from(seq) * 3), None])
            })
            .collect();
        sealed(&rows)
    };
    counts.iter().map(block).collect()
}

fn sealed(rows: &[Row]) -> Block {
    Draft::build(rows)
        .unwrap()
        .seal(&given::sign(rows[0].log.origin))
}
