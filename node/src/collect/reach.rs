//! Whether the router answers, and the hosts the owner named: what tells a dead uplink from a dead peer.
//!
//! A ping over an unprivileged ICMP socket where the kernel grants one (`net.ipv4.ping_group_range`), else a TCP
//! connection, where a refusal is an answer too; a host that was named with its port must accept. Each target has a thread
//! of its own, for names may take long to resolve.
//! A router that never answered in this run is absent, not down: many are silent by intent.

use std::io;
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream, ToSocketAddrs as _,
};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    socket_with,
};

use super::aside::Aside;
use super::kept::{Buffer, read_once};
use super::scan::{hex, lines, number, words};
use super::sheet::{Family, Sheet, Spec};

/// How often each target is asked.
const PERIOD: Duration = Duration::from_secs(10);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most hosts that can be named.
pub(crate) const MAX_TARGETS: usize = 8;

/// Where a router, and any other host, is asked for a connection where ping isn't allowed: who closes the port refuses.
const ROUTER_PORT: u16 = 53;
const HOST_PORT: u16 = 443;

const SPECS: [Spec; 2] = [
    Spec::gauge("outlast_reach_up", "", 0),
    Spec::gauge("outlast_reach_rtt_seconds", "seconds", -6),
];

#[derive(Debug)]
pub(super) struct Reach {
    targets: Vec<(String, Aside<Outcome>)>,
    family: Family<2>,
}

/// How asking one target came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answered(Duration),
    Silent,
    /// It never answered, so its silence says nothing.
    Unknown,
}

impl Reach {
    /// Asks the routers that the files below `root` name, and `hosts`; nobody where the files are of another machine.
    pub(super) fn new(root: &Path, hosts: &[String], of_this_machine: bool) -> Self {
        let mut targets = Vec::new();
        if of_this_machine {
            for (label, six) in [("router", false), ("router6", true)] {
                let (root, mut answered) = (root.to_owned(), false);
                let measure = move || ask_router(&root, six, &mut answered);
                targets.push((label.to_owned(), Aside::each("reach", PERIOD, measure)));
            }
        }
        for host in hosts.iter().take(MAX_TARGETS) {
            let target = host.clone();
            let measure = move || Ok(ask_host(&target));
            targets.push((host.clone(), Aside::each("reach", PERIOD, measure)));
        }
        Self {
            targets,
            family: Family::new(SPECS),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        if self.targets.is_empty() {
            return buffer.lack();
        }
        for (label, measured) in &self.targets {
            let values = match measured.latest(buffer, now).as_deref() {
                Some(Outcome::Answered(rtt)) => [Some(1), Some(rtt.as_micros())],
                Some(Outcome::Silent) => [Some(0), None],
                Some(Outcome::Unknown) | None => continue,
            };
            if let Some(slots) = self.family.slots(sheet, label, &[("target", label)]) {
                sheet.set_all(slots, values);
            }
        }
    }
}

/// Whether a host can be named so: `HOST` or `HOST:PORT`.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"-.:".contains(&b);
    let named =
        !text.is_empty() && text.len() <= 253 && !text.contains(':') && text.bytes().all(letters);
    if named || text.parse::<IpAddr>().is_ok() || crate::config::endpoint(text).is_ok() {
        return Ok(());
    }
    Err(format!(
        "`{text}` is no HOST or HOST:PORT, such as 192.0.2.1, example.net or example.net:443"
    ))
}

fn ask_router(root: &Path, six: bool, answered: &mut bool) -> io::Result<Outcome> {
    let router = if six {
        router_six(root)
    } else {
        router_four(root)
    };
    let router = router.ok_or(io::ErrorKind::NotFound)?;
    Ok(ask(router, ROUTER_PORT).unless_always_silent(answered))
}

impl Outcome {
    /// Silence counts once there was an answer.
    fn unless_always_silent(self, answered: &mut bool) -> Self {
        *answered |= matches!(self, Self::Answered(_));
        if *answered { self } else { Self::Unknown }
    }
}

/// A name that nobody resolves is as far away as a host that doesn't answer.
fn ask_host(target: &str) -> Outcome {
    let resolve = |text: (&str, u16)| text.to_socket_addrs().ok()?.next();
    if let Ok(address) = target.parse::<SocketAddr>() {
        return accepts(address);
    }
    if let Some((host, port)) = target.rsplit_once(':')
        && target.parse::<IpAddr>().is_err()
    {
        let address = port.parse().ok().and_then(|port| resolve((host, port)));
        return address.map_or(Outcome::Silent, accepts);
    }
    match resolve((target, 0)) {
        Some(address) => ask(address, HOST_PORT),
        None => Outcome::Silent,
    }
}

