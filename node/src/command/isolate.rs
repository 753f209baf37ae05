//! `isolate on|off`: cuts this node off at its own socket, to see how the mesh takes it.

use crate::cli::{Global, Switch};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::state::StateDir;
use crate::text::Printer;

pub(super) fn run(global: &Global, switch: Switch, out: &mut Printer) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let on = switch == Switch::On;
    Client::require(state.socket_dir())?.call(&Request::Isolate { on })?;
    out.line(if on {
        "isolated: every datagram is dropped"
    } else {
        "not isolated"
    })
}
