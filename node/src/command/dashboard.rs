//! `dashboard`: a one-use login link to this node's page, opened where there is a browser to open it in.
//!
//! In: a ticket from the node. Out: the desktop's own opener is given a private file that leads on; without a
//! desktop, or with --print, the link is printed.
//! Invariant: the ticket is in no argument list, where other users could read it. Absent: looking for browsers.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use serde_json::Value;

use super::qr;
use crate::cli::{DashboardArgs, Global};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::state::StateDir;
use crate::text::{Printer, aside};

/// What desktops have for opening a file with the program of the user's choice.
const OPENER: &str = "xdg-open";

pub(super) fn run(
    global: &Global,
    arguments: &DashboardArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let url = link(&mut Client::require(state.socket_dir())?)?;
    if arguments.print {
        return out.line(url);
    }
    if arguments.qr {
        out.line(&url)?;
        out.flush()?;
        return qr::show(&url);
    }
    if out.is_terminal()
        && let Some(dir) = desktop()
        && open(&dir, &url).is_ok()
    {
        aside("opened in the browser; `outlast dashboard --print` prints the link instead");
        return Ok(());
    }
    aside("open this in a browser on this machine, within ten minutes; it works once:");
    out.line(url)
}

/// A fresh login link.
pub(super) fn link(client: &mut Client) -> Result<String, Failure> {
    let answer = client.call(&Request::Ticket)?;
    let url = answer.get("url").and_then(Value::as_str);
    url.map(str::to_owned)
        .ok_or_else(|| Failure::new("the node gave no link"))
}

/// This user's own directory of the running desktop session. `None` where there is no desktop.
fn desktop() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("WAYLAND_DISPLAY").or_else(|| set("DISPLAY"))?;
    set("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|dir| dir.is_dir())
}

/// Hands the desktop a file that leads to the link. It stays until the next one or the end of the session:
/// nobody tells when the browser has read it, and what it holds works once and for ten minutes.
fn open(dir: &Path, url: &str) -> anyhow::Result<()> {
    let file = dir.join("outlast-login.html");
    let _ = std::fs::remove_file(&file);
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)
        .and_then(|mut open| open.write_all(page(url).as_bytes()))
        .with_context(|| format!("write {}", file.display()))?;
    let status = Command::new(OPENER)
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context(OPENER)?;
    anyhow::ensure!(status.success(), "{OPENER} ended with {status}");
    Ok(())
}

/// A page that leads on at once. The link is letters, digits and what an address has: nothing to escape.
fn page(url: &str) -> String {
    format!(
        "<!doctype html><meta charset=utf-8><meta name=referrer content=no-referrer>\
         <title>Outlast</title><meta http-equiv=refresh content=\"0;url={url}\">\
         <a href=\"{url}\">Open the dashboard</a>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_leads_to_the_link_by_itself_and_by_a_click() {
        let page = page("http://127.0.0.1:5180/login?ticket=abc");
        assert_eq!(
            page.matches("http://127.0.0.1:5180/login?ticket=abc\"")
                .count(),
            2
        );
        assert!(page.contains("http-equiv=refresh content=\"0;url=http://"));
    }
}
