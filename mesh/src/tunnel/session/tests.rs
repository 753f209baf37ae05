//! What one session owes its caller, tried against the real crate. Tests that need hours are in
//! `node::tests::ageing`, where the clock is bent.

use std::net::Ipv4Addr;

use super::*;
use crate::tunnel::keys::TunnelKey;
use crate::wire::packet;

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_peer_that_answers_after_many_attempts_of_ours_begins_a_fresh_session() {
    let (mut a, mut b) = pair();
    assert!(shake(&mut b, &mut a));
    for _ in 0..130 {
        a.initiate().unwrap();
    }

    assert!(shake(&mut b, &mut a), "the first word in a new session");

    assert!(a.is_live());
}

#[test]
fn a_straggler_does_not_bring_back_a_session_whose_place_is_taken() {
    let (mut a, mut b) = pair();
    assert!(shake(&mut b, &mut a));
    let straggler = b.seal(&inner()).unwrap();
    assert!(shake(&mut b, &mut a));
    // Six more indices, one that is only sent, and the place of the session in use is next.
    for _ in 0..6 {
        a.open(SOURCE, &b.initiate().unwrap());
    }
    a.initiate().unwrap();
    a.open(SOURCE, &b.initiate().unwrap());
    assert!(!a.is_live());

    a.open(SOURCE, &straggler);

    assert!(
        !a.is_live(),
        "it would seal with keys the other side never proved"
    );
}

#[test]
fn a_straggler_of_an_equally_young_session_does_not_make_it_seal_with_unproved_keys() {
    let (mut a, mut b) = pair();
    assert!(shake(&mut b, &mut a));
    let straggler = b.seal(&inner()).unwrap();
    assert!(shake(&mut b, &mut a));
    // No timer ran in between: for boringtun both are equally young, and it follows the straggler.
    a.open(SOURCE, &straggler);
    for _ in 0..7 {
        a.open(SOURCE, &b.initiate().unwrap());
    }

    assert!(
        a.seal(&inner())
            .is_none_or(|sealed| matches!(b.open(SOURCE, &sealed), Opened::Inner { .. }))
    );
}

#[test]
fn without_a_live_session_nothing_is_sealed_queued_or_begun() {
    let (mut a, mut b) = pair();
    assert_eq!(a.seal(&inner()), None);
    let Opened::Answer(_) = b.open(SOURCE, &a.initiate().unwrap()) else {
        panic!("not answered");
    };
    assert_eq!(b.seal(&inner()), None, "nothing proves that a was there");

    assert!(shake(&mut a, &mut b));

    let mut buffer = [0; MAX_DATAGRAM];
    for session in [&mut a, &mut b] {
        assert_eq!(session.open(SOURCE, &[]), Opened::Refused);
        let queued = session.tunn.decapsulate(None, &[], &mut buffer);
        assert!(matches!(queued, TunnResult::Done), "{queued:?}");
    }
    assert!(a.seal(&inner()).is_some() && b.seal(&inner()).is_some());
}

#[test]
fn every_data_packet_is_padded_to_sixteen_bytes_and_read_without_the_padding() {
    let (mut a, mut b) = pair();
    let address = std::net::Ipv6Addr::LOCALHOST;
    assert!(shake(&mut a, &mut b));
    for length in 0..100 {
        let payload = vec![7; length];
        let whole = packet::build(address, address, 9, &payload);
        let bare = &whole[..packet::HEADERS + length];

        for inner in [&whole[..], bare] {
            let sealed = a.seal(inner).unwrap();
            assert_eq!(sealed.len(), whole.len() + OVERHEAD);
            assert_eq!(sealed.len() % 16, 0);
            assert_eq!(
                b.open(SOURCE, &sealed),
                Opened::Inner {
                    packet: bare.to_vec(),
                    fresh: false
                }
            );
        }
    }
    let Opened::Established(keepalive) = ({
        let Opened::Answer(answer) = b.open(SOURCE, &a.initiate().unwrap()) else {
            panic!("not answered");
        };
        a.open(SOURCE, &answer)
    }) else {
        panic!("not established");
    };
    assert_eq!(keepalive.len(), OVERHEAD);
}

#[test]
fn a_datagram_longer_than_the_buffer_is_refused_instead_of_a_panic() {
    let (mut a, mut b) = pair();
    assert!(shake(&mut a, &mut b));
    let mut forged = a.seal(&inner()).unwrap();
    for length in [MAX_DATAGRAM, MAX_DATAGRAM + 1, 9_000, 65_535] {
        forged.resize(length, 0);
        assert_eq!(b.open(SOURCE, &forged), Opened::Refused, "{length} bytes");
    }
}

