//! Two endpoints joined by queues in memory.

use std::net::Ipv6Addr;

use bytes::Bytes;
use tokio::{task::JoinHandle, time::timeout};

use super::*;

const MESH: MeshId = MeshId([7; 32]);

#[tokio::test]
async fn two_endpoints_talk_and_know_each_other() {
    let net = Net::of(2);
    let [a, b] = [net.streams(0), net.streams(1)];
    let accepting = tokio::spawn(async move {
        let (from, connection) = b.accept().await.unwrap();
        let (mut send, mut recv) = connection.accept_bi().await.unwrap();
        let asked = recv.read_to_end(1 << 20).await.unwrap();
        send.write_all(&asked).await.unwrap();
        send.finish().unwrap();
        connection.closed().await;
        from
    });
    let connection = a.connect(net.id(1)).await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let question = vec![5; 300_000];
    let asking = tokio::spawn({
        let question = question.clone();
        async move {
            send.write_all(&question).await.unwrap();
            send.finish().unwrap();
        }
    });
    assert_eq!(recv.read_to_end(1 << 20).await.unwrap(), question);
    asking.await.unwrap();
    connection.close(CLOSED, b"done");
    assert_eq!(accepting.await.unwrap(), net.id(0));
}

#[tokio::test]
async fn a_peer_that_opens_connections_without_end_keeps_the_latest_and_is_known() {
    let net = Net::of(2);
    let [a, b] = [net.streams(0), net.streams(1)];
    let (events, mut opened) = tokio::sync::mpsc::channel(64);
    let stop = tokio_util::sync::CancellationToken::new();
    let kept = crate::io::streams::Connections::start(b, events, stop);
    let mut connections = Vec::new();
    for _ in 0..12 {
        let connection = a.connect(net.id(1)).await.unwrap();
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(b"here").await.unwrap();
        // Known to the other side before the next one comes.
        opened.recv().await.unwrap();
        connections.push(connection);
    }

    let closed = timeout(Duration::from_secs(5), connections[7].closed()).await;
    assert!(closed.is_ok(), "the older ones are closed");
    let open = connections
        .iter()
        .filter(|one| one.close_reason().is_none());
    assert_eq!(open.count(), 4);
    assert_eq!(kept.take_excess(), [net.id(0); 8]);
    assert_eq!(kept.take_excess(), []);
}

#[tokio::test]
async fn no_packet_exceeds_its_size() {
    let net = Net::of(2);
    let [a, b] = [net.streams(0), net.streams(1)];
    let _accepting = tokio::spawn(async move {
        let (_from, connection) = b.accept().await.unwrap();
        let (_send, mut recv) = connection.accept_bi().await.unwrap();
        recv.read_to_end(1 << 20).await.unwrap();
        std::future::pending::<()>().await;
    });
    let connection = a.connect(net.id(1)).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&vec![5; 500_000]).await.unwrap();
    send.finish().unwrap();
    send.stopped().await.unwrap();
    assert_eq!(
        net.longest.load(std::sync::atomic::Ordering::Relaxed),
        usize::from(PACKET)
    );
}

#[tokio::test]
async fn a_server_with_another_key_is_refused() {
    let mut net = Net::of(2);
    let right = net.id(1);
    // The address stays that of the right key; who answers there holds another.
    net.keys[1] = NodeKey::generate();
    let [a, b] = [net.streams(0), net.streams(1)];
    let accepting = tokio::spawn(async move { b.accept().await });
    let refused = a.connect(right).await;
    let Err(ConnectError::Refused(peer, ConnectionError::TransportError(_))) = refused else {
        panic!("not refused by its key: {refused:?}")
    };
    assert_eq!(peer, right);
    assert!(!accepting.is_finished());
}

