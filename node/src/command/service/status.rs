//! `service status`: what is installed, whether it runs, and what to do next.
//!
//! Absent: the mesh; `outlast status` shows that.

use serde_json::{Value, json};

use super::step::systemctl_says;
use crate::cli::Global;
use crate::control::client::Client;
use crate::control::{Request, SOCKET};
use crate::failure::{Failure, NOT_RUNNING};
use crate::service::{self, RUN_DIR, STATE_DIR};
use crate::state::StateDir;
use crate::text::{Printer, Tone};

pub(super) fn run(global: &Global, as_json: bool, out: &mut Printer) -> Result<(), Failure> {
    let systemd = sd_notify::booted().unwrap_or(false);
    let unit = service::unit();
    let (enabled, active) = if systemd {
        (systemctl_says("is-enabled"), systemctl_says("is-active"))
    } else {
        (false, false)
    };
    let asked = ask(global);
    let version = asked
        .as_ref()
        .ok()
        .map(|status| status["node"]["version"].clone());
    let found = json!({
        "systemd": systemd,
        "unit": unit,
        "enabled": enabled,
        "active": active,
        "version": version,
        "state_dir": STATE_DIR,
        "socket": format!("{RUN_DIR}/{SOCKET}"),
        "next": next(systemd, unit.is_some(), enabled, active, &asked),
    });
    if as_json {
        out.json(&found)?;
    } else {
        show(&found, out)?;
    }
    out.flush()?;
    if active {
        return Ok(());
    }
    // The lines above say it; the code is for scripts.
    Err(Failure {
        exit: NOT_RUNNING,
        message: String::new(),
    })
}

fn ask(global: &Global) -> Result<Value, Failure> {
    let state = StateDir::resolve(global)?;
    Client::require(state.socket_dir())?.call(&Request::Status)
}

fn next(
    systemd: bool,
    installed: bool,
    enabled: bool,
    active: bool,
    asked: &Result<Value, Failure>,
) -> Option<String> {
    let said = match (systemd, installed, enabled, active) {
        (false, ..) => "systemd does not run here: `outlast up` starts the node",
        (_, false, ..) => "sudo outlast service install",
        (_, _, _, false) => {
            "sudo systemctl start outlast, or see why it ended: journalctl -u outlast -n 50"
        }
        (_, _, false, _) => {
            "sudo systemctl enable outlast, or it won't come back after a restart of the machine"
        }
        (true, true, true, true) => match asked {
            Ok(status) if status["mesh"].is_null() => {
                "sudo outlast init founds a mesh, sudo outlast join enters one"
            }
            Ok(_) => return None,
            Err(failure) => return Some(failure.message.clone()),
        },
    };
    Some(said.to_owned())
}

fn show(found: &Value, out: &mut Printer) -> Result<(), Failure> {
    let word = |key: &str, yes: &'static str, no: &'static str| {
        if found[key].as_bool() == Some(true) {
            yes
        } else {
            no
        }
    };
    let state = word("active", "running", "not running");
    let tone = if state == "running" {
        Tone::Good
    } else {
        Tone::Bad
    };
    let unit = found["unit"].as_str().unwrap_or("not installed");
    out.line(format!("service    {}", out.toned(tone, state)))?;
    out.line(format!("unit       {unit}"))?;
    out.line(format!(
        "at boot    {}",
        word("enabled", "started", "not started")
    ))?;
    let version = found["version"].as_str().unwrap_or("-");
    out.line(format!("version    {}", crate::text::visible(version)))?;
    out.line(format!("state      {STATE_DIR}"))?;
    out.line(format!(
        "socket     {RUN_DIR}/{SOCKET} (root: everything; group {}: reading)",
        service::ACCOUNT
    ))?;
    if let Some(next) = found["next"].as_str() {
        out.line(format!("next       {next}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_next_step() {
        let waiting = Ok(json!({"mesh": null}));
        let member = Ok(json!({"mesh": {"name": "home"}}));
        let refused = Err(Failure::new("only root and group outlast"));
        let cases = [
            ((false, false, false, false), &member, Some("outlast up")),
            (
                (true, false, false, false),
                &member,
                Some("service install"),
            ),
            ((true, true, true, false), &member, Some("systemctl start")),
            ((true, true, false, true), &member, Some("systemctl enable")),
            ((true, true, true, true), &waiting, Some("outlast init")),
            ((true, true, true, true), &refused, Some("group outlast")),
            ((true, true, true, true), &member, None),
        ];
        for ((systemd, installed, enabled, active), asked, expected) in cases {
            let said = next(systemd, installed, enabled, active, asked);
            match expected {
                Some(words) => assert!(said.clone().unwrap().contains(words), "{said:?}"),
                None => assert_eq!(said, None),
            }
        }
    }
}
