//! What may happen in a mesh whose three sites are cut off from each other again and again: for property tests.
//!
//! Admins and members say whatever they like, with the right or not; what they know is what their site holds. Node 0 founded
//! the mesh. Of the admins 0 founded it, 1 is the recovery words, the others are whoever is granted it.

use proptest::{prelude::*, sample::Index};

use super::payload::LogHeader;
use super::scene::{START, Scene, exchange, id, node, terms};
use super::{
    AdminGrant, Approve, Cut, InviteTerms, Join, Leave, Manner, Policy, Rename, Revoke, Statement,
    Statements, Target, Token, Witness, author_join, issue_invite, kind, witness,
};
use crate::id::StatementId;
use crate::tunnel::keys::{AdminKey, Author};

/// Admins there may be.
pub(super) const ADMINS: u8 = 5;

#[derive(Debug, Clone)]
pub(super) enum Happening {
    Invite {
        site: Index,
        by: u8,
        uses: u16,
        pinned: bool,
        approved: bool,
    },
    Join {
        site: Index,
        token: Index,
        joiner: u8,
        sponsor: u8,
        name: u8,
    },
    Info {
        site: Index,
        node: u8,
        seq: u32,
    },
    /// A member says something this version does not know.
    Unknown {
        site: Index,
        node: u8,
    },
    /// An admin says something at the time it claims, which may be none.
    Admin {
        site: Index,
        by: u8,
        act: Act,
        hlc: Option<u64>,
    },
    Leave {
        site: Index,
        node: u8,
    },
    Meet {
        one: Index,
        other: Index,
    },
}

/// What an admin may say about who belongs. `back` is how many statements before its head a log is cut.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Grant { of: u8, rank: u8 },
    RevokeAdmin { of: u8, back: u32 },
    RevokeNode { of: u8, back: u32, manner: Manner },
    RevokeInvite { token: Index },
    Approve { join: Index },
    Rename { of: u8, name: u8 },
    Site { of: Option<u8>, name: u8 },
}

pub(super) fn happening() -> impl Strategy<Value = Happening> {
    let site = any::<Index>;
    prop_oneof![
        3 => (site(), 0..ADMINS, 1_u16..3, prop::bool::weighted(0.2), prop::bool::weighted(0.3))
            .prop_map(|(site, by, uses, pinned, approved)| Happening::Invite { site, by, uses, pinned, approved }),
        6 => (site(), any::<Index>(), 1_u8..7, 0_u8..7, 0_u8..3).prop_map(|(site, token, joiner, sponsor, name)| {
            Happening::Join { site, token, joiner, sponsor, name }
        }),
        1 => (site(), 0_u8..7, 0_u32..4).prop_map(|(site, node, seq)| Happening::Info { site, node, seq }),
        1 => (site(), 0_u8..7).prop_map(|(site, node)| Happening::Unknown { site, node }),
        6 => (site(), 0..ADMINS, act(), prop::option::weighted(0.2, hlc()))
            .prop_map(|(site, by, act, hlc)| Happening::Admin { site, by, act, hlc }),
        1 => (site(), 0_u8..7).prop_map(|(site, node)| Happening::Leave { site, node }),
        3 => (site(), site()).prop_map(|(one, other)| Happening::Meet { one, other }),
    ]
}

/// The beginning of time, some time, and its end.
fn hlc() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        (0_u64..30).prop_map(|after_ms| (START + after_ms) << 16),
        Just(u64::MAX)
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let manner = prop_oneof![Just(Manner::Evicted), Just(Manner::Retired)];
    prop_oneof![
        3 => (1..ADMINS, 0_u8..5).prop_map(|(of, rank)| Act::Grant { of, rank }),
        2 => (0..ADMINS, 0_u32..4).prop_map(|(of, back)| Act::RevokeAdmin { of, back }),
        2 => (0_u8..7, 0_u32..4, manner).prop_map(|(of, back, manner)| Act::RevokeNode { of, back, manner }),
        1 => any::<Index>().prop_map(|token| Act::RevokeInvite { token }),
        2 => any::<Index>().prop_map(|join| Act::Approve { join }),
        1 => (0_u8..7, 0_u8..3).prop_map(|(of, name)| Act::Rename { of, name }),
        1 => (prop::option::of(0_u8..3), 0_u8..3).prop_map(|(of, name)| Act::Site { of, name }),
    ]
}

