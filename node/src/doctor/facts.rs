//! The facts a diagnosis is made of, read once from the disk, the kernel and the running node.
//!
//! In: the state directory, the configuration, `/proc`, the node's `status`. Out: plain values.
//! Invariant: nothing is written, and nothing is asked that leaves this machine; what can't be read is said so.
//! Absent: judgement; the checks have it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde_json::Value;

use crate::cli::Global;
use crate::config::{Config, default_listen};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::losses;
use crate::service::{self, account::Account};
use crate::state::{self, StateDir};
use crate::when;

/// Kernel files that the collectors read each second.
const SOURCES: [&str; 6] = [
    "/proc/stat",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/diskstats",
    "/proc/net/dev",
    "/proc/self/mounts",
];

/// Files with secrets in the state directory.
const KEYS: [&str; 4] = ["node.key", "wg.key", "wg.key.previous", "web.key"];

/// Everything the checks look at.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Who asks.
    pub(super) uid: u32,
    /// The configuration, or what is wrong with it.
    pub(super) config: Result<Config, String>,
    pub(super) state: StateFacts,
    /// `None` where there is no directory to ask about.
    pub(super) disk: Option<Disk>,
    /// By this machine's clock, since the Unix epoch.
    pub(super) now_ms: i64,
    /// Whether a time service has set the clock. `None` = none of those we know runs.
    pub(super) synchronised: Option<bool>,
    /// A time service that runs and doesn't say how far it is.
    pub(super) time_service: Option<&'static str>,
    /// Whether the machine keeps time while it is off.
    pub(super) has_rtc: bool,
    pub(super) node: NodeFacts,
    /// `None` while a node runs: it has them.
    pub(super) ports: Option<Ports>,
    pub(super) has_ipv6: bool,
    /// `net.core.rmem_max`, bytes. `None` = not told.
    pub(super) rmem_max: Option<u64>,
    /// Datagrams this machine lost since its start because a program's buffer was full.
    pub(super) lost_datagrams: u64,
    /// Those of `SOURCES` that can't be read.
    pub(super) unreadable: Vec<&'static str>,
    pub(super) service: Service,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Permission bits.
    pub(super) mode: u32,
    /// Owner's uid.
    pub(super) owner: u32,
    /// Bytes.
    pub(super) size: u64,
}

/// What the state directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Missing,
    NotADirectory,
    /// With what the system answered.
    Closed(String),
    Directory,
}

/// The state directory as found.
#[derive(Debug, Clone)]
pub(super) struct StateFacts {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    pub(super) owner: u32,
    pub(super) mode: u32,
    /// What FORMAT says. `None` = there is none.
    pub(super) format: Option<String>,
    /// Something other than a state directory's files is the first thing in it.
    pub(super) is_empty: bool,
    pub(super) is_member: bool,
    pub(super) lock: Lock,
    /// Secrets in it and the owner's admin keys.
    pub(super) keys: Vec<File>,
    /// The newest change of a file in it, since the Unix epoch. `None` = no file.
    pub(super) newest_ms: Option<i64>,
    /// Generations set aside as damaged: each name with its reason.
    pub(super) quarantine: Vec<String>,
}

/// Who has the state directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lock {
    Free,
    Held,
}

/// The file system below the state directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) total: u64,
    pub(super) free: u64,
    /// Files the system can hold in all; 0 where it doesn't count them.
    pub(super) files: u64,
    pub(super) free_files: u64,
    pub(super) read_only: bool,
    /// Its magic number, `f_type` of statfs(2).
    pub(super) magic: u64,
}

/// The running node.
#[derive(Debug, Clone)]
pub(super) enum NodeFacts {
    /// It answered with its status.
    Runs(Value),
    /// Nobody listens.
    Absent,
    /// It is there and did not answer us.
    Silent(String),
}

/// Whether the configured ports could be bound; `Err` holds what the system answered.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    pub(super) udp: (SocketAddr, Result<(), ErrorKind>),
    pub(super) page: (SocketAddr, Result<(), ErrorKind>),
}

/// What starts the node when the machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) systemd: bool,
    pub(super) installed: bool,
    pub(super) enabled: bool,
    /// Whether the user it runs as exists.
    pub(super) account: bool,
}

