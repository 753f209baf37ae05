//! Points of another node's history as a holder tells them, on their way and put together.
//!
//! A question is about one origin, one pattern, at most `MOST_STEPS` steps of time; its answer pages of points and, last,
//! what they cover. Points are the holder's word: rows carry signatures, points don't.
//! Out of several answers about one range comes one: what one holder lacks, another may have.
//! Bounds: `PAGE` points a page; names as long as a series may have them, by `Series::new`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use outlast_store::{Kind, Origin, Pattern, Query, Series, SeriesPoints, Step, TierSpan};
use serde::{Deserialize, Serialize};

/// Steps of time in one question: an hour of raw samples.
pub(super) const MOST_STEPS: u64 = 3_600;
/// Bytes of one answer: half a million points.
pub(super) const MOST_POINT_BYTES: usize = 6 * 1024 * 1024;
/// Runs without a gap, and stretches of a tier, that one answer tells of.
const MOST_RUNS: usize = MOST_STEPS as usize;
/// Points in one page: 45 kB.
const PAGE: usize = 4_096;
/// The longest pattern.
const MAX_PATTERN: usize = 1_024;
/// Two points further apart than this many steps have a gap between them.
const MAX_GAP_STEPS: (u64, u64) = (3, 2);

/// What is asked of a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointsAsked {
    /// Whose history.
    pub origin: Origin,
    /// As in `Query`.
    pub series: String,
    /// First wall time, milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// Last wall time, included.
    pub to_ms: i64,
    /// Seconds from point to point: 1, 10, 60 or 3,600.
    pub step_s: u16,
}

/// Some points of one series; a series with more has more pages, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Page {
    name: String,
    labels: Vec<(String, String)>,
    unit: String,
    counter: bool,
    exponent: i8,
    step_ms: u64,
    /// Time since the point before, the first since 1970.
    times: Vec<i64>,
    values: Vec<Option<f64>>,
}

/// The end of an answer: in which times the holder has points of any of the series, and out of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Covered {
    /// First and last point of each run without a gap, in order.
    pub(super) runs: Vec<(i64, i64)>,
    /// Seconds of a tier, and the first and last point out of it.
    pub(super) tiers: Vec<(u16, i64, i64)>,
}

impl PointsAsked {
    /// The same question to the store; `None` where it is none an honest peer asks.
    pub(super) fn query(&self) -> Option<Query> {
        let step = step_of(self.step_s)?;
        let span = self.to_ms.checked_sub(self.from_ms)?;
        let span = u64::try_from(span).ok()?;
        let modest = span / step.ms() <= MOST_STEPS && self.series.len() <= MAX_PATTERN;
        modest.then(|| Query {
            origins: Some(vec![self.origin]),
            series: self.series.clone(),
            from_ms: self.from_ms,
            to_ms: self.to_ms,
            step,
            now_ms: crate::when::believed_now_ms(),
        })
    }

    /// Into how many questions `cut` would cut a query, or one more.
    pub(super) fn count(query: &Query) -> u64 {
        let span_ms = query.to_ms.saturating_sub(query.from_ms).max(0) as u64;
        span_ms / (query.step.ms() * (MOST_STEPS - 1)) + 2
    }

    /// A query about one origin, cut into questions, the oldest first.
    pub(super) fn cut(origin: Origin, query: &Query) -> Vec<Self> {
        let step_ms = query.step.ms() as i64;
        let span_ms = step_ms * (MOST_STEPS as i64 - 1);
        let mut cut = Vec::new();
        let mut from_ms = query.from_ms;
        while from_ms <= query.to_ms {
            // Borders at whole steps, so that no step is computed from two halves.
            let end = from_ms.saturating_add(span_ms);
            let end = (end - end.rem_euclid(step_ms) - 1).min(query.to_ms);
            cut.push(Self {
                origin,
                series: query.series.clone(),
                from_ms,
                to_ms: end.max(from_ms),
                step_s: (query.step.ms() / 1_000) as u16,
            });
            let Some(next) = end.max(from_ms).checked_add(1) else {
                break;
            };
            from_ms = next;
        }
        cut
    }
}

fn step_of(step_s: u16) -> Option<Step> {
    [Step::Raw, Step::S10, Step::M1, Step::H1]
        .into_iter()
        .find(|step| step.ms() == u64::from(step_s) * 1_000)
}

