//! What each command takes: one struct each, and the forms its values have.
//!
//! In: words of the command line. Out: values with their meaning; a word that has none is refused here, by name.
//! Absent: which commands there are (`cli.rs`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use outlast_mesh::trust::{MAX_NAME, is_name};

use super::{NewPassphraseArgs, SignArgs};
use crate::config::address;
use crate::when;

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// `init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// This node's name: a-z, 0-9 and -, at most 63 letters [default: the host's name]
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub(crate) name: Option<String>,
    /// The mesh's name, of the same letters
    #[arg(long, value_name = "NAME", default_value = "home", value_parser = node_name)]
    pub(crate) mesh: String,
    /// Print a token for this many machines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) invite: Option<u16>,
    /// Write the 24 recovery words to a new file instead of showing them
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) new: NewPassphraseArgs,
    /// Run this node as a systemd service from now on; needs root
    #[arg(long)]
    pub(crate) service: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// Where a node listens and may be reached; the same for every command that needs it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReachArgs {
    /// UDP address to listen on.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        value_parser = address,
        help = "UDP address to listen on; port 0 takes a free one [default: [::]:51800]"
    )]
    pub(crate) listen: Option<SocketAddr>,
    /// A further address others can reach this node at, such as a forwarded port; repeatable
    #[arg(long, value_name = "HOST:PORT", value_parser = crate::config::endpoint)]
    pub(crate) endpoint: Vec<String>,
}

/// `invite`.
#[derive(Debug, Args)]
pub(crate) struct InviteArgs {
    /// How long the token admits anybody, 1s to 365d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = invite_length)]
    pub(crate) expires: Duration,
    /// How many machines it admits
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) uses: u16,
    /// The name the new machine must take
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub(crate) name: Option<String>,
    /// Let one new machine take the place, name and history of a dead one
    #[arg(long, value_name = "NODE", conflicts_with = "uses")]
    pub(crate) replaces: Option<String>,
    /// Replace a machine even if it is still heard
    #[arg(long, requires = "replaces")]
    pub(crate) force: bool,
    /// An admin must agree to each machine as well, with `outlast approve`
    #[arg(long)]
    pub(crate) approve: bool,
    /// List the tokens that were made, instead of making one
    #[arg(long, conflicts_with_all = ["uses", "name", "replaces", "approve", "qr", "expires"])]
    pub(crate) list: bool,
    /// Close a token that is in wrong hands: the beginning of its id, as --list shows it
    #[arg(long, value_name = "INVITE", conflicts_with_all = ["uses", "name", "replaces", "approve", "qr", "expires", "list", "json"])]
    pub(crate) revoke: Option<String>,
    /// Print token, expiry and uses as JSON
    #[arg(long, conflicts_with = "qr")]
    pub(crate) json: bool,
    /// Draw the token as a QR code on standard error as well
    #[arg(long)]
    pub(crate) qr: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

/// `join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// This node's name: a-z, 0-9 and -, at most 63 letters [default: the one the token is for, else the
    /// host's name]
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub(crate) name: Option<String>,
    /// Read the token from a file
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// The token itself; other users of this machine can see it in `ps`, stdin is better
    #[arg(value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Run this node as a systemd service from now on; needs root
    #[arg(long)]
    pub(crate) service: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// `set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// Which node: a name or the beginning of an id [default: every node]
    pub(crate) node: Option<String>,
    /// What to set: site, metered, may-be-off or retention; nothing after the = takes it back
    #[arg(value_name = "KEY=VALUE")]
    pub(crate) settings: Vec<String>,
    #[command(flatten)]
    pub(crate) sign: SignArgs,
}

/// `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Only this node: a name or the beginning of an id
    pub(crate) node: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Where the page is served; port 0 takes a free one [default: 127.0.0.1:5180]
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub(crate) dashboard: Option<SocketAddr>,
    /// Live only while stdin stays open, then remove this directory
    #[arg(long, hide = true, value_name = "DIR")]
    pub(crate) ephemeral: Option<PathBuf>,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again every second
    #[arg(long)]
    pub(crate) watch: bool,
}

/// A command with no flag but `--json`.
#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Only this node: a name or the beginning of an id
    pub(crate) node: Option<String>,
    /// Only series that match
    #[arg(value_name = "SERIES-GLOB")]
    pub(crate) series: Option<String>,
    /// One JSON object a row
    #[arg(long)]
    pub(crate) json: bool,
}

/// `query`.
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// Which series: a name with * and ?, labels in braces if they matter
    #[arg(long, value_name = "GLOB")]
    pub(crate) series: String,
    /// Which nodes: names with * and ?, or the beginning of an id
    #[arg(long, value_name = "GLOB", default_value = "*")]
    pub(crate) node: String,
    /// From when: -10m, RFC 3339, or milliseconds since the epoch
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "-10m",
        allow_hyphen_values = true
    )]
    pub(crate) from: String,
    /// Until when: now, -10m, RFC 3339, or milliseconds since the epoch
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "now",
        allow_hyphen_values = true
    )]
    pub(crate) to: String,
    /// How fine: raw (every row), 10s, 1m or 1h
    #[arg(long, value_enum, default_value_t = StepArg::Raw, hide_possible_values = true)]
    pub(crate) step: StepArg,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub(crate) json: bool,
    /// Print CSV
    #[arg(long)]
    pub(crate) csv: bool,
}

