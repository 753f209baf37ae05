//! The packet a tunnel carries: IPv6 and UDP headers, hand-built, without a network stack.
//!
//! `build` makes one, padded to a multiple of 16 so that lengths say less; `parse` checks version,
//! lengths and the UDP checksum and borrows the payload. The headers are real so that a kernel
//! interface can stand behind the same tunnel. Absent: who may send from which address.

use std::net::Ipv6Addr;

/// Bytes before the payload: 40 of IPv6 and 8 of UDP.
pub(crate) const HEADERS: usize = 48;

/// Packets are padded to a multiple of this.
pub(crate) const PADDING: usize = 16;

const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const NEXT_HEADER_UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;

/// A parsed packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet<'a> {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) payload: &'a [u8],
}

/// Builds a packet from and to the same port, padded with zeros to a multiple of 16 bytes.
///
/// # Panics
/// When the payload is longer than a UDP length can say; callers keep to their own far lower
/// limits.
pub(crate) fn build(source: Ipv6Addr, destination: Ipv6Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(UDP_HEADER + payload.len()).expect("payload limits are far below");
    let mut packet = Vec::with_capacity((HEADERS + payload.len()).next_multiple_of(PADDING));
    packet.extend_from_slice(&[0x60, 0, 0, 0]);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[NEXT_HEADER_UDP, HOP_LIMIT]);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    let sum = match checksum(source, destination, &packet[IPV6_HEADER..]) {
        0 => 0xffff,
        sum => sum,
    };
    packet[IPV6_HEADER + 6..HEADERS].copy_from_slice(&sum.to_be_bytes());
    packet.resize(packet.len().next_multiple_of(PADDING), 0);
    packet
}

/// Reads a packet. `None` for anything but a whole UDP datagram over IPv6 with a right checksum;
/// bytes behind its stated length are padding.
pub(crate) fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let (header, rest) = bytes.split_first_chunk::<IPV6_HEADER>()?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[0] >> 4 != 6 || header[6] != NEXT_HEADER_UDP {
        return None;
    }
    let segment = rest.get(..length)?;
    let (udp, payload) = segment.split_first_chunk::<UDP_HEADER>()?;
    let source = address(&header[8..24])?;
    let destination = address(&header[24..40])?;
    let stated = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    let unchecked = udp[6] == 0 && udp[7] == 0;
    if stated != length || unchecked || checksum(source, destination, segment) != 0 {
        return None;
    }
    Some(Packet {
        source,
        destination,
        source_port: u16::from_be_bytes([udp[0], udp[1]]),
        destination_port: u16::from_be_bytes([udp[2], udp[3]]),
        payload,
    })
}

/// The port a packet is for, wherever it may come from.
pub(crate) fn port(bytes: &[u8]) -> Option<u16> {
    let port = bytes.get(IPV6_HEADER + 2..IPV6_HEADER + 4)?;
    Some(u16::from_be_bytes([port[0], port[1]]))
}

fn address(octets: &[u8]) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(octets).ok().map(Ipv6Addr::from)
}

/// The UDP checksum over pseudo header and segment; 0 when it is right and its field filled.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, segment: &[u8]) -> u16 {
    let mut sum = u32::from(NEXT_HEADER_UDP);
    sum += u32::try_from(segment.len()).expect("segments are shorter than 64 KiB");
    for part in [&source.octets()[..], &destination.octets()[..], segment] {
        for pair in part.chunks(2) {
            sum += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits above")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
    const B: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

    #[test]
    fn a_known_datagram_has_the_checksum_others_compute() {
        // From RFC 768's rule by hand: pseudo header fd00::1 -> fd00::2, length 10, next header
        // 17; ports 5182, payload "ab".
        let packet = build(A, B, 5_182, b"ab");

        let sum: u32 = 0xfd00 + 1 + 0xfd00 + 2 + 10 + 17 + 5_182 * 2 + 10 + 0x6162;
        let folded = (sum & 0xffff) + (sum >> 16);
        assert_eq!(packet[46..48], (!(folded as u16)).to_be_bytes());
        assert_eq!(packet.len(), 64);
    }

    #[test]
    fn a_flipped_bit_is_refused() {
        let packet = build(A, B, 5_182, b"the payload");
        for position in 0..HEADERS + 11 {
            let mut flipped = packet.clone();
            flipped[position] ^= 0x10;
            // The first four bytes hold traffic class and flow label, the eighth the hop limit:
            // nothing protects them and nothing reads them.
            if parse(&flipped).is_some() {
                assert!([0, 1, 2, 3, 7].contains(&position), "byte {position}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_payload_survives_the_way(payload in proptest::collection::vec(any::<u8>(), 0..1_300)) {
            let packet = build(A, B, 5_183, &payload);
            let read = parse(&packet).expect("what was built can be read");
            prop_assert_eq!(packet.len() % 16, 0);
            prop_assert_eq!(read.payload, &payload[..]);
            prop_assert_eq!((read.source, read.destination), (A, B));
            prop_assert_eq!((read.source_port, read.destination_port), (5_183, 5_183));
        }

        #[test]
        fn random_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
