//! Tells at once when this machine's addresses, links or routes change.
//!
//! A netlink socket in the kernel's groups for them; needs no privilege. What changed isn't read:
//! the addresses are looked up anew when the news has settled. Where the socket is refused, as by
//! a unit or a container that allows internet families only, `changed` never returns and the
//! periodic look alone finds changes. Absent: what a change means, which is the node's matter.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Links, and addresses and routes of IPv4 and IPv6: the `RTMGRP_` bits of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Bytes of news the system keeps. What is over it is forgotten, which is news too; a router that
/// learns a million routes shall not make us read them.
const BUFFER: usize = 16 << 10;

/// Messages read for one piece of news; what is left is news again.
const BATCH: usize = 256;

/// The socket, where it is granted.
#[derive(Debug)]
pub(super) struct Watch {
    socket: Option<AsyncFd<OwnedFd>>,
}

impl Watch {
    /// Begins to listen.
    pub(super) fn start() -> Self {
        let socket = open()
            .inspect_err(|error| {
                tracing::info!(%error, "no news of network changes, looking every few seconds");
            })
            .ok();
        Self { socket }
    }

    /// Whether changes are told.
    pub(super) fn is_listening(&self) -> bool {
        self.socket.is_some()
    }

    /// Waits until something has changed. Cancelling loses nothing.
    pub(super) async fn changed(&mut self) {
        let Some(socket) = &self.socket else {
            return std::future::pending().await;
        };
        let heard = socket.async_io(Interest::READABLE, drain).await;
        if let Err(error) = heard {
            tracing::info!(%error, "news of network changes ended, looking every few seconds");
            self.socket = None;
        }
    }
}

#[expect(
    deprecated,
    reason = "what replaces it is unsafe, for the sake of types that aren't an owned descriptor"
)]
fn open() -> io::Result<AsyncFd<OwnedFd>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        // The routes, which is what netlink sockets are about by default.
        None,
    )?;
    sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Reads what is there and forgets it. `WouldBlock` when nothing was.
fn drain(socket: &OwnedFd) -> io::Result<()> {
    let mut heard = false;
    let mut message = [0; 64];
    for _ in 0..BATCH {
        match recv(socket, &mut message[..], RecvFlags::empty()) {
            // More has happened than was kept.
            Ok(_) | Err(rustix::io::Errno::NOBUFS) => heard = true,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) if heard => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn without_a_socket_it_waits_for_ever_and_disturbs_nobody() {
        let mut watch = Watch { socket: None };
        let waited = tokio::time::timeout(Duration::from_millis(50), watch.changed()).await;
        assert!(waited.is_err());
    }

    #[tokio::test]
    async fn an_unprivileged_process_may_listen() {
        let socket = open().unwrap();
        assert_eq!(
            drain(socket.get_ref()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
