//! Means over repetitions, with their confidence intervals by Student's t distribution.

use crate::score::Interval;

/// The mean of these values; none if there are none.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The 95 % confidence interval of the mean of what these values are drawn from; none if there are fewer than two.
#[must_use]
pub fn interval(values: &[f64]) -> Option<Interval> {
    let (mean, count) = (mean(values)?, values.len() as f64);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let half = quantile(values.len() - 1)? * (squares / (count - 1.0) / count).sqrt();
    Some(Interval { low: mean - half, high: mean + half })
}

/// The 97.5 % quantile of Student's t distribution with so many degrees of freedom; none for 0.
fn quantile(freedom: usize) -> Option<f64> {
    const FEW: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    if let Some(quantile) = FEW.get(freedom.checked_sub(1)?) {
        return Some(*quantile);
    }
    // The expansion around the normal distribution (Abramowitz and Stegun, 26.7.5).
    let (z, n) = (1.959_964_f64, freedom as f64);
    let [z3, z5, z7] = [3, 5, 7].map(|power| z.powi(power));
    let terms = [
        (z3 + z) / 4.0,
        (5.0 * z5 + 16.0 * z3 + 3.0 * z) / 96.0,
        (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / 384.0,
    ];
    Some(z + terms[0] / n + terms[1] / n.powi(2) + terms[2] / n.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_those_of_a_table() {
        assert_eq!((mean(&[]), interval(&[]), interval(&[3.0])), (None, None, None));
        // Deviation 1, t = 4.303.
        let Interval { low, high } = interval(&[1.0, 2.0, 3.0]).unwrap();
        assert!((low - (2.0 - 4.303 / 3_f64.sqrt())).abs() < 1e-9 && (low + high - 4.0).abs() < 1e-9);
        for (freedom, expected) in [(1, 12.706), (10, 2.228), (11, 2.201), (29, 2.045), (199, 1.972)] {
            assert!((quantile(freedom).unwrap() - expected).abs() < 0.001, "{freedom}");
        }
    }
}
