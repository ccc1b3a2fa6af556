//! The code `concat`: the k images of a group, shrunk and tiled into one image of their size.
//!
//! ParM's encoder for images (SOSP 2019, section 4.1): its parity model answers the tiled image with
//! F_P(P) ≈ Σ F(X_i), so that decoding is that of `sum` with r = 1. A query is an image
//! `[…, height, width]`; all axes before the last two are channels, and channels stay apart: red is
//! tiled with red.
//!
//! The images stand row by row on a grid of ⌈√k⌉ columns and as many rows as they fill: two side by
//! side, four in quadrants, nine in three rows of three. Where k leaves cells of the last row empty,
//! as for 3, 5, 7 and 8, they are 0. Where the grid does not divide the size, cell c of n starts at
//! pixel ⌊c·size/n⌋, so that cells differ by at most one pixel and no pixel is left over.
//!
//! Images are shrunk with an anti-aliased bilinear filter, exactly as Pillow's
//! `Image.resize(size, BILINEAR)` does with floats. The filter is our own: its weights depend on the
//! shape alone and are made once, and crates that resize have no `f64`.

use std::ops::Range;

use super::kernel::combine;
use crate::dtype::Float;

/// Queries that cannot be tiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConcatError {
    /// A group without queries.
    #[error("found k = 0, expected at least 1 query in a group")]
    NoQueries,
    /// Rows of fewer than two axes.
    #[error("found queries of shape {0:?}, expected images: [channels, height, width] or [height, width]")]
    NotImages(Vec<usize>),
    /// Images with fewer pixels than the grid has cells, along an axis.
    #[error(
        "found images of {height}x{width} pixels, expected {rows}x{columns} or more to tile {k} of them: \
         pad each image to {}x{}",
        rows.max(height), columns.max(width)
    )]
    TooSmall {
        /// Pixels of an image along its last axis but one.
        height: usize,
        /// Pixels of an image along its last axis.
        width: usize,
        /// Rows of the grid.
        rows: usize,
        /// Columns of the grid.
        columns: usize,
        /// Queries of a group.
        k: usize,
    },
}

/// The encoder of the code `concat` for groups of k images of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    k: usize,
    channels: usize,
    height: usize,
    width: usize,
    /// The filters of each row of the grid, along the height.
    down: Vec<Cell>,
    /// The filters of each column of the grid, along the width.
    across: Vec<Cell>,
}

/// A row or column of the grid: where it lies in the tiled image, and how it is filled.
#[derive(Clone, Debug, PartialEq)]
struct Cell {
    /// The first pixel.
    start: usize,
    /// For each of its pixels the first input pixel, and where its weights stand.
    taps: Vec<(usize, Range<usize>)>,
    /// The weights of all its pixels.
    double: Vec<f64>,
    /// The same.
    single: Vec<f32>,
}

impl Cell {
    /// A cell that begins at a pixel.
    fn new(start: usize, filters: Vec<Taps<f64>>) -> Self {
        let (mut taps, mut double) = (Vec::with_capacity(filters.len()), Vec::new());
        for Taps { first, weights } in filters {
            taps.push((first, double.len()..double.len() + weights.len()));
            double.extend(weights);
        }
        Self { start, taps, single: double.iter().map(|&weight| weight as f32).collect(), double }
    }

    /// For each of its pixels the first input pixel, and the weights from there on.
    fn taps<T: Float>(&self) -> impl Iterator<Item = (usize, &[T])> {
        let weights = T::pick(&self.single, &self.double);
        self.taps.iter().map(|(first, at)| (*first, &weights[at.clone()]))
    }
}

/// One output pixel along one axis: a weighted sum of consecutive input pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Taps<T> {
    /// The first input pixel.
    pub first: usize,
    /// The weights from there on; their sum is 1.
    pub weights: Vec<T>,
}

impl Concat {
    /// The encoder for groups of k queries of this shape: `[channels, height, width]`, or with any
    /// other number of axes before the last two.
    ///
    /// # Errors
    /// Rows that are no images, or smaller than the grid.
    pub fn new(k: usize, shape: &[usize]) -> Result<Self, ConcatError> {
        let [channels @ .., height, width] = shape else {
            return Err(ConcatError::NotImages(shape.to_vec()));
        };
        let (rows, columns) = grid(k).ok_or(ConcatError::NoQueries)?;
        let (height, width) = (*height, *width);
        if height < rows || width < columns {
            return Err(ConcatError::TooSmall { height, width, rows, columns, k });
        }
        Ok(Self {
            k,
            channels: channels.iter().product(),
            height,
            width,
            down: cells(height, rows),
            across: cells(width, columns),
        })
    }

