//! What stands inside a tunnel, byte for byte.
//!
//! `packet` is the outer shape, an IPv6/UDP datagram between two overlay addresses; `frame` cuts
//! the payload of the small-message port into frames; `message` is what the mesh itself says;
//! `word` is what members say of each other's lives; `fragment` is half of a packet on a narrow path, `relay` a
//! datagram that a third member hands on.
//! Invariant: no parser here panics or allocates more than its input, whatever the bytes.

pub(crate) mod fragment;
pub(crate) mod frame;
pub(crate) mod message;
pub(crate) mod packet;
pub(crate) mod relay;
pub(crate) mod word;

/// The wire version this software speaks.
pub(crate) const WIRE_VERSION: u8 = 1;

/// The oldest wire version this software still reads.
pub(crate) const WIRE_OLDEST: u8 = 1;

/// The version in which two sides speak: the highest that both read. `None` where the ranges, each
/// lowest and highest, have none in common.
pub(crate) fn common(ours: (u8, u8), theirs: (u8, u8)) -> Option<u8> {
    let (lowest, highest) = (ours.0.max(theirs.0), ours.1.min(theirs.1));
    let are_ranges = ours.0 <= ours.1 && theirs.0 <= theirs.1;
    (are_ranges && lowest <= highest).then_some(highest)
}

/// Inner UDP port of small messages.
pub(crate) const MESSAGE_PORT: u16 = 5_182;

/// Inner UDP port of stream datagrams.
pub(crate) const STREAM_PORT: u16 = 5_183;

/// Inner UDP port of halves of packets that are too long for the path.
pub(crate) const FRAGMENT_PORT: u16 = 5_184;

/// Inner UDP port of datagrams that the receiver is asked to hand on.
pub(crate) const RELAY_PORT: u16 = 5_185;

/// Inner UDP port of datagrams that the sender hands on.
pub(crate) const RELAYED_PORT: u16 = 5_186;

/// Inner UDP port of pings that ask whether a way works: they are answered the way they came.
pub(crate) const WAY_PORT: u16 = 5_187;

/// The longest inner packet that is never split: with 32 bytes of the tunnel and 48 outside it
/// makes the 1,280 every IPv6 path carries.
pub(crate) const NARROW_PACKET: usize = 1_200;

/// The same where a relay stands between: its tunnel and the header of the handing on come around.
pub(crate) const NARROW_RELAYED: usize = NARROW_PACKET - packet::HEADERS - relay::HEADER - 32;

/// The longest payload of one datagram of small messages, frame headers included. With 48 bytes
/// of inner headers, 32 of the tunnel and 48 outside it stays below 1,280.
pub(crate) const MAX_PAYLOAD: usize = 1_100;

/// The longest body of one frame.
pub const MAX_MESSAGE: usize = MAX_PAYLOAD - frame::HEADER;

/// The longest stream datagram.
pub(crate) const MAX_STREAM_PACKET: usize = 1_200;

/// Frame kinds from here on belong to the application and are carried unread.
pub(crate) const FIRST_APPLICATION_KIND: u8 = 64;

#[cfg(test)]
mod tests {
    use super::common;

    #[test]
    fn two_releases_speak_the_highest_version_both_read() {
        for (ours, theirs, version) in [
            ((1, 1), (1, 1), Some(1)),
            ((1, 2), (1, 1), Some(1)),
            ((1, 2), (2, 3), Some(2)),
            ((2, 3), (1, 9), Some(3)),
            ((1, 1), (2, 3), None),
            ((3, 4), (1, 2), None),
            ((1, 2), (2, 1), None),
            ((0, 255), (255, 255), Some(255)),
        ] {
            assert_eq!(common(ours, theirs), version, "{ours:?} {theirs:?}");
            assert_eq!(common(theirs, ours), version, "{theirs:?} {ours:?}");
        }
    }
}
