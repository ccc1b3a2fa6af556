//! The times at which requests are due.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Exp1, Gamma};

use crate::Trace;

/// Nanoseconds of a second.
const SECOND: f64 = 1e9;

/// The longest span of a ramp, in seconds: 300 years.
const MOST_SECONDS: f64 = 1e10;

/// The distribution of arrivals.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// As from many independent clients: the times between arrivals are exponentially distributed.
    Poisson,
    /// At equal intervals.
    Constant,
    /// The times between arrivals, in mean intervals, have this distribution.
    Gamma(Gamma<f64>),
    /// As from a client that sends for some time and is silent for some: both times are exponentially distributed, and
    /// arrivals are Poisson ones while it sends. The rate is the mean over both.
    OnOff {
        /// The mean time for which it sends, in seconds.
        on: f64,
        /// The mean time for which it is silent, in seconds.
        off: f64,
    },
    /// Those of several clients together, each with its share of the rate; none of them is a trace, a ramp or a sum.
    Sum(Vec<(f64, Arrivals)>),
    /// A recorded trace, scaled to the rate. Requests end with the trace.
    Trace(Arc<Trace>),
    /// As others, but the rate goes linearly from one to the other over the span, and is the first one during the
    /// warm-up. Both are scaled so that their mean is the rate. Requests end with the span: if that is a number of
    /// requests, about as many are sent.
    Ramp {
        /// The arrivals at a constant rate; not a trace.
        gaps: Box<Arrivals>,
        /// The rate at the start.
        from: f64,
        /// The rate at the end.
        to: f64,
    },
}

/// Arrivals that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found '{0}', expected poisson, constant, gamma:CV with a variation from 0.01 to 20 or on-off:ON:OFF with times from 1ms \
     to 1e7s, as on-off:200ms:1s; or several joined by +, each with a weight from 0.001 to 1000, as 2*gamma:3+poisson"
)]
pub struct ArrivalsError(String);

impl FromStr for Arrivals {
    type Err = ArrivalsError;

    /// Reads the law of a client, or those of several, as `2*gamma:3+on-off:200ms:1s`.
    fn from_str(text: &str) -> Result<Self, ArrivalsError> {
        let clients: Vec<(f64, Self)> = text.split('+').map(client).collect::<Result<_, _>>()?;
        let weights: f64 = clients.iter().map(|(weight, _)| weight).sum();
        let shared = clients.into_iter().map(|(weight, arrivals)| (weight / weights, arrivals));
        let mut clients: Vec<_> = shared.collect();
        match (clients.pop(), clients.is_empty()) {
            (Some((_, only)), true) => Ok(only),
            (last, _) => Ok(Self::Sum(clients.into_iter().chain(last).collect())),
        }
    }
}

/// The weight and the law of one client.
fn client(text: &str) -> Result<(f64, Arrivals), ArrivalsError> {
    let wrong = || ArrivalsError(text.to_owned());
    let (weight, law) = text.split_once('*').unwrap_or(("1", text));
    let weight: f64 = weight.parse().map_err(|_| wrong())?;
    let (name, of) = law.split_once(':').map_or((law, None), |(name, of)| (name, Some(of)));
    let arrivals = match (name, of) {
        ("poisson", None) => Some(Arrivals::Poisson),
        ("constant", None) => Some(Arrivals::Constant),
        ("gamma", Some(of)) => {
            let variation = of.parse().ok().filter(|of| (0.01..=20.0).contains(of));
            variation.and_then(Arrivals::varying)
        }
        ("on-off", Some(of)) => of
            .split_once(':')
            .and_then(|(on, off)| seconds(on).zip(seconds(off)).map(|(on, off)| Arrivals::OnOff { on, off })),
        _ => None,
    };
    arrivals
        .filter(|_| (0.001..=1000.0).contains(&weight))
        .map(|arrivals| (weight, arrivals))
        .ok_or_else(wrong)
}

