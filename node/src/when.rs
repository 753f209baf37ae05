//! Moments and durations as people type them.
//!
//! In: `now`, `-10m`, RFC 3339, milliseconds since the epoch; `90s`, `1h30m`. Out: milliseconds.
//! Absent: time zones; a civil time without an offset is refused rather than guessed.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

/// The start of 2026: no clock that was set reads less.
pub(crate) const RELEASED_MS: i64 = 1_767_225_600_000;

/// Reads a moment, as milliseconds since the Unix epoch; `now_ms` is what relative forms count from.
pub(crate) fn moment(text: &str, now_ms: i64) -> Result<i64, String> {
    if text == "now" {
        return Ok(now_ms);
    }
    let too_far = || format!("`{text}` is too far from now");
    let in_calendar = |at_ms: i64| {
        Timestamp::from_millisecond(at_ms)
            .map(Timestamp::as_millisecond)
            .map_err(|_out_of_range| too_far())
    };
    // Ahead of the relative forms, since the years before 0 begin with `-` too.
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    if let Some(back) = text.strip_prefix('-') {
        return in_calendar(now_ms.saturating_sub(millis(back)?));
    }
    if let Some(ahead) = text.strip_prefix('+') {
        return in_calendar(now_ms.saturating_add(millis(ahead)?));
    }
    if text.bytes().all(|letter| letter.is_ascii_digit()) && !text.is_empty() {
        return in_calendar(text.parse().map_err(|_out_of_range| too_far())?);
    }
    Err(format!(
        "`{text}` is no moment; write now, -10m, 2026-11-23T10:00:00Z or milliseconds since the epoch"
    ))
}

/// Reads a duration: numbers with units `ms s m h d w`, largest first or not, none left out.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write for example 90s, 10m, 1h30m or 2d");
    let mut rest = text;
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len()
            - after
                .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .len();
        let (unit, after) = after.split_at(letters);
        let number: u64 = number.parse().map_err(|_unread| wrong())?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(wrong()),
        };
        total_ms = number
            .checked_mul(unit_ms)
            .and_then(|more| total_ms.checked_add(more))
            .filter(|total| *total <= i64::MAX as u64)
            .ok_or_else(|| format!("`{text}` is longer than can be counted"))?;
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

fn millis(text: &str) -> Result<i64, String> {
    let ms = duration(text)?.as_millis();
    i64::try_from(ms).map_err(|_out_of_range| format!("`{text}` is longer than can be counted"))
}

/// The time rows are held against, unless no clock can be right: all read times before this program was made.
pub(crate) fn believed_now_ms() -> Option<i64> {
    Some(trusted_now_ms()).filter(|now| *now >= RELEASED_MS)
}

/// How far the time to trust is ahead of this machine's clock, milliseconds. A process has one clock, and one opinion of it.
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// Tells how far the time to trust is ahead of this machine's clock; 0 where it is trusted itself.
pub(crate) fn trust_ahead_ms(ahead_ms: i64) {
    AHEAD_MS.store(ahead_ms, Ordering::Relaxed);
}

/// Milliseconds since the Unix epoch by the clock to trust.
pub(crate) fn trusted_now_ms() -> i64 {
    now_ms().saturating_add(AHEAD_MS.load(Ordering::Relaxed))
}

/// Milliseconds since the Unix epoch by this machine's clock.
pub(crate) fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_every_form() {
        let now = 1_800_000_000_000;
        let cases = [
            ("now", now),
            ("-10m", now - 600_000),
            ("-1h30m", now - 5_400_000),
            ("+5s", now + 5_000),
            ("1700000000000", 1_700_000_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T23:13:20.250+01:00", 1_700_000_000_250),
            ("-000420-06-02T10:54:00.000Z", -75_407_893_560_000),
        ];
        for (text, at_ms) in cases {
            assert_eq!(moment(text, now), Ok(at_ms), "{text}");
        }
    }

    #[test]
    fn what_is_no_moment_is_named() {
        for text in [
            "",
            "yesterday",
            "10",
            "-",
            "-10",
            "-10x",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "-99999999d",
            "+99999999d",
            "9999999999999999",
            "99999999999999999999",
        ] {
            let read = moment(text, 0);
            if text == "10" {
                assert_eq!(read, Ok(10));
            } else {
                assert!(
                    read.as_ref().is_err_and(|why| why.contains('`')),
                    "{text}: {read:?}"
                );
            }
        }
    }

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        let cases = [
            ("90s", 90_000),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("1w", 604_800_000),
            ("0s", 0),
        ];
        for (text, ms) in cases {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "s", "1.5h", "-3s", "3 s", "9999999999999999w"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
