//! The law of arrivals of a recorded run.

use std::fmt;

/// Arrivals, as `parm-sim` takes them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ArrivalLaw {
    /// At equal intervals.
    Constant,
    /// Poisson arrivals.
    Poisson,
    /// Intervals with a gamma distribution of this coefficient of variation.
    Gamma(f64),
    /// Intervals that depend on each other, as in bursts or if the rate changes: only the recorded times themselves.
    Trace,
}

impl fmt::Display for ArrivalLaw {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => to.write_str("constant"),
            Self::Poisson => to.write_str("poisson"),
            Self::Gamma(variation) => write!(to, "gamma:{variation}"),
            Self::Trace => to.write_str("trace"),
        }
    }
}

/// The arrivals of a recorded run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ArrivalFit {
    /// Requests a second.
    pub rate: f64,
    /// The coefficient of variation of the intervals.
    pub variation: f64,
    /// The variance of the number of arrivals in windows of 50 mean intervals, over its mean; none with fewer than
    /// 20 windows.
    pub dispersion: Option<f64>,
    /// What they are like.
    pub law: ArrivalLaw,
}

/// The mean intervals of a window.
const WINDOW: f64 = 50.0;

/// The fewest windows that are compared.
const WINDOWS: usize = 20;

/// The law of arrivals at these times, in seconds and in order, with time between the first and the last.
pub(super) fn arrivals(times: &[f64]) -> ArrivalFit {
    let intervals: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let [mean, variance] = moments(&intervals);
    let variation = variance.sqrt() / mean;
    let dispersion = dispersion(times, mean * WINDOW);
    // If intervals are independent, the dispersion is about the square of their variation.
    let depend = dispersion.is_some_and(|(dispersion, windows)| {
        let expected = variation * variation;
        let by_chance = 4.0 * (2.0 / windows as f64).sqrt();
        dispersion > 0.02 && (dispersion - expected).abs() > expected * by_chance.max(0.4)
    });
    let by_chance = 3.0 / (intervals.len() as f64).sqrt();
    let law = match variation {
        _ if depend => ArrivalLaw::Trace,
        ..0.01 => ArrivalLaw::Constant,
        _ if (variation - 1.0).abs() < by_chance => ArrivalLaw::Poisson,
        0.01..=20.0 => ArrivalLaw::Gamma(super::law::rounded(variation, 3)),
        _ => ArrivalLaw::Trace,
    };
    ArrivalFit { rate: 1.0 / mean, variation, dispersion: dispersion.map(|(of, _)| of), law }
}

/// The dispersion of counts in windows of this length, and the number of windows.
fn dispersion(times: &[f64], length: f64) -> Option<(f64, usize)> {
    let (first, last) = (times.first()?, times.last()?);
    let windows = ((last - first) / length) as usize;
    if windows < WINDOWS {
        return None;
    }
    let mut counts = vec![0.0; windows];
    for time in times {
        if let Some(count) = counts.get_mut(((time - first) / length) as usize) {
            *count += 1.0;
        }
    }
    let [mean, variance] = moments(&counts);
    Some((variance / mean, windows))
}

/// The mean and the variance.
fn moments(values: &[f64]) -> [f64; 2] {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    [mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parm_workload::{Arrivals, Schedule, Span};

    use super::*;

    fn fit(arrivals: Arrivals, seed: u64) -> ArrivalFit {
        let schedule = Schedule::new(arrivals, 200.0, seed, Duration::ZERO, Span::Requests(20_000));
        super::arrivals(&schedule.map(|due| due.at.as_secs_f64()).collect::<Vec<_>>())
    }

    #[test]
    fn arrivals_are_recognised() {
        for seed in 0..10 {
            let poisson = fit(Arrivals::Poisson, seed);
            assert_eq!(poisson.law, ArrivalLaw::Poisson, "{poisson:?}");
            assert!((poisson.rate / 200.0 - 1.0).abs() < 0.03, "{poisson:?}");
            assert_eq!(fit(Arrivals::Constant, seed).law, ArrivalLaw::Constant);
            for variation in [0.3, 0.7, 2.0, 4.0] {
                let found = fit(Arrivals::varying(variation).unwrap(), seed);
                let ArrivalLaw::Gamma(of) = found.law else { panic!("{variation}: {found:?}") };
                assert!((of / variation - 1.0).abs() < 0.1, "{variation}: {found:?}");
            }
            let ramp = Arrivals::Ramp { gaps: Box::new(Arrivals::Poisson), from: 50.0, to: 350.0 };
            let found = fit(ramp, seed);
            assert_eq!(found.law, ArrivalLaw::Trace, "{found:?}");
        }
    }

    #[test]
    fn few_arrivals_have_no_dispersion() {
        assert_eq!(
            arrivals(&[0.0, 1.0, 2.0]),
            ArrivalFit { rate: 1.0, variation: 0.0, dispersion: None, law: ArrivalLaw::Constant }
        );
    }
}
