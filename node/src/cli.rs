//! What can be typed: clap types only.
//!
//! In: arguments and environment. Out: one `Command` and the flags all commands share.
//! Absent: what one command takes (`cli/arguments.rs`, `cli/membership.rs`) and does (its file in `command/`).

mod arguments;
mod membership;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::text::ColorChoice;

pub(crate) use arguments::*;
pub(crate) use membership::*;

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

/// The program without its hidden commands and flags, for pages, completions and proposals.
pub(crate) fn shown() -> clap::Command {
    without_hidden(&Cli::command())
}

fn without_hidden(command: &clap::Command) -> clap::Command {
    let arguments = command
        .get_arguments()
        .filter(|argument| !argument.is_hide_set());
    let commands = command
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let text = |text: Option<&clap::builder::StyledStr>| text.cloned().unwrap_or_default();
    clap::Command::new(command.get_name().to_owned())
        .version(env!("CARGO_PKG_VERSION"))
        .about(text(command.get_about()))
        .long_about(text(
            command.get_long_about().or_else(|| command.get_about()),
        ))
        .after_help(text(command.get_after_help()))
        .subcommand_required(command.is_subcommand_required_set())
        .args(arguments.cloned())
        .subcommands(commands.map(without_hidden))
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
  outlast init --invite 2 > token    and print a token that admits two machines within an hour
  sudo outlast init --service        and run the node as a service")]
    Init(InitArgs),
    /// Print a token that admits machines
    #[command(after_help = "\
Examples:
  outlast invite                     one machine, within an hour
  outlast invite --uses 5 --expires 2d > token
  outlast invite | ssh b outlast join
  outlast invite --replaces attic    a new machine in the place of a dead one: its name, its history
  outlast invite --approve           each machine waits until you say `outlast approve`
  outlast invite --list              what was made, used and is open; --revoke closes one
  outlast invite --qr                also as a QR code, to scan from another screen")]
    Invite(InviteArgs),
    /// Join the mesh that a token names; waits until admitted
    #[command(after_help = "\
Examples:
  outlast join < token               the token from stdin, seen by nobody
  outlast join --token-file token --name attic
  sudo outlast join --service < token")]
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
  outlast members                    who belongs to it, up or not, and who did; works without a running node too
  outlast members --json | jq -r '.[].name'")]
    Members(JsonArgs),
    /// Remove a node from the mesh for good, at once, whether it agrees or not
    #[command(after_help = "\
Examples:
  outlast evict attic --reason stolen    every reachable node drops it within seconds
  outlast evict attic --since 2h         and whoever it let in since then
  outlast evict attic --json | jq .waiting
Says who has confirmed it and who hears of it later, at the first contact. Its history stays.
A node that was evicted never comes back under its old key; a new token lets the machine in again.
Needs an admin key: run it where `outlast init` ran, or where an admin was added.")]
    Evict(EvictArgs),
    /// Take a node out of the mesh in peace: sold, replaced, given away
    #[command(after_help = "\
Examples:
  outlast retire attic                   nobody waits for it any more; its history stays
  outlast retire attic --reason 'given to Ann'
As final as `evict`, and said in peace: it is shown as retired, and its keys are not called stolen.
A dead machine's place goes to a new one with `outlast invite --replaces`.")]
    Retire(RetireArgs),
    /// Give a node another name
    #[command(after_help = "\
Examples:
  outlast rename attic roof
  outlast rename attic-k3pq attic        once that name is free
The history follows. A name that a member has already is refused: rename that one first.")]
    Rename(RenameArgs),
    /// Agree to a node that joins by a token of `invite --approve`
    #[command(after_help = "\
Examples:
  outlast approve                        who waits, since when, let in by whom
  outlast approve attic
Compare the id with what `outlast join` printed on the new machine.")]
    Approve(ApproveArgs),
    /// Leave the mesh, and make the state directory ready for another
    #[command(after_help = "\
Examples:
  outlast leave                          the others hear of it; then this node stops
  outlast leave --reason 'moved out'
What it kept goes to former/ in the state directory, where `outlast --state-dir … query` reads it.
After an eviction it does the same without a word to the others.")]
    Leave(LeaveArgs),
    /// Show, add and revoke the keys that may invite, set and evict
    #[command(after_help = "\
Examples:
  ann$ outlast admin key                 makes her key, prints its public half
  bob$ outlast admin add ann PUBLIC      from now on ann decides too, one rank below bob
  bob$ outlast admin revoke ann --since 1d
A key revokes only keys of a strictly lower rank (a larger number), and itself.")]
    Admin(AdminArgs),
    /// Make a new admin key with the 24 recovery words, or make the words
    #[command(after_help = "\
Examples:
  outlast recover                        asks for the words; the new admin key is yours
  outlast recover --revoke admin --since 3d < words
  outlast recover --setup                words for a mesh that was founded without
Run it on any member. The words are never an argument, never stored and never printed.")]
    Recover(RecoverArgs),
    /// Replace this node's tunnel key, without losing a packet
    #[command(after_help = "\
Examples:
  outlast rotate-key                     if wg.key may have been seen; who this node is stays the same
The old key is accepted until every live peer has the new one, and by those asleep for 30 days.")]
    RotateKey,
    /// Set something for the whole mesh or for one node; every node knows it
    #[command(after_help = "\
Examples:
  outlast set retention=4GiB             for every node that has none of its own
  outlast set attic site=home metered=on
  outlast set attic site=                takes it back
Needs the admin key: run it where `outlast init` ran.

Settings:
  site=NAME          where machines stand that lose power or their link together
  metered=on|off     each byte to and from it costs money: it gets summaries and sealed blocks only
  may-be-off=on|off  it may be off without anything being wrong: nobody counts on it
  retention=SIZE     how much its store may take, 64MiB or more, such as 512MiB or 2GiB")]
    Set(SetArgs),
    /// Show what is set, for the mesh and for each node
    #[command(after_help = "\
Examples:
  outlast get                        every node; works without a running node too
  outlast get attic                  each setting of one node, and where it comes from
  outlast get --json | jq '.nodes[] | select(.metered)'")]
    Get(GetArgs),
    /// Measure the round trip to a node through its tunnel
    #[command(after_help = "\
Examples:
  outlast ping attic                 once a second until Ctrl-C, then the summary
  outlast ping attic -c 5 --json     five times, one JSON object each
Exits 0 if anything came back, 1 if nothing did.")]
    Ping(PingArgs),
    /// Show how this node is reached: addresses, NAT, relays, and what is in the way
    #[command(after_help = "\
Examples:
  outlast netcheck                   which way goes to each peer, and why none better
  outlast netcheck --json | jq '.peers[] | select(.path == \"relay\")'")]
    Netcheck(JsonArgs),
    /// Say what is wrong with this node and its machine, and how to mend it
    #[command(after_help = "\
Examples:
  outlast doctor                     permissions, disk, clock, ports, kernel, peers
  sudo outlast doctor                where the node is another user's
  outlast doctor --json | jq '.findings[] | select(.verdict != \"ok\")'
Changes nothing and asks nobody but this machine. Exits 1 if something has to be mended.")]
    Doctor(JsonArgs),
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
    /// Tell why nodes were silent, and by what that is known
    #[command(after_help = "\
Examples:
  outlast outages                    every one that is known, the latest last
  outlast outages --node attic --from -7d
  outlast outages --json | jq '.[] | select(.end_ms == null)'
What happened to a node that isn't back yet is provisional. Works on a stopped node's state directory too.")]
    Outages(OutagesArgs),
    /// Open the dashboard with a one-use login link
    #[command(after_help = "\
Examples:
  outlast dashboard                  on a desktop in its browser; elsewhere the link is printed
  outlast dashboard --qr             for a phone that reaches this address
  ssh -L 5180:127.0.0.1:5180 attic outlast dashboard --print
The link works once, within ten minutes; the browser stays logged in.")]
    Dashboard(DashboardArgs),
    /// Run a three-node mesh on this machine and show a cut that heals
    #[command(after_help = "\
Examples:
  outlast demo                       stays up until Ctrl-C
  outlast demo --nodes 5 --for 60s   the whole story within a minute
Needs no root and leaves nothing behind.")]
    Demo(DemoArgs),
    /// Run the node as a systemd service
    #[command(after_help = "\
Examples:
  sudo outlast service install       user, unit and start; each step is printed; twice does no harm
  outlast service status             what is installed, whether it runs, what to do next
  sudo outlast service uninstall --purge    and its keys and samples")]
    Service(ServiceArgs),
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
  outlast --config new.toml check-config
  outlast check-config --json | jq .store.limit_bytes")]
    CheckConfig(JsonArgs),
    /// Print shell completions
    #[command(after_help = "\
Examples:
  outlast completions bash > ~/.local/share/bash-completion/completions/outlast
  outlast completions zsh > ~/.zfunc/_outlast")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of the program or of one command
    #[command(after_help = "\
Examples:
  outlast man | man -l -             read it
  outlast man query | man -l -
  outlast man --out /usr/local/share/man/man1")]
    Man(ManArgs),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_shown_is_all_but_what_is_hidden() {
        let shown = shown();
        shown.clone().debug_assert();
        for command in Cli::command().get_subcommands() {
            let found = shown.find_subcommand(command.get_name());
            assert_eq!(
                found.is_none(),
                command.is_hide_set(),
                "{}",
                command.get_name()
            );
            let Some(found) = found else { continue };
            let hidden = command.get_arguments().filter(|a| a.is_hide_set()).count();
            let all = command.get_arguments().count();
            assert_eq!(
                found.get_arguments().count(),
                all - hidden,
                "{}",
                command.get_name()
            );
            let below = command.get_subcommands().count();
            assert_eq!(
                found.get_subcommands().count(),
                below,
                "{}",
                command.get_name()
            );
        }
    }
}
