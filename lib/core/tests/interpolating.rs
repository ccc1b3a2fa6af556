//! Interpolating codes against the definitions of their curves, evaluated without matrices.

use parm::codes::geometry::{Curve, Points, query_points};
use parm::codes::{
    CodeError, Decoder, InterpolatingCode, LinearCode, Locate, Locator, Matrices, Redundancy, apply,
};
use proptest::prelude::*;

/// The blend of polynomials that Floater and Hormann begin with (2007, equations 1 to 3):
/// r(x) = Σ λ_i(x)·p_i(x) / Σ λ_i(x), λ_i = (−1)^i/((x − x_i)…(x − x_{i+d})), p_i through
/// x_i … x_{i+d}.
fn blend(points: &[f64], values: &[f64], degree: usize, x: f64) -> f64 {
    let degree = degree.min(points.len() - 1);
    if let Some(same) = points.iter().position(|point| (point - x).abs() < 1e-12) {
        return values[same];
    }
    let (mut above, mut below) = (0.0, 0.0);
    for i in 0..points.len() - degree {
        let window = i..=i + degree;
        let sign = if i % 2 == 0 { 1.0 } else { -1.0 };
        let weight: f64 = sign / window.clone().map(|j| x - points[j]).product::<f64>();
        let lagrange = |j: usize| {
            let others = window.clone().filter(|&m| m != j);
            others.map(|m| (x - points[m]) / (points[j] - points[m])).product::<f64>()
        };
        above += weight * window.clone().map(|j| lagrange(j) * values[j]).sum::<f64>();
        below += weight;
    }
    above / below
}

/// The cubic smoothing spline that minimises 1/m·Σ(y_i − u(t_i))² + λ·∫u″² by Reinsch's equations
/// (Green and Silverman 1994, section 2.3), with plain Gaussian elimination.
fn reinsch(points: &[f64], values: &[f64], lambda: f64, x: f64) -> f64 {
    let m = points.len();
    // Ascending.
    let t: Vec<f64> = points.iter().rev().copied().collect();
    let y: Vec<f64> = values.iter().rev().copied().collect();
    let alpha = lambda * m as f64;
    if m == 1 {
        return y[0];
    }
    let h: Vec<f64> = t.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let q = |i: usize, j: usize| match i as isize - j as isize {
        -1 => 1.0 / h[j - 1],
        0 => -1.0 / h[j - 1] - 1.0 / h[j],
        1 => 1.0 / h[j],
        _ => 0.0,
    };
    let r = |i: usize, j: usize| match i.abs_diff(j) {
        0 => (h[i - 1] + h[i]) / 3.0,
        1 => h[i.min(j)] / 6.0,
        _ => 0.0,
    };
    // (R + α·QᵀQ)·γ = Qᵀy, g = y − α·Q·γ
    let inner = m - 2;
    let system: Vec<Vec<f64>> = (1..=inner)
        .map(|i| {
            let product = |j: usize| (0..m).map(|row| q(row, i) * q(row, j)).sum::<f64>();
            let right = (0..m).map(|row| q(row, i) * y[row]).sum();
            (1..=inner).map(|j| r(i, j) + alpha * product(j)).chain([right]).collect()
        })
        .collect();
    let gamma = [vec![0.0], eliminate(system), vec![0.0]].concat();
    let g: Vec<f64> =
        (0..m).map(|i| y[i] - alpha * (1..=inner).map(|j| q(i, j) * gamma[j]).sum::<f64>()).collect();
    // Straight beyond the ends, else the cubic between two points with those second derivatives.
    let slope = |i: usize| (g[i + 1] - g[i]) / h[i];
    if x <= t[0] {
        return g[0] + (x - t[0]) * (slope(0) - h[0] / 6.0 * gamma[1]);
    }
    if x >= t[m - 1] {
        let last = m - 2;
        return g[m - 1] + (x - t[m - 1]) * (slope(last) + h[last] / 6.0 * gamma[last]);
    }
    let i = (0..m - 1).find(|&i| x <= t[i + 1]).unwrap();
    let (left, right) = (x - t[i], t[i + 1] - x);
    (left * g[i + 1] + right * g[i]) / h[i]
        - left * right / 6.0 * ((1.0 + left / h[i]) * gamma[i + 1] + (1.0 + right / h[i]) * gamma[i])
}

fn eliminate(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let n = rows.len();
    for column in 0..n {
        let best = (column..n).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()));
        rows.swap(column, best.unwrap());
        let pivot = rows[column].clone();
        for row in (0..n).filter(|&row| row != column) {
            let times = rows[row][column] / pivot[column];
            rows[row].iter_mut().zip(&pivot).for_each(|(x, p)| *x -= times * p);
        }
    }
    (0..n).map(|i| rows[i][n] / rows[i][i]).collect()
}

