//! Half of an inner packet that is too long for a narrow path: `id u32 big-endian, part u8, bytes`.
//!
//! `split` makes the two payloads for the fragment port, `parse` reads one. The halves are about
//! equal, so that both fit a path half as wide. Invariant: nothing longer than `MAX_HALF` is read,
//! so what two halves make is never longer than an unsplit packet. Absent: waiting for the other
//! half (`path::halves`), and who may send what, which is asked of the whole packet again.

use super::{MAX_STREAM_PACKET, packet};

/// Bytes before the half.
pub(crate) const HEADER: usize = 5;

/// The longest inner packet: a stream datagram with its headers, padded.
pub(crate) const MAX_PACKET: usize =
    (packet::HEADERS + MAX_STREAM_PACKET).next_multiple_of(packet::PADDING);

/// The longest half.
pub(crate) const MAX_HALF: usize = MAX_PACKET.div_ceil(2);

/// One half of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Half<'a> {
    /// What both halves of a packet share.
    pub(crate) id: u32,
    /// Whether the packet begins here.
    pub(crate) is_first: bool,
    /// Its part of the packet.
    pub(crate) bytes: &'a [u8],
}

/// The payloads of both halves, the first of them first.
pub(crate) fn split(id: u32, packet: &[u8]) -> [Vec<u8>; 2] {
    let (first, second) = packet.split_at(packet.len().div_ceil(2));
    [(0, first), (1, second)].map(|(part, bytes)| {
        let mut payload = Vec::with_capacity(HEADER + bytes.len());
        payload.extend_from_slice(&id.to_be_bytes());
        payload.push(part);
        payload.extend_from_slice(bytes);
        payload
    })
}

/// Reads the payload of one half. `None` for anything `split` does not make.
pub(crate) fn parse(payload: &[u8]) -> Option<Half<'_>> {
    let (id, rest) = payload.split_first_chunk::<4>()?;
    let (part, bytes) = rest.split_first()?;
    let is_first = match part {
        0 => true,
        1 => false,
        _ => return None,
    };
    let fits = (1..=MAX_HALF).contains(&bytes.len());
    fits.then_some(Half {
        id: u32::from_be_bytes(*id),
        is_first,
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_half_of_the_longest_packet_fits_the_narrowest_path_ipv6_allows() {
        // 48 bytes of inner headers, 32 of the tunnel, 48 of IPv6 and UDP outside.
        let inner = (packet::HEADERS + HEADER + MAX_HALF).next_multiple_of(packet::PADDING);
        assert_eq!((MAX_PACKET, inner + 32 + 48), (1_248, 768));
    }

    #[test]
    fn a_third_part_an_empty_and_an_overlong_half_are_refused() {
        let mut payload = vec![0; HEADER + 1];
        assert!(parse(&payload).is_some());
        payload[4] = 2;
        assert_eq!(parse(&payload), None);
        assert_eq!(parse(&[0; HEADER]), None);
        assert!(parse(&[0; HEADER + MAX_HALF]).is_some());
        assert_eq!(parse(&[0; HEADER + MAX_HALF + 1]), None);
    }

    proptest! {
        #[test]
        fn two_halves_make_the_packet(id: u32, packet in proptest::collection::vec(any::<u8>(), 2..=MAX_PACKET)) {
            let [first, second] = split(id, &packet);
            let (first, second) = (parse(&first).unwrap(), parse(&second).unwrap());
            prop_assert_eq!((first.id, second.id), (id, id));
            prop_assert!(first.is_first && !second.is_first);
            prop_assert_eq!([first.bytes, second.bytes].concat(), packet);
        }

        #[test]
        fn random_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1_300)) {
            if let Some(half) = parse(&bytes) {
                prop_assert!(half.bytes.len() <= MAX_HALF);
            }
        }
    }
}
