//! Checks that an answer belongs to its request.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::instance::{CallError, InstanceView};
use crate::{InferRequest, InferResponse};

/// The beginning of the ids of all parm servers.
const OURS: &str = "parm-";

/// It is not known whether the server returns ids.
const UNKNOWN: u32 = 0;
/// The server uses other ids in answers, or none.
const NEVER: u32 = 1;
/// The server returns ids. Larger values also count consecutive answers with other ids.
const ALWAYS: u32 = 2;

/// After this many consecutive answers with other ids, the server has been replaced by another one.
const ANOTHER: u32 = 8;

/// An id that is unique among all requests of all processes.
pub(super) fn new_id() -> String {
    static START: LazyLock<u64> = LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    });
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    format!("{OURS}{:x}-{}", *START, NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// What is known from the answers of a server.
#[derive(Debug, Default)]
pub(super) struct Echo {
    ids: AtomicU32,
    mismatched: AtomicU64,
}

impl Echo {
    /// Compares an answer with its request: the id if the server returns ids, the model, and the version if
    /// the request has one. A field that is missing from the answer is no mismatch.
    pub(super) fn check(&self, request: &InferRequest, response: &InferResponse) -> Result<(), CallError> {
        let other = |what: &str, found: &str, expected: &str| {
            let text = format!("found an answer with the {what} '{found}', expected '{expected}'");
            Err(CallError::Mismatched(text))
        };
        if !response.model.is_empty() && response.model != request.model {
            return other("model", &response.model, &request.model);
        }
        let versions = [&response.version, &request.version];
        if versions.iter().all(|version| !version.is_empty()) && versions[0] != versions[1] {
            return other("version", versions[0], versions[1]);
        }
        if self.is_other_id(&response.id, &request.id) {
            return other("id", &response.id, &request.id);
        }
        Ok(())
    }

    fn is_other_id(&self, found: &str, expected: &str) -> bool {
        let known = self.ids.load(Ordering::Relaxed);
        if found == expected {
            self.ids.store(ALWAYS, Ordering::Relaxed);
            return false;
        }
        if known == UNKNOWN {
            self.ids.store(NEVER, Ordering::Relaxed);
        }
        if found.is_empty() {
            return false;
        }
        if found.starts_with(OURS) {
            return true;
        }
        if known < ALWAYS {
            return false;
        }
        let next = if known >= ALWAYS + ANOTHER { NEVER } else { known + 1 };
        self.ids.store(next, Ordering::Relaxed);
        true
    }

    /// Counts a call that got the answer to another one.
    pub(super) fn count<T>(&self, server: &str, result: Result<T, CallError>) -> Result<T, CallError> {
        if let Err(CallError::Mismatched(what)) = &result {
            self.mismatched.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(instance = server, what, "an answer belongs to another request");
        }
        result
    }

    pub(super) fn view(&self) -> InstanceView {
        InstanceView {
            echoes_ids: match self.ids.load(Ordering::Relaxed) {
                UNKNOWN => None,
                known => Some(known >= ALWAYS),
            },
            mismatched: self.mismatched.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(echo: &Echo, found: [&str; 3], asked: [&str; 3]) -> Result<(), String> {
        let [model, version, id] = asked.map(str::to_owned);
        let request = InferRequest { model, version, id, ..InferRequest::default() };
        let [model, version, id] = found.map(str::to_owned);
        let response = InferResponse { model, version, id, ..InferResponse::default() };
        echo.check(&request, &response).map_err(|error| error.to_string())
    }

    #[test]
    fn names_and_versions_are_compared_if_the_answer_has_them() {
        let echo = Echo::default();
        let asked = ["m", "2", "parm-1"];
        assert_eq!(check(&echo, ["", "", ""], asked), Ok(()));
        assert_eq!(check(&echo, ["m", "2", ""], asked), Ok(()));
        assert_eq!(check(&echo, ["m", "7", ""], ["m", "", "parm-1"]), Ok(()), "no version was asked for");
        let error = check(&echo, ["n", "2", "parm-1"], asked).unwrap_err();
        assert_eq!(error, "found an answer with the model 'n', expected 'm'");
        let error = check(&echo, ["m", "1", "parm-1"], asked).unwrap_err();
        assert_eq!(error, "found an answer with the version '1', expected '2'");
    }

    #[test]
    fn ids_are_compared_if_the_server_returns_them() {
        let echo = Echo::default();
        let ids = |found: &str, expected: &str| check(&echo, ["m", "", found], ["m", "", expected]);
        assert_eq!(echo.view().echoes_ids, None);
        assert_eq!(ids("its-own", "parm-1"), Ok(()));
        assert_eq!(echo.view().echoes_ids, Some(false));
        assert!(ids("parm-1", "parm-2").is_err(), "the id of another call is always a mismatch");
        assert_eq!(ids("parm-3", "parm-3"), Ok(()));
        assert_eq!(echo.view().echoes_ids, Some(true));
        assert!(ids("its-own", "parm-4").is_err());
        assert_eq!(ids("", "parm-5"), Ok(()));
    }

    #[test]
    fn a_replaced_server_with_its_own_ids_is_accepted_after_some_answers() {
        let echo = Echo::default();
        let ids = |found: &str| check(&echo, ["m", "", found], ["m", "", "parm-1"]);
        ids("parm-1").unwrap();
        assert_eq!((0..20).take_while(|_| ids("its-own").is_err()).count(), 9);
        ids("parm-1").unwrap();
        assert!(ids("its-own").is_err());
    }

    #[test]
    fn ids_are_unique() {
        assert_ne!(new_id(), new_id());
    }
}
