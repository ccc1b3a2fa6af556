//! A runtime drives the engine of one model, with its queries, its instances and its clock.
//!
//! One task owns the engine, and receives messages: a request arrives, a call ends, an instance joins.
//! Each call is a task of its own, which also encodes, unless the instance does.
//!
//! The path of a query: [`Runtime::ask`] → `driver` (a row, [`parm_engine::Engine::arrive`]) →
//! dispatch → [`Instance::infer`] → `driver` (keeps the prediction, `answered`) → answer → the response
//! to the request, when all of its rows have an answer.

mod calls;
mod checks;
mod classes;
mod coding;
mod decoding;
mod driver;
mod history;
mod learned;
pub(crate) mod membership;
mod reconstructions;
mod requests;
mod rows;
mod spec;
mod stats;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use parm_engine::{InstanceId, Reason, RedundancyLevel, Roles};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use parm_oip::instance::{CallError, Headers, Instance};
use parm_oip::{Error, InferRequest, InferResponse, Status, Tensor};

use checks::{Checks, Facts};
pub use classes::PassedParameters;
pub use coding::{CodedInputs, Members, RowEncoder, coders};
pub use decoding::RowDecoder;
pub use driver::{Coding, JournalSender, Options, RoleNames};
pub use history::Slice;
use learned::Purpose;
pub use parm_engine::journal::Entry as JournalEntry;
pub use rows::{CodingError, Lost, Rebuilt};
pub use spec::{RowTensor, Spec, Uncoded};
pub use stats::{MemberView, Snapshot, State, Stats, Times};

/// A request to a runtime.
#[derive(Debug)]
pub struct Ask {
    /// Its rows, or the request itself.
    pub payload: Payload,
    /// How long the client waits; none: the deadline of the configuration.
    pub deadline: Option<Duration>,
    /// Waiting work is sent in this order, 0 first.
    pub priority: u8,
    /// How much redundancy it gets.
    pub redundancy: RedundancyLevel,
    /// False if the client accepts only predictions of the deployed model.
    pub allow_reconstructed: bool,
    /// Headers to pass on.
    pub headers: Headers,
    /// Parameters to pass on with rows; a whole request contains its parameters.
    pub parameters: PassedParameters,
}

/// The content of a request.
#[derive(Debug)]
pub enum Payload {
    /// Rows of the model's inputs.
    Rows {
        /// The bytes of all rows of each input, in the order of the specification.
        inputs: Vec<Bytes>,
        /// The number of rows.
        rows: usize,
    },
    /// The request itself, which is passed on unchanged as one query.
    Whole(Box<InferRequest>),
}

/// The answer to one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowAnswer {
    /// The prediction.
    pub values: Values,
    /// Its source.
    pub how: How,
}

/// A prediction.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// One row of each output of the model, in the order of the specification. An output that was
    /// not rebuilt is empty.
    Row(Vec<Bytes>),
    /// The outputs of a request that was passed on whole.
    Whole(Vec<Tensor>),
}

/// The source of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// The deployed model.
    Prediction,
    /// A reconstruction.
    Reconstructed {
        /// Its confidence, 0 to 1.
        confidence: f32,
    },
    /// The approximate model.
    Approximate,
    /// A default answer.
    Default(Reason),
}

/// An instance that joins a runtime.
#[derive(Clone)]
pub struct Member {
    /// The instance.
    pub instance: Arc<dyn Instance>,
    /// Its name in logs and on the status page.
    pub name: String,
    /// Its roles.
    pub roles: Roles,
    /// The number of calls that it runs at once.
    pub capacity: usize,
    /// The name of its parity model's only input, if it is known.
    pub parity_input: Option<String>,
    /// The most rows of a call; none: no limit.
    pub most_rows: Option<usize>,
    /// True if its calls are cancelled when their answers are no longer needed; none: as the model has it.
    pub cancel_running: Option<bool>,
    /// Is notified of each call that the instance did not answer.
    pub suspected: Arc<Notify>,
}

/// A handle of a runtime. The runtime ends when all handles are dropped.
#[derive(Clone, Debug)]
pub struct Runtime {
    events: mpsc::UnboundedSender<Event>,
    next: Arc<AtomicU64>,
    checks: Arc<Checks>,
    /// The text of the panic of its task, if it panicked.
    panicked: watch::Receiver<Option<String>>,
}

/// The time from the dispatch of a call to its sending, and the encoder's part of it.
#[derive(Clone, Copy, Debug)]
struct Encoding {
    full: Duration,
    sum: Duration,
}

