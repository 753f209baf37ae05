//! The rule against what it promises, over generated memberships.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn name(index: usize) -> Origin {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(index as u64).to_le_bytes());
    Origin(id)
}

fn plain(count: usize) -> Vec<Member> {
    (0..count).map(|index| Member::new(name(index))).collect()
}

fn roster(members: &[Member], now: Instant) -> Roster {
    let mut roster = Roster::default();
    roster.handle_members(members, now);
    roster
}

fn all_of(roster: &Roster, now: Instant) -> BTreeMap<Origin, BTreeSet<Origin>> {
    let of = |origin: &Origin| (*origin, roster.keepers_of(origin, now));
    roster.members().map(of).collect()
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let member = (
        proptest::option::of(0..4u8),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.2),
        proptest::bool::weighted(0.1),
    );
    vec(member, 1..60).prop_map(|members| {
        let of = |(index, (site, metered, may_be_off, gone))| Member {
            site: Option::map(site, |site: u8| format!("site-{site}")),
            metered,
            may_be_off,
            gone,
            ..Member::new(name(index))
        };
        members.into_iter().enumerate().map(of).collect()
    })
}

proptest! {
    #[test]
    fn who_heard_of_the_members_in_another_order_and_later_agrees(members in members(), cut in 0..60usize) {
        let now = Instant::now();
        let (known, late) = members.split_at(cut.min(members.len()));
        let mut other = roster(known, now);
        let mut turned: Vec<_> = [late, known].concat();
        turned.reverse();
        other.handle_members(&turned, now + minutes(3));
        prop_assert_eq!(all_of(&roster(&members, now), now), all_of(&other, now + minutes(3)));
    }

    #[test]
    fn the_short_way_to_ask_says_the_same(members in members(), away in 0..60usize) {
        let start = Instant::now();
        let mut roster = roster(&members, start);
        let mut members = members;
        let count = members.len();
        members[away % count].absent = true;
        roster.handle_members(&members, start);
        for now in [start, start + minutes(22), start + minutes(40)] {
            for (origin, keepers) in all_of(&roster, now) {
                for member in members.iter().filter(|member| member.origin != origin) {
                    prop_assert_eq!(roster.keeps(&origin, &member.origin, now), keepers.contains(&member.origin));
                }
            }
        }
    }

    #[test]
    fn in_a_larger_mesh_copies_stand_where_they_count(members in members()) {
        let now = Instant::now();
        let roster = roster(&members, now);
        let keeping = members.iter().filter(|member| !member.gone).count();
        for member in &members {
            let keepers = roster.keepers_of(&member.origin, now);
            prop_assert!(!keepers.contains(&member.origin));
            let of = |wanted: &dyn Fn(&Member) -> bool| {
                let others = members.iter().filter(|other| other.origin != member.origin && !other.gone);
                others.filter(|other| wanted(other)).count()
            };
            if keeping <= EVERYBODY {
                prop_assert_eq!(keepers.len(), of(&|_| true));
                continue;
            }
            let able = |other: &Member| !other.may_be_off;
            prop_assert_eq!(keepers.len(), KEEPERS.min(of(&able)));
            let kept = |other: &Member| keepers.contains(&other.origin);
            prop_assert_eq!(of(&|other| kept(other) && other.may_be_off), 0);
            let elsewhere = |other: &Member| {
                able(other) && other.site.is_some() && member.site.is_some() && other.site != member.site
            };
            if of(&elsewhere) > 0 {
                prop_assert!(of(&|other| kept(other) && elsewhere(other)) > 0);
            }
        }
    }
}

#[test]
fn up_to_sixteen_members_everybody_keeps_everything() {
    let now = Instant::now();
    let mut members = plain(16);
    members[3].may_be_off = true;
    members[4].metered = true;
    members[5].absent = true;
    let roster = roster(&members, now);
    for origin in &members {
        assert_eq!(
            roster.keepers_of(&origin.origin, now + minutes(60)).len(),
            15
        );
        for member in &members {
            assert!(roster.keeps(&origin.origin, &member.origin, now + minutes(60)));
        }
    }
}

#[test]
fn a_new_member_moves_at_most_one_keeper_of_an_origin_and_loads_are_even() {
    let now = Instant::now();
    let (before, after) = (
        all_of(&roster(&plain(200), now), now),
        all_of(&roster(&plain(201), now), now),
    );
    let mut moved = 0;
    for (origin, keepers) in &before {
        let lost = keepers.difference(&after[origin]).count();
        assert!(lost <= 1);
        moved += lost;
    }
    assert!(moved <= 12, "{moved} of 600 places moved for one member");
    let mut loads: BTreeMap<Origin, usize> = BTreeMap::new();
    after
        .values()
        .flatten()
        .for_each(|keeper| *loads.entry(*keeper).or_default() += 1);
    assert!(
        loads.len() > 180 && loads.values().all(|load| *load <= 12),
        "{:?}",
        loads.values().max()
    );
}

