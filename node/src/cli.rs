//! What can be typed: clap types only.
//!
//! In: arguments and environment. Out: one `Command` and the flags all commands share.
//! Absent: what commands do; each has its file in `command/`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use outlast_mesh::trust::{MAX_NAME, is_name};

use crate::text::ColorChoice;
use crate::when;

/// Monitoring that outlasts the outage.
///
/// One binary per machine. Nodes meet through their own WireGuard tunnels, show each other how
/// their machines are doing, and keep what they can't deliver until the way is open again.
#[derive(Debug, Parser)]
#[command(
    name = "outlast",
    version,
    propagate_version = true,
    max_term_width = 100
)]
#[command(after_help = "\
First minutes:
  outlast demo                      a three-node mesh on this machine, and a cut that heals
  a$ outlast init --invite 2        found a mesh, print a token for two machines; then: outlast up
  b$ outlast join < token           keys are made here and never leave; then: outlast up
  outlast dashboard                 a link to the page, on any node

Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 the node isn't running.")]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where this node keeps its keys and data [default: /var/lib/outlast for root,
    /// $XDG_STATE_HOME/outlast otherwise]
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "OUTLAST_STATE_DIR",
        hide_env_values = true
    )]
    pub(crate) state_dir: Option<PathBuf>,
    /// Configuration file [default: /etc/outlast/outlast.toml, absent is fine]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Say more in the log; twice for everything
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// How log lines on stderr are written: text or json
    #[arg(long, value_name = "FORMAT", global = true, value_enum, default_value_t = LogFormat::Text, hide_possible_values = true)]
    pub(crate) log_format: LogFormat,
    /// When to colour output: auto, always or never; NO_COLOR is respected
    #[arg(long, value_name = "WHEN", global = true, value_enum, default_value_t = ColorChoice::Auto, hide_possible_values = true)]
    pub(crate) color: ColorChoice,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One file in `command/` each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Found a mesh in an empty state directory
    #[command(after_help = "\
Examples:
  outlast init                       found a mesh; then `outlast up`, `outlast invite`
  outlast init --invite 2 > token    and print a token that admits two machines within an hour")]
    Init(InitArgs),
    /// Print a token that admits machines
    #[command(after_help = "\
Examples:
  outlast invite                     one machine, within an hour
  outlast invite --uses 5 --expires 2d > token
  outlast invite | ssh b outlast join")]
    Invite(InviteArgs),
    /// Join the mesh that a token names; waits until admitted
    #[command(after_help = "\
Examples:
  outlast join < token               the token from stdin, seen by nobody
  outlast join --token-file token --name attic")]
    Join(JoinArgs),
    /// Run the node until it is told to stop
    #[command(after_help = "\
Examples:
  outlast up                                    UDP port 51800, page on http://127.0.0.1:5180
  outlast up --listen 0.0.0.0:7000 --dashboard 127.0.0.1:0
Before `init` or `join` it waits for them; SIGTERM or Ctrl-C says goodbye and ends it.")]
    Up(UpArgs),
    /// Show this node, its peers, paths, backlog and store
    #[command(after_help = "\
Examples:
  outlast status --watch             again every second, until Ctrl-C
  outlast status --json | jq '.peers[] | {name, state, backlog_samples}'")]
    Status(StatusArgs),
    /// List the members of the mesh
    #[command(after_help = "\
Examples:
  outlast members                    who belongs to it, up or not; works without a running node too
  outlast members --json | jq -r '.[].name'")]
    Members(JsonArgs),
    /// Show live samples as lines
    #[command(after_help = "\
Examples:
  outlast tail                       everything, from every node
  outlast tail attic 'node_load*'    the load of one node")]
    Tail(TailArgs),
    /// Ask for history, on any node, about any node
    #[command(after_help = "\
Examples:
  outlast query --series node_load1 --from -1h
  outlast query --series 'node_cpu_seconds_total{mode=\"idle\"}' --node attic --step 1m --csv
  outlast query --series 'node_*' --from 2026-11-23T10:00:00Z --to now --json")]
    Query(QueryArgs),
    /// Print a one-use link to the dashboard
    #[command(after_help = "\
Examples:
  outlast dashboard                  open the link within ten minutes; the browser stays logged in
  ssh -L 5180:127.0.0.1:5180 attic outlast dashboard --print")]
    Dashboard(DashboardArgs),
    /// Run a three-node mesh on this machine and show a cut that heals
    #[command(after_help = "\
Examples:
  outlast demo                       stays up until Ctrl-C
  outlast demo --nodes 5 --for 60s   the whole story within a minute
Needs no root and leaves nothing behind.")]
    Demo(DemoArgs),
    /// Print a new WireGuard private key
    #[command(after_help = "\
Examples:
  outlast genkey | tee key | outlast pubkey")]
    Genkey,
    /// Print the public key of the private key on stdin
    #[command(after_help = "\
Examples:
  outlast pubkey < key               the same as `wg pubkey`")]
    Pubkey,
    /// Read the configuration and say what is wrong with it
    #[command(after_help = "\
Examples:
  outlast check-config
  outlast --config new.toml check-config")]
    CheckConfig,
    /// Print shell completions
    #[command(after_help = "\
Examples:
  outlast completions bash > ~/.local/share/bash-completion/completions/outlast
  outlast completions zsh > ~/.zfunc/_outlast")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Drop every datagram at this node's socket, to see how the mesh takes it
    #[command(hide = true)]
    Isolate {
        /// on or off
        #[arg(value_enum, hide_possible_values = true)]
        switch: Switch,
    },
    /// Verify one generation of the store; run by the daemon in a child process
    #[command(hide = true)]
    StoreCheck {
        /// The generation's directory
        dir: PathBuf,
    },
}

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
    pub(crate) reach: ReachArgs,
}

/// Where a node listens and may be reached; the same for every command that needs it.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ReachArgs {
    /// UDP address to listen on.
    #[arg(
        long,
        value_name = "ADDR:PORT",
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
    /// Print token, expiry and uses as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// `join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// This node's name: a-z, 0-9 and -, at most 63 letters [default: the host's name]
    #[arg(long, value_name = "NODE", value_parser = node_name)]
    pub(crate) name: Option<String>,
    /// Read the token from a file
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub(crate) token_file: Option<PathBuf>,
    /// The token itself; other users of this machine can see it in `ps`, stdin is better
    #[arg(value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
}

/// `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) reach: ReachArgs,
    /// Where the page is served; port 0 takes a free one [default: 127.0.0.1:5180]
    #[arg(long, value_name = "ADDR:PORT")]
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

fn node_name(text: &str) -> Result<String, String> {
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

fn demo_length(text: &str) -> Result<Duration, String> {
    let length = when::duration(text)?;
    if length < Duration::from_secs(5) {
        return Err("the story takes 5s at least".to_owned());
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_token_lasts_from_a_second_to_a_year() {
        assert_eq!(invite_length("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(invite_length("365d"), Ok(Duration::from_secs(31_536_000)));
        for text in ["0s", "999ms", "366d", "365d1s", "-1h", "1"] {
            assert!(invite_length(text).is_err(), "{text}");
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
