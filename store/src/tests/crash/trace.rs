//! What a process did to the files below a directory, read from what `strace -f -y -xx` wrote.
//!
//! Out: events in the order in which they ended. A sync says where it began, since it covers only what had ended by then.
//! Descriptors are told apart by number and path, since several processes are in one record and their numbers meet.
//! Calls that failed are left out. A call that writes in a way not known here is a panic: the record would be incomplete.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The calls that are recorded.
pub(super) const CALLS: &str = "trace=open,openat,creat,read,lseek,write,writev,pwrite64,pwritev,ftruncate,truncate,fallocate,\
    fsync,fdatasync,sync_file_range,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,copy_file_range,sendfile";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Open {
        path: PathBuf,
        create: bool,
        empty: bool,
    },
    Write {
        path: PathBuf,
        at: Option<u64>,
        bytes: Vec<u8>,
    },
    Cut {
        path: PathBuf,
        len: u64,
    },
    /// `since`: how many events had ended when it began.
    Sync {
        path: PathBuf,
        since: usize,
    },
    MakeDir(PathBuf),
    Remove(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
}

/// What an open descriptor writes next.
#[derive(Clone, Copy)]
struct Position {
    append: bool,
    at: u64,
}

/// The events below `home`, paths relative to it.
pub(super) fn read(text: &str, home: &Path) -> Vec<Event> {
    let mut reader = Reader {
        home,
        positions: BTreeMap::new(),
        events: Vec::new(),
    };
    let mut begun: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, (start.to_owned(), reader.events.len()));
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            let (start, since) = begun.remove(pid).expect("a call resumes after it began");
            reader.call(&(start + end), since);
        } else {
            reader.call(rest, reader.events.len());
        }
    }
    reader.events
}

struct Reader<'a> {
    home: &'a Path,
    /// By the descriptor as it is written, its path behind it.
    positions: BTreeMap<String, Position>,
    events: Vec<Event>,
}

impl Reader<'_> {
    fn call(&mut self, call: &str, since: usize) {
        let Some((call, result)) = call.rsplit_once(" = ") else {
            return;
        };
        let (name, arguments) = call.split_once('(').expect("a call has arguments");
        let arguments = arguments
            .trim_end()
            .strip_suffix(')')
            .expect("and they end");
        let arguments: Vec<&str> = arguments.split(", ").collect();
        let descriptor = result;
        let Ok(result) = number(result).parse::<u64>() else {
            return; // It failed.
        };
        match name {
            "open" | "openat" | "creat" => self.open(&arguments, descriptor),
            "read" | "lseek" => self.moved(name == "lseek", arguments[0], result),
            "write" => self.write(&arguments, result),
            "pwrite64" => {
                let at = arguments[3].parse().expect("an offset");
                self.written(arguments[0], Some(at), arguments[1], result);
            }
            "ftruncate" => {
                let len = arguments[1].parse().expect("a length");
                let path = self.below(of_descriptor(arguments[0]));
                self.events
                    .extend(path.map(|path| Event::Cut { path, len }));
            }
            "fsync" | "fdatasync" => {
                let path = self.below(of_descriptor(arguments[0]));
                self.events
                    .extend(path.map(|path| Event::Sync { path, since }));
            }
            "mkdir" | "mkdirat" => {
                let path = self.named(&arguments);
                self.events.extend(path.map(Event::MakeDir));
            }
            "unlink" | "unlinkat" | "rmdir" => {
                let path = self.named(&arguments);
                self.events.extend(path.map(Event::Remove));
            }
            "rename" | "renameat" | "renameat2" => {
                let mut paths = arguments
                    .chunks(arguments.len() / 2)
                    .map(|half| self.named(half));
                if let (Some(Some(from)), Some(Some(to))) = (paths.next(), paths.next()) {
                    self.events.push(Event::Rename { from, to });
                }
            }
            // Hints that make nothing durable, and the ballast's place.
            "sync_file_range" | "fallocate" => {}
            other => assert!(
                self.named(&arguments).is_none(),
                "{other} is not known here"
            ),
        }
    }

    fn open(&mut self, arguments: &[&str], descriptor: &str) {
        let has = |flag| {
            arguments
                .iter()
                .any(|argument| argument.split('|').any(|one| one == flag))
        };
        let append = has("O_APPEND");
        self.positions
            .insert(descriptor.to_owned(), Position { append, at: 0 });
        if let Some(path) = self.named(arguments).filter(|_| !has("O_DIRECTORY")) {
            let (create, empty) = (has("O_CREAT"), has("O_TRUNC"));
            self.events.push(Event::Open {
                path,
                create,
                empty,
            });
        }
    }

    fn moved(&mut self, to: bool, descriptor: &str, by: u64) {
        if let Some(position) = self.positions.get_mut(descriptor) {
            position.at = if to { by } else { position.at + by };
        }
    }

    fn write(&mut self, arguments: &[&str], count: u64) {
        let position = self.positions.get_mut(arguments[0]);
        let at = position.and_then(|position| {
            let at = (!position.append).then_some(position.at);
            position.at += count;
            at
        });
        self.written(arguments[0], at, arguments[1], count);
    }

    fn written(&mut self, descriptor: &str, at: Option<u64>, text: &str, count: u64) {
        if let Some(path) = self.below(of_descriptor(descriptor)) {
            let mut bytes = unescaped(text);
            assert!(bytes.len() as u64 >= count, "the record cuts writes off");
            bytes.truncate(count as usize);
            self.events.push(Event::Write { path, at, bytes });
        }
    }

    /// The path that the first two arguments name: a path, or a directory's descriptor and a path.
    fn named(&self, arguments: &[&str]) -> Option<PathBuf> {
        let path = arguments
            .iter()
            .find(|argument| argument.starts_with('"'))?;
        let path = PathBuf::from(String::from_utf8(unescaped(path)).ok()?);
        let dir = of_descriptor(arguments[0]).unwrap_or_default();
        self.below(Some(dir.join(path)))
    }

    fn below(&self, path: Option<PathBuf>) -> Option<PathBuf> {
        path?.strip_prefix(self.home).ok().map(Path::to_owned)
    }
}

