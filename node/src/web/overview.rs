//! Follows all nodes while a page is open: one `nodes` message and one TICK frame a second, made
//! once and given to every page.
//!
//! In: rows as they are stored, the mesh's snapshots. Out: two `watch` channels, each of which holds only
//! the newest, so that a slow page misses frames and never makes a queue.
//! With no page open it does nothing at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use outlast_mesh::NodeId;
use outlast_store::{Head, Parcel, Row, Schema, SchemaHash, SignedRow, Store};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;
use tracing::debug;

use super::frame::{self, NodeTick};
use super::live::Live;
use super::roster::{Board, Held, has_changed};
use super::{api, now_ms};
use crate::flow::{Arrival, node_of, origin_of};
use crate::summary::Seen;
use crate::summary::columns::{COLUMNS, Plan, Sample};

const TICK_EVERY: Duration = Duration::from_secs(1);

/// When the values of a row are no longer this moment's.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// When a summary says nothing of this moment any more; in a mesh of 2,000 nodes one in a hundred is 40 s old.
const OLD_SUMMARY: Duration = Duration::from_secs(120);

/// News that isn't worth a message of its own waits so long.
const REFRESH_EVERY: Duration = Duration::from_secs(10);

/// How often the oldest row held of each node is looked up; it moves with retention only.
const OLDEST_EVERY: Duration = Duration::from_secs(60);

/// Repaired rows are announced together, this long after the first of them.
const REPAIRS_WAIT: Duration = Duration::from_secs(2);

/// What the first row of a run, or its block, may take.
const FIRST_BYTES: usize = 1024 * 1024;

/// What is followed of each node.
#[derive(Debug, Default)]
struct Overview {
    nodes: BTreeMap<NodeId, Followed>,
    shown: Vec<api::Node>,
    shown_at: Option<Instant>,
    oldest: BTreeMap<NodeId, i64>,
}

#[derive(Debug)]
struct Followed {
    plan: Option<(SchemaHash, Arc<Plan>)>,
    before: Option<Sample>,
    columns: [f64; COLUMNS.len()],
    /// When its newest row came, and how old it was then.
    came: Option<(Instant, Duration)>,
    last_ms: Option<i64>,
    /// Whether a row has come since the page opened, so that there are rates.
    settled: bool,
    repairs: u32,
    repaired: Option<Instant>,
}

/// Runs until the node stops.
pub(super) async fn follow(live: Arc<Live>) {
    let mut pages = live.pages();
    let mut overview = Overview::default();
    loop {
        let opened = tokio::select! {
            opened = pages.wait_for(|pages| *pages > 0) => opened.is_ok(),
            () = live.stop().cancelled() => false,
        };
        if !opened {
            return;
        }
        tokio::select! {
            () = overview.run(&live) => {}
            _ = pages.wait_for(|pages| *pages == 0) => {}
            () = live.stop().cancelled() => return,
        }
        overview.end(&live);
    }
}