impl Page {
    /// The pages of a series.
    pub(super) fn cut(found: &SeriesPoints) -> Vec<Self> {
        let page = |points: &[(i64, Option<f64>)]| {
            let mut before = 0;
            let times = points.iter().map(|(at_ms, _)| {
                let since = at_ms.saturating_sub(before);
                before = *at_ms;
                since
            });
            Self {
                name: found.series.name.clone(),
                labels: found.series.labels.clone(),
                unit: found.series.unit.clone(),
                counter: found.series.kind == Kind::Counter,
                exponent: found.series.exponent,
                step_ms: found.step_ms,
                times: times.collect(),
                values: points.iter().map(|(_, value)| *value).collect(),
            }
        };
        found.points.chunks(PAGE).map(page).collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("plain data always serialises")
    }

    /// A page as `encode` writes it, of a series as there may be one.
    pub(super) fn decode(bytes: &Bytes) -> Option<Self> {
        let (page, rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        let sane = page.times.len() == page.values.len()
            && page.times.len() <= PAGE
            && rest.is_empty()
            && page.series().is_some();
        sane.then_some(page)
    }

    /// Whether this is of a series that was asked about, and of the time.
    pub(super) fn answers(&self, asked: &PointsAsked, pattern: &Pattern) -> bool {
        let step_ms = i64::from(asked.step_s) * 1_000;
        // Coarse points stand at the start of their step.
        let reach = asked.from_ms.saturating_sub(step_ms)..=asked.to_ms;
        self.step_ms == step_ms as u64
            && self.series().is_some_and(|series| pattern.matches(&series))
            && self.points().all(|(at_ms, _)| reach.contains(&at_ms))
    }

    fn series(&self) -> Option<Series> {
        let labels = self.labels.iter().cloned();
        let kind = if self.counter {
            Kind::Counter
        } else {
            Kind::Gauge
        };
        Series::new(
            self.name.clone(),
            labels,
            self.unit.clone(),
            kind,
            self.exponent,
        )
        .ok()
    }

    fn points(&self) -> impl Iterator<Item = (i64, f64)> + '_ {
        let mut at_ms = 0_i64;
        let times = self.times.iter().map(move |since| {
            at_ms = at_ms.saturating_add(*since);
            at_ms
        });
        times
            .zip(&self.values)
            .filter_map(|(at_ms, value)| Some((at_ms, (*value)?)))
    }
}

impl Covered {
    /// What an answer covers: from point to point where no gap is between them, of all its series together.
    pub(super) fn of(found: &[SeriesPoints]) -> Self {
        let mut runs = Vec::new();
        for series in found {
            let mut run: Option<(i64, i64)> = None;
            for (at_ms, value) in &series.points {
                match (value, &mut run) {
                    (Some(_), Some(run)) => run.1 = *at_ms,
                    (Some(_), None) => run = Some((*at_ms, *at_ms)),
                    (None, _) => runs.extend(run.take()),
                }
            }
            runs.extend(run);
        }
        runs.sort_unstable();
        let mut covered: Vec<(i64, i64)> = Vec::new();
        for (from_ms, to_ms) in runs {
            match covered.last_mut() {
                Some(last) if from_ms <= last.1 => last.1 = last.1.max(to_ms),
                _ => covered.push((from_ms, to_ms)),
            }
        }
        covered.truncate(MOST_RUNS);
        let tier = |span: &TierSpan| ((span.tier.ms() / 1_000) as u16, span.from_ms, span.to_ms);
        let tiers = found
            .iter()
            .flat_map(|series| series.tiers.iter().map(tier));
        let mut tiers: Vec<_> = tiers.collect::<BTreeSet<_>>().into_iter().collect();
        tiers.truncate(MOST_RUNS);
        Self {
            runs: covered,
            tiers,
        }
    }

    /// Whether an honest holder says so much.
    pub(super) fn is_modest(&self) -> bool {
        self.runs.len() <= MOST_RUNS && self.tiers.len() <= MOST_RUNS
    }

    /// Questions for the parts of what was asked, longer than a gap has to be, that aren't covered.
    pub(super) fn gaps(&self, asked: &PointsAsked) -> Vec<PointsAsked> {
        let step_ms = i64::from(asked.step_s) * 1_000;
        let least_ms = step_ms * MAX_GAP_STEPS.0 as i64 / MAX_GAP_STEPS.1 as i64;
        let mut at_ms = asked.from_ms;
        let mut gaps = Vec::new();
        let mut note = |from_ms: i64, to_ms: i64| {
            if to_ms.saturating_sub(from_ms) >= least_ms {
                gaps.push(PointsAsked {
                    from_ms,
                    to_ms,
                    ..asked.clone()
                });
            }
        };
        for (from_ms, to_ms) in &self.runs {
            note(at_ms, from_ms.saturating_sub(1).min(asked.to_ms));
            at_ms = at_ms.max(to_ms.saturating_add(1));
        }
        note(at_ms, asked.to_ms);
        gaps
    }
}

