//! Finding answers that are wrong, so that they can be left out.

use std::collections::HashMap;
use std::sync::Arc;

use nalgebra::{DMatrix, DVector};

use super::geometry::spline_coefficients;
use super::interpolating::InterpolatingCode;
use super::matrices::Matrices;
use crate::dtype::Float;

/// Loss patterns whose residual matrices are kept.
const MAX_CACHED: usize = 1024;

/// How much smaller the error without an answer counts if the vote names it too.
const NAMED: f64 = 1.25;

/// The error that rounding makes, relative to the largest number: below it groups are consistent.
const ROUNDING: f64 = 1e-6;

/// How wrong answers are told from right ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locate {
    /// ApproxIFER's locator (AAAI 2022, algorithm 2): for each class the rational function P/Q
    /// through the answers; wrong ones stand near the zeros of Q, and the classes vote.
    Vote,
    /// Leave-one-out residuals: the answer is wrong without which natural cubic splines through all
    /// others but one predict that one best. Splines, since Berrut's curve follows each wrong answer to
    /// its end and finds fewer.
    Residual,
    /// The residuals, counting less without those that the vote names.
    Both,
}

/// Finds up to e wrong answers of a group.
#[derive(Debug)]
pub struct Locator {
    code: InterpolatingCode,
    locate: Locate,
    threshold: f64,
    /// By loss pattern: see [`squared_errors`].
    forms: HashMap<Vec<bool>, Arc<Vec<DMatrix<f64>>>>,
}

impl Locator {
    /// A locator of the wrong answers that the code was laid out for.
    ///
    /// An answer is wrong only if leaving it out shrinks the error of its group more than `threshold`
    /// times, compared with leaving out the median one: leaving answers out costs accuracy, and small
    /// errors do less harm. 0 leaves e answers out of every group.
    #[must_use]
    pub fn new(code: InterpolatingCode, locate: Locate, threshold: f64) -> Self {
        Self { code, locate, threshold, forms: HashMap::new() }
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
        let certain = wrong.len();
        // Where several are wrong the first few may help little, and the last all the more.
        let mut sure = certain;
        while wrong.len() < byzantine {
            let Some((worker, gain)) = self.worst(answers, elements, &available, &named) else { break };
            available[worker] = false;
            wrong.push(worker);
            if gain > self.threshold {
                sure = wrong.len();
            }
        }
        for worker in wrong.drain(sure..) {
            available[worker] = true;
        }
        // One may have hidden another: each is chosen again, given the rest.
        for place in certain..wrong.len() {
            available[wrong[place]] = true;
            if let Some((worker, _)) = self.worst(answers, elements, &available, &named) {
                wrong[place] = worker;
            }
            available[wrong[place]] = false;
        }
        wrong
    }

    /// The answer without which the error of its group is smallest, and how many times smaller than
    /// without the median one.
    fn worst<T: Float>(
        &mut self,
        answers: &[T],
        elements: usize,
        available: &[bool],
        named: &[usize],
    ) -> Option<(usize, f64)> {
        let errors = self.errors(answers, elements, available);
        // A line goes through any two: three answers do not tell which of them is wrong.
        if errors.len() < 4 {
            return None;
        }
        let mut sorted: Vec<f64> = errors.iter().map(|(_, error)| *error).collect();
        sorted.sort_by(f64::total_cmp);
        let suspect = |(worker, _): &&(usize, f64)| self.locate != Locate::Vote || named.contains(worker);
        let rank = |(worker, error): &(usize, f64)| match self.locate {
            Locate::Both if named.contains(worker) => error / NAMED,
            _ => *error,
        };
        let best = errors.iter().filter(suspect).min_by(|a, b| rank(a).total_cmp(&rank(b)));
        best.map(|&(worker, error)| (worker, sorted[sorted.len() / 2] / error))
    }

