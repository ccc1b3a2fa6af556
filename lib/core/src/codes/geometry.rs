//! Codes by interpolation: points for queries and workers, and the matrices that lead from values at
//! some points to values at others.
//!
//! Query j stands at a point α_j, worker i at a point z_i. The encoder evaluates at z_i the
//! interpolant of the queries; the decoder evaluates at α_j the interpolant of the answers that
//! arrived. Berrut's rational interpolant is *ApproxIFER*'s (AAAI 2022, equations 7 and 10), that of
//! Floater and Hormann its generalisation, and the smoothing spline that of *NeRCC* and *LeTCC*.

use std::f64::consts::PI;

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};

/// Where the workers stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Points {
    /// cos(iπ/n), i = 0..n-1: the points behind ApproxIFER's published numbers.
    #[default]
    ApproxIfer,
    /// Chebyshev's points of the first kind, cos((2i+1)π/2n).
    Chebyshev1,
    /// Chebyshev's points of the second kind, cos(iπ/(n-1)).
    Chebyshev2,
}

impl Points {
    /// The points of n workers, from 1 downwards.
    #[must_use]
    pub fn workers(self, n: usize) -> Vec<f64> {
        let n_f = n as f64;
        let angle = |i: f64| match self {
            Self::ApproxIfer => i / n_f,
            Self::Chebyshev1 => (2.0 * i + 1.0) / (2.0 * n_f),
            Self::Chebyshev2 => i / (n_f - 1.0).max(1.0),
        };
        (0..n).map(|i| (angle(i as f64) * PI).cos()).collect()
    }
}

/// The points of k queries: Chebyshev's of the first kind.
#[must_use]
pub fn query_points(k: usize) -> Vec<f64> {
    Points::Chebyshev1.workers(k)
}

/// A way to lead a curve through values at points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    /// The rational interpolant of Floater and Hormann of blending degree d; d = 0 is Berrut's.
    Rational {
        /// The blending degree.
        degree: usize,
    },
    /// The cubic smoothing spline; λ = 0 is the natural cubic spline.
    Spline {
        /// The weight of smoothness.
        lambda: f64,
    },
}

/// Points that are closer than this are the same.
const SAME: f64 = 1e-12;

impl Curve {
    /// The matrix `[to, from]` that leads from values at the points `from`, which are distinct and in
    /// descending order, to the curve's values at the points `to`. Without `from`, all is 0.
    #[must_use]
    pub fn matrix(self, from: &[f64], to: &[f64]) -> DMatrix<f64> {
        match self {
            _ if from.is_empty() => DMatrix::zeros(to.len(), 0),
            Self::Rational { degree } => rational(from, to, degree),
            Self::Spline { lambda } => spline(from, to, lambda),
        }
    }
}

/// Row i is w_j/(x_i − t_j), normalised to sum 1; a unit row where x_i is one of the t_j.
fn rational(from: &[f64], to: &[f64], degree: usize) -> DMatrix<f64> {
    let weights = floater_hormann_weights(from, degree);
    let mut matrix = DMatrix::zeros(to.len(), from.len());
    for (i, &x) in to.iter().enumerate() {
        if let Some(same) = from.iter().position(|&t| (x - t).abs() < SAME) {
            matrix[(i, same)] = 1.0;
            continue;
        }
        let terms: Vec<f64> = weights.iter().zip(from).map(|(w, t)| w / (x - t)).collect();
        let sum: f64 = terms.iter().sum();
        for (j, term) in terms.iter().enumerate() {
            matrix[(i, j)] = term / sum;
        }
    }
    matrix
}

/// Floater and Hormann, *Barycentric rational interpolation with no poles* (2007), equation 18. With
/// few points the degree is what they allow. For degree 0 the weights are the signs (−1)^i, counted
/// over the points that are there.
fn floater_hormann_weights(points: &[f64], degree: usize) -> Vec<f64> {
    let (n, d) = (points.len(), degree.min(points.len() - 1));
    let weight = |k: usize| {
        let windows = k.saturating_sub(d)..=k.min(n - 1 - d);
        windows
            .map(|first| {
                let sign = if first % 2 == 0 { 1.0 } else { -1.0 };
                let others = (first..=first + d).filter(|&j| j != k);
                sign * others.map(|j| 1.0 / (points[k] - points[j])).product::<f64>()
            })
            .sum()
    };
    (0..n).map(weight).collect()
}

/// On s = (t+1)/2 with the kernel R(s, s') = min²(3·max − min)/6 and T = [1, s], solves
/// [[R + mλ/8·I, T], [Tᵀ, 0]]·[c; d] = [y; 0]; the curve is u(x) = R(x, s)·c + [1, x]·d.
fn spline(from: &[f64], to: &[f64], lambda: f64) -> DMatrix<f64> {
    let m = from.len();
    if m == 1 {
        // One value tells no slope.
        return DMatrix::from_element(to.len(), 1, 1.0);
    }
    let (s, x) = (unit(from), unit(to));
    let evaluate = DMatrix::from_fn(x.len(), m + 2, |i, j| match j {
        _ if j < m => kernel(x[i], s[j]),
        _ if j == m => 1.0,
        _ => x[i],
    });
    // The system is symmetric: evaluate·system⁻¹ = (system⁻¹·evaluateᵀ)ᵀ. Distinct points make it
    // regular.
    let solved = spline_system(&s, lambda).lu().solve(&evaluate.transpose());
    let solved = solved.unwrap_or_else(|| DMatrix::zeros(m + 2, x.len()));
    solved.rows(0, m).transpose()
}

