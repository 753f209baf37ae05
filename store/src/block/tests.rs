//! Blocks and seals: bytes fixed by hand, round trips, and forgeries that their origin itself signed.

use super::*;
use crate::given;
use crate::sample::ClockSource;
use proptest::prelude::*;

#[test]
fn windows_begin_after_every_sixtieth_row() {
    for (seq, window) in [
        (1, 1..=60),
        (60, 1..=60),
        (61, 61..=120),
        (120, 61..=120),
        (u32::MAX, 4_294_967_281..=u32::MAX),
    ] {
        assert_eq!(window_of(seq), window);
    }
}

#[test]
fn a_block_has_the_documented_bytes() {
    let rows = three_rows();
    let draft = Draft::build(&rows).unwrap();
    let mut head = vec![1];
    head.extend(rows[0].log.to_bytes());
    head.extend([0, 0, 0, 61, 3]); // first seq, rows
    head.extend([0xc8, 0xdc, 3, 0xd0, 15]); // boot times from 61,000 to 2,000 above
    head.extend([0x80, 0x89, 0x7a, 10, 1, 10]); // offsets from 1,000,000 to 10 above; the first synced is 10 above
    let raw = three_rows_raw();
    assert_eq!(draft.raw, raw);
    let content = *blake3::hash(&[DOMAIN, &head, &raw].concat()).as_bytes();
    assert_eq!(draft.content(), content);

    let bytes = draft.seal(&given::sign(rows[0].log.origin)).encode();
    let run = [&rows[0].log.to_bytes()[..], &[0, 0, 0, 61, 3]].concat();
    let signature =
        given::sign(rows[0].log.origin)(&[b"outlast/seal/1\0", &run[..], &content].concat());
    let frame = zstd::bulk::compress(&raw, 3).unwrap();
    let body = [&head[..], &signature, &[1], &frame].concat();
    assert_eq!(
        bytes,
        [&body[..], &crc32c::crc32c(&body).to_be_bytes()].concat()
    );
    let seal = Block::read(&bytes).unwrap().seal();
    assert_eq!(
        seal.encode(),
        [&[1][..], &run, &content, &signature].concat()
    );
}

#[test]
fn the_content_of_a_block_never_changes() {
    let rows = three_rows();
    let hash = blake3::Hash::from_bytes(Draft::build(&rows).unwrap().content());
    assert_eq!(
        hash.to_hex().as_str(),
        "96e9a6e401a067e47c4004cea19cf61835b2c389846821b9d23f78ea379f5498"
    );
}

#[test]
fn only_a_run_inside_one_window_is_a_block() {
    let schema = given::a_schema(&["a"]);
    let row = |seq| given::a_row(seq, &schema, &[Some(1)]);
    let build = |seqs: &[u32]| {
        Draft::build(&seqs.iter().map(|&seq| row(seq)).collect::<Vec<_>>()).map(drop)
    };
    assert_eq!(build(&[59, 60]), Ok(()));
    for seqs in [&[][..], &[0], &[60, 61], &[1, 3], &[2, 1], &[1, 1]] {
        assert!(build(seqs).is_err(), "{seqs:?}");
    }
    let mut other = row(2);
    other.log.epoch.counter += 1;
    assert!(Draft::build(&[row(1), other]).is_err());
    let mut wider = row(2);
    wider.values.push(None);
    assert!(Draft::build(&[row(1), wider]).is_err());
}

#[test]
fn a_keeper_builds_the_block_its_origin_sealed() {
    let rows = three_rows();
    let block = Draft::build(&rows)
        .unwrap()
        .seal(&given::sign(rows[0].log.origin));
    let seal = Seal::decode(&block.seal().encode()).unwrap();
    assert_eq!(seal.verify(&given::verify), Ok(()));
    assert_eq!(
        Draft::build(&rows).unwrap().attach(&seal).unwrap().encode(),
        block.encode()
    );
    let mut other = rows;
    other[1].values[0] = Some(1);
    assert!(Draft::build(&other).unwrap().attach(&seal).is_err());
    assert!(Draft::build(&other[..2]).unwrap().attach(&seal).is_err());
}

#[test]
fn a_block_encoded_otherwise_is_refused_though_its_origin_signed_it() {
    let rows = three_rows();
    let mut draft = Draft::build(&rows).unwrap();
    // Series b with scale 1 instead of 100: the same rows, other bytes.
    let code = draft
        .raw
        .windows(2)
        .position(|pair| pair == [0xa2, 6])
        .unwrap();
    draft.raw.splice(code..code + 2, [10]);
    *draft.raw.last_mut().unwrap() = 100;
    let forged = draft.seal(&given::sign(rows[0].log.origin)).encode();
    assert_eq!(Block::read(&forged).unwrap().rows(), rows);
    assert!(matches!(
        Block::decode(&forged, &given::verify),
        Err(FormatError::Invalid(_))
    ));
}

#[test]
fn a_head_that_disagrees_with_the_rows_is_refused_though_its_origin_signed_it() {
    let rows = three_rows();
    let mut draft = Draft::build(&rows).unwrap();
    draft.head.offset_ms = 0..=i64::MAX;
    let forged = draft.seal(&given::sign(rows[0].log.origin)).encode();
    assert!(matches!(
        Block::decode(&forged, &given::verify),
        Err(FormatError::Invalid(_))
    ));
}

