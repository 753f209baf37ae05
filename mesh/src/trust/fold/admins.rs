//! Who administers the mesh, and what of their words counts.
//!
//! In rank order: what cuts an admin's log was said by somebody of a strictly lower number, whose own log is settled by
//! then. So there is no circle, no two admins can throw each other out, and a thief's last word takes nobody along who
//! stands above.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::log::Entry;
use super::super::payload::{AdminGrant, Cut, Genesis, Payload, Revoke, Target};
use super::super::state::{Admin, Revoked};
use super::Fold;
use super::logs::{Act, Log, shortest};
use crate::id::StatementId;

/// What the admins of the Genesis are called.
const RECOVERY: &str = "recovery";
const ADMIN: &str = "admin";

/// What an admin said that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said<'a> {
    pub(super) entry: &'a Arc<Entry>,
    pub(super) by: [u8; 32],
    /// The rank of who said it.
    pub(super) rank: u8,
    /// When, not before what precedes it in its log, nor before its author became an admin.
    pub(super) at: u64,
    /// It stands where its author's log forks.
    pub(super) forked: bool,
}

impl Said<'_> {
    /// When, and what settles a tie.
    pub(super) fn order(&self) -> (u64, StatementId) {
        (self.at, self.entry.id)
    }
}

/// Of two grants the one of the better rank counts, of two equal ones one on ground without a fork, then the earlier.
type GrantOrder = (u8, bool, u64, StatementId);

/// The admins while they are found out.
#[derive(Debug, Default)]
struct Ranks<'a> {
    /// Who is still to be heard, the lowest rank first.
    next: BTreeSet<(u8, [u8; 32])>,
    /// The best grant of each, and when it was made.
    grants: BTreeMap<[u8; 32], (GrantOrder, Admin)>,
    /// Who was revoked, by whom, and with which rank.
    revokes: BTreeMap<[u8; 32], Vec<(u8, Said<'a>, &'a Revoke)>>,
}

impl<'a> Fold<'a> {
    /// Finds the admins, and puts in order what they say.
    pub(super) fn read_admins(&mut self, genesis: &Genesis) {
        let mut ranks = Ranks::default();
        let first = [
            (Some(genesis.admin), 1, ADMIN),
            (genesis.recovery, 0, RECOVERY),
        ];
        for (key, rank, label) in first {
            if let Some(key) = key {
                let admin = Admin {
                    rank,
                    label: label.to_owned(),
                    granted_by: None,
                    at_ms: genesis.created_ms,
                    revoked: None,
                };
                let order = (rank, false, genesis.created_ms << 16, StatementId([0; 32]));
                ranks.offer(key, order, admin);
            }
        }
        while let Some((rank, key)) = ranks.next.pop_first() {
            if !self.state.admins.contains_key(&key) {
                self.hear(&mut ranks, rank, key);
            }
        }
        self.said.sort_by_key(Said::order);
    }

    /// One admin, once everybody of a lower rank was heard.
    fn hear(&mut self, ranks: &mut Ranks<'a>, rank: u8, key: [u8; 32]) {
        let admin = ranks.grants[&key].1.clone();
        self.order.push(key);
        self.state.admins.insert(key, admin);
        let above = ranks.above(&key, rank);
        let cut = shortest(above.iter().map(|(_said, revoke)| revoke.cut));
        let revoked = cut.and_then(|cut| {
            let (said, revoke) = above.iter().min_by_key(|(said, _)| said.order())?;
            Some(self.revocation(*said, revoke, cut))
        });
        if let Some(authored) = self.authors.get(&key).filter(|_held| cut.is_some()) {
            self.admin_logs.insert(key, Log::new(authored, cut));
        }
        let resigned = self.take_words(ranks, rank, key);
        if let Some(admin) = self.state.admins.get_mut(&key) {
            admin.revoked = revoked.or(resigned);
        }
    }

    /// What an admin says, up to its own resignation, which ends its words and takes nothing back.
    fn take_words(&mut self, ranks: &mut Ranks<'a>, rank: u8, key: [u8; 32]) -> Option<Revoked> {
        let mut resigned = None;
        let own = |payload: &Payload| matches!(payload, Payload::Revoke(revoke) if revoke.target == Target::Admin(key));
        let (_rank, _forked, since, _id) = ranks.grants[&key].0;
        let log = self.admin_logs.get(&key).or_else(|| self.logs.get(&key))?;
        for Act { entry, at, forked } in log.acts(since, own) {
            let by = key;
            let said = Said {
                entry,
                by,
                rank,
                at,
                forked,
            };
            self.said.push(said);
            match &entry.payload {
                Payload::AdminGrant(grant) if grant.rank > rank => ranks.grant(said, grant),
                Payload::Revoke(revoke) => match revoke.target {
                    Target::Admin(of) if of == key => {
                        let (seq, id) = (entry.seq(), entry.id.0);
                        resigned = Some(self.revocation(said, revoke, Cut { seq, id }));
                    }
                    Target::Admin(of) => {
                        let revokes = ranks.revokes.entry(of).or_default();
                        revokes.push((rank, said, revoke));
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        resigned
    }

    /// A revocation as it shows.
    pub(super) fn revocation(&self, said: Said<'_>, revoke: &Revoke, cut: Cut) -> Revoked {
        Revoked {
            by: said.by,
            by_label: self.label(&said.by),
            at_ms: said.at >> 16,
            cut,
            reason: revoke.reason.clone(),
        }
    }

    /// What an admin that was heard is called.
    pub(super) fn label(&self, admin: &[u8; 32]) -> String {
        let admin = self.state.admins.get(admin);
        admin.map_or_else(String::new, |admin| admin.label.clone())
    }
}

impl<'a> Ranks<'a> {
    fn grant(&mut self, said: Said<'a>, grant: &AdminGrant) {
        let admin = Admin {
            rank: grant.rank,
            label: grant.label.clone(),
            granted_by: Some(said.by),
            at_ms: said.at >> 16,
            revoked: None,
        };
        let (at, id) = said.order();
        self.offer(grant.admin, (grant.rank, said.forked, at, id), admin);
    }

    /// A grant counts if none is better or earlier.
    fn offer(&mut self, key: [u8; 32], order: GrantOrder, admin: Admin) {
        if self.grants.get(&key).is_none_or(|known| order < known.0) {
            self.next.insert((order.0, key));
            self.grants.insert(key, (order, admin));
        }
    }

    /// The revocations of an admin by those above it.
    fn above(&self, key: &[u8; 32], rank: u8) -> Vec<(Said<'a>, &'a Revoke)> {
        let all = self.revokes.get(key).into_iter().flatten();
        let above = all.filter(|(by, ..)| *by < rank);
        above.map(|(_, said, revoke)| (*said, *revoke)).collect()
    }
}
