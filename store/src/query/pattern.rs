//! Which series a query means: `node_load1`, `node_network_*`, `node_cpu_seconds_total{cpu="0",mode="*"}`.
//!
//! Globs (`*`, `?`, `[…]`) over the name and over each named label's value; labels that aren't named may be anything.
//! In quotes `\"` and `\\` stand for themselves, and a value that is equal letter by letter matches even where it
//! contains glob characters, so a printed series is a pattern for itself.
//! Absent: regular expressions, and `!=`.

use super::QueryError;
use crate::series::Series;
use globset::{GlobBuilder, GlobMatcher};

/// How many bytes a pattern may have.
const MAX_PATTERN: usize = 4_096;

/// A parsed series pattern.
#[derive(Clone, Debug)]
pub struct Pattern {
    name: Glob,
    labels: Vec<(String, Glob)>,
}

#[derive(Clone, Debug)]
struct Glob {
    text: String,
    /// `None`: no valid glob, so only the very text matches.
    matcher: Option<GlobMatcher>,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        read(text.trim()).map_err(|reason| QueryError::Pattern {
            pattern: text.chars().take(100).collect(),
            reason,
        })
    }

    /// Whether it means `series`.
    pub fn matches(&self, series: &Series) -> bool {
        self.name.matches(&series.name)
            && self
                .labels
                .iter()
                .all(|(key, glob)| series.label(key).is_some_and(|value| glob.matches(value)))
    }
}

impl Glob {
    fn new(text: &str) -> Self {
        let glob = GlobBuilder::new(text)
            .literal_separator(false)
            .backslash_escape(true)
            .build();
        Self {
            text: text.to_owned(),
            matcher: glob.ok().map(|glob| glob.compile_matcher()),
        }
    }

    fn matches(&self, text: &str) -> bool {
        self.text == text
            || self
                .matcher
                .as_ref()
                .is_some_and(|matcher| matcher.is_match(text))
    }
}

fn read(text: &str) -> Result<Pattern, String> {
    if text.len() > MAX_PATTERN {
        return Err(format!(
            "{} bytes exceed the limit of {MAX_PATTERN}",
            text.len()
        ));
    }
    let (name, mut rest) = match text.split_once('{') {
        Some((name, rest)) => (name.trim(), rest.trim_start()),
        None => (text, "}"),
    };
    if name.is_empty() {
        return Err("the name is empty; * means every series".into());
    }
    let mut labels = Vec::new();
    while !rest.starts_with('}') {
        let (key, quoted) = rest.split_once('=').ok_or("a label needs =\"value\"")?;
        let quoted = quoted
            .trim_start()
            .strip_prefix('"')
            .ok_or("a label's value needs double quotes")?;
        let (value, after) = unquote(quoted)?;
        labels.push((key.trim().to_owned(), Glob::new(&value)));
        rest = match after.trim_start() {
            more if more.starts_with('}') => more,
            more => more
                .strip_prefix(',')
                .ok_or("labels need a comma between them and } at the end")?
                .trim_start(),
        };
    }
    if rest != "}" {
        return Err("something follows the closing }".into());
    }
    Ok(Pattern {
        name: Glob::new(name),
        labels,
    })
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    Err("a label's value has no closing quote".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Kind;

    #[test]
    fn patterns_match_names_and_named_labels() {
        let labels = [("mode", "idle"), ("cpu", "0")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let cpu = Series::new(
            "node_cpu_seconds_total",
            labels,
            "seconds",
            Kind::Counter,
            -2,
        )
        .unwrap();
        for (pattern, matches) in [
            ("*", true),
            ("node_cpu_seconds_total", true),
            ("node_cpu_*", true),
            ("node_cpu", false),
            ("node_cp[u-z]_seconds?total", true),
            ("node_cpu_seconds_total{}", true),
            ("*{cpu=\"0\"}", true),
            ("*{cpu=\"1\"}", false),
            ("*{cpu=\"*\", mode=\"i*\",}", true),
            (" node_cpu_seconds_total {mode = \"idle\"} ", true),
            ("*{device=\"*\"}", false),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(&cpu),
                matches,
                "{pattern}"
            );
        }
    }

    #[test]
    fn a_printed_series_is_a_pattern_for_itself() {
        for value in ["/", r"C:\", "a\"b", "[x", "{y,z}", "*", "ü💡", ","] {
            let labels = [("mountpoint".to_owned(), value.to_owned())];
            let series = Series::new(
                "node_filesystem_free_bytes",
                labels,
                "bytes",
                Kind::Gauge,
                0,
            )
            .unwrap();
            assert!(
                Pattern::parse(&series.to_string())
                    .unwrap()
                    .matches(&series),
                "{series}"
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_said() {
        for (pattern, reason) in [
            ("", "the name is empty; * means every series"),
            ("{a=\"b\"}", "the name is empty; * means every series"),
            ("x{a}", "a label needs =\"value\""),
            ("x{a=b}", "a label's value needs double quotes"),
            ("x{a=\"b}", "a label's value has no closing quote"),
            (
                "x{a=\"b\"",
                "labels need a comma between them and } at the end",
            ),
            (
                "x{a=\"b\" c=\"d\"}",
                "labels need a comma between them and } at the end",
            ),
            ("x{a=\"b\"}y", "something follows the closing }"),
        ] {
            let expected = QueryError::Pattern {
                pattern: pattern.into(),
                reason: reason.into(),
            };
            assert_eq!(Pattern::parse(pattern).unwrap_err(), expected);
        }
        assert!(Pattern::parse(&"x".repeat(MAX_PATTERN + 1)).is_err());
    }
}
