//! Eight gauges in eight bytes.
//!
//! Ratios in steps of 0.4 %; bytes a second and plain numbers on a logarithmic scale, 5 % or less off. Zero stays zero,
//! and what isn't known stays unknown.

use std::array;

/// How many gauges a summary has.
pub const GAUGES: usize = 8;

const UNKNOWN: u8 = 255;
/// The highest code of a value.
const TOP: f64 = 250.0;

/// What each gauge is, in the order of the overview's columns.
const SCALES: [Scale; GAUGES] = [
    Scale::Ratio,
    Scale::Ratio,
    Scale::BYTES,
    Scale::BYTES,
    Scale::BYTES,
    Scale::BYTES,
    Scale::PLAIN,
    Scale::Ratio,
];

/// Gauges as they travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauges(pub [u8; GAUGES]);

#[derive(Debug, Clone, Copy)]
enum Scale {
    /// 0 to 1.
    Ratio,
    /// From the first to the second power of two; below, and above, the ends.
    Log(f64, f64),
}

impl Scale {
    /// 16 B/s to 256 GiB/s.
    const BYTES: Self = Self::Log(4.0, 38.0);
    /// 0.01 to 10,000.
    const PLAIN: Self = Self::Log(-6.65, 13.3);

    fn code(self, value: f64) -> u8 {
        if value.is_nan() {
            return UNKNOWN;
        }
        let code = match self {
            Self::Ratio => value * TOP,
            Self::Log(..) if value <= 0.0 => 0.0,
            Self::Log(from, to) => {
                (1.0 + (value.log2() - from) / (to - from) * (TOP - 1.0)).max(1.0)
            }
        };
        code.round().clamp(0.0, TOP) as u8
    }

    fn value(self, code: u8) -> f64 {
        match self {
            _ if f64::from(code) > TOP => f64::NAN,
            Self::Ratio => f64::from(code) / TOP,
            Self::Log(..) if code == 0 => 0.0,
            Self::Log(from, to) => {
                (from + (f64::from(code) - 1.0) / (TOP - 1.0) * (to - from)).exp2()
            }
        }
    }
}

impl Gauges {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self([UNKNOWN; GAUGES]);

    /// Packs columns; not-a-number is unknown.
    #[must_use]
    pub fn pack(columns: &[f64; GAUGES]) -> Self {
        Self(array::from_fn(|at| SCALES[at].code(columns[at])))
    }

    /// The columns; not-a-number where unknown.
    #[must_use]
    pub fn columns(self) -> [f64; GAUGES] {
        array::from_fn(|at| SCALES[at].value(self.0[at]))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zero_stays_zero_and_unknown_unknown() {
        let columns = [0.0, f64::NAN, 0.0, f64::NAN, 0.0, 0.0, 0.0, 1.0];
        let packed = Gauges::pack(&columns);
        assert_eq!(packed.0, [0, 255, 0, 255, 0, 0, 0, 250]);
        let again = packed.columns();
        assert!(again[1].is_nan() && again[3].is_nan());
        assert_eq!((again[0], again[2], again[7]), (0.0, 0.0, 1.0));
        assert_eq!(Gauges::pack(&Gauges::UNKNOWN.columns()), Gauges::UNKNOWN);
    }

    #[test]
    fn what_is_off_the_scale_takes_its_end_and_little_is_never_nothing() {
        let columns = [7.0, -1.0, 0.5, 1e15, 1.0, 0.0, 1e9, 0.5];
        let again = Gauges::pack(&columns).columns();
        assert_eq!((again[0], again[1], again[2]), (1.0, 0.0, 16.0));
        assert_eq!(again[3], f64::from(2.0_f32.powi(38)));
        assert_eq!(again[4], 16.0);
        assert!(again[6] < 10_200.0);
    }

    proptest! {
        #[test]
        fn values_come_back_within_half_a_percent_or_five(ratio in 0.0..1.0_f64, rate in 16.0..2e11_f64, load in 0.01..1e4_f64) {
            let again = Gauges::pack(&[ratio, ratio, rate, rate, rate, rate, load, ratio]).columns();
            prop_assert!((again[0] - ratio).abs() <= 0.002_001);
            prop_assert!((again[2] / rate - 1.0).abs() <= 0.05, "{} for {rate}", again[2]);
            prop_assert!((again[6] / load - 1.0).abs() <= 0.03, "{} for {load}", again[6]);
        }

        #[test]
        fn codes_are_stable(codes in any::<[u8; 8]>()) {
            let once = Gauges::pack(&Gauges(codes).columns());
            prop_assert_eq!(Gauges::pack(&once.columns()), once);
        }
    }
}
