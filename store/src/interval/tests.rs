//! Interval sets beside a bitmap that does the same slowly.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// Numbers 0 to 255 and the last 256 that there are, a bit each.
#[derive(Clone, Debug, PartialEq)]
struct Bitmap(Vec<bool>);

#[test]
fn touching_runs_become_one_range() {
    let mut set = IntervalSet::new();
    for range in [1..=3, 7..=9, 4..=6] {
        set.insert(range);
    }
    assert_eq!(set.ranges().collect::<Vec<_>>(), [1..=9]);
    assert_eq!((set.len(), set.first(), set.last()), (9, Some(1), Some(9)));
    set.remove(5..=5);
    assert_eq!(set.ranges().collect::<Vec<_>>(), [1..=4, 6..=9]);
    assert!(set.covers(6..=9) && !set.covers(4..=6));
}

#[test]
fn the_whole_range_of_numbers_can_be_held() {
    let mut set: IntervalSet = [0..=Seq::MAX].into_iter().collect();
    assert_eq!(set.len(), 1 << 32);
    let bytes = postcard::to_stdvec(&set).unwrap();
    assert_eq!(postcard::from_bytes::<IntervalSet>(&bytes).unwrap(), set);
    set.remove(Seq::MAX..=Seq::MAX);
    set.remove(0..=0);
    assert_eq!(set.ranges().collect::<Vec<_>>(), [1..=Seq::MAX - 1]);
}

#[test]
fn a_set_has_the_documented_bytes() {
    let set: IntervalSet = [1..=60, 62..=62, 300..=1_000].into_iter().collect();
    let bytes = postcard::to_stdvec(&set).unwrap();
    assert_eq!(bytes, [6, 1, 59, 2, 0, 0xee, 1, 0xbc, 5]);
    assert_eq!(postcard::to_stdvec(&IntervalSet::new()).unwrap(), [0]);
}

#[test]
fn what_is_no_set_is_refused() {
    for bytes in [
        &[1u8, 1][..],                         // a gap without a length
        &[4, 1, 0, 1, 0],                      // ranges that touch
        &[4, 1, 5, 0, 1],                      // ranges that overlap
        &[2, 255, 255, 255, 255, 15, 1],       // beyond the last number
        &[4, 255, 255, 255, 255, 15, 0, 2, 0], // beyond the last number
        &[255, 255, 255, 255, 15, 1, 1],       // fewer than claimed
    ] {
        assert!(
            postcard::from_bytes::<IntervalSet>(bytes).is_err(),
            "{bytes:?}"
        );
    }
    let many: Vec<u32> = (0..=MAX_RANGES as u32).flat_map(|_| [2, 0]).collect();
    let bytes = postcard::to_stdvec(&many).unwrap();
    assert!(postcard::from_bytes::<IntervalSet>(&bytes).is_err());
    let bytes = postcard::to_stdvec(&many[2..]).unwrap();
    assert!(postcard::from_bytes::<IntervalSet>(&bytes).is_ok());
}

proptest! {
    #[test]
    fn sets_behave_as_bitmaps(left in operations(), right in operations()) {
        let ((a, map_a), (b, map_b)) = (run(&left), run(&right));
        prop_assert_eq!(&Bitmap::of(&a), &map_a);
        let of = |f: &dyn Fn(bool, bool) -> bool| Bitmap(map_a.0.iter().zip(&map_b.0).map(|(&a, &b)| f(a, b)).collect());
        let table: [(_, &dyn Fn(bool, bool) -> bool); 3] = [
            (a.union(&b), &|a, b| a || b),
            (a.subtract(&b), &|a, b| a && !b),
            (a.intersect(&b), &|a, b| a && b),
        ];
        for (set, expected) in table {
            prop_assert_eq!(&Bitmap::of(&set), &of(expected));
            prop_assert!(set.ranges.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", set);
            prop_assert!(set.ranges.iter().all(|&(first, last)| first <= last), "{:?}", set);
            prop_assert_eq!(set.len(), Bitmap::of(&set).0.iter().filter(|&&bit| bit).count() as u64);
            prop_assert_eq!(set.is_empty(), set.first().is_none());
            let bytes = postcard::to_stdvec(&set).unwrap();
            prop_assert_eq!(postcard::from_bytes::<IntervalSet>(&bytes).unwrap(), set.clone());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..100)) {
        if let Ok(set) = postcard::from_bytes::<IntervalSet>(&bytes) {
            let again: IntervalSet = set.ranges().collect();
            prop_assert_eq!(again, set);
        }
    }
}

type Operation = (bool, u32, u32);

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    vec((prop::bool::weighted(0.7), number(), 0u32..40), 0..20)
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..256, (u32::MAX - 255)..=u32::MAX]
}

fn run(operations: &[Operation]) -> (IntervalSet, Bitmap) {
    let (mut set, mut map) = (IntervalSet::new(), Bitmap(vec![false; 512]));
    for &(insert, first, more) in operations {
        let end = if first < 256 { 255 } else { u32::MAX };
        let last = first.saturating_add(more).min(end);
        if insert {
            set.insert(first..=last)
        } else {
            set.remove(first..=last)
        }
        for number in first..=last {
            map.0[Bitmap::place(number)] = insert;
        }
        assert_eq!(set.covers(first..=last), insert);
        assert_eq!(set.contains(first), insert);
    }
    // Empty ranges change nothing.
    let before = set.clone();
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "an empty range is what is tested"
    )]
    {
        set.insert(9..=3);
        set.remove(9..=3);
    }
    assert_eq!(set, before);
    (set, map)
}

impl Bitmap {
    fn place(number: u32) -> usize {
        if number < 256 {
            number as usize
        } else {
            256 + (number - (u32::MAX - 255)) as usize
        }
    }

    fn of(set: &IntervalSet) -> Self {
        let numbers = (0..256).chain(u32::MAX - 255..=u32::MAX);
        Self(numbers.map(|number| set.contains(number)).collect())
    }
}
