//! `service`: the node as a systemd service, installed, taken away again, looked at.
//!
//! In: what this machine has already. Out: a plan of steps, each printed before it is done; with `--dry-run`, or
//! where systemd doesn't run, only printed.
//! Invariant: doing it twice changes nothing the second time; a package's files are left to the package.
//! Absent: the running node; it never changes its machine. These steps are typed by root, here.

mod plan;
mod status;
mod step;

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use plan::Machine;
use step::Step;

use crate::cli::{Global, ServiceArgs, ServiceCommand};
use crate::failure::{FAILED, Failure};
use crate::service::account;
use crate::service::{self, STATE_DIR};
use crate::text::{Printer, aside};

pub(super) fn run(
    global: &Global,
    arguments: &ServiceArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    match &arguments.command {
        ServiceCommand::Install { dry_run } => {
            refuse_elsewhere(global, "--state-dir")?;
            install(*dry_run, out)
        }
        ServiceCommand::Uninstall {
            purge,
            yes,
            dry_run,
        } => {
            refuse_elsewhere(global, "--state-dir")?;
            uninstall(*purge, *yes, *dry_run, out)
        }
        ServiceCommand::Status { json } => status::run(global, *json, out),
    }
}

fn install(dry_run: bool, out: &mut Printer) -> Result<(), Failure> {
    let machine = Machine::look();
    if !dry_run {
        require_root("service install")?;
    }
    let steps = plan::install(&machine);
    if dry_run || !machine.systemd {
        return would(&steps, dry_run, "service install", out);
    }
    perform(&steps, out)?;
    out.line(if machine.is_member {
        "installed: `outlast status` shows the node"
    } else {
        "installed, and waiting: `sudo outlast init` founds a mesh, `sudo outlast join` enters one"
    })
}

/// What `init --service` and `join --service` do when the node is a member.
pub(super) fn install_after(command: &str) -> Result<(), Failure> {
    let machine = Machine::look();
    if !machine.systemd {
        return Err(Failure::new(format!(
            "{command} is done, but systemd does not run here, so no service was installed: \
             `outlast service install` lists its steps; `outlast up` starts the node"
        )));
    }
    for step in plan::install(&machine) {
        aside(step.to_string());
        step.perform()?;
    }
    Ok(())
}

/// Refuses `--service` before anything is done where it can't be meant.
pub(super) fn check_flag(
    command: &str,
    global: &Global,
    reach: &crate::cli::ReachArgs,
) -> Result<(), Failure> {
    require_root(&format!("{command} --service"))?;
    refuse_elsewhere(global, "--state-dir or --service")?;
    if reach.listen.is_some() || !reach.endpoint.is_empty() {
        return Err(Failure::usage(format!(
            "the service takes --listen and --endpoint from {}: put them there and leave them out here",
            crate::config::DEFAULT_FILE
        )));
    }
    Ok(())
}

/// The service has one state directory; whoever names another means something else, and must not lose this one.
fn refuse_elsewhere(global: &Global, leave_out: &str) -> Result<(), Failure> {
    let named = global.state_dir.as_deref();
    match named.filter(|dir| *dir != Path::new(STATE_DIR)) {
        None => Ok(()),
        Some(dir) => Err(Failure::usage(format!(
            "the service keeps its state in {STATE_DIR}, not in {}: leave out {leave_out}",
            dir.display()
        ))),
    }
}

fn require_root(command: &str) -> Result<(), Failure> {
    if account::is_root() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{command} needs root: sudo outlast {command}"
    )))
}

fn uninstall(purge: bool, yes: bool, dry_run: bool, out: &mut Printer) -> Result<(), Failure> {
    let machine = Machine::look();
    if !dry_run {
        require_root("service uninstall")?;
    }
    let steps = plan::uninstall(&machine, purge);
    if dry_run || !machine.systemd {
        return would(&steps, dry_run, "service uninstall", out);
    }
    if purge && !yes {
        confirm(&steps)?;
    }
    perform(&steps, out)?;
    if machine.packaged {
        out.line("the package's files stay: `apt purge outlast` removes them")?;
    }
    if purge {
        out.line("gone; the admin key, if this machine has one, stays in ~/.config/outlast")
    } else {
        out.line(format!(
            "state and configuration stay in {STATE_DIR} and {}; --purge removes them",
            service::CONFIG_DIR
        ))
    }
}

fn perform(steps: &[Step], out: &mut Printer) -> Result<(), Failure> {
    if steps.is_empty() {
        out.line("nothing to do")?;
    }
    for step in steps {
        out.line(step.to_string())?;
        out.flush()?;
        step.perform()?;
    }
    Ok(())
}

/// Shows the steps without doing them; only where they were wished for is that a failure.
fn would(steps: &[Step], asked: bool, command: &str, out: &mut Printer) -> Result<(), Failure> {
    for step in steps {
        out.line(format!("would {step}"))?;
    }
    out.flush()?;
    if asked {
        return Ok(());
    }
    Err(Failure {
        exit: FAILED,
        message: format!(
            "systemd does not run here, so `{command}` changed nothing; the steps are above, and `outlast up` starts the node"
        ),
    })
}

fn confirm(steps: &[Step]) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::usage(
            "--purge deletes keys and samples for good: say --yes as well where nobody can be asked",
        ));
    }
    for step in steps {
        aside(format!("will {step}"));
    }
    let mut stderr = std::io::stderr();
    let _ = write!(
        stderr,
        "Keys and samples of this node are gone after that. Type yes to go on: "
    );
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::new("nothing was changed"))
    }
}
