//! What a fuzzer may throw at statements: their bytes, their bodies, arbitrary sets of them, and tokens.
//!
//! Each function says whether the bytes were taken and asserts what must hold then. Absent from releases.

use super::family::{Family, START, admin, node};
use super::log::{MAX_LOG, Statements};
use super::payload::{
    CRITICAL, Invite, Join, LogHeader, MAX_ENDPOINTS, MAX_NAME, MAX_VALUE, MAX_VERSION, Payload,
    Witness, kind, log_body, read,
};
use super::record::{MAX_BODY, Statement};
use super::token::{MAX_ADDRS, MAX_BOOTSTRAPS, Token, sealed};
use crate::id::StatementId;
use crate::tunnel::keys::{AdminKey, TunnelPublic};

/// One statement as it stands in messages, tokens and the journal.
pub(crate) fn statement(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    let Ok(statement) = Statement::decode(&mut rest) else {
        return false;
    };
    assert!(statement.body.len() <= MAX_BODY);
    let mut again = Vec::new();
    statement.encode(&mut again);
    assert_eq!(again.len(), statement.encoded_len());
    assert_eq!([&again, rest].concat(), bytes, "it has one encoding");
    if let Ok((_place, payload)) = read(&statement) {
        bounded(&payload);
    }
    true
}

/// What a statement says: its kind, then its body.
pub(crate) fn payload(bytes: &[u8]) -> bool {
    let Some((&kind, body)) = bytes.split_first() else {
        return false;
    };
    let statement = Statement {
        kind,
        // The admin: a Genesis is its admin's own.
        author: admin().public(),
        body: body.to_vec(),
        signature: [0; 64],
    };
    let Ok((_place, payload)) = read(&statement) else {
        return false;
    };
    bounded(&payload);
    true
}

fn bounded(payload: &Payload) {
    let name = |text: &str| assert!(super::is_name(text) && text.len() <= MAX_NAME);
    match payload {
        Payload::Genesis(genesis) => {
            name(&genesis.name);
            name(&genesis.founder_name);
        }
        Payload::Invite(invite) => invite.name.iter().for_each(|text| name(text)),
        Payload::Join(join) => name(&join.name),
        Payload::NodeInfo(info) => {
            assert!(info.endpoints.len() <= MAX_ENDPOINTS && info.version.len() <= MAX_VERSION);
            assert!(info.version.is_ascii());
        }
        Payload::Policy(policy) => {
            assert!(policy.key.len() <= MAX_VALUE);
            assert!(policy.value.iter().all(|value| value.len() <= MAX_VALUE));
        }
        Payload::AdminGrant(grant) => name(&grant.label),
        Payload::Rename(rename) => name(&rename.name),
        Payload::Revoke(revoke) => {
            assert!(super::is_reason(&revoke.reason) && revoke.manner != super::Manner::Left);
        }
        Payload::Leave(leave) => assert!(super::is_reason(&leave.reason)),
        Payload::Witness(_) | Payload::Approve(_) | Payload::Replace(_) | Payload::Unknown => {}
    }
}

/// Arbitrary statements of arbitrary authors, rightly signed. Each six bytes are one: author, kind, place in the log,
/// what it rests on, clock, something else. In whatever order they come, the state is the same.
pub(crate) fn fold(bytes: &[u8]) -> bool {
    let family = Family::new();
    let mut said = family.all();
    for step in bytes.chunks_exact(6).take(12) {
        let one = say(&family, &said, step);
        said.push(one);
    }
    let (mut forth, mut back) = (Statements::new(family.mesh), Statements::new(family.mesh));
    for (a, b) in said.iter().zip(said.iter().rev()) {
        let _ = forth.insert(a.clone());
        let _ = back.insert(b.clone());
        let _ = forth.state();
    }
    assert_eq!(forth.root(), back.root(), "the order matters");
    assert_eq!(forth.state(), back.state());
    let state = forth.state();
    assert!(state.genesis.is_some());
    let names: std::collections::BTreeSet<_> =
        state.members.values().map(|member| &member.name).collect();
    assert_eq!(names.len(), state.members.len(), "names are unique");
    for id in state.gone.keys().chain(state.pending.keys()) {
        assert!(
            !state.members.contains_key(id),
            "who is gone or waits is no member"
        );
    }
    for invite in state.invites.values() {
        assert!(invite.used.len() <= usize::from(invite.invite.uses));
    }
    let mut copy = Statements::new(family.mesh);
    for statement in forth.iter() {
        let _ = copy.insert(statement.clone());
    }
    assert_eq!(copy.root(), forth.root(), "what counts is enough");
    assert!(forth.all().count() <= said.len());
    for head in forth.summary() {
        assert!(forth.beyond(&head).is_empty(), "nobody lacks what it has");
    }
    !bytes.is_empty()
}