/// The mesh and its sites.
struct History<'a> {
    scene: &'a Scene,
    sites: Vec<Statements>,
    tokens: Vec<Token>,
    joins: Vec<StatementId>,
}

/// Everything that was ever said while `happenings` happened at three sites.
pub(super) fn history(scene: &mut Scene, happenings: &[Happening]) -> Vec<Statement> {
    history_at(3, scene, happenings)
}

/// Everything that was ever said while `happenings` happened at so many sites.
pub(super) fn history_at(sites: usize, scene: &Scene, happenings: &[Happening]) -> Vec<Statement> {
    let mut said: Vec<Statement> = scene.held.iter().cloned().collect();
    let mut history = History {
        scene,
        sites: vec![scene.held.clone(); sites],
        tokens: Vec::new(),
        joins: Vec::new(),
    };
    for (at, happening) in happenings.iter().enumerate() {
        // Clocks are not the same everywhere.
        let now_ms = START + [at as u64, 20][usize::from(at % 5 == 4)];
        let (site, new) = history.happen(happening, now_ms);
        for statement in new {
            history.sites[site].insert(statement.clone()).unwrap();
            said.push(statement);
        }
    }
    said
}

impl History<'_> {
    fn happen(&mut self, happening: &Happening, now_ms: u64) -> (usize, Vec<Statement>) {
        match happening {
            Happening::Invite {
                site,
                by,
                uses,
                pinned,
                approved,
            } => {
                let at = self.at(site);
                let terms = InviteTerms {
                    name: pinned.then(|| "n1".to_owned()),
                    uses: *uses,
                    needs_approval: *approved,
                    ..terms()
                };
                let invite = self.invite(at, *by, terms, now_ms);
                (at, invite.into_iter().collect())
            }
            Happening::Join {
                site,
                token,
                joiner,
                sponsor,
                name,
            } if !self.tokens.is_empty() => {
                let at = self.at(site);
                let token = token.get(&self.tokens).clone();
                (at, self.join(at, &token, *joiner, *sponsor, *name, now_ms))
            }
            Happening::Info { site, node, seq } => {
                (self.at(site), vec![self.scene.info(*node, 1, *seq)])
            }
            Happening::Unknown { site, node: number } => {
                let at = self.at(site);
                (
                    at,
                    vec![self.say(at, &node(*number), kind::POLICY, &now_ms, now_ms)],
                )
            }
            Happening::Admin { site, by, act, hlc } => {
                let at = self.at(site);
                let by = self.scene.nth_admin(*by);
                let said = self.act(at, &by, act, now_ms, *hlc);
                (at, said.into_iter().collect())
            }
            Happening::Leave { site, node: number } => {
                let at = self.at(site);
                let leave = Leave {
                    reason: "sold".to_owned(),
                };
                (
                    at,
                    vec![self.say(at, &node(*number), kind::LEAVE, &leave, now_ms)],
                )
            }
            Happening::Meet { one, other } if self.at(one) != self.at(other) => {
                let (one, other) = (
                    self.at(one).min(self.at(other)),
                    self.at(one).max(self.at(other)),
                );
                let (low, high) = self.sites.split_at_mut(other);
                exchange(&mut low[one], &mut high[0]);
                (one, Vec::new())
            }
            Happening::Join { .. } | Happening::Meet { .. } => (0, Vec::new()),
        }
    }

    fn at(&self, site: &Index) -> usize {
        site.index(self.sites.len())
    }

    /// What `author` says next, as far as its site knows.
    fn say(
        &self,
        at: usize,
        author: &impl Author,
        kind: u8,
        payload: &impl serde::Serialize,
        now_ms: u64,
    ) -> Statement {
        let header = self.sites[at].next_header(&author.public(), now_ms);
        self.scene.placed(author, kind, header, payload)
    }

    fn invite(&mut self, at: usize, by: u8, terms: InviteTerms, now_ms: u64) -> Option<Statement> {
        // Whose word does not count is told so, and says nothing.
        let admin = self.scene.nth_admin(by);
        let (seed, invite) = issue_invite(&admin, &self.sites[at], terms, now_ms).ok()?;
        let mut held = self.sites[at].clone();
        held.insert(invite.clone()).unwrap();
        let token = Token::new(seed, invite.clone(), &held, Vec::new()).unwrap();
        self.tokens.push(token);
        Some(invite)
    }

    fn join(
        &mut self,
        at: usize,
        token: &Token,
        joiner: u8,
        sponsor: u8,
        name: u8,
        now_ms: u64,
    ) -> Vec<Statement> {
        let Ok(join) = author_join(&node(joiner), token, &format!("n{name}")) else {
            return Vec::new();
        };
        self.joins.push(self.scene.id_of(&join));
        let vouched = witness(&node(sponsor), &self.sites[at], &join, now_ms);
        // A sponsor that does not look still cannot break the fold.
        let careless = || {
            let witness = Witness {
                join: self.scene.id_of(&join),
            };
            self.say(at, &node(sponsor), kind::WITNESS, &witness, now_ms)
        };
        vec![vouched.ok().flatten().unwrap_or_else(careless), join]
    }

    fn act(
        &self,
        at: usize,
        by: &AdminKey,
        act: &Act,
        now_ms: u64,
        hlc: Option<u64>,
    ) -> Option<Statement> {
        let mut header = self.sites[at].next_header(&by.public(), now_ms);
        header.hlc = hlc.unwrap_or(header.hlc);
        let revoke = |target, cut, manner| {
            let revoke = Revoke {
                target,
                cut,
                manner,
                reason: String::new(),
            };
            Some(self.scene.placed(by, kind::REVOKE, header, &revoke))
        };
        match act {
            Act::Grant { of, rank } => {
                let admin = self.scene.nth_admin(*of).public();
                let grant = AdminGrant {
                    admin,
                    rank: *rank,
                    label: format!("a{of}"),
                };
                Some(self.scene.placed(by, kind::ADMIN_GRANT, header, &grant))
            }
            Act::RevokeAdmin { of, back } => {
                let key = self.scene.nth_admin(*of).public();
                revoke(
                    Target::Admin(key),
                    self.cut(at, key, *back),
                    Manner::Evicted,
                )
            }
            Act::RevokeNode { of, back, manner } => revoke(
                Target::Node(id(*of)),
                self.cut(at, id(*of).0, *back),
                *manner,
            ),
            Act::RevokeInvite { token } => {
                let token = (!self.tokens.is_empty()).then(|| token.get(&self.tokens))?;
                revoke(
                    Target::Invite(token.invite_id()),
                    Cut::NOTHING,
                    Manner::Evicted,
                )
            }
            Act::Approve { join } => {
                let join = *(!self.joins.is_empty()).then(|| join.get(&self.joins))?;
                Some(
                    self.scene
                        .placed(by, kind::APPROVE, header, &Approve { join }),
                )
            }
            Act::Rename { of, name } => {
                let rename = Rename {
                    node: id(*of),
                    name: format!("n{name}"),
                };
                Some(self.scene.placed(by, kind::RENAME, header, &rename))
            }
            Act::Site { of, name } => {
                let policy = Policy {
                    node: of.map(id),
                    key: "site".to_owned(),
                    value: Some(format!("s{name}")),
                };
                Some(self.scene.placed(by, kind::POLICY, header, &policy))
            }
        }
    }

    /// The head of a log as its site knows it, or a place before.
    fn cut(&self, at: usize, author: [u8; 32], back: u32) -> Cut {
        let chain = self.sites[at].branch_to_head(&author);
        let len = chain.len().saturating_sub(back as usize);
        let seq = u32::try_from(len).unwrap();
        chain[..len].last().map_or(Cut::NOTHING, |entry| Cut {
            seq,
            id: entry.id.0,
        })
    }
}

/// A Join by a token whose holder ignores what it says, so that the fold has to look.
pub(super) fn forged_join(scene: &Scene, token: &Token, number: u8, name: &str) -> Statement {
    let key = node(number);
    let bytes = Join::invite_bytes(&scene.mesh, &token.invite_id(), &key.public(), name);
    let join = Join {
        invite: token.invite_id(),
        name: name.into(),
        created_ms: START,
        invite_signature: token.seed().signer().sign(&bytes),
    };
    let header = LogHeader {
        seq: 0,
        prev: [0; 32],
        hlc: START << 16,
    };
    scene.placed(&key, kind::JOIN, header, &join)
}
