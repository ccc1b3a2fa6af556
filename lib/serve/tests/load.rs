//! The load generator before instances in this process.

mod common;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Puppet, linear, respond};
use parm_oip::instance::{Answer, CallContext, CallError, Instance};
use parm_oip::load::{Plan, Queries, Source, measure};
use parm_oip::{
    Datatype, Error, InferRequest, InferResponse, ModelMetadata, Parameter, Status, TensorMetadata,
};
use parm_serving::SyntheticInstance;
use parm_serving::runtime::Spec;
use parm_testkit::wait::until;
use parm_workload::faults::{Behavior, Service, Synthetic};
use parm_workload::{Arrivals, Outcome, Record, Row, Span, Summary, Trial, runs, table};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const NONE: Duration = Duration::ZERO;

fn plan(rate: f64, span: Span) -> Plan {
    Plan {
        name: None,
        trial: None,
        arrivals: Arrivals::Constant,
        rate,
        seed: 1,
        warm_up: NONE,
        span,
        timeout: Duration::from_secs(5),
        in_flight: 1000,
        slo: None,
        slices: None,
    }
}

fn queries(rows: usize) -> Arc<Queries> {
    let x = TensorMetadata { name: "x".to_owned(), datatype: Datatype::Fp32, shape: vec![-1, 3] };
    let model = ModelMetadata { name: "m".to_owned(), inputs: vec![x], ..ModelMetadata::default() };
    Arc::new(Queries::new("", &model, rows, &[], Source::Random(1)).unwrap())
}

/// A measurement of one row a request, with all its records.
fn measured(instance: impl Instance, plan: &Plan) -> (Summary, Vec<Record>) {
    let runtime = Runtime::new().unwrap();
    let (_stop, told) = watch::channel(false);
    let mut records = Vec::new();
    let each = |record: &Record| {
        records.push(record.clone());
        Ok(ControlFlow::Continue(()))
    };
    let instance: Arc<dyn Instance> = Arc::new(instance);
    let summary = measure(runtime.handle(), &instance, &queries(1), plan, &told, each).unwrap();
    records.sort_by_key(|record| record.query);
    (summary, records)
}

