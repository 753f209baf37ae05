//! The kernel's list of TCP sockets: netlink `sock_diag`, as much of it as counting needs.
//!
//! `each` asks and hands over one socket after the other; `parse` reads one answer and is a pure function over its bytes.
//! By hand, because it is one request of 72 bytes and one struct: the crates for it are four and bring a builder each.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// What one answer may hold; the kernel cuts them to the room it is given.
const ANSWER_BYTES: usize = 32 * 1024;

/// How long the kernel may think about one answer.
const PATIENCE: Duration = Duration::from_secs(5);

const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = 72;
/// Of a socket; attributes may follow.
const SOCKET_BYTES: usize = 72;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const SYN_RECV: u8 = 3;
const LISTEN: u8 = 10;

/// Which sockets are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum States {
    /// Those that listen, and the connections that are half open.
    Waiting,
    /// All others.
    Others,
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::collect) struct Socket {
    /// 1 to 11, as the kernel numbers them.
    pub(super) state: u8,
    /// Its own end.
    pub(super) address: SocketAddr,
    /// Of one that listens: who waits, and how many may.
    pub(super) waiting: u32,
    pub(super) limit: u32,
    pub(super) uid: u32,
    pub(super) inode: u32,
}

/// What one answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::collect) enum Answer {
    More,
    Done,
    /// The reader wants no more.
    Enough,
    /// The kernel's error number.
    Refused(i32),
}

impl States {
    pub(super) fn holds(self, state: u8) -> bool {
        let waiting = state == SYN_RECV || state == LISTEN;
        waiting == (self == Self::Waiting)
    }

    fn mask(self) -> u32 {
        (1..=11)
            .filter(|state| self.holds(*state))
            .map(|state| 1 << state)
            .sum()
    }
}

impl Socket {
    pub(super) fn is_listening(&self) -> bool {
        self.state == LISTEN
    }
}

/// Hands over every TCP socket of both families; false where `take` had enough before the end.
pub(super) fn each(states: States, take: &mut impl FnMut(&Socket) -> bool) -> io::Result<bool> {
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )?;
    set_socket_timeout(&kernel, Timeout::Recv, Some(PATIENCE))?;
    for family in [AF_INET, AF_INET6] {
        send(&kernel, &request(family, states), SendFlags::empty())?;
        if !listen(&kernel, take)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn listen(kernel: &OwnedFd, take: &mut impl FnMut(&Socket) -> bool) -> io::Result<bool> {
    let mut room = vec![0_u8; ANSWER_BYTES];
    loop {
        let (len, _) = recv(kernel.as_fd(), &mut room[..], RecvFlags::empty())?;
        match parse(&room[..len], take) {
            Answer::More => {}
            Answer::Done => return Ok(true),
            Answer::Enough => return Ok(false),
            Answer::Refused(errno) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn request(family: u8, states: States) -> [u8; REQUEST_BYTES] {
    let mut request = [0; REQUEST_BYTES];
    request[..4].copy_from_slice(&(REQUEST_BYTES as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST_DUMP.to_ne_bytes());
    request[HEADER_BYTES] = family;
    request[HEADER_BYTES + 1] = IPPROTO_TCP;
    request[HEADER_BYTES + 4..HEADER_BYTES + 8].copy_from_slice(&states.mask().to_ne_bytes());
    request
}

/// Reads one answer: messages behind each other, padded to four bytes. What makes no sense ends it.
pub(in crate::collect) fn parse(
    mut answer: &[u8],
    take: &mut impl FnMut(&Socket) -> bool,
) -> Answer {
    while let Some(header) = answer.get(..HEADER_BYTES) {
        let len = u32::from_ne_bytes(word(header, 0)) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = answer.get(HEADER_BYTES..len) else {
            break;
        };
        match kind {
            NLMSG_DONE => return Answer::Done,
            NLMSG_ERROR => {
                let errno = body.get(..4).map(|_| i32::from_ne_bytes(word(body, 0)));
                return Answer::Refused(errno.unwrap_or(0).saturating_neg());
            }
            SOCK_DIAG_BY_FAMILY => {
                if let Some(socket) = socket(body)
                    && !take(&socket)
                {
                    return Answer::Enough;
                }
            }
            _ => {}
        }
        answer = answer.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Answer::More
}

fn socket(body: &[u8]) -> Option<Socket> {
    let body = body.get(..SOCKET_BYTES)?;
    let source = body.get(8..24)?;
    let address = match body[0] {
        AF_INET => IpAddr::V4(Ipv4Addr::from(word(source, 0))),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(source).ok()?)),
        _ => return None,
    };
    let number = |at| u32::from_ne_bytes(word(body, at));
    Some(Socket {
        state: body[1],
        address: (address, u16::from_be_bytes([body[4], body[5]])).into(),
        waiting: number(56),
        limit: number(60),
        uid: number(64),
        inode: number(68),
    })
}

/// Four bytes; the caller has checked that they are there.
fn word(bytes: &[u8], at: usize) -> [u8; 4] {
    [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recorded_answer_is_read() {
        let mut found = Vec::new();
        let answer = include_bytes!("../../../fixtures/here/sock_diag");
        let said = parse(answer, &mut |socket| {
            found.push(socket.clone());
            true
        });
        assert_eq!((said, found.len()), (Answer::More, 6));
        let listening: Vec<_> = found.iter().filter(|one| one.is_listening()).collect();
        assert_eq!(listening[0].address, "127.0.0.1:18080".parse().unwrap());
        assert_eq!((listening[0].waiting, listening[0].limit), (2, 7));
        assert_eq!(listening[1].address, "0.0.0.0:2024".parse().unwrap());
        assert_eq!((listening[1].waiting, listening[1].limit), (0, 128));
        assert!(found[2..].iter().all(|one| one.state == 1));
    }

    #[test]
    fn the_end_a_refusal_and_enough_are_told() {
        let message = |kind: u16, body: &[u8]| {
            let len = (HEADER_BYTES + body.len()) as u32;
            let kind = kind.to_ne_bytes();
            [&len.to_ne_bytes()[..], &kind, &[0; 10], body].concat()
        };
        let mut all = |_: &Socket| true;
        assert_eq!(parse(&message(NLMSG_DONE, &[0; 4]), &mut all), Answer::Done);
        let refused = message(NLMSG_ERROR, &(-2_i32).to_ne_bytes());
        assert_eq!(parse(&refused, &mut all), Answer::Refused(2));
        assert_eq!(
            parse(&message(NLMSG_ERROR, &[]), &mut all),
            Answer::Refused(0)
        );
        let answer = include_bytes!("../../../fixtures/here/sock_diag");
        assert_eq!(parse(answer, &mut |_| false), Answer::Enough);
        assert_eq!(parse(&answer[..130], &mut |_| true), Answer::More);
    }

    #[test]
    fn every_state_is_asked_for_once() {
        let (waiting, others) = (States::Waiting.mask(), States::Others.mask());
        assert_eq!((waiting & others, waiting | others), (0, 0xffe));
        assert_eq!(waiting, 1 << 3 | 1 << 10);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes: Vec<u8>) {
            parse(&bytes, &mut |_| true);
        }

        #[test]
        fn any_change_to_an_answer_is_taken(at in 0_usize..744, byte: u8, end in 0_usize..744) {
            let mut answer = include_bytes!("../../../fixtures/here/sock_diag").to_vec();
            answer[at] = byte;
            parse(&answer[..end], &mut |_| true);
        }
    }
}
