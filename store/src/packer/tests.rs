//! Blocks that become packs in an engine over sled and over a simulated disk, and come out as they went in.

use std::path::PathBuf;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::*;
use crate::block::Draft;
use crate::disk::Disk;
use crate::disk::simulated::SimDisk;
use crate::given;
use crate::row::Row;

#[test]
fn two_hours_of_blocks_become_a_pack_and_every_block_comes_back_as_it_was() {
    for (disk, _kept, path) in places() {
        let blocks = minutes(0..135);
        let (mut engine, mut loose) = filled(&disk, &path, &blocks);
        pack(&mut engine, &mut loose, When::Enough(MAX_PACK_BLOCKS)).unwrap();
        assert_eq!(loose.values().map(BTreeMap::len).sum::<usize>(), 15);
        assert_eq!(engine.get(&blocks[0].0.encode()), Ok(None), "it is packed");
        check(&mut engine, &blocks);
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        assert!(loose.is_empty());
        check(&mut engine, &blocks);
        engine.sync().unwrap();
        drop(engine);
        let mut engine = Engine::open(&disk, &path).unwrap();
        check(&mut engine, &blocks);
        let (mut alone, mut packed) = (0, Vec::new());
        engine.scan(|_, _| alone += 1).unwrap();
        engine
            .scan_packs(|key, pack| {
                let heads = Pack::peek(pack.unwrap()).unwrap();
                assert!(BlockKey::decode(key).unwrap().is_of(&heads[0]));
                packed.extend(heads.iter().map(|head| head.first));
            })
            .unwrap();
        let firsts: Vec<Seq> = blocks.iter().map(|(key, _)| key.first).collect();
        assert_eq!((alone, packed), (0, firsts));
    }
}

#[test]
fn packed_blocks_do_not_come_back_when_the_engine_is_closed_right_after() {
    for (disk, _kept, path) in places() {
        let blocks = minutes(0..30);
        let (mut engine, mut loose) = filled(&disk, &path, &blocks);
        pack(&mut engine, &mut loose, When::Enough(30)).unwrap();
        drop(engine);
        let mut engine = Engine::open(&disk, &path).unwrap();
        let mut alone = 0;
        engine.scan(|_, _| alone += 1).unwrap();
        let left: usize = loose.values().map(BTreeMap::len).sum();
        assert_eq!(alone, left);
        check(&mut engine, &blocks);
    }
}

#[test]
fn a_power_cut_after_packing_leaves_every_block() {
    for seed in 0..8 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let sim = SimDisk::new(1 << 30);
        let (disk, path) = (Disk::Simulated(sim.clone()), PathBuf::from("/gen-000001"));
        disk.make_dir(&path).unwrap();
        let blocks = minutes(0..120);
        let (mut engine, mut loose) = filled(&disk, &path, &blocks);
        disk.sync_parent(&path).unwrap();
        pack(&mut engine, &mut loose, When::Enough(MAX_PACK_BLOCKS)).unwrap();
        drop(engine);
        sim.power_cut(&mut rng);
        let mut engine = Engine::open(&disk, &path).unwrap();
        check(&mut engine, &blocks);
        let mut loose = Loose::new();
        engine
            .scan(|_, block| note(&mut loose, &Head::peek(block.unwrap()).unwrap()))
            .unwrap();
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        check(&mut engine, &blocks);
    }
}

#[test]
fn a_pack_ends_where_a_block_is_missing_and_what_comes_later_is_found_too() {
    for (disk, _kept, path) in places() {
        let (mut blocks, late) = (minutes(0..20), minutes(9..11));
        blocks.drain(9..11);
        let (mut engine, mut loose) = filled(&disk, &path, &blocks);
        pack(&mut engine, &mut loose, When::Enough(MAX_PACK_BLOCKS)).unwrap();
        assert_eq!(loose.values().map(BTreeMap::len).sum::<usize>(), 18);
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        check(&mut engine, &blocks);
        let nobody = BlockKey {
            first: 9 * 60 + 1,
            ..blocks[0].0
        };
        assert_eq!(super::blocks(&mut engine, &[nobody]), Ok(vec![None]));
        put(&mut engine, &mut loose, &late);
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        check(&mut engine, &[blocks, late].concat());
    }
}