/// A time with its unit, in seconds.
fn seconds(text: &str) -> Option<f64> {
    let (number, scale) = match text.strip_suffix("ms") {
        Some(number) => (number, 1e-3),
        None => (text.strip_suffix('s')?, 1.0),
    };
    let seconds = number.parse::<f64>().ok()? * scale;
    (0.001..=1e7).contains(&seconds).then_some(seconds)
}

impl Arrivals {
    /// Those of a trace, or else of this law, at a rate that may go from one to another.
    ///
    /// # Errors
    /// A law that cannot be read.
    pub fn new(trace: Option<Trace>, law: &str, ramp: Option<[f64; 2]>) -> Result<Self, ArrivalsError> {
        let gaps = match trace {
            Some(trace) => Self::Trace(Arc::new(trace)),
            None => law.parse()?,
        };
        Ok(match ramp {
            Some([from, to]) => Self::Ramp { gaps: Box::new(gaps), from, to },
            None => gaps,
        })
    }

    /// Arrivals whose intervals have this coefficient of variation (deviation divided by mean) and a gamma
    /// distribution: constant ones at 0, Poisson ones at 1. None for a variation below 0, or one that is not finite.
    #[must_use]
    pub fn varying(variation: f64) -> Option<Self> {
        let square = variation * variation;
        match variation {
            0.0 => Some(Self::Constant),
            1.0 => Some(Self::Poisson),
            0.0.. => Gamma::new(square.recip(), square).ok().map(Self::Gamma),
            _ => None,
        }
    }

    /// The rates that were asked for, or else that of the trace or the mean of the ramp.
    #[must_use]
    pub fn rates(&self, asked: &[f64]) -> Vec<f64> {
        match self {
            Self::Trace(trace) if asked.is_empty() => vec![trace.rate()],
            Self::Ramp { from, to, .. } if asked.is_empty() => vec![f64::midpoint(*from, *to)],
            _ => asked.to_owned(),
        }
    }

