//! The operations on rows that all codes are made of: a weighted sum, and a matrix of them.

use nalgebra::DMatrix;

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
        combine_strip(weights, rows, i * strip, out);
    }
}

/// [`combine`] for the elements of the rows that begin at `first`, as many as `out` has.
fn combine_strip<T: Float>(weights: &[T], rows: &[&[T]], first: usize, out: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { combine_strip_avx2(weights, rows, first, out) };
    }
    combine_strip_plain(weights, rows, first, out);
}

/// The same for wider registers, and equal to the bit.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn combine_strip_avx2<T: Float>(weights: &[T], rows: &[&[T]], first: usize, out: &mut [T]) {
    combine_strip_plain(weights, rows, first, out);
}

/// Of strips, four rows are added at a time, in their order, so that `out` goes through the registers
/// once for them. Whole rows are added one by one: they lie one behind the other, and reading four
/// places of memory at once takes twice as long (`cargo bench --bench kernels`, k=4).
#[allow(clippy::inline_always)] // compiled once for each width of registers
#[inline(always)]
fn combine_strip_plain<T: Float>(weights: &[T], rows: &[&[T]], first: usize, out: &mut [T]) {
    let length = out.len();
    let whole = rows.first().is_some_and(|row| row.len() == length);
    let by_four = if whole { 0 } else { rows.len() / 4 * 4 };
    let (quads, rest) = (rows[..by_four].as_chunks::<4>().0, &rows[by_four..]);
    let (quad_weights, rest_weights) = (weights[..by_four].as_chunks::<4>().0, &weights[by_four..]);
    let mut begun = false;
    for (quad, &[wa, wb, wc, wd]) in quads.iter().zip(quad_weights) {
        let [a, b, c, d] = quad.map(|row| &row[first..][..length]);
        let rows = a.iter().zip(b).zip(c).zip(d);
        if begun {
            for (out, (((&a, &b), &c), &d)) in out.iter_mut().zip(rows) {
                *out = *out + wa * a + wb * b + wc * c + wd * d;
            }
        } else {
            for (out, (((&a, &b), &c), &d)) in out.iter_mut().zip(rows) {
                *out = wa * a + wb * b + wc * c + wd * d;
            }
        }
        begun = true;
    }
    for (row, &w) in rest.iter().zip(rest_weights) {
        let row = &row[first..][..length];
        if begun {
            out.iter_mut().zip(row).for_each(|(out, &x)| *out += w * x);
        } else {
            out.iter_mut().zip(row).for_each(|(out, &x)| *out = w * x);
        }
        begun = true;
    }
    if !begun {
        out.fill(T::zeroed());
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

/// Matrices of more weights than this are applied by the crate `matrixmultiply`: below, a group's
/// rows wait for memory in any case, and it packs them first
/// (`cargo bench --bench codes` shows all three ways).
const FEW_WEIGHTS: usize = 256;

/// With fewer inputs than this, sums go output by output, as [`combine`] has them.
const FEW_INPUTS: usize = 4;

/// The weights of a matrix in row order and in the rows' own float type, for [`apply`].
#[must_use]
pub fn row_major<T: Float>(matrix: &DMatrix<f64>) -> Vec<T> {
    matrix.transpose().iter().map(|&weight| T::from_f64(weight)).collect()
}

/// Applies a matrix to the rows of one group: `matrix` is `[rows, columns]` in row order, `inputs`
/// `[columns, elements]`, and `out` becomes `[rows, elements]`.
///
/// Every input takes part in every output, be its weight 0: what is not a number spreads.
///
/// # Panics
/// If the sizes do not fit each other.
pub fn apply<T: Float>(matrix: &[T], inputs: &[T], elements: usize, out: &mut [T]) {
    let (columns, rows) = (inputs.len() / elements, out.len() / elements);
    assert_eq!((columns * elements, rows * elements), (inputs.len(), out.len()), "only whole rows");
    assert_eq!(matrix.len(), rows * columns, "a weight for each pair of rows");
    if columns == 0 {
        out.fill(T::zeroed());
    } else if matrix.len() > FEW_WEIGHTS {
        T::multiply(matrix, inputs, elements, out);
    } else if columns < FEW_INPUTS || elements < TILE {
        apply_rows(matrix, inputs, elements, out);
    } else {
        apply_tiles(matrix, inputs, elements, out);
    }
}

/// Output by output; strip by strip, so that long inputs come from memory once and not each time.
fn apply_rows<T: Float>(matrix: &[T], inputs: &[T], elements: usize, out: &mut [T]) {
    let inputs: Vec<&[T]> = inputs.chunks_exact(elements).collect();
    let strip = if elements * size_of::<T>() <= WHOLE { elements } else { STRIP / size_of::<T>() };
    for first in (0..elements).step_by(strip) {
        let strip = strip.min(elements - first);
        for (weights, out) in matrix.chunks_exact(inputs.len()).zip(out.chunks_exact_mut(elements)) {
            combine_strip(weights, &inputs, first, &mut out[first..][..strip]);
        }
    }
}

/// Elements of all rows that are taken together: four registers of eight f4.
const TILE: usize = 32;

fn apply_tiles<T: Float>(matrix: &[T], inputs: &[T], elements: usize, out: &mut [T]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function was compiled for.
        return unsafe { apply_tiles_avx2(matrix, inputs, elements, out) };
    }
    apply_tiles_plain(matrix, inputs, elements, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn apply_tiles_avx2<T: Float>(matrix: &[T], inputs: &[T], elements: usize, out: &mut [T]) {
    apply_tiles_plain(matrix, inputs, elements, out);
}

/// Rows of at least [`TILE`] elements, all outputs of a few elements at a time: the inputs come from memory once, while sums are
/// computed, and each sum stays in the registers until it is complete. The additions are those of
/// [`combine`], in its order.
#[allow(clippy::inline_always)] // compiled once for each width of registers
#[inline(always)]
fn apply_tiles_plain<T: Float>(matrix: &[T], inputs: &[T], elements: usize, out: &mut [T]) {
    let columns = inputs.len() / elements;
    let whole = elements - elements % TILE;
    // The last tile overlaps the one before it: the same sums once more cost less than another way.
    let last = (whole < elements).then_some(elements - TILE);
    for first in (0..whole).step_by(TILE).chain(last) {
        for (weights, out) in matrix.chunks_exact(columns).zip(out.chunks_exact_mut(elements)) {
            let mut sums = [T::zeroed(); TILE];
            for (&w, input) in weights.iter().zip(inputs.chunks_exact(elements)) {
                let input = &input[first..][..TILE];
                sums.iter_mut().zip(input).for_each(|(sum, &x)| *sum += w * x);
            }
            out[first..][..TILE].copy_from_slice(&sums);
        }
    }
}

/// What [`apply`] computes, as the formula stands: its specification.
pub fn apply_naive<T: Float>(matrix: &[T], inputs: &[T], elements: usize, out: &mut [T]) {
    let columns = inputs.len() / elements;
    for (i, out) in out.iter_mut().enumerate() {
        let (row, element) = (i / elements, i % elements);
        let weight = |column: usize| matrix[row * columns + column];
        *out = (0..columns)
            .fold(T::zeroed(), |sum, column| sum + weight(column) * inputs[column * elements + element]);
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
        fn matrices_are_applied_as_the_formula_says(
            (rows, columns, elements) in (0_usize..20, 0_usize..20, 1_usize..70),
            weights in prop::collection::vec(-4.0_f32..4.0, 400),
            seed in 0_usize..1000,
        ) {
            let inputs: Vec<f32> =
                (0..columns * elements).map(|i| ((i * 31 + seed) % 97) as f32 / 7.0 - 5.0).collect();
            let matrix = &weights[..rows * columns];
            let (mut fast, mut naive) = (vec![f32::NAN; rows * elements], vec![f32::NAN; rows * elements]);
            apply(matrix, &inputs, elements, &mut fast);
            apply_naive(matrix, &inputs, elements, &mut naive);
            for (fast, naive) in fast.into_iter().zip(naive) {
                // Rounding errors of 20 terms of at most 4·9.
                prop_assert!((fast - naive).abs() <= 20.0 * 36.0 * 20.0 * f32::EPSILON, "{} {}", fast, naive);
            }
        }

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