#[test]
fn a_silent_keeper_keeps_its_place_for_fifteen_minutes_and_has_lost_it_after_thirty() {
    let start = Instant::now();
    let mut members = plain(40);
    let mut roster = roster(&members, start);
    let whole = all_of(&roster, start);
    members[7].absent = true;
    let places: Vec<_> = whole
        .iter()
        .filter(|(_, keepers)| keepers.contains(&name(7)))
        .map(|(origin, _)| *origin)
        .collect();
    assert!(!places.is_empty());

    assert!(
        !roster.handle_members(&members, start),
        "a silence moves nothing"
    );
    assert_eq!(all_of(&roster, start + minutes(14)), whole);
    let moved = all_of(&roster, start + minutes(30));
    for origin in whole.keys() {
        assert!(!moved[origin].contains(&name(7)));
        assert_eq!(moved[origin].len(), KEEPERS);
        let stayed = whole[origin].intersection(&moved[origin]).count();
        assert_eq!(
            stayed,
            KEEPERS - usize::from(places.contains(origin)),
            "others don't move"
        );
    }

    members[7].absent = false;
    assert!(roster.handle_members(&members, start + minutes(45)));
    assert_eq!(
        all_of(&roster, start + minutes(45)),
        whole,
        "and it takes its places back"
    );
}

#[test]
fn places_of_a_dead_machine_move_one_by_one() {
    let start = Instant::now();
    let mut members = plain(200);
    // All that others keep stands at few machines that may not be off, so each has many places.
    members
        .iter_mut()
        .skip(5)
        .for_each(|member| member.may_be_off = true);
    members[0].absent = true;
    let roster = roster(&members, start);
    let held = |now| {
        let of = all_of(&roster, now);
        of.values()
            .filter(|keepers| keepers.contains(&name(0)))
            .count()
    };
    let places = held(start);
    assert!(places > 80, "{places}");
    assert_eq!(held(start + minutes(15)), places);
    let most = (16..=30)
        .map(|minute| held(start + minutes(minute - 1)) - held(start + minutes(minute)))
        .max();
    assert!(
        most.unwrap() <= places / 5,
        "at most {most:?} of {places} in a minute"
    );
    assert_eq!(held(start + minutes(30)), 0);
}

#[test]
fn looks_are_due_only_while_an_absence_may_move_something() {
    let start = Instant::now();
    let mut members = plain(20);
    let mut roster = roster(&members, start);
    assert_eq!(roster.next_move(start), None);
    members[1].absent = true;
    roster.handle_members(&members, start);
    assert_eq!(
        roster.next_move(start + minutes(1)),
        Some(start + LEAST_ABSENCE)
    );
    assert_eq!(
        roster.next_move(start + minutes(20)),
        Some(start + minutes(20) + Duration::from_secs(15))
    );
    assert_eq!(roster.next_move(start + minutes(31)), None);
}

#[test]
fn a_stranger_keeps_nothing() {
    let now = Instant::now();
    for count in [3, 40] {
        let roster = roster(&plain(count), now);
        assert!(!roster.keeps(&name(1), &name(99), now));
    }
}

#[test]
fn a_successor_keeps_what_a_replaced_member_kept_of_its_own() {
    let now = Instant::now();
    let mut members = plain(40);
    let replace = |members: &mut Vec<Member>, old: usize, by: usize| {
        (members[old].gone, members[old].successor) = (true, Some(name(by)));
    };
    replace(&mut members, 1, 2);
    let roster_of = |members: &[Member]| roster(members, now);
    let first = roster_of(&members);
    assert!(first.keeps(&name(1), &name(2), now));
    assert!(first.keepers_of(&name(1), now).contains(&name(2)));
    assert!(!first.keeps(&name(1), &name(1), now), "it is retired");
    replace(&mut members, 2, 3);
    let second = roster_of(&members);
    assert!(second.keeps(&name(1), &name(3), now) && second.keeps(&name(2), &name(3), now));
    assert!(!second.keepers_of(&name(1), now).contains(&name(2)));
    // A circle can't come of honest statements, and holds nobody up.
    members[3].successor = Some(name(1));
    members[3].gone = true;
    assert_eq!(roster_of(&members).keepers_of(&name(1), now).len(), KEEPERS);
}