    /// For each survivor the error of the others without it: the root of the sum of the squares of
    /// their leave-one-out residuals, in units of the largest number.
    fn errors<T: Float>(&mut self, answers: &[T], elements: usize, available: &[bool]) -> Vec<(usize, f64)> {
        let survivors = survivors(available);
        let rows = |i: usize| &answers[survivors[i] * elements..][..elements];
        let all = (0..survivors.len()).flat_map(rows);
        let largest = all.map(|y| y.to_f64().abs()).fold(f64::MIN_POSITIVE, f64::max);
        let product = |i: usize, j: usize| {
            rows(i).iter().zip(rows(j)).map(|(a, b)| (a.to_f64() / largest) * (b.to_f64() / largest)).sum()
        };
        // Rows only enter by their products, so the number of classes counts once.
        let mut products =
            DMatrix::from_fn(
                survivors.len(),
                survivors.len(),
                |i, j| {
                    if j > i { 0.0 } else { product(i, j) }
                },
            );
        products.fill_upper_triangle_with_lower_triangle();
        let forms = self.forms(available, &survivors);
        let error = |(form, &worker): (&DMatrix<f64>, &usize)| {
            (worker, form.dot(&products).max(0.0).sqrt().max(ROUNDING))
        };
        forms.iter().zip(&survivors).map(error).collect()
    }

    fn forms(&mut self, available: &[bool], survivors: &[usize]) -> Arc<Vec<DMatrix<f64>>> {
        if let Some(known) = self.forms.get(available) {
            return Arc::clone(known);
        }
        if self.forms.len() >= MAX_CACHED {
            self.forms.clear();
        }
        let points: Vec<f64> = survivors.iter().map(|&worker| self.code.worker_points()[worker]).collect();
        let forms = Arc::new(squared_errors(&points));
        self.forms.insert(available.to_vec(), Arc::clone(&forms));
        forms
    }
}

fn survivors(available: &[bool]) -> Vec<usize> {
    (0..available.len()).filter(|&worker| available[worker]).collect()
}

/// For each answer that is left out the quadratic form M = Σ r·rᵀ over the others i, where r·y is the
/// leave-one-out residual (y_i − D_{F∖i}·y)/(‖D_{F∖i}‖ + 1), F being all but the one left out.
///
/// A spline's c_i, divided by what of it comes from y_i, is its leave-one-out residual (Rippa, 1999), so
/// B with c = B·y tells all of them; leaving out one answer takes a step of elimination from B.
fn squared_errors(points: &[f64]) -> Vec<DMatrix<f64>> {
    let n = points.len();
    let all = spline_coefficients(points);
    let form = |out: usize| {
        let column = all.column(out);
        let rest = &all - column * column.transpose() / all[(out, out)];
        let mut form = DMatrix::zeros(n, n);
        for i in (0..n).filter(|&i| i != out) {
            let mut residual: DVector<f64> = rest.column(i) / rest[(i, i)];
            residual[out] = 0.0;
            let others = (residual.norm_squared() - 1.0).max(0.0).sqrt();
            residual /= others + 1.0;
            form.ger(1.0, &residual, &residual, 1.0);
        }
        form
    };
    (0..n).map(form).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::geometry::{Curve, Points};

    /// By the definition: one curve for each answer.
    fn naive(points: &[f64], out: usize) -> DMatrix<f64> {
        let n = points.len();
        let mut form = DMatrix::zeros(n, n);
        for i in (0..n).filter(|&i| i != out) {
            let others: Vec<usize> = (0..n).filter(|&other| other != i && other != out).collect();
            let from: Vec<f64> = others.iter().map(|&other| points[other]).collect();
            let row = Curve::Spline { lambda: 0.0 }.matrix(&from, &points[i..=i]);
            let mut residual = DVector::zeros(n);
            residual[i] = 1.0;
            for (&other, coefficient) in others.iter().zip(&row) {
                residual[other] = -coefficient;
            }
            residual /= row.norm() + 1.0;
            form.ger(1.0, &residual, &residual, 1.0);
        }
        form
    }

    #[test]
    fn errors_by_elimination_are_those_by_definition() {
        for (n, kept) in [(4, 0b1111), (9, 0b1_1011_0101), (18, 0x3_ffff), (32, 0xffff_fdff_u32)] {
            let workers = Points::ApproxIfer.workers(n);
            let points: Vec<f64> = (0..n).filter(|i| kept >> i & 1 == 1).map(|i| workers[i]).collect();
            for (out, form) in squared_errors(&points).iter().enumerate() {
                let expected = naive(&points, out);
                assert!((form - &expected).amax() < 1e-6 * expected.amax(), "{n} {out}");
            }
        }
    }
}
