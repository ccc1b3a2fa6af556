//! Finding answers that are wrong, so that they can be left out.

use std::collections::HashMap;
use std::sync::Arc;

use nalgebra::{DMatrix, DVector};

use super::decoder::Code;
use super::geometry::Curve;
use super::interpolating::InterpolatingCode;
use crate::dtype::Float;

/// Loss patterns whose residual matrices are kept.
const MAX_CACHED: usize = 1024;

/// The curve that predicts an answer from the others. Not the decoder's: Berrut's follows each wrong
/// answer to its end. λ is the best of six for one model on MNIST's test images (784-200-100-10,
/// k = 8, e = 1), where it finds 94 % of flipped signs and Berrut's 84 %; other data may want another.
const PREDICTOR: Curve = Curve::Spline { lambda: 1e-5 };

/// How much more a residual counts if the vote names the answer too.
const NAMED: f64 = 1.25;

/// How wrong answers are told from right ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locate {
    /// ApproxIFER's locator (AAAI 2022, algorithm 2): for each class the rational function P/Q
    /// through the answers; wrong ones stand near the zeros of Q, and the classes vote.
    Vote,
    /// Leave-one-out residuals: the answer that a smooth curve through the others misses most is
    /// wrong.
    Residual,
    /// The residuals, counting more for those that the vote names.
    Both,
}

/// Finds up to e wrong answers of a group.
#[derive(Debug)]
pub struct Locator {
    code: InterpolatingCode,
    locate: Locate,
    threshold: f64,
    /// By loss pattern: see [`residual_matrix`].
    residuals: HashMap<Vec<bool>, Arc<DMatrix<f64>>>,
}

impl Locator {
    /// A locator of the wrong answers that the code was laid out for.
    ///
    /// An answer is wrong only if its leave-one-out residual is more than `threshold` times the
    /// median of those of its group: leaving answers out costs accuracy, and small errors do less
    /// harm. 0 leaves e answers out of every group.
    #[must_use]
    pub fn new(code: InterpolatingCode, locate: Locate, threshold: f64) -> Self {
        Self { code, locate, threshold, residuals: HashMap::new() }
    }

    /// The wrong ones of the answers `[n, elements]` of a group, by worker, the surest first.
    /// Answers that are not finite are wrong in any case.
    ///
    /// # Panics
    /// If `available` has not one entry for each of the n workers, or `answers` not as many rows.
    pub fn find<T: Float>(&mut self, answers: &[T], elements: usize, available: &[bool]) -> Vec<usize> {
        assert_eq!(answers.len(), available.len() * elements, "one row per worker");
        let row = |worker: usize| &answers[worker * elements..][..elements];
        let finite = |worker: usize| row(worker).iter().all(|value| value.to_f64().is_finite());
        let mut wrong = survivors(available);
        wrong.retain(|&worker| !finite(worker));
        let mut available = available.to_vec();
        for &worker in &wrong {
            available[worker] = false;
        }
        let byzantine = self.code.redundancy().byzantine;
        let named = match self.locate {
            Locate::Residual => Vec::new(),
            Locate::Vote | Locate::Both => vote(&self.code, answers, elements, &available),
        };
        while wrong.len() < byzantine {
            let scores = self.scores(answers, elements, &available);
            // Two answers alone do not tell which of them is wrong.
            if scores.len() < 3 {
                break;
            }
            let mut sorted: Vec<f64> = scores.iter().map(|(_, score)| *score).collect();
            sorted.sort_by(f64::total_cmp);
            let limit = self.threshold * sorted[sorted.len() / 2];
            let suspect = |(worker, score): &&(usize, f64)| {
                *score >= limit && (self.locate != Locate::Vote || named.contains(worker))
            };
            let rank = |(worker, score): &(usize, f64)| match self.locate {
                Locate::Both if named.contains(worker) => score * NAMED,
                _ => *score,
            };
            let worst = scores.iter().filter(suspect).max_by(|a, b| rank(a).total_cmp(&rank(b)));
            let Some(&(worker, _)) = worst else { break };
            available[worker] = false;
            wrong.push(worker);
        }
        wrong
    }

    /// ‖y_i − D_{F∖i}·y‖/(‖D_{F∖i}‖ + 1) of each survivor i.
    fn scores<T: Float>(&mut self, answers: &[T], elements: usize, available: &[bool]) -> Vec<(usize, f64)> {
        let survivors = survivors(available);
        let matrix = self.residual_matrix(available, &survivors);
        let mut rest = vec![0.0; elements];
        let score = |(row, &worker): (usize, &usize)| {
            rest.fill(0.0);
            for (column, &other) in survivors.iter().enumerate() {
                let coefficient = matrix[(row, column)];
                let answer = &answers[other * elements..][..elements];
                rest.iter_mut().zip(answer).for_each(|(rest, y)| *rest += coefficient * y.to_f64());
            }
            (worker, rest.iter().map(|x| x * x).sum::<f64>().sqrt())
        };
        survivors.iter().enumerate().map(score).collect()
    }

