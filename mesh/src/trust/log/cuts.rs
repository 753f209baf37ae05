//! How far an author's log goes, by what is held and by when it came here; and what makes an author an admin.

use std::sync::Arc;

use super::super::payload::{Cut, Payload, is_logged, kind};
use super::super::record::Statement;
use super::{Entry, Statements};
use crate::id::StatementId;

impl Statements {
    /// How far an author's log goes as held here: what a revocation accepts unless it says otherwise.
    #[must_use]
    pub fn cut(&self, author: &[u8; 32]) -> Cut {
        self.last(author).map_or(Cut::NOTHING, |(seq, entry)| Cut {
            seq,
            id: entry.id.0,
        })
    }

    /// How far an author's log went before `since_ms`, by this holder's clock when it received each statement, never by
    /// what the statements say. What was received at an unknown time was there before.
    #[must_use]
    pub fn cut_at(&self, author: &[u8; 32], since_ms: u64) -> Cut {
        let mut chain = self.chain(author);
        let early = |id: &StatementId| self.receipts.get(id).is_none_or(|at_ms| *at_ms < since_ms);
        chain.retain(|(_seq, id)| early(id));
        // What came late hides all behind it: a log is accepted from its start.
        let whole = (1..).zip(&chain).take_while(|(seq, one)| *seq == one.0);
        whole
            .last()
            .map_or(Cut::NOTHING, |(seq, one)| Cut { seq, id: one.1.0 })
    }

    /// Notes when a statement of a log came here. The first time counts.
    pub fn received(&mut self, statement: &Statement, at_ms: u64) {
        if is_logged(statement.kind) && statement.kind != kind::JOIN {
            let id = statement.id(&self.mesh);
            self.receipts.entry(id).or_insert(at_ms);
        }
    }

    /// When a statement of a log came here; `None`: it is not known.
    #[must_use]
    pub fn receipt_ms(&self, statement: &Statement) -> Option<u64> {
        self.receipts.get(&statement.id(&self.mesh)).copied()
    }

    /// The statements that lead to the head of `author`'s log, from its start.
    pub(in crate::trust) fn chain(&self, author: &[u8; 32]) -> Vec<(u32, StatementId)> {
        let Some(authored) = self.authors.get(author) else {
            return Vec::new();
        };
        let (log, _cut) = authored.connected(None);
        let mut chain: Vec<(u32, StatementId)> = Vec::new();
        let mut next: Option<[u8; 32]> = None;
        for (seq, rivals) in log.into_iter().rev() {
            let on_it = |entry: &&&Arc<Entry>| next.is_none_or(|next| entry.id.0 == next);
            let Some(entry) = rivals.iter().find(on_it) else {
                break;
            };
            chain.push((seq, entry.id));
            next = Some(entry.prev());
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

    fn log_of(&self, author: &[u8; 32]) -> impl Iterator<Item = &Arc<Entry>> {
        let authored = self.authors.get(author).into_iter();
        authored.flat_map(|authored| authored.log.values().flatten())
    }
}
