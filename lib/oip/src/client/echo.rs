//! Whether an answer is the one to its request.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::instance::{CallError, InstanceView};
use crate::{InferRequest, InferResponse};

/// What the ids of all servers of this kind begin with.
const OURS: &str = "parm-";

/// Nothing is known yet.
const UNKNOWN: u32 = 0;
/// The server names its answers in its own way, or not at all.
const NEVER: u32 = 1;
/// It sends ids back. More than this: so many answers in a row had another id, which no server of this kind
/// sends.
const ALWAYS: u32 = 2;

/// A server that names so many answers in a row in a way of its own is another one than before.
const ANOTHER: u32 = 8;

/// An id that no other request has, of this process or another one.
pub(super) fn new_id() -> String {
    static START: LazyLock<u64> = LazyLock::new(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    });
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    format!("{OURS}{:x}-{}", *START, NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// What the answers of a server have shown.
#[derive(Debug, Default)]
pub(super) struct Echo {
    ids: AtomicU32,
    mismatched: AtomicU64,
}

impl Echo {
    /// Compares an answer with its request: the id where the server sends ids back, the model, and its version
    /// where one was asked for. What the answer does not say is no mismatch.
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

    /// Counts a call that got the answer of another one.
    pub(super) fn count<T>(&self, server: &str, result: Result<T, CallError>) -> Result<T, CallError> {
        if let Err(CallError::Mismatched(what)) = &result {
            self.mismatched.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(instance = server, what, "an answer is not the one to its request");
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
    fn names_and_versions_that_are_said_are_compared() {
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
    fn ids_are_compared_where_the_server_sends_them_back() {
        let echo = Echo::default();
        let ids = |found: &str, expected: &str| check(&echo, ["m", "", found], ["m", "", expected]);
        assert_eq!(echo.view().echoes_ids, None);
        assert_eq!(ids("its-own", "parm-1"), Ok(()));
        assert_eq!(echo.view().echoes_ids, Some(false));
        assert!(ids("parm-1", "parm-2").is_err(), "the id of another call is one, whatever the server does");
        assert_eq!(ids("parm-3", "parm-3"), Ok(()));
        assert_eq!(echo.view().echoes_ids, Some(true));
        assert!(ids("its-own", "parm-4").is_err());
        assert_eq!(ids("", "parm-5"), Ok(()));
    }

    #[test]
    fn a_server_that_takes_the_place_of_one_that_sent_ids_back_is_believed_after_a_while() {
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
