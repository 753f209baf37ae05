//! Each check against facts that differ in one thing from those of a healthy node.

use std::io::ErrorKind;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::facts::{Disk, File, Kind, Lock, NodeFacts, Ports, Service, StateFacts};
use super::*;
use crate::config::Config;

const NOW_MS: i64 = 1_795_000_000_000;

fn key(name: &str, mode: u32) -> File {
    File {
        path: PathBuf::from("/var/lib/outlast").join(name),
        mode,
        owner: 0,
        size: 45,
    }
}

fn status() -> Value {
    json!({
        "mesh": { "name": "home", "members": 2 },
        "node": {
            "name": "attic", "pid": 7, "udp_port": 51800, "uptime_ms": 120_000, "isolated": false,
            "dashboard": ["http://127.0.0.1:5180/"],
        },
        "peers": [{ "name": "cellar", "state": "alive", "last_heard_ms": NOW_MS - 1_000, "clock_offset_ms": 3 }],
        "store": { "health": "" },
        "notices": [],
    })
}

/// A member that runs as a service and of which nothing is wrong.
fn fine() -> Facts {
    Facts {
        uid: 0,
        config: Config::parse("").map_err(|error| error.to_string()),
        state: StateFacts {
            path: PathBuf::from("/var/lib/outlast"),
            kind: Kind::Directory,
            owner: 0,
            mode: 0o700,
            format: Some("outlast 1\n".to_owned()),
            is_empty: false,
            is_member: true,
            lock: Lock::Held,
            keys: vec![key("node.key", 0o600), key("wg.key", 0o600)],
            newest_ms: Some(NOW_MS - 1_000),
            quarantine: Vec::new(),
        },
        disk: Some(Disk {
            total: 100 << 30,
            free: 50 << 30,
            files: 1_000_000,
            free_files: 900_000,
            read_only: false,
            magic: 0xef53,
        }),
        now_ms: NOW_MS,
        synchronised: Some(true),
        time_service: None,
        has_rtc: true,
        node: NodeFacts::Runs(status()),
        ports: None,
        has_ipv6: true,
        rmem_max: Some(212_992),
        lost_datagrams: 0,
        unreadable: Vec::new(),
        service: Service {
            systemd: true,
            installed: true,
            enabled: true,
            account: true,
        },
    }
}

/// A directory nothing was ever founded in, and no node.
fn fresh() -> Facts {
    let mut facts = fine();
    facts.state.kind = Kind::Missing;
    facts.state.is_member = false;
    facts.state.lock = Lock::Free;
    facts.state.keys.clear();
    facts.node = NodeFacts::Absent;
    facts.ports = Some(ports(Ok(()), Ok(())));
    facts.service.installed = false;
    facts
}

fn ports(udp: Result<(), ErrorKind>, page: Result<(), ErrorKind>) -> Ports {
    Ports {
        udp: ("[::]:51800".parse().unwrap(), udp),
        page: ("127.0.0.1:5180".parse().unwrap(), page),
    }
}

fn running(change: impl FnOnce(&mut Value)) -> Facts {
    let mut said = status();
    change(&mut said);
    Facts {
        node: NodeFacts::Runs(said),
        ..fine()
    }
}

/// What differs from ok, as `verdict check: sentence -> mending`.
fn wrong(facts: &Facts) -> Vec<String> {
    let found = examine(facts);
    let not_ok = found
        .iter()
        .filter(|finding| finding.verdict != Verdict::Ok);
    not_ok
        .map(|finding| {
            let mend = finding.mend.as_deref().unwrap_or("-");
            format!(
                "{} {}: {} -> {mend}",
                finding.verdict.as_str(),
                finding.check,
                finding.says
            )
        })
        .collect()
}

#[test]
fn a_healthy_node_and_a_machine_without_one_have_nothing_to_mend() {
    for facts in [fine(), fresh()] {
        assert_eq!(wrong(&facts), [""; 0]);
        for finding in examine(&facts) {
            assert_eq!(finding.mend, None, "{finding:?}");
        }
    }
}

#[test]
fn a_node_that_was_evicted_is_told_once_with_what_to_do() {
    let facts = running(|status| {
        let out = "evicted by admin at 2026-11-23 22:10 UTC: stolen";
        status["mesh"]["out"] = json!(out);
        status["notices"] = json!([format!("this node is no member any more; it was {out}")]);
    });
    assert_eq!(
        wrong(&facts),
        [
            "fail node: attic is no member of mesh home any more: evicted by admin at 2026-11-23 22:10 UTC: stolen -> \
             outlast leave, then join again with a new token"
        ]
    );
}

