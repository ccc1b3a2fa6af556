//! When queries arrive.

use std::time::Duration;

use parm_serving::load::{self, Due, Record, Schedule, Span};

/// A trace that cannot be replayed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TraceError {
    /// A time that is none.
    #[error("time {index}: found {seconds} s, expected a number from 0 to 10 million")]
    Time {
        /// Its place, from 0.
        index: usize,
        /// What it is.
        seconds: f64,
    },
    /// Times that are not in order.
    #[error("time {index}: found {seconds} s after {before} s, expected times in order")]
    Order {
        /// Its place, from 0.
        index: usize,
        /// What it is.
        seconds: f64,
        /// The one before.
        before: f64,
    },
    /// A line that is no record.
    #[error("line {line}: {problem}")]
    Record {
        /// From 1.
        line: usize,
        /// Why.
        problem: String,
    },
    /// Nothing to replay.
    #[error("found {0} times, expected at least two")]
    Short(usize),
}

/// The times at which queries arrived, in ns; the first is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace(Vec<u64>);

/// The longest trace, in seconds.
const LONGEST: f64 = 1e7;

impl Trace {
    /// A trace of times in seconds.
    ///
    /// # Errors
    /// Times that are none or not in order, or fewer than two.
    pub fn of_seconds(times: &[f64]) -> Result<Self, TraceError> {
        let first = times.first().copied().unwrap_or(0.0);
        let mut before = first;
        for (index, &seconds) in times.iter().enumerate() {
            if !(0.0..=LONGEST).contains(&seconds) {
                return Err(TraceError::Time { index, seconds });
            }
            if seconds < before {
                return Err(TraceError::Order { index, seconds, before });
            }
            before = seconds;
        }
        Self::new(times.iter().map(|seconds| ((seconds - first) * 1e9) as u64).collect())
    }

    /// The times at which the queries of `parm-load --records` were to be sent: a record on each line, in
    /// any order.
    ///
    /// # Errors
    /// A line that is no record, or fewer than two.
    pub fn of_records(text: &str) -> Result<Self, TraceError> {
        let record = |(line, text): (usize, &str)| {
            serde_json::from_str::<Record>(text)
                .map(|record| record.intended_ns)
                .map_err(|error| TraceError::Record { line: line + 1, problem: error.to_string() })
        };
        let mut times = text.lines().enumerate().map(record).collect::<Result<Vec<u64>, _>>()?;
        times.sort_unstable();
        let first = times.first().copied().unwrap_or(0);
        for time in &mut times {
            *time -= first;
        }
        Self::new(times)
    }

    fn new(times: Vec<u64>) -> Result<Self, TraceError> {
        // Without a time between two there is no rate.
        match times.last() {
            Some(&last) if times.len() >= 2 && last > 0 => Ok(Self(times)),
            _ => Err(TraceError::Short(times.len())),
        }
    }

    /// Queries a second, on average.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let last = self.0.last().map_or(1.0, |&last| last as f64);
        (self.0.len() - 1) as f64 / last * 1e9
    }

    /// How many queries there are.
    #[must_use]
    pub fn queries(&self) -> usize {
        self.0.len()
    }
}

/// How queries arrive.
#[derive(Clone, Copy, Debug)]
pub enum Arrivals<'a> {
    /// As `parm-load` sends them.
    Drawn(load::Arrivals),
    /// As they did once, stretched to the rate.
    Traced(&'a Trace),
}

impl<'a> Arrivals<'a> {
    /// The arrivals at a rate: those of the warm-up, and then so many queries, or until the trace ends.
    pub(crate) fn times(
        self,
        rate: f64,
        seed: u64,
        warm_up: Duration,
        queries: u64,
    ) -> Box<dyn Iterator<Item = Due> + 'a> {
        match self {
            Self::Drawn(arrivals) => {
                Box::new(Schedule::new(arrivals, rate, seed, warm_up, Span::Requests(queries)))
            }
            Self::Traced(trace) => {
                let stretch = trace.rate() / rate;
                let mut numbers = 0..queries;
                Box::new(trace.0.iter().map_while(move |&time| {
                    let at = Duration::from_nanos((time as f64 * stretch) as u64);
                    let number = if at < warm_up { None } else { Some(numbers.next()?) };
                    Some(Due { at, number })
                }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_replayed_at_its_own_rate_and_stretched_to_others() {
        let trace = Trace::of_seconds(&[10.0, 10.5, 11.0, 12.0]).unwrap();
        assert_eq!((trace.rate(), trace.queries()), (1.5, 4));
        let ms = |rate, warm_up, queries| -> Vec<(u128, Option<u64>)> {
            let times = Arrivals::Traced(&trace).times(rate, 0, Duration::from_millis(warm_up), queries);
            times.map(|due| (due.at.as_millis(), due.number)).collect()
        };
        assert_eq!(ms(1.5, 500, 9), [(0, None), (500, Some(0)), (1000, Some(1)), (2000, Some(2))]);
        assert_eq!(ms(3.0, 0, 3), [(0, Some(0)), (250, Some(1)), (500, Some(2))]);
    }

    #[test]
    fn records_are_a_trace_by_the_times_that_were_intended() {
        let record = |ns: u64| {
            format!(
                r#"{{"rate":1.0,"query":0,"intended_ns":{ns},"sent_ns":null,"ended_ns":9,"outcome":"timeout"}}"#
            )
        };
        let text = [record(3_000_000_000), record(1_000_000_000), record(2_000_000_000)].join("\n");
        assert_eq!(Trace::of_records(&text), Trace::of_seconds(&[0.0, 1.0, 2.0]));
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        for (times, expected) in [
            (&[0.0, -1.0][..], "time 1: found -1 s"),
            (&[f64::NAN, 1.0], "time 0: found NaN"),
            (&[2.0, 1.0], "time 1: found 1 s after 2 s"),
            (&[2.0], "found 1 times"),
            (&[2.0, 2.0], "expected at least two"),
        ] {
            let error = Trace::of_seconds(times).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = Trace::of_records("\n{}").unwrap_err().to_string();
        assert!(error.starts_with("line 1: "), "{error}");
    }
}
