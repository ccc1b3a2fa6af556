//! Calls from programs without a runtime of their own: they are sent at once, and waited for later.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

use super::{Error, reach};
use crate::instance::{CallContext, CallError, Instance, within};
use crate::{InferRequest, InferResponse, ModelMetadata};
use parm_config::Remote;

/// Makes calls, so many at a time. When it is dropped, calls on their way are given up.
#[derive(Debug)]
pub struct Caller {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    at_once: Arc<Semaphore>,
}

/// An answer that will come.
#[derive(Debug)]
pub struct Promise(oneshot::Receiver<Result<InferResponse, CallError>>);

impl Caller {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// What the system says where it has no threads.
    pub fn new(at_once: usize) -> io::Result<Self> {
        let at_once = Arc::new(Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Self { runtime: Some(Runtime::new()?), at_once })
    }

    /// As [`reach`].
    ///
    /// # Errors
    /// As those of [`reach`].
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

    /// Sends a request, or as soon as fewer are on their way; its time counts from then. If the connection
    /// breaks off, it is sent once more, unless it is a step of a sequence.
    #[must_use]
    pub fn call(&self, instance: &Arc<dyn Instance>, request: InferRequest, timeout: Duration) -> Promise {
        let (instance, at_once) = (Arc::clone(instance), Arc::clone(&self.at_once));
        let (reply, answer) = oneshot::channel();
        let call = async move {
            // It is never closed.
            let _slot = at_once.acquire().await;
            let once = async || {
                let context = CallContext { timeout: Some(timeout), ..CallContext::default() };
                within(timeout, instance.infer(request.clone(), context)).await
            };
            let mut result = once().await;
            if matches!(result, Err(CallError::Unreachable(_))) && !request.is_step() {
                result = once().await;
            }
            // The caller may have dropped the promise.
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
    /// Why there is none.
    pub fn wait(self) -> Result<InferResponse, CallError> {
        let gone = || CallError::Unreachable("the call was given up".to_owned());
        self.0.blocking_recv().unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // Calls that nobody waits for are not waited for.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}
