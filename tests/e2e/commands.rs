//! Keys, exit codes and what commands say where no node runs.

use std::path::PathBuf;
use std::time::Duration;

use outlast_tests::{World, wait_for};

use crate::OUTLAST;

#[test]
fn a_public_key_is_what_wg_makes_of_the_same_private_key() {
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    let private = world.node(node).run(&["genkey"]);
    let ours = world.node(node).run_with_input(&["pubkey"], &private);
    let mut wg = std::process::Command::new("wg")
        .arg("pubkey")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("run wg, of wireguard-tools");
    std::io::Write::write_all(&mut wg.stdin.take().expect("piped"), private.as_bytes())
        .expect("give wg the key");
    let theirs = wg.wait_with_output().expect("wg answers").stdout;
    assert_eq!(ours.as_bytes(), theirs);
}

#[test]
fn commands_that_need_the_node_say_how_to_start_it() {
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    for command in [&["status"][..], &["dashboard", "--print"], &["tail"]] {
        let output = world.node(node).output(command, "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{command:?}: {said}");
        assert!(said.contains("outlast up"), "{command:?}: {said}");
    }
    assert_eq!(
        world.node(node).output(&["statu"], "").status.code(),
        Some(2)
    );
}

#[test]
fn up_waits_for_init_and_then_runs_without_a_restart() {
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    world.node_mut(node).up();
    let before = world.node(node).json(&["status"]);
    assert!(before["mesh"].is_null(), "{before}");
    world
        .node(node)
        .run(&["init", "--name", "a", "--mesh", "home"]);
    wait_for("rows", Duration::from_secs(10), || {
        let status = world.node(node).json(&["status"]);
        let series = status["store"]["series"].as_u64().unwrap_or_default();
        if series > 50 {
            Ok(())
        } else {
            Err(format!("{status}"))
        }
    });
    let after = world.node(node).json(&["status"]);
    assert_eq!(after["mesh"]["name"], "home");
    assert_eq!(before["node"]["pid"], after["node"]["pid"]);
    let again = world
        .node(node)
        .try_run(&["init"], "")
        .expect_err("a second mesh");
    assert!(again.contains("home"), "{again}");
    assert_eq!(world.node_mut(node).stop(), Some(0));
}

#[test]
fn two_daemons_on_one_state_directory_are_one_too_many() {
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    world.node_mut(node).up();
    let second = world
        .node(node)
        .try_run(&["up"], "")
        .expect_err("a second daemon");
    let pid = world.node(node).pid().expect("the first runs").to_string();
    assert!(
        second.starts_with("exit Some(1)") && second.contains(&pid),
        "{second}"
    );
}

#[test]
fn keys_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    world.node_mut(node).up();
    world.node(node).run(&["init", "--name", "a"]);
    let mut secret: Vec<PathBuf> = vec![];
    for name in ["node.key", "wg.key", "web.key"] {
        secret.push(world.node(node).state.join(name));
    }
    let admin = world.dir().join(".config/outlast/admin");
    secret.extend(
        std::fs::read_dir(admin)
            .expect("admin keys")
            .flatten()
            .map(|key| key.path()),
    );
    assert_eq!(secret.len(), 4, "{secret:?}");
    for path in secret {
        wait_for("the key", Duration::from_secs(5), || {
            path.metadata()
                .map(drop)
                .map_err(|e| format!("{}: {e}", path.display()))
        });
        let mode = path.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

#[test]
fn the_example_configuration_is_right_as_it_stands_and_with_every_line_live() {
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/outlast.example.toml"
    );
    world.node(node).run(&["check-config", "--config", example]);

    let text = std::fs::read_to_string(example).expect("the example is there");
    let is_setting = |line: &str| line.starts_with("# ") && line.contains(" = ");
    let live: Vec<_> = text
        .lines()
        .map(|line| if is_setting(line) { &line[2..] } else { line })
        .collect();
    assert_eq!(
        live.iter()
            .filter(|line| line.contains(" = ") && !line.starts_with('#'))
            .count(),
        8
    );
    let file = world.dir().join("live.toml");
    std::fs::write(&file, live.join("\n")).expect("write the configuration");
    world.node(node).run(&[
        "check-config",
        "--config",
        file.to_str().expect("a plain path"),
    ]);
}
