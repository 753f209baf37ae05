//! The subcommands, one file each, and what several of them share.
//!
//! In: parsed arguments. Out: text on standard output, or a `Failure`.
//! Invariant: a command that changes the state directory goes through the running node, or holds the lock itself.
//! Absent: the daemon's work.

mod admin;
mod admin_key;
mod approve;
mod check_config;
mod completions;
mod confirmed;
mod dashboard;
mod demo;
mod doctor;
mod evict;
mod fallout;
mod get;
mod init;
mod invite;
mod invites;
mod isolate;
mod join;
mod keys;
mod leave;
mod man;
mod members;
mod mesh;
mod netcheck;
mod outages;
mod ping;
mod qr;
mod query;
mod recover;
mod rename;
mod rotate_key;
mod service;
mod set;
mod sign;
mod status;
mod tail;
mod up;

use crate::cli::{Cli, Command, Global};
use crate::config::Config;
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::membership::Membership;
use crate::state::{Lock, LockError, StateDir};
use crate::text::Printer;
use crate::trusted;

/// Does what was asked.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let global = cli.global;
    if global.config.is_some() && !matches!(cli.command, Command::Doctor(_)) {
        // One that was named must be there and right, also for a command that reads nothing of it.
        // What is wrong with it, `doctor` says among the rest.
        Config::load(global.config.as_deref())?;
    }
    let mut out = Printer::new(global.color);
    let out = &mut out;
    match cli.command {
        Command::Init(arguments) => init::run(&global, &arguments, out),
        Command::Invite(arguments) => invite::run(&global, &arguments, out),
        Command::Join(arguments) => join::run(&global, &arguments, out),
        Command::Up(arguments) => up::run(&global, &arguments),
        Command::Status(arguments) => status::run(&global, &arguments, out),
        Command::Members(arguments) => members::run(&global, &arguments, out),
        Command::Evict(arguments) => evict::evict(&global, &arguments, out),
        Command::Retire(arguments) => evict::retire(&global, &arguments, out),
        Command::Rename(arguments) => rename::run(&global, &arguments, out),
        Command::Approve(arguments) => approve::run(&global, &arguments, out),
        Command::Leave(arguments) => leave::run(&global, &arguments, out),
        Command::Admin(arguments) => admin::run(&global, &arguments, out),
        Command::Recover(arguments) => recover::run(&global, &arguments, out),
        Command::RotateKey => rotate_key::run(&global, out),
        Command::Set(arguments) => set::run(&global, &arguments, out),
        Command::Get(arguments) => get::run(&global, &arguments, out),
        Command::Ping(arguments) => ping::run(&global, &arguments, out),
        Command::Netcheck(arguments) => netcheck::run(&global, &arguments, out),
        Command::Doctor(arguments) => doctor::run(&global, &arguments, out),
        Command::Tail(arguments) => tail::run(&global, arguments, out),
        Command::Outages(arguments) => outages::run(&global, &arguments, out),
        Command::Query(arguments) => query::run(&global, &arguments, out),
        Command::Dashboard(arguments) => dashboard::run(&global, &arguments, out),
        Command::Demo(arguments) => demo::run(&arguments, out),
        Command::Service(arguments) => service::run(&global, &arguments, out),
        Command::Genkey => keys::genkey(out),
        Command::Pubkey => keys::pubkey(out),
        Command::CheckConfig(arguments) => check_config::run(&global, &arguments, out),
        Command::Completions { shell } => completions::run(shell, out),
        Command::Man(arguments) => man::run(&arguments, out),
        Command::Isolate { switch } => isolate::run(&global, switch, out),
        Command::StoreCheck { dir } => Ok(crate::daemon::store_check(&dir)?),
    }?;
    out.flush()
}

/// Who does the work: the node that runs, or this command on the state directory itself.
enum Doer {
    /// The running node, through its socket.
    Node(Client),
    /// This command; nobody else writes while it holds the lock.
    Ourselves(Lock),
}

/// Finds out whether a node runs; if none does, prepares the directory and takes the lock.
fn doer(state: &StateDir) -> Result<Doer, Failure> {
    Ok(match find_doer(state)? {
        Doer::Ourselves(lock) => Doer::Ourselves(lock.for_service(state)),
        node @ Doer::Node(_) => node,
    })
}

fn find_doer(state: &StateDir) -> Result<Doer, Failure> {
    if let Some(client) = Client::connect(state.socket_dir())? {
        return Ok(Doer::Node(client));
    }
    state.prepare()?;
    match state.lock() {
        Ok(lock) => Ok(Doer::Ourselves(lock)),
        // A node that is just starting has the lock before its socket.
        Err(held @ LockError::Held { .. }) => {
            std::thread::sleep(std::time::Duration::from_millis(500));
            match Client::connect(state.socket_dir())? {
                Some(client) => Ok(Doer::Node(client)),
                None => Err(anyhow::Error::from(held).into()),
            }
        }
        Err(error) => Err(anyhow::Error::from(error).into()),
    }
}

/// What `Request::Trusted` answers, from the running node or from what is on disk.
fn trusted(global: &Global) -> Result<serde_json::Value, Failure> {
    let state = StateDir::resolve(global)?;
    match reader(&state)? {
        Doer::Node(mut client) => client.call(&Request::Trusted),
        Doer::Ourselves(_lock) => Ok(trusted::shown(
            &Membership::of_mesh(&state)?.statements.state(),
        )),
    }
}

/// The same for commands that only read: a directory where nothing was ever founded stays untouched.
fn reader(state: &StateDir) -> Result<Doer, Failure> {
    if Client::connect(state.socket_dir())?.is_none() && !state.is_member() {
        return Err(Failure::new(format!(
            "no mesh at {}: run `outlast init` to found one, or `outlast join` with a token; another directory goes with --state-dir",
            state.path().display()
        )));
    }
    Ok(match find_doer(state)? {
        Doer::Ourselves(lock) => Doer::Ourselves(lock.for_owner(state)),
        node @ Doer::Node(_) => node,
    })
}
