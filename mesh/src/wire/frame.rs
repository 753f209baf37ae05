//! Frames: `version u8, kind u8, length u16 big-endian, body`, one after the other.
//!
//! `push` and `push_as` append one, `frames` walks a payload. A frame of another version or an
//! unknown kind is skipped by its length; a cut one ends the walk. A greeting is read in whatever
//! version it stands: its body never changes, and from it the reader learns what the other speaks.
//! What any other body means is `message`'s business.

use super::message::kind;
use super::{MAX_PAYLOAD, WIRE_OLDEST, WIRE_VERSION};

/// Bytes before the body.
pub(crate) const HEADER: usize = 4;

/// One frame of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// What the body is.
    pub(crate) kind: u8,
    /// The body, unread.
    pub(crate) body: &'a [u8],
}

/// Why a frame was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Its version is none we read; the walk goes on behind it.
    Version,
    /// It is shorter than it says; nothing behind it can be read.
    Cut,
}

/// Appends a frame in the version that everybody reads, for who hasn't been greeted. False, and
/// nothing appended, if the payload would exceed `MAX_PAYLOAD`.
pub(crate) fn push(payload: &mut Vec<u8>, kind: u8, body: &[u8]) -> bool {
    push_as(WIRE_OLDEST, payload, kind, body)
}

/// Appends a frame in the version agreed on with its reader, else as `push`.
pub(crate) fn push_as(version: u8, payload: &mut Vec<u8>, kind: u8, body: &[u8]) -> bool {
    if payload.len() + HEADER + body.len() > MAX_PAYLOAD {
        return false;
    }
    append(version, payload, kind, body);
    true
}

/// Appends a frame as `push` does, whatever the payload's length.
///
/// # Panics
/// When the body is longer than 64 KiB; callers keep to their own far lower limits.
pub(crate) fn write(payload: &mut Vec<u8>, kind: u8, body: &[u8]) {
    append(WIRE_OLDEST, payload, kind, body);
}

fn append(version: u8, payload: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let length = u16::try_from(body.len()).expect("body limits are far below");
    payload.extend_from_slice(&[version, kind]);
    payload.extend_from_slice(&length.to_be_bytes());
    payload.extend_from_slice(body);
}

/// Walks the frames of a payload.
pub(crate) fn frames(payload: &[u8]) -> Frames<'_> {
    Frames { rest: payload }
}

/// The walk.
#[derive(Debug)]
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Some((head, rest)) = self.rest.split_first_chunk::<HEADER>() else {
            self.rest = &[];
            return Some(Err(Unreadable::Cut));
        };
        let [version, kind, high, low] = *head;
        let is_read = kind == kind::HELLO || (WIRE_OLDEST..=WIRE_VERSION).contains(&version);
        let length = usize::from(u16::from_be_bytes([high, low]));
        let Some((body, rest)) = rest.split_at_checked(length) else {
            self.rest = &[];
            return Some(Err(Unreadable::Cut));
        };
        self.rest = rest;
        if is_read {
            Some(Ok(Frame { kind, body }))
        } else {
            Some(Err(Unreadable::Version))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_back_in_order_until_the_payload_is_full() {
        let mut payload = Vec::new();
        assert!(push(&mut payload, 64, b"first"));
        assert!(push(&mut payload, 65, b""));
        assert!(!push(&mut payload, 66, &[0; MAX_PAYLOAD]));

        let read: Vec<_> = frames(&payload).collect();

        assert_eq!(
            read,
            [
                Ok(Frame {
                    kind: 64,
                    body: b"first"
                }),
                Ok(Frame {
                    kind: 65,
                    body: b""
                }),
            ]
        );
    }

    #[test]
    fn another_version_is_skipped_and_a_cut_frame_ends_the_walk() {
        let payload = [9, 64, 0, 1, 7, 1, 70, 0, 1, 8, 1, 71, 0, 9, 1];

        let read: Vec<_> = frames(&payload).collect();

        assert_eq!(
            read,
            [
                Err(Unreadable::Version),
                Ok(Frame {
                    kind: 70,
                    body: &[8]
                }),
                Err(Unreadable::Cut),
            ]
        );
    }

    #[test]
    fn a_greeting_is_read_in_every_version() {
        for version in 0..=u8::MAX {
            let payload = [version, kind::HELLO, 0, 1, 7];
            let read: Vec<_> = frames(&payload).collect();
            let hello = Frame {
                kind: kind::HELLO,
                body: &[7],
            };
            assert_eq!(read, [Ok(hello)], "version {version}");
        }
    }

    proptest! {
        #[test]
        fn any_frames_survive_the_way(
            written in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..90)), 0..9)
        ) {
            let mut payload = Vec::new();
            for (kind, body) in &written {
                prop_assert!(push(&mut payload, *kind, body));
            }
            let read: Vec<_> = frames(&payload)
                .map(|frame| frame.map(|frame| (frame.kind, frame.body.to_vec())))
                .collect::<Result<_, _>>()
                .expect("what was pushed can be read");
            prop_assert_eq!(read, written);
        }

        #[test]
        fn random_bytes_end_the_walk(bytes in proptest::collection::vec(any::<u8>(), 0..1_200)) {
            prop_assert!(frames(&bytes).count() <= bytes.len());
        }
    }
}
