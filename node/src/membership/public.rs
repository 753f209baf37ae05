//! The public half of an admin key as text: what one owner hands to another, who grants it rights.
//!
//! `show` writes it and `read` takes it back: `oa1`, then 56 base32 letters of the key and a checksum.
//! Invariant: a letter copied wrong is noticed; a WireGuard key or a node's id is never taken for an admin's.
//! Absent: secrets of any kind.

use std::sync::OnceLock;

use data_encoding::{Encoding, Specification};

const PREFIX: &str = "oa1";

/// Bytes of the checksum: with the key 35, which base32 writes without a rest.
const CHECKSUM: usize = 3;

/// Letters that tell the keys of one mesh apart at a glance.
const SHORT: usize = 8;

/// A key as it is handed on.
pub(crate) fn show(key: &[u8; 32]) -> String {
    let bytes = [&key[..], &checksum(key)].concat();
    format!("{PREFIX}{}", base32().encode(&bytes))
}

/// The beginning of it, for lists.
pub(crate) fn short(key: &[u8; 32]) -> String {
    show(key).chars().take(PREFIX.len() + SHORT).collect()
}

/// The key that a text stands for, or what is wrong with it.
pub(crate) fn read(text: &str) -> Result<[u8; 32], &'static str> {
    const FORM: &str = "not an admin's public key: oa1 and 56 letters are needed, as `outlast admin key` prints them";
    let letters = text.trim().strip_prefix(PREFIX).ok_or(FORM)?;
    let bytes = base32()
        .decode(letters.as_bytes())
        .map_err(|_invalid| FORM)?;
    let (key, sum) = bytes.split_at_checked(32).ok_or(FORM)?;
    let key: [u8; 32] = key.try_into().map_err(|_length| FORM)?;
    if sum.len() != CHECKSUM {
        return Err(FORM);
    }
    if sum != checksum(&key) {
        return Err("the public key was altered: its checksum does not fit; copy it again");
    }
    Ok(key)
}

fn checksum(key: &[u8; 32]) -> [u8; CHECKSUM] {
    let sum = blake3::derive_key("outlast 2026 checksum of an admin's public key", key);
    *sum.first_chunk().expect("a hash has 32 bytes")
}

fn base32() -> &'static Encoding {
    static LOWER: OnceLock<Encoding> = OnceLock::new();
    LOWER.get_or_init(|| {
        let mut spec = Specification::new();
        spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        spec.encoding()
            .expect("the alphabet has 32 distinct letters")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_of_a_key_is_pinned() {
        let text = show(&[7; 32]);
        assert_eq!(
            text,
            "oa1a4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4d7ozez"
        );
        assert_eq!(short(&[7; 32]), text[..11]);
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let wireguard = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        let truncated = &show(&[7; 32])[..58];
        for text in ["", "oa1", wireguard, truncated, "ol1aaaa", "oa1é"] {
            assert!(
                read(text).unwrap_err().starts_with("not an admin's"),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_written_and_one_wrong_letter_is_noticed(
            key: [u8; 32],
            at in 3usize..59,
            letter in "[a-z2-7]",
        ) {
            let text = show(&key);
            prop_assert_eq!(read(&format!(" {text}\n")), Ok(key));
            let mut altered = text.clone();
            altered.replace_range(at..=at, &letter);
            if altered != text {
                // Three bytes of checksum: one in 16 million slips through, none of these does.
                prop_assert!(read(&altered).is_err());
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,80}") {
            let _ = read(&text);
        }
    }
}
