//! What a state directory holds of a mesh: who this node is, what was signed, and how it got there.
//!
//! In: keys, names, tokens. Out: statements on disk, all of a mesh's or none.
//! Invariant: `statements.log` appears whole, by a rename, and only after this node is a member by it; a refused
//! join leaves nothing that wasn't there before.
//! Absent: the admin key's place (`admin.rs`), and who asks: a command under the lock, or the daemon.

pub(crate) mod addresses;
pub(crate) mod admin;
pub(crate) mod former;
mod joining;
mod keys;
pub(crate) mod passphrase;
pub(crate) mod public;
pub(crate) mod recovery;
pub(crate) mod signed;

use std::io::ErrorKind;

use anyhow::{Context, Result, anyhow};
use data_encoding::{BASE64, HEXLOWER};
use outlast_mesh::trust::{Bootstrap, Cut, EndpointKind, State, Statement, Statements, kind};
use outlast_mesh::{Journal, MeshId, NodeId, NodeKey};

use crate::failure::Failure;
use crate::state::StateDir;
use crate::text::visible;

pub(crate) use joining::{Joined, already_joined, join};
pub(crate) use keys::{Keys, rotate};

/// The journal's name in the state directory.
pub(crate) const JOURNAL: &str = "statements.log";

/// Addresses that a token names of one node: enough for both families at home and away.
const MOST_ADDRESSES: usize = 6;

/// How far the log of an author went at a moment, or, without one, goes by what a revocation accepts now.
pub(crate) fn cut(statements: &Statements, author: &[u8; 32], at_ms: Option<i64>) -> Cut {
    match at_ms {
        Some(at_ms) => statements.cut_at(author, u64::try_from(at_ms).unwrap_or_default()),
        None => statements.cut(author),
    }
}

/// What is on disk of a mesh this node belongs to.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) journal: Journal,
    pub(crate) statements: Statements,
}

impl Membership {
    /// Reads what is there. `None` = neither founded nor joined.
    pub(crate) fn load(state: &StateDir) -> Result<Option<Self>> {
        if !state.is_member() {
            return Ok(None);
        }
        let path = state.join(JOURNAL);
        let context = || {
            format!(
                "{} is damaged; move it elsewhere and `outlast join` the mesh again with a new token",
                path.display()
            )
        };
        let (journal, stored) = Journal::open(&path).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => anyhow!(error).context(context()),
            _ => anyhow!(error).context(format!("read {}", path.display())),
        })?;
        let statements = gather(stored.clone()).with_context(context)?;
        for (statement, at_ms) in stored.iter().zip(journal.received()) {
            at_ms
                .iter()
                .for_each(|at_ms| statements.received(statement, *at_ms));
        }
        Ok(Some(Self {
            journal,
            statements,
        }))
    }

    /// Reads what is there, for a command that makes no sense without a mesh.
    pub(crate) fn of_mesh(state: &StateDir) -> Result<Self, Failure> {
        let missing = || Failure::new(format!("no mesh at {}", state.path().display()));
        Self::load(state)?.ok_or_else(missing)
    }
}

/// Who the node at `state` is. `None`: it has no key yet.
pub(crate) fn me(state: &StateDir) -> Result<Option<NodeId>> {
    let path = state.join("node.key");
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(NodeKey::load(&path)?.id()))
}

/// Statements as a set, under the mesh their Genesis names.
pub(crate) fn gather(stored: Vec<Statement>) -> Result<Statements> {
    let genesis = stored
        .iter()
        .find(|statement| statement.kind == kind::GENESIS)
        .ok_or_else(|| anyhow!("no Genesis among {} statements", stored.len()))?;
    let mesh = MeshId(genesis.id(&MeshId([0; 32])).0);
    let mut statements = Statements::new(mesh);
    for statement in stored {
        if let Err(refusal) = statements.insert(statement) {
            // One bad record costs that record; the peers have it if it ever counted.
            tracing::warn!(reason = %refusal, "a stored statement was left out");
        }
    }
    Ok(statements)
}

/// Puts the statements of a mesh in place, whole or not at all.
pub(crate) fn establish(state: &StateDir, statements: &[Statement]) -> Result<()> {
    let (path, fresh) = (state.join(JOURNAL), state.join("statements.log.new"));
    let context = || format!("write {}", path.display());
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    let (mut journal, _) = Journal::open(&fresh).with_context(context)?;
    journal.append(statements).with_context(context)?;
    drop(journal);
    std::fs::rename(&fresh, &path).with_context(context)?;
    std::fs::File::open(state.path())
        .and_then(|dir| dir.sync_all())
        .with_context(context)
}

