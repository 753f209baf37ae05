//! An admin settles something: a setting, or whose place a new machine takes.
//!
//! In: the admin's key, what is held, what is wanted. Out: a signed statement; the caller inserts, stores and spreads it.
//! Absent: what it means (`fold`, `settings`).

use super::{
    authority::{NoAuthority, check_admin, sign_wish},
    log::Statements,
    payload::{Payload, Policy, Replace, kind},
    record::Statement,
    settings::{Setting, SettingError},
};
use crate::{
    id::{NodeId, StatementId},
    tunnel::keys::AdminKey,
};

/// Why something is not settled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Nothing that the key signs counts.
    #[error(transparent)]
    NoAuthority(#[from] NoAuthority),
    /// It would mean nothing.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Another machine has its place already.
    #[error("{name} was replaced already, by {by}")]
    Replaced {
        /// Whose place.
        name: String,
        /// Who has it.
        by: String,
    },
}

/// Signs a setting for one member, or for all; without a value it is taken back.
pub fn issue_policy(
    admin: &AdminKey,
    statements: &Statements,
    node: Option<NodeId>,
    setting: Setting,
    value: Option<&str>,
    now_ms: u64,
) -> Result<Statement, PolicyError> {
    check_admin(admin, statements)?;
    if let Some(value) = value {
        setting.check(value)?;
    }
    let policy = Policy {
        node,
        key: setting.as_str().to_owned(),
        value: value.map(str::to_owned),
    };
    let wish = Payload::Policy(policy.clone());
    Ok(sign_wish(
        admin,
        statements,
        kind::POLICY,
        &wish,
        &policy,
        now_ms,
    ))
}

/// Signs that whoever comes in by an invite takes the place of a member.
pub fn issue_replace(
    admin: &AdminKey,
    statements: &Statements,
    invite: StatementId,
    node: NodeId,
    now_ms: u64,
) -> Result<Statement, PolicyError> {
    check_admin(admin, statements)?;
    let state = statements.state();
    let name = |id: NodeId| {
        let member = state.ever(&id);
        member.map_or_else(|| id.to_string(), |member| member.name.clone())
    };
    if let Some(by) = state.ever(&node).and_then(|old| old.replaced_by) {
        return Err(PolicyError::Replaced {
            name: name(node),
            by: name(by),
        });
    }
    let replace = Replace { invite, node };
    let wish = Payload::Replace(replace);
    Ok(sign_wish(
        admin,
        statements,
        kind::REPLACE,
        &wish,
        &replace,
        now_ms,
    ))
}

/// What an admin of fixed keys settles: for pinned encodings and fuzzers.
#[cfg(test)]
pub(crate) fn settled(family: &super::family::Family) -> [Statement; 2] {
    use super::family::{START, admin, node};
    let (admin, held) = (admin(), family.statements());
    let invite = family.invite.id(&family.mesh);
    let node = node(2).id();
    let policy = issue_policy(
        &admin,
        &held,
        Some(node),
        Setting::Site,
        Some("attic"),
        START,
    );
    let replace = issue_replace(&admin, &held, invite, node, START);
    [policy, replace].map(|one| one.expect("its own admin settles it"))
}
