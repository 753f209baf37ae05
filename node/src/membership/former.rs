//! A membership that is over: put aside, so that the state directory is ready for another mesh.
//!
//! In: the state directory, whose lock the caller holds. Out: everything of the old mesh in `former/MESH` below it, as a
//! state directory of its own: `outlast --state-dir DIR/former/MESH query` reads its history.
//! Invariant: `statements.log` moves last. Until then the directory is the old member's, and doing it again finishes it.
//! Absent: deciding that it is over.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use outlast_mesh::MeshId;

use super::JOURNAL;
use crate::file;
use crate::state::{FORMAT, StateDir};

/// Where former memberships are kept, in the state directory.
const FORMER: &str = "former";

/// What isn't of one membership: the directory's own, and the page's logins.
const STAYS: [&str; 5] = [FORMER, "FORMAT", "lock", "control.sock", "web.key"];

/// Letters of the mesh's id in the name of what is put aside.
const SHORT: usize = 8;

/// Where a membership of this mesh would be put.
pub(crate) fn place_for(state: &StateDir, mesh: &MeshId) -> PathBuf {
    place(&state.join(FORMER), mesh)
}

/// Whether a membership was put there, whole.
pub(crate) fn is_put(place: &Path) -> bool {
    place.join(JOURNAL).exists()
}

/// Moves everything of the membership aside, and says where it is.
pub(crate) fn put_aside(state: &StateDir, mesh: &MeshId) -> Result<PathBuf> {
    let place = place_for(state, mesh);
    let context = || format!("put what this node was aside in {}", place.display());
    std::fs::create_dir_all(&place).with_context(context)?;
    let format = place.join("FORMAT");
    if !format.exists() {
        file::write_new(&format, FORMAT.as_bytes(), 0o600)?;
    }
    let entries = std::fs::read_dir(state.path()).with_context(context)?;
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| STAYS.iter().all(|stays| name != stays))
        .collect();
    names.sort_by_key(|name| (name == JOURNAL, name.clone()));
    for name in names {
        std::fs::rename(state.path().join(&name), place.join(&name)).with_context(context)?;
    }
    for dir in [place.as_path(), state.path()] {
        let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.with_context(context)?;
    }
    Ok(place)
}

/// A place that no finished membership takes: one that was interrupted is gone on with.
fn place(former: &Path, mesh: &MeshId) -> PathBuf {
    let short: String = mesh.to_string().chars().take(SHORT).collect();
    let numbered = (2..).map(|number: u32| format!("{short}-{number}"));
    let mut names = std::iter::once(short.clone()).chain(numbered);
    names
        .find_map(|name| {
            let place = former.join(name);
            (!is_put(&place)).then_some(place)
        })
        .expect("there are more numbers than memberships")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn member(state: &StateDir) {
        std::fs::create_dir_all(state.join("store/live")).unwrap();
        for name in ["node.key", "wg.key", "web.key", "lock", JOURNAL] {
            std::fs::write(state.join(name), name).unwrap();
        }
    }

    #[test]
    fn what_a_node_was_is_a_state_directory_of_its_own_and_leaves_none_of_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("state"));
        state.prepare().unwrap();
        member(&state);
        let mesh = MeshId([7; 32]);
        let first = put_aside(&state, &mesh).unwrap();
        assert_eq!(names(state.path()), ["FORMAT", "former", "lock", "web.key"]);
        assert_eq!(
            names(&first),
            ["FORMAT", "node.key", JOURNAL, "store", "wg.key"]
        );
        StateDir::at(first.clone()).prepare().unwrap();
        state.prepare().unwrap();

        member(&state);
        let second = put_aside(&state, &mesh).unwrap();
        assert_ne!(first, second, "an older one is left as it is");
    }

    #[test]
    fn until_everything_is_moved_the_directory_is_the_old_members() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("state"));
        state.prepare().unwrap();
        member(&state);
        let mesh = MeshId([7; 32]);
        // Something in the way of what comes after the journal by name.
        std::fs::create_dir_all(place_for(&state, &mesh).join("wg.key/x")).unwrap();
        put_aside(&state, &mesh).unwrap_err();
        assert!(state.is_member());
    }

    #[test]
    fn a_move_that_was_cut_short_is_finished_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::at(dir.path().join("state"));
        state.prepare().unwrap();
        member(&state);
        let mesh = MeshId([7; 32]);
        let place = place(&state.join(FORMER), &mesh);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::rename(state.join("node.key"), place.join("node.key")).unwrap();
        assert_eq!(put_aside(&state, &mesh).unwrap(), place);
        assert_eq!(
            names(&place),
            ["FORMAT", "node.key", JOURNAL, "store", "wg.key"]
        );
    }
}
