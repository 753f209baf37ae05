//! Who belongs and who may say so: what an admin, or a member that leaves, signs about it.
//!
//! In: the key, what is held, what is wanted, the time. Out: a signed statement; the caller inserts, stores and spreads it.
//! Invariant: what would have no effect is not signed; the refusal says why.
//! Absent: what it means (`fold`).

use super::{
    authority::{NoAuthority, check_admin, sign, sign_wish},
    log::Statements,
    moment::Moment,
    payload::{
        AdminGrant, Approve, Cut, Leave, MAX_REASON, Manner, Payload, Rename, Revoke, Target,
        is_name, is_reason, kind, log_body,
    },
    record::Statement,
    state::{Revoked, State},
};
use crate::{
    id::{NodeId, StatementId},
    tunnel::keys::{AdminKey, NodeKey},
};

/// Why something about who belongs is not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// Nothing that the key signs counts.
    #[error(transparent)]
    NoAuthority(#[from] NoAuthority),
    /// No node and no admin may have this name.
    #[error("\"{0}\" is not a name: 1 to 63 letters of a-z, 0-9 and - are needed")]
    Name(String),
    /// The reason does not fit.
    #[error("a reason is at most {MAX_REASON} bytes without line breaks, this one has {len}")]
    Reason {
        /// Its bytes.
        len: usize,
    },
    /// Nobody of that id.
    #[error("no member and nobody who waits has the id {0:.8}")]
    Stranger(NodeId),
    /// It belongs to the mesh no more.
    #[error("{name} is gone, {why}")]
    Gone {
        /// Its name.
        name: String,
        /// How it went.
        why: String,
    },
    /// It is a member.
    #[error("{name} is a member already")]
    Member {
        /// Its name.
        name: String,
    },
    /// It has the name.
    #[error("{0} is called so already")]
    Called(String),
    /// Somebody else has the name.
    #[error("{name} is the name of {by:.8} already; rename that one first")]
    Taken {
        /// The name.
        name: String,
        /// Who has it.
        by: NodeId,
    },
    /// No such invite.
    #[error("no invite has the id {0:.8}")]
    NoInvite(StatementId),
    /// It admits nobody any more as it is.
    #[error("the token closed at {}; evict who came in by it and should not have", Moment(*at_ms))]
    Closed {
        /// When.
        at_ms: u64,
    },
    /// Somebody took it back already.
    #[error("it was revoked already, by {by} at {}", Moment(*at_ms))]
    Revoked {
        /// What that admin is called.
        by: String,
        /// When.
        at_ms: u64,
    },
    /// It is no admin's key.
    #[error("this is no admin key of the mesh; see `outlast admin list`")]
    NoAdmin,
    /// Only who is above may.
    #[error(
        "{label} has rank {rank} and you have {own}: an admin revokes only those of a higher number, and itself"
    )]
    Rank {
        /// What the other is called.
        label: String,
        /// Its rank.
        rank: u8,
        /// The signer's.
        own: u8,
    },
    /// The mesh would have nobody left to ask.
    #[error(
        "it is the last admin of the mesh, and there are no recovery words: make another one first"
    )]
    LastAdmin,
    /// A grant gives less than the granter has.
    #[error("an admin of rank {own} makes admins of rank {} and more, not {rank}", own.saturating_add(1))]
    GrantRank {
        /// Asked for.
        rank: u8,
        /// The signer's.
        own: u8,
    },
    /// It is one already.
    #[error("{label} has this key and rank {rank} already")]
    Admin {
        /// What it is called.
        label: String,
        /// Its rank.
        rank: u8,
    },
    /// Another admin is called so.
    #[error("an admin called {0} exists already")]
    Label(String),
    /// The key is a node's.
    #[error(
        "this is the key of the node {0}; an admin has one of its own, made by `outlast admin add`"
    )]
    NodeKey(String),
    /// A member whose key was copied says nothing any more: which of the two leaves?
    #[error("this node's key is in use on a second machine; an admin has to retire it")]
    Copied,
}

