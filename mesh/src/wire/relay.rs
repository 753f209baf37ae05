//! A datagram that a member hands on: `overlay address of the other end (16 bytes), the datagram as it is`.
//!
//! Towards the relay, on `RELAY_PORT`, the other end is whom it is for; from the relay, on `RELAYED_PORT`, whom it is
//! from. The relay writes that address itself, out of the session the datagram came in, so a sender can't choose
//! it. Invariant: nothing is read that no tunnel of ours would send, so what is handed on is never longer than what
//! came. Absent: who may send what to whom, which `node::relay` decides.

use std::net::Ipv6Addr;

use super::{fragment, packet};

/// Bytes before the datagram.
pub(crate) const HEADER: usize = 16;

/// The longest datagram handed on: the longest packet, sealed.
pub(crate) const MAX_DATAGRAM: usize = fragment::MAX_PACKET + 32;

/// The shortest: an empty packet, sealed.
pub(crate) const MIN_DATAGRAM: usize = 32;

/// What stands in the payload of both ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relayed<'a> {
    /// Whom it is for, or from.
    pub(crate) other: Ipv6Addr,
    /// WireGuard's message, which the relay can't open.
    pub(crate) datagram: &'a [u8],
}

/// The inner packet that carries a datagram between a member and its relay.
pub(crate) fn build(from: Ipv6Addr, to: Ipv6Addr, port: u16, relayed: Relayed<'_>) -> Vec<u8> {
    let mut payload = Vec::with_capacity(HEADER + relayed.datagram.len());
    payload.extend_from_slice(&relayed.other.octets());
    payload.extend_from_slice(relayed.datagram);
    packet::build(from, to, port, &payload)
}

/// Reads a payload. `None` for anything `build` isn't given: another length, or no WireGuard message.
pub(crate) fn parse(payload: &[u8]) -> Option<Relayed<'_>> {
    let (other, datagram) = payload.split_first_chunk::<HEADER>()?;
    let fits = (MIN_DATAGRAM..=MAX_DATAGRAM).contains(&datagram.len());
    let [kind @ 1..=4, 0, 0, 0] = *datagram.first_chunk::<4>()? else {
        return None;
    };
    let exact = match kind {
        1 => datagram.len() == 148,
        2 => datagram.len() == 92,
        3 => datagram.len() == 64,
        _ => true,
    };
    (fits && exact).then_some(Relayed {
        other: Ipv6Addr::from(*other),
        datagram,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{RELAY_PORT, packet};

    const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

    fn datagram(kind: u8, length: usize) -> Vec<u8> {
        let mut datagram = vec![0; length];
        datagram[0] = kind;
        datagram
    }

    #[test]
    fn the_longest_relayed_datagram_is_1_424_bytes_outside() {
        let longest = datagram(4, MAX_DATAGRAM);
        let relayed = Relayed {
            other: B,
            datagram: &longest,
        };
        let inner = build(A, B, RELAY_PORT, relayed);
        // 32 bytes of the tunnel, 48 of IPv6 and UDP.
        assert_eq!(inner.len() + 32 + 48, 1_424);
    }

    #[test]
    fn what_no_tunnel_sends_is_refused() {
        let payload = |kind, length| [&B.octets()[..], &datagram(kind, length)].concat();
        for (kind, length, is_read) in [
            (1, 148, true),
            (1, 147, false),
            (2, 92, true),
            (2, 148, false),
            (3, 64, true),
            (3, 65, false),
            (4, 32, true),
            (4, 31, false),
            (4, 1_280, true),
            (4, 1_281, false),
            (0, 148, false),
            (5, 148, false),
        ] {
            let payload = payload(kind, length);
            assert_eq!(
                parse(&payload).is_some(),
                is_read,
                "{kind} of {length} bytes"
            );
        }
        let mut reserved = payload(4, 32);
        reserved[HEADER + 1] = 1;
        assert_eq!(parse(&reserved), None);
        assert_eq!(parse(&B.octets()), None);
    }

    proptest! {
        #[test]
        fn any_datagram_survives_the_way(
            other: u128,
            body in proptest::collection::vec(any::<u8>(), 28..=MAX_DATAGRAM - 4),
        ) {
            let datagram = [&[4, 0, 0, 0], &body[..]].concat();
            let relayed = Relayed { other: Ipv6Addr::from(other), datagram: &datagram };
            let packet = build(A, B, RELAY_PORT, relayed);
            let payload = packet::parse(&packet).expect("what was built can be read").payload;
            prop_assert_eq!(parse(payload), Some(relayed));
            prop_assert_eq!(payload.len(), HEADER + datagram.len());
        }

        #[test]
        fn random_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1_400)) {
            if let Some(read) = parse(&bytes) {
                prop_assert!(read.datagram.len() + HEADER == bytes.len());
            }
        }
    }
}
