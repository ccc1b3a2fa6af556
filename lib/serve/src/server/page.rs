//! The status page: one HTML file that fetches `/status.json` each second.

use std::sync::LazyLock;
use std::time::Duration;

use axum::extract::State as Extract;
use axum::http::header::CONTENT_SECURITY_POLICY;
use axum::response::{Html, IntoResponse};
use serde::Serialize;

use super::response::{Answer, as_json};
use super::state::Shared;
use crate::models::{self, Served};
use crate::runtime::{MemberView, Slice, Snapshot, State, Times};

/// Browsers let the page load nothing, and connect only to this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page with the style that it shares with reports.
static PAGE: LazyLock<String> =
    LazyLock::new(|| include_str!("page.html").replace("/* the shared style */", parm::page::STYLE));

pub(super) async fn page() -> impl IntoResponse {
    ([(CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE.as_str()))
}

/// The content of `/status.json`.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    ready: bool,
    up_s: u64,
    models: Vec<ModelStatus>,
}

#[derive(Serialize)]
struct ModelStatus {
    name: String,
    version: String,
    state: &'static str,
    reason: String,
    policy: &'static str,
    uncoded: Option<&'static str>,
    #[serde(flatten)]
    runtime: Option<RuntimeStatus>,
}

#[derive(Serialize)]
struct RuntimeStatus {
    queries: u64,
    held: usize,
    waiting: usize,
    waiting_parity: Vec<usize>,
    /// Of the last 15 to 30 s.
    latency: Latency,
    predictions: u64,
    reconstructed: u64,
    shadow: u64,
    approximate: u64,
    defaults: u64,
    rejected: u64,
    groups_open: usize,
    groups_full: u64,
    groups_completed: u64,
    groups_shorter: u64,
    agreed: u64,
    disagreed: u64,
    late_after_reconstruction: u64,
    hedges: u64,
    coding_off: Option<String>,
    /// Of the policy auto: what it gives to queries, and the average number of first calls that run.
    auto: Option<AutoStatus>,
    /// The last ten minutes in slices of 10 s, the oldest first.
    history: Vec<SliceStatus>,
    instances: Vec<InstanceStatus>,
}

/// What happened within a slice of time.
#[derive(Serialize)]
struct SliceStatus {
    /// From its begin until now.
    ago_s: f64,
    /// Answered queries a second.
    rate: f64,
    /// Null without answers, as are shares of nothing.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    p999_ms: Option<f64>,
    /// Reconstructions, as a share of the answers.
    reconstructed: Option<f64>,
    /// Reconstructions that agreed with the prediction that came later, as a share of those that could be compared.
    agreement: Option<f64>,
    /// Of the policy auto: see [`AutoStatus`].
    level: Option<usize>,
}

impl SliceStatus {
    fn new(slice: &Slice, end: Duration) -> Self {
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let latency = |at: usize| (slice.answers > 0).then(|| in_ms(slice.latency[at]));
        Self {
            ago_s: end.saturating_sub(slice.begin).as_secs_f64(),
            // A slice that has just begun says nothing of the rate of a second.
            rate: slice.answers as f64 / slice.length.as_secs_f64().max(1.0),
            p50_ms: latency(0),
            p99_ms: latency(1),
            p999_ms: latency(2),
            reconstructed: share(slice.reconstructed, slice.answers),
            agreement: share(slice.agreed, slice.agreed + slice.disagreed),
            level: slice.state.map(|state| state as usize),
        }
    }
}

#[derive(Serialize)]
struct AutoStatus {
    state: &'static str,
    /// The place of the state among all states, from the least redundancy to the most.
    level: usize,
    load: f64,
}

/// Percentiles, in ms.
#[derive(Serialize)]
struct Latency {
    count: u64,
    p50: f64,
    p99: f64,
    p995: f64,
    p999: f64,
}

#[derive(Serialize)]
struct InstanceStatus {
    name: String,
    roles: String,
    state: &'static str,
    running: usize,
    answered: u64,
    failed: u64,
    refused: u64,
    mismatched: u64,
    /// Whether it returns the ids of requests; null: not known yet.
    echoes_ids: Option<bool>,
    ejections: u64,
    last_failure: Option<String>,
    latency: Latency,
}

