//! `rotate-key`: this node gets a new tunnel key; who it is stays the same.

use super::{Doer, reader};
use crate::cli::Global;
use crate::control::Request;
use crate::failure::Failure;
use crate::membership;
use crate::state::StateDir;
use crate::text::{Printer, aside, visible};

pub(super) fn run(global: &Global, out: &mut Printer) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let (public, runs) = match reader(&state)? {
        Doer::Node(mut client) => {
            let answer = client.call(&Request::RotateKey)?;
            (
                answer["tunnel"].as_str().unwrap_or_default().to_owned(),
                true,
            )
        }
        Doer::Ourselves(_lock) => (membership::rotate(&state)?.public().to_string(), false),
    };
    out.line(format!(
        "the tunnel key is {} from now on",
        visible(&public)
    ))?;
    out.flush()?;
    aside(if runs {
        "the peers go over to it without losing a packet; the old one stays good for those asleep for 30 days"
    } else {
        "the others hear of it once `outlast up` does; until then they use the old one, which stays good for 30 days"
    });
    Ok(())
}
