//! One generation of sealed blocks, over sled (`body`). On a simulated disk a `journal` stands for it.
//!
//! Blocks go in by `put` (the same key and bytes twice is nothing), are safe when `sync` has answered with a ticket,
//! come out by `get` and `scan`; packs of blocks lie in pieces in a tree of sled of their own, and come out by `pack_of` and
//! `scan_packs`. Blocks wait for their pack in a file beside sled's (`journal`): in sled each would be written about four
//! times, with its neighbours in the leaf. What earlier releases put into sled is read there, and goes with its pack.
//! Every value carries our own CRC32C, so that no answer of the engine is believed unchecked. Only one writer at a time: the
//! owner of the `Engine`.
//!
//! sled as measured (fanout 4, no flusher, explicit flush): memory grows with what was written since the open, so the
//! owner reopens after a megabyte (`written`); after a failed flush its Drop waits for ever, so a broken engine is
//! forgotten instead of dropped and its directory stays locked until the process ends (`relink` gets around that).
//! Absent: transactions, merge operators, subscriptions; deadlines and quarantine (`shelf`).

mod body;
mod journal;
mod mend;
mod pieces;
mod relink;
mod vouch;

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::disk::Disk;
use crate::key::block::BlockKey;
use crate::row::Verifier;
use crate::worker;
use body::Sled;
use journal::{Journal, Spare};

pub(crate) use relink::relink;

const VALUE_VERSION: u8 = 1;
/// A journal that stands for sled has packs behind this byte.
const IN_PACKS: u8 = b'p';
/// A block lies in the last pack that begins at or below it, unless one made at the end of a generation begins inside
/// another: so many are looked at.
const PACKS_TRIED: usize = 4;
/// Memory stands for a simulated disk, so little is spared there.
const SIMULATED_SPARE: Spare = Spare {
    from: 32 << 10,
    thirds: 2,
};

/// Why a generation did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EngineError {
    /// The engine failed or panicked: it is broken from here on.
    #[error("{0}")]
    Failed(String),
    /// This one value fails our checksum; others may be fine.
    #[error("a value fails its checksum")]
    Damaged,
}

/// How many syncs have succeeded since the open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// What keeps the blocks.
#[derive(Debug)]
enum Body {
    /// None only while it is dropped.
    Sled(Box<Option<Sled>>),
    Simulated(Journal),
}

/// An open generation.
#[derive(Debug)]
pub(crate) struct Engine {
    body: Body,
    broken: Option<String>,
    ticket: Ticket,
    /// Bytes put into sled since the open.
    pub(crate) written: u64,
}

impl Engine {
    /// Opens or makes the generation at `path`.
    pub(crate) fn open(disk: &Disk, path: &Path) -> Result<Self, EngineError> {
        worker::still_wanted().map_err(|e| EngineError::Failed(format!("open: {e}")))?;
        let body = match disk {
            Disk::Real => Body::Sled(Box::new(Some(Sled::open(path)?))),
            Disk::Simulated(_) => Body::Simulated(open_simulated(disk, path)?),
        };
        Ok(Self {
            body,
            broken: None,
            ticket: Ticket(0),
            written: 0,
        })
    }

    /// As `open`, and takes over what lies behind damage and is signed by its origin; without that it is as if lost.
    pub(crate) fn open_believing(
        disk: &Disk,
        path: &Path,
        verify: &Verifier<'_>,
    ) -> Result<Self, EngineError> {
        let mut engine = Self::open(disk, path)?;
        engine.run("read", |body| {
            let journal = match body {
                Body::Sled(sled) => &mut there(sled)?.waiting,
                Body::Simulated(journal) => journal,
            };
            journal.believe(|key, value| vouch::signed_rows(key, value, verify))
        })?;
        Ok(engine)
    }

    /// Stores `bytes` under `key`; not durable before the next `sync`.
    pub(crate) fn put(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), EngineError> {
        let value = stamped(bytes);
        self.written += self.run("put", |body| match body {
            Body::Sled(sled) => there(sled)?.put(key, value),
            Body::Simulated(journal) => {
                journal.put(key, &value);
                Ok(0)
            }
        })?;
        Ok(())
    }

    /// Stores a pack under the key of its first block; not durable before the next `sync`.
    pub(crate) fn put_pack(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), EngineError> {
        let value = stamped(bytes);
        self.written += (key.len() + value.len()) as u64;
        self.run("put", |body| match body {
            Body::Sled(sled) => there(sled)?.put_pack(key, &value),
            Body::Simulated(journal) => {
                journal.put(&in_packs(key), &value);
                Ok(())
            }
        })
    }

    /// As packs were put before they were cut into pieces.
    #[cfg(test)]
    pub(crate) fn put_old_pack(&mut self, key: &[u8], bytes: &[u8]) -> Result<(), EngineError> {
        let value = stamped(bytes);
        self.run("put", |body| match body {
            Body::Sled(sled) => {
                let sled = there(sled)?;
                sled.dirty = true;
                let packs = sled.db.open_tree(body::PACKS)?;
                packs.insert(key, value).map(drop)
            }
            Body::Simulated(_) => unreachable!("a simulated disk is never of an older release"),
        })
    }

