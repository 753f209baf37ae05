//! The files and directories of a simulated disk: as processes see them, and as they would be after a power cut.
//!
//! A file keeps what was done to it since its last sync, newest last, so that it can be undone; a directory keeps the
//! names it would have. Names change by `Link`s that stay pending until a directory they touch is synced; then they and
//! whatever they build on are durable. `cut` undoes what the dice say: per file everything behind some point, in steps of
//! a sector, with pages that never arrived; per directory every link behind some point.
//! Absent: paths (`simulated`), space, time.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

/// What a drive writes whole.
const SECTOR: usize = 512;
/// What a file system writes in any order.
const PAGE: usize = 4096;

pub(super) type Id = u32;
pub(super) const ROOT: Id = 0;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Dir {
        names: BTreeMap<String, Id>,
        durable: BTreeMap<String, Id>,
    },
    File(Bytes),
}

/// A file's bytes and what undoes the changes that no sync followed.
#[derive(Clone, Debug, Default)]
pub(super) struct Bytes {
    pub(super) data: Vec<u8>,
    /// Bytes that hold a place and mean nothing.
    pub(super) reserved: u64,
    pending: Vec<Undo>,
}

#[derive(Clone, Debug)]
enum Undo {
    /// It had this length.
    Grown(usize),
    /// It went on with these bytes.
    Shrunk(Vec<u8>),
}

/// A change of names: entries set (or cleared) together.
#[derive(Clone, Debug)]
struct Link(Vec<(Id, String, Option<Id>)>);

#[derive(Clone, Debug)]
pub(super) struct Tree {
    pub(super) nodes: BTreeMap<Id, Node>,
    next: Id,
    pending: Vec<Link>,
}

