//! Who belongs and who decides, over real nodes: evicted, retired, renamed, approved, recovered, rotated, left.

use std::io::Read;
use std::process::Child;
use std::time::Duration;

use outlast_tests::{Control, Ledger, Node, Rows, World, now_ms, wait_for};
use serde_json::{Value, json};

use crate::OUTLAST;

/// Statements reach whoever is there within two seconds; a busy machine may take longer.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn an_evicted_node_that_comes_back_is_told_by_whom_when_and_why_and_its_history_stays() {
    let mut world = World::on_loopback(OUTLAST);
    let from_ms = now_ms();
    world.found(&["a", "b", "c"]);
    world.node(0).wait_alive(&["b", "c"], SOON);
    wait_for("rows of c at b", SOON, || {
        let rows = load_of(world.node(1), "c", from_ms);
        (rows >= 3)
            .then_some(())
            .ok_or_else(|| format!("{rows} rows"))
    });
    assert_eq!(world.node_mut(2).stop(), Some(0));

    let evicted = world.node(0).run(&["evict", "c", "--reason", "stolen"]);
    assert_eq!(evicted, "c is evicted: stolen\nconfirmed by b\n");
    let again = world.node(0).try_run(&["evict", "c"], "");
    let again = again.expect_err("it is gone");
    assert!(again.contains("c is gone, evicted by admin at "), "{again}");
    for nobody in ["c1", &id_of(world.node(0), "b")[..3]] {
        let unknown = world.node(1).try_run(&["evict", nobody], "");
        assert!(
            unknown.is_err_and(|said| said.starts_with("exit Some(2)")),
            "{nobody}"
        );
    }

    world.node_mut(2).up();
    let out = wait_out(world.node(2));
    assert!(
        out.starts_with("evicted by admin at ") && out.ends_with(": stolen"),
        "{out}"
    );
    let status = world.node(2).run(&["status"]);
    assert!(
        status.contains("`outlast leave` makes it ready for a new token"),
        "{status}"
    );
    says_nothing_more(world.node(2));
    for node in [0, 1] {
        let members = world.node(node).json(&["members"]);
        let c = named(&members, "c").expect("it is listed still");
        assert_eq!(
            (&c["state"], &c["by"], &c["reason"]),
            (&json!("evicted"), &json!("admin"), &json!("stolen"))
        );
    }
    let held = load_of(world.node(1), "c", from_ms);
    assert!(held >= 3, "its history stays at b: {held} rows");
    assert!(load_of(world.node(2), "c", from_ms) >= 3, "and at itself");

    let token = world.node(0).run(&["invite"]);
    let early = world.node(2).try_run(&["join"], &token);
    let told = "this node belongs to mesh home no more, it was evicted by admin at ";
    assert!(early.is_err_and(|said| said.contains(told)));
    let left = world.node(2).run(&["leave"]);
    assert_eq!(left, "left mesh home\n");
    assert_eq!(world.node_mut(2).ended(), Some(0));
    world.node_mut(2).up();
    let joined = world
        .node(2)
        .run_with_input(&["join", "--name", "c"], &token);
    assert_eq!(joined, "joined mesh home as c; members: a, b, c\n");
}

/// Nothing is signed on a node that is out, for nobody would hear it.
fn says_nothing_more(out: &Node) {
    for command in [
        &["evict", "a"][..],
        &["set", "site=attic"],
        &["rotate-key"],
        &["invite"],
    ] {
        let unheard = out.try_run(command, "");
        let unheard = unheard.expect_err("nobody would hear it");
        assert!(
            unheard.starts_with("exit Some(1)")
                && unheard.contains("this node is no member of mesh home any more"),
            "{command:?}: {unheard}"
        );
    }
}

