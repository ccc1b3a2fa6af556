//! The record of one request.

use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With an answer.
    Answered,
    /// The server could not be reached, or the connection was lost.
    Unreachable,
    /// There was no answer in time.
    Timeout,
    /// The server refused the request.
    Refused,
    /// The server reported a failure.
    Failed,
    /// The answer violated the protocol.
    Garbled,
    /// It was not sent, since too many requests were open.
    NotSent,
    /// The measurement was stopped before the answer.
    GivenUp,
}

impl Outcome {
    /// Its name in records.
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

/// One request; parm-formats(5) describes its JSON. Times are in ns since the end of the warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The target; none if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The trial, from 0; none if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<u32>,
    /// The intended requests a second.
    pub rate: f64,
    /// The request's number, from 0.
    pub query: u64,
    /// The time at which it was due.
    pub intended_ns: u64,
    /// The time at which it was sent; none if it was not.
    pub sent_ns: Option<u64>,
    /// The time at which it ended.
    pub ended_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The HTTP status code of the server's error; over gRPC, the HTTP code that corresponds to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The name of the gRPC status code of the server's error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<String>,
    /// Rows that got a reconstruction.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reconstructed: usize,
    /// Rows that the approximate model answered.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub approximate: usize,
    /// Rows that got a default answer.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub default: usize,
    /// Rows that are right; none without labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<usize>,
    /// Reconstructions that are right.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub correct_reconstructed: usize,
    /// The message of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for it
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Record {
    /// The record of a request that ended without an answer at the time at which it was due.
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
            grpc: None,
            reconstructed: 0,
            approximate: 0,
            default: 0,
            correct: None,
            correct_reconstructed: 0,
            error: None,
        }
    }

    /// The kind of failure, with the status that the server sent if there is one, as `failed-503` or over gRPC
    /// `failed-UNAVAILABLE`; none if there is an answer.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if self.outcome == Outcome::Answered {
            return None;
        }
        let name = self.outcome.name().to_owned();
        let status = self.grpc.clone().or_else(|| self.status.map(|status| status.to_string()));
        Some(status.map_or(name.clone(), |status| format!("{name}-{status}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_documented_one() {
        let mut record = Record::new(100.0, 3, 30_000_000, Outcome::Answered);
        (record.sent_ns, record.ended_ns) = (Some(30_010_000), 31_000_000);
        (record.reconstructed, record.default) = (2, 1);
        let text = r#"{"rate":100.0,"query":3,"intended_ns":30000000,"sent_ns":30010000,"ended_ns":31000000,"outcome":"answered","reconstructed":2,"default":1}"#;
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        assert_eq!(serde_json::from_str::<Record>(text).unwrap(), record);
        assert_eq!(record.failure(), None);
    }

    #[test]
    fn each_failure_has_a_kind() {
        for (outcome, status, kind) in [
            (Outcome::Unreachable, None, "unreachable"),
            (Outcome::Refused, Some(400), "refused-400"),
            (Outcome::Failed, Some(503), "failed-503"),
            (Outcome::NotSent, None, "not-sent"),
        ] {
            let record = Record { status, ..Record::new(1.0, 0, 0, outcome) };
            assert_eq!(record.failure().as_deref(), Some(kind));
            let text = serde_json::to_string(&record).unwrap();
            assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record, "{text}");
            assert!(text.contains(&format!(r#""outcome":"{}""#, outcome.name())));
        }
        let mut record = Record::new(1.0, 0, 0, Outcome::Failed);
        (record.status, record.grpc) = (Some(503), Some("ABORTED".to_owned()));
        assert_eq!(record.failure().as_deref(), Some("failed-ABORTED"));
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#""status":503,"grpc":"ABORTED""#), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
