//! A runtime: the engine of one model at work, with its queries, its instances and its clock.
//!
//! One task owns the engine and all that belongs to it, and is told what happens by messages: a
//! request comes, a call ends, an instance joins. Calls are tasks of their own, which also
//! encode, unless the instance does.
//! The path of a query: [`Runtime::ask`] → `driver` (a row, [`parm_engine::Engine::arrive`]) →
//! dispatch → [`Instance::infer`] → `driver` (the prediction is kept, `answered`) → answer → the
//! reply to the request, when all of its rows have one.

mod calls;
mod checks;
mod classes;
mod coding;
mod decoding;
mod driver;
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
use parm_engine::{InstanceId, Reason, Roles};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use parm_oip::instance::{CallError, Headers, Instance};
use parm_oip::{Error, InferRequest, InferResponse, Status, Tensor};

use checks::{Checks, Facts};
pub use classes::PassedParameters;
pub use coding::{CodedInputs, Members, RowEncoder, coders};
pub use decoding::RowDecoder;
pub use driver::{Coding, Options, RoleNames};
use learned::Purpose;
pub use rows::{CodingError, Lost, Rebuilt};
pub use spec::{RowTensor, Spec, Uncoded};
pub use stats::{MemberView, Snapshot, State, Stats, Times};

/// A request, as a runtime takes it.
#[derive(Debug)]
pub struct Ask {
    /// What is asked.
    pub payload: Payload,
    /// How long the client waits; none: as long as the configuration says.
    pub deadline: Option<Duration>,
    /// What waits is sent in this order, 0 first.
    pub priority: u8,
    /// False if only the deployed model's own predictions will do.
    pub allow_reconstructed: bool,
    /// Headers to pass on.
    pub headers: Headers,
    /// Parameters to pass on with rows; a request that is passed on whole has its own.
    pub parameters: PassedParameters,
}

/// What a request asks.
#[derive(Debug)]
pub enum Payload {
    /// Rows: for each input of the model the bytes of all of them.
    Rows {
        /// The inputs, in the order of the specification.
        inputs: Vec<Bytes>,
        /// How many rows.
        rows: usize,
    },
    /// The request itself, which is passed on as it is: one query.
    Whole(Box<InferRequest>),
}

/// The answer to one row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowAnswer {
    /// The prediction.
    pub values: Values,
    /// Where it is from.
    pub how: How,
}

/// A prediction.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// One row of each output of the model, in the order of the specification. An output that was
    /// not rebuilt is empty.
    Row(Vec<Bytes>),
    /// The outputs of a request that was passed on.
    Whole(Vec<Tensor>),
}

/// Where an answer is from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum How {
    /// The deployed model.
    Prediction,
    /// It was rebuilt.
    Reconstructed {
        /// How far to trust it, 0 to 1.
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
    /// What runs the models.
    pub instance: Arc<dyn Instance>,
    /// Its name, for people.
    pub name: String,
    /// What it runs.
    pub roles: Roles,
    /// Calls that it does at once.
    pub capacity: usize,
    /// What its parity models call their only input, if not as the deployed model does.
    pub parity_input: Option<String>,
    /// The most rows of a call; none: any.
    pub most_rows: Option<usize>,
    /// Is notified of each call that it did not answer.
    pub suspected: Arc<Notify>,
}

/// The way to a runtime. The runtime ends when all ways to it are gone and its queries are answered.
#[derive(Clone, Debug)]
pub struct Runtime {
    events: mpsc::UnboundedSender<Event>,
    next: Arc<AtomicU64>,
    checks: Arc<Checks>,
    /// What its task panicked with, if it did.
    panicked: watch::Receiver<Option<String>>,
}

/// How long a call took to be sent: from its dispatch, and of that the encoder alone.
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

/// What a call answered.
struct Answered {
    response: InferResponse,
    /// Its outputs are finite, or nothing is rebuilt from them.
    finite: bool,
}