fn naive(curve: Curve, points: &[f64], values: &[f64], x: f64) -> f64 {
    match curve {
        Curve::Rational { degree } => blend(points, values, degree, x),
        Curve::Spline { lambda } => reinsch(points, values, lambda, x),
    }
}

const CURVES: [Curve; 6] = [
    Curve::Rational { degree: 0 },
    Curve::Rational { degree: 1 },
    Curve::Rational { degree: 3 },
    Curve::Spline { lambda: 0.0 },
    Curve::Spline { lambda: 1e-4 },
    Curve::Spline { lambda: 0.1 },
];

const POINTS: [Points; 3] = [Points::ApproxIfer, Points::Chebyshev1, Points::Chebyshev2];

fn stragglers(stragglers: usize) -> Redundancy {
    Redundancy { stragglers, byzantine: 0 }
}

fn patterns(n: usize) -> impl Iterator<Item = Vec<bool>> {
    (0..1_usize << n).map(move |bits| (0..n).map(|i| bits & (1 << i) != 0).collect())
}

/// Some values of a polynomial at the points.
fn polynomial(points: &[f64], degree: usize) -> Vec<f64> {
    points
        .iter()
        .map(|t| (0..=degree as i32).map(|power| (1.5 - f64::from(power)) * t.powi(power)).sum())
        .collect()
}

