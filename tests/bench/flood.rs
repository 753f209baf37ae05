//! What a node survives: a stranger that knows its public key sends as fast as one core can,
//! while the other core keeps a mesh of two going. Each load for 4 s, then a member's power cut.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use outlast_tests::stranger::{self, Flood, Source};
use outlast_tests::usage::Usage;
use outlast_tests::{Node, Rows, World};

use crate::OUTLAST;

/// How long each load is watched.
const WATCHED: Duration = Duration::from_secs(4);

/// A live row later than this isn't live.
const ON_TIME_MS: i64 = 2_000;

pub(crate) fn measure() {
    let Some(mut world) = World::in_namespaces(OUTLAST, "f") else {
        println!("\nflood: not measured, namespaces take root");
        return;
    };
    world.found(&["a", "b"]);
    let net = world.net.as_mut().expect("in namespaces");
    let namespace = net.plug("stranger");
    net.lend("stranger", "10.78.0.0/16");
    world.node(0).wait_alive(&["b"], Duration::from_secs(20));
    std::thread::sleep(Duration::from_secs(3));

    let [a, b] = [1, 2].map(|host| SocketAddrV4::new([10, 77, 0, host].into(), 51_800));
    let initiations = stranger::initiations(stranger::public_key(&world.node(0).state), 300);
    let junk: Vec<_> = stranger::junk(&initiations, 8_000)
        .into_iter()
        .filter(|bytes| bytes.len() <= 1_400)
        .collect();
    let from = |datagrams: &[Vec<u8>], source| {
        Flood::start(&namespace, a, datagrams.to_vec(), source, None)
    };
    println!(
        "\n{:34} {:>9} {:>9} {:>7} {:>12} {:>11}",
        "flood for 4 s", "sent/s", "read/s", "cpu %", "rows on time", "b back, ms"
    );
    row(&mut world, "none", || None);
    row(&mut world, "junk of every class", || {
        Some(from(&junk, Source::Own))
    });
    for (name, source) in [
        ("initiations, one source", Source::Own),
        ("initiations, 65,534 sources", Source::Anywhere),
        ("initiations in b's name", Source::Of(b)),
    ] {
        row(&mut world, name, || Some(from(&initiations, source)));
    }
}

/// Watches node a under one load, then takes b's power away for a moment.
fn row(world: &mut World, name: &str, load: impl FnOnce() -> Option<Flood>) {
    let pid = world.node(0).pid().expect("up");
    let rows = Rows::of(world.node(0), "b");
    let before = (Usage::of(pid), received(world.node(0)), Instant::now());
    let flood = load();
    std::thread::sleep(WATCHED);
    let seconds = before.2.elapsed().as_secs_f64();
    let cpu = (Usage::of(pid).cpu_s - before.0.cpu_s) / seconds * 100.0;
    let read = (received(world.node(0)) - before.1) as f64 / seconds;
    // A row more than seconds may fall into the stretch.
    let rows = rows.so_far().into_iter();
    let on_time = rows.filter(|row| row.arrived_ms - row.at_ms <= ON_TIME_MS);
    let on_time = (on_time.count() as f64 / seconds).min(1.0);

    world.node_mut(1).kill();
    let began = Instant::now();
    world.node_mut(1).up();
    world.node(1).wait_alive(&["a"], Duration::from_secs(60));
    let back = began.elapsed().as_millis();
    let flooded = before.2.elapsed().as_secs_f64();
    let sent = flood.map_or(0, Flood::stop) as f64 / flooded;
    println!(
        "{name:34} {sent:>9.0} {read:>9.0} {cpu:>7.1} {:>10.0} % {back:>11}",
        on_time * 100.0
    );
    world.node(0).wait_alive(&["b"], Duration::from_secs(60));
    std::thread::sleep(Duration::from_secs(1));
}

fn received(node: &Node) -> u64 {
    let status = node.json(&["status"]);
    status["traffic"]["rx_datagrams"].as_u64().expect("a count")
}