enum Event {
    Ask { id: u64, ask: Ask, facts: Vec<Facts>, reply: oneshot::Sender<Result<Vec<RowAnswer>, Error>> },
    GiveUp { id: u64 },
    Ended { call: parm_engine::CallId, result: Result<Answered, CallError>, encoding: Encoding },
    Decoded { purpose: Purpose, rebuilt: Result<Rebuilt, CodingError>, took: Duration },
    Probed { instance: InstanceId, works: bool },
    Join { member: Member, id: oneshot::Sender<InstanceId> },
    Leave { instance: InstanceId },
    Snapshot(oneshot::Sender<Snapshot>),
    ResumeCoding,
    Drain(oneshot::Sender<()>),
}

/// The response to a call.
struct Answered {
    response: InferResponse,
    /// True if its outputs can be used to rebuild others: they are finite, or nothing is rebuilt from them.
    finite: bool,
}

/// Gives up a request when it is dropped before the reply.
struct Waiting<'a> {
    runtime: &'a Runtime,
    id: u64,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            // The runtime may have ended.
            let _ = self.runtime.events.send(Event::GiveUp { id: self.id });
        }
    }
}

impl Runtime {
    /// Starts a runtime without instances, as a task of the current tokio runtime.
    ///
    /// # Errors
    /// An invalid configuration of the engine.
    pub fn start(options: Options) -> Result<Self, parm_engine::ConfigError> {
        let (events, inbox) = mpsc::unbounded_channel();
        let coding = options.coding.as_ref();
        let coded = coding.map_or(&[][..], |coding| &coding.inputs.0);
        let norms = coding.is_some_and(|coding| coding.decoder.interpolates());
        let checks = Arc::new(Checks::new(options.spec.as_deref(), coded, norms, options.non_finite));
        // The runtime's own calls do not keep it alive.
        let driver = driver::Driver::new(options, events.downgrade())?;
        let (tell, panicked) = watch::channel(None);
        tokio::spawn(async move {
            if let Err(cause) = AssertUnwindSafe(driver.run(inbox)).catch_unwind().await {
                tell.send_replace(Some(text_of(&*cause)));
            }
        });
        Ok(Self { events, next: Arc::new(AtomicU64::new(0)), checks, panicked })
    }

    /// Answers the rows of a request, in order. Dropping the future gives up the request.
    ///
    /// # Errors
    /// The runtime rejects the request, or has no answer to one of its rows.
    pub async fn ask(&self, ask: Ask) -> Result<Vec<RowAnswer>, Error> {
        let facts = match &ask.payload {
            Payload::Rows { inputs, rows } => self.checks.rows(inputs, *rows)?,
            Payload::Whole(request) => self.checks.whole(request).map(|()| Vec::new())?,
        };
        let (reply, answer) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.tell(Event::Ask { id, ask, facts, reply })?;
        let mut waiting = Waiting { runtime: self, id, over: false };
        let answer = answer.await;
        waiting.over = true;
        answer.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Waits until the runtime's task panics, and returns the text. Does not keep the runtime alive.
    pub(crate) fn panicked(&self) -> impl Future<Output = String> + use<> {
        let mut told = self.panicked.clone();
        async move {
            let cause = told.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
            match cause {
                Some(cause) => cause,
                // The task ended normally.
                None => std::future::pending().await,
            }
        }
    }

    fn stopped(&self) -> Error {
        let why = match *self.panicked.borrow() {
            Some(_) => "the task of the model failed and is restarted",
            None => "the model was unloaded",
        };
        Error::new(Status::Unavailable, why)
    }

    /// Adds an instance.
    ///
    /// # Errors
    /// The runtime has stopped.
    pub async fn join(&self, member: Member) -> Result<InstanceId, Error> {
        let (reply, id) = oneshot::channel();
        self.tell(Event::Join { member, id: reply })?;
        id.await.map_err(|_| self.stopped())
    }

    /// Removes an instance: it gets no new work, and finishes its calls.
    ///
    /// # Errors
    /// The runtime has stopped.
    pub fn leave(&self, instance: InstanceId) -> Result<(), Error> {
        self.tell(Event::Leave { instance })
    }

    /// A snapshot of the runtime.
    ///
    /// # Errors
    /// The runtime has stopped.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let (reply, snapshot) = oneshot::channel();
        self.tell(Event::Snapshot(reply))?;
        snapshot.await.map_err(|_| self.stopped())
    }

    /// Switches coding on again after a low agreement has switched it off.
    ///
    /// # Errors
    /// The runtime has stopped.
    pub fn resume_coding(&self) -> Result<(), Error> {
        self.tell(Event::ResumeCoding)
    }

    /// Waits until all requests are answered; partial batches and groups are sent at once.
    pub async fn drain(&self) {
        let (reply, drained) = oneshot::channel();
        if self.tell(Event::Drain(reply)).is_ok() {
            // A runtime that has ended has no requests.
            let _ = drained.await;
        }
    }

    fn tell(&self, event: Event) -> Result<(), Error> {
        self.events.send(event).map_err(|_| self.stopped())
    }
}

/// The text of a panic.
fn text_of(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a text".to_owned())
}
