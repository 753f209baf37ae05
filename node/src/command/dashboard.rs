//! `dashboard`: a one-use login link to this node's page.
//!
//! Absent: opening a browser; a node starts no other program.

use serde_json::Value;

use crate::cli::{DashboardArgs, Global};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::state::StateDir;
use crate::text::{Printer, aside};

pub(super) fn run(
    global: &Global,
    arguments: &DashboardArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let url = link(&mut Client::require(state.socket_dir())?)?;
    if !arguments.print {
        aside("open this in a browser on this machine, within ten minutes; it works once:");
    }
    out.line(url)
}

/// A fresh login link.
pub(super) fn link(client: &mut Client) -> Result<String, Failure> {
    let answer = client.call(&Request::Ticket)?;
    let url = answer.get("url").and_then(Value::as_str);
    url.map(str::to_owned)
        .ok_or_else(|| Failure::new("the node gave no link"))
}
