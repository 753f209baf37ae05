//! Who belongs to the mesh, and why: signed statements, kept as a set, folded to one state.
//!
//! `record` is one statement, `log` the set of them with its bounds and digests, `fold` what the set means;
//! `invite` and `join` make and check the statements that let a node in, `token` is their text on the way.
//! Invariant: equal sets give equal state, whatever order, repetition or partition brought them together.
//! Absent: the wire, files and clocks. `now` is passed in.

mod fold;
mod invite;
mod join;
mod log;
mod record;
mod token;

pub use fold::{Conflict, Frozen, InviteState, Member, State, Use};
pub use invite::{InviteError, InviteSeed, InviteTerms, found, issue_invite};
pub use join::{JoinRefusal, author_join, witness};
pub use log::{AuthorHead, Statements};
pub use record::{
    CRITICAL, Endpoint, EndpointKind, Genesis, Invite, Join, LogHeader, MAX_BODY, MAX_ENDPOINTS,
    MAX_NAME, MAX_VERSION, NodeInfo, Refusal, Statement, Witness, is_name, kind,
};
pub use token::{Bootstrap, MAX_BOOTSTRAPS, Token, TokenError};
