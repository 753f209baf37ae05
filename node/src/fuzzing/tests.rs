//! The kept inputs, and what today's encoders write, run through every target.

use super::*;
use crate::collect::fuzzing::{counter_seeds, kernel_seeds};
use crate::flow::fuzzing::flow_seeds;
use crate::ledger::fuzzing::ledger_seeds;
use crate::outage::fuzzing::{life_seeds, telling_seeds};
use crate::web::fuzzing::web_seeds;

const NODE: &str = "node";

#[test]
fn kept_inputs_are_survived() {
    kept::replay(NODE, TARGETS);
}

#[test]
fn what_encoders_write_is_taken() {
    kept::sow(NODE, TARGETS, seeds);
}

#[test]
fn released_encodings_are_written_as_ever() {
    for target in ["live", "handed", "digest", "summary", "question", "answer"] {
        for (number, bytes) in flow_seeds(target).iter().enumerate() {
            pinned::pinned(NODE, &format!("{target}-{number}"), bytes);
        }
    }
    for target in ["event", "ledger"] {
        for (number, bytes) in ledger_seeds(target).iter().enumerate() {
            pinned::pinned(NODE, &format!("{target}-{number}"), bytes);
        }
    }
    for (target, seeds) in [("telling", telling_seeds()), ("life", life_seeds())] {
        for (number, bytes) in seeds.iter().enumerate() {
            pinned::pinned(NODE, &format!("{target}-{number}"), bytes);
        }
    }
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "live" | "handed" | "digest" | "summary" | "question" | "answer" => flow_seeds(target),
        "page" | "headers" => web_seeds(target),
        "telling" => telling_seeds(),
        "life" => life_seeds(),
        "kernel" => kernel_seeds(),
        "counters" => counter_seeds(),
        "event" | "ledger" => ledger_seeds(target),
        "control" => texts(&[
            "{\"verb\":\"status\"}\n{\"verb\":\"tally\",\"cuts\":{\"a\":1}}\n",
            "{\"verb\":\"query\",\"series\":\"*\",\"node\":\"*\",\"from_ms\":-1,\"to_ms\":2,\"step\":\"raw\"}\n",
            "{\"part\":[1,null]}\n{\"ok\":{}}\n{\"error\":\"no\",\"exit\":3}\n",
        ]),
        "config" => texts(&[
            "",
            "listen = \"0.0.0.0:51800\"\nendpoints = [\"home.example.net:51800\"]\ndashboard = \"127.0.0.1:0\"\n\
             [store]\nlimit_bytes = 134217728\n",
        ]),
        "moment" => texts(&[
            "now",
            "-1h30m",
            "+2d",
            "2026-11-23T10:00:00.5Z",
            "1800000000000",
            "[2001:db8::1]:51800",
        ]),
        "text" => texts(&[
            "plain",
            "\u{1b}[31mred\u{202e}",
            "=1+1,\"x\"",
            "-\r\n;",
            "ü\u{200b}",
        ]),
        other => panic!("no seeds for {other}"),
    }
}
