//! Splits rows into training rows and validation rows.

use std::fmt;

use parm::split;
use rand::seq::SliceRandom;

use super::random::rng;

/// The rows that are kept for validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validation {
    /// Their number.
    pub rows: usize,
    /// How they are chosen.
    pub kept: Kept,
}

/// How validation rows are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Random rows of the whole set; if labels are known, each class has its share.
    Drawn,
    /// The last rows.
    Tail,
}

impl fmt::Display for Validation {
    /// As in checkpoints. Those of version 0.1.0 have only a number, and kept the last rows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kept {
            Kept::Drawn => write!(f, "{} drawn", self.rows),
            Kept::Tail => write!(f, "{}", self.rows),
        }
    }
}

/// The rows of a training, in ascending order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) training: Vec<i64>,
    pub(super) validation: Vec<i64>,
}

impl Split {
    /// Splits rows, whose classes may be known.
    pub(super) fn new(rows: usize, classes: Option<&[i64]>, validation: Validation, seed: u64) -> Self {
        let wanted = validation.rows.min(rows);
        let mut order: Vec<i64> = (0..rows as i64).collect();
        if validation.kept == Kept::Tail {
            let tail = order.split_off(rows - wanted);
            return Self { training: order, validation: tail };
        }
        // A stream of random numbers that no epoch uses.
        order.shuffle(&mut rng(seed, 0, u64::MAX - 1));
        let class = |row: i64| classes.map_or(0, |classes| classes[row as usize]);
        let [validation, training] = split::draw(&order, class, wanted);
        Self { training, validation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rows: usize) -> Validation {
        Validation { rows, kept: Kept::Drawn }
    }

    #[test]
    fn the_tail_is_the_last_rows() {
        let split = Split::new(5, Some(&[0, 0, 1, 1, 1]), Validation { rows: 2, kept: Kept::Tail }, 7);
        assert_eq!(split, Split { training: vec![0, 1, 2], validation: vec![3, 4] });
    }

    #[test]
    fn rows_are_drawn_anew_by_another_seed_and_again_by_the_same() {
        let draw = |seed| Split::new(100, None, drawn(10), seed).validation;
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(1)[0] < 90, "not the last rows");
    }
}
