//! The 24 recovery words: made once, shown once or written to one file, never stored by us.
//!
//! In: randomness, or the words as their owner types them. Out: words for the owner, and their key.
//! Invariant: the words are never on standard output's main screen, in a log, an error or an argument.
//! Absent: what their key may; the mesh's statements say that.

use std::path::Path;

use anyhow::{Context, Result};
use bip39::{Language, Mnemonic};
use outlast_mesh::AdminKey;
use zeroize::{Zeroize, Zeroizing};

use crate::failure::Failure;
use crate::file;
use crate::terminal::Terminal;

/// Separates the key of the words from any other use of their entropy.
const CONTEXT: &str = "outlast 2026 recovery key from the entropy of 24 words";

/// How many words there are.
const WORDS: usize = 24;

/// A new set of words.
pub(crate) struct Words {
    words: Zeroizing<String>,
    public: [u8; 32],
}

impl Words {
    /// Makes 24 words from 256 random bits.
    pub(crate) fn generate() -> Self {
        let mut entropy = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *entropy)
            .expect("the kernel hands out randomness on every system we run on");
        Self::from_entropy(&entropy)
    }

    fn from_entropy(entropy: &[u8; 32]) -> Self {
        let mnemonic = Mnemonic::from_entropy_in(Language::English, entropy)
            .expect("256 bits are a length the standard knows");
        let public = key_of(entropy).public();
        let mut words = Zeroizing::new(String::with_capacity(WORDS * 9));
        for word in mnemonic.words() {
            if !words.is_empty() {
                words.push(' ');
            }
            words.push_str(word);
        }
        Self { words, public }
    }

    /// The public half of the words' key.
    pub(crate) const fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Writes the words to a new file that only its owner can read.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let line = Zeroizing::new(format!("{}\n", *self.words));
        file::write_new(path, line.as_bytes(), 0o600).context("recovery words")
    }

    /// Shows the words on the terminal's other screen, then asks three of them back.
    pub(crate) fn show(&self, terminal: &Terminal) -> Result<(), Failure> {
        let _screen = terminal.other_screen();
        let words: Vec<&str> = self.words.split(' ').collect();
        terminal.say(
            "Write these 24 words down, in this order, and keep them away from this machine.\r\n\
             They are the only way back into the mesh if the admin key is lost. They are shown once.\r\n\r\n",
        );
        for (row, four) in words.chunks(4).enumerate() {
            for (column, word) in four.iter().enumerate() {
                let cell = Zeroizing::new(format!("  {:>2} {word:<10}", row * 4 + column + 1));
                terminal.say(&cell);
            }
            terminal.say("\r\n");
        }
        terminal.say("\r\nPress Enter when you have them all. ");
        answer(terminal)?;
        for number in three_numbers() {
            ask_back(terminal, number, words[number - 1])?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Words(secret)")
    }
}

fn key_of(entropy: &[u8]) -> AdminKey {
    let mut seed = blake3::derive_key(CONTEXT, entropy);
    let key = AdminKey::from_seed(&seed);
    seed.zeroize();
    key
}

/// The key of words that their owner gives back. What is wrong is told by number, never by the word itself.
pub(crate) fn key(text: &str) -> Result<AdminKey, Failure> {
    let lower = Zeroizing::new(text.to_lowercase());
    let words = Zeroizing::new(lower.split_whitespace().collect::<Vec<_>>().join(" "));
    let count = words.split(' ').filter(|word| !word.is_empty()).count();
    if count != WORDS {
        return Err(Failure::usage(format!(
            "{count} words were given, the recovery words are {WORDS}"
        )));
    }
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, &words).map_err(|error| {
        Failure::usage(match error {
            bip39::Error::UnknownWord(at) => {
                format!(
                    "word {} is none of the list: look at its letters again",
                    at + 1
                )
            }
            _ => "these are not the recovery words: one of them is wrong, or two changed places"
                .to_owned(),
        })
    })?;
    let (entropy, len) = mnemonic.to_entropy_array();
    let entropy = Zeroizing::new(entropy);
    Ok(key_of(&entropy[..len]))
}

