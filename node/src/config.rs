//! What can be set: `/etc/outlast/outlast.toml` and the flags over it, parsed once into meanings.
//!
//! In: the file's text, the flags. Out: a `Config`; each part of the node gets its own piece of it.
//! Invariant: an unknown key is an error, an explicit file must exist, flags win over the file.
//! Absent: reading it again; changes need a restart.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::cli::{ReachArgs, UpArgs};
use crate::collect::{Wishes, reach};

/// Read when no file is named.
pub(crate) const DEFAULT_FILE: &str = "/etc/outlast/outlast.toml";

/// Where a node listens unless told otherwise.
pub(crate) fn default_listen() -> SocketAddr {
    SocketAddr::from((Ipv6Addr::UNSPECIFIED, outlast_mesh::config::DEFAULT_PORT))
}

/// Where the page is served unless told otherwise.
const DEFAULT_DASHBOARD: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5180);

/// The least a store can work in: a generation, the spool and the ballast beside them.
const LEAST_STORE_BYTES: u64 = 64 << 20;

/// The default of `store.limit_bytes` is this, or a twentieth of the file system if that is less.
const DEFAULT_STORE_BYTES: u64 = 2 << 30;

/// What the owner of this node wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// UDP address to listen on. `None` leaves the choice to the mesh: port 51800 on every address.
    pub(crate) listen: Option<SocketAddr>,
    /// Further addresses to tell others, `HOST:PORT`, names resolved again and again.
    pub(crate) endpoints: Vec<String>,
    /// Whether members that are nowhere to be found are called on the own link.
    pub(crate) lan_calls: bool,
    /// Where the page is served.
    pub(crate) dashboard: SocketAddr,
    /// How much the store may take. `None` chooses by the size of the file system.
    pub(crate) store_limit_bytes: Option<u64>,
    /// What is measured beside what the machine itself tells.
    pub(crate) measure: Wishes,
    /// Whether peers are served what they missed as fast as the way carries it.
    pub(crate) unlimited_repair: bool,
}

/// How much the store may take, and who said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) bytes: u64,
    pub(crate) from: BoundFrom,
}

/// Who said how much the store may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoundFrom {
    /// `store.limit_bytes` of this machine's configuration.
    Configuration,
    /// The mesh's setting `retention`.
    Setting,
    /// Nobody: 2 GiB, or a twentieth of the file system if that is less.
    Disk,
}