#[test]
fn packs_of_an_older_release_are_found_beside_newer_ones() {
    let (disk, _kept, path) = places().into_iter().next().unwrap();
    let blocks = minutes(0..30);
    let mut engine = Engine::open(&disk, &path).unwrap();
    let old: Vec<Block> = blocks[..20]
        .iter()
        .map(|(_, bytes)| Block::read(bytes).unwrap())
        .collect();
    let bytes = crate::block::encode_first(&old).unwrap();
    engine.put_old_pack(&blocks[0].0.encode(), &bytes).unwrap();
    let mut loose = Loose::new();
    put(&mut engine, &mut loose, &blocks[20..]);
    pack(&mut engine, &mut loose, When::Closing).unwrap();
    drop(engine);
    let mut engine = Engine::open(&disk, &path).unwrap();
    check(&mut engine, &blocks);
    let mut firsts = Vec::new();
    engine
        .scan_packs(|_, pack| firsts.push(Pack::peek(pack.unwrap()).unwrap()[0].first))
        .unwrap();
    assert_eq!(firsts, [1, 20 * 60 + 1]);
}

/// As a power cut leaves it when only some of what was packed had gone.
#[test]
fn blocks_left_beside_their_pack_do_not_replace_it_by_a_shorter_one() {
    for (disk, _kept, path) in places() {
        let blocks = minutes(0..20);
        let (mut engine, mut loose) = filled(&disk, &path, &blocks);
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        put(&mut engine, &mut loose, &blocks[..5]);
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        assert_eq!(engine.get(&blocks[0].0.encode()), Ok(None));
        check(&mut engine, &blocks);
    }
}

/// As when their origin sealed twice: what the store settled on stays.
#[test]
fn blocks_with_another_content_than_a_pack_of_the_same_key_are_not_taken_for_packed() {
    for (disk, _kept, path) in places() {
        let mut expected = minutes(0..20);
        let (mut engine, mut loose) = filled(&disk, &path, &expected);
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        expected.splice(..5, (0..5).map(|window| block(window, -1)));
        put(&mut engine, &mut loose, &expected[..5]);
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        check(&mut engine, &expected);
        engine.sync().unwrap();
        drop(engine);
        check(&mut Engine::open(&disk, &path).unwrap(), &expected);
    }
}

#[test]
fn a_longer_pack_under_the_same_key_leaves_nothing_of_the_shorter_one() {
    for (disk, _kept, path) in places() {
        let mut engine = Engine::open(&disk, &path).unwrap();
        let key = [7; BlockKey::LEN];
        for len in [200_000, 3, 40_000] {
            let bytes: Vec<u8> = (0..len)
                .map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect();
            engine.put_pack(&key, &bytes).unwrap();
            engine.sync().unwrap();
            assert_eq!(
                engine.pack_of(&key, |found| Some(found.to_vec())),
                Ok(Some(bytes.clone()))
            );
            let mut all = Vec::new();
            engine
                .scan_packs(|key, pack| all.push((key.to_vec(), pack.map(<[u8]>::to_vec))))
                .unwrap();
            assert_eq!(all, [(key.to_vec(), Ok(bytes))]);
        }
    }
}

#[test]
fn a_block_by_itself_wins_over_the_one_in_a_pack() {
    for (disk, _kept, path) in places() {
        let blocks = minutes(0..30);
        let (mut engine, mut loose) = filled(&disk, &path, &blocks);
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        let other = block(7, -1);
        put(&mut engine, &mut loose, std::slice::from_ref(&other));
        let mut expected = blocks;
        expected[7] = other;
        check(&mut engine, &expected);
    }
}

