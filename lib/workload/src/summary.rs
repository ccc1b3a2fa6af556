//! Summaries of records.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{Outcome, Record, Slices, Time};

/// The summary of one measurement.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The intended requests a second.
    pub rate: f64,
    /// The number of rows of a request.
    pub rows: usize,
    /// From the time at which a request was due to its answer, in ns; without failures.
    pub latency: Histogram<u64>,
    /// From the time at which a request was due to its sending, in ns: the delay of the generator.
    pub lateness: Histogram<u64>,
    /// Requests without an answer, by [`Record::failure`].
    pub failures: BTreeMap<String, u64>,
    /// The message of the first error.
    pub first_error: Option<String>,
    /// The objective of latencies, in ns, if there is one.
    pub slo: Option<Time>,
    /// Answers within the objective.
    pub good: u64,
    /// The requests by the time at which they were due, if that is asked for.
    pub slices: Option<Slices>,
    /// Rows that got a reconstruction.
    pub reconstructed: u64,
    /// Rows that the approximate model answered.
    pub approximate: u64,
    /// Rows that got a default answer.
    pub default: u64,
    /// Requests whose answers were compared with labels.
    pub judged: u64,
    /// Rows of these requests that were right.
    pub correct: u64,
    /// Reconstructions that were right.
    pub correct_reconstructed: u64,
    /// The end of the last request, in ns.
    pub end_ns: u64,
}

impl AsRef<Summary> for Summary {
    fn as_ref(&self) -> &Summary {
        self
    }
}

impl Summary {
    /// An empty summary.
    #[must_use]
    pub fn new(rate: f64, rows: usize) -> Self {
        // Three digits are valid; only more than five are not.
        let times = || Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits"));
        Self {
            rate,
            rows,
            latency: times(),
            lateness: times(),
            failures: BTreeMap::new(),
            first_error: None,
            slo: None,
            good: 0,
            slices: None,
            reconstructed: 0,
            approximate: 0,
            default: 0,
            judged: 0,
            correct: 0,
            correct_reconstructed: 0,
            end_ns: 0,
        }
    }

    /// Counts the answers within an objective, if there is one.
    #[must_use]
    pub fn with_slo(self, slo: Option<Time>) -> Self {
        Self { slo, ..self }
    }

    /// Counts requests in slices of time, too, if there are any.
    #[must_use]
    pub fn with_slices(self, slices: Option<Slices>) -> Self {
        Self { slices, ..self }
    }

    /// Adds a request.
    pub fn add(&mut self, record: &Record) {
        // Histograms resize themselves.
        if let Some(sent) = record.sent_ns {
            let _ = self.lateness.record(sent.saturating_sub(record.intended_ns));
        }
        self.end_ns = self.end_ns.max(record.ended_ns);
        if let Some(slices) = &mut self.slices {
            slices.add(record);
        }
        match record.failure() {
            None => {
                let latency = record.ended_ns.saturating_sub(record.intended_ns);
                let _ = self.latency.record(latency);
                self.good += u64::from(self.slo.is_some_and(|slo| latency <= slo));
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

    /// The number of answered requests.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.latency.len()
    }

    /// The number of failed requests.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// The number of requests that were not sent, since too many were open.
    #[must_use]
    pub fn not_sent(&self) -> u64 {
        self.failures.get(Outcome::NotSent.name()).copied().unwrap_or(0)
    }

    /// The number of requests that were open when the measurement was stopped.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.failures.get(Outcome::GivenUp.name()).copied().unwrap_or(0)
    }

    /// A number of requests, a second; none before the end of the first one.
    #[must_use]
    pub fn per_second(&self, requests: f64) -> Option<f64> {
        (self.end_ns > 0).then(|| requests * 1e9 / self.end_ns as f64)
    }

    /// Answers within the objective, a second; none without an objective.
    #[must_use]
    pub fn goodput(&self) -> Option<f64> {
        self.slo.and(self.per_second(self.good as f64))
    }

    /// Answers within the objective as a share of all requests; none without an objective.
    #[must_use]
    pub fn good_share(&self) -> Option<f64> {
        let requests = self.answered() + self.failed();
        (self.slo.is_some() && requests > 0).then(|| self.good as f64 / requests as f64)
    }

    /// The quantile of the latencies at a share, in ms; none without answers.
    #[must_use]
    pub fn within_ms(&self, share: f64) -> Option<f64> {
        (self.answered() > 0).then(|| ms(self.latency.value_at_quantile(share)))
    }

    /// The P99.9 minus the median, in ms; none without answers.
    pub(crate) fn gap_ms(&self) -> Option<f64> {
        Some(self.within_ms(0.999)? - self.within_ms(0.5)?)
    }

    /// The mean latency, in ms; none without answers.
    #[must_use]
    pub fn mean_ms(&self) -> Option<f64> {
        (self.answered() > 0).then(|| self.latency.mean() / 1e6)
    }

    /// The quantile of the lateness at a share, in ms; none if no request was sent.
    #[must_use]
    pub fn late_ms(&self, share: f64) -> Option<f64> {
        (!self.lateness.is_empty()).then(|| ms(self.lateness.value_at_quantile(share)))
    }

    /// A number of rows as a share of the answered rows.
    #[must_use]
    pub fn share(&self, rows: u64) -> Option<f64> {
        let answered = self.answered() as f64 * self.rows as f64;
        (answered > 0.0).then(|| rows as f64 / answered)
    }

    /// The share of right rows among all rows that were compared with labels.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        let rows = self.judged as f64 * self.rows as f64;
        (rows > 0.0).then(|| self.correct as f64 / rows)
    }

    /// A_d: the share of right rows among reconstructions.
    pub(crate) fn degraded_accuracy(&self) -> Option<f64> {
        let rebuilt = self.judged > 0 && self.reconstructed > 0;
        rebuilt.then(|| self.correct_reconstructed as f64 / self.reconstructed as f64)
    }

    /// True if the generator's own delay distorts the latencies: its P99 is more than a tenth of the median
    /// latency.
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
