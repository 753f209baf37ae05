//! The store: how it is, what it lost and what it set aside, each with its reason.
//!
//! Without a node that answers only what lies in quarantine can be told.

use serde_json::Value;

use super::Finding;
use super::facts::{Facts, NodeFacts};
use crate::losses;
use crate::text::{size, visible};

const CHECK: &str = "store";

pub(super) fn store(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let store = match &facts.node {
        NodeFacts::Runs(status) if !status["store"].is_null() => Some(&status["store"]),
        _ => None,
    };
    let health = store.and_then(|store| store["health"].as_str());
    if let Some(health) = health.filter(|health| !health.is_empty()) {
        findings.push(Finding::fail(
            CHECK,
            visible(health),
            "see the disk above; the node writes again by itself once it can",
        ));
    }
    findings.extend(set_aside(facts));
    if let Some(store) = store {
        let lost = losses::lost(store);
        if !lost.is_empty() {
            findings.push(Finding::warn(
                CHECK,
                lost.join("; "),
                "check the disk (dmesg), and that other nodes are in reach",
            ));
        }
        if findings.is_empty() {
            findings.push(Finding::ok(CHECK, well(store)));
        }
    }
    findings
}

fn set_aside(facts: &Facts) -> Option<Finding> {
    let aside = &facts.state.quarantine;
    (!aside.is_empty()).then(|| {
        Finding::warn(
            CHECK,
            format!(
                "damaged and set aside: {}; the peers give back what was in there",
                aside.join(", ")
            ),
            format!(
                "check the disk (dmesg), then remove {}/store/quarantine",
                facts.state.path.display()
            ),
        )
    })
}

fn well(store: &Value) -> String {
    let mut says = vec!["healthy".to_owned()];
    if store["ready"] == false {
        says.push("still reading its generations".to_owned());
    }
    if let (Some(by), Some(limit)) = (losses::bound(store), store["limit_bytes"].as_u64()) {
        says.push(format!("at most {}, by {by}", size(limit)));
    }
    says.extend(losses::let_go(store));
    says.join("; ")
}