#[test]
fn an_eviction_with_since_takes_back_whom_the_node_let_in_later_and_nobody_before() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], SOON);
    let mut since = String::new();
    for name in ["c", "d"] {
        since = now_ms().to_string();
        // While the others are down b vouches for who joins; a hears of it when it is back.
        for other in (0..world.nodes().len()).filter(|other| *other != 1) {
            assert_eq!(world.node_mut(other).stop(), Some(0));
        }
        let number = world.add(name);
        world.node_mut(number).up();
        let token = world.node(1).run(&["invite"]);
        world
            .node(number)
            .run_with_input(&["join", "--name", name], &token);
        for other in (0..number).filter(|other| *other != 1) {
            world.node_mut(other).up();
        }
        world.node(0).wait_alive(&["b", "c", "d"][..number], SOON);
    }
    // When it heard of it outlives its process.
    assert_eq!(world.node_mut(0).stop(), Some(0));
    world.node_mut(0).up();
    world.node(0).wait_alive(&["b", "c", "d"], SOON);
    let evict = ["evict", "b", "--since", &since, "--reason", "hacked"];
    let evicted = world.node(0).run(&evict);
    assert!(
        evicted.starts_with(
            "b is evicted: hacked\nmembers no more either, by what it vouched for since then: d\n"
        ),
        "{evicted}"
    );
    let members = world.node(0).json(&["members"]);
    let state = |name| named(&members, name).map(|one| one["state"].clone());
    assert_eq!(state("c"), Some(json!("alive")), "{members}");
    assert_eq!(state("b"), Some(json!("evicted")), "{members}");
    assert_eq!(state("d"), Some(json!("evicted")), "{members}");
    let out = wait_out(world.node(3));
    assert!(
        out.ends_with(": who let it in was evicted or retired by then"),
        "{out}"
    );
    assert_eq!(world.node(3).run(&["leave"]), "left mesh home\n");
}

#[test]
fn a_node_is_renamed_another_retired_and_one_leaves_and_all_the_others_know() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b", "c"]);
    world.node(0).wait_alive(&["b", "c"], SOON);
    let a = world.node(0);
    assert_eq!(
        a.run(&["rename", "b", "roof"]),
        "b is called roof from now on\n"
    );
    wait_for("the new name at c", SOON, || {
        let members = world.node(2).json(&["members"]);
        named(&members, "roof")
            .map(drop)
            .ok_or_else(|| members.to_string())
    });
    let taken = a.try_run(&["rename", "c", "roof"], "");
    assert!(taken.is_err_and(|said| said.contains("roof is the name of ")));

    let retired = a.json(&["retire", "c", "--reason", "sold"]);
    assert_eq!(
        (
            &retired["state"],
            &retired["confirmed"],
            &retired["waiting"]
        ),
        (&json!("retired"), &json!(["roof"]), &json!([])),
        "{retired}"
    );
    let out = wait_out(world.node(2));
    assert!(
        out.starts_with("retired by admin at ") && out.ends_with(": sold"),
        "{out}"
    );

    let left = world.node(1).run(&["leave", "--reason", "moved"]);
    assert_eq!(left, "confirmed by a\nleft mesh home\n");
    assert_eq!(world.node_mut(1).ended(), Some(0));
    let members = world.node(0).json(&["members"]);
    let states =
        ["a", "roof", "c"].map(|name| named(&members, name).map(|one| one["state"].clone()));
    assert_eq!(
        states,
        ["alive", "left", "retired"].map(|state| Some(json!(state))),
        "{members}"
    );
    let listed = world.node(0).run(&["members"]);
    assert!(
        listed.contains(": moved") && listed.contains("by admin at "),
        "{listed}"
    );
    let kept = world.node(1).state.join("former");
    assert_eq!(std::fs::read_dir(kept).expect("put aside").count(), 1);
}

#[test]
fn a_node_waits_until_an_admin_approves_it() {
    let mut world = World::on_loopback(OUTLAST);
    let a = world.add("a");
    world.node_mut(a).up();
    world.node(a).run(&["init", "--name", "a"]);
    let token = world.node(a).run(&["invite", "--approve"]);
    let file = world.dir().join("token");
    std::fs::write(&file, token).expect("keep the token");
    let b = world.add("b");
    world.node_mut(b).up();
    let file = file.to_str().expect("a plain path");
    let joining = world
        .node(b)
        .spawn_with_stderr(&["join", "--name", "b", "--token-file", file]);
    let waiting = wait_for("b to wait", SOON, || {
        let listed = world.node(0).json(&["approve"]);
        named(&listed, "b")
            .cloned()
            .ok_or_else(|| listed.to_string())
    });
    assert_eq!(waiting["sponsor"], "a");
    let id = waiting["id"].as_str().expect("an id").to_owned();
    let told = world.node(0).run(&["status"]);
    assert!(
        told.contains(&format!("b ({}) waits to be approved", &id[..8])),
        "{told}"
    );
    assert!(
        named(&world.node(0).json(&["members"]), "b").is_none(),
        "not yet"
    );

    assert_eq!(
        world.node(0).run(&["approve", "b"]),
        format!("b ({}) is a member\n", &id[..8])
    );
    let (code, out, err) = finished(joining);
    assert_eq!(
        (code, out.as_str()),
        (Some(0), "joined mesh home as b; members: a, b\n"),
        "{err}"
    );
    assert!(err.contains("waits for an admin"), "{err}");
    world.node(0).wait_alive(&["b"], SOON);
}