#[test]
fn a_handshake_is_counted_once_and_the_cookie_it_gets_opens_the_next_one() {
    let (gate, key) = gate();
    let other = TunnelKey::generate();
    let mut ours = Session::new(&key.secret(), other.public(), 1);
    let mut theirs = Session::new(&other.secret(), key.public(), 2);
    let proved = |proof| proof == Proof::Cookie;
    for number in 0..200 {
        let initiation = theirs.initiate().unwrap();
        let verdict = gate.inspect(SOURCE, &initiation, |_proof| true);
        assert_eq!(verdict, Verdict::Initiation(other.public()), "{number}");
        assert!(matches!(ours.open(SOURCE, &initiation), Opened::Answer(_)));
    }

    let refused = theirs.initiate().unwrap();
    let Verdict::Cookie(cookie) = gate.inspect(SOURCE, &refused, proved) else {
        panic!("over the limit");
    };
    assert!(cookie.len() < refused.len(), "never more out than in");
    assert_eq!(theirs.open(SOURCE, &cookie), Opened::CookieStored);
    assert!(!theirs.is_live(), "a cookie proves nothing");
    let again = theirs.initiate().unwrap();

    assert_eq!(
        gate.inspect(SOURCE, &again, proved),
        Verdict::Initiation(other.public())
    );
    let Opened::Answer(answer) = ours.open(SOURCE, &again) else {
        panic!("not answered");
    };
    let Opened::Established(first) = theirs.open(SOURCE, &answer) else {
        panic!("not established");
    };
    assert_eq!(ours.open(SOURCE, &first), Opened::Keepalive { fresh: true });
    let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9));
    let stolen = theirs.initiate().unwrap();
    assert!(
        matches!(gate.inspect(elsewhere, &stolen, proved), Verdict::Cookie(_)),
        "a cookie serves the address it was made for"
    );
}

#[test]
fn a_cookie_that_is_late_forged_or_for_another_initiation_changes_nothing() {
    let (gate, key) = gate();
    let other = TunnelKey::generate();
    let mut theirs = Session::new(&other.secret(), key.public(), 2);
    let first = theirs.initiate().unwrap();
    let Verdict::Cookie(cookie) = gate.inspect(SOURCE, &first, |_proof| false) else {
        panic!("over the limit");
    };
    let mut forged = cookie.clone();
    forged[40] ^= 1;
    assert_eq!(theirs.open(SOURCE, &forged), Opened::Refused);

    theirs.initiate().unwrap();

    assert_eq!(theirs.open(SOURCE, &cookie), Opened::Refused);
}

#[test]
fn a_captured_initiation_opens_a_fresh_session_and_still_proves_nothing() {
    let (a, b) = (TunnelKey::generate(), TunnelKey::generate());
    let mut old = Session::new(&b.secret(), a.public(), 2);
    let captured = old.initiate().unwrap();
    let mut restarted = Session::new(&a.secret(), b.public(), 1);

    let opened = restarted.open(SOURCE, &captured);

    assert!(matches!(opened, Opened::Answer(_)), "{opened:?}");
    assert!(!restarted.is_live());
    assert_eq!(restarted.open(SOURCE, &captured), Opened::OldStamp);
}

#[test]
fn a_duplicate_and_a_datagram_of_a_forgotten_session_are_told_apart() {
    let (mut a, mut b) = pair();
    assert!(shake(&mut a, &mut b));
    let sealed = a.seal(&inner()).unwrap();
    assert!(matches!(b.open(SOURCE, &sealed), Opened::Inner { .. }));
    assert_eq!(b.open(SOURCE, &sealed), Opened::Refused);
    for _ in 0..8 {
        assert!(shake(&mut a, &mut b));
    }

    let (later, answer) = (a.seal(&inner()).unwrap(), {
        let Opened::Answer(answer) = b.open(SOURCE, &a.initiate().unwrap()) else {
            panic!("not answered");
        };
        answer
    });

    assert_eq!(b.open(SOURCE, &sealed), Opened::NoSession);
    assert!(matches!(b.open(SOURCE, &later), Opened::Inner { .. }));
    assert!(matches!(a.open(SOURCE, &answer), Opened::Established(_)));
    assert_eq!(
        a.open(SOURCE, &answer),
        Opened::Refused,
        "an answer is no sign that somebody lost a session"
    );
}

/// The two ends of a tunnel without a session.
fn pair() -> (Session, Session) {
    let (a, b) = (TunnelKey::generate(), TunnelKey::generate());
    (
        Session::new(&a.secret(), b.public(), 1),
        Session::new(&b.secret(), a.public(), 2),
    )
}

/// A whole handshake; whether the answering side takes it for a fresh session.
fn shake(from: &mut Session, to: &mut Session) -> bool {
    let Opened::Answer(answer) = to.open(SOURCE, &from.initiate().unwrap()) else {
        panic!("not answered");
    };
    let Opened::Established(first) = from.open(SOURCE, &answer) else {
        panic!("not established");
    };
    to.open(SOURCE, &first) == Opened::Keepalive { fresh: true }
}

/// The front door of a key.
fn gate() -> (Gate, TunnelKey) {
    let key = TunnelKey::generate();
    (Gate::new(&key.secret()), key)
}

fn inner() -> Vec<u8> {
    let address = std::net::Ipv6Addr::LOCALHOST;
    packet::build(address, address, 9, b"inner")
}
