//! What may come in answer to a question: pieces of what was asked for, and so many of them.
//!
//! Absent: signatures (`store`); schemas.

use bytes::Bytes;
use outlast_store::{Head, IntervalSet, LogId, SignedRow};

use crate::flow::core::Offence;
use crate::flow::keep::Piece;
use crate::replica::Ask;

pub(super) fn row(log: LogId, asked: &IntervalSet, bytes: &Bytes) -> Result<Piece, Offence> {
    let row = SignedRow::decode(bytes).map_err(|_bytes| Offence::Unreadable)?;
    if row.row.log != log || !asked.contains(row.row.seq) {
        return Err(Offence::Unasked);
    }
    Ok(Piece::Row(row.into()))
}

/// A block is whole, also where only some of its rows were asked for.
pub(super) fn block(log: LogId, asked: &IntervalSet, bytes: Bytes) -> Result<Piece, Offence> {
    let head = Head::peek(&bytes).map_err(|_bytes| Offence::Unreadable)?;
    let rows: IntervalSet = [head.first..=head.last()].into_iter().collect();
    if head.log != log || asked.intersect(&rows).is_empty() {
        return Err(Offence::Unasked);
    }
    Ok(Piece::Block(bytes, head))
}

/// Pieces that answer a question at most. Blocks of an origin that sealed twice may overlap.
pub(super) fn most_answers(ask: &Ask) -> u64 {
    match ask {
        Ask::Rows { rows, .. } => 2 * rows.len() + 8,
        Ask::Held { origins } => origins.len() as u64,
        Ask::Seals { windows } => windows.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use outlast_store::{Epoch, Origin, StoreId};

    use super::*;

    #[test]
    fn an_answer_has_an_end_by_what_was_asked() {
        let log = LogId {
            origin: Origin([1; 32]),
            store: StoreId(1),
            epoch: Epoch {
                counter: 1,
                nonce: 1,
            },
        };
        let rows = [1..=60].into_iter().collect();
        assert_eq!(most_answers(&Ask::Rows { log, rows }), 128);
        let windows = vec![(log, 1), (log, 61)];
        assert_eq!(most_answers(&Ask::Seals { windows }), 2);
    }
}
