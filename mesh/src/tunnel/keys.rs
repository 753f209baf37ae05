//! The keys a machine holds: who it is (Ed25519), who administers (Ed25519), what its tunnels use
//! (X25519).
//!
//! Each is made from the system's randomness, written once to a file of its own with mode 0600, and
//! wiped from memory when dropped. The files hold base64 and a newline; the tunnel's is exactly
//! what `wg genkey` prints.
//! Invariant: a key file that others may read is refused, and no `Debug` prints a secret.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use data_encoding::BASE64;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::id::NodeId;

/// Bytes read of a key file at most: 44 letters and a newline are expected, an editor may have
/// added a few.
const MAX_KEY_FILE: u64 = 64;

/// Tunnel keys before the present one that are kept.
pub(crate) const MOST_PREVIOUS: usize = 4;

/// Who a node is. Signs its statements and its rows.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

/// Who may invite. Held by the owner, never by the daemon.
#[derive(Clone)]
pub struct AdminKey(SigningKey);

/// The secret half of a WireGuard key pair.
#[derive(Clone)]
pub struct TunnelKey(StaticSecret);

/// A tunnel key that was replaced, and is accepted for a while.
#[derive(Debug, Clone)]
pub struct PreviousKey {
    /// The key.
    pub key: TunnelKey,
    /// When it was replaced, milliseconds since the Unix epoch.
    pub replaced_ms: u64,
}

/// The public half of a WireGuard key pair. Displayed as `wg` writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelPublic(pub [u8; 32]);

/// A key that signs statements.
pub trait Author {
    /// The public half, which is the author's id.
    fn public(&self) -> [u8; 32];
    /// The Ed25519 signature of `message`.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

/// Why a key could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("key file {}: {source}", path.display())]
    Io {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "key file {} has mode {mode:04o}, so others may read it; make it private with `chmod 600 {}`",
        path.display(), path.display()
    )]
    Readable {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("key file {} does not hold one key of 44 base64 letters", path.display())]
    NotAKey {
        /// The key file.
        path: PathBuf,
    },
    /// A text is no key.
    #[error("not a key: 44 base64 letters, as `wg genkey` writes them, are needed")]
    NotBase64,
}

/// Whether `signature` over `message` is the one of `public`, by the strict rules (no small-order
/// keys).
#[must_use]
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public).is_ok_and(|key| {
        key.verify_strict(message, &Signature::from_bytes(signature))
            .is_ok()
    })
}

impl NodeKey {
    /// A new key from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(SigningKey::from_bytes(&random_secret()))
    }

    /// The key with these 32 secret bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads the key at `path`.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Ok(Self(SigningKey::from_bytes(&*read_secret(path)?)))
    }

    /// Writes the key to `path`, which must not exist, durably and for the owner alone.
    pub fn store(&self, path: &Path) -> Result<(), KeyError> {
        write_secret(path, self.0.as_bytes())
    }

    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.public())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The Ed25519 signature of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The secret bytes, for the TLS of streams.
    pub(crate) fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
}

impl AdminKey {
    /// A new key from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self(SigningKey::from_bytes(&random_secret()))
    }

    /// The key with these 32 secret bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Reads the key at `path`.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Ok(Self(SigningKey::from_bytes(&*read_secret(path)?)))
    }

    /// Writes the key to `path`, which must not exist, durably and for the owner alone.
    pub fn store(&self, path: &Path) -> Result<(), KeyError> {
        write_secret(path, self.0.as_bytes())
    }

    /// The secret bytes, for an owner who keeps them in another form than `store`.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// What `store` writes: base64 and a newline.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0.as_bytes()) + "\n")
    }

    /// The public half, as Genesis names it.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The Ed25519 signature of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl Author for NodeKey {
    fn public(&self) -> [u8; 32] {
        Self::public(self)
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        Self::sign(self, message)
    }
}

impl Author for AdminKey {
    fn public(&self) -> [u8; 32] {
        Self::public(self)
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        Self::sign(self, message)
    }
}

