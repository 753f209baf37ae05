//! An internet of public addresses, and sites behind routers that translate theirs.
//!
//! `build_site` makes a router with one kind of NAT towards the bridge, or none at all; `stand`
//! says where a host is plugged, `move_over` takes it elsewhere while it runs. `forbid` and
//! `allow` close and open the way between two sites, `cut_uplink` and `mend_uplink` a site's own.
//! Public addresses are 203.0.113.N; every site uses the same 192.168.1.0/24, as people's do.
//! Invariant: like a household's, a router drops what nobody inside asked for before it keeps a
//! trace of it, and doesn't turn what comes from inside back in.
//! Absent: IPv6, which nobody translates; routers in a row.

use std::collections::BTreeMap;

use crate::net::{Net, ip, port, remove};

/// How a router translates the UDP of its site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Each host's port 51800 is one port of the router for ever, open to everybody.
    FullCone,
    /// One port of the router a socket, open to whom it has sent to.
    PortRestricted,
    /// Another port for each address sent to.
    Symmetric,
}

/// Where a host stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the internet itself, with a public address.
    Public,
    /// In the site of this name.
    Site(String),
}

impl Place {
    /// In the site of this name.
    pub fn site(name: &str) -> Self {
        Self::Site(name.to_owned())
    }
}

/// The sites of a network, and who stands where.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    routers: BTreeMap<String, Router>,
    places: BTreeMap<String, Place>,
}

#[derive(Debug)]
struct Router {
    namespace: String,
    /// Its own public address. `None` without an uplink.
    public: Option<String>,
}

impl Sites {
    /// Where a host was told to stand.
    pub(crate) fn place(&self, host: &str) -> Option<Place> {
        self.places.get(host).cloned()
    }

    /// Removes the routers.
    pub(crate) fn remove(&self) {
        for router in self.routers.values() {
            remove(&router.namespace);
        }
    }
}

impl Net {
    /// Makes a site; without a kind of NAT it has no uplink.
    pub fn build_site(&mut self, site: &str, nat: Option<Nat>) {
        let namespace = self.namespace(&format!("r-{site}"));
        ip(&["netns", "add", &namespace]);
        let inside = |arguments: &[&str]| ip(&[&["-n", &namespace], arguments].concat());
        inside(&["link", "set", "lo", "up"]);
        inside(&["link", "add", "lan", "type", "bridge"]);
        inside(&["addr", "add", &format!("{GATEWAY}/24"), "dev", "lan"]);
        inside(&["link", "set", "lan", "up"]);
        let public = nat.map(|nat| {
            let public = format!("203.0.113.{}", 200 + self.sites.routers.len());
            self.lead_out(site, &namespace, &public);
            translate(&namespace, nat, &public);
            public
        });
        let router = Router { namespace, public };
        self.sites.routers.insert(site.to_owned(), router);
    }

    /// This host, once plugged, stands there.
    pub fn stand(&mut self, host: &str, place: Place) {
        self.sites.places.insert(host.to_owned(), place);
    }

    /// Takes a running host away from where it stands and plugs it in elsewhere.
    pub fn move_over(&mut self, host: &str, place: Place) {
        self.ip(host, &["link", "del", "eth0"]);
        self.stand(host, place.clone());
        self.plug_at(host, self.number(host), &place);
    }

    /// Closes the way between two sites; each still has the rest of the internet.
    pub fn forbid(&self, one: &str, other: &str) {
        let closed = self.public_address(other);
        self.in_router(
            one,
            &format!(
                "table ip wall {{ chain pass {{ type filter hook forward priority -10; \
                 ip daddr {closed} drop; ip saddr {closed} drop; }}; }}"
            ),
        );
    }

    /// Opens what `forbid` closed.
    pub fn allow(&self, one: &str) {
        self.in_router(one, "delete table ip wall");
    }

    /// Takes a site's uplink down, beyond its router.
    pub fn cut_uplink(&self, site: &str) {
        ip(&["-n", &self.switch(), "link", "set", &port(site), "down"]);
    }

