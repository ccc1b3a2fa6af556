//! What became of one request.

use serde::{Deserialize, Serialize};

use super::labels::Right;
use crate::instance::CallError;
use crate::oip::{InferResponse, Parameter};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With an answer.
    Answered,
    /// The server could not be reached, or broke off.
    Unreachable,
    /// There was no answer in time.
    Timeout,
    /// The server refused the request.
    Refused,
    /// The server said that it failed.
    Failed,
    /// The answer was not one of the protocol.
    Garbled,
    /// It was not sent, since too many were on their way.
    NotSent,
    /// The measurement was stopped before an answer came.
    GivenUp,
}

impl Outcome {
    /// Its name, as in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Garbled => "garbled",
            Self::NotSent => "not-sent",
            Self::GivenUp => "given-up",
        }
    }
}

/// One request: parm-formats(5) describes its form as JSON. Times are in ns since the end of the warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The target; none if there is but one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The trial, from 0; none if there is but one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<u32>,
    /// Requests a second that the measurement meant to send.
    pub rate: f64,
    /// The request's number, from 0.
    pub query: u64,
    /// When it was to be sent.
    pub intended_ns: u64,
    /// When it was sent; none if it was not.
    pub sent_ns: Option<u64>,
    /// When it ended.
    pub ended_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The status code over HTTP of the server's error; over gRPC, the one that stands for its code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Rows that were rebuilt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reconstructed: usize,
    /// Rows that an approximate model answered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub approximate: usize,
    /// Rows that got a default answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub default: usize,
    /// Rows that are right; none if there is nothing to tell it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<usize>,
    /// Rows that were rebuilt, and are right.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub correct_reconstructed: usize,
    /// What the error said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for it
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Record {
    /// A request that was to be sent at a time, and has ended then, without an answer.
    #[must_use]
    pub fn new(rate: f64, query: u64, intended_ns: u64, outcome: Outcome) -> Self {
        Self {
            name: None,
            trial: None,
            rate,
            query,
            intended_ns,
            sent_ns: None,
            ended_ns: intended_ns,
            outcome,
            status: None,
            reconstructed: 0,
            approximate: 0,
            default: 0,
            correct: None,
            correct_reconstructed: 0,
            error: None,
        }
    }

    /// Takes down an answer.
    pub(super) fn note(&mut self, answer: Result<InferResponse, CallError>) {
        match answer {
            Ok(response) => {
                let rows = |name: &str| match response.parameters.get(name) {
                    Some(Parameter::String(rows)) if !rows.is_empty() => rows.split(',').count(),
                    _ => 0,
                };
                self.outcome = Outcome::Answered;
                self.reconstructed = rows("parm_reconstructed");
                self.approximate = rows("parm_approximate");
                self.default = rows("parm_default");
            }
            Err(error) => {
                self.outcome = match &error {
                    CallError::Unreachable(_) => Outcome::Unreachable,
                    CallError::Timeout(_) => Outcome::Timeout,
                    CallError::Refused(_) => Outcome::Refused,
                    CallError::Failed(_) => Outcome::Failed,
                    CallError::Garbled(_) | CallError::Mismatched(_) => Outcome::Garbled,
                };
                if let CallError::Refused(said) | CallError::Failed(said) = &error {
                    self.status = Some(said.http());
                }
                self.error = Some(error.to_string());
            }
        }
    }

    /// Takes down how much of an answer is right; one of which that cannot be said is none.
    pub(super) fn judge(&mut self, right: Result<Right, String>) {
        match right {
            Ok(right) => {
                self.correct = Some(right.all);
                self.correct_reconstructed = right.reconstructed;
            }
            Err(problem) => {
                self.outcome = Outcome::Garbled;
                (self.reconstructed, self.approximate, self.default) = (0, 0, 0);
                self.error = Some(problem);
            }
        }
    }

    /// What went wrong, with the status if there is one: `failed-503`; none if there is an answer.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if self.outcome == Outcome::Answered {
            return None;
        }
        let name = self.outcome.name().to_owned();
        Some(self.status.map_or(name.clone(), |status| format!("{name}-{status}")))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oip::{Error, Status};

    #[test]
    fn the_form_is_the_documented_one() {
        let mut record = Record::new(100.0, 3, 30_000_000, Outcome::GivenUp);
        (record.sent_ns, record.ended_ns) = (Some(30_010_000), 31_000_000);
        let mut response = InferResponse::default();
        let rows = |rows: &str| Parameter::String(rows.to_owned());
        response.parameters.insert("parm_reconstructed".to_owned(), rows("0,2"));
        response.parameters.insert("parm_default".to_owned(), rows("1"));
        record.note(Ok(response));
        let text = r#"{"rate":100.0,"query":3,"intended_ns":30000000,"sent_ns":30010000,"ended_ns":31000000,"outcome":"answered","reconstructed":2,"default":1}"#;
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(serde_json::from_str::<Record>(text).unwrap(), record);
        assert_eq!(record.failure(), None);
    }

    #[test]
    fn what_is_right_is_taken_down_and_an_answer_without_it_is_none() {
        let mut record = Record::new(100.0, 3, 30, Outcome::GivenUp);
        (record.name, record.trial) = (Some("a".to_owned()), Some(2));
        record.note(Ok(InferResponse::default()));
        record.judge(Ok(Right { all: 2, reconstructed: 1 }));
        let text = r#"{"name":"a","trial":2,"rate":100.0,"query":3,"intended_ns":30,"sent_ns":null,"ended_ns":30,"outcome":"answered","correct":2,"correct_reconstructed":1}"#;
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(serde_json::from_str::<Record>(text).unwrap(), record);
        record.judge(Err("found no output".to_owned()));
        assert_eq!(record.failure().as_deref(), Some("garbled"));
        assert_eq!(record.error.as_deref(), Some("found no output"));
    }

    #[test]
    fn each_failure_has_a_kind() {
        let said = |status| Error::new(status, "no");
        for (error, kind) in [
            (CallError::Unreachable("gone".to_owned()), "unreachable"),
            (CallError::Timeout(Duration::from_secs(1)), "timeout"),
            (CallError::Refused(said(Status::InvalidArgument)), "refused-400"),
            (CallError::Failed(said(Status::Unavailable)), "failed-503"),
            (CallError::Refused(Error::from_http(401, "no")), "refused-401"),
            (CallError::Refused(Error::from_http(422, "no")), "refused-422"),
            (CallError::Failed(Error::from_http(429, "no")), "failed-429"),
            (CallError::Failed(Error::from_http(502, "no")), "failed-502"),
            (CallError::Failed(Error::from_http(408, "no")), "failed-408"),
            (CallError::Garbled("what".to_owned()), "garbled"),
        ] {
            let mut record = Record::new(1.0, 0, 0, Outcome::GivenUp);
            record.note(Err(error.clone()));
            assert_eq!(record.failure().as_deref(), Some(kind));
            assert_eq!(record.error, Some(error.to_string()));
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
            assert!(text.contains(&format!(r#""outcome":"{}""#, record.outcome.name())));
        }
    }
}
