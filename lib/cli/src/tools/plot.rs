//! `parm-plot`: results, to images.

use std::fmt;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::input::Input;
use crate::options::Common;
use crate::output::Target;

/// Draw results: training curves, and accuracy against extra workers or k
///
/// Reads JSON and writes an SVG or PNG image that is readable in black and white as well: series
/// differ in markers and dashes, not only in colors.
#[derive(Parser, Clone, Debug)]
#[command(name = "parm-plot", version, max_term_width = 100, subcommand_required = true)]
pub struct Plot {
    /// What to draw.
    #[command(subcommand)]
    pub chart: Chart,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

super::tool!(Plot, "parm-plot");

/// What `parm-plot` draws.
#[derive(Subcommand, Clone, Debug)]
pub enum Chart {
    /// Training curves: the loss, and accuracy, agreement and A_d on the validation rows, by epoch
    ///
    /// Reads the metrics.jsonl that parm-train keeps, while it trains as well as afterwards. The loss
    /// stands on a logarithmic scale where it spans more than a factor of ten.
    Curves(Curves),
    /// Accuracy against the number of extra workers of a group, a line for each code
    ///
    /// Reads the report of a comparison of codes; see COMPARISONS.
    Workers(Compared),
    /// Accuracy against k, a line for each code
    ///
    /// Reads the report of a comparison of codes; see COMPARISONS.
    K(Compared),
}

/// `parm-plot curves`
#[derive(Args, Clone, Debug)]
pub struct Curves {
    /// The metrics of each training
    #[arg(value_name = "METRICS.jsonl", default_value = "-", help_heading = "Streams")]
    pub inputs: Vec<Input>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub image: ImageOptions,
}

/// `parm-plot workers` and `parm-plot k`
#[derive(Args, Clone, Debug)]
pub struct Compared {
    /// The report
    #[arg(value_name = "COMPARE.json", default_value = "-", help_heading = "Streams")]
    pub input: Input,

    /// The score to draw
    #[arg(long, value_name = "SCORE", default_value = "A_all")]
    pub score: Score,

    /// Draw only these codes
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    pub codes: Vec<String>,

    /// Draw only these k
    #[arg(short, value_name = "K,…", value_delimiter = ',')]
    pub k: Vec<u32>,

    /// Draw only these numbers of lost workers
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub lost: Vec<u32>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub image: ImageOptions,
}

/// A score of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Score {
    /// Accuracy over all queries of a group
    #[value(name = "A_all")]
    All,
    /// Accuracy of reconstructions
    #[value(name = "A_d")]
    Degraded,
    /// Accuracy of available predictions
    #[value(name = "A_a")]
    Available,
    /// Share of reconstructions with the deployed model's own top-1
    #[value(name = "agreement")]
    Agreement,
}

impl Score {
    /// The word for it, which is its field in a report as well.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "A_all",
            Self::Degraded => "A_d",
            Self::Available => "A_a",
            Self::Agreement => "agreement",
        }
    }
}

/// The image that is written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Image")]
pub struct ImageOptions {
    /// Where to write: the name ends in .svg or .png
    #[arg(short, long, value_name = "IMAGE", default_value = "-", help_heading = "Streams")]
    pub output: Target,

    /// The kind of image, whatever the name [default: by the name; svg for '-']
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<ImageFormat>,

    /// The size in pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "840x520")]
    pub size: ImageSize,

    /// A title
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
}

/// A kind of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    /// Scalable, with text as text
    Svg,
    /// Pixels
    Png,
}

/// The size of an image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize {
    /// From left to right.
    pub width: u32,
    /// From top to bottom.
    pub height: u32,
}

impl ImageSize {
    /// The least that holds axes and a legend.
    pub const LEAST: Self = Self { width: 300, height: 200 };
    /// The most: a guard for memory.
    pub const MOST: Self = Self { width: 3000, height: 3000 };
}

impl FromStr for ImageSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (least, most) = (Self::LEAST, Self::MOST);
        text.split_once('x')
            .and_then(|(width, height)| {
                Some(Self { width: width.parse().ok()?, height: height.parse().ok()? })
            })
            .filter(|size| (least.width..=most.width).contains(&size.width))
            .filter(|size| (least.height..=most.height).contains(&size.height))
            .ok_or_else(|| format!("expected WIDTHxHEIGHT from {least} to {most}"))
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_width_by_height() {
        assert_eq!("840x520".parse(), Ok(ImageSize { width: 840, height: 520 }));
        for text in
            ["", "840", "840x", "x520", "840x520x3", "-840x520", "299x520", "840x199", "3001x520", "840x3001"]
        {
            let error = text.parse::<ImageSize>().unwrap_err();
            assert!(error.contains("from 300x200 to 3000x3000"), "{text}: {error}");
        }
    }

    #[test]
    fn scores_have_one_name() {
        for score in Score::value_variants() {
            assert_eq!(score.to_possible_value().unwrap().get_name(), score.name());
        }
    }
}
