//! Tokens there and back, and each altered or cut letter refused.

use proptest::prelude::*;

use super::*;
use crate::trust::scene::{START, Scene, terms};

fn token() -> Token {
    Scene::founded().token(terms(), START)
}

#[test]
fn a_token_survives_its_text() {
    let token = token();
    let read = Token::parse(&token.encode()).unwrap();
    assert_eq!(read, token);
    assert_eq!(read.mesh_name(), "home");
    assert_eq!(read.tunnel().public(), read.invite().tunnel);
    assert_eq!(read.chain().len(), 2);
}

#[test]
fn a_token_broken_into_lines_is_read() {
    let token = token();
    let text = token.encode();
    let (start, end) = text.split_at(70);
    assert_eq!(Token::parse(&format!("  {start}\r\n  {end}\n")), Ok(token));
}

#[test]
fn a_token_cut_anywhere_is_refused_and_said_to_be_truncated() {
    let text = token().encode();
    for len in 3..text.len() {
        let refusal = Token::parse(&text[..len]).unwrap_err();
        assert!(
            matches!(refusal, TokenError::Truncated { have, .. } if have == len),
            "{len}: {refusal}"
        );
    }
    let refusal = Token::parse(&text[..100]).unwrap_err().to_string();
    assert_eq!(
        refusal,
        format!(
            "the token is truncated: 100 of its {} letters are there; copy it whole",
            text.len()
        )
    );
}

#[test]
fn other_texts_are_no_tokens() {
    for text in ["", "ol", "hello", "QL1abc", "tskey-abc"] {
        assert_eq!(Token::parse(text), Err(TokenError::NotAToken), "{text}");
    }
    assert_eq!(Token::parse("ol2abcdefgh"), Err(TokenError::Version('2')));
}

#[test]
fn capitals_read_as_small_letters() {
    let token = token();
    let capitals = token.encode().to_ascii_uppercase();
    assert_eq!(Token::parse(&capitals), Ok(token));
}

#[test]
fn any_single_altered_letter_is_refused() {
    let text = token().encode();
    for at in 0..text.len() {
        for letter in "abcdefghijklmnopqrstuvwxyz234567ABZ01890-_= \u{e9}".chars() {
            let altered = format!("{}{letter}{}", &text[..at], &text[at + 1..]);
            if altered.to_ascii_lowercase() != text {
                assert!(Token::parse(&altered).is_err(), "{letter} at {at}");
            }
        }
    }
}

#[test]
fn letters_added_are_refused() {
    let text = token().encode();
    assert_eq!(Token::parse(&format!("{text}a")), Err(TokenError::Altered));
}

#[test]
fn a_token_that_nobody_entitled_signed_is_refused_though_its_checksum_fits() {
    let (mine, other) = (token(), token());
    let mixed = Token {
        chain: vec![mine.chain[0].clone(), other.chain[1].clone()],
        ..other.clone()
    };
    assert_eq!(Token::parse(&mixed.encode()), Err(TokenError::Unsigned));
    let stolen = Token {
        seed: mine.seed,
        ..other.clone()
    };
    assert_eq!(Token::parse(&stolen.encode()), Err(TokenError::Unsigned));
    let mut forged = other;
    forged.chain[1].signature[3] ^= 1;
    assert_eq!(Token::parse(&forged.encode()), Err(TokenError::Unsigned));
}

#[test]
fn a_token_s_debug_prints_no_seed() {
    let token = token();
    let seed = format!("{:?}", token.seed.as_bytes());
    assert!(!format!("{token:?}").contains(seed.trim_matches(['[', ']'])));
}

proptest! {
    #[test]
    fn tokens_survive_their_text_whatever_they_name(
        nodes in prop::collection::vec((any::<[u8; 32]>(), any::<[u8; 32]>(), prop::collection::vec(any::<SocketAddr>(), 0..12)), 0..5),
    ) {
        let mut scene = Scene::founded();
        let whole = scene.token(terms(), START);
        let plain = |addr: SocketAddr| SocketAddr::new(addr.ip(), addr.port());
        let bootstraps: Vec<_> = nodes.into_iter().map(|(node, tunnel, addrs)| Bootstrap {
            node: NodeId(node),
            tunnel: TunnelPublic(tunnel),
            addrs: addrs.into_iter().map(plain).collect(),
        }).collect();
        let token = Token::new(whole.seed.clone(), whole.chain[1].clone(), &scene.held, bootstraps).unwrap();
        prop_assert!(token.bootstraps().len() <= MAX_BOOTSTRAPS);
        prop_assert_eq!(Token::parse(&token.encode()), Ok(token));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "(ol1)?[a-z2-7]{0,300}|.{0,60}") {
        let _either = Token::parse(&text);
    }
}
