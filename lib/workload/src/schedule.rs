//! The times at which requests are due.

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp1;

use crate::Trace;

/// Nanoseconds of a second.
const SECOND: f64 = 1e9;

/// The distribution of arrivals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// As from many independent clients: the times between arrivals are exponentially distributed.
    Poisson,
    /// At equal intervals.
    Constant,
    /// A recorded trace, scaled to the rate. Requests end with the trace.
    Trace(Arc<Trace>),
}

impl Arrivals {
    /// The rates that were asked for, or else that of the trace.
    #[must_use]
    pub fn rates(&self, asked: &[f64]) -> Vec<f64> {
        match self {
            Self::Trace(trace) if asked.is_empty() => vec![trace.rate()],
            _ => asked.to_owned(),
        }
    }

    /// How many there are, if they end by themselves.
    #[must_use]
    pub fn requests(&self) -> Option<u64> {
        match self {
            Self::Trace(trace) => Some(trace.requests()),
            Self::Poisson | Self::Constant => None,
        }
    }
}

/// How long requests are sent after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// For a number of requests.
    Requests(u64),
    /// For a time.
    Time(Duration),
}

/// A request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its time after the start of the warm-up.
    pub at: Duration,
    /// Its number after the warm-up, from 0; none during the warm-up.
    pub number: Option<u64>,
}

/// The times of requests in order. The arrivals of a seed at different rates differ only in scale.
#[derive(Clone, Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    /// The mean interval in ns; for a trace the factor of its times.
    scale: f64,
    warm_up: Duration,
    span: Span,
    random: ChaCha8Rng,
    /// The sum of all intervals so far, in mean intervals.
    gaps: f64,
    /// The number of requests so far, and of those after the warm-up.
    counts: [u64; 2],
}

impl Schedule {
    /// A schedule of `rate` requests a second for the warm-up and then for the span. A trace is replayed from
    /// the start of the warm-up.
    #[must_use]
    pub fn new(arrivals: Arrivals, rate: f64, seed: u64, warm_up: Duration, span: Span) -> Self {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let scale = match &arrivals {
            Arrivals::Poisson | Arrivals::Constant => SECOND / rate,
            Arrivals::Trace(trace) => trace.rate() / rate,
        };
        Self { arrivals, scale, warm_up, span, random, gaps: 0.0, counts: [0; 2] }
    }
}

impl Iterator for Schedule {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        let [all, measured] = &mut self.counts;
        let time = match &self.arrivals {
            Arrivals::Constant => *all as f64,
            Arrivals::Poisson => {
                self.gaps += self.random.sample::<f64, _>(Exp1);
                self.gaps
            }
            Arrivals::Trace(trace) => trace.time(*all)? as f64,
        };
        let at = Duration::from_nanos((time * self.scale) as u64);
        let number = at.checked_sub(self.warm_up).map(|_| *measured);
        let over = number.is_some_and(|number| match self.span {
            Span::Requests(requests) => number >= requests,
            Span::Time(time) => at >= self.warm_up.saturating_add(time),
        });
        if over {
            return None;
        }
        *all += 1;
        *measured += u64::from(number.is_some());
        Some(Due { at, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Duration = Duration::ZERO;

    fn gaps(schedule: Schedule) -> Vec<f64> {
        let times: Vec<f64> = schedule.map(|due| due.at.as_secs_f64()).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn poisson_gaps_are_exponential_and_independent() {
        let schedule = Schedule::new(Arrivals::Poisson, 200.0, 7, NONE, Span::Requests(100_000));
        let gaps = gaps(schedule);
        let count = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / count;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
        // The deviation of an exponential distribution is its mean, and a share of 1/e is above it.
        assert!((mean / 0.005 - 1.0).abs() < 0.015, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{variance}");
        let above = gaps.iter().filter(|&&gap| gap > 0.005).count() as f64 / count;
        assert!((above - (-1.0_f64).exp()).abs() < 0.01, "{above}");
        let pairs = gaps.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>();
        assert!((pairs / count / variance).abs() < 0.015, "{pairs}");
    }

    #[test]
    fn constant_gaps_are_equal_and_do_not_drift() {
        let due = Schedule::new(Arrivals::Constant, 3.0, 0, NONE, Span::Requests(3_000_001)).last().unwrap();
        assert_eq!(due, Due { at: Duration::from_secs(1_000_000), number: Some(3_000_000) });
    }

    #[test]
    fn a_seed_gives_the_same_arrivals_each_time_and_at_all_rates() {
        let times = |rate, seed| {
            let schedule = Schedule::new(Arrivals::Poisson, rate, seed, NONE, Span::Requests(1000));
            schedule.map(|due| due.at.as_secs_f64()).collect::<Vec<_>>()
        };
        assert_eq!(times(100.0, 1), times(100.0, 1));
        assert_ne!(times(100.0, 1), times(100.0, 2));
        for (sparse, dense) in times(100.0, 1).into_iter().zip(times(200.0, 1)) {
            assert!((sparse - 2.0 * dense).abs() < 1e-6);
        }
    }

    #[test]
    fn a_trace_is_replayed_at_its_own_rate_and_stretched_to_others() {
        let trace = Arc::new(Trace::of_seconds(&[10.0, 10.5, 11.0, 12.0]).unwrap());
        assert_eq!((trace.rate(), trace.requests()), (1.5, 4));
        let ms = |rate, warm_up, requests| -> Vec<(u128, Option<u64>)> {
            let arrivals = Arrivals::Trace(Arc::clone(&trace));
            let warm_up = Duration::from_millis(warm_up);
            let times = Schedule::new(arrivals, rate, 0, warm_up, Span::Requests(requests));
            times.map(|due| (due.at.as_millis(), due.number)).collect()
        };
        assert_eq!(ms(1.5, 500, 9), [(0, None), (500, Some(0)), (1000, Some(1)), (2000, Some(2))]);
        assert_eq!(ms(3.0, 0, 3), [(0, Some(0)), (250, Some(1)), (500, Some(2))]);
    }

    #[test]
    fn the_span_counts_after_the_warm_up() {
        let second = Duration::from_secs(1);
        let numbers = |span| {
            Schedule::new(Arrivals::Constant, 10.0, 0, second, span).map(|due| due.number).collect::<Vec<_>>()
        };
        let after = numbers(Span::Requests(3));
        assert_eq!((after.len(), &after[9..]), (13, &[None, Some(0), Some(1), Some(2)][..]));
        assert_eq!(numbers(Span::Time(second)).len(), 20);
        assert_eq!(numbers(Span::Requests(0)).len(), 10);
    }
}
