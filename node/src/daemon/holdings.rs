//! What `status --json` says of the store: how much it holds, how much it may, and what went.
//!
//! In: the store's own figures, the bound and who set it. Out: JSON; fields may be added.
//! Absent: asking the store, which takes a walk through its directory; `status.rs` does that.

use outlast_mesh::Snapshot;
use outlast_store::{Reason, Stats, Step};
use serde_json::{Value, json};

use super::{Daemon, bound};
use crate::flow::node_of;

pub(super) fn store(stats: &Stats) -> Value {
    let quarantined: Vec<Value> = stats
        .quarantined
        .iter()
        .map(|generation| json!({ "name": generation.name, "reason": generation.reason }))
        .collect();
    let over_share: Vec<String> = stats
        .over_share
        .iter()
        .map(|origin| node_of(*origin).to_string())
        .collect();
    json!({
        "bytes": stats.bytes,
        "limit_bytes": stats.limit_bytes,
        "oldest_ms": stats.oldest_ms,
        "newest_ms": stats.newest_ms,
        "series": stats.series,
        "rows": stats.rows,
        "generations": stats.generations,
        "ready": stats.ready,
        "health": stats.health,
        "quarantined": quarantined,
        "conflicts": stats.conflicts,
        "damaged": stats.damaged,
        "lost_rows": stats.lost,
        "refused": stats.refused,
        "unkept": stats.unkept,
        "gone_rows": gone(stats),
        "tiers": tiers(stats),
        "over_share": over_share,
        "synced_seq": stats.synced.as_ref().map(|(_, seq)| seq),
    })
}

/// The store's part, with who said how much it may take.
pub(super) fn with_bound(mut store: Value, daemon: &Daemon, snapshot: &Snapshot) -> Value {
    let settled = bound::settled_here(snapshot);
    store["limit_from"] = json!(daemon.config.bound_from(settled).as_str());
    store["retention_bytes"] = json!(settled);
    store
}

/// How many rows went from here, by reason.
fn gone(stats: &Stats) -> Value {
    let of = |reason| stats.gone_rows.get(&reason).copied().unwrap_or(0);
    json!({
        "budget": of(Reason::Budget),
        "damaged": of(Reason::Damaged),
        "unwritten": of(Reason::Unwritten),
    })
}

/// What is left of rows that went: how many rows each tier stands for, and its bytes.
fn tiers(stats: &Stats) -> Value {
    let of = |step| {
        let tier = stats.tiers.get(&step).copied().unwrap_or_default();
        json!({ "rows": tier.rows, "bytes": tier.bytes })
    };
    json!({ "10s": of(Step::S10), "1m": of(Step::M1), "1h": of(Step::H1) })
}
