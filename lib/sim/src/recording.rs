//! Recorded runs: records of requests, or a journal of the serving core.

use std::collections::HashMap;
use std::io::{self, BufRead};

use parm_engine::journal::{Entry, Event, Given, Work};
use parm_workload::{Outcome, Record, Time, Trace, TraceError};

/// A recorded run at one rate.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The requests, or the queries of a journal, in the order in which they arrived.
    pub records: Vec<Record>,
    /// The calls of instances, in the order in which they were sent; none of records of requests.
    pub calls: Option<Vec<Call>>,
}

/// A call of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The instance.
    pub instance: u64,
    /// The number of rows.
    pub rows: usize,
    /// When it was sent.
    pub begin: Time,
    /// How it ended, and when; none if the journal ends before.
    pub end: Option<(CallEnd, Time)>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// With an answer.
    Answered,
    /// With an error, or without an answer.
    Failed,
    /// It was cancelled, or timed out.
    Cancelled,
}

/// A file that is no recorded run.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// It cannot be read.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
    /// A line that is neither a record nor an entry of a journal, or not of the same kind as the first one.
    #[error("line {line}: expected {expected}: {problem}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// What it should be.
        expected: &'static str,
        /// The problem.
        problem: String,
    },
    /// The end of a call or a query that did not begin.
    #[error("line {line}: found the end of {what} {number}, expected its begin before it")]
    Begin {
        /// The number of the line, from 1.
        line: usize,
        /// `call` or `query`.
        what: &'static str,
        /// Its number.
        number: u64,
    },
    /// Times that are no trace.
    #[error(transparent)]
    Trace(#[from] TraceError),
}

impl Recording {
    /// Reads records of one run (as `parm-load --records` writes them), or a journal (as `parm-serve --journal`).
    ///
    /// # Errors
    /// A file that is neither, records of several runs, or fewer than two requests.
    pub fn read(lines: impl BufRead) -> Result<Self, RecordingError> {
        let mut lines = (1..).zip(lines.lines()).peekable();
        let is_journal = match lines.peek() {
            // The parser below reports what is not an object.
            Some((_, Ok(first))) => serde_json::from_str::<Entry>(first).is_ok(),
            _ => false,
        };
        let mut recording = if is_journal { Self::of_journal(lines)? } else { Self::of_records(lines)? };
        recording.records.sort_by_key(|record| record.intended_ns);
        let rate = recording.trace()?.rate();
        if is_journal {
            recording.records.iter_mut().for_each(|record| record.rate = rate);
        }
        Ok(recording)
    }

    fn of_records(lines: impl Iterator<Item = (usize, io::Result<String>)>) -> Result<Self, RecordingError> {
        let mut records: Vec<Record> = Vec::new();
        for (line, text) in lines {
            let record: Record = serde_json::from_str(&text?).map_err(|error| RecordingError::Line {
                line,
                expected: "a record of a request",
                problem: error.to_string(),
            })?;
            let run = |record: &Record| (record.name.clone(), record.trial, record.rate);
            if records.first().is_some_and(|first| run(first) != run(&record)) {
                return Err(TraceError::Runs { line }.into());
            }
            records.push(record);
        }
        Ok(Self { records, calls: None })
    }

    fn of_journal(lines: impl Iterator<Item = (usize, io::Result<String>)>) -> Result<Self, RecordingError> {
        let (mut records, mut calls): (Vec<Record>, Vec<Call>) = (Vec::new(), Vec::new());
        let (mut queries, mut running) = (HashMap::new(), HashMap::new());
        for (line, text) in lines {
            let Entry { t_ns, event } = serde_json::from_str(&text?).map_err(|error| {
                RecordingError::Line { line, expected: "an entry of a journal", problem: error.to_string() }
            })?;
            let ended = match event {
                Event::Arrive { query } => {
                    queries.insert(query, records.len());
                    // What has no answer at the end of the journal was given up.
                    records.push(Record {
                        sent_ns: Some(t_ns),
                        ..Record::new(0.0, query, t_ns, Outcome::GivenUp)
                    });
                    continue;
                }
                Event::Dispatch { call, instance, work } => {
                    running.insert(call, calls.len());
                    calls.push(Call { instance, rows: rows(&work), begin: t_ns, end: None });
                    continue;
                }
                Event::Answer { query, given } => {
                    let place = queries.remove(&query);
                    let record = place.and_then(|place| records.get_mut(place));
                    let record =
                        record.ok_or(RecordingError::Begin { line, what: "query", number: query })?;
                    (record.ended_ns, record.outcome) = (t_ns, Outcome::Answered);
                    match given {
                        Given::Prediction => {}
                        Given::Reconstructed { .. } => record.reconstructed = 1,
                        Given::Approximate => record.approximate = 1,
                        Given::Deadline => record.outcome = Outcome::Timeout,
                        Given::Failed => record.outcome = Outcome::Failed,
                    }
                    continue;
                }
                Event::Answered { call } => (call, CallEnd::Answered),
                Event::Failed { call } => (call, CallEnd::Failed),
                // It may still be answered.
                Event::Cancelled { call } => (call, CallEnd::Cancelled),
                Event::State { .. } => continue,
            };
            let (number, end) = ended;
            let call = running.get(&number).and_then(|&place: &usize| calls.get_mut(place));
            let call = call.ok_or(RecordingError::Begin { line, what: "call", number })?;
            call.end = Some((end, t_ns));
            if end != CallEnd::Cancelled {
                running.remove(&number);
            }
        }
        Ok(Self { records, calls: Some(calls) })
    }

