//! The queries, in memory.

/// The user's queries: `[count, shape…]`.
pub(crate) struct Queries {
    pub(crate) values: Vec<f32>,
    pub(crate) count: usize,
    pub(crate) shape: Vec<usize>,
}

impl Queries {
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The rows of whole groups of k, and what they are in number.
    pub(crate) fn groups(&self, k: usize) -> (&[f32], usize) {
        let groups = self.count / k;
        (&self.values[..groups * k * self.elements()], groups)
    }
}
