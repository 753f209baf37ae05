//! What a fuzzer may throw at what others tell of outages, and at a life record that a disk garbled; and one seed of each form.

use outlast_mesh::NodeId;

use super::life::{Record, newest, read, slot};
use super::testimony::{
    Began, Kills, Last, Life, Lost, Power, Reason, Sight, State, Stepped, Word,
};

/// Whatever bytes a member signs: a kind, then a body.
pub(crate) fn telling(bytes: &[u8]) -> bool {
    let Some((kind, body)) = bytes.split_first() else {
        return false;
    };
    let word = Word::read(*kind, body);
    if let Some(word) = &word {
        let (kind, body) = word.written();
        assert_eq!(Word::read(kind, &body).as_ref(), Some(word));
    }
    word.is_some()
}

/// Whatever bytes the file holds.
pub(crate) fn life(bytes: &[u8]) -> bool {
    let record = newest(bytes);
    if let Some(record) = &record {
        assert_eq!(read(&slot(record)).as_ref(), Some(record));
    }
    record.is_some()
}

/// One of each that is told.
pub(crate) fn telling_seeds() -> Vec<Vec<u8>> {
    let (run, node) = ([7; 16], NodeId([9; 32]));
    let began = |before| {
        Life::Began(Box::new(Began {
            run,
            boot: [8; 16],
            version: "0.1.0".to_owned(),
            boot_ms: 61_000,
            kills: Kills {
                own: None,
                machine: Some(3),
            },
            before,
        }))
    };
    let words = [
        Word::Life(began(None)),
        Word::Life(began(Some(last(State::Running)))),
        Word::Life(began(Some(last(State::Exiting(Reason::Told))))),
        Word::Life(Life::Ends {
            run,
            reason: Reason::Departs,
        }),
        Word::Life(Life::Ends {
            run,
            reason: Reason::failed("no way on"),
        }),
        Word::Life(Life::Slept {
            run,
            from_ms: -5,
            for_ms: 22_000,
            machine: true,
        }),
        Word::Sight(Sight::Lost(Lost {
            node,
            by_run: run,
            last_heard_ms: 1_800_000_000_000,
            sees: 3,
            goodbye: false,
            run: Some([6; 16]),
            ahead_ms: Some(-40),
        })),
        Word::Sight(Sight::Found { node, run }),
        Word::Sight(Sight::Alone {
            run,
            since_ms: 1,
            sees: vec![node],
            count: 2,
            of: 5,
        }),
        Word::Sight(Sight::Together { run }),
        Word::Power(Power {
            mains: Some(false),
            battery: Some(83),
            mains_off_ms: Some(2),
        }),
        Word::Clock(Stepped {
            run,
            by_ms: -3_600_000,
        }),
    ];
    let bytes = words.iter().map(Word::written);
    bytes
        .map(|(kind, body)| [&[kind], &body[..]].concat())
        .collect()
}

/// A file of two records.
pub(crate) fn life_seeds() -> Vec<Vec<u8>> {
    let states = [State::Running, State::Exited(Reason::Told)];
    let slots = states.into_iter().zip(4..).map(|(state, seq)| {
        slot(&Record {
            seq,
            last: last(state),
        })
    });
    vec![slots.flatten().collect()]
}

fn last(state: State) -> Last {
    Last {
        run: [1; 16],
        boot: [2; 16],
        version: "0.1.0".to_owned(),
        state,
        wall_ms: 1_800_000_000_000,
        boot_ms: 3_600_000,
        mono_ms: 3_500_000,
        power: Power {
            mains: Some(true),
            battery: Some(100),
            mains_off_ms: None,
        },
        kills: Kills {
            own: Some(0),
            machine: Some(3),
        },
        stood: 1,
    }
}
