//! The Debian package and the service on a booted machine: installed, used by three kinds of users, purged.
//!
//! The machine is made of this one's files and forgets everything (`Machine`): the real one's packages and users
//! are never touched.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use outlast_tests::{Machine, wait_for};
use serde_json::Value;

use crate::OUTLAST;

fn boot() -> Machine {
    Machine::boot().expect("booting a machine takes root: run the tests as root")
}

/// The package of the program under test, as `make deb` builds it.
fn package(into: &Path) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/deb/build");
    let built = Command::new(script)
        .env("DPKG_DEB_COMPRESSOR_TYPE", "gzip")
        .arg(OUTLAST)
        .arg(into)
        .output()
        .expect("run deploy/deb/build");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "deploy/deb/build: {said}");
    PathBuf::from(String::from_utf8_lossy(&built.stdout).trim())
}

fn status(machine: &Machine) -> Value {
    let said = machine.run(&["outlast", "status", "--json"]);
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn wait_for_rows(machine: &Machine) {
    wait_for("rows in the store", Duration::from_secs(30), || {
        let status = status(machine);
        let rows = status["store"]["rows"].as_u64().unwrap_or_default();
        if rows > 2 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

#[test]
fn a_package_is_installed_used_and_purged_without_a_trace() {
    let machine = boot();
    let before = files_of_ours(&machine);
    assert_eq!(before, "", "the image is clean");
    let built = tempfile::tempdir().expect("make a directory");
    let package = package(built.path());
    std::fs::copy(package, machine.path("/tmp/outlast.deb")).expect("give the machine the package");
    machine.run(&["dpkg", "-i", "/tmp/outlast.deb"]);

    installed_it_runs_as_its_own_user_and_waits(&machine);
    founded_by_root_it_leaves_nothing_of_roots(&machine);
    the_collectors_see_the_machine(&machine);
    killed_it_comes_back(&machine);
    three_kinds_of_users(&machine);
    let log = machine.journal("outlast");
    assert!(log.contains(" running mesh=home node=m"), "{log}");
    assert!(
        !log.contains("INFO") && !log.contains("ERROR") && !log.contains('\u{1b}'),
        "{log}"
    );
    removed_it_keeps_its_samples_and_purged_nothing(&machine);
}

fn installed_it_runs_as_its_own_user_and_waits(machine: &Machine) {
    assert!(
        machine
            .run(&["outlast", "--version"])
            .starts_with("outlast ")
    );
    assert_eq!(
        machine.run(&["systemctl", "is-enabled", "outlast"]).trim(),
        "enabled"
    );
    assert_eq!(
        machine.run(&["systemctl", "is-active", "outlast"]).trim(),
        "active"
    );
    let shown = machine.run(&[
        "systemctl",
        "show",
        "outlast",
        "--property",
        "User,Type,StatusText,WatchdogUSec",
    ]);
    assert!(
        shown.contains("User=outlast") && shown.contains("Type=notify"),
        "{shown}"
    );
    assert!(shown.contains("WatchdogUSec=2min"), "{shown}");
    assert!(
        shown.contains("StatusText=waiting for `outlast init`"),
        "{shown}"
    );
    assert!(status(machine)["mesh"].is_null());
    modes(
        machine,
        &[
            ("/usr/bin/outlast", "root:root 755"),
            ("/usr/lib/systemd/system/outlast.service", "root:root 644"),
            ("/usr/share/man/man1/outlast.1.gz", "root:root 644"),
            ("/var/lib/outlast", "outlast:outlast 700"),
            ("/run/outlast", "outlast:outlast 750"),
            ("/run/outlast/control.sock", "outlast:outlast 660"),
            ("/var/lib/outlast/control.sock", "outlast:outlast 600"),
        ],
    );
    let next = machine.run(&["outlast", "service", "status"]);
    assert!(next.contains("sudo outlast init"), "{next}");
}

fn founded_by_root_it_leaves_nothing_of_roots(machine: &Machine) {
    let founded = machine.run(&["outlast", "init", "--name", "m", "--invite", "1"]);
    assert!(founded.contains("ol1"), "{founded}");
    wait_for_rows(machine);
    let strays = machine.run(&["find", "/var/lib/outlast", "!", "-user", "outlast"]);
    assert_eq!(strays, "", "every file is the service's");
}

/// Whatever it died of, and with all it had sealed: its store is verified by a child of its own, the only program
/// that the unit lets it start. Could it not, the generation would be set aside.
fn killed_it_comes_back(machine: &Machine) {
    kill_and_wait(machine);
    // Alone, it waits a minute for peers before it seals, and half a one before it writes.
    wait_for("the earlier run's block", Duration::from_secs(120), || {
        let store = status(machine)["store"].take();
        let sealed = store["generations"].as_u64().unwrap_or_default() > 0;
        if sealed {
            Ok(())
        } else {
            Err(store.to_string())
        }
    });
    kill_and_wait(machine);
    wait_for_rows(machine);
    // Rows are taken before the store has opened.
    let mut store = Value::Null;
    wait_for("the store to open", Duration::from_secs(60), || {
        store = status(machine)["store"].take();
        store["ready"]
            .as_bool()
            .unwrap_or_default()
            .then_some(())
            .ok_or_else(|| store.to_string())
    });
    assert_eq!(store["quarantined"], serde_json::json!([]), "{store}");
    assert_eq!(store["generations"], 1, "{store}");
}

fn kill_and_wait(machine: &Machine) {
    let pid = status(machine)["node"]["pid"].clone();
    machine.run(&["kill", "-9", &pid.to_string()]);
    wait_for("the service to come back", Duration::from_secs(30), || {
        let output = machine.output(&["outlast", "status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let back = status["mesh"]["name"] == "home" && status["node"]["pid"] != pid;
        if back {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
}

fn removed_it_keeps_its_samples_and_purged_nothing(machine: &Machine) {
    machine.run(&["dpkg", "--remove", "outlast"]);
    assert!(machine.path("/var/lib/outlast/node.key").exists());
    assert!(!machine.path("/run/outlast").exists());
    machine.run(&["dpkg", "-i", "/tmp/outlast.deb"]);
    wait_for_rows(machine);
    machine.run(&["dpkg", "--purge", "outlast"]);
    let admin_key = "/root/.config/outlast";
    assert!(
        machine.path(admin_key).exists(),
        "the owner's key is the owner's"
    );
    machine.run(&["rm", "-r", admin_key]);
    assert_eq!(files_of_ours(machine), "", "nothing is left");
    assert!(!machine.run(&["getent", "passwd"]).contains("outlast"));
    // Also the group, though alice is still in it.
    assert!(!machine.run(&["getent", "group"]).contains("outlast"));
    machine.run(&["userdel", "--remove", "alice"]);
}

/// What the hardening leaves to be seen must be what is true of the machine.
fn the_collectors_see_the_machine(machine: &Machine) {
    wait_for("the file systems' values", Duration::from_secs(20), || {
        let query = [
            "outlast",
            "query",
            "--series",
            "node_filesystem_*",
            "--from",
            "-5s",
            "--csv",
        ];
        let said = machine.run(&query);
        let value = |series: &str| {
            let line = said.lines().rev().find(|line| line.contains(series))?;
            line.rsplit(',').next()?.parse::<f64>().ok()
        };
        let (size, readonly) = (
            value("node_filesystem_size_bytes"),
            value("node_filesystem_readonly"),
        );
        if size.is_some_and(|size| size > 0.0) && readonly == Some(0.0) {
            Ok(())
        } else {
            Err(said)
        }
    });
    let log = machine.journal("outlast");
    assert!(!log.contains("can't be read"), "{log}");
}

fn three_kinds_of_users(machine: &Machine) {
    machine.run(&["useradd", "--create-home", "--groups", "outlast", "alice"]);
    machine.run(&["useradd", "--create-home", "bob"]);
    // In the group: reads, and changes nothing.
    for command in [
        &["status"][..],
        &["members"],
        &["dashboard", "--print"],
        &["query", "--series", "node_load1"],
    ] {
        let (exit, said) = machine.run_as("alice", &outlast(command));
        assert_eq!(exit, Some(0), "{command:?}: {said}");
    }
    for command in [&["invite"][..], &["init"], &["isolate", "on"]] {
        let (exit, said) = machine.run_as("alice", &outlast(command));
        assert_eq!(
            (exit, said.as_str()),
            (
                Some(1),
                "outlast: only root may change this node, your group may read it: run the same with sudo\n"
            ),
            "{command:?}"
        );
    }
    // Outside: one line that says what to do.
    let (exit, said) = machine.run_as("bob", &outlast(&["status"]));
    assert_eq!(exit, Some(1), "{said}");
    assert!(
        said.contains("sudo usermod -aG outlast bob") && said.lines().count() == 1,
        "{said}"
    );
    let (exit, said) = machine.run_as("bob", &outlast(&["service", "install"]));
    assert_eq!(
        (exit, said.as_str()),
        (
            Some(1),
            "outlast: service install needs root: sudo outlast service install\n"
        )
    );
    // A node of one's own beside the service.
    let (exit, said) = machine.run_as("bob", &outlast(&["--state-dir", "/home/bob/node", "init"]));
    assert_eq!(exit, Some(0), "{said}");
    // Root: everything, and a directory that is another's isn't taken over.
    assert!(machine.run(&["outlast", "invite"]).starts_with("ol1"));
    let second = machine.output(&["outlast", "up", "--state-dir", "/home/bob/node"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains("belongs to user bob") && said.lines().count() == 1,
        "{said}"
    );
    // A second node on the service's directory, by the service's own user.
    let pid = status(machine)["node"]["pid"].to_string();
    let second = ["up", "--state-dir", "/var/lib/outlast"];
    let (exit, said) = machine.run_as("outlast", &outlast(&second));
    assert_eq!(exit, Some(1), "{said}");
    let named = said.contains(&format!("in use by process {pid};"));
    assert!(named && said.lines().count() == 1, "{said}");
    machine.run(&["userdel", "--remove", "bob"]);
}

fn outlast<'a>(command: &[&'a str]) -> Vec<&'a str> {
    [&["outlast"], command].concat()
}

#[test]
fn a_program_without_a_package_installs_itself_and_goes_again() {
    let machine = boot();
    std::fs::create_dir_all(machine.path("/home/ann")).expect("make a home");
    std::fs::copy(OUTLAST, machine.path("/home/ann/outlast"))
        .expect("give the machine the program");
    let program = "/home/ann/outlast";

    let would = machine.run(&[program, "service", "install", "--dry-run"]);
    assert!(
        would.contains("would write /etc/systemd/system/outlast.service"),
        "{would}"
    );
    assert!(!machine.path("/etc/systemd/system/outlast.service").exists());

    // Founded where nobody runs, then served: root's files change hands.
    let said = machine.run(&[program, "init", "--name", "m", "--service"]);
    assert!(
        said.contains("copy /home/ann/outlast to /usr/local/bin/outlast"),
        "{said}"
    );
    modes(
        &machine,
        &[
            ("/usr/local/bin/outlast", "root:root 755"),
            ("/var/lib/outlast/node.key", "outlast:outlast 600"),
            ("/var/lib/outlast/statements.log", "outlast:outlast 600"),
            ("/root/.config/outlast/admin", "root:root 700"),
        ],
    );
    wait_for_rows(&machine);
    let again = machine.run(&[program, "service", "install"]);
    assert!(again.contains("nothing to do"), "{again}");
    let status = machine.run(&["outlast", "service", "status", "--json"]);
    assert!(
        status.contains("\"active\":true") && status.contains("\"next\":null"),
        "{status}"
    );

    // A command of root's while the service is down leaves it able to start again.
    machine.run(&["systemctl", "stop", "outlast"]);
    machine.run(&[
        "outlast",
        "query",
        "--series",
        "node_load1",
        "--from",
        "-1h",
    ]);
    assert!(machine.run(&["outlast", "invite"]).starts_with("ol1"));
    assert_eq!(
        machine.run(&["find", "/var/lib/outlast", "!", "-user", "outlast"]),
        ""
    );
    let down = machine.output(&["outlast", "status"]);
    let said = String::from_utf8_lossy(&down.stderr).into_owned();
    assert_eq!(down.status.code(), Some(3), "{said}");
    assert!(said.contains("sudo systemctl start outlast"), "{said}");
    machine.run(&["systemctl", "start", "outlast"]);
    wait_for_rows(&machine);

    // A group that others are in doesn't go with its user, and must not keep the service from coming back.
    machine.run(&["useradd", "--groups", "outlast", "eve"]);
    machine.run(&["systemctl", "stop", "outlast"]);
    machine.run(&["userdel", "outlast"]);
    assert!(machine.run(&["getent", "group"]).contains("outlast"));
    machine.run(&[program, "service", "install"]);
    wait_for_rows(&machine);

    let unasked = machine.output(&["outlast", "service", "uninstall", "--purge"]);
    assert_eq!(unasked.status.code(), Some(2));
    machine.run(&[program, "service", "uninstall", "--purge", "--yes"]);
    machine.run(&["rm", "-r", "/root/.config/outlast", "/home/ann"]);
    assert_eq!(files_of_ours(&machine), "", "nothing is left");
    assert!(!machine.run(&["getent", "passwd"]).contains("outlast"));
    assert!(!machine.run(&["getent", "group"]).contains("outlast"));
}

/// Files that are ours by name, place or owner, outside of what the real machine lends.
fn files_of_ours(machine: &Machine) -> String {
    let places = [
        "/usr/bin",
        "/usr/local/bin",
        "/usr/lib/systemd",
        "/usr/lib/sysusers.d",
        "/usr/share/doc",
        "/usr/share/man/man1",
        "/usr/share/bash-completion",
        "/usr/share/zsh",
        "/usr/share/fish",
        "/etc",
        "/run",
        "/var/lib",
    ];
    let mut find = vec!["find", "-H"];
    find.extend(
        places
            .into_iter()
            .filter(|place| machine.path(place).exists()),
    );
    find.extend([
        "-xdev",
        "(",
        "-name",
        "*outlast*",
        "-o",
        "-nouser",
        "-o",
        "-nogroup",
        ")",
        "-print",
    ]);
    let found = machine.run(&find);
    // Traces that are systemd's and dpkg's own: invocation ids, cgroup names.
    let ours = found
        .lines()
        .filter(|path| !path.starts_with("/run/systemd/"));
    ours.collect::<Vec<_>>().join("\n")
}

fn modes(machine: &Machine, expected: &[(&str, &str)]) {
    for (path, expected) in expected {
        let found = machine.run(&["stat", "--format", "%U:%G %a", path]);
        assert_eq!(found.trim(), *expected, "{path}");
    }
    assert!(
        machine
            .path("/")
            .metadata()
            .is_ok_and(|root| root.uid() == 0)
    );
}