#[test]
fn an_admin_of_a_lower_rank_decides_on_any_node_until_one_above_takes_it_back() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], SOON);
    let key = world.dir().join("ann.key");
    let key = key.to_str().expect("a plain path");
    world.node(0).run(&["admin", "add", "ann", "--out", key]);
    let b = world.node(1);
    wait_for("ann at b", SOON, || {
        b.try_run(&["set", "site=home", "--admin-key", key], "")
    });
    let above = b.try_run(&["admin", "revoke", "admin", "--admin-key", key], "");
    assert!(above.is_err_and(|said| said.contains("admin has rank 1 and you have 2")));
    let revoked = world.node(0).run(&["admin", "revoke", "ann"]);
    assert_eq!(revoked, "ann decides no more\nconfirmed by b\n");
    let late = b.try_run(&["set", "site=roof", "--admin-key", key], "");
    assert!(late.is_err_and(|said| said.contains("this admin key was revoked by admin at ")));
    assert_eq!(
        b.json(&["get"])["mesh"]["site"],
        "home",
        "what it settled before stands"
    );
}

#[test]
fn the_recovery_words_make_a_new_admin_where_founder_and_key_are_lost() {
    let mut world = World::on_loopback(OUTLAST);
    let words = world.dir().join("words");
    let words = words.to_str().expect("a plain path").to_owned();
    for name in ["a", "b"] {
        let number = world.add(name);
        world.node_mut(number).up();
    }
    let init = [
        "init",
        "--name",
        "a",
        "--invite",
        "1",
        "--recovery-out",
        &words,
    ];
    let token = world.node(0).run(&init);
    world
        .node(1)
        .run_with_input(&["join", "--name", "b"], &token);
    world.node(1).wait_alive(&["a"], SOON);
    world.node_mut(0).kill();
    std::fs::remove_dir_all(&world.node(0).state).expect("destroy the founder");
    std::fs::remove_dir_all(world.dir().join(".config/outlast")).expect("and its key");

    let b = world.node(1);
    let lost = b.try_run(&["invite"], "");
    assert!(lost.is_err_and(|said| said.contains("no admin key of mesh home")));
    let recovered = b.run(&["recover", "--words-file", &words, "--revoke", "admin"]);
    assert!(
        recovered.starts_with("new admin key recovered of mesh home: "),
        "{recovered}"
    );
    assert!(
        recovered.ends_with("\nadmin decides no more\n"),
        "{recovered}"
    );
    b.run(&["retire", "a", "--reason", "burnt"]);
    let token = b.run(&["invite"]);
    let c = world.add("c");
    world.node_mut(c).up();
    let joined = world
        .node(c)
        .run_with_input(&["join", "--name", "c"], &token);
    assert_eq!(joined, "joined mesh home as c; members: b, c\n");
}

