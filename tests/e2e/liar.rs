//! A member that lies, among two that don't: each lie is refused, counted and named by both, and
//! neither their rows, nor their memory, nor their disk suffers.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use outlast_tests::{Control, Killed, Ledger, Node, Rows, Usage, World, now_ms, wait_for};

use crate::OUTLAST;

const NAME: &str = "mallory";

/// Each lie, and what `status` then says more often. Nothing: it harms nobody and is nobody's fault.
const LIES: [(&str, &str); 25] = [
    ("slow", ""),
    ("digests", "digests too often"),
    ("keys", "key row requests too often"),
    ("garbage", "unreadable messages"),
    ("seal", "rows in another's name"),
    ("altered", "altered rows"),
    ("forged", "altered rows"),
    ("unasked", "answers nobody asked for"),
    ("endless", "answers without end"),
    ("contradicts", "claims that contradict each other"),
    ("hollow", "claims of rows it did not have"),
    ("gone", ""),
    ("letters", ""),
    ("twice", "second contents of a row"),
    ("future", "impossible rows"),
    ("ahead", ""),
    ("huge", "schemas over the limit"),
    ("schemas", "schemas over the limit"),
    ("live", "live rows too often"),
    ("restless", "statements about itself too often"),
    ("critical", ""),
    ("greedy", "questions for too much"),
    ("questions", "questions too often"),
    ("messages", "messages too many at a time"),
    // The stream of the first lie has waited for long enough.
    ("", "questions never finished"),
];

#[test]
fn a_member_that_lies_is_refused_named_and_harms_nobody() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b"]);
    let token = world.node(0).run(&["invite"]);
    let mut liar = Liar::join(&world.dir().join(NAME), &token);
    let honest = [world.node(0), world.node(1)];
    let rows = [Rows::of(honest[0], "b"), Rows::of(honest[1], "a")];
    for rows in &rows {
        rows.first(Duration::from_secs(20), |_| true)
            .expect("a live row");
    }
    let (from_ms, before) = (now_ms(), honest.map(measured));

    for (lie, what) in LIES {
        let counted = honest.map(|node| if lie.is_empty() { 0 } else { count(node, what) });
        if !lie.is_empty() {
            liar.tell(lie);
        }
        for (node, before) in honest.iter().zip(counted).filter(|_| !what.is_empty()) {
            wait_for(
                &format!("{} naming {NAME} for {lie}: {what}", node.name),
                Duration::from_secs(30),
                || match count(node, what) {
                    now if now > before => Ok(()),
                    now => Err(format!(
                        "{now} times, {}",
                        Control::of(node).status()["refused"]
                    )),
                },
            );
        }
    }

    for (node, rows) in honest.iter().zip(&rows) {
        assert_live(node, rows);
        assert_named_alone(node);
    }
    let to_ms = now_ms() - 5_000;
    wait_for("equal histories", Duration::from_secs(30), || {
        let [a, b] = honest.map(|node| Ledger::about(node, "?", "*", from_ms, to_ms));
        let differ = a.differences(&b);
        if differ.is_empty() && a.samples() > 1_000 {
            Ok(())
        } else {
            Err(format!("{} samples, {differ:?}", a.samples()))
        }
    });
    for (node, before) in honest.iter().zip(before) {
        let after = measured(node);
        let grown = |after: f64, before: f64| (after - before) / f64::from(1 << 20);
        let (memory, disk) = (grown(after.0, before.0), grown(after.1, before.1));
        println!(
            "{}: memory grew by {memory:.1} MiB, disk by {disk:.1} MiB",
            node.name
        );
        assert!(memory < 16.0, "{}: by {memory:.1} MiB", node.name);
        assert!(disk < 16.0, "{}: by {disk:.1} MiB", node.name);
    }
}

/// The other honest node's rows kept coming, none later than 3 s.
fn assert_live(node: &Node, rows: &Rows) {
    let arrived = rows.so_far();
    let latest = arrived.iter().map(|row| row.delay_ms()).max();
    assert!(latest < Some(3_000), "{}: {latest:?} ms late", node.name);
    let gaps = arrived.windows(2).filter(|two| two[1].seq > two[0].seq + 3);
    assert_eq!(gaps.count(), 0, "{}: {arrived:?}", node.name);
}

/// Nobody else is named, nothing the liar said steers a terminal or stops the mesh.
fn assert_named_alone(node: &Node) {
    let status = Control::of(node).status();
    let refused = status["refused"].as_array().expect("a list");
    assert!(
        refused.iter().all(|line| line["name"] == NAME),
        "{refused:?}"
    );
    let upgrade = status["notices"].to_string().contains("upgrade");
    assert!(!upgrade, "a mere member's word stops nobody");
    let shown = node.run(&["status"]);
    let mut lines = shown.lines();
    let line = lines.find(|line| line.contains(NAME) && line.contains("refused, last"));
    assert!(
        line.is_some_and(|line| line.contains("altered rows")),
        "{shown}"
    );
    let answer = node.run(&["query", "--series", "liar_value", "--from", "-10m"]);
    assert!(answer.contains("liar_value"), "{answer}");
    assert!(!answer.contains('\u{1b}'), "{answer:?}");
}

/// How often a node has refused this of the liar.
fn count(node: &Node, what: &str) -> u64 {
    let status = Control::of(node).status();
    let mut refused = status["refused"].as_array().into_iter().flatten();
    let line = refused.find(|line| line["name"] == NAME && line["what"] == what);
    line.and_then(|line| line["count"].as_u64()).unwrap_or(0)
}

/// Resident memory and the state directory, in bytes.
fn measured(node: &Node) -> (f64, f64) {
    let memory = Usage::of(node.pid().expect("it runs")).resident_bytes;
    (memory, size_of(&node.state))
}

fn size_of(path: &Path) -> f64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return std::fs::metadata(path).map_or(0.0, |file| file.len() as f64);
    };
    entries.flatten().map(|entry| size_of(&entry.path())).sum()
}

/// The process that lies; it ends with this.
struct Liar {
    _child: Killed,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Liar {
    fn join(dir: &Path, token: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_liar"))
            .arg(dir)
            .arg(NAME)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the liar");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut liar = Self {
            _child: Killed(child),
            input,
            output,
        };
        liar.say(token.trim());
        assert_eq!(liar.line(), "joined");
        liar
    }

    fn tell(&mut self, lie: &str) {
        self.say(lie);
        assert_eq!(self.line(), format!("told {lie}"));
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the liar listens");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the liar speaks");
        line.trim().to_owned()
    }
}
