//! Splits rows into training rows and validation rows.

use std::collections::BTreeMap;
use std::fmt;

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
        let mut by_class: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for row in order {
            by_class.entry(classes.map_or(0, |classes| classes[row as usize])).or_default().push(row);
        }
        // The share of each class is rounded down; the remaining rows go to the classes with the largest
        // remainders.
        let share = |members: &Vec<i64>| members.len() as u128 * wanted as u128;
        let mut left =
            wanted - by_class.values().map(|of| (share(of) / rows as u128) as usize).sum::<usize>();
        let mut losers: Vec<(u128, i64)> =
            by_class.iter().map(|(&class, of)| (share(of) % rows as u128, class)).collect();
        losers.sort_by_key(|&(lost, class)| (std::cmp::Reverse(lost), class));
        let (mut training, mut kept) = (Vec::with_capacity(rows - wanted), Vec::with_capacity(wanted));
        for (_, class) in losers {
            let members = &by_class[&class];
            let more = usize::from(left > 0);
            left -= more;
            let (first, rest) = members.split_at((share(members) / rows as u128) as usize + more);
            kept.extend(first);
            training.extend(rest);
        }
        training.sort_unstable();
        kept.sort_unstable();
        Self { training, validation: kept }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn each_row_is_on_one_side_and_each_class_has_its_share(
            classes in proptest::collection::vec(0_i64..5, 1..200), share in 0.0..1.0_f64, seed: u64
        ) {
            let rows = classes.len();
            let wanted = (rows as f64 * share) as usize;
            let split = Split::new(rows, Some(&classes), drawn(wanted), seed);
            prop_assert_eq!(split.validation.len(), wanted);
            let mut all = [split.training, split.validation.clone()].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..rows as i64).collect::<Vec<_>>());
            for class in 0..5 {
                let count = |of: &mut dyn Iterator<Item = i64>| of.filter(|&found| found == class).count() as f64;
                let exact = count(&mut classes.iter().copied()) * wanted as f64 / rows as f64;
                let found = count(&mut split.validation.iter().map(|&row| classes[row as usize]));
                prop_assert!((found - exact).abs() < 1.0, "class {}: {} of {}", class, found, exact);
            }
        }
    }
}
