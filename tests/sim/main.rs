//! The simulator: whole meshes of real stores and real flow cores on virtual time, and everything that can go wrong.
//!
//! `cargo test --config tests/sim/fast.toml --package outlast-tests --test sim -- WHAT`, or the Makefile's `sim` targets:
//! `run` one case, `suite` what every change is tried with, `long` more of it, `flaws` whether the checks notice, `results`
//! the table and the plot. One seed makes one world: machines, weather, faults; the same seed twice gives the same events,
//! by however many threads the sites of a mesh are run.
//! Simulated: the network above the tunnel, disks, clocks, power, processes. Real: `outlast::flow::core` with its replica,
//! and `outlast_store` down to its files. Absent: WireGuard and QUIC (mesh's tests try them), sockets, sled, and within a
//! site threads.

mod time;

mod case;
mod fault;

mod board;
mod crew;
mod machine;
mod network;
mod site;
mod world;

mod lives;
mod mesh;
mod mischief;
mod pipes;

mod beliefs;
mod check;
mod traffic;
mod truth;

mod run;
mod shrink;

mod results;
mod suite;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use case::{Case, Kind};
use fault::Story;
use run::say;

const USAGE: &str = "sim run [kind=heavy] [seed=1] [nodes=20] [minutes=30] [threads=2] [story=FILE] [tell=1] | suite | long | flaws [NAME…] | results [NODES…]";

/// How glibc is told where to take memory from.
const TUNABLES: &str = "GLIBC_TUNABLES";

fn main() -> ExitCode {
    take_large_pages();
    run::listen();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str) {
        Some("run") => asked(&words[1..]).map(|case| run::run_and_say(&case)),
        Some("suite") => Ok(suite::every_change()),
        Some("long") => Ok(suite::long()),
        Some("flaws") => Ok(suite::flaws(&words[1..])),
        Some("results") => words[1..]
            .iter()
            .map(|word| word.parse().map_err(|_odd| USAGE.to_owned()))
            .collect::<Result<Vec<u32>, _>>()
            .map(|sizes| results::make(&sizes)),
        // What `cargo test` calls without a word.
        None => Ok(suite::short()),
        Some(_) => Err(USAGE.to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            say(why);
            ExitCode::from(2)
        }
    }
}

/// Starts this program once more with its memory in large pages, which must be said before it begins: each event goes to
/// another of a thousand machines, and with small pages a quarter of the time is spent on finding where its memory is.
fn take_large_pages() {
    let asked = std::env::var_os(TUNABLES).is_some();
    if let Some(program) = std::env::current_exe().ok().filter(|_| !asked) {
        let mut again = Command::new(program);
        again.args(std::env::args_os().skip(1));
        // Where that can't be, this one goes on: it is only slower.
        let _why = again.env(TUNABLES, "glibc.malloc.hugetlb=1").exec();
    }
}

/// The case that was asked for, as `name=value` words; an empty value is as good as none.
fn asked(words: &[String]) -> Result<Case, String> {
    let given = |name: &str| {
        let word = words
            .iter()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word.filter(|value| !value.is_empty())
    };
    let number = |name: &str, usual: u64| match given(name) {
        Some(value) => value
            .parse()
            .map_err(|_odd| format!("not a number: {name}={value}")),
        None => Ok(usual),
    };
    let kind = given("kind").map_or(Ok(Kind::Heavy), str::parse)?;
    let (nodes, minutes) = (number("nodes", 20)?, number("minutes", 30)?);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let usual = if nodes < u64::from(world::SLOW) {
        1
    } else {
        cores as u64
    };
    let threads = number("threads", usual)?.max(1);
    let mut case = Case::new(kind, number("seed", 1)?, nodes as u32, minutes as u32);
    if let Some(path) = given("story") {
        let text =
            std::fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"))?;
        case = case.told(text.parse::<Story>()?);
    }
    case.told_aloud = given("tell").is_some();
    case.hands = threads as u32 - 1;
    Ok(case)
}