impl TunnelKey {
    /// A new key from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_bytes(&random_secret())
    }

    /// The key with these secret bytes, clamped as `wg genkey` clamps them.
    #[must_use]
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        let mut clamped = Zeroizing::new(*secret);
        clamped[0] &= 248;
        clamped[31] = (clamped[31] & 127) | 64;
        Self(StaticSecret::from(*clamped))
    }

    /// Reads a key as `wg genkey` writes it; white space around it is ignored.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let secret = parse_base64(text.as_bytes()).ok_or(KeyError::NotBase64)?;
        Ok(Self(StaticSecret::from(*secret)))
    }

    /// The secret as `wg genkey` writes it, without the newline.
    #[must_use]
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(self.0.as_bytes()))
    }

    /// Reads the key at `path`.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        Ok(Self(StaticSecret::from(*read_secret(path)?)))
    }

    /// Writes the key to `path`, which must not exist, durably and for the owner alone.
    pub fn store(&self, path: &Path) -> Result<(), KeyError> {
        write_secret(path, self.0.as_bytes())
    }

    /// Replaces the key at `path` by a new one and keeps the old one beside it, in
    /// `<path>.previous`, and those before it in `<path>.previous-2` and on, all durably. A power
    /// cut leaves the old key or the new one at `path`.
    pub fn rotate(path: &Path) -> Result<Self, KeyError> {
        let new = Self::lay_by(path)?;
        Self::take_up(path)?;
        Ok(new)
    }

    /// Makes the key that is to follow the one at `path`, in `<path>.next`; nothing else changes.
    pub fn lay_by(path: &Path) -> Result<Self, KeyError> {
        let new = Self::generate();
        replace_secret(&next_of(path), new.0.as_bytes())?;
        Ok(new)
    }

    /// Puts the key of `lay_by` in place, as `rotate` does.
    pub fn take_up(path: &Path) -> Result<(), KeyError> {
        let old = Self::load(path)?;
        // A power cut may have come between the two files: then the key is kept already.
        let last = Self::load_previous(path)?.into_iter().next();
        let is_kept = last.is_some_and(|last| last.key.public() == old.public());
        let shifted = if is_kept { 0 } else { MOST_PREVIOUS - 1 };
        for number in (1..=shifted).rev() {
            rename(&previous_of(path, number), &previous_of(path, number + 1))?;
        }
        replace_secret(&previous_of(path, 1), old.0.as_bytes())?;
        Self::put_next(path)
    }

    /// Puts the key of `lay_by` in place of one that nobody has heard of; those before stay.
    pub fn put_next(path: &Path) -> Result<(), KeyError> {
        let next = next_of(path);
        fs::rename(&next, path)
            .and_then(|()| sync_directory_of(path))
            .map_err(|source| KeyError::Io { path: next, source })
    }

    /// Removes the key of `lay_by`: it is not wanted.
    pub fn drop_next(path: &Path) -> Result<(), KeyError> {
        let next = next_of(path);
        fs::remove_file(&next).map_err(|source| KeyError::Io { path: next, source })
    }

    /// Whether one more change would push a key out that was replaced after `since_ms`.
    pub fn is_full(path: &Path, since_ms: u64) -> Result<bool, KeyError> {
        let previous = Self::load_previous(path)?;
        let oldest = previous.get(MOST_PREVIOUS - 1);
        Ok(oldest.is_some_and(|oldest| oldest.replaced_ms > since_ms))
    }

    /// The keys that were at `path` before, the latest first, and when each was replaced, as the
    /// files' times say.
    pub fn load_previous(path: &Path) -> Result<Vec<PreviousKey>, KeyError> {
        let mut all = Vec::new();
        for path in (1..=MOST_PREVIOUS).map(|number| previous_of(path, number)) {
            let modified = match fs::metadata(&path).and_then(|meta| meta.modified()) {
                Ok(modified) => modified,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(KeyError::Io { path, source }),
            };
            let since = modified.duration_since(std::time::UNIX_EPOCH);
            let replaced_ms = since.map_or(0, |since| since.as_millis() as u64);
            let key = Self::load(&path)?;
            all.push(PreviousKey { key, replaced_ms });
        }
        Ok(all)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> TunnelPublic {
        TunnelPublic(PublicKey::from(&self.0).to_bytes())
    }

    /// The secret as the tunnel's cryptography takes it.
    pub(crate) fn secret(&self) -> StaticSecret {
        self.0.clone()
    }
}

impl TunnelPublic {
    /// Reads a public key as `wg pubkey` writes it; white space around it is ignored.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = parse_base64(text.as_bytes()).ok_or(KeyError::NotBase64)?;
        Ok(Self(*bytes))
    }
}

impl fmt::Display for TunnelPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&BASE64.encode(&self.0))
    }
}

impl fmt::Debug for TunnelPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunnelPublic({self})")
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey(secret of {:.8})", self.id())
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(secret)")
    }
}

impl fmt::Debug for TunnelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TunnelKey(secret of {})", self.public())
    }
}

/// 32 bytes from the system, for a secret.
pub(crate) fn random_secret() -> Zeroizing<[u8; 32]> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret)
        .expect("the kernel hands out randomness on every system we run on");
    secret
}

fn parse_base64(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let bytes = Zeroizing::new(BASE64.decode(text.trim_ascii()).ok()?);
    let mut secret = Zeroizing::new([0; 32]);
    if bytes.len() != secret.len() {
        return None;
    }
    secret.copy_from_slice(&bytes);
    Some(secret)
}

fn read_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let io = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Readable {
            path: path.to_owned(),
            mode,
        });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE as usize));
    file.take(MAX_KEY_FILE).read_to_end(&mut text).map_err(io)?;
    parse_base64(&text).ok_or_else(|| KeyError::NotAKey {
        path: path.to_owned(),
    })
}

fn write_secret(path: &Path, secret: &[u8; 32]) -> Result<(), KeyError> {
    let io = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    let text = Zeroizing::new(BASE64.encode(secret) + "\n");
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if let Err(source) = written.and_then(|()| sync_directory_of(path)) {
        // A key nobody can rely on must not block the next attempt.
        let _gone = fs::remove_file(path);
        return Err(io(source));
    }
    Ok(())
}

/// Where the `number`th key before is kept, counting from one.
fn previous_of(path: &Path, number: usize) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".previous");
    if number > 1 {
        name.push(format!("-{number}"));
    }
    PathBuf::from(name)
}

/// Writes a key in place of another, or of none; before and after a power cut one of them is there.
fn replace_secret(path: &Path, secret: &[u8; 32]) -> Result<(), KeyError> {
    let io = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    write_secret(&beside, secret)?;
    fs::rename(&beside, path)
        .and_then(|()| sync_directory_of(path))
        .map_err(io)
}

fn next_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".next");
    PathBuf::from(name)
}

/// Renames a file, if it is there.
fn rename(from: &Path, to: &Path) -> Result<(), KeyError> {
    match fs::rename(from, to) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KeyError::Io {
            path: from.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Makes the name of a new file as durable as its content.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
