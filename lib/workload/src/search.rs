//! The search for the highest rate at which an expectation holds.

/// A search over rates: from a first one it doubles or halves the rate until there is one at which the expectation
/// held and a higher one at which it did not, and then tries rates between them, until they are close. At both it is
/// tried again, since one trial may be lucky; if most trials at a rate say otherwise, the search goes on from there.
///
/// Call [`rate`](Self::rate) for the rate of a trial, and [`tried`](Self::tried) with its verdict.
#[derive(Clone, Debug)]
pub struct Search {
    first: f64,
    /// The quotient of the two rates at which the search ends.
    close: f64,
    /// The number of trials that decide about a rate at the end.
    trials: u32,
    /// The rates that were tried.
    rates: Vec<Tried>,
}

/// A rate, and its trials.
#[derive(Clone, Copy, Debug)]
struct Tried {
    rate: f64,
    held: u32,
    missed: u32,
}

impl Tried {
    /// The verdict of most trials.
    fn holds(self) -> bool {
        self.held > self.missed
    }
}

/// The lowest rate and the highest one that are tried, a second.
const RATES: [f64; 2] = [0.001, 1e6];

impl Search {
    /// A search that begins at a rate, ends when the two rates differ by at most `precision`, a share of the lower
    /// one, and decides at both of them by the majority of `trials`.
    #[must_use]
    pub fn new(first: f64, precision: f64, trials: u32) -> Self {
        Self { first, close: 1.0 + precision, trials, rates: Vec::new() }
    }

    /// The lowest rate at which the expectation did not hold.
    #[must_use]
    pub fn missed(&self) -> Option<f64> {
        self.lowest_missed().map(|tried| tried.rate)
    }

    /// The highest rate below that one at which it held.
    #[must_use]
    pub fn held(&self) -> Option<f64> {
        self.highest_held().map(|tried| tried.rate)
    }

    fn lowest_missed(&self) -> Option<Tried> {
        let missed = self.rates.iter().filter(|tried| !tried.holds());
        missed.copied().min_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    fn highest_held(&self) -> Option<Tried> {
        let below = self.missed().unwrap_or(f64::INFINITY);
        let held = self.rates.iter().filter(|tried| tried.holds() && tried.rate < below);
        held.copied().max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    /// The rate of the next trial; none when the search is over.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let [least, most] = RATES;
        let again = |tried: Tried| (!self.is_decided(tried)).then_some(tried.rate);
        match (self.highest_held(), self.lowest_missed()) {
            (None, None) => Some(self.first.clamp(least, most)),
            (Some(held), None) if held.rate < most => Some((held.rate * 2.0).min(most)),
            (None, Some(missed)) if missed.rate > least => Some((missed.rate / 2.0).max(least)),
            (Some(held), Some(missed)) if missed.rate > held.rate * self.close => {
                Some((held.rate * missed.rate).sqrt())
            }
            (held, missed) => missed.and_then(again).or_else(|| held.and_then(again)),
        }
    }

    /// True if further trials cannot change the verdict.
    fn is_decided(&self, tried: Tried) -> bool {
        let left = self.trials.saturating_sub(tried.held + tried.missed);
        left == 0 || tried.held.abs_diff(tried.missed) > left
    }

    /// Notes whether the expectation held in a trial at a rate.
    pub fn tried(&mut self, rate: f64, held: bool) {
        let place = self.rates.iter().position(|tried| tried.rate == rate).unwrap_or_else(|| {
            self.rates.push(Tried { rate, held: 0, missed: 0 });
            self.rates.len() - 1
        });
        if let Some(tried) = self.rates.get_mut(place) {
            *(if held { &mut tried.held } else { &mut tried.missed }) += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Searches, and returns the rates of all trials.
    fn run(search: &mut Search, mut holds: impl FnMut(f64) -> bool) -> Vec<f64> {
        let mut rates = Vec::new();
        while let Some(rate) = search.rate() {
            assert!(rates.len() < 200, "{search:?}");
            search.tried(rate, holds(rate));
            rates.push(rate);
        }
        rates
    }

    #[test]
    fn it_doubles_then_closes_in_and_repeats_at_the_boundary() {
        let mut search = Search::new(10.0, 0.05, 3);
        let rates = run(&mut search, |rate| rate <= 70.0);
        assert_eq!(rates[..5], [10.0, 20.0, 40.0, 80.0, 3200.0_f64.sqrt()]);
        let (held, missed) = (search.held().unwrap(), search.missed().unwrap());
        assert!(held <= 70.0 && missed > 70.0 && missed <= held * 1.05, "{held} to {missed}");
        // Two of three trials that agree are enough.
        for rate in [held, missed] {
            assert_eq!(rates.iter().filter(|&&tried| tried == rate).count(), 2);
        }
        assert!(rates.len() < 15, "{rates:?}");
    }

    #[test]
    fn it_halves_if_the_first_rate_is_too_high() {
        let mut search = Search::new(1000.0, 0.01, 1);
        let rates = run(&mut search, |rate| rate < 7.0);
        assert_eq!(rates[..3], [1000.0, 500.0, 250.0]);
        let (held, missed) = (search.held().unwrap(), search.missed().unwrap());
        assert!(held < 7.0 && missed >= 7.0 && missed <= held * 1.01);
    }

    #[test]
    fn it_ends_where_rates_end() {
        let mut search = Search::new(1.0, 0.02, 3);
        run(&mut search, |_| true);
        assert_eq!((search.held(), search.missed()), (Some(1e6), None));
        let mut search = Search::new(1.0, 0.02, 3);
        run(&mut search, |_| false);
        assert_eq!((search.held(), search.missed()), (None, Some(0.001)));
        assert_eq!(Search::new(1e9, 0.02, 1).rate(), Some(1e6));
    }

    #[test]
    fn a_lucky_trial_and_an_unlucky_one_are_corrected() {
        // The first trial at 160 holds by luck, and that at 40 fails by bad luck.
        for unlucky in [160.0, 40.0] {
            let mut search = Search::new(10.0, 0.02, 3);
            let mut is_first = true;
            run(&mut search, |rate| {
                let right = rate <= 100.0;
                if rate == unlucky && is_first {
                    is_first = false;
                    return !right;
                }
                right
            });
            let (held, missed) = (search.held().unwrap(), search.missed().unwrap());
            assert!(
                held <= 100.0 && missed > 100.0 && missed <= held * 1.02,
                "{unlucky}: {held} to {missed}"
            );
        }
    }

    #[test]
    fn it_ends_near_the_limit_if_trials_near_it_are_random() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for _ in 0..200 {
            let mut search = Search::new(10.0, 0.02, 3);
            // Within 5 % of the limit the verdict is random.
            run(&mut search, |rate| {
                let share = ((rate / 300.0 - 0.95) / 0.1).clamp(0.0, 1.0);
                random.random::<f64>() >= share
            });
            let (held, missed) = (search.held().unwrap(), search.missed().unwrap());
            assert!((280.0..=316.0).contains(&held) && missed <= held * 1.02, "{held} to {missed}");
        }
    }
}