impl BoundFrom {
    /// The word in JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Setting => "setting",
            Self::Disk => "disk",
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    #[serde(deserialize_with = "some_address")]
    listen: Option<SocketAddr>,
    endpoints: Vec<String>,
    lan_calls: Option<bool>,
    #[serde(deserialize_with = "some_address")]
    dashboard: Option<SocketAddr>,
    store: RawStore,
    repair: RawRepair,
    measure: RawMeasure,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawMeasure {
    ups: Option<String>,
    reach: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRepair {
    unlimited: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStore {
    limit_bytes: Option<u64>,
}

impl Config {
    /// Reads the file named, or the default one where it exists.
    pub(crate) fn load(explicit: Option<&Path>) -> Result<Self> {
        let (path, required) = match explicit {
            Some(path) => (path.to_owned(), true),
            None => (PathBuf::from(DEFAULT_FILE), false),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                Self::parse(&text).with_context(|| format!("configuration {}", path.display()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound && !required => Self::parse(""),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                bail!("configuration {}: it is no UTF-8 text", path.display())
            }
            Err(error) => {
                Err(error).with_context(|| format!("read configuration {}", path.display()))
            }
        }
    }

    /// Reads the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let raw: RawConfig = toml::from_str(text).map_err(|error| one_line(text, &error))?;
        for value in &raw.endpoints {
            endpoint(value).map_err(|why| anyhow::anyhow!("endpoints: {why}"))?;
        }
        if let Some(limit) = raw.store.limit_bytes
            && limit < LEAST_STORE_BYTES
        {
            bail!("store.limit_bytes is {limit}, the least is {LEAST_STORE_BYTES} (64 MiB)");
        }
        if let Some(address) = &raw.measure.ups {
            endpoint(address).map_err(|why| anyhow::anyhow!("measure.ups: {why}"))?;
        }
        for host in &raw.measure.reach {
            reach::check(host).map_err(|why| anyhow::anyhow!("measure.reach: {why}"))?;
        }
        if raw.measure.reach.len() > reach::MAX_TARGETS {
            let (named, most) = (raw.measure.reach.len(), reach::MAX_TARGETS);
            bail!("measure.reach names {named} hosts, the most is {most}");
        }
        let measure = Wishes {
            ups: raw.measure.ups,
            reach: raw.measure.reach,
        };
        Ok(Self {
            listen: raw.listen,
            endpoints: raw.endpoints,
            lan_calls: raw.lan_calls.unwrap_or(true),
            dashboard: raw.dashboard.unwrap_or(DEFAULT_DASHBOARD),
            store_limit_bytes: raw.store.limit_bytes,
            measure,
            unlimited_repair: raw.repair.unlimited,
        })
    }

    /// The same with the flags that say how a node is reached.
    pub(crate) fn with_reach(mut self, flags: &ReachArgs) -> Self {
        self.listen = flags.listen.or(self.listen);
        if !flags.endpoint.is_empty() {
            self.endpoints.clone_from(&flags.endpoint);
        }
        self
    }

    /// The same with the flags of `up`.
    pub(crate) fn with_up(self, flags: &UpArgs) -> Self {
        let mut config = self.with_reach(&flags.reach);
        config.dashboard = flags.dashboard.unwrap_or(config.dashboard);
        config
    }

    /// The advertised addresses as numbers; a name that doesn't resolve is left out.
    pub(crate) fn resolve_endpoints(&self) -> Vec<SocketAddr> {
        let resolved = self
            .endpoints
            .iter()
            .filter_map(|text| text.to_socket_addrs().ok());
        resolved.flat_map(|addresses| addresses.take(2)).collect()
    }

    /// How much the store below `dir` may take, given what the mesh settled for this node: its own
    /// configuration goes before that, and that before a part of the disk.
    pub(crate) fn store_bound(&self, dir: &Path, retention_bytes: Option<u64>) -> Bound {
        let settled = self.store_limit_bytes.or(retention_bytes);
        Bound {
            bytes: settled.unwrap_or_else(|| self.store_limit(dir)),
            from: self.bound_from(retention_bytes),
        }
    }

    /// Who says so, without a look at the disk.
    pub(crate) fn bound_from(&self, retention_bytes: Option<u64>) -> BoundFrom {
        match (self.store_limit_bytes, retention_bytes) {
            (Some(_), _) => BoundFrom::Configuration,
            (None, Some(_)) => BoundFrom::Setting,
            (None, None) => BoundFrom::Disk,
        }
    }

    /// How much the store below `dir` may take where nobody settled anything for it in the mesh.
    pub(crate) fn store_limit(&self, dir: &Path) -> u64 {
        self.store_limit_bytes.unwrap_or_else(|| {
            // Of a directory that is yet to be made, the one it will be made in tells.
            let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(dir);
            let Ok(system) = rustix::fs::statvfs(existing) else {
                return DEFAULT_STORE_BYTES;
            };
            let twentieth = system.f_blocks.saturating_mul(system.f_frsize) / 20;
            twentieth.clamp(LEAST_STORE_BYTES, DEFAULT_STORE_BYTES)
        })
    }
}

/// Reads `ADDR:PORT`; a name is refused, for nobody could say which of its addresses is meant.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_unread| {
        format!("`{text}` is no ADDR:PORT, such as 127.0.0.1:5180, 0.0.0.0:51800 or [::]:51800")
    })
}

fn some_address<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(from)?;
    address(&text).map(Some).map_err(D::Error::custom)
}

/// Checks the form `HOST:PORT` without asking anybody what it resolves to.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    if text
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.port() != 0)
    {
        return Ok(text.to_owned());
    }
    let wrong = || {
        format!("`{text}` is no HOST:PORT, such as home.example.net:51800 or [2001:db8::1]:51800")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let named = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    let numbered = port.parse::<u16>().is_ok_and(|port| port != 0);
    if named && numbered {
        Ok(text.to_owned())
    } else {
        Err(wrong())
    }
}

/// A TOML error as one line with its place; the picture of the line that comes with it is left out.
fn one_line(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let message = error
        .message()
        .replace('\n', " ")
        .replace(
            "expected a sequence",
            "expected a list such as [\"a\", \"b\"]",
        )
        .replace("expected a string", "expected text in quotes")
        .replace("expected u64", "expected a whole number, 0 or more");
    let message = unknown_key(&message).unwrap_or(message);
    match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
            anyhow::anyhow!("line {line}, column {column}: {message}")
        }
        None => anyhow::anyhow!("{message}"),
    }
}

