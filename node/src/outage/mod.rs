//! Why a node was silent: what each tells of its own life, what others saw of it, and the verdict.
//!
//! In: this node's clocks, its power, its peers, and the record its last run left. Out: events in the ledger, which reach
//! everybody; and from everybody's events the list of outages, the same on every node.
//! 1. `life` is the record on disk that says how a run ended.
//! 2. `pulse` and `sight` are the pure cores: this node's own clocks, and its peers.
//! 3. `verdict` folds what all told (`testimony`) into outages; `words` and `shown` say them to people and to scripts.
//! 4. `task` drives the cores and writes the record.

mod facts;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod life;
mod pulse;
mod shown;
mod sight;
mod task;
mod testimony;
mod verdict;
mod words;

pub(crate) use facts::Feed;
pub(crate) use shown::Told;
pub(crate) use task::{Outages, Run};
pub(crate) use testimony::Reason;
