//! What measurements of one quantity come to, and whether two sets of them differ: over seeds, or over trials.
//!
//! Intervals and tests are by Student's t distribution, for quantities that scatter about normally.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::score::Interval;

/// Several measurements of a quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Their number.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, that of a sample (n − 1); none for one measurement.
    pub deviation: Option<f64>,
}

impl Estimate {
    /// None without measurements.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let count = (n > 0).then_some(n as f64)?;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self { n, mean, deviation: (n > 1).then(|| (squares / (count - 1.0)).sqrt()) })
    }

    /// The 95 % confidence interval of the mean; none for one measurement.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        let half = self.distribution()?.inverse_cdf(0.975) * self.error()?;
        Some(Interval { low: self.mean - half, high: self.mean + half })
    }

    /// Student's t of the mean, beside 0, and its two-sided p. Of the differences of pairs this is the paired t test.
    /// None for one measurement, and for equal ones.
    #[must_use]
    pub fn test(&self) -> Option<Test> {
        let error = self.error().filter(|error| *error > 0.0)?;
        let t = self.mean / error;
        Some(Test { t, p: 2.0 * self.distribution()?.cdf(-t.abs()) })
    }

    /// The standard error of the mean.
    fn error(&self) -> Option<f64> {
        Some(self.deviation? / (self.n as f64).sqrt())
    }

    fn distribution(&self) -> Option<StudentsT> {
        StudentsT::new(0.0, 1.0, self.n.checked_sub(1)? as f64).ok()
    }
}

/// A t test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Test {
    /// The statistic.
    pub t: f64,
    /// The probability of a |t| as large if there is no difference.
    pub p: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_those_of_the_formulas() {
        // Student's distribution of 3 degrees of freedom has the distribution function
        // 1/2 + (x / (1 + x²) + atan x) / π with x = t / √3.
        let four = Estimate::of(&[0.1, 0.3, 0.2, 0.4]).unwrap();
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        close(four.mean, 0.25);
        close(four.deviation.unwrap(), 0.129_099_444_873_580_55);
        let Interval { low, high } = four.interval().unwrap();
        close(low, 0.044_573_974_323_912_05);
        close(high, 0.455_426_025_676_087_9);
        let Test { t, p } = four.test().unwrap();
        close(t, 3.872_983_346_207_417);
        close(p, 0.030_466_291_662_170_963);
        // The sign of the mean does not matter.
        close(Estimate::of(&[-0.1, -0.3, -0.2, -0.4]).unwrap().test().unwrap().p, p);
    }

    #[test]
    fn few_measurements_say_less() {
        assert_eq!(Estimate::of(&[]), None);
        let one = Estimate::of(&[0.5]).unwrap();
        assert_eq!((one.mean, one.deviation, one.interval(), one.test()), (0.5, None, None, None));
        let equal = Estimate::of(&[0.5, 0.5]).unwrap();
        assert_eq!(equal.interval(), Some(Interval { low: 0.5, high: 0.5 }));
        assert_eq!((equal.deviation, equal.test()), (Some(0.0), None));
    }

    #[test]
    fn quantiles_of_students_distribution_are_those_of_tables() {
        // Of n measurements with the mean 0 and the standard error 1, the end of the interval is the quantile.
        for (freedom, expected) in
            [(1, 12.706), (2, 4.303), (3, 3.182), (9, 2.262), (10, 2.228), (30, 2.042), (120, 1.980)]
        {
            let n = freedom + 1;
            let of = Estimate { n, mean: 0.0, deviation: Some((n as f64).sqrt()) };
            assert!((of.interval().unwrap().high - expected).abs() < 1e-3, "{freedom}");
        }
    }
}