/// What an admin takes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation<'a> {
    /// Of whom or of what.
    pub target: Target,
    /// In what spirit.
    pub manner: Manner,
    /// How far its log still counts; `None`: as far as it is held here.
    pub cut: Option<Cut>,
    /// Why; may be empty.
    pub reason: &'a str,
}

/// Signs that a key administers the mesh. Without a rank it gets the next after the signer's.
pub fn issue_grant(
    admin: &AdminKey,
    statements: &Statements,
    key: [u8; 32],
    rank: Option<u8>,
    label: &str,
    now_ms: u64,
) -> Result<Statement, IssueError> {
    let own = check_admin(admin, statements)?;
    let state = statements.state();
    let rank = rank.unwrap_or_else(|| own.saturating_add(1));
    if rank <= own {
        return Err(IssueError::GrantRank { rank, own });
    }
    if !is_name(label) {
        return Err(IssueError::Name(label.to_owned()));
    }
    if let Some(node) = state.ever(&NodeId(key)) {
        return Err(IssueError::NodeKey(node.name.clone()));
    }
    match state.admins.get(&key) {
        Some(known) if let Some(revoked) = &known.revoked => return Err(revoked.into()),
        Some(known) if known.rank <= rank => {
            let (label, rank) = (known.label.clone(), known.rank);
            return Err(IssueError::Admin { label, rank });
        }
        _ => {}
    }
    let mut others = state.admins.iter().filter(|(other, _admin)| **other != key);
    if others.any(|(_key, other)| other.label == label && other.revoked.is_none()) {
        return Err(IssueError::Label(label.to_owned()));
    }
    let grant = AdminGrant {
        admin: key,
        rank,
        label: label.to_owned(),
    };
    Ok(sign(admin, statements, kind::ADMIN_GRANT, &grant, now_ms))
}

/// Signs that a node which waits for it may come in.
pub fn issue_approve(
    admin: &AdminKey,
    statements: &Statements,
    node: NodeId,
    now_ms: u64,
) -> Result<Statement, IssueError> {
    check_admin(admin, statements)?;
    let state = statements.state();
    let Some(pending) = state.pending.get(&node) else {
        return Err(match state.members.get(&node) {
            Some(member) => IssueError::Member {
                name: member.name.clone(),
            },
            None => absent(&state, node),
        });
    };
    let approve = Approve { join: pending.join };
    Ok(sign(admin, statements, kind::APPROVE, &approve, now_ms))
}

/// Signs that a member, an invite or an admin is none any more.
pub fn issue_revoke(
    admin: &AdminKey,
    statements: &Statements,
    revocation: &Revocation<'_>,
    now_ms: u64,
) -> Result<Statement, IssueError> {
    let own = check_admin(admin, statements)?;
    let state = statements.state();
    let len = revocation.reason.len();
    if !is_reason(revocation.reason) {
        return Err(IssueError::Reason { len });
    }
    let cut = match revocation.target {
        Target::Node(node) => {
            check_node(&state, node, revocation)?;
            accepted(statements, node.0, revocation)
        }
        Target::Invite(invite) => {
            check_invite(&state, invite, now_ms)?;
            Cut::NOTHING
        }
        Target::Admin(key) => {
            check_rank(&state, key, admin.public(), own)?;
            accepted(statements, key, revocation)
        }
    };
    let revoke = Revoke {
        target: revocation.target,
        cut,
        manner: match revocation.manner {
            Manner::Evicted => Manner::Evicted,
            Manner::Retired | Manner::Left => Manner::Retired,
        },
        reason: revocation.reason.to_owned(),
    };
    Ok(sign(admin, statements, kind::REVOKE, &revoke, now_ms))
}

/// Signs what a member is to be called.
pub fn issue_rename(
    admin: &AdminKey,
    statements: &Statements,
    node: NodeId,
    name: &str,
    now_ms: u64,
) -> Result<Statement, IssueError> {
    check_admin(admin, statements)?;
    let state = statements.state();
    if !is_name(name) {
        return Err(IssueError::Name(name.to_owned()));
    }
    if !state.members.contains_key(&node) {
        return Err(absent(&state, node));
    }
    match state.members.values().find(|member| member.name == name) {
        Some(member) if member.id == node => return Err(IssueError::Called(name.to_owned())),
        Some(member) => {
            let (name, by) = (name.to_owned(), member.id);
            return Err(IssueError::Taken { name, by });
        }
        None => {}
    }
    let name = name.to_owned();
    let rename = Rename { node, name };
    let wish = Payload::Rename(rename.clone());
    Ok(sign_wish(
        admin,
        statements,
        kind::RENAME,
        &wish,
        &rename,
        now_ms,
    ))
}

