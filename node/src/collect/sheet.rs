//! The numbering of series, and the values of one tick.
//!
//! A source asks a `Family` for the slots of a device and sets values; what it doesn't set is
//! absent. Numbers are given once and for good: a device that comes back gets its own again.
//! Bounds: `MAX_SERIES` series and `MAX_BYTES` of description; beyond them a device is refused
//! whole and counted. New series wait for one of `CHANGES` changes, refilled one a minute, so that
//! short-lived devices can't change the schema more often than peers accept (64 an hour).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use outlast_store::{Kind, Series};

use super::Tick;

/// The most series one node may have.
const MAX_SERIES: usize = 5_000;

/// The most bytes all descriptions may take, a little under the 512 KiB that peers accept.
const MAX_BYTES: usize = 480 * 1024;

/// What one description takes beside its texts, at most.
const OVERHEAD_BYTES: usize = 16;

/// Longest text of one label that a device may have; a longer one is refused.
const MAX_LABEL_BYTES: usize = 256;

/// How many changes may follow each other at once: 4, then one a minute, is 64 in any hour.
const CHANGES: u32 = 4;
const CHANGE_EVERY: Duration = Duration::from_mins(1);

/// Series and values as one tick fills them in.
#[derive(Debug)]
pub(super) struct Sheet {
    values: Vec<Option<i64>>,
    appended: Vec<Series>,
    bytes: usize,
    refused: u64,
    changes: u32,
    refilled: Instant,
}

/// The number of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(usize);

/// What is the same of one series for every device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    name: &'static str,
    label: Option<(&'static str, &'static str)>,
    unit: &'static str,
    kind: Kind,
    exponent: i8,
}

/// The series that each device of one sort has, and which devices were seen.
#[derive(Debug)]
pub(super) struct Family<const N: usize> {
    specs: [Spec; N],
    known: BTreeMap<String, [Slot; N]>,
}

impl Sheet {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            values: Vec::new(),
            appended: Vec::new(),
            bytes: 0,
            refused: 0,
            changes: CHANGES,
            refilled: now,
        }
    }

    /// Makes every value absent.
    pub(super) fn begin(&mut self, now: Instant) {
        self.values.fill(None);
        self.refused = 0;
        while self.changes < CHANGES && now.duration_since(self.refilled) >= CHANGE_EVERY {
            self.changes += 1;
            self.refilled += CHANGE_EVERY;
        }
        if self.changes == CHANGES {
            self.refilled = now;
        }
    }

    /// Puts a value in; one too large to be true is left absent.
    pub(super) fn set(&mut self, slot: Slot, value: impl TryInto<i64>) {
        self.values[slot.0] = value.try_into().ok();
    }

    /// Puts a value in where there is one.
    pub(super) fn set_some(&mut self, slot: Slot, value: Option<impl TryInto<i64>>) {
        if let Some(value) = value {
            self.set(slot, value);
        }
    }

    /// Puts in what is there of the values of one device.
    pub(super) fn set_all<const N: usize>(
        &mut self,
        slots: [Slot; N],
        values: [Option<impl TryInto<i64>>; N],
    ) {
        for (slot, value) in slots.into_iter().zip(values) {
            self.set_some(slot, value);
        }
    }

    /// How many series of present devices have no number in this tick.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// What the tick found.
    pub(super) fn finish(&mut self) -> Tick {
        if !self.appended.is_empty() {
            self.changes -= 1;
        }
        Tick {
            appended: std::mem::take(&mut self.appended),
            values: self.values.clone(),
        }
    }

    fn append<const N: usize>(
        &mut self,
        specs: &[Spec; N],
        labels: &[(&str, &str)],
    ) -> Option<[Slot; N]> {
        if labels
            .iter()
            .any(|(_, value)| value.len() > MAX_LABEL_BYTES)
        {
            return self.refuse(N);
        }
        let series = specs.map(|spec| spec.series(labels));
        let bytes: usize = series.iter().map(size_bytes).sum();
        let full = self.values.len() + N > MAX_SERIES || self.bytes + bytes > MAX_BYTES;
        if full || self.changes == 0 {
            return self.refuse(N);
        }
        self.bytes += bytes;
        let first = self.values.len();
        self.appended.extend(series);
        self.values.resize(first + N, None);
        Some(std::array::from_fn(|at| Slot(first + at)))
    }

    fn refuse<T>(&mut self, count: usize) -> Option<T> {
        self.refused += count as u64;
        None
    }
}

impl Spec {
    /// A value that only grows.
    pub(super) const fn counter(name: &'static str, unit: &'static str, exponent: i8) -> Self {
        Self {
            name,
            label: None,
            unit,
            kind: Kind::Counter,
            exponent,
        }
    }

    /// A value at one moment.
    pub(super) const fn gauge(name: &'static str, unit: &'static str, exponent: i8) -> Self {
        Self {
            name,
            label: None,
            unit,
            kind: Kind::Gauge,
            exponent,
        }
    }

    /// The same with a label of its own.
    pub(super) const fn with(mut self, label: &'static str, value: &'static str) -> Self {
        self.label = Some((label, value));
        self
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    fn series(&self, labels: &[(&str, &str)]) -> Series {
        let all = labels.iter().copied().chain(self.label);
        let mut labels: Vec<_> = all
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        labels.sort();
        Series {
            name: self.name.into(),
            labels,
            unit: self.unit.into(),
            kind: self.kind,
            exponent: self.exponent,
        }
    }
}

impl<const N: usize> Family<N> {
    pub(super) const fn new(specs: [Spec; N]) -> Self {
        Self {
            specs,
            known: BTreeMap::new(),
        }
    }