/// Looks at everything once.
pub(crate) fn gather(global: &Global) -> Result<Facts, Failure> {
    let named = StateDir::resolve(global)?;
    let node = node(&named);
    // A node found under /run/outlast may keep its state where this user has none.
    let state = match &node {
        NodeFacts::Runs(status) if named.socket_dir() != named.path() => {
            status["node"]["state_dir"]
                .as_str()
                .map_or_else(|| named.clone(), |dir| StateDir::at(PathBuf::from(dir)))
        }
        _ => named,
    };
    let config = Config::load(global.config.as_deref()).map_err(|error| format!("{error:#}"));
    let ports = match (&node, &config) {
        (NodeFacts::Absent, Ok(config)) => Some(ports(config)),
        _ => None,
    };
    let now_ms = when::now_ms();
    Ok(Facts {
        uid: rustix::process::geteuid().as_raw(),
        disk: disk(state.path()),
        state: state_facts(&state),
        now_ms,
        synchronised: crate::flow::is_synchronised(Path::new("/run")),
        time_service: crate::flow::time_service(Path::new("/run")),
        has_rtc: Path::new("/dev/rtc0").exists() || Path::new("/sys/class/rtc/rtc0").exists(),
        node,
        ports,
        has_ipv6: UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok(),
        rmem_max: number("/proc/sys/net/core/rmem_max"),
        lost_datagrams: lost_datagrams(&read("/proc/net/snmp"), &read("/proc/net/snmp6")),
        unreadable: unreadable(),
        service: starter(),
        config,
    })
}

fn node(state: &StateDir) -> NodeFacts {
    let asked = Client::connect(state.socket_dir())
        .and_then(|client| client.map(|mut c| c.call(&Request::Status)).transpose());
    match asked {
        Ok(Some(status)) => NodeFacts::Runs(status),
        Ok(None) => NodeFacts::Absent,
        Err(failure) => NodeFacts::Silent(failure.message),
    }
}

fn state_facts(state: &StateDir) -> StateFacts {
    let path = state.path();
    let mut facts = StateFacts {
        path: path.to_owned(),
        kind: Kind::Directory,
        owner: 0,
        mode: 0,
        format: None,
        is_empty: true,
        is_member: state.is_member(),
        lock: Lock::Free,
        keys: Vec::new(),
        newest_ms: None,
        quarantine: Vec::new(),
    };
    match std::fs::metadata(path) {
        Ok(found) => {
            facts.owner = found.uid();
            facts.mode = found.mode() & 0o7777;
            if !found.is_dir() {
                facts.kind = Kind::NotADirectory;
                return facts;
            }
        }
        Err(error) => {
            facts.kind = match error.kind() {
                ErrorKind::NotFound => Kind::Missing,
                ErrorKind::NotADirectory => Kind::NotADirectory,
                _ => Kind::Closed(error.to_string()),
            };
            return facts;
        }
    }
    match std::fs::read_dir(path) {
        Ok(mut entries) => facts.is_empty = entries.next().is_none(),
        Err(error) => {
            facts.kind = Kind::Closed(error.to_string());
            return facts;
        }
    }
    facts.format = std::fs::read_to_string(state.join("FORMAT")).ok();
    facts.lock = lock(&state.join("lock"));
    facts.keys = keys(state);
    facts.newest_ms = newest(path);
    facts.quarantine = quarantine(&state.join("store/quarantine"));
    facts
}

fn file(path: PathBuf) -> Option<File> {
    let found = std::fs::symlink_metadata(&path).ok()?;
    Some(File {
        path,
        mode: found.mode() & 0o7777,
        owner: found.uid(),
        size: found.len(),
    })
}

fn keys(state: &StateDir) -> Vec<File> {
    let mut keys: Vec<File> = KEYS
        .iter()
        .filter_map(|name| file(state.join(name)))
        .collect();
    if let Ok(home) = state::config_home() {
        let admin = home.join("outlast/admin");
        let found = names(&admin).into_iter().map(|name| admin.join(name));
        keys.extend(found.filter_map(file));
    }
    keys
}

