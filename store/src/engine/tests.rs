//! What goes into an engine over sled and over a simulated disk comes out again, whatever happened in between.

use std::fs;

use super::body::open_sled;
use super::*;
use crate::disk::simulated::SimDisk;
use crate::engine::journal::MAX_VALUE;
use crate::record;

#[test]
fn what_is_synced_comes_back_checked_and_what_is_evicted_does_not() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("gen-000001");
    let mut engine = Engine::open(&Disk::Real, &path).unwrap();
    engine.put(b"a", b"one").unwrap();
    engine.put(b"a", b"one").unwrap();
    engine.put(b"b", b"two").unwrap();
    assert_eq!(engine.sync(), Ok(Ticket(1)));
    engine.evict(b"b").unwrap();
    assert_eq!(engine.sync(), Ok(Ticket(2)));
    drop(engine);
    let mut engine = Engine::open(&Disk::Real, &path).unwrap();
    assert_eq!(engine.get(b"a"), Ok(Some(b"one".to_vec())));
    assert_eq!((engine.get(b"b"), engine.health()), (Ok(None), None));
    engine
        .run("put", |body| match body {
            Body::Sled(sled) => {
                let value = [VALUE_VERSION, 0, 0, 0, 0, 7];
                there(sled)?.waiting.put(b"a", &value);
                Ok(())
            }
            Body::Simulated(_) => unreachable!("a real disk"),
        })
        .unwrap();
    assert_eq!(engine.get(b"a"), Err(EngineError::Damaged));
}

/// As a power cut leaves it that comes after an opening and before the next flush.
#[test]
fn a_generation_whose_newest_log_was_lost_opens_again_and_again() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("gen-000001");
    let mut engine = Engine::open(&Disk::Real, &path).unwrap();
    engine.put(b"a", b"one").unwrap();
    engine.sync().unwrap();
    drop(engine);
    drop(Engine::open(&Disk::Real, &path).unwrap());
    for _ in 0..3 {
        let mut logs: Vec<_> = fs::read_dir(path.join("metadata"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("/log_"))
            .collect();
        logs.sort();
        fs::remove_file(logs.last().unwrap()).unwrap();
        let mut engine = Engine::open(&Disk::Real, &path).unwrap();
        assert_eq!(engine.get(b"a"), Ok(Some(b"one".to_vec())));
    }
}

#[test]
fn a_broken_engine_says_so_and_its_files_can_be_opened_again_beside_it() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("gen-000001");
    let mut engine = Engine::open(&Disk::Real, &path).unwrap();
    engine.put(b"a", b"one").unwrap();
    engine.sync().unwrap();
    let panicked = engine.run::<()>("put", |_| panic!("no such luck"));
    assert!(
        panicked.is_err()
            && engine
                .health()
                .is_some_and(|why| why.contains("no such luck"))
    );
    assert!(
        engine.get(b"a").is_err(),
        "nothing is asked of a broken engine"
    );
    drop(engine);
    relink(&Disk::Real, &path).unwrap();
    let mut engine = Engine::open(&Disk::Real, &path).unwrap();
    assert_eq!(engine.get(b"a"), Ok(Some(b"one".to_vec())));
}

/// As an earlier release left it, and what is too large for a record.
#[test]
fn blocks_in_sled_are_read_until_they_are_evicted_and_newer_ones_win() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("gen-000001");
    let db = open_sled(&path).unwrap();
    for key in [b"a", b"b", b"c"] {
        db.insert(key, stamped(b"old")).unwrap();
    }
    db.flush().unwrap();
    drop(db);
    let large = vec![7; MAX_VALUE];
    let mut engine = Engine::open(&Disk::Real, &path).unwrap();
    engine.put(b"a", b"new").unwrap();
    engine.put(b"d", &large).unwrap();
    engine.sync().unwrap();
    engine.evict(b"b").unwrap();
    engine.sync().unwrap();
    for _ in 0..2 {
        let found = [b"a", b"b", b"c", b"d"].map(|key| engine.get(key).unwrap());
        let expected = [Some(b"new".to_vec()), None, Some(b"old".to_vec())];
        assert_eq!(
            (&found[..3], &found[3]),
            (&expected[..], &Some(large.clone()))
        );
        let mut scanned = Vec::new();
        let each = |key: &[u8], value: Result<&[u8], _>| {
            scanned.push((key.to_vec(), value.unwrap().len()))
        };
        engine.scan(each).unwrap();
        scanned.sort();
        let expected = [
            (b"a".to_vec(), 3),
            (b"c".to_vec(), 3),
            (b"d".to_vec(), large.len()),
        ];
        assert_eq!(scanned, expected);
        drop(engine);
        engine = Engine::open(&Disk::Real, &path).unwrap();
    }
    engine.evict(b"a").unwrap();
    assert_eq!(engine.get(b"a"), Ok(None), "the old one doesn't come back");
}

/// As where an origin's blocks never join: nothing is packed, and all of a generation lies in the journal.
#[test]
fn a_journal_of_a_whole_generation_is_read_and_written_anew_by_pieces() {
    let disk = SimDisk::new(1 << 27);
    let spare = Spare {
        from: 1 << 20,
        thirds: 1,
    };
    let path = Path::new("/waiting");
    let open = || Journal::open(&Disk::Simulated(disk.clone()), path.to_owned(), spare).unwrap();
    let mut journal = open();
    let value = |n: u16| vec![n as u8; 9_000 + 100 * usize::from(n % 7)];
    for n in 0..1_200u16 {
        journal.put(&n.to_be_bytes(), &value(n));
        if n % 50 == 0 {
            journal.sync().unwrap();
        }
    }
    journal.sync().unwrap();
    let long = disk.used_bytes();
    disk.take_most_at_once();
    drop(journal);
    let mut journal = open();
    (0..900u16).for_each(|n| assert!(journal.evict(&n.to_be_bytes())));
    journal.sync().unwrap();
    assert!(disk.used_bytes() < long / 3, "it was written anew");
    let journal = open();
    for n in 0..1_200u16 {
        let there = journal.get(&n.to_be_bytes()).unwrap();
        assert_eq!(there, (n >= 900).then(|| value(n)), "{n}");
    }
    let most = disk.take_most_at_once();
    assert!(most <= record::PIECE, "{most} at once of {long}");
}

/// What sled has written to its slabs of large leaves; an entry is a key of a pack's length.
#[test]
fn a_pack_is_written_little_more_than_once_though_others_follow_it() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("gen-000001");
    let mut engine = Engine::open(&Disk::Real, &path).unwrap();
    let pack: Vec<u8> = (0..60_000u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes())
        .collect();
    let key = |n: u8| [&[n % 3; BlockKey::LEN - 1][..], &[n]].concat();
    for n in 0..12 {
        engine.put_pack(&key(n), &pack[..200_000]).unwrap();
        engine.sync().unwrap();
    }
    let written = engine.run("count", |body| match body {
        Body::Sled(sled) => Ok(there(sled)?
            .db
            .stats()
            .cache
            .heap
            .write_batch_sum
            .heap_bytes_written),
        Body::Simulated(_) => unreachable!("a real disk"),
    });
    let written = written.unwrap() / 12;
    assert!((200_000..280_000).contains(&written), "{written} a pack");
    let mut packs = 0;
    engine
        .scan_packs(|_, value| {
            packs += usize::from(value.is_ok_and(|value| value == &pack[..200_000]))
        })
        .unwrap();
    assert_eq!(packs, 12);
    for n in 0..12 {
        let found = engine.pack_of(&key(n), |value| Some(value.len())).unwrap();
        assert_eq!(found, Some(200_000));
    }
}
