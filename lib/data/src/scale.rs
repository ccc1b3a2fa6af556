//! Converts pixels to numbers.

use parm::Dtype;

/// ImageNet's mean and deviation of red, green and blue in 0..1, as torchvision's models expect them.
pub const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// How pixels `[channels, …]` become the bytes of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Scale {
    /// Unchanged, u1.
    Bytes,
    /// f4: (pixel / 255 − mean) / deviation of each channel, made once for the 256 values.
    Floats(Vec<[f32; 256]>),
}

impl Scale {
    /// From 0 to 1.
    #[must_use]
    pub fn unit(channels: usize) -> Self {
        Self::standard(&vec![0.0; channels], &vec![1.0; channels])
    }

    /// With a mean and a deviation for each channel.
    #[must_use]
    pub fn standard(mean: &[f64], deviation: &[f64]) -> Self {
        let table = |(mean, deviation): (&f64, &f64)| {
            std::array::from_fn(|pixel| ((pixel as f64 / 255.0 - mean) / deviation) as f32)
        };
        Self::Floats(mean.iter().zip(deviation).map(table).collect())
    }

    /// The elements of the rows that it makes.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        if *self == Self::Bytes { Dtype::U8 } else { Dtype::F32 }
    }

    /// Appends an image `[channels, height, width]` to the bytes of a stream.
    pub fn write(&self, image: &[u8], bytes: &mut Vec<u8>) {
        match self {
            Self::Bytes => bytes.extend_from_slice(image),
            Self::Floats(tables) => {
                bytes.reserve(image.len() * 4);
                let plane = (image.len() / tables.len().max(1)).max(1);
                for (plane, table) in image.chunks_exact(plane).zip(tables) {
                    bytes.extend(plane.iter().flat_map(|&pixel| table[usize::from(pixel)].to_le_bytes()));
                }
            }
        }
    }
}

/// The counts of each value in each channel, from which mean and deviation follow.
#[derive(Clone, Debug)]
pub struct Histogram(Vec<[u64; 256]>);

impl Histogram {
    /// An empty histogram.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self(vec![[0; 256]; channels])
    }

    /// Counts the pixels of an image `[channels, height, width]`.
    pub fn add(&mut self, image: &[u8]) {
        let plane = (image.len() / self.0.len().max(1)).max(1);
        for (plane, counts) in image.chunks_exact(plane).zip(&mut self.0) {
            for &pixel in plane {
                counts[usize::from(pixel)] += 1;
            }
        }
    }

    /// The mean of each channel, in 0..1.
    #[must_use]
    pub fn mean(&self) -> Vec<f64> {
        self.0.iter().map(|counts| average(counts, |x| x)).collect()
    }

    /// The deviation of each channel from `mean`, in 0..1. If all pixels are equal, it is the smallest number
    /// above 0, so that it can be a divisor.
    #[must_use]
    pub fn deviation(&self, mean: &[f64]) -> Vec<f64> {
        let deviation = |(counts, mean): (&[u64; 256], &f64)| {
            average(counts, |x| (x - mean).powi(2)).sqrt().max(f64::MIN_POSITIVE)
        };
        self.0.iter().zip(mean).map(deviation).collect()
    }
}

/// The average of a function of pixels in 0..1.
fn average(counts: &[u64; 256], of: impl Fn(f64) -> f64) -> f64 {
    let total: u64 = counts.iter().sum();
    let sum =
        counts.iter().zip(0..=255_u8).map(|(&count, pixel)| count as f64 * of(f64::from(pixel) / 255.0));
    sum.sum::<f64>() / total.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(scale: &Scale, image: &[u8]) -> Vec<f32> {
        let mut bytes = vec![7];
        scale.write(image, &mut bytes);
        bytes[1..].as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    #[test]
    fn each_channel_has_its_own_mean() {
        let image = [0, 255, 51, 102];
        assert_eq!(floats(&Scale::unit(2), &image), [0.0, 1.0, 0.2, 0.4]);
        assert_eq!(floats(&Scale::standard(&[0.5, 0.2], &[0.5, 2.0]), &image), [-1.0, 1.0, 0.0, 0.1]);
        let mut bytes = vec![7];
        Scale::Bytes.write(&image, &mut bytes);
        assert_eq!(bytes, [7, 0, 255, 51, 102]);
        assert_eq!((Scale::Bytes.dtype(), Scale::unit(1).dtype()), (Dtype::U8, Dtype::F32));
    }

    #[test]
    fn statistics_are_those_of_the_pixels() {
        let mut histogram = Histogram::new(2);
        histogram.add(&[0, 255, 51, 51]);
        histogram.add(&[255, 0, 51, 51]);
        assert_eq!(histogram.mean(), [0.5, 0.2]);
        assert_eq!(histogram.deviation(&[0.5, 0.2]), [0.5, f64::MIN_POSITIVE]);
        assert_eq!(Histogram::new(1).mean(), [0.0], "of no pixel");
    }
}
