//! Network namespaces on one bridge, each with IPv4 and IPv6, whose cables can be pulled.
//!
//! `Net::new` makes a switch namespace with a bridge, `plug` adds a host, `pull` and `push_back`
//! take its link down and up at the switch, `sever` and `mend` the way beyond it.
//! Invariant: names carry the test's process id, and everything is removed on drop.
//! Absent: delay and reordering; `netem` isn't in the kernels tests run on.

use std::process::Command;

/// The bridge and the hosts on it.
#[derive(Debug)]
pub struct Net {
    prefix: String,
    hosts: Vec<String>,
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
        };
        let switch = net.switch();
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        Some(net)
    }

    /// Adds a host and returns its namespace; its addresses are 10.77.0.N and fd77::N.
    pub fn plug(&mut self, host: &str) -> String {
        let number = self.hosts.len() + 1;
        let (namespace, switch, port) = (self.namespace(host), self.switch(), port(host));
        ip(&["netns", "add", &namespace]);
        ip(&[
            "link", "add", "eth0", "netns", &namespace, "type", "veth", "peer", "name", &port,
            "netns", &switch,
        ]);
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        address(&namespace, number);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        self.hosts.push(host.to_owned());
        namespace
    }

    /// Gives the host other addresses, 10.77.0.N and fd77::N, and takes those it had away.
    pub fn move_to(&self, host: &str, number: usize) {
        let namespace = self.namespace(host);
        ip(&[
            "-n", &namespace, "addr", "flush", "dev", "eth0", "scope", "global",
        ]);
        address(&namespace, number);
    }

    /// Lets a host be every address of a further network, and the others know the way there.
    pub fn lend(&self, host: &str, network: &str) {
        let owner = self.hosts.iter().position(|known| known == host);
        let via = format!("10.77.0.{}", owner.expect("a host of this network") + 1);
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

    fn switch(&self) -> String {
        format!("{}-sw", self.prefix)
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in &self.hosts {
            remove(&self.namespace(host));
        }
        remove(&self.switch());
    }
}

fn address(namespace: &str, number: usize) {
    let (four, six) = (format!("10.77.0.{number}/24"), format!("fd77::{number}/64"));
    ip(&["-n", namespace, "addr", "add", &four, "dev", "eth0"]);
    ip(&["-n", namespace, "addr", "add", &six, "dev", "eth0", "nodad"]);
}

fn port(host: &str) -> String {
    format!("p-{host}")
}

fn remove(namespace: &str) {
    let removed = Command::new("ip")
        .args(["netns", "del", namespace])
        .status();
    if !removed.is_ok_and(|status| status.success()) {
        eprintln!("could not remove the namespace {namespace}");
    }
}

fn ip(arguments: &[&str]) {
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
