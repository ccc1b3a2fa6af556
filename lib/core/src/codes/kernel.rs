//! The one operation on rows that all linear codes are made of: a weighted sum.

use crate::dtype::Float;

/// Rows up to this many bytes are summed whole: the rows of a group lie one behind the other, and
/// memory is fastest (twice as fast: `cargo bench --bench kernels`) when it is read in that order.
const WHOLE: usize = 32 * 1024;

/// Bytes of longer rows that are summed at a time, so that partial sums stay in the first-level
/// cache.
const STRIP: usize = 8 * 1024;

/// Writes Σ weights\[i\]·rows\[i\] to `out`. All rows and `out` have the same length; without rows
/// the sum is 0.
pub fn combine<T: Float>(weights: &[T], rows: &[&[T]], out: &mut [T]) {
    debug_assert_eq!(weights.len(), rows.len());
    debug_assert!(rows.iter().all(|row| row.len() == out.len()));
    let strip = if size_of_val(out) <= WHOLE { WHOLE } else { STRIP } / size_of::<T>();
    for (i, out) in out.chunks_mut(strip).enumerate() {
        let length = out.len();
        let parts = rows.iter().map(|row| &row[i * strip..][..length]);
        let mut parts = weights.iter().zip(parts);
        let Some((&w, part)) = parts.next() else {
            out.fill(T::zeroed());
            continue;
        };
        out.iter_mut().zip(part).for_each(|(out, &x)| *out = w * x);
        for (&w, part) in parts {
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
            length in prop::sample::select(vec![0_usize, 1, 7, WHOLE / 4 - 1, WHOLE / 4, WHOLE / 4 + 1, 3 * WHOLE / 4 + 5]),
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
