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

/// How often to look.
const LOOK: Duration = Duration::from_millis(50);

/// Peers by whether they hold what was published.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Confirmed {
    pub(super) by: Vec<String>,
    /// Each with how it is heard.
    pub(super) waiting: Vec<(String, String)>,
}

impl Confirmed {
    /// Waits until everybody who is heard has confirmed.
    pub(super) fn wait(client: &mut Client) -> Result<Self, Failure> {
        let deadline = Instant::now() + WITHIN;
        loop {
            let confirmed = Self::read(&client.call(&Request::Agreement)?);
            if !confirmed.waits_for_somebody() || Instant::now() >= deadline {
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
                confirmed.waiting.push((text("name"), text("state")));
            }
        }
        confirmed.by.sort_unstable();
        confirmed.waiting.sort_unstable();
        confirmed
    }

    fn waits_for_somebody(&self) -> bool {
        let heard = |state: &str| matches!(state, "alive" | "stale" | "suspect");
        self.waiting.iter().any(|(_, state)| heard(state))
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
            let by: Vec<_> = self.by.iter().map(|name| visible(name)).collect();
            lines.push(format!("confirmed by {}", by.join(", ")));
        }
        if !self.waiting.is_empty() {
            let shown = |(name, state): &(String, String)| {
                format!("{} ({})", visible(name), visible(state))
            };
            let waiting: Vec<_> = self.waiting.iter().map(shown).collect();
            lines.push(format!(
                "not confirmed yet by {}: told at the first contact, before anything else",
                waiting.join(", ")
            ));
        }
        lines
    }

    /// As fields of an answer in JSON.
    pub(super) fn add_to(&self, answer: &mut Value) {
        let waiting = self.waiting.iter();
        let waiting = waiting.map(|(name, state)| json!({ "name": name, "state": state }));
        answer["confirmed"] = json!(self.by);
        answer["waiting"] = waiting.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str, state: &str, agrees: bool) -> Value {
        json!({ "name": name, "state": state, "agrees": agrees })
    }

    #[test]
    fn who_is_heard_is_waited_for_and_who_is_not_is_named() {
        let peers = json!([
            peer("d", "down", false),
            peer("c", "alive", true),
            peer("b", "suspect", true),
        ]);
        let confirmed = Confirmed::read(&peers);
        assert!(!confirmed.waits_for_somebody());
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
            json!({ "confirmed": ["b", "c"], "waiting": [{ "name": "d", "state": "down" }] })
        );
        for (state, waits) in [
            ("alive", true),
            ("stale", true),
            ("suspect", true),
            ("left", false),
        ] {
            let confirmed = Confirmed::read(&json!([peer("b", state, false)]));
            assert_eq!(confirmed.waits_for_somebody(), waits, "{state}");
        }
    }

    #[test]
    fn one_that_is_alone_has_nobody_to_wait_for() {
        let confirmed = Confirmed::read(&json!([]));
        assert_eq!(confirmed, Confirmed::default());
        assert!(!confirmed.waits_for_somebody() && confirmed.lines().is_empty());
    }
}
