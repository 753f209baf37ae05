//! What an admin settles: signed with the owner's key, then published by the running node, or written to the state
//! directory where none runs, from where it spreads once the node is up.
//!
//! In: who does the work. Out: the statements held, the key, and a place for what it signs.
//! Invariant: the key is locked before the statements are read, so that two commands never sign the same number.
//! Absent: what is signed; each command decides that.

use std::path::Path;

use anyhow::Context;
use outlast_mesh::Journal;
use outlast_mesh::trust::{Statement, Statements};

use super::Doer;
use super::invite::{mesh_of, statements_of};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::membership::admin::Admin;
use crate::membership::{self, Membership};
use crate::state::{Lock, StateDir};

/// An admin at work.
pub(super) struct Desk {
    pub(super) admin: Admin,
    /// Everything held, with what was signed here.
    pub(super) statements: Statements,
    signed: Vec<Statement>,
    place: Place,
}

enum Place {
    Node(Client),
    Disk { journal: Journal, _only: Lock },
}

impl Desk {
    pub(super) fn open(doer: Doer, state: &StateDir, config_home: &Path) -> Result<Self, Failure> {
        let (admin, statements, place) = match doer {
            Doer::Node(mut client) => {
                let mesh = mesh_of(&mut client)?;
                let admin = Admin::open(config_home, &mesh.id, &mesh.name)?;
                let statements = statements_of(&mut client)?;
                (admin, statements, Place::Node(client))
            }
            Doer::Ourselves(lock) => {
                let Membership {
                    journal,
                    statements,
                } = Membership::of_mesh(state)?;
                let name = statements.state().name.clone();
                let admin = Admin::open(config_home, &statements.mesh(), &name)?;
                let place = Place::Disk {
                    journal,
                    _only: lock,
                };
                (admin, statements, place)
            }
        };
        Ok(Self {
            admin,
            statements,
            signed: Vec::new(),
            place,
        })
    }

    /// Takes in what was just signed; the next statement comes after it.
    pub(super) fn sign(&mut self, statement: Statement) -> Result<(), Failure> {
        self.statements
            .insert(statement.clone())
            .map_err(anyhow::Error::from)?;
        self.signed.push(statement);
        Ok(())
    }

    /// Makes everything signed known; nothing of it was before. Says whether a node tells it to the others at once.
    pub(super) fn publish(self, state: &StateDir) -> Result<bool, Failure> {
        match self.place {
            Place::Node(mut client) => {
                let statements = self.signed.iter().map(membership::to_text).collect();
                client.call(&Request::Publish { statements })?;
                Ok(true)
            }
            Place::Disk { mut journal, _only } => {
                journal.append(&self.signed).with_context(|| {
                    format!("write {}", state.join(membership::JOURNAL).display())
                })?;
                Ok(false)
            }
        }
    }
}
