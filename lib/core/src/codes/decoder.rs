//! Decoding: answers and what is missing of them to predictions and how far to trust them.

use std::collections::HashMap;
use std::sync::Arc;

use super::confidence::confidence_of;
use super::learned::{self, Network, NetworkError};
use super::matrices::{Decoding, Matrices, Reconstruction};
use super::spec::CodeKind;
use crate::dtype::Float;
use crate::task::Task;

/// Loss patterns whose decoding matrices are kept. More than real losses show; a bound all the
/// same, since 60 workers would allow 2^60.
const MAX_CACHED: usize = 4096;

/// Rebuilds predictions. D_F is made once for each pattern of losses.
pub struct Decoder {
    kind: CodeKind,
    task: Task,
    /// Answers that are a prediction as it stands come from the deployed model.
    on_deployed: bool,
    network: Option<Arc<dyn Network>>,
    cache: HashMap<Vec<bool>, Arc<Decoding>>,
}

/// A prediction that was rebuilt, and the confidence in it, from 0 to 1.
pub type Rebuilt<'a, T> = (&'a [T], f32);

impl Decoder {
    /// A decoder of these matrices, all of whose answers come from the deployed model.
    #[must_use]
    pub fn new(kind: impl Into<CodeKind>) -> Self {
        let task = Task::default();
        Self { kind: kind.into(), task, on_deployed: true, network: None, cache: HashMap::new() }
    }

    /// The same, for predictions of this task.
    #[must_use]
    pub fn with_task(self, task: Task) -> Self {
        Self { task, ..self }
    }

    /// The task of the predictions.
    #[must_use]
    pub fn task(&self) -> Task {
        self.task
    }

    /// The same, but parities are answered by parity models.
    pub(super) fn with_parity_models(self) -> Self {
        Self { on_deployed: false, ..self }
    }

    /// The same, but a network rebuilds.
    #[must_use]
    pub fn with_network(self, network: Arc<dyn Network>) -> Self {
        Self { network: Some(network), ..self }
    }

    /// The matrices.
    #[must_use]
    pub fn kind(&self) -> &CodeKind {
        &self.kind
    }

    /// The decoding of one pattern of losses, solved once: see [`Matrices::decoding`]. Of a systematic code
    /// the last group of a stream may be short: `available` then has an entry for each of its queries, and
    /// for each parity, and the queries that filled it up were repeats of its last.
    ///
    /// # Panics
    /// If `available` has more entries than the code has workers, or none for queries.
    pub fn decoding(&mut self, available: &[bool]) -> Arc<Decoding> {
        let lacking = self.kind.workers() - available.len();
        if let (CodeKind::Systematic(code), 1..) = (&self.kind, lacking) {
            // Only the last group is short: its decoding is not worth keeping.
            return code.padded(code.k() - lacking).decoding(available).into();
        }
        if let Some(known) = self.cache.get(available) {
            return Arc::clone(known);
        }
        if self.cache.len() >= MAX_CACHED {
            self.cache.clear();
        }
        let decoding = Arc::new(self.kind.decoding(available));
        self.cache.insert(available.to_vec(), Arc::clone(&decoding));
        decoding
    }

    /// How far to trust what was rebuilt so: see [`confidence_of`]. The deployed model's own answer to a query is
    /// as good as one that was never coded.
    #[must_use]
    pub fn confidence<T: Float>(&self, reconstruction: &Reconstruction, prediction: &[T]) -> f32 {
        if self.on_deployed && reconstruction.is_answer() {
            1.0
        } else {
            confidence_of(self.task, prediction, reconstruction.amplification())
        }
    }

    /// Rebuilds the missing predictions of groups. `groups` says for each which of its workers' answers are
    /// available, and `answer` gives those of group g and worker w, rows of `elements` values. Passes on, by
    /// group and slot, each prediction that was rebuilt, and `None` for one that nothing determines. A
    /// network rebuilds all groups in one run. Returns the worst condition of what was solved.
    ///
    /// # Errors
    /// The network's, or a network that gives another number of values.
    ///
    /// # Panics
    /// As [`decoding`](Self::decoding).
    pub fn decode<'a, T: Float>(
        &mut self,
        elements: usize,
        groups: &[impl AsRef<[bool]>],
        answer: impl Fn(usize, usize) -> &'a [T],
        mut take: impl FnMut(usize, usize, Option<Rebuilt<'_, T>>),
    ) -> Result<f64, NetworkError> {
        if let Some(network) = self.network.clone() {
            return self.decode_learned(&*network, elements, groups, answer, take).map(|()| 1.0);
        }
        let (mut row, mut worst) = (vec![T::zeroed(); elements], 1.0_f64);
        for (group, available) in groups.iter().enumerate() {
            let decoding = self.decoding(available.as_ref());
            for reconstruction in &decoding.rebuilt {
                reconstruction.combine(|worker| answer(group, worker), &mut row);
                take(group, reconstruction.slot, Some((&row, self.confidence(reconstruction, &row))));
            }
            for &slot in &decoding.unsolved {
                take(group, slot, None);
            }
            if !decoding.rebuilt.is_empty() {
                worst = worst.max(decoding.condition);
            }
        }
        Ok(worst)
    }

    fn decode_learned<'a, T: Float>(
        &self,
        network: &dyn Network,
        elements: usize,
        groups: &[impl AsRef<[bool]>],
        answer: impl Fn(usize, usize) -> &'a [T],
        mut take: impl FnMut(usize, usize, Option<Rebuilt<'_, T>>),
    ) -> Result<(), NetworkError> {
        let k = self.kind.k();
        let parities = self.kind.workers() - k;
        let mut rows = Vec::new();
        let gather = |(group, available): (usize, &_)| {
            let available: &[bool] = AsRef::as_ref(available);
            learned::gather(k, parities, available, elements, |worker| answer(group, worker), &mut rows)
        };
        let asked: Vec<bool> = groups.iter().enumerate().map(gather).collect();
        let count = asked.iter().filter(|asked| **asked).count();
        let rows: Vec<f32> = rows.iter().map(|value| value.to_f64() as f32).collect();
        let outputs = if count > 0 { network.run(count, &rows)? } else { Vec::new() };
        if outputs.len() != count * k * elements {
            let (found, expected) = (outputs.len(), count * k * elements);
            return Err(NetworkError(format!(
                "found {found} values from the learned decoder, expected {expected}"
            )));
        }
        let outputs: Vec<T> = outputs.into_iter().map(|value| T::from_f64(value.into())).collect();
        let mut outputs = outputs.chunks_exact(k * elements);
        for (group, (available, asked)) in groups.iter().zip(asked).enumerate() {
            let available = available.as_ref();
            let output = if asked { outputs.next() } else { None };
            for slot in (0..available.len() - parities).filter(|&slot| !available[slot]) {
                let row = output.map(|output| &output[slot * elements..][..elements]);
                take(group, slot, row.map(|row| (row, learned::confidence(self.task, row))));
            }
        }
        Ok(())
    }
}
