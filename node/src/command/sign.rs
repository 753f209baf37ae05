//! What an admin settles: signed with the owner's key, then published by the running node, or written to the state
//! directory where none runs, from where it spreads once the node is up.
//!
//! In: who does the work, and with which key. Out: the statements held, the key, and a place for what it signs.
//! Invariant: the key is locked before the statements are read, so that two commands never sign the same number.
//! Absent: what is signed; each command decides that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Context;
use outlast_mesh::trust::{Cut, Statement, Statements};
use outlast_mesh::{AdminKey, Journal, MeshId, NodeId};
use serde_json::Value;

use super::confirmed::Confirmed;
use super::mesh::{mesh_named, mesh_of, statements_of};
use super::{Doer, reader};
use crate::cli::{Global, SignArgs};
use crate::control::Request;
use crate::control::client::Client;
use crate::failure::Failure;
use crate::membership::admin::Admin;
use crate::membership::passphrase::{Passphrase, Unlock};
use crate::membership::{self, Membership};
use crate::nodes;
use crate::state::{self, Lock, StateDir};
use crate::text::{self, Printer, aside, visible};
use crate::when;

/// An admin at work.
pub(super) struct Desk {
    pub(super) admin: Admin,
    /// Everything held, with what was signed here.
    pub(super) statements: Statements,
    /// The node that the work is done at. `None`: it has no key, which no member is without.
    pub(super) me: Option<NodeId>,
    /// What its key signed elsewhere.
    again: Vec<Statement>,
    signed: Vec<Statement>,
    place: Place,
}

/// With which key is signed.
pub(super) enum Signer<'a> {
    /// The owner's of this mesh, or the one in a file that was named.
    Owner(&'a SignArgs),
    /// The one of the recovery words.
    Words(Box<AdminKey>),
}

enum Place {
    Node(Client),
    Disk { journal: Journal, _only: Lock },
}

/// Where an owner's keys are.
pub(super) struct Owner {
    home: PathBuf,
    named: Option<PathBuf>,
    unlock: Unlock,
}

impl Owner {
    /// Whoever runs this command, with the key they named if they did.
    pub(super) fn of(sign: &SignArgs) -> Result<Self, Failure> {
        Ok(Self {
            home: state::config_home()?,
            named: sign.admin_key.clone(),
            unlock: sign.passphrase_file.clone().into(),
        })
    }

    /// Whoever's configuration this is, with the passphrase that was chosen if one was.
    pub(super) fn at(home: PathBuf, passphrase: Option<Passphrase>) -> Self {
        Self {
            home,
            named: None,
            unlock: passphrase.map_or(Unlock::Ask, Unlock::Known),
        }
    }

    /// The passphrase that was chosen by this command.
    pub(super) const fn passphrase(&self) -> Option<&Passphrase> {
        match &self.unlock {
            Unlock::Known(passphrase) => Some(passphrase),
            Unlock::Ask | Unlock::File(_) => None,
        }
    }

    /// Takes up the key of a mesh.
    pub(super) fn admin(&self, mesh: &MeshId, mesh_name: &str) -> Result<Admin, Failure> {
        Admin::open(
            &self.home,
            mesh,
            mesh_name,
            self.named.as_deref(),
            &self.unlock,
        )
    }
}

/// Where it went that something was signed.
pub(super) enum Told {
    /// To the running node, which tells it the others at once.
    Node(Client),
    /// To the disk; the other members, by name.
    Disk(Vec<String>),
}

impl Told {
    /// Who has it already, of those that are heard; nobody where it is on the disk alone.
    pub(super) fn confirmed(&mut self) -> Result<Confirmed, Failure> {
        match self {
            Self::Node(client) => Confirmed::wait(client),
            Self::Disk(others) => Ok(Confirmed::untold(others)),
        }
    }

    /// Says, after what was printed, who hears of it only later.
    pub(super) fn remark(&self, out: &mut Printer) -> Result<(), Failure> {
        out.flush()?;
        if matches!(self, Self::Disk(_)) {
            aside("no node runs here: the others hear of it once `outlast up` does");
        }
        Ok(())
    }
}

