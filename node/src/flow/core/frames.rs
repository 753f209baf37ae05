//! Frames on a stream: length first, taken from bytes as they come.
//!
//! In: pieces of any size. Out: the insides of whole frames. A length alone reserves nothing; one above the limit is an
//! error before its bytes are waited for.

use bytes::{Buf as _, Bytes, BytesMut};

/// A frame that claims more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::flow) struct TooLong;

/// What has come and was not taken yet: less than one frame and one read.
#[derive(Debug, Default)]
pub(in crate::flow) struct Frames {
    come: BytesMut,
}

impl Frames {
    pub(in crate::flow) fn push(&mut self, bytes: &[u8]) {
        self.come.extend_from_slice(bytes);
    }

    /// The inside of the next whole frame of at most `limit` bytes. `None`: more must come.
    pub(in crate::flow) fn next(&mut self, limit: usize) -> Result<Option<Bytes>, TooLong> {
        let Some(length) = self.come.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > limit {
            return Err(TooLong);
        }
        if self.come.len() < 4 + length {
            return Ok(None);
        }
        self.come.advance(4);
        Ok(Some(self.come.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let bytes = [
            &3u32.to_le_bytes()[..],
            b"one",
            &0u32.to_le_bytes(),
            &2u32.to_le_bytes(),
            b"ab",
        ]
        .concat();
        for size in 1..=bytes.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in bytes.chunks(size) {
                frames.push(piece);
                while let Ok(Some(inside)) = frames.next(3) {
                    found.push(inside);
                }
            }
            assert_eq!(found, [&b"one"[..], b"", b"ab"], "cut into {size} bytes");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut frames = Frames::default();
        frames.push(&4u32.to_le_bytes());
        assert_eq!(frames.next(3), Err(TooLong));
        assert_eq!(frames.next(4), Ok(None));
    }
}
