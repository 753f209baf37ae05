//! Becoming a member by a token.
//!
//! In: a token, the name wished for. Out: a mesh on disk, whole, or a refusal and nothing on disk.
//! Absent: the exchange with the mesh; `outlast_mesh::join` has that.

use anyhow::{Result, anyhow};
use outlast_mesh::trust::{Member, Statements, Token};
use outlast_mesh::{JoinError, MeshId, NodeId};

use super::keys::Keys;
use super::{Membership, establish, gather};
use crate::config::Config;
use crate::failure::Failure;
use crate::state::StateDir;
use crate::text::{self, visible};
use crate::when;

/// Who let this node in, and where it is.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) mesh_name: String,
    pub(crate) name: String,
    pub(crate) members: Vec<String>,
    /// The machine whose place it took.
    pub(crate) replaces: Option<String>,
    /// It was a member before it was given this token, which is unused.
    pub(crate) before: bool,
}

/// Joins the mesh of a token and stores it; the caller holds the lock. `waits` is told each time that an admin has yet to
/// approve, which may take as long as it takes.
pub(crate) async fn join(
    state: &StateDir,
    config: &Config,
    token: &Token,
    name: &str,
    waits: &mut (dyn FnMut(&str) + Send),
) -> Result<Joined, Failure> {
    let keys = Keys::load_or_make(state)?;
    if let Some(membership) = Membership::load(state)? {
        return already_joined(&membership.statements, &keys.identity.node.id(), token);
    }
    match outlast_mesh::join(config.listen, token, &keys.identity, name, waits).await {
        Ok(statements) => {
            let me = keys.identity.node.id();
            let gathered = gather(statements.clone())?;
            let state_of_mesh = gathered.state();
            let joined = describe(&state_of_mesh.members, &state_of_mesh.name, &me)?;
            establish(state, &statements)?;
            Ok(joined)
        }
        Err(error) => {
            if !matches!(error, JoinError::NoAnswer { .. }) {
                keys.forget();
            }
            Err(refusal(token, &error))
        }
    }
}

/// The answer to a member that is given a token: the same mesh is no mistake, another one is.
pub(crate) fn already_joined(
    statements: &Statements,
    me: &NodeId,
    token: &Token,
) -> Result<Joined, Failure> {
    let folded = statements.state();
    if statements.mesh() != token.mesh() {
        return Err(Failure::new(format!(
            "this node is a member of mesh {} ({}) already, and the token is for mesh {} ({}); \
             name an empty directory with --state-dir to join another",
            visible(&folded.name),
            beginning(&statements.mesh()),
            visible(token.mesh_name()),
            beginning(&token.mesh())
        )));
    }
    if let Some(why) = folded.why_out(me) {
        return Err(Failure::new(format!(
            "this node belongs to mesh {} no more, it was {}; `outlast leave` puts aside what it kept, then join again",
            visible(&folded.name),
            visible(&why)
        )));
    }
    let joined = describe(&folded.members, &folded.name, me)?;
    Ok(Joined {
        before: true,
        ..joined
    })
}

/// Enough of an id to tell two meshes of one name apart.
fn beginning(mesh: &MeshId) -> String {
    mesh.to_string().chars().take(8).collect()
}

fn describe(
    members: &std::collections::BTreeMap<NodeId, Member>,
    mesh_name: &str,
    me: &NodeId,
) -> Result<Joined, Failure> {
    let myself = members
        .get(me)
        .ok_or_else(|| Failure::new("what the mesh sent does not make this node a member"))?;
    let mut names: Vec<String> = members.values().map(|member| member.name.clone()).collect();
    names.sort_unstable();
    Ok(Joined {
        mesh_name: mesh_name.to_owned(),
        name: myself.name.clone(),
        replaces: myself
            .replaces
            .and_then(|old| Some(members.get(&old)?.name.clone())),
        members: names,
        before: false,
    })
}

fn refusal(token: &Token, error: &JoinError) -> Failure {
    let over_ms = i64::try_from(token.invite().not_after_ms).unwrap_or(i64::MAX);
    let over = over_ms < when::now_ms();
    // A token that expired more than a day ago is met with silence.
    if over && matches!(error, JoinError::NoAnswer { .. }) {
        return Failure::new(format!(
            "the token expired at {} by this machine's clock, and nobody answered it; make a new one with `outlast invite`",
            text::moment(over_ms)
        ));
    }
    Failure::from(anyhow!(error.to_string()))
}
