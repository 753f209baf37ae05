//! What the sites know of each other's machines.
//!
//! The sites run side by side for as long as the shortest way between two takes, so nobody may look into another's
//! machines meanwhile. What the world asks about them without a message (whether a process runs, and with whom it has
//! sessions) hangs on a `Board`, as it stood when the sites last met; each site has its own copy. The `Register` says who is
//! who, and changes only while no site runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use outlast_mesh::NodeId;

use crate::machine::{Machine, Numbers, node};
use crate::time::Moment;

/// By number of the machine.
pub(crate) type Board = Vec<Arc<Notice>>;

/// A machine as the others may know it.
#[derive(Debug, Default)]
pub(crate) struct Notice {
    pub(crate) life: u32,
    /// Whether its process is there and not frozen.
    pub(crate) runs: bool,
    pub(crate) up: bool,
    /// Since when it runs, if it does.
    pub(crate) since: Option<Moment>,
    pub(crate) gone: bool,
    pub(crate) off_since: Option<Moment>,
    /// Whom it has sessions with.
    pub(crate) sessions: BTreeMap<u32, Reached>,
    /// With whom it keeps one.
    pub(crate) wanted: BTreeSet<u32>,
}

/// The other end of a session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    pub(crate) remote: u32,
    pub(crate) remote_life: u32,
    pub(crate) since: Moment,
}

impl Notice {
    pub(crate) fn of(machine: &Machine) -> Self {
        let runs = machine.up.is_some() && !machine.frozen;
        let beliefs = machine.beliefs.as_ref().filter(|_| runs);
        let sessions = machine.sessions.up.iter().map(|(peer, session)| {
            let reached = Reached {
                remote: session.remote,
                remote_life: session.remote_life,
                since: session.since,
            };
            (*peer, reached)
        });
        Self {
            life: machine.life,
            runs,
            up: machine.up.is_some(),
            since: beliefs.map(|beliefs| beliefs.since.max(machine.thawed)),
            gone: machine.gone,
            off_since: machine.off_since,
            sessions: sessions.collect(),
            wanted: machine.sessions.wanted.clone(),
        }
    }
}

/// Who is who.
#[derive(Debug, Clone, Default)]
pub(crate) struct Register {
    /// The number of each identity.
    pub(crate) numbers: Numbers,
    pub(crate) ids: Vec<NodeId>,
    /// By number of identity: the machine that had its keys first.
    pub(crate) homes: Vec<u32>,
    /// By number of the machine: whose keys it has.
    pub(crate) whose: Vec<u32>,
    /// Machines with keys that another had before.
    pub(crate) copies: Vec<u32>,
}

impl Register {
    pub(crate) fn identities(&self) -> u32 {
        self.ids.len() as u32
    }

    pub(crate) fn add_identity(&mut self) -> u32 {
        let who = self.identities();
        self.ids.push(node(who));
        self.numbers.insert(node(who), who);
        who
    }

    pub(crate) fn add_machine(&mut self, who: u32) -> u32 {
        let m = self.whose.len() as u32;
        if who as usize >= self.homes.len() {
            self.homes.push(m);
        } else {
            self.copies.push(m);
        }
        self.whose.push(who);
        m
    }

    /// Every other machine with the keys of this one.
    pub(crate) fn doubles(&self, m: u32) -> impl Iterator<Item = u32> + '_ {
        let who = self.whose[m as usize];
        let home = self.homes[who as usize];
        let copies = self.copies.iter().copied();
        let all = copies
            .filter(move |copy| self.whose[*copy as usize] == who)
            .chain([home]);
        all.filter(move |double| *double != m)
    }
}
