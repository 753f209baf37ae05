//! `ping`: round trips to a member through its tunnel, one line each, and a summary.
//!
//! In: a node, how many, how often. Out: lines as ping(8) has them; exit 0 if anything came back.
//! Absent: measuring; the node does that, and says which way it took.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::{Global, PingArgs};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::{FAILED, Failure};
use crate::interrupt;
use crate::state::StateDir;
use crate::text::{self, Printer, visible};
use crate::when;

/// What ends a wait.
enum Woken {
    Answer(Result<Value, Failure>),
    Stop,
}

pub(super) fn run(global: &Global, arguments: &PingArgs, out: &mut Printer) -> Result<(), Failure> {
    let state = StateDir::resolve(global)?;
    let client = Client::require(state.socket_dir())?;
    let (woken, events) = mpsc::channel();
    let stop = woken.clone();
    interrupt::on_signal(move || drop(stop.send(Woken::Stop)));
    let ask = asker(client, arguments.node.clone(), woken);
    let tally = ping(arguments, &ask, &events, out)?;
    tally.show(arguments.json, out)?;
    out.flush()?;
    if tally.times_ms.is_empty() {
        // The lines above said why.
        return Err(Failure {
            exit: FAILED,
            message: String::new(),
        });
    }
    Ok(())
}

/// Asks on a thread of its own, once for each word sent, so that Ctrl-C is heard while an answer is out.
fn asker(mut client: Client, node: String, answers: Sender<Woken>) -> Sender<()> {
    let (ask, asked) = mpsc::channel();
    std::thread::spawn(move || {
        let request = Request::Ping { node };
        while asked.recv().is_ok() {
            if answers.send(Woken::Answer(client.call(&request))).is_err() {
                return;
            }
        }
    });
    ask
}

fn ping(
    arguments: &PingArgs,
    ask: &Sender<()>,
    events: &Receiver<Woken>,
    out: &mut Printer,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    while arguments.count.is_none_or(|count| tally.sent < count) {
        let next = Instant::now() + arguments.interval;
        let _ = ask.send(());
        tally.sent += 1;
        let Ok(Woken::Answer(answer)) = events.recv() else {
            tally.sent -= 1;
            return Ok(tally);
        };
        let answer = answer?;
        if let Some(ms) = answer["rtt_ms"].as_f64() {
            tally.times_ms.push(ms);
        }
        tally.node = visible(answer["node"].as_str().unwrap_or("-")).into_owned();
        if arguments.json {
            out.json(&with_seq(answer, tally.sent))?;
        } else {
            out.line(line(&answer, tally.sent))?;
        }
        out.flush()?;
        let is_last = arguments.count == Some(tally.sent);
        if !is_last && !rest(events, next.saturating_duration_since(Instant::now())) {
            break;
        }
    }
    Ok(tally)
}

/// Waits; false when told to stop.
fn rest(events: &Receiver<Woken>, length: Duration) -> bool {
    matches!(events.recv_timeout(length), Err(RecvTimeoutError::Timeout))
}

fn with_seq(mut answer: Value, seq: u32) -> Value {
    answer["seq"] = json!(seq);
    answer
}

fn line(answer: &Value, seq: u32) -> String {
    let shown = |name: &str| visible(answer[name].as_str().unwrap_or("-")).into_owned();
    let (node, address) = (shown("node"), shown("address"));
    let Some(ms) = answer["rtt_ms"].as_f64() else {
        let heard = answer["last_heard_ms"].as_i64().map_or_else(
            || "not heard since this node started".to_owned(),
            |at| {
                let ago = u64::try_from(when::now_ms() - at).unwrap_or(0);
                format!("last heard {} ago", text::duration(ago))
            },
        );
        return format!("to {node} ({address}): seq={seq} {}, {heard}", shown("why"));
    };
    let path = match answer["via"].as_str() {
        Some(via) => format!("relay through {}", visible(via)),
        None => shown("path"),
    };
    let endpoint = answer["endpoint"]
        .as_str()
        .map_or_else(String::new, |at| format!(" {}", visible(at)));
    format!("from {node} ({address}): seq={seq} time={ms:.2} ms path={path}{endpoint}")
}

/// What came of it all.
#[derive(Debug, Default)]
struct Tally {
    node: String,
    sent: u32,
    times_ms: Vec<f64>,
}

impl Tally {
    fn show(&self, as_json: bool, out: &mut Printer) -> Result<(), Failure> {
        if as_json || self.sent == 0 {
            return Ok(());
        }
        let received = self.times_ms.len();
        let lost = f64::from(self.sent) - received as f64;
        let percent = 100.0 * lost / f64::from(self.sent);
        out.line("")?;
        out.line(format!(
            "{}: {} sent, {received} received, {percent:.0} % lost",
            self.node, self.sent
        ))?;
        let Some((least, mean, most)) = self.spread() else {
            return Ok(());
        };
        out.line(format!("min/avg/max = {least:.2}/{mean:.2}/{most:.2} ms"))
    }

    fn spread(&self) -> Option<(f64, f64, f64)> {
        let least = self.times_ms.iter().copied().reduce(f64::min)?;
        let most = self.times_ms.iter().copied().reduce(f64::max)?;
        let sum: f64 = self.times_ms.iter().sum();
        Some((least, sum / self.times_ms.len() as f64, most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rtt_ms: Option<f64>, via: Option<&str>) -> Value {
        json!({
            "node": "attic", "address": "fd00::1", "rtt_ms": rtt_ms, "path": "direct", "via": via,
            "endpoint": "192.0.2.7:51800", "why": "no answer within 2 s", "last_heard_ms": null,
        })
    }

    #[test]
    fn a_ping_is_one_line() {
        let cases = [
            (
                answer(Some(0.4187), None),
                "from attic (fd00::1): seq=3 time=0.42 ms path=direct 192.0.2.7:51800",
            ),
            (
                answer(Some(12.0), Some("cellar")),
                "from attic (fd00::1): seq=3 time=12.00 ms path=relay through cellar 192.0.2.7:51800",
            ),
            (
                answer(None, None),
                "to attic (fd00::1): seq=3 no answer within 2 s, not heard since this node started",
            ),
        ];
        for (answer, said) in cases {
            assert_eq!(line(&answer, 3), said);
        }
    }

    #[test]
    fn the_spread_is_of_what_came_back() {
        let tally = Tally {
            node: "attic".to_owned(),
            sent: 4,
            times_ms: vec![2.0, 1.0, 6.0],
        };
        assert_eq!(tally.spread(), Some((1.0, 3.0, 6.0)));
        assert_eq!(Tally::default().spread(), None);
    }
}