impl Bytes {
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.pending.push(Undo::Grown(self.data.len()));
        self.data.extend_from_slice(bytes);
    }

    pub(super) fn cut(&mut self, len: usize) {
        if len < self.data.len() {
            let lost = self.data.split_off(len);
            self.pending.push(Undo::Shrunk(lost));
        }
    }

    pub(super) fn sync(&mut self) {
        self.pending.clear();
    }

    /// What the dice leave of the changes no sync followed.
    fn lose(&mut self, rng: &mut ChaCha8Rng) {
        let kept = rng.random_range(0..=self.pending.len());
        for undo in self.pending.drain(kept..).rev() {
            match undo {
                Undo::Grown(len) => self.data.truncate(len),
                Undo::Shrunk(lost) => self.data.extend_from_slice(&lost),
            }
        }
        let grown = match self.pending.last() {
            Some(Undo::Grown(len)) => Some(*len),
            _ => None,
        };
        self.pending.clear();
        if let Some(before) = grown.filter(|len| *len < self.data.len() && rng.random()) {
            self.tear(before, rng);
        }
    }

    /// The last write arrived up to some sector, or without some of its pages.
    fn tear(&mut self, before: usize, rng: &mut ChaCha8Rng) {
        if rng.random() {
            let end = rng.random_range(before..=self.data.len());
            let whole = end - end % SECTOR;
            self.data.truncate(whole.max(before));
            return;
        }
        let pages = before / PAGE..=(self.data.len() - 1) / PAGE;
        for page in pages {
            if rng.random() {
                let end = ((page + 1) * PAGE).min(self.data.len());
                self.data[(page * PAGE).max(before)..end].fill(0);
            }
        }
    }
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Node::Dir {
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
        };
        Self {
            nodes: [(ROOT, root)].into(),
            next: ROOT + 1,
            pending: Vec::new(),
        }
    }

    pub(super) fn names(&self, dir: Id) -> Option<&BTreeMap<String, Id>> {
        match self.nodes.get(&dir)? {
            Node::Dir { names, .. } => Some(names),
            Node::File(_) => None,
        }
    }

    pub(super) fn file(&mut self, id: Id) -> Option<&mut Bytes> {
        match self.nodes.get_mut(&id)? {
            Node::File(bytes) => Some(bytes),
            Node::Dir { .. } => None,
        }
    }

    /// The files that have a name.
    pub(super) fn files(&self) -> impl Iterator<Item = (Id, &Bytes)> {
        let mut named = BTreeSet::new();
        let mut todo = vec![ROOT];
        while let Some(id) = todo.pop() {
            named.insert(id);
            todo.extend(self.names(id).into_iter().flat_map(BTreeMap::values));
        }
        self.nodes.iter().filter_map(move |(id, node)| match node {
            Node::File(bytes) if named.contains(id) => Some((*id, bytes)),
            _ => None,
        })
    }

    pub(super) fn make_dir(&mut self, dir: Id, name: &str) -> Id {
        let node = Node::Dir {
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
        };
        self.make(dir, name, node)
    }

    pub(super) fn make_file(&mut self, dir: Id, name: &str) -> Id {
        self.make(dir, name, Node::File(Bytes::default()))
    }

    fn make(&mut self, dir: Id, name: &str, node: Node) -> Id {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        self.link(vec![(dir, name.to_owned(), Some(id))]);
        id
    }

    pub(super) fn rename(&mut self, from: (Id, &str), to: (Id, &str)) {
        let moved = self
            .names(from.0)
            .and_then(|names| names.get(from.1))
            .copied();
        let from = (from.0, from.1.to_owned(), None);
        self.link(vec![from, (to.0, to.1.to_owned(), moved)]);
    }

    pub(super) fn unlink(&mut self, dir: Id, name: &str) {
        self.link(vec![(dir, name.to_owned(), None)]);
    }

    fn link(&mut self, entries: Vec<(Id, String, Option<Id>)>) {
        for (dir, name, id) in &entries {
            if let Some(Node::Dir { names, .. }) = self.nodes.get_mut(dir) {
                set(names, name, *id);
            }
        }
        self.pending.push(Link(entries));
    }

    /// The names in `dir` are durable, with all that was done before to the directories that share a change with it.
    pub(super) fn sync_dir(&mut self, dir: Id) {
        let mut touched: BTreeSet<Id> = [dir].into();
        let mut durable = Vec::new();
        let mut rest = Vec::new();
        for link in std::mem::take(&mut self.pending).into_iter().rev() {
            if link.0.iter().any(|(dir, ..)| touched.contains(dir)) {
                touched.extend(link.0.iter().map(|(dir, ..)| *dir));
                durable.push(link);
            } else {
                rest.push(link);
            }
        }
        rest.reverse();
        self.pending = rest;
        for link in durable.into_iter().rev() {
            self.settle(&link);
        }
        self.forget_unreachable();
    }

    fn settle(&mut self, link: &Link) {
        for (dir, name, id) in &link.0 {
            if let Some(Node::Dir { durable, .. }) = self.nodes.get_mut(dir) {
                set(durable, name, *id);
            }
        }
    }

    /// The power fails: what is left is durable.
    pub(super) fn cut(&mut self, rng: &mut ChaCha8Rng) {
        // Once a change of a directory is lost all later ones of it are.
        let mut lost: BTreeSet<Id> = BTreeSet::new();
        let odds = rng.random_range(0.0..=1.0);
        for link in std::mem::take(&mut self.pending) {
            let hit = link.0.iter().any(|(dir, ..)| lost.contains(dir));
            if hit || rng.random_bool(odds) {
                lost.extend(link.0.iter().map(|(dir, ..)| *dir));
            } else {
                self.settle(&link);
            }
        }
        for node in self.nodes.values_mut() {
            match node {
                Node::Dir { names, durable } => names.clone_from(durable),
                Node::File(bytes) => bytes.lose(rng),
            }
        }
        self.forget_unreachable();
    }

    /// Drops what no name leads to, now or after a power cut.
    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::new();
        let mut todo = vec![ROOT];
        let pending = self.pending.iter().flat_map(|link| &link.0);
        todo.extend(pending.filter_map(|(_, _, id)| *id));
        while let Some(id) = todo.pop() {
            if !reached.insert(id) {
                continue;
            }
            if let Some(Node::Dir { names, durable }) = self.nodes.get(&id) {
                todo.extend(names.values().chain(durable.values()));
            }
        }
        self.nodes.retain(|id, _| reached.contains(id));
    }
}

fn set(names: &mut BTreeMap<String, Id>, name: &str, id: Option<Id>) {
    match id {
        Some(id) => drop(names.insert(name.to_owned(), id)),
        None => drop(names.remove(name)),
    }
}
