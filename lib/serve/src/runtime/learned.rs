//! Learned decoders. A network is slow, so it runs in a task of its own, and on many groups at once.

use std::sync::Arc;

use bytes::Bytes;
use parm::codes::{Network, NetworkError, learned};
use parm::dtype::Float;
use parm::{Dtype, Task};
use parm_engine::QueryId;
use tokio::sync::mpsc::{UnboundedReceiver, WeakUnboundedSender};
use tokio::time::Instant;

use super::rows::{CodingError, Lost, Rebuilt, to_bytes};
use super::spec::RowTensor;
use super::{Event, Values};

/// The most groups that a network is given at once.
const AT_ONCE: usize = 256;

/// A network for each output that is rebuilt.
pub(super) struct LearnedDecoder {
    k: usize,
    n: usize,
    task: Task,
    outputs: Vec<LearnedOutput>,
}

pub(super) struct LearnedOutput {
    /// Its index among the model's outputs.
    pub(super) index: usize,
    pub(super) spec: RowTensor,
    pub(super) network: Arc<dyn Network>,
}

/// One prediction to rebuild.
pub(super) struct Gathered {
    slot: usize,
    /// How many outputs the model has.
    count: usize,
    /// For each output that is rebuilt `[n, …]`, zeros for what is not at hand.
    values: Vec<Vec<f32>>,
}

/// A prediction to rebuild, and what for.
pub(super) struct Job {
    pub(super) purpose: Purpose,
    pub(super) gathered: Gathered,
}

/// What a reconstruction is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// To answer a query.
    Answer {
        query: QueryId,
        row: u64,
        /// The row's own number, since places of rows are used again.
        number: u64,
    },
    /// To be compared with the prediction that came.
    Compare { prediction: Values },
}

impl LearnedDecoder {
    pub(super) fn new(k: usize, n: usize, task: Task, outputs: Vec<LearnedOutput>) -> Self {
        Self { k, n, task, outputs }
    }

    /// Takes together what one prediction is rebuilt from.
    pub(super) fn gather<'a>(
        &self,
        lost: Lost,
        count: usize,
        answer: impl Fn(usize) -> Option<&'a [Bytes]>,
    ) -> Gathered {
        let of_output = |output: &LearnedOutput| {
            let LearnedOutput { index, spec, .. } = output;
            let elements = spec.elements().max(1);
            let mut values = vec![0.0; self.n * elements];
            for (worker, values) in values.chunks_exact_mut(elements).enumerate() {
                let at_hand = lost.available >> worker & 1 == 1;
                if let Some(bytes) =
                    answer(worker).filter(|_| at_hand).and_then(|outputs| outputs.get(*index))
                {
                    let own = if worker < self.k { spec.dtype() } else { Some(spec.encoded()) };
                    f32::decode(own.unwrap_or(Dtype::F32), bytes, values);
                }
            }
            values
        };
        Gathered { slot: lost.slot, count, values: self.outputs.iter().map(of_output).collect() }
    }

    /// Rebuilds predictions, all of them in one run of each network.
    pub(super) fn run(&self, tasks: &[Gathered]) -> Vec<Result<Rebuilt, CodingError>> {
        let empty = |task: &Gathered| Rebuilt { outputs: vec![Bytes::new(); task.count], confidence: 0.0 };
        let mut rebuilt: Vec<Result<Rebuilt, CodingError>> =
            tasks.iter().map(|task| Ok(empty(task))).collect();
        for (place, LearnedOutput { index, spec, network }) in self.outputs.iter().enumerate() {
            let values: Vec<f32> = tasks.iter().flat_map(|task| &task.values[place]).copied().collect();
            let outputs = network.run(tasks.len(), &values);
            let elements = spec.elements().max(1);
            for (at, (task, rebuilt)) in tasks.iter().zip(&mut rebuilt).enumerate() {
                let row = outputs.as_ref().map_err(Clone::clone).and_then(|outputs| {
                    let row = outputs.chunks_exact(elements).nth(at * self.k + task.slot);
                    row.ok_or_else(|| {
                        let text = "the learned decoder gave fewer predictions than its code has queries";
                        NetworkError(text.to_owned())
                    })
                });
                match (row, &mut *rebuilt) {
                    (Ok(row), Ok(rebuilt)) => {
                        rebuilt.outputs[*index] = to_bytes(row.to_vec(), spec);
                        if place == 0 {
                            rebuilt.confidence = learned::confidence(self.task, row);
                        }
                    }
                    (Err(error), Ok(_)) => *rebuilt = Err(error.into()),
                    (_, Err(_)) => {}
                }
            }
        }
        rebuilt
    }
}

/// Runs a learned decoder on what is to be rebuilt, as much at once as has come meanwhile, until the driver is
/// gone.
pub(super) async fn decode(
    decoder: Arc<LearnedDecoder>,
    mut jobs: UnboundedReceiver<Job>,
    events: WeakUnboundedSender<Event>,
) {
    let mut batch = Vec::new();
    while jobs.recv_many(&mut batch, AT_ONCE).await > 0 {
        let (purposes, tasks): (Vec<Purpose>, Vec<Gathered>) =
            batch.drain(..).map(|job| (job.purpose, job.gathered)).unzip();
        let since = Instant::now();
        let (count, decoder) = (tasks.len(), Arc::clone(&decoder));
        let rebuilt = tokio::task::spawn_blocking(move || decoder.run(&tasks)).await;
        let rebuilt = rebuilt.unwrap_or_else(|error| {
            let (part, cause) = ("decoder", error.to_string());
            vec![Err(CodingError::Panicked { part, cause }); count]
        });
        let took = since.elapsed() / count as u32;
        let Some(events) = events.upgrade() else { return };
        for (purpose, rebuilt) in purposes.into_iter().zip(rebuilt) {
            // A driver that is gone waits for nothing.
            let _ = events.send(Event::Decoded { purpose, rebuilt, took });
        }
    }
}
