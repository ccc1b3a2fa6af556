//! The last second of a measurement, as a line beside the progress bar.

use parm_workload::{Outcome, Record, Summary, Time};

/// How often there is a new line, in ns.
const EVERY: Time = 1_000_000_000;

/// The requests that ended since the last line.
pub(crate) struct Live {
    summary: Summary,
    /// When the line is due, in ns after the warm-up.
    due: Time,
}

impl Default for Live {
    fn default() -> Self {
        Self { summary: Summary::new(0.0, 1), due: EVERY }
    }
}

impl Live {
    /// Adds a request; each second there is a line.
    pub(crate) fn add(&mut self, record: &Record) -> Option<String> {
        // The next measurement begins at 0.
        if record.ended_ns + 2 * EVERY < self.due {
            *self = Self::default();
        }
        let line = (record.ended_ns >= self.due).then(|| self.line());
        if line.is_some() {
            *self = Self { due: record.ended_ns + EVERY, ..Self::default() };
        }
        if record.outcome != Outcome::GivenUp {
            self.summary.add(record);
        }
        line
    }

    fn line(&self) -> String {
        let ms = |share| self.summary.within_ms(share).map_or("-".to_owned(), |ms| format!("{ms:.1}"));
        let rebuilt = self.summary.share(self.summary.reconstructed).unwrap_or(0.0);
        format!(
            "P50 {} P99 {} ms, {:.1} % rebuilt, {} failed",
            ms(0.5),
            ms(0.99),
            rebuilt * 100.0,
            self.summary.failed()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_a_line_of_its_own_requests() {
        let mut live = Live::default();
        let mut lines = Vec::new();
        for ms in (0..3000).step_by(100).chain((0..1500).step_by(100)) {
            let outcome = if ms % 1000 == 500 { Outcome::Timeout } else { Outcome::Answered };
            let mut record = Record::new(10.0, 0, ms * 1_000_000, outcome);
            record.ended_ns += 5_000_000;
            record.reconstructed = usize::from(ms == 1200);
            lines.extend(live.add(&record));
        }
        let none = "P50 5.0 P99 5.0 ms, 0.0 % rebuilt, 1 failed";
        assert_eq!(lines, [none, "P50 5.0 P99 5.0 ms, 11.1 % rebuilt, 1 failed", none]);
    }
}
