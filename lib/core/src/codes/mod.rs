//! Codes: an encoder with its decoder and their parameters.
//!
//! A [`Code`] is made of a [`CodeSpec`], which is what options and files may say, or read from the
//! [`directory`] of a trained code. Its [`Encoder`] makes coded queries of groups of queries, and its
//! [`Decoder`] rebuilds predictions from the answers that are available.
//!
//! A code is a fixed matrix on the queries of a group and, for each pattern of losses, a fixed matrix on
//! the answers that arrived ([`Matrices`]). [`LinearCode`] keeps the queries and adds parities;
//! [`InterpolatingCode`] sends every coded query to the deployed model. Both make their matrices in f64;
//! [`apply`] and [`combine`] apply them to rows of queries or answers in the rows' own float type. `concat`
//! tiles images instead, and a [`Network`] encodes or decodes as it has learned. [`Locator`] finds answers
//! that are wrong, and [`confidence`] says how far to trust what was rebuilt.
//!
//! A new code is a variant of [`CodeName`], its mathematics in a file of its own, and tests.

mod code;
pub mod concat;
mod confidence;
mod decoder;
pub mod directory;
mod encoder;
mod error;
pub mod geometry;
mod interpolating;
mod kernel;
pub mod learned;
mod linear;
mod locate;
mod matrices;
mod pseudo_inverse;
mod spec;

pub use code::{Code, Encoding, Trained};
pub use confidence::{confidence, confidence_of};
pub use decoder::{Decoder, Rebuilt};
pub use encoder::{Encoder, EncoderError};
pub use error::{CodeError, MAX_WORKERS};
pub use interpolating::{InterpolatingCode, Redundancy};
pub use kernel::{apply, apply_naive, combine, combine_naive, encode_groups, row_major};
pub use learned::{LoadNetwork, Network, NetworkError};
pub use linear::LinearCode;
pub use locate::{Locate, Locator};
pub use matrices::{Decoding, Matrices, Reconstruction};
pub use spec::{CodeKind, CodeName, CodeSpec, LAMBDA_D, LAMBDA_E, Parameter, UnknownCode};

/// Above this condition (see [`Decoding::condition`]), reconstructions amplify errors so much that
/// tools warn.
pub const ILL_CONDITIONED: f64 = 1e5;