impl Overview {
    async fn run(&mut self, live: &Arc<Live>) {
        let mut feed = live.flow().feed();
        let mut tick = tokio::time::interval(TICK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut oldest_at: Option<Instant> = None;
        self.begin(live);
        loop {
            tokio::select! {
                arrival = feed.recv() => match arrival {
                    Ok(arrival) => self.take(live, &arrival),
                    Err(RecvError::Lagged(missed)) => debug!(missed, "the overview skipped rows"),
                    Err(RecvError::Closed) => return,
                },
                _ = tick.tick() => {
                    let now = Instant::now();
                    if oldest_at.is_none_or(|at| now.duration_since(at) >= OLDEST_EVERY) {
                        oldest_at = Some(now);
                        self.oldest = oldest_of_all(live).await;
                    }
                    self.tell(live, Instant::now());
                }
            }
        }
    }

    /// Starts from the newest rows held. A run before this one may be long ago.
    fn begin(&mut self, live: &Live) {
        let now = now_ms();
        for member in &live.flow().mesh().snapshot().members {
            let Some(row) = live.newest(member.id) else {
                continue;
            };
            let age_ms = u64::try_from(now.saturating_sub(row.row.wall_ms())).unwrap_or(0);
            let followed = self.nodes.entry(member.id).or_default();
            followed.before = None;
            followed.take(live, member.id, &row, Duration::from_millis(age_ms));
            followed.settled = false;
        }
    }

    /// Leaves nothing that a later page could take for this moment's.
    fn end(&mut self, live: &Live) {
        self.shown.clear();
        self.shown_at = None;
        live.show_board(Board::default());
    }

    fn take(&mut self, live: &Live, arrival: &Arrival) {
        let node = node_of(arrival.row.row.log.origin);
        let followed = self.nodes.entry(node).or_default();
        if arrival.live {
            followed.take(live, node, &arrival.row, Duration::ZERO);
        } else {
            followed.repaired.get_or_insert_with(Instant::now);
        }
    }

    fn tell(&mut self, live: &Live, now: Instant) {
        for followed in self.nodes.values_mut() {
            followed.announce(now);
        }
        let nodes = live.list(|node| self.held(live, node));
        let members: BTreeSet<u16> = nodes.iter().map(|node| node.index).collect();
        let seen = live.flow().seen();
        let known: BTreeSet<NodeId> = self.nodes.keys().chain(seen.keys()).copied().collect();
        let nothing = Followed::default();
        let ticks = known.into_iter().filter_map(|node| {
            let index = live.number(node).filter(|index| members.contains(index))?;
            let followed = self.nodes.get(&node).unwrap_or(&nothing);
            followed.tick(index, seen.get(&node), now)
        });
        live.show_tick(frame::tick(now_ms(), &ticks.collect::<Vec<_>>()));
        let due = self
            .shown_at
            .is_none_or(|at| now.saturating_duration_since(at) >= REFRESH_EVERY);
        if has_changed(&self.shown, &nodes) || (due && self.shown != nodes) {
            live.show_board(Board::new(&nodes));
            self.shown = nodes;
            self.shown_at = Some(now);
        }
    }

    fn held(&self, live: &Live, node: NodeId) -> Held {
        let followed = self.nodes.get(&node);
        Held {
            last_ms: followed.and_then(|followed| followed.last_ms),
            oldest_ms: self.oldest.get(&node).copied(),
            series: live.series_count(node),
            repairs: followed.map_or(0, |followed| followed.repairs),
        }
    }
}

impl Default for Followed {
    fn default() -> Self {
        Self {
            plan: None,
            before: None,
            columns: [f64::NAN; COLUMNS.len()],
            came: None,
            last_ms: None,
            settled: false,
            repairs: 0,
            repaired: None,
        }
    }
}

impl Followed {
    fn take(&mut self, live: &Live, node: NodeId, row: &SignedRow, age: Duration) {
        let row = &row.row;
        self.came = Some((Instant::now(), age));
        self.settled = true;
        self.last_ms = self.last_ms.max(Some(row.wall_ms()));
        if self
            .plan
            .as_ref()
            .is_none_or(|(hash, _)| *hash != row.schema)
        {
            let Some(schema) = live.meet(node, &row.schema) else {
                return;
            };
            self.plan = Some((row.schema, Arc::new(Plan::new(&schema.series))));
            // Positions have moved; one row without rates is the price.
            self.before = None;
            return self.read(&schema, row);
        }
        if let Some(schema) = live.flow().store().schema(&row.schema) {
            self.read(&schema, row);
        }
    }

    /// Counts repaired rows as one repair once the first of them is `REPAIRS_WAIT` old.
    fn announce(&mut self, now: Instant) {
        let waited = |at: &Instant| now.saturating_duration_since(*at) >= REPAIRS_WAIT;
        if self.repaired.filter(waited).is_some() {
            self.repaired = None;
            self.repairs += 1;
        }
    }

    fn read(&mut self, schema: &Schema, row: &Row) {
        let Some((_, plan)) = &self.plan else { return };
        let sample = plan.sample(schema, row);
        self.columns = plan.columns_after(self.before.as_ref(), &sample);
        self.before = Some(sample);
    }

