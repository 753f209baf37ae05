//! Text on its way to a person: foreign text made harmless, tables, CSV cells, figures.
//!
//! In: names, labels, messages that others wrote. Out: one line of printable characters.
//! Invariant: whatever came from elsewhere passes `visible` before a terminal or a log sees it.
//! Absent: colour by meaning; a command asks its `Printer` for that.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal, Write};

use jiff::Timestamp;

use crate::failure::Failure;

/// The longest foreign text shown, in characters; the rest becomes an ellipsis.
const LONGEST: usize = 256;

/// Foreign text for a terminal: control, bidi and invisible characters written out, length cut.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let end = text.char_indices().nth(LONGEST);
    let Some((end, _)) = end else {
        return escaped(text);
    };
    Cow::Owned(escaped(&text[..end]).into_owned() + "…")
}

/// The same at its full length, for what the reader typed.
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_plain(letter) {
            shown.push(letter);
        } else {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(letter));
        }
    }
    Cow::Owned(shown)
}

fn is_plain(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One CSV cell: harmless to a spreadsheet that takes `=`, `+`, `-` and `@` for formulas, and quoted where needed.
pub(crate) fn csv_cell(text: &str) -> String {
    let mut cell = visible(text).into_owned();
    if cell.starts_with(['=', '+', '-', '@']) {
        cell.insert(0, '\'');
    }
    if cell.contains(['"', ',', ';', '\n', '\r']) {
        cell = format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell
}

/// A series as it is written: `name{label="value",…}`, harmless to print.
pub(crate) fn series_name<'a>(
    name: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let mut written = visible(name).into_owned();
    let mut open = false;
    for (label, value) in labels {
        written.push(if open { ',' } else { '{' });
        open = true;
        let _ = write!(written, "{}=\"{}\"", visible(label), visible(value));
    }
    if open {
        written.push('}');
    }
    written
}

/// The word that was probably meant by a mistyped one.
pub(crate) fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Half of the letters in their places, as clap asks of a mistyped flag.
    const ALIKE: f64 = 0.8;
    let alike = known
        .iter()
        .map(|known| (strsim::jaro_winkler(typed, known), *known))
        .filter(|(alike, _)| *alike > ALIKE);
    alike
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// A moment as RFC 3339 in UTC with milliseconds, or the bare number when it is out of any calendar.
pub(crate) fn moment(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), |at| format!("{at:.3}"))
}

/// The same to the minute, for tables: `2026-11-24 01:02`, in UTC.
pub(crate) fn minute(at_ms: i64) -> String {
    let shown = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M").to_string();
    Timestamp::from_millisecond(at_ms).map_or_else(|_| at_ms.to_string(), shown)
}

/// A duration in its largest fitting unit: `830 ms`, `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// A size with a binary unit and one digit: `12.3 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A whole number with thousands apart: `12,345`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut written = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a piece of text means; a `Printer` turns it into colour where colour is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Doubtful,
    /// Broken.
    Bad,
    /// Less important than what stands beside it.
    Faint,
    /// A heading.
    Strong,
}

/// Standard output: quiet about a reader that went away, coloured only where that is wanted.
#[derive(Debug)]
pub(crate) struct Printer {
    out: BufWriter<io::Stdout>,
    color: bool,
    terminal: bool,
}