    /// The first pack at or below `key` that is wanted, of the few that can have it.
    pub(crate) fn pack_of<T>(
        &mut self,
        key: &[u8],
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, EngineError> {
        let mut look = |value: &[u8]| checked(value).ok().and_then(&mut wanted);
        self.run("read", |body| match body {
            Body::Sled(sled) => {
                let sled = there(sled)?;
                if let Some(pieces) = sled.pieces(false)? {
                    let mut below = pieces::of_pack(key).1;
                    for _ in 0..PACKS_TRIED {
                        let Some((key, value)) = pieces::last(pieces, &below)? else {
                            break;
                        };
                        if let Some(found) = look(&value) {
                            return Ok(Some(found));
                        }
                        below = pieces::of_pack(&key).0;
                    }
                }
                let packs = sled.packs()?.into_iter();
                for entry in packs.flat_map(|packs| packs.range(..=key).rev().take(PACKS_TRIED)) {
                    if let Some(found) = look(&entry?.1) {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
            Body::Simulated(journal) => {
                for key in journal.keys_down_from(&in_packs(key)).take(PACKS_TRIED) {
                    let value = journal.get(key)?.filter(|_| is_of_pack(key));
                    if let Some(found) = value.and_then(|value| look(&value)) {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        })
    }

    /// Every key of a pack and the checked pack, in order of keys.
    pub(crate) fn scan_packs(
        &mut self,
        mut each: impl FnMut(&[u8], Result<&[u8], EngineError>),
    ) -> Result<(), EngineError> {
        self.run("scan", |body| match body {
            Body::Sled(sled) => {
                let sled = there(sled)?;
                for entry in sled.packs()?.iter().flat_map(|packs| packs.iter()) {
                    let (key, value) = entry?;
                    each(&key, checked(&value));
                }
                match sled.pieces(false)? {
                    Some(pieces) => pieces::scan(pieces, |key, value| each(key, checked(value))),
                    None => Ok(()),
                }
            }
            Body::Simulated(journal) => journal.scan(|key, value| {
                if is_of_pack(key) {
                    each(&key[1..], checked(value));
                }
            }),
        })
    }

    /// Takes a block out; whether that survives a power cut before the next `sync` is open.
    pub(crate) fn evict(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.run("evict", |body| match body {
            Body::Sled(sled) => there(sled)?.evict(key),
            Body::Simulated(journal) => {
                journal.evict(key);
                Ok(())
            }
        })
    }

    /// Everything put before survives a power cut when this returns.
    pub(crate) fn sync(&mut self) -> Result<Ticket, EngineError> {
        self.run("flush", |body| match body {
            Body::Sled(sled) => there(sled)?.sync(),
            Body::Simulated(journal) => journal.sync(),
        })?;
        self.ticket.0 += 1;
        Ok(self.ticket)
    }

    /// The block stored under `key`, checked.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        self.run("read", |body| match body {
            Body::Sled(sled) => there(sled)?.get(key),
            Body::Simulated(journal) => Ok(journal.get(key)?.map(|value| take(&value))),
        })?
        .transpose()
    }

    /// Every key and checked block: of those that wait, in order of keys, and of those in sled.
    pub(crate) fn scan(
        &mut self,
        mut each: impl FnMut(&[u8], Result<&[u8], EngineError>),
    ) -> Result<(), EngineError> {
        self.run("scan", |body| match body {
            Body::Sled(sled) => there(sled)?.scan(each),
            Body::Simulated(journal) => journal.scan(|key, value| {
                if !is_of_pack(key) {
                    each(key, checked(value));
                }
            }),
        })
    }

    /// Why the engine is broken. None: it works.
    #[cfg(test)]
    pub(crate) fn health(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    fn run<T>(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Body) -> io::Result<T>,
    ) -> Result<T, EngineError> {
        if let Some(why) = &self.broken {
            return Err(EngineError::Failed(why.clone()));
        }
        let wanted_work = |body: &mut Body| {
            worker::still_wanted()?;
            work(body)
        };
        let outcome = match guarded(|| wanted_work(&mut self.body)) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(e)) => EngineError::Failed(format!("{what}: {e}")),
            Err(e) => e,
        };
        self.broken = Some(outcome.to_string());
        Err(outcome)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let Body::Sled(db) = &mut self.body else {
            return;
        };
        let db = db.take();
        if self.broken.is_some() || worker::still_wanted().is_err() {
            mem::forget(db);
        } else if let Err(e) = guarded(|| drop(db)) {
            tracing::warn!(error = %e, "generation did not close cleanly");
        }
    }
}

fn stamped(bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes.len() + 5);
    value.push(VALUE_VERSION);
    value.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
    value.extend_from_slice(bytes);
    value
}

fn in_packs(key: &[u8]) -> Vec<u8> {
    [&[IN_PACKS], key].concat()
}

fn is_of_pack(key: &[u8]) -> bool {
    key.len() == BlockKey::LEN + 1
}

fn open_simulated(disk: &Disk, path: &Path) -> Result<Journal, EngineError> {
    let opened = disk
        .make_dir(path)
        .and_then(|()| Journal::open(disk, journal::file_in(path), SIMULATED_SPARE));
    opened.map_err(|e| EngineError::Failed(format!("open: {e}")))
}

/// The file of the generation at `path` that was made first and stays.
pub(crate) fn first_file(disk: &Disk, path: &Path) -> PathBuf {
    match disk {
        Disk::Real => path.join("slabs").join("64"),
        Disk::Simulated(_) => journal::file_in(path),
    }
}

fn there(sled: &mut Option<Sled>) -> io::Result<&mut Sled> {
    sled.as_mut().ok_or_else(|| io::Error::other("closed"))
}

fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        EngineError::Failed(format!("panic: {}", text.unwrap_or("no message")))
    })
}

fn take(value: &[u8]) -> Result<Vec<u8>, EngineError> {
    checked(value).map(<[u8]>::to_vec)
}

fn checked(value: &[u8]) -> Result<&[u8], EngineError> {
    match value {
        [VALUE_VERSION, a, b, c, d, bytes @ ..]
            if crc32c::crc32c(bytes) == u32::from_le_bytes([*a, *b, *c, *d]) =>
        {
            Ok(bytes)
        }
        _ => Err(EngineError::Damaged),
    }
}

#[cfg(test)]
mod tests;