fn say(family: &Family, said: &[Statement], step: &[u8]) -> Statement {
    let [who, what, place, on, clock, more] = *step else {
        unreachable!("chunks have six bytes");
    };
    let before = &said[usize::from(on) % said.len()];
    let header = LogHeader {
        seq: match place % 16 {
            0 if what % 16 != 2 => 1,
            15 => MAX_LOG + u32::from(place),
            seq => u32::from(seq),
        },
        prev: if place & 16 == 0 {
            before.id(&family.mesh).0
        } else {
            [0; 32]
        },
        hlc: (START + u64::from(clock) * 1_000) << 16,
    };
    let (kind, body) = match what % 16 {
        0 => {
            let join = before.id(&family.mesh);
            (kind::WITNESS, log_body(header, &Witness { join }))
        }
        1 => (kind::INVITE, log_body(header, &an_invite(more))),
        2 => (kind::JOIN, log_body(header, &a_join(family, before, more))),
        3 => {
            let mut info = super::family::info(more);
            (info.incarnation, info.seq) = (u32::from(clock), u32::from(place));
            let body = postcard::to_stdvec(&info).expect("plain data can be written");
            (kind::NODE_INFO, body)
        }
        4 => (CRITICAL | more, log_body(header, &more)),
        5 => (before.kind, before.body.clone()),
        6 => {
            let invite = before.id(&family.mesh);
            let node = node(more % 4).id();
            let replace = super::Replace { invite, node };
            (kind::REPLACE, log_body(header, &replace))
        }
        8..=12 => standing(family, before, what % 16, header, more),
        _ => (more % CRITICAL, log_body(header, &[more, place])),
    };
    match who % 8 {
        0 => Statement::sign(kind, &family.mesh, &admin(), body),
        by @ 4..=5 => Statement::sign(kind, &family.mesh, &second(by), body),
        number => Statement::sign(kind, &family.mesh, &node(number % 4), body),
    }
}

/// Somebody whom the admin may make one.
fn second(number: u8) -> AdminKey {
    AdminKey::from_seed(&[100 + number; 32])
}

/// Something about who belongs.
fn standing(
    family: &Family,
    before: &Statement,
    what: u8,
    header: LogHeader,
    more: u8,
) -> (u8, Vec<u8>) {
    let on = before.id(&family.mesh);
    match what {
        8 => {
            let grant = super::AdminGrant {
                admin: second(4 + more % 2).public(),
                rank: more / 8 % 4,
                label: format!("a{more}"),
            };
            (kind::ADMIN_GRANT, log_body(header, &grant))
        }
        9 => (
            kind::APPROVE,
            log_body(header, &super::Approve { join: on }),
        ),
        10 => {
            let revoke = super::Revoke {
                target: match more % 4 {
                    0 => super::Target::Invite(on),
                    1 => super::Target::Admin(second(4 + more / 64 % 2).public()),
                    2 => super::Target::Admin(admin().public()),
                    _ => super::Target::Node(node(more / 64).id()),
                },
                cut: super::Cut {
                    seq: u32::from(more / 8 % 4),
                    id: if more & 4 == 0 { on.0 } else { [0; 32] },
                },
                manner: super::Manner::Evicted,
                reason: String::new(),
            };
            (kind::REVOKE, log_body(header, &revoke))
        }
        11 => {
            let (node, name) = (node(more % 4).id(), format!("n{}", more / 4 % 4));
            (
                kind::RENAME,
                log_body(header, &super::Rename { node, name }),
            )
        }
        _ => {
            let reason = String::new();
            (kind::LEAVE, log_body(header, &super::Leave { reason }))
        }
    }
}

fn an_invite(more: u8) -> Invite {
    let seed = super::invite::InviteSeed::from_bytes([more; 32]);
    Invite {
        public: seed.signer().public(),
        tunnel: TunnelPublic([more; 32]),
        name: (more & 1 == 1).then(|| format!("n{}", more % 4)),
        not_before_ms: START,
        not_after_ms: START + u64::from(more) * 1_000,
        uses: u16::from(more % 3),
        needs_approval: more & 32 != 0,
    }
}

/// A Join by the invite it rests on, or by the family's, signed by that invite's key where it is known.
fn a_join(family: &Family, before: &Statement, more: u8) -> Join {
    let of_family = before.kind != kind::INVITE || *before == family.invite;
    let invite = if of_family { &family.invite } else { before };
    let invite: StatementId = invite.id(&family.mesh);
    let seed = if of_family { 5 } else { more };
    let name = format!("n{}", more % 4);
    let author = node(more % 4).public();
    let bytes = Join::invite_bytes(&family.mesh, &invite, &author, &name);
    let seed = super::invite::InviteSeed::from_bytes([seed; 32]);
    Join {
        invite,
        name,
        created_ms: START,
        invite_signature: seed.signer().sign(&bytes),
    }
}

/// A token's text. Behind a first byte that is 0 the bytes are the text, else what stands inside its checksum.
pub(crate) fn token(bytes: &[u8]) -> bool {
    let Some((kind, bytes)) = bytes.split_first() else {
        return false;
    };
    let text = match kind {
        0 => String::from_utf8_lossy(bytes).into_owned(),
        _ => sealed(bytes),
    };
    let Ok(token) = Token::parse(&text) else {
        return false;
    };
    assert!(token.bootstraps().len() <= MAX_BOOTSTRAPS);
    assert!(
        token
            .bootstraps()
            .iter()
            .all(|one| one.addrs.len() <= MAX_ADDRS)
    );
    assert_eq!(Token::parse(&token.encode()).as_ref(), Ok(&token));
    assert!(token.chain().len() >= 2);
    true
}
