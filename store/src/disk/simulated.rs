//! A disk in memory for simulations: what is not synced can be lost, space ends, bits rot, time and chance are given.
//!
//! Handles share one disk. The store writes through it exactly as through `std::fs`; the simulation does to it what
//! happens to disks: `power_cut`, `rot`, `set_capacity`, `set_others`, `stall`, `image`. It carries its machine's clock and dice, which
//! the store gives it at each start and step.
//! A stalled disk takes writes, as a page cache does, and refuses to sync them; the store's threads wait meanwhile.
//! Absent: permissions, links, writing but at the end of a file; a drive that lies about a sync.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::tree::{Bytes, Id, Node, ROOT, Tree};

/// Files and directories take their place in steps of this.
const UNIT: u64 = 4096;

/// A simulated disk; clones are handles to the same one.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<Machine>>);

#[derive(Clone, Debug)]
struct Machine {
    tree: Tree,
    made: BTreeMap<Id, Instant>,
    capacity: u64,
    used: u64,
    /// Bytes of it that somebody else took.
    others: u64,
    stalled: bool,
    /// How often the power was cut: a file opened before that is closed.
    life: u32,
    /// The first and the last time it was told.
    clock: Option<(Instant, Instant)>,
    dice: ChaCha8Rng,
    /// The most that was read or written in one call.
    #[cfg(test)]
    most_at_once: usize,
}

