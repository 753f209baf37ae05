//! Keys, founding, tokens: what commands do to a state directory that no node runs on.

use std::os::unix::fs::PermissionsExt;

use crate::home::{Home, admin_keys, err, out};

#[test]
fn a_public_key_follows_from_the_private_one_as_wireguard_has_it() {
    let home = Home::new();
    // Alice and Bob of RFC 7748, section 6.1.
    let pairs = [
        (
            "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=",
            "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=",
        ),
        (
            "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=",
            "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=",
        ),
    ];
    for (private, public) in pairs {
        assert_eq!(
            home.ok("a", &["pubkey"], &format!("{private}\n")),
            format!("{public}\n")
        );
    }
    let private = home.ok("a", &["genkey"], "");
    assert_eq!(private.len(), 45);
    assert_eq!(home.ok("a", &["pubkey"], &private).len(), 45);
    assert!(!home.state("a").exists(), "keys on stdout need no state");
}

#[test]
fn what_is_no_key_is_refused() {
    let home = Home::new();
    assert_eq!(
        home.fails("a", &["pubkey"], "hello\n"),
        (1, "outlast: the private key on standard input: not a key: 44 base64 letters, as `wg genkey` writes them, are needed\n".to_owned())
    );
}

#[test]
fn an_unknown_key_in_the_configuration_stops_everything() {
    let home = Home::new();
    let file = home.path().join("outlast.toml");
    std::fs::write(&file, "listen = \"0.0.0.0:7000\"\nlisten_on = 1\n").unwrap();
    let file = file.to_str().unwrap();
    for command in ["up", "init", "check-config"] {
        let (code, said) = home.fails("a", &[command, "--config", file], "");
        assert_eq!(code, 1);
        assert!(
            said.starts_with(&format!(
                "outlast: configuration {file}: line 2, column 1: unknown key `listen_on`; did you mean `listen`?"
            )),
            "{said}"
        );
    }
}

#[test]
fn a_mesh_is_founded_once() {
    let home = Home::new();
    let founded = home.ok("a", &["init", "--name", "attic", "--mesh", "home"], "");
    assert_eq!(founded, "founded mesh home, this node is attic\n");
    let members: serde_json::Value =
        serde_json::from_str(&home.ok("a", &["members", "--json"], "")).unwrap();
    assert_eq!(members[0]["name"], "attic");
    assert_eq!(members.as_array().unwrap().len(), 1);

    let before = std::fs::read(home.state("a").join("statements.log")).unwrap();
    let (code, said) = home.fails("a", &["init", "--mesh", "other"], "");
    assert_eq!(
        (code, said),
        (
            1,
            format!(
                "outlast: {} belongs to mesh home already; name an empty directory with --state-dir to found another\n",
                home.state("a").display()
            )
        )
    );
    assert_eq!(
        std::fs::read(home.state("a").join("statements.log")).unwrap(),
        before
    );
    assert_eq!(admin_keys(&home).len(), 1);
}

#[test]
fn a_damaged_file_of_statements_is_neither_emptied_nor_founded_over() {
    let home = Home::new();
    home.ok("a", &["init"], "");
    let log = home.state("a").join("statements.log");
    let whole = std::fs::read(&log).unwrap();
    let (members, init, up) = (vec!["members"], vec!["init"], vec!["up"]);
    for damaged in [&whole[..100], &[][..]] {
        std::fs::write(&log, damaged).unwrap();
        for command in [&members, &init, &up] {
            let (code, said) = home.fails("a", command, "");
            assert_eq!(code, 1, "{command:?}: {said}");
            let told = said
                .lines()
                .last()
                .is_some_and(|line| line.contains("statements.log is damaged; move it elsewhere"));
            assert!(told, "{command:?}: {said}");
            assert_eq!(std::fs::read(&log).unwrap(), damaged, "{command:?}");
        }
    }
    assert_eq!(admin_keys(&home).len(), 1);
}

