//! The state directory: where it is, who may write in it, and which mesh it belongs to.
//!
//! `StateDir::resolve` finds it, `prepare` makes it (0700, with its FORMAT), `lock` makes the caller its only
//! writer.
//! Invariant: nobody writes below it without the `Lock`; a directory that isn't ours is refused untouched.
//! Absent: the store's own directory inside, which the store looks after.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{FlockOperation, OFlags};

use crate::cli::Global;
use crate::control;
use crate::file;
use crate::service;
use crate::service::account::{self, Account, HeldDir};

/// What FORMAT says in a directory this release reads and writes.
pub(crate) const FORMAT: &str = "outlast 1\n";

/// One node's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StateDir {
    path: PathBuf,
    /// Where commands look for the socket.
    socket_dir: PathBuf,
}

/// The right to write in the state directory, until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    /// To whom everything in the directory goes before the right does.
    will: Option<Will>,
}

/// What becomes of a directory that root wrote in.
#[derive(Debug)]
struct Will {
    dir: HeldDir,
    heir: Account,
    path: PathBuf,
}

impl Lock {
    /// Lets root leave no file of its own: what a command makes here belongs to the directory's user in the end.
    pub(crate) fn for_owner(mut self, state: &StateDir) -> Self {
        if account::is_root()
            && let Ok(dir) = HeldDir::open(&state.path)
            && let Ok(heir) = dir.owner()
            && heir.uid != 0
        {
            let path = state.path.clone();
            self.will = Some(Will { dir, heir, path });
        }
        self
    }

    /// Lets the service's directory belong to the service's user in the end, where there is one. Any other
    /// directory stays with whom it belongs to: root named it, and may mean to run the node there.
    pub(crate) fn for_service(self, state: &StateDir) -> Self {
        let mut lock = self.for_owner(state);
        let serves = state.path == Path::new(service::STATE_DIR);
        if lock.will.is_none()
            && serves
            && account::is_root()
            && let Some(heir) = Account::named(service::ACCOUNT)
        {
            let path = state.path.clone();
            match HeldDir::open(&path) {
                Ok(dir) => lock.will = Some(Will { dir, heir, path }),
                Err(error) => tell_to_hand_over(&error, &path, heir),
            }
        }
        lock
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(Will { dir, heir, path }) = self.will.take()
            && let Err(error) = dir.hand_over(heir)
        {
            tell_to_hand_over(&error, &path, heir);
        }
    }
}

fn tell_to_hand_over(error: &anyhow::Error, dir: &Path, to: Account) {
    crate::text::aside(format!(
        "hand {dir} to user {uid}: {error:#}; do it yourself: chown -R {uid}:{gid} {dir}",
        dir = dir.display(),
        uid = to.uid,
        gid = to.gid,
    ));
}

/// Why the lock was not given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Somebody has it.
    #[error(
        "{} is in use by process {}; one state directory is one node, stop that one or name another with --state-dir",
        dir.display(),
        holder.as_deref().unwrap_or("(unknown)")
    )]
    Held {
        /// Which directory.
        dir: PathBuf,
        /// The process, as it wrote itself into the file.
        holder: Option<String>,
    },
    /// The file could not be opened or written.
    #[error("lock {}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

impl StateDir {
    /// The directory named by flag or environment, or the usual one of this user.
    pub(crate) fn resolve(global: &Global) -> Result<Self> {
        if let Some(path) = &global.state_dir {
            let path = std::path::absolute(path)
                .with_context(|| format!("state directory {}", path.display()))?;
            return Ok(Self {
                socket_dir: path.clone(),
                path,
            });
        }
        let path = if rustix::process::geteuid().is_root() {
            PathBuf::from(service::STATE_DIR)
        } else {
            user_dir("XDG_STATE_HOME", ".local/state")?.join("outlast")
        };
        let mut state = Self::at(path);
        if state.is_served(Path::new(service::RUN_DIR)) {
            state.socket_dir = PathBuf::from(service::RUN_DIR);
        }
        Ok(state)
    }