    /// `None` for the moment in which a node that is live has no rates yet: the page has better
    /// values from the store.
    fn tick(&self, index: u16, seen: Option<&Seen>, now: Instant) -> Option<NodeTick> {
        let age = self
            .came
            .map(|(at, age)| now.saturating_duration_since(at) + age);
        let fresh = age.is_some_and(|age| age < STALE_AFTER);
        let newer = seen.filter(|seen| !fresh && age.is_none_or(|age| seen.age < age));
        if let Some(seen) = newer {
            return Some(NodeTick {
                index,
                age_ms: Some(seen.age.as_millis() as u64),
                columns: told(seen),
                by_summary: true,
            });
        }
        let columns = if fresh {
            self.columns
        } else {
            [f64::NAN; COLUMNS.len()]
        };
        let age_ms = age.map(|age| age.as_millis() as u64);
        (self.settled || !fresh).then_some(NodeTick {
            index,
            age_ms,
            columns,
            by_summary: false,
        })
    }
}

fn told(seen: &Seen) -> [f64; COLUMNS.len()] {
    if seen.age < OLD_SUMMARY {
        seen.gauges.columns()
    } else {
        [f64::NAN; COLUMNS.len()]
    }
}

async fn oldest_of_all(live: &Arc<Live>) -> BTreeMap<NodeId, i64> {
    let store = live.flow().store().clone();
    let members: Vec<NodeId> = live
        .flow()
        .mesh()
        .snapshot()
        .members
        .iter()
        .map(|member| member.id)
        .collect();
    let look = move || {
        members
            .into_iter()
            .filter_map(|node| Some((node, oldest(&store, node)?)))
            .collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Wall time of the first row held of a node's first run.
fn oldest(store: &Store, node: NodeId) -> Option<i64> {
    let held = store.held_of(&origin_of(node));
    let (log, first) = held
        .into_iter()
        .find_map(|(log, seqs)| Some((log, seqs.first()?)))?;
    let parcels = store.export(&log, first..=first, FIRST_BYTES).ok()?;
    parcels.first().and_then(|parcel| match parcel {
        Parcel::Row(bytes) => Some(SignedRow::decode(bytes).ok()?.row.wall_ms()),
        Parcel::Block(bytes) => {
            let head = Head::peek(bytes).ok()?;
            Some(*head.wall_ms(head.synced_ms).start())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_repaired_rows_are_one_repair() {
        let start = Instant::now();
        let mut followed = Followed::default();
        followed.announce(start);
        assert_eq!(followed.repairs, 0);
        followed.repaired = Some(start);
        let after = |millis| start + Duration::from_millis(millis);
        let counts = [1_999, 2_000, 2_001, 9_000].map(|millis| {
            followed.announce(after(millis));
            followed.repairs
        });
        assert_eq!(counts, [0, 1, 1, 1]);
    }

    #[test]
    fn values_end_when_their_node_falls_silent() {
        let start = Instant::now();
        let age = Duration::from_millis(500);
        let columns = [0.5; COLUMNS.len()];
        let mut followed = Followed {
            columns,
            came: Some((start, age)),
            ..Followed::default()
        };
        // Live, but no rate is known yet.
        assert_eq!(followed.tick(3, None, start), None);
        followed.settled = true;
        let tick = followed.tick(3, None, start).unwrap();
        assert_eq!(
            (tick.index, tick.age_ms, tick.columns),
            (3, Some(500), columns)
        );
        let tick = followed
            .tick(3, None, start + Duration::from_millis(2_500))
            .unwrap();
        assert_eq!(tick.age_ms, Some(3_000));
        assert!(tick.columns.iter().all(|value| value.is_nan()));
    }

    #[test]
    fn a_summary_stands_in_for_rows_that_are_older_until_it_is_old_itself() {
        let start = Instant::now();
        let seen = |age_s| Seen::of([0.5; COLUMNS.len()], Duration::from_secs(age_s));
        let mut followed = Followed {
            columns: [0.25; COLUMNS.len()],
            came: Some((start, Duration::from_secs(1))),
            settled: true,
            ..Followed::default()
        };
        let tick = followed.tick(0, Some(&seen(0)), start).unwrap();
        assert_eq!((tick.by_summary, tick.age_ms), (false, Some(1_000)));
        followed.came = Some((start, Duration::from_secs(30)));
        let tick = followed.tick(0, Some(&seen(12)), start).unwrap();
        assert_eq!((tick.by_summary, tick.age_ms), (true, Some(12_000)));
        assert_eq!(tick.columns[0], 0.5);
        let tick = followed.tick(0, Some(&seen(31)), start).unwrap();
        assert!(!tick.by_summary && tick.columns[0].is_nan());
        let tick = Followed::default()
            .tick(0, Some(&seen(120)), start)
            .unwrap();
        assert!(tick.by_summary && tick.columns.iter().all(|value| value.is_nan()));
    }

    #[test]
    fn a_node_that_never_was_heard_has_no_age() {
        let tick = Followed::default().tick(0, None, Instant::now()).unwrap();
        assert_eq!(tick.age_ms, None);
        assert!(tick.columns.iter().all(|value| value.is_nan()));
    }
}
