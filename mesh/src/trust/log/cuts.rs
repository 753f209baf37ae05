//! How far an author's log goes, by what is held and by when it came here; and what makes an author an admin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::authority::NoAuthority;
use super::super::payload::{Cut, Payload, Place, read};
use super::super::record::Statement;
use super::{Entry, Statements};
use crate::id::{NodeId, StatementId};

impl Statements {
    /// How far an author's log goes as held here: what a revocation accepts unless it says otherwise.
    ///
    /// Of a log with a fork the branch that came here first, as far as it stood when the other came, whatever their
    /// lengths and clocks, which a thief chooses. If both came at once, what was there before them.
    #[must_use]
    pub fn cut(&self, author: &[u8; 32]) -> Cut {
        let mut last = Cut::NOTHING;
        loop {
            match self.after(author, last).as_slice() {
                [] => return last,
                [only] => last = place(only),
                [first, second, ..] => {
                    let (first, second) = (came(first), came(second));
                    let since_ms = second.filter(|_at| first < second);
                    return since_ms.map_or(last, |at| self.cut_at(author, at));
                }
            }
        }
    }

    /// How far an author's log went before `since_ms`, by this holder's clock when it received each statement, never by
    /// what the statements say. What was received at an unknown time was there before. Of two statements at one place
    /// the one that came first.
    #[must_use]
    pub fn cut_at(&self, author: &[u8; 32], since_ms: u64) -> Cut {
        let mut last = Cut::NOTHING;
        // What came late hides all behind it: a log is accepted from its start.
        while let Some(first) = self.after(author, last).first()
            && came(first).is_none_or(|at| at < since_ms)
        {
            last = place(first);
        }
        last
    }

    /// Where a statement stands in its author's log: to be kept beside the key that signed it. `None`: it is in no log.
    #[must_use]
    pub fn place(&self, statement: &Statement) -> Option<Cut> {
        let (place, _payload) = read(statement).ok()?;
        let id = statement.id(&self.mesh).0;
        match place {
            Place::Log(header) if header.seq > 0 => Some(Cut {
                seq: header.seq,
                id,
            }),
            _ => None,
        }
    }

    /// That `author`'s log as held here goes on from what its key signed last, wherever that was. Whoever signs without
    /// it forks the log.
    pub fn reaches(&self, author: &[u8; 32], last: Cut) -> Result<(), NoAuthority> {
        let log = self.authors.get(author);
        let log = log.map_or_else(BTreeMap::new, |authored| authored.connected(None).0);
        let held = log.keys().next_back().copied().unwrap_or_default();
        let seq = last.seq;
        match log.get(&seq) {
            _ if seq == 0 => Ok(()),
            None => Err(NoAuthority::Behind { seq, held }),
            Some(rivals) if rivals.iter().any(|entry| entry.id.0 == last.id) => Ok(()),
            Some(_rivals) => Err(NoAuthority::Parted { seq }),
        }
    }

    /// What follows a place of a log, all rivals, by when they came here; the Genesis has none.
    fn after(&self, author: &[u8; 32], last: Cut) -> Vec<&Arc<Entry>> {
        let log = self.authors.get(author).map(|authored| &authored.log);
        let next = log.and_then(|log| log.get(&(last.seq + 1)));
        let mut next: Vec<_> = next.into_iter().flatten().collect();
        next.retain(|entry| entry.prev() == last.id);
        next.sort_by_key(|entry| (!entry.is_genesis(), came(entry), entry.id));
        if next.first().is_some_and(|entry| entry.is_genesis()) {
            next.truncate(1);
        }
        next
    }

    /// Notes when a held statement came here. The first time counts; notes and Joins, which no cut concerns, have none.
    pub fn received(&self, statement: &Statement, at_ms: u64) {
        let Ok((Place::Log(header), _payload)) = read(statement) else {
            return;
        };
        let log = self
            .authors
            .get(&statement.author)
            .map(|authored| &authored.log);
        let place = log.and_then(|log| log.get(&header.seq));
        let mut rivals = place.into_iter().flatten();
        if let Some(entry) = rivals.find(|entry| entry.statement == *statement) {
            let _first = entry.received_ms.set(at_ms);
        }
    }

