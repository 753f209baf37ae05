//! The store as this node opens it, and the check of its generations in a child process.
//!
//! In: the state directory, the node's key. Out: an open store that signs and verifies by the mesh's keys.
//! Invariant: the child is this same program and ends at a deadline; nothing else is ever started.
//! Absent: what is checked; the store knows its generations.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use outlast_mesh::NodeKey;
use outlast_store::{Keys, Origin, Store, StoreConfig};

use crate::state::StateDir;

/// A path on which no program can be found: sled asks for `sync` by name, which we never want run.
///
/// Not the empty string, which means the current directory.
pub(crate) const NO_PATH: &str = "/dev/null";

/// How often fresh rows reach the disk for sure; on memory cards, which wear, less often.
const SYNC_EVERY: Duration = Duration::from_secs(1);
const SYNC_EVERY_ON_CARDS: Duration = Duration::from_secs(10);

/// How long reading one generation may take; a damaged one can hang its reader for ever.
const CHECK_DEADLINE: Duration = Duration::from_secs(60);

/// Opens this node's store. Without a key nothing can be appended, which is enough for a query.
pub(crate) fn open(state: &StateDir, limit_bytes: u64, node: Option<NodeKey>) -> Result<Store> {
    let dir = state.join("store");
    let origin = Origin(node.as_ref().map_or([0; 32], NodeKey::public));
    let sync_every = if is_on_card(state.path()) {
        SYNC_EVERY_ON_CARDS
    } else {
        SYNC_EVERY
    };
    let config = StoreConfig {
        dir: dir.clone(),
        limit_bytes,
        sync_every,
        check: Some(Box::new(check_in_child)),
    };
    let keys = Keys {
        origin,
        sign: Box::new(move |message| node.as_ref().map_or([0; 64], |key| key.sign(message))),
        verify: Box::new(|origin, message, signature| {
            outlast_mesh::verify(&origin.0, message, signature)
        }),
    };
    Store::open(config, keys).with_context(|| format!("open the store at {}", dir.display()))
}

/// The child's side: `Err` ends it with exit code 1 and the reason on stderr.
pub(crate) fn check(dir: &Path) -> Result<()> {
    outlast_store::verify_generation(dir)
        .map(drop)
        .map_err(anyhow::Error::msg)
}

fn check_in_child(dir: &Path) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut check = Command::new(program);
    check
        .arg("store-check")
        .arg(dir)
        .env_clear()
        .env("PATH", NO_PATH);
    ends_well(&mut check, CHECK_DEADLINE)
}

/// Runs a check, which is killed at its deadline.
fn ends_well(check: &mut Command, patience: Duration) -> Result<(), String> {
    let mut child = check
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("start the check: {error}"))?;
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("the check ended with {status}")),
            Ok(None) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "the check took longer than {} s",
                    patience.as_secs()
                ));
            }
            Err(error) => return Err(format!("wait for the check: {error}")),
        }
    }
}

/// How often the life record is written: as the store's own journal, seldom where each write wears the disk.
pub(super) fn record_every(dir: &Path) -> Duration {
    Duration::from_secs(if is_on_card(dir) { 10 } else { 5 })
}

/// Whether the directory is on a memory card (`mmcblk…`), by the kernel's number of its device.
fn is_on_card(dir: &Path) -> bool {
    let Ok(found) = rustix::fs::stat(dir) else {
        return false;
    };
    let (major, minor) = (
        rustix::fs::major(found.st_dev),
        rustix::fs::minor(found.st_dev),
    );
    let device = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"));
    device.is_ok_and(|path| path.to_string_lossy().contains("/mmcblk"))
}

#[cfg(test)]
mod tests {
    use outlast_store::{Clock, ClockSource, Kind, SchemaDelta, Series};

    use super::*;

    /// A check that never ends, as sled may on a damaged generation.
    fn hanging(dir: &Path) -> Result<(), String> {
        let mut check = Command::new("/bin/sh");
        check.args(["-c", "echo $$ > \"$1/pid\"; exec sleep 600", "check"]);
        ends_well(check.arg(dir), Duration::from_secs(1))
    }

    fn open_with(dir: &Path, check: outlast_store::Check) -> Store {
        let config = StoreConfig {
            dir: dir.to_owned(),
            limit_bytes: 64 << 20,
            sync_every: Duration::from_millis(20),
            check: Some(check),
        };
        let keys = Keys {
            origin: Origin([1; 32]),
            sign: Box::new(|_| [7; 64]),
            verify: Box::new(|_, _, _| true),
        };
        Store::open(config, keys).expect("open the store")
    }

    fn write_a_minute(store: &Store) {
        store.begin_epoch().expect("an epoch");
        let series = Series::new("a", [], "", Kind::Gauge, 0).expect("a series");
        let delta = SchemaDelta {
            parent: None,
            appended: vec![series],
        };
        let schema = store.define(Origin([1; 32]), delta).expect("a schema");
        let clock = Clock {
            offset_ms: 0,
            uncertainty_ms: 0,
            source: ClockSource::Ntp,
        };
        for second in 1..=60 {
            let values = vec![Some(second as i64)];
            let row = store.append_own(second * 1_000, clock, schema, values);
            row.expect("a row");
        }
    }

    #[test]
    fn a_check_that_hangs_is_killed_the_node_goes_on_and_the_generation_is_set_aside() {
        let dir = tempfile::tempdir().expect("make a directory");
        let home = dir.path().join("store");
        let store = open_with(&home, Box::new(|_| Ok(())));
        write_a_minute(&store);
        store.close().expect("all of it on disk");

        let begun = Instant::now();
        let at = dir.path().to_owned();
        let store = open_with(&home, Box::new(move |_| hanging(&at)));
        // It takes rows while the check hangs.
        write_a_minute(&store);
        while !store.ready() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "it never is ready"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let stats = store.stats();
        assert_eq!((stats.generations, stats.rows), (0, 60));
        let aside = stats.quarantined.first().expect("one set aside");
        assert!(aside.name.starts_with("gen-000001"), "{aside:?}");
        assert_eq!(aside.reason, "the check took longer than 1 s");
        let pid = std::fs::read_to_string(dir.path().join("pid")).expect("it ran");
        let process = Path::new("/proc").join(pid.trim());
        assert!(!process.exists(), "it was killed");
    }

    #[test]
    fn a_check_that_ends_badly_says_how() {
        let ended = |program: &str| ends_well(&mut Command::new(program), Duration::from_secs(60));
        assert_eq!(ended("/bin/true"), Ok(()));
        assert_eq!(
            ended("/bin/false"),
            Err("the check ended with exit status: 1".to_owned())
        );
        assert!(ended("/nowhere").is_err());
    }
}
