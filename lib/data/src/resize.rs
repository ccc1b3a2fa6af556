//! Resizes pictures as torchvision does with Pillow's images.
//!
//! Pillow resizes in two passes with fixed-point weights of 22 bits, and rounds to bytes between them. The
//! same is done here, so that the pixels are equal. The width comes first, unless the height loses more than
//! twice as many pixels, as in Pillow since version 13; in earlier versions such pictures differ by 1.

use std::ops::Range;

use parm::codes::concat::{Taps, bilinear};

use crate::picture::Picture;

/// The fractional bits of a weight, Pillow's `PRECISION_BITS`.
const BITS: u32 = 32 - 8 - 2;

/// How a picture is fitted to a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The shorter side becomes `resize` pixels, and the central `crop` × `crop` pixels are kept, as
    /// torchvision's `Resize(resize)` and `CenterCrop(crop)` do. `crop` is at most `resize`.
    Crop {
        /// Pixels of the shorter side.
        resize: u32,
        /// Pixels of both sides of the result.
        crop: u32,
    },
    /// The whole picture becomes one of this size, at any aspect ratio.
    Squeeze {
        /// Pixels of a line.
        width: u32,
        /// Lines.
        height: u32,
    },
}

impl Fit {
    /// A square of this many pixels, at any aspect ratio.
    #[must_use]
    pub fn square(side: u32) -> Self {
        Self::Squeeze { width: side, height: side }
    }

    /// The height and the width of the image.
    #[must_use]
    pub fn size(self) -> [usize; 2] {
        match self {
            Self::Crop { crop, .. } => [crop as usize; 2],
            Self::Squeeze { width, height } => [height as usize, width as usize],
        }
    }

    /// Makes the image: `[3, height, width]`.
    #[must_use]
    pub fn image(self, picture: &Picture) -> Vec<u8> {
        let (width, height, left, top) = match self {
            Self::Squeeze { width, height } => (width as usize, height as usize, 0, 0),
            Self::Crop { resize, crop } => {
                let (short, crop) = (u64::from(resize), crop as usize);
                let (w, h) = (picture.width as u64, picture.height as u64);
                // The longer side is rounded down.
                let (width, height) = if w <= h { (short, short * h / w) } else { (short * w / h, short) };
                let (width, height) = (width as usize, height as usize);
                (width, height, middle(width, crop), middle(height, crop))
            }
        };
        let [lines, columns] = self.size();
        let across = fixed(picture.width, width, left..left + columns);
        let down = fixed(picture.height, height, top..top + lines);
        let saved = |from: usize, to: usize| from as i64 - to as i64;
        let down_first = saved(picture.height, height) > (2 * saved(picture.width, width)).max(0);
        let pixels = if down_first {
            shrink_across(&shrink_down(&picture.rgb, picture.width, &down), picture.width, &across)
        } else {
            // Only the lines that the second pass reads.
            let first = down.first().map_or(0, |taps| taps.first);
            let end = down.last().map_or(0, |taps| taps.first + taps.weights.len());
            let kept = &picture.rgb[first * picture.width * 3..end * picture.width * 3];
            let down: Vec<_> =
                down.into_iter().map(|taps| Taps { first: taps.first - first, ..taps }).collect();
            shrink_down(&shrink_across(kept, picture.width, &across), columns, &down)
        };
        (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3)).copied().collect()
    }
}

/// The first of the central `crop` of `size` pixels: half the difference, rounded half to even, as in Python.
fn middle(size: usize, crop: usize) -> usize {
    let spare = size.saturating_sub(crop);
    let half = spare / 2;
    half + (spare % 2) * (half % 2)
}

/// The filter with weights as Pillow rounds them.
fn fixed(size: usize, to: usize, pixels: Range<usize>) -> Vec<Taps<i32>> {
    let round = |weight: &f64| (weight * f64::from(1 << BITS)).round() as i32;
    let fixed =
        |taps: Taps<f64>| Taps { first: taps.first, weights: taps.weights.iter().map(round).collect() };
    bilinear(size, to, pixels).into_iter().map(fixed).collect()
}

/// One half, so that dropping the fractional bits rounds.
const HALF: i32 = 1 << (BITS - 1);

