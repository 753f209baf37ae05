//! The UDP socket: dual-stack, with room for bursts, read and written in batches.
//!
//! `receive` hands over every datagram that is there, up to a batch; `send` takes as many as the
//! system takes. Addresses of IPv4 wear IPv6 clothes on a dual-stack socket; nobody outside this
//! file sees them. Absent: what is in a datagram.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use crate::config::DEFAULT_PORT;
use crate::node::SendFailure;
use crate::path;
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
        bound.map_err(|error| (wanted, error))
    }

    fn bind_exactly(address: SocketAddr) -> io::Result<Self> {
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
        socket.bind(&SockAddr::from(address))?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        Ok(Self {
            socket,
            local,
            dual,
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
    pub(crate) fn receive(&self, mut take: impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..BATCH {
            match self.socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => take(path::plain(from), &buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP answer to something sent earlier; the next read goes on.
                Err(error) => tracing::trace!(%error, "receive"),
            }
        }
    }

    /// Sends one datagram. What goes wrong loses that datagram, as the network might.
    pub(crate) fn send(&self, to: SocketAddr, bytes: &[u8]) -> Sent {
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
        let everywhere = Udp::bind(Some("[::]:0".parse().unwrap())).unwrap();
        let four = Udp::bind(Some("127.0.0.1:0".parse().unwrap())).unwrap();
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
