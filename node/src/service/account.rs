//! Users of this machine, and giving a directory to one of them.
//!
//! In: `/etc/passwd`, a directory. Out: numbers and names; every file below the directory owned by its user.
//! Invariant: no symbolic link is followed and no file with a second name is touched, so that whoever owned the
//! directory before can't make root give away a file from elsewhere.
//! Absent: users of a directory service; the service's own is a system user, made in `/etc/passwd`.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchown, openat, statat,
};

/// Directories below the state directory that are entered; ours go three deep.
const DEEPEST: usize = 8;

/// A user and its first group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Account {
    /// The user of this name. `None` = there is none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        find(&users, |line| line.name == name).map(|line| line.account)
    }

    /// Whose the directory is.
    pub(crate) fn owning(dir: &Path) -> std::io::Result<Self> {
        let found = std::fs::symlink_metadata(dir)?;
        Ok(Self {
            uid: found.uid(),
            gid: found.gid(),
        })
    }

    /// Its name. `None` = it has none here.
    pub(crate) fn name(&self) -> Option<String> {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        find(&users, |line| line.account.uid == self.uid).map(|line| line.name.to_owned())
    }
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The name of whoever runs this process, for a command to be typed.
pub(crate) fn my_name() -> String {
    let uid = rustix::process::getuid().as_raw();
    let me = Account { uid, gid: 0 };
    me.name().unwrap_or_else(|| "$USER".to_owned())
}

/// Root's home directory as `/etc/passwd` names it.
pub(crate) fn home_of_root() -> Option<std::path::PathBuf> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let root = find(&users, |line| line.account.uid == 0)?;
    Some(std::path::PathBuf::from(root.home)).filter(|home| home.is_absolute())
}

struct Line<'a> {
    name: &'a str,
    account: Account,
    home: &'a str,
}

fn find<'a>(users: &'a str, wanted: impl Fn(&Line<'a>) -> bool) -> Option<Line<'a>> {
    users.lines().filter_map(parse).find(wanted)
}

fn parse(line: &str) -> Option<Line<'_>> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1)?;
    Some(Line {
        name,
        account: Account { uid, gid },
        home,
    })
}

/// Gives the directory and everything in it to a user.
pub(crate) fn hand_over(dir: &Path, to: Account) -> Result<()> {
    let context = || format!("hand {} to user {}", dir.display(), to.uid);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = openat(CWD, dir, flags, Mode::empty()).with_context(context)?;
    give(&opened, to, DEEPEST).with_context(context)
}

fn give(dir: impl AsFd, to: Account, deeper: usize) -> Result<()> {
    let (owner, group) = (Some(Uid::from_raw(to.uid)), Some(Gid::from_raw(to.gid)));
    if deeper == 0 {
        bail!("it holds directories more than {DEEPEST} deep");
    }
    // First what is inside: the directory changes hands last, so its next owner finds it whole.
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let found = statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                give(openat(&dir, name, flags, Mode::empty())?, to, deeper - 1)?;
            }
            FileType::RegularFile if found.st_nlink > 1 => {}
            _ if (found.st_uid, found.st_gid) == (to.uid, to.gid) => {}
            _ => chownat(&dir, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?,
        }
    }
    Ok(fchown(&dir, owner, group)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_users_file_is_read() {
        let users = "root:x:0:0:root:/root:/bin/bash\nbroken\noutlast:x:996:995:,,:/var/lib/outlast:/usr/sbin/nologin\n";
        let found = find(users, |line| line.name == "outlast").unwrap();
        assert_eq!(found.account, Account { uid: 996, gid: 995 });
        assert_eq!(
            find(users, |line| line.account.uid == 0).unwrap().home,
            "/root"
        );
        assert!(find(users, |line| line.name == "broken").is_none());
    }

    #[test]
    fn everything_changes_hands_but_what_lies_elsewhere() {
        if !is_root() {
            eprintln!("skipped: only root gives files away");
            return;
        }
        let around = tempfile::tempdir().unwrap();
        let (dir, elsewhere) = (around.path().join("state"), around.path().join("elsewhere"));
        std::fs::create_dir_all(dir.join("store/gen")).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        for file in [
            "state/key",
            "state/store/gen/db",
            "elsewhere/secret",
            "elsewhere/shadow",
        ] {
            std::fs::write(around.path().join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink(elsewhere.join("secret"), dir.join("link")).unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.join("way-out")).unwrap();
        std::fs::hard_link(elsewhere.join("shadow"), dir.join("second-name")).unwrap();

        let to = Account {
            uid: 60_123,
            gid: 60_124,
        };
        hand_over(&dir, to).unwrap();

        let owner = |path: &Path| Account::owning(path).unwrap();
        for ours in [
            "",
            "key",
            "link",
            "way-out",
            "store",
            "store/gen",
            "store/gen/db",
        ] {
            assert_eq!(owner(&dir.join(ours)), to, "{ours}");
        }
        for theirs in ["", "secret", "shadow"] {
            assert_eq!(owner(&elsewhere.join(theirs)).uid, 0, "{theirs}");
        }
        let link = around.path().join("link-to-state");
        std::os::unix::fs::symlink(&dir, &link).unwrap();
        assert!(hand_over(&link, to).is_err());
    }
}
