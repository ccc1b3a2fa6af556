//! Sending requests at their times.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use parm_workload::{Arrivals, Due, Outcome, Record, Schedule, Span, Summary};

use super::Queries;
use super::labels::{JudgeError, Right};
use crate::instance::{CallContext, CallError, Instance, within};
use crate::{InferResponse, Parameter};

/// How long before its time a request is no longer slept for. Linux wakes a sleeper some 50 µs late.
const SPIN: Duration = Duration::from_micros(100);

/// The longest sleep, after which is seen whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// Records that may wait to be taken.
const BACKLOG: usize = 1 << 16;

/// A measurement.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is measured, for records of several targets.
    pub name: Option<String>,
    /// Which time it is measured, from 0, for records of several trials.
    pub trial: Option<u32>,
    /// How requests follow each other.
    pub arrivals: Arrivals,
    /// Requests a second, on average.
    pub rate: f64,
    /// Where the arrivals come from.
    pub seed: u64,
    /// How long requests are sent that do not count.
    pub warm_up: Duration,
    /// How long requests are sent that count.
    pub span: Span,
    /// How long an answer may take, counted from when the request is sent.
    pub timeout: Duration,
    /// The most requests on their way; what is due while there are so many is not sent, and fails.
    pub in_flight: usize,
}

/// Sends requests as planned, and gives a record of each one that counts, in the order in which they
/// ended. When `stop` becomes true, no more are sent, and those on their way are given up.
///
/// A thread of its own sends: it sleeps until 100 µs before a request is due, and then looks at the clock
/// again and again. The runtime's timers, whose grain is 1 ms, are only used for timeouts.
///
/// # Errors
/// Those of `each`, which end the measurement, and a thread that cannot be started.
///
/// # Panics
/// If it is called by a task of a runtime: it blocks.
pub fn measure(
    runtime: &Handle,
    instance: &Arc<dyn Instance>,
    queries: &Arc<Queries>,
    plan: &Plan,
    stop: &watch::Receiver<bool>,
    mut each: impl FnMut(&Record) -> io::Result<()>,
) -> io::Result<Summary> {
    let mut summary = Summary::new(plan.rate, queries.rows());
    thread::scope(|scope| {
        let (records, mut ended) = mpsc::channel(BACKLOG);
        let sender = Sender {
            runtime,
            instance,
            queries,
            plan,
            stop,
            records,
            room: Arc::new(Semaphore::new(plan.in_flight.min(Semaphore::MAX_PERMITS))),
        };
        thread::Builder::new().name("sender".into()).spawn_scoped(scope, || sender.send())?;
        // It ends when the sender and all its tasks did.
        while let Some(mut record) = ended.blocking_recv() {
            record.name.clone_from(&plan.name);
            record.trial = plan.trial;
            each(&record)?;
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
    stop: &'a watch::Receiver<bool>,
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
                    // Nobody listens any more: the next wait ends it.
                    let _ = self.records.blocking_send(record);
                }
                continue;
            };
            let (instance, queries) = (Arc::clone(self.instance), Arc::clone(self.queries));
            let (records, stop) = (self.records.clone(), self.stop.clone());
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
                    () = stopped(stop) => None,
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

    /// Waits until it is time; false if it is not worth it any more.
    fn wait(&self, until: Instant) -> bool {
        loop {
            if *self.stop.borrow() || self.records.is_closed() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            match left.checked_sub(SPIN) {
                _ if left.is_zero() => return true,
                // Others that have work may do it meanwhile.
                None | Some(Duration::ZERO) => thread::yield_now(),
                Some(long) => thread::sleep(long.min(NAP)),
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

    /// None if it does not count.
    fn record(&self, outcome: Outcome) -> Option<Record> {
        let number = self.due.number?;
        Some(Record::new(self.rate, number, self.since(self.intended), outcome))
    }
}

/// Waits until one is told to stop.
async fn stopped(mut stop: watch::Receiver<bool>) {
    if stop.wait_for(|&stop| stop).await.is_err() {
        // Who could tell so is gone.
        std::future::pending::<()>().await;
    }
}

/// Notes in a record what was answered.
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
                CallError::Garbled(_) | CallError::Mismatched(_) => Outcome::Garbled,
            };
            if let CallError::Refused(said) | CallError::Failed(said) = &error {
                record.status = Some(said.http());
            }
            record.error = Some(error.to_string());
        }
    }
}

/// Notes in a record how much of its answer is right; an answer of which that cannot be said is none.
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
    fn answers_are_noted_with_their_parameters() {
        let mut record = Record::new(100.0, 3, 30_000_000, Outcome::GivenUp);
        let mut response = InferResponse::default();
        let rows = |rows: &str| Parameter::String(rows.to_owned());
        response.parameters.insert("parm_reconstructed".to_owned(), rows("0,2"));
        response.parameters.insert("parm_default".to_owned(), rows("1"));
        note(&mut record, Ok(response));
        assert_eq!((record.outcome, record.reconstructed, record.default), (Outcome::Answered, 2, 1));
    }

    #[test]
    fn what_is_right_is_noted_and_an_answer_without_it_is_none() {
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
            note(&mut record, Err(error.clone()));
            assert_eq!(record.failure().as_deref(), Some(kind));
            assert_eq!(record.error, Some(error.to_string()));
        }
    }
}
