//! What a host puts on its wire: every UDP datagram that leaves its namespace.
//!
//! `Capture::start` listens in until `stop` gives back what `take` made of it.
//! Invariant: what left before `stop` is still read.
//! Absent: what comes to the host, which would drown the rest in a flood.

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// Bytes the system holds for the listener; a flood's answers must not be missed.
const BUFFER: usize = 64 << 20;

/// `ETH_P_ALL` in network order: packets of every kind.
const EVERYTHING: i32 = 0x0300;

/// One datagram as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Where it came from, or claims to.
    pub from: SocketAddr,
    /// Where it goes.
    pub to: SocketAddr,
    /// What is in it.
    pub payload: &'a [u8],
}

/// A listener in a host's namespace.
#[derive(Debug)]
pub struct Capture<T> {
    ended: Arc<AtomicBool>,
    listener: JoinHandle<T>,
}

impl<T: Send + 'static> Capture<T> {
    /// Listens to what leaves the namespace.
    pub fn start(namespace: &str, mut state: T, take: fn(&mut T, &Seen<'_>)) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, namespace) = (Arc::clone(&ended), namespace.to_owned());
        let (ready, is_ready) = std::sync::mpsc::channel();
        let listener = std::thread::spawn(move || {
            enter(&namespace);
            let mut socket = open();
            let _ = ready.send(());
            let mut frame = vec![0; 1 << 16];
            // Ended only once nothing is left to read.
            loop {
                match socket.read(&mut frame) {
                    Ok(length) => {
                        if let Some(seen) = parse(&frame[..length]) {
                            take(&mut state, &seen);
                        }
                    }
                    Err(_) if stop.load(Ordering::Relaxed) => return state,
                    Err(_) => {}
                }
            }
        });
        is_ready.recv().expect("the listener opens its socket");
        Self { ended, listener }
    }

    /// Ends listening and returns what was made of it.
    pub fn stop(self) -> T {
        self.ended.store(true, Ordering::Relaxed);
        self.listener.join().expect("the listener goes on")
    }
}

/// Moves this thread, and this thread alone, into a namespace.
pub fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace is there");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("enter the namespace");
}

fn open() -> Socket {
    let protocol = Some(Protocol::from(EVERYTHING));
    let socket = Socket::new(Domain::PACKET, Type::RAW, protocol).expect("a packet socket");
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)
        .expect("room for a flood's answers");
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    // The kind of packet, then: all of one that is outgoing, nothing of any other.
    let outgoing = [
        SockFilter::new(0x30, 0, 0, 0xffff_f004),
        SockFilter::new(0x15, 0, 1, 4),
        SockFilter::new(0x06, 0, 0, u32::MAX),
        SockFilter::new(0x06, 0, 0, 0),
    ];
    socket.attach_filter(&outgoing).expect("attach the filter");
    socket
}

/// The datagram in an Ethernet frame, if it is one.
fn parse(frame: &[u8]) -> Option<Seen<'_>> {
    const UDP: u8 = 17;
    let packet = frame.get(14..)?;
    let (from, to, udp): (IpAddr, IpAddr, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] if packet.get(9) == Some(&UDP) => {
            let header = usize::from(packet[0] & 15) * 4;
            let address = |at: usize| -> Option<Ipv4Addr> {
                Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into())
            };
            (
                address(12)?.into(),
                address(16)?.into(),
                packet.get(header..)?,
            )
        }
        [0x86, 0xdd] if packet.get(6) == Some(&UDP) => {
            let address = |at: usize| -> Option<Ipv6Addr> {
                Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into())
            };
            (address(8)?.into(), address(24)?.into(), packet.get(40..)?)
        }
        _ => return None,
    };
    let number = |at: usize| Some(u16::from_be_bytes([*udp.get(at)?, *udp.get(at + 1)?]));
    let payload = udp.get(8..usize::from(number(4)?).min(udp.len()))?;
    Some(Seen {
        from: SocketAddr::new(from, number(0)?),
        to: SocketAddr::new(to, number(2)?),
        payload,
    })
}