    /// Elements of one query, and of one parity query.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The matrices D `[height, height]` and A `[width, width]` of a slot, in row order: its image X adds
    /// D·X·Aᵀ to each channel of the parity query.
    ///
    /// # Panics
    /// If there is no such slot.
    #[must_use]
    pub fn matrices<T: Float>(&self, slot: usize) -> [Vec<T>; 2] {
        assert!(slot < self.k, "slot {slot} of {}", self.k);
        let dense = |size: usize, cell: &Cell| {
            let mut matrix = vec![T::zeroed(); size * size];
            for (pixel, (first, weights)) in cell.taps::<T>().enumerate() {
                let row = &mut matrix[(cell.start + pixel) * size..][..size];
                row[first..][..weights.len()].copy_from_slice(weights);
            }
            matrix
        };
        let columns = self.across.len();
        [dense(self.height, &self.down[slot / columns]), dense(self.width, &self.across[slot % columns])]
    }

    /// Encodes one group: `rows` are its k queries, and all of `out` becomes their parity query.
    /// `scratch` is room to work in, to be kept from group to group.
    pub fn encode<T: Float>(&self, rows: &[&[T]], scratch: &mut Vec<T>, out: &mut [T]) {
        debug_assert_eq!(rows.len(), self.k);
        debug_assert!(rows.iter().all(|row| row.len() == out.len()) && out.len() == self.elements());
        if self.k < self.down.len() * self.across.len() {
            out.fill(T::zeroed());
        }
        let plane = self.height * self.width;
        for (row, image) in rows.iter().enumerate() {
            let (down, across) = (&self.down[row / self.across.len()], &self.across[row % self.across.len()]);
            for (image, out) in image.chunks_exact(plane).zip(out.chunks_exact_mut(plane)) {
                self.shrink(image, down, across, scratch, out);
            }
        }
    }

    /// Encodes whole groups: `queries` is `[groups, k, elements]`, and `out` becomes
    /// `[groups, elements]`.
    pub fn encode_groups<T: Float>(&self, queries: &[T], out: &mut Vec<T>) {
        let elements = self.elements();
        let groups = queries.chunks_exact(self.k * elements);
        out.resize(groups.len() * elements, T::zeroed());
        let (mut rows, mut scratch) = (Vec::with_capacity(self.k), Vec::new());
        for (group, out) in groups.zip(out.chunks_exact_mut(elements)) {
            rows.clear();
            rows.extend(group.chunks_exact(elements));
            self.encode(&rows, &mut scratch, out);
        }
    }

    /// Shrinks one channel into its cell: along the height first, where whole lines are added, then
    /// the few lines that are left along the width.
    fn shrink<T: Float>(&self, image: &[T], down: &Cell, across: &Cell, scratch: &mut Vec<T>, out: &mut [T]) {
        scratch.resize(self.width, T::zeroed());
        let lines = out.chunks_exact_mut(self.width).skip(down.start);
        for ((first, weights), line) in down.taps::<T>().zip(lines) {
            let source = image[first * self.width..].chunks_exact(self.width);
            let source: &[T] = match weights.len() {
                1 => &image[first * self.width..][..self.width],
                count => {
                    let source: Vec<&[T]> = source.take(count).collect();
                    combine(weights, &source, scratch);
                    scratch
                }
            };
            for ((first, weights), pixel) in across.taps::<T>().zip(&mut line[across.start..]) {
                let source = &source[first..][..weights.len()];
                *pixel = weights.iter().zip(source).fold(T::zeroed(), |sum, (&w, &x)| sum + w * x);
            }
        }
    }
}

/// Rows and columns of the grid for k images: near-square, and the wider side across.
#[must_use]
pub fn grid(k: usize) -> Option<(usize, usize)> {
    let root = k.isqrt();
    let columns = if root * root == k { root } else { root + 1 };
    (k > 0).then(|| (k.div_ceil(columns), columns))
}

/// Cuts an axis of `size` pixels into n cells, each of which holds a whole image.
fn cells(size: usize, n: usize) -> Vec<Cell> {
    let start = |cell: usize| cell * size / n;
    let whole = |size, to| bilinear(size, to, 0..to);
    (0..n).map(|cell| Cell::new(start(cell), whole(size, start(cell + 1) - start(cell)))).collect()
}

