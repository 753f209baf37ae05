//! An outage as a sentence: what happened, when, for how long, and by what it is known.
//!
//! In: an outage, who is called what. Out: one line of plain words.
//! Absent: colour and tables; and names made harmless, `named` gives them so.

use outlast_mesh::NodeId;

use super::testimony::Kills;
use super::verdict::{Outage, Verdict};
use crate::text;

/// Names spelt out in one sentence; the rest are counted.
const NAMED: usize = 4;

/// The whole sentence: "b lost power at …, was back after 6 min 3 s; …".
pub(crate) fn sentence(outage: &Outage, named: &dyn Fn(NodeId) -> String) -> String {
    let name = named(outage.node);
    let at = moment(outage.start_ms);
    let mut line = match outage.verdict {
        Verdict::ClockStep => {
            let by = outage.evidence.stepped_ms.unwrap_or(0);
            let way = if by < 0 { "back" } else { "ahead" };
            let by = span(by.unsigned_abs());
            return format!("the clock of {name} was set {way} by {by}, to {at}");
        }
        _ => format!("{name} {} at {at}", happened(outage)),
    };
    if let Some(why) = aside(outage) {
        line += &format!(" ({why})");
    }
    line += &match outage.end_ms {
        None => ", and isn't back".to_owned(),
        Some(_) if outage.evidence.left_mesh => ", and left the mesh".to_owned(),
        Some(end) => format!(
            ", {} after {}",
            returned(outage),
            span(end.abs_diff(outage.start_ms))
        ),
    };
    if let Some(known) = known_by(outage, named) {
        line += &format!("; {known}");
    }
    line
}

/// Why a node is silent, in a few words after its name: "agent stopped (said goodbye 14:02:11)".
pub(crate) fn why(outage: &Outage, named: &dyn Fn(NodeId) -> String) -> String {
    let evidence = &outage.evidence;
    let at = |ms| moment(ms);
    let told = match (outage.verdict, evidence.goodbye_ms) {
        (Verdict::AgentStopped, Some(goodbye)) => {
            format!("agent stopped (said goodbye {})", at(goodbye))
        }
        (Verdict::PowerLoss | Verdict::SitePower, _) if outage.provisional => {
            format!("probably lost power, heard last {}", at(outage.start_ms))
        }
        (Verdict::Unknown, _) => format!("unreachable, heard last {}", at(outage.start_ms)),
        _ => format!("{} {}", happened(outage), at(outage.start_ms)),
    };
    let mut more: Vec<String> = mains(outage).into_iter().collect();
    if let Some((site, _)) = &evidence.site {
        more.push(format!("all of site {} went together", text::visible(site)));
    }
    if !evidence.lost_by.is_empty() && outage.verdict == Verdict::Unknown {
        more.push(format!(
            "lost by {}",
            names(evidence.lost_by.iter().map(|one| one.by), named)
        ));
    }
    if more.is_empty() {
        return told;
    }
    format!("{told} ({})", more.join("; "))
}

const fn happened(outage: &Outage) -> &'static str {
    match outage.verdict {
        Verdict::PowerLoss if outage.provisional => "probably lost power",
        Verdict::PowerLoss => "lost power or was reset",
        Verdict::SitePower => "lost power with all of its site",
        Verdict::Shutdown => "was shut down",
        Verdict::AgentStopped => "was stopped (the agent, not the machine)",
        Verdict::AgentCrashed => "crashed (the agent, not the machine)",
        Verdict::Upgraded => "was upgraded",
        Verdict::Partition => "was cut off",
        Verdict::SiteLink => "was cut off with all of its site",
        Verdict::Suspend => match outage.evidence.stood {
            Some((_, false)) => "stood still (the agent, not the machine)",
            _ => "slept",
        },
        Verdict::ClockStep => "had its clock set",
        Verdict::Unknown => "fell silent",
    }
}

const fn returned(outage: &Outage) -> &'static str {
    match outage.verdict {
        Verdict::Partition | Verdict::SiteLink => "was reached again",
        Verdict::Suspend => "went on",
        Verdict::Unknown => "was heard again",
        _ => "was back",
    }
}

