//! The commands of a running node as a person uses them: ping, tail, doctor, dashboard, pipes, Ctrl-C.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use outlast_tests::{World, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::OUTLAST;

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn two() -> World {
    let mut world = World::on_loopback(OUTLAST);
    world.found(&["a", "b"]);
    world.node(0).wait_alive(&["b"], SOON);
    world
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// The exit code of a process that must end soon.
fn ended(mut child: Child) -> Option<i32> {
    wait_for("the end of a command", SOON, || match child.try_wait() {
        Ok(Some(status)) => Ok(status.code()),
        other => Err(format!("{other:?}")),
    })
}

#[test]
fn ping_measures_through_the_tunnel_and_tells_who_is_out_of_reach() {
    let mut world = two();
    let (code, lines, errors) = said(
        &world
            .node(0)
            .output(&["ping", "b", "-c", "3", "-i", "0.1"], ""),
    );
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{lines}");
    let lines: Vec<&str> = lines.lines().collect();
    for (at, line) in lines[..3].iter().enumerate() {
        assert!(line.starts_with("from b (fd"), "{line}");
        assert!(line.contains(&format!("): seq={} time=", at + 1)), "{line}");
        assert!(
            line.contains(" ms path=") && line.contains(" 127.0.0.1:"),
            "{line}"
        );
    }
    assert_eq!(lines[3..5], ["", "b: 3 sent, 3 received, 0 % lost"]);
    assert!(lines[5].starts_with("min/avg/max = "), "{lines:?}");

    let once = world.node(0).json(&["ping", "b", "-c", "1"]);
    assert_eq!(
        (&once["seq"], &once["node"]),
        (&1.into(), &"b".into()),
        "{once}"
    );
    assert!(once["rtt_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{once}");

    for (whom, sentence) in [
        (
            "a",
            "outlast: a is this node itself; `outlast members` lists the others\n",
        ),
        // No id has a 1 in it.
        (
            "c1",
            "outlast: no node is called c1 and no id begins so; `outlast members` lists them\n",
        ),
    ] {
        let answer = said(&world.node(0).output(&["ping", whom, "-c", "1"], ""));
        assert_eq!(answer, (Some(2), String::new(), sentence.to_owned()));
    }

    world.node_mut(1).stop();
    wait_for("the goodbye", SOON, || {
        let (code, lines, errors) = said(&world.node(0).output(&["ping", "b", "-c", "1"], ""));
        let told = lines.contains("): seq=1 out of reach, last heard ");
        if (code, errors.as_str(), told) == (Some(1), "", true) {
            assert!(
                lines.contains("b: 1 sent, 0 received, 100 % lost"),
                "{lines}"
            );
            return Ok(());
        }
        Err(format!("{code:?} {lines} {errors}"))
    });
}

#[test]
fn netcheck_tells_where_a_node_is_reached_and_which_way_goes_to_each_peer() {
    let world = two();
    let found = world.node(0).json(&["netcheck"]);
    assert_eq!(found["peers"][0]["name"], "b", "{found}");
    assert!(
        found["peers"][0]["mtu_at_least"].as_u64() >= Some(1_280),
        "{found}"
    );
    assert_eq!(found["peers"][0]["why_not_direct"], Value::Null, "{found}");
    let port = found["udp_port"].as_u64().expect("a port");
    // Nobody has come from where nothing was sent to.
    assert_eq!(found["nat"]["filtering"], "unknown");
    assert!(found["nat"]["let_in"].is_null());
    let text = world.node(0).run(&["netcheck"]);
    assert!(text.starts_with(&format!("UDP port {port}\n")), "{text}");
    assert!(text.contains("\nPEER ") && text.contains("\nb "), "{text}");
}

#[test]
fn ctrl_c_ends_ping_with_its_summary() {
    let world = two();
    let mut ping = world.node(0).spawn(&["ping", "b"]);
    let mut lines = BufReader::new(ping.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("seq=1"), "{first}");
    kill_process(Pid::from_child(&ping), Signal::INT).expect("signal the command");
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert!(rest.iter().any(|line| line.starts_with("b: ")), "{rest:?}");
    assert!(
        rest.last()
            .is_some_and(|line| line.starts_with("min/avg/max")),
        "{rest:?}"
    );
    assert_eq!(ended(ping), Some(0));
}

#[test]
fn a_reader_that_goes_away_ends_what_would_go_on() {
    let world = two();
    let node = world.node(0);
    for line in [
        &["tail"][..],
        &["tail", "--json"],
        &["status", "--watch"],
        &["status", "--watch", "--json"],
        &["ping", "b", "-i", "0.1"],
        &["query", "--series", "*", "--csv"],
    ] {
        let mut child = node.spawn_with_stderr(line);
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut String::new()).expect("a line");
        drop(stdout);
        let mut errors = child.stderr.take().expect("piped");
        assert_eq!(ended(child), Some(0), "{line:?}");
        let mut text = String::new();
        errors.read_to_string(&mut text).expect("text");
        // On a busy machine a row may be late, and `tail` says so.
        let unexpected = |said: &&str| !said.starts_with("outlast: waiting for ");
        assert_eq!(text.lines().find(unexpected), None, "{line:?}");
    }
}

#[test]
fn a_node_outlives_the_reader_of_its_log_and_a_full_disk_below_it() {
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    world.node(node).run(&["init"]);
    let full = || {
        Stdio::from(
            File::options()
                .write(true)
                .open("/dev/full")
                .expect("open it"),
        )
    };
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("make a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    for format in ["text", "json"] {
        for stderr in [full(), closed()] {
            let mut up = Command::new(OUTLAST)
                .args([
                    "up",
                    "--listen",
                    "127.0.0.1:0",
                    "--dashboard",
                    "127.0.0.1:0",
                ])
                .args(["--log-format", format, "--state-dir"])
                .arg(&world.node(node).state)
                .env("HOME", world.dir())
                .stderr(stderr)
                .spawn()
                .expect("start the node");
            wait_for("its first rows", SOON, || {
                let ended = up.try_wait().expect("look");
                assert!(ended.is_none(), "it ended because of its log: {ended:?}");
                let output = world.node(node).output(&["status", "--json"], "");
                let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
                let rows = status["store"]["rows"].as_u64().unwrap_or(0);
                (rows > 0).then_some(()).ok_or_else(|| status.to_string())
            });
            kill_process(Pid::from_child(&up), Signal::TERM).expect("signal the node");
            assert_eq!(ended(up), Some(0));
        }
    }
}

#[test]
fn a_port_that_can_t_be_had_is_told_with_what_to_do() {
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    world.node(node).run(&["init"]);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("take a port");
    let taken = taken.local_addr().expect("bound").to_string();
    let page = std::net::TcpListener::bind("127.0.0.1:0").expect("take a port");
    let page = page.local_addr().expect("bound").to_string();
    let other =
        "another program has that port; take another one, or ask `sudo ss -lnp` which it is";
    let nowhere = "that is no address of this machine; `ip address` lists them";
    for (listen, dashboard, last) in [
        (
            taken.as_str(),
            "127.0.0.1:0",
            format!(
                "outlast: listen on UDP {taken}: Address already in use (os error 98); {other}"
            ),
        ),
        (
            "192.0.2.1:7000",
            "127.0.0.1:0",
            format!(
                "outlast: listen on UDP 192.0.2.1:7000: Cannot assign requested address (os error 99); {nowhere}"
            ),
        ),
        (
            "127.0.0.1:0",
            page.as_str(),
            format!(
                "outlast: open the dashboard on {page}: Address already in use (os error 98); {other}"
            ),
        ),
    ] {
        let line = ["up", "--listen", listen, "--dashboard", dashboard];
        let (code, text, errors) = said(&world.node(node).output(&line, ""));
        assert_eq!((code, text.as_str()), (Some(1), ""), "{errors}");
        assert_eq!(errors.lines().last(), Some(last.as_str()), "{errors}");
    }
}

#[test]
fn status_watches_without_steering_a_pipe() {
    let world = two();
    let mut watch = world.node(0).spawn(&["status", "--watch", "--json"]);
    let lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let shown: Vec<Value> = lines
        .take(2)
        .map(|line| serde_json::from_str(&line.expect("text")).expect("one object a line"))
        .collect();
    assert!(shown[1]["node"]["uptime_ms"].as_u64() > shown[0]["node"]["uptime_ms"].as_u64());
    watch.kill().expect("end the command");
    watch.wait().expect("reap the command");
}

#[test]
fn tail_says_what_it_waits_for_and_refuses_what_can_t_come() {
    let world = two();
    let node = world.node(0);
    for (line, sentence) in [
        (
            // No id has a 1 in it.
            ["tail", "c1"].as_slice(),
            "outlast: no node is called c1 and no id begins so; `outlast members` lists them\n",
        ),
        (
            &["tail", "a", "x{y"],
            "outlast: series pattern \"x{y\": a label needs =\"value\"\n",
        ),
    ] {
        let answer = said(&node.output(line, ""));
        assert_eq!(answer, (Some(2), String::new(), sentence.to_owned()));
    }

    let mut nothing = node.spawn_with_stderr(&["tail", "a", "no_such_*"]);
    let mut told = String::new();
    BufReader::new(nothing.stderr.take().expect("piped"))
        .read_line(&mut told)
        .expect("a line");
    assert_eq!(
        told,
        "outlast: waiting for samples of a that match no_such_*; `outlast query --series '*'` lists what there is\n"
    );
    nothing.kill().expect("end the command");
    nothing.wait().expect("reap the command");

    let mut rows = node.spawn(&["tail", "b", "node_load1", "--json"]);
    let mut line = String::new();
    BufReader::new(rows.stdout.take().expect("piped"))
        .read_line(&mut line)
        .expect("a line");
    let row: Value = serde_json::from_str(&line).expect("one object a line");
    assert_eq!(row["node"], "b", "{row}");
    let sample = &row["samples"][0];
    assert_eq!(sample["name"], "node_load1", "{row}");
    assert!(
        sample["value"].is_number() && row["at_ms"].is_i64(),
        "{row}"
    );
    rows.kill().expect("end the command");
    rows.wait().expect("reap the command");
}

#[test]
fn doctor_finds_the_running_node_well_and_what_was_broken_on_purpose() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = two();
    let findings = |world: &World| -> Vec<(String, String, String)> {
        let (_, text, errors) = said(&world.node(0).output(&["doctor", "--json"], ""));
        assert_eq!(errors, "", "doctor says everything on standard output");
        let found: Value = serde_json::from_str(&text).expect("JSON");
        let listed = found["findings"].as_array().expect("a list");
        let word = |finding: &Value, name: &str| finding[name].as_str().unwrap_or("").to_owned();
        listed
            .iter()
            .map(|f| (word(f, "check"), word(f, "verdict"), word(f, "says")))
            .collect()
    };
    let verdict = |world: &World, check: &str| -> Vec<String> {
        let all = findings(world).into_iter().filter(|found| found.0 == check);
        all.map(|found| found.1).collect()
    };
    for check in [
        "configuration",
        "state directory",
        "keys",
        "node",
        "UDP port",
        "page",
        "store",
        "peers",
    ] {
        assert_eq!(
            verdict(&world, check),
            ["ok"],
            "{check}: {:?}",
            findings(&world)
        );
    }

    let key = world.node(0).state.join("node.key");
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).expect("open the key");
    assert_eq!(verdict(&world, "keys"), ["fail"]);
    assert_eq!(world.node(0).output(&["doctor"], "").status.code(), Some(1));
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("close the key");

    world.node_mut(1).kill();
    wait_for("the peer to be missed", SOON, || {
        match &verdict(&world, "peers")[..] {
            [verdict] if verdict == "warn" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    world.node_mut(0).kill();
    assert_eq!(verdict(&world, "node"), ["fail"]);
}

#[test]
fn a_wrong_clock_is_told_by_doctor() {
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    world.node(node).run(&["init"]);
    let at = |time: &[&str]| {
        let output = Command::new("faketime")
            .args(time)
            .args([OUTLAST, "--state-dir"])
            .arg(&world.node(node).state)
            .args(["doctor", "--json"])
            .env("HOME", world.dir())
            // Or the files would be as old as the clock.
            .env("NO_FAKE_STAT", "1")
            .output()
            .expect("run faketime");
        let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let listed = found["findings"].as_array().expect("a list").clone();
        let clock = listed
            .into_iter()
            .find(|finding| finding["check"] == "clock");
        let clock = clock.expect("the clock was looked at");
        assert_eq!(clock["verdict"], "fail", "{clock}");
        assert!(clock["mend"].is_string(), "{clock}");
        clock["says"].as_str().expect("a sentence").to_owned()
    };
    assert!(at(&["2019-12-31 12:00:00"]).ends_with(": nobody has set it"));
    assert!(
        at(&["-f", "-730h"])
            .ends_with(", 30 d before the state directory was last written: it went back")
    );
}

#[test]
fn on_a_desktop_the_dashboard_opens_without_the_ticket_in_any_argument() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = World::on_loopback(OUTLAST);
    let node = world.add("a");
    world.node_mut(node).up();
    world.node(node).run(&["init"]);
    let bin = world.dir().join("bin");
    let session = world.dir().join("session");
    for dir in [&bin, &session] {
        std::fs::create_dir(dir).expect("make a directory");
    }
    // A desktop that writes down what it was asked to open.
    let opener = bin.join("xdg-open");
    let script = "#!/bin/sh\necho \"$@\" > \"$HOME/asked\"\ncp -p \"$1\" \"$HOME/opened\"\n";
    std::fs::write(&opener, script).expect("write the opener");
    std::fs::set_permissions(&opener, PermissionsExt::from_mode(0o755)).expect("make it a program");
    let typed = format!(
        "{OUTLAST} --state-dir {} dashboard",
        world.node(node).state.display()
    );
    let shown = Command::new("script")
        .args(["--quiet", "--return", "--command", &typed, "/dev/null"])
        .env("HOME", world.dir())
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("DISPLAY", ":9")
        .env("XDG_RUNTIME_DIR", &session)
        .stdin(Stdio::null())
        .output()
        .expect("run script, of util-linux");
    let (code, text, _) = said(&shown);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("ticket="), "{text}");

    let asked = std::fs::read_to_string(world.dir().join("asked")).expect("it was asked");
    assert!(!asked.contains("ticket"), "{asked}");
    let opened = world.dir().join("opened");
    let page = std::fs::read_to_string(&opened).expect("a page was opened");
    assert!(page.contains("/login?ticket="), "{page}");
    let mode = opened.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let printed = world.node(node).run(&["dashboard", "--print"]);
    assert!(
        printed.starts_with("http://127.0.0.1:") && printed.lines().count() == 1,
        "{printed}"
    );
}
