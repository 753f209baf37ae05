//! How the command line talks to the running node: one JSON object a line, each way, over `control.sock`.
//!
//! A request is `{"verb":…}`; the answer is any number of `{"part":…}` lines, then one of `{"ok":…}` or
//! `{"error":…,"exit":…}`.
//! Invariant: no line is longer than `LONGEST_LINE`, whoever writes it; a longer one ends the connection.
//! Absent: who may ask what (`server.rs` looks at the peer's uid) and what is answered (`daemon/answer.rs`).

pub(crate) mod client;
pub(crate) mod server;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::StepArg;
use crate::failure::{FAILED, Failure};

/// The longest line either side accepts, in bytes, its end not counted.
pub(crate) const LONGEST_LINE: usize = 1 << 20;

/// The socket's name in the state directory.
pub(crate) const SOCKET: &str = "control.sock";

/// What a command asks of the running node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// `status --json`.
    Status,
    /// `members --json`.
    Members,
    /// `get --json`.
    Settings {
        /// A name or the beginning of an id. `None` = all.
        node: Option<String>,
    },
    /// `admin list --json` and `approve --json`.
    Trusted,
    /// Which peers hold the same statements as this node.
    Agreement,
    /// How this node is reached, and the way to each peer.
    Netcheck,
    /// How far an author's log went when this node had received no more of it than by a moment.
    Cut {
        /// The author's public key, hexadecimal.
        author: String,
        /// Milliseconds since the Unix epoch; `None`: as far as a revocation now accepts it.
        at_ms: Option<i64>,
    },
    /// Says of itself that it leaves the mesh.
    Goodbye {
        /// Why; may be empty.
        reason: String,
    },
    /// Ends, and puts aside what it was.
    Depart,
    /// Takes a new tunnel key.
    RotateKey,
    /// Every statement held, base64, in parts of one each.
    Statements,
    /// Stores statements and tells the peers.
    Publish {
        /// Each base64.
        statements: Vec<String>,
    },
    /// Who this node is, making its keys if there are none; for `init`.
    Identity,
    /// Becomes the founder of a new mesh, by statements that name this node so.
    Init {
        /// Each base64, the Genesis first.
        statements: Vec<String>,
    },
    /// Joins a mesh and starts.
    Join {
        /// As it was given out.
        token: String,
        /// What this node wants to be called.
        name: String,
    },
    /// History, in parts.
    Query(History),
    /// The outages that are known, in parts of one each.
    Outages {
        /// A glob over node names, or the beginning of an id.
        node: String,
    },
    /// A one-use login link.
    Ticket,
    /// One round trip to a member.
    Ping {
        /// A name or the beginning of an id.
        node: String,
    },
    /// Drops every datagram, or stops doing so.
    Isolate {
        /// Drop.
        on: bool,
    },
    /// What is held of each log, up to a row each; logs not named count whole.
    Tally {
        /// The last row to count, by log.
        #[serde(default)]
        cuts: BTreeMap<String, u32>,
    },
    /// What this node's sampler has taken in this run.
    Taken,
    /// Live rows in parts, until the asker goes.
    Tail {
        /// A name or the beginning of an id. `None` = all.
        node: Option<String>,
        /// `None` = all.
        series: Option<String>,
    },
    /// Says goodbye and ends.
    Shutdown,
}

impl Request {
    /// Whether whoever may see everything this node knows may ask it, without a right to change anything.
    ///
    /// A `Ticket` opens the page, which shows what `query` answers and changes nothing. `Statements` are for
    /// inviting, and `Tally` counts the whole store: both are the owner's.
    pub(crate) fn only_reads(&self) -> bool {
        match self {
            Self::Status
            | Self::Members
            | Self::Trusted
            | Self::Agreement
            | Self::Netcheck
            | Self::Settings { .. }
            | Self::Query(_)
            | Self::Outages { .. }
            | Self::Ticket
            | Self::Ping { .. }
            | Self::Taken
            | Self::Tail { .. } => true,
            Self::Statements
            | Self::Cut { .. }
            | Self::Goodbye { .. }
            | Self::Depart
            | Self::RotateKey
            | Self::Publish { .. }
            | Self::Identity
            | Self::Init { .. }
            | Self::Join { .. }
            | Self::Isolate { .. }
            | Self::Tally { .. }
            | Self::Shutdown => false,
        }
    }
}

/// What `query` asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct History {
    /// A glob over names, labels in braces.
    pub(crate) series: String,
    /// A glob over node names, or the beginning of an id.
    pub(crate) node: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) from_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub(crate) to_ms: i64,
    /// How fine.
    pub(crate) step: StepArg,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// More follows.
    Part(Value),
    /// Done.
    Ok(Value),
    /// It failed.
    Error(String, u8),
}