#[test]
fn a_frame_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() {
    let rows = three_rows();
    let block = Draft::build(&rows)
        .unwrap()
        .seal(&given::sign(rows[0].log.origin));
    let bytes = block.encode();
    let mut head = Vec::new();
    block.head.write(&mut head);
    for frame in [
        zstd::bulk::compress(&vec![0; MAX_RAW_BYTES + 1], 3).unwrap(),
        [
            zstd::bulk::compress(block.sheet.bytes(), 3).unwrap(),
            zstd::bulk::compress(&[], 3).unwrap(),
        ]
        .concat(),
        Vec::new(),
    ] {
        let mut forged = bytes[..head.len() + 65].to_vec();
        forged.extend(frame);
        forged.extend(crc32c::crc32c(&forged).to_be_bytes());
        assert!(matches!(
            Block::read(&forged),
            Err(FormatError::Limit { .. } | FormatError::Invalid(_))
        ));
    }
    assert!(Block::read(&vec![0; MAX_BLOCK_BYTES + 1]).is_err());
}

#[test]
fn the_largest_possible_block_is_within_the_limits() {
    let schema = given::a_schema(&["a"]);
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state ^ state >> 29) as i64
    };
    let rows: Vec<Row> = (1..=60u32)
        .map(|seq| {
            let values: Vec<_> = (0..MAX_SERIES).map(|_| Some(random())).collect();
            let mut row = given::a_row(seq, &schema, &values);
            row.schema.0[0] = seq as u8;
            (row.boot_ms, row.clock.offset_ms) = (random() as u64, random());
            row
        })
        .collect();
    let block = Draft::build(&rows)
        .unwrap()
        .seal(&given::sign(rows[0].log.origin));
    assert!(block.sheet.bytes().len() <= MAX_RAW_BYTES);
    let decoded = Block::decode(&block.encode(), &given::verify).unwrap();
    assert_eq!(decoded.rows(), rows);
}

proptest! {
    #[test]
    fn every_run_comes_back(rows in given::run()) {
        let block = Draft::build(&rows).unwrap().seal(&given::sign(rows[0].log.origin));
        let bytes = block.encode();
        let decoded = Block::decode(&bytes, &given::verify).unwrap();
        prop_assert_eq!(&decoded.rows(), &rows);
        prop_assert_eq!(&decoded.encode(), &bytes);
        prop_assert_eq!(decoded.seal(), block.seal());
        prop_assert_eq!(Head::peek(&bytes).unwrap(), block.head().clone());
        let samples: usize = rows.iter().map(Row::samples).sum();
        prop_assert_eq!(decoded.samples(), samples as u64);
        for index in [0, 1, 7, 100] {
            let column: Vec<_> = rows.iter().map(|row| row.values.get(index).copied().flatten()).collect();
            prop_assert_eq!(&decoded.columns(&[index])[0], &column);
        }
    }

    #[test]
    fn a_flipped_bit_or_a_cut_never_verifies(rows in given::run(), bit: usize) {
        let block = Draft::build(&rows).unwrap().seal(&given::sign(rows[0].log.origin));
        let mut bytes = block.encode();
        prop_assert!(Block::decode(&bytes[..bit % bytes.len()], &given::verify).is_err());
        given::flip(&mut bytes, bit);
        prop_assert!(Block::decode(&bytes, &given::verify).is_err());
        // Again with the checksum mended, as a forger would. Only the frame's own spelling isn't signed.
        let at = bytes.len() - 4;
        let crc = crc32c::crc32c(&bytes[..at]);
        bytes[at..].copy_from_slice(&crc.to_be_bytes());
        if let Ok(same) = Block::decode(&bytes, &given::verify) {
            prop_assert_eq!(same.rows(), rows);
        }
    }

    #[test]
    fn columns_that_a_stranger_signed_are_read_or_refused(rows in given::run(), noise in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let mut draft = Draft::build(&rows).unwrap();
        for (at, byte) in noise {
            let at = at % draft.raw.len();
            draft.raw[at] = byte;
        }
        let Draft { head, raw } = draft;
        let content = draft::content(&head, &raw);
        if let Ok(block) = Block::parse(head, raw, content, [0; 64]) {
            let signature = given::sign(block.head.log.origin)(&block.seal().message());
            let block = Block { signature, ..block };
            let _ = (block.rows(), block.samples(), block.columns(&[0, 1, usize::MAX]));
            if let Ok(decoded) = Block::decode(&block.encode(), &given::verify) {
                let again = Draft::build(&decoded.rows()).unwrap();
                prop_assert_eq!(again.content(), decoded.content);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Block::read(&bytes).is_err());
        let _ = (Head::peek(&bytes), Seal::decode(&bytes));
        let mut versioned = vec![1];
        versioned.extend(&bytes);
        let _ = (Head::peek(&versioned), Seal::decode(&versioned));
    }
}

fn three_rows() -> Vec<Row> {
    let schema = given::a_schema(&["a", "b"]);
    let mut rows: Vec<Row> = [(61, Some(100)), (62, Some(200)), (63, None)]
        .map(|(seq, b)| given::a_row(seq, &schema, &[Some(-1), b]))
        .into();
    rows[0].clock = Clock {
        offset_ms: 1_000_000,
        uncertainty_ms: 5,
        source: ClockSource::Unsynced,
    };
    rows[1].clock.offset_ms += 10;
    rows[2].clock.offset_ms += 10;
    rows
}

fn three_rows_raw() -> Vec<u8> {
    let parts = [
        &[1, 3][..], // one schema, of three rows
        &three_rows()[0].schema.0,
        &[2],                                                  // with two series
        &[6, 1, 0x51, 1, 9, 1, 0xa2, 6], // columns; codes: scales 10, 1 and 100
        &[0x90, 0xb9, 7, 0x80, 0x89, 0x7a, 10, 0, 1, 0xc8, 1], // firsts
        &[0b011],                        // the rows that have b
        &[1, 0, 1, 0, 1],                // differences
    ];
    parts.concat()
}