/// Tells the runtime that a request is not waited for any more, if its reply did not come before.
struct Waiting<'a> {
    runtime: &'a Runtime,
    id: u64,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.over {
            // A runtime that is gone waits for nobody.
            let _ = self.runtime.events.send(Event::GiveUp { id: self.id });
        }
    }
}

impl Runtime {
    /// A runtime without instances; its task runs on the current runtime.
    ///
    /// # Errors
    /// A configuration that cannot work.
    pub fn start(options: Options) -> Result<Self, parm_engine::ConfigError> {
        let (events, inbox) = mpsc::unbounded_channel();
        let coding = options.coding.as_ref();
        let coded = coding.map_or(&[][..], |coding| &coding.inputs.0);
        let norms = coding.is_some_and(|coding| coding.decoder.interpolates());
        let checks = Arc::new(Checks::new(options.spec.as_deref(), coded, norms, options.non_finite));
        // The runtime's own calls must not keep it alive.
        let driver = driver::Driver::new(options, events.downgrade())?;
        let (tell, panicked) = watch::channel(None);
        tokio::spawn(async move {
            if let Err(cause) = AssertUnwindSafe(driver.run(inbox)).catch_unwind().await {
                tell.send_replace(Some(text_of(&*cause)));
            }
        });
        Ok(Self { events, next: Arc::new(AtomicU64::new(0)), checks, panicked })
    }

    /// Answers the rows of a request, in order. Dropping the promise gives the request up.
    ///
    /// # Errors
    /// The runtime does not take it, or has no answer to one of its rows.
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

    /// Waits until the model's task panics, and says with what; without keeping the runtime alive.
    pub(crate) fn panicked(&self) -> impl Future<Output = String> + use<> {
        let mut told = self.panicked.clone();
        async move {
            let cause = told.wait_for(Option::is_some).await.ok().and_then(|cause| cause.clone());
            match cause {
                Some(cause) => cause,
                // It ended as it should.
                None => std::future::pending().await,
            }
        }
    }

    fn stopped(&self) -> Error {
        let why = match *self.panicked.borrow() {
            Some(_) => "the task of the model failed, and starts again",
            None => "the model was unloaded",
        };
        Error::new(Status::Unavailable, why)
    }

    /// An instance joins.
    ///
    /// # Errors
    /// The runtime has stopped.
    pub async fn join(&self, member: Member) -> Result<InstanceId, Error> {
        let (reply, id) = oneshot::channel();
        self.tell(Event::Join { member, id: reply })?;
        id.await.map_err(|_| self.stopped())
    }

    /// An instance gets no more work, and finishes what it has.
    ///
    /// # Errors
    /// The runtime has stopped.
    pub fn leave(&self, instance: InstanceId) -> Result<(), Error> {
        self.tell(Event::Leave { instance })
    }

    /// How the runtime stands.
    ///
    /// # Errors
    /// The runtime has stopped.
    pub async fn snapshot(&self) -> Result<Snapshot, Error> {
        let (reply, snapshot) = oneshot::channel();
        self.tell(Event::Snapshot(reply))?;
        snapshot.await.map_err(|_| self.stopped())
    }

    /// Coding is on again after its agreement switched it off.
    ///
    /// # Errors
    /// The runtime has stopped.
    pub fn resume_coding(&self) -> Result<(), Error> {
        self.tell(Event::ResumeCoding)
    }

    /// Waits until all queries are answered; what fills is sent at once.
    pub async fn drain(&self) {
        let (reply, drained) = oneshot::channel();
        if self.tell(Event::Drain(reply)).is_ok() {
            // A runtime that is gone has no queries.
            let _ = drained.await;
        }
    }

    fn tell(&self, event: Event) -> Result<(), Error> {
        self.events.send(event).map_err(|_| self.stopped())
    }
}

/// What a panic says.
fn text_of(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| cause.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "something that is no text".to_owned())
}