/// Rounds a sum.
fn pixel(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

/// Resizes lines `[height, width, 3]` to one pixel for each filter.
///
/// Sums cannot overflow: the weights of a pixel add up to 2²², and pixels are bytes. Wrapping operations
/// avoid the overflow checks in the inner loops, here and below.
fn shrink_across(rgb: &[u8], width: usize, filters: &[Taps<i32>]) -> Vec<u8> {
    let mut narrow = Vec::with_capacity(rgb.len() / width * filters.len());
    for line in rgb.chunks_exact(width * 3) {
        for taps in filters {
            let mut sums = [HALF; 3];
            let pixels = line[taps.first * 3..].as_chunks::<3>().0;
            for (weight, rgb) in taps.weights.iter().zip(pixels) {
                for (sum, &value) in sums.iter_mut().zip(rgb) {
                    *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(value)));
                }
            }
            narrow.extend(sums.map(pixel));
        }
    }
    narrow
}

/// Resizes lines `[height, width, 3]` to one line for each filter.
fn shrink_down(rgb: &[u8], width: usize, filters: &[Taps<i32>]) -> Vec<u8> {
    let mut low = Vec::with_capacity(filters.len() * width * 3);
    let mut sums = vec![0_i32; width * 3];
    for taps in filters {
        sums.fill(HALF);
        let lines = rgb[taps.first * width * 3..].chunks_exact(width * 3);
        for (&weight, line) in taps.weights.iter().zip(lines) {
            for (sum, &value) in sums.iter_mut().zip(line) {
                *sum = sum.wrapping_add(weight.wrapping_mul(i32::from(value)));
            }
        }
        low.extend(sums.iter().map(|&sum| pixel(sum)));
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_middle_is_rounded_as_python_does() {
        // [int(round((size - 4) / 2.0)) for size in range(4, 13)]
        let found: Vec<_> = (4..13).map(|size| middle(size, 4)).collect();
        assert_eq!(found, [0, 0, 1, 2, 2, 2, 3, 4, 4]);
    }

    /// The naive [`Fit::Squeeze`]: every pixel is a weighted sum of sums, without rounding between them.
    fn naive(picture: &Picture, lines: usize, columns: usize) -> Vec<f64> {
        let weight = |size: usize, to: usize, at: usize, x: usize| {
            let scale = size as f64 / to as f64;
            let distance = ((x as f64 + 0.5) - (at as f64 + 0.5) * scale) / scale.max(1.0);
            (1.0 - distance.abs()).max(0.0)
        };
        let (width, height) = (picture.width, picture.height);
        let mut image = Vec::new();
        for channel in 0..3 {
            for (y, x) in (0..lines).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                let (mut sum, mut weights) = (0.0, 0.0);
                for (v, u) in (0..height).flat_map(|v| (0..width).map(move |u| (v, u))) {
                    let weight = weight(height, lines, y, v) * weight(width, columns, x, u);
                    sum += weight * f64::from(picture.rgb[(v * width + u) * 3 + channel]);
                    weights += weight;
                }
                image.push(sum / weights);
            }
        }
        image
    }

    proptest! {
        #[test]
        fn the_fast_way_is_the_naive_one(
            (width, height, lines, columns, seed) in
                (1_usize..20, 1_usize..40, 1_u32..20, 1_u32..20, 0_usize..1000)
        ) {
            let rgb = (0..width * height * 3).map(|i| ((i * 7919 + seed * 31) % 256) as u8).collect();
            let picture = Picture { width, height, rgb };
            let expected = naive(&picture, lines as usize, columns as usize);
            let image = Fit::Squeeze { width: columns, height: lines }.image(&picture);
            prop_assert_eq!(image.len(), expected.len());
            for (&found, expected) in image.iter().zip(expected) {
                // Two roundings by at most one half each. Another test compares with Pillow's own results.
                prop_assert!((f64::from(found) - expected).abs() < 1.001, "{found} for {expected}");
            }
        }
    }

    #[test]
    fn extreme_pictures_are_cut_without_making_the_rest() {
        let picture = Picture { width: 1, height: 60_000, rgb: vec![9; 180_000] };
        let image = Fit::Crop { resize: 256, crop: 224 }.image(&picture);
        assert_eq!((image.len(), image.iter().all(|&pixel| pixel == 9)), (3 * 224 * 224, true));
    }
}
