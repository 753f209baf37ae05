//! The passphrase of an admin key: where one comes from, and the file of a key that has one.
//!
//! `seal` and `open` are the two ways between a key and its file: a line that begins `outlast-sealed-key-1`, then base64 of
//! what the passphrase costs to try, the public half, a salt, a nonce and the sealed secret.
//! Invariant: nothing but the passphrase opens it; what was altered in the file, and a wrong passphrase, are one refusal.
//! Invariant: a passphrase is never an argument, in the environment, in a log or in an error.
//! Absent: keys without one; `outlast_mesh::AdminKey` reads and writes those.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::BASE64;
use outlast_mesh::AdminKey;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::terminal::Terminal;

/// What a sealed key's file begins with.
const PREFIX: &str = "outlast-sealed-key-1 ";

/// The longest file that is read as one.
const LONGEST_FILE: u64 = 1024;

/// Bytes of a passphrase at most: far beyond what anybody remembers.
const LONGEST: usize = 1024;

/// How often a wrong one may be typed.
const TRIES: usize = 3;

const SALT: usize = 16;
const NONCE: usize = 24;
/// The secret, and what tells that it is unaltered.
const SECRET: usize = 32 + 16;
/// What trying a passphrase costs, the public half and the salt: what is sealed vouches for them.
const OPEN: usize = 9 + 32 + SALT;

/// What trying one passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u8,
}

/// 64 MiB for each guess of whoever has the file; a board with little memory can still give that.
const COST: Cost = Cost {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 1,
};

/// The most that a file may ask of this machine.
const MOST: Cost = Cost {
    memory_kib: 256 * 1024,
    passes: 64,
    lanes: 16,
};

/// What opens a sealed key.
pub(crate) struct Passphrase(Zeroizing<String>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(secret)")
    }
}

impl Passphrase {
    fn new(text: Zeroizing<String>) -> Result<Self, Failure> {
        if text.len() > LONGEST {
            return Err(Failure::usage(format!(
                "a passphrase has {LONGEST} bytes at most"
            )));
        }
        if text.trim().is_empty() {
            return Err(Failure::usage("an empty passphrase protects nothing"));
        }
        Ok(Self(text))
    }

    /// The first line of a file that others can't read.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let context = || format!("read the passphrase in {}", path.display());
        let bytes = crate::file::read_private(path, LONGEST as u64 + 2)?;
        let line = bytes.split(|byte| *byte == b'\n').next();
        let text = std::str::from_utf8(line.unwrap_or_default()).with_context(context)?;
        Self::new(Zeroizing::new(text.trim_end_matches('\r').to_owned()))
    }

    /// Asks for one that is new, twice. `whose` follows "the".
    pub(crate) fn choose(whose: &str) -> Result<Self, Failure> {
        let terminal = Terminal::open().ok_or_else(|| {
            Failure::usage(
                "nobody is here to type a passphrase: run this on a terminal, or give --passphrase-file FILE",
            )
        })?;
        let none = || Failure::new("no passphrase was typed; nothing was changed");
        let first = terminal.unseen(&format!("New passphrase for the {whose}: "));
        let first = Self::new(first.ok_or_else(none)?)?;
        let second = terminal.unseen("The same again: ").ok_or_else(none)?;
        if *second != *first.0 {
            return Err(Failure::new(
                "the two passphrases differ; nothing was changed; run this again",
            ));
        }
        Ok(first)
    }
}

/// The passphrase that a new key gets, if it was asked to have one. `whose` follows "the".
pub(crate) fn wanted(
    asks: bool,
    file: Option<&Path>,
    whose: &str,
) -> Result<Option<Passphrase>, Failure> {
    match (asks, file) {
        (_, Some(file)) => Passphrase::read(file).map(Some),
        (true, None) => Passphrase::choose(whose).map(Some),
        (false, None) => Ok(None),
    }
}

/// Where the passphrase of a sealed key comes from.
#[derive(Debug, Default)]
pub(crate) enum Unlock {
    /// Whoever sits at the terminal.
    #[default]
    Ask,
    /// A file.
    File(PathBuf),
    /// It was chosen by this very command.
    Known(Passphrase),
}

impl From<Option<PathBuf>> for Unlock {
    fn from(file: Option<PathBuf>) -> Self {
        file.map_or(Self::Ask, Self::File)
    }
}

/// What a key file holds.
#[derive(Debug)]
pub(crate) enum Stored {
    /// A key that needs nothing.
    Plain(Box<AdminKey>),
    /// One that needs its passphrase.
    Sealed(Box<Sealed>),
}

