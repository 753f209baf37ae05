//! Who belongs to the mesh, and why: signed statements, kept as a set, folded to one state.
//!
//! `record` is one statement and `payload` what it says, `log` the set of them with its bounds and
//! digests; `fold` makes of the set the `state` it means, `settings` being the part that admins choose; `invite` and
//! `join` make and check the statements that let a node in, `token` is their text on the way; `policy` makes those that
//! set something, `issue` those about who belongs and who may say so, `authority` says whose word counts, `fallout` what
//! else a word changes.
//! Invariant: equal sets give equal state, whatever order, repetition or partition brought them
//! together.
//! Absent: the wire, files and clocks. `now` is passed in.

mod record;

mod payload;

mod log;

mod settings;

mod state;

mod fold;

mod authority;

mod issue;

mod fallout;

mod invite;

mod join;

pub(crate) mod policy;

mod token;

mod moment;

#[cfg(any(test, fuzzing))]
pub(crate) mod family;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod history;
#[cfg(test)]
mod scene;

pub use authority::NoAuthority;
pub use fallout::{Changed, Fallout, fallout};
pub use fold::GRACE;
pub use invite::{InviteError, InviteSeed, InviteTerms, found, issue_invite};
pub use issue::{
    IssueError, Revocation, issue_approve, issue_grant, issue_leave, issue_rename, issue_revoke,
};
pub use join::{JoinRefusal, author_join, witness};
pub use log::{AuthorHead, MAX_LOG, MAX_LOG_BYTES, MAX_WAITING, Statements};
pub use payload::{
    AdminGrant, Approve, CRITICAL, Cut, Endpoint, EndpointKind, Genesis, Invite, Join, Leave,
    LogHeader, MAX_ENDPOINTS, MAX_NAME, MAX_REASON, MAX_VALUE, MAX_VERSION, Manner, NodeInfo,
    Policy, Rename, Replace, Revoke, Target, Witness, is_name, is_reason, kind,
};
pub use policy::{PolicyError, issue_policy, issue_replace};
pub use record::{MAX_BODY, OVERHEAD, Refusal, Statement};
pub use settings::{Setting, SettingError, Settings};
pub use state::{Admin, Conflict, Frozen, Gone, InviteState, Member, Pending, Revoked, State, Use};
pub use token::{Bootstrap, MAX_ADDRS, MAX_BOOTSTRAPS, Token, TokenError};
