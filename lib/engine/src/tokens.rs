//! A token bucket.

/// Tokens that are earned and spent. Up to a number of them can be saved up, and as many can be owed.
#[derive(Debug)]
pub(crate) struct Tokens {
    held: f64,
    most: f64,
}

impl Tokens {
    /// A full bucket.
    pub(crate) fn new(most: f64) -> Self {
        Self { held: most, most }
    }

    /// A bucket that is half full.
    pub(crate) fn half(most: f64) -> Self {
        Self { held: most / 2.0, most }
    }

    pub(crate) fn earn(&mut self, tokens: f64) {
        self.held = (self.held + tokens).min(self.most);
    }

    /// True if there are so many.
    pub(crate) fn has(&self, tokens: f64) -> bool {
        self.held >= tokens
    }

    /// The share of the bucket that is full, in 0..=1.
    pub(crate) fn fill(&self) -> f64 {
        if self.most > 0.0 { (self.held / self.most).max(0.0) } else { 0.0 }
    }

    /// Takes so many; false if there are fewer.
    pub(crate) fn spend(&mut self, tokens: f64) -> bool {
        let enough = self.has(tokens);
        if enough {
            self.owe(tokens);
        }
        enough
    }

    /// Takes so many, also if they are owed then; false if too many would be owed.
    pub(crate) fn borrow(&mut self, tokens: f64) -> bool {
        let enough = self.has(tokens - self.most);
        if enough {
            self.owe(tokens);
        }
        enough
    }

    /// Takes so many, also if there are fewer.
    pub(crate) fn owe(&mut self, tokens: f64) {
        self.held = (self.held - tokens).max(-self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_and_what_is_owed_is_bounded() {
        let mut tokens = Tokens::new(2.0);
        tokens.earn(10.0);
        assert_eq!(
            [tokens.spend(1.5), tokens.spend(1.0), tokens.spend(0.5), tokens.spend(0.1)],
            [true, false, true, false]
        );
        assert_eq!((tokens.fill(), tokens.has(0.0)), (0.0, true));
        tokens.owe(100.0);
        tokens.earn(2.5);
        assert!(tokens.has(0.5) && !tokens.has(0.6) && tokens.fill() == 0.25);
        assert!(tokens.borrow(2.0) && !tokens.borrow(1.0));
        assert!(Tokens::new(0.0).fill() == 0.0 && !Tokens::new(0.0).spend(1.0));
    }
}