    /// How many there are, if they end by themselves.
    #[must_use]
    pub fn requests(&self) -> Option<u64> {
        match self {
            Self::Trace(trace) => Some(trace.requests()),
            _ => None,
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

/// The times of requests in order. The arrivals of a seed at different rates differ only in scale, but those that are
/// on and off.
#[derive(Clone, Debug)]
pub struct Schedule {
    clients: Vec<Client>,
    /// The change of the rate from the middle of the span to its end, as a share of the rate in the middle.
    rise: f64,
    /// The mean interval in ns; for a trace the factor of its times.
    scale: f64,
    warm_up: Duration,
    span: Span,
    /// The number of requests so far, and of those after the warm-up.
    counts: [u64; 2],
}

/// A client of a schedule. Its times are in mean intervals of all clients together; those of a trace in ns.
#[derive(Clone, Debug)]
struct Client {
    /// Neither a ramp nor a sum.
    arrivals: Arrivals,
    random: ChaCha8Rng,
    /// Its mean interval.
    interval: f64,
    /// The mean times for which it sends and is silent.
    periods: [f64; 2],
    /// How long it still sends.
    on: f64,
    /// The number of its requests so far.
    count: u64,
    /// The time of the next one; none after the end of a trace.
    due: Option<f64>,
}

/// The random streams of all clients but the first one are numbered from here on.
const CLIENTS: u64 = 1 << 62;

impl Client {
    /// Client `number` with a share of all requests, of which `scale` ns are the mean interval.
    fn new(number: usize, (share, arrivals): (f64, Arrivals), scale: f64, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        if number > 0 {
            random.set_stream(CLIENTS + number as u64);
        }
        let mut periods = [0.0; 2];
        let (mut on, mut begin) = (0.0, 0.0);
        match arrivals {
            Arrivals::OnOff { on: sends, off } => {
                periods = [sends, off].map(|seconds| seconds * SECOND / scale);
                // It may begin in either; what is left of both is distributed as the whole.
                if random.random::<f64>() * (sends + off) < off {
                    begin = periods[1] * random.sample::<f64, _>(Exp1);
                }
                on = periods[0] * random.sample::<f64, _>(Exp1);
            }
            // Clients do not begin together.
            Arrivals::Constant if share < 1.0 => begin = random.random::<f64>() / share,
            _ => {}
        }
        let mut client = Self { arrivals, random, interval: 1.0 / share, periods, on, count: 0, due: None };
        client.due = client.after(begin);
        client
    }

    /// The time of its next request, the last one having been at `last`.
    fn after(&mut self, last: f64) -> Option<f64> {
        Some(match &self.arrivals {
            Arrivals::Poisson => last + self.interval * self.random.sample::<f64, _>(Exp1),
            Arrivals::Gamma(gamma) => last + self.interval * self.random.sample(gamma),
            Arrivals::OnOff { .. } => self.after_on_off(last),
            Arrivals::Trace(trace) => trace.time(self.count)? as f64,
            // The first one is at its begin.
            _ if self.count == 0 => last,
            // The interval of a single client is 1, so that this is exact.
            _ => last + self.interval,
        })
    }

    fn after_on_off(&mut self, mut last: f64) -> f64 {
        let [on, off] = self.periods;
        let interval = self.interval * on / (on + off);
        loop {
            let gap = interval * self.random.sample::<f64, _>(Exp1);
            if gap <= self.on {
                self.on -= gap;
                return last + gap;
            }
            // Poisson arrivals forget: the next one begins anew.
            last += self.on + off * self.random.sample::<f64, _>(Exp1);
            self.on = on * self.random.sample::<f64, _>(Exp1);
        }
    }
}

impl Schedule {
    /// A schedule of `rate` requests a second for the warm-up and then for the span. A trace is replayed from
    /// the start of the warm-up.
    #[must_use]
    pub fn new(arrivals: Arrivals, rate: f64, seed: u64, warm_up: Duration, span: Span) -> Self {
        let (arrivals, rise, span) = match (arrivals, span) {
            (Arrivals::Ramp { gaps, from, to }, span) => {
                let over = match span {
                    Span::Requests(requests) => {
                        Duration::from_secs_f64((requests as f64 / rate).min(MOST_SECONDS))
                    }
                    Span::Time(time) => time,
                };
                (*gaps, (to - from) / (to + from), Span::Time(over))
            }
            (arrivals, span) => (arrivals, 0.0, span),
        };
        let scale = if let Arrivals::Trace(trace) = &arrivals { trace.rate() / rate } else { SECOND / rate };
        let clients = match arrivals {
            Arrivals::Sum(clients) => clients,
            only => vec![(1.0, only)],
        };
        let clients = clients.into_iter().enumerate();
        let clients = clients.map(|(number, client)| Client::new(number, client, scale, seed)).collect();
        Self { clients, rise, scale, warm_up, span, counts: [0; 2] }
    }

    /// The time, in mean intervals, at which the request is due that is so many mean intervals after the first one
    /// at a constant rate.
    fn due(&self, gaps: f64) -> f64 {
        let Span::Time(span) = self.span else { return gaps };
        if self.rise == 0.0 {
            return gaps;
        }
        let [warm_up, span] = [self.warm_up, span].map(|time| time.as_secs_f64() * SECOND / self.scale);
        let first = 1.0 - self.rise;
        let rest = gaps - first * warm_up;
        if rest < 0.0 {
            return gaps / first;
        }
        if rest > span {
            return warm_up + span + (rest - span) / (1.0 + self.rise);
        }
        // The time t after the warm-up with first·t + rise·t²/span = rest.
        warm_up + 2.0 * rest / (first + (first * first + 4.0 * self.rise * rest / span).sqrt())
    }

    /// The number of requests after the warm-up; if a time limits it, all of them are computed.
    #[must_use]
    pub fn requests(self) -> u64 {
        let ends = self.clients.iter().any(|client| client.arrivals.requests().is_some());
        match self.span {
            Span::Requests(requests) if !ends => requests,
            _ => self.filter(|due| due.number.is_some()).count() as u64,
        }
    }
}

impl Iterator for Schedule {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        let due = |client: &Client| client.due.unwrap_or(f64::INFINITY);
        let earliest = (0..self.clients.len())
            .min_by(|&one, &other| due(&self.clients[one]).total_cmp(&due(&self.clients[other])))?;
        let time = self.clients[earliest].due?;
        let at = Duration::from_nanos((self.due(time) * self.scale) as u64);
        let number = at.checked_sub(self.warm_up).map(|_| self.counts[1]);
        let over = number.is_some_and(|number| match self.span {
            Span::Requests(requests) => number >= requests,
            Span::Time(time) => at >= self.warm_up.saturating_add(time),
        });
        if over {
            return None;
        }
        let client = &mut self.clients[earliest];
        client.count += 1;
        client.due = client.after(time);
        self.counts[0] += 1;
        self.counts[1] += u64::from(number.is_some());
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
    fn gamma_gaps_have_the_mean_and_the_variation_that_were_asked_for() {
        for variation in [0.2, 0.5, 2.0, 4.0] {
            let arrivals = Arrivals::varying(variation).unwrap();
            let gaps = gaps(Schedule::new(arrivals, 200.0, 7, NONE, Span::Requests(400_000)));
            let count = gaps.len() as f64;
            let mean = gaps.iter().sum::<f64>() / count;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
            assert!((mean / 0.005 - 1.0).abs() < 0.03, "{variation}: {mean}");
            assert!((variance.sqrt() / mean / variation - 1.0).abs() < 0.03, "{variation}: {variance}");
        }
        assert_eq!(Arrivals::varying(0.0), Some(Arrivals::Constant));
        assert_eq!(Arrivals::varying(1.0), Some(Arrivals::Poisson));
        for refused in [-0.5, f64::NAN, f64::INFINITY] {
            assert_eq!(Arrivals::varying(refused), None, "{refused}");
        }
    }

    #[test]
    fn a_client_that_is_on_and_off_has_the_rate_and_the_variation_of_theory() {
        // An interrupted Poisson process: the square of the variation is 1 + 2 a λ / (a + b)², where a and b are the
        // rates at which it stops and starts, and λ is its rate while it sends.
        for (on, off) in [(0.02, 0.08), (0.5, 0.5)] {
            let schedule =
                Schedule::new(Arrivals::OnOff { on, off }, 200.0, 7, NONE, Span::Requests(400_000));
            let gaps = gaps(schedule);
            let count = gaps.len() as f64;
            let mean = gaps.iter().sum::<f64>() / count;
            let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
            let lambda = 200.0 * (on + off) / on;
            let expected = 1.0 + 2.0 / on * lambda / (1.0 / on + 1.0 / off).powi(2);
            assert!((mean / 0.005 - 1.0).abs() < 0.04, "{on} {off}: {mean}");
            assert!((variance / mean.powi(2) / expected - 1.0).abs() < 0.1, "{on} {off}: {variance}");
        }
    }

    #[test]
    fn several_clients_have_their_shares_of_the_rate() {
        let of = |law: &str| {
            let schedule = Schedule::new(law.parse().unwrap(), 40.0, 3, NONE, Span::Requests(40_000));
            schedule.map(|due| due.at.as_secs_f64()).collect::<Vec<_>>()
        };
        // The intervals of one client lie between those of the other.
        let two = of("constant+3*constant");
        assert!((two.last().unwrap() - 1000.0).abs() < 0.2 && two.is_sorted());
        let rest = |period: f64| {
            let first = two[..5].iter().map(|at| at % period).collect::<Vec<_>>();
            move |at: f64| {
                first.iter().any(|one| {
                    ((at - one) / period).fract().abs().min(1.0 - ((at - one) / period).fract().abs()) < 1e-3
                })
            }
        };
        assert!(two.iter().all(|&at| rest(0.1)(at) || rest(1.0 / 30.0)(at)));
        // Poisson arrivals of several clients are Poisson ones.
        let sum = of("poisson+2*poisson+0.5*poisson");
        let gaps: Vec<f64> = sum.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((mean * 40.0 - 1.0).abs() < 0.02 && (variance.sqrt() / mean - 1.0).abs() < 0.03, "{mean}");
    }

    #[test]
    fn laws_are_read_and_others_are_refused() {
        let read = |text: &str| text.parse::<Arrivals>();
        assert_eq!(read("poisson"), Ok(Arrivals::Poisson));
        assert_eq!(read("2*constant"), Ok(Arrivals::Constant));
        assert_eq!(read("gamma:2.5"), Ok(Arrivals::varying(2.5).unwrap()));
        let on_off = Arrivals::OnOff { on: 0.2, off: 1.5 };
        assert_eq!(read("on-off:200ms:1.5s"), Ok(on_off.clone()));
        assert_eq!(
            read("on-off:200ms:1.5s+3*poisson"),
            Ok(Arrivals::Sum(vec![(0.25, on_off), (0.75, Arrivals::Poisson)]))
        );
        for refused in [
            "",
            "weekly",
            "gamma",
            "gamma:0",
            "gamma:21",
            "poisson:1",
            "constant:",
            "on-off:200ms",
            "on-off:1:2",
            "on-off:0s:1s",
            "on-off:1us:1s",
            "0*poisson",
            "x*poisson",
            "1e9*poisson",
            "NaN*poisson",
            "gamma:1:2",
        ] {
            let error = read(&format!("poisson+{refused}")).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("found '{refused}', expected poisson, constant, gamma:CV")),
                "{error}"
            );
        }
    }

    #[test]
    fn the_rate_of_a_ramp_goes_linearly_from_one_to_the_other() {
        let ramp = |gaps, from, to| Arrivals::Ramp { gaps: Box::new(gaps), from, to };
        let ten = Duration::from_secs(10);
        for (from, to) in [(100.0, 500.0), (500.0, 100.0), (0.001, 600.0), (300.0, 300.0)] {
            let arrivals = ramp(Arrivals::Constant, from, to);
            let mean = f64::midpoint(from, to);
            assert_eq!((arrivals.rates(&[]), arrivals.requests()), (vec![mean], None));
            for span in [Span::Time(ten), Span::Requests((mean * 10.0) as u64)] {
                let schedule = Schedule::new(arrivals.clone(), mean, 0, ten / 5, span);
                let due: Vec<f64> = schedule.map(|due| due.at.as_secs_f64()).collect();
                let within =
                    |low: f64, high: f64| due.iter().filter(|at| (low..high).contains(*at)).count() as f64;
                // The warm-up of 2 s has the first rate.
                assert!((within(0.0, 2.0) - 2.0 * from).abs() <= 2.0, "{from}:{to}");
                for second in 0..10 {
                    let expected = from + (to - from) * (f64::from(second) + 0.5) / 10.0;
                    let begin = 2.0 + f64::from(second);
                    let found = within(begin, begin + 1.0);
                    assert!((found - expected).abs() <= 2.0, "{from}:{to} in second {second}: {found}");
                }
                assert!(due.windows(2).all(|pair| pair[0] <= pair[1]) && due.last() < Some(&12.0));
            }
        }
        let random = Schedule::new(ramp(Arrivals::Poisson, 1e3, 9e3), 5e3, 1, NONE, Span::Time(ten));
        let due: Vec<f64> = random.map(|due| due.at.as_secs_f64()).collect();
        let early = due.iter().filter(|&&at| at < 5.0).count() as f64;
        assert!((due.len() as f64 / 5e4 - 1.0).abs() < 0.02 && (early / 1.5e4 - 1.0).abs() < 0.03, "{early}");
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
        for (arrivals, span) in [
            (Arrivals::Constant, Span::Requests(3)),
            (Arrivals::Poisson, Span::Time(20 * second)),
            (Arrivals::Trace(Arc::new(Trace::of_seconds(&[0.0, 0.5, 1.5]).unwrap())), Span::Requests(9)),
        ] {
            let schedule = Schedule::new(arrivals, 1.0, 3, second / 2, span);
            let counted = schedule.clone().filter(|due| due.number.is_some()).count() as u64;
            assert_eq!(schedule.requests(), counted, "{span:?}");
        }
        assert_eq!(numbers(Span::Requests(0)).len(), 10);
    }
}
