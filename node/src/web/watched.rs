//! The rows of one node as a page watches them: some series, counters as rates.

use std::sync::Arc;

use bytes::Bytes;
use outlast_mesh::NodeId;
use outlast_store::{Kind, Row, Schema, SchemaHash, Series};

use super::frame;
use super::live::Live;
use crate::flow::{Arrival, origin_of};
use crate::summary::columns::{Sample, rate};

/// What one page watches.
#[derive(Debug)]
pub(super) struct Watched {
    request: u32,
    node: NodeId,
    series: Vec<Arc<Series>>,
    /// Where the series stand in rows of this schema.
    places: Option<(SchemaHash, Vec<Option<usize>>)>,
    before: Option<Sample>,
}

impl Watched {
    pub(super) fn new(request: u32, node: NodeId, series: Vec<Arc<Series>>) -> Self {
        Self {
            request,
            node,
            series,
            places: None,
            before: None,
        }
    }

    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    /// Begins after the newest row held: the rates of the next one need a row before it.
    pub(super) fn begin(&mut self, live: &Live) {
        let newest = live.newest(self.node);
        self.before = newest.and_then(|row| self.sample(live, &row.row));
    }

    /// The LIVE frame of a row, if it is one of the watched node's.
    pub(super) fn take(&mut self, live: &Live, arrival: &Arrival) -> Option<Bytes> {
        let row = &arrival.row.row;
        if !arrival.live || row.log.origin != origin_of(self.node) {
            return None;
        }
        let now = self.sample(live, row)?;
        let shown = shown(&self.series, self.before.as_ref(), &now);
        self.before = Some(now);
        Some(frame::live(self.request, row.wall_ms(), &shown))
    }

    fn sample(&mut self, live: &Live, row: &Row) -> Option<Sample> {
        if self
            .places
            .as_ref()
            .is_none_or(|(hash, _)| *hash != row.schema)
        {
            let schema = live.meet(self.node, &row.schema)?;
            self.places = Some((row.schema, places(&self.series, &schema)));
        }
        let (_, places) = self.places.as_ref()?;
        let value = |(series, place): (&Arc<Series>, &Option<usize>)| {
            let integer = place.and_then(|place| row.values.get(place).copied().flatten());
            integer.map_or(f64::NAN, |integer| series.value(integer))
        };
        Some(Sample {
            log: row.log,
            boot_ms: row.boot_ms,
            values: self.series.iter().zip(places).map(value).collect(),
        })
    }
}

fn places(series: &[Arc<Series>], schema: &Schema) -> Vec<Option<usize>> {
    let place = |wanted: &Arc<Series>| {
        // A series that came back with another exponent would be read wrongly by a factor of ten.
        schema.series.iter().position(|series| *series == **wanted)
    };
    series.iter().map(place).collect()
}

fn shown(series: &[Arc<Series>], before: Option<&Sample>, now: &Sample) -> Vec<f64> {
    let value = |(at, series): (usize, &Arc<Series>)| match series.kind {
        Kind::Gauge => now.values[at],
        Kind::Counter => before.map_or(f64::NAN, |before| rate(before, now, at)),
    };
    series.iter().enumerate().map(value).collect()
}

#[cfg(test)]
mod tests {
    use outlast_store::{Epoch, LogId, Origin, StoreId};

    use super::*;

    #[test]
    fn gauges_stand_as_they_are_and_counters_as_rates() {
        let series = [series("a", Kind::Counter, 0), series("b", Kind::Gauge, 0)];
        let first = sample(1_000, [10.0, 7.0]);
        let second = sample(2_000, [15.0, 8.0]);
        assert_eq!(format!("{:?}", shown(&series, None, &first)), "[NaN, 7.0]");
        assert_eq!(shown(&series, Some(&first), &second), [5.0, 8.0]);
        assert_eq!(
            format!("{:?}", shown(&series, Some(&second), &first)),
            "[NaN, 7.0]"
        );
    }

    #[test]
    fn series_are_found_where_the_schema_has_them() {
        let wanted = [
            series("a", Kind::Counter, 0),
            series("b", Kind::Gauge, 0),
            series("c", Kind::Gauge, -2),
        ];
        let found = [&wanted[1], &wanted[0], &series("c", Kind::Gauge, -3)];
        let schema = Schema {
            hash: SchemaHash([0; 32]),
            series: found.into_iter().map(|series| (**series).clone()).collect(),
        };
        assert_eq!(places(&wanted, &schema), [Some(1), Some(0), None]);
    }

    fn sample(boot_ms: u64, values: [f64; 2]) -> Sample {
        let epoch = Epoch {
            counter: 1,
            nonce: 1,
        };
        let log = LogId {
            origin: Origin([1; 32]),
            store: StoreId(1),
            epoch,
        };
        Sample {
            log,
            boot_ms,
            values: values.to_vec(),
        }
    }

    fn series(name: &str, kind: Kind, exponent: i8) -> Arc<Series> {
        let (name, unit) = (name.to_owned(), String::new());
        Arc::new(Series {
            name,
            labels: vec![],
            unit,
            kind,
            exponent,
        })
    }
}