#[test]
fn without_a_place_for_the_admin_key_nothing_is_begun() {
    let home = Home::new();
    std::fs::write(home.path().join(".config"), "a file").unwrap();
    let words = home.path().join("words");
    let (code, said) = home.fails(
        "a",
        &["init", "--recovery-out", words.to_str().unwrap()],
        "",
    );
    assert_eq!(code, 1);
    assert!(said.contains("for the admin key"), "{said}");
    assert!(!words.exists());
    assert!(!home.state("a").exists());
}

#[test]
fn a_query_about_nobody_is_told_so_and_a_glob_may_match_nothing() {
    let home = Home::new();
    home.ok("a", &["init", "--name", "attic"], "");
    let query = |node, shape| ["query", "--series", "*", "--node", node, shape].map(str::to_owned);
    let fails = |node| {
        let line = query(node, "--csv");
        home.fails("a", &line.each_ref().map(String::as_str), "")
    };
    for nobody in ["atic", "", "a\u{1b}"] {
        let (code, said) = fails(nobody);
        assert_eq!(code, 2, "{nobody:?}: {said}");
        assert!(said.starts_with("outlast: no node is called "), "{said}");
    }
    let (code, said) = fails("[a");
    assert_eq!(code, 2);
    assert!(said.starts_with("outlast: --node [a: "), "{said}");
    for some in ["attic", "at*", "x*"] {
        let line = query(some, "--csv");
        assert_eq!(
            home.ok("a", &line.each_ref().map(String::as_str), ""),
            "time_ms,time,node,series,unit,value\n"
        );
    }
}

#[test]
fn a_named_configuration_must_exist_whatever_the_command() {
    let home = Home::new();
    for command in ["status", "members", "genkey", "dashboard"] {
        let (code, said) = home.fails("a", &["--config", "/nowhere/outlast.toml", command], "");
        assert_eq!(code, 1, "{command}: {said}");
        assert!(
            said.starts_with("outlast: read configuration /nowhere/outlast.toml: "),
            "{said}"
        );
    }
}

#[test]
fn a_member_given_a_token_of_its_own_mesh_has_nothing_to_do() {
    let home = Home::new();
    let token = home.ok(
        "a",
        &[
            "init",
            "--name",
            "attic",
            "--invite",
            "1",
            "--listen",
            "192.0.2.1:7000",
        ],
        "",
    );
    assert_eq!(
        home.ok("a", &["join", "--name", "other"], &token),
        "nothing to do, this node is in mesh home as attic; members: attic\n"
    );
}

