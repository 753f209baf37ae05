//! What a fuzzer may throw at this crate: one function a parser of foreign bytes.
//!
//! Each says whether the bytes were taken, and asserts what must hold of whatever was. In tests every target runs over
//! the inputs kept in `tests/fuzz/corpus/node`. Absent from releases.

use crate::collect::fuzzing::{counters, kernel};
use crate::config::Config;
use crate::control::{Answer, LONGEST_LINE, Lines, Request};
use crate::flow::fuzzing::{answer, digest, handed, live, question, summary};
use crate::ledger::fuzzing::{event, word};
use crate::outage::fuzzing::{life, telling};
use crate::web::fuzzing::{headers, page};
use crate::{config, text, when};

/// A name, and what runs over the bytes: true if they were taken.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every parser of this crate that reads what others wrote.
pub const TARGETS: &[Target] = &[
    ("live", live),
    ("handed", handed),
    ("digest", digest),
    ("summary", summary),
    ("question", question),
    ("answer", answer),
    ("control", control),
    ("config", config_file),
    ("moment", moment),
    ("text", escaped),
    ("page", page),
    ("headers", headers),
    ("kernel", kernel),
    ("telling", telling),
    ("life", life),
    ("counters", counters),
    ("event", event),
    ("ledger", word),
];

/// Lines on the control socket, as either side reads them.
fn control(bytes: &[u8]) -> bool {
    let mut lines = Lines::default();
    let mut taken = false;
    for piece in bytes.chunks(7) {
        lines.push(piece);
        while let Ok(Some(line)) = lines.next_line() {
            assert!(line.len() <= LONGEST_LINE && !line.contains('\n'));
            taken |= is_said(&line);
        }
    }
    taken
}

fn is_said(line: &str) -> bool {
    let mut said = false;
    if let Ok(request) = serde_json::from_str::<Request>(line) {
        let again = serde_json::to_string(&request).expect("plain data can be written");
        assert_eq!(serde_json::from_str::<Request>(&again).ok(), Some(request));
        said = true;
    }
    if let Ok(answer) = Answer::from_line(line) {
        let again = answer.to_line();
        assert_eq!(again.matches('\n').count(), 1, "one line");
        assert_eq!(Answer::from_line(again.trim_end()), Ok(answer));
        said = true;
    }
    said
}

/// The configuration file.
fn config_file(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    match Config::parse(&text) {
        Ok(_) => true,
        Err(error) => {
            let line = text::visible(&format!("{error:#}")).into_owned();
            assert!(!line.contains('\n'), "one line says what is wrong");
            false
        }
    }
}

/// Moments, durations and endpoints as people type them.
fn moment(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let now = 1_800_000_000_000;
    let mut taken = false;
    if let Ok(at_ms) = when::moment(&text, now) {
        let written = text::moment(at_ms);
        assert_eq!(when::moment(&written, now), Ok(at_ms), "{written}");
        taken = true;
    }
    if let Ok(duration) = when::duration(&text) {
        assert!(duration.as_millis() <= i64::MAX as u128);
        taken = true;
    }
    taken | config::endpoint(&text).is_ok()
}

/// Text from elsewhere on its way to a terminal, a log or a table: nothing in it can act.
fn escaped(bytes: &[u8]) -> bool {
    let foreign = String::from_utf8_lossy(bytes);
    let shown = text::visible(&foreign);
    inert(&shown);
    assert!(shown.chars().count() <= 10 * 256 + 1);
    let cell = text::csv_cell(&foreign);
    inert(&cell);
    let quoted = cell
        .strip_prefix('"')
        .and_then(|cell| cell.strip_suffix('"'));
    let read = match quoted {
        Some(inside) => {
            assert!(!inside.replace("\"\"", "").contains('"'));
            inside.replace("\"\"", "\"")
        }
        None => {
            assert!(!cell.contains([',', ';', '"']));
            cell
        }
    };
    assert!(!read.starts_with(['=', '+', '-', '@']), "{read:?}");
    inert(&text::series_name(&foreign, [("label", &*foreign)]));
    true
}

fn inert(shown: &str) {
    let acts = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    assert!(!shown.contains(acts), "{shown:?}");
}

#[cfg(test)]
#[path = "../../tests/fuzz/kept.rs"]
mod kept;

#[cfg(test)]
#[path = "../../tests/released/pinned.rs"]
mod pinned;

#[cfg(test)]
mod tests;
