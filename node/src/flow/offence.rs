//! What a member does in the exchange of rows that is refused.
//!
//! A closed list, each with the words that stand in `status`. Whose fault it is: whoever brought
//! what nobody signed, or the origin of what it signed itself.

use outlast_store::StoreError;

/// One kind of lie, or of too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offence {
    /// A row, block or seal that its origin did not sign so.
    Altered,
    /// Something about a log that isn't the sender's, where only its own may be.
    Foreign,
    /// Two signed contents under one identity.
    TwoContents,
    /// Signed, and impossible: more values than its schema has, a block no encoder writes.
    Impossible,
    /// More runs than are kept of one origin.
    Epochs,
    /// More or larger schemas than are kept of one origin.
    Schemas,
    /// More rows that it never seals than are kept of one origin.
    Unsealed,
    /// More stretches of rows with holes between them than are kept of one run.
    Holes,
    /// Bytes that are no message, question or answer.
    Unreadable,
    /// More live rows than a second has.
    Live,
    /// More digests than anything changes.
    Digests,
    /// More seals than windows end.
    Seals,
    /// More requests for key rows than can be lost.
    KeyRows,
    /// More summaries than an honest node sends.
    Summaries,
    /// More subscriptions than looking takes.
    Subscriptions,
    /// More questions than are answered.
    Questions,
    /// A question for more than is given at once.
    Greedy,
    /// A stream that was opened and nothing asked on it in time.
    Unfinished,
    /// Answers to other questions.
    Unasked,
    /// An answer with more pieces or bytes than the question can have.
    Endless,
    /// Digests that its full answers don't bear out.
    Contradiction,
    /// It claims rows and, asked, has none of them.
    Hollow,
    /// It claims more than anybody can hold.
    Claims,
    /// More messages of the ledger than sets that differ need.
    Ledger,
    /// An event that its author did not sign so.
    ForgedEvents,
    /// More events than an author may add.
    Events,
    /// Two signed contents at one place of the ledger.
    TwoEvents,
}

impl Offence {
    /// The words that stand in `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Altered => "altered rows",
            Self::Foreign => "rows in another's name",
            Self::TwoContents => super::TWO_CONTENTS,
            Self::Impossible => "impossible rows",
            Self::Epochs => "epochs over the limit",
            Self::Schemas => "schemas over the limit",
            Self::Unsealed => "unsealed rows over the limit",
            Self::Holes => "rows with too many holes",
            Self::Unreadable => "unreadable messages",
            Self::Live => "live rows too often",
            Self::Digests => "digests too often",
            Self::Seals => "seals too often",
            Self::KeyRows => "key row requests too often",
            Self::Summaries => "summaries too often",
            Self::Subscriptions => "subscriptions too often",
            Self::Questions => "questions too often",
            Self::Greedy => "questions for too much",
            Self::Unfinished => "questions never finished",
            Self::Unasked => "answers nobody asked for",
            Self::Endless => "answers without end",
            Self::Contradiction => "claims that contradict each other",
            Self::Hollow => "claims of rows it did not have",
            Self::Claims => "claims over the limit",
            Self::Ledger => "ledger messages too often",
            Self::ForgedEvents => "forged events",
            Self::Events => "events over the quota",
            Self::TwoEvents => "second contents of an event",
        }
    }
}

/// Who is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Bringer,
    Origin,
}

/// What the store's refusal says, and against whom; `None` where it is nobody's fault.
pub(super) fn of(error: &StoreError) -> Option<(Offence, Fault)> {
    Some(match error {
        StoreError::BadSignature { .. } => (Offence::Altered, Fault::Bringer),
        // A block is refused before its signature is read, or because of it.
        StoreError::Malformed { what: "block", .. } => (Offence::Altered, Fault::Bringer),
        StoreError::Malformed { what: "schema", .. } => (Offence::Schemas, Fault::Origin),
        StoreError::Malformed { .. } => (Offence::Impossible, Fault::Origin),
        StoreError::OverLimit { what: "epochs", .. } => (Offence::Epochs, Fault::Origin),
        StoreError::OverLimit {
            what: "unsealed bytes",
            ..
        } => (Offence::Unsealed, Fault::Origin),
        StoreError::OverLimit { what: "holes", .. } => (Offence::Holes, Fault::Origin),
        StoreError::OverLimit { .. } => (Offence::Schemas, Fault::Origin),
        StoreError::UnknownSchema(_)
        | StoreError::Busy { .. }
        | StoreError::NoEpoch
        | StoreError::NoRoom
        | StoreError::Opening
        | StoreError::Query(_)
        | StoreError::Io { .. }
        | StoreError::NotDurable { .. } => return None,
    })
}