fn decode(code: &InterpolatingCode, available: &[bool], answers: &[f64]) -> Vec<f64> {
    let decoding = code.decoding(available);
    let value = |terms: &[(usize, f64)]| terms.iter().map(|&(worker, c)| c * answers[worker]).sum();
    decoding.rebuilt.iter().map(|rebuilt| value(&rebuilt.terms)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn matrices_are_the_curves(values in prop::collection::vec(-10.0_f64..10.0, 12)) {
        for (curve, points) in CURVES.into_iter().flat_map(|curve| POINTS.map(|points| (curve, points))) {
            for k in 1..=8 {
                let code = InterpolatingCode::new(k, stragglers(2), points, curve, curve).unwrap();
                let coded = code.encoding();
                let queries = query_points(k);
                let close = |found: f64, expected: f64, condition: f64| {
                    prop_assert!(
                        (found - expected).abs() <= 1e-8 * condition,
                        "{curve:?} {points:?} k {k}: {found} for {expected}",
                    );
                    Ok(())
                };
                for (row, &z) in code.worker_points().iter().enumerate() {
                    let found: f64 = (0..k).map(|j| coded[(row, j)] * values[j]).sum();
                    close(found, naive(curve, &queries, &values[..k], z), 1.0)?;
                }
                for available in patterns(k + 2).filter(|available| available.contains(&true)) {
                    let kept: Vec<usize> = (0..k + 2).filter(|&worker| available[worker]).collect();
                    let at: Vec<f64> = kept.iter().map(|&worker| code.worker_points()[worker]).collect();
                    let of: Vec<f64> = kept.iter().map(|&worker| values[worker]).collect();
                    let condition = code.decoding(&available).condition;
                    for (found, &alpha) in decode(&code, &available, &values).into_iter().zip(&queries) {
                        close(found, naive(curve, &at, &of, alpha), condition)?;
                    }
                }
            }
        }
    }
}

#[test]
fn exact_where_the_curve_is_exact() {
    // F linear: answers are E·Y. Berrut's curve is exact on constants, that of degree d on
    // polynomials of degree d, a spline on lines.
    for (curve, points) in CURVES.into_iter().flat_map(|curve| POINTS.map(|points| (curve, points))) {
        let degree = match curve {
            Curve::Rational { degree } => degree,
            Curve::Spline { .. } => 1,
        };
        for (k, s) in (1..=8).flat_map(|k| (0..=3).map(move |s| (k, s))) {
            let code = InterpolatingCode::new(k, stragglers(s), points, curve, curve).unwrap();
            // As many answers, and queries, as such a curve needs.
            let degree = degree.min(k - 1);
            let predictions = polynomial(&query_points(k), degree);
            let coded = code.encoding();
            let answers: Vec<f64> =
                (0..k + s).map(|i| (0..k).map(|j| coded[(i, j)] * predictions[j]).sum()).collect();
            for available in patterns(k + s) {
                if available.iter().filter(|available| **available).count() <= degree {
                    continue;
                }
                let condition = code.decoding(&available).condition;
                for (found, expected) in decode(&code, &available, &answers).iter().zip(&predictions) {
                    let error = (found - expected).abs();
                    assert!(
                        error < 1e-9 * condition,
                        "{curve:?} {points:?} k {k} s {s} {available:?}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn any_answer_at_all_is_decoded_unless_strict() {
    let code = InterpolatingCode::berrut(4, stragglers(2), Points::default()).unwrap();
    assert_eq!((code.k(), code.workers(), code.needed()), (4, 6, 4));
    let strict = code.clone().strict();
    for available in patterns(6) {
        let count = available.iter().filter(|available| **available).count();
        let solved = |code: &InterpolatingCode| {
            let decoding = code.decoding(&available);
            assert_eq!(decoding.rebuilt.len() + decoding.unsolved.len(), 4);
            decoding.unsolved.is_empty()
        };
        assert_eq!(solved(&code), count > 0);
        assert_eq!(solved(&strict), count >= 4);
    }
}

#[test]
fn one_answer_stands_for_all() {
    for curve in CURVES {
        let code = InterpolatingCode::new(3, stragglers(1), Points::default(), curve, curve).unwrap();
        assert_eq!(decode(&code, &[false, false, true, false], &[0.0, 0.0, 7.0, 0.0]), [7.0; 3]);
    }
}

#[test]
fn signs_are_counted_over_the_survivors() {
    // With worker 1 lost, worker 2 stands second: its sign is −1.
    let code = InterpolatingCode::berrut(2, stragglers(1), Points::default()).unwrap();
    let (z, alpha) = (code.worker_points().to_vec(), query_points(2));
    let (first, second) = (1.0 / (alpha[0] - z[0]), -1.0 / (alpha[0] - z[2]));
    let expected = (first * 3.0 + second * 5.0) / (first + second);
    assert!((decode(&code, &[true, false, true], &[3.0, 9.0, 5.0])[0] - expected).abs() < 1e-12);
}

#[test]
fn a_worker_at_a_querys_point_carries_the_query() {
    // The points of the first kind of 3 and of 9 share three.
    let code = InterpolatingCode::berrut(3, stragglers(6), Points::Chebyshev1).unwrap();
    let coded = code.encoding();
    for slot in 0..3 {
        let unit: Vec<f64> = (0..3).map(|j| f64::from(u8::from(j == slot))).collect();
        assert_eq!(coded.row(1 + 3 * slot).iter().copied().collect::<Vec<_>>(), unit);
    }
    // So does its answer, whatever the others say.
    let decoding = code.decoding(&[true; 9]);
    let terms: Vec<_> = decoding.rebuilt.iter().map(|rebuilt| rebuilt.terms.clone()).collect();
    assert_eq!(terms, [vec![(1, 1.0)], vec![(4, 1.0)], vec![(7, 1.0)]]);
    assert_eq!(decoding.condition, 1.0);
}

#[test]
fn wrong_answers_take_more_workers() {
    let workers = |k, stragglers, byzantine| Redundancy { stragglers, byzantine }.workers(k);
    assert_eq!([workers(8, 2, 0), workers(8, 2, 1), workers(12, 0, 3)], [10, 19, 29]);
    let code = InterpolatingCode::berrut(8, Redundancy { stragglers: 2, byzantine: 1 }, Points::default());
    assert_eq!(code.unwrap().needed(), 17);
}

#[test]
fn systematic_codes_keep_their_queries() {
    let code = LinearCode::sum(3, 2).unwrap();
    assert_eq!(Matrices::k(&code), 3);
    assert_eq!(Matrices::workers(&code), 5);
    let rows: Vec<f64> = Matrices::encoding(&code).transpose().iter().copied().collect();
    assert_eq!(rows, [1., 0., 0., 0., 1., 0., 0., 0., 1., 1., 1., 1., 1., 2., 3.]);
    let available = [true, false, true, true, false];
    assert_eq!(Matrices::decoding(&code, &available), code.decoding(&available));
}

#[test]
fn what_makes_no_code_is_refused_with_numbers() {
    let berrut = |k, redundancy| InterpolatingCode::berrut(k, redundancy, Points::default()).unwrap_err();
    assert_eq!(berrut(0, stragglers(1)), CodeError::NoQueries);
    let message = "found 17000 workers for k = 8000 queries, 9000 stragglers and 0 wrong answers; expected at \
                   most 16384";
    assert_eq!(berrut(8000, stragglers(9000)).to_string(), message);
    let huge = Redundancy { stragglers: usize::MAX, byzantine: usize::MAX };
    assert!(matches!(berrut(2, huge), CodeError::Workers { workers: usize::MAX, .. }));
    for lambda in [-1.0, f64::NAN, f64::INFINITY] {
        let spline = |lambdas| InterpolatingCode::spline(2, stragglers(1), Points::default(), lambdas);
        assert!(spline([lambda, 0.0]).is_err() && spline([0.0, lambda]).is_err());
    }
    assert_eq!(CodeError::Lambda(-1.0).to_string(), "found lambda -1; expected a finite number from 0");
}

#[test]
fn cached_decodings_are_the_decodings() {
    let code = InterpolatingCode::spline(3, stragglers(2), Points::default(), [0.0, 1e-3]).unwrap();
    let mut decoder = Decoder::new(code.clone());
    for available in patterns(5).chain(patterns(5)) {
        assert_eq!(*decoder.decoding(&available), code.decoding(&available));
    }
}

#[test]
fn few_and_far_answers_show_in_the_condition() {
    let code = InterpolatingCode::floater_hormann(12, stragglers(3), Points::default(), 8).unwrap();
    let whole = code.decoding(&[true; 15]).condition;
    let mut available = [true; 15];
    available[3..12].fill(false);
    let torn = code.decoding(&available).condition;
    assert!((1.0..100.0).contains(&whole) && torn > 10.0 * whole, "{whole} {torn}");
}

/// Answers of functions of the point that are smooth but for a ripple, one a class, so that only
/// planted errors stand out.
fn smooth(points: &[f64], classes: usize) -> Vec<f64> {
    let ripple = |z: &f64, class: usize| 0.05 * (40.0 * z + 3.0 * class as f64).cos();
    let value = |z: &f64, class: usize| {
        (z * (1.0 + 0.1 * class as f64)).sin() + 0.3 * class as f64 + ripple(z, class)
    };
    points.iter().flat_map(|z| (0..classes).map(move |class| value(z, class))).collect()
}

fn located(
    locate: Locate,
    redundancy: Redundancy,
    spoil: &[(usize, f64)],
    lost: &[usize],
    threshold: f64,
) -> Vec<usize> {
    let code = InterpolatingCode::berrut(8, redundancy, Points::default()).unwrap();
    let mut answers = smooth(code.worker_points(), 6);
    let mut available = vec![true; code.workers()];
    for &worker in lost {
        available[worker] = false;
    }
    for &(worker, error) in spoil {
        for (class, value) in answers[worker * 6..][..6].iter_mut().enumerate() {
            *value += error * (1.0 + 0.2 * class as f64);
        }
    }
    let mut found = Locator::new(code, locate, threshold).find(&answers, 6, &available);
    found.sort_unstable();
    found
}

const WAYS: [Locate; 3] = [Locate::Vote, Locate::Residual, Locate::Both];

#[test]
fn planted_errors_are_found() {
    for locate in WAYS {
        for worker in 0..17 {
            let redundancy = Redundancy { stragglers: 0, byzantine: 1 };
            let found = located(locate, redundancy, &[(worker, 50.0)], &[], 2.0);
            assert_eq!(found, [worker], "{locate:?}");
        }
        let redundancy = Redundancy { stragglers: 2, byzantine: 2 };
        let found = located(locate, redundancy, &[(1, 40.0), (8, -60.0)], &[3, 5], 1.5);
        assert_eq!(found, [1, 8], "{locate:?}");
    }
}

#[test]
fn small_errors_are_left_alone() {
    for locate in WAYS {
        let redundancy = Redundancy { stragglers: 0, byzantine: 1 };
        assert!(located(locate, redundancy, &[(4, 1e-4)], &[], 10.0).is_empty(), "{locate:?}");
        assert_eq!(located(locate, redundancy, &[(4, 1e-4)], &[], 0.0).len(), 1, "{locate:?}");
    }
}

#[test]
fn answers_that_are_no_numbers_are_wrong() {
    for locate in WAYS {
        let redundancy = Redundancy { stragglers: 1, byzantine: 1 };
        assert_eq!(located(locate, redundancy, &[(2, f64::NAN)], &[], 1e9), [2]);
        // More of them than were reckoned with are wrong all the same.
        assert_eq!(located(locate, redundancy, &[(2, f64::INFINITY), (3, f64::NAN)], &[], 1e9), [2, 3]);
    }
}

#[test]
fn nothing_is_located_among_too_few_answers() {
    for locate in WAYS {
        let redundancy = Redundancy { stragglers: 7, byzantine: 1 };
        let lost: Vec<usize> = (2..24).collect();
        assert!(located(locate, redundancy, &[(0, 50.0)], &lost, 0.0).is_empty());
    }
    // The vote needs an answer for each coefficient, and does not guess.
    let redundancy = Redundancy { stragglers: 0, byzantine: 1 };
    assert!(located(Locate::Vote, redundancy, &[(4, 50.0)], &[7], 2.0).is_empty());
    assert_eq!(located(Locate::Residual, redundancy, &[(4, 50.0)], &[7], 2.0), [4]);
}

#[test]
fn matrices_apply_to_rows_of_any_width() {
    let mut out = [f32::NAN; 4];
    apply(&[], &[], 2, &mut out);
    assert_eq!(out, [0.0; 4]);
    apply(&[1.0, 2.0, 0.0, -1.0], &[1.0, 2.0, 3.0, 4.0], 2, &mut out);
    assert_eq!(out, [7.0, 10.0, -3.0, -4.0]);
}