fn quarantine(dir: &Path) -> Vec<String> {
    let with_reason = |name: String| {
        let reason = std::fs::read_to_string(dir.join(&name).join("why"));
        losses::with_reason(&name, &reason.unwrap_or_default())
    };
    names(dir).into_iter().map(with_reason).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Whether somebody holds the lock. Asked with a shared one, let go at once.
fn lock(path: &Path) -> Lock {
    let Ok(file) = std::fs::File::open(path) else {
        return Lock::Free;
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Lock::Held,
        _ => Lock::Free,
    }
}

fn newest(dir: &Path) -> Option<i64> {
    let entries = std::fs::read_dir(dir).ok()?.flatten();
    let changed = entries.filter_map(|entry| entry.metadata().ok());
    changed
        .map(|found| found.mtime().saturating_mul(1_000))
        .max()
}

fn disk(path: &Path) -> Option<Disk> {
    // Of a directory that is yet to be made, the one it will be made in tells.
    let existing = path.ancestors().find(|dir| dir.exists())?;
    let (counts, kind) = (
        rustix::fs::statvfs(existing).ok()?,
        rustix::fs::statfs(existing).ok()?,
    );
    let read_only = counts
        .f_flag
        .contains(rustix::fs::StatVfsMountFlags::RDONLY);
    Some(Disk {
        total: counts.f_blocks.saturating_mul(counts.f_frsize),
        free: counts.f_bavail.saturating_mul(counts.f_frsize),
        files: counts.f_files,
        free_files: counts.f_favail,
        read_only,
        magic: u64::try_from(kind.f_type).unwrap_or(0) & 0xffff_ffff,
    })
}

fn ports(config: &Config) -> Ports {
    let everywhere = default_listen();
    let listen = config.listen.unwrap_or(everywhere);
    let bind = |address| UdpSocket::bind(address).map(drop).map_err(|e| e.kind());
    let mut udp = bind(listen);
    if udp.is_err() && listen == everywhere {
        let four = SocketAddr::from((Ipv4Addr::UNSPECIFIED, listen.port()));
        // Where IPv6 is off the node listens on IPv4.
        if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            udp = bind(four);
        }
    }
    let page = TcpListener::bind(config.dashboard).map(drop);
    Ports {
        udp: (listen, udp),
        page: (config.dashboard, page.map_err(|e| e.kind())),
    }
}

/// The datagrams counted as lost to full buffers, both families, from the text of the kernel's tables.
fn lost_datagrams(snmp: &str, snmp6: &str) -> u64 {
    let mut udp = snmp.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (titles, values) = (udp.next().unwrap_or(""), udp.next().unwrap_or(""));
    let four = titles
        .split_whitespace()
        .zip(values.split_whitespace())
        .find(|(title, _)| *title == "RcvbufErrors")
        .and_then(|(_, value)| value.parse().ok());
    let six = snmp6
        .lines()
        .filter_map(|line| line.strip_prefix("Udp6RcvbufErrors"))
        .find_map(|value| value.trim().parse().ok());
    four.unwrap_or(0u64).saturating_add(six.unwrap_or(0))
}

fn unreadable() -> Vec<&'static str> {
    let closed = SOURCES
        .iter()
        .filter(|path| std::fs::File::open(path).is_err());
    closed.copied().collect()
}

fn starter() -> Service {
    let wants = "/etc/systemd/system/multi-user.target.wants/outlast.service";
    Service {
        systemd: Path::new("/run/systemd/system").is_dir(),
        installed: service::unit().is_some(),
        enabled: std::fs::symlink_metadata(wants).is_ok(),
        account: Account::named(service::ACCOUNT).is_some(),
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &str) -> Option<u64> {
    read(path).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_datagrams_of_both_families_are_added() {
        let snmp = "Tcp: ActiveOpens\nTcp: 7\nUdp: InDatagrams NoPorts RcvbufErrors SndbufErrors\nUdp: 100 2 30 4\n";
        let snmp6 = "Udp6InDatagrams                 \t5\nUdp6RcvbufErrors                \t12\n";
        assert_eq!(lost_datagrams(snmp, snmp6), 42);
        assert_eq!(lost_datagrams("", "garbage"), 0);
    }
}
