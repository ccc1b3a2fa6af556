//! Learned encoders and decoders.

/// A network that encodes or decodes whole groups: libtorch's models are brought to the codes as such.
pub trait Network: Send + Sync {
    /// Runs it on groups of rows one behind the other, and gives its outputs one behind the other. An
    /// encoder makes `[groups, r, …]` of `[groups, k, …]`, and a decoder `[groups, k, …]` of
    /// `[groups, k + r, …]`, with zeros for what is missing.
    ///
    /// # Errors
    /// The network's own.
    fn run(&self, groups: usize, values: &[f32]) -> Result<Vec<f32>, NetworkError>;
}

/// A network that cannot be loaded, or that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NetworkError(pub String);
