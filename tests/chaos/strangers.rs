//! A stranger on the same network sends everything it can, and members go on as if it weren't
//! there. What nodes say on the wire all the while is WireGuard and tells nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use outlast_tests::capture::{Capture, Seen};
use outlast_tests::stranger::{self, Flood, Source};
use outlast_tests::usage::Usage;
use outlast_tests::{Node, World};

use crate::world;

/// Memory a node may take more for being attacked.
const MORE_MEMORY_BYTES: f64 = 8_388_608.0;

/// How long a member that lost its power may take to be back during a flood. It takes about a
/// second; the flood takes a core, and the machine may be busy.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Where the stranger is, and the network whose every address it can claim.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 3));
const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 78, 0, 0));

#[test]
fn a_hundred_thousand_foreign_datagrams_and_floods_of_handshakes_shut_nobody_out() {
    let mut world = world("s");
    for name in ["gatehouse", "lighthouse"] {
        world.add(name);
    }
    let wires =
        [0, 1].map(|number| Capture::start(home(&world, number), Wire::default(), Wire::take));
    let overheard = Capture::start(home(&world, 1), Vec::new(), |all, seen| {
        all.push(seen.payload.to_vec());
    });
    meet(&mut world);
    let overheard: Vec<Vec<u8>> = overheard.stop();
    let net = world.net.as_mut().expect("in namespaces");
    let attacker = net.plug("stranger");
    net.lend("stranger", "10.78.0.0/16");
    let (gate, light) = (address(&world, 0), address(&world, 1));
    let memory = resident(world.node(0));

    // Garbage, truncated, altered, oversize, repeated: from the stranger, then in a member's name.
    let before = handshakes(world.node(0));
    let junk = stranger::junk(&overheard, 53_000);
    let one_packet = |bytes: &&Vec<u8>| bytes.len() <= 1_400;
    let short: Vec<_> = junk.iter().filter(one_packet).cloned().collect();
    let mut from_stranger = bytes_of(&junk);
    stranger::send_once(&attacker, gate, &junk, Source::Own, 10_000);
    stranger::send_once(&attacker, gate, &short, Source::Of(light), 10_000);
    let counted = dropped(world.node(0)).values().sum::<u64>();
    let sent = (junk.len() + short.len()) as u64;
    assert!(sent >= 99_000 && counted >= sent / 2, "{counted} of {sent}");
    assert_eq!(handshakes(world.node(0)), before, "sessions left alone");
    world
        .node(0)
        .wait_alive(&["lighthouse"], Duration::from_secs(5));

    // Handshakes as fast as one core can begin them, while a member comes back from a power cut.
    let initiations = stranger::initiations(stranger::public_key(&world.node(0).state), 300);
    let mut from_anywhere = 0;
    for source in [Source::Own, Source::Anywhere, Source::Of(light)] {
        let flood = Flood::start(&attacker, gate, initiations.clone(), source, None);
        std::thread::sleep(Duration::from_secs(2));
        world.node_mut(1).kill();
        world.node_mut(1).up();
        world.node(1).wait_alive(&["gatehouse"], BACK_WITHIN);
        world.node(0).wait_alive(&["lighthouse"], BACK_WITHIN);
        let bytes = flood.stop() * 148;
        match source {
            Source::Own => from_stranger += bytes,
            Source::Anywhere => from_anywhere += bytes,
            Source::Of(_) => {}
        }
    }

    // What `status` shows may be a second old.
    std::thread::sleep(Duration::from_secs(2));
    let grown = resident(world.node(0)) - memory;
    assert!(grown <= MORE_MEMORY_BYTES, "{grown} bytes more");
    let refused = dropped(world.node(0))["under load"];
    let counted = world.node(0).json(&["status"])["traffic"]["tx_datagrams"].as_u64();
    let counted = counted.expect("a count");
    let [at_gate, at_light] = wires.map(Capture::stop);
    let cookies = at_gate.said.iter().filter(|((_, kind), _)| *kind == 3);
    let cookies: u64 = cookies.map(|(_, (count, _))| count).sum();
    assert!(cookies <= refused, "{cookies} for {refused} initiations");
    let seen = at_gate.datagrams;
    assert!(seen >= counted / 100 * 99, "{seen} seen of {counted}");
    assert_eq!(at_gate.offences, Vec::<String>::new());
    assert_eq!(at_light.offences, Vec::<String>::new());
    at_gate.assert_cookies_within(STRANGER, from_stranger, &overheard);
    at_gate.assert_cookies_within(ANYWHERE, from_anywhere, &[]);
}

