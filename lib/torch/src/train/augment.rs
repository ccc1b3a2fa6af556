//! Augmentation: images are moved and mirrored at random in each epoch, as in the reference implementation.
//!
//! The targets stay the deployed model's predictions of the original images.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, TchError, Tensor};

use super::{Rows, TrainError};
use crate::network::image;

/// The settings of augmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augment {
    /// The most pixels by which an image is moved along each axis; the border is filled with zeros.
    pub shift: usize,
    /// Whether images are mirrored, left for right, with probability 1/2.
    pub flip: bool,
}

/// The random changes of each row in one epoch.
pub(super) struct Drawn {
    /// Channels, height and width of a row.
    image: [i64; 3],
    shift: i64,
    /// The offset from above and from the left in an image that is larger by `shift` on each side, and 1 if
    /// it is mirrored: `[rows, 3]`.
    rows: Tensor,
}

impl Augment {
    /// Channels, height and width of rows, which must be images larger than `shift`.
    fn image(self, queries: &Rows) -> Result<[usize; 3], TrainError> {
        let fits = |[_, height, width]: &[usize; 3]| self.shift < *height.min(width);
        image(queries.shape())
            .filter(fits)
            .ok_or_else(|| TrainError::Augment { found: queries.shape().into(), shift: self.shift })
    }

    /// Draws the changes of each row.
    pub(super) fn draw(self, queries: &Rows, rng: &mut ChaCha8Rng) -> Result<Drawn, TrainError> {
        let image = self.image(queries)?.map(|axis| axis as i64);
        let shift = self.shift as i64;
        let mut numbers: Vec<i64> = Vec::with_capacity(3 * queries.count());
        for _ in 0..queries.count() {
            numbers.extend([(); 2].map(|()| rng.random_range(0..=2 * shift)));
            numbers.push(i64::from(rng.random::<bool>() && self.flip));
        }
        let rows = Tensor::f_from_slice(&numbers)?.f_view([-1, 3])?;
        Ok(Drawn { image, shift, rows: rows.f_to_device(queries.device())? })
    }
}

impl Drawn {
    /// Applies the changes to rows `[rows, elements]` with these indices.
    pub(super) fn of(&self, rows: &Tensor, index: &Tensor) -> Result<Tensor, TchError> {
        let [channels, height, width] = self.image;
        let count = index.numel() as i64;
        let options = (Kind::Int64, index.device());
        let drawn = self.rows.f_index_select(0, index)?;
        let [above, left, mirrored] =
            [0, 1, 2].map(|column| drawn.f_select(1, column).and_then(|numbers| numbers.f_unsqueeze(1)));
        let range = |length| Tensor::f_arange(length, options);
        // Column x of a mirrored image is column width - 1 - x.
        let columns = range(width)?;
        let turned = columns.f_mul_scalar(-2)?.f_add_scalar(width - 1)?;
        let columns = turned.f_mul(&mirrored?)?.f_add(&columns)?.f_add(&left?)?;
        let lines = range(height)?.f_add(&above?)?;
        let images = rows.f_view([count, channels, height, width])?;
        let images = images.f_constant_pad_nd([self.shift; 4])?;
        let index = [
            range(count)?.f_view([-1, 1, 1, 1])?,
            range(channels)?.f_view([1, -1, 1, 1])?,
            lines.f_view([count, 1, height, 1])?,
            columns.f_view([count, 1, 1, width])?,
        ];
        images.f_index(&index.map(Some))?.f_view([count, -1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::train::random::augment_rng;

    const ROWS: usize = 40;
    const SHAPE: [usize; 3] = [2, 3, 4];

    fn rows(shape: &[usize]) -> Rows {
        let values: Vec<f32> = (1..).take(ROWS * shape.iter().product::<usize>()).map(|i| i as f32).collect();
        Rows::new(&values, ROWS, shape, Device::CPU).unwrap()
    }

    /// The naive rule for a pixel of an augmented row.
    fn naive(values: &[f32], drawn: &[i64], shift: i64, at: [i64; 3]) -> f32 {
        let [channels, height, width] = SHAPE.map(|axis| axis as i64);
        let [channel, line, column] = at;
        let line = line + drawn[0] - shift;
        let column = if drawn[2] == 1 { width - 1 - column } else { column } + drawn[1] - shift;
        assert!(channel < channels);
        if (0..height).contains(&line) && (0..width).contains(&column) {
            values[((channel * height + line) * width + column) as usize]
        } else {
            0.0
        }
    }

    #[test]
    fn images_are_moved_and_mirrored_as_drawn() {
        let queries = rows(&SHAPE);
        let index = Tensor::from_slice(&[7_i64, 0, 39, 7]);
        let mut seen = [false; 2];
        for (shift, flip) in [(0, false), (0, true), (2, false), (2, true)] {
            let mut rng = augment_rng(1, 2, 3);
            let drawn = Augment { shift, flip }.draw(&queries, &mut rng).unwrap();
            let given = queries.select(&index).unwrap();
            let found = Vec::<Vec<f32>>::try_from(drawn.of(&given, &index).unwrap()).unwrap();
            let numbers = Vec::<Vec<i64>>::try_from(drawn.rows.index_select(0, &index)).unwrap();
            let given = Vec::<Vec<f32>>::try_from(given).unwrap();
            for ((found, given), numbers) in found.iter().zip(&given).zip(&numbers) {
                let mut pixels = found.iter();
                for (channel, line) in (0..2).flat_map(|channel| (0..3).map(move |line| (channel, line))) {
                    for column in 0..4 {
                        let expected = naive(given, numbers, shift as i64, [channel, line, column]);
                        assert_eq!(*pixels.next().unwrap(), expected);
                    }
                }
                if shift == 0 && !flip {
                    assert_eq!(found, given);
                }
            }
            let all = Vec::<Vec<i64>>::try_from(drawn.rows).unwrap();
            assert!(all.iter().all(|row| row[0] <= 2 * shift as i64 && row[1] <= 2 * shift as i64));
            assert_eq!(all.iter().any(|row| row[2] == 1), flip);
            seen[usize::from(flip)] |= all.iter().any(|row| row[0] == 0) && all.iter().any(|row| row[0] == 4);
        }
        assert_eq!(seen, [true, true]);
    }

    #[test]
    fn what_is_no_image_or_would_leave_its_frame_is_refused() {
        for (shape, shift) in [(&[12][..], 0), (&[1, 2, 3, 4], 0), (&[2, 3, 4], 3), (&[4, 2], usize::MAX)] {
            let error = Augment { shift, flip: true }.draw(&rows(shape), &mut augment_rng(1, 1, 1));
            let message = error.err().unwrap().to_string();
            assert!(message.contains(&format!("found rows of shape {shape:?}")), "{message}");
        }
        assert!(Augment { shift: 2, flip: true }.draw(&rows(&[3, 4]), &mut augment_rng(1, 1, 1)).is_ok());
    }
}
