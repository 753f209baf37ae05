//! Which formats a store opens, and what it writes under which.

use super::rig::Rig;
use super::*;

const OLDER: &str = "outlast-store 2\n";

fn format_in(rig: &Rig) -> String {
    let bytes = rig.disk().read(Path::new("/store/FORMAT"));
    String::from_utf8(bytes.unwrap()).unwrap()
}

fn with_older_format() -> Rig {
    let mut rig = Rig::new();
    rig.limit_bytes = 256 << 20;
    rig.open().close().unwrap();
    let path = Path::new("/store/FORMAT");
    rig.disk().replace(path, OLDER.as_bytes()).unwrap();
    rig
}

#[test]
fn while_an_older_format_cannot_be_replaced_no_block_is_written_under_it() {
    let mut rig = with_older_format();
    // Nothing can be written in its place.
    let fresh = Path::new("/store/FORMAT.new");
    rig.disk().make_dir(fresh).unwrap();
    let store = rig.open();
    let log = store.begin_epoch().unwrap();
    let schema = define(&store, ME);
    for seq in 1..=60 {
        append_own(&store, schema, seq);
        rig.step(&store, Duration::from_secs(1));
    }
    let refused = store.flush().unwrap_err().to_string();
    assert!(refused.contains("FORMAT"), "{refused}");
    let health = store.stats().health;
    assert!(health.contains("no block is written"), "{health}");
    assert_eq!(store.synced(), Some((log, 60)), "rows lie in the spool");
    assert!(!rig.has("gen-000001") && format_in(&rig) == OLDER);
    rig.disk().remove_dir_all(fresh).unwrap();
    rig.step(&store, Duration::from_secs(60));
    assert_eq!(store.stats().health, "");
    assert!(rig.has("gen-000001") && format_in(&rig) == "outlast-store 4\n");
}

#[test]
fn on_a_full_disk_the_ballast_makes_room_for_the_format() {
    let mut rig = with_older_format();
    assert!(rig.has("ballast"));
    rig.disk.set_capacity(rig.disk.used_bytes());
    let store = rig.open();
    assert_eq!(format_in(&rig), "outlast-store 4\n");
    assert!(!store.stats().health.contains("FORMAT"));
}

#[test]
fn a_store_of_a_newer_release_is_left_untouched() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("FORMAT"), "outlast-store 7\n").unwrap();
    let refused = Store::open(config(dir.path()), keys(ME)).unwrap_err();
    assert!(
        matches!(&refused, OpenError::Newer { found, known: 4, .. } if found == "7"),
        "{refused}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_format_with_any_one_bit_flipped_is_ours_and_written_again() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("FORMAT");
    drop(open(dir.path(), ME));
    let right = fs::read(&path).unwrap();
    for bit in 0..right.len() * 8 {
        let mut bytes = right.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        drop(Store::open(config(dir.path()), keys(ME)).unwrap());
        assert_eq!(fs::read(&path).unwrap(), right, "bit {bit}");
    }
}