/// What stands in brackets behind the moment.
fn aside(outage: &Outage) -> Option<String> {
    let evidence = &outage.evidence;
    let mut parts: Vec<String> = mains(outage).into_iter().collect();
    if let Some((before, after)) = evidence.kills {
        parts.push(killed(before, after).to_owned());
    }
    if let Some(failure) = &evidence.failure {
        parts.push(text::visible(failure).into_owned());
    }
    if let (Verdict::Upgraded | Verdict::Shutdown, Some((before, after))) =
        (outage.verdict, &evidence.versions)
        && before != after
    {
        parts.push(format!(
            "{} to {}",
            text::visible(before),
            text::visible(after)
        ));
    }
    if let Some((site, _)) = &evidence.site {
        parts.push(format!("site {}", text::visible(site)));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn mains(outage: &Outage) -> Option<String> {
    let power = outage.evidence.power?;
    if power.mains != Some(false) {
        return None;
    }
    let left = power
        .battery
        .map_or_else(String::new, |left| format!(", {left} % left"));
    Some(match power.mains_off_ms {
        Some(off) => format!("mains off at {}{left}", moment(off)),
        None => format!("on battery{left}"),
    })
}

fn killed(before: Kills, after: Kills) -> &'static str {
    if after.own > before.own && before.own.is_some() {
        "killed by the kernel for want of memory"
    } else {
        "the kernel killed a process of this machine for want of memory then"
    }
}

/// By what it is known.
fn known_by(outage: &Outage, named: &dyn Fn(NodeId) -> String) -> Option<String> {
    let evidence = &outage.evidence;
    let observers = || names(evidence.lost_by.iter().map(|one| one.by), named);
    let mut parts = Vec::new();
    match outage.verdict {
        Verdict::PowerLoss | Verdict::SitePower if !outage.provisional => {
            parts.push("it had said nothing, and the machine booted anew".to_owned());
        }
        Verdict::AgentCrashed if !outage.provisional && evidence.failure.is_none() => {
            parts.push("it had said nothing, and the machine ran on".to_owned());
        }
        Verdict::AgentStopped | Verdict::Shutdown | Verdict::Upgraded => {
            parts.extend(
                evidence
                    .goodbye_ms
                    .map(|at| format!("said goodbye at {}", moment(at))),
            );
        }
        _ => {}
    }
    if !evidence.lost_by.is_empty() && evidence.goodbye_ms.is_none() {
        parts.push(format!("not heard by {}", observers()));
    }
    if let Some(alone) = &evidence.alone {
        let with = names(alone.sees.iter().copied(), named);
        let with = if alone.sees.is_empty() {
            "nobody".to_owned()
        } else {
            with
        };
        parts.push(format!("itself heard {with}"));
    }
    if outage.provisional {
        parts.push("provisional: its own word is awaited".to_owned());
    }
    if evidence.clock_ahead_ms.is_some() {
        parts.push("its clock was wrong, times are the others'".to_owned());
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn names(nodes: impl Iterator<Item = NodeId>, named: &dyn Fn(NodeId) -> String) -> String {
    let all: Vec<String> = nodes.map(named).collect();
    let (first, rest) = all.split_at(all.len().min(NAMED));
    match (first, rest.len()) {
        ([one], 0) => one.clone(),
        ([head @ .., last], 0) => format!("{} and {last}", head.join(", ")),
        (_, more) => format!("{} and {more} more", first.join(", ")),
    }
}

/// To the second: `2026-11-24T14:02:11Z`.
fn moment(at_ms: i64) -> String {
    text::moment(at_ms.div_euclid(1_000) * 1_000).replace(".000Z", "Z")
}

/// A duration in its two largest units: `6 min 3 s`.
fn span(ms: u64) -> String {
    let (s, min, h, d) = (ms / 1_000, ms / 60_000, ms / 3_600_000, ms / 86_400_000);
    let two = |large: u64, unit: &str, small: u64, below: &str| {
        if small == 0 {
            format!("{large} {unit}")
        } else {
            format!("{large} {unit} {small} {below}")
        }
    };
    match ms {
        0..10_000 => format!("{}.{} s", s, ms % 1_000 / 100),
        10_000..60_000 => format!("{s} s"),
        60_000..3_600_000 => two(min, "min", s % 60, "s"),
        3_600_000..86_400_000 => two(h, "h", min % 60, "min"),
        _ => two(d, "d", h % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outage::testimony::Power;
    use crate::outage::verdict::{Evidence, Seen};

    const START: i64 = 1_795_528_931_000;

    fn outage(verdict: Verdict, evidence: Evidence) -> Outage {
        Outage {
            node: NodeId([2; 32]),
            start_ms: START,
            uncertain_ms: 1_000,
            end_ms: Some(START + 363_400),
            verdict,
            provisional: false,
            evidence,
        }
    }

    fn named(node: NodeId) -> String {
        char::from(b'`' + node.0[0]).to_string()
    }

    fn lost_by(nodes: &[u8]) -> Vec<Seen> {
        let seen = |number: &u8| Seen {
            by: NodeId([*number; 32]),
            last_heard_ms: START,
            again_ms: None,
        };
        nodes.iter().map(seen).collect()
    }

    #[test]
    fn an_outage_is_told_in_plain_words() {
        let at = moment(START);
        let power = Some(Power {
            mains: Some(false),
            battery: Some(7),
            mains_off_ms: Some(START - 3_000),
        });
        let off = moment(START - 3_000);
        let lost = outage(
            Verdict::PowerLoss,
            Evidence {
                power,
                lost_by: lost_by(&[1, 3]),
                ..Evidence::default()
            },
        );
        assert_eq!(
            sentence(&lost, &named),
            format!(
                "b lost power or was reset at {at} (mains off at {off}, 7 % left), was back after 6 min 3 s; \
                 it had said nothing, and the machine booted anew; not heard by a and c"
            )
        );
        let kills = |own| Kills {
            own: Some(own),
            machine: Some(own),
        };
        let killed = outage(
            Verdict::AgentCrashed,
            Evidence {
                kills: Some((kills(1), kills(2))),
                ..Evidence::default()
            },
        );
        assert_eq!(
            sentence(&killed, &named),
            format!(
                "b crashed (the agent, not the machine) at {at} (killed by the kernel for want of memory), \
                 was back after 6 min 3 s; it had said nothing, and the machine ran on"
            )
        );
        let step = outage(
            Verdict::ClockStep,
            Evidence {
                stepped_ms: Some(-7_200_000),
                ..Evidence::default()
            },
        );
        assert_eq!(
            sentence(&step, &named),
            format!("the clock of b was set back by 2 h, to {at}")
        );
    }

    #[test]
    fn why_a_node_is_silent_is_said_while_it_is() {
        let at = moment(START);
        let evidence = Evidence {
            goodbye_ms: Some(START),
            ..Evidence::default()
        };
        let mut stopped = outage(Verdict::AgentStopped, evidence);
        (stopped.end_ms, stopped.provisional) = (None, true);
        assert_eq!(
            why(&stopped, &named),
            format!("agent stopped (said goodbye {at})")
        );
        let evidence = Evidence {
            lost_by: lost_by(&[1, 3]),
            ..Evidence::default()
        };
        let mut silent = outage(Verdict::Unknown, evidence);
        (silent.end_ms, silent.provisional) = (None, true);
        assert_eq!(
            why(&silent, &named),
            format!("unreachable, heard last {at} (lost by a and c)")
        );
        assert_eq!(
            sentence(&silent, &named),
            format!(
                "b fell silent at {at}, and isn't back; not heard by a and c; \
                 provisional: its own word is awaited"
            )
        );
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let cases = [
            (0, "0.0 s"),
            (2_340, "2.3 s"),
            (59_900, "59 s"),
            (60_000, "1 min"),
            (363_000, "6 min 3 s"),
            (3_660_000, "1 h 1 min"),
            (180_000_000, "2 d 2 h"),
        ];
        for (ms, said) in cases {
            assert_eq!(span(ms), said);
        }
    }
}
