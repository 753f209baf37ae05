//! A mesh whose every byte is the same at each run: what fuzz targets start from and released encodings are pinned on.
//!
//! Keys and the Genesis come from fixed seeds. Node 1 founded it, node 2 joined by its invite. Absent from releases.

use super::invite::InviteSeed;
use super::payload::{EndpointKind, Genesis, Invite, LogHeader, Witness, kind, log_body};
#[cfg(test)]
use super::{AdminGrant, Approve, Cut, Leave, Manner, Rename, Revoke, Target};
use super::{Bootstrap, Endpoint, NodeInfo, Statement, Statements, Token, author_join};
use crate::id::MeshId;
use crate::tunnel::keys::{AdminKey, NodeKey, TunnelKey};

/// When it was founded.
pub(crate) const START: u64 = 1_800_000_000_000;

/// The mesh and what was said in it.
pub(crate) struct Family {
    pub(crate) mesh: MeshId,
    pub(crate) genesis: Statement,
    pub(crate) invite: Statement,
    #[cfg(test)]
    pub(crate) token: Token,
    pub(crate) join: Statement,
    pub(crate) witness: Statement,
    /// Of node 1, then of node 2.
    pub(crate) infos: [Statement; 2],
}

pub(crate) fn admin() -> AdminKey {
    AdminKey::from_seed(&[9; 32])
}

pub(crate) fn node(number: u8) -> NodeKey {
    NodeKey::from_seed(&[number; 32])
}

pub(crate) fn tunnel(number: u8) -> TunnelKey {
    TunnelKey::from_bytes(&[number; 32])
}

impl Family {
    pub(crate) fn new() -> Self {
        let (mesh, genesis) = founded();
        let seed = InviteSeed::from_bytes([5; 32]);
        let invite = invited(mesh, &genesis, &seed);
        let mut held = Statements::new(mesh);
        for statement in [&genesis, &invite] {
            held.insert(statement.clone())
                .expect("made by its own admin");
        }
        let sponsor = Bootstrap {
            node: node(1).id(),
            tunnel: tunnel(1).public(),
            addrs: vec![
                ([192, 0, 2, 1], 51_800).into(),
                ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 51_800).into(),
            ],
        };
        let token = Token::new(seed, invite.clone(), &held, vec![sponsor])
            .expect("the invite is of this mesh");
        let join = author_join(&node(2), &token, "n2").expect("n2 is a name");
        let vouched = Witness {
            join: join.id(&mesh),
        };
        let header = LogHeader {
            seq: 1,
            prev: [0; 32],
            hlc: (START + 9) << 16,
        };
        let witness = Statement::sign(kind::WITNESS, &mesh, &node(1), log_body(header, &vouched));
        let infos = [1, 2].map(|number| info(number).sign(&node(number), &mesh));
        Self {
            mesh,
            genesis,
            invite,
            #[cfg(test)]
            token,
            join,
            witness,
            infos,
        }
    }

    /// Every statement, each after what it rests on.
    pub(crate) fn all(&self) -> Vec<Statement> {
        let chain = [&self.genesis, &self.invite, &self.join, &self.witness];
        chain.into_iter().chain(&self.infos).cloned().collect()
    }

    /// What is said about who belongs, one of each kind and target, by name.
    #[cfg(test)]
    pub(crate) fn standing(&self) -> Vec<(&'static str, Statement)> {
        let second = AdminKey::from_seed(&[8; 32]);
        let join = self.join.id(&self.mesh);
        let invite = self.invite.id(&self.mesh);
        let cut = Cut {
            seq: 300,
            id: [7; 32],
        };
        let revoke = |target, cut, manner| Revoke {
            target,
            cut,
            manner,
            reason: "stolen".to_owned(),
        };
        let grant = AdminGrant {
            admin: second.public(),
            rank: 2,
            label: "laptop".to_owned(),
        };
        let rename = Rename {
            node: node(2).id(),
            name: "attic".to_owned(),
        };
        let leave = Leave {
            reason: "sold".to_owned(),
        };
        let of_node = revoke(Target::Node(node(2).id()), cut, Manner::Evicted);
        let of_invite = revoke(Target::Invite(invite), Cut::NOTHING, Manner::Evicted);
        let of_admin = revoke(Target::Admin(second.public()), cut, Manner::Retired);
        vec![
            ("admin-grant", self.said(kind::ADMIN_GRANT, &grant)),
            ("approve", self.said(kind::APPROVE, &Approve { join })),
            ("revoke-node", self.said(kind::REVOKE, &of_node)),
            ("revoke-invite", self.said(kind::REVOKE, &of_invite)),
            ("revoke-admin", self.said(kind::REVOKE, &of_admin)),
            ("rename", self.said(kind::RENAME, &rename)),
            ("leave", self.said(kind::LEAVE, &leave)),
        ]
    }

    /// What the admin says next; a farewell is node 2's.
    #[cfg(test)]
    fn said(&self, kind: u8, payload: &impl serde::Serialize) -> Statement {
        let is_farewell = kind == kind::LEAVE;
        let (seq, prev) = if is_farewell {
            (1, [0; 32])
        } else {
            (3, self.invite.id(&self.mesh).0)
        };
        let header = LogHeader {
            seq,
            prev,
            hlc: (START + 20) << 16,
        };
        let body = log_body(header, payload);
        if is_farewell {
            return Statement::sign(kind, &self.mesh, &node(2), body);
        }
        Statement::sign(kind, &self.mesh, &admin(), body)
    }

    pub(crate) fn statements(&self) -> Statements {
        let mut held = Statements::new(self.mesh);
        for statement in self.all() {
            held.insert(statement).expect("made by its own members");
        }
        held
    }
}

/// What node `number` says of itself.
pub(crate) fn info(number: u8) -> NodeInfo {
    NodeInfo {
        incarnation: 3,
        seq: 2,
        tunnel: tunnel(number).public(),
        tunnel_previous: None,
        endpoints: vec![Endpoint {
            kind: EndpointKind::Local,
            addr: ([192, 0, 2, number], 51_800).into(),
        }],
        version: "0.1.0".to_owned(),
        wire_min: 1,
        wire_max: 1,
        store_format: 1,
    }
}

fn founded() -> (MeshId, Statement) {
    let genesis = Genesis {
        version: 1,
        name: "home".to_owned(),
        nonce: [4; 16],
        recovery: Some([6; 32]),
        admin: admin().public(),
        founder: node(1).id(),
        founder_name: "n1".to_owned(),
        created_ms: START,
    };
    let header = LogHeader {
        seq: 1,
        prev: [0; 32],
        hlc: START << 16,
    };
    let nowhere = MeshId([0; 32]);
    let statement = Statement::sign(
        kind::GENESIS,
        &nowhere,
        &admin(),
        log_body(header, &genesis),
    );
    (MeshId(statement.id(&nowhere).0), statement)
}

fn invited(mesh: MeshId, genesis: &Statement, seed: &InviteSeed) -> Statement {
    let invite = Invite {
        public: seed.signer().public(),
        tunnel: seed.tunnel().public(),
        name: None,
        not_before_ms: START,
        not_after_ms: START + 3_600_000,
        uses: 2,
        needs_approval: false,
    };
    let header = LogHeader {
        seq: 2,
        prev: genesis.id(&mesh).0,
        hlc: (START + 1) << 16,
    };
    Statement::sign(kind::INVITE, &mesh, &admin(), log_body(header, &invite))
}
