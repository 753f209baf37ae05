//! What an admin key signed last, kept beside its file (`<key>.signed`), so that what it signs next comes after that on
//! whatever node it is signed.
//!
//! `catch_up` hands a node what was signed elsewhere and hasn't reached it; `remember` is called before anything is published.
//! Invariant: a key never signs under a number it gave away already; where it would have to, it is refused.
//! Each line names the mesh of its statement: one key may be an admin of several.
//! Bound: the last `MOST` statements of a mesh, `MOST_LINES` in all; who is further behind must hear from the others first.
//! Absent: other copies of the key file. Two of them know nothing of each other.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use outlast_mesh::trust::{Statement, Statements};
use outlast_mesh::{AdminKey, MeshId};

use super::{from_text, to_text};
use crate::failure::Failure;
use crate::file;
use crate::text::{aside, visible};

/// Statements kept: far more than anybody signs on a node that is down.
const MOST: usize = 32;

/// Lines kept, of all meshes.
const MOST_LINES: usize = 128;

/// The longest file that is read, in bytes: `MOST_LINES` of the longest statements.
const LONGEST: u64 = 256 * 1024;

/// The place beside one key file.
#[derive(Debug)]
pub(crate) struct Signed {
    key: PathBuf,
    path: PathBuf,
    mesh: MeshId,
}

/// What is kept: of which mesh, and a statement.
type Line = (MeshId, Statement);

impl Signed {
    /// Beside this key file, which the caller has locked.
    pub(crate) fn beside(key: &Path, mesh: MeshId) -> Self {
        Self {
            key: key.to_owned(),
            path: file::beside(key, ".signed"),
            mesh,
        }
    }

    /// Puts what this key signed last, and isn't held here, into what is; those have to be published again, first.
    pub(crate) fn catch_up(
        &self,
        key: &AdminKey,
        held: &mut Statements,
    ) -> Result<Vec<Statement>, Failure> {
        let mut last = self.read()?;
        last.retain(|line| self.is_ours(key, line));
        let last: Vec<Statement> = last
            .into_iter()
            .map(|(_mesh, statement)| statement)
            .collect();
        let mut again = Vec::new();
        for statement in &last {
            if held
                .insert(statement.clone())
                .map_err(anyhow::Error::from)?
            {
                again.push(statement.clone());
            }
        }
        if let Some(last) = last.last().and_then(|last| held.place(last)) {
            held.reaches(&key.public(), last)
                .map_err(anyhow::Error::from)?;
        }
        Ok(again)
    }

    /// Keeps what was just signed, after what is kept already. A key on a medium that can't be written is used all the same.
    pub(crate) fn remember(&self, key: &AdminKey, signed: &[Statement]) -> Result<(), Failure> {
        let mut all = self.read()?;
        // Those of a key that was in this place before are nobody's business.
        all.retain(|line| line.0 != self.mesh || self.is_ours(key, line));
        all.extend(signed.iter().map(|one| (self.mesh, one.clone())));
        let mut beyond = all.iter().filter(|line| line.0 == self.mesh).count();
        all.retain(|line| {
            let is_old = line.0 == self.mesh && beyond > MOST;
            beyond -= usize::from(line.0 == self.mesh);
            !is_old
        });
        if let Err(error) = self.write(&all) {
            aside(format!(
                "not kept beside the key what it signs ({}): say nothing else with it on another node until this one has \
                 told the others",
                visible(&format!("{error:#}"))
            ));
        }
        Ok(())
    }

    /// Forgets what the mesh refused: nobody has it.
    pub(crate) fn forget(&self, refused: &[Statement]) -> Result<(), Failure> {
        let mut all = self.read()?;
        all.retain(|(_mesh, statement)| !refused.contains(statement));
        Ok(self.write(&all)?)
    }

    fn is_ours(&self, key: &AdminKey, (mesh, statement): &Line) -> bool {
        *mesh == self.mesh && statement.author == key.public()
    }

    /// All that is kept, oldest first.
    fn read(&self) -> Result<Vec<Line>, Failure> {
        let context = || format!("read {}", self.path.display());
        let mut text = String::new();
        match std::fs::File::open(&self.path) {
            Ok(file) => file.take(LONGEST).read_to_string(&mut text),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => Err(error),
        }
        .with_context(context)?;
        let lines: Option<Vec<Line>> = text.lines().map(line).collect();
        lines.ok_or_else(|| {
            Failure::new(format!(
                "{} is damaged, which says what this key signed last: let this node meet all the others, then move that file \
                 away; without it, what is signed here may go under a number that is given away, and freeze the key",
                self.path.display()
            ))
        })
    }

    fn write(&self, all: &[Line]) -> anyhow::Result<()> {
        let last = &all[all.len().saturating_sub(MOST_LINES)..];
        let text = |(mesh, statement): &Line| format!("{mesh} {}\n", to_text(statement));
        let lines: String = last.iter().map(text).collect();
        file::replace(&self.path, lines.as_bytes(), 0o600, &self.key)
    }
}

fn line(text: &str) -> Option<Line> {
    let (mesh, statement) = text.split_once(' ')?;
    Some((mesh.parse().ok()?, from_text(statement).ok()?))
}

