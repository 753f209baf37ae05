//! What pages call the series of each node: numbers that hold while the server runs.
//!
//! A schema's own numbers hold for one run of its node only; a restart may give others. Here a name with its
//! labels keeps its number, and new ones are appended as newer schemas are met.
//! Bound: `MAX_SERIES` a node; beyond it a series can't be asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use outlast_mesh::NodeId;
use outlast_store::{Kind, Schema, SchemaHash, Series};

use super::api;

/// Room for a node's series twice over, as after a restart that renamed all of them.
const MAX_SERIES: usize = 10_000;

/// The numbers of all nodes' series.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    nodes: BTreeMap<NodeId, Book>,
}

/// The numbers of one node's series.
#[derive(Debug, Default)]
struct Book {
    schema: Option<SchemaHash>,
    series: Vec<Arc<Series>>,
    numbers: BTreeMap<(String, Vec<(String, String)>), u32>,
}

impl Catalog {
    /// Whether this is the schema that was met last.
    pub(super) fn knows(&self, node: NodeId, schema: &SchemaHash) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|book| book.schema.as_ref() == Some(schema))
    }

    /// Gives numbers to what is new in a schema.
    pub(super) fn meet(&mut self, node: NodeId, schema: &Schema) {
        let book = self.nodes.entry(node).or_default();
        book.schema = Some(schema.hash);
        for series in &schema.series {
            book.add(series);
        }
    }

    /// Gives numbers to what is new of some series that no schema came with.
    pub(super) fn learn(&mut self, node: NodeId, series: impl Iterator<Item = Series>) {
        let book = self.nodes.entry(node).or_default();
        series.for_each(|series| book.add(&series));
    }

    /// How many series of a node have numbers.
    pub(super) fn count(&self, node: NodeId) -> u32 {
        self.nodes
            .get(&node)
            .map_or(0, |book| book.series.len() as u32)
    }

    /// All series of a node as pages know them.
    pub(super) fn list(&self, node: NodeId) -> Vec<api::SeriesInfo> {
        let series = self
            .nodes
            .get(&node)
            .map(|book| book.series.as_slice())
            .unwrap_or_default();
        series
            .iter()
            .zip(0..)
            .map(|(series, index)| describe(index, series))
            .collect()
    }

    /// The series behind some numbers; `None` where one is unknown.
    pub(super) fn find(&self, node: NodeId, numbers: &[u32]) -> Option<Vec<Arc<Series>>> {
        let book = self.nodes.get(&node)?;
        numbers
            .iter()
            .map(|number| book.series.get(*number as usize).cloned())
            .collect()
    }
}

impl Book {
    fn add(&mut self, series: &Series) {
        let key = (series.name.clone(), series.labels.clone());
        if self.series.len() == MAX_SERIES || self.numbers.contains_key(&key) {
            return;
        }
        self.numbers.insert(key, self.series.len() as u32);
        self.series.push(Arc::new(series.clone()));
    }
}

/// A series as pages know it.
pub(super) fn describe(index: u32, series: &Series) -> api::SeriesInfo {
    let (kind, unit) = match series.kind {
        Kind::Counter => (api::SeriesKind::Counter, format!("{}/s", series.unit)),
        Kind::Gauge => (api::SeriesKind::Gauge, series.unit.clone()),
    };
    let labels = series.labels.iter().cloned().collect();
    api::SeriesInfo {
        index,
        name: series.name.clone(),
        labels,
        unit,
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);

    #[test]
    fn a_restart_that_numbers_anew_changes_no_number_of_a_page() {
        let mut catalog = Catalog::default();
        catalog.meet(NODE, &schema(1, &["a", "b"]));
        assert!(catalog.knows(NODE, &SchemaHash([1; 32])));
        catalog.meet(NODE, &schema(2, &["c", "b", "a"]));
        assert!(!catalog.knows(NODE, &SchemaHash([1; 32])));
        let names: Vec<_> = catalog
            .list(NODE)
            .into_iter()
            .map(|series| series.name)
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(catalog.count(NODE), 3);
        assert_eq!(catalog.find(NODE, &[2, 0]).unwrap()[0].name, "c");
        assert!(catalog.find(NODE, &[3]).is_none());
        assert!(catalog.find(NodeId([2; 32]), &[0]).is_none());
    }

    #[test]
    fn counters_are_described_as_the_rates_that_frames_carry() {
        let info = describe(7, &series("a"));
        assert_eq!((info.index, info.unit.as_str()), (7, "bytes/s"));
    }

    fn schema(hash: u8, names: &[&str]) -> Schema {
        let series = names.iter().map(|name| series(name)).collect();
        Schema {
            hash: SchemaHash([hash; 32]),
            series,
        }
    }

    fn series(name: &str) -> Series {
        let unit = String::from("bytes");
        Series {
            name: name.into(),
            labels: vec![],
            unit,
            kind: Kind::Counter,
            exponent: 0,
        }
    }
}
