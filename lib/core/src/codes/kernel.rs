//! The one operation on rows that all linear codes are made of: a weighted sum.

use crate::dtype::Float;

/// Elements that are summed at a time, so that partial sums stay in the first-level cache.
const STRIP: usize = 2048;

/// Writes Σ weights\[i\]·rows\[i\] to `out`. All rows and `out` have the same length; without rows
/// the sum is 0.
pub fn combine<T: Float>(weights: &[T], rows: &[&[T]], out: &mut [T]) {
    debug_assert_eq!(weights.len(), rows.len());
    debug_assert!(rows.iter().all(|row| row.len() == out.len()));
    for (strip, out) in out.chunks_mut(STRIP).enumerate() {
        let length = out.len();
        let part = |row: usize| &rows[row][strip * STRIP..][..length];
        // Two rows at a time, so that sums of two, the most frequent, pass over `out` once.
        match *weights {
            [] => out.fill(T::zeroed()),
            [v] => out.iter_mut().zip(part(0)).for_each(|(out, &x)| *out = v * x),
            [v, w, ..] => {
                let pairs = part(0).iter().zip(part(1));
                out.iter_mut().zip(pairs).for_each(|(out, (&x, &y))| *out = v * x + w * y);
            }
        }
        for row in 2..rows.len() {
            let (w, part) = (weights[row], part(row));
            out.iter_mut().zip(part).for_each(|(out, &x)| *out += w * x);
        }
    }
}

/// Encodes whole groups of k = `weights.len()` rows: `queries` is `[groups, k, elements]`, and `out`
/// becomes `[groups, elements]`.
pub fn encode_groups<T: Float>(weights: &[T], queries: &[T], elements: usize, out: &mut Vec<T>) {
    let groups = queries.chunks_exact(weights.len() * elements);
    out.resize(groups.len() * elements, T::zeroed());
    let mut rows = Vec::with_capacity(weights.len());
    for (group, out) in groups.zip(out.chunks_exact_mut(elements)) {
        rows.clear();
        rows.extend(group.chunks_exact(elements));
        combine(weights, &rows, out);
    }
}

/// What [`combine`] computes, as the formula stands: its specification.
pub fn combine_naive<T: Float>(weights: &[T], rows: &[&[T]], out: &mut [T]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = weights.iter().zip(rows).fold(T::zeroed(), |sum, (&w, row)| sum + w * row[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn strips_change_nothing(
            weights in prop::collection::vec(-4.0_f32..4.0, 0..6),
            length in prop::sample::select(vec![0_usize, 1, 7, STRIP - 1, STRIP, STRIP + 1, 3 * STRIP + 5]),
            seed in 0_usize..1000,
        ) {
            let value = |i: usize| ((i * 31 + seed) % 97) as f32 / 7.0;
            let rows: Vec<Vec<f32>> =
                (0..weights.len()).map(|row| (0..length).map(|i| value(i * 3 + row * 11)).collect()).collect();
            let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            let (mut fast, mut naive) = (vec![f32::NAN; length], vec![f32::NAN; length]);
            combine(&weights, &rows, &mut fast);
            combine_naive(&weights, &rows, &mut naive);
            // The same additions in the same order: equal but for the sign of zero.
            prop_assert_eq!(fast, naive);
        }
    }
}
