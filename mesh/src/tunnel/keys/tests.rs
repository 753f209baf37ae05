//! Keys against published vectors, and key files against careless permissions.

use std::os::unix::fs::PermissionsExt;

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

#[test]
fn public_tunnel_keys_are_those_of_rfc_7748() {
    let vectors = [
        (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        ),
        (
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
        ),
    ];
    for (secret, public) in vectors {
        let [secret, public] = [secret, public].map(|hex| HEXLOWER.decode(hex.as_bytes()).unwrap());
        let key = TunnelKey::from_base64(&BASE64.encode(&secret)).unwrap();
        assert_eq!(key.public().to_string(), BASE64.encode(&public));
        let clamped = TunnelKey::from_bytes(&secret.try_into().unwrap());
        assert_eq!(clamped.public(), key.public());
    }
}

#[test]
fn tunnel_keys_are_clamped_as_wg_genkey_does() {
    let key = BASE64
        .decode(TunnelKey::generate().to_base64().as_bytes())
        .unwrap();
    assert_eq!((key[0] & 7, key[31] & 0xc0), (0, 0x40));
}

#[test]
fn key_files_hold_one_line_for_the_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wg.key");
    let key = TunnelKey::generate();
    key.store(&path).unwrap();
    assert_eq!(
        fs::read_to_string(&path).unwrap(),
        format!("{}\n", &*key.to_base64())
    );
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(TunnelKey::load(&path).unwrap().public(), key.public());
}

#[test]
fn signing_keys_survive_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let (node, admin) = (NodeKey::generate(), AdminKey::generate());
    node.store(&dir.path().join("node.key")).unwrap();
    admin.store(&dir.path().join("admin.key")).unwrap();
    assert_eq!(
        NodeKey::load(&dir.path().join("node.key")).unwrap().id(),
        node.id()
    );
    assert_eq!(
        AdminKey::load(&dir.path().join("admin.key"))
            .unwrap()
            .public(),
        admin.public()
    );
}

#[test]
fn a_key_file_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    let first = NodeKey::generate();
    first.store(&path).unwrap();
    assert!(matches!(
        NodeKey::generate().store(&path),
        Err(KeyError::Io { .. })
    ));
    assert_eq!(NodeKey::load(&path).unwrap().id(), first.id());
}

#[test]
fn a_key_file_that_others_may_read_is_refused_with_the_mending_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    NodeKey::generate().store(&path).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refusal = NodeKey::load(&path).unwrap_err().to_string();
        assert!(refusal.contains(&format!("mode {mode:04o}")), "{refusal}");
        assert!(
            refusal.contains(&format!("chmod 600 {}", path.display())),
            "{refusal}"
        );
    }
}

#[test]
fn a_file_with_something_else_is_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    for text in [
        "",
        "hello",
        &"A".repeat(44),
        &BASE64.encode(&[1; 33]),
        &"A".repeat(10_000),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(
            matches!(NodeKey::load(&path), Err(KeyError::NotAKey { .. })),
            "{text}"
        );
    }
}

#[test]
fn debug_prints_no_secret() {
    let (node, admin, tunnel) = (
        NodeKey::from_seed(&[9; 32]),
        AdminKey::from_seed(&[9; 32]),
        TunnelKey::generate(),
    );
    let text = format!("{node:?} {admin:?} {tunnel:?}");
    assert!(
        !text.contains("9, 9") && !text.contains("0909") && !text.contains(&*tunnel.to_base64()),
        "{text}"
    );
}

#[test]
fn small_order_keys_sign_nothing() {
    // The identity point as key and R, with S zero, satisfies the plain equation for every message.
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    assert!(!verify(&identity, b"anything", &signature));
}

proptest! {
    #[test]
    fn signatures_hold_for_their_message_alone(seed: [u8; 32], message: Vec<u8>, bit in 0_usize..512) {
        let key = NodeKey::from_seed(&seed);
        let mut signature = key.sign(&message);
        prop_assert!(verify(&key.public(), &message, &signature));
        prop_assert!(!verify(&key.public(), &[&message[..], b"x"].concat(), &signature));
        signature[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!verify(&key.public(), &message, &signature));
    }

    #[test]
    fn tunnel_keys_survive_base64(secret: [u8; 32]) {
        let key = TunnelKey::from_bytes(&secret);
        let text = format!(" {}\n", &*key.to_base64());
        prop_assert_eq!(TunnelKey::from_base64(&text).unwrap().public(), key.public());
        let public = key.public();
        prop_assert_eq!(TunnelPublic::from_base64(&public.to_string()).unwrap(), public);
    }
}

#[test]
fn a_replaced_key_is_kept_beside_the_new_one_and_both_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wg.key");
    let first = TunnelKey::generate();
    first.store(&path).unwrap();
    assert!(TunnelKey::load_previous(&path).unwrap().is_empty());

    let second = TunnelKey::rotate(&path).unwrap();
    let third = TunnelKey::rotate(&path).unwrap();

    assert_eq!(TunnelKey::load(&path).unwrap().public(), third.public());
    let previous = TunnelKey::load_previous(&path).unwrap();
    let publics: Vec<_> = previous.iter().map(|p| p.key.public()).collect();
    assert_eq!(publics, [second.public(), first.public()]);
    let previous = &previous[0];
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    assert!(previous.replaced_ms <= now && now - previous.replaced_ms < 60_000);
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600);
        entry.file_name().into_string().unwrap()
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(
        names,
        ["wg.key", "wg.key.previous", "wg.key.previous-2"],
        "nothing half written stays"
    );
    // A power cut between the two files leaves one key in both.
    fs::copy(&path, path.with_extension("key.previous")).unwrap();
    TunnelKey::rotate(&path).unwrap();
    let kept = TunnelKey::load_previous(&path).unwrap();
    let publics: Vec<_> = kept.iter().map(|p| p.key.public()).collect();
    assert_eq!(publics, [third.public(), first.public()]);
    for _ in 0..9 {
        TunnelKey::rotate(&path).unwrap();
    }
    assert_eq!(
        TunnelKey::load_previous(&path).unwrap().len(),
        MOST_PREVIOUS
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), MOST_PREVIOUS + 1);
}

#[test]
fn a_key_laid_by_changes_nothing_until_it_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wg.key");
    let first = TunnelKey::generate();
    first.store(&path).unwrap();
    let files = || fs::read_dir(dir.path()).unwrap().count();

    TunnelKey::lay_by(&path).unwrap();
    TunnelKey::drop_next(&path).unwrap();
    assert_eq!(TunnelKey::load(&path).unwrap().public(), first.public());
    assert_eq!(files(), 1);

    let second = TunnelKey::lay_by(&path).unwrap();
    TunnelKey::take_up(&path).unwrap();
    assert_eq!(TunnelKey::load(&path).unwrap().public(), second.public());
    let third = TunnelKey::lay_by(&path).unwrap();
    TunnelKey::put_next(&path).unwrap();
    assert_eq!(TunnelKey::load(&path).unwrap().public(), third.public());
    let previous = TunnelKey::load_previous(&path).unwrap();
    let publics: Vec<_> = previous.iter().map(|p| p.key.public()).collect();
    assert_eq!(publics, [first.public()], "the second was not heard of");
    assert_eq!(files(), 2);
}
