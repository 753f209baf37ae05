//! Measurements of one thing, repeated: how many, the median and the range.
//!
//! Absent: averages. A mean hides the one run that took a minute; a range shows it.

use std::fmt;

/// Values of one thing measured several times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The value below which this part of all lies, the nearest that was measured.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1) as f64;
        let at = (last * part).round() as usize;
        self.0.get(at).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|part| self.quantile(part));
        write!(
            f,
            "{:>3} {middle:>10.digits$} {low:>10.digits$} {high:>10.digits$}",
            self.count()
        )
    }
}

/// The heads over what `Figures` prints, behind a name of 54 columns.
pub(crate) fn heads(title: &str) -> String {
    format!(
        "\n{title:54} {:>3} {:>10} {:>10} {:>10}",
        "n", "median", "least", "most"
    )
}
