//! Users and groups of this machine, and giving a directory to a user.
//!
//! In: `/etc/passwd`, `/etc/group`, a directory. Out: numbers and names; every file below the directory owned by its user.
//! Invariant: what is looked at and what is given away is the same open file, no symbolic link is followed, and no file
//! with a second name is touched: whoever may write in the directory can't make root give away a file from elsewhere,
//! however fast they swap names.
//! Absent: users of a directory service; the service's own is a system user, made in `/etc/passwd`.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchown, fstat, openat,
};
use rustix::io::Errno;

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

/// A group of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Group {
    /// Others than the user of that name are in it.
    pub(crate) is_shared: bool,
}

impl Group {
    /// The group of this name. `None` = there is none.
    pub(crate) fn named(name: &str) -> Option<Self> {
        find_group(&std::fs::read_to_string("/etc/group").ok()?, name)
    }
}

fn find_group(groups: &str, name: &str) -> Option<Group> {
    let mut fields = groups.lines().map(|line| line.split(':'));
    fields.find_map(|mut fields| {
        let found = fields.next()? == name;
        let is_shared = fields.nth(2)?.split(',').any(|member| !member.is_empty());
        found.then_some(Group { is_shared })
    })
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

/// A directory held open, whatever becomes of its name.
#[derive(Debug)]
pub(crate) struct HeldDir(OwnedFd);

impl HeldDir {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let opened = openat(CWD, dir, DIRECTORY, Mode::empty());
        Ok(Self(
            opened.with_context(|| format!("open {}", dir.display()))?,
        ))
    }

    /// Whose it is.
    pub(crate) fn owner(&self) -> Result<Account> {
        let found = fstat(&self.0)?;
        Ok(Account {
            uid: found.st_uid,
            gid: found.st_gid,
        })
    }

    /// Gives the directory and everything in it to a user.
    pub(crate) fn hand_over(&self, to: Account) -> Result<()> {
        give(&self.0, to, DEEPEST)
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Names a file of any kind without opening what it leads to.
const NAMED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

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
        let file = match openat(&dir, name, NAMED, Mode::empty()) {
            Err(Errno::NOENT) => continue,
            opened => opened?,
        };
        let found = fstat(&file)?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                give(
                    openat(&file, c".", DIRECTORY, Mode::empty())?,
                    to,
                    deeper - 1,
                )?;
            }
            FileType::RegularFile if found.st_nlink > 1 => {}
            _ if (found.st_uid, found.st_gid) == (to.uid, to.gid) => {}
            _ => chownat(&file, c"", owner, group, AtFlags::EMPTY_PATH)?,
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
    fn a_group_is_found_with_whether_others_are_in_it() {
        let groups = "root:x:0:\nbroken\nadm:x:4:ann\noutlast:x:995:ann,bob\n";
        assert_eq!(
            find_group(groups, "outlast"),
            Some(Group { is_shared: true })
        );
        assert_eq!(find_group(groups, "root"), Some(Group { is_shared: false }));
        assert_eq!(find_group(groups, "broken"), None);
        assert_eq!(find_group(groups, "nobody"), None);
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
        let held = HeldDir::open(&dir).unwrap();
        let moved = around.path().join("moved");
        std::fs::rename(&dir, &moved).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &dir).unwrap();
        held.hand_over(to).unwrap();
        assert_eq!(held.owner().unwrap(), to);
        let dir = moved;

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
        assert!(HeldDir::open(&link).is_err());
    }
}
