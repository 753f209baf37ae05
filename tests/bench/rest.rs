//! Bytes a second between peers that have nothing to say: the mesh alone, without a row, a store
//! or a sampler, with 3 to 99 peers each; above 63 not everybody has a session with everybody.
//!
//! All nodes of one size are meshes of one process in a namespace of their own, on its loopback,
//! with real sockets and real time. What is counted is what the kernel counts there: IPv4 and UDP
//! headers with the datagrams, no Ethernet, each packet once. Four minutes hold two renewals of
//! each session. A capture in the same namespace says what it was: WireGuard's message type and
//! the length of the datagram. The sizes run side by side.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use outlast_tests::{Killed, Net};

/// Peers of each node.
const PEERS: [usize; 5] = [3, 8, 16, 63, 99];

/// How long the wire is watched.
const WATCHED: Duration = Duration::from_secs(240);

/// How long everything runs first: joining and the first greetings aren't counted.
const SETTLING: Duration = Duration::from_secs(20);

/// What a datagram is by message type and bytes of UDP payload. A mesh frame alone in its packet
/// has these lengths; two that share a packet show as "other".
const CLASSES: [(u8, std::ops::RangeInclusive<usize>, &str); 8] = [
    (1, 148..=148, "handshake initiation"),
    (2, 92..=92, "handshake response"),
    (3, 64..=64, "cookie"),
    (4, 32..=32, "sign of life (an empty packet)"),
    (4, 96..=96, "PING alone (liveness, round trip)"),
    (4, 112..=112, "PONG alone"),
    (4, 160..=160, "SUMMARY (digest of statements) with its PING"),
    (4, 176..=176, "HELLO alone (greeting after each handshake)"),
];

pub(crate) fn measure() {
    measure_sizes(&PEERS);
}

/// The same of these sizes alone, in peers of each node.
pub(crate) fn measure_sizes(sizes: &[usize]) {
    if Net::new("e").is_none() {
        println!("\nrest: not measured, namespaces take root");
        return;
    }
    let each = sizes.iter().copied();
    let sizes: Vec<_> = each
        .map(|peers| std::thread::spawn(move || (peers, watch(peers))))
        .collect();
    println!(
        "\nat rest, no rows, {:.0} s     B/s a node sends   of which a peer   packets/s a peer",
        WATCHED.as_secs_f64()
    );
    let watched = sizes.into_iter().map(|size| size.join());
    let watched: Vec<_> = watched
        .map(|size| size.expect("every size is measured"))
        .collect();
    for (peers, wire) in &watched {
        let ways = ((peers + 1) * peers) as f64 * WATCHED.as_secs_f64();
        println!(
            "{:30} {:17.0} {:17.1} {:17.2}",
            format!("{peers} peers each"),
            wire.bytes / ways * *peers as f64,
            wire.bytes / ways,
            wire.packets / ways,
        );
    }
    for (peers, wire) in &watched {
        let ways = ((peers + 1) * peers) as f64 * WATCHED.as_secs_f64();
        println!(
            "of which with {peers} peers, B/s a node sends a peer (captured, headers included)"
        );
        for (class, (packets, bytes)) in &wire.classes {
            let part = *bytes as f64 / ways;
            println!("  {class:52} {part:8.2}   {packets:6} packets");
        }
    }
}

/// What crossed one namespace's loopback.
struct Wire {
    bytes: f64,
    packets: f64,
    /// Packets and bytes by what they were.
    classes: BTreeMap<&'static str, (u64, u64)>,
}

fn watch(peers: usize) -> Wire {
    let mut net = Net::new(&format!("e{peers}")).expect("namespaces take root");
    let namespace = net.plug("h");
    let mut nodes = Killed(
        inside(&namespace)
            .arg(std::env::current_exe().expect("this program"))
            .args(["meshes", &(peers + 1).to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the meshes"),
    );
    let mut ready = String::new();
    let stdout = nodes.0.stdout.take().expect("stdout is piped");
    BufReader::new(stdout)
        .read_line(&mut ready)
        .expect("the meshes speak");
    assert_eq!(ready.trim(), "connected");
    std::thread::sleep(SETTLING);

    let mut capture = Killed(
        inside(&namespace)
            .args([
                "tcpdump", "-i", "lo", "-n", "-U", "-s", "64", "-w", "-", "udp",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start tcpdump; `make bench` installs it"),
    );
    let mut stdout = capture.0.stdout.take().expect("stdout is piped");
    let captured = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(stdout.read_to_end(&mut bytes));
        bytes
    });
    std::thread::sleep(Duration::from_secs(1));
    let before = loopback(nodes.0.id());
    std::thread::sleep(WATCHED);
    let after = loopback(nodes.0.id());
    drop(capture);
    let captured = captured.join().expect("the capture was read");
    Wire {
        bytes: after.0 - before.0,
        packets: after.1 - before.1,
        classes: classes(&captured),
    }
}

fn inside(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    command
}

/// Bytes and packets received on the loopback of a process's namespace: all that was sent there.
fn loopback(pid: u32) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("net/dev");
    let line = text
        .lines()
        .find(|line| line.trim_start().starts_with("lo:"));
    let mut fields = line.expect("loopback").split_whitespace().skip(1);
    let mut number = || {
        fields
            .next()
            .and_then(|field| field.parse().ok())
            .expect("a count")
    };
    (number(), number())
}

/// Sorts a capture: 24 bytes of file header, then 16 bytes before each packet of at most 64, which
/// begins with 14 of Ethernet, 20 of IPv4 and 8 of UDP.
fn classes(pcap: &[u8]) -> BTreeMap<&'static str, (u64, u64)> {
    const HEADERS: usize = 14 + 20 + 8;
    let mut classes = BTreeMap::new();
    let mut rest = pcap.get(24..).unwrap_or_default();
    while let Some((head, after)) = rest.split_at_checked(16) {
        let number = |at: usize| {
            let bytes = head[at..at + 4].try_into().expect("four of sixteen bytes");
            u32::from_ne_bytes(bytes) as usize
        };
        let (kept, whole) = (number(8), number(12));
        let Some((packet, next)) = after.split_at_checked(kept) else {
            break;
        };
        rest = next;
        let kind = packet.get(HEADERS).copied().unwrap_or_default();
        let length = whole.saturating_sub(HEADERS);
        let class = CLASSES
            .iter()
            .find(|(of, lengths, _)| *of == kind && lengths.contains(&length));
        let name = class.map_or("other", |(_, _, name)| name);
        let count: &mut (u64, u64) = classes.entry(name).or_default();
        count.0 += 1;
        count.1 += (whole - 14) as u64;
    }
    classes
}