impl Answer {
    /// As a line, with its end.
    pub(crate) fn to_line(&self) -> String {
        let mut line = match self {
            Self::Part(value) => json!({ "part": value }),
            Self::Ok(value) => json!({ "ok": value }),
            Self::Error(error, exit) => json!({ "error": error, "exit": exit }),
        }
        .to_string();
        line.push('\n');
        line
    }

    /// From a line without its end.
    pub(crate) fn from_line(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let Value::Object(mut fields) = value else {
            return Err("an answer that is no object".to_owned());
        };
        if let Some(part) = fields.remove("part") {
            return Ok(Self::Part(part));
        }
        if let Some(ok) = fields.remove("ok") {
            return Ok(Self::Ok(ok));
        }
        let Some(Value::String(error)) = fields.remove("error") else {
            return Err("an answer with none of part, ok and error".to_owned());
        };
        let exit = fields.get("exit").and_then(Value::as_u64);
        Ok(Self::Error(
            error,
            exit.and_then(|exit| u8::try_from(exit).ok())
                .unwrap_or(FAILED),
        ))
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self::Error(failure.message, failure.exit)
    }
}

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
    searched: usize,
}

/// Why a stream of lines can't be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LineError {
    /// The bound of the codec.
    #[error("a line on the control socket exceeds the limit of {LONGEST_LINE} bytes")]
    TooLong,
    /// JSON is UTF-8.
    #[error("a line on the control socket is not UTF-8")]
    NotText,
}

impl Lines {
    /// Takes in what was read.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole line, without its end. `None` = more bytes are needed.
    pub(crate) fn next_line(&mut self) -> Result<Option<String>, LineError> {
        let Some(at) = self.pending[self.searched..]
            .iter()
            .position(|byte| *byte == b'\n')
        else {
            self.searched = self.pending.len();
            return if self.searched > LONGEST_LINE {
                Err(LineError::TooLong)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + at;
        if end > LONGEST_LINE {
            return Err(LineError::TooLong);
        }
        let rest = self.pending.split_off(end + 1);
        let mut line = std::mem::replace(&mut self.pending, rest);
        self.searched = 0;
        line.truncate(end);
        String::from_utf8(line)
            .map(Some)
            .map_err(|_not_utf8| LineError::NotText)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_objects_with_a_verb() {
        let cases = [
            (Request::Status, r#"{"verb":"status"}"#),
            (
                Request::Isolate { on: true },
                r#"{"verb":"isolate","on":true}"#,
            ),
            (
                Request::Tail {
                    node: None,
                    series: Some("node_*".to_owned()),
                },
                r#"{"verb":"tail","node":null,"series":"node_*"}"#,
            ),
        ];
        for (request, line) in cases {
            assert_eq!(serde_json::to_string(&request).unwrap(), line);
            assert_eq!(serde_json::from_str::<Request>(line).unwrap(), request);
        }
        assert!(serde_json::from_str::<Request>(r#"{"verb":"run","command":"sh"}"#).is_err());
    }

    #[test]
    fn a_line_over_the_limit_is_refused_before_it_ends() {
        let mut lines = Lines::default();
        lines.push(&vec![b'x'; LONGEST_LINE]);
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"x");
        assert_eq!(lines.next_line(), Err(LineError::TooLong));
    }

    #[test]
    fn an_answer_without_a_known_field_is_refused() {
        assert!(Answer::from_line("{}").is_err());
        assert!(Answer::from_line("[1]").is_err());
        assert!(Answer::from_line("nonsense").is_err());
        assert_eq!(
            Answer::from_line(r#"{"ok":null}"#),
            Ok(Answer::Ok(Value::Null))
        );
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let value = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(Value::Null),
        ];
        prop_oneof![
            value.clone().prop_map(Answer::Part),
            value.prop_map(Answer::Ok),
            (any::<String>(), any::<u8>()).prop_map(|(error, exit)| Answer::Error(error, exit)),
        ]
    }

    proptest! {
        #[test]
        fn answers_survive_the_socket_however_it_cuts_them(
            answers in prop::collection::vec(answer(), 0..8),
            cuts in prop::collection::vec(1usize..40, 1..40),
        ) {
            let sent: String = answers.iter().map(Answer::to_line).collect();
            let mut lines = Lines::default();
            let mut received = Vec::new();
            let mut rest = sent.as_bytes();
            for size in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*size).min(rest.len()));
                lines.push(now);
                rest = later;
                while let Some(line) = lines.next_line().unwrap() {
                    received.push(Answer::from_line(&line).unwrap());
                }
            }
            prop_assert_eq!(received, answers);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut lines = Lines::default();
            lines.push(&bytes);
            while let Ok(Some(line)) = lines.next_line() {
                let _ = Answer::from_line(&line);
                let _ = serde_json::from_str::<Request>(&line);
            }
        }
    }
}
