//! Systematic linear codes: `sum`, `replicate` and `none`.
//!
//! ParM's addition code (SOSP 2019, section 4.1) generalised to r parities: parity query j is
//! P_j = Σ_i w_ji·X_i and its parity model answers F_P(P_j) ≈ Σ_i w_ji·F(X_i). What is missing is
//! the solution of those equations, with the predictions that arrived moved to the other side.

use nalgebra::{DMatrix, DVector};

use super::error::CodeError;
use super::matrices::{Decoding, Matrices, Reconstruction};
use super::pseudo_inverse::{PseudoInverse, pseudo_inverse};

/// A code that keeps the k queries as they are and adds r parity queries P = W·X.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearCode {
    k: usize,
    /// W: `[r, k]`.
    weights: DMatrix<f64>,
}

impl LinearCode {
    /// The `sum` code with its default weights w_ji = (i+1)^j: for r = 1 the plain sum.
    ///
    /// # Errors
    /// k = 0, or weights that overflow.
    pub fn sum(k: usize, r: usize) -> Result<Self, CodeError> {
        let weight = |j: usize, i: usize| ((i + 1) as f64).powf(j as f64);
        // Weights grow with both indices. Those that overflow are refused before a matrix is allocated.
        let overflows = |slot: usize| weight(r.saturating_sub(1), slot).is_infinite();
        if overflows(k.saturating_sub(1))
            && let Some(slot) = (0..k).find(|&slot| overflows(slot))
            && let Some(parity) = (0..r).find(|&parity| weight(parity, slot).is_infinite())
        {
            return Err(CodeError::Weight { value: weight(parity, slot), parity, slot });
        }
        Self::weighted(k, DMatrix::from_fn(r, k, weight))
    }

    /// The `sum` code with weights of its own, `[r, k]`.
    ///
    /// # Errors
    /// k = 0, weights that are not `[r, k]`, or not finite.
    pub fn weighted(k: usize, weights: DMatrix<f64>) -> Result<Self, CodeError> {
        if k == 0 {
            return Err(CodeError::NoQueries);
        }
        if weights.ncols() != k {
            let (found_r, found_k) = weights.shape();
            return Err(CodeError::WeightShape { found_r, found_k, r: found_r, k });
        }
        for slot in 0..k {
            for parity in 0..weights.nrows() {
                let value = weights[(parity, slot)];
                if !value.is_finite() {
                    return Err(CodeError::Weight { value, parity, slot });
                }
            }
        }
        Ok(Self { k, weights })
    }

    /// The baseline `replicate`: r spare workers, dealt round-robin, each answer one query of the
    /// group a second time. Its parity queries run on the deployed model.
    ///
    /// # Errors
    /// k = 0.
    pub fn replicate(k: usize, r: usize) -> Result<Self, CodeError> {
        Self::weighted(k, DMatrix::from_fn(r, k, |j, i| f64::from(u8::from(j % k.max(1) == i))))
    }

    /// The baseline `none`: no parity, so what is lost stays lost.
    ///
    /// # Errors
    /// k = 0.
    pub fn none(k: usize) -> Result<Self, CodeError> {
        Self::weighted(k, DMatrix::zeros(0, k))
    }

    /// Queries of a group.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Parities of a group.
    #[must_use]
    pub fn r(&self) -> usize {
        self.weights.nrows()
    }

    /// The weights of one parity, by slot.
    ///
    /// # Panics
    /// If there is no such parity.
    #[must_use]
    pub fn weights(&self, parity: usize) -> Vec<f64> {
        self.weights.row(parity).iter().copied().collect()
    }

    /// The weights of all parities, W: `[r, k]`.
    #[must_use]
    pub fn parity_matrix(&self) -> &DMatrix<f64> {
        &self.weights
    }

    /// The code of a last group of `rows` < k real rows that was padded with its last row: the
    /// repeats are one unknown, whose weight is the sum of theirs.
    ///
    /// # Panics
    /// If `rows` is 0 or more than k.
    #[must_use]
    pub fn padded(&self, rows: usize) -> Self {
        assert!((1..=self.k).contains(&rows), "a padded group has between 1 and k real rows");
        let mut weights = self.weights.columns(0, rows).into_owned();
        for slot in rows..self.k {
            let repeated = self.weights.column(slot).into_owned();
            let mut last = weights.column_mut(rows - 1);
            last += repeated;
        }
        Self { k: rows, weights }
    }