impl Desk {
    /// A desk where what is signed will be heard.
    pub(super) fn open(global: &Global, signer: Signer<'_>) -> Result<Self, Failure> {
        let desk = Self::anywhere(global, signer)?;
        desk.still_member()?;
        Ok(desk)
    }

    /// A desk even on a node that was removed: what is signed there may undo just that, which `still_member` tells
    /// afterwards.
    pub(super) fn anywhere(global: &Global, signer: Signer<'_>) -> Result<Self, Failure> {
        let state = StateDir::resolve(global)?;
        match reader(&state)? {
            Doer::Node(mut client) => {
                let mesh = mesh_of(&mut client)?;
                let admin = signer.admin(&mesh.id, &mesh.name)?;
                let statements = statements_of(&mut client)?;
                let place = Place::Node(client);
                Self::new(admin, statements, Some(mesh.me), place)
            }
            Doer::Ourselves(lock) => {
                let Membership {
                    journal,
                    statements,
                } = Membership::of_mesh(&state)?;
                let name = statements.state().name.clone();
                let admin = signer.admin(&statements.mesh(), &name)?;
                let place = Place::Disk {
                    journal,
                    _only: lock,
                };
                Self::new(admin, statements, membership::me(&state)?, place)
            }
        }
    }

    fn new(
        admin: Admin,
        mut statements: Statements,
        me: Option<NodeId>,
        place: Place,
    ) -> Result<Self, Failure> {
        let again = admin.catch_up(&mut statements)?;
        admin.is_known(&statements.state())?;
        Ok(Self {
            admin,
            statements,
            me,
            again,
            signed: Vec::new(),
            place,
        })
    }

    /// That the node here is a member by all that is held and signed.
    pub(super) fn still_member(&self) -> Result<(), Failure> {
        match self.me {
            Some(me) => membership::still_member(&self.statements.state(), &me),
            None => Ok(()),
        }
    }

    /// Which member is meant, and its name.
    pub(super) fn member(&self, typed: &str) -> Result<(NodeId, String), Failure> {
        let folded = self.statements.state();
        let id = nodes::member(&folded, typed)?;
        let name = folded.members[&id].name.clone();
        Ok((id, name))
    }

    /// Takes in what was just signed; the next statement comes after it.
    pub(super) fn sign(&mut self, statement: Statement) -> Result<(), Failure> {
        self.statements
            .insert(statement.clone())
            .map_err(anyhow::Error::from)?;
        self.signed.push(statement);
        Ok(())
    }

    /// Whom a removal means: a member, one that is gone, or that waits to come in.
    pub(super) fn anybody(&self, typed: &str) -> Result<(NodeId, String), Failure> {
        let folded = self.statements.state();
        let gone = folded.gone.iter();
        let gone = gone.map(|(id, gone)| (*id, gone.member.name.clone()));
        let waiting = folded.pending.iter();
        let waiting = waiting.map(|(id, pending)| (*id, pending.name.clone()));
        let mut everybody: BTreeMap<_, _> = gone.chain(waiting).collect();
        let members = folded.names();
        // Whoever waits may ask for a member's name; the member is meant then, and the other by its id.
        for (id, name) in &mut everybody {
            if members.values().any(|member| member == name) {
                *name = format!("{name} ({})", id.short());
            }
        }
        everybody.extend(members);
        match nodes::surely_one_of(&everybody, typed)? {
            Some(id) => Ok((id, everybody[&id].clone())),
            None => self.member(typed),
        }
    }

