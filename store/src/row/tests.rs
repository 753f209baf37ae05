//! Rows and deltas: bytes fixed by hand, round trips, and everything that must be refused.

use super::*;
use crate::given;
use proptest::prelude::*;

#[test]
fn a_row_has_the_documented_bytes() {
    let schema = given::a_schema(&["a"]);
    let values = [Some(0), Some(-1), None, None, Some(300)];
    let row = given::a_row(0x0a0b, &schema, &values);
    let expected = [
        &[1][..],                                          // version
        &[7; 32],                                          // origin
        &[1, 2, 3, 4, 5, 6, 7, 8],                         // store
        &[0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9],             // epoch
        &[0, 0, 0x0a, 0x0b],                               // seq
        &schema.hash.0,                                    // schema
        &[0, 0, 0, 0, 0, 0x27, 0x3a, 0xf8],                // boot time 2,571,000
        &[0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 5, 1], // clock
        &[5, 2, 2, 1],                                     // values, runs
        &[0, 1, 0xd8, 4],                                  // 0, -1, 300
    ];
    assert_eq!(row.canonical(), expected.concat());
    assert_eq!(
        row.message(),
        [b"outlast/row/1\0", &expected.concat()[..]].concat()
    );
    let signed = row.sign(&|_| [0xa5; 64]);
    assert_eq!(
        signed.encode(),
        [&expected.concat()[..], &[0xa5; 64]].concat()
    );
}

#[test]
fn a_delta_has_the_documented_bytes() {
    let schema = given::a_schema(&["a"]);
    let key = given::a_row(5, &schema, &[Some(10), None, Some(3), None, Some(7)]);
    let mut row = given::a_row(7, &schema, &[Some(10), Some(-2), None, None, Some(8)]);
    row.boot_ms += 3;
    let signed = row.sign(&given::sign(key.log.origin));
    let expected = [
        &[2, 5][..],
        &key.content()[..4],
        &[2, 6, 0, 0b10110, 3, 0, 2],
        &signed.signature,
    ];
    assert_eq!(signed.delta(&key), expected.concat());
}

#[test]
fn a_row_without_values_is_a_row() {
    let row = given::a_row(1, &given::a_schema(&["a"]), &[]);
    assert_eq!(Row::decode(&row.canonical()), Ok(row));
}

#[test]
fn other_spellings_of_a_row_are_refused() {
    let row = given::a_row(1, &given::a_schema(&["a"]), &[Some(1), None]);
    let bytes = row.canonical();
    let head = bytes.len() - 4;
    assert_eq!(bytes[head..], [2, 1, 1, 2]);
    for tail in [
        &[2, 1, 0, 1, 2][..], // an empty run
        &[2, 0, 0, 1, 1, 2],  // two empty runs
        &[2, 1, 2, 2],        // a run beyond the end
        &[2, 1, 1, 0x82, 0],  // a long varint
        &[2, 1, 1, 2, 0],     // a byte too many
        &[2, 1, 1],           // a byte too few
        &[0x89, 0x27],        // more values than a row may have
    ] {
        assert!(
            Row::decode(&[&bytes[..head], tail].concat()).is_err(),
            "{tail:?}"
        );
    }
    let mut seq_0 = bytes;
    seq_0[53..57].fill(0);
    assert!(Row::decode(&seq_0).is_err());
}

#[test]
fn a_delta_is_refused_with_another_key_row() {
    let schema = given::a_schema(&["a"]);
    let key = given::a_row(5, &schema, &[Some(10)]);
    let row = given::a_row(7, &schema, &[Some(11)]).sign(&given::sign(key.log.origin));
    let delta = row.delta(&key);
    assert_eq!(delta_key(&delta), Ok(Some(5)));
    assert_eq!(SignedRow::from_delta(&key, &delta), Ok(row));
    let mut other = key;
    other.values = vec![Some(12)];
    assert!(SignedRow::from_delta(&other, &delta).is_err());
    assert!(SignedRow::from_delta(&given::a_row(4, &schema, &[Some(10)]), &delta).is_err());
}

#[test]
fn a_row_that_no_key_serves_travels_whole() {
    let schema = given::a_schema(&["a"]);
    let key = given::a_row(5, &schema, &[Some(10)]);
    let row = given::a_row(5, &schema, &[Some(11)]).sign(&given::sign(key.log.origin));
    assert_eq!(row.delta(&key), row.encode());
    assert_eq!(delta_key(&row.encode()), Ok(None));
    assert_eq!(SignedRow::from_delta(&key, &row.encode()), Ok(row));
}

proptest! {
    #[test]
    fn every_row_comes_back(row in given::row()) {
        let bytes = row.canonical();
        prop_assert_eq!(Row::decode(&bytes), Ok(row.clone()));
        let signed = row.sign(&given::sign(Origin([1; 32])));
        prop_assert_eq!(SignedRow::decode(&signed.encode()), Ok(signed));
    }

    #[test]
    fn every_delta_comes_back(key in given::row(), mut row in given::row(), ahead in 1u32..100, keep: [bool; 4]) {
        row.log = key.log;
        row.seq = key.seq.saturating_add(ahead);
        if keep[0] { row.schema = key.schema; }
        if keep[1] { row.clock = key.clock; }
        if keep[2] { row.values.clone_from(&key.values); }
        if keep[3] { row.boot_ms = key.boot_ms.wrapping_add(1_000 * u64::from(ahead)); }
        let signed = row.sign(&given::sign(key.log.origin));
        let bytes = signed.delta(&key);
        prop_assert!(bytes.len() <= signed.encode().len());
        prop_assert_eq!(SignedRow::from_delta(&key, &bytes), Ok(signed));
    }

    #[test]
    fn a_flipped_bit_or_a_cut_never_verifies(key in given::row(), mut row in given::row(), bit: usize) {
        (row.log, row.schema, row.clock) = (key.log, key.schema, key.clock);
        row.seq = key.seq.saturating_add(1);
        row.values.resize(key.values.len(), Some(3));
        let signed = row.sign(&given::sign(key.log.origin));
        for (whole, mut bytes) in [(true, signed.encode()), (false, signed.delta(&key))] {
            let read = |bytes: &[u8]| if whole { SignedRow::decode(bytes) } else { SignedRow::from_delta(&key, bytes) };
            prop_assert!(read(&bytes[..bit % bytes.len()]).is_err());
            given::flip(&mut bytes, bit);
            if let Ok(other) = read(&bytes) {
                prop_assert!(other.verify(&given::verify).is_err());
            }
        }
    }

    #[test]
    fn what_is_read_is_what_would_be_written(key in given::row(), row in given::row(), noise in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..4)) {
        let mut bytes = row.sign(&given::sign(key.log.origin)).encode();
        for (at, byte) in noise {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(read) = SignedRow::decode(&bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(key in given::row(), mut bytes in proptest::collection::vec(any::<u8>(), 0..300), version in 0u8..4) {
        if let Some(first) = bytes.first_mut() { *first = version; }
        let _ = (SignedRow::decode(&bytes), SignedRow::from_delta(&key, &bytes), delta_key(&bytes));
        // Past the check of the key row, where a stranger's bytes decide.
        let mut reader = Reader::new(&bytes, "a delta row");
        let _ = delta::read_delta(&mut reader, &key);
    }
}
