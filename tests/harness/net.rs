//! Network namespaces on one bridge, each with IPv4 and IPv6, whose cables can be pulled.
//!
//! `Net::new` makes a switch namespace with a bridge, `plug` adds a host, `pull` and `push_back`
//! take its link down and up at the switch, `sever` and `mend` the way beyond it, `part` and `rejoin` that between two sides, `unplug` and
//! `replug` take the interface itself away, `ip` and `run` change things in a host. `put_beyond`
//! has a host stand behind a router whose link to it is 1,280 bytes narrow and says nothing of it;
//! `nat` builds sites behind routers that translate addresses.
//! Invariant: names carry the test's process id, and everything is removed on drop.
//! Absent: delay and reordering; `netem` isn't in the kernels tests run on.

use std::collections::BTreeMap;
use std::process::Command;

use crate::nat::Sites;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Four,
    /// IPv6.
    Six,
}

/// The bridge and the hosts on it.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    hosts: Vec<String>,
    families: Vec<Family>,
    beyond: BTreeMap<String, Family>,
    has_router: bool,
    pub(crate) sites: Sites,
}

impl Net {
    /// Makes the switch. `None` without root: namespaces need it.
    pub fn new(tag: &str) -> Option<Self> {
        if !rustix_is_root() {
            return None;
        }
        let net = Self {
            prefix: format!("ol{}{tag}", std::process::id()),
            hosts: Vec::new(),
            families: vec![Family::Four, Family::Six],
            beyond: BTreeMap::new(),
            has_router: false,
            sites: Sites::default(),
        };
        let switch = net.switch();
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        Some(net)
    }

    /// Hosts plugged from here on have addresses of this family only.
    pub fn speak_only(&mut self, family: Family) {
        self.families = vec![family];
    }

    /// This host, once plugged, stands behind the router and speaks this family only.
    pub fn put_beyond(&mut self, host: &str, family: Family) {
        self.beyond.insert(host.to_owned(), family);
    }

