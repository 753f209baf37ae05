//! What the page and its node say to each other over `GET /live`, subprotocol `outlast.v1`.
//!
//! JSON text for what is asked and described, binary frames (`frame.rs`) for numbers. These types
//! are the only description: the test below writes `ui/src/gen/api.ts` from them, comments included.
//! A later version adds fields and messages; both sides ignore what they don't know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
#[cfg(test)]
use ts_rs::TS;

/// What the node tells the page.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(Deserialize, TS))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The first message of every connection.
    Hello(Hello),
    /// Every node of the mesh. Sent after `hello` and when something changed, at most once a second.
    Nodes {
        /// In the order of their indices.
        nodes: Vec<Node>,
    },
    /// Answers `series`: all that one node has measured in its newest row's schema.
    Series {
        /// The number the page gave its request.
        request: u32,
        /// Index of the node.
        node: u16,
        /// In the order of their indices.
        series: Vec<SeriesInfo>,
    },
    /// A request that can't be met.
    Error {
        /// The number the page gave its request; 0 where the message had none that could be read.
        request: u32,
        /// A sentence for a person.
        message: String,
    },
    /// The last message before the node closes the connection.
    Bye {
        /// Why, for a person.
        reason: String,
    },
}

/// Who serves the page, and what its overview shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize, TS))]
pub struct Hello {
    /// Version of the serving program.
    pub version: String,
    /// Id of the serving node.
    pub me: String,
    /// The mesh it is a member of.
    pub mesh: MeshName,
    /// The overview's columns, in the order of the values in TICK frames.
    pub columns: Vec<Column>,
    /// Wall time of the serving node, milliseconds since the Unix epoch.
    pub now_ms: i64,
}

/// What a mesh is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize, TS))]
pub struct MeshName {
    /// Its id.
    pub id: String,
    /// The name its founder gave it.
    pub name: String,
}

/// One value per node of the overview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize, TS))]
pub struct Column {
    /// Such as `cpu_busy`.
    pub name: String,
    /// `ratio` (0 to 1), `bytes/s`, or empty for plain numbers.
    pub unit: String,
}

/// One member of the mesh as the serving node sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(Deserialize, TS))]
pub struct Node {
    /// What frames and requests call it. Never given to another node while the server runs.
    pub index: u16,
    /// Its id, 52 letters.
    pub id: String,
    /// Its name, unique in the mesh.
    pub name: String,
    /// Whether it is heard.
    pub state: NodeState,
    /// `lan`, `direct`, `relay` or `none`; how the serving node reaches it. `none` for itself.
    pub path: String,
    /// Smoothed round trip in milliseconds; `null` until measured, and for itself.
    pub rtt_ms: Option<f64>,
    /// Wall time of the newest row held of it; `null` where none is held.
    pub last_ms: Option<i64>,
    /// Wall time of the oldest row held of it, or of whom it replaced; `null` where none is held.
    pub oldest_ms: Option<i64>,
    /// The name of the machine whose place it took; its past is shown as this one's.
    pub former: Option<String>,
    /// The name of the machine that took its place.
    pub successor: Option<String>,
    /// Samples the serving node holds and this one has not got yet.
    pub backlog_samples: u64,
    /// Its address inside the mesh.
    pub address: String,
    /// How many series it has. When this grows, ask for `series` again.
    pub series: u32,
    /// Grows when rows that were missed have come in later: what was a gap may be filled.
    pub repairs: u32,
}

/// Whether a node is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize, TS))]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// The serving node.
    #[serde(rename = "self")]
    Me,
    /// Heard within 3 s.
    Alive,
    /// Heard within 10 s.
    Stale,
    /// Others may still hear it.
    Suspect,
    /// Silent for 10 s or more.
    Down,
    /// It said goodbye.
    Left,
    /// Removed in peace.
    Retired,
    /// Thrown out.
    Evicted,
}

/// One series of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize, TS))]
pub struct SeriesInfo {
    /// What requests call it: the same for as long as the server runs.
    pub index: u32,
    /// Such as `node_cpu_seconds_total`.
    pub name: String,
    /// Such as `{"cpu": "0", "mode": "user"}`.
    pub labels: BTreeMap<String, String>,
    /// Unit of the values as frames carry them: a counter of `bytes` comes as `bytes/s`, one of
    /// `seconds` as `seconds/s`, one of plain numbers as `/s`.
    pub unit: String,
    /// How it is measured; frames carry counters as rates either way.
    pub kind: SeriesKind,
}

/// How a series is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize, TS))]
#[serde(rename_all = "snake_case")]
pub enum SeriesKind {
    /// Only grows while its machine is up. Frames carry its rate per second.
    Counter,
    /// A value at one moment.
    Gauge,
}

