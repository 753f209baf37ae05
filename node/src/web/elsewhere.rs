//! The past of nodes whose rows are kept elsewhere, from those who keep them, as tables for charts.
//!
//! What this node has of it counts as well: it kept the rows once, or somebody looked.
//! Absent: who is asked, and how long (`flow::ask`).

use std::collections::BTreeSet;
use std::sync::Arc;

use outlast_mesh::NodeId;
use outlast_store::{Query, Series, SeriesPoints, Step};

use super::history::Range;
use super::live::Live;
use super::now_ms;
use crate::flow::origin_of;
use crate::when;

/// How far back a holder is asked which series a node has.
const SERIES_WITHIN_MS: i64 = 24 * 3_600_000;

/// All that is held anywhere of some series of a node; `Err` is for the page.
pub(super) async fn found_of(
    live: &Arc<Live>,
    node: NodeId,
    holders: &[NodeId],
    series: &[Arc<Series>],
    range: Range,
) -> Result<Vec<SeriesPoints>, String> {
    let names: BTreeSet<&str> = series.iter().map(|series| series.name.as_str()).collect();
    let mut found = Vec::new();
    for name in names {
        let query = range.query_of(node, name);
        let (store, local) = (live.flow().store().clone(), query.clone());
        let reading = tokio::task::spawn_blocking(move || store.query(&local));
        // What can't be read here may be read elsewhere.
        let local = reading.await.ok().and_then(Result::ok).unwrap_or_default();
        let told = live.flow().ask_holders(node, holders, &query, local);
        found.extend(told.await.map_err(|error| error.to_string())?.series);
    }
    Ok(found)
}

/// Has a holder say which series a node has, by their values of the last day; nothing is learnt where nobody answers.
pub(super) async fn learn_series(live: &Arc<Live>, node: NodeId) {
    let place = live.flow().whereabouts(node).await;
    if place.kept || place.holders.is_empty() {
        return;
    }
    let query = Query {
        origins: Some(vec![origin_of(node)]),
        series: "*".into(),
        from_ms: now_ms() - SERIES_WITHIN_MS,
        to_ms: now_ms(),
        step: Step::H1,
        now_ms: when::believed_now_ms(),
    };
    let told = live
        .flow()
        .ask_holders(node, &place.holders, &query, Vec::new());
    if let Ok(told) = told.await {
        live.learn(node, told.series.into_iter().map(|found| found.series));
    }
}