#[test]
fn a_damaged_block_ends_a_run_and_stops_nothing() {
    for (disk, _kept, path) in places() {
        let mut blocks = minutes(0..40);
        blocks[3].1 = b"no block".to_vec();
        let (mut engine, mut loose) = filled(&disk, &path, &blocks);
        pack(&mut engine, &mut loose, When::Enough(MAX_PACK_BLOCKS)).unwrap();
        pack(&mut engine, &mut loose, When::Closing).unwrap();
        assert!(loose.is_empty());
        check(&mut engine, &blocks);
    }
}

/// A disk and a place on it, and what must live as long.
fn places() -> [(Disk, Option<tempfile::TempDir>, PathBuf); 2] {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("gen-000001");
    let simulated = Disk::Simulated(SimDisk::new(1 << 30));
    [
        (Disk::Real, Some(dir), path),
        (simulated, None, PathBuf::from("/gen-000001")),
    ]
}

fn filled(disk: &Disk, path: &std::path::Path, blocks: &[(BlockKey, Vec<u8>)]) -> (Engine, Loose) {
    let (mut engine, mut loose) = (Engine::open(disk, path).unwrap(), Loose::new());
    put(&mut engine, &mut loose, blocks);
    (engine, loose)
}

fn put(engine: &mut Engine, loose: &mut Loose, blocks: &[(BlockKey, Vec<u8>)]) {
    for (key, bytes) in blocks {
        engine.put(&key.encode(), bytes).unwrap();
        loose.entry(key.log).or_default().insert(key.first, 60);
    }
    engine.sync().unwrap();
}

fn check(engine: &mut Engine, blocks: &[(BlockKey, Vec<u8>)]) {
    let keys: Vec<BlockKey> = blocks.iter().map(|(key, _)| *key).collect();
    let found = super::blocks(engine, &keys).unwrap();
    for ((key, bytes), found) in blocks.iter().zip(found) {
        assert_eq!(found.as_ref(), Some(bytes), "block {}", key.first);
    }
    let mut keys = &keys[..];
    for (key, bytes) in blocks {
        // The piece of an earlier block may have had this one, too.
        let Some(at) = keys.iter().position(|left| left == key) else {
            continue;
        };
        assert_eq!(at, 0, "in order");
        keys = &keys[in_piece(engine, keys, blocks, bytes)..];
    }
    assert!(keys.is_empty());
}

/// Compares what the piece of the first of `keys` has with `blocks`; says how many that are.
fn in_piece(
    engine: &mut Engine,
    keys: &[BlockKey],
    blocks: &[(BlockKey, Vec<u8>)],
    first: &[u8],
) -> usize {
    match piece(engine, keys).unwrap() {
        None => panic!("block {} is in no piece", keys[0].first),
        Some(Piece::Block(bytes)) => {
            assert_eq!(bytes, first);
            1
        }
        Some(Piece::Pack(bytes, count)) => {
            let wanted = |head: &Head| keys[..count].iter().any(|key| key.is_of(head));
            let packed = Pack::read(&bytes).unwrap().blocks(wanted).unwrap();
            let packed: Vec<Vec<u8>> = packed.iter().map(Block::encode).collect();
            let of_keys = blocks.iter().filter(|(key, _)| keys[..count].contains(key));
            let expected: Vec<Vec<u8>> = of_keys.map(|(_, bytes)| bytes.clone()).collect();
            assert_eq!(packed, expected);
            count
        }
    }
}

fn minutes(windows: std::ops::Range<u32>) -> Vec<(BlockKey, Vec<u8>)> {
    windows.map(|window| block(window, 1)).collect()
}

fn block(window: u32, sign: i64) -> (BlockKey, Vec<u8>) {
    let schema = given::a_schema(&["a", "b", "c"]);
    let rows: Vec<Row> = (window * 60 + 1..=window * 60 + 60)
        .map(|seq| {
            let noise = i64::from(seq.wrapping_mul(2_654_435_761) >> 8) * sign;
            given::a_row(seq, &schema, &[Some(i64::from(seq) * 3), None, Some(noise)])
        })
        .collect();
    let key = BlockKey {
        log: rows[0].log,
        first: rows[0].seq,
    };
    let block = Draft::build(&rows)
        .unwrap()
        .seal(&given::sign(key.log.origin));
    (key, block.encode())
}