/// Answers put together: a point of the same series and time counts once, the first that came.
#[derive(Debug, Default)]
pub(super) struct Union {
    series: BTreeMap<(String, Vec<(String, String)>), One>,
    tiers: BTreeSet<(i64, i64, Step)>,
}

#[derive(Debug)]
struct One {
    series: Series,
    step_ms: u64,
    points: BTreeMap<i64, f64>,
}

impl Union {
    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// What a holder said its points came out of.
    pub(super) fn add_tiers(&mut self, covered: &Covered) {
        let tiers = covered.tiers.iter();
        let known = tiers
            .filter_map(|(step_s, from_ms, to_ms)| Some((*from_ms, *to_ms, step_of(*step_s)?)));
        self.tiers.extend(known);
    }

    pub(super) fn add_page(&mut self, page: &Page) {
        if let Some(series) = page.series() {
            self.add(series, page.step_ms, page.points());
        }
    }

    pub(super) fn add_series(&mut self, found: SeriesPoints) {
        let points = found
            .points
            .iter()
            .filter_map(|(at_ms, value)| Some((*at_ms, (*value)?)));
        let points: Vec<_> = points.collect();
        let spans = found.tiers.iter();
        self.tiers
            .extend(spans.map(|span| (span.from_ms, span.to_ms, span.tier)));
        self.add(found.series, found.step_ms, points.into_iter());
    }

    fn add(&mut self, series: Series, step_ms: u64, points: impl Iterator<Item = (i64, f64)>) {
        let key = (series.name.clone(), series.labels.clone());
        let one = self.series.entry(key).or_insert_with(|| One {
            series,
            step_ms,
            points: BTreeMap::new(),
        });
        one.step_ms = one.step_ms.max(step_ms);
        for (at_ms, value) in points {
            one.points.entry(at_ms).or_insert(value);
        }
    }

    /// Everything, gaps as gaps: between two points too far apart, and at the ends of the range.
    pub(super) fn into_series(
        self,
        origin: Origin,
        range: RangeInclusive<i64>,
    ) -> Vec<SeriesPoints> {
        let tiers = joined(&self.tiers);
        let finish = |one: One| SeriesPoints {
            origin,
            points: with_gaps(&one.points, one.step_ms, &range),
            series: one.series,
            step_ms: one.step_ms,
            // Told of rows held here only.
            extents: Vec::new(),
            tiers: tiers.clone(),
        };
        self.series.into_values().map(finish).collect()
    }
}

/// Stretches of one tier that follow each other, as one.
fn joined(spans: &BTreeSet<(i64, i64, Step)>) -> Vec<TierSpan> {
    let mut joined: Vec<TierSpan> = Vec::new();
    for (from_ms, to_ms, tier) in spans {
        match joined.last_mut() {
            Some(last) if last.tier == *tier => last.to_ms = last.to_ms.max(*to_ms),
            _ => joined.push(TierSpan {
                tier: *tier,
                from_ms: *from_ms,
                to_ms: *to_ms,
            }),
        }
    }
    joined
}

