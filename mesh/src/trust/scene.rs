//! A small mesh for the tests of this module: keys from seeds, every statement ever made.

use std::time::Duration;

use super::{
    AuthorHead, Bootstrap, InviteTerms, JoinRefusal, NodeInfo, Statement, Statements, Token,
    author_join, found, issue_invite,
    payload::{LogHeader, log_body},
    witness,
};
use crate::{
    id::{MeshId, NodeId, StatementId},
    tunnel::keys::{AdminKey, Author, NodeKey, TunnelPublic},
};

/// When everything begins.
pub(super) const START: u64 = 1_800_000_000_000;
pub(super) const HOUR: u64 = 3_600_000;

pub(super) struct Scene {
    pub(super) admin: AdminKey,
    pub(super) mesh: MeshId,
    /// What the node that does things holds.
    pub(super) held: Statements,
}

pub(super) fn node(number: u8) -> NodeKey {
    NodeKey::from_seed(&[number; 32])
}

pub(super) fn id(number: u8) -> NodeId {
    node(number).id()
}

/// The key of the recovery words.
pub(super) fn words() -> AdminKey {
    AdminKey::from_seed(&[200; 32])
}

pub(super) fn terms() -> InviteTerms {
    InviteTerms {
        name: None,
        lasts: Duration::from_millis(HOUR),
        uses: 1,
        needs_approval: false,
    }
}

impl Scene {
    /// A mesh founded by node 0, named `founder`.
    pub(super) fn founded() -> Self {
        Self::founded_with(Some(words().public()))
    }

    /// The same without recovery words.
    pub(super) fn without_words() -> Self {
        Self::founded_with(None)
    }

    fn founded_with(recovery: Option<[u8; 32]>) -> Self {
        let admin = AdminKey::generate();
        let (mesh, genesis) = found(&admin, id(0), "founder", "home", recovery, START);
        let mut held = Statements::new(mesh);
        held.insert(genesis).unwrap();
        Self { admin, mesh, held }
    }

    /// Admin 0 founded the mesh, 1 is the recovery words, the others have to be granted it.
    pub(super) fn nth_admin(&self, number: u8) -> AdminKey {
        match number {
            0 => self.admin.clone(),
            1 => words(),
            _ => AdminKey::from_seed(&[200 + number; 32]),
        }
    }

    pub(super) fn token(&mut self, terms: InviteTerms, now_ms: u64) -> Token {
        let (seed, invite) = issue_invite(&self.admin, &self.held, terms, now_ms).unwrap();
        self.held.insert(invite.clone()).unwrap();
        let bootstrap = Bootstrap {
            node: id(0),
            tunnel: TunnelPublic([3; 32]),
            addrs: vec![
                "192.0.2.1:51800".parse().unwrap(),
                "[2001:db8::1]:51800".parse().unwrap(),
            ],
        };
        Token::new(seed, invite, &self.held, vec![bootstrap]).unwrap()
    }

    /// Node `joiner` joins by `token` through node `sponsor`.
    pub(super) fn join(
        &mut self,
        token: &Token,
        joiner: u8,
        sponsor: u8,
        now_ms: u64,
    ) -> Result<(), JoinRefusal> {
        let join = author_join(&node(joiner), token, &format!("n{joiner}"))?;
        if let Some(witness) = witness(&node(sponsor), &self.held, &join, now_ms)? {
            self.held.insert(witness).unwrap();
        }
        self.held.insert(join).unwrap();
        Ok(())
    }

    /// A token used at once: node `joiner` is a member.
    pub(super) fn admit(&mut self, joiner: u8, now_ms: u64) {
        let token = self.token(terms(), now_ms);
        self.join(&token, joiner, 0, now_ms).unwrap();
    }

    pub(super) fn info(&self, number: u8, incarnation: u32, seq: u32) -> Statement {
        self.info_of(number, "0.1.0", incarnation, seq)
    }

    pub(super) fn info_of(
        &self,
        number: u8,
        version: &str,
        incarnation: u32,
        seq: u32,
    ) -> Statement {
        let info = NodeInfo {
            incarnation,
            seq,
            tunnel: TunnelPublic([number; 32]),
            tunnel_previous: None,
            endpoints: Vec::new(),
            version: version.to_owned(),
            wire_min: 1,
            wire_max: 1,
            store_format: 1,
        };
        info.sign(&node(number), &self.mesh)
    }

    /// Any log statement `author` might make next.
    pub(super) fn logged(
        &self,
        author: &impl Author,
        kind: u8,
        payload: &impl serde::Serialize,
        now_ms: u64,
    ) -> Statement {
        let header = self.held.next_header(&author.public(), now_ms);
        self.placed(author, kind, header, payload)
    }

    pub(super) fn placed(
        &self,
        author: &impl Author,
        kind: u8,
        header: LogHeader,
        payload: &impl serde::Serialize,
    ) -> Statement {
        Statement::sign(kind, &self.mesh, author, log_body(header, payload))
    }

    pub(super) fn id_of(&self, statement: &Statement) -> StatementId {
        statement.id(&self.mesh)
    }

    /// Another holder with these statements.
    pub(super) fn holder<'a>(
        &self,
        statements: impl IntoIterator<Item = &'a Statement>,
    ) -> Statements {
        let mut other = Statements::new(self.mesh);
        for statement in statements {
            other.insert(statement.clone()).unwrap();
        }
        other
    }
}

/// One comparison between two holders, both ways; how many statements crossed.
pub(super) fn exchange(a: &mut Statements, b: &mut Statements) -> usize {
    let (to_a, to_b) = (lacking(b, &a.summary()), lacking(a, &b.summary()));
    let crossed = to_a.len() + to_b.len();
    to_a.into_iter()
        .for_each(|statement| drop(a.insert(statement)));
    to_b.into_iter()
        .for_each(|statement| drop(b.insert(statement)));
    crossed
}

/// What `holder` has that another with the summary `theirs` lacks.
pub(super) fn lacking(holder: &Statements, theirs: &[AuthorHead]) -> Vec<Statement> {
    let known = |head: &AuthorHead| {
        theirs
            .iter()
            .find(|their| their.author == head.author)
            .copied()
    };
    let heads = holder.summary();
    heads
        .iter()
        .flat_map(|head| {
            holder.beyond(&known(head).unwrap_or_else(|| AuthorHead::none(head.author)))
        })
        .collect()
}
