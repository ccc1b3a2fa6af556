//! How many queries a batch takes.

use crate::Time;

/// The size of the next batches: at least 1, at most the limit of the instances, at most what is configured.
#[derive(Debug)]
pub(crate) struct BatchSize {
    /// How long calls may take; none: batches are as large as they may be.
    target: Option<Time>,
    configured: usize,
    most: usize,
    size: f64,
}

impl BatchSize {
    pub(crate) fn new(configured: usize, target: Option<Time>) -> Self {
        let size = if target.is_some() { 1.0 } else { configured as f64 };
        Self { target, configured, most: configured, size }
    }

    /// The queries that a batch takes now.
    pub(crate) fn now(&self) -> usize {
        self.size as usize
    }

    /// True if batches may ever have several queries.
    pub(crate) fn may_be_several(&self) -> bool {
        self.most > 1
    }

    /// Batches take at most so many queries from now on.
    pub(crate) fn limit(&mut self, most: usize) {
        self.most = self.configured.min(most.max(1));
        let most = self.most as f64;
        self.size = if self.target.is_some() { self.size.min(most) } else { most };
    }

    /// A batch of so many rows was answered after so long: the next ones are larger or smaller (additive
    /// increase, multiplicative decrease, as Clipper, NSDI 2017, section 4.3.1).
    pub(crate) fn adapt(&mut self, rows: usize, time: Time) {
        let Some(target) = self.target else { return };
        if time > target {
            self.size = (self.size * 0.9).max(1.0);
        } else if rows >= self.now() {
            self.size = (self.size + 1.0).min(self.most as f64);
        }
    }
}