    /// The times at which its requests were due.
    ///
    /// # Errors
    /// Fewer than two requests, or all at one moment.
    pub fn trace(&self) -> Result<Trace, TraceError> {
        let times: Vec<f64> = self.records.iter().map(|record| record.intended_ns as f64 / 1e9).collect();
        Trace::of_seconds(&times)
    }
}

/// The rows of a call.
fn rows(work: &Work) -> usize {
    match work {
        Work::Deployed { queries } | Work::Copy { queries } | Work::Approximate { queries } => queries.len(),
        Work::Parity { slots, .. } | Work::Coded { slots, .. } => {
            slots.iter().map(Vec::len).max().unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_has_calls_and_queries() {
        let text = r#"{"t_ns":5,"event":"arrive","query":0}
{"t_ns":5,"event":"dispatch","call":0,"instance":3,"task":"deployed","queries":[0]}
{"t_ns":6,"event":"arrive","query":1}
{"t_ns":6,"event":"dispatch","call":1,"instance":2,"task":"parity","group":0,"parity":0,"slots":[[0],[1]]}
{"t_ns":7,"event":"state","state":"hedge","load":1.5}
{"t_ns":8,"event":"cancelled","call":1}
{"t_ns":9,"event":"answered","call":0}
{"t_ns":9,"event":"answer","query":0,"outcome":"prediction"}
{"t_ns":9,"event":"failed","call":1}"#;
        let recording = Recording::read(text.as_bytes()).unwrap();
        let call = |instance, begin, end| Call { instance, rows: 1, begin, end: Some(end) };
        assert_eq!(
            recording.calls.unwrap(),
            [call(3, 5, (CallEnd::Answered, 9)), call(2, 6, (CallEnd::Failed, 9))]
        );
        let outcomes: Vec<_> =
            recording.records.iter().map(|record| (record.query, record.ended_ns, record.outcome)).collect();
        assert_eq!(outcomes, [(0, 9, Outcome::Answered), (1, 6, Outcome::GivenUp)]);
    }

    #[test]
    fn what_is_no_recorded_run_is_refused() {
        let arrive = r#"{"t_ns":5,"event":"arrive","query":0}"#;
        let first = Record::new(1.0, 0, 0, Outcome::Timeout);
        let other = serde_json::to_string(&Record { trial: Some(1), ..first.clone() }).unwrap();
        let first = serde_json::to_string(&first).unwrap();
        for (text, expected) in [
            (String::new(), "found 0 times"),
            ("[]".to_owned(), "line 1: expected a record of a request: "),
            (format!("{first}\n{arrive}"), "line 2: expected a record of a request: "),
            (format!("{arrive}\n{first}"), "line 2: expected an entry of a journal: "),
            (format!("{first}\n{other}"), "line 2: found a record of another"),
            (
                format!("{arrive}\n{}", r#"{"t_ns":5,"event":"answered","call":7}"#),
                "line 2: found the end of call 7, expected its begin",
            ),
            (
                format!("{arrive}\n{}", r#"{"t_ns":5,"event":"answer","query":7,"outcome":"deadline"}"#),
                "line 2: found the end of query 7, expected its begin",
            ),
        ] {
            let error = Recording::read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert!(matches!(Recording::read(&b"{\xff"[..]), Err(RecordingError::Read(_))));
    }
}
