//! `admin key`: the public half of this owner's key, which is made where there is none, and the key's passphrase.
//!
//! In: passphrases, from the terminal or files. Out: the public half on standard output, alone.
//! Invariant: the passphrase of a key changes while nobody signs with it; a power cut leaves the old file or the new one.
//! Absent: making keys for others; `admin add --out` does that.

use std::path::Path;

use outlast_mesh::AdminKey;
use outlast_mesh::trust::{State, Statements};

use super::{Doer, reader};
use crate::cli::{Global, KeyArgs};
use crate::failure::Failure;
use crate::membership::passphrase::{self, Stored};
use crate::membership::{Membership, admin, public};
use crate::state::{self, StateDir};
use crate::text::{Printer, aside, visible};

pub(super) fn run(global: &Global, arguments: &KeyArgs, out: &mut Printer) -> Result<(), Failure> {
    let statements = held(&StateDir::resolve(global)?)?;
    let (home, mesh) = (state::config_home()?, statements.mesh());
    let named = arguments.admin_key.clone();
    let path = named.unwrap_or_else(|| admin::path(&home, &mesh));
    let new = &arguments.new;
    let chosen = || passphrase::wanted(new.passphrase, new.passphrase_file.as_deref(), "admin key");
    let public = if path.exists() || arguments.admin_key.is_some() {
        let public = Stored::read(&path)?.public();
        change(&path, arguments, chosen)?;
        public
    } else {
        let key = AdminKey::generate();
        admin::store(&home, &mesh, &key, chosen()?.as_ref())?;
        aside(format!("made {}; keep a copy elsewhere", path.display()));
        key.public()
    };
    out.line(public::show(&public))?;
    out.flush()?;
    aside(power(&statements.state(), &public, &path));
    Ok(())
}

fn held(state: &StateDir) -> Result<Statements, Failure> {
    match reader(state)? {
        Doer::Node(mut client) => {
            // Says it where there is no mesh yet.
            super::mesh::mesh_named(&mut client)?;
            super::mesh::statements_of(&mut client)
        }
        Doer::Ourselves(_lock) => Ok(Membership::of_mesh(state)?.statements),
    }
}

/// Gives the key another passphrase, or none, if that was asked.
fn change(
    path: &Path,
    arguments: &KeyArgs,
    chosen: impl FnOnce() -> Result<Option<passphrase::Passphrase>, Failure>,
) -> Result<(), Failure> {
    let new = &arguments.new;
    if !(new.passphrase || new.passphrase_file.is_some() || arguments.no_passphrase) {
        return Ok(());
    }
    let unlock = arguments.old_passphrase_file.clone().into();
    admin::reseal(path, &unlock, chosen)?;
    aside(if arguments.no_passphrase {
        "the key has no passphrase any more; copies of it elsewhere keep theirs"
    } else {
        "the key has that passphrase from now on; copies of it elsewhere are as they were"
    });
    Ok(())
}

/// What a key may in the mesh, for its owner.
fn power(folded: &State, key: &[u8; 32], path: &Path) -> String {
    let name = visible(&folded.name);
    match folded.admins.get(key) {
        None => format!(
            "it decides nothing in mesh {name} until an admin says: outlast admin add LABEL PUBLIC"
        ),
        Some(admin) if admin.revoked.is_some() => format!(
            "it was revoked and decides nothing in mesh {name} any more; for another key move {} elsewhere and say this again",
            path.display()
        ),
        Some(_) if folded.frozen.contains_key(key) => {
            format!("it is in use in two places, so it signs nothing more in mesh {name}")
        }
        Some(admin) => format!("it decides in mesh {name}, with rank {}", admin.rank),
    }
}