    /// The slots of a device, in the order of the specs. `labels` are looked at only when `key` is
    /// new. `None` where it is refused; the next tick may ask again.
    pub(super) fn slots(
        &mut self,
        sheet: &mut Sheet,
        key: &str,
        labels: &[(&str, &str)],
    ) -> Option<[Slot; N]> {
        if let Some(slots) = self.known.get(key) {
            return Some(*slots);
        }
        let slots = sheet.append(&self.specs, labels)?;
        self.known.insert(key.to_owned(), slots);
        Some(slots)
    }

    /// Puts in the values of what exists once. While nothing was ever there, no series is made of it.
    pub(super) fn put(&mut self, sheet: &mut Sheet, values: [Option<u64>; N]) {
        if self.known.is_empty() && values.iter().all(Option::is_none) {
            return;
        }
        if let Some(slots) = self.only(sheet) {
            sheet.set_all(slots, values);
        }
    }

    /// The slots of what exists once.
    pub(super) fn only(&mut self, sheet: &mut Sheet) -> Option<[Slot; N]> {
        self.slots(sheet, "", &[])
    }
}

fn size_bytes(series: &Series) -> usize {
    let labels: usize = series
        .labels
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4)
        .sum();
    OVERHEAD_BYTES + series.name.len() + series.unit.len() + labels
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: [Spec; 2] = [
        Spec::counter("a_total", "bytes", 0),
        Spec::gauge("b", "seconds", -2).with("z", "1"),
    ];

    #[test]
    fn a_device_that_comes_back_gets_its_own_numbers_again() {
        let start = Instant::now();
        let (mut sheet, mut family) = (Sheet::new(start), Family::new(SPECS));
        let first = tick(&mut sheet, &mut family, start, &["x", "y"]);
        assert_eq!(first.appended.len(), 4);
        assert_eq!(first.values, [Some(1), Some(2), Some(1), Some(2)]);
        let second = tick(&mut sheet, &mut family, start, &["y"]);
        assert_eq!(
            second,
            Tick {
                appended: vec![],
                values: vec![None, None, Some(1), Some(2)]
            }
        );
        let third = tick(&mut sheet, &mut family, start, &["y", "x"]);
        assert_eq!(third.appended, []);
        assert_eq!(third.values, [Some(1), Some(2), Some(1), Some(2)]);
    }

    #[test]
    fn labels_are_sorted_whoever_gives_them() {
        let (mut sheet, mut family) = (Sheet::new(Instant::now()), Family::new(SPECS));
        family
            .slots(&mut sheet, "x", &[("zz", "2"), ("device", "x")])
            .unwrap();
        let labels: Vec<_> = sheet.appended[1]
            .labels
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(labels, ["device", "z", "zz"]);
    }

    #[test]
    fn devices_beyond_the_limit_are_refused_whole_and_counted() {
        let start = Instant::now();
        let (mut sheet, mut family) = (Sheet::new(start), Family::new(SPECS));
        let names: Vec<String> = (0..2_501).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = tick(&mut sheet, &mut family, start, &names);
        assert_eq!((found.appended.len(), found.values.len()), (5_000, 5_000));
        assert_eq!(sheet.refused(), 2);
        tick(&mut sheet, &mut family, start, &names);
        assert_eq!(sheet.refused(), 2);
    }

    #[test]
    fn descriptions_have_a_bound_in_bytes() {
        let mut sheet = Sheet::new(Instant::now());
        let mut family = Family::new(SPECS);
        let long = "l".repeat(MAX_LABEL_BYTES);
        let mut accepted = 0;
        for n in 0..2_500 {
            let device = n.to_string();
            let labels = [("device", device.as_str()), ("mountpoint", &long)];
            accepted += usize::from(family.slots(&mut sheet, &device, &labels).is_some());
        }
        assert!((700..900).contains(&accepted), "{accepted}");
        assert!(
            family
                .slots(&mut sheet, "q", &[("device", &format!("{long}l"))])
                .is_none()
        );
    }

    #[test]
    fn the_schema_changes_at_most_64_times_an_hour() {
        let start = Instant::now();
        let (mut sheet, mut family) = (Sheet::new(start), Family::new(SPECS));
        let mut changes = 0;
        for second in 0..3600 {
            let name = second.to_string();
            let now = start + Duration::from_secs(second);
            let found = tick(&mut sheet, &mut family, now, &[&name]);
            changes += usize::from(!found.appended.is_empty());
        }
        assert!((60..=64).contains(&changes), "{changes}");
    }

    #[test]
    fn a_value_too_large_for_an_integer_is_absent() {
        let (mut sheet, mut family) = (Sheet::new(Instant::now()), Family::new(SPECS));
        let [a, b] = family.only(&mut sheet).unwrap();
        sheet.set(a, u64::MAX);
        sheet.set_some(b, Some(3_u64));
        sheet.set_some(b, None::<u64>);
        assert_eq!(sheet.finish().values, [None, Some(3)]);
    }

    #[test]
    fn what_was_never_there_makes_no_series() {
        let (mut sheet, mut family) = (Sheet::new(Instant::now()), Family::new(SPECS));
        family.put(&mut sheet, [None, None]);
        assert_eq!(sheet.finish().values, []);
        family.put(&mut sheet, [None, Some(3)]);
        assert_eq!(sheet.finish().values, [None, Some(3)]);
        sheet.begin(Instant::now());
        family.put(&mut sheet, [None, None]);
        assert_eq!(sheet.finish().values, [None, None]);
    }

    fn tick(sheet: &mut Sheet, family: &mut Family<2>, now: Instant, devices: &[&str]) -> Tick {
        sheet.begin(now);
        for device in devices {
            if let Some([a, b]) = family.slots(sheet, device, &[("device", device)]) {
                sheet.set(a, 1);
                sheet.set(b, 2);
            }
        }
        sheet.finish()
    }
}