#[test]
fn a_tunnel_key_is_rotated_while_rows_flow_and_none_is_missing() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], SOON);
    world.node(1).wait_alive(&["a"], SOON);
    let (at_a, at_b) = (Rows::of(world.node(0), "b"), Rows::of(world.node(1), "a"));
    let first = [&at_a, &at_b].map(|rows| {
        let first = rows.first(SOON, |_| true);
        first.expect("a row").seq
    });
    let before = tunnel_key(world.node(0));
    let rotated = world.node(0).run(&["rotate-key"]);
    let after = tunnel_key(world.node(0));
    assert_ne!(before, after);
    assert_eq!(rotated, format!("the tunnel key is {after} from now on\n"));
    std::thread::sleep(Duration::from_secs(8));
    for (rows, first) in [&at_a, &at_b].into_iter().zip(first) {
        let seqs: Vec<u64> = rows.so_far().iter().map(|row| row.seq).collect();
        let expected: Vec<u64> = (first + 1..).take(seqs.len()).collect();
        assert_eq!(seqs, expected, "each live row, in order");
        assert!(seqs.len() >= 6, "{} rows", seqs.len());
    }
    for node in world.nodes() {
        let status = Control::of(node).status();
        let peer = &status["peers"][0];
        assert_eq!(peer["state"], "alive", "{peer}");
    }
    assert_eq!(world.node_mut(0).stop(), Some(0));
    world.node_mut(0).up();
    world.node(1).wait_alive(&["a"], SOON);
    assert_eq!(tunnel_key(world.node(0)), after, "it is the one on disk");
}

#[test]
fn a_refused_change_of_the_tunnel_key_changes_no_file_and_unheard_keys_push_none_out() {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], SOON);
    world.node(1).wait_alive(&["a"], SOON);
    let refused = (0..12).filter(|_| {
        let before = key_files(world.node(0));
        let refused = world.node(0).try_run(&["rotate-key"], "").is_err();
        assert!(!refused || key_files(world.node(0)) == before);
        refused
    });
    assert!(refused.count() > 0, "twelve in a row were let through");
    assert_eq!(world.node_mut(0).stop(), Some(0));
    let previous = |world: &World| key_files(world.node(0)).split_off(1);
    world.node(0).run(&["rotate-key"]);
    let known = previous(&world);
    for _ in 0..6 {
        let before = key_files(world.node(0)).remove(0);
        world.node(0).run(&["rotate-key"]);
        assert_ne!(key_files(world.node(0))[0], before);
        assert_eq!(previous(&world), known);
    }
    world.node_mut(0).up();
    world.node(0).wait_alive(&["b"], SOON);
    world.node(1).wait_alive(&["a"], SOON);
}

/// The tunnel key's file and those before it, with their names.
fn key_files(node: &Node) -> Vec<(String, String)> {
    let names = std::fs::read_dir(&node.state).expect("the state directory");
    let names = names.map(|entry| entry.expect("an entry").path());
    let mut keys: Vec<_> = names
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.to_owned();
            let is_key = name.starts_with("wg.key");
            is_key.then(|| (name, std::fs::read_to_string(&path).expect("a key")))
        })
        .collect();
    keys.sort_unstable();
    keys
}

/// What the node says about why it is no member any more, once it does.
fn wait_out(node: &Node) -> String {
    wait_for("the node to hear that it is out", SOON, || {
        let status = Control::of(node).status();
        let out = status["mesh"]["out"].as_str().map(str::to_owned);
        out.ok_or_else(|| status["mesh"].to_string())
    })
}

fn id_of(node: &Node, name: &str) -> String {
    let members = node.json(&["members"]);
    let id = named(&members, name).expect("a member")["id"].as_str();
    id.expect("an id").to_owned()
}

fn load_of(node: &Node, origin: &str, from_ms: i64) -> usize {
    let ledger = Ledger::about(node, origin, "node_load1", from_ms, now_ms());
    ledger.points("node_load1").len()
}

fn named<'a>(listed: &'a Value, name: &str) -> Option<&'a Value> {
    listed.as_array()?.iter().find(|one| one["name"] == name)
}

fn tunnel_key(node: &Node) -> String {
    let private = std::fs::read_to_string(node.state.join("wg.key")).expect("its key");
    node.run_with_input(&["pubkey"], &private).trim().to_owned()
}

/// How a command ended, and what it said.
fn finished(mut child: Child) -> (Option<i32>, String, String) {
    let code = wait_for("the end of a command", SOON, || match child.try_wait() {
        Ok(Some(status)) => Ok(status.code()),
        other => Err(format!("{other:?}")),
    });
    let mut said = [String::new(), String::new()];
    let (out, err) = (child.stdout.take(), child.stderr.take());
    out.expect("piped")
        .read_to_string(&mut said[0])
        .expect("text");
    err.expect("piped")
        .read_to_string(&mut said[1])
        .expect("text");
    let [out, err] = said;
    (code, out, err)
}
