//! The fuzzer: runs the parser that `OUTLAST_FUZZ` names over whatever libFuzzer makes up.
//!
//! The parsers and what must hold of them are each crate's `fuzzing` module. One binary holds all, since linking dozens
//! would take longer than running them. Absent: inputs, which lie in `corpus/CRATE/TARGET`.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

type Run = fn(&[u8]) -> bool;

fuzz_target!(|bytes: &[u8]| {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(named)(bytes);
});

fn named() -> Run {
    let wanted = std::env::var("OUTLAST_FUZZ").unwrap_or_default();
    let targets = [
        outlast_mesh::fuzzing::TARGETS,
        outlast_store::fuzzing::TARGETS,
        outlast::fuzzing::TARGETS,
    ]
    .concat();
    match targets.iter().find(|(name, _)| *name == wanted) {
        Some((_, run)) => *run,
        None => panic!("OUTLAST_FUZZ={wanted:?} names no target"),
    }
}