/// A file of a simulated disk, open for writing at its end.
#[derive(Debug)]
pub(crate) struct SimFile {
    disk: SimDisk,
    id: Id,
    life: u32,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(capacity_bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(Machine {
            tree: Tree::new(),
            made: BTreeMap::new(),
            capacity: capacity_bytes,
            used: UNIT,
            others: 0,
            stalled: false,
            life: 0,
            clock: None,
            dice: ChaCha8Rng::seed_from_u64(0),
            #[cfg(test)]
            most_at_once: 0,
        })))
    }

    /// Cuts the power: each write and each name that no sync followed is there, torn or lost. Whoever wrote here must
    /// have been dropped.
    pub fn power_cut(&self, rng: &mut ChaCha8Rng) {
        let mut machine = self.machine();
        machine.tree.cut(rng);
        machine.life += 1;
        machine.stalled = false;
        machine.recount();
    }

    /// Flips one bit of one file, each byte of the disk as likely as any other. Nothing on an empty disk.
    pub fn rot(&self, rng: &mut ChaCha8Rng) {
        let mut machine = self.machine();
        let total: usize = machine.tree.files().map(|(_, file)| file.data.len()).sum();
        if total == 0 {
            return;
        }
        let mut at = rng.random_range(0..total);
        let mut hit = None;
        for (id, file) in machine.tree.files() {
            if at < file.data.len() {
                hit = Some((id, at));
                break;
            }
            at -= file.data.len();
        }
        if let Some((id, at)) = hit
            && let Some(file) = machine.tree.file(id)
        {
            file.data[at] ^= 1 << rng.random_range(0..8);
        }
    }

    /// How much the disk takes; below what it holds it is full.
    pub fn set_capacity(&self, bytes: u64) {
        self.machine().capacity = bytes;
    }

    /// How many bytes of it somebody else takes.
    pub fn set_others(&self, bytes: u64) {
        self.machine().others = bytes;
    }

    /// Whether syncs are not answered from here on.
    pub fn stall(&self, stalled: bool) {
        self.machine().stalled = stalled;
    }

    /// A copy of the disk as it is: yesterday's state directory, come back.
    #[must_use]
    pub fn image(&self) -> Self {
        let machine = self.machine().clone();
        Self(Arc::new(Mutex::new(machine)))
    }

    /// The most that was read or written in one call since the last time.
    #[cfg(test)]
    pub(crate) fn take_most_at_once(&self) -> usize {
        std::mem::take(&mut self.machine().most_at_once)
    }

    /// What its files and directories take.
    pub fn used_bytes(&self) -> u64 {
        self.machine().used
    }

    /// The machine starts: its time, and the dice of this run.
    pub(crate) fn start(&self, now: Instant, seed: u64) {
        self.machine().dice = ChaCha8Rng::seed_from_u64(seed);
        self.set_now(now);
    }

    /// The time goes on; it never goes back.
    pub(crate) fn set_now(&self, now: Instant) {
        let mut machine = self.machine();
        let (first, last) = machine.clock.unwrap_or((now, now));
        machine.clock = Some((first, last.max(now)));
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.machine().stalled
    }

    pub(super) fn now(&self) -> Instant {
        // Asked only by a store, which has told the time first.
        let clock = self.machine().clock;
        clock.map_or_else(Instant::now, |(_, last)| last)
    }

    /// How long the machine has been there.
    pub(super) fn lifetime(&self) -> Duration {
        let clock = self.machine().clock;
        clock.map_or(Duration::ZERO, |(first, last)| last - first)
    }

    pub(super) fn random(&self) -> u64 {
        self.machine().dice.random()
    }

    pub(super) fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        let mut dir = ROOT;
        for name in parts(path)? {
            let there = machine
                .tree
                .names(dir)
                .ok_or(io::ErrorKind::NotADirectory)?;
            dir = match there.get(name) {
                Some(id) => *id,
                None => {
                    machine.take(UNIT)?;
                    machine.tree.make_dir(dir, name)
                }
            };
        }
        Ok(())
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        self.machine().find(path).is_ok()
    }

    pub(super) fn names(&self, path: &Path) -> io::Result<Vec<String>> {
        let machine = self.machine();
        let dir = machine.find(path)?;
        let names = machine
            .tree
            .names(dir)
            .ok_or(io::ErrorKind::NotADirectory)?;
        Ok(names.keys().cloned().collect())
    }

    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read_at(path, 0..u64::MAX)
    }

    /// A part of a file, shorter where the file ends.
    pub(crate) fn read_at(&self, path: &Path, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut machine = self.machine();
        let id = machine.find(path)?;
        let file = machine.tree.file(id).ok_or(io::ErrorKind::IsADirectory)?;
        let end = range.end.min(file.data.len() as u64) as usize;
        let start = (range.start as usize).min(end);
        let bytes = file.data[start..end].to_vec();
        #[cfg(test)]
        machine.moved(bytes.len());
        Ok(bytes)
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut file = self.append_to(path)?;
        file.cut(0)?;
        Ok(file)
    }

    pub(super) fn create_new(&self, path: &Path) -> io::Result<SimFile> {
        if self.exists(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.append_to(path)
    }

    pub(super) fn append_to(&self, path: &Path) -> io::Result<SimFile> {
        let mut machine = self.machine();
        let (dir, name) = machine.place(path)?;
        let there = machine.tree.names(dir).and_then(|names| names.get(name));
        let id = match there.copied() {
            Some(id) if machine.tree.file(id).is_some() => id,
            Some(_) => return Err(io::ErrorKind::IsADirectory.into()),
            None => {
                let id = machine.tree.make_file(dir, name);
                if let Some((_, now)) = machine.clock {
                    machine.made.insert(id, now);
                }
                id
            }
        };
        Ok(SimFile {
            disk: self.clone(),
            id,
            life: machine.life,
        })
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        machine.find(from)?;
        let (from, to) = (machine.place(from)?, machine.place(to)?);
        machine.tree.rename(from, to);
        machine.recount();
        Ok(())
    }

    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        let id = machine.find(path)?;
        machine.tree.file(id).ok_or(io::ErrorKind::IsADirectory)?;
        machine.unlink(path)
    }

    pub(super) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        machine.find(path)?;
        machine.unlink(path)
    }

    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.machine();
        machine.answers()?;
        let dir = machine.find(path)?;
        machine.tree.sync_dir(dir);
        Ok(())
    }

    pub(super) fn bytes_below(&self, path: &Path) -> u64 {
        let machine = self.machine();
        machine.find(path).map_or(0, |id| machine.bytes(id))
    }

    pub(super) fn size(&self) -> u64 {
        self.machine().capacity
    }

    pub(super) fn free(&self) -> u64 {
        self.machine().room()
    }

    pub(super) fn age(&self, path: &Path) -> Option<Duration> {
        let machine = self.machine();
        let id = machine.find(path).ok()?;
        let (_, now) = machine.clock?;
        Some(now.saturating_duration_since(*machine.made.get(&id)?))
    }

    pub(super) fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let id = self.create(path)?.id;
        let mut machine = self.machine();
        machine.take(bytes)?;
        if let Some(file) = machine.tree.file(id) {
            file.reserved = bytes;
        }
        Ok(())
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SimFile {
    /// Appends what there is room for; `Err` when that is not all.
    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut machine = self.open()?;
        #[cfg(test)]
        machine.moved(bytes.len());
        let room = machine.room();
        let file = machine.tree.file(self.id).ok_or(io::ErrorKind::NotFound)?;
        let before = units(file);
        let slack = before - file.data.len() as u64 - file.reserved;
        let fits = bytes.len().min((room - room % UNIT + slack) as usize);
        file.append(&bytes[..fits]);
        let grown = units(file) - before;
        machine.used += grown;
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub(super) fn cut(&mut self, len: u64) -> io::Result<()> {
        let mut machine = self.open()?;
        let file = machine.tree.file(self.id).ok_or(io::ErrorKind::NotFound)?;
        file.cut(len as usize);
        file.reserved = 0;
        machine.recount();
        Ok(())
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        let mut machine = self.open()?;
        machine.answers()?;
        let file = machine.tree.file(self.id).ok_or(io::ErrorKind::NotFound)?;
        file.sync();
        Ok(())
    }

    fn open(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.disk.machine();
        if machine.life == self.life {
            Ok(machine)
        } else {
            Err(io::Error::other("the power was cut since this was opened"))
        }
    }
}

