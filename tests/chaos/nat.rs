//! Sites behind NATs of each kind, and one public machine between them: who reaches whom, by
//! which way, and what stays when the public one dies.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use outlast_tests::capture::enter;
use outlast_tests::{Nat, Net, Place};

#[test]
fn each_kind_of_nat_maps_and_filters_as_its_name_says() {
    let mut net = Net::new("nk").expect("network namespaces take root");
    for (site, nat) in [
        ("full", Nat::FullCone),
        ("port", Nat::PortRestricted),
        ("sym", Nat::Symmetric),
    ] {
        net.build_site(site, Some(nat));
        net.stand(&format!("h{site}"), Place::site(site));
    }
    let [one, other] = ["one", "other"].map(|host| {
        net.stand(host, Place::Public);
        net.plug(host)
    });
    let stranger = socket(&other, 4_001);
    let (one, other) = (socket(&one, 4_000), socket(&other, 4_000));
    for (site, same_port, open) in [
        ("full", true, true),
        ("port", true, false),
        ("sym", false, false),
    ] {
        let inside = socket(&net.plug(&format!("h{site}")), 51_800);
        let seen_by = |outside: &UdpSocket, host: u8| {
            let to = SocketAddr::from(([203, 0, 113, host], 4_000));
            inside.send_to(b"out", to).expect("the way is open");
            received(outside).expect("what leaves arrives")
        };
        let (first, second) = (seen_by(&one, 1), seen_by(&other, 2));
        assert_eq!(first.port() == second.port(), same_port, "{site}");

        // Answers come in by the hole, others only where it is open to everybody.
        one.send_to(b"back", first).expect("sent");
        assert!(received(&inside).is_some(), "{site}: no answer");
        stranger.send_to(b"guess", first).expect("sent");
        assert_eq!(received(&inside).is_some(), open, "{site}: a stranger");
    }
}

fn socket(namespace: &str, port: u16) -> UdpSocket {
    let namespace = namespace.to_owned();
    let entered = std::thread::spawn(move || {
        enter(&namespace);
        UdpSocket::bind(("0.0.0.0", port)).expect("the port is free")
    });
    let socket = entered.join().expect("the namespace is there");
    let patience = Some(Duration::from_millis(500));
    socket.set_read_timeout(patience).expect("a timeout");
    socket
}

/// Who sent the next datagram; `None` when none comes.
fn received(socket: &UdpSocket) -> Option<SocketAddr> {
    let mut bytes = [0; 16];
    socket.recv_from(&mut bytes).ok().map(|(_, from)| from)
}
