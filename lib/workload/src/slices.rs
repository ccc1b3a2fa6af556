//! A measurement in slices of time.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Outcome, Record, Time};

/// The most slices; the last one has all later requests.
const MOST: usize = 10_000;

/// The requests of a measurement by the time at which they were due.
#[derive(Clone, Debug)]
pub struct Slices {
    length: Time,
    slices: Vec<Slice>,
}

/// The requests of several trials that were due in a slice of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SliceRun {
    /// Its beginning, in seconds after the warm-up.
    pub from_s: f64,
    /// The requests a second that were due, of each trial.
    pub rate: f64,
    /// The requests of all trials.
    pub requests: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that were not.
    pub failed: u64,
    /// The latencies of answers.
    pub latency_ms: SliceLatencies,
    /// The share of rebuilt rows among the answered ones; none without answers.
    pub reconstructed: Option<f64>,
}

/// The latencies of a slice, in ms to two digits; none without answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SliceLatencies {
    /// The median.
    pub median: Option<f64>,
    /// The P99.
    pub p99: Option<f64>,
    /// The P99.9.
    #[serde(rename = "p99.9")]
    pub p999: Option<f64>,
    /// The longest one.
    pub max: Option<f64>,
}

#[derive(Clone, Debug)]
struct Slice {
    /// From the time at which a request was due to its answer, in ns.
    latency: Histogram<u32>,
    failed: u64,
    /// Rows that got a reconstruction.
    reconstructed: u64,
    /// The latest time at which a request was due, in ns after the beginning.
    last: Time,
}

impl Slice {
    fn new() -> Self {
        // Two digits are valid; only more than five are not.
        let latency = Histogram::new(2).unwrap_or_else(|_| unreachable!("two digits"));
        Self { latency, failed: 0, reconstructed: 0, last: 0 }
    }

    fn requests(&self) -> u64 {
        self.latency.len() + self.failed
    }
}

impl Slices {
    /// Slices of this length, in ns, which is at least 1.
    #[must_use]
    pub fn new(length: Time) -> Self {
        Self { length: length.max(1), slices: Vec::new() }
    }

    /// Adds a request.
    pub(crate) fn add(&mut self, record: &Record) {
        let place = usize::try_from(record.intended_ns / self.length).unwrap_or(MOST).min(MOST - 1);
        if self.slices.len() <= place {
            self.slices.resize_with(place + 1, Slice::new);
        }
        let Some(slice) = self.slices.get_mut(place) else { return };
        slice.last = slice.last.max(record.intended_ns - place as Time * self.length);
        slice.reconstructed += record.reconstructed as u64;
        if record.outcome == Outcome::Answered {
            // The histogram resizes itself.
            let _ = slice.latency.record(record.ended_ns.saturating_sub(record.intended_ns));
        } else {
            slice.failed += 1;
        }
    }

    /// The slices of several trials together, for requests of so many rows.
    pub(crate) fn runs<'a>(trials: impl Iterator<Item = &'a Self>, rows: usize) -> Vec<SliceRun> {
        let mut all: Vec<Slice> = Vec::new();
        let (mut length, mut count) = (1, 0.0);
        for Self { length: of, slices } in trials {
            (length, count) = (*of, count + 1.0);
            all.resize_with(all.len().max(slices.len()), Slice::new);
            for (all, slice) in all.iter_mut().zip(slices) {
                let _ = all.latency.add(&slice.latency);
                all.failed += slice.failed;
                all.reconstructed += slice.reconstructed;
                all.last = all.last.max(slice.last);
            }
        }
        let end = all.len();
        let slice = |(place, slice): (usize, &Slice)| {
            // The last one may be shorter.
            let covered = if place + 1 == end { slice.last.max(1) } else { length };
            let within = |share: f64| {
                let ms = slice.latency.value_at_quantile(share) as f64 / 1e6;
                (!slice.latency.is_empty()).then_some(ms)
            };
            let answered = slice.latency.len() as f64 * rows as f64;
            SliceRun {
                from_s: place as f64 * length as f64 / 1e9,
                rate: slice.requests() as f64 * 1e9 / covered as f64 / count,
                requests: slice.requests(),
                answered: slice.latency.len(),
                failed: slice.failed,
                latency_ms: SliceLatencies {
                    median: within(0.5),
                    p99: within(0.99),
                    p999: within(0.999),
                    max: within(1.0),
                },
                reconstructed: (answered > 0.0).then(|| slice.reconstructed as f64 / answered),
            }
        };
        all.iter().enumerate().map(slice).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_in_the_slice_in_which_they_were_due() {
        let record = |ms: u64, took: u64, outcome| {
            let mut record = Record::new(10.0, 0, ms * 1_000_000, outcome);
            record.ended_ns += took * 1_000_000;
            record
        };
        let trial = |more: u64| {
            let mut slices = Slices::new(1_000_000_000);
            (0..10).for_each(|tenth| slices.add(&record(tenth * 100, 10 + more, Outcome::Answered)));
            // It is answered in the next slice.
            slices.add(&Record { reconstructed: 1, ..record(999, 500, Outcome::Answered) });
            slices.add(&record(2000, 5, Outcome::Timeout));
            slices.add(&record(2500, 20, Outcome::Answered));
            slices
        };
        let of = Slices::runs([trial(0), trial(10)].iter(), 1);
        let counts: Vec<_> = of.iter().map(|slice| (slice.from_s, slice.requests, slice.failed)).collect();
        assert_eq!(counts, [(0.0, 22, 0), (1.0, 0, 0), (2.0, 4, 2)]);
        // The last slice ends with its last request, after half a second.
        let rates: Vec<_> = of.iter().map(|slice| (slice.rate, slice.reconstructed)).collect();
        assert_eq!(rates, [(11.0, Some(2.0 / 22.0)), (0.0, None), (4.0, Some(0.0))]);
        let [first, second, third] = [0, 1, 2].map(|place: usize| of[place].latency_ms);
        let found = [first.median, first.p99, second.p99, third.max].map(|ms| ms.map(f64::round));
        assert_eq!(found, [Some(20.0), Some(501.0), None, Some(20.0)]);
        assert_eq!(Slices::runs(std::iter::empty(), 1), []);
    }

    #[test]
    fn there_are_not_more_slices_than_a_limit() {
        let mut slices = Slices::new(0);
        slices.add(&Record::new(1.0, 0, u64::MAX, Outcome::Timeout));
        assert_eq!((slices.slices.len(), slices.slices[MOST - 1].failed), (MOST, 1));
    }
}