/// Asks for the words on the terminal's other screen, so that they don't stay in the scroll-back.
pub(crate) fn ask(terminal: &Terminal) -> Result<Zeroizing<String>, Failure> {
    let _screen = terminal.other_screen();
    terminal.say("Type the 24 recovery words, apart by spaces, then Enter.\r\n\r\n");
    terminal
        .line()
        .ok_or_else(|| Failure::new("no recovery words were typed; nothing was changed"))
}

fn ask_back(terminal: &Terminal, number: usize, word: &str) -> Result<(), Failure> {
    const TRIES: usize = 3;
    terminal.say("\u{1b}[2J\u{1b}[H");
    for _ in 0..TRIES {
        terminal.say(&format!("Word {number}? "));
        if answer(terminal)?.trim().eq_ignore_ascii_case(word) {
            return Ok(());
        }
        terminal.say("That is another word.\r\n");
    }
    Err(Failure::new(format!(
        "word {number} was not the one shown; nothing was changed; run this again and write the words down"
    )))
}

fn answer(terminal: &Terminal) -> Result<Zeroizing<String>, Failure> {
    terminal.line().ok_or_else(|| {
        Failure::new("the recovery words were not confirmed; nothing was changed; run this again")
    })
}

/// Three different places among the 24, in order.
fn three_numbers() -> [usize; 3] {
    let mut random = [0; 3];
    getrandom::fill(&mut random)
        .expect("the kernel hands out randomness on every system we run on");
    let eight = |at: usize| at * 8 + usize::from(random[at]) % 8 + 1;
    [eight(0), eight(1), eight(2)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_known_entropy_are_those_of_the_standard() {
        // The first and last 256-bit vectors of BIP-39's own list.
        let zeros = Words::from_entropy(&[0; 32]);
        assert_eq!(*zeros.words, format!("{}art", "abandon ".repeat(23)));
        let ones = Words::from_entropy(&[0xff; 32]);
        assert_eq!(*ones.words, format!("{}vote", "zoo ".repeat(23)));
        assert_ne!(zeros.public(), ones.public());
    }

    #[test]
    fn the_words_give_their_key_back_however_they_are_typed() {
        let words = Words::from_entropy(&[7; 32]);
        let typed = words.words.to_uppercase().replace(' ', "\n  ");
        assert_eq!(key(&typed).unwrap().public(), words.public());
        assert_ne!(key(&typed).unwrap().public(), Words::generate().public());
    }

    #[test]
    fn wrong_words_are_told_by_number_and_never_quoted() {
        let zeros = "abandon ".repeat(23);
        let cases = [
            (
                String::new(),
                "0 words were given, the recovery words are 24",
            ),
            (
                zeros.clone(),
                "23 words were given, the recovery words are 24",
            ),
            (
                format!("{zeros}artt"),
                "word 24 is none of the list: look at its letters again",
            ),
            (
                format!("{zeros}zoo"),
                "these are not the recovery words: one of them is wrong, or two changed places",
            ),
        ];
        for (typed, said) in cases {
            let failure = key(&typed).unwrap_err();
            assert_eq!((failure.exit, failure.message.as_str()), (2, said));
        }
    }

    #[test]
    fn three_words_are_asked_in_order_and_none_twice() {
        for _ in 0..100 {
            let [first, second, third] = three_numbers();
            assert!(1 <= first && first < second && second < third && third <= 24);
        }
    }

    #[test]
    fn a_file_of_words_is_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words");
        let words = Words::generate();
        words.write(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            std::fs::read_to_string(&path)
                .unwrap()
                .split_whitespace()
                .count(),
            24
        );
        assert!(Words::generate().write(&path).is_err());
    }
}
