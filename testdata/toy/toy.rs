//! The code `toy` of testdata/toy: as `sum`, but with signs that alternate.

use nalgebra::DMatrix;

use super::error::CodeError;
use super::linear::LinearCode;

/// P_j = Σ_i (−1)^i·(i+1)^j·X_i.
pub(super) fn alternating(k: usize, r: usize) -> Result<LinearCode, CodeError> {
    let weight = |j: usize, i: usize| ((i + 1) as f64).powf(j as f64) * if i % 2 == 0 { 1.0 } else { -1.0 };
    LinearCode::weighted(k, DMatrix::from_fn(r, k, weight))
}
