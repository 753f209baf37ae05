//! Joining: what the joiner signs, and what a member checks before it vouches.
//!
//! In: a token or a Join, and the time. Out: a Join, a Witness, or a sentence that says why not.
//! The same key, token and name always give the same Join, so that a try whose answer was lost can
//! be repeated.
//! Absent: the tunnel the two meet in, and the last word: `fold` decides, here nobody vouches in
//! vain.

use serde::{Deserialize, Serialize};

use super::{
    fold::{GRACE, MAX_PENDING, MAX_SURPLUS},
    log::Statements,
    moment::Moment,
    payload::{Join, LogHeader, Payload, Witness, is_name, kind, log_body, read},
    record::Statement,
    state::{InviteState, Revoked, State},
    token::Token,
};
use crate::{
    id::{MeshId, NodeId, StatementId},
    tunnel::keys::{NodeKey, verify},
};

/// Why a node is not admitted, in the words its owner reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum JoinRefusal {
    /// It admitted as many as it may.
    #[error("the token was used already, by {name} ({by:.8}) at {}; ask for a new one", Moment(*at_ms))]
    Used {
        /// Who used it last.
        by: NodeId,
        /// That node's name.
        name: String,
        /// When, by its sponsor's clock.
        at_ms: u64,
    },
    /// Its time is over.
    #[error("the token expired at {}; ask for a new one", Moment(*at_ms))]
    Expired {
        /// When.
        at_ms: u64,
    },
    /// What came is not what was signed.
    #[error("the request to join was altered on its way or signed by other keys than the token's")]
    Altered,
    /// No admin of this mesh signed its invite, or that invite has not come here.
    #[error("the token's invite is not known in mesh {0:.8}: it belongs to another mesh")]
    Foreign(MeshId),
    /// It is for a node of one name.
    #[error("the token admits only a node named {0}; join with `--name {0}`")]
    Pinned(String),
    /// No node may have this name.
    #[error("\"{0}\" is not a name: 1 to 63 letters of a-z, 0-9 and - are needed")]
    Name(String),
    /// An admin took its invite back.
    #[error("the token was revoked by {by} at {}; ask for a new one", Moment(*at_ms))]
    Revoked {
        /// What that admin is called.
        by: String,
        /// When.
        at_ms: u64,
    },
    /// Its id belongs to the mesh no more.
    #[error("this node is gone, {0}; its id never comes back, so it has to join with a new one")]
    Gone(String),
    /// There are rules here that the asked node does not know.
    #[error(
        "the node asked must be upgraded before it may admit anybody: an admin uses newer rules"
    )]
    Upgrade,
    /// Its clock cannot be trusted to say whether the token is still valid.
    #[error("the clock of the node asked is wrong: it reads {}, before things it has seen", Moment(*now_ms))]
    Clock {
        /// What it reads.
        now_ms: u64,
    },
    /// Its key is in use elsewhere.
    #[error("the node asked cannot admit anybody: its key is in use on a second machine")]
    Copied,
    /// It is no member itself.
    #[error("the node asked is not a member of mesh {0:.8} itself")]
    NotMember(MeshId),
    /// Nobody decides on those who came before.
    #[error(
        "{waiting} nodes wait for an admin's approval by this token already; ask for a new token"
    )]
    Waiting {
        /// How many.
        waiting: usize,
    },
    /// The sponsor said what it may about one token.
    #[error(
        "the node asked vouched by this token as often as it may; ask another one, or for a new token"
    )]
    Spent,
    /// Nobody can tell whose token it is.
    #[error(
        "the token is refused: the admin key that made it is in use in two places; ask another admin for one"
    )]
    Doubtful,
}

/// Signs a Join by `token`.
pub fn author_join(node: &NodeKey, token: &Token, name: &str) -> Result<Statement, JoinRefusal> {
    let invite = token.invite();
    check_name(invite.name.as_deref(), name)?;
    let (mesh, id) = (token.mesh(), token.invite_id());
    let bytes = Join::invite_bytes(&mesh, &id, &node.public(), name);
    let join = Join {
        invite: id,
        name: name.to_owned(),
        created_ms: invite.not_before_ms,
        invite_signature: token.seed().signer().sign(&bytes),
    };
    let header = LogHeader {
        seq: 0,
        prev: [0; 32],
        hlc: invite.not_before_ms << 16,
    };
    Ok(Statement::sign(
        kind::JOIN,
        &mesh,
        node,
        log_body(header, &join),
    ))
}

