//! One change to the machine: how it is said, and how it is done.
//!
//! In: a step of a plan. Out: the machine changed by it, or why not.
//! Invariant: programs are found where the system has them, whatever `PATH` root has; a file appears whole or not at
//! all, and a link is removed, never what it leads to.
//! Absent: which steps there are to take (`plan.rs`).

use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::failure::Failure;
use crate::service::account::{Account, HeldDir};
use crate::service::{ACCOUNT, UNIT};

/// Where programs of the system are found, whatever `PATH` root has.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// One change to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Copy { from: PathBuf, to: PathBuf },
    Write { path: PathBuf, content: String },
    Run(Vec<&'static str>),
    HandOver(PathBuf),
    Remove(PathBuf),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { from, to } => write!(f, "copy {} to {}", from.display(), to.display()),
            Self::Write { path, .. } => write!(f, "write {}", path.display()),
            Self::Run(words) => write!(f, "run {}", words.join(" ")),
            Self::HandOver(dir) => write!(f, "give {} to user {ACCOUNT}", dir.display()),
            Self::Remove(path) => write!(f, "remove {}", path.display()),
        }
    }
}

impl Step {
    pub(super) fn perform(&self) -> Result<(), Failure> {
        self.attempt()
            .with_context(|| self.to_string())
            .map_err(Failure::from)
    }

    fn attempt(&self) -> Result<()> {
        match self {
            Self::Copy { from, to } => copy(from, to),
            Self::Write { path, content } => replace(path, 0o644, |file| {
                std::io::Write::write_all(file, content.as_bytes())
            }),
            Self::Run(words) => run(words),
            Self::HandOver(dir) => {
                let user = Account::named(ACCOUNT).context("the user was not made")?;
                HeldDir::open(dir)?.hand_over(user)
            }
            Self::Remove(path) => remove(path),
        }
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut source = std::fs::File::open(from)?;
    replace(to, 0o755, |file| std::io::copy(&mut source, file).map(drop))
}

/// Puts a file in place whole: a program that runs can't be written over, but it can be replaced.
fn replace(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut std::fs::File) -> std::io::Result<()>,
) -> Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let mut file = std::fs::File::create(&fresh)?;
    fill(&mut file)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    Ok(std::fs::rename(&fresh, path)?)
}

fn remove(path: &Path) -> Result<()> {
    if let Ok(target) = std::fs::read_link(path) {
        crate::text::aside(format!(
            "outlast: {} leads to {}, which stays; remove it yourself",
            path.display(),
            target.display()
        ));
    }
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", SYSTEM_PATH);
    command
}

fn run(words: &[&str]) -> Result<()> {
    let (name, arguments) = words.split_first().context("an empty command")?;
    let done = tool(name).args(arguments).stdin(Stdio::null()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    bail!(
        "it ended with {}: {}",
        done.status,
        crate::text::visible(&said)
    );
}

/// `systemctl is-…` of our unit.
pub(super) fn systemctl_says(question: &str) -> bool {
    let asked = tool("systemctl")
        .args([question, "--quiet", UNIT])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|status| status.success())
}