fn with_gaps(
    points: &BTreeMap<i64, f64>,
    step_ms: u64,
    range: &RangeInclusive<i64>,
) -> Vec<(i64, Option<f64>)> {
    let step = step_ms as i64;
    let wide = |from_ms: i64, to_ms: i64| {
        to_ms.saturating_sub(from_ms) as u64 * MAX_GAP_STEPS.1 > step_ms * MAX_GAP_STEPS.0
    };
    let mut all = Vec::with_capacity(points.len() + 2);
    let mut before: Option<i64> = None;
    for (at_ms, value) in points {
        match before {
            Some(before) if wide(before, *at_ms) => all.push((before.saturating_add(step), None)),
            None if wide(*range.start(), at_ms.saturating_add(step / 2)) => {
                all.push(((*range.start()).min(at_ms - 1), None));
            }
            _ => {}
        }
        all.push((*at_ms, Some(*value)));
        before = Some(*at_ms);
    }
    if let Some(before) = before
        && wide(before, *range.end())
    {
        all.push((before.saturating_add(step), None));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin([1; 32]);

    fn found(points: &[(i64, Option<f64>)]) -> SeriesPoints {
        SeriesPoints {
            origin: ORIGIN,
            series: Series::new("a", [("b".into(), "c".into())], "s", Kind::Counter, -2).unwrap(),
            step_ms: 1_000,
            points: points.to_vec(),
            extents: Vec::new(),
            tiers: Vec::new(),
        }
    }

    #[test]
    fn pages_survive_the_wire_and_come_together_again() {
        let points: Vec<_> = (0..10_000)
            .map(|at| (at * 1_000, Some(at as f64 / 8.0)))
            .collect();
        let pages = Page::cut(&found(&points));
        assert_eq!(pages.len(), 3);
        let mut union = Union::default();
        for page in pages {
            let bytes = Bytes::from(page.encode());
            let read = Page::decode(&bytes).unwrap();
            assert_eq!(read, page);
            union.add_page(&read);
        }
        let all = union.into_series(ORIGIN, 0..=9_999_000);
        assert_eq!(all, [found(&points)]);
    }

    #[test]
    fn what_one_holder_lacks_another_fills_and_the_rest_stays_a_gap() {
        let mut union = Union::default();
        union.add_series(found(&[
            (1_000, Some(1.0)),
            (2_000, Some(2.0)),
            (3_000, None),
        ]));
        union.add_series(found(&[(2_000, Some(9.0)), (3_000, Some(3.0))]));
        union.add_series(found(&[(8_000, Some(8.0))]));
        let all = union.into_series(ORIGIN, 1_000..=20_000);
        let wanted = [
            (1_000, Some(1.0)),
            (2_000, Some(2.0)),
            (3_000, Some(3.0)),
            (4_000, None),
            (8_000, Some(8.0)),
            (9_000, None),
        ];
        assert_eq!(all[0].points, wanted);
    }

    #[test]
    fn an_answer_says_what_it_covers_and_so_what_is_missing() {
        let one = found(&[
            (2_000, Some(1.0)),
            (3_000, Some(1.0)),
            (4_000, None),
            (9_000, Some(1.0)),
        ]);
        let covered = Covered::of(&[one, found(&[(8_000, Some(1.0)), (9_000, Some(1.0))])]);
        assert_eq!(covered.runs, [(2_000, 3_000), (8_000, 9_000)]);
        let runs = |runs| Covered {
            runs,
            tiers: Vec::new(),
        };
        let gaps = |covered: Covered, from_ms, to_ms| -> Vec<_> {
            let asked = PointsAsked {
                origin: ORIGIN,
                series: "*".into(),
                from_ms,
                to_ms,
                step_s: 1,
            };
            let gaps = covered.gaps(&asked).into_iter();
            gaps.map(|gap| (gap.from_ms, gap.to_ms)).collect()
        };
        let two = [(3_001, 7_999), (9_001, 12_000)];
        assert_eq!(gaps(covered, 2_000, 12_000), two);
        assert_eq!(gaps(Covered::default(), 0, 9_000), [(0, 9_000)]);
        assert_eq!(gaps(runs(vec![(0, 8_600)]), 0, 9_000), []);
    }

    #[test]
    fn a_query_is_cut_into_modest_questions_that_leave_nothing_out() {
        let query = Query {
            origins: None,
            series: "*".into(),
            from_ms: 1_234,
            to_ms: 86_400_000,
            step: Step::Raw,
            now_ms: None,
        };
        let cut = PointsAsked::cut(ORIGIN, &query);
        assert_eq!(cut.len(), 25);
        assert_eq!((cut[0].from_ms, cut[24].to_ms), (1_234, 86_400_000));
        assert!(cut.windows(2).all(|two| two[0].to_ms + 1 == two[1].from_ms));
        assert!(cut.iter().all(|asked| asked.query().is_some()));
    }

    #[test]
    fn too_much_is_no_question() {
        let asked = |to_ms, step_s| PointsAsked {
            origin: ORIGIN,
            series: "*".into(),
            from_ms: 0,
            to_ms,
            step_s,
        };
        assert!(asked(3_600_000, 1).query().is_some());
        assert!(asked(3_602_000, 1).query().is_none());
        assert!(asked(3_602_000, 10).query().is_some());
        assert!(asked(1, 7).query().is_none());
        assert!(asked(-1, 1).query().is_none());
    }
}