fn synthetic(service_ms: f64) -> SyntheticInstance {
    let behavior = Behavior { service: Service::Constant { ms: service_ms }, ..Behavior::default() };
    let model = common::model(r#""instances": []"#);
    let spec = Spec::new(&model, &ModelMetadata::default()).unwrap();
    SyntheticInstance::new(Synthetic::new(behavior, 0, 0).unwrap(), Arc::new(spec))
}

/// An instance whose answers a function makes, from the number of the call.
struct Scripted<F>(F, AtomicU64);

impl<F> Scripted<F> {
    fn new(script: F) -> Self {
        Self(script, AtomicU64::new(0))
    }
}

impl<F, T> Instance for Scripted<F>
where
    F: Fn(u64, InferRequest) -> T + Send + Sync + 'static,
    T: Future<Output = Result<InferResponse, CallError>> + Send + 'static,
{
    fn infer(&self, request: InferRequest, _: CallContext) -> Answer<InferResponse> {
        Box::pin((self.0)(self.1.fetch_add(1, Ordering::Relaxed), request))
    }

    fn ready(&self, _: &str, _: &str) -> Answer<()> {
        Box::pin(async { Ok(()) })
    }

    fn metadata(&self, _: &str, _: &str) -> Answer<ModelMetadata> {
        Box::pin(async { Ok(ModelMetadata::default()) })
    }
}

#[test]
fn every_request_is_sent_once_at_its_time() {
    let (summary, records) = measured(synthetic(0.0), &plan(1000.0, Span::Requests(500)));
    assert_eq!((summary.answered(), summary.failed(), records.len()), (500, 0, 500));
    for (number, record) in (0..).zip(&records) {
        assert_eq!((record.query, record.outcome), (number, Outcome::Answered));
        assert_eq!(record.intended_ns, number * 1_000_000);
        let sent = record.sent_ns.unwrap();
        assert!(record.intended_ns <= sent && sent <= record.ended_ns, "{record:?}");
    }
}

#[test]
fn requests_are_sent_with_a_precision_that_the_timer_does_not_have() {
    // Every third request is due at the same fraction of a millisecond. A timer with a grain of 1 ms would send all
    // of at least one third 0.6 ms late; on a busy machine some of each third are still on time.
    let is_precise = || {
        let (_, records) = measured(synthetic(0.0), &plan(300.0, Span::Requests(100)));
        let on_time = |record: &Record| record.sent_ns.unwrap() - record.intended_ns < 300_000;
        (0..3).all(|third| records.iter().skip(third).step_by(3).any(on_time))
    };
    until("a measurement with requests of each third on time", is_precise);
}

#[test]
fn requests_that_were_meant_for_a_stall_are_charged_for_it() {
    // One request a millisecond; from the hundredth the instance answers nobody before the three hundredth.
    let (end, ended) = watch::channel(false);
    let stalls = Scripted::new(move |number, request: InferRequest| {
        if number == 300 {
            end.send_replace(true);
        }
        let mut ended = ended.clone();
        async move {
            if (100..300).contains(&number) {
                ended.wait_for(|ended| *ended).await.unwrap();
            }
            Ok(respond(&request, linear))
        }
    });
    let (summary, records) = measured(stalls, &plan(1000.0, Span::Requests(500)));
    assert_eq!((summary.answered(), summary.failed()), (500, 0));
    // Calls may begin in another order than they are spawned in, by a few.
    let stalled = records[90..310].iter().filter(|record| record.ended_ns >= 300_000_000).count();
    assert!(stalled >= 200, "{stalled} requests waited for the end of the stall");
    // Each is charged from its own time: half of them with more than 100 ms.
    let charged = |record: &&Record| record.ended_ns - record.intended_ns > 100_000_000;
    assert!(records.iter().filter(charged).count() >= 90);
    // A closed loop would have seen one slow request of 300: its P99 would be fast.
    assert!(summary.within_ms(0.99).unwrap() > 150.0);
}

#[test]
fn a_generator_that_cannot_send_in_time_is_charged_and_says_so() {
    // Making the call takes longer than the distance to the next, on the only thread there is.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let slow = Scripted::new(|_, request: InferRequest| {
        thread::sleep(Duration::from_millis(2));
        async move { Ok(respond(&request, linear)) }
    });
    let (_stop, told) = watch::channel(false);
    let slow: Arc<dyn Instance> = Arc::new(slow);
    let plan = plan(1000.0, Span::Requests(100));
    let summary =
        measure(runtime.handle(), &slow, &queries(1), &plan, &told, |_| Ok(ControlFlow::Continue(())))
            .unwrap();
    assert!(summary.is_late());
    // The last one is sent after 200 ms, and was meant for 100 ms.
    assert!(summary.late_ms(1.0).unwrap() > 80.0);
    assert!(summary.within_ms(1.0).unwrap() > 90.0);
}

#[test]
fn what_is_due_while_too_many_are_on_their_way_is_not_sent_and_fails() {
    let (puppet, mut calls, _) = Puppet::new();
    let plan = Plan { in_flight: 3, timeout: Duration::from_secs(3), ..plan(1000.0, Span::Requests(10)) };
    let (summary, records) = measured(puppet, &plan);
    assert_eq!(
        summary.failures.into_iter().collect::<Vec<_>>(),
        [("not-sent".to_owned(), 7), ("timeout".to_owned(), 3)]
    );
    assert!(records[..3].iter().all(|record| record.outcome == Outcome::Timeout && record.sent_ns.is_some()));
    assert!(records[3..].iter().all(|record| record.outcome == Outcome::NotSent && record.sent_ns.is_none()));
    assert_eq!(std::iter::from_fn(|| calls.try_recv().ok()).count(), 3);
}

#[test]
fn the_warm_up_is_sent_and_not_counted() {
    let slow_first = Scripted::new(|number, request: InferRequest| async move {
        if number < 50 {
            return Err(CallError::Unreachable("warming up".to_owned()));
        }
        Ok(respond(&request, linear))
    });
    let plan = Plan { warm_up: Duration::from_millis(50), ..plan(1000.0, Span::Requests(30)) };
    let (summary, records) = measured(slow_first, &plan);
    assert_eq!((summary.answered(), summary.failed()), (30, 0));
    assert_eq!((records[0].query, records[0].intended_ns), (0, 0));
}