pub(super) async fn status(Extract(shared): Extract<Shared>) -> Answer {
    let mut models = Vec::new();
    for served in shared.server.models.all() {
        models.push(of_model(&served).await);
    }
    as_json(&Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: shared.server.is_ready(),
        up_s: shared.server.since.elapsed().as_secs(),
        models,
    })
}

async fn of_model(served: &Served) -> ModelStatus {
    let state = served.state();
    let (word, reason) = match &state {
        models::State::Unloaded => ("unloaded", String::new()),
        models::State::Loading => ("loading", served.waits_for()),
        models::State::Loaded(loaded) if loaded.is_ready() => ("ready", String::new()),
        models::State::Loaded(loaded) => ("waiting", loaded.waits_for()),
        models::State::Failed(why) => ("failed", why.clone()),
    };
    let (mut runtime, mut uncoded) = (None, None);
    if let models::State::Loaded(loaded) = state {
        uncoded = loaded.spec.as_ref().err().map(|reason| reason.name());
        runtime = loaded.runtime.snapshot().await.ok().map(RuntimeStatus::from);
    }
    ModelStatus {
        name: served.config.name.clone(),
        version: served.config.version.clone(),
        state: word,
        reason,
        policy: served.config.redundancy.name(),
        uncoded,
        runtime,
    }
}

impl From<Snapshot> for RuntimeStatus {
    fn from(from: Snapshot) -> Self {
        let of = &from.counters;
        let mut instances: Vec<_> = from.members.iter().map(InstanceStatus::from).collect();
        let end = from.history.last().map_or(Duration::ZERO, |last| last.begin + last.length);
        instances.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            queries: of.queries,
            held: from.held.queries,
            waiting: from.waiting,
            waiting_parity: from.waiting_parity,
            latency: Latency::from(&from.stats.recent()),
            predictions: of.predictions,
            reconstructed: of.reconstructed,
            shadow: of.shadow,
            approximate: of.approximate,
            defaults: of.default_deadline + of.default_failed,
            rejected: of.rejected,
            groups_open: from.held.groups,
            groups_full: of.groups_full,
            groups_completed: of.groups_completed,
            groups_shorter: of.groups_shorter,
            agreed: of.agreed,
            disagreed: of.disagreed,
            late_after_reconstruction: of.late_after_reconstruction,
            hedges: of.hedges,
            coding_off: from.coding_off.map(|reason| format!("{reason:?}").to_lowercase()),
            auto: from.auto.map(|(state, load)| AutoStatus {
                state: state.name(),
                level: state as usize,
                load,
            }),
            history: from.history.iter().map(|slice| SliceStatus::new(slice, end)).collect(),
            instances,
        }
    }
}

impl From<&Times> for Latency {
    fn from(times: &Times) -> Self {
        let ms = |share: f64| in_ms(times.within(share));
        Self { count: times.count(), p50: ms(0.5), p99: ms(0.99), p995: ms(0.995), p999: ms(0.999) }
    }
}

fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl From<&MemberView> for InstanceStatus {
    fn from(member: &MemberView) -> Self {
        let mut roles = Vec::new();
        roles.extend(member.roles.deployed.then(|| "deployed".to_owned()));
        roles.extend(member.roles.approximate.then(|| "cheap".to_owned()));
        let parities = (0..u128::BITS).filter(|index| member.roles.parity >> index & 1 == 1);
        roles.extend(parities.map(|index| format!("parity-{index}")));
        Self {
            name: member.name.clone(),
            roles: roles.join(", "),
            state: match member.state {
                State::In => "in",
                State::Ejected => "out",
                State::Leaving => "leaving",
            },
            running: member.running,
            answered: member.answered,
            failed: member.failed,
            refused: member.refused,
            mismatched: member.of.mismatched,
            echoes_ids: member.of.echoes_ids,
            ejections: member.ejections,
            last_failure: member.last_failure.clone(),
            latency: Latency::from(&member.times),
        }
    }
}