/// By ping, or by a connection to a port that may well be closed.
fn ask(mut address: SocketAddr, port: u16) -> Outcome {
    match ping(address) {
        Ok(Some(rtt)) => Outcome::Answered(rtt),
        Ok(None) => Outcome::Silent,
        // No ping for us here.
        Err(_) => {
            address.set_port(port);
            let began = Instant::now();
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => Outcome::Silent,
                _ => Outcome::Answered(began.elapsed()),
            }
        }
    }
}

fn accepts(address: SocketAddr) -> Outcome {
    let began = Instant::now();
    match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(_) => Outcome::Answered(began.elapsed()),
        Err(_) => Outcome::Silent,
    }
}

/// The time to the answer; `None` where none came. Fails where this user may not ping.
fn ping(address: SocketAddr) -> io::Result<Option<Duration>> {
    let (family, protocol) = match address {
        SocketAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        SocketAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = socket_with(
        family,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )?;
    let mut nonce = [0; 8];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let question = echo(address.is_ipv6(), nonce);
    let began = Instant::now();
    if connect(&socket, &address).is_err() || send(&socket, &question, SendFlags::empty()).is_err()
    {
        return Ok(None);
    }
    let mut room = [0; 256];
    loop {
        let left = PATIENCE.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        set_socket_timeout(&socket, Timeout::Recv, Some(left))?;
        match recv(socket.as_fd(), &mut room[..], RecvFlags::empty()) {
            Ok((len, _)) if is_answer(&room[..len], address.is_ipv6(), nonce) => {
                return Ok(Some(began.elapsed()));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Ok(None),
        }
    }
}

/// An echo request; the kernel fills in the identifier and the sum.
fn echo(six: bool, nonce: [u8; 8]) -> [u8; 16] {
    let mut question = [0; 16];
    question[0] = if six { 128 } else { 8 };
    question[7] = 1;
    question[8..].copy_from_slice(&nonce);
    question
}

pub(super) fn is_answer(bytes: &[u8], six: bool, nonce: [u8; 8]) -> bool {
    let kind = if six { 129 } else { 0 };
    bytes.len() == 16 && bytes[..2] == [kind, 0] && bytes[8..] == nonce
}

fn router_four(root: &Path) -> Option<SocketAddr> {
    let text = read_once(&root.join("proc/net/route")).ok()?;
    Some((gateway_four(&text)?, 0).into())
}

fn router_six(root: &Path) -> Option<SocketAddr> {
    let text = read_once(&root.join("proc/net/ipv6_route")).ok()?;
    let (gateway, device) = gateway_six(&text)?;
    let index: PathBuf = root.join("sys/class/net").join(device).join("ifindex");
    let index = number(read_once(&index).ok()?.trim_ascii())?;
    Some(SocketAddrV6::new(gateway, 0, 0, u32::try_from(index).ok()?).into())
}

/// Of a route: up, and by way of a gateway.
const UP_BY_GATEWAY: u64 = 3;

/// The gateway of the default route with the least metric, out of `/proc/net/route`.
pub(super) fn gateway_four(text: &[u8]) -> Option<Ipv4Addr> {
    let route = |line: &[u8]| {
        let mut words = words(line).skip(1);
        let mut next = || words.next().and_then(hex);
        let (destination, gateway, flags) = (next()?, next()?, next()?);
        // References and uses, then the metric in decimal digits, then the mask.
        let metric = words.nth(2).and_then(number)?;
        let mask = words.next().and_then(hex)?;
        let is_default = destination == 0 && mask == 0 && flags & UP_BY_GATEWAY == UP_BY_GATEWAY;
        let gateway = u32::try_from(gateway).ok().filter(|_| is_default)?;
        // Written as the machine's own number, though it is one of the network.
        Some((metric, Ipv4Addr::from(gateway.to_ne_bytes())))
    };
    let routes = lines(text).filter_map(route);
    routes
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, gateway)| gateway)
}

