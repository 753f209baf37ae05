//! `invite`: a token on standard output, what it means on standard error.

use std::time::{Duration, Instant};

use outlast_mesh::trust::{
    Bootstrap, InviteSeed, InviteTerms, State, Statement, Statements, Token, issue_invite,
    issue_replace,
};
use outlast_mesh::{AdminKey, NodeId};
use serde_json::json;

use super::mesh::{mesh_of, statements_of};
use super::sign::{self, Owner, now_ms};
use super::{Doer, invites, reader};
use crate::cli::{Global, InviteArgs};
use crate::config::Config;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::membership::{self, Keys, Membership, addresses};
use crate::nodes;
use crate::state::StateDir;
use crate::text::{self, Printer, aside, visible};

/// How long to wait until a node that has just started knows its own addresses.
const SETTLING: Duration = Duration::from_secs(5);

pub(super) fn run(
    global: &Global,
    arguments: &InviteArgs,
    out: &mut Printer,
) -> Result<(), Failure> {
    if arguments.list {
        return invites::list(global, arguments.json, out);
    }
    if let Some(typed) = &arguments.revoke {
        return invites::revoke(global, &arguments.sign, typed, out);
    }
    let config = Config::load(global.config.as_deref())?.with_reach(&arguments.reach);
    let state = StateDir::resolve(global)?;
    let terms = InviteTerms {
        name: arguments.name.clone(),
        lasts: arguments.expires,
        uses: arguments.uses,
        needs_approval: arguments.approve,
    };
    let replaces = arguments.replaces.as_ref().map(|typed| Replaces {
        typed: typed.clone(),
        force: arguments.force,
    });
    let asked = Asked { terms, replaces };
    let owner = Owner::of(&arguments.sign)?;
    let invited = match reader(&state)? {
        Doer::Node(mut client) => through_node(&mut client, &owner, asked)?,
        Doer::Ourselves(_lock) => on_disk(&state, &config, &owner, asked)?,
    };
    show(&invited, arguments.json, out)?;
    if arguments.qr {
        super::qr::show(&invited.text().to_uppercase())?;
    }
    Ok(())
}

/// What is to be agreed about a token.
pub(super) struct Asked {
    pub(super) terms: InviteTerms,
    pub(super) replaces: Option<Replaces>,
}

/// Whose place the new machine takes.
pub(super) struct Replaces {
    /// A name or the beginning of an id.
    typed: String,
    /// Even if it is still heard.
    force: bool,
}

impl From<InviteTerms> for Asked {
    fn from(terms: InviteTerms) -> Self {
        Self {
            terms,
            replaces: None,
        }
    }
}

/// A token and what was agreed about it.
pub(super) struct Invited {
    pub(super) token: Token,
    /// Whose place its user takes.
    replaces: Option<(NodeId, String)>,
}

impl Invited {
    pub(super) fn text(&self) -> String {
        self.token.encode()
    }
}

/// Invites through the running node: it holds the newest statements and spreads the new one.
pub(super) fn through_node(
    client: &mut Client,
    owner: &Owner,
    asked: Asked,
) -> Result<Invited, Failure> {
    let mesh = mesh_of(client)?;
    // Before the statements are read: whoever had the key before us has published by then.
    let admin = owner.admin(&mesh.id, &mesh.name)?;
    let (mut statements, me) = settled(client, &mesh.me)?;
    let again = admin.catch_up(&mut statements)?;
    admin.is_known(&statements.state())?;
    let issued = issue(&admin.key, &mut statements, asked, &mesh.me, |id| {
        mesh.states.get(id).cloned()
    })?;
    sign::publish(client, &admin, &again, &issued.signed)?;
    issued.invited(&statements, me, &mesh.heard)
}

/// Invites where no node runs: the statement is on disk, and spreads when this node is up.
pub(super) fn on_disk(
    state: &StateDir,
    config: &Config,
    owner: &Owner,
    asked: Asked,
) -> Result<Invited, Failure> {
    let mut membership = Membership::of_mesh(state)?;
    let statements = &mut membership.statements;
    let folded = statements.state();
    let admin = owner.admin(&statements.mesh(), &folded.name)?;
    let identity = Keys::load_or_make(state)?.identity;
    membership::still_member(&folded, &identity.node.id())?;
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
    let myself = me.node;
    let again = admin.catch_up(statements)?;
    admin.is_known(&statements.state())?;
    let issued = issue(&admin.key, statements, asked, &myself, |_| None)?;
    if let Some((_, name)) = &issued.replaces {
        let name = visible(name);
        aside(format!(
            "no node runs here, so nobody looked whether {name} is still up; it should not be"
        ));
    }
    sign::append(&mut membership.journal, &admin, &again, &issued.signed)?;
    issued.invited(statements, me, &others)
}

