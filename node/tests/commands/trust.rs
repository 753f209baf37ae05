//! Who belongs and who decides, where no node runs: admins, recovery words, names, farewells.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::home::{Home, admin_keys, err, out};

fn founded() -> Home {
    let home = Home::new();
    home.ok("a", &["init", "--name", "attic"], "");
    home
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Label, rank and standing of each admin.
fn admins(home: &Home) -> Vec<(String, u64, bool)> {
    let listed = home.ok("a", &["admin", "list", "--json"], "");
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let line = |admin: &Value| {
        let label = admin["label"].as_str().unwrap_or_default().to_owned();
        let rank = admin["rank"].as_u64().unwrap_or(99);
        (label, rank, admin["revoked"].is_null())
    };
    listed.as_array().into_iter().flatten().map(line).collect()
}

fn admin(label: &str, rank: u64, in_force: bool) -> (String, u64, bool) {
    (label.to_owned(), rank, in_force)
}

#[test]
fn a_second_admin_decides_below_the_first_and_is_revoked_by_it_alone() {
    let home = founded();
    let key = home.path().join("ann.key");
    let added = home.run("a", &["admin", "add", "ann", "--out", text(&key)], "");
    assert_eq!(out(&added), "ann decides from now on, with rank 2\n");
    assert!(
        err(&added).contains(&format!("\nits key is in {}: move it to ", key.display())),
        "{}",
        err(&added)
    );
    let mode = std::fs::metadata(&key)
        .expect("the key")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let ann = ["--admin-key", text(&key)];
    assert_eq!(
        home.ok("a", &["set", "site=home", ann[0], ann[1]], ""),
        "every node: site=home\n"
    );
    let (code, said) = home.fails("a", &["admin", "revoke", "admin", ann[0], ann[1]], "");
    assert_eq!(code, 1);
    assert!(said.contains("admin has rank 1 and you have 2"), "{said}");
    let twice = ["admin", "add", "ann", "--out", "/nowhere/key"];
    let (code, said) = home.fails("a", &twice, "");
    assert_eq!(
        (code, said.as_str()),
        (1, "outlast: an admin called ann exists already\n")
    );

    let revoked = ["admin", "revoke", "ann", "--reason", "moved out"];
    assert_eq!(home.ok("a", &revoked, ""), "ann decides no more\n");
    assert_eq!(
        admins(&home),
        [admin("admin", 1, true), admin("ann", 2, false)]
    );
    let list = home.ok("a", &["admin", "list"], "");
    assert!(
        list.contains("revoked by admin at ") && list.contains(": moved out"),
        "{list}"
    );
    let (code, said) = home.fails("a", &["set", "site=roof", ann[0], ann[1]], "");
    assert_eq!(code, 1);
    assert!(
        said.contains("this admin key was revoked by admin at "),
        "{said}"
    );
}

#[test]
fn a_key_is_made_where_its_owner_is_and_only_its_public_half_travels() {
    let home = founded();
    let keys = admin_keys(&home);
    let own = home.ok("a", &["admin", "key"], "");
    assert_eq!(
        home.ok("a", &["admin", "key"], ""),
        own,
        "there is one already"
    );
    assert_eq!(admin_keys(&home), keys);

    // Ann works on a machine of the same mesh and has a configuration of her own.
    let ann = home.path().join("ann");
    let key = home
        .command("a", &["admin", "key"])
        .env("XDG_CONFIG_HOME", &ann)
        .output()
        .expect("start the program");
    let public = out(&key);
    assert!(public.starts_with("oa1") && public != own, "{public}");
    assert!(
        err(&key).contains("it decides nothing in mesh home until an admin says"),
        "{}",
        err(&key)
    );
    assert_eq!(
        home.ok("a", &["admin", "add", "ann", public.trim()], ""),
        "ann decides from now on, with rank 2\n"
    );
    let set = home
        .command("a", &["set", "site=home"])
        .env("XDG_CONFIG_HOME", &ann)
        .output()
        .expect("start the program");
    assert_eq!(out(&set), "every node: site=home\n", "{}", err(&set));
    let resigned = home
        .command("a", &["admin", "revoke", &public.trim()[..12]])
        .env("XDG_CONFIG_HOME", &ann)
        .output()
        .expect("start the program");
    assert_eq!(
        out(&resigned),
        "ann decides no more\n",
        "{}",
        err(&resigned)
    );
}

#[test]
fn the_recovery_words_make_a_new_admin_and_revoke_the_lost_one() {
    let home = Home::new();
    let words = home.path().join("words");
    home.ok(
        "a",
        &["init", "--name", "attic", "--recovery-out", text(&words)],
        "",
    );
    let [lost] = &admin_keys(&home)[..] else {
        panic!("one admin key")
    };
    let (code, said) = home.fails("a", &["recover", "--words-file", text(&words)], "");
    assert_eq!(code, 1);
    assert!(
        said.contains("holds an admin key of this mesh already"),
        "{said}"
    );
    std::fs::remove_file(lost).expect("lose the key");

    let typed = std::fs::read_to_string(&words).expect("the words");
    let other = "abandon ".repeat(23) + "art";
    let (code, said) = home.fails("a", &["recover"], &other);
    assert_eq!(code, 1);
    assert!(
        said.starts_with("outlast: these words are none of mesh home; "),
        "{said}"
    );
    let done = home.run("a", &["recover", "--revoke", "admin"], &typed);
    assert_eq!(
        out(&done),
        format!(
            "new admin key recovered of mesh home: {}\nadmin decides no more\n",
            lost.display()
        ),
        "{}",
        err(&done)
    );
    for word in typed.split_whitespace() {
        assert!(
            word.len() < 5 || !err(&done).contains(word),
            "a word of the secret is told"
        );
    }
    assert_eq!(
        admins(&home),
        [
            admin("recovery", 0, true),
            admin("admin", 1, false),
            admin("recovered", 1, true)
        ]
    );
    assert_eq!(
        home.ok("a", &["set", "site=home"], ""),
        "every node: site=home\n"
    );
}

#[test]
fn a_mesh_without_recovery_words_gets_some_later() {
    let home = founded();
    let words = home.path().join("words");
    let setup = ["recover", "--setup", "--recovery-out", text(&words)];
    assert_eq!(
        home.ok("a", &setup, ""),
        "the mesh has recovery words now, called recovery\n"
    );
    let (code, said) = home.fails("a", &setup, "");
    assert_eq!(code, 1);
    assert!(
        said.starts_with("outlast: the mesh has recovery words; "),
        "{said}"
    );
    for key in admin_keys(&home) {
        std::fs::remove_file(key).expect("lose the key");
    }
    let typed = std::fs::read_to_string(&words).expect("the words");
    home.ok("a", &["recover", "--label", "ann"], &typed);
    assert_eq!(
        admins(&home),
        [
            admin("admin", 1, true),
            admin("recovery", 2, true),
            admin("ann", 3, true)
        ]
    );
}

#[test]
fn a_node_is_renamed_and_found_by_its_new_name() {
    let home = founded();
    let renamed = home.run("a", &["rename", "attic", "roof"], "");
    assert_eq!(
        out(&renamed),
        "attic is called roof from now on\n",
        "{}",
        err(&renamed)
    );
    assert_eq!(
        err(&renamed),
        "no node runs here: the others hear of it once `outlast up` does\n"
    );
    let members: Value =
        serde_json::from_str(&home.ok("a", &["members", "--json"], "")).expect("JSON");
    assert_eq!(members[0]["name"], "roof");
    assert_eq!(
        home.ok("a", &["rename", "roof", "roof"], ""),
        "roof is called so already\n"
    );
    assert_eq!(home.fails("a", &["rename", "attic", "cellar"], "").0, 2);
}

#[test]
fn one_that_is_alone_leaves_and_its_directory_is_ready_for_another_mesh() {
    let home = founded();
    let left = home.run("a", &["leave"], "");
    assert_eq!(out(&left), "left mesh home\n", "{}", err(&left));
    let former = home.state("a").join("former");
    let [aside] = &std::fs::read_dir(&former)
        .expect("put aside")
        .flatten()
        .collect::<Vec<_>>()[..]
    else {
        panic!("one former membership")
    };
    let said = home.ok(
        "a",
        &["--state-dir", text(&aside.path()), "members", "--json"],
        "",
    );
    let members: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(members[0]["name"], "attic", "what it knew is still told");
    assert_eq!(
        home.ok("a", &["init", "--mesh", "other"], "")
            .lines()
            .count(),
        1
    );
    assert_eq!(
        home.ok("a", &["approve", "--json"], ""),
        json!([]).to_string() + "\n"
    );
}

#[test]
fn a_tunnel_key_is_replaced_and_the_one_before_stays_beside_it_for_its_owner_only() {
    let home = founded();
    let read = |name: &str| std::fs::read_to_string(home.state("a").join(name)).expect("a key");
    let before = read("wg.key");
    let rotated = home.run("a", &["rotate-key"], "");
    let public = home.ok("a", &["pubkey"], &read("wg.key"));
    assert_eq!(
        out(&rotated),
        format!("the tunnel key is {} from now on\n", public.trim())
    );
    assert!(
        err(&rotated).starts_with("the others hear of it once `outlast up` does"),
        "{}",
        err(&rotated)
    );
    assert_eq!(read("wg.key.previous"), before);
    for name in ["wg.key", "wg.key.previous"] {
        let mode = std::fs::metadata(home.state("a").join(name))
            .expect("a key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_key_that_others_may_know_is_not_pushed_out_by_changes_they_can_t_hear_of() {
    let home = founded();
    for _ in 0..4 {
        home.ok("a", &["rotate-key"], "");
    }
    let key = home.state("a").join("wg.key");
    let before = std::fs::read(&key).expect("a key");
    let (code, said) = home.fails("a", &["rotate-key"], "");
    assert_eq!(code, 1);
    assert!(
        said.contains("one which others may know would go: start the node with `outlast up`"),
        "{said}"
    );
    assert_eq!(std::fs::read(&key).expect("a key"), before);
}

#[test]
fn what_a_key_may_is_told_as_it_is() {
    let home = founded();
    let key = home.run("a", &["admin", "key"], "");
    assert!(
        err(&key).ends_with("it decides in mesh home, with rank 1\n"),
        "{}",
        err(&key)
    );
    let ann = home.path().join("ann.key");
    home.ok("a", &["admin", "add", "ann", "--out", text(&ann)], "");
    let early = ["admin", "revoke", "ann", "--since", "2"];
    let (code, said) = home.fails("a", &early, "");
    assert_eq!(code, 2);
    assert!(said.contains("is before mesh home was founded"), "{said}");
}

#[test]
fn four_letters_of_an_invite_close_it_and_fewer_do_not() {
    let home = founded();
    home.ok("a", &["invite"], "");
    let listed = home.ok("a", &["invite", "--list", "--json"], "");
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let id = listed[0]["id"].as_str().expect("an id").to_owned();
    let (code, said) = home.fails("a", &["invite", "--revoke", &id[..3]], "");
    assert_eq!(code, 2);
    assert!(said.contains("4 letters of an invite's id"), "{said}");
    home.ok("a", &["invite", "--revoke", &id[..4]], "");
}

#[test]
fn who_recovers_is_told_which_keys_are_still_in_force() {
    let home = Home::new();
    let words = home.path().join("words");
    home.ok("a", &["init", "--recovery-out", text(&words)], "");
    let recover = |more: &[&str]| {
        for key in admin_keys(&home) {
            std::fs::remove_file(key).expect("lose the key");
        }
        let all = [&["recover", "--words-file", text(&words)], more].concat();
        home.run("a", &all, "")
    };
    let done = recover(&["--label", "ann"]);
    assert!(
        err(&done).contains("still in force: admin; "),
        "{}",
        err(&done)
    );
    let done = recover(&["--label", "bob", "--revoke", "ann", "--revoke", "admin"]);
    assert!(!err(&done).contains("in force"), "{}", err(&done));
    let key = recover(&["--admin-key", text(&words)]);
    assert_eq!(key.status.code(), Some(2), "{}", err(&key));
}

#[test]
fn where_no_words_are_shown_the_way_to_them_is() {
    let home = Home::new();
    let begun = home.run("a", &["init"], "");
    assert!(
        err(&begun).contains("no recovery words were made, ")
            && err(&begun).contains("`outlast recover --setup`"),
        "{}",
        err(&begun)
    );
}

#[test]
fn a_key_gets_a_passphrase_another_and_none_again_and_signs_with_each() {
    let home = founded();
    let [key] = &admin_keys(&home)[..] else {
        panic!("one key")
    };
    let plain = std::fs::read_to_string(key).expect("the key");
    let file = |name: &str, passphrase: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, passphrase).expect("write it");
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, private).expect("keep it private");
        text(&path).to_owned()
    };
    let (one, other) = (
        file("one", "correct horse\n"),
        file("other", "battery staple\n"),
    );
    let public = home.ok("a", &["admin", "key"], "");

    // Through a link the key itself is sealed, and the link stays one.
    let kept = home.path().join("kept.key");
    std::fs::rename(key, &kept).expect("keep it elsewhere");
    std::os::unix::fs::symlink(&kept, key).expect("link to it");
    let seal = ["admin", "key", "--passphrase-file", &one];
    assert_eq!(home.ok("a", &seal, ""), public);
    let sealed = std::fs::read_to_string(&kept).expect("the key");
    assert!(sealed.starts_with("outlast-sealed-key-1 "), "{sealed}");
    assert_eq!(home.ok("a", &["admin", "key"], ""), public, "unasked");
    let mode = std::fs::metadata(key)
        .expect("the key")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let set =
        |passphrase: &str| ["set", "site=x", "--passphrase-file", passphrase].map(str::to_owned);
    let set_by =
        |passphrase: &str| home.run("a", &set(passphrase).each_ref().map(String::as_str), "");
    assert!(set_by(&one).status.success());
    let wrong = set_by(&other);
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(
        err(&wrong),
        format!(
            "outlast: this is not the passphrase of the admin key {}; nothing was changed; look at the first line of {other}\n",
            key.display()
        )
    );

    let again = [&seal[..3], &[&other, "--old-passphrase-file", &one]].concat();
    assert_eq!(home.ok("a", &again, ""), public);
    assert!(set_by(&other).status.success());
    assert_eq!(set_by(&one).status.code(), Some(1));

    let lifted = ["admin", "key", "--no-passphrase", "--old-passphrase-file"];
    let (code, _) = home.fails("a", &[&lifted[..], &[&one]].concat(), "");
    assert_eq!(code, 1);
    assert_eq!(home.ok("a", &[&lifted[..], &[&other]].concat(), ""), public);
    assert_eq!(std::fs::read_to_string(key).expect("the key"), plain);
    home.ok("a", &["set", "site=y"], "");
}