    /// Whether commands go to the machine's service, whose socket is in this directory.
    fn is_served(&self, run_dir: &Path) -> bool {
        match run_dir.join(control::SOCKET).try_exists() {
            Ok(there) => there,
            // It runs, but not for this user: one with a node of their own goes on with that, anybody else is
            // told by the connection how to be let in.
            Err(error) => {
                error.kind() == ErrorKind::PermissionDenied && !self.is_member() && !self.is_open()
            }
        }
    }

    fn is_open(&self) -> bool {
        self.join(control::SOCKET).exists()
    }

    /// A directory known by its path.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self {
            socket_dir: path.clone(),
            path,
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where commands look for the running node's socket.
    pub(crate) fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// A file or directory in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the directory if it is missing, and refuses one that isn't ours or is of a newer release.
    pub(crate) fn prepare(&self) -> Result<()> {
        let shown = self.path.display();
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.path);
        if let Err(error) = made {
            bail!(match error.kind() {
                // A file in its place, or a link that leads nowhere.
                ErrorKind::AlreadyExists | ErrorKind::NotADirectory =>
                    anyhow!(no_directory(&self.path)),
                ErrorKind::NotFound => anyhow!(
                    "make the state directory {shown}: {error}; name another with --state-dir"
                ),
                _ => anyhow!(error).context(format!("make the state directory {shown}")),
            });
        }
        match std::fs::read_to_string(self.join("FORMAT")) {
            Ok(format) if format == FORMAT => Ok(()),
            // The power failed while the very first file was being made.
            Ok(format) if format.is_empty() => {
                std::fs::remove_file(self.join("FORMAT"))
                    .with_context(|| format!("remove the empty {shown}/FORMAT"))?;
                self.claim()
            }
            Ok(format) => bail!(
                "the state directory {shown} has format {:?}, this release knows {:?}; upgrade outlast, nothing was changed",
                crate::text::visible(format.trim()),
                FORMAT.trim()
            ),
            Err(error) if error.kind() == ErrorKind::NotFound => self.claim(),
            Err(error) => Err(error).with_context(|| format!("read {shown}/FORMAT")),
        }
    }

    /// Whether a mesh was founded or joined here.
    pub(crate) fn is_member(&self) -> bool {
        // The file appears whole, by a rename: one that is empty was damaged, and never means "not yet".
        self.join("statements.log").exists()
    }

    fn claim(&self) -> Result<()> {
        let shown = self.path.display();
        let mut entries = std::fs::read_dir(&self.path).with_context(|| format!("read {shown}"))?;
        // A lock is all that an interrupted start leaves before FORMAT.
        if let Some(other) =
            entries.find_map(|entry| entry.ok().filter(|e| e.file_name() != "lock"))
        {
            bail!(
                "{shown} holds {:?} and is no state directory of outlast; name an empty one with --state-dir",
                crate::text::visible(&other.file_name().to_string_lossy())
            );
        }
        std::fs::set_permissions(&self.path, Permissions::from_mode(0o700))
            .with_context(|| format!("make {shown} private"))?;
        file::write_new(&self.join("FORMAT"), FORMAT.as_bytes(), 0o644)
    }

    /// Becomes the directory's only writer.
    pub(crate) fn lock(&self) -> Result<Lock, LockError> {
        let path = self.join("lock");
        let io = |source| LockError::Io {
            path: path.clone(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .map_err(io)?;
        // It is about to be cut to nothing: not through a second name that the directory's user gave to a file of root's.
        let found = file.metadata().map_err(io)?;
        if !found.is_file() || found.nlink() != 1 {
            return Err(io(std::io::Error::other("it is no plain file of its own")));
        }
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
                let mut holder = String::new();
                let read = (&mut file).take(20).read_to_string(&mut holder);
                let holder = holder.trim().to_owned();
                let known = read.is_ok() && holder.bytes().all(|b| b.is_ascii_digit());
                return Err(LockError::Held {
                    dir: self.path.clone(),
                    holder: (known && !holder.is_empty()).then_some(holder),
                });
            }
            Err(error) => return Err(io(error.into())),
        }
        file.set_len(0).map_err(io)?;
        file.rewind().map_err(io)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(io)?;
        Ok(Lock {
            _file: file,
            will: None,
        })
    }
}

/// What to say where a state directory should be and something else is.
pub(crate) fn no_directory(path: &Path) -> String {
    format!(
        "{} is no directory; name another with --state-dir",
        path.display()
    )
}

