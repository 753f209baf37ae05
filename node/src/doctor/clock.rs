//! Whether this machine's clock can be right, by itself and beside those of the others.

use super::Finding;
use super::facts::{Facts, NodeFacts};
use crate::text::{duration, moment, visible};

/// The start of 2020: what a board without a battery reads before anybody told it the time is earlier.
const OLDEST_MS: i64 = 1_577_836_800_000;

/// A file changed this far ahead of the clock means that the clock went back.
const WENT_BACK_MS: i64 = 300_000;

/// Clocks that differ by more than this make charts of two machines hard to compare.
const APART_MS: u64 = 2_000;

const SET_IT: &str = "sudo timedatectl set-ntp true";

pub(super) fn reads(facts: &Facts) -> Finding {
    const CHECK: &str = "clock";
    let reads = moment(facts.now_ms);
    if facts.now_ms < OLDEST_MS {
        return Finding::fail(CHECK, format!("reads {reads}: nobody has set it"), SET_IT);
    }
    if let Some(newest) = facts.state.newest_ms
        && newest.saturating_sub(facts.now_ms) > WENT_BACK_MS
    {
        let back = duration(newest.abs_diff(facts.now_ms));
        return Finding::fail(
            CHECK,
            format!(
                "reads {reads}, {back} before the state directory was last written: it went back"
            ),
            SET_IT,
        );
    }
    match facts.synchronised {
        Some(true) => Finding::ok(CHECK, format!("reads {reads}, set by a time service")),
        Some(false) => Finding::warn(
            CHECK,
            format!("reads {reads}; the time service has had no answer yet"),
            "timedatectl timesync-status",
        ),
        None if facts.time_service.is_some() => {
            let service = facts.time_service.unwrap_or_default();
            Finding::ok(CHECK, format!("reads {reads}, kept by {service}"))
        }
        None if facts.has_rtc => Finding::ok(
            CHECK,
            format!("reads {reads}, by the machine's own clock; no time service was seen"),
        ),
        None => Finding::warn(
            CHECK,
            format!(
                "reads {reads}; this machine keeps no time while it is off, and no time service was seen"
            ),
            SET_IT,
        ),
    }
}

/// Our clock beside the peers': whose is wrong is told where most of them agree.
pub(super) fn peers(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "peers' clocks";
    let NodeFacts::Runs(status) = &facts.node else {
        return None;
    };
    let peers = status["peers"].as_array()?;
    let mut offsets: Vec<(i64, &str)> = peers
        .iter()
        .filter(|peer| peer["state"] == "alive")
        .filter_map(|peer| Some((peer["clock_offset_ms"].as_i64()?, peer["name"].as_str()?)))
        .collect();
    offsets.sort_unstable();
    let far: Vec<_> = offsets
        .iter()
        .filter(|(offset, _)| offset.unsigned_abs() > APART_MS)
        .collect();
    if far.is_empty() {
        return (!offsets.is_empty()).then(|| Finding::ok(CHECK, "within two seconds of this one"));
    }
    if let Some((offset, _)) = offsets.get(offsets.len() / 2)
        && offsets.len() > 1
        && offset.unsigned_abs() > APART_MS
    {
        let says = format!(
            "this machine's clock is {} {} those of most peers",
            duration(offset.unsigned_abs()),
            if *offset > 0 { "behind" } else { "ahead of" }
        );
        return Some(Finding::fail(CHECK, says, SET_IT));
    }
    let named: Vec<String> = far
        .iter()
        .map(|(offset, name)| {
            let way = if *offset > 0 { "ahead" } else { "behind" };
            format!(
                "{} is {} {way}",
                visible(name),
                duration(offset.unsigned_abs())
            )
        })
        .collect();
    Some(Finding::warn(
        CHECK,
        format!("beside this one, {}", named.join(", ")),
        format!("on the machine that is wrong: {SET_IT}"),
    ))
}