/// `outages`.
#[derive(Debug, Args)]
pub(crate) struct OutagesArgs {
    /// Which nodes: names with * and ?, or the beginning of an id
    #[arg(long, value_name = "GLOB", default_value = "*")]
    pub(crate) node: String,
    /// Only what lasted at or after this: -7d, RFC 3339, or milliseconds since the epoch
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    /// Only what began at or before this
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    pub(crate) to: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How fine a query answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
pub(crate) enum StepArg {
    /// Every row.
    #[value(name = "raw")]
    #[serde(rename = "raw")]
    Raw,
    /// Ten seconds.
    #[value(name = "10s")]
    #[serde(rename = "10s")]
    S10,
    /// A minute.
    #[value(name = "1m")]
    #[serde(rename = "1m")]
    M1,
    /// An hour.
    #[value(name = "1h")]
    #[serde(rename = "1h")]
    H1,
}

/// `dashboard`.
#[derive(Debug, Args)]
pub(crate) struct DashboardArgs {
    /// Print the link and nothing else
    #[arg(long)]
    pub(crate) print: bool,
    /// Draw the link as a QR code on standard error as well
    #[arg(long)]
    pub(crate) qr: bool,
}

/// `ping`.
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// Which node: a name or the beginning of an id
    pub(crate) node: String,
    /// Stop after this many pings [default: at Ctrl-C]
    #[arg(short, long, value_name = "N", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub(crate) count: Option<u32>,
    /// How long between two pings, 100ms to 1h
    #[arg(short, long, value_name = "DURATION", default_value = "1s", value_parser = ping_interval)]
    pub(crate) interval: Duration,
    /// One JSON object a ping
    #[arg(long)]
    pub(crate) json: bool,
}

/// `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The page of this command [default: that of the program]
    #[arg(conflicts_with = "out")]
    pub(crate) command: Vec<String>,
    /// Write the page of the program and of every command into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// `service`.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(subcommand)]
    pub(crate) command: ServiceCommand,
}

/// What is done with the service.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Make user and unit where they are missing, start the node now and with the machine
    Install {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Stop the node and remove the unit
    Uninstall {
        /// Remove keys, samples, configuration and user as well
        #[arg(long)]
        purge: bool,
        /// Don't ask
        #[arg(long)]
        yes: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Show what is installed, whether it runs, and the next step; exit 3 when it doesn't run
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=16))]
    pub(crate) nodes: u8,
    /// End after this long, the whole story told [at least 5s; a short one may end a few seconds late]
    #[arg(long = "for", value_name = "DURATION", value_parser = demo_length)]
    pub(crate) length: Option<Duration>,
}

pub(super) fn node_name(text: &str) -> Result<String, String> {
    if is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("a name is 1 to {MAX_NAME} of a-z, 0-9 and -"))
    }
}

fn invite_length(text: &str) -> Result<Duration, String> {
    let length = when::duration(text)?;
    // A forgotten token is a door: none stands open for more than a year.
    if (Duration::from_secs(1)..=Duration::from_secs(365 * 86_400)).contains(&length) {
        Ok(length)
    } else {
        Err("a token admits for 1s at least and 365d at most".to_owned())
    }
}

fn ping_interval(text: &str) -> Result<Duration, String> {
    // As ping(8) has it, a bare number counts seconds.
    let seconds = text.parse().ok().map(Duration::try_from_secs_f64);
    let interval = match seconds {
        Some(Ok(interval)) => interval,
        _ => when::duration(text)?,
    };
    if (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&interval) {
        Ok(interval)
    } else {
        Err("between two pings go 100ms at least and 1h at most".to_owned())
    }
}

fn demo_length(text: &str) -> Result<Duration, String> {
    let length = when::duration(text)?;
    if length < Duration::from_secs(5) {
        return Err("the story takes 5s at least".to_owned());
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lasts_from_a_second_to_a_year() {
        assert_eq!(invite_length("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(invite_length("365d"), Ok(Duration::from_secs(31_536_000)));
        for text in ["0s", "999ms", "366d", "365d1s", "-1h", "1"] {
            assert!(invite_length(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_interval_is_a_duration_or_seconds() {
        let cases = [
            ("0.2", 200),
            ("2", 2_000),
            ("250ms", 250),
            ("1h", 3_600_000),
        ];
        for (text, ms) in cases {
            assert_eq!(ping_interval(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["0", "-1", "99ms", "2h", "inf", "NaN", "x", ""] {
            assert!(ping_interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_follow_the_rules() {
        assert_eq!(node_name("attic-2"), Ok("attic-2".to_owned()));
        for name in ["", "Attic", "a b", "ä", "a.b", &"x".repeat(64)] {
            assert!(node_name(name).is_err(), "{name}");
        }
    }
}
