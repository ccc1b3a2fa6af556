//! Traces: recorded arrival times to replay.

use std::io::{self, BufRead};

use parm::dtype::Float;
use parm::npy::{RowReader, StreamError, StreamErrorKind};
use serde::Deserialize;

use crate::Record;

/// A trace that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The input cannot be read.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// The stream of tensors is invalid.
    #[error("item {item}: {kind}")]
    Stream {
        /// The item, from 1.
        item: u64,
        /// The problem.
        kind: StreamErrorKind,
    },
    /// The rows of the stream are not single numbers.
    #[error("found rows of {0}, expected times: one number a row")]
    Rows(String),
    /// An invalid time.
    #[error("time {index}: found {seconds} s, expected a number from 0 to 10 million")]
    Time {
        /// Its index, from 0.
        index: usize,
        /// The time, in seconds.
        seconds: f64,
    },
    /// Times that are not in order.
    #[error("time {index}: found {seconds} s after {before} s, expected times in order")]
    Order {
        /// Its index, from 0.
        index: usize,
        /// The time, in seconds.
        seconds: f64,
        /// The time before it, in seconds.
        before: f64,
    },
    /// A line that is not a record.
    #[error("line {line}: {problem}")]
    Record {
        /// The number of the line, from 1.
        line: usize,
        /// The problem.
        problem: String,
    },
    /// Records of several runs, whose times have different origins.
    #[error("line {line}: found a record of another target, rate or trial, expected those of one run")]
    Runs {
        /// The number of the line, from 1.
        line: usize,
    },
    /// Fewer than two times, or all at one moment.
    #[error("found {0} times, expected at least two, and time between them")]
    Short(usize),
}

impl From<StreamError> for TraceError {
    fn from(StreamError { item, kind, .. }: StreamError) -> Self {
        Self::Stream { item, kind }
    }
}

/// What a trace needs of an entry of a journal (parm-formats(5)).
#[derive(Deserialize)]
struct Entry {
    t_ns: u64,
    event: String,
}

/// The arrival times of requests, in ns; the first is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace(Vec<u64>);

/// The longest trace, in seconds.
const LONGEST: f64 = 1e7;

impl Trace {
    /// Reads a trace: a stream of times in seconds, or records of requests or a journal as lines of JSON.
    ///
    /// # Errors
    /// A stream that is neither, one of [`of_seconds`](Self::of_seconds), a line
    /// that is no record, records of several runs, or fewer than two.
    pub fn read(mut bytes: impl BufRead) -> Result<Self, TraceError> {
        if bytes.fill_buf()?.first() == Some(&b'{') {
            return Self::of_records(bytes);
        }
        let mut rows = RowReader::new(bytes, "")?;
        let layout = rows.layout().clone();
        if !layout.shape.is_empty() {
            return Err(TraceError::Rows(layout.to_string()));
        }
        let mut data = Vec::new();
        let mut times = vec![0.0_f64; rows.read_raw(usize::MAX, &mut data)?];
        f64::decode(layout.dtype, &data, &mut times);
        Self::of_seconds(&times)
    }

    /// A trace of times in seconds.
    ///
    /// # Errors
    /// Times that are invalid or not in order, or fewer than two.
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
        Self::new(times.iter().map(|seconds| ((seconds - first) * 1e9).round() as u64).collect())
    }

    /// The intended times of the requests of one run: a [`Record`] on each line, in any order; or the arrivals of a
    /// journal.
    ///
    /// # Errors
    /// A line that is not a record, records of several runs, or fewer than two.
    fn of_records(lines: impl BufRead) -> Result<Self, TraceError> {
        let mut times = Vec::new();
        let mut run = None;
        for (line, text) in (1..).zip(lines.lines()) {
            let text = text?;
            let record: Record = match serde_json::from_str(&text) {
                Ok(record) => record,
                Err(error) => {
                    let Entry { t_ns, event } = serde_json::from_str(&text)
                        .map_err(|_| TraceError::Record { line, problem: error.to_string() })?;
                    times.extend((event == "arrive").then_some(t_ns));
                    continue;
                }
            };
            let of = (record.name, record.trial, record.rate);
            if *run.get_or_insert_with(|| of.clone()) != of {
                return Err(TraceError::Runs { line });
            }
            times.push(record.intended_ns);
        }
        times.sort_unstable();
        let first = times.first().copied().unwrap_or(0);
        for time in &mut times {
            *time -= first;
        }
        Self::new(times)
    }

    fn new(times: Vec<u64>) -> Result<Self, TraceError> {
        // Without time between requests there is no rate.
        match times.last() {
            Some(&last) if times.len() >= 2 && last > 0 => Ok(Self(times)),
            _ => Err(TraceError::Short(times.len())),
        }
    }

    /// The mean number of requests a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let last = self.0.last().map_or(1.0, |&last| last as f64);
        (self.0.len() - 1) as f64 * 1e9 / last
    }

    /// The number of requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.len() as u64
    }

    /// The arrival of a request after the first one, in ns.
    pub(super) fn time(&self, number: u64) -> Option<u64> {
        self.0.get(usize::try_from(number).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use parm_testkit::npy::{f4, f8};

    use super::*;
    use crate::Outcome;

    fn due(ns: u64) -> Record {
        Record::new(1.0, 0, ns, Outcome::Timeout)
    }

    fn lines(records: &[Record]) -> String {
        records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect()
    }

    #[test]
    fn times_and_records_are_read() {
        let of_seconds = Trace::of_seconds(&[5.0, 6.0, 7.0]).unwrap();
        assert_eq!((of_seconds.rate(), of_seconds.requests()), (1.0, 3));
        assert_eq!(Trace::read(&f8(&[3], &[0.0, 1.0, 2.0])[..]).unwrap(), of_seconds);
        let text = lines(&[3_000_000_000, 1_000_000_000, 2_000_000_000].map(due));
        assert_eq!(Trace::read(text.as_bytes()).unwrap(), of_seconds);
        let arrive =
            |second: u64| format!(r#"{{"t_ns":{second}000000000,"event":"arrive","query":{second}}}"#);
        let journal =
            [arrive(4), r#"{"t_ns":1,"event":"answered","call":0}"#.to_owned(), arrive(5), arrive(6)];
        assert_eq!(Trace::read(journal.join("\n").as_bytes()).unwrap(), of_seconds);
    }

    #[test]
    fn inputs_that_are_no_trace_are_refused() {
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
        let with = |other: Record| lines(&[due(0), other]).into_bytes();
        for (bytes, expected) in [
            (b"\n{}".to_vec(), "item 1: not an .npy item"),
            (b"{}".to_vec(), "line 1: "),
            (b"{\xff".to_vec(), "cannot read: "),
            (f4(&[1, 2], &[0.0, 1.0]), "found rows of f4[2], expected times"),
            (with(Record { name: Some("a".into()), ..due(5) }), "line 2: found a record of another target"),
            (with(Record { trial: Some(1), ..due(5) }), "line 2: found a record of another target"),
        ] {
            let error = Trace::read(&bytes[..]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