/// The digits before what is said about them.
fn number(text: &str) -> &str {
    text.split(['<', ' ']).next().unwrap_or_default()
}

/// The path behind a descriptor. None: none is told, or the file has been removed.
fn of_descriptor(text: &str) -> Option<PathBuf> {
    let (_, path) = text.split_once('<')?;
    let path = path.strip_suffix('>')?;
    String::from_utf8(unescaped(path)).ok().map(PathBuf::from)
}

/// The bytes of `"\x6f\x6c"`, with or without the quotes.
fn unescaped(text: &str) -> Vec<u8> {
    let pairs = text.trim_matches('"').split("\\x").skip(1);
    pairs
        .map(|pair| u8::from_str_radix(&pair[..2], 16).expect("two hexadecimal digits"))
        .collect()
}

#[test]
fn a_record_is_read_in_the_order_in_which_calls_ended() {
    let text = "\
1 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x68\\x2f\\x61\", O_WRONLY|O_CREAT|O_CLOEXEC, 0666) = 3<\\x2f\\x68\\x2f\\x61>
1 write(3<\\x2f\\x68\\x2f\\x61>, \"\\x6f\\x6c\", 2) = 2
1 fdatasync(3<\\x2f\\x68\\x2f\\x61> <unfinished ...>
2 pwrite64(3<\\x2f\\x68\\x2f\\x61>, \"\\x21\", 1, 7) = 1
1 <... fdatasync resumed>) = 0
1 unlinkat(4<\\x2f\\x68>, \"\\x62\", 0) = -1 ENOENT (No such file or directory)
1 rename(\"\\x2f\\x68\\x2f\\x61\", \"\\x2f\\x68\\x2f\\x62\") = 0
";
    let path = PathBuf::from("a");
    let write = |at, bytes: &[u8]| Event::Write {
        path: path.clone(),
        at: Some(at),
        bytes: bytes.to_vec(),
    };
    let expected = [
        Event::Open {
            path: path.clone(),
            create: true,
            empty: false,
        },
        write(0, b"ol"),
        write(7, b"!"),
        Event::Sync {
            path: path.clone(),
            since: 2,
        },
        Event::Rename {
            from: path.clone(),
            to: PathBuf::from("b"),
        },
    ];
    assert_eq!(read(text, Path::new("/h")), expected);
}

#[test]
fn a_descriptor_of_another_process_with_the_same_number_moves_nothing() {
    let text = "\
1 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x68\\x2f\\x61\", O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0666) = 3<\\x2f\\x68\\x2f\\x61>
2 openat(AT_FDCWD<\\x2f>, \"\\x2f\\x6c\", O_RDONLY|O_CLOEXEC) = 3<\\x2f\\x6c>
2 read(3<\\x2f\\x6c>, \"\\x21\", 1) = 1
1 write(3<\\x2f\\x68\\x2f\\x61>, \"\\x6f\\x6c\", 2) = 2
";
    let events = read(text, Path::new("/h"));
    let written = Event::Write {
        path: PathBuf::from("a"),
        at: None,
        bytes: b"ol".to_vec(),
    };
    assert_eq!(
        events.last(),
        Some(&written),
        "at its end, wherever that is"
    );
}
