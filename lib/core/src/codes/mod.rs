//! Codes: an encoder with its decoder and their parameters.
//!
//! A linear code is a fixed matrix on the queries of a group and, for each pattern of losses, a
//! fixed matrix on the answers that arrived. [`LinearCode`] makes both in f64; [`combine`] applies
//! their rows to rows of queries or answers in the rows' own float type.

pub mod geometry;
mod kernel;
mod linear;
mod pseudo_inverse;

pub use kernel::{combine, combine_naive, encode_groups};
pub use linear::{CodeError, Decoder, Decoding, LinearCode, Reconstruction};

/// Above this condition number of the solved system, reconstructions amplify errors so much that
/// tools warn.
pub const ILL_CONDITIONED: f64 = 1e5;
