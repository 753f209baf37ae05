//! The UDP socket: dual-stack, with room for bursts, read and written in batches.
//!
//! `receive` hands over every datagram that is there, up to a batch; `send` takes as many as the
//! system takes; a call goes out on every link. `keep_up` follows what became of the machine: links
//! that came, IPv6 that was off at the start, a socket that the system closed. Addresses of IPv4 wear IPv6 clothes on a dual-stack socket; nobody outside this
//! file sees them. Absent: what is in a datagram.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::links::Links;
use crate::config::DEFAULT_PORT;
use crate::node::SendFailure;
use crate::path::{self, lan};
use crate::tunnel::session::MAX_DATAGRAM;

/// Bytes the system may hold for us each way: a second of a bursting mesh.
const BUFFER: usize = 4 << 20;

/// Datagrams handled for each wake-up, before the other work gets its turn.
const BATCH: usize = 64;

/// What came of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The system took it.
    Done,
    /// The system's buffer is full; it may be sent later.
    Full,
    /// It is lost.
    Failed(SendFailure),
}

/// The socket.
#[derive(Debug)]
pub(crate) struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
    dual: bool,
    /// The address that was asked for; another one is bound where IPv6 is off.
    wanted: SocketAddr,
    links: Links,
    /// Nothing but errors came from it.
    broken: bool,
}

impl Udp {
    /// Binds `listen`, or `[::]:51800`; the unspecified IPv6 address falls back to `0.0.0.0` where
    /// IPv6 is off. The error comes with the address that was asked for.
    pub(crate) fn bind(listen: Option<SocketAddr>) -> Result<Self, (SocketAddr, io::Error)> {
        let wanted =
            listen.unwrap_or_else(|| SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT)));
        let bound = match Self::bind_exactly(wanted) {
            Err(error) if is_everywhere(wanted) && lacks_ipv6(&error) => {
                let fallback = SocketAddr::from(([0, 0, 0, 0], wanted.port()));
                tracing::info!("IPv6 is off, listening on IPv4 only");
                Self::bind_exactly(fallback)
            }
            bound => bound,
        };
        let mut udp = bound.map_err(|error| (wanted, error))?;
        udp.wanted = SocketAddr::new(wanted.ip(), udp.local.port());
        if udp.hears_calls() {
            udp.links.follow(&udp.socket);
        }
        Ok(udp)
    }

    /// Whether calls on a link reach it: one bound to a single address hears no group.
    pub(crate) fn hears_calls(&self) -> bool {
        self.local.ip().is_unspecified()
    }

    /// Whether it is to be looked after at once.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Follows what became of the machine. The port stays the same whatever happens.
    pub(crate) fn keep_up(&mut self) {
        let fell_back = is_everywhere(self.wanted) && !self.dual;
        if self.is_dead() || fell_back {
            match self.bind_beside() {
                Ok(()) => tracing::info!(listen = %self.local, "the socket was bound again"),
                Err(error) if fell_back && lacks_ipv6(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, listen = %self.wanted, "the socket could not be bound again")
                }
            }
        }
        if self.hears_calls() {
            self.links.follow(&self.socket);
        }
    }

    /// Whether the system has closed the socket or taken its port, as `ss --kill` does.
    fn is_dead(&mut self) -> bool {
        let port = self.socket.local_addr().map(|local| local.port()).ok();
        std::mem::take(&mut self.broken) || port != Some(self.local.port())
    }

    /// Binds the wanted address anew, next to the socket in use: were that closed first, another
    /// program could take the port.
    fn bind_beside(&mut self) -> io::Result<()> {
        let in_use = SockRef::from(&self.socket);
        in_use.set_reuse_address(true)?;
        let bound = Self::bind_as(self.wanted, true);
        let _ = SockRef::from(&self.socket).set_reuse_address(false);
        let Self {
            socket,
            local,
            dual,
            ..
        } = bound?;
        let _ = SockRef::from(&socket).set_reuse_address(false);
        (self.socket, self.local, self.dual) = (socket, local, dual);
        Ok(())
    }

    fn bind_exactly(address: SocketAddr) -> io::Result<Self> {
        Self::bind_as(address, false)
    }

    fn bind_as(address: SocketAddr, beside: bool) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        let dual = is_everywhere(address);
        if dual {
            socket.set_only_v6(false)?;
        }
        // The system grants what its limits allow; less is no error.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        never_ask_for_width(&socket);
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(beside)?;
        socket.bind(&SockAddr::from(address))?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket,
            local,
            dual,
            wanted: local,
            links: Links::default(),
            broken: false,
        })
    }

    /// The bound address, with the real port.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Waits until something can be read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Waits until something can be written.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Hands over what has arrived, up to a batch. A datagram over `MAX_DATAGRAM` arrives one byte
    /// longer than that, cut, and is dropped by its length.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        let mut errors = 0;
        for _ in 0..BATCH {
            match self.socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => take(path::plain(from), &buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP answer to something sent earlier; the next read goes on.
                Err(error) => {
                    errors += 1;
                    tracing::trace!(%error, "receive");
                }
            }
        }
        self.broken |= errors == BATCH;
    }

    /// Sends one datagram. What goes wrong loses that datagram, as the network might.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) -> Sent {
        if lan::is_call(to) {
            self.links.call(&self.socket, to.port(), self.dual, bytes);
            return Sent::Done;
        }
        let to = match (to, self.dual) {
            (SocketAddr::V4(v4), true) => {
                let mapped = v4.ip().to_ipv6_mapped();
                SocketAddr::V6(SocketAddrV6::new(mapped, v4.port(), 0, 0))
            }
            (to, _) => to,
        };
        match self.socket.try_send_to(bytes, to) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Full,
            Err(error) => {
                tracing::trace!(%to, %error, "send");
                Sent::Failed(failure(&error))
            }
            Ok(_) => Sent::Done,
        }
    }
}