#[test]
fn an_admin_who_got_another_key_is_revoked_by_name_and_only_once() {
    let home = founded();
    for number in ["1", "2"] {
        let key = home.path().join(number);
        home.ok("a", &["admin", "add", "ann", "--out", text(&key)], "");
        let revoked = home.ok("a", &["admin", "revoke", "ann"], "");
        assert_eq!(revoked, "ann decides no more\n", "{number}");
    }
    let one = home.ok("a", &["admin", "list", "--json"], "");
    let one: Value = serde_json::from_str(&one).expect("JSON");
    let key = one[1]["key"].as_str().expect("its key");
    let (code, said) = home.fails("a", &["admin", "revoke", key], "");
    assert_eq!(code, 1);
    assert!(
        said.starts_with("outlast: ann was revoked already, by admin at "),
        "{said}"
    );
    let (code, said) = home.fails("a", &["admin", "revoke", ""], "");
    assert_eq!(code, 2);
    assert!(said.contains("no admin is called \"\""), "{said}");
}

#[test]
fn an_admin_of_the_last_rank_is_told_that_it_makes_none() {
    let home = founded();
    let key = home.path().join("bob");
    let add = ["admin", "add", "bob", "--rank", "255", "--out", text(&key)];
    home.ok("a", &add, "");
    let (code, said) = home.fails(
        "a",
        &[
            "admin",
            "add",
            "cy",
            "--out",
            "/tmp/none",
            "--admin-key",
            text(&key),
        ],
        "",
    );
    assert_eq!(code, 1);
    assert!(
        said.contains("there is no rank below its own, 255"),
        "{said}"
    );
}

