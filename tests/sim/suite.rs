//! Which cases every change is tried with, which take longer, and which must break.

use std::time::{Duration, Instant};

use crate::case::{Case, Flaw, Kind};
use crate::run::{Task, run, run_all, run_and_say, run_twice, say};
use crate::shrink::shrink;
use crate::traffic::is_flat;

/// Cases that broke once, each with what was wrong.
const KEPT: &str = include_str!("kept.txt");

/// The large mesh and its minutes; its whole hour is in `long`.
const LARGE: (u32, u32) = (1_000, 22);
const SMALL: u64 = 40;
/// So many of the small ones run twice and are compared.
const TWICE: u64 = 3;

/// One large mesh, and beside it forty small ones under heavy faults, three of them twice, the kept ones, and
/// whether each check notices what it is for.
pub(crate) fn every_change() -> bool {
    let begun = Instant::now();
    let mut cases = vec![crowded()];
    cases.extend((TWICE + 1..=SMALL).map(|seed| Case::new(Kind::Heavy, seed, 20, 30)));
    cases.extend((1..=4).map(|seed| Case::new(Kind::Sites, seed, 20, 30)));
    cases.push(storm());
    cases.push(fire());
    cases.extend(kept());
    // The longest first: it fills one core while the other does the rest, and then helps.
    let mut tasks: Vec<Task> = vec![runs(Case::new(Kind::Ordinary, 1, LARGE.0, LARGE.1))];
    let twice = (1..=TWICE).map(|seed| Case::new(Kind::Heavy, seed, 20, 30));
    tasks.extend(twice.map(|case| Box::new(move || run_twice(&case)) as Task));
    tasks.extend(cases.into_iter().map(runs));
    tasks.push(Box::new(is_flat));
    tasks.extend(each_flaw(&|_| true));
    tasks.push(Box::new(shortens));
    let good = run_all(&tasks);
    let (took, (nodes, minutes)) = (begun.elapsed().as_secs_f64(), LARGE);
    say(format!(
        "{took:.0} s in all, with {minutes} minutes of {nodes} machines: `make sim-long` has their hour"
    ));
    good
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
    let cases = (1..=4)
        .map(|seed| Case::new(Kind::Heavy, seed, 8, 12))
        .map(runs)
        .collect::<Vec<_>>();
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
    let tasks: Vec<_> = cases.into_iter().map(runs).collect();
    run_all(&tasks)
}

fn runs(case: Case) -> Task {
    Box::new(move || run_and_say(&case))
}

/// Each check notices the flaw that is put in for it; of `named` flaws only, if there are any.
pub(crate) fn flaws(named: &[String]) -> bool {
    let is_meant = |flaw: &str| named.is_empty() || named.iter().any(|name| name == flaw);
    let mut tasks = each_flaw(&is_meant);
    if is_meant("Shortens") {
        tasks.push(Box::new(shortens));
    }
    run_all(&tasks)
}

fn each_flaw(is_meant: &dyn Fn(&str) -> bool) -> Vec<Task> {
    let flaw = |case: &Case| format!("{:?}", case.flaw.expect("each case here has one"));
    let all = flaws_of_stores().into_iter().chain(flaws_of_the_mesh());
    all.filter(|(_, case)| is_meant(&flaw(case)))
        .map(|(invariant, case)| Box::new(move || is_noticed(invariant, &case)) as Task)
        .collect()
}

fn calm(minutes: u32, story: &str, flaw: Flaw) -> Case {
    let story = story.parse().expect("the stories here are well told");
    Case::new(Kind::Calm, 5, 5, minutes)
        .told(story)
        .flawed(flaw)
}

fn flaws_of_stores() -> Vec<(&'static str, Case)> {
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
    vec![
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
    ]
}

fn flaws_of_the_mesh() -> Vec<(&'static str, Case)> {
    let told = |case: Case, story: &str| {
        let story = story.parse();
        case.told(story.expect("the stories here are well told"))
    };
    let dies = |case| told(case, "60s +90s crash 1");
    let large = |minutes, flaw| Case::new(Kind::Calm, 5, 66, minutes).flawed(flaw);
    // A quarter, cut off for a minute.
    let few: Vec<String> = (1..=16).map(|m| m.to_string()).collect();
    let parted = |case| told(case, &format!("60s +60s cut {}", few.join(",")));
    vec![
        (
            "who lives isn't believed down",
            parted(large(6, Flaw::Slander)),
        ),
        (
            "who is dead is believed down",
            dies(calm(5, "", Flaw::Deathless)),
        ),
        (
            "who is dead is believed down",
            dies(large(5, Flaw::Deathless)),
        ),
        (
            "nobody is accused who does no wrong",
            calm(3, "", Flaw::Grudge),
        ),
        (
            "nobody asks for ever",
            calm(18, "60s +9s crash 1", Flaw::Nags),
        ),
        ("what a node sends stays flat", large(6, Flaw::Chatty)),
        ("what a node sends stays flat", calm(9, "", Flaw::EverMore)),
    ]
}

fn is_noticed(invariant: &str, case: &Case) -> bool {
    let noticed = run(case).err().map(|broken| broken.what);
    if noticed == Some(invariant) {
        say(format!("flaw  {:?} noticed: {invariant}", case.flaw));
        return true;
    }
    say(format!(
        "BROKE {:?} should break \"{invariant}\", but: {noticed:?}",
        case.flaw
    ));
    false
}

/// A long story that breaks by one of its faults is told by that one.
fn shortens() -> bool {
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

fn kept() -> Vec<Case> {
    let lines = KEPT
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let told = lines.filter(|line| !line.is_empty());
    told.map(|line| line.parse().expect("kept cases are as they were written"))
        .collect()
}