/// The same out of `/proc/net/ipv6_route`, with the interface it is reached by.
pub(super) fn gateway_six(text: &[u8]) -> Option<(Ipv6Addr, String)> {
    let route = |line: &[u8]| {
        let words: Vec<&[u8]> = words(line).take(10).collect();
        let [
            destination,
            prefix,
            _,
            _,
            gateway,
            metric,
            _,
            _,
            flags,
            device,
        ] = words[..]
        else {
            return None;
        };
        let is_default = destination.iter().all(|digit| *digit == b'0') && hex(prefix)? == 0;
        let by_gateway = hex(flags)? & UP_BY_GATEWAY == UP_BY_GATEWAY;
        let gateway = str::from_utf8(gateway)
            .ok()
            .filter(|text| text.len() == 32)?;
        let gateway = u128::from_str_radix(gateway, 16).ok()?;
        let device = String::from_utf8(device.to_vec()).ok()?;
        let plain = !device.contains('/') && !device.starts_with('.');
        (is_default && by_gateway && plain).then(|| (hex(metric), Ipv6Addr::from(gateway), device))
    };
    let routes = lines(text).filter_map(route);
    let best = routes.min_by_key(|(metric, ..)| *metric);
    best.map(|(_, gateway, device)| (gateway, device))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_named_port_must_accept_and_a_name_must_resolve() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(matches!(ask_host(&address), Outcome::Answered(_)));
        let named = address.replace("127.0.0.1", "localhost");
        assert!(matches!(ask_host(&named), Outcome::Answered(_)));
        drop(listener);
        assert_eq!(ask_host(&address), Outcome::Silent);
        assert_eq!(ask_host("nobody.invalid"), Outcome::Silent);
    }

    #[test]
    fn this_machine_answers_itself_by_whatever_way_is_allowed() {
        for host in ["127.0.0.1", "::1"] {
            if host == "::1" && TcpListener::bind("[::1]:0").is_err() {
                continue;
            }
            let outcome = ask_host(host);
            assert!(
                matches!(outcome, Outcome::Answered(rtt) if rtt < PATIENCE),
                "{host}: {outcome:?}"
            );
        }
    }

    #[test]
    fn the_default_route_with_the_least_metric_names_the_router() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/here");
        assert_eq!(router_four(&here), Some("192.0.2.1:0".parse().unwrap()));
        assert_eq!(
            router_six(&here),
            Some(SocketAddrV6::new("fd00::1".parse().unwrap(), 0, 0, 2).into())
        );
        let text = b"Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
            wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\n\
            tun0\t00000000\t0102A8C0\t0003\t0\t0\t50\t00000080\n\
            ppp0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\n\
            down\t00000000\t0103A8C0\t0002\t0\t0\t1\t00000000\n";
        assert_eq!(gateway_four(text), Some("192.168.1.1".parse().unwrap()));
        assert_eq!(gateway_four(b""), None);
        assert_eq!(gateway_six(b"short line\n"), None);
    }

    #[test]
    fn only_the_echo_of_the_own_question_is_an_answer() {
        let mut answer = echo(false, [7; 8]);
        assert!(!is_answer(&answer, false, [7; 8]), "a question isn't");
        answer[0] = 0;
        assert!(is_answer(&answer, false, [7; 8]));
        assert!(!is_answer(&answer, false, [8; 8]));
        assert!(!is_answer(&answer, true, [7; 8]));
        assert!(!is_answer(&answer[..15], false, [7; 8]));
        answer[0] = 129;
        assert!(is_answer(&answer, true, [7; 8]));
    }

    #[test]
    fn a_router_that_never_answered_is_not_called_down() {
        let rtt = Outcome::Answered(Duration::from_millis(1));
        let mut answered = false;
        let told = [Outcome::Silent, rtt, Outcome::Silent]
            .map(|outcome| outcome.unless_always_silent(&mut answered));
        assert_eq!(told, [Outcome::Unknown, rtt, Outcome::Silent]);
    }

    #[test]
    fn hosts_are_named_with_or_without_a_port() {
        for good in [
            "192.0.2.1",
            "2001:db8::1",
            "example.net",
            "example.net:443",
            "[2001:db8::1]:53",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a b",
            "example.net:0",
            "example.net:x",
            "http://example.net/",
            "a:b:c",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(text: Vec<u8>) {
            gateway_four(&text);
            gateway_six(&text);
            is_answer(&text, false, [0; 8]);
        }

        #[test]
        fn any_words_are_taken(text in "([0-9a-fA-F]{0,33}[ \t]){0,11}\n([0-9a-f]{32} 00 [0-9a-f]{32} [0-9a-z]{0,33} ){0,3}") {
            gateway_four(text.as_bytes());
            gateway_six(text.as_bytes());
        }
    }
}