impl Stored {
    /// Reads a key file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = crate::file::read_private(path, LONGEST_FILE)?;
        if !text.starts_with(PREFIX.as_bytes()) {
            let key = AdminKey::load(path).map_err(anyhow::Error::from)?;
            return Ok(Self::Plain(Box::new(key)));
        }
        let sealed = std::str::from_utf8(&text).ok().and_then(Sealed::parse);
        let sealed = sealed.ok_or_else(|| {
            Failure::new(format!(
                "key file {} is damaged; put your copy of it in its place",
                path.display()
            ))
        })?;
        Ok(Self::Sealed(Box::new(sealed)))
    }

    /// The public half.
    pub(crate) fn public(&self) -> [u8; 32] {
        match self {
            Self::Plain(key) => key.public(),
            Self::Sealed(sealed) => sealed.public(),
        }
    }

    /// The key, by its passphrase where it has one.
    pub(crate) fn unlock(self, path: &Path, unlock: &Unlock) -> Result<AdminKey, Failure> {
        let sealed = match self {
            Self::Plain(key) => return Ok(*key),
            Self::Sealed(sealed) => sealed,
        };
        let wrong = || {
            format!(
                "this is not the passphrase of the admin key {}; nothing was changed",
                path.display()
            )
        };
        match unlock {
            Unlock::File(file) => sealed.open(&Passphrase::read(file)?).ok_or_else(|| {
                let hint = "look at the first line of";
                Failure::new(format!("{}; {hint} {}", wrong(), file.display()))
            }),
            Unlock::Known(passphrase) => {
                sealed.open(passphrase).ok_or_else(|| Failure::new(wrong()))
            }
            Unlock::Ask => sealed.ask(path, wrong),
        }
    }
}

/// A key that its passphrase opens.
#[derive(Debug)]
pub(crate) struct Sealed {
    cost: Cost,
    open: [u8; OPEN],
    nonce: [u8; NONCE],
    secret: [u8; SECRET],
}

/// A key as its file holds it, sealed by a passphrase.
pub(crate) fn seal(key: &AdminKey, passphrase: &Passphrase) -> String {
    let (mut salt, mut nonce) = ([0; SALT], [0; NONCE]);
    for random in [&mut salt[..], &mut nonce[..]] {
        getrandom::fill(random).expect("the kernel hands out randomness on every system we run on");
    }
    Sealed::new(key, passphrase, COST, salt, nonce).to_text()
}

impl Sealed {
    fn new(
        key: &AdminKey,
        passphrase: &Passphrase,
        cost: Cost,
        salt: [u8; SALT],
        nonce: [u8; NONCE],
    ) -> Self {
        let mut open = [0; OPEN];
        open[..4].copy_from_slice(&cost.memory_kib.to_le_bytes());
        open[4..8].copy_from_slice(&cost.passes.to_le_bytes());
        open[8] = cost.lanes;
        open[9..41].copy_from_slice(&key.public());
        open[41..].copy_from_slice(&salt);
        let (msg, aad) = (&key.seed()[..], &open[..]);
        let sealed = cipher(passphrase, cost, &salt)
            .encrypt(XNonce::from_slice(&nonce), Payload { msg, aad })
            .expect("32 bytes are within what the cipher takes");
        let secret = sealed.try_into().expect("a secret and its tag");
        Self {
            cost,
            open,
            nonce,
            secret,
        }
    }

    /// From the text of a file. `None`: it is none, or asks for more than a machine should give.
    fn parse(text: &str) -> Option<Self> {
        let letters = text.strip_prefix(PREFIX)?.trim_end();
        let bytes = BASE64.decode(letters.as_bytes()).ok()?;
        let (open, rest) = bytes.split_first_chunk::<OPEN>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let secret = rest.try_into().ok()?;
        let number = |at: usize| {
            let bytes = open[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes)
        };
        let cost = Cost {
            memory_kib: number(0),
            passes: number(4),
            lanes: open[8],
        };
        let bounded = cost.memory_kib <= MOST.memory_kib
            && cost.passes <= MOST.passes
            && cost.lanes <= MOST.lanes;
        (bounded && cost.params().is_some()).then_some(Self {
            cost,
            open: *open,
            nonce: *nonce,
            secret,
        })
    }

    fn to_text(&self) -> String {
        let bytes = [&self.open[..], &self.nonce, &self.secret].concat();
        format!("{PREFIX}{}\n", BASE64.encode(&bytes))
    }

    /// The public half, which a wrong passphrase shows as well.
    fn public(&self) -> [u8; 32] {
        self.open[9..41].try_into().expect("32 bytes")
    }

    /// The key. `None`: another passphrase sealed it, or the file was altered.
    fn open(&self, passphrase: &Passphrase) -> Option<AdminKey> {
        let salt = self.open[41..].try_into().expect("the salt's bytes");
        let (msg, aad) = (&self.secret[..], &self.open[..]);
        let opened = cipher(passphrase, self.cost, &salt)
            .decrypt(XNonce::from_slice(&self.nonce), Payload { msg, aad });
        let opened = Zeroizing::new(opened.ok()?);
        let seed = Zeroizing::new(<[u8; 32]>::try_from(&opened[..]).ok()?);
        Some(AdminKey::from_seed(&seed)).filter(|key| key.public() == self.public())
    }

