//! TCP sockets by state, and how many connections wait for each program that listens.
//!
//! The kernel lists its sockets over netlink (`diag`), without privilege; `/proc/net/tcp` would be walked by every line.
//! Listening and half-open sockets are asked for apart, so that they are known on a machine with more sockets than are
//! looked at. Done aside; the more sockets there are, the more rarely. A listening socket gets series once it stays.
//! Absent: who is connected to whom. Nothing here looks at peers' addresses.

pub(super) mod diag;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::aside::{Aside, Measured};
use super::board::Board;
use super::kept::Buffer;
use super::sheet::{Family, Sheet, Spec};
use super::steady::Steady;

use diag::{Socket, States};

/// The shortest and the longest time between two looks.
const OFTEN: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_mins(2);

/// A look may take one part in so many of the time.
const SHARE: u32 = 1_000;

/// The most sockets one look goes through. Beyond it the states of connections are absent; those that
/// listen or are half open are counted before.
const MAX_SOCKETS: usize = 200_000;

/// The most listening sockets that are listed; further ones are left out.
const MAX_LISTENERS: usize = 4_096;

/// The most listening sockets that have series.
const MAX_SERIES: usize = 32;

/// By number of the state, less one.
const STATES: [Spec; 11] = [
    state("established"),
    state("syn_sent"),
    state("syn_recv"),
    state("fin_wait1"),
    state("fin_wait2"),
    state("time_wait"),
    state("close"),
    state("close_wait"),
    state("last_ack"),
    state("listen"),
    state("closing"),
];

const LISTENER: [Spec; 2] = [
    Spec::gauge("outlast_listen_queue", "", 0),
    Spec::gauge("outlast_listen_queue_limit", "", 0),
];

const fn state(name: &'static str) -> Spec {
    Spec::gauge("node_tcp_connection_states", "", 0).with("state", name)
}

/// A socket that waits for connections; those that share an address are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections that wait to be accepted.
    pub waiting: u64,
    /// How many may wait; beyond that they are dropped.
    pub limit: u64,
    /// Whose it is.
    pub uid: u32,
    /// Which file it is to its program.
    pub inode: u32,
}

#[derive(Debug)]
pub(super) struct Sockets {
    measured: Aside<Look>,
    listeners: Board<Vec<Listener>>,
    seen: Option<Arc<Look>>,
    steady: Steady,
    states: Family<11>,
    listener: Family<2>,
}

/// What one look found.
#[derive(Debug, Default)]
struct Look {
    counts: [Option<u64>; 11],
    listeners: Arc<Vec<Listener>>,
}

impl Sockets {
    /// Asks the kernel, or nobody where files of another machine are read.
    pub(super) fn new(of_this_machine: bool) -> Self {
        let measured = Aside::start("sockets", move || {
            let began = Instant::now();
            let found = if of_this_machine {
                look()
            } else {
                Err(io::ErrorKind::NotFound.into())
            };
            let again = (began.elapsed() * SHARE).clamp(OFTEN, SELDOM);
            Measured { found, again }
        });
        Self {
            measured,
            listeners: Board::new(),
            seen: None,
            steady: Steady::new(MAX_SERIES),
            states: Family::new(STATES),
            listener: Family::new(LISTENER),
        }
    }

    /// The sockets that listen, as of the last look.
    pub(super) fn listeners(&self) -> Board<Vec<Listener>> {
        self.listeners.clone()
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, buffer: &mut Buffer, now: Instant) {
        let Some(look) = self.measured.latest(buffer, now) else {
            return self.listeners.show(None);
        };
        if let Some(slots) = self.states.only(sheet) {
            sheet.set_all(slots, look.counts);
        }
        let named = |listener: &Listener| (listener.address.to_string(), listener.clone());
        let listeners: Vec<_> = look.listeners.iter().map(named).collect();
        let is_new = |seen: &Arc<Look>| !Arc::ptr_eq(seen, &look);
        if self.seen.as_ref().is_none_or(is_new) {
            self.steady
                .look(listeners.iter().map(|(name, _)| name.as_str()), now);
            self.listeners.show(Some(Arc::clone(&look.listeners)));
            self.seen = Some(Arc::clone(&look));
        }
        for (name, listener) in &listeners {
            if !self.steady.has(name) {
                continue;
            }
            if let Some(slots) = self.listener.slots(sheet, name, &[("address", name)]) {
                sheet.set_all(slots, [Some(listener.waiting), Some(listener.limit)]);
            }
        }
    }
}

