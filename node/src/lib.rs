//! One node: the daemon and its command line. Only this crate knows both the mesh and the store.
//!
//! The data's way:
//! 1. `collect/` reads the machine once a second: one tick of values.
//! 2. `flow/local.rs` makes it a row, hands it to the store's `append.rs` and at once to every live peer.
//! 3. The mesh seals it (`mesh/src/tunnel/`) and sends it as datagrams, never queued behind bulk.
//! 4. The peer's `flow/remote.rs` puts the parts together and gives the row to its own store.
//! 5. `replica/` compares what each side holds and says what to ask; `flow/fetch.rs` asks, `flow/serve.rs` answers from the store.
//! 6. The store's `query.rs` reads ranges, gaps as gaps.
//! 7. `web/live.rs` answers the page over one `WebSocket`; `ui/` draws it.
//! 8. `control.rs` answers the command line over one socket; `command/` prints it.
//! 9. `daemon.rs` starts all of this in order, and stops it within five seconds.
//! 10. `cli.rs` says what can be typed; `config.rs` what can be set.

mod cli;
mod command;
mod config;
mod control;
mod daemon;
mod doctor;
mod failure;
mod interrupt;
mod membership;
mod nodes;
mod state;
mod text;
mod when;

pub mod collect;
pub mod flow;
pub mod replica;
pub mod web;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::{Cli, Command};
use failure::Failure;

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
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(failure::USAGE);
    }
    report(&Failure::usage(one_line(&error.to_string())))
}

fn one_line(rendered: &str) -> String {
    let rendered = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let sentences: Vec<&str> = rendered
        .split("\n\n")
        .filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"))
        .map(str::trim)
        .collect();
    let joined = sentences.join("; ");
    let words: Vec<&str> = joined.split_whitespace().collect();
    format!("{}; see `outlast --help`", words.join(" "))
}
