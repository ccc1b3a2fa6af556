//! Metrics for Prometheus: those of Triton under its names, and our own.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use parm_engine::Counters;

use super::counts::{Count, Value, counts};
use super::state::Shared;
use crate::models::{self, Served};
use crate::runtime::{Snapshot, Times, Uncoded};

/// The quantiles of summaries.
const SHARES: [f64; 5] = [0.5, 0.9, 0.99, 0.995, 0.999];

pub(super) async fn metrics(State(shared): State<Shared>) -> Response {
    let mut text = Text::default();
    let mut all = Vec::new();
    for served in shared.server.models.all() {
        let snapshot = match served.state() {
            models::State::Loaded(loaded) => loaded.runtime.snapshot().await.ok(),
            _ => None,
        };
        all.push((served, snapshot));
    }
    text.models(&all);
    let dropped = shared.server.dropped_headers.load(Ordering::Relaxed);
    text.family("parm_dropped_headers_total", "counter", "Headers of requests that were not passed on");
    text.sample("parm_dropped_headers_total", &[], dropped as f64);
    let plain = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, plain)], text.0).into_response()
}

/// The metrics in the text format of Prometheus.
#[derive(Default)]
struct Text(String);

/// A model, with its measurements if it is loaded.
type Measured = (Arc<Served>, Option<Snapshot>);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }

    /// One value for each model that is loaded.
    fn each(&mut self, [name, kind, help]: [&str; 3], all: &[Measured], of: impl Fn(&Snapshot) -> f64) {
        self.family(name, kind, help);
        for (served, snapshot) in all {
            if let Some(snapshot) = snapshot {
                self.sample(name, &labels(served), of(snapshot));
            }
        }
    }

    /// Several values for each model that is loaded, which differ in a label.
    fn split(
        &mut self,
        [name, kind, help]: [&str; 3],
        label: &str,
        all: &[Measured],
        of: impl Fn(&Served, &Snapshot) -> Vec<(String, f64)>,
    ) {
        self.family(name, kind, help);
        for (served, snapshot) in all {
            for (which, value) in snapshot.iter().flat_map(|snapshot| of(served, snapshot)) {
                let [model, version] = labels(served);
                self.sample(name, &[model, version, (label, &which)], value);
            }
        }
    }

    fn summary(&mut self, [name, help]: [&str; 2], all: &[Measured], of: impl Fn(&Snapshot) -> &Times) {
        self.family(name, "summary", help);
        for (served, snapshot) in all {
            if let Some(times) = snapshot.as_ref().map(&of) {
                self.times(name, &labels(served), times);
            }
        }
    }

    fn times(&mut self, name: &str, labels: &[(&str, &str)], times: &Times) {
        for share in SHARES {
            let share_text = share.to_string();
            let labels: Vec<_> = labels.iter().copied().chain([("quantile", share_text.as_str())]).collect();
            self.sample(name, &labels, times.within(share).as_secs_f64());
        }
        self.sample(&format!("{name}_sum"), labels, times.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), labels, times.count() as f64);
    }

    fn models(&mut self, all: &[Measured]) {
        self.triton(all);
        self.counted(all);
        self.measured(all);
        self.instances(all);
    }

    /// The metrics of Triton's dashboards.
    fn triton(&mut self, all: &[Measured]) {
        let us = |time: Duration| time.as_micros() as f64;
        self.each(
            [
                "nv_inference_request_success",
                "counter",
                "Number of successful inference requests, all batch sizes",
            ],
            all,
            |snapshot| snapshot.stats.requests.count() as f64,
        );
        self.split(
            ["nv_inference_request_failure", "counter", "Number of failed inference requests"],
            "reason",
            all,
            |served, snapshot| {
                let counts = &served.counts;
                vec![
                    ("OTHER".to_owned(), counts.invalid.load(Ordering::Relaxed) as f64),
                    ("BACKEND".to_owned(), snapshot.stats.failed_requests as f64),
                    ("REJECTED".to_owned(), counts.not_ready.load(Ordering::Relaxed) as f64),
                    ("CANCELED".to_owned(), snapshot.counters.cancelled as f64),
                ]
            },
        );
        self.each(
            [
                "nv_inference_count",
                "counter",
                "Number of inferences performed (does not include cached requests)",
            ],
            all,
            |snapshot| snapshot.stats.answers.count() as f64,
        );
        self.each(
            ["nv_inference_exec_count", "counter", "Number of model executions performed"],
            all,
            |snapshot| snapshot.stats.calls.count() as f64,
        );
        self.each(
            [
                "nv_inference_request_duration_us",
                "counter",
                "Cumulative inference request duration in microseconds",
            ],
            all,
            |snapshot| us(snapshot.stats.requests.sum()),
        );
        self.each(
            [
                "nv_inference_queue_duration_us",
                "counter",
                "Cumulative inference queuing duration in microseconds",
            ],
            all,
            |snapshot| us(snapshot.stats.queued.sum()),
        );
        self.each(
            [
                "nv_inference_compute_input_duration_us",
                "counter",
                "Cumulative compute input duration: encoding",
            ],
            all,
            |snapshot| us(snapshot.stats.encode.sum()),
        );
        self.each(
            ["nv_inference_compute_infer_duration_us", "counter", "Cumulative compute inference duration"],
            all,
            |snapshot| us(snapshot.stats.calls.sum()),
        );
        self.each(
            [
                "nv_inference_compute_output_duration_us",
                "counter",
                "Cumulative compute output duration: decoding",
            ],
            all,
            |snapshot| us(snapshot.stats.decode.sum()),
        );
        self.each(
            ["nv_inference_pending_request_count", "gauge", "Number of queries that are held"],
            all,
            |snapshot| snapshot.held.queries as f64,
        );
    }

    /// The counters of the engine.
    fn counted(&mut self, all: &[Measured]) {
        let measured = all.iter().filter_map(|(served, snapshot)| Some((served, snapshot.as_ref()?)));
        let of_models: Vec<_> =
            measured.map(|(served, snapshot)| (served, counts(&snapshot.counters))).collect();
        for (at, Count { name, help, .. }) in counts(&Counters::default()).iter().enumerate() {
            self.family(name, "counter", help);
            for (served, counts) in &of_models {
                let [model, version] = labels(served);
                match &counts[at].value {
                    Value::One(count) => self.sample(name, &[model, version], *count as f64),
                    Value::By(label, values) => {
                        for (which, count) in values {
                            self.sample(name, &[model, version, (*label, *which)], *count as f64);
                        }
                    }
                }
            }
        }
    }

    /// The counters outside the runtime, and the measurements of the runtime.
    fn measured(&mut self, all: &[Measured]) {
        self.split(
            ["parm_uncoded_requests_total", "counter", "Requests that were passed on whole, by reason"],
            "reason",
            all,
            |served, _| {
                let count = |(reason, count): (Uncoded, &std::sync::atomic::AtomicU64)| {
                    (reason.name().to_owned(), count.load(Ordering::Relaxed) as f64)
                };
                Uncoded::ALL.into_iter().zip(&served.counts.uncoded).map(count).collect()
            },
        );
        self.family("parm_model_panics_total", "counter", "Times that a model was restarted after a panic");
        for (served, _) in all {
            let panics = served.counts.panics.load(Ordering::Relaxed);
            self.sample("parm_model_panics_total", &labels(served), panics as f64);
        }
        self.each(
            ["parm_coding_off", "gauge", "1 if coding is switched off, otherwise 0"],
            all,
            |snapshot| f64::from(u8::from(snapshot.coding_off.is_some())),
        );
        self.split(
            ["parm_policy", "gauge", "1 for the state of the policy auto, 0 for its other states"],
            "state",
            all,
            |_, snapshot| {
                let state = snapshot.auto.map(|(state, _)| state);
                let is =
                    |of: parm_engine::State| (of.name().to_owned(), f64::from(u8::from(state == Some(of))));
                if state.is_none() {
                    Vec::new()
                } else {
                    parm_engine::State::ALL.into_iter().map(is).collect()
                }
            },
        );
        self.split(
            [
                "parm_policy_load",
                "gauge",
                "First calls that run on average, as the policy auto measured them",
            ],
            "policy",
            all,
            |_, snapshot| snapshot.auto.map(|(_, load)| ("auto".to_owned(), load)).into_iter().collect(),
        );
        for (name, help, of) in SUMMARIES {
            self.summary([name, help], all, of);
        }
    }

    fn instances(&mut self, all: &[Measured]) {
        let per = |all: &[Measured],
                   text: &mut Self,
                   name: &str,
                   of: &dyn Fn(&crate::runtime::MemberView) -> f64| {
            for (served, snapshot) in all {
                for member in snapshot.iter().flat_map(|snapshot| &snapshot.members) {
                    let [model, version] = labels(served);
                    text.sample(name, &[model, version, ("instance", &member.name)], of(member));
                }
            }
        };
        for (name, kind, help, of) in MEMBERS {
            self.family(name, kind, help);
            per(all, self, name, &of);
        }
        self.family("parm_instance_call_seconds", "summary", "Times of the calls of an instance");
        for (served, snapshot) in all {
            for member in snapshot.iter().flat_map(|snapshot| &snapshot.members) {
                let [model, version] = labels(served);
                let labels = [model, version, ("instance", member.name.as_str())];
                self.times("parm_instance_call_seconds", &labels, &member.times);
            }
        }
    }
}

