//! A member of few words behind a stock tunnel: it greets whoever greets and answers pings, over
//! the kernel's own UDP.
//!
//! The wire is written a second time here, from its description: frames of `version, kind, length
//! u16 big-endian, body`; HELLO (1) is `lowest version, highest, run varint, root, heard, digest`,
//! PING (2) a number, PONG (3) that number, two times and the address seen.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use outlast_tests::capture::enter;

/// The inner port of small messages.
const MESSAGES: u16 = 5_182;

const HELLO: u8 = 1;
const PING: u8 = 2;
const PONG: u8 = 3;

/// What stands behind the run in a greeting: a root, whether the other was heard, a digest.
const TAIL: usize = 32 + 1 + 32;

/// The thread that answers, until dropped.
#[derive(Debug)]
pub(crate) struct Member {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    /// Answers at this overlay address.
    pub(crate) fn start(namespace: &str, address: Ipv6Addr) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (stop, namespace) = (Arc::clone(&ended), namespace.to_owned());
        let run = |socket: &UdpSocket, stop: &AtomicBool| {
            let mut packet = [0; 2_048];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut packet) {
                    let answer = answer(&packet[..length], from);
                    // What is lost is asked again.
                    let _sent = socket.send_to(&answer, from);
                }
            }
        };
        let thread = std::thread::spawn(move || {
            enter(&namespace);
            let socket = UdpSocket::bind((address, MESSAGES)).expect("the tunnel's address");
            let patience = Some(Duration::from_millis(100));
            socket.set_read_timeout(patience).expect("a timeout");
            run(&socket, &stop);
        });
        Self {
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What is said to a payload of frames.
fn answer(payload: &[u8], from: SocketAddr) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut rest = payload;
    while let [_version, kind, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((body, next)) = after.split_at_checked(length) else {
            break;
        };
        rest = next;
        match *kind {
            HELLO if body.len() > TAIL => push(&mut answer, HELLO, &greeting(body)),
            PING => push(&mut answer, PONG, &pong(body, from)),
            _ => {}
        }
    }
    answer
}

/// The same greeting, so that both hold the same, in a run of our own that has heard.
fn greeting(theirs: &[u8]) -> Vec<u8> {
    let (head, tail) = theirs.split_at(theirs.len() - TAIL);
    let mut ours = vec![head[0], head[1], 7];
    ours.extend_from_slice(&tail[..32]);
    ours.push(1);
    ours.extend_from_slice(&tail[33..]);
    ours
}

fn pong(ping: &[u8], from: SocketAddr) -> Vec<u8> {
    let number: u32 = postcard::from_bytes(ping).expect("a ping's number");
    let at = outlast_tests::now_ms() * 1_000;
    postcard::to_stdvec(&(number, at, at, from)).expect("plain data serialises")
}

fn push(payload: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let length = u16::try_from(body.len()).expect("a short answer");
    payload.extend([1, kind]);
    payload.extend(length.to_be_bytes());
    payload.extend(body);
}