#[test]
fn a_peer_that_said_goodbye_is_neither_missed_nor_called_in_reach() {
    let facts = running(|status| {
        let left = json!({ "name": "shed", "state": "left", "last_heard_ms": NOW_MS - 60_000 });
        status["peers"].as_array_mut().unwrap().push(left);
    });
    assert_eq!(wrong(&facts), [""; 0]);
    let said = examine(&facts);
    let peers = said.iter().find(|finding| finding.check == "peers");
    assert_eq!(peers.unwrap().says, "1 of 2 in reach");
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table, a line a trouble")]
fn each_trouble_is_one_sentence_and_its_mending() {
    let with = |change: fn(&mut Facts)| {
        let mut facts = fine();
        change(&mut facts);
        facts
    };
    let without_node = |change: fn(&mut Facts)| {
        let mut facts = fresh();
        change(&mut facts);
        facts
    };
    let cases: Vec<(Facts, &str)> = vec![
        (
            with(|f| f.config = Err("configuration /x: line 1, column 1: unknown key `a`".into())),
            "fail configuration: configuration /x: line 1, column 1: unknown key `a` -> correct the file, then: outlast check-config",
        ),
        (
            without_node(|f| f.state.kind = Kind::NotADirectory),
            "fail state directory: /var/lib/outlast is no directory -> name another with --state-dir, or move the file away",
        ),
        (
            without_node(|f| f.state.kind = Kind::Closed("Permission denied (os error 13)".into())),
            "warn state directory: /var/lib/outlast can't be looked into: Permission denied (os error 13) -> run this as its owner, uid 0, or as root",
        ),
        (
            with(|f| f.uid = 1000),
            "warn state directory: /var/lib/outlast belongs to uid 0, this is uid 1000 -> run outlast as that user, or name a directory of your own with --state-dir",
        ),
        (
            with(|f| f.state.mode = 0o755),
            "fail state directory: /var/lib/outlast is open to other users (mode 0755) -> chmod 700 /var/lib/outlast",
        ),
        (
            with(|f| f.state.format = Some("outlast 2\n".into())),
            "fail state directory: /var/lib/outlast has format \"outlast 2\", this release knows \"outlast 1\" -> install the newer release of outlast; this one changes nothing there",
        ),
        (
            with(|f| f.state.format = None),
            "fail state directory: /var/lib/outlast has no FORMAT and is not empty: it is no state directory of outlast -> name another with --state-dir",
        ),
        (
            with(|f| f.state.keys[0].mode = 0o644),
            "fail keys: other users can read /var/lib/outlast/node.key -> chmod 600 /var/lib/outlast/node.key",
        ),
        (
            with(|f| f.state.keys[1].size = 0),
            "fail keys: /var/lib/outlast/wg.key is empty -> put the file back from a copy; without one, a new state directory joins the mesh with a new token",
        ),
        (
            with(|f| f.state.keys[1].owner = 5),
            "fail keys: /var/lib/outlast/wg.key belongs to another user than the state directory -> sudo chown 0 /var/lib/outlast/wg.key",
        ),
        (
            with(|f| f.disk.as_mut().unwrap().read_only = true),
            "fail disk: /var/lib/outlast is on a read-only file system -> mount it writable, or name another directory with --state-dir",
        ),
        (
            with(|f| f.disk.as_mut().unwrap().free = 1 << 30),
            "warn disk: 1.0 GiB of 100.0 GiB free for /var/lib/outlast: below 2.0 GiB it keeps no copies for the others -> make room there, or set store.limit_bytes lower",
        ),
        (
            with(|f| f.disk.as_mut().unwrap().free = 511 << 20),
            "fail disk: 511.0 MiB of 100.0 GiB free for /var/lib/outlast: below 512.0 MiB this node keeps no history -> make room there, or set store.limit_bytes lower",
        ),
        (
            with(|f| f.disk.as_mut().unwrap().free_files = 3),
            "fail disk: room for only 3 more files on the file system of /var/lib/outlast -> remove files there; `df -i` counts them",
        ),
        (
            with(|f| f.disk.as_mut().unwrap().magic = 0x0102_1994),
            "warn file system: /var/lib/outlast is on tmpfs: keys and history are gone when the machine restarts -> name a directory on a disk of this machine with --state-dir",
        ),
        (
            with(|f| f.now_ms = 1_000),
            "fail clock: reads 1970-01-01T00:00:01.000Z: nobody has set it -> sudo timedatectl set-ntp true",
        ),
        (
            with(|f| f.state.newest_ms = Some(NOW_MS + 30 * 86_400_000)),
            "fail clock: reads 2026-11-18T11:06:40.000Z, 30 d before the state directory was last written: it went back -> sudo timedatectl set-ntp true",
        ),
        (
            with(|f| f.synchronised = Some(false)),
            "warn clock: reads 2026-11-18T11:06:40.000Z; the time service has had no answer yet -> timedatectl timesync-status",
        ),
        (
            with(|f| (f.synchronised, f.has_rtc) = (None, false)),
            "warn clock: reads 2026-11-18T11:06:40.000Z; this machine keeps no time while it is off, and no time service was seen -> sudo timedatectl set-ntp true",
        ),
        (
            with(|f| f.has_ipv6 = false),
            "warn IPv6: off: nodes that have only IPv6 are out of reach -> sudo sysctl net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.lo.disable_ipv6=0",
        ),
        (
            with(|f| f.lost_datagrams = 1_234),
            "warn receive buffer: at most 208.0 KiB, and this machine has lost 1,234 datagrams to full buffers -> sudo sysctl net.core.rmem_max=4194304",
        ),
        (
            running(|s| s["mesh"]["members"] = json!(17)),
            "warn receive buffer: at most 208.0 KiB, and 17 members may send at once -> sudo sysctl net.core.rmem_max=4194304",
        ),
        (
            with(|f| f.unreadable = vec!["/proc/stat"]),
            "warn measurements: /proc/stat can't be read, so what is in there is not measured -> let this user read /proc; in a container or a sandboxed unit it may be hidden",
        ),
        (
            running(|s| {
                s["sources"] = json!([
                    {"name": "cpu", "ok": true, "error": null},
                    {"name": "sensors", "ok": false, "error": "timed out"},
                ]);
            }),
            "warn sources: not measured: sensors (timed out) -> `outlast status` shows whether it lasts; what is there must be readable for the node's user",
        ),
        (
            with(|f| f.service.enabled = false),
            "warn service: installed, but it does not start with the machine -> sudo systemctl enable --now outlast",
        ),
        (
            with(|f| f.service.installed = false),
            "warn service: none: after a restart of the machine nobody starts this node -> sudo outlast service install",
        ),
        (
            with(|f| f.service.account = false),
            "fail service: its user outlast is missing, so it can't start -> sudo outlast service install",
        ),
        (
            with(|f| {
                f.state.quarantine = vec!["gen-000003-17 (read: no answer within 30 s)".into()]
            }),
            "warn store: damaged and set aside: gen-000003-17 (read: no answer within 30 s); the peers give back what was in there -> check the disk (dmesg), then remove /var/lib/outlast/store/quarantine",
        ),
        (
            without_node(|f| f.ports = Some(ports(Err(ErrorKind::AddrInUse), Ok(())))),
            "fail UDP port: [::]:51800 is taken by another program -> `sudo ss -lunp sport = :51800` names it; or take another port with --listen",
        ),
        (
            without_node(|f| f.ports = Some(ports(Ok(()), Err(ErrorKind::AddrNotAvailable)))),
            "fail page: 127.0.0.1:5180 is no address of this machine -> give --dashboard one that `ip address` lists",
        ),
        (
            without_node(|f| f.config = Ok(Config::parse("dashboard = \"0.0.0.0:5180\"").unwrap())),
            "warn page: served on 0.0.0.0:5180 without encryption, to everybody who reaches that address -> serve it on 127.0.0.1:5180 and reach it by: ssh -L 5180:127.0.0.1:5180 HOST",
        ),
        (
            with(|f| f.node = NodeFacts::Absent),
            "fail node: none answers, though a process holds /var/lib/outlast/lock -> wait if it has just started; otherwise `fuser` names the process to stop",
        ),
        (
            with(|f| (f.node, f.state.lock) = (NodeFacts::Absent, Lock::Free)),
            "fail node: not running, so this machine is not measured -> sudo systemctl start outlast",
        ),
        (
            with(|f| {
                f.node = NodeFacts::Silent(
                    "connect to /run/outlast/control.sock: Permission denied".into(),
                )
            }),
            "fail node: connect to /run/outlast/control.sock: Permission denied -> run this as the user who runs the node, or as root",
        ),
        (
            running(|s| s["mesh"] = Value::Null),
            "warn node: runs (process 7) and belongs to no mesh yet -> outlast init, or: outlast join < token",
        ),
        (
            running(|s| s["node"]["isolated"] = json!(true)),
            "warn node: attic runs isolated: every datagram is dropped -> outlast isolate off",
        ),
        (
            running(|s| {
                s["store"]["health"] = json!("4096 bytes are in memory only: no space");
                s["notices"] = json!(["4096 bytes are in memory only: no space"]);
            }),
            "fail store: 4096 bytes are in memory only: no space -> see the disk above; the node writes again by itself once it can",
        ),
        (
            running(|s| s["store"] = json!({ "health": "", "lost_rows": 60, "damaged": 2 })),
            "warn store: 60 rows were given up in memory: the disk took none for too long; 2 damaged records or blocks were left out; the peers give back what they have -> check the disk (dmesg), and that other nodes are in reach",
        ),
        (
            running(|s| s["notices"] = json!(["the mesh has no recovery\u{1b}words"])),
            "warn notice: the mesh has no recovery\\u{1b}words -> -",
        ),
        (
            running(|s| s["peers"][0]["state"] = json!("down")),
            "warn peers: cellar is out of reach, last heard 1 s ago -> on cellar: outlast doctor",
        ),
        (
            running(|s| s["peers"][0]["clock_offset_ms"] = json!(-2_592_000_000_i64)),
            "warn peers' clocks: beside this one, cellar is 30 d behind -> on the machine that is wrong: sudo timedatectl set-ntp true",
        ),
        (
            running(|s| {
                s["peers"][0]["clock_offset_ms"] = json!(-60_000);
                s["notices"] = json!(["the clock of cellar is 60 s behind this machine's"]);
            }),
            "warn peers' clocks: beside this one, cellar is 60 s behind -> on the machine that is wrong: sudo timedatectl set-ntp true",
        ),
        (
            running(|s| {
                let peer = json!({ "name": "shed", "state": "alive", "clock_offset_ms": 2_592_000_100_i64 });
                s["peers"][0]["clock_offset_ms"] = json!(2_592_000_000_i64);
                s["peers"].as_array_mut().unwrap().push(peer);
            }),
            "fail peers' clocks: this machine's clock is 30 d behind those of most peers -> sudo timedatectl set-ntp true",
        ),
    ];
    for (facts, said) in &cases {
        assert_eq!(wrong(facts), [*said]);
    }
}

#[test]
fn a_clock_that_chrony_keeps_is_fine_without_a_word_from_timesyncd() {
    let mut facts = fine();
    (facts.synchronised, facts.time_service, facts.has_rtc) = (None, Some("chrony"), false);
    let finding = clock::reads(&facts);
    assert_eq!(finding.verdict, Verdict::Ok);
    assert!(finding.says.ends_with("kept by chrony"), "{}", finding.says);
}

#[test]
fn nobody_misses_a_machine_that_may_be_off_or_was_replaced() {
    let facts = running(|status| {
        let off = json!({ "name": "laptop", "state": "down", "may_be_off": true });
        let old = json!({ "name": "cellar-abcd", "state": "retired", "may_be_off": false });
        let peers = status["peers"].as_array_mut().unwrap();
        peers.extend([off, old]);
    });
    let [finding] = &node::peers(&facts)[..] else {
        panic!("one finding")
    };
    assert_eq!(
        (finding.verdict, finding.says.as_str()),
        (Verdict::Ok, "1 of 2 in reach")
    );
}

#[test]
fn a_store_that_is_bounded_by_somebody_says_by_whom() {
    let facts = running(|status| {
        status["store"] = json!({
            "health": "", "ready": true, "limit_bytes": 128 << 20,
            "limit_from": "configuration", "retention_bytes": 1 << 30,
        });
    });
    let findings = store::store(&facts);
    assert_eq!(
        findings[0].says,
        "healthy; at most 128.0 MiB, by store.limit_bytes of its configuration, which goes before the mesh's retention of 1.0 GiB"
    );
}

#[test]
fn a_path_is_quoted_for_the_shell_it_is_pasted_into() {
    let cases = [
        ("/var/lib/outlast", "/var/lib/outlast"),
        ("/my disk/o'x", r"'/my disk/o'\''x'"),
        ("/a;rm -rf", "'/a;rm -rf'"),
        ("/a\u{1b}", "'/a\\u{1b}'"),
    ];
    for (path, word) in cases {
        assert_eq!(quoted(std::path::Path::new(path)), word);
    }
}