/// Checks a Join and vouches for it; the caller inserts both, stores and spreads them.
///
/// `None` for a node that is a member already, or waits for an admin's approval: it asks again because an answer was
/// lost. Where the invite asks for approval, the Witness makes it wait.
pub fn witness(
    node: &NodeKey,
    statements: &Statements,
    join: &Statement,
    now_ms: u64,
) -> Result<Option<Statement>, JoinRefusal> {
    let (mesh, state) = (statements.mesh(), statements.state());
    let Ok((_place, Payload::Join(asked))) = read(join) else {
        return Err(JoinRefusal::Altered);
    };
    let invite = state
        .invites
        .get(&asked.invite)
        .ok_or_else(|| no_invite(statements, &state, asked.invite))?;
    let bytes = Join::invite_bytes(&mesh, &asked.invite, &join.author, &asked.name);
    if !join.is_signed(&mesh) || !verify(&invite.invite.public, &bytes, &asked.invite_signature) {
        return Err(JoinRefusal::Altered);
    }
    let asking = NodeId(join.author);
    if let Some(gone) = state.gone.get(&asking).filter(|gone| !gone.may_return) {
        return Err(JoinRefusal::Gone(gone.sentence()));
    }
    if state.members.contains_key(&asking) || state.pending.contains_key(&asking) {
        return Ok(None);
    }
    check_invite(&state, invite, &asked, now_ms)?;
    check_room(node, statements, invite, asked.invite)?;
    check_sponsor(node, statements, invite, now_ms)?;
    let mut header = statements.next_header(&node.public(), now_ms);
    // A Witness counts only after its author's own admission, whatever the clocks say.
    header.hlc = header
        .hlc
        .max(state.members[&node.id()].joined_ms.saturating_add(1) << 16);
    let body = log_body(
        header,
        &Witness {
            join: join.id(&mesh),
        },
    );
    Ok(Some(Statement::sign(kind::WITNESS, &mesh, node, body)))
}

fn check_name(pinned: Option<&str>, name: &str) -> Result<(), JoinRefusal> {
    match pinned {
        Some(pinned) if pinned != name => Err(JoinRefusal::Pinned(pinned.to_owned())),
        _ if !is_name(name) => Err(JoinRefusal::Name(name.to_owned())),
        _ => Ok(()),
    }
}

/// An invite that does not count: of an admin whose word does not any more, or of another mesh.
fn no_invite(statements: &Statements, state: &State, invite: StatementId) -> JoinRefusal {
    let revoked = state.admins.iter().find_map(|(key, admin)| {
        let revoked = admin.revoked.as_ref()?;
        statements.has_said(key, &invite).then_some(revoked)
    });
    revoked.map_or(JoinRefusal::Foreign(state.mesh), refusal)
}

fn refusal(revoked: &Revoked) -> JoinRefusal {
    JoinRefusal::Revoked {
        by: revoked.by_label.clone(),
        at_ms: revoked.at_ms,
    }
}

fn check_invite(
    state: &State,
    invite: &InviteState,
    asked: &Join,
    now_ms: u64,
) -> Result<(), JoinRefusal> {
    if let Some(revoked) = &invite.revoked {
        return Err(refusal(revoked));
    }
    if invite.doubtful {
        return Err(JoinRefusal::Doubtful);
    }
    if let Some(last) = invite
        .used
        .last()
        .filter(|_last| invite.used.len() >= usize::from(invite.invite.uses))
    {
        let name = state
            .ever(&last.by)
            .map_or_else(String::new, |member| member.name.clone());
        return Err(JoinRefusal::Used {
            by: last.by,
            name,
            at_ms: last.at_ms,
        });
    }
    if now_ms > invite.invite.not_after_ms {
        return Err(JoinRefusal::Expired {
            at_ms: invite.invite.not_after_ms,
        });
    }
    check_name(invite.invite.name.as_deref(), &asked.name)
}

/// That one token's holder can't use up the log of a sponsor: nobody would come in by that one any more, and not even
/// its farewell would count.
fn check_room(
    node: &NodeKey,
    statements: &Statements,
    invite: &InviteState,
    id: StatementId,
) -> Result<(), JoinRefusal> {
    let waiting = invite.waiting;
    if waiting >= MAX_PENDING {
        return Err(JoinRefusal::Waiting { waiting });
    }
    let uses = usize::from(invite.invite.uses);
    let vouched = statements.vouched_by(&node.public(), &id);
    if vouched >= uses + MAX_PENDING + MAX_SURPLUS {
        return Err(JoinRefusal::Spent);
    }
    Ok(())
}

fn check_sponsor(
    node: &NodeKey,
    statements: &Statements,
    invite: &InviteState,
    now_ms: u64,
) -> Result<(), JoinRefusal> {
    let state = statements.state();
    let Some(me) = state.members.get(&node.id()) else {
        return Err(JoinRefusal::NotMember(state.mesh));
    };
    if !state.unsupported.is_empty() {
        return Err(JoinRefusal::Upgrade);
    }
    // It would count, and fall with the branch that an eviction does not accept.
    if state.frozen.contains_key(&node.public()) {
        return Err(JoinRefusal::Copied);
    }
    let own_ms = statements.last_hlc(&node.public()) >> 16;
    let seen_ms = me.joined_ms.max(own_ms).max(invite.invite.not_before_ms);
    if now_ms.saturating_add(GRACE.as_millis() as u64) < seen_ms {
        return Err(JoinRefusal::Clock { now_ms });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
