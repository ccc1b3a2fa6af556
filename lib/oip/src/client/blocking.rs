//! Calls from programs without an async runtime: they are sent at once, and waited for later.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use super::{Error, reach};
use crate::instance::{CallContext, CallError, Instance, within};
use crate::{InferRequest, InferResponse, ModelMetadata};
use parm_config::Remote;

/// Makes a limited number of calls at a time. Dropping it cancels running calls.
#[derive(Debug)]
pub struct Caller {
    /// None only during drop.
    runtime: Option<Runtime>,
    at_once: Arc<Semaphore>,
}

/// An answer to wait for.
#[derive(Debug)]
pub struct Promise(oneshot::Receiver<Result<InferResponse, CallError>>);

impl Caller {
    /// Starts the runtime; nothing is sent yet.
    ///
    /// # Errors
    /// The system's error if it cannot start threads.
    pub fn new(at_once: usize) -> io::Result<Self> {
        let at_once = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Self { runtime: Some(Runtime::new()?), at_once })
    }

    /// As [`reach`].
    ///
    /// # Errors
    /// The errors of [`reach`].
    pub fn reach(
        &self,
        remote: &Remote,
        model: &str,
        version: &str,
        body_bytes: usize,
    ) -> Result<(Arc<dyn Instance>, ModelMetadata), Error> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(reach(remote, model, version, body_bytes)),
            None => unreachable!("it is not dropped"),
        }
    }

    /// Sends a request as soon as fewer than the limit are running; its timeout counts from then. If the
    /// connection is lost, the request is sent once more, unless it belongs to a sequence.
    #[must_use]
    pub fn call(&self, instance: &Arc<dyn Instance>, request: InferRequest, timeout: Duration) -> Promise {
        let (instance, at_once) = (Arc::clone(instance), Arc::clone(&self.at_once));
        let (reply, answer) = oneshot::channel();
        let call = async move {
            // The semaphore is never closed.
            let _slot = at_once.acquire().await;
            let once = async || {
                let context = CallContext { timeout: Some(timeout), ..CallContext::default() };
                within(timeout, instance.infer(request.clone(), context)).await
            };
            let mut result = once().await;
            if matches!(result, Err(CallError::Unreachable(_))) && !request.is_step() {
                result = once().await;
            }
            // The caller may have dropped the receiver.
            let _ = reply.send(result);
        };
        if let Some(runtime) = &self.runtime {
            runtime.spawn(call);
        }
        Promise(answer)
    }
}

impl Promise {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The call's error.
    pub fn wait(self) -> Result<InferResponse, CallError> {
        let gone = || CallError::Unreachable("the call was cancelled".to_owned());
        self.0.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // Does not wait for running calls.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
