//! Scenarios, each told by all who would tell of it, and what must hold of any of them however little of it has come.

use proptest::prelude::*;

use super::*;
use crate::outage::testimony::{Began, FAR_MS, Last, Life, Lost, Reason, Sight, State, Stepped};

/// What a list is compared by.
type Row = (u8, i64, Option<i64>, &'static str, bool);

const BOOT: u8 = 100;

fn node(number: u8) -> NodeId {
    NodeId([number; 32])
}

const fn ident(number: u8) -> Ident {
    [number; 16]
}

/// Events as they are told, seconds for times.
#[derive(Default, Clone)]
struct Story {
    tellings: Vec<Telling>,
    places: Places,
}

impl Story {
    /// Nodes 1 to `count`, each with a first run of its own number.
    fn of(count: u8) -> Self {
        let mut story = Self::default();
        for number in 1..=count {
            story.places.insert(node(number), Place::default());
            story.began(number, 0, (number, BOOT + number), None);
        }
        story
    }

    fn say(&mut self, author: u8, at: i64, word: Word) -> &mut Self {
        let said = self
            .tellings
            .iter()
            .filter(|one| one.author == node(author));
        let seq = said.map(|one| one.seq).max().unwrap_or(0) + 1;
        self.tellings.push(Telling {
            author: node(author),
            seq,
            at_ms: at * 1_000,
            certain: true,
            word: Some(word),
        });
        self
    }

    fn began(
        &mut self,
        who: u8,
        at: i64,
        (run, boot): (u8, u8),
        before: Option<Last>,
    ) -> &mut Self {
        let began = Began {
            run: ident(run),
            boot: ident(boot),
            version: "2".to_owned(),
            boot_ms: 20_000,
            kills: Kills::default(),
            before,
        };
        self.say(who, at, Word::Life(Life::Began(Box::new(began))))
    }

    fn ends(&mut self, who: u8, at: i64) -> &mut Self {
        let reason = Reason::Told;
        self.say(
            who,
            at,
            Word::Life(Life::Ends {
                run: ident(who),
                reason,
            }),
        )
    }

    /// Each of these loses `who`, heard last then; they hear `sees` others.
    fn lost(&mut self, by: &[u8], who: u8, heard: i64, sees: u16) -> &mut Self {
        self.lost_with(by, heard, |lost| {
            lost.node = node(who);
            lost.run = Some(ident(who));
            lost.sees = sees;
        })
    }

    fn lost_with(&mut self, by: &[u8], heard: i64, with: impl Fn(&mut Lost)) -> &mut Self {
        for observer in by {
            let mut lost = Lost {
                node: node(0),
                by_run: ident(*observer),
                last_heard_ms: heard * 1_000,
                sees: 2,
                goodbye: false,
                run: None,
                ahead_ms: Some(0),
            };
            with(&mut lost);
            self.say(*observer, heard + 13, Word::Sight(Sight::Lost(lost)));
        }
        self
    }

    fn found(&mut self, by: &[u8], who: u8, at: i64) -> &mut Self {
        for observer in by {
            let run = ident(*observer);
            self.say(
                *observer,
                at,
                Word::Sight(Sight::Found {
                    node: node(who),
                    run,
                }),
            );
        }
        self
    }

    fn alone(&mut self, who: u8, since: i64, back: i64) -> &mut Self {
        let run = ident(who);
        let alone = Sight::Alone {
            run,
            since_ms: since * 1_000,
            sees: Vec::new(),
            count: 1,
            of: 3,
        };
        self.say(who, since + 13, Word::Sight(alone));
        self.say(who, back, Word::Sight(Sight::Together { run }))
    }

    fn at_site(&mut self, site: &str, who: &[u8]) -> &mut Self {
        for number in who {
            self.places.entry(node(*number)).or_default().site = Some(site.to_owned());
        }
        self
    }

    fn list(&self) -> Vec<Outage> {
        outages(&self.tellings, &self.places)
    }

    fn rows(&self) -> Vec<Row> {
        let row = |one: &Outage| {
            let end = one.end_ms.map(|end| end / 1_000);
            (
                one.node.0[0],
                one.start_ms / 1_000,
                end,
                one.verdict.as_str(),
                one.provisional,
            )
        };
        self.list().iter().map(row).collect()
    }
}

/// The last record of node `who`'s first run.
fn last(who: u8, at: i64, state: State) -> Last {
    Last {
        run: ident(who),
        boot: ident(BOOT + who),
        version: "2".to_owned(),
        state,
        wall_ms: at * 1_000,
        boot_ms: 0,
        mono_ms: 0,
        power: Power::default(),
        kills: Kills::default(),
        stood: 0,
    }
}

const TOLD: State = State::Exited(Reason::Told);

/// Three nodes, of which the second is silent from second 1,000 (its record 997) to 1,060; `before` is what it left.
fn second_dies(boot: u8, before: Last, goodbye: bool) -> Story {
    let mut story = Story::of(3);
    if goodbye {
        story.ends(2, 1_000);
    }
    story
        .lost_with(&[1, 3], 1_000, |lost| {
            lost.node = node(2);
            lost.run = Some(ident(2));
            lost.goodbye = goodbye;
        })
        .began(2, 1_060, (9, boot), Some(before))
        .found(&[1, 3], 2, 1_062);
    story
}

fn second_cut_off() -> Story {
    let mut story = Story::of(3);
    story
        .lost(&[1, 3], 2, 1_000, 2)
        .alone(2, 1_001, 1_301)
        .found(&[1, 3], 2, 1_300);
    story
}

/// Of five nodes the last two stand in the attic and go; `back` brings them again.
fn attic(back: impl Fn(&mut Story, u8)) -> Story {
    let mut story = Story::of(5);
    story.at_site("attic", &[4, 5]);
    for number in [4, 5] {
        story.lost(&[1, 2, 3], number, 1_000 + i64::from(number), 3);
        back(&mut story, number);
        story.found(&[1, 2, 3], number, 1_305);
    }
    story
}

/// Every scenario by name, and the list it makes.
fn scenarios() -> Vec<(&'static str, Story, Vec<Row>)> {
    let running = |at| last(2, at, State::Running);
    let mut all = vec![
        ("nothing", Story::of(3), vec![]),
        (
            "power",
            second_dies(50, running(997), false),
            vec![(2, 1_000, Some(1_060), "power-loss", false)],
        ),
        (
            "crash",
            second_dies(BOOT + 2, running(997), false),
            vec![(2, 1_000, Some(1_060), "agent-crashed", false)],
        ),
        (
            "stop",
            second_dies(BOOT + 2, last(2, 1_000, TOLD), true),
            vec![(2, 1_000, Some(1_060), "agent-stopped", false)],
        ),
        (
            "shutdown",
            second_dies(50, last(2, 1_000, State::Exiting(Reason::Told)), true),
            vec![(2, 1_000, Some(1_060), "shutdown", false)],
        ),
        (
            "cut",
            second_cut_off(),
            vec![(2, 1_000, Some(1_300), "partition", false)],
        ),
        (
            "site link",
            attic(|story, number| {
                story.alone(number, 1_002, 1_304);
            }),
            vec![
                (4, 1_004, Some(1_305), "site-link", false),
                (5, 1_005, Some(1_305), "site-link", false),
            ],
        ),
        (
            "site power",
            attic(|story, number| {
                let before = last(number, 1_000, State::Running);
                story.began(number, 1_303, (number + 10, 60 + number), Some(before));
            }),
            vec![
                (4, 1_004, Some(1_303), "site-power", false),
                (5, 1_005, Some(1_303), "site-power", false),
            ],
        ),
    ];
    all.extend(more_scenarios());
    all.extend(scenarios_of_links_and_clocks());
    all
}

fn more_scenarios() -> Vec<(&'static str, Story, Vec<Row>)> {
    let mut upgraded = last(2, 1_000, TOLD);
    upgraded.version = "1".to_owned();
    let mut sleeps = second_cut_off();
    sleeps
        .tellings
        .retain(|one| one.author != node(2) || one.seq == 1);
    let slept = |machine| Life::Slept {
        run: ident(2),
        from_ms: 1_000_000,
        for_ms: 299_000,
        machine,
    };
    sleeps.say(2, 1_299, Word::Life(slept(true)));
    let mut cut_then_dead = Story::of(3);
    let before = last(2, 1_500, State::Running);
    cut_then_dead
        .lost(&[1, 3], 2, 1_000, 2)
        .began(2, 1_900, (9, 50), Some(before))
        .found(&[1, 3], 2, 1_902);
    let mut unseen = Story::of(3);
    let before = last(2, 1_000, State::Running);
    unseen.began(2, 1_004, (9, BOOT + 2), Some(before));
    vec![
        (
            "upgrade",
            second_dies(BOOT + 2, upgraded, true),
            vec![(2, 1_000, Some(1_060), "upgraded", false)],
        ),
        (
            "sleep",
            sleeps,
            vec![(2, 1_000, Some(1_299), "suspend", false)],
        ),
        (
            "power lost while cut off",
            cut_then_dead,
            vec![
                (2, 1_000, Some(1_500), "partition", false),
                (2, 1_500, Some(1_900), "power-loss", false),
            ],
        ),
        (
            "a crash nobody saw",
            unseen,
            vec![(2, 1_000, Some(1_004), "agent-crashed", false)],
        ),
    ]
}

fn scenarios_of_links_and_clocks() -> Vec<(&'static str, Story, Vec<Row>)> {
    let mut one_link = Story::of(3);
    one_link.lost(&[1], 2, 1_000, 2);
    let mut pair = Story::of(2);
    pair.lost(&[1], 2, 1_000, 1).lost(&[2], 1, 1_001, 1);
    pair.found(&[1], 2, 1_300).found(&[2], 1, 1_300);
    let mut stepped = Story::of(1);
    let step = Stepped {
        run: ident(1),
        by_ms: -3_600_000,
    };
    stepped.say(1, 500, Word::Clock(step));
    vec![
        ("one link of three", one_link, vec![]),
        (
            "two apart",
            pair,
            vec![
                (2, 1_000, Some(1_300), "partition", false),
                (1, 1_001, Some(1_300), "partition", false),
            ],
        ),
        (
            "clock",
            stepped,
            vec![(1, 500, Some(500), "clock-step", false)],
        ),
    ]
}

#[test]
fn each_scenario_gets_its_verdict_and_its_times() {
    for (name, story, rows) in scenarios() {
        assert_eq!(story.rows(), rows, "{name}");
    }
}

#[test]
fn while_it_lasts_the_verdict_is_what_observers_know() {
    let mut story = Story::of(3);
    story.lost(&[1], 2, 1_000, 2);
    assert_eq!(story.rows(), [], "one of two observers");
    story.lost(&[3], 2, 1_001, 2);
    assert_eq!(story.rows(), [(2, 1_001, None, "unknown", true)]);

    let off = Power {
        mains: Some(false),
        battery: Some(80),
        mains_off_ms: Some(990_000),
    };
    story.say(2, 990, Word::Power(off));
    assert_eq!(story.rows(), [(2, 1_001, None, "power-loss", true)]);
    assert_eq!(story.list()[0].evidence.power, Some(off));

    let mut goodbye = Story::of(3);
    goodbye.ends(2, 1_000);
    assert_eq!(goodbye.rows(), [(2, 1_000, None, "agent-stopped", true)]);
    let mut overheard = Story::of(3);
    overheard.lost_with(&[3], 1_000, |lost| {
        lost.node = node(2);
        lost.goodbye = true;
    });
    assert_eq!(overheard.rows(), [(2, 1_000, None, "agent-stopped", true)]);
}

#[test]
fn a_node_that_is_back_without_its_word_stays_provisional() {
    let mut story = Story::of(3);
    story.lost(&[1, 3], 2, 1_000, 2).found(&[1, 3], 2, 1_300);
    assert_eq!(story.rows(), [(2, 1_000, Some(1_300), "unknown", true)]);
}

#[test]
fn a_word_that_is_missing_between_two_keeps_a_silence_from_being_a_partition() {
    let mut story = second_cut_off();
    story
        .tellings
        .retain(|one| one.author != node(2) || one.seq != 2);
    assert_eq!(story.rows(), [(2, 1_000, Some(1_300), "unknown", true)]);
}

#[test]
fn a_clock_that_is_wrong_by_days_is_not_gone_by() {
    let ahead = 30 * 86_400;
    let mut story = Story::of(3);
    story.tellings.retain(|one| one.author != node(2));
    story
        .began(2, ahead, (2, BOOT + 2), None)
        .lost_with(&[1, 3], 1_000, |lost| {
            lost.node = node(2);
            lost.ahead_ms = Some(ahead * 1_000 + 7);
        })
        .began(
            2,
            ahead + 1_060,
            (9, 50),
            Some(last(2, ahead + 997, State::Running)),
        )
        .found(&[1, 3], 2, 1_062);
    assert_eq!(story.rows(), [(2, 1_000, Some(1_059), "power-loss", false)]);
    assert_eq!(
        story.list()[0].evidence.clock_ahead_ms,
        Some(ahead * 1_000 + 7)
    );
}

#[test]
fn a_machine_that_boots_in_the_past_was_away_until_it_was_seen() {
    let mut story = second_dies(50, last(2, 997, State::Running), false);
    let began = story
        .tellings
        .iter_mut()
        .rev()
        .find(|one| one.author == node(2))
        .unwrap();
    (began.at_ms, began.certain) = (5_000, false);
    assert_eq!(story.rows(), [(2, 1_000, Some(1_062), "power-loss", false)]);
}

#[test]
fn a_kill_for_want_of_memory_is_evidence_where_the_count_rose() {
    let kills = |own| Kills {
        own: Some(own),
        machine: None,
    };
    for (before, after, told) in [(3, 4, true), (3, 3, false)] {
        let mut left = last(2, 997, State::Running);
        left.kills = kills(before);
        let mut story = second_dies(BOOT + 2, left, false);
        for telling in &mut story.tellings {
            if let Some(Word::Life(Life::Began(began))) = &mut telling.word {
                began.kills = kills(after);
            }
        }
        let evidence = story.list()[0].evidence.kills;
        assert_eq!(evidence, told.then_some((kills(before), kills(after))));
    }
}

#[test]
fn who_leaves_the_mesh_is_not_out_for_ever() {
    let mut story = Story::of(3);
    story.lost(&[1, 3], 2, 1_000, 2);
    story.places.get_mut(&node(2)).unwrap().gone_ms = Some(5_000_000);
    assert_eq!(story.rows(), [(2, 1_000, Some(5_000), "unknown", true)]);
    story.places.get_mut(&node(2)).unwrap().gone_ms = Some(1_001_000);
    assert_eq!(story.rows(), []);
}

#[test]
fn a_run_that_finds_no_record_of_the_one_before_says_what_its_events_tell() {
    let mut story = Story::of(1);
    story.began(1, 2_000, (9, BOOT + 1), None);
    assert_eq!(story.rows(), [(1, 0, Some(2_000), "unknown", false)]);
    let mut story = Story::of(1);
    story.ends(1, 1_000).began(1, 2_000, (9, BOOT + 1), None);
    assert_eq!(
        story.rows(),
        [(1, 1_000, Some(2_000), "agent-stopped", false)]
    );
}

#[test]
fn a_node_that_said_nothing_before_a_short_silence_proves_nothing_by_what_it_says_after() {
    let mut story = Story::of(3);
    story.tellings.retain(|one| one.author != node(2));
    story
        .lost(&[1, 3], 2, 1_000, 2)
        .found(&[1, 3], 2, 1_014)
        .alone(2, 1_001, 1_015);
    assert_eq!(story.rows(), [(2, 1_000, Some(1_014), "unknown", true)]);
}

#[test]
fn half_a_site_is_no_site() {
    let mut story = attic(|story, number| {
        story.alone(number, 1_002, 1_304);
    });
    story.at_site("attic", &[3]);
    let verdicts: Vec<&str> = story.rows().iter().map(|row| row.3).collect();
    assert_eq!(verdicts, ["partition"; 2]);
}

fn is_better(before: &Outage, after: &Outage) -> bool {
    let same_time = after.start_ms <= before.end_ms.unwrap_or(i64::MAX)
        && before.start_ms <= after.end_ms.unwrap_or(i64::MAX);
    let of_site = matches!(
        (before.verdict, after.verdict),
        (Verdict::PowerLoss, Verdict::SitePower) | (Verdict::Partition, Verdict::SiteLink)
    );
    before.node == after.node
        && same_time
        && !after.provisional
        && (before.verdict == after.verdict || of_site)
}

proptest! {
    #[test]
    fn any_order_of_events_gives_the_same_list(at in 0usize..15, order in any::<[u8; 32]>()) {
        let all = scenarios();
        let (_, story, _) = &all[at % all.len()];
        let mut other = story.clone();
        other.tellings.sort_by_key(|one| *blake3::hash(
            &[&order[..], &one.author.0, &one.seq.to_be_bytes()].concat()).as_bytes());
        prop_assert_eq!(other.list(), story.list());
    }

    #[test]
    fn what_was_final_with_fewer_events_is_final_and_the_same_with_more(
        at in 0usize..15, kept in any::<[bool; 64]>(),
    ) {
        let all = scenarios();
        let (name, story, _) = &all[at % all.len()];
        let mut fewer = story.clone();
        let mut keep = kept.iter().cycle();
        fewer.tellings.retain(|_| *keep.next().unwrap());
        let whole = story.list();
        for outage in fewer.list() {
            // That nothing is known isn't a verdict to hold on to.
            if outage.provisional || outage.verdict == Verdict::Unknown {
                continue;
            }
            prop_assert!(
                whole.iter().any(|after| is_better(&outage, after)),
                "{name}: {outage:?} is not in {whole:?}"
            );
        }
    }

    #[test]
    fn times_as_far_off_as_can_be_said_make_a_list(
        times in prop::collection::vec((1u8..5, prop::sample::select(vec![i64::MIN, -1, 0, i64::MAX]), any::<bool>()), 1..30),
    ) {
        let mut story = Story::of(4);
        for (author, far, is_life) in times {
            let mut left = last(author, 0, State::Running);
            left.wall_ms = far;
            let lost = Sight::Lost(Lost {
                node: node(5 - author),
                by_run: ident(author),
                last_heard_ms: far,
                sees: 1,
                goodbye: false,
                run: None,
                ahead_ms: Some(far.wrapping_neg()),
            });
            let word = if is_life {
                let (run, boot) = (author + 50, 9);
                Word::Life(Life::Began(Box::new(Began {
                    run: ident(run),
                    boot: ident(boot),
                    version: String::new(),
                    boot_ms: u64::MAX,
                    kills: Kills::default(),
                    before: Some(left),
                })))
            } else {
                Word::Sight(lost)
            };
            let (kind, body) = word.written();
            story.say(author, 1_000, Word::read(kind, &body).unwrap());
            let latest = story.tellings.last_mut().unwrap();
            latest.at_ms = far.clamp(-FAR_MS, FAR_MS);
        }
        for outage in story.list() {
            prop_assert!(outage.end_ms.is_none_or(|end| end >= outage.start_ms), "{outage:?}");
            let named = |id: NodeId| id.short();
            prop_assert!(!crate::outage::words::sentence(&outage, &named).is_empty());
        }
    }

    #[test]
    fn any_events_at_all_make_a_list(
        words in prop::collection::vec((1u8..5, 0i64..2_000, prop::collection::vec(any::<u8>(), 0..90), prop::sample::select(vec![1u8, 2, 7, 8])), 0..40),
    ) {
        let mut story = Story::of(4);
        for (author, at, body, kind) in words {
            if let Some(word) = Word::read(kind, &body) {
                story.say(author, at, word);
            }
        }
        for outage in story.list() {
            prop_assert!(outage.end_ms.is_none_or(|end| end >= outage.start_ms), "{outage:?}");
        }
    }
}