/// Lets routers, and this machine, cut datagrams that are too long for a link, and believes no
/// ICMP about it: a forged answer can narrow nothing, and a filtered one hides nothing, because
/// the node proves each path's width itself. IPv6 routers never cut.
fn never_ask_for_width(socket: &Socket) {
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    };
    // Refused for the family the socket doesn't speak, and by old kernels: their default cuts too,
    // once it has learned where.
    let _ = set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::OMIT);
    let _ = set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::OMIT);
}

fn failure(error: &io::Error) -> SendFailure {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::MSGSIZE) => SendFailure::TooLong,
        Some(
            Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::ADDRNOTAVAIL
            | Errno::NODEV
            // A socket bound to an address the machine has lost.
            | Errno::INVAL,
        ) => SendFailure::NoRoute,
        _ => SendFailure::Other,
    }
}

fn is_everywhere(address: SocketAddr) -> bool {
    address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::OPNOTSUPP]
        .iter()
        .any(|errno| code == Some(errno.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dual_stack_socket_speaks_ipv4_and_ipv6() {
        let mut everywhere = Udp::bind(Some("[::]:0".parse().unwrap())).unwrap();
        let mut four = Udp::bind(Some("127.0.0.1:0".parse().unwrap())).unwrap();
        assert_ne!(everywhere.local().port(), 0);

        four.writable().await.unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], everywhere.local().port()));
        assert_eq!(four.send(to, b"hello"), Sent::Done);
        everywhere.readable().await.unwrap();
        let mut heard = None;
        everywhere.receive(|from, bytes| heard = Some((from, bytes.to_vec())));

        assert_eq!(heard, Some((four.local(), b"hello".to_vec())));
        everywhere.writable().await.unwrap();
        assert_eq!(everywhere.send(four.local(), b"back"), Sent::Done);
        four.readable().await.unwrap();
        four.receive(|_, bytes| assert_eq!(bytes, b"back"));
    }

    #[tokio::test]
    async fn a_socket_that_had_to_do_without_ipv6_gets_it_later_on_the_same_port() {
        let mut udp = Udp::bind(Some("0.0.0.0:0".parse().unwrap())).unwrap();
        let port = udp.local().port();
        // As it is where the first try was refused.
        udp.wanted = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));

        udp.keep_up();

        assert_eq!(udp.local(), udp.wanted);
        let six = Udp::bind(Some("[::1]:0".parse().unwrap())).unwrap();
        six.writable().await.unwrap();
        let to = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        assert_eq!(six.send(to, b"hello"), Sent::Done);
        udp.readable().await.unwrap();
        let mut heard = 0;
        udp.receive(|_, _| heard += 1);
        assert_eq!(heard, 1);
        // Nobody else may take the port beside us afterwards.
        let beside = Udp::bind_as(SocketAddr::from(([0, 0, 0, 0], port)), true);
        assert!(beside.is_err());
    }

    #[tokio::test]
    async fn a_socket_from_which_only_errors_come_is_bound_again() {
        let mut udp = Udp::bind(Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let local = udp.local();
        let before = std::os::fd::AsRawFd::as_raw_fd(&udp.socket);
        udp.keep_up();
        assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&udp.socket), before);

        udp.broken = true;
        udp.keep_up();

        assert!(!udp.is_broken());
        assert_eq!(udp.local(), local);
        let other = Udp::bind(Some("127.0.0.1:0".parse().unwrap())).unwrap();
        other.writable().await.unwrap();
        assert_eq!(other.send(local, b"hello"), Sent::Done);
        udp.readable().await.unwrap();
        let mut heard = 0;
        udp.receive(|_, _| heard += 1);
        assert_eq!(heard, 1);
    }

    #[tokio::test]
    async fn a_call_is_heard_on_the_link_over_both_families() {
        let mut here = Udp::bind(Some("[::]:0".parse().unwrap())).unwrap();
        let there = Udp::bind(Some("[::]:0".parse().unwrap())).unwrap();
        assert!(here.hears_calls());
        there.writable().await.unwrap();
        if there.links.is_empty() {
            // A machine with loopback alone has no link to call on.
            return;
        }

        let group = SocketAddr::from((lan::GROUP_V4, here.local().port()));
        assert_eq!(there.send(group, b"anybody?"), Sent::Done);

        here.readable().await.unwrap();
        let mut heard = Vec::new();
        here.receive(|from, bytes| heard.push((from.port(), bytes.to_vec())));
        let call = (there.local().port(), b"anybody?".to_vec());
        assert!(heard.contains(&call), "{heard:?}");
    }

    #[tokio::test]
    async fn a_datagram_that_cannot_leave_is_lost_with_its_reason_and_the_next_one_leaves() {
        let four = Udp::bind(Some("127.0.0.1:0".parse().unwrap())).unwrap();
        four.writable().await.unwrap();

        // From loopback nothing leads outside, and no datagram is longer than 64 KiB.
        let outside = "192.0.2.1:9".parse().unwrap();
        assert_eq!(
            four.send(outside, b"lost"),
            Sent::Failed(SendFailure::NoRoute)
        );
        let too_long = four.send(four.local(), &[0; 70_000]);
        assert_eq!(too_long, Sent::Failed(SendFailure::TooLong));
        assert_eq!(four.send(four.local(), b"fine"), Sent::Done);
    }
}
