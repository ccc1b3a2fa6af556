//! A running percentile of durations: a histogram with logarithmic buckets in which old values decay.

use crate::Time;

/// log2 of the number of buckets for each power of two: values have a precision of 1.6 %.
const BITS: u32 = 5;
const BUCKETS: usize = (65 - BITS as usize) << BITS;

/// The number of values at which all counts are halved, so that older ones hardly count.
const MEMORY: u32 = 8192;

/// The number of values between two computations of the percentile.
const EVERY: u32 = 64;

/// A percentile of the last few thousand durations.
#[derive(Clone, Debug)]
pub(crate) struct Percentile {
    /// The share, in 0..=1.
    share: f64,
    counts: Vec<u32>,
    total: u32,
    until_computed: u32,
    value: Option<Time>,
}

impl Percentile {
    /// The percentile below which this share of durations lies.
    pub(crate) fn new(share: f64) -> Self {
        Self { share, counts: vec![0; BUCKETS], total: 0, until_computed: EVERY, value: None }
    }

    pub(crate) fn record(&mut self, duration: Time) {
        self.counts[bucket(duration)] += 1;
        self.total += 1;
        self.until_computed -= 1;
        if self.until_computed == 0 {
            self.until_computed = EVERY;
            self.compute();
        }
    }

    /// The percentile; none before it is known.
    pub(crate) fn value(&self) -> Option<Time> {
        self.value
    }

    fn compute(&mut self) {
        let rank = (f64::from(self.total) * self.share).ceil().max(1.0) as u32;
        let mut below = 0;
        let found = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        self.value = found.map(upper);
        if self.total >= MEMORY {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }
}

fn bucket(duration: Time) -> usize {
    let exponent = (Time::BITS - duration.leading_zeros()).saturating_sub(BITS + 1);
    ((exponent as usize) << BITS) + (duration >> exponent) as usize
}

/// The largest duration of a bucket.
fn upper(bucket: usize) -> Time {
    let exponent = (bucket >> BITS).saturating_sub(1);
    let first = (bucket - (exponent << BITS)) as u128;
    Time::try_from(((first + 1) << exponent) - 1).unwrap_or(Time::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_without_gaps_and_narrow() {
        for bucket_index in 0..BUCKETS {
            let last = upper(bucket_index);
            assert_eq!(bucket(last), bucket_index);
            if last < Time::MAX {
                assert_eq!(bucket(last + 1), bucket_index + 1);
            }
        }
        assert_eq!(bucket(Time::MAX), BUCKETS - 1);
        for value in [31, 32, 1000, 30_000_000, 1 << 40] {
            assert!((upper(bucket(value)) - value) as f64 <= value as f64 / 32.0);
        }
    }

    #[test]
    fn the_percentile_equals_that_of_sorted_values_and_follows_changes() {
        let mut running = Percentile::new(0.95);
        assert_eq!(running.value(), None);
        for i in 0..6400 {
            running.record(i * 37 % 6400);
        }
        let value = running.value().unwrap() as f64;
        assert!((6080.0..6080.0 * 1.04).contains(&value), "{value}");
        for _ in 0..100_000 {
            running.record(5);
        }
        assert_eq!(running.value(), Some(5));
    }
}
