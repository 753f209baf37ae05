//! Numbers and words out of the kernel's text.
//!
//! Everything here takes any bytes and never fails louder than `None`.

/// The lines of a text, without their ends.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// A word of digits as a number; `None` where it isn't one or is beyond 64 bits.
pub(super) fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() {
        return None;
    }
    word.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A number that may be below zero.
pub(super) fn signed(word: &[u8]) -> Option<i64> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let value = i64::try_from(number(digits)?).ok()?;
    Some(if digits.len() < word.len() {
        -value
    } else {
        value
    })
}

/// A word of hexadecimal digits as a number; `None` where it isn't one or is beyond 64 bits.
pub(super) fn hex(word: &[u8]) -> Option<u64> {
    let digits = !word.is_empty() && word.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(str::from_utf8(word).ok().filter(|_| digits)?, 16).ok()
}

/// A number that was written with two decimals, in hundredths. `None` where it isn't one or is
/// below zero.
pub(super) fn to_hundredths(value: impl Into<f64>) -> Option<u64> {
    let hundredths = (value.into() * 100.0).round();
    (hundredths >= 0.0).then_some(hundredths as u64)
}

/// Finds words in a list that stands in the order in which the words come, mostly: looks first
/// where the last find left off.
#[derive(Debug, Default)]
pub(super) struct Cursor(usize);

impl Cursor {
    /// Where `word` stands in `list`.
    pub(super) fn find(&mut self, list: &[&str], word: &[u8]) -> Option<usize> {
        if list.get(self.0).is_some_and(|next| next.as_bytes() == word) {
            self.0 += 1;
            return Some(self.0 - 1);
        }
        let at = list.iter().position(|known| known.as_bytes() == word)?;
        self.0 = at + 1;
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for word in [
            "",
            "-1",
            "+1",
            "1.0",
            "18446744073709551616",
            "1k",
            " 1",
            "\u{661}",
        ] {
            assert_eq!(number(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn numbers_below_zero_have_one_sign() {
        assert_eq!(signed(b"-5250"), Some(-5_250));
        assert_eq!(signed(b"7"), Some(7));
        for word in ["", "-", "--1", "+1", "9223372036854775808"] {
            assert_eq!(signed(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn hexadecimal_numbers_are_digits_and_nothing_else() {
        assert_eq!(hex(b"0294243b"), Some(43_263_035));
        assert_eq!(hex(b"ffffffffffffffff"), Some(u64::MAX));
        for word in ["", "+1", "-1", "0x1", "g", "10000000000000000"] {
            assert_eq!(hex(word.as_bytes()), None, "{word}");
        }
    }

    #[test]
    fn hundredths_are_rounded_and_never_invented() {
        assert_eq!(to_hundredths(0.39_f32), Some(39));
        assert_eq!(to_hundredths(1304.71), Some(130_471));
        assert_eq!(to_hundredths(f64::INFINITY), Some(u64::MAX));
        assert_eq!(to_hundredths(f64::NAN), None);
        assert_eq!(to_hundredths(-0.01), None);
    }

    #[test]
    fn a_cursor_finds_words_in_any_order() {
        let mut cursor = Cursor::default();
        let found = [b"a", b"c", b"x", b"b", b"b"].map(|word| cursor.find(&["a", "b", "c"], word));
        assert_eq!(found, [Some(0), Some(2), None, Some(1), Some(1)]);
    }

    proptest! {
        #[test]
        fn numbers_read_back(value: u64) {
            prop_assert_eq!(number(value.to_string().as_bytes()), Some(value));
        }

        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            for word in lines(&text).flat_map(words) {
                number(word);
            }
        }
    }
}
