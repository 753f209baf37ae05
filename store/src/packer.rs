//! Which blocks of the generation being written become packs, and how one comes out again.
//!
//! Once enough blocks of a log lie there one after another, the oldest of them become a pack; when the generation is
//! closed, whatever is left. The pack is written and synced before the first of its blocks goes, so a power cut leaves both
//! at worst: a block is looked for by itself first, then in the packs.
//! Bounds: `RUNS` packs a call, the rest at later turns of the writer; a pack's own bounds (`block::pack`). What cannot be
//! packed stays as it is and is not tried again.
//! Absent: how a pack is encoded (`block::pack`), deadlines (`shelf`).

use std::collections::BTreeMap;

use crate::block::{Block, Head, MAX_PACK_BLOCKS, Pack, rows_that_fit};
use crate::engine::{Engine, EngineError};
use crate::key::block::BlockKey;
use crate::sample::{LogId, Origin, Seq};
use crate::shelf::weight;

/// Packs made in one call at most, so that a generation of an older release is packed within some minutes and no deadline.
pub(crate) const RUNS: usize = 16;

/// Blocks in no pack: the number of rows by log and first seq.
pub(crate) type Loose = BTreeMap<LogId, BTreeMap<Seq, u8>>;

/// What calls for packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// So many blocks of a log are there; they go into one pack.
    Enough(usize),
    /// The generation is closed: two are enough.
    Closing,
}

/// Remembers a block that was put by itself.
pub(crate) fn note(loose: &mut Loose, head: &Head) {
    let log = loose.entry(head.log).or_default();
    log.insert(head.first, head.count);
}

/// How much less or more each origin's blocks take after it.
pub(crate) type Change = BTreeMap<Origin, i64>;

/// Whether the blocks of a closed generation have something to pack left.
pub(crate) fn is_left(loose: &Loose) -> bool {
    next_run(loose, When::Closing).is_some()
}

/// Packs what there is enough of.
pub(crate) fn pack(
    engine: &mut Engine,
    loose: &mut Loose,
    when: When,
) -> Result<Change, EngineError> {
    pack_some(engine, loose, when, RUNS)
}

/// Makes so many packs at most.
pub(crate) fn pack_some(
    engine: &mut Engine,
    loose: &mut Loose,
    when: When,
    most: usize,
) -> Result<Change, EngineError> {
    let mut packed = Vec::new();
    let mut change = Change::new();
    for _ in 0..most {
        let Some(run) = next_run(loose, when) else {
            break;
        };
        let (blocks, sizes) = read_run(engine, &run)?;
        let made = Some(&blocks).filter(|blocks| blocks.len() >= 2);
        let made = made.and_then(|blocks| Pack::encode(blocks).ok());
        let there = match made {
            Some(_) => there(engine, &blocks)?,
            None => There::Others,
        };
        let count = match there {
            There::Others => 1,
            There::Fewer | There::All => blocks.len(),
        };
        for key in &run[..count] {
            forget(loose, key);
        }
        let change = change.entry(run[0].log.origin).or_default();
        if let Some(bytes) = made.filter(|_| there == There::Fewer) {
            engine.put_pack(&run[0].encode(), &bytes)?;
            *change += weight(bytes.len()).cast_signed();
        }
        if there != There::Others {
            let before: u64 = sizes.iter().map(|size| weight(*size)).sum();
            *change -= before.cast_signed();
            packed.extend_from_slice(&run[..count]);
        }
    }
    if packed.is_empty() {
        return Ok(change);
    }
    engine.sync()?;
    for key in packed {
        engine.evict(&key.encode())?;
    }
    // Closed before that, the engine would have them again when it is opened, and nobody would pack them.
    engine.sync()?;
    Ok(change)
}

/// What has a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The block by itself.
    Block(Vec<u8>),
    /// A pack that has it, and so many blocks that were asked for with it, each of them nowhere else.
    Pack(Vec<u8>, usize),
}

/// What has the first of `keys`, ascending ones of one log, as it lies there; None: not there or damaged.
pub(crate) fn piece(engine: &mut Engine, keys: &[BlockKey]) -> Result<Option<Piece>, EngineError> {
    let Some((key, more)) = keys.split_first() else {
        return Ok(None);
    };
    if let Some(bytes) = alone(engine, key)? {
        return Ok(Some(Piece::Block(bytes)));
    }
    let pack = engine.pack_of(&key.encode(), |bytes| {
        let heads = Pack::peek(bytes).ok()?;
        let mut heads = heads.iter();
        let mut has = |key: &BlockKey| heads.any(|head| key.is_of(head));
        has(key).then(|| {
            (
                bytes.to_vec(),
                more.iter().take_while(|key| has(key)).count(),
            )
        })
    })?;
    let Some((bytes, in_pack)) = pack else {
        return Ok(None);
    };
    let mut count = 1;
    while count <= in_pack && alone(engine, &keys[count])?.is_none() {
        count += 1;
    }
    Ok(Some(Piece::Pack(bytes, count)))
}

