//! Statistics of models in Triton's format.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;

use crate::models::{Served, State};
use crate::runtime::Times;
use parm_oip::proto;

/// The response with statistics.
#[derive(Debug, Serialize)]
pub(super) struct Statistics {
    pub(super) model_stats: Vec<ModelStatistics>,
}

/// The statistics of a model.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ModelStatistics {
    name: String,
    version: String,
    /// The time of the last response, in ms since 1970.
    last_inference: u64,
    /// The number of rows that were answered.
    inference_count: u64,
    /// The number of calls of the deployed model.
    execution_count: u64,
    inference_stats: InferenceStatistics,
    batch_stats: [(); 0],
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct InferenceStatistics {
    success: Total,
    fail: Total,
    queue: Total,
    compute_input: Total,
    compute_infer: Total,
    compute_output: Total,
    cache_hit: Total,
    cache_miss: Total,
}

/// A count, and the sum of its times.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Total {
    count: u64,
    ns: u64,
}

impl Total {
    /// A count of requests, with the sum of these times.
    fn of(count: u64, times: &Times) -> Self {
        Self { count, ns: u64::try_from(times.sum().as_nanos()).unwrap_or(u64::MAX) }
    }
}

/// The statistics of models.
pub(super) async fn of(models: &[Arc<Served>]) -> Vec<ModelStatistics> {
    let mut all = Vec::with_capacity(models.len());
    for served in models {
        all.push(of_one(served).await);
    }
    all
}

async fn of_one(served: &Served) -> ModelStatistics {
    let mut found = ModelStatistics {
        name: served.config.name.clone(),
        version: served.config.version.clone(),
        ..ModelStatistics::default()
    };
    let State::Loaded(loaded) = served.state() else { return found };
    let Ok(snapshot) = loaded.runtime.snapshot().await else { return found };
    let stats = &snapshot.stats;
    found.inference_count = stats.answers.count();
    found.execution_count = stats.calls.count();
    found.last_inference = stats.last_answer.map_or(0, |at| {
        let since_1970 = at.duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
    });
    let counts = &served.counts;
    let refused = counts.invalid.load(Ordering::Relaxed) + counts.not_ready.load(Ordering::Relaxed);
    // Triton counts each part once a request, which perf_analyzer relies on.
    let part = |times: &Times| Total::of(stats.requests.count(), times);
    found.inference_stats = InferenceStatistics {
        success: part(&stats.requests),
        fail: Total { count: stats.failed_requests + refused, ns: 0 },
        queue: part(&stats.queued),
        compute_input: part(&stats.encode),
        compute_infer: part(&stats.calls),
        compute_output: part(&stats.decode),
        ..InferenceStatistics::default()
    };
    found
}

impl From<ModelStatistics> for proto::ModelStatistics {
    fn from(from: ModelStatistics) -> Self {
        let total = |of: Total| Some(proto::StatisticDuration { count: of.count, ns: of.ns });
        let of = from.inference_stats;
        Self {
            name: from.name,
            version: from.version,
            last_inference: from.last_inference,
            inference_count: from.inference_count,
            execution_count: from.execution_count,
            inference_stats: Some(proto::InferStatistics {
                success: total(of.success),
                fail: total(of.fail),
                queue: total(of.queue),
                compute_input: total(of.compute_input),
                compute_infer: total(of.compute_infer),
                compute_output: total(of.compute_output),
                cache_hit: total(of.cache_hit),
                cache_miss: total(of.cache_miss),
            }),
            ..Self::default()
        }
    }
}