    /// Puts a site's uplink back.
    pub fn mend_uplink(&self, site: &str) {
        ip(&["-n", &self.switch(), "link", "set", &port(site), "up"]);
    }

    /// The address the internet sees a site at.
    pub fn public_address(&self, site: &str) -> &str {
        let public = self.router(site).public.as_deref();
        public.expect("a site with an uplink")
    }

    /// Plugs a host that exists already in where it is to stand.
    pub(crate) fn plug_at(&self, host: &str, number: usize, place: &Place) {
        let namespace = self.namespace(host);
        let (switch, bridge, address) = match place {
            Place::Public => (self.switch(), "br0", format!("203.0.113.{number}/24")),
            Place::Site(site) => {
                let router = self.router(site).namespace.clone();
                (router, "lan", format!("192.168.1.{}/24", number + 1))
            }
        };
        let port = port(host);
        ip(&[
            "link", "add", "eth0", "netns", &namespace, "type", "veth", "peer", "name", &port,
            "netns", &switch,
        ]);
        ip(&["-n", &switch, "link", "set", &port, "master", bridge, "up"]);
        self.ip(host, &["addr", "add", &address, "dev", "eth0"]);
        self.ip(host, &["link", "set", "eth0", "up"]);
        if matches!(place, Place::Site(_)) {
            self.ip(host, &["route", "add", "default", "via", GATEWAY]);
        }
    }

    fn lead_out(&self, site: &str, router: &str, public: &str) {
        let (switch, port) = (self.switch(), port(site));
        ip(&[
            "link", "add", "wan", "netns", router, "type", "veth", "peer", "name", &port, "netns",
            &switch,
        ]);
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        let address = format!("{public}/24");
        ip(&["-n", router, "addr", "add", &address, "dev", "wan"]);
        ip(&["-n", router, "link", "set", "wan", "up"]);
        ip(&[
            "netns",
            "exec",
            router,
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=1",
        ]);
    }

    fn in_router(&self, site: &str, rules: &str) {
        nft(&self.router(site).namespace, rules);
    }

    fn router(&self, site: &str) -> &Router {
        self.sites.routers.get(site).expect("a site that was built")
    }
}

/// The inner address of every router.
const GATEWAY: &str = "192.168.1.1";

/// Where the outer ports of a fixed mapping begin: host 192.168.1.N has this one and N more.
pub const FIXED_PORTS: u16 = 52_000;

fn translate(router: &str, nat: Nat, public: &str) {
    let out = match nat {
        // Linux keeps the source port while it is free, towards everybody: as endpoint-independent
        // as such a router gets.
        Nat::PortRestricted => "oifname wan masquerade".to_owned(),
        Nat::Symmetric => "oifname wan masquerade random,fully-random".to_owned(),
        Nat::FullCone => format!(
            "oifname wan udp sport 51800 snat to {public} : ip saddr map {{ {} }}; \
             oifname wan masquerade",
            mapping(|host, outer| format!("192.168.1.{host} : {outer}"))
        ),
    };
    let inward = match nat {
        Nat::FullCone => format!(
            "iifname wan dnat to udp dport map {{ {} }} : 51800",
            mapping(|host, outer| format!("{outer} : 192.168.1.{host}"))
        ),
        Nat::PortRestricted | Nat::Symmetric => String::new(),
    };
    nft(
        router,
        &format!(
            "table ip translate {{ \
             chain out {{ type nat hook postrouting priority srcnat; {out}; }}; \
             chain inward {{ type nat hook prerouting priority dstnat; {inward}; }}; \
             chain unasked {{ type filter hook input priority 0; iifname wan drop; }}; }}"
        ),
    );
}

/// The entries of a fixed mapping, for the hosts a test may have.
fn mapping(entry: impl Fn(u16, u16) -> String) -> String {
    let entries = (2..32).map(|host| entry(host, FIXED_PORTS + host));
    entries.collect::<Vec<_>>().join(", ")
}

fn nft(router: &str, rules: &str) {
    ip(&["netns", "exec", router, "nft", rules]);
}