/// What stands at the head of a COLUMNS frame.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(Deserialize, TS))]
pub struct ColumnsHeader {
    /// Index of the node.
    pub node: u16,
    /// Start of what was asked for, milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// Its end.
    pub to_ms: i64,
    /// Time between two values where nothing is missing.
    pub step_ms: u64,
    /// How many times, and values in each column.
    pub n: u32,
    /// The columns, in order. Of the overview: its columns, `index` counting them.
    pub series: Vec<SeriesInfo>,
}

/// What the page asks of its node. `request` is a number of the page's choice, given back with
/// the answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(Serialize, TS))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    /// Begins the overview: one COLUMNS frame for each node, its `request` the node's index, then
    /// a TICK frame each second. A TICK's values belong to the time `now_ms` less the node's age,
    /// and are not-a-number once that age is 3 s, or 120 s where they come from a summary. The COLUMNS frame of a node comes again when its
    /// `repairs` grow.
    Overview {
        /// How far back the COLUMNS frames reach, up to an hour.
        window_ms: u64,
    },
    /// Asks for the series of a node.
    Series {
        /// Given back with the answer.
        request: u32,
        /// Index of the node.
        node: u16,
    },
    /// Asks for the past of some series as one COLUMNS frame.
    History {
        /// Given back with the answer.
        request: u32,
        /// Index of the node.
        node: u16,
        /// Indices of the series, at most 64.
        series: Vec<u32>,
        /// Start, milliseconds since the Unix epoch.
        from_ms: i64,
        /// End.
        to_ms: i64,
        /// About how many values a column may have; gaps may add to it.
        max_points: u32,
    },
    /// Begins LIVE frames for some series of one node; replaces the watch before it.
    Watch {
        /// Given back in every LIVE frame.
        request: u32,
        /// Index of the node.
        node: u16,
        /// Indices of the series, at most 64.
        series: Vec<u32>,
    },
    /// Ends the watch.
    Unwatch,
    /// Stops TICK, LIVE and `nodes` until `resume`: the page is hidden.
    Pause,
    /// Ends `pause`. What was missed is asked for with `overview` and `history`.
    Resume,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ts_rs::{Config, TS};

    use super::*;

    #[test]
    fn the_typescript_of_the_page_is_what_these_types_generate() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui/src/gen/api.ts");
        let wanted = typescript();
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        let path = path.display();
        assert!(
            found == wanted,
            "run this test with BLESS=1 and commit {path}"
        );
    }

    #[test]
    fn messages_of_the_page_are_read_by_their_type() {
        let text = r#"{"type":"history","request":7,"node":1,"series":[0,5],"from_ms":10,"to_ms":20,"max_points":300,"later":1}"#;
        let wanted = ClientMessage::History {
            request: 7,
            node: 1,
            series: vec![0, 5],
            from_ms: 10,
            to_ms: 20,
            max_points: 300,
        };
        assert_eq!(serde_json::from_str::<ClientMessage>(text).unwrap(), wanted);
        assert_eq!(
            serde_json::from_str::<ClientMessage>(r#"{"type":"pause"}"#).unwrap(),
            ClientMessage::Pause
        );
        assert!(serde_json::from_str::<ClientMessage>(r#"{"type":"run","what":"ls"}"#).is_err());
    }

    #[test]
    fn a_node_that_serves_is_called_self() {
        assert_eq!(serde_json::to_string(&NodeState::Me).unwrap(), "\"self\"");
        assert_eq!(serde_json::to_string(&NodeState::Down).unwrap(), "\"down\"");
    }

    fn typescript() -> String {
        // JSON.parse never yields a bigint, so 64-bit integers are numbers here.
        let config = Config::new().with_large_int("number");
        let mut text =
            String::from("// Generated from node/src/web/api.rs; run its test with BLESS=1.\n");
        add::<ServerMessage>(&mut text, &config);
        add::<Hello>(&mut text, &config);
        add::<MeshName>(&mut text, &config);
        add::<Column>(&mut text, &config);
        add::<Node>(&mut text, &config);
        add::<NodeState>(&mut text, &config);
        add::<SeriesInfo>(&mut text, &config);
        add::<SeriesKind>(&mut text, &config);
        add::<ColumnsHeader>(&mut text, &config);
        add::<ClientMessage>(&mut text, &config);
        text.lines()
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }

    fn add<T: TS>(text: &mut String, config: &Config) {
        text.push('\n');
        text.push_str(&T::docs().unwrap_or_default());
        text.push_str("export ");
        text.push_str(&T::decl(config));
        text.push('\n');
    }
}
