//! A time as a person reads it in a refusal: `2026-11-23 04:36 UTC`.
//!
//! Absent: time zones and parsing. A refusal may be read on another machine than the one that wrote
//! it.

use std::fmt;

/// Milliseconds since the Unix epoch, displayed to the minute in UTC.
pub(super) struct Moment(pub(super) u64);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = self.0 / 60_000;
        let (year, month, day) = civil(minutes / 1_440);
        let (hour, minute) = (minutes / 60 % 24, minutes % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
    }
}

/// The date `days` after 1970-01-01. Years begin in March inside, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_march_0000 = days + 719_468;
    let era = since_march_0000 / 146_097;
    let day_of_era = since_march_0000 % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_since_march + 2) / 5 + 1;
    let month = if months_since_march < 10 {
        months_since_march + 3
    } else {
        months_since_march - 9
    };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_the_calendar_says() {
        let expected = [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_340_000, "2000-02-28 23:59 UTC"),
            (951_782_400_000, "2000-02-29 00:00 UTC"),
            (951_868_800_000, "2000-03-01 00:00 UTC"),
            (1_795_408_619_000, "2026-11-23 04:36 UTC"),
            (4_107_542_400_000, "2100-03-01 00:00 UTC"),
        ];
        for (at_ms, text) in expected {
            assert_eq!(Moment(at_ms).to_string(), text);
        }
    }
}
