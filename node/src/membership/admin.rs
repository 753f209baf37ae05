//! The owner's admin keys: `<config home>/outlast/admin/<MESHID>.key`, out of the daemon's reach.
//!
//! `store` keeps the key of a new mesh, `Admin::open` takes it up for signing; one in another file is taken up by its path.
//! Invariant: two commands never sign with one key at once, or the key's log would fork and be frozen.
//! Invariant: nor one number twice, though the nodes they are run on may know less of it (`signed.rs`).
//! Absent: how a passphrase seals a key (`passphrase.rs`), and what a key may; the mesh's statements say that.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use outlast_mesh::trust::{State, Statement, Statements};
use outlast_mesh::{AdminKey, MeshId};
use rustix::fs::FlockOperation;
use zeroize::Zeroizing;

use super::passphrase::{self, Passphrase, Stored, Unlock};
use super::public;
use super::signed::Signed;
use crate::failure::Failure;
use crate::file;
use crate::text::{aside, visible};

/// An admin key in use; nobody else signs with it until this is dropped.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) key: AdminKey,
    /// What it signed last. `None`: it is in no file.
    signed: Option<Signed>,
    _only: Option<File>,
}

/// Where the key of a mesh is kept.
pub(crate) fn path(config_home: &Path, mesh: &MeshId) -> PathBuf {
    directory(config_home).join(format!("{mesh}.key"))
}

/// Makes the keys' directory, so that a place where none can be is told before a mesh is begun.
pub(crate) fn prepare(config_home: &Path) -> Result<()> {
    let dir = directory(config_home);
    let context = || format!("make {} for the admin key", dir.display());
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .with_context(context)?;
    rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK).with_context(context)
}

/// Keeps the key of a new mesh, sealed if there is a passphrase.
pub(crate) fn store(
    config_home: &Path,
    mesh: &MeshId,
    key: &AdminKey,
    passphrase: Option<&Passphrase>,
) -> Result<PathBuf> {
    prepare(config_home)?;
    let path = path(config_home, mesh);
    match passphrase {
        None => key.store(&path)?,
        Some(passphrase) => {
            let sealed = passphrase::seal(key, passphrase);
            file::write_new(&path, sealed.as_bytes(), 0o600).context("admin key")?;
        }
    }
    Ok(path)
}

/// Gives a kept key another passphrase, or none, while nobody signs with it. What it has is asked for first.
pub(crate) fn reseal(
    path: &Path,
    unlock: &Unlock,
    chosen: impl FnOnce() -> Result<Option<Passphrase>, Failure>,
) -> Result<(), Failure> {
    // Through a link: else the key would stay at its other end as it was.
    let context = || format!("find {}", path.display());
    let path = &std::fs::canonicalize(path).with_context(context)?;
    let (key, _only) = take_up(path, unlock)?;
    let text = match chosen()? {
        Some(passphrase) => Zeroizing::new(passphrase::seal(&key, &passphrase)),
        None => key.to_text(),
    };
    Ok(file::replace(path, text.as_bytes(), 0o600, path)?)
}

fn directory(config_home: &Path) -> PathBuf {
    config_home.join("outlast/admin")
}

impl Admin {
    /// Takes up the key of a mesh, or the one in a file that was named, waiting while another command signs with it.
    pub(crate) fn open(
        config_home: &Path,
        mesh: &MeshId,
        mesh_name: &str,
        named: Option<&Path>,
        unlock: &Unlock,
    ) -> Result<Self, Failure> {
        if let Some(path) = named {
            return Self::load(path, mesh, unlock);
        }
        let path = path(config_home, mesh);
        if !path.exists() {
            return Err(Failure::new(format!(
                "no admin key of mesh {} at {}; it was made where `outlast init` ran, by that user: run this there",
                visible(mesh_name),
                path.display()
            )));
        }
        Self::load(&path, mesh, unlock)
    }

