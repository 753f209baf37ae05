//! The inputs kept for each fuzz target, replayed by the unit tests of the crate that has the target.
//!
//! They lie in `tests/fuzz/corpus/CRATE/TARGET/`: what real encoders write, what the fuzzer found to reach new code, and
//! whatever once broke something. In: a crate's targets. Out: a failed test that names the file.
//! `BLESS=1` writes what today's encoders give as `seed-N` where no file has these bytes.
//! Absent: finding new inputs, which `make fuzz` does.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use super::Target;

/// Bytes of one kept input at most; a longer one says less in a review than it costs.
const MAX_FILE: usize = 16 << 10;
/// Bytes of all inputs of a crate at most.
const MAX_ALL: usize = 512 << 10;

/// Runs every target over every input kept for it. A target without inputs, and inputs without a target, are faults.
pub(super) fn replay(of: &str, targets: &[Target]) {
    let corpus = corpus(of);
    let named: BTreeSet<String> = targets.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        named,
        names(&corpus),
        "targets, and directories in {}",
        corpus.display()
    );
    let mut all = 0;
    for (name, run) in targets {
        let files = names(&corpus.join(name));
        assert!(!files.is_empty(), "no input is kept for {name}");
        for file in files {
            let path = corpus.join(name).join(file);
            let bytes = fs::read(&path).expect("a kept input can be read");
            assert!(
                bytes.len() <= MAX_FILE,
                "{} is too long to keep",
                path.display()
            );
            all += bytes.len();
            let survived = catch_unwind(|| run(&bytes));
            assert!(survived.is_ok(), "{name} fails on {}", path.display());
        }
    }
    assert!(all <= MAX_ALL, "{all} bytes are kept for {of}");
}

/// Every seed must be taken by its target: a target that refuses what encoders write tests nothing.
pub(super) fn sow(of: &str, targets: &[Target], seeds: fn(&str) -> Vec<Vec<u8>>) {
    for (name, run) in targets {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "no seed for {name}");
        for (number, seed) in seeds.iter().enumerate() {
            assert!(run(seed), "{name} refuses its seed {number}");
            if std::env::var_os("BLESS").is_some() {
                let dir = corpus(of).join(name);
                fs::create_dir_all(&dir).expect("a directory for inputs can be made");
                fs::write(dir.join(format!("seed-{number}")), seed)
                    .expect("an input can be written");
            }
        }
    }
}

fn corpus(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fuzz/corpus")
        .join(of)
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