#[test]
fn what_init_leaves_is_for_its_owner_only() {
    let home = Home::new();
    let words = home.path().join("words");
    home.ok(
        "a",
        &["init", "--recovery-out", words.to_str().unwrap()],
        "",
    );
    let state = home.state("a");
    let mut secret = vec![state.join("node.key"), state.join("wg.key"), words];
    secret.extend(admin_keys(&home));
    assert_eq!(secret.len(), 4);
    for path in secret {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    assert_eq!(
        std::fs::metadata(&state).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[test]
fn a_directory_of_something_else_is_not_taken() {
    let home = Home::new();
    std::fs::create_dir(home.state("a")).unwrap();
    std::fs::write(home.state("a").join("thesis.txt"), "chapter one").unwrap();
    let (code, said) = home.fails("a", &["init"], "");
    assert_eq!(code, 1);
    assert!(
        said.contains("holds \"thesis.txt\" and is no state directory of outlast"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(home.state("a")).unwrap().count(), 1);
    assert_eq!(admin_keys(&home).len(), 0);
}

#[test]
fn a_token_is_printed_alone_and_explained_beside_it() {
    let home = Home::new();
    let listen = ["--listen", "192.0.2.1:7000"];
    let output = home.run("a", &["init", "--invite", "2", listen[0], listen[1]], "");
    assert!(output.status.success(), "{}", err(&output));
    let token = out(&output);
    assert!(
        token.starts_with("ol1") && token.lines().count() == 1,
        "{token}"
    );
    let said = err(&output);
    assert!(
        said.contains("admits 2 machines to mesh home until"),
        "{said}"
    );
    assert!(said.contains("every member can read everything"), "{said}");

    let invited = home.ok(
        "a",
        &[
            "invite",
            "--expires",
            "2h",
            "--uses",
            "3",
            "--json",
            listen[0],
            listen[1],
        ],
        "",
    );
    let invited: serde_json::Value = serde_json::from_str(&invited).unwrap();
    assert_eq!(invited["uses"], 3);
    assert!(invited["token"].as_str().unwrap().starts_with("ol1"));
    assert!(invited["expires_ms"].as_i64().unwrap() > 1_700_000_000_000);
}

#[test]
fn without_the_admin_key_nobody_is_invited() {
    let home = Home::new();
    home.ok("a", &["init"], "");
    let [key] = &admin_keys(&home)[..] else {
        panic!("one admin key")
    };
    std::fs::remove_file(key).unwrap();
    assert_eq!(
        home.fails("a", &["invite", "--listen", "192.0.2.1:7000"], ""),
        (
            1,
            format!(
                "outlast: no admin key of mesh home at {}; it was made where `outlast init` ran, by that user: run this there\n",
                key.display()
            )
        )
    );
}

#[test]
fn an_altered_token_is_refused_and_leaves_nothing() {
    let home = Home::new();
    let token = home.ok(
        "a",
        &["init", "--invite", "1", "--listen", "192.0.2.1:7000"],
        "",
    );
    let mut letters: Vec<char> = token.trim().chars().collect();
    let middle = letters.len() / 2;
    letters[middle] = if letters[middle] == 'a' { 'b' } else { 'a' };
    let altered: String = letters.into_iter().collect();
    let refused = "outlast: the token was altered: its checksum does not fit; copy it again\n";
    assert_eq!(
        home.fails("b", &["join"], &altered),
        (1, refused.to_owned())
    );
    let file = home.path().join("token");
    std::fs::write(&file, &altered).unwrap();
    assert_eq!(
        home.fails("b", &["join", "--token-file", file.to_str().unwrap()], ""),
        (1, refused.to_owned())
    );
    assert!(!home.state("b").exists(), "half joined");
    assert_eq!(home.fails("b", &["join"], "hello").0, 1);
}

#[test]
fn a_member_refuses_the_token_of_another_mesh() {
    let home = Home::new();
    let token = home.ok(
        "a",
        &["init", "--invite", "1", "--listen", "192.0.2.1:7000"],
        "",
    );
    // Of the same name, as meshes that nobody named are.
    home.ok("b", &["init"], "");
    let (code, said) = home.fails("b", &["join"], &token);
    assert_eq!(code, 1);
    let ids: std::collections::BTreeSet<&str> = said
        .split(['(', ')'])
        .filter(|part| part.len() == 8 && !part.contains(' '))
        .collect();
    assert_eq!(ids.len(), 2, "{said}");
    for id in ids {
        let known = admin_keys(&home).iter().any(|key| {
            key.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(id))
        });
        assert!(known, "{id} in {said}");
    }
}

#[test]
fn a_state_directory_may_be_named_by_a_link_or_from_where_one_stands() {
    let home = Home::new();
    std::fs::create_dir(home.path().join("disk")).unwrap();
    std::os::unix::fs::symlink("disk", home.path().join("link")).unwrap();
    let run = |line: &[&str]| {
        let output = home.command("a", line).current_dir(home.path()).output();
        let output = output.expect("start the program");
        assert!(output.status.success(), "{line:?}: {}", err(&output));
        out(&output)
    };
    run(&["--state-dir", "link", "init", "--name", "attic"]);
    for dir in ["link", "disk", "./disk/", "disk/../link"] {
        let members = run(&["--state-dir", dir, "members"]);
        assert!(members.contains("\nattic "), "{dir}: {members}");
    }
    assert!(home.path().join("link").is_symlink());
    // A very long one is beyond what a socket's address holds, and works all the same.
    let long = home.path().join("x".repeat(200));
    let long = long.to_str().expect("a plain path");
    run(&["--state-dir", long, "init", "--name", "cellar"]);
    assert!(run(&["--state-dir", long, "members"]).contains("\ncellar "));
}
