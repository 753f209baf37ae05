//! The overview's columns of this node's own rows, as summaries carry them.

use std::sync::Arc;

use outlast_store::{SchemaHash, SignedRow, Store};

use crate::summary::columns::{Plan, Sample};
use crate::summary::gauges::Gauges;

/// What the next row's rates need.
#[derive(Debug, Default)]
pub(super) struct OwnGauges {
    plan: Option<(SchemaHash, Plan)>,
    before: Option<Sample>,
}

impl OwnGauges {
    /// The gauges of the next row; unknown where its schema isn't.
    pub(super) fn read(&mut self, store: &Store, row: &Arc<SignedRow>) -> Gauges {
        let row = &row.row;
        let Some(schema) = store.schema(&row.schema) else {
            return Gauges::UNKNOWN;
        };
        if self
            .plan
            .as_ref()
            .is_none_or(|(hash, _)| *hash != row.schema)
        {
            self.plan = Some((row.schema, Plan::new(&schema.series)));
            // Positions have moved: one row without rates.
            self.before = None;
        }
        let Some((_, plan)) = &self.plan else {
            return Gauges::UNKNOWN;
        };
        let sample = plan.sample(&schema, row);
        let columns = plan.columns_after(self.before.as_ref(), &sample);
        self.before = Some(sample);
        Gauges::pack(&columns)
    }
}