#[tokio::test]
async fn a_client_with_another_key_is_closed_and_never_accepted() {
    let mut net = Net::of(2);
    net.keys[0] = NodeKey::generate();
    let [a, b] = [net.streams(0), net.streams(1)];
    let accepting = tokio::spawn(async move { b.accept().await });
    let connection = a.connect(net.id(1)).await.unwrap();
    let ConnectionError::ApplicationClosed(close) = connection.closed().await else {
        panic!("not closed by the peer")
    };
    assert_eq!(close.error_code, WRONG_KEY);
    assert!(
        timeout(Duration::from_millis(100), accepting)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_full_outward_queue_holds_quic_back_and_loses_nothing() {
    let key = NodeKey::generate();
    let socket = VirtualSocket::new(address(&key));
    let to = address(&NodeKey::generate());
    for sent in 0..QUEUE {
        assert!(send(&socket, to, sent).is_ok());
    }
    assert_eq!(
        send(&socket, to, QUEUE).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
    let waiting = tokio::spawn({
        let mut poller = quinn::AsyncUdpSocket::create_io_poller(Arc::clone(&socket));
        async move {
            std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx))
                .await
                .unwrap()
        }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    for sent in 0..QUEUE {
        assert_eq!(
            socket.take_outward(),
            Some((to, Bytes::copy_from_slice(&sent.to_be_bytes())))
        );
    }
    timeout(Duration::from_secs(5), waiting)
        .await
        .unwrap()
        .unwrap();
    assert!(send(&socket, to, 0).is_ok());
}

#[tokio::test]
async fn a_slow_way_out_delays_and_loses_nothing() {
    let net = Net::with_pause(2, Duration::from_millis(1));
    let [a, b] = [net.streams(0), net.streams(1)];
    let reading = tokio::spawn(async move {
        let (_from, connection) = b.accept().await.unwrap();
        let (_send, mut recv) = connection.accept_bi().await.unwrap();
        recv.read_to_end(1 << 20).await.unwrap().len()
    });
    let connection = a.connect(net.id(1)).await.unwrap();
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(&vec![5; 300_000]).await.unwrap();
    send.finish().unwrap();
    assert_eq!(reading.await.unwrap(), 300_000);
    assert_eq!(connection.stats().path.lost_packets, 0);
    assert_eq!(
        net.sockets
            .iter()
            .map(|socket| socket.dropped())
            .sum::<u64>(),
        0
    );
}

#[tokio::test]
async fn a_full_inward_queue_drops_and_counts() {
    let from = address(&NodeKey::generate());
    let socket = VirtualSocket::new(from);
    for _ in 0..QUEUE {
        assert!(socket.deliver(from, Bytes::from_static(b"x")));
    }
    assert!(!socket.deliver(from, Bytes::from_static(b"x")));
    assert!(!socket.deliver(from, Bytes::from_static(b"x")));
    assert_eq!(socket.dropped(), 2);
}

#[tokio::test]
async fn a_closed_endpoint_accepts_no_more() {
    let net = Net::of(1);
    let streams = net.streams(0);
    let accepting = tokio::spawn({
        let streams = streams.clone();
        async move { streams.accept().await.is_none() }
    });
    tokio::task::yield_now().await;
    streams.close();
    assert!(
        timeout(Duration::from_secs(5), accepting)
            .await
            .unwrap()
            .unwrap()
    );
}

/// Nodes whose sockets hand their datagrams straight to each other.
struct Net {
    ids: Vec<NodeId>,
    keys: Vec<NodeKey>,
    sockets: Vec<Arc<VirtualSocket>>,
    longest: Arc<std::sync::atomic::AtomicUsize>,
    pumps: Vec<JoinHandle<()>>,
}

impl Net {
    fn of(count: usize) -> Self {
        Self::with_pause(count, Duration::ZERO)
    }

    /// Every 16 datagrams a socket rests for `pause`.
    fn with_pause(count: usize, pause: Duration) -> Self {
        let keys: Vec<_> = (0..count).map(|_| NodeKey::generate()).collect();
        let sockets: Vec<_> = keys
            .iter()
            .map(|key| VirtualSocket::new(address(key)))
            .collect();
        let longest = Arc::default();
        let pumps = (0..count)
            .map(|from| tokio::spawn(pump(sockets.clone(), from, Arc::clone(&longest), pause)))
            .collect();
        Self {
            ids: keys.iter().map(NodeKey::id).collect(),
            keys,
            sockets,
            longest,
            pumps,
        }
    }

    fn id(&self, index: usize) -> NodeId {
        self.ids[index]
    }

    fn streams(&self, index: usize) -> Streams {
        endpoint(&self.keys[index], MESH, Arc::clone(&self.sockets[index])).unwrap()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.pumps.iter().for_each(JoinHandle::abort);
    }
}

async fn pump(
    sockets: Vec<Arc<VirtualSocket>>,
    from: usize,
    longest: Arc<std::sync::atomic::AtomicUsize>,
    pause: Duration,
) {
    use quinn::AsyncUdpSocket;
    let source = sockets[from].local_addr().unwrap();
    for count in 1_u64.. {
        let (to, datagram) = sockets[from].outward().await;
        if count % 16 == 0 && !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        longest.fetch_max(datagram.len(), std::sync::atomic::Ordering::Relaxed);
        if let Some(socket) = sockets
            .iter()
            .find(|socket| socket.local_addr().unwrap() == to)
        {
            socket.deliver(source, datagram);
        }
    }
}

fn address(key: &NodeKey) -> SocketAddr {
    let ip: Ipv6Addr = overlay_address(&MESH, &key.id());
    SocketAddr::new(ip.into(), STREAM_PORT)
}

fn send(socket: &VirtualSocket, destination: SocketAddr, number: usize) -> io::Result<()> {
    let contents = &number.to_be_bytes();
    let transmit = quinn::udp::Transmit {
        destination,
        ecn: None,
        contents,
        segment_size: None,
        src_ip: None,
    };
    quinn::AsyncUdpSocket::try_send(socket, &transmit)
}
