//! `invite`: a token on standard output, what it means on standard error.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use outlast_mesh::trust::{Bootstrap, InviteTerms, Statement, Statements, Token, issue_invite};
use outlast_mesh::{MeshId, NodeId};
use serde_json::{Value, json};

use super::{Doer, reader};
use crate::cli::{Global, InviteArgs};
use crate::config::Config;
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::membership::admin::Admin;
use crate::membership::{self, Keys, Membership, addresses};
use crate::state::{self, StateDir};
use crate::text::{self, Printer, aside, visible};
use crate::when;

/// How long to wait until a node that has just started knows its own addresses.
const SETTLING: Duration = Duration::from_secs(5);

pub(super) fn run(
    global: &Global,
    arguments: &InviteArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    let config = Config::load(global.config.as_deref())?.with_reach(&arguments.reach);
    let state = StateDir::resolve(global)?;
    let terms = InviteTerms {
        name: arguments.name.clone(),
        lasts: arguments.expires,
        uses: arguments.uses,
        needs_approval: false,
    };
    let home = state::config_home()?;
    let invited = match reader(&state)? {
        Doer::Node(mut client) => through_node(&mut client, &home, terms)?,
        Doer::Ourselves(_lock) => on_disk(&state, &config, &home, terms)?,
    };
    show(&invited, arguments.json, out)?;
    if arguments.qr {
        super::qr::show(&invited.text())?;
    }
    Ok(())
}

/// A token and what was agreed about it.
pub(super) struct Invited {
    pub(super) token: Token,
}

impl Invited {
    pub(super) fn text(&self) -> String {
        self.token.encode()
    }
}

/// Invites through the running node: it holds the newest statements and spreads the new one.
pub(super) fn through_node(
    client: &mut Client,
    config_home: &std::path::Path,
    terms: InviteTerms,
) -> Result<Invited, Failure> {
    let mesh = mesh_of(client)?;
    // Before the statements are read: whoever had the key before us has published by then.
    let admin = Admin::open(config_home, &mesh.id, &mesh.name)?;
    let (statements, me) = settled(client, &mesh.me)?;
    let now_ms = now_ms();
    let (seed, statement) =
        issue_invite(&admin.key, &statements, terms, now_ms).map_err(anyhow::Error::from)?;
    client.call(&Request::Publish {
        statements: vec![membership::to_text(&statement)],
    })?;
    let named = membership::bootstraps(&statements, me, &mesh.heard);
    let token = Token::new(seed, statement, &statements, named).map_err(anyhow::Error::from)?;
    Ok(Invited { token })
}

/// Invites where no node runs: the statement is on disk, and spreads when this node is up.
pub(super) fn on_disk(
    state: &StateDir,
    config: &Config,
    config_home: &std::path::Path,
    terms: InviteTerms,
) -> Result<Invited, Failure> {
    let mut membership = Membership::load(state)?
        .ok_or_else(|| Failure::new(format!("no mesh at {}", state.path().display())))?;
    let statements = &membership.statements;
    let folded = statements.state();
    let admin = Admin::open(config_home, &statements.mesh(), &folded.name)?;
    let identity = Keys::load_or_make(state)?.identity;
    let addrs = addresses::own(config);
    if addrs.is_empty() {
        return Err(Failure::usage(
            "a token needs a port to name, and port 0 is chosen when the node starts: run `outlast up` first, or give --listen a port",
        ));
    }
    let me = Bootstrap {
        node: identity.node.id(),
        tunnel: identity.tunnel.public(),
        addrs,
    };
    let others: Vec<NodeId> = folded.members.keys().copied().collect();
    let (seed, statement) =
        issue_invite(&admin.key, statements, terms, now_ms()).map_err(anyhow::Error::from)?;
    membership
        .journal
        .append(std::slice::from_ref(&statement))
        .with_context(|| format!("write {}", state.join(membership::JOURNAL).display()))?;
    let named = membership::bootstraps(statements, me, &others);
    let token = Token::new(seed, statement, statements, named).map_err(anyhow::Error::from)?;
    Ok(Invited { token })
}

