//! How two streams of the same shape differ.

use crate::dtype::{Dtype, Float};

/// How far a value may be from the one that it is compared with, y: at most absolute + relative·|y|, as in
/// `numpy.isclose`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tolerance {
    /// In the unit of the values.
    pub absolute: f64,
    /// As a share of |y|.
    pub relative: f64,
}

/// Where two streams differ, and by how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// The row, counted over all items.
    pub row: u64,
    /// The element of the row, in C order.
    pub element: usize,
    /// The values there.
    pub values: [f64; 2],
    /// The difference.
    pub difference: f64,
}

/// How two streams differ: values x of the first are compared with the values y of the second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    tolerance: Tolerance,
    /// Rows that were compared.
    pub rows: u64,
    /// Elements that were compared.
    pub elements: u64,
    /// Elements that differ at all. NaN does not differ from NaN.
    pub different: u64,
    /// Elements that differ by more than the tolerance, or by one NaN or infinity.
    pub beyond: u64,
    /// NaN in the first stream alone, in the second alone, and in both.
    pub nan: [u64; 3],
    /// Elements that differ, without NaN, of which at least one is infinite.
    pub infinite: u64,
    /// The largest |x − y| of finite values.
    pub absolute: Option<Place>,
    /// The largest |x − y| / |y| of finite values with y ≠ 0.
    pub relative: Option<Place>,
    values: [Vec<f64>; 2],
}

impl Difference {
    /// Between no rows yet.
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        Self { tolerance, ..Self::default() }
    }

    /// Compares the next `rows` rows of both streams: types and little-endian elements of the same number.
    pub fn add(&mut self, rows: usize, streams: [(Dtype, &[u8]); 2]) {
        let mut values = std::mem::take(&mut self.values);
        for ((dtype, bytes), values) in streams.into_iter().zip(&mut values) {
            values.resize(bytes.len() / dtype.size(), 0.0);
            f64::decode(dtype, bytes, values);
        }
        let elements = (values[0].len() / rows.max(1)).max(1);
        let [first, second] = streams.map(|(dtype, bytes)| dtype.integers(bytes));
        // Floats hold integers only up to 2^53.
        let mut exact = first.zip(second).map(|(first, second)| first.zip(second));
        for (at, (&x, &y)) in values[0].iter().zip(&values[1]).enumerate() {
            let exact = exact.as_mut().and_then(Iterator::next).map(|(x, y)| x.abs_diff(y) as f64);
            let difference = exact.unwrap_or_else(|| (x - y).abs());
            self.compare([x, y], difference, self.rows + (at / elements) as u64, at % elements);
        }
        self.rows += rows as u64;
        self.elements += values[0].len() as u64;
        self.values = values;
    }

    fn compare(&mut self, values: [f64; 2], difference: f64, row: u64, element: usize) {
        let [x, y] = values;
        match (x.is_nan(), y.is_nan()) {
            (true, true) => return self.nan[2] += 1,
            (false, false) if x.is_finite() && y.is_finite() => {}
            (false, false) if x == y => return,
            (first, second) => {
                self.nan[0] += u64::from(first);
                self.nan[1] += u64::from(second);
                self.infinite += u64::from(!first && !second);
                self.different += 1;
                self.beyond += 1;
                return;
            }
        }
        if difference == 0.0 {
            return;
        }
        self.different += 1;
        if difference > self.tolerance.absolute + self.tolerance.relative * y.abs() {
            self.beyond += 1;
        }
        let place = |difference| Place { row, element, values, difference };
        let keep = |largest: &mut Option<Place>, difference: f64| {
            if largest.is_none_or(|largest| difference > largest.difference) {
                *largest = Some(place(difference));
            }
        };
        keep(&mut self.absolute, difference);
        if y != 0.0 {
            keep(&mut self.relative, difference / y.abs());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn between(tolerance: Tolerance, x: &[f64], y: &[f64], columns: usize) -> Difference {
        let mut difference = Difference::new(tolerance);
        for (x, y) in x.chunks(columns).zip(y.chunks(columns)) {
            let [x, y] = [x, y].map(|row| row.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
            difference.add(1, [(Dtype::F64, &x), (Dtype::F64, &y)]);
        }
        difference
    }

    proptest! {
        #[test]
        fn the_largest_differences_and_their_places_are_found(
            pairs in prop::collection::vec((-4_i32..4, -4_i32..4), 1..8),
            absolute in 0_i32..4,
            relative in 0_i32..3,
        ) {
            let [x, y] = [0, 1].map(|side| {
                let pick = |&(x, y): &(i32, i32)| f64::from(if side == 0 { x } else { y });
                pairs.iter().map(pick).collect::<Vec<_>>()
            });
            let tolerance = Tolerance { absolute: absolute.into(), relative: relative.into() };
            let found = between(tolerance, &x, &y, 1);
            let apart = |(x, y): &(i32, i32)| (x - y).abs();
            prop_assert_eq!(found.different, pairs.iter().filter(|pair| apart(pair) > 0).count() as u64);
            let beyond = |pair: &&(i32, i32)| apart(pair) > absolute + relative * pair.1.abs();
            prop_assert_eq!(found.beyond, pairs.iter().filter(beyond).count() as u64);
            let largest = pairs.iter().map(apart).max().unwrap_or_default();
            prop_assert_eq!(found.absolute.map_or(0.0, |place| place.difference), f64::from(largest));
            for place in found.absolute.iter().chain(&found.relative) {
                prop_assert_eq!(place.values, [x[place.row as usize], y[place.row as usize]]);
            }
            let shares = pairs.iter().filter(|pair| pair.1 != 0);
            let share = shares.map(|pair| f64::from(apart(pair)) / f64::from(pair.1.abs())).fold(0.0, f64::max);
            prop_assert_eq!(found.relative.map_or(0.0, |place| place.difference), share);
        }
    }

    #[test]
    fn nan_and_infinity_are_counted_apart() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let x = [nan, nan, 1.0, inf, inf, 1.0, 2.0];
        let y = [nan, 1.0, nan, inf, -inf, inf, 2.5];
        let found = between(Tolerance { absolute: 1.0, relative: 0.0 }, &x, &y, 7);
        assert_eq!((found.nan, found.infinite), ([1, 1, 1], 2));
        assert_eq!((found.rows, found.elements, found.different, found.beyond), (1, 7, 5, 4));
        let place = found.absolute.unwrap();
        assert_eq!((place.row, place.element, place.difference), (0, 6, 0.5));
    }

    #[test]
    fn large_integers_are_compared_exactly() {
        let [x, y] = [u64::MAX, u64::MAX - 1].map(u64::to_le_bytes);
        let mut found = Difference::new(Tolerance::default());
        found.add(1, [(Dtype::U64, &x), (Dtype::U64, &y)]);
        assert_eq!((found.beyond, found.absolute.map(|place| place.difference)), (1, Some(1.0)));
    }
}