    /// Adds a host and returns its namespace; its addresses are 10.77.0.N and fd77::N, beyond
    /// the router 10.77.N.2 and fd77:N::2, and elsewhere where it was told to stand.
    pub fn plug(&mut self, host: &str) -> String {
        let number = self.hosts.len() + 1;
        let namespace = self.namespace(host);
        ip(&["netns", "add", &namespace]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        self.hosts.push(host.to_owned());
        match (self.sites.place(host), self.beyond.get(host).copied()) {
            (Some(place), _) => self.plug_at(host, number, &place),
            (None, Some(family)) => self.plug_beyond(host, number, family),
            (None, None) => self.replug(host, number),
        }
        namespace
    }

    /// The number of a host, in the order of `plug`.
    pub(crate) fn number(&self, host: &str) -> usize {
        let at = self.hosts.iter().position(|known| known == host);
        at.expect("a host of this network") + 1
    }

    /// Gives a host an interface on the bridge, with the addresses of this number.
    pub fn replug(&self, host: &str, number: usize) {
        let (namespace, switch, port) = (self.namespace(host), self.switch(), port(host));
        ip(&[
            "link", "add", "eth0", "netns", &namespace, "type", "veth", "peer", "name", &port,
            "netns", &switch,
        ]);
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        for family in &self.families {
            self.add_address(host, *family, &address(*family, number));
        }
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        for family in &self.families {
            self.lead_beyond(host, *family);
        }
    }

    /// Takes the host's interface away, addresses and routes with it.
    pub fn unplug(&self, host: &str) {
        ip(&["-n", &self.switch(), "link", "del", &port(host)]);
    }

    /// Gives a host one more address, with its prefix length.
    pub fn add_address(&self, host: &str, family: Family, address: &str) {
        // Without the second that looking for duplicates takes.
        let mut arguments = vec!["addr", "add", address, "dev", "eth0"];
        if family == Family::Six {
            arguments.push("nodad");
        }
        self.ip(host, &arguments);
    }

    /// Runs `ip` in a host.
    pub fn ip(&self, host: &str, arguments: &[&str]) {
        let namespace = self.namespace(host);
        ip(&[&["-n", &namespace], arguments].concat());
    }

    /// Runs any command in a host.
    pub fn run(&self, host: &str, command: &[&str]) {
        let namespace = self.namespace(host);
        ip(&[&["netns", "exec", &namespace], command].concat());
    }

    /// A host behind the router. Its own interface would carry 1,500 bytes, the router's end of the
    /// link carries 1,280 and drops what is longer; ICMP that would tell is dropped too.
    fn plug_beyond(&mut self, host: &str, number: usize, family: Family) {
        self.make_router();
        let (namespace, router) = (self.namespace(host), self.namespace(ROUTER));
        let link = format!("to-{host}");
        ip(&[
            "link", "add", "eth0", "netns", &namespace, "type", "veth", "peer", "name", &link,
            "netns", &router,
        ]);
        let (here, there, everything) = match family {
            Family::Four => (
                format!("10.77.{number}.1/24"),
                format!("10.77.{number}.2/24"),
                "10.77.0.0/16",
            ),
            Family::Six => (
                format!("fd77:{number}::1/64"),
                format!("fd77:{number}::2/64"),
                "fd77::/16",
            ),
        };
        self.ip(ROUTER, &["link", "set", &link, "mtu", "1280", "up"]);
        let mut arguments = vec!["addr", "add", &here, "dev", &link];
        if family == Family::Six {
            arguments.push("nodad");
        }
        self.ip(ROUTER, &arguments);
        self.add_address(host, family, &there);
        self.ip(host, &["link", "set", "eth0", "up"]);
        let (gateway, _length) = here.split_once('/').expect("written so above");
        self.ip(host, &["route", "add", everything, "via", gateway]);
    }

    fn make_router(&mut self) {
        if std::mem::replace(&mut self.has_router, true) {
            return;
        }
        let router = self.namespace(ROUTER);
        ip(&["netns", "add", &router]);
        ip(&["-n", &router, "link", "set", "lo", "up"]);
        self.replug(ROUTER, ROUTER_NUMBER);
        self.run(
            ROUTER,
            &[
                "sysctl",
                "-qw",
                "net.ipv4.ip_forward=1",
                "net.ipv6.conf.all.forwarding=1",
            ],
        );
        self.run(
            ROUTER,
            &[
                "nft",
                "table inet silent { chain out { type filter hook output priority 0; \
                 icmp type destination-unreachable drop; icmpv6 type packet-too-big drop; }; }",
            ],
        );
    }

    /// Tells a host on the bridge the way to the hosts beyond the router, wherever that may be.
    fn lead_beyond(&self, host: &str, family: Family) {
        if host == ROUTER {
            return;
        }
        let (everything, router) = match family {
            Family::Four => ("10.77.0.0/16", format!("10.77.0.{ROUTER_NUMBER}")),
            Family::Six => ("fd77::/16", format!("fd77::{ROUTER_NUMBER}")),
        };
        self.ip(host, &["route", "add", everything, "via", &router]);
    }

    /// Gives the host other addresses, 10.77.0.N and fd77::N, and takes those it had away.
    pub fn move_to(&self, host: &str, number: usize) {
        self.ip(host, &["addr", "flush", "dev", "eth0", "scope", "global"]);
        for family in &self.families {
            self.add_address(host, *family, &address(*family, number));
        }
    }

    /// Lets a host be every address of a further network, and the others know the way there.
    pub fn lend(&self, host: &str, network: &str) {
        let via = format!("10.77.0.{}", self.number(host));
        for other in &self.hosts {
            let namespace = self.namespace(other);
            let way: &[&str] = if other == host {
                &["local", network, "dev", "lo"]
            } else {
                &[network, "via", &via]
            };
            ip(&[&["-n", &namespace, "route", "add"], way].concat());
        }
    }

    /// Pulls the host's cable.
    pub fn pull(&self, host: &str) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "down"]);
    }

    /// Puts the host's cable back.
    pub fn push_back(&self, host: &str) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "up"]);
    }

    /// Cuts the way beyond the host's cable: its own link stays up and tells it nothing.
    pub fn sever(&self, host: &str) {
        ip(&["-n", &self.switch(), "link", "set", &port(host), "nomaster"]);
    }

    /// Mends what `sever` cut.
    pub fn mend(&self, host: &str) {
        ip(&[
            "-n",
            &self.switch(),
            "link",
            "set",
            &port(host),
            "master",
            "br0",
        ]);
    }

    /// Turns the switch off: nobody reaches anybody, and no link goes down.
    pub fn turn_off(&self) {
        ip(&["-n", &self.switch(), "link", "set", "br0", "down"]);
    }

    /// Turns it on again.
    pub fn turn_on(&self) {
        ip(&["-n", &self.switch(), "link", "set", "br0", "up"]);
    }

    /// Parts these hosts from the others: each side has a bridge of its own, and every link stays up.
    pub fn part(&self, hosts: &[&str]) {
        let switch = self.switch();
        ip(&["-n", &switch, "link", "add", "br1", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br1", "up"]);
        self.bridge(hosts, "br1");
    }

    /// Brings them together again.
    pub fn rejoin(&self, hosts: &[&str]) {
        self.bridge(hosts, "br0");
        ip(&["-n", &self.switch(), "link", "del", "br1"]);
    }

    fn bridge(&self, hosts: &[&str], bridge: &str) {
        for host in hosts {
            let port = port(host);
            ip(&["-n", &self.switch(), "link", "set", &port, "master", bridge]);
        }
    }

    pub(crate) fn switch(&self) -> String {
        format!("{}-sw", self.prefix)
    }

    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove(&self.namespace(host));
        }
        if self.has_router {
            remove(&self.namespace(ROUTER));
        }
        self.sites.remove();
        remove(&self.switch());
    }
}

/// The router among the hosts, made when a host stands beyond it.
const ROUTER: &str = "router";
const ROUTER_NUMBER: usize = 254;

/// The address of a host on the bridge, with its prefix length.
pub fn address(family: Family, number: usize) -> String {
    match family {
        Family::Four => format!("10.77.0.{number}/24"),
        Family::Six => format!("fd77::{number}/64"),
    }
}

pub(crate) fn port(host: &str) -> String {
    format!("p-{host}")
}

pub(crate) fn remove(namespace: &str) {
    let removed = Command::new("ip")
        .args(["netns", "del", namespace])
        .status();
    if !removed.is_ok_and(|status| status.success()) {
        eprintln!("could not remove the namespace {namespace}");
    }
}

pub(crate) fn ip(arguments: &[&str]) {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .expect("run ip, of iproute2");
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
}

fn rustix_is_root() -> bool {
    rustix::process::geteuid().is_root()
}