/// The anti-aliased bilinear filter from `size` pixels to `to`, for these output pixels of them, as
/// Pillow's `precompute_coeffs` (src/libImaging/Resample.c) makes it: a triangle as wide as two pixels
/// of the smaller size, cut off at the borders, with weights of sum 1.
#[must_use]
pub fn bilinear<T: Float>(size: usize, to: usize, pixels: Range<usize>) -> Vec<Taps<T>> {
    let scale = size as f64 / to as f64;
    let reach = scale.max(1.0);
    let pixel = |i: usize| {
        let center = (i as f64 + 0.5) * scale;
        let first = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(size);
        let triangle = |x: usize| (1.0 - ((x as f64 + 0.5 - center) / reach).abs()).max(0.0);
        let sum: f64 = (first..end).map(triangle).sum();
        // The outermost weights may be 0; a tap less is a line less to add.
        let taken = (first..end).filter(|&x| triangle(x) > 0.0);
        Taps {
            first: taken.clone().next().unwrap_or(first),
            weights: taken.map(|x| T::from_f64(triangle(x) / sum)).collect(),
        }
    };
    pixels.map(pixel).collect()
}

/// What [`Concat::encode`] computes, as the definition stands: its specification. `shape` is
/// `[channels, height, width]`.
#[must_use]
pub fn concat_naive(shape: [usize; 3], images: &[&[f64]]) -> Vec<f64> {
    let [channels, height, width] = shape;
    let mut out = vec![0.0; channels * height * width];
    let (rows, columns) = grid(images.len()).unwrap_or((1, 1));
    for (i, image) in images.iter().enumerate() {
        let part = |cell: usize, n: usize, size: usize| (cell * size / n, (cell + 1) * size / n);
        let (top, bottom) = part(i / columns, rows, height);
        let (left, right) = part(i % columns, columns, width);
        for channel in 0..channels {
            for (y, x) in (top..bottom).flat_map(|y| (left..right).map(move |x| (y, x))) {
                let (mut sum, mut weights) = (0.0, 0.0);
                for (v, u) in (0..height).flat_map(|v| (0..width).map(move |u| (v, u))) {
                    let weight = triangle(v, height, y - top, bottom - top)
                        * triangle(u, width, x - left, right - left);
                    sum += weight * image[(channel * height + v) * width + u];
                    weights += weight;
                }
                out[(channel * height + y) * width + x] = sum / weights;
            }
        }
    }
    out
}