    /// How much of an author's log is accepted: what was held of it at a moment. `None`: all that is, unless its key is in
    /// two places; then what came first is known where it arrived.
    pub(super) fn cut(
        &mut self,
        author: [u8; 32],
        since_ms: Option<i64>,
    ) -> Result<Option<Cut>, Failure> {
        let folded = self.statements.state();
        let founded = folded.genesis.as_ref();
        let founded_ms = founded.map_or(0, |genesis| {
            i64::try_from(genesis.created_ms).unwrap_or(i64::MAX)
        });
        if let Some(before) = since_ms.filter(|at_ms| *at_ms < founded_ms) {
            return Err(Failure::usage(format!(
                "--since {} is before mesh {} was founded, at {}; name a later moment",
                text::moment(before),
                visible(&folded.name),
                text::moment(founded_ms)
            )));
        }
        let is_forked = folded.frozen.contains_key(&author);
        if since_ms.is_none() && !is_forked {
            return Ok(None);
        }
        self.cut_at(author, since_ms).map(Some)
    }

    fn cut_at(&mut self, author: [u8; 32], since_ms: Option<i64>) -> Result<Cut, Failure> {
        match &mut self.place {
            // What arrived when is known where it arrived.
            Place::Node(client) => {
                let author = data_encoding::HEXLOWER.encode(&author);
                let cut = client.call(&Request::Cut {
                    author,
                    at_ms: since_ms,
                })?;
                read_cut(&cut)
            }
            Place::Disk { .. } => Ok(membership::cut(&self.statements, &author, since_ms)),
        }
    }

    /// Makes everything signed known; nothing of it was before.
    pub(super) fn publish(self) -> Result<Told, Failure> {
        match self.place {
            Place::Node(mut client) => {
                publish(&mut client, &self.admin, &self.again, &self.signed)?;
                Ok(Told::Node(client))
            }
            Place::Disk { mut journal, _only } => {
                append(&mut journal, &self.admin, &self.again, &self.signed)?;
                let others = self.statements.state().names().into_iter();
                let others = others.filter(|(id, _)| Some(*id) != self.me);
                Ok(Told::Disk(others.map(|(_, name)| name).collect()))
            }
        }
    }
}

impl Signer<'_> {
    fn admin(self, mesh: &MeshId, mesh_name: &str) -> Result<Admin, Failure> {
        match self {
            Self::Owner(sign) => Owner::of(sign)?.admin(mesh, mesh_name),
            Self::Words(key) => Ok(Admin::of_words(*key)),
        }
    }
}

/// Tells the running node what was signed, and before it what was signed elsewhere.
pub(super) fn publish(
    client: &mut Client,
    admin: &Admin,
    again: &[Statement],
    signed: &[Statement],
) -> Result<(), Failure> {
    admin.remember(signed)?;
    let statements = again.iter().chain(signed).map(membership::to_text);
    let statements = statements.collect();
    let Err(failure) = client.call(&Request::Publish { statements }) else {
        return Ok(());
    };
    // What the node refused for good must take no number; where it doesn't answer, nobody knows.
    if let Ok(held) = statements_of(client) {
        let held: BTreeSet<_> = held.all().map(|one| one.id(&held.mesh())).collect();
        let mesh = mesh_named(client)?.0;
        let mut refused = signed.to_vec();
        refused.retain(|one| !held.contains(&one.id(&mesh)));
        admin.forget(&refused)?;
    }
    Err(failure)
}

/// Writes the same to the directory that no node runs on.
pub(super) fn append(
    journal: &mut Journal,
    admin: &Admin,
    again: &[Statement],
    signed: &[Statement],
) -> Result<(), Failure> {
    admin.remember(signed)?;
    let all = [again, signed].concat();
    Ok(journal.append(&all).context("write the statements")?)
}

fn read_cut(answer: &Value) -> Result<Cut, Failure> {
    let seq = answer["seq"]
        .as_u64()
        .and_then(|seq| u32::try_from(seq).ok());
    let id = membership::key_from_hex(answer["id"].as_str().unwrap_or_default());
    match (seq, id) {
        (Some(seq), Ok(id)) => Ok(Cut { seq, id }),
        _ => Err(Failure::new("the node did not say how far that log went")),
    }
}

/// Now, as statements have it.
pub(super) fn now_ms() -> u64 {
    u64::try_from(when::now_ms()).unwrap_or_default()
}