/// The summaries of times.
const SUMMARIES: [(&str, &str, OfSnapshot); 7] = [
    ("parm_answer_seconds", "From the arrival of a query to its answer", |s| &s.stats.answers),
    ("parm_group_wait_seconds", "From the arrival of the first query of a group to its encoding", |s| {
        &s.stats.group_wait
    }),
    ("parm_encode_seconds", "From the dispatch of a coded batch to its sending", |s| &s.stats.encode),
    ("parm_encode_sum_seconds", "The time of the encoder alone", |s| &s.stats.encode_sum),
    ("parm_parity_queue_seconds", "How long coded batches wait for an instance", |s| &s.stats.parity_queued),
    ("parm_parity_call_seconds", "Times of calls with coded batches", |s| &s.stats.parity_calls),
    ("parm_decode_seconds", "The reconstruction of one prediction", |s| &s.stats.decode),
];

type OfSnapshot = fn(&Snapshot) -> &Times;

type OfMember = fn(&crate::runtime::MemberView) -> f64;

/// The metrics of each instance.
const MEMBERS: [(&str, &str, &str, OfMember); 7] = [
    ("parm_instance_in_rotation", "gauge", "1 if the instance gets work, otherwise 0", |member| {
        f64::from(u8::from(member.state == crate::runtime::State::In))
    }),
    ("parm_instance_running", "gauge", "Calls that run now", |member| member.running as f64),
    ("parm_instance_answered_total", "counter", "Calls that the instance answered", |member| {
        member.answered as f64
    }),
    ("parm_instance_failed_total", "counter", "Calls that failed", |member| member.failed as f64),
    ("parm_instance_refused_total", "counter", "Calls that the instance refused", |member| {
        member.refused as f64
    }),
    (
        "parm_mismatched_answers_total",
        "counter",
        "Answers of the instance that belonged to another request",
        |member| member.of.mismatched as f64,
    ),
    ("parm_instance_ejections_total", "counter", "Ejections of the instance", |member| {
        member.ejections as f64
    }),
];

fn labels(served: &Served) -> [(&'static str, &str); 2] {
    [("model", &served.config.name), ("version", &served.config.version)]
}

/// The value of a label, escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.sample("m", &[("instance", "a\"b\\c\nd")], 1.5);
        assert_eq!(text.0, "m{instance=\"a\\\"b\\\\c\\nd\"} 1.5\n");
    }
}