/// What a node said.
#[derive(Default)]
struct Wire {
    datagrams: u64,
    /// By whom it was said to and the message's type: how many, and bytes.
    said: BTreeMap<(IpAddr, u8), (u64, u64)>,
    /// What is not WireGuard, or can be read; the first ten.
    offences: Vec<String>,
}

impl Wire {
    fn take(&mut self, seen: &Seen<'_>) {
        let is_wireguard = matches!(seen.payload, [1..=4, 0, 0, 0, ..]);
        let readable = ["gatehouse", "lighthouse", "outlast", "node_"]
            .into_iter()
            .find(|word| contains(seen.payload, word.as_bytes()));
        if (!is_wireguard || readable.is_some()) && self.offences.len() < 10 {
            let (from, to) = (seen.from, seen.to);
            self.offences.push(format!("{from} to {to}: {readable:?}"));
        }
        let to = match seen.to.ip() {
            IpAddr::V4(ip) if ip.octets()[..2] == [10, 78] => ANYWHERE,
            ip => ip,
        };
        self.datagrams += 1;
        let kind = seen.payload.first().copied().unwrap_or(0);
        let (count, bytes) = self.said.entry((to, kind)).or_default();
        *count += 1;
        *bytes += seen.payload.len() as u64;
    }

    /// To this address went fewer bytes than came from there, and cookies alone; besides them an
    /// answer for each overheard initiation that had not reached the node yet.
    fn assert_cookies_within(&self, to: IpAddr, came: u64, overheard: &[Vec<u8>]) {
        let said = |kind| self.said.get(&(to, kind)).copied().unwrap_or((0, 0));
        let initiations: BTreeSet<_> = overheard.iter().filter(|bytes| bytes[0] == 1).collect();
        assert!(said(2).0 <= initiations.len() as u64, "{:?}", said(2));
        assert_eq!((said(1), said(4)), ((0, 0), (0, 0)));
        assert!(said(3).0 > 0, "no cookie was seen");
        assert!(said(2).1 + said(3).1 <= came, "{:?} for {came}", said(3));
    }
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}

fn bytes_of(datagrams: &[Vec<u8>]) -> u64 {
    datagrams.iter().map(|bytes| bytes.len() as u64).sum()
}

fn home(world: &World, number: usize) -> &str {
    world.node(number).namespace().expect("in namespaces")
}

fn meet(world: &mut World) {
    for number in 0..2 {
        world.node_mut(number).up();
    }
    let token = world
        .node(0)
        .run(&["init", "--name", "gatehouse", "--invite", "1"]);
    world
        .node(1)
        .run_with_input(&["join", "--name", "lighthouse"], &token);
    for (number, other) in [(0, "lighthouse"), (1, "gatehouse")] {
        world
            .node(number)
            .wait_alive(&[other], Duration::from_secs(20));
    }
    // Rows and greetings are to be overheard too.
    std::thread::sleep(Duration::from_secs(3));
}

fn address(world: &World, number: usize) -> SocketAddrV4 {
    let port = world.node(number).json(&["status"])["node"]["udp_port"].as_u64();
    let port = u16::try_from(port.expect("a port")).expect("a port");
    let host = u8::try_from(number + 1).expect("few hosts");
    SocketAddrV4::new([10, 77, 0, host].into(), port)
}

fn resident(node: &Node) -> f64 {
    Usage::of(node.pid().expect("the node is up")).resident_bytes
}

fn handshakes(node: &Node) -> u64 {
    let status = node.json(&["status"]);
    status["traffic"]["handshakes"].as_u64().expect("a count")
}

fn dropped(node: &Node) -> BTreeMap<String, u64> {
    let status = node.json(&["status"]);
    serde_json::from_value(status["traffic"]["dropped"].clone()).expect("counts by reason")
}
