//! Ports, kernel settings, and what starts the node when the machine starts.

use std::io::ErrorKind;
use std::net::SocketAddr;

use super::Finding;
use super::facts::{Facts, NodeFacts};
use crate::text::{count, size, visible};

/// What the node asks for, so that a second of a bursting mesh fits.
const RECEIVE_BUFFER: u64 = 4 << 20;

/// Up to so many members send no burst that the kernel's own default of 208 KiB can't hold.
const SMALL_MESH: u64 = 16;

pub(super) fn udp_port(facts: &Facts) -> Option<Finding> {
    const CHECK: &str = "UDP port";
    if let NodeFacts::Runs(status) = &facts.node {
        let port = status["node"]["udp_port"].as_u64()?;
        return Some(Finding::ok(CHECK, format!("{port}, bound by the node")));
    }
    let (address, bound) = facts.ports.as_ref().map(|ports| ports.udp)?;
    Some(port(CHECK, address, bound, "u", "--listen"))
}

pub(super) fn page(facts: &Facts) -> Vec<Finding> {
    const CHECK: &str = "page";
    let mut findings = Vec::new();
    if let Some((address, bound)) = facts.ports.as_ref().map(|ports| ports.page) {
        findings.push(port(CHECK, address, bound, "t", "--dashboard"));
    }
    let served = match &facts.node {
        NodeFacts::Runs(status) => status["node"]["dashboard"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|url| {
                url.as_str()?
                    .strip_prefix("http://")?
                    .trim_end_matches('/')
                    .parse()
                    .ok()
            })
            .collect(),
        _ => facts
            .config
            .iter()
            .map(|config| config.dashboard)
            .collect::<Vec<SocketAddr>>(),
    };
    for address in served {
        if !address.ip().is_loopback() {
            findings.push(Finding::warn(
                CHECK,
                format!(
                    "served on {address} without encryption, to everybody who reaches that address"
                ),
                "serve it on 127.0.0.1:5180 and reach it by: ssh -L 5180:127.0.0.1:5180 HOST",
            ));
        } else if matches!(facts.node, NodeFacts::Runs(_)) {
            findings.push(Finding::ok(
                CHECK,
                format!("http://{address}/, this machine only"),
            ));
        }
    }
    findings
}

fn port(
    check: &'static str,
    address: SocketAddr,
    bound: Result<(), ErrorKind>,
    letter: &str,
    flag: &str,
) -> Finding {
    let number = address.port();
    match bound {
        Ok(()) => Finding::ok(check, format!("{address} is free")),
        Err(ErrorKind::AddrInUse) => Finding::fail(
            check,
            format!("{address} is taken by another program"),
            format!(
                "`sudo ss -l{letter}np sport = :{number}` names it; or take another port with {flag}"
            ),
        ),
        Err(ErrorKind::AddrNotAvailable) => Finding::fail(
            check,
            format!("{address} is no address of this machine"),
            format!("give {flag} one that `ip address` lists"),
        ),
        Err(ErrorKind::PermissionDenied) => Finding::fail(
            check,
            format!("this user may not bind {address}"),
            format!("take a port from 1024 on with {flag}"),
        ),
        Err(other) => Finding::fail(
            check,
            format!("{address} can't be bound: {other}"),
            format!("take another address with {flag}"),
        ),
    }
}

pub(super) fn ipv6(facts: &Facts) -> Finding {
    if facts.has_ipv6 {
        return Finding::ok("IPv6", "available");
    }
    Finding::warn(
        "IPv6",
        "off: nodes that have only IPv6 are out of reach",
        "sudo sysctl net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.lo.disable_ipv6=0",
    )
}

/// A small buffer matters once something was lost, or where many send at once.
pub(super) fn receive_buffer(facts: &Facts) -> Finding {
    const CHECK: &str = "receive buffer";
    let Some(granted) = facts.rmem_max else {
        return Finding::ok(CHECK, "the kernel doesn't say how large it may be");
    };
    let members = match &facts.node {
        NodeFacts::Runs(status) => status["mesh"]["members"].as_u64().unwrap_or(0),
        _ => 0,
    };
    let lost = facts.lost_datagrams;
    if granted >= RECEIVE_BUFFER || (members <= SMALL_MESH && lost == 0) {
        return Finding::ok(CHECK, format!("up to {}, enough here", size(granted)));
    }
    let why = if lost > 0 {
        format!(
            "this machine has lost {} datagrams to full buffers",
            count(lost)
        )
    } else {
        format!("{members} members may send at once")
    };
    Finding::warn(
        CHECK,
        format!("at most {}, and {why}", size(granted)),
        format!("sudo sysctl net.core.rmem_max={RECEIVE_BUFFER}"),
    )
}

/// What the running node can't measure, in its own words.
pub(super) fn failing_sources(facts: &Facts) -> Option<Finding> {
    let NodeFacts::Runs(status) = &facts.node else {
        return None;
    };
    let sources = status["sources"].as_array().into_iter().flatten();
    let failed: Vec<String> = sources
        .filter(|source| source["ok"] == false)
        .map(|source| {
            let text = |field: &str| visible(source[field].as_str().unwrap_or("-")).into_owned();
            format!("{} ({})", text("name"), text("error"))
        })
        .collect();
    (!failed.is_empty()).then(|| {
        Finding::warn(
            "sources",
            format!("not measured: {}", failed.join(", ")),
            "`outlast status` shows whether it lasts; what is there must be readable for the node's user",
        )
    })
}

pub(super) fn sources(facts: &Facts) -> Option<Finding> {
    if facts.unreadable.is_empty() {
        return None;
    }
    Some(Finding::warn(
        "measurements",
        format!(
            "{} can't be read, so what is in there is not measured",
            facts.unreadable.join(", ")
        ),
        "let this user read /proc; in a container or a sandboxed unit it may be hidden",
    ))
}

pub(super) fn service(facts: &Facts) -> Finding {
    const CHECK: &str = "service";
    let service = facts.service;
    match (service.systemd, service.installed) {
        _ if !facts.state.is_member && !service.installed => {
            Finding::ok(CHECK, "none, and no mesh to start yet")
        }
        (true, true) if !service.account => Finding::fail(
            CHECK,
            "its user outlast is missing, so it can't start",
            "sudo outlast service install",
        ),
        (true, true) if service.enabled => Finding::ok(CHECK, "starts with the machine"),
        (true, true) => Finding::warn(
            CHECK,
            "installed, but it does not start with the machine",
            "sudo systemctl enable --now outlast",
        ),
        (true, false) => Finding::warn(
            CHECK,
            "none: after a restart of the machine nobody starts this node",
            "sudo outlast service install",
        ),
        (false, _) => Finding::ok(
            CHECK,
            "systemd doesn't run here; what starts this machine's programs must start `outlast up`",
        ),
    }
}
