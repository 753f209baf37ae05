//! The mesh's own counters: traffic, what was dropped and why, peers by state, round trips.

use std::collections::BTreeMap;

use outlast_mesh::{Counters, PeerState, Snapshot};

use super::sheet::{Family, Sheet, Spec};

/// The most peers whose round trips are series of their own; the first by name count.
const MAX_PEERS: usize = 64;

const TRAFFIC: [Spec; 5] = [
    Spec::counter("outlast_tunnel_transmit_bytes_total", "bytes", 0),
    Spec::counter("outlast_tunnel_receive_bytes_total", "bytes", 0),
    Spec::counter("outlast_tunnel_transmit_datagrams_total", "", 0),
    Spec::counter("outlast_tunnel_receive_datagrams_total", "", 0),
    Spec::counter("outlast_tunnel_handshakes_total", "", 0),
];

const DROPPED: [Spec; 1] = [Spec::counter(
    "outlast_tunnel_dropped_datagrams_total",
    "",
    0,
)];

const STATES: [PeerState; 5] = [
    PeerState::Alive,
    PeerState::Stale,
    PeerState::Suspect,
    PeerState::Down,
    PeerState::Left,
];

const PEERS: [Spec; 5] = [
    peers("alive"),
    peers("stale"),
    peers("suspect"),
    peers("down"),
    peers("left"),
];

const PEER: [Spec; 2] = [
    Spec::gauge("outlast_peer_rtt_seconds", "seconds", -6),
    Spec::gauge("outlast_peer_up", "", 0),
];

const fn peers(state: &'static str) -> Spec {
    Spec::gauge("outlast_peers", "", 0).with("state", state)
}

/// What the mesh has counted, as the tick needs it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TunnelStats {
    /// Traffic since the start. `None` before the mesh has started.
    pub counters: Option<Counters>,
    /// Each peer, by name.
    pub peers: Vec<TunnelPeer>,
}

/// One peer, as the tick needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelPeer {
    /// The name it goes by.
    pub name: String,
    /// Whether it is heard.
    pub state: PeerState,
    /// Smoothed round trip. `None` until one was measured.
    pub rtt_ms: Option<f64>,
}

impl From<&Snapshot> for TunnelStats {
    fn from(snapshot: &Snapshot) -> Self {
        let mut peers: Vec<_> = snapshot
            .peers
            .iter()
            .map(|peer| TunnelPeer {
                name: peer.name.clone(),
                state: peer.state,
                rtt_ms: peer.rtt_ms,
            })
            .collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        Self {
            counters: Some(snapshot.counters.clone()),
            peers,
        }
    }
}

#[derive(Debug)]
pub(super) struct Tunnel {
    traffic: Family<5>,
    dropped: Family<1>,
    states: Family<5>,
    peer: Family<2>,
}

impl Tunnel {
    pub(super) fn new() -> Self {
        Self {
            traffic: Family::new(TRAFFIC),
            dropped: Family::new(DROPPED),
            states: Family::new(PEERS),
            peer: Family::new(PEER),
        }
    }

    pub(super) fn tick(&mut self, sheet: &mut Sheet, stats: &TunnelStats) {
        let Some(counters) = &stats.counters else {
            return;
        };
        if let Some(slots) = self.traffic.only(sheet) {
            let Counters {
                tx_bytes,
                rx_bytes,
                tx_datagrams,
                rx_datagrams,
                handshakes,
                ..
            } = *counters;
            let values = [tx_bytes, rx_bytes, tx_datagrams, rx_datagrams, handshakes];
            slots
                .into_iter()
                .zip(values)
                .for_each(|(slot, value)| sheet.set(slot, value));
        }
        self.tick_dropped(sheet, &counters.dropped);
        self.tick_peers(sheet, &stats.peers);
    }

    fn tick_dropped(&mut self, sheet: &mut Sheet, dropped: &BTreeMap<&'static str, u64>) {
        for (reason, count) in dropped {
            if let Some([slot]) = self.dropped.slots(sheet, reason, &[("reason", reason)]) {
                sheet.set(slot, *count);
            }
        }
    }

    fn tick_peers(&mut self, sheet: &mut Sheet, peers: &[TunnelPeer]) {
        if let Some(slots) = self.states.only(sheet) {
            for (slot, state) in slots.into_iter().zip(STATES) {
                sheet.set(
                    slot,
                    peers.iter().filter(|peer| peer.state == state).count(),
                );
            }
        }
        for peer in peers.iter().take(MAX_PEERS) {
            let Some([rtt, up]) = self.peer.slots(sheet, &peer.name, &[("peer", &peer.name)])
            else {
                continue;
            };
            let alive = matches!(peer.state, PeerState::Alive | PeerState::Stale);
            // What was measured before a peer fell silent says nothing about the way to it since.
            let rtt_ms = peer
                .rtt_ms
                .filter(|rtt_ms| alive && rtt_ms.is_finite() && *rtt_ms >= 0.0);
            sheet.set_some(rtt, rtt_ms.map(|rtt_ms| (rtt_ms * 1_000.0).round() as i64));
            sheet.set(up, i64::from(alive));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_mesh_that_has_not_started_says_nothing() {
        assert_eq!(tick(&TunnelStats::default()).values, []);
    }

    #[test]
    fn traffic_drops_and_peers_are_counted() {
        let counters = Counters {
            tx_bytes: 1,
            rx_bytes: 2,
            tx_datagrams: 3,
            rx_datagrams: 4,
            dropped: [("oversize", 7), ("spoofed", 8)].into(),
            handshakes: 5,
            ..Counters::default()
        };
        let peers = vec![
            peer("b", PeerState::Alive, Some(0.4567)),
            peer("c", PeerState::Down, Some(12.0)),
            peer("d", PeerState::Stale, None),
        ];
        let found = tick(&TunnelStats {
            counters: Some(counters),
            peers,
        });
        let some = |values: &[i64]| values.iter().copied().map(Some).collect::<Vec<_>>();
        assert_eq!(found.values[..7], some(&[1, 2, 3, 4, 5, 7, 8]));
        assert_eq!(found.values[7..12], some(&[1, 1, 0, 1, 0]));
        assert_eq!(
            found.values[12..],
            [Some(457), Some(1), None, Some(0), None, Some(1)]
        );
        assert_eq!(
            found.appended[6].labels,
            [("reason".to_owned(), "spoofed".to_owned())]
        );
    }

    #[test]
    fn states_are_counted_under_their_words() {
        for (spec, state) in PEERS.iter().zip(STATES) {
            assert!(format!("{spec:?}").contains(&format!("\"{}\"", state.as_str())));
        }
    }

    fn peer(name: &str, state: PeerState, rtt_ms: Option<f64>) -> TunnelPeer {
        TunnelPeer {
            name: name.to_owned(),
            state,
            rtt_ms,
        }
    }

    fn tick(stats: &TunnelStats) -> super::super::Tick {
        let mut sheet = Sheet::new(Instant::now());
        sheet.begin(Instant::now());
        Tunnel::new().tick(&mut sheet, stats);
        sheet.finish()
    }
}
