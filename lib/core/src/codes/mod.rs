//! Codes: an encoder with its decoder and their parameters.
//!
//! A [`Code`] is a fixed matrix on the queries of a group and, for each pattern of losses, a fixed
//! matrix on the answers that arrived. [`LinearCode`] keeps the queries and adds parities;
//! [`InterpolatingCode`] sends every coded query to the deployed model. Both make their matrices in
//! f64; [`apply`] and [`combine`] apply them to rows of queries or answers in the rows' own float
//! type. [`Locator`] finds answers that are wrong, and [`confidence`] says how far to trust what
//! was rebuilt.

pub mod concat;
mod confidence;
mod decoder;
pub mod geometry;
mod interpolating;
mod kernel;
mod learned;
mod linear;
mod locate;
mod pseudo_inverse;
mod spec;

pub use confidence::confidence;
pub use decoder::{Code, Decoder, Decoding, Reconstruction};
pub use interpolating::{InterpolatingCode, MAX_WORKERS, Redundancy};
pub use kernel::{apply, apply_naive, combine, combine_naive, encode_groups, row_major};
pub use learned::{Network, NetworkError};
pub use linear::{CodeError, LinearCode};
pub use locate::{Locate, Locator};
pub use spec::{CodeName, CodeSpec, LAMBDA_D, LAMBDA_E, SpecifiedCode, UnknownCode};

/// Above this condition (see [`Decoding::condition`]), reconstructions amplify errors so much that
/// tools warn.
pub const ILL_CONDITIONED: f64 = 1e5;