impl Machine {
    #[cfg(test)]
    fn moved(&mut self, bytes: usize) {
        self.most_at_once = self.most_at_once.max(bytes);
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        let mut id = ROOT;
        for name in parts(path)? {
            let names = self.tree.names(id).ok_or(io::ErrorKind::NotADirectory)?;
            id = *names.get(name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(id)
    }

    /// The directory a path's last name is in, and that name.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(Id, &'a str)> {
        let name = parts(path)?.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(path.parent().unwrap_or_else(|| Path::new("/")))?;
        self.tree.names(dir).ok_or(io::ErrorKind::NotADirectory)?;
        Ok((dir, name))
    }

    fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (dir, name) = self.place(path)?;
        self.tree.unlink(dir, name);
        self.recount();
        Ok(())
    }

    fn answers(&self) -> io::Result<()> {
        if self.stalled {
            Err(io::ErrorKind::TimedOut.into())
        } else {
            Ok(())
        }
    }

    /// Bytes nobody takes.
    fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.used + self.others)
    }

    fn take(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.room() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.used += bytes;
        Ok(())
    }

    fn recount(&mut self) {
        self.used = self.bytes(ROOT);
        let tree = &self.tree;
        self.made.retain(|id, _| tree.nodes.contains_key(id));
    }

    fn bytes(&self, id: Id) -> u64 {
        match self.tree.nodes.get(&id) {
            Some(Node::File(file)) => units(file),
            Some(Node::Dir { names, .. }) => {
                UNIT + names.values().map(|id| self.bytes(*id)).sum::<u64>()
            }
            None => 0,
        }
    }
}

fn units(file: &Bytes) -> u64 {
    (file.data.len() as u64 + file.reserved).next_multiple_of(UNIT)
}

fn parts(path: &Path) -> io::Result<Vec<&str>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                parts.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?);
            }
            Component::RootDir | Component::CurDir => {}
            Component::Prefix(_) | Component::ParentDir => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(parts)
}
