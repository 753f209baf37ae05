//! Somebody on the network who doesn't belong, and sends what a node must survive.
//!
//! `junk` and `initiations` make the datagrams, `Flood` sends them over and over from a
//! namespace, from its own address or from made-up ones.
//! Invariant: a flood ends when it is stopped or dropped.
//! Absent: what a member could send. A stranger holds public keys and recordings, no secret.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use outlast_mesh::TunnelKey;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::capture::enter;

/// Where datagrams claim to come from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// Where they do come from.
    Own,
    /// Another host's address and port.
    Of(SocketAddrV4),
    /// Each from another address of 10.78.0.0/16.
    Anywhere,
}

/// A thread that sends.
#[derive(Debug)]
pub struct Flood {
    ended: Arc<AtomicBool>,
    sender: Option<JoinHandle<u64>>,
}

impl Flood {
    /// Sends these in turn from a namespace, as fast as one core can or `per_second`.
    pub fn start(
        namespace: &str,
        to: SocketAddrV4,
        datagrams: Vec<Vec<u8>>,
        source: Source,
        per_second: Option<u32>,
    ) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, namespace) = (Arc::clone(&ended), namespace.to_owned());
        let sender = std::thread::spawn(move || {
            enter(&namespace);
            let mut sender = Sender::new(source, to);
            let (began, mut sent) = (Instant::now(), 0);
            for datagram in datagrams.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                sender.send(datagram);
                sent += 1;
                if let Some(rate) = per_second.filter(|_| sent % 64 == 0) {
                    let due = Duration::from_secs_f64(sent as f64 / f64::from(rate));
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                }
            }
            sent
        });
        Self {
            ended,
            sender: Some(sender),
        }
    }

    /// Ends it and returns how many were sent.
    pub fn stop(mut self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        let sender = self.sender.take().expect("stopped once");
        sender.join().expect("the sender goes on")
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Sends each of these once, at a rate, and returns when they have left.
pub fn send_once(
    namespace: &str,
    to: SocketAddrV4,
    datagrams: &[Vec<u8>],
    source: Source,
    per_second: u32,
) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            enter(namespace);
            let mut sender = Sender::new(source, to);
            let began = Instant::now();
            for (number, datagram) in datagrams.iter().enumerate() {
                sender.send(datagram);
                if number % 64 == 0 {
                    let due = Duration::from_secs_f64(number as f64 / f64::from(per_second));
                    std::thread::sleep(due.saturating_sub(began.elapsed()));
                }
            }
        });
    });
}

/// Initiations to the holder of `key` by keys nobody knows: `mac1` is right, so each that is
/// afforded costs a Diffie-Hellman.
pub fn initiations(key: [u8; 32], count: u32) -> Vec<Vec<u8>> {
    let mut noise = Noise(0xfeed_beef);
    let make = |index| {
        let secret = StaticSecret::from([0; 32].map(|_| noise.next() as u8));
        let mut tunnel = Tunn::new(secret, PublicKey::from(key), None, None, index, None);
        let mut buffer = [0; 148];
        match tunnel.format_handshake_initiation(&mut buffer, true) {
            TunnResult::WriteToNetwork(initiation) => initiation.to_vec(),
            other => panic!("no initiation: {other:?}"),
        }
    };
    (0..count).map(make).collect()
}

/// Datagrams of every class that deserves no answer, made from noise and from what was
/// overheard of a member; the same number gives the same ones.
pub fn junk(overheard: &[Vec<u8>], count: u32) -> Vec<Vec<u8>> {
    let mut noise = Noise(0x0123_4567_89ab_cdef);
    (0..count)
        .map(|number| foreign(number, overheard, &mut noise))
        .collect()
}

fn foreign(number: u32, overheard: &[Vec<u8>], noise: &mut Noise) -> Vec<u8> {
    let mut replay = overheard[noise.below(overheard.len())].clone();
    match number % 8 {
        0 => noise.bytes(1_400),
        1 => {
            replay.truncate(noise.below(replay.len()));
            replay
        }
        // Longer than any message, some longer than a packet.
        2 => {
            let length = 2_049 + number as usize % 3_000;
            vec![number as u8; length]
        }
        // Every type byte, with the length of a true message and without.
        3 => {
            let length = [16, 31, 32, 64, 92, 148, 149, 1_280][noise.below(8)];
            let mut bytes = vec![7; length];
            bytes[..4].copy_from_slice(&[(number / 8) as u8, 0, 0, 0]);
            bytes
        }
        4 => {
            replay[1 + noise.below(3)] ^= 1 << noise.below(8);
            replay
        }
        // An overheard message, altered.
        5 | 6 => {
            let at = 8 + noise.below(replay.len() - 8);
            replay[at] ^= 1 << noise.below(8);
            replay
        }
        _ => replay,
    }
}

/// A socket, and where it says it is.
struct Sender {
    socket: Socket,
    source: Source,
    to: SocketAddrV4,
    number: u32,
    packet: Vec<u8>,
}

impl Sender {
    fn new(source: Source, to: SocketAddrV4) -> Self {
        // IPPROTO_RAW: the sender writes the IP header.
        let (kind, protocol) = match source {
            Source::Own => (Type::DGRAM, Protocol::UDP),
            Source::Of(_) | Source::Anywhere => (Type::RAW, Protocol::from(255)),
        };
        let socket = Socket::new(Domain::IPV4, kind, Some(protocol));
        Self {
            socket: socket.expect("a socket"),
            source,
            to,
            number: 0,
            packet: Vec::new(),
        }
    }

    /// Sends one datagram; what the system refuses is lost.
    fn send(&mut self, datagram: &[u8]) {
        self.number = self.number.wrapping_add(1);
        let from = match self.source {
            Source::Own => None,
            Source::Of(from) => Some(from),
            Source::Anywhere => {
                let [high, low] = ((self.number % 65_534 + 1) as u16).to_be_bytes();
                Some(SocketAddrV4::new(Ipv4Addr::new(10, 78, high, low), 9_999))
            }
        };
        self.packet.clear();
        if let Some(from) = from {
            write_headers(&mut self.packet, from, self.to, datagram.len());
        }
        self.packet.extend_from_slice(datagram);
        let _lost = self.socket.send_to(&self.packet, &SockAddr::from(self.to));
    }
}

/// The headers of an IPv4 packet; the system fills in length and checksum of the first, and UDP
/// may go without one.
fn write_headers(packet: &mut Vec<u8>, from: SocketAddrV4, to: SocketAddrV4, payload: usize) {
    let length = u16::try_from(8 + payload).expect("a datagram fits");
    packet.extend_from_slice(&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend_from_slice(&from.ip().octets());
    packet.extend_from_slice(&to.ip().octets());
    for number in [from.port(), to.port(), length, 0] {
        packet.extend_from_slice(&number.to_be_bytes());
    }
}

/// The public half of the tunnel key in a state directory.
pub fn public_key(state: &std::path::Path) -> [u8; 32] {
    let key = TunnelKey::load(&state.join("wg.key")).expect("the node's tunnel key");
    key.public().0
}

/// Small, repeatable noise.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most);
        (0..length).map(|_| self.next() as u8).collect()
    }
}
