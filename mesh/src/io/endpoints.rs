//! Where peers were last heard, on disk: `STATE/endpoints`.
//!
//! A CRC32C, then postcard of `(node, address)` with the latest last. Written whole to a new file
//! that replaces the old one. Best effort: a file that is missing or broken means that peers are
//! looked for at their published addresses.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::id::NodeId;

/// The longest file read: 6 addresses each for 10,000 nodes and more.
const MAX_FILE: u64 = 8 << 20;

/// Where the endpoints stand.
pub(crate) fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("endpoints")
}

/// Reads what an earlier run wrote.
pub(crate) fn read(path: &Path) -> Vec<(NodeId, SocketAddr)> {
    let small = std::fs::metadata(path).is_ok_and(|file| file.len() <= MAX_FILE);
    let bytes = if small {
        std::fs::read(path).unwrap_or_default()
    } else {
        Vec::new()
    };
    parse(&bytes).unwrap_or_else(|| {
        if !bytes.is_empty() {
            tracing::info!(path = %path.display(), "remembered endpoints are damaged, starting without");
        }
        Vec::new()
    })
}

/// What the file holds. `None` for bytes that nobody wrote whole.
pub(crate) fn parse(bytes: &[u8]) -> Option<Vec<(NodeId, SocketAddr)>> {
    let (sum, body) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*sum) != crc32c::crc32c(body) {
        return None;
    }
    postcard::from_bytes(body).ok()
}

/// Replaces the file.
pub(crate) fn write(path: &Path, endpoints: &[(NodeId, SocketAddr)]) -> std::io::Result<()> {
    let body = postcard::to_stdvec(endpoints).expect("ids and addresses can be encoded");
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(&crc32c::crc32c(&body).to_le_bytes())?;
    file.write_all(&body)?;
    file.sync_data()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_come_back_and_a_damaged_file_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path());
        assert_eq!(read(&path), []);
        let endpoints = [
            (NodeId([1; 32]), "192.0.2.1:51800".parse().unwrap()),
            (NodeId([2; 32]), "[2001:db8::1]:9".parse().unwrap()),
        ];

        write(&path, &endpoints).unwrap();

        assert_eq!(read(&path), endpoints);
        let mut bytes = std::fs::read(&path).unwrap();
        for position in 0..bytes.len() {
            bytes[position] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read(&path), []);
            bytes[position] ^= 1;
        }
    }
}