impl Printer {
    /// Standard output, with colour as chosen; JSON never has any.
    pub(crate) fn new(choice: ColorChoice) -> Self {
        let terminal = io::stdout().is_terminal();
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !plain,
        };
        Self {
            out: BufWriter::new(io::stdout()),
            color,
            terminal,
        }
    }

    /// Whether a line of so many letters is broken by the screen it is for.
    pub(crate) fn is_narrower_than(&self, letters: usize) -> bool {
        screen_of(io::stdout()).is_some_and(|(columns, _)| columns < letters)
    }

    /// How wide a table of these rows is.
    pub(crate) fn width_of(rows: &[Vec<Cell>]) -> usize {
        let widths = widths(rows);
        widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1)
    }

    /// Whether somebody looks at a screen.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether text is coloured.
    pub(crate) const fn is_coloured(&self) -> bool {
        self.color
    }

    /// Text in the colour of its meaning.
    pub(crate) fn toned(&self, tone: Tone, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Writes one line.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<(), Failure> {
        self.raw(text.as_ref())?;
        self.raw("\n")
    }

    /// Writes text as it is.
    pub(crate) fn raw(&mut self, text: &str) -> Result<(), Failure> {
        self.out
            .write_all(text.as_bytes())
            .map_err(|error| output_failure(&error))
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json(&mut self, value: &serde_json::Value) -> Result<(), Failure> {
        self.line(value.to_string())
    }

    /// Hands on what was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| output_failure(&error))
    }

    /// Writes rows as columns two spaces apart, the first row being the heading.
    pub(crate) fn table(&mut self, rows: &[Vec<Cell>]) -> Result<(), Failure> {
        let widths = widths(rows);
        for (at, row) in rows.iter().enumerate() {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let last = column + 1 == row.len();
                let width = if last { 0 } else { widths[column] + 2 };
                let padded = format!("{:<width$}", cell.text);
                let tone = if at == 0 {
                    Some(Tone::Faint)
                } else {
                    cell.tone
                };
                line += &tone.map_or_else(|| padded.clone(), |tone| self.toned(tone, &padded));
            }
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// The widest cell of each column.
fn widths(rows: &[Vec<Cell>]) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = cell.text.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = (*widest).max(width),
                None => widths.push(width),
            }
        }
    }
    widths
}

/// Columns and lines of the screen that `stream` goes to. `None`: to none, or it doesn't say.
pub(crate) fn screen_of(stream: impl std::os::fd::AsFd) -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    let (columns, lines) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && lines > 0).then_some((columns, lines))
}

/// One cell of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// The state of a node, in the colour of what it means.
    pub(crate) fn state(state: &str) -> Self {
        let tone = match state {
            "alive" => Tone::Good,
            "stale" | "suspect" | "unknown" => Tone::Doubtful,
            "left" | "left (is off)" | "left for good" | "retired" => Tone::Faint,
            _ => Tone::Bad,
        };
        Self {
            text: visible(state).into_owned(),
            tone: Some(tone),
        }
    }

    /// A row of headings.
    pub(crate) fn headings<const N: usize>(titles: [&str; N]) -> Vec<Self> {
        titles.map(|title| title.to_owned().into()).to_vec()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: None }
    }
}

fn output_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        Failure::reader_gone()
    } else {
        Failure::new(format!("write to standard output: {error}"))
    }
}

/// Writes one line to standard error; when even that fails there is nobody left to tell.
pub(crate) fn aside(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        let cases = [
            ("plain-name", "plain-name"),
            ("größe 大", "größe 大"),
            ("\u{1b}[31mred", "\\u{1b}[31mred"),
            ("a\nb\tc", "a\\u{a}b\\u{9}c"),
            ("abc\u{202e}fdp.exe", "abc\\u{202e}fdp.exe"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("\u{9b}31m", "\\u{9b}31m"),
        ];
        for (foreign, shown) in cases {
            assert_eq!(visible(foreign), shown);
        }
    }

    #[test]
    fn long_foreign_text_is_cut_with_an_ellipsis() {
        let shown = visible(&"x".repeat(10_000)).into_owned();
        assert_eq!(shown.chars().count(), LONGEST + 1);
        assert!(shown.ends_with('…'));
    }

    #[test]
    fn csv_cells_are_no_formulas() {
        let cases = [
            ("node", "node"),
            ("=1+1", "'=1+1"),
            ("+x", "'+x"),
            ("-x", "'-x"),
            ("@x", "'@x"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=a,b", "\"'=a,b\""),
        ];
        for (text, cell) in cases {
            assert_eq!(csv_cell(text), cell);
        }
    }

    #[test]
    fn a_series_is_written_with_its_labels() {
        assert_eq!(series_name("node_load1", []), "node_load1");
        let labels = [("cpu", "0"), ("mode", "idle")];
        assert_eq!(
            series_name("node_cpu_seconds_total", labels),
            "node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"}"
        );
    }

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(size(512), "512 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(2 << 30), "2.0 GiB");
        assert_eq!(duration(830), "830 ms");
        assert_eq!(duration(61_000), "61 s");
        assert_eq!(duration(600_000), "10 min");
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
    }
}
