//! Records in append-only files: found again after torn writes and flipped bits.
//!
//! A record is `"ol"`, kind (1 byte), length of the body (u32 LE), CRC32C of kind, length and body (u32 LE), body.
//! `put` appends one, `Records` walks a file's bytes: a bad record costs that record, since the walk goes on at the next
//! place where magic, length and checksum agree; `good_end` says where the last good one ends, which is where a torn
//! file is cut.
//! Absent: what the bodies mean, and syncing.

const MAGIC: [u8; 2] = *b"ol";
const HEADER: usize = 11;
/// The longest body. The largest is a schema of 512 KiB; what claims more is damage.
pub(crate) const MAX_BODY: usize = 1 << 20;

/// Appends one record to `out`.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    debug_assert!(body.len() <= MAX_BODY, "every caller bounds what it stores");
    let len = (body.len() as u32).to_le_bytes();
    out.extend_from_slice(&MAGIC);
    out.push(kind);
    out.extend_from_slice(&len);
    out.extend_from_slice(&checksum(kind, len, body).to_le_bytes());
    out.extend_from_slice(body);
}

/// What one record takes in the file.
pub(crate) const fn size(body: usize) -> usize {
    HEADER + body
}

fn checksum(kind: u8, len: [u8; 4], body: &[u8]) -> u32 {
    let head = crc32c::crc32c_append(crc32c::crc32c(&[kind]), &len);
    crc32c::crc32c_append(head, body)
}

/// The good records of a file's bytes.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the last good record ends.
    pub(crate) good_end: usize,
    /// Stretches of bad bytes between good records; what follows the last good one is torn, not damaged.
    pub(crate) damaged: u64,
}

impl<'a> Records<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            good_end: 0,
            damaged: 0,
        }
    }

    fn record_at(&self, at: usize) -> Option<(u8, &'a [u8])> {
        let header = self.bytes.get(at..at + HEADER)?;
        if header[..2] != MAGIC {
            return None;
        }
        let len: [u8; 4] = header[3..7].try_into().expect("four bytes");
        let sum = u32::from_le_bytes(header[7..].try_into().expect("four bytes"));
        let size = u32::from_le_bytes(len) as usize;
        if size > MAX_BODY {
            return None;
        }
        let body = self.bytes.get(at + HEADER..at + HEADER + size)?;
        (checksum(header[2], len, body) == sum).then_some((header[2], body))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.bytes.len() {
            if let Some((kind, body)) = self.record_at(self.at) {
                self.damaged += u64::from(self.at > self.good_end);
                self.at += HEADER + body.len();
                self.good_end = self.at;
                return Some((kind, body));
            }
            self.at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<u8> {
        let mut out = Vec::new();
        for body in [&b"first"[..], b"second, longer", b""] {
            put(&mut out, 7, body);
        }
        out
    }

    #[test]
    fn a_file_cut_anywhere_keeps_the_records_before_the_cut() {
        let bytes = three();
        for cut in 0..=bytes.len() {
            let mut records = Records::new(&bytes[..cut]);
            let found = records.by_ref().count();
            let whole = [16, 41, 52].iter().filter(|end| **end <= cut).count();
            assert_eq!((found, records.damaged), (whole, 0), "cut at {cut}");
            assert_eq!(records.good_end, [0, 16, 41, 52][whole]);
        }
    }

    #[test]
    fn a_flipped_bit_costs_one_record() {
        let bytes = three();
        for bit in 0..16 * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let mut records = Records::new(&bad);
            let found: Vec<_> = records.by_ref().map(|(_, body)| body.to_vec()).collect();
            assert_eq!(found, [b"second, longer".to_vec(), Vec::new()], "bit {bit}");
            assert_eq!((records.damaged, records.good_end), (1, bytes.len()));
        }
    }
}
