//! Answers to a page's requests, as messages ready to send.
//!
//! Series are known at once; the past is computed on threads for blocking work.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::ws::Message;
use outlast_mesh::NodeId;
use outlast_store::{Series, SeriesPoints};

use super::api::{Column, ColumnsHeader, SeriesInfo, SeriesKind, ServerMessage};
use super::elsewhere;
use super::history::{self, Past, Range};
use super::live::Live;
use super::{frame, now_ms};
use crate::succession::Succession;
use crate::summary::columns::COLUMNS;

/// How many values a column of the overview has.
const OVERVIEW_POINTS: u32 = 600;

/// A request for the past of some series.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) request: u32,
    pub(super) node: u16,
    pub(super) id: NodeId,
    pub(super) series: Vec<Arc<Series>>,
    pub(super) infos: Vec<SeriesInfo>,
    pub(super) range: Range,
}

/// All series of a node. Where none is known and its rows are kept elsewhere, a holder is asked.
pub(super) async fn series(live: Arc<Live>, request: u32, node: u16) -> Vec<Message> {
    let message = match live.node(node) {
        Ok(id) => {
            let mut series = live.series(id);
            if series.is_empty() {
                elsewhere::learn_series(&live, id).await;
                series = live.series(id);
            }
            ServerMessage::Series {
                request,
                node,
                series,
            }
        }
        Err(message) => ServerMessage::Error { request, message },
    };
    vec![text(&message)]
}

/// The past of some series: a COLUMNS frame.
pub(super) async fn history(live: Arc<Live>, wanted: Wanted) -> Vec<Message> {
    let Wanted {
        request,
        node,
        id,
        series,
        infos,
        range,
    } = wanted;
    let mut found = Vec::new();
    for id in line(&live, id, range) {
        match found_of(&live, id, &series, range).await {
            Ok(more) => found.extend(more),
            Err(message) => return vec![text(&ServerMessage::Error { request, message })],
        }
    }
    let past = live.compute(move || Ok::<_, String>(history::out_of(&found, &series, range)));
    vec![match past.await {
        Ok(past) => columns(request, node, range, infos, &past),
        Err(message) => text(&ServerMessage::Error { request, message }),
    }]
}

async fn found_of(
    live: &Arc<Live>,
    id: NodeId,
    series: &[Arc<Series>],
    range: Range,
) -> Result<Vec<SeriesPoints>, String> {
    let place = live.flow().whereabouts(id).await;
    if !place.kept && !place.holders.is_empty() {
        return elsewhere::found_of(live, id, &place.holders, series, range).await;
    }
    let (store, series) = (live.flow().store().clone(), series.to_vec());
    let query = move || history::found_of(&store, id, &series, range);
    live.compute(query).await
}

/// A node after those whose history it carries on and whose rows reach into the range.
fn line(live: &Live, id: NodeId, range: Range) -> Vec<NodeId> {
    let lines = Succession::shown(&live.flow().mesh().snapshot().members);
    let formers = lines.formers(id).into_iter();
    formers
        .filter(|former| former.until_ms >= range.from_ms)
        .map(|former| former.id)
        .chain([id])
        .collect()
}

/// The overview's past of some nodes: a COLUMNS frame each, empty where nothing is held.
pub(super) async fn overview(live: Arc<Live>, nodes: Vec<u16>, window_ms: u64) -> Vec<Message> {
    let to_ms = now_ms();
    let range = Range::new(
        to_ms.saturating_sub_unsigned(window_ms),
        to_ms,
        OVERVIEW_POINTS,
    );
    let mut messages = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Ok(id) = live.node(node) else { continue };
        let past = match live.newest_schema(id) {
            Some(schema) => {
                let store = live.flow().store().clone();
                let line = line(&live, id, range);
                let query = move || history::of_overview(&store, &line, &schema.series, range);
                live.compute(query).await.unwrap_or_default()
            }
            None => Past::default(),
        };
        messages.push(columns(
            u32::from(node),
            node,
            range,
            overview_series(),
            &past,
        ));
    }
    messages
}

/// A message as it goes over the wire.
pub(super) fn text(message: &ServerMessage) -> Message {
    let json = serde_json::to_string(message).expect("a message has only string keys");
    Message::Text(json.into())
}

fn columns(request: u32, node: u16, range: Range, series: Vec<SeriesInfo>, past: &Past) -> Message {
    let header = ColumnsHeader {
        node,
        from_ms: range.from_ms,
        to_ms: range.to_ms,
        step_ms: past.step_ms,
        n: past.table.times.len() as u32,
        series,
    };
    Message::Binary(frame::columns(request, &header, &past.table))
}

/// The overview's columns as `hello` describes them.
pub(super) fn described() -> Vec<Column> {
    let column = |(name, unit): (&str, &str)| Column {
        name: name.into(),
        unit: unit.into(),
    };
    COLUMNS.map(column).to_vec()
}

fn overview_series() -> Vec<SeriesInfo> {
    let column = |(index, (name, unit)): (u32, (&str, &str))| SeriesInfo {
        index,
        name: name.into(),
        labels: BTreeMap::new(),
        unit: unit.into(),
        kind: SeriesKind::Gauge,
    };
    (0..).zip(COLUMNS).map(column).collect()
}