fn look() -> io::Result<Look> {
    let mut tally = Tally::default();
    let waiting = diag::each(States::Waiting, &mut |socket| tally.count(socket))?;
    let others = diag::each(States::Others, &mut |socket| tally.count(socket))?;
    Ok(tally.finish(waiting, others))
}

/// Counts as sockets come.
#[derive(Debug, Default)]
struct Tally {
    looked: usize,
    counts: [u64; 11],
    listeners: BTreeMap<SocketAddr, Listener>,
}

impl Tally {
    /// Whether more may come.
    fn count(&mut self, socket: &Socket) -> bool {
        self.looked += 1;
        let at = usize::from(socket.state).wrapping_sub(1);
        if let Some(count) = self.counts.get_mut(at) {
            *count += 1;
        }
        if socket.is_listening() {
            let room = self.listeners.len() < MAX_LISTENERS;
            let fresh = Listener {
                address: socket.address,
                waiting: 0,
                limit: 0,
                uid: socket.uid,
                inode: socket.inode,
            };
            let known = self.listeners.contains_key(&socket.address);
            if known || room {
                let listener = self.listeners.entry(socket.address).or_insert(fresh);
                listener.waiting += u64::from(socket.waiting);
                listener.limit += u64::from(socket.limit);
            }
        }
        self.looked < MAX_SOCKETS
    }

    /// `waiting` and `others`: whether all of them were seen.
    fn finish(self, waiting: bool, others: bool) -> Look {
        let mut counts = [None; 11];
        for (at, (shown, count)) in counts.iter_mut().zip(self.counts).enumerate() {
            let whole = if States::Waiting.holds(at as u8 + 1) {
                waiting
            } else {
                others
            };
            *shown = whole.then_some(count);
        }
        Look {
            counts,
            listeners: Arc::new(self.listeners.into_values().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_socket_that_does_not_accept_shows_who_waits_and_how_many_may() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _waiting: Vec<_> = (0..3)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();

        let look = look().unwrap();

        let found = look.listeners.iter().find(|found| found.address == address);
        let found = found.expect("it listens");
        assert_eq!(found.waiting, 3);
        assert!(found.limit >= 3, "{found:?}");
        assert_eq!(found.uid, rustix::process::getuid().as_raw());
        assert!(look.counts[0] >= Some(6), "both ends are established");
        assert!(look.counts[9] >= Some(1), "one listens");
    }

    #[test]
    fn sockets_that_share_an_address_are_added() {
        let mut tally = Tally::default();
        for waiting in [2, 5] {
            assert!(tally.count(&listening(80, waiting)));
        }
        tally.count(&listening(81, 1));
        let look = tally.finish(true, true);
        let found: Vec<_> = look
            .listeners
            .iter()
            .map(|one| (one.address.port(), one.waiting, one.limit))
            .collect();
        assert_eq!(found, [(80, 7, 200), (81, 1, 100)]);
        assert_eq!((look.counts[9], look.counts[0]), (Some(3), Some(0)));
    }

    #[test]
    fn beyond_the_most_that_are_looked_at_only_the_first_are_told() {
        let mut tally = Tally::default();
        tally.count(&listening(80, 2));
        let one = Socket {
            state: 1,
            ..listening(80, 0)
        };
        let seen = (0..).take_while(|_| tally.count(&one)).count();
        assert_eq!(seen, MAX_SOCKETS - 2);
        let look = tally.finish(true, false);
        assert_eq!((look.counts[9], look.counts[2]), (Some(1), Some(0)));
        assert_eq!((look.counts[0], look.counts[5]), (None, None));
    }

    #[test]
    fn more_listeners_than_are_listed_are_left_out() {
        let mut tally = Tally::default();
        for port in 1..=5_000 {
            tally.count(&listening(port, 0));
        }
        assert_eq!(tally.listeners.len(), MAX_LISTENERS);
    }

    fn listening(port: u16, waiting: u32) -> Socket {
        Socket {
            state: 10,
            address: ([127, 0, 0, 1], port).into(),
            waiting,
            limit: 100,
            uid: 0,
            inode: 7,
        }
    }
}