/// What was signed, and is yet to be told.
struct Issued {
    seed: InviteSeed,
    /// The invite, and whose place its user takes.
    signed: Vec<Statement>,
    replaces: Option<(NodeId, String)>,
}

impl Issued {
    fn invited(
        self,
        statements: &Statements,
        me: Bootstrap,
        others: &[NodeId],
    ) -> Result<Invited, Failure> {
        let named = membership::bootstraps(statements, me, others);
        let invite = self.signed[0].clone();
        let token = Token::new(self.seed, invite, statements, named);
        Ok(Invited {
            token: token.map_err(anyhow::Error::from)?,
            replaces: self.replaces,
        })
    }
}

/// Signs an invite, and that its user takes a place if it shall. `state_of` says how a member is heard, if known.
fn issue(
    admin: &AdminKey,
    statements: &mut Statements,
    asked: Asked,
    me: &NodeId,
    state_of: impl Fn(&NodeId) -> Option<String>,
) -> Result<Issued, Failure> {
    let Asked {
        mut terms,
        replaces,
    } = asked;
    let folded = statements.state();
    let old = replaces
        .map(|replaces| dead(&folded, &replaces, me, state_of))
        .transpose()?;
    if let Some((_, name)) = &old {
        terms.name.get_or_insert_with(|| name.clone());
    }
    let now_ms = now_ms();
    let (seed, invite) =
        issue_invite(admin, statements, terms, now_ms).map_err(anyhow::Error::from)?;
    let mut signed = vec![invite.clone()];
    if let Some((id, _)) = &old {
        let of = invite.id(&statements.mesh());
        statements.insert(invite).map_err(anyhow::Error::from)?;
        let replace = issue_replace(admin, statements, of, *id, now_ms);
        signed.push(replace.map_err(anyhow::Error::from)?);
    }
    Ok(Issued {
        seed,
        signed,
        replaces: old,
    })
}

/// The member that is to be replaced: one that nobody hears, unless that is known and wanted so.
fn dead(
    folded: &State,
    replaces: &Replaces,
    me: &NodeId,
    state_of: impl Fn(&NodeId) -> Option<String>,
) -> Result<(NodeId, String), Failure> {
    let names = folded.names();
    let id = nodes::member(folded, &replaces.typed)?;
    let name = &names[&id];
    let shown = visible(name);
    if id == *me {
        return Err(Failure::usage(format!(
            "{shown} is this node: run this on another member once it is gone"
        )));
    }
    let state = state_of(&id);
    let heard = state.filter(|state| matches!(state.as_str(), "alive" | "stale" | "suspect"));
    if let Some(state) = heard.filter(|_| !replaces.force) {
        return Err(Failure::new(format!(
            "{shown} is {state}: stop it first, or give --force; once the token is used it is retired and keeps nothing any more"
        )));
    }
    let open = folded.invites.values();
    let mut open = open.filter(|invite| invite.replaces == Some(id) && invite.is_open(now_ms()));
    if open.next().is_some() {
        aside(format!(
            "a token for the place of {shown} is open already: whoever is first takes it"
        ));
    }
    Ok((id, name.clone()))
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
            "replaces": invited.replaces.as_ref().map(|(id, name)| json!({
                "id": id.to_string(),
                "name": name,
            })),
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
    if let Some((_, old)) = &invited.replaces {
        let name = invite.name.as_deref().unwrap_or(old);
        let (old, name) = (visible(old), visible(name));
        aside(format!(
            "it takes the place of {old}: it is called {name}, gets the history of {old} from whoever keeps it, and {old} is retired"
        ));
    }
    aside("on each new machine: outlast join < token, then: outlast up");
    if invite.needs_approval {
        aside(
            "each waits until an admin says `outlast approve NODE`; `outlast status` shows who waits",
        );
    }
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

/// The node's statements, once they tell where this node itself is reached.
fn settled(client: &mut Client, me: &NodeId) -> Result<(Statements, Bootstrap), Failure> {
    let deadline = Instant::now() + SETTLING;
    loop {
        let statements = statements_of(client)?;
        let folded = statements.state();
        membership::still_member(&folded, me)?;
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
