//! A code's rule for the engine: which slots a set of answers rebuilds.

use std::collections::HashMap;
use std::fmt;

use parm::codes::Matrices;

use crate::error::ConfigError;
use crate::mask::{MAX_WORKERS, Mask, ones};

/// The most loss patterns that are cached; see [`Rule::Matrix`].
const MAX_CACHED: usize = 4096;

/// Which answers suffice.
enum Rule {
    /// Any answers of this number rebuild all others: k for learned codes and for `sum` with its default
    /// weights, n − s for `berrut` and the like.
    Any(usize),
    /// The code decides, once for each loss pattern: for systematic codes with given weights.
    Matrix(Box<dyn Matrices + Send>),
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(enough) => write!(f, "Any({enough})"),
            Self::Matrix(code) => write!(f, "Matrix(k = {}, n = {})", code.k(), code.workers()),
        }
    }
}

/// A code's rule for the engine.
#[derive(Debug)]
pub struct CodeRule {
    k: usize,
    n: usize,
    systematic: bool,
    rule: Rule,
    cache: HashMap<Mask, Mask>,
}

impl CodeRule {
    /// A systematic code with k queries and r parity queries that rebuilds any r losses.
    ///
    /// # Errors
    /// k = 0, or more workers than [`MAX_WORKERS`].
    pub fn parity(k: usize, r: usize) -> Result<Self, ConfigError> {
        Self::new(k, k.saturating_add(r), true, Rule::Any(k))
    }

    /// A systematic code, k queries and then parities, that decides itself what it rebuilds.
    ///
    /// # Errors
    /// k = 0, or more workers than [`MAX_WORKERS`].
    pub fn matrix(code: Box<dyn Matrices + Send>) -> Result<Self, ConfigError> {
        Self::new(code.k(), code.workers(), true, Rule::Matrix(code))
    }

    /// A code whose n coded queries all run on the deployed model, and which rebuilds all k predictions from
    /// any `enough` answers.
    ///
    /// # Errors
    /// k = 0, more workers than [`MAX_WORKERS`], or `enough` not in 1..=n.
    pub fn coded(k: usize, n: usize, enough: usize) -> Result<Self, ConfigError> {
        if !(1..=n).contains(&enough) {
            return Err(ConfigError::Enough { enough, n });
        }
        Self::new(k, n, false, Rule::Any(enough))
    }

    fn new(k: usize, n: usize, systematic: bool, rule: Rule) -> Result<Self, ConfigError> {
        if k == 0 || n > MAX_WORKERS {
            return Err(ConfigError::Workers { k, n });
        }
        Ok(Self { k, n, systematic, rule, cache: HashMap::new() })
    }

    /// The number of queries of a group.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// The number of workers of a group; k + r for a systematic code.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.n
    }

    /// True if the k queries themselves are sent, and the other workers get parity queries.
    #[must_use]
    pub fn is_systematic(&self) -> bool {
        self.systematic
    }

    /// The number of parity queries of a group; 0 if all coded queries run on the deployed model.
    #[must_use]
    pub fn r(&self) -> usize {
        if self.systematic { self.n - self.k } else { 0 }
    }

    /// The slots that are among these answers or can be rebuilt from them.
    pub(crate) fn rebuilds(&mut self, available: Mask) -> Mask {
        match &self.rule {
            Rule::Any(enough) if available.count_ones() as usize >= *enough => ones(self.k),
            Rule::Any(_) if self.systematic => available & ones(self.k),
            Rule::Any(_) => 0,
            Rule::Matrix(code) => {
                if let Some(&known) = self.cache.get(&available) {
                    return known;
                }
                let workers: Vec<bool> = (0..self.n).map(|i| available >> i & 1 == 1).collect();
                let slots = ones(self.k) & available;
                let rebuilt = code.decoding(&workers).rebuilt;
                let slots = rebuilt.iter().fold(slots, |slots, rebuilt| slots | 1 << rebuilt.slot);
                if self.cache.len() >= MAX_CACHED {
                    self.cache.clear();
                }
                self.cache.insert(available, slots);
                slots
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parm::LinearCode;

    use super::*;

    #[test]
    fn sum_with_default_weights_rebuilds_any_r_losses() {
        for (k, r) in [(1, 1), (2, 1), (3, 1), (2, 2), (4, 2), (3, 3)] {
            let sum = LinearCode::sum(k, r).unwrap();
            let (mut asked, mut counted) =
                (CodeRule::matrix(Box::new(sum)).unwrap(), CodeRule::parity(k, r).unwrap());
            for available in 0..=ones(k + r) {
                // Twice: computed, and from the cache.
                for _ in 0..2 {
                    assert_eq!(
                        asked.rebuilds(available),
                        counted.rebuilds(available),
                        "{k} {r} {available:b}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_code_may_rebuild_one_slot_of_two() {
        let mut code = CodeRule::matrix(Box::new(LinearCode::replicate(2, 1).unwrap())).unwrap();
        assert_eq!(code.rebuilds(0b100), 0b01);
        assert_eq!(code.rebuilds(0b000), 0);
    }

    #[test]
    fn coded_queries_give_all_or_nothing() {
        let mut code = CodeRule::coded(4, 6, 5).unwrap();
        assert_eq!((code.rebuilds(0b1111), code.rebuilds(0b11_1011)), (0, 0b1111));
        assert_eq!((code.r(), code.is_systematic()), (0, false));
    }
}