/// A block that is in no pack, or in one and not yet gone from beside it.
fn alone(engine: &mut Engine, key: &BlockKey) -> Result<Option<Vec<u8>>, EngineError> {
    match engine.get(&key.encode()) {
        Err(EngineError::Damaged) => Ok(None),
        other => other,
    }
}

/// The encoded blocks under `keys`, in that order, from wherever they lie; None: not there or damaged.
pub(crate) fn blocks(
    engine: &mut Engine,
    keys: &[BlockKey],
) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
    let mut unpacked: BTreeMap<BlockKey, Vec<u8>> = BTreeMap::new();
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let alone = alone(engine, key)?;
        if alone.is_none() && !unpacked.contains_key(key) {
            unpacked = unpack(engine, key, keys)?;
        }
        found.push(alone.or_else(|| unpacked.get(key).cloned()));
    }
    Ok(found)
}

/// Of the pack that has the block under `key`, all blocks that are asked for.
fn unpack(
    engine: &mut Engine,
    key: &BlockKey,
    asked: &[BlockKey],
) -> Result<BTreeMap<BlockKey, Vec<u8>>, EngineError> {
    let pack = engine.pack_of(&key.encode(), |bytes| {
        let heads = Pack::peek(bytes).ok()?;
        let has = heads.iter().any(|head| key.is_of(head));
        has.then(|| Pack::read(bytes).ok()).flatten()
    })?;
    let wanted = |head: &Head| asked.iter().any(|key| key.is_of(head));
    let blocks = pack.and_then(|pack| pack.blocks(wanted).ok());
    let named = |block: Block| {
        let Head { log, first, .. } = *block.head();
        (BlockKey { log, first }, block.encode())
    };
    Ok(blocks.into_iter().flatten().map(named).collect())
}

/// The first blocks after one another that are enough, as many as a pack holds at most.
fn next_run(loose: &Loose, when: When) -> Option<Vec<BlockKey>> {
    let (least, most) = match when {
        When::Enough(count) => (count, count),
        When::Closing => (2, MAX_PACK_BLOCKS),
    };
    for (log, blocks) in loose {
        let (mut run, mut next) = (Vec::new(), None);
        for (&first, &count) in blocks {
            if next != Some(first) {
                if run.len() >= least {
                    break;
                }
                run.clear();
            }
            run.push(BlockKey { log: *log, first });
            next = first.checked_add(Seq::from(count));
            if run.len() == most {
                break;
            }
        }
        if run.len() >= least {
            return Some(run);
        }
    }
    None
}

fn forget(loose: &mut Loose, key: &BlockKey) {
    if let Some(log) = loose.get_mut(&key.log) {
        log.remove(&key.first);
        if log.is_empty() {
            loose.remove(&key.log);
        }
    }
}

/// Blocks of a run from its first on, as far as they can be read and fit into a pack, and what each takes by itself.
fn read_run(
    engine: &mut Engine,
    run: &[BlockKey],
) -> Result<(Vec<Block>, Vec<usize>), EngineError> {
    let (mut blocks, mut sizes) = (Vec::new(), Vec::new());
    let (mut rows, mut width) = (0, 0);
    for key in run {
        let bytes = alone(engine, key)?;
        let size = bytes.as_ref().map_or(0, Vec::len);
        let Some(block) = bytes.and_then(|bytes| Block::read(&bytes).ok()) else {
            break;
        };
        rows += block.boots().len();
        width = width.max(block.sheet().width());
        if rows > rows_that_fit(width) {
            break;
        }
        blocks.push(block);
        sizes.push(size);
    }
    Ok((blocks, sizes))
}

/// What a pack that begins with the same key as a run has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    /// A part of its front, or there is no such pack.
    Fewer,
    /// All of it: a power cut can leave a block beside its pack, and a shorter pack in its place would cost the others.
    All,
    /// Another content, whose origin sealed twice: the block by itself is the one that counts.
    Others,
}

fn there(engine: &mut Engine, run: &[Block]) -> Result<There, EngineError> {
    let Some(first) = run.first().map(Block::head) else {
        return Ok(There::Fewer);
    };
    let first = BlockKey {
        log: first.log,
        first: first.first,
    };
    let pack = engine.pack_of(&first.encode(), |bytes| {
        let pack = Pack::read(bytes).ok()?;
        let begins = pack.heads().next().is_some_and(|head| first.is_of(head));
        begins.then_some(pack)
    })?;
    let Some(pack) = pack else {
        return Ok(There::Fewer);
    };
    let Ok(packed) = pack.blocks(|_| true) else {
        return Ok(There::Others);
    };
    let mut both = packed.iter().zip(run);
    Ok(if both.any(|(one, other)| one.encode() != other.encode()) {
        There::Others
    } else if packed.len() < run.len() {
        There::Fewer
    } else {
        There::All
    })
}

#[cfg(test)]
mod tests;