/// A key that isn't known, with the one that was probably meant, or all that could be.
fn unknown_key(message: &str) -> Option<String> {
    let mut quoted = message
        .strip_prefix("unknown field ")?
        .split('`')
        .skip(1)
        .step_by(2);
    let typed = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    let near = crate::text::nearest(typed, &known);
    let typed = crate::text::visible(typed);
    Some(match near {
        Some(meant) => format!("unknown key `{typed}`; did you mean `{meant}`?"),
        None => format!(
            "unknown key `{typed}`; what can be set here: {}",
            known.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(
            config,
            Config {
                listen: None,
                endpoints: vec![],
                lan_calls: true,
                dashboard: "127.0.0.1:5180".parse().unwrap(),
                store_limit_bytes: None,
                measure: Wishes::default(),
                unlimited_repair: false,
            }
        );
    }

    #[test]
    fn every_key_turns_something() {
        let text = "listen = \"0.0.0.0:7000\"\nendpoints = [\"home.example.net:7000\"]\nlan_calls = false\n\
                    dashboard = \"127.0.0.1:0\"\n[store]\nlimit_bytes = 268435456\n[repair]\nunlimited = true\n\
                    [measure]\nups = \"cellar.example.net:3493\"\nreach = [\"example.net:443\"]\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(
            config,
            Config {
                listen: Some("0.0.0.0:7000".parse().unwrap()),
                endpoints: vec!["home.example.net:7000".to_owned()],
                lan_calls: false,
                dashboard: "127.0.0.1:0".parse().unwrap(),
                store_limit_bytes: Some(256 << 20),
                measure: Wishes {
                    ups: Some("cellar.example.net:3493".to_owned()),
                    reach: vec!["example.net:443".to_owned()],
                },
                unlimited_repair: true,
            }
        );
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let cases = [
            (
                "lisen = 1\n",
                "line 1, column 1: unknown key `lisen`; did you mean `listen`?",
            ),
            (
                "colour = 1\n",
                "line 1, column 1: unknown key `colour`; what can be set here: listen, endpoints, lan_calls, dashboard, store",
            ),
            (
                "listen = \"0.0.0.0:1\"\n[store]\nlimit = 1\n",
                "line 3, column 1: unknown key `limit`; did you mean `limit_bytes`?",
            ),
            ("\nendpoints = \"yes\"\n", "line 2, column 13: invalid type"),
            (
                "listen = \"51800\"\n",
                "line 1, column 10: `51800` is no ADDR:PORT, such as ",
            ),
            (
                "endpoints = [\"nowhere\"]\n",
                "endpoints: `nowhere` is no HOST:PORT",
            ),
            (
                "store.limit_bytes = 10\n",
                "store.limit_bytes is 10, the least is 67108864 (64 MiB)",
            ),
        ];
        for (text, starts) in cases {
            let said = Config::parse(text).unwrap_err().to_string();
            assert!(said.starts_with(starts), "{text:?}: {said}");
            assert!(!said.contains('\n'), "{said}");
        }
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = Config::parse("listen = \"0.0.0.0:7000\"\ndashboard = \"127.0.0.1:1\"").unwrap();
        let flags = UpArgs {
            reach: ReachArgs {
                listen: Some("127.0.0.1:0".parse().unwrap()),
                endpoint: vec!["a.example:1".to_owned()],
            },
            dashboard: Some("127.0.0.1:2".parse().unwrap()),
            ephemeral: None,
        };
        let config = file.clone().with_up(&flags);
        assert_eq!(config.listen, flags.reach.listen);
        assert_eq!(config.dashboard, flags.dashboard.unwrap());
        assert_eq!(config.endpoints, flags.reach.endpoint);
        assert_eq!(file.clone().with_reach(&ReachArgs::default()), file);
    }

    #[test]
    fn the_owners_bound_goes_before_the_meshs_and_that_before_the_disks() {
        let dir = Path::new("/");
        let own = Config::parse("store.limit_bytes = 67108864\n").unwrap();
        let none = Config::parse("").unwrap();
        let of = |config: &Config, retention| {
            let bound = config.store_bound(dir, retention);
            (bound.bytes, bound.from)
        };
        assert_eq!(
            of(&own, Some(1 << 30)),
            (64 << 20, BoundFrom::Configuration)
        );
        assert_eq!(of(&none, Some(1 << 30)), (1 << 30, BoundFrom::Setting));
        assert_eq!(of(&none, None), (none.store_limit(dir), BoundFrom::Disk));
    }

    #[test]
    fn endpoints_have_a_host_and_a_port() {
        for fine in ["a.example:1", "192.0.2.1:51800", "[2001:db8::1]:51800"] {
            assert!(endpoint(fine).is_ok(), "{fine}");
        }
        for wrong in [
            "a.example",
            ":1",
            "a:0",
            "a:70000",
            "2001:db8::1",
            "a b:1",
            "[::1]:0",
        ] {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
    }
}