/// Signs that a member leaves for good.
pub fn issue_leave(
    node: &NodeKey,
    statements: &Statements,
    reason: &str,
    now_ms: u64,
) -> Result<Statement, IssueError> {
    let state = statements.state();
    if !is_reason(reason) {
        return Err(IssueError::Reason { len: reason.len() });
    }
    if !state.members.contains_key(&node.id()) {
        return Err(absent(&state, node.id()));
    }
    if state.frozen.contains_key(&node.public()) {
        return Err(IssueError::Copied);
    }
    let leave = Leave {
        reason: reason.to_owned(),
    };
    let header = statements.next_header(&node.public(), now_ms);
    let body = log_body(header, &leave);
    Ok(Statement::sign(kind::LEAVE, &statements.mesh(), node, body))
}

fn absent(state: &State, node: NodeId) -> IssueError {
    match state.gone.get(&node) {
        Some(gone) => IssueError::Gone {
            name: gone.member.name.clone(),
            why: match gone.may_return {
                true => gone.sentence(),
                false => format!("{}; its id never comes back", gone.sentence()),
            },
        },
        None => IssueError::Stranger(node),
    }
}

/// How much of a log is to count. Who retires a machine that came back from an old image keeps what both of its branches
/// vouched for; else one branch counts, for the other may be a thief's.
fn accepted(statements: &Statements, author: [u8; 32], revocation: &Revocation<'_>) -> Cut {
    if let Some(cut) = revocation.cut {
        return cut;
    }
    let forked = statements.state().frozen.contains_key(&author);
    let is_node = matches!(revocation.target, Target::Node(_));
    if forked && is_node && revocation.manner == Manner::Retired {
        let (next, _last) = statements.head(&author);
        let (seq, id) = (next - 1, [0; 32]);
        return Cut { seq, id };
    }
    statements.cut(&author)
}

/// One that is gone can be revoked again, in earnest or to cut more.
fn check_node(state: &State, node: NodeId, revocation: &Revocation<'_>) -> Result<(), IssueError> {
    if state.members.contains_key(&node) || state.pending.contains_key(&node) {
        return Ok(());
    }
    let Some(gone) = state.gone.get(&node) else {
        return Err(IssueError::Stranger(node));
    };
    let earnest = revocation.manner == Manner::Evicted && gone.manner != Manner::Evicted;
    if earnest || gone.may_return || revocation.cut.is_some() {
        return Ok(());
    }
    Err(absent(state, node))
}

fn check_invite(state: &State, id: StatementId, now_ms: u64) -> Result<(), IssueError> {
    let invite = state.invites.get(&id).ok_or(IssueError::NoInvite(id))?;
    match &invite.revoked {
        Some(revoked) => Err(revoked.into()),
        None if !invite.is_open(now_ms) => Err(IssueError::Closed {
            at_ms: invite.closes_ms(),
        }),
        None => Ok(()),
    }
}

fn check_rank(state: &State, key: [u8; 32], signer: [u8; 32], own: u8) -> Result<(), IssueError> {
    let known = state.admins.get(&key).ok_or(IssueError::NoAdmin)?;
    if key != signer && known.rank <= own {
        return Err(IssueError::Rank {
            label: known.label.clone(),
            rank: known.rank,
            own,
        });
    }
    let mut left = state.admins.iter();
    if !left.any(|(other, admin)| *other != key && admin.revoked.is_none()) {
        return Err(IssueError::LastAdmin);
    }
    Ok(())
}

impl From<&Revoked> for IssueError {
    fn from(revoked: &Revoked) -> Self {
        Self::Revoked {
            by: revoked.by_label.clone(),
            at_ms: revoked.at_ms,
        }
    }
}

#[cfg(test)]
mod tests;
