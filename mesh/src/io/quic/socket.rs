//! A UDP socket in memory: two bounded queues between QUIC and the task that owns the tunnels.
//!
//! QUIC's side is `quinn::AsyncUdpSocket`. The other side hands arrived datagrams in by `deliver`
//! and takes what QUIC sends by `take_outward` or `outward`. Outward full: QUIC waits, so nothing
//! is lost that congestion control would count as loss. Inward full: the datagram is dropped and
//! counted, as a network would.
//! Absent: addresses. Which peer a datagram is for is the other side's matter.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

/// Datagrams each queue holds.
pub const QUEUE: usize = 256;

/// A UDP socket that exists only in memory.
pub struct VirtualSocket {
    local: SocketAddr,
    outward: Mutex<Queue>,
    inward: Mutex<Queue>,
    dropped: AtomicU64,
}

/// Datagrams on their way, and who waits for them.
#[derive(Default)]
struct Queue {
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    /// Who waits for a datagram: one task.
    taker: Option<Waker>,
    /// Who waits for room: QUIC's endpoint and one task a connection.
    givers: Vec<Waker>,
}

impl VirtualSocket {
    /// A socket bound to `local`, an overlay address.
    #[must_use]
    pub fn new(local: SocketAddr) -> Arc<Self> {
        let (outward, inward) = (Mutex::default(), Mutex::default());
        Arc::new(Self {
            local,
            outward,
            inward,
            dropped: AtomicU64::new(0),
        })
    }

    /// Hands a datagram in; `false` when the queue was full and it was dropped and counted.
    pub fn deliver(&self, from: SocketAddr, datagram: Bytes) -> bool {
        let taken = locked(&self.inward).give(from, datagram);
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// The next datagram to send and where to, when there is one.
    pub fn take_outward(&self) -> Option<(SocketAddr, Bytes)> {
        locked(&self.outward).take()
    }

    /// Waits for the next datagram to send. For one task only; cancelling loses nothing.
    pub async fn outward(&self) -> (SocketAddr, Bytes) {
        poll_fn(|cx| locked(&self.outward).poll_take(cx)).await
    }

    /// Datagrams dropped because the inward queue was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Queue {
    fn give(&mut self, address: SocketAddr, datagram: Bytes) -> bool {
        if self.datagrams.len() >= QUEUE {
            return false;
        }
        self.datagrams.push_back((address, datagram));
        if let Some(taker) = self.taker.take() {
            taker.wake();
        }
        true
    }

    fn take(&mut self) -> Option<(SocketAddr, Bytes)> {
        let next = self.datagrams.pop_front();
        // Waking at half empty lets a giver fill many places at once instead of one each time.
        if self.datagrams.len() <= QUEUE / 2 {
            self.givers.drain(..).for_each(Waker::wake);
        }
        next
    }

    fn poll_take(&mut self, cx: &Context<'_>) -> Poll<(SocketAddr, Bytes)> {
        if let Some(next) = self.take() {
            return Poll::Ready(next);
        }
        self.taker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.datagrams.len() < QUEUE {
            return Poll::Ready(());
        }
        if !self.givers.iter().any(|giver| giver.will_wake(cx.waker())) {
            self.givers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl AsyncUdpSocket for VirtualSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(RoomPoller(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let datagram = Bytes::copy_from_slice(transmit.contents);
        let taken = locked(&self.outward).give(transmit.destination, datagram);
        taken
            .then_some(())
            .ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inward = locked(&self.inward);
        let mut count = 0;
        while count < bufs.len().min(meta.len()) {
            let Poll::Ready((from, datagram)) = inward.poll_take(cx) else {
                break;
            };
            // Longer than any packet we announced to take: not one of QUIC's.
            let Some(buf) = bufs[count].get_mut(..datagram.len()) else {
                continue;
            };
            buf.copy_from_slice(&datagram);
            let len = datagram.len();
            meta[count] = RecvMeta {
                addr: from,
                len,
                stride: len,
                ecn: None,
                dst_ip: None,
            };
            count += 1;
        }
        if count == 0 {
            Poll::Pending
        } else {
            Poll::Ready(Ok(count))
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}

/// Waits for room outward. Each connection has its own.
#[derive(Debug)]
struct RoomPoller(Arc<VirtualSocket>);

impl UdpPoller for RoomPoller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        locked(&self.0.outward).poll_room(cx).map(Ok)
    }
}

impl fmt::Debug for VirtualSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualSocket({})", self.local)
    }
}

/// A panic elsewhere leaves a queue of whole datagrams, so a poisoned lock is as good as any.
fn locked(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