#[test]
fn one_key_on_two_nodes_that_do_not_hear_each_other_gives_no_number_twice() {
    let home = founded();
    copy(&home.state("a"), &home.state("b"));
    home.ok("a", &["set", "site=one"], "");
    let there = home.run("b", &["set", "site=two"], "");
    assert_eq!(out(&there), "every node: site=two, was one\n");
    assert!(
        err(&there).contains("what this key signed on another node had not come here yet"),
        "{}",
        err(&there)
    );
    let here = home.run("a", &["set", "metered=on"], "");
    assert!(here.status.success(), "{}", err(&here));
    for node in ["a", "b"] {
        // The second is told what only the first heard of by what is said there next.
        home.ok(node, &["set", "may-be-off=on"], "");
        let list = home.ok(node, &["admin", "list", "--json"], "");
        let list: Value = serde_json::from_str(&list).expect("JSON");
        assert_eq!(list[0]["in_two_places"], false, "{list}");
        let set = home.ok(node, &["get"], "");
        assert!(set.contains("two"), "{set}");
    }
}

#[test]
fn a_node_that_lacks_more_than_the_key_keeps_is_refused_with_what_to_do() {
    let home = founded();
    copy(&home.state("a"), &home.state("b"));
    for number in 0..33 {
        home.ok("a", &["set", &format!("site=s{number}")], "");
    }
    let (code, said) = home.fails("b", &["set", "site=two"], "");
    assert_eq!(code, 1);
    assert!(said.contains("elsewhere and only"), "{said}");
    assert!(said.contains("let this node meet one"), "{said}");
}

