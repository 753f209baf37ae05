//! Frames on a stream: length first, read into a buffer that grows only as bytes come.

use anyhow::Context as _;
use bytes::Bytes;
use quinn::RecvStream;

/// Reads up to this much at a time, so that a length alone reserves nothing.
const CHUNK: usize = 64 * 1024;

/// A frame that claims more than it may.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("frame of {length} bytes exceeds the limit of {limit}")]
pub(super) struct TooLong {
    length: usize,
    limit: usize,
}

/// The inside of the next frame, at most `limit` bytes.
pub(super) async fn read_frame(recv: &mut RecvStream, limit: usize) -> anyhow::Result<Bytes> {
    let mut length = [0; 4];
    recv.read_exact(&mut length)
        .await
        .context("read a frame's length")?;
    let length = u32::from_le_bytes(length) as usize;
    if length > limit {
        return Err(TooLong { length, limit }.into());
    }
    let mut inside = Vec::with_capacity(length.min(CHUNK));
    while inside.len() < length {
        let at = inside.len();
        inside.resize(length.min(at + CHUNK), 0);
        recv.read_exact(&mut inside[at..])
            .await
            .context("read a frame")?;
    }
    Ok(inside.into())
}
