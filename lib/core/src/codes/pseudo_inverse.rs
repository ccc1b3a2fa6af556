//! The pseudo-inverse of the small systems that decoding solves.
//!
//! By one-sided Jacobi rotations (Golub and Van Loan, Matrix Computations, section 8.6.3): slow for
//! large matrices, but a system has r rows at most, and they give every digit. `nalgebra`'s SVD does
//! not: where a matrix has zeros and lacks full rank, its third digit may be wrong (0.35).

use nalgebra::DMatrix;

/// Singular values below this share of the largest one count as zero.
const RANK_TOLERANCE: f64 = 1e-10;

/// Sweeps over all pairs of columns. Jacobi converges quadratically: ten are many.
const MAX_SWEEPS: usize = 60;

/// A pseudo-inverse and how well it is determined.
pub(super) struct PseudoInverse {
    /// The matrix itself, `[columns, rows]` of the system's.
    pub(super) matrix: DMatrix<f64>,
    /// The largest singular value over the smallest that is not zero.
    pub(super) condition: f64,
}

/// The pseudo-inverse of a system; `None` if it is zero.
pub(super) fn pseudo_inverse(system: &DMatrix<f64>) -> Option<PseudoInverse> {
    // Rotations work on columns: the fewer the better, and pinv(Aᵀ) = pinv(A)ᵀ.
    if system.ncols() > system.nrows() {
        let PseudoInverse { matrix, condition } = pseudo_inverse(&system.transpose())?;
        return Some(PseudoInverse { matrix: matrix.transpose(), condition });
    }
    // Powers of two are exact, and squares of what is left neither overflow nor vanish.
    let scale = system.amax().log2().floor().exp2();
    if scale == 0.0 {
        return None;
    }
    let (mut columns, rotations) = orthogonalize(system / scale);
    let singular: Vec<f64> = columns.column_iter().map(|column| column.norm()).collect();
    let largest = singular.iter().copied().fold(0.0, f64::max);
    let mut smallest = largest;
    // A·V = U·Σ, so pinv(A) = V·Σ⁻¹·Uᵀ = V·Σ⁻²·(A·V)ᵀ.
    for (mut column, &value) in columns.column_iter_mut().zip(&singular) {
        if value > largest * RANK_TOLERANCE {
            smallest = smallest.min(value);
            column /= value * value;
        } else {
            column.fill(0.0);
        }
    }
    Some(PseudoInverse { matrix: rotations * columns.transpose() / scale, condition: largest / smallest })
}

/// Rotates pairs of columns until all are orthogonal; returns them and the rotation V of A·V.
fn orthogonalize(mut columns: DMatrix<f64>) -> (DMatrix<f64>, DMatrix<f64>) {
    let n = columns.ncols();
    let mut rotation = DMatrix::identity(n, n);
    for _ in 0..MAX_SWEEPS {
        let mut rotated = false;
        for (p, q) in (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q))) {
            let (left, right) = (columns.column(p), columns.column(q));
            let (left_square, right_square) = (left.norm_squared(), right.norm_squared());
            let product = left.dot(&right);
            // Also true where a column has become zero.
            if product.abs() <= f64::EPSILON * (left_square * right_square).sqrt() {
                continue;
            }
            rotated = true;
            let zeta = (right_square - left_square) / (2.0 * product);
            let tangent = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
            let cosine = 1.0 / tangent.hypot(1.0);
            for matrix in [&mut columns, &mut rotation] {
                rotate(matrix, (p, q), cosine, cosine * tangent);
            }
        }
        if !rotated {
            break;
        }
    }
    (columns, rotation)
}

fn rotate(matrix: &mut DMatrix<f64>, (p, q): (usize, usize), cosine: f64, sine: f64) {
    for row in 0..matrix.nrows() {
        let (left, right) = (matrix[(row, p)], matrix[(row, q)]);
        matrix[(row, p)] = cosine * left - sine * right;
        matrix[(row, q)] = sine * left + cosine * right;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The four equations of Moore and Penrose, which define it.
        #[test]
        fn the_defining_equations_hold(
            (rows, columns, values) in (1_usize..7, 1_usize..7).prop_flat_map(|(rows, columns)| {
                let value = prop::sample::select(vec![0.0, 0.0, 0.0, 1.0, -1.0, 2.0, 0.5, 3.0]);
                (Just(rows), Just(columns), prop::collection::vec(value, rows * columns))
            }),
        ) {
            let a = DMatrix::from_vec(rows, columns, values);
            let Some(PseudoInverse { matrix: x, condition }) = pseudo_inverse(&a) else {
                prop_assert_eq!(a.amax(), 0.0);
                return Ok(());
            };
            let tolerance = 1e-14 * condition * condition;
            for (left, right) in [
                (&a * &x * &a, a.clone()),
                (&x * &a * &x, x.clone()),
                ((&a * &x).transpose(), &a * &x),
                ((&x * &a).transpose(), &x * &a),
            ] {
                prop_assert!((&left - &right).amax() <= tolerance * right.amax().max(1.0), "{left} {right}");
            }
        }
    }
}
