//! Which cases every change is tried with, which take longer, and which must break.

use std::time::{Duration, Instant};

use crate::case::{Case, Flaw, Kind};
use crate::run::{run, run_all, run_twice, say};
use crate::shrink::shrink;
use crate::traffic::is_flat;

/// Cases that broke once, each with what was wrong.
const KEPT: &str = include_str!("kept.txt");

/// One large mesh for ten minutes (its hour is in `long`: it takes a quarter of one here), forty small ones under heavy faults, the kept ones, three twice.
pub(crate) fn every_change() -> bool {
    let begun = Instant::now();
    let mut cases = vec![Case::new(Kind::Ordinary, 1, 1_000, 10)];
    cases.extend((1..=40).map(|seed| Case::new(Kind::Heavy, seed, 20, 30)));
    cases.push(crowded());
    cases.extend((1..=4).map(|seed| Case::new(Kind::Sites, seed, 20, 30)));
    cases.push(storm());
    cases.push(fire());
    cases.extend(kept());
    let good = run_all(&cases) & is_flat();
    let same = all_the_same((1..=3).map(|seed| Case::new(Kind::Heavy, seed, 20, 30)));
    let noticed = flaws() & shortens();
    say(format!("{:.0} s in all", begun.elapsed().as_secs_f64()));
    good && same && noticed
}

/// Disks that others fill, below the floor for copies and below that for own rows, while old rows make room for new ones.
fn crowded() -> Case {
    let story =
        "600s +900s fill 1 8\n900s +600s fill 2 3\n1500s +600s fill 3 6\n2400s +60s power 4";
    let story = story.parse().expect("the stories here are well told");
    Case::new(Kind::Cramped, 1, 5, 90).told(story)
}

/// As many as there are join at once, past the size at which everybody knows everybody.
fn storm() -> Case {
    let story = "120s +1s join 45".parse();
    let story = story.expect("the stories here are well told");
    Case::new(Kind::Calm, 11, 40, 10).told(story)
}

/// A mesh that has just outgrown the size at which everybody keeps everything, and most of its disks are lost at once: of
/// some rows nobody is left who is to keep them, but one who once was.
fn fire() -> Case {
    let wipes = (0..15).map(|m| format!("\n300s +20s wipe {m}"));
    let story = format!("60s +1s join 2{}", wipes.collect::<String>());
    let story = story.parse().expect("the stories here are well told");
    Case::new(Kind::Calm, 1, 16, 11).told(story)
}

/// A few, for whoever runs every test there is.
pub(crate) fn short() -> bool {
    let cases: Vec<_> = (1..=4)
        .map(|seed| Case::new(Kind::Heavy, seed, 8, 12))
        .collect();
    run_all(&cases)
}

/// What a night is for.
pub(crate) fn long() -> bool {
    let mut cases = vec![
        Case::new(Kind::Ordinary, 1, 1_000, 60),
        Case::new(Kind::Ordinary, 2, 3_000, 20),
        Case::new(Kind::Heavy, 1, 300, 60),
        Case::new(Kind::Heavy, 1, 70, 240),
    ];
    cases.extend((1_000..1_400).map(|seed| Case::new(Kind::Heavy, seed, 20, 30)));
    cases.extend((1_000..1_100).map(|seed| Case::new(Kind::Heavy, seed, 4, 60)));
    cases.extend((1..=10).map(|seed| Case::new(Kind::Cramped, seed, 5, 180)));
    run_all(&cases)
}

/// Each check notices the flaw that is put in for it.
pub(crate) fn flaws() -> bool {
    let calm = |minutes, story: &str, flaw| {
        let story = story.parse().expect("the stories here are well told");
        Case::new(Kind::Calm, 5, 5, minutes)
            .told(story)
            .flawed(flaw)
    };
    let cramped = |minutes, story: &str, flaw| {
        let mut case: Case = calm(minutes, story, flaw);
        case.kind = Kind::Cramped;
        case
    };
    let many = |minutes, story: &str, flaw| {
        let mut case: Case = calm(minutes, story, flaw);
        case.nodes = 16;
        case
    };
    let large = |minutes, flaw| Case::new(Kind::Calm, 5, 66, minutes).flawed(flaw);
    let table = [
        (
            "nothing acknowledged durable is missing",
            calm(5, "100s +9s power 1", Flaw::LyingDisk),
        ),
        (
            "identities are never reused",
            calm(5, "100s +90s yesterday 1\n120s +9s crash 1", Flaw::SameDice),
        ),
        (
            "keepers hold the same",
            calm(9, "100s +40s cut 1", Flaw::NoStreams),
        ),
        ("one content per identity", calm(3, "", Flaw::Alters)),
        (
            "clock steps change no identity",
            calm(5, "100s +9s clock 1 -2592000", Flaw::EpochPerStep),
        ),
        (
            "disks keep within their bytes",
            cramped(120, "", Flaw::Gluttony),
        ),
        (
            "live rows are there within two seconds",
            cramped(11, "300s +200s wipe 1", Flaw::BulkFirst),
        ),
        ("every stored block verifies", calm(3, "", Flaw::LaxKeys)),
        ("what is held can be read", calm(3, "", Flaw::Sieve)),
        (
            "the store always starts",
            calm(3, "60s +9s wipe 1", Flaw::MeanDisk),
        ),
        (
            "everything taken is somewhere",
            calm(3, "30s +60s clone 1\n31s +90s cut 5", Flaw::Unmourned),
        ),
        ("what went says why", cramped(60, "", Flaw::Forgets)),
        (
            "every queue is bounded",
            many(3, "30s +60s freeze 1", Flaw::Hoards),
        ),
        ("who lives isn't believed down", large(11, Flaw::Slander)),
        ("what a node sends stays flat", large(6, Flaw::Chatty)),
        ("what a node sends stays flat", calm(9, "", Flaw::EverMore)),
    ];
    let noticed = table.map(|(invariant, case)| is_noticed(invariant, &case));
    noticed.into_iter().all(|noticed| noticed)
}

fn is_noticed(invariant: &str, case: &Case) -> bool {
    let broken = run(case).err().map(|broken| broken.what);
    let noticed = broken == Some(invariant);
    if noticed {
        say(format!("flaw  {:?} noticed: {invariant}", case.flaw));
    } else {
        say(format!(
            "BROKE {:?} should break \"{invariant}\", but: {broken:?}",
            case.flaw
        ));
    }
    noticed
}

/// A long story that breaks by one of its faults is told by that one.
pub(crate) fn shortens() -> bool {
    let case = Case::new(Kind::Heavy, 1, 8, 20).flawed(Flaw::LyingDisk);
    let Err(broken) = run(&case) else {
        say(format!("BROKE {case}: a disk that lies goes unnoticed"));
        return false;
    };
    let (short, again) = shrink(&case, &broken, Duration::from_secs(60));
    let (from, to) = (case.story.0.len(), short.story.0.len());
    let machines = short.nodes;
    say(format!(
        "short {from} faults to {to}, {machines} machines: {again}"
    ));
    to == 1 && machines <= 4
}

fn all_the_same(cases: impl Iterator<Item = Case>) -> bool {
    let cases: Vec<_> = cases.collect();
    std::thread::scope(|scope| {
        let runs: Vec<_> = cases
            .iter()
            .map(|case| scope.spawn(|| run_twice(case)))
            .collect();
        runs.into_iter().all(|run| run.join().unwrap_or(false))
    })
}

fn kept() -> Vec<Case> {
    let lines = KEPT
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let told = lines.filter(|line| !line.is_empty());
    told.map(|line| line.parse().expect("kept cases are as they were written"))
        .collect()
}