    fn residual_matrix(&mut self, available: &[bool], survivors: &[usize]) -> Arc<DMatrix<f64>> {
        if let Some(known) = self.residuals.get(available) {
            return Arc::clone(known);
        }
        if self.residuals.len() >= MAX_CACHED {
            self.residuals.clear();
        }
        let matrix = Arc::new(residual_matrix(&self.code, survivors));
        self.residuals.insert(available.to_vec(), Arc::clone(&matrix));
        matrix
    }
}

fn survivors(available: &[bool]) -> Vec<usize> {
    (0..available.len()).filter(|&worker| available[worker]).collect()
}

/// Row i: the coefficients of y_i − D_{F∖i}·y, divided by ‖D_{F∖i}‖ + 1.
fn residual_matrix(code: &InterpolatingCode, survivors: &[usize]) -> DMatrix<f64> {
    let points: Vec<f64> = survivors.iter().map(|&worker| code.worker_points()[worker]).collect();
    let mut matrix = DMatrix::identity(points.len(), points.len());
    for (i, &own) in points.iter().enumerate() {
        let others: Vec<f64> = points.iter().copied().filter(|&point| point != own).collect();
        let row = PREDICTOR.matrix(&others, &[own]);
        let scale = 1.0 / (row.norm() + 1.0);
        for (column, &coefficient) in row.iter().enumerate() {
            matrix[(i, column + usize::from(column >= i))] = -coefficient * scale;
        }
        matrix[(i, i)] = scale;
    }
    matrix
}

/// The e workers that most classes name.
fn vote<T: Float>(
    code: &InterpolatingCode,
    answers: &[T],
    elements: usize,
    available: &[bool],
) -> Vec<usize> {
    let (k, e) = (code.k(), code.redundancy().byzantine);
    let survivors = survivors(available);
    // With fewer answers than coefficients any Q will do.
    if survivors.len() < 2 * (k + e) - 1 {
        return Vec::new();
    }
    let points: Vec<f64> = survivors.iter().map(|&worker| code.worker_points()[worker]).collect();
    let mut votes = vec![0_usize; survivors.len()];
    // Where the votes are equal, the smaller denominators decide.
    let mut sizes = vec![0.0; survivors.len()];
    for class in 0..elements {
        let values: Vec<f64> =
            survivors.iter().map(|&worker| answers[worker * elements + class].to_f64()).collect();
        let Some(denominators) = denominators(&points, &values, k + e) else { continue };
        let mut order: Vec<usize> = (0..points.len()).collect();
        order.sort_by(|&a, &b| denominators[a].abs().total_cmp(&denominators[b].abs()));
        order.into_iter().take(e).for_each(|i| votes[i] += 1);
        let largest = denominators.iter().fold(f64::MIN_POSITIVE, |largest, q| largest.max(q.abs()));
        sizes.iter_mut().zip(&denominators).for_each(|(size, q)| *size += q.abs() / largest);
    }
    let mut order: Vec<usize> = (0..points.len()).filter(|&i| votes[i] > 0).collect();
    order.sort_by(|&a, &b| votes[b].cmp(&votes[a]).then(sizes[a].total_cmp(&sizes[b])));
    order.into_iter().take(e).map(|i| survivors[i]).collect()
}

/// Q(z_i) for P and Q of `coefficients` coefficients, Q(0) = 1, that solve
/// P(z_i) − y_i·(Q(z_i) − 1) = y_i in the least-squares sense; none if they are not determined.
///
/// In Chebyshev's polynomials, Q as 1 + Σ q_j·(T_j(z) − T_j(0)): the same polynomials as with powers
/// of z, whose equations are too ill-conditioned for large k.
fn denominators(points: &[f64], values: &[f64], coefficients: usize) -> Option<Vec<f64>> {
    let unknowns = 2 * coefficients - 1;
    let basis = DMatrix::from_fn(points.len(), coefficients, |i, j| chebyshev(j, points[i]));
    let raised = |i: usize, j: usize| basis[(i, j)] - chebyshev(j, 0.0);
    let system = DMatrix::from_fn(points.len(), unknowns, |i, j| match j.checked_sub(coefficients) {
        None => basis[(i, j)],
        Some(power) => -values[i] * raised(i, power + 1),
    });
    let decomposed = system.qr();
    let mut right = DVector::from_column_slice(values);
    decomposed.q_tr_mul(&mut right);
    let solution = decomposed.r().solve_upper_triangular(&right.rows(0, unknowns))?;
    let at = |i: usize| {
        1.0 + (1..coefficients).map(|j| solution[coefficients + j - 1] * raised(i, j)).sum::<f64>()
    };
    let denominators: Vec<f64> = (0..points.len()).map(at).collect();
    denominators.iter().all(|q| q.is_finite()).then_some(denominators)
}

/// T_j(z) for z in [-1, 1].
fn chebyshev(j: usize, z: f64) -> f64 {
    (j as f64 * z.acos()).cos()
}
