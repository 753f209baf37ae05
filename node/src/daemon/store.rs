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
    let mut child = Command::new(program)
        .arg("store-check")
        .arg(dir)
        .env_clear()
        .env("PATH", NO_PATH)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("start the check: {error}"))?;
    let deadline = Instant::now() + CHECK_DEADLINE;
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
                    CHECK_DEADLINE.as_secs()
                ));
            }
            Err(error) => return Err(format!("wait for the check: {error}")),
        }
    }
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