#[cfg(test)]
mod tests {
    use outlast_mesh::NodeId;
    use outlast_mesh::trust::{Setting, found, issue_policy};

    use super::*;

    struct Desk {
        admin: AdminKey,
        held: Statements,
        signed: Signed,
        _dir: tempfile::TempDir,
    }

    fn desk() -> Desk {
        let dir = tempfile::tempdir().unwrap();
        let admin = AdminKey::generate();
        let founder = NodeId([7; 32]);
        let (mesh, genesis) = found(&admin, founder, "attic", "home", None, 1);
        let mut held = Statements::new(mesh);
        held.insert(genesis).unwrap();
        Desk {
            signed: {
                let key = dir.path().join("home.key");
                admin.store(&key).unwrap();
                Signed::beside(&key, mesh)
            },
            admin,
            held,
            _dir: dir,
        }
    }

    /// Signs a setting on a node that holds `held`.
    fn set(desk: &Desk, held: &mut Statements, site: &str) -> Statement {
        let said = issue_policy(&desk.admin, held, None, Setting::Site, Some(site), 2).unwrap();
        desk.signed
            .remember(&desk.admin, std::slice::from_ref(&said))
            .unwrap();
        held.insert(said.clone()).unwrap();
        said
    }

    #[test]
    fn what_was_signed_on_one_node_comes_first_on_another_and_nothing_forks() {
        let desk = desk();
        let (mut here, mut there) = (desk.held.clone(), desk.held.clone());
        let first = set(&desk, &mut here, "one");
        let again = desk.signed.catch_up(&desk.admin, &mut there).unwrap();
        assert_eq!(again, std::slice::from_ref(&first));
        let second = set(&desk, &mut there, "two");
        let again = desk.signed.catch_up(&desk.admin, &mut there).unwrap();
        assert_eq!(again, []);
        let again = desk.signed.catch_up(&desk.admin, &mut here).unwrap();
        assert_eq!(again, [second]);
        assert!(here.state().frozen.is_empty() && here.state() == there.state());
    }

    #[test]
    fn who_lacks_more_than_is_kept_is_refused_until_it_has_met_the_others() {
        let desk = desk();
        let (mut here, mut there) = (desk.held.clone(), desk.held.clone());
        for number in 0..=MOST {
            set(&desk, &mut here, &format!("s{number}"));
        }
        let failure = desk.signed.catch_up(&desk.admin, &mut there).unwrap_err();
        assert!(failure.message.contains("elsewhere and only"), "{failure}");
        let mut met = here.clone();
        assert_eq!(desk.signed.catch_up(&desk.admin, &mut met).unwrap(), []);
    }

    #[test]
    fn what_the_mesh_refused_takes_no_number() {
        let desk = desk();
        let mut here = desk.held.clone();
        let refused = set(&desk, &mut here, "one");
        desk.signed.forget(&[refused]).unwrap();
        let mut there = desk.held.clone();
        assert_eq!(desk.signed.catch_up(&desk.admin, &mut there).unwrap(), []);
    }

    #[test]
    fn what_another_key_signed_is_left_alone() {
        let desk = desk();
        let mut here = desk.held.clone();
        set(&desk, &mut here, "one");
        let mut there = desk.held.clone();
        let other = AdminKey::generate();
        assert_eq!(desk.signed.catch_up(&other, &mut there).unwrap(), []);
    }

    #[test]
    fn one_key_in_two_meshes_is_told_in_each_what_belongs_there() {
        let desk = desk();
        let mut here = desk.held.clone();
        let first = set(&desk, &mut here, "one");
        let founder = NodeId([8; 32]);
        let (mesh, genesis) = found(&desk.admin, founder, "roof", "other", None, 1);
        let mut other = Statements::new(mesh);
        other.insert(genesis).unwrap();
        let there = Signed::beside(&desk.signed.key, mesh);
        assert_eq!(there.catch_up(&desk.admin, &mut other).unwrap(), []);
        for number in 0..=MOST {
            let site = format!("s{number}");
            let said =
                issue_policy(&desk.admin, &other, None, Setting::Site, Some(&site), 2).unwrap();
            there
                .remember(&desk.admin, std::slice::from_ref(&said))
                .unwrap();
            other.insert(said).unwrap();
        }
        let mut elsewhere = desk.held.clone();
        let again = desk.signed.catch_up(&desk.admin, &mut elsewhere).unwrap();
        assert_eq!(again, [first], "the other mesh pushes nothing out");
        assert_eq!(there.read().unwrap().len(), 1 + MOST);
    }

    #[test]
    fn a_damaged_file_is_named_with_what_moving_it_away_risks() {
        let desk = desk();
        std::fs::write(&desk.signed.path, "rubbish\n").unwrap();
        let mut held = desk.held.clone();
        let failure = desk.signed.catch_up(&desk.admin, &mut held).unwrap_err();
        let path = desk.signed.path.display().to_string();
        assert!(failure.message.starts_with(&path), "{failure}");
        assert!(failure.message.contains("move that file away"), "{failure}");
    }
}
