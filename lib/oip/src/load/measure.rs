//! Sends requests at their times.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use parm_workload::{Arrivals, Due, Outcome, Record, Schedule, Slices, Span, Summary};

use super::Queries;
use super::labels::{JudgeError, Right};
use crate::instance::{CallContext, CallError, Instance, within};
use crate::{InferResponse, Parameter};

/// The time before a request at which the thread stops sleeping. Linux wakes a thread some 50 µs late.
const SPIN: Duration = Duration::from_micros(100);

/// The longest sleep before the thread checks whether to stop.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// The capacity of the channel of records.
const BACKLOG: usize = 1 << 16;

/// The plan of a measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name of the target, for records of several targets.
    pub name: Option<String>,
    /// The number of the trial, from 0, for records of several trials.
    pub trial: Option<u32>,
    /// The distribution of arrivals.
    pub arrivals: Arrivals,
    /// The mean number of requests a second.
    pub rate: f64,
    /// The seed of the arrivals.
    pub seed: u64,
    /// The time during which requests are sent but not recorded.
    pub warm_up: Duration,
    /// The time, or number of requests, that is recorded.
    pub span: Span,
    /// How long an answer may take from the sending of its request.
    pub timeout: Duration,
    /// The most open requests. A request that is due while there are so many is not sent, and fails.
    pub in_flight: usize,
    /// The objective of latencies.
    pub slo: Option<Duration>,
    /// The length of the slices of time that the summary has.
    pub slices: Option<Duration>,
}

/// Sends requests as planned, and passes the record of each one after the warm-up to `each`, in the order in
/// which they end. When `stop` becomes true or `each` breaks, no more are sent, and open ones are cancelled.
///
/// A thread of its own sends. It sleeps until 100 µs before a request is due, then polls the clock. The
/// runtime's timers, with a resolution of 1 ms, are used for timeouts only.
///
/// # Errors
/// The errors of `each`, which end the measurement, and a thread that cannot be started.
///
/// # Panics
/// If a task of a runtime calls it, since it blocks.
pub fn measure(
    runtime: &Handle,
    instance: &Arc<dyn Instance>,
    queries: &Arc<Queries>,
    plan: &Plan,
    stop: &watch::Receiver<bool>,
    mut each: impl FnMut(&Record) -> io::Result<ControlFlow<()>>,
) -> io::Result<Summary> {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mut summary = Summary::new(plan.rate, queries.rows())
        .with_slo(plan.slo.map(ns))
        .with_slices(plan.slices.map(|length| Slices::new(ns(length))));
    let (enough, has_enough) = watch::channel(false);
    thread::scope(|scope| {
        let (records, mut ended) = mpsc::channel(BACKLOG);
        let sender = Sender {
            runtime,
            instance,
            queries,
            plan,
            stops: [stop.clone(), has_enough],
            records,
            room: Arc::new(Semaphore::new(plan.in_flight.min(Semaphore::MAX_PERMITS))),
        };
        thread::Builder::new().name("sender".into()).spawn_scoped(scope, || sender.send())?;
        // The channel closes when the sender and all its tasks have ended.
        while let Some(mut record) = ended.blocking_recv() {
            record.name.clone_from(&plan.name);
            record.trial = plan.trial;
            if each(&record)?.is_break() {
                enough.send_replace(true);
            }
            summary.add(&record);
        }
        Ok(summary)
    })
}

struct Sender<'a> {
    runtime: &'a Handle,
    instance: &'a Arc<dyn Instance>,
    queries: &'a Arc<Queries>,
    plan: &'a Plan,
    /// Each ends the measurement when it becomes true.
    stops: [watch::Receiver<bool>; 2],
    records: mpsc::Sender<Record>,
    room: Arc<Semaphore>,
}

impl Sender<'_> {
    fn send(self) {
        let Plan { rate, seed, warm_up, span, timeout, .. } = *self.plan;
        let begin = Instant::now();
        for (count, due) in (0..).zip(Schedule::new(self.plan.arrivals.clone(), rate, seed, warm_up, span)) {
            let intended = begin + due.at;
            if !self.wait(intended) {
                return;
            }
            let request = Request { due, rate, intended, origin: begin + warm_up };
            let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
                if let Some(record) = request.record(Outcome::NotSent) {
                    // If the receiver is closed, the next wait ends the loop.
                    let _ = self.records.blocking_send(record);
                }
                continue;
            };
            let (instance, queries) = (Arc::clone(self.instance), Arc::clone(self.queries));
            let (records, stops) = (self.records.clone(), self.stops.clone());
            self.runtime.spawn(async move {
                let call = async {
                    let context = CallContext { timeout: Some(timeout), ..CallContext::default() };
                    let answer = instance.infer(queries.request(count), context);
                    within(timeout, answer).await
                };
                let sent = Instant::now();
                let answer = tokio::select! {
                    biased;
                    answer = call => Some(answer),
                    () = stopped(stops) => None,
                };
                let ended = Instant::now();
                if let Some(mut record) = request.record(Outcome::GivenUp) {
                    record.sent_ns = Some(request.since(sent));
                    record.ended_ns = request.since(ended);
                    if let Some(answer) = answer {
                        let right = answer.as_ref().ok().and_then(|answer| queries.right(count, answer));
                        note(&mut record, answer);
                        if let Some(right) = right {
                            judge(&mut record, right);
                        }
                    }
                    let _ = records.send(record).await;
                }
                drop(permit);
            });
        }
    }

    /// Waits until a time; false if the measurement is stopped.
    fn wait(&self, until: Instant) -> bool {
        loop {
            if self.stops.iter().any(|stop| *stop.borrow()) || self.records.is_closed() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            match left.checked_sub(SPIN) {
                _ if left.is_zero() => return true,
                // Lets other threads run meanwhile.
                None | Some(Duration::ZERO) => thread::yield_now(),
                Some(long) => thread::sleep(long.min(LONGEST_SLEEP)),
            }
        }
    }
}

