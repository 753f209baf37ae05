//! Disks that refuse, stall or come back late, and blocks that overlap: nothing good is given up.

use super::*;
fn spooled(dir: &Path) -> usize {
    fs::read_dir(dir.join("spool")).unwrap().count()
}

#[test]
fn what_a_block_made_superfluous_leaves_the_spool_though_the_disk_refused_meanwhile() {
    let dir = TempDir::new().unwrap();
    let store = open(dir.path(), ME);
    define(&store, PEER);
    for seq in 1..=60 {
        store.append(row(PEER, seq, 0), Source::Origin).unwrap();
    }
    store.close().unwrap();
    let store = open(dir.path(), ME);
    let (spool, away) = (dir.path().join("spool"), dir.path().join("away"));
    fs::rename(&spool, &away).unwrap();
    store.append(row(PEER, 61, 0), Source::Origin).unwrap();
    insert_all(&store, &blocks_of(PEER, 1));
    store.flush().unwrap();
    assert!(store.sync().is_err(), "there is nowhere to write");
    assert!(store.stats().health.contains("in memory only"));
    fs::rename(&away, &spool).unwrap();
    store.sync().unwrap();
    assert_eq!(spooled(dir.path()), 1, "row 61 alone is needed");
}

#[test]
fn a_row_that_came_again_stays_in_the_spool_though_it_was_released_before() {
    let dir = TempDir::new().unwrap();
    let mut config = config(dir.path());
    config.sync_every = Duration::from_secs(3_600);
    let store = Store::open_tuned(config, keys(ME), tuning()).unwrap();
    wait_ready(&store);
    define(&store, PEER);
    insert_all(&store, &blocks_of(PEER, 1));
    store.flush().unwrap();
    store.shared.set_aside(1, "for the test");
    store.append(row(PEER, 7, 0), Source::Origin).unwrap();
    store.close().unwrap();
    let store = open(dir.path(), ME);
    assert_eq!(store.stats().rows, 1);
}
