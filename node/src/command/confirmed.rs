//! Who has confirmed what was just published: which peers hold the same statements as this node.
//!
//! In: a connection to the running node. Out: names of those that do and of those that don't yet, with how they are heard.
//! Bound: those that are heard have `WITHIN`; whoever takes longer is named among the others.
//! Absent: those that were just removed; they are nobody's peers any more.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::text::{Printer, visible};

/// How long to wait for peers that are heard: statements reach them within two seconds.
const WITHIN: Duration = Duration::from_secs(5);

/// Names of a line at most; in a mesh of hundreds a node hears few of the others itself.
const MOST: usize = 16;

/// How often to look.
const LOOK: Duration = Duration::from_millis(50);

/// Peers by whether they hold what was published.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Confirmed {
    pub(super) by: Vec<String>,
    /// Each with how it is heard.
    pub(super) waiting: Vec<(String, String)>,
    /// Whether one of those may confirm within a moment.
    expects_more: bool,
    /// No node runs here, so nobody was told.
    untold: bool,
}

impl Confirmed {
    /// Nobody was told: it is on the disk alone.
    pub(super) fn untold(others: &[String]) -> Self {
        let mut waiting: Vec<_> = others
            .iter()
            .map(|name| (name.clone(), "unknown".to_owned()))
            .collect();
        waiting.sort_unstable();
        Self {
            waiting,
            untold: true,
            ..Self::default()
        }
    }

    /// Waits until everybody who is heard has confirmed.
    pub(super) fn wait(client: &mut Client) -> Result<Self, Failure> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let confirmed = Self::read(&client.call(&Request::Agreement)?);
            if !confirmed.expects_more || Instant::now() >= deadline {
                return Ok(confirmed);
            }
            std::thread::sleep(LOOK);
        }
    }

    fn read(peers: &Value) -> Self {
        let mut confirmed = Self::default();
        for peer in peers.as_array().into_iter().flatten() {
            let text = |field: &str| peer[field].as_str().unwrap_or_default().to_owned();
            if peer["agrees"].as_bool() == Some(true) {
                confirmed.by.push(text("name"));
            } else {
                confirmed.expects_more |= peer["in_reach"] == true;
                confirmed.waiting.push((text("name"), text("state")));
            }
        }
        confirmed.by.sort_unstable();
        confirmed.waiting.sort_unstable();
        confirmed
    }

    /// As lines for a person.
    pub(super) fn show(&self, out: &mut Printer) -> Result<(), Failure> {
        for line in self.lines() {
            out.line(line)?;
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.by.is_empty() {
            let by = self.by.iter().map(|name| visible(name).into_owned());
            lines.push(format!("confirmed by {}", listed(by)));
        }
        // Who is told later is one sentence then, for all.
        if !self.waiting.is_empty() && !self.untold {
            let shown = |(name, state): &(String, String)| {
                format!("{} ({})", visible(name), visible(state))
            };
            lines.push(format!(
                "not confirmed yet by {}: told at the first contact, before anything else",
                listed(self.waiting.iter().map(shown))
            ));
        }
        lines
    }

    /// As fields of an answer in JSON.
    pub(super) fn add_to(&self, answer: &mut Value) {
        let waiting = self.waiting.iter();
        let waiting = waiting.map(|(name, state)| json!({ "name": name, "state": state }));
        answer["told"] = json!(!self.untold);
        answer["confirmed"] = json!(self.by);
        answer["waiting"] = waiting.collect();
    }
}

fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(MOST);
    let mut shown: Vec<String> = names.take(MOST).collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, state: &str, agrees: bool, in_reach: bool) -> Value {
        json!({ "name": name, "state": state, "agrees": agrees, "in_reach": in_reach })
    }

    #[test]
    fn who_is_in_reach_is_waited_for_and_who_is_not_is_named() {
        let mut peers = vec![
            peer("d", "down", false, false),
            peer("c", "alive", true, true),
            peer("b", "suspect", true, true),
        ];
        let confirmed = Confirmed::read(&json!(peers));
        assert!(!confirmed.expects_more);
        assert_eq!(
            confirmed.lines(),
            [
                "confirmed by b, c",
                "not confirmed yet by d (down): told at the first contact, before anything else"
            ]
        );
        let mut answer = json!({});
        confirmed.add_to(&mut answer);
        assert_eq!(
            answer,
            json!({ "told": true, "confirmed": ["b", "c"], "waiting": [{ "name": "d", "state": "down" }] })
        );
        peers.push(peer("e", "stale", false, true));
        assert!(Confirmed::read(&json!(peers)).expects_more);
    }

    #[test]
    fn of_hundreds_some_are_named_and_the_others_counted() {
        let peers = (100..300).map(|number| peer(&number.to_string(), "alive", true, true));
        let confirmed = Confirmed::read(&peers.collect());
        let [line] = &confirmed.lines()[..] else {
            panic!("one line")
        };
        assert!(
            line.starts_with("confirmed by 100, 101, ") && line.ends_with(", 115, 184 more"),
            "{line}"
        );
    }

    #[test]
    fn where_no_node_runs_everybody_waits_and_nobody_was_told() {
        let confirmed = Confirmed::untold(&["c".to_owned(), "b".to_owned()]);
        assert!(confirmed.lines().is_empty());
        let mut answer = json!({});
        confirmed.add_to(&mut answer);
        assert_eq!(answer["told"], false);
        assert_eq!(answer["confirmed"], json!([]));
        assert_eq!(answer["waiting"][0]["name"], "b");
        assert_eq!(answer["waiting"][1]["name"], "c");
    }

    #[test]
    fn one_that_is_alone_has_nobody_to_wait_for() {
        let confirmed = Confirmed::read(&json!([]));
        assert_eq!(confirmed, Confirmed::default());
        assert!(!confirmed.expects_more && confirmed.lines().is_empty());
    }
}
