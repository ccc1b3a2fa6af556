//! Waiting for what must come, however busy the machine is.
#![allow(dead_code)] // each test file uses its part

use std::time::Duration;

pub(crate) use parm_testkit::wait::BOUND;

/// The result of something that must come. Panics after [`BOUND`], and says what did not come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(result) = tokio::time::timeout(BOUND, future).await else { panic!("waited {BOUND:?} for {what}") };
    result
}

/// Waits until a condition holds. Panics after [`BOUND`], and says what was waited for.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(what, wait).await;
}
