//! The options for the conversion of pixels to numbers.

use anyhow::Result;
use parm_cli::Usage;
use parm_cli::tools::data::{Normalize, PixelOptions};
use parm_data_sets::scale::{Histogram, IMAGENET, Scale};

/// The chosen conversion.
pub(crate) struct Wanted {
    normalize: Normalize,
    channels: usize,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
}

impl Wanted {
    /// Checks the options. `default` is the conversion without options.
    pub(crate) fn new(options: &PixelOptions, default: Normalize, channels: usize) -> Result<Self> {
        let normalize = options.normalize.unwrap_or(default);
        if normalize == Normalize::Imagenet && channels != 3 {
            return Err(Usage::error(format!(
                "--normalize imagenet is for images of 3 channels, found {channels}"
            )));
        }
        let given = |values: &[f64], flag: &str| match values {
            [] => Ok(None),
            _ if normalize != Normalize::Standard => {
                Err(Usage::error("--mean and --std go with --normalize standard"))
            }
            [one] => Ok(Some(vec![*one; channels])),
            _ if values.len() == channels => Ok(Some(values.to_vec())),
            _ => Err(Usage::error(format!(
                "found {} numbers for {flag}, expected 1 or {channels}, one for each channel",
                values.len()
            ))),
        };
        let (mean, std) = (given(&options.mean, "--mean")?, given(&options.std, "--std")?);
        if std.iter().flatten().any(|std| std.is_nan() || *std <= 0.0) {
            return Err(Usage::error("found --std of 0 or less, expected a number above 0"));
        }
        Ok(Self { normalize, channels, mean, std })
    }

    /// The scale; `histogram` counts the data's own pixels, if they are needed.
    pub(crate) fn scale(self, histogram: impl FnOnce() -> Result<Histogram>) -> Result<Scale> {
        Ok(match (self.normalize, self.mean, self.std) {
            (Normalize::None, ..) => Scale::Bytes,
            (Normalize::Unit, ..) => Scale::unit(self.channels),
            (Normalize::Imagenet, ..) => Scale::standard(&IMAGENET.0, &IMAGENET.1),
            (Normalize::Standard, Some(mean), Some(std)) => Scale::standard(&mean, &std),
            (Normalize::Standard, mean, std) => {
                let own = histogram()?;
                let mean = mean.unwrap_or_else(|| own.mean());
                let std = std.unwrap_or_else(|| own.deviation(&mean));
                Scale::standard(&mean, &std)
            }
        })
    }
}

/// The scale of pictures that are read only once.
pub(crate) fn scale_at_once(options: &PixelOptions, default: Normalize, channels: usize) -> Result<Scale> {
    let unknown = || Err(Usage::error("--normalize standard needs --mean and --std here"));
    Wanted::new(options, default, channels)?.scale(unknown)
}
