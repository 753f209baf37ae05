//! `leave`: this node belongs to the mesh no more, and its state directory is ready for another.
//!
//! In: why. Out: who has heard of it, and where what the node kept is now.
//! Invariant: nothing is put aside before somebody else knows, for only this node can tell them; `--force` does without.
//! Absent: taking another node out; `evict` and `retire` do that.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::confirmed::Confirmed;
use super::{Doer, reader};
use crate::cli::{Global, LeaveArgs};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::{Failure, NOT_RUNNING};
use crate::membership::{self, Membership, former};
use crate::state::StateDir;
use crate::text::{Printer, aside, visible};

/// How long a node may take to end and to put its things aside.
const ENDING: Duration = Duration::from_secs(30);

/// How often to look whether it has.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn run(
    global: &Global,
    arguments: &LeaveArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    match reader(&state)? {
        Doer::Node(mut client) => through_node(&mut client, arguments, out),
        Doer::Ourselves(_lock) => on_disk(&state, arguments, out),
    }
}

fn through_node(
    client: &mut Client,
    arguments: &LeaveArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let (_, mesh) = super::mesh::mesh_named(client)?;
    let reason = arguments.reason.clone().unwrap_or_default();
    let before = client.call(&Request::Goodbye { reason })?["before"].take();
    if before["itself"] == false {
        let why = before["why"].as_str().unwrap_or_default();
        aside(format!("this node was {} already", visible(why)));
    } else {
        let confirmed = Confirmed::wait(client)?;
        let is_known = !confirmed.by.is_empty() || confirmed.waiting.is_empty();
        if !is_known && !arguments.force {
            return Err(Failure::new(
                "nobody has heard yet that this node leaves, and nobody else can tell them: leave it running and say \
                 `outlast leave` again once a member is in reach, or give --force and let an admin retire it",
            ));
        }
        confirmed.show(out)?;
    }
    let place = client.call(&Request::Depart)?["aside"].take();
    let place = PathBuf::from(place.as_str().unwrap_or_default());
    let deadline = Instant::now() + ENDING;
    while !former::is_put(&place) {
        if Instant::now() >= deadline {
            return Err(Failure::new(format!(
                "the node has left, but what it kept is not in {} after {} s; its log says why, and `outlast leave` once it is down tries again",
                place.display(),
                ENDING.as_secs()
            )));
        }
        std::thread::sleep(LOOK);
    }
    report(&mesh, &place, out)
}

fn on_disk(state: &StateDir, arguments: &LeaveArgs, out: &mut Printer) -> Result<(), Failure> {
    let Membership {
        journal,
        statements,
    } = Membership::of_mesh(state)?;
    // What is moved must not be open.
    drop(journal);
    let folded = statements.state();
    let me = membership::me(state)?;
    let belongs = me.is_some_and(|me| folded.members.contains_key(&me));
    let why = me.and_then(|me| folded.why_out(&me));
    if let Some(why) = why {
        aside(format!(
            "this node is no member any more: {}",
            visible(&why)
        ));
    } else if belongs && folded.members.len() > 1 && !arguments.force {
        return Err(Failure {
            exit: NOT_RUNNING,
            message: format!(
                "no node is running on {}, and the others have to hear that it leaves: start it with `outlast up` and say \
                 `outlast leave` again, or give --force and let an admin retire it",
                state.path().display()
            ),
        });
    }
    let place = former::put_aside(state, &statements.mesh())?;
    report(&folded.name, &place, out)
}

fn report(mesh: &str, place: &Path, out: &mut Printer) -> Result<(), Failure> {
    out.line(format!("left mesh {}", visible(mesh)))?;
    out.flush()?;
    aside(format!(
        "what it kept is in {}; `outlast join` with a token makes this machine a new node",
        place.display()
    ));
    Ok(())
}
