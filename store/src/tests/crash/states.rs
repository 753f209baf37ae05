//! What a disk may hold after a power cut, from what was done to it until then.
//!
//! `Recorded` takes events and knows of each write and each name whether a sync followed. `after_cut` builds one state:
//! every write that no sync followed is dropped, or kept page by page at random, or kept up to one that is torn.
//! Names: on `Ext4` any sync makes all names before it durable; on `Strict` only a sync of the directory itself does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::trace::Event;

const SECTOR: usize = 512;
const PAGE: usize = 4096;

/// What becomes of the writes that no sync followed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    All,
    Pages,
    Torn,
}

/// Which syncs keep a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Names {
    Ext4,
    Strict,
}

#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

#[derive(Debug)]
enum Naming {
    File(PathBuf, usize),
    Dir(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// A change and when it ended.
#[derive(Debug)]
struct Dated<T> {
    at: usize,
    what: T,
}

#[derive(Debug, Default)]
struct Body {
    /// As processes see it.
    len: usize,
    synced: Vec<u8>,
    pending: Vec<Dated<Change>>,
}

#[derive(Debug)]
struct Link {
    naming: Dated<Naming>,
    /// A sync of anything, and of each directory it touches, began after it.
    ext4: bool,
    strict: Vec<(PathBuf, bool)>,
}

/// Everything that was done so far.
#[derive(Debug, Default)]
pub(super) struct Recorded {
    done: usize,
    bodies: Vec<Body>,
    names: BTreeMap<PathBuf, usize>,
    links: Vec<Link>,
}

/// A disk's files (with their bytes) and directories (None).
pub(super) type Files = BTreeMap<PathBuf, Option<Vec<u8>>>;

impl Recorded {
    pub(super) fn handle(&mut self, event: &Event) {
        let at = self.done;
        self.done += 1;
        match event {
            Event::Open {
                path,
                create,
                empty,
            } => self.open(at, path, *create, *empty),
            Event::Write {
                path,
                at: offset,
                bytes,
            } => {
                let end = self
                    .names
                    .get(path)
                    .map_or(0, |body| self.bodies[*body].len);
                let offset = offset.map_or(end, |at| at as usize);
                let what = Change::Write {
                    at: offset,
                    bytes: bytes.clone(),
                };
                self.change(at, path, what);
            }
            Event::Cut { path, len } => self.change(at, path, Change::Cut(*len as usize)),
            Event::Sync { path, since } => self.sync(path, *since),
            Event::MakeDir(path) => self.link(at, Naming::Dir(path.clone())),
            Event::Remove(path) => {
                self.names.remove(path);
                self.link(at, Naming::Remove(path.clone()));
            }
            Event::Rename { from, to } => {
                if let Some(body) = self.names.remove(from) {
                    self.names.insert(to.clone(), body);
                }
                self.link(at, Naming::Rename(from.clone(), to.clone()));
            }
        }
    }

    fn open(&mut self, at: usize, path: &Path, create: bool, empty: bool) {
        if create && !self.names.contains_key(path) {
            let body = self.bodies.len();
            self.bodies.push(Body::default());
            self.names.insert(path.to_owned(), body);
            self.link(at, Naming::File(path.to_owned(), body));
        }
        if empty {
            self.change(at, path, Change::Cut(0));
        }
    }

    fn change(&mut self, at: usize, path: &Path, what: Change) {
        if let Some(body) = self.names.get(path) {
            let body = &mut self.bodies[*body];
            body.len = match &what {
                Change::Write { at, bytes } => body.len.max(at + bytes.len()),
                Change::Cut(len) => *len,
            };
            body.pending.push(Dated { at, what });
        }
    }

    fn link(&mut self, at: usize, what: Naming) {
        let dir = |path: &Path| (path.parent().map(Path::to_owned).unwrap_or_default(), false);
        let strict = match &what {
            Naming::File(path, _) | Naming::Dir(path) | Naming::Remove(path) => vec![dir(path)],
            Naming::Rename(from, to) => vec![dir(from), dir(to)],
        };
        let naming = Dated { at, what };
        self.links.push(Link {
            naming,
            ext4: false,
            strict,
        });
    }

    fn sync(&mut self, path: &Path, since: usize) {
        for link in self.links.iter_mut().filter(|link| link.naming.at < since) {
            link.ext4 = true;
            for (_, synced) in link.strict.iter_mut().filter(|(dir, _)| dir == path) {
                *synced = true;
            }
        }
        if let Some(body) = self.names.get(path) {
            let body = &mut self.bodies[*body];
            let covered = body
                .pending
                .iter()
                .take_while(|change| change.at < since)
                .count();
            for change in body.pending.drain(..covered) {
                change.what.apply(&mut body.synced);
            }
        }
    }

    /// What is there now, cut or no cut.
    pub(super) fn whole(&self) -> Files {
        let bodies: Vec<Vec<u8>> = self.bodies.iter().map(Body::whole).collect();
        let mut files = Files::new();
        for link in &self.links {
            link.naming.what.apply(&mut files, &bodies);
        }
        files
    }

    /// One of the states that a power cut may leave now.
    pub(super) fn after_cut(&self, loss: Loss, names: Names, rng: &mut ChaCha8Rng) -> Files {
        // Of what is torn everything before some moment arrived.
        let arrived = rng.random_range(0..=self.done);
        let bodies: Vec<Vec<u8>> = self
            .bodies
            .iter()
            .map(|body| body.after_cut(loss, arrived, rng))
            .collect();
        let mut files = Files::new();
        for link in &self.links {
            let durable = match names {
                Names::Ext4 => link.ext4,
                Names::Strict => link.strict.iter().all(|(_, synced)| *synced),
            };
            let kept = match loss {
                Loss::All => false,
                Loss::Pages => matches!(names, Names::Strict) && rng.random(),
                Loss::Torn => link.naming.at < arrived,
            };
            if durable || kept {
                link.naming.what.apply(&mut files, &bodies);
            }
        }
        files
    }
}

impl Body {
    fn whole(&self) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.pending {
            change.what.apply(&mut bytes);
        }
        bytes
    }

    fn after_cut(&self, loss: Loss, arrived: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.pending {
            match loss {
                Loss::All => {}
                Loss::Pages => change.what.apply_pages(&mut bytes, rng),
                Loss::Torn if change.at < arrived => change.what.apply(&mut bytes),
                Loss::Torn if change.at == arrived => change.what.apply_torn(&mut bytes, rng),
                Loss::Torn => {}
            }
        }
        bytes
    }
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => put(file, *at, bytes),
            Self::Cut(len) => file.resize(*len, 0),
        }
    }

    fn apply_pages(&self, file: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        let Self::Write { at, bytes } = self else {
            if rng.random() {
                self.apply(file);
            }
            return;
        };
        let mut at = *at;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (page, more) = rest.split_at(rest.len().min(PAGE - at % PAGE));
            if rng.random() {
                put(file, at, page);
            }
            at += page.len();
            rest = more;
        }
    }

    fn apply_torn(&self, file: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
        if let Self::Write { at, bytes } = self {
            let at = *at;
            let end = at + rng.random_range(0..=bytes.len());
            let whole = (end - end % SECTOR).max(at) - at;
            put(file, at, &bytes[..whole]);
        }
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

impl Naming {
    /// A name in a directory that was lost is lost with it.
    fn apply(&self, files: &mut Files, bodies: &[Vec<u8>]) {
        let has_dir = |files: &Files, path: &Path| {
            let dir = path.parent().unwrap_or_else(|| Path::new(""));
            dir == Path::new("") || matches!(files.get(dir), Some(None))
        };
        match self {
            Self::File(path, body) if has_dir(files, path) => {
                files.insert(path.clone(), Some(bodies[*body].clone()));
            }
            Self::Dir(path) if has_dir(files, path) => {
                files.insert(path.clone(), None);
            }
            Self::Remove(path) => {
                files.retain(|file, _| !file.starts_with(path));
            }
            Self::Rename(from, to) if has_dir(files, to) => {
                let moved: Vec<PathBuf> = files
                    .keys()
                    .filter(|file| file.starts_with(from))
                    .cloned()
                    .collect();
                for path in moved {
                    let rest = path.strip_prefix(from).expect("it starts so");
                    let target = if rest == Path::new("") {
                        to.clone()
                    } else {
                        to.join(rest)
                    };
                    let file = files.remove(&path).expect("it was listed");
                    files.insert(target, file);
                }
            }
            _ => {}
        }
    }
}
