//! Joining over the network: a socket, a clock and the pure joiner.

use std::net::SocketAddr;

use super::udp::{Sent, Udp};
use super::{now, seed};
use crate::admission::joiner::Joiner;
use crate::config::Identity;
use crate::error::JoinError;
use crate::trust::{Statement, Token};

/// Joins the mesh a token names, over the joining tunnel; takes at most 20 s, or as long as the
/// admins take where one has to approve: then `waits` is told so in a sentence, each few seconds.
/// Returns every statement of the mesh, this node's own Join, Witness and NodeInfo included, all
/// verified. The same node key may try again, whatever became of an earlier attempt.
///
/// `listen` as in `MeshConfig`; without it a free port does where the usual one is taken.
pub async fn join(
    listen: Option<SocketAddr>,
    token: &Token,
    identity: &Identity,
    name: &str,
    waits: &mut (dyn FnMut(&str) + Send),
) -> Result<Vec<Statement>, JoinError> {
    let mut joiner = Joiner::new(token, identity, name, seed(), now())?;
    let bound = match (Udp::bind(listen), listen) {
        (Err(_taken), None) => {
            Udp::bind(Some(SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0))))
        }
        (bound, _) => bound,
    };
    let mut udp = bound.map_err(|(address, source)| JoinError::Listen { address, source })?;
    for bootstrap in token.bootstraps() {
        tracing::info!(node = %bootstrap.node.short(), addresses = ?bootstrap.addrs, "asking to be admitted");
    }
    loop {
        joiner.handle_timeout(now());
        while let Some(transmit) = joiner.poll_transmit() {
            // What doesn't leave is lost as in the network; it is sent again.
            let sent = udp.send(transmit.to, &transmit.bytes);
            if sent == Sent::Full && udp.writable().await.is_ok() {
                let _sent = udp.send(transmit.to, &transmit.bytes);
            }
        }
        if let Some(sentence) = joiner.poll_wait() {
            waits(&sentence);
        }
        if let Some(outcome) = joiner.poll_outcome() {
            return outcome;
        }
        let (due, _reason) = joiner.poll_timeout();
        tokio::select! {
            _ = udp.readable() => udp.receive(|from, bytes| joiner.handle_datagram(from, bytes, now())),
            () = tokio::time::sleep_until(due.into()) => {}
        }
    }
}
