//! The node that runs, or doesn't: its peers, and what it wants to be read.

use serde_json::Value;

use super::Finding;
use super::facts::{Facts, NodeFacts};
use super::state::is_orphaned;
use crate::text::{duration, visible};

pub(super) fn runs(facts: &Facts) -> Finding {
    const CHECK: &str = "node";
    match &facts.node {
        NodeFacts::Runs(status) if status["mesh"].is_null() => Finding::warn(
            CHECK,
            format!(
                "runs (process {}) and belongs to no mesh yet",
                status["node"]["pid"]
            ),
            "outlast init, or: outlast join < token",
        ),
        NodeFacts::Runs(status) => {
            let name = |value: &Value| visible(value.as_str().unwrap_or("-")).into_owned();
            let (node, mesh) = (name(&status["node"]["name"]), name(&status["mesh"]["name"]));
            let up = duration(status["node"]["uptime_ms"].as_u64().unwrap_or(0));
            if let Some(why) = status["mesh"]["out"].as_str() {
                return Finding::fail(
                    CHECK,
                    format!(
                        "{node} is no member of mesh {mesh} any more: {}",
                        visible(why)
                    ),
                    "outlast leave, then join again with a new token",
                );
            }
            if status["node"]["isolated"].as_bool() == Some(true) {
                return Finding::warn(
                    CHECK,
                    format!("{node} runs isolated: every datagram is dropped"),
                    "outlast isolate off",
                );
            }
            Finding::ok(
                CHECK,
                format!(
                    "{node} of mesh {mesh} runs since {up}, process {}",
                    status["node"]["pid"]
                ),
            )
        }
        NodeFacts::Silent(why) => Finding::fail(
            CHECK,
            why.clone(),
            "run this as the user who runs the node, or as root",
        ),
        NodeFacts::Absent if is_orphaned(facts) => Finding::fail(
            CHECK,
            format!(
                "none answers, though a process holds {}/lock",
                facts.state.path.display()
            ),
            "wait if it has just started; otherwise `fuser` names the process to stop",
        ),
        NodeFacts::Absent if facts.state.is_member => Finding::fail(
            CHECK,
            "not running, so this machine is not measured",
            if facts.service.systemd && facts.service.installed {
                "sudo systemctl start outlast"
            } else {
                "outlast up"
            },
        ),
        NodeFacts::Absent => Finding::ok(CHECK, "not running, and no mesh to be in yet"),
    }
}

pub(super) fn peers(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "peers";
    let NodeFacts::Runs(status) = &facts.node else {
        return Vec::new();
    };
    let peers = status["peers"].as_array().into_iter().flatten();
    let peers: Vec<_> = peers
        .filter(|peer| !matches!(peer["state"].as_str(), Some("retired" | "evicted")))
        .collect();
    // Of one that may be off nobody expects to hear.
    let away: Vec<_> = peers
        .iter()
        .filter(|peer| matches!(peer["state"].as_str(), Some("down" | "suspect")))
        .filter(|peer| peer["may_be_off"] != true)
        .collect();
    if away.is_empty() && !peers.is_empty() {
        // Who said goodbye is neither in reach nor missed.
        let in_reach = peers
            .iter()
            .filter(|peer| matches!(peer["state"].as_str(), Some("alive" | "stale")));
        return vec![Finding::ok(
            CHECK,
            format!("{} of {} in reach", in_reach.count(), peers.len()),
        )];
    }
    let finding = |peer: &&&Value| {
        let name = visible(peer["name"].as_str().unwrap_or("-")).into_owned();
        let heard = match peer["last_heard_ms"].as_i64() {
            Some(at) => format!(
                "last heard {} ago",
                duration(u64::try_from(facts.now_ms - at).unwrap_or(0))
            ),
            None => "not heard since this node started".to_owned(),
        };
        Finding::warn(
            CHECK,
            format!("{name} is out of reach, {heard}"),
            format!("on {name}: outlast doctor"),
        )
    };
    away.iter().map(finding).collect()
}

fn peers_differ(facts: &Facts) -> bool {
    super::clock::peers(facts).is_some_and(|finding| finding.verdict != super::Verdict::Ok)
}

/// What the node itself wants a person to read, except what other checks say.
pub(super) fn notices(facts: &Facts) -> Vec<Finding> {
    let NodeFacts::Runs(status) = &facts.node else {
        return Vec::new();
    };
    if status["mesh"].is_null() {
        return Vec::new();
    }
    let health = status["store"]["health"].as_str().unwrap_or_default();
    // The node tells of clocks too, and ours are the figures of this moment.
    let clock_is_told = peers_differ(facts);
    let out = status["mesh"]["out"].as_str();
    let notices = status["notices"].as_array().into_iter().flatten();
    notices
        .filter_map(Value::as_str)
        .filter(|notice| out.is_none_or(|out| !notice.contains(out)))
        .filter(|notice| *notice != health)
        .filter(|notice| !(clock_is_told && notice.contains("clock")))
        .map(|notice| Finding {
            mend: None,
            ..Finding::warn("notice", visible(notice), "")
        })
        .collect()
}