/// The weight of input pixel `from` of `size` in output pixel `i` of `to`, up to a factor.
fn triangle(from: usize, size: usize, i: usize, to: usize) -> f64 {
    let scale = size as f64 / to as f64;
    let distance = (from as f64 + 0.5) - (i as f64 + 0.5) * scale;
    (1.0 - distance.abs() / scale).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// k images of this shape, all different.
    fn images(k: usize, shape: [usize; 3], seed: usize) -> Vec<Vec<f64>> {
        let elements = shape.iter().product::<usize>();
        let value = |i: usize| ((i * 7919 + seed * 31) % 1009) as f64 / 100.0 - 5.0;
        (0..k).map(|image| (0..elements).map(|i| value(image * elements + i)).collect()).collect()
    }

    fn encode<T: Float>(shape: &[usize], images: &[Vec<T>]) -> Vec<T> {
        let concat = Concat::new(images.len(), shape).unwrap();
        let mut out = vec![T::from_f64(f64::NAN); concat.elements()];
        let rows: Vec<&[T]> = images.iter().map(Vec::as_slice).collect();
        concat.encode(&rows, &mut Vec::new(), &mut out);
        out
    }

    fn shapes() -> impl Strategy<Value = (usize, [usize; 3], usize)> {
        (1_usize..=13, 1_usize..4, 4_usize..17, 4_usize..17, 0_usize..1000)
            .prop_map(|(k, channels, height, width, seed)| (k, [channels, height, width], seed))
    }

    proptest! {
        #[test]
        fn the_fast_way_is_the_naive_one((k, shape, seed) in shapes()) {
            let images = images(k, shape, seed);
            let naive = concat_naive(shape, &images.iter().map(Vec::as_slice).collect::<Vec<_>>());
            for (found, expected) in encode(&shape, &images).iter().zip(&naive) {
                prop_assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
            }
            let single: Vec<Vec<f32>> =
                images.iter().map(|image| image.iter().map(|&value| value as f32).collect()).collect();
            for (found, expected) in encode(&shape, &single).iter().zip(&naive) {
                prop_assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} for {expected}");
            }
        }

        #[test]
        fn constants_fill_their_cells((k, [channels, height, width], seed) in shapes()) {
            let images: Vec<Vec<f64>> =
                (0..k).map(|i| vec![(i + 1) as f64 + seed as f64; channels * height * width]).collect();
            let out = encode(&[channels, height, width], &images);
            let (rows, columns) = grid(k).unwrap();
            // The last cell that begins at or before the pixel.
            let cell = |pixel: usize, size: usize, n: usize| (0..n).rfind(|c| c * size / n <= pixel).unwrap();
            for (i, &value) in out.iter().enumerate() {
                let (y, x) = (i / width % height, i % width);
                let slot = cell(y, height, rows) * columns + cell(x, width, columns);
                let expected = images.get(slot).map_or(0.0, |image| image[0]);
                prop_assert!((value - expected).abs() < 1e-9, "{value} for {expected} at {y}, {x}");
            }
        }

        #[test]
        fn it_is_linear((k, shape, seed) in shapes()) {
            let (a, b) = (images(k, shape, seed), images(k, shape, seed + 7));
            let mixed: Vec<Vec<f64>> = a
                .iter()
                .zip(&b)
                .map(|(a, b)| a.iter().zip(b).map(|(a, b)| 2.0 * a - 0.5 * b).collect())
                .collect();
            let (a, b) = (encode(&shape, &a), encode(&shape, &b));
            for (i, mixed) in encode(&shape, &mixed).into_iter().enumerate() {
                prop_assert!((mixed - (2.0 * a[i] - 0.5 * b[i])).abs() < 1e-11);
            }
        }

        #[test]
        fn channels_stay_apart((k, [channels, height, width], seed) in shapes()) {
            let images = images(k, [channels, height, width], seed);
            let whole = encode(&[channels, height, width], &images);
            let plane = height * width;
            for channel in 0..channels {
                let single: Vec<Vec<f64>> =
                    images.iter().map(|image| image[channel * plane..][..plane].to_vec()).collect();
                // An image without channels is an image of one.
                prop_assert_eq!(&encode(&[height, width], &single)[..], &whole[channel * plane..][..plane]);
            }
        }
    }

    #[test]
    fn grids_are_near_square() {
        let expected = [
            (1, 1),
            (1, 2),
            (2, 2),
            (2, 2),
            (2, 3),
            (2, 3),
            (3, 3),
            (3, 3),
            (3, 3),
            (3, 4),
            (3, 4),
            (3, 4),
            (4, 4),
        ];
        assert_eq!((1..=13).map(|k| grid(k).unwrap()).collect::<Vec<_>>(), expected);
        assert_eq!(grid(0), None);
    }

    #[test]
    fn groups_are_encoded_one_by_one() {
        let images = images(6, [2, 5, 7], 1);
        let concat = Concat::new(3, &[2, 5, 7]).unwrap();
        let mut out = Vec::new();
        concat.encode_groups(&images.concat(), &mut out);
        let expected = [encode(&[2, 5, 7], &images[..3]), encode(&[2, 5, 7], &images[3..])].concat();
        assert_eq!(out, expected);
    }

    #[test]
    fn one_image_is_itself_to_the_bit() {
        let images = images(1, [3, 5, 4], 9);
        assert_eq!(encode(&[3, 5, 4], &images), images[0]);
    }

    #[test]
    fn values_that_are_no_numbers_stay_in_their_neighbourhood() {
        let mut images = images(2, [1, 4, 8], 3);
        images[0][0] = f64::INFINITY;
        let out = encode(&[1, 4, 8], &images);
        assert_eq!(out.iter().filter(|value| !value.is_finite()).count(), 1);
    }

    #[test]
    fn queries_that_are_no_images_are_refused() {
        let error = |k, shape: &[usize]| Concat::new(k, shape).unwrap_err();
        assert_eq!(error(0, &[4, 4]), ConcatError::NoQueries);
        assert_eq!(error(2, &[10]), ConcatError::NotImages(vec![10]));
        assert!(error(2, &[10]).to_string().contains("found queries of shape [10], expected images"));
        let small = error(9, &[3, 2, 28]);
        assert_eq!(small, ConcatError::TooSmall { height: 2, width: 28, rows: 3, columns: 3, k: 9 });
        assert!(small.to_string().contains("expected 3x3 or more"), "{small}");
        assert!(small.to_string().contains("pad each image to 3x28"), "{small}");
    }
}
