//! Records in append-only files: found again after torn writes and flipped bits.
//!
//! A record is `"ol"`, kind (1 byte), length of the body (u32 LE), CRC32C of kind, length and body (u32 LE), body.
//! `put` appends one, `Records` walks a file's bytes: a bad record costs that record, since the walk goes on at the next
//! place where magic, length and checksum agree; `good_end` says where the last good one ends, which is where a torn
//! file is cut. `walk` does the same to a file of any length, of which `PIECE` bytes are in memory at a time.
//! A body may hold what another node chose, a whole record among it, and where a record is bad the walk looks inside it.
//! Nothing in the bytes behind says where that ends, so whatever follows the first bad stretch of a file is a suspect. Rows,
//! blocks and evidence are believed then only if their origin signed them; roll-ups and schemas, which carry no signature,
//! are taken as they are.
//! Absent: what the bodies mean, and syncing.

use std::io;
use std::ops::Range;

const MAGIC: [u8; 2] = *b"ol";
const HEADER: usize = 11;
/// The longest body. The largest is a schema of 512 KiB; what claims more is damage.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// So much of a file is read at once: the longest record.
pub(crate) const PIECE: usize = size(MAX_BODY);

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
    /// The file goes on behind these bytes.
    goes_on: bool,
    /// Bad bytes follow the last good record.
    torn: bool,
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
            goes_on: false,
            torn: false,
            good_end: 0,
            damaged: 0,
        }
    }

    /// The last record handed out follows a bad stretch: it may have lain inside another's body.
    pub(crate) fn is_suspect(&self) -> bool {
        self.damaged > 0
    }

    fn found_at(&self, at: usize) -> Found<'a> {
        let Some(header) = self.bytes.get(at..at + HEADER) else {
            return Found::End;
        };
        if header[..2] != MAGIC {
            return Found::Bad;
        }
        let len: [u8; 4] = header[3..7].try_into().expect("four bytes");
        let sum = u32::from_le_bytes(header[7..].try_into().expect("four bytes"));
        let size = u32::from_le_bytes(len) as usize;
        if size > MAX_BODY {
            return Found::Bad;
        }
        match self.bytes.get(at + HEADER..at + HEADER + size) {
            None => Found::End,
            Some(body) if checksum(header[2], len, body) == sum => Found::Good(header[2], body),
            Some(_) => Found::Bad,
        }
    }
}

/// What stands somewhere in a file.
enum Found<'a> {
    Good(u8, &'a [u8]),
    Bad,
    /// What may be a record ends behind these bytes.
    End,
}

impl<'a> Iterator for Records<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while self.at < self.bytes.len() {
            match self.found_at(self.at) {
                Found::Good(kind, body) => {
                    self.damaged += u64::from(self.torn);
                    self.torn = false;
                    self.at += HEADER + body.len();
                    self.good_end = self.at;
                    return Some((kind, body));
                }
                Found::End if self.goes_on => return None,
                Found::End | Found::Bad => {
                    self.torn = true;
                    self.at += 1;
                }
            }
        }
        None
    }
}

/// What a walk over a whole file found; the first two as in `Records`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    pub(crate) good_end: u64,
    pub(crate) damaged: u64,
    /// How long the file is.
    pub(crate) len: u64,
}

/// Hands out kind, body and end of each good record of a file, and whether it is a suspect. `read` answers with less than
/// was asked for at its end only.
pub(crate) fn walk(
    mut read: impl FnMut(Range<u64>) -> io::Result<Vec<u8>>,
    mut each: impl FnMut(u8, &[u8], u64, bool),
) -> io::Result<Walked> {
    let mut walked = Walked::default();
    let (mut from, mut torn) = (0, false);
    loop {
        let bytes = read(from..from + PIECE as u64)?;
        let goes_on = bytes.len() == PIECE;
        let mut records = Records {
            goes_on,
            torn,
            ..Records::new(&bytes)
        };
        while let Some((kind, body)) = records.next() {
            walked.good_end = from + records.good_end as u64;
            let suspect = walked.damaged > 0 || records.is_suspect();
            each(kind, body, walked.good_end, suspect);
        }
        walked.damaged += records.damaged;
        if !goes_on {
            walked.len = from + bytes.len() as u64;
            return Ok(walked);
        }
        // Never nothing: a record that begins with the piece ends in it.
        from += records.at as u64;
        torn = records.torn;
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
    fn a_file_read_by_pieces_has_the_records_it_has_as_a_whole() {
        let mut file = Vec::new();
        let sizes = [MAX_BODY, 700_000, 3, 700_000, 0, MAX_BODY - 1, 400_000, 11];
        for (kind, size) in sizes.into_iter().enumerate() {
            put(&mut file, kind as u8, &vec![kind as u8; size]);
        }
        let whole = file.len();
        let piece = PIECE;
        let hits = [
            None,
            Some(0),
            Some(piece - 1),
            Some(piece),
            Some(piece + 700_100),
            Some(2 * piece),
        ];
        let cuts = [whole, whole - 1, 3 * piece, 2 * piece, piece, piece - 1, 0];
        for (hit, cut) in hits.iter().flat_map(|hit| cuts.map(|cut| (*hit, cut))) {
            let mut bytes = file[..cut].to_vec();
            if let Some(byte) = hit.and_then(|at| bytes.get_mut(at)) {
                *byte ^= 4;
            }
            let mut records = Records::new(&bytes);
            let mut expected = Vec::new();
            while let Some((kind, body)) = records.next() {
                let end = records.good_end as u64;
                expected.push((kind, body.len(), end, records.is_suspect()));
            }
            let mut found = Vec::new();
            let read = |range: Range<u64>| {
                let end = bytes.len().min(range.end as usize);
                Ok(bytes[range.start as usize..end].to_vec())
            };
            let walked = walk(read, |kind, body, end, suspect| {
                found.push((kind, body.len(), end, suspect));
            });
            let of_whole = Walked {
                good_end: records.good_end as u64,
                damaged: records.damaged,
                len: cut as u64,
            };
            assert_eq!(walked.unwrap(), of_whole, "hit {hit:?}, cut {cut}");
            assert_eq!(found, expected, "hit {hit:?}, cut {cut}");
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