    /// Solves one pattern of losses. `available` has k + r entries: the predictions by slot, then
    /// the parity outputs by index.
    ///
    /// Of m lost predictions and a available parity outputs, the a×m system W_am·x = P − W_ak·Y is
    /// solved in the least-squares sense; a prediction that the system does not determine is
    /// unsolved, even where others are not.
    ///
    /// # Panics
    /// If `available` has another length.
    #[must_use]
    pub fn decoding(&self, available: &[bool]) -> Decoding {
        assert_eq!(available.len(), self.k + self.r(), "one entry per prediction and parity output");
        let (slots, parities) = available.split_at(self.k);
        let select = |of: &[bool], what| (0..of.len()).filter(|&i| of[i] == what).collect::<Vec<_>>();
        let (present, lost) = (select(slots, true), select(slots, false));
        let used = select(parities, true);
        if lost.is_empty() {
            return Decoding::nothing(Vec::new());
        }
        if used.is_empty() {
            return Decoding::nothing(lost);
        }
        let rows = self.weights.select_rows(&used);
        let (system, known) = (rows.select_columns(&lost), rows.select_columns(&present));
        let Some(Solved { inverse, projector, condition }) = solve(&system) else {
            return Decoding { rebuilt: Vec::new(), unsolved: lost, condition: f64::INFINITY };
        };
        // x = A·P − (A·W_known)·Y
        let from_known = -(&inverse * known);
        let mut decoding = Decoding { rebuilt: Vec::new(), unsolved: Vec::new(), condition };
        for (row, &slot) in lost.iter().enumerate() {
            // x_row is determined when the system's row space holds its unit vector.
            let mut rest: DVector<f64> = projector.row(row).transpose();
            rest[row] -= 1.0;
            if rest.amax() > 1e-6 {
                decoding.unsolved.push(slot);
                continue;
            }
            let predictions = present.iter().enumerate().map(|(i, &at)| (at, from_known[(row, i)]));
            let outputs = used.iter().enumerate().map(|(i, &at)| (self.k + at, inverse[(row, i)]));
            let mut terms: Vec<_> = predictions.chain(outputs).collect();
            // What is zero but for rounding must not let an answer that is not a number in.
            let largest = terms.iter().fold(0.0_f64, |largest, (_, c)| largest.max(c.abs()));
            terms.retain(|(_, c)| c.abs() > largest * condition * 64.0 * f64::EPSILON);
            decoding.rebuilt.push(Reconstruction { slot, terms });
        }
        decoding
    }
}

impl Matrices for LinearCode {
    fn k(&self) -> usize {
        self.k()
    }

    /// k + r: the predictions by slot, then the parity outputs by index.
    fn workers(&self) -> usize {
        self.k + self.r()
    }

    /// The identity over W.
    fn encoding(&self) -> DMatrix<f64> {
        DMatrix::from_fn(self.workers(), self.k, |row, slot| match row.checked_sub(self.k) {
            None => f64::from(u8::from(row == slot)),
            Some(parity) => self.weights[(parity, slot)],
        })
    }

    fn decoding(&self, available: &[bool]) -> Decoding {
        self.decoding(available)
    }
}

struct Solved {
    /// The pseudo-inverse A, `[m, a]`.
    inverse: DMatrix<f64>,
    /// A·W, `[m, m]`: the identity where the system determines everything.
    projector: DMatrix<f64>,
    /// The largest singular value over the smallest that is not zero.
    condition: f64,
}

/// The pseudo-inverse of a system, in one step for one unknown and through its singular values for
/// more. `None` if it is zero.
fn solve(system: &DMatrix<f64>) -> Option<Solved> {
    if let [only] = system.as_slice() {
        // One equation for one unknown needs no iteration, and 1/1 must be 1 to the bit.
        return (*only != 0.0).then(|| Solved {
            inverse: DMatrix::from_element(1, 1, 1.0 / only),
            projector: DMatrix::identity(1, 1),
            condition: 1.0,
        });
    }
    let PseudoInverse { matrix: inverse, condition } = pseudo_inverse(system)?;
    let projector = &inverse * system;
    Some(Solved { inverse, projector, condition })
}
