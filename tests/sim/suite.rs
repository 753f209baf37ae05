//! Which cases every change is tried with, which take longer, and which must break.

use std::time::Instant;

use crate::case::{Case, Flaw, Kind};
use crate::run::{run, run_all, run_twice, say};

/// Cases that broke once, each with what was wrong.
const KEPT: &str = include_str!("kept.txt");

/// One large mesh for ten minutes (its hour is in `long`: it takes a quarter of one here), forty small ones under heavy faults, the kept ones, three twice.
pub(crate) fn every_change() -> bool {
    let begun = Instant::now();
    let mut cases = vec![Case::new(Kind::Ordinary, 1, 1_000, 10)];
    cases.extend((1..=40).map(|seed| Case::new(Kind::Heavy, seed, 20, 30)));
    cases.push(Case::new(Kind::Cramped, 1, 5, 90));
    cases.extend(kept());
    let good = run_all(&cases);
    let same = all_the_same((1..=3).map(|seed| Case::new(Kind::Heavy, seed, 20, 30)));
    let noticed = flaws();
    say(format!("{:.0} s in all", begun.elapsed().as_secs_f64()));
    good && same && noticed
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
    ];
    let mut good = true;
    for (invariant, case) in table {
        let noticed = run(&case).err().map(|broken| broken.what);
        if noticed == Some(invariant) {
            say(format!("flaw  {:?} noticed: {invariant}", case.flaw));
        } else {
            say(format!(
                "BROKE {:?} should break \"{invariant}\", but: {noticed:?}",
                case.flaw
            ));
            good = false;
        }
    }
    good
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
