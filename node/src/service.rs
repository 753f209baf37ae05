//! The node as a system service: what it tells the service manager, whose it is, where it stands.
//!
//! `herald.rs` says ready, alive and stopping; `watchdog.rs` decides what alive means; `journal.rs` writes log
//! lines as the journal wants them; `account.rs` knows users and hands directories to them.
//! Absent: installing (`command/service.rs`); a running node changes nothing about its machine.

pub(crate) mod account;
pub(crate) mod herald;
pub(crate) mod journal;
pub(crate) mod watchdog;

use std::path::{Path, PathBuf};

/// The user, and the group, that the service runs as; whoever is in the group may ask the node.
pub(crate) const ACCOUNT: &str = "outlast";

/// The unit's name.
pub(crate) const UNIT: &str = "outlast.service";

/// Where the service keeps its state: what `StateDirectory=` in the unit makes.
pub(crate) const STATE_DIR: &str = "/var/lib/outlast";

/// Where the service shows its socket: what `RuntimeDirectory=` in the unit makes.
pub(crate) const RUN_DIR: &str = "/run/outlast";

/// Where the configuration is.
pub(crate) const CONFIG_DIR: &str = "/etc/outlast";

/// Where a unit stands that `outlast service install` wrote.
pub(crate) const OWN_UNIT: &str = "/etc/systemd/system/outlast.service";

/// Where a unit stands that came with a package.
const PACKAGED_UNITS: [&str; 2] = [
    "/usr/lib/systemd/system/outlast.service",
    "/lib/systemd/system/outlast.service",
];

/// The package's unit, where there is one.
pub(crate) fn packaged_unit() -> Option<&'static Path> {
    let mut places = PACKAGED_UNITS.iter().map(Path::new);
    places.find(|path| path.is_file())
}

/// The unit in force: one in `/etc` wins over the package's.
pub(crate) fn unit() -> Option<&'static Path> {
    let own = Path::new(OWN_UNIT);
    if own.is_file() {
        Some(own)
    } else {
        packaged_unit()
    }
}

/// The directory that the service manager made for this process's socket; `None` outside a service.
pub(crate) fn runtime_directory() -> Option<PathBuf> {
    let named = std::env::var_os("RUNTIME_DIRECTORY")?;
    let first = named.to_str()?.split(':').next()?;
    Some(PathBuf::from(first)).filter(|path| path.is_absolute())
}