    /// The statements that lead to the head of `author`'s log, from its start.
    #[cfg(test)]
    pub(in crate::trust) fn branch_to_head(&self, author: &[u8; 32]) -> Vec<&Arc<Entry>> {
        let Some(authored) = self.authors.get(author) else {
            return Vec::new();
        };
        let (log, _cut) = authored.connected(None);
        let mut chain: Vec<&Arc<Entry>> = Vec::new();
        for rivals in log.into_values().rev() {
            let next = chain.last().map(|entry| entry.prev());
            let on_it = |entry: &&Arc<Entry>| next.is_none_or(|next| entry.id.0 == next);
            chain.extend(rivals.into_iter().find(on_it));
        }
        chain.reverse();
        chain
    }

    /// The Genesis, and the grants that lead from its admins to `admin`, one after the other. Nothing without a Genesis.
    pub(in crate::trust) fn chain_of(&self, admin: &[u8; 32]) -> Vec<Statement> {
        let state = self.state();
        let mut chain = Vec::new();
        let mut next = *admin;
        while let Some((by, rank)) = state
            .admins
            .get(&next)
            .and_then(|admin| Some((admin.granted_by?, admin.rank)))
        {
            let grants = |entry: &&Arc<Entry>| matches!(&entry.payload, Payload::AdminGrant(grant) if grant.admin == next && grant.rank == rank);
            chain.extend(
                self.log_of(&by)
                    .find(grants)
                    .map(|entry| entry.statement.clone()),
            );
            next = by;
        }
        let genesis = state.genesis.as_ref().map(|genesis| genesis.admin);
        let genesis = genesis.and_then(|admin| {
            self.log_of(&admin)
                .find(|entry| entry.is_genesis())
                .cloned()
        });
        chain.extend(genesis.map(|entry| entry.statement.clone()));
        chain.reverse();
        chain
    }

    /// Whether `author`'s log holds a statement, with or without effect.
    pub(in crate::trust) fn has_said(&self, author: &[u8; 32], id: &StatementId) -> bool {
        self.log_of(author).any(|entry| entry.id == *id)
    }

    /// How many nodes `sponsor` vouched for by an invite, with or without effect; those that an admin took out since are
    /// left out.
    pub(in crate::trust) fn vouched_by(&self, sponsor: &[u8; 32], invite: &StatementId) -> usize {
        let state = self.state();
        let is_out = |author: &[u8; 32]| {
            let gone = state.gone.get(&NodeId(*author));
            gone.is_some_and(|gone| !gone.may_return)
        };
        let held = self
            .authors
            .iter()
            .filter(|(author, _held)| !is_out(author));
        let joins = held.flat_map(|(_author, authored)| authored.joins.values());
        let by_it = joins.filter(
            |entry| matches!(&entry.payload, Payload::Join(join) if join.invite == *invite),
        );
        let by_it: BTreeSet<StatementId> = by_it.map(|entry| entry.id).collect();
        let said = self.log_of(sponsor).filter(|entry| matches!(&entry.payload, Payload::Witness(witness) if by_it.contains(&witness.join)));
        said.count()
    }

    /// Whether a node ever asked to be let in, with or without effect.
    pub(crate) fn has_asked(&self, node: &NodeId) -> bool {
        let held = self.authors.get(&node.0);
        held.is_some_and(|held| !held.joins.is_empty())
    }

    fn log_of(&self, author: &[u8; 32]) -> impl Iterator<Item = &Arc<Entry>> {
        let authored = self.authors.get(author).into_iter();
        authored.flat_map(|authored| authored.log.values().flatten())
    }
}

/// When it came here, if that is known.
fn came(entry: &Arc<Entry>) -> Option<u64> {
    entry.received_ms.get().copied()
}

fn place(entry: &Arc<Entry>) -> Cut {
    let id = entry.id.0;
    match entry.place {
        Place::Log(header) => Cut {
            seq: header.seq,
            id,
        },
        Place::Note { .. } => Cut::NOTHING,
    }
}