    /// The key, by what is typed at the terminal.
    fn ask(&self, path: &Path, wrong: impl Fn() -> String) -> Result<AdminKey, Failure> {
        let terminal = Terminal::open().ok_or_else(|| {
            Failure::new(format!(
                "the admin key {} has a passphrase, and nobody is here to type it: run this on a terminal, or give \
                 --passphrase-file FILE",
                path.display()
            ))
        })?;
        for _ in 0..TRIES {
            let typed = terminal.unseen(&format!("Passphrase of {}: ", path.display()));
            let none = || Failure::new("no passphrase was typed; nothing was changed");
            let passphrase = Passphrase::new(typed.ok_or_else(none)?)?;
            match self.open(&passphrase) {
                Some(key) => return Ok(key),
                None => terminal.say("That is another passphrase.\r\n"),
            }
        }
        Err(Failure::new(wrong()))
    }
}

impl Cost {
    fn params(self) -> Option<Params> {
        Params::new(
            self.memory_kib,
            self.passes,
            u32::from(self.lanes),
            Some(32),
        )
        .ok()
    }
}

/// The cipher of a passphrase, by Argon2id.
fn cipher(passphrase: &Passphrase, cost: Cost, salt: &[u8; SALT]) -> XChaCha20Poly1305 {
    let params = cost.params().expect("checked when it was read");
    let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(
            passphrase.0.as_bytes(),
            salt,
            &mut *key,
            memory.as_mut_slice(),
        )
        .expect("the lengths are within what Argon2 takes");
    XChaCha20Poly1305::new((&*key).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The least that Argon2 takes, so that tests are quick.
    const LEAST: Cost = Cost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
    }

    fn sealed() -> Sealed {
        let key = AdminKey::from_seed(&[7; 32]);
        Sealed::new(
            &key,
            &passphrase("correct horse"),
            LEAST,
            [1; SALT],
            [2; NONCE],
        )
    }

    #[test]
    fn a_sealed_key_is_opened_by_its_passphrase_alone() {
        let key = AdminKey::generate();
        let text = seal(&key, &passphrase("correct horse"));
        let sealed = Sealed::parse(&text).unwrap();
        assert_eq!(sealed.cost, COST);
        assert_eq!(sealed.public(), key.public());
        let opened = sealed.open(&passphrase("correct horse")).unwrap();
        assert_eq!(opened.public(), key.public());
        assert!(sealed.open(&passphrase("correct horse ")).is_none());
        assert_ne!(text, seal(&key, &passphrase("correct horse")), "salted");
    }

    #[test]
    fn the_form_of_the_file_is_pinned() {
        let text = sealed().to_text();
        assert_eq!(
            text,
            include_str!("../../../tests/released/node/sealed-key.txt")
        );
        let opened = Sealed::parse(&text).unwrap();
        let opened = opened.open(&passphrase("correct horse")).unwrap();
        assert_eq!(opened.public(), AdminKey::from_seed(&[7; 32]).public());
    }

    #[test]
    fn a_file_that_asks_for_too_much_is_refused_before_it_costs_anything() {
        for (at, byte) in [(3, 0xff), (7, 0xff), (8, 0xff), (8, 0)] {
            let mut greedy = sealed();
            greedy.open[at] = byte;
            assert!(Sealed::parse(&greedy.to_text()).is_none(), "{at}");
        }
    }

    #[test]
    fn the_first_line_of_a_file_is_the_passphrase() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words");
        for text in ["correct horse", "correct horse\n", "correct horse\r\nrest"] {
            let _ = std::fs::remove_file(&path);
            crate::file::write_new(&path, text.as_bytes(), 0o600).unwrap();
            assert_eq!(*Passphrase::read(&path).unwrap().0, "correct horse");
        }
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&path, open).unwrap();
        let said = Passphrase::read(&path).unwrap_err().message;
        assert!(
            said.contains("others may read it; make it private"),
            "{said}"
        );
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).unwrap();
        for text in [String::new(), "\n".to_owned(), "x".repeat(LONGEST + 1)] {
            std::fs::write(&path, text).unwrap();
            assert!(Passphrase::read(&path).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_change_of_the_file_is_noticed(at in 9usize..OPEN + NONCE + SECRET, bit in 0u8..8) {
            let sealed = sealed();
            let mut bytes = [&sealed.open[..], &sealed.nonce, &sealed.secret].concat();
            bytes[at] ^= 1 << bit;
            let text = format!("{PREFIX}{}\n", BASE64.encode(&bytes));
            let altered = Sealed::parse(&text).unwrap();
            prop_assert!(altered.open(&passphrase("correct horse")).is_none());
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,300}") {
            let _ = Sealed::parse(&text);
            let _ = Sealed::parse(&format!("{PREFIX}{text}"));
        }
    }
}