#[test]
fn what_falls_with_an_admin_is_told() {
    let home = founded();
    let before = outlast_now().to_string();
    let key = home.path().join("ann.key");
    home.ok("a", &["admin", "add", "ann", "--out", text(&key)], "");
    let ann = ["--admin-key", text(&key)];
    home.ok("a", &["set", "site=thief", ann[0], ann[1]], "");
    let bob = home.path().join("bob.key");
    let add = ["admin", "add", "bob", "--out", text(&bob), ann[0], ann[1]];
    home.ok("a", &add, "");
    home.ok("a", &["invite", ann[0], ann[1]], "");
    let revoked = home.ok("a", &["admin", "revoke", "ann", "--since", &before], "");
    let lines: Vec<&str> = revoked.lines().collect();
    assert_eq!(lines[0], "ann decides no more");
    assert!(
        lines[1].starts_with("tokens that admit nobody more: "),
        "{revoked}"
    );
    assert_eq!(lines[2], "decide no more either: bob");
    assert_eq!(lines[3], "every node: site is not set, no longer thief");
    assert_eq!(lines.len(), 4);
}

fn outlast_now() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_millis()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("make a directory");
    for entry in std::fs::read_dir(from).expect("list it").flatten() {
        let (path, name) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &name);
        } else {
            std::fs::copy(path, name).expect("copy a file");
        }
    }
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(to, private).expect("keep it private");
}

#[test]
fn a_key_that_nobody_made_an_admin_is_told_what_to_ask_for() {
    let home = founded();
    let [key] = &admin_keys(&home)[..] else {
        panic!("one key")
    };
    std::fs::remove_file(key).expect("take the key away");
    let public = home.ok("a", &["admin", "key"], "");
    for command in [&["set", "site=x"][..], &["invite"]] {
        let (code, said) = home.fails("a", command, "");
        assert_eq!(code, 1);
        assert_eq!(
            said,
            format!(
                "outlast: this admin key decides nothing in mesh home; an admin changes that: outlast admin add LABEL {public}"
            )
        );
    }
}