/// The matrix B with c = B·y for the natural cubic spline through y, for at least 2 points that are
/// distinct.
pub(super) fn spline_coefficients(points: &[f64]) -> DMatrix<f64> {
    let m = points.len();
    let inverse = spline_system(&unit(points), 0.0).try_inverse();
    inverse.map_or_else(|| DMatrix::zeros(m, m), |inverse| inverse.view((0, 0), (m, m)).into_owned())
}

fn unit(points: &[f64]) -> Vec<f64> {
    points.iter().map(|t| f64::midpoint(*t, 1.0)).collect()
}

fn kernel(a: f64, b: f64) -> f64 {
    a.min(b).powi(2) * (3.0 * a.max(b) - a.min(b)) / 6.0
}

fn spline_system(s: &[f64], lambda: f64) -> DMatrix<f64> {
    let m = s.len();
    let mut system = DMatrix::zeros(m + 2, m + 2);
    for i in 0..m {
        for j in 0..m {
            system[(i, j)] = kernel(s[i], s[j]);
        }
        system[(i, i)] += m as f64 * lambda / 8.0;
        for (column, value) in [(m, 1.0), (m + 1, s[i])] {
            system[(i, column)] = value;
            system[(column, i)] = value;
        }
    }
    system
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(matrix: &DMatrix<f64>, values: &[f64]) -> Vec<f64> {
        (0..matrix.nrows()).map(|i| (0..values.len()).map(|j| matrix[(i, j)] * values[j]).sum()).collect()
    }

    #[track_caller]
    fn assert_close(found: &[f64], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
        }
    }

    const CURVES: [Curve; 4] = [
        Curve::Rational { degree: 0 },
        Curve::Rational { degree: 1 },
        Curve::Rational { degree: 3 },
        Curve::Spline { lambda: 0.0 },
    ];

    #[test]
    fn curves_go_through_their_points() {
        let from = Points::ApproxIfer.workers(7);
        let values: Vec<f64> = from.iter().map(|t| (3.0 * t).sin()).collect();
        for curve in CURVES {
            assert_close(&apply(&curve.matrix(&from, &from), &values), &values);
        }
    }

    #[test]
    fn constants_stay_constant() {
        for curve in CURVES.into_iter().chain([Curve::Spline { lambda: 0.1 }]) {
            for n in 1..9 {
                let matrix = curve.matrix(&Points::Chebyshev1.workers(n), &query_points(5));
                assert_close(&apply(&matrix, &vec![2.0; n]), &[2.0; 5]);
            }
        }
    }

    #[test]
    fn blending_degree_reproduces_polynomials() {
        let from = Points::Chebyshev2.workers(9);
        let to = query_points(4);
        for degree in 1..5 {
            let cubic = |t: &f64| (0..=degree as i32).map(|power| t.powi(power)).sum::<f64>();
            let values: Vec<f64> = from.iter().map(cubic).collect();
            let expected: Vec<f64> = to.iter().map(cubic).collect();
            assert_close(&apply(&Curve::Rational { degree }.matrix(&from, &to), &values), &expected);
        }
    }

    #[test]
    fn splines_reproduce_lines_and_smooth_the_rest() {
        let (from, to) = (Points::ApproxIfer.workers(8), query_points(4));
        for lambda in [0.0, 1e-3, 10.0] {
            let line: Vec<f64> = from.iter().map(|t| 2.0 * t - 1.0).collect();
            let expected: Vec<f64> = to.iter().map(|t| 2.0 * t - 1.0).collect();
            assert_close(&apply(&Curve::Spline { lambda }.matrix(&from, &to), &line), &expected);
        }
        // With all weight on smoothness the curve is the regression line.
        let values: Vec<f64> = (0..8).map(|i| f64::from(i % 2)).collect();
        let smooth = apply(&Curve::Spline { lambda: 1e9 }.matrix(&from, &[-1.0, 0.0, 1.0]), &values);
        assert!((smooth[0] + smooth[2] - 2.0 * smooth[1]).abs() < 1e-6, "{smooth:?}");
    }

    #[test]
    fn berrut_weights_are_the_formula() {
        let (from, to) = (query_points(4), Points::ApproxIfer.workers(5));
        let matrix = Curve::Rational { degree: 0 }.matrix(&from, &to);
        for (i, &z) in to.iter().enumerate() {
            let term = |j: usize| f64::powi(-1.0, j as i32) / (z - from[j]);
            let sum: f64 = (0..4).map(term).sum();
            for j in 0..4 {
                assert!((matrix[(i, j)] - term(j) / sum).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn points_that_meet_give_unit_rows() {
        // Seven workers of the first kind and one query share the point 0.
        let matrix = Curve::Rational { degree: 0 }.matrix(&query_points(1), &Points::Chebyshev1.workers(7));
        assert!(matrix.iter().all(|&weight| weight == 1.0));
        let matrix = Curve::Rational { degree: 0 }.matrix(&Points::Chebyshev1.workers(7), &[0.0]);
        assert_eq!(matrix.row(0).iter().filter(|&&weight| weight != 0.0).count(), 1);
    }
}
