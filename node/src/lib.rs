//! One node: the daemon and its command line. Only this crate knows both the mesh and the store.
//!
//! The data's way:
//! 1. `collect/` reads the machine once a second: one tick of values.
//! 2. `flow/local.rs` makes it a row, hands it to the store's `append.rs` and at once to every live peer.
//! 3. The mesh seals it (`mesh/src/tunnel/`) and sends it as datagrams, never queued behind bulk.
//! 4. The peer's `flow/core/` puts the parts together and gives the row to its own store; `flow/remote.rs` drives it.
//! 5. `replica/` compares what each side holds and says what to ask; `flow/core/asks.rs` asks, `flow/core/serve.rs` answers from the store.
//!    What happened to a node goes the same way as small messages: `ledger/` spreads signed events to everybody and keeps them.
//! 6. The store's `query.rs` reads ranges, gaps as gaps.
//! 7. `web/live.rs` answers the page over one `WebSocket`; `ui/` draws it. Of nodes whose rows are kept elsewhere it shows
//!    summaries (`summary/`), live rows while somebody looks, and what holders tell (`flow/ask.rs`).
//! 8. `control.rs` answers the command line over one socket; `command/` prints it.
//! 9. `outage/` tells why a node was silent, from what each says of itself and of others in the `ledger/`.
//! 10. `daemon.rs` starts all of this in order, and stops it within five seconds.
//! 11. `cli.rs` says what can be typed; `config.rs` what can be set.

mod cli;
mod command;
mod config;
mod control;
mod daemon;
mod doctor;
mod failure;
mod file;
mod interrupt;
mod losses;
mod membership;
mod nodes;
mod outage;
mod service;
mod settled;
mod state;
mod succession;
mod terminal;
mod text;
mod trusted;
mod when;

pub mod collect;
pub mod flow;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod ledger;
pub mod replica;
pub mod summary;
pub mod web;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::{Cli, Command};
use failure::Failure;
use text::{ColorChoice, Printer, escaped};

/// Runs the program with this process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    if matches!(
        cli.command,
        Command::Up(_) | Command::StoreCheck { .. } | Command::Query(_)
    ) {
        leave_no_path();
    }
    match command::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// From here on no program can be found by name: the store's engine would run `sync` otherwise.
fn leave_no_path() {
    #[expect(
        unsafe_code,
        reason = "the environment may be changed only while there is one thread, and there is"
    )]
    // SAFETY: called first thing in `main`, before any thread is started.
    unsafe {
        std::env::set_var("PATH", daemon::NO_PATH);
    }
}

fn report(failure: &Failure) -> ExitCode {
    if !failure.message.is_empty() {
        text::aside(format!("outlast: {}", failure.message));
    }
    ExitCode::from(failure.exit)
}

/// What clap has to say: help and version as they are, a mistake as one line of ours.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return match print(error) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => report(&failure),
        };
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(failure::USAGE);
    }
    if error.kind() == ErrorKind::InvalidSubcommand {
        // Asked again without the hidden ones, clap proposes none of them.
        let again = cli::shown().try_get_matches_from(std::env::args_os());
        let error = again
            .err()
            .map_or_else(|| error.to_string(), |again| again.to_string());
        return report(&Failure::usage(one_line(&error)));
    }
    report(&Failure::usage(one_line(&error.to_string())))
}

fn print(page: &clap::Error) -> Result<(), Failure> {
    let mut out = Printer::new(ColorChoice::Auto);
    let page = page.render();
    if out.is_coloured() {
        out.raw(&page.ansi().to_string())?;
    } else {
        out.raw(&page.to_string())?;
    }
    out.flush()
}

/// A mistake as clap tells it, in one line that names the help of the command it happened in.
fn one_line(rendered: &str) -> String {
    let program = cli::shown();
    let (mut command, mut help) = (&program, "outlast".to_owned());
    for word in std::env::args_os().skip(1) {
        if let Some(below) = command.find_subcommand(word) {
            help = format!("{help} {}", below.get_name());
            command = below;
        }
    }
    help.push_str(" --help");
    let rendered = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let sentences: Vec<&str> = rendered
        .split("\n\n")
        .filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"))
        .map(str::trim)
        .collect();
    let joined = sentences.join("; ");
    let words: Vec<&str> = joined.split_whitespace().collect();
    let line = words
        .join(" ")
        .replace(" is not in ", " is not within ")
        .replace("..=", " to ");
    format!("{}; see `{help}`", escaped(&line))
}