/// Prints the token, and beside it what its owner should know.
pub(super) fn show(invited: &Invited, as_json: bool, out: &mut Printer) -> Result<(), Failure> {
    let invite = invited.token.invite();
    let until_ms = i64::try_from(invite.not_after_ms).unwrap_or(i64::MAX);
    let printed = if as_json {
        out.json(&json!({
            "token": invited.text(),
            "expires_ms": until_ms,
            "uses": invite.uses,
        }))
    } else {
        out.line(invited.text())
    };
    printed
        .and_then(|()| out.flush())
        .map_err(|failure| unheard(invited, until_ms, &failure))?;
    if as_json {
        return Ok(());
    }
    let machines = match invite.uses {
        1 => "one machine".to_owned(),
        uses => format!("{uses} machines"),
    };
    aside(format!(
        "this token admits {machines} to mesh {} until {}; whoever holds it can use it",
        visible(invited.token.mesh_name()),
        text::moment(until_ms)
    ));
    aside("on each new machine: outlast join < token, then: outlast up");
    aside("every member can read everything that the others measure");
    Ok(())
}

/// The invite is in the mesh and its token reached nobody: that is told, whoever went away.
fn unheard(invited: &Invited, until_ms: i64, failure: &Failure) -> Failure {
    let why = match failure.message.as_str() {
        "" => "its reader went away",
        message => message,
    };
    let id: String = invited
        .token
        .invite_id()
        .to_string()
        .chars()
        .take(8)
        .collect();
    Failure::new(format!(
        "the token of invite {id} was not written: {why}; it admits nobody and expires at {}, make another with `outlast invite`",
        text::moment(until_ms)
    ))
}

struct Mesh {
    id: MeshId,
    name: String,
    me: NodeId,
    /// Peers, the most recently heard first.
    heard: Vec<NodeId>,
}

fn mesh_of(client: &mut Client) -> Result<Mesh, Failure> {
    let status = client.call(&Request::Status)?;
    let id = status["mesh"]["id"].as_str().ok_or_else(|| {
        Failure::new(
            "this node belongs to no mesh yet: run `outlast init`, or `outlast join` with a token",
        )
    })?;
    let id: MeshId = id
        .parse()
        .map_err(|error| anyhow!("the node's mesh id: {error}"))?;
    let identity = client.call(&Request::Identity)?;
    let me = public_of(&identity)?;
    Ok(Mesh {
        id,
        name: status["mesh"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        me,
        heard: heard(client, &status)?,
    })
}

/// The key in an answer to `identity`.
pub(super) fn public_of(identity: &Value) -> Result<NodeId, Failure> {
    let hex = identity["id"].as_str().unwrap_or_default();
    let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).ok();
    let bytes = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes
        .map(NodeId)
        .ok_or_else(|| Failure::new("the node did not say who it is"))
}

fn heard(client: &mut Client, status: &Value) -> Result<Vec<NodeId>, Failure> {
    let statements = statements_of(client)?;
    let by_text: BTreeMap<String, NodeId> = statements
        .state()
        .members
        .keys()
        .map(|id| (id.to_string(), *id))
        .collect();
    let mut heard: Vec<(u64, NodeId)> = status["peers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|peer| {
            let id = by_text.get(peer["id"].as_str()?)?;
            Some((peer["last_heard_ms"].as_u64().unwrap_or(0), *id))
        })
        .collect();
    heard.sort_by(|a, b| b.cmp(a));
    Ok(heard.into_iter().map(|(_, id)| id).collect())
}

fn statements_of(client: &mut Client) -> Result<Statements, Failure> {
    let mut stored: Vec<Statement> = Vec::new();
    client.stream(&Request::Statements, |part| {
        let text = part.as_str().unwrap_or_default();
        stored.push(membership::from_text(text)?);
        Ok(())
    })?;
    Ok(membership::gather(stored)?)
}

/// The node's statements, once they tell where this node itself is reached.
fn settled(client: &mut Client, me: &NodeId) -> Result<(Statements, Bootstrap), Failure> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let statements = statements_of(client)?;
        let folded = statements.state();
        let info = folded
            .members
            .get(me)
            .and_then(|member| member.info.as_ref());
        let addrs = info.map(membership::reachable).unwrap_or_default();
        if let Some(info) = info
            && !addrs.is_empty()
        {
            let bootstrap = Bootstrap {
                node: *me,
                tunnel: info.tunnel,
                addrs,
            };
            return Ok((statements, bootstrap));
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(
                "this node knows no address of its own that a new machine could ask; give `outlast up` one with --endpoint HOST:PORT",
            ));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn now_ms() -> u64 {
    u64::try_from(when::now_ms()).unwrap_or_default()
}