#[test]
fn failures_and_rows_that_are_no_predictions_are_counted_by_kind() {
    let mixed = Scripted::new(|number, request: InferRequest| async move {
        let mut response = respond(&request, linear);
        let mut note = |name: &str| {
            response.parameters.insert(name.to_owned(), Parameter::String("0".to_owned()));
        };
        match number % 10 {
            0 => return Err(CallError::Failed(Error::new(Status::Unavailable, "too many"))),
            1 => return Err(CallError::Refused(Error::invalid("what"))),
            2 => return Err(CallError::Garbled("noise".to_owned())),
            3..=5 => note("parm_reconstructed"),
            6 => note("parm_approximate"),
            7 => note("parm_default"),
            _ => {}
        }
        Ok(response)
    });
    let (summary, _) = measured(mixed, &plan(2000.0, Span::Time(Duration::from_millis(50))));
    assert_eq!((summary.answered(), summary.failed()), (70, 30));
    assert!(summary.first_error.is_some());
    let row = |rate, summary| {
        let trials = vec![Trial::new(summary, NONE)];
        Row { name: None, rate, trials }
    };
    let rows = [row(2000.0, summary), row(5.5, Summary::new(5.5, 1))];
    let run = &serde_json::json!(runs(&rows))[0];
    assert_eq!(run["failures"], serde_json::json!({"failed-503": 10, "garbled": 10, "refused-400": 10}));
    assert_eq!((&run["requests"], &run["answered"], &run["failed"]), (&100.into(), &70.into(), &30.into()));
    for (name, share) in [("reconstructed", 3.0), ("approximate", 1.0), ("default", 1.0)] {
        assert_eq!(run[name], serde_json::json!(share / 7.0), "{name}");
    }
    let table = table(&rows);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [14; 3]);
    assert_eq!(lines[0][..4], ["RATE", "NUM", "MED", "MEAN"]);
    assert_eq!(
        (lines[1][..2].to_vec(), lines[1][13]),
        (vec!["2000", "70"], "failed-503:10,garbled:10,refused-400:10")
    );
    assert_eq!((lines[1][9], lines[1][10], lines[1][11]), ("0.4286", "0.1429", "0.1429"));
    assert_eq!(lines[2], ["5.5", "0", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "-", "0"]);
}

#[test]
fn when_told_to_stop_it_gives_up_what_is_on_its_way_and_keeps_what_it_has() {
    let (stop, told) = watch::channel(false);
    let half = Scripted::new(move |number, request: InferRequest| {
        if number == 100 {
            stop.send_replace(true);
        }
        async move {
            if number % 2 == 1 {
                std::future::pending::<()>().await;
            }
            Ok(respond(&request, linear))
        }
    });
    let runtime = Runtime::new().unwrap();
    let half: Arc<dyn Instance> = Arc::new(half);
    let plan = Plan { timeout: Duration::from_hours(1), ..plan(1000.0, Span::Time(Duration::from_hours(1))) };
    let summary =
        measure(runtime.handle(), &half, &queries(1), &plan, &told, |_| Ok(ControlFlow::Continue(())))
            .unwrap();
    // Fifty of each, but for those that were about to be answered.
    assert!(summary.failures["given-up"] >= 40 && summary.answered() >= 20, "{summary:?}");
}

#[test]
fn records_that_cannot_be_kept_end_the_measurement() {
    let runtime = Runtime::new().unwrap();
    let (_stop, told) = watch::channel(false);
    let instance: Arc<dyn Instance> = Arc::new(synthetic(0.0));
    let plan = plan(1000.0, Span::Time(Duration::from_hours(1)));
    let full = |_: &Record| Err(io::Error::from(io::ErrorKind::StorageFull));
    let error = measure(runtime.handle(), &instance, &queries(1), &plan, &told, full).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}
