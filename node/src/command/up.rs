//! `up`: runs the node; logs go to standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::cli::{Global, LogFormat, UpArgs};
use crate::config::Config;
use crate::daemon;
use crate::failure::Failure;
use crate::service::account::{self, Account};
use crate::service::journal;
use crate::state::StateDir;
use crate::text::ColorChoice;

pub(super) fn run(global: &Global, arguments: &UpArgs) -> Result<(), Failure> {
    let config = Config::load(global.config.as_deref())?.with_up(arguments);
    let state = StateDir::resolve(global)?;
    refuse_anothers(&state)?;
    start_logging(global);
    daemon::run(state, config, arguments.ephemeral.clone())
}

/// Root's files in a service's directory would lock the service out of it.
fn refuse_anothers(state: &StateDir) -> Result<(), Failure> {
    let Ok(owner) = Account::owning(state.path()) else {
        return Ok(());
    };
    if !account::is_root() || owner.uid == 0 {
        return Ok(());
    }
    let (dir, owner) = (
        state.path().display(),
        owner.name().unwrap_or_else(|| owner.uid.to_string()),
    );
    Err(Failure::new(format!(
        "{dir} belongs to user {owner}: start the service with `systemctl start outlast`, or run `sudo -u {owner} outlast up --state-dir {dir}`"
    )))
}

fn start_logging(global: &Global) {
    let level = match global.verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    // boringtun reports idle tunnels as errors; what matters of it, the mesh says itself. The engine
    // warns about the `sync` program that it is meant not to find.
    let quiet = "boringtun=off,sled=off,quinn=warn,quinn_proto=warn,rustls=warn,hyper=warn";
    let filter = EnvFilter::new(format!("{level},{quiet}"));
    let color = match global.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            std::io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        }
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log that can't be written must not end the node, which saying so on the same stderr does.
        .log_internal_errors(false)
        .with_span_events(FmtSpan::NONE);
    let started = match global.log_format {
        LogFormat::Text if journal::is_stderr() => lines
            .event_format(journal::Lines::new(global.verbose > 0))
            .try_init(),
        LogFormat::Text => lines
            .with_ansi(color)
            .with_target(global.verbose > 0)
            .try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    // Somebody who runs us as a library may have a subscriber already; theirs stays.
    let _ = started;
}
