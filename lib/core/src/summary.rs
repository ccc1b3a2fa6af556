//! What the elements of a stream are like, in one pass and bounded memory.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::dtype::{Dtype, Float};

/// The most different labels that are counted.
pub const MAX_LABELS: usize = 1000;

/// What the elements of a stream are like.
#[derive(Clone, Debug)]
pub struct Summary {
    dtype: Dtype,
    values: Vec<f64>,
    least: Option<Number>,
    most: Option<Number>,
    moments: Moments,
    nan: u64,
    infinite: u64,
    /// None if there is nothing to count, or too much.
    labels: Option<BTreeMap<i128, u64>>,
}

/// A number of a stream, exactly.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Number {
    /// Of an integer type.
    Integer(i128),
    /// Of a float type.
    Float(f64),
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
        }
    }
}

/// The mean and the sum of squared differences from it (Chan, Golub and LeVeque, 1979).
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: u64,
    mean: f64,
    squares: f64,
}

impl Moments {
    /// Of a block of values.
    fn of(values: &[f64]) -> Self {
        let count = values.len() as u64;
        let mean = values.iter().sum::<f64>() / count.max(1) as f64;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum();
        Self { count, mean, squares }
    }

    /// Adds those of other values.
    fn add(&mut self, other: Self) {
        let count = self.count + other.count;
        if other.count == 0 {
            return;
        }
        let share = other.count as f64 / count as f64;
        let apart = other.mean - self.mean;
        self.mean += apart * share;
        self.squares += other.squares + apart * apart * self.count as f64 * share;
        self.count = count;
    }
}

impl Summary {
    /// Of elements of this type; `labels` says whether to count how often each integer occurs.
    #[must_use]
    pub fn new(dtype: Dtype, labels: bool) -> Self {
        Self {
            dtype,
            values: Vec::new(),
            least: None,
            most: None,
            moments: Moments::default(),
            nan: 0,
            infinite: 0,
            labels: (labels && !dtype.is_float()).then(BTreeMap::new),
        }
    }

    /// Adds little-endian elements.
    pub fn add(&mut self, bytes: &[u8]) {
        self.values.resize(bytes.len() / self.dtype.size(), 0.0);
        f64::decode(self.dtype, bytes, &mut self.values);
        if let Some(integers) = self.dtype.integers(bytes) {
            for integer in integers {
                self.extend_range(Number::Integer(integer));
                self.count_label(integer);
            }
        } else {
            self.nan += self.values.iter().filter(|value| value.is_nan()).count() as u64;
            self.infinite += self.values.iter().filter(|value| value.is_infinite()).count() as u64;
            self.values.retain(|value| value.is_finite());
            let least = self.values.iter().copied().reduce(f64::min);
            let most = self.values.iter().copied().reduce(f64::max);
            least.into_iter().chain(most).for_each(|value| self.extend_range(Number::Float(value)));
        }
        self.moments.add(Moments::of(&self.values));
    }

    fn extend_range(&mut self, number: Number) {
        if self.least.is_none_or(|least| number < least) {
            self.least = Some(number);
        }
        if self.most.is_none_or(|most| number > most) {
            self.most = Some(number);
        }
    }

    fn count_label(&mut self, label: i128) {
        let Some(labels) = &mut self.labels else { return };
        *labels.entry(label).or_default() += 1;
        if labels.len() > MAX_LABELS {
            self.labels = None;
        }
    }

    /// The smallest finite element; none if there is none.
    #[must_use]
    pub fn least(&self) -> Option<Number> {
        self.least
    }

    /// The largest finite element.
    #[must_use]
    pub fn most(&self) -> Option<Number> {
        self.most
    }

    /// The mean of the finite elements.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.moments.count > 0).then_some(self.moments.mean)
    }

    /// The standard deviation of the finite elements.
    #[must_use]
    pub fn deviation(&self) -> Option<f64> {
        (self.moments.count > 0).then(|| (self.moments.squares / self.moments.count as f64).sqrt())
    }

    /// Elements that are not a number.
    #[must_use]
    pub fn nan(&self) -> u64 {
        self.nan
    }

    /// Infinite elements.
    #[must_use]
    pub fn infinite(&self) -> u64 {
        self.infinite
    }

    /// How often each label occurs; none if labels were not to be counted, or there are more than [`MAX_LABELS`].
    #[must_use]
    pub fn labels(&self) -> Option<&BTreeMap<i128, u64>> {
        self.labels.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(dtype: Dtype, blocks: &[&[f64]]) -> Summary {
        let mut summary = Summary::new(dtype, true);
        for block in blocks {
            let mut bytes = Vec::new();
            f64::encode(block, dtype, &mut bytes);
            summary.add(&bytes);
        }
        summary
    }

    proptest! {
        #[test]
        fn blocks_have_the_summary_of_the_whole(blocks in prop::collection::vec(prop::collection::vec(-1e3_f64..1e3, 0..9), 0..6)) {
            let whole = blocks.concat();
            let found = of(Dtype::F64, &blocks.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let count = whole.len() as f64;
            let mean = whole.iter().sum::<f64>() / count;
            let deviation = (whole.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
            prop_assert_eq!(found.mean().is_none(), whole.is_empty());
            if let (Some(found_mean), Some(found_deviation)) = (found.mean(), found.deviation()) {
                prop_assert!((found_mean - mean).abs() < 1e-9, "{} {}", found_mean, mean);
                prop_assert!((found_deviation - deviation).abs() < 1e-9);
            }
            prop_assert_eq!(found.least(), whole.iter().copied().reduce(f64::min).map(Number::Float));
            prop_assert_eq!(found.most(), whole.iter().copied().reduce(f64::max).map(Number::Float));
        }
    }

    #[test]
    fn what_is_not_finite_is_counted_apart() {
        let found = of(Dtype::F32, &[&[f64::NAN, 2.0, f64::INFINITY], &[f64::NEG_INFINITY], &[4.0]]);
        assert_eq!((found.nan(), found.infinite(), found.mean()), (1, 2, Some(3.0)));
        assert_eq!((found.least(), found.most()), (Some(Number::Float(2.0)), Some(Number::Float(4.0))));
        assert!(found.labels().is_none());
        assert_eq!(of(Dtype::F16, &[&[f64::NAN]]).least(), None);
    }

    #[test]
    fn labels_are_counted_and_integers_are_exact() {
        let mut summary = Summary::new(Dtype::U64, true);
        for label in [u64::MAX, 3, u64::MAX - 1, 3] {
            summary.add(&label.to_le_bytes());
        }
        assert_eq!(summary.most(), Some(Number::Integer(i128::from(u64::MAX))));
        assert_eq!(serde_json::to_string(&summary.most()).unwrap(), u64::MAX.to_string());
        assert_eq!(summary.labels().and_then(|labels| labels.get(&3)), Some(&2));
        let mut many = Summary::new(Dtype::U16, true);
        for label in 0..=MAX_LABELS as u16 {
            assert!(many.labels().is_some());
            many.add(&label.to_le_bytes());
        }
        assert!(many.labels().is_none(), "there are too many");
        assert!(Summary::new(Dtype::U16, false).labels().is_none());
    }
}