/// A request that is due.
#[derive(Clone, Copy)]
struct Request {
    due: Due,
    rate: f64,
    intended: Instant,
    /// The end of the warm-up.
    origin: Instant,
}

impl Request {
    fn since(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// None during the warm-up.
    fn record(&self, outcome: Outcome) -> Option<Record> {
        let number = self.due.number?;
        Some(Record::new(self.rate, number, self.since(self.intended), outcome))
    }
}

/// Waits until one of them becomes true.
async fn stopped(stops: [watch::Receiver<bool>; 2]) {
    let [signal, enough] = stops.map(|mut stop| async move {
        if stop.wait_for(|&stop| stop).await.is_err() {
            // The sender was dropped, so that no signal can come.
            std::future::pending::<()>().await;
        }
    });
    tokio::select! {
        () = signal => {}
        () = enough => {}
    }
}

/// Records an answer.
fn note(record: &mut Record, answer: Result<InferResponse, CallError>) {
    match answer {
        Ok(response) => {
            let rows = |name: &str| match response.parameters.get(name) {
                Some(Parameter::String(rows)) if !rows.is_empty() => rows.split(',').count(),
                _ => 0,
            };
            record.outcome = Outcome::Answered;
            record.reconstructed = rows("parm_reconstructed");
            record.approximate = rows("parm_approximate");
            record.default = rows("parm_default");
        }
        Err(error) => {
            record.outcome = match &error {
                CallError::Unreachable(_) => Outcome::Unreachable,
                CallError::Timeout(_) => Outcome::Timeout,
                CallError::Refused(_) => Outcome::Refused,
                CallError::Failed(_) => Outcome::Failed,
                CallError::Garbled(_) | CallError::Unexpected(_) | CallError::Mismatched(_) => {
                    Outcome::Garbled
                }
            };
            match &error {
                CallError::Refused(said) | CallError::Failed(said) => {
                    record.status = Some(said.http());
                    record.grpc = said.grpc_name();
                }
                CallError::Unexpected(status) => record.status = Some(*status),
                _ => {}
            }
            record.error = Some(error.to_string());
        }
    }
}

/// Records how much of an answer is right; an answer without classes becomes a failure.
fn judge(record: &mut Record, right: Result<Right, JudgeError>) {
    match right {
        Ok(right) => {
            record.correct = Some(right.all);
            record.correct_reconstructed = right.reconstructed;
        }
        Err(error) => {
            record.outcome = Outcome::Garbled;
            (record.reconstructed, record.approximate, record.default) = (0, 0, 0);
            record.error = Some(error.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Status};

    #[test]
    fn answers_are_recorded_with_their_parameters() {
        let mut record = Record::new(100.0, 3, 30_000_000, Outcome::GivenUp);
        let mut response = InferResponse::default();
        let rows = |rows: &str| Parameter::String(rows.to_owned());
        response.parameters.insert("parm_reconstructed".to_owned(), rows("0,2"));
        response.parameters.insert("parm_default".to_owned(), rows("1"));
        note(&mut record, Ok(response));
        assert_eq!((record.outcome, record.reconstructed, record.default), (Outcome::Answered, 2, 1));
    }

    #[test]
    fn right_rows_are_recorded_and_an_answer_without_classes_is_a_failure() {
        let mut record = Record::new(100.0, 3, 30, Outcome::GivenUp);
        note(&mut record, Ok(InferResponse::default()));
        judge(&mut record, Ok(Right { all: 2, reconstructed: 1 }));
        assert_eq!((record.correct, record.correct_reconstructed), (Some(2), 1));
        judge(&mut record, Err(JudgeError::Output { found: 0, name: "y".to_owned() }));
        assert_eq!(record.failure().as_deref(), Some("garbled"));
        assert_eq!(record.error.as_deref(), Some("found 0 outputs and none is 'y'"));
    }

    #[test]
    fn each_error_of_a_call_has_an_outcome() {
        let said = |status| Error::new(status, "no");
        let grpc = |status, code| Error { grpc_code: Some(code), ..said(status) };
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
            (CallError::Failed(grpc(Status::Unavailable, 8)), "failed-RESOURCE_EXHAUSTED"),
            (CallError::Failed(grpc(Status::Internal, 15)), "failed-DATA_LOSS"),
            (CallError::Refused(grpc(Status::InvalidArgument, 11)), "refused-OUT_OF_RANGE"),
            (CallError::Garbled("what".to_owned()), "garbled"),
            (CallError::Unexpected(302), "garbled-302"),
        ] {
            let mut record = Record::new(1.0, 0, 0, Outcome::GivenUp);
            note(&mut record, Err(error.clone()));
            assert_eq!(record.failure().as_deref(), Some(kind));
            assert_eq!(record.error, Some(error.to_string()));
        }
    }
}
