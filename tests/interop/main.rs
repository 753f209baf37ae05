//! Stock WireGuard on the other side of a tunnel: handshakes begun by either, pings inside, a
//! renewal, and a node killed and started again. Needs root, for network namespaces.
//!
//! The node is the real one and admits nobody in a special way: the stock machine's key becomes a
//! member's by an ordinary token, and `wireguard-go` takes over from there. Behind it stands the
//! kernel's own IPv6 and UDP, and a few lines that greet and answer pings as the wire says.
//! A target of its own, because it mostly waits: `make test` runs it beside the others.

mod member;

use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use outlast_mesh::trust::Token;
use outlast_mesh::{Identity, NodeKey, TunnelKey, join, overlay_address};
use outlast_tests::capture::enter;
use outlast_tests::{Killed, Stock, World, wait_for};

use member::Member;

const PORT: u16 = 51_820;

/// A key lasts two minutes, and its renewal some jitter.
const RENEWED: Duration = Duration::from_secs(150);

#[test]
fn a_stock_wireguard_peer_meets_pings_renews_and_outlives_a_restart() {
    let mut rig = Rig::new();

    // It begins: only it knows where the other is.
    let process = rig.stock_up("Endpoint = 10.77.0.1:51800\nPersistentKeepalive = 5");
    rig.wait_pings("begun by the stock side");
    assert!(rig.stock.handshake_ms().is_some());
    assert!(rig.stock.received() > 0.0);
    drop(process);

    // The node begins: the stock side starts anew, says nothing by itself and knows no address.
    let _process = rig.stock_up("");
    rig.wait_pings("begun by the node");
    let first = rig.stock.handshake_ms().expect("a handshake");

    rig.world.node_mut(0).kill();
    rig.world.node_mut(0).up();
    rig.wait_pings("after a restart");
    let second = rig.stock.handshake_ms().expect("a handshake");
    assert!(second > first, "{second} after {first}");

    // Nobody stops talking while the key is renewed.
    let began = Instant::now();
    let renewed = loop {
        rig.ping().expect("each ping is answered");
        let third = rig.stock.handshake_ms().expect("a handshake");
        if third > second {
            break third;
        }
        assert!(began.elapsed() < RENEWED, "never renewed");
        std::thread::sleep(Duration::from_secs(1));
    };
    eprintln!("renewed after {:.0} s", (renewed - second) / 1_000.0);
    assert!(renewed - second > 100_000.0, "{renewed} after {second}");
    rig.wait_pings("in the renewed session");
}

/// The node, the stock machine, and the member behind it.
struct Rig {
    world: World,
    stock: Stock,
    address: Ipv6Addr,
    node: Ipv6Addr,
    node_key: String,
    member: Option<Member>,
}

impl Rig {
    fn new() -> Self {
        let binary = env!("CARGO_BIN_EXE_outlast-under-test");
        let world = World::in_namespaces(binary, "iw");
        let mut world =
            world.expect("network namespaces take root; run `make test` as root or in a container");
        world.add("a");
        world.node_mut(0).up();
        let token = world.node(0).run(&["init", "--name", "a", "--invite", "1"]);
        let namespace = world.net.as_mut().expect("in namespaces").plug("s");
        let token = Token::parse(token.trim()).expect("a token");
        let (node, tunnel) = (NodeKey::generate(), TunnelKey::generate());
        let address = overlay_address(&token.mesh(), &node.id());
        let key = world.dir().join("stock.key");
        tunnel.store(&key).expect("keep a key");
        let private = std::fs::read_to_string(&key).expect("a key as wg writes it");
        admit(
            &namespace,
            token,
            Identity {
                node,
                tunnel,
                previous: Vec::new(),
            },
        );

        let status = world.node(0).json(&["status"]);
        let node = status["node"]["address"].as_str().expect("an address");
        let node = node.parse().expect("an address");
        let own_key = world.node(0).state.join("wg.key");
        let own_key = std::fs::read_to_string(own_key).expect("the node's key");
        let node_key = world.node(0).run_with_input(&["pubkey"], &own_key);
        let stock = Stock::new("s", &namespace, &private, world.dir());
        Self {
            world,
            stock,
            address,
            node,
            node_key: node_key.trim().to_owned(),
            member: None,
        }
    }

    /// Starts the stock side with its peer told so much, and the member behind it.
    fn stock_up(&mut self, told: &str) -> Killed {
        let peer = format!(
            "PublicKey = {}\nAllowedIPs = {}/128\n{told}",
            self.node_key, self.node
        );
        self.member = None;
        let process = self.stock.up(PORT, &peer);
        let (own, other) = (
            format!("{}/128", self.address),
            format!("{}/128", self.node),
        );
        let interface = self.stock.interface();
        self.stock
            .inside(&["ip", "addr", "add", &own, "dev", interface, "nodad"]);
        self.stock
            .inside(&["ip", "route", "add", &other, "dev", interface]);
        self.member = Some(Member::start(self.stock.namespace(), self.address));
        process
    }

    fn ping(&self) -> Result<(), String> {
        let pinged = self
            .world
            .node(0)
            .try_run(&["ping", "stock", "-c", "1"], "");
        pinged.map(drop)
    }

    fn wait_pings(&self, what: &str) {
        let began = Instant::now();
        wait_for(&format!("pings {what}"), Duration::from_secs(40), || {
            self.ping()
        });
        eprintln!("{what}: the first ping after {:?}", began.elapsed());
        for _ in 0..3 {
            self.ping().expect("each ping is answered");
        }
    }
}

/// Has the key become a member's, by a token like anybody's.
fn admit(namespace: &str, token: Token, identity: Identity) {
    let namespace = namespace.to_owned();
    let joining = std::thread::spawn(move || {
        enter(&namespace);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let listen = Some(SocketAddr::from(([0, 0, 0, 0], PORT)));
        let waits = &mut |_waits: &str| {};
        let joined = join(listen, &token, &identity, "stock", waits);
        runtime.expect("a runtime").block_on(joined).map(drop)
    });
    joining.join().expect("no panic").expect("admitted");
}