/// That this node can still say anything in the mesh; else nobody would hear what is signed here.
pub(crate) fn still_member(state: &State, me: &NodeId) -> Result<(), Failure> {
    match state.why_out(me) {
        None => Ok(()),
        Some(why) => Err(Failure::new(format!(
            "this node is no member of mesh {} any more, so nobody would hear it ({}); say the same on one that is",
            visible(&state.name),
            visible(&why)
        ))),
    }
}

/// Whom a token names: `me` first, then up to two others, the most recently heard first.
pub(crate) fn bootstraps(
    statements: &Statements,
    me: Bootstrap,
    heard: &[NodeId],
) -> Vec<Bootstrap> {
    let state = statements.state();
    let known = |id: &NodeId| {
        let info = state.members.get(id)?.info.as_ref()?;
        let addrs = reachable(info);
        (!addrs.is_empty()).then_some(Bootstrap {
            node: *id,
            tunnel: info.tunnel,
            addrs,
        })
    };
    let others = heard.iter().filter(|id| **id != me.node).filter_map(known);
    let mut named = vec![me.clone()];
    named.extend(others.take(outlast_mesh::trust::MAX_BOOTSTRAPS - 1));
    named
}

/// Where a node says it is, most promising first.
pub(crate) fn reachable(info: &outlast_mesh::trust::NodeInfo) -> Vec<std::net::SocketAddr> {
    let mut endpoints = info.endpoints.clone();
    endpoints.sort_by_key(|endpoint| match endpoint.kind {
        EndpointKind::Advertised => 0,
        EndpointKind::Local => 1,
        EndpointKind::Observed => 2,
    });
    let mut addresses: Vec<_> = endpoints
        .into_iter()
        .map(|endpoint| endpoint.addr)
        .collect();
    addresses.dedup();
    addresses.truncate(MOST_ADDRESSES);
    addresses
}

/// Statements as text, for the control socket.
pub(crate) fn to_text(statement: &Statement) -> String {
    let mut bytes = Vec::with_capacity(statement.encoded_len());
    statement.encode(&mut bytes);
    BASE64.encode(&bytes)
}

/// Statements from text.
pub(crate) fn from_text(text: &str) -> Result<Statement> {
    let bytes = BASE64
        .decode(text.as_bytes())
        .context("a statement that is no base64")?;
    let mut rest = &bytes[..];
    let statement = Statement::decode(&mut rest)?;
    if rest.is_empty() {
        Ok(statement)
    } else {
        Err(anyhow!("a statement with a tail"))
    }
}

/// A public key, or another 32 bytes, from the form that the control socket gives them.
pub(crate) fn key_from_hex(text: &str) -> Result<[u8; 32]> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.ok_or_else(|| anyhow!("a key of 64 hexadecimal letters is needed"))
}

/// The host's name as a node's name: lower case, anything else a dash.
pub(crate) fn host_name() -> String {
    node_name(&rustix::system::uname().nodename().to_string_lossy())
}

fn node_name(host: &str) -> String {
    let first = host
        .split('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let name: String = first
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        })
        .take(outlast_mesh::trust::MAX_NAME)
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() {
        "node".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use outlast_mesh::AdminKey;
    use outlast_mesh::trust::{Setting, found, issue_policy};

    use super::*;
    use crate::when;

    #[test]
    fn what_is_read_again_is_cut_by_when_it_came() {
        const CLAIMED: u64 = 1_000;
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().to_owned());
        let admin = AdminKey::generate();
        let founder = NodeKey::generate().id();
        let (mesh, genesis) = found(&admin, founder, "n1", "home", None, CLAIMED);
        let mut held = Statements::new(mesh);
        held.insert(genesis.clone()).unwrap();
        let site = Some("attic");
        let said = issue_policy(&admin, &held, None, Setting::Site, site, CLAIMED).unwrap();
        let before = u64::try_from(when::now_ms()).unwrap();
        establish(&state, &[genesis, said]).unwrap();

        let held = Membership::load(&state).unwrap().unwrap().statements;
        let cut_at = |at_ms| held.cut_at(&admin.public(), at_ms).seq;
        assert_eq!((cut_at(before), cut_at(before + 60_000)), (0, 2));
    }

    #[test]
    fn a_host_name_becomes_a_node_name() {
        let cases = [
            ("attic", "attic"),
            ("Attic.home.arpa", "attic"),
            ("Living_Room", "living-room"),
            ("größe", "gr--e"),
            ("", "node"),
            ("---", "node"),
        ];
        for (host, name) in cases {
            assert_eq!(node_name(host), name, "{host}");
        }
        assert_eq!(node_name(&"x".repeat(200)).len(), 63);
    }
}
