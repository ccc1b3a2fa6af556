//! Random periods, such as those in which an instance is slow.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::Exp1;

/// Periods of one length, with exponentially distributed times between them. They are drawn on demand.
#[derive(Clone, Debug)]
pub(super) struct Periods {
    random: ChaCha8Rng,
    mean_between: f64,
    length: f64,
    begin: f64,
    end: f64,
}

impl Periods {
    /// Times are in ms.
    pub(super) fn new(random: ChaCha8Rng, mean_between: f64, length: f64) -> Self {
        let mut periods = Self { random, mean_between, length, begin: 0.0, end: 0.0 };
        periods.next();
        periods
    }

    fn next(&mut self) {
        let unit: f64 = self.random.sample(Exp1);
        self.begin = self.end + self.mean_between * unit;
        self.end = self.begin + self.length;
    }

    /// True if this moment is in a period; moments never decrease.
    pub(super) fn covers(&mut self, ms: f64) -> bool {
        while self.end <= ms {
            self.next();
        }
        ms >= self.begin
    }
}