    /// Takes up a key that is in no file: the one of the recovery words. Who types them is alone with them.
    pub(crate) fn of_words(key: AdminKey) -> Self {
        Self {
            key,
            signed: None,
            _only: None,
        }
    }

    /// That the mesh knows this key at all; else nothing it signs would count.
    pub(crate) fn is_known(&self, folded: &State) -> Result<(), Failure> {
        let public = self.key.public();
        if folded.admins.contains_key(&public) {
            return Ok(());
        }
        if self.signed.is_none() {
            return Err(Failure::new(format!(
                "these words are none of mesh {}; `outlast admin list` shows whether it has any",
                visible(&folded.name)
            )));
        }
        Err(Failure::new(format!(
            "this admin key decides nothing in mesh {}; an admin changes that: outlast admin add LABEL {}",
            visible(&folded.name),
            public::show(&public)
        )))
    }

    /// Puts what this key signed elsewhere into what is held here; that has to be published again, first.
    pub(crate) fn catch_up(&self, held: &mut Statements) -> Result<Vec<Statement>, Failure> {
        let Some(signed) = &self.signed else {
            return Ok(Vec::new());
        };
        let again = signed.catch_up(&self.key, held)?;
        if !again.is_empty() {
            aside("what this key signed on another node had not come here yet; it is told as well");
        }
        Ok(again)
    }

    /// Keeps what was just signed, before anybody is told.
    pub(crate) fn remember(&self, statements: &[Statement]) -> Result<(), Failure> {
        match &self.signed {
            Some(signed) => signed.remember(&self.key, statements),
            None => Ok(()),
        }
    }

    /// Forgets what was refused.
    pub(crate) fn forget(&self, refused: &[Statement]) -> Result<(), Failure> {
        match &self.signed {
            Some(signed) => signed.forget(refused),
            None => Ok(()),
        }
    }

    fn load(path: &Path, mesh: &MeshId, unlock: &Unlock) -> Result<Self, Failure> {
        let (key, only) = take_up(path, unlock)?;
        // By whichever link it is found, what it signed is kept in one place.
        let context = || format!("read {}", path.display());
        let path = &std::fs::canonicalize(path).with_context(context)?;
        Ok(Self {
            key,
            _only: Some(only),
            signed: Some(Signed::beside(path, *mesh)),
        })
    }
}

/// The key at `path`, and the lock on it.
fn take_up(path: &Path, unlock: &Unlock) -> Result<(AdminKey, File), Failure> {
    // Whoever types a passphrase keeps nobody waiting.
    let key = Stored::read(path)?.unlock(path, unlock)?;
    Ok((key, lock(path)?))
}

/// The file at `path`, which nobody else has locked. One that was put in its place meanwhile is another.
fn lock(path: &Path) -> Result<File, Failure> {
    let context = || format!("lock {}", path.display());
    loop {
        let only = File::open(path).with_context(context)?;
        rustix::fs::flock(&only, FlockOperation::LockExclusive).with_context(context)?;
        let held = only.metadata().with_context(context)?;
        let there = std::fs::metadata(path).with_context(context)?;
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok(only);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_admin_key_is_told_with_the_place_it_is_expected() {
        let home = tempfile::tempdir().unwrap();
        let mesh = MeshId([7; 32]);
        let failure = Admin::open(home.path(), &mesh, "home", None, &Unlock::Ask).unwrap_err();
        let expected = path(home.path(), &mesh);
        assert_eq!(
            failure.message,
            format!(
                "no admin key of mesh home at {}; it was made where `outlast init` ran, by that user: run this there",
                expected.display()
            )
        );
    }

    #[test]
    fn a_stored_key_is_found_again() {
        let home = tempfile::tempdir().unwrap();
        let mesh = MeshId([8; 32]);
        let key = AdminKey::generate();
        store(home.path(), &mesh, &key, None).unwrap();
        let opened = Admin::open(home.path(), &mesh, "home", None, &Unlock::Ask).unwrap();
        assert_eq!(opened.key.public(), key.public());
    }
}
