//! Records, counted.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{Outcome, Record};

/// What one measurement found.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Requests a second that it meant to send.
    pub rate: f64,
    /// Rows of a request.
    pub rows: usize,
    /// From the moment when a request was to be sent to its answer, in ns; without failures.
    pub latency: Histogram<u64>,
    /// From the moment when a request was to be sent to that when it was, in ns: the generator's own
    /// fault.
    pub lateness: Histogram<u64>,
    /// Requests without an answer, by [`Record::failure`].
    pub failures: BTreeMap<String, u64>,
    /// What the first error said.
    pub first_error: Option<String>,
    /// Rows that were rebuilt, answered by an approximate model, and answered by default.
    pub reconstructed: u64,
    /// Rows that an approximate model answered.
    pub approximate: u64,
    /// Rows that got a default answer.
    pub default: u64,
    /// Requests whose answers were held against labels.
    pub judged: u64,
    /// Rows that were right, of those.
    pub correct: u64,
    /// Rows that were rebuilt, and right.
    pub correct_reconstructed: u64,
    /// When the last request ended, in ns.
    pub end_ns: u64,
}

impl AsRef<Summary> for Summary {
    fn as_ref(&self) -> &Summary {
        self
    }
}

impl Summary {
    /// Of nothing yet.
    #[must_use]
    pub fn new(rate: f64, rows: usize) -> Self {
        // Three digits are a precision that there is.
        let times = || Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits"));
        Self {
            rate,
            rows,
            latency: times(),
            lateness: times(),
            failures: BTreeMap::new(),
            first_error: None,
            reconstructed: 0,
            approximate: 0,
            default: 0,
            judged: 0,
            correct: 0,
            correct_reconstructed: 0,
            end_ns: 0,
        }
    }

    /// Counts a request.
    pub fn add(&mut self, record: &Record) {
        // Histograms grow as they must.
        if let Some(sent) = record.sent_ns {
            let _ = self.lateness.record(sent.saturating_sub(record.intended_ns));
        }
        self.end_ns = self.end_ns.max(record.ended_ns);
        match record.failure() {
            None => {
                let _ = self.latency.record(record.ended_ns.saturating_sub(record.intended_ns));
            }
            Some(failure) => {
                *self.failures.entry(failure).or_default() += 1;
                if self.first_error.is_none() {
                    self.first_error.clone_from(&record.error);
                }
            }
        }
        self.reconstructed += record.reconstructed as u64;
        self.approximate += record.approximate as u64;
        self.default += record.default as u64;
        if let Some(correct) = record.correct {
            self.judged += 1;
            self.correct += correct as u64;
            self.correct_reconstructed += record.correct_reconstructed as u64;
        }
    }

    /// Requests that were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.latency.len()
    }

    /// Requests that were not.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Requests that were not sent, since too many were on their way.
    #[must_use]
    pub fn not_sent(&self) -> u64 {
        self.failures.get(Outcome::NotSent.name()).copied().unwrap_or(0)
    }

    /// The latency within which a share of the answers came, in ms; none without answers.
    #[must_use]
    pub fn within_ms(&self, share: f64) -> Option<f64> {
        (self.answered() > 0).then(|| ms(self.latency.value_at_quantile(share)))
    }

    /// The gap between the P99.9 and the median, in ms; none without answers.
    pub(crate) fn gap_ms(&self) -> Option<f64> {
        Some(self.within_ms(0.999)? - self.within_ms(0.5)?)
    }

    /// The mean latency, in ms; none without answers.
    #[must_use]
    pub fn mean_ms(&self) -> Option<f64> {
        (self.answered() > 0).then(|| self.latency.mean() / 1e6)
    }

    /// The lateness within which a share of the requests was sent, in ms; none if none was sent.
    #[must_use]
    pub fn late_ms(&self, share: f64) -> Option<f64> {
        (!self.lateness.is_empty()).then(|| ms(self.lateness.value_at_quantile(share)))
    }

    /// The share of answered rows, of a number of rows.
    #[must_use]
    pub fn share(&self, rows: u64) -> Option<f64> {
        let answered = self.answered() as f64 * self.rows as f64;
        (answered > 0.0).then(|| rows as f64 / answered)
    }

    /// The share of rows that were right, of all rows that were held against labels.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        let rows = self.judged as f64 * self.rows as f64;
        (rows > 0.0).then(|| self.correct as f64 / rows)
    }

    /// A_d: the share of rows that were right, of those that were rebuilt.
    pub(crate) fn degraded_accuracy(&self) -> Option<f64> {
        let rebuilt = self.judged > 0 && self.reconstructed > 0;
        rebuilt.then(|| self.correct_reconstructed as f64 / self.reconstructed as f64)
    }

    /// True if the generator itself was so late that latencies tell of it: at its P99 more than a tenth of
    /// the median latency.
    #[must_use]
    pub fn is_late(&self) -> bool {
        match (self.late_ms(0.99), self.within_ms(0.5)) {
            (Some(late), Some(median)) => late > median / 10.0,
            _ => false,
        }
    }
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}