/// Where this user's settings are, admin keys among them: `$XDG_CONFIG_HOME` or `$HOME/.config`.
///
/// For root they are root's, also where `sudo` left the caller's `HOME` in place: a key that root writes into
/// somebody's home is neither's.
pub(crate) fn config_home() -> Result<PathBuf> {
    let dir = user_dir("XDG_CONFIG_HOME", ".config")?;
    let through_sudo = account::is_root() && std::env::var_os("SUDO_UID").is_some();
    let foreign = through_sudo && nearest_owner(&dir).is_some_and(|owner| owner.uid != 0);
    match account::home_of_root().filter(|_| foreign) {
        Some(home) => Ok(home.join(".config")),
        None => Ok(dir),
    }
}

/// Whose the directory is, or would be: the owner of the nearest one above it that exists.
fn nearest_owner(dir: &Path) -> Option<Account> {
    dir.ancestors().find_map(|dir| Account::owning(dir).ok())
}

fn user_dir(variable: &str, below_home: &str) -> Result<PathBuf> {
    let named = std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    if let Some(path) = named {
        return Ok(path);
    }
    let home = std::env::home_dir()
        .filter(|home| home.is_absolute())
        .ok_or_else(|| {
            anyhow!("neither {variable} nor HOME names a directory; set one, or use --state-dir")
        })?;
    Ok(home.join(below_home))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("state"));
        (dir, state)
    }

    #[test]
    fn a_new_directory_is_private_and_says_its_format() {
        let (_dir, state) = scratch();
        state.prepare().unwrap();
        state.prepare().unwrap();
        assert_eq!(
            std::fs::metadata(state.path())
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        assert_eq!(
            std::fs::read_to_string(state.join("FORMAT")).unwrap(),
            "outlast 1\n"
        );
        assert!(!state.is_member());
    }

    #[test]
    fn a_directory_of_something_else_is_refused_untouched() {
        let (_dir, state) = scratch();
        std::fs::create_dir(state.path()).unwrap();
        std::fs::write(state.join("photo.jpg"), "x").unwrap();
        let said = state.prepare().unwrap_err().to_string();
        assert!(
            said.contains("\"photo.jpg\"") && said.contains("--state-dir"),
            "{said}"
        );
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let (_dir, state) = scratch();
        std::fs::create_dir(state.path()).unwrap();
        std::fs::write(state.join("FORMAT"), "outlast 2\n").unwrap();
        let said = state.prepare().unwrap_err().to_string();
        assert!(
            said.contains("\"outlast 2\"") && said.contains("upgrade"),
            "{said}"
        );
    }

    #[test]
    fn a_format_file_that_a_power_cut_left_empty_is_written_anew() {
        let (_dir, state) = scratch();
        state.prepare().unwrap();
        std::fs::write(state.join("FORMAT"), "").unwrap();
        state.prepare().unwrap();
        let format = std::fs::read_to_string(state.join("FORMAT")).unwrap();
        assert_eq!(format, "outlast 1\n");
    }

    #[test]
    fn a_lock_that_leads_elsewhere_is_refused_and_nothing_there_is_cut() {
        let (dir, state) = scratch();
        state.prepare().unwrap();
        let elsewhere = dir.path().join("passwd");
        std::fs::write(&elsewhere, "root:x:0:0").unwrap();
        let lock = state.join("lock");

        std::os::unix::fs::symlink(&elsewhere, &lock).unwrap();
        assert!(matches!(state.lock(), Err(LockError::Io { .. })));
        std::fs::remove_file(&lock).unwrap();
        std::fs::hard_link(&elsewhere, &lock).unwrap();
        assert!(matches!(state.lock(), Err(LockError::Io { .. })));
        let content = std::fs::read_to_string(&elsewhere).unwrap();
        assert_eq!(content, "root:x:0:0");
    }

    #[test]
    fn the_second_writer_is_told_who_the_first_is() {
        let (_dir, state) = scratch();
        state.prepare().unwrap();
        let first = state.lock().unwrap();
        let said = state.lock().unwrap_err().to_string();
        assert!(
            said.contains(&format!("in use by process {};", std::process::id())),
            "{said}"
        );
        drop(first);
        state.lock().unwrap();
    }
}
