//! A percentile of the durations of the last 15 to 30 s: two histograms with logarithmic buckets.

use crate::Time;

/// log2 of the number of buckets for each power of two: values have a precision of 1.6 %.
const BITS: u32 = 5;
const BUCKETS: usize = (65 - BITS as usize) << BITS;

/// The length of each of the two windows.
const WINDOW: Time = 15_000_000_000;

/// The fewest values of a window: it lasts until it has so many.
const FEWEST: u32 = 64;

/// The number of values between two computations of the percentile.
const EVERY: u32 = 64;

/// A percentile of the durations of the last 15 to 30 s, or of the last 64 to 128 if these are fewer.
#[derive(Clone, Debug)]
pub(crate) struct Percentile {
    /// The share, in 0..=1.
    share: f64,
    /// The previous window, and the present one.
    windows: [Window; 2],
    /// The begin of the present window.
    since: Time,
    until_computed: u32,
    value: Option<Time>,
}

#[derive(Clone, Debug)]
struct Window {
    counts: Vec<u32>,
    total: u32,
}

impl Window {
    fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Percentile {
    /// The percentile below which this share of durations lies.
    pub(crate) fn new(share: f64) -> Self {
        Self { share, windows: [Window::new(), Window::new()], since: 0, until_computed: EVERY, value: None }
    }

    /// True if the percentile was computed anew.
    pub(crate) fn record(&mut self, now: Time, duration: Time) -> bool {
        if now.saturating_sub(self.since) >= WINDOW && self.windows[1].total >= FEWEST {
            self.windows.swap(0, 1);
            self.windows[1].counts.fill(0);
            self.windows[1].total = 0;
            self.since = now;
        }
        let window = &mut self.windows[1];
        window.counts[bucket(duration)] += 1;
        window.total += 1;
        self.until_computed -= 1;
        let computes = self.until_computed == 0;
        if computes {
            self.until_computed = EVERY;
            self.value = self.at(self.share);
        }
        computes
    }

    /// The percentile; none before it is known.
    pub(crate) fn value(&self) -> Option<Time> {
        self.value
    }

    /// Another percentile of the same durations; none while there are few.
    pub(crate) fn at(&self, share: f64) -> Option<Time> {
        let total = self.total();
        let rank = (total as f64 * share).ceil().max(1.0) as u64;
        let found = self.longer().find(|&(_, longer)| total - longer >= rank).map(|(duration, _)| duration);
        found.filter(|_| total >= u64::from(FEWEST))
    }

    /// The number of durations.
    pub(crate) fn total(&self) -> u64 {
        self.windows.iter().map(|window| u64::from(window.total)).sum()
    }

    /// The durations that occur, the shortest first, and how many are longer than each.
    pub(crate) fn longer(&self) -> impl Iterator<Item = (Time, u64)> + '_ {
        let [previous, present] = &self.windows;
        let counts = previous
            .counts
            .iter()
            .zip(&present.counts)
            .map(|(one, other)| u64::from(*one) + u64::from(*other));
        let mut longer = self.total();
        counts.enumerate().filter(|&(_, count)| count > 0).map(move |(bucket, count)| {
            longer -= count;
            (upper(bucket), longer)
        })
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
            running.record(i, i * 37 % 6400);
        }
        let value = running.value().unwrap() as f64;
        assert!((6080.0..6080.0 * 1.04).contains(&value), "{value}");
        for i in 0..20 {
            running.record(WINDOW, i);
        }
        assert!((running.value().unwrap() as f64) > 6000.0, "the previous window counts");
    }

    #[test]
    fn values_older_than_two_windows_do_not_count_however_many_there_were() {
        let mut running = Percentile::new(0.5);
        for i in 0..1_000_000 {
            running.record(i, 1000);
        }
        for i in 0..3 * u64::from(EVERY) {
            running.record(WINDOW + i * WINDOW / u64::from(EVERY), 5);
        }
        assert_eq!(running.value(), Some(5));
    }

    #[test]
    fn few_values_last_longer_than_their_window() {
        let mut running = Percentile::new(0.5);
        // One value in each window.
        for i in 0..u64::from(EVERY) {
            running.record(i * WINDOW, 1000);
        }
        assert_eq!(running.value(), Some(upper(bucket(1000))));
        for i in 0..u64::from(FEWEST) - 1 {
            running.record((100 + i) * WINDOW, 5);
        }
        assert_eq!(running.value(), Some(upper(bucket(1000))));
    }
}
