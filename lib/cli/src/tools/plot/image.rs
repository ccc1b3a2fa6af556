//! The options of the image.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::output::Target;
use crate::value::{ValueError, expected};

/// The image that is written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Image")]
pub struct ImageOptions {
    /// Where to write; the name ends in .svg or .png
    #[arg(short, long, value_name = "IMAGE", default_value = "-", help_heading = "Streams")]
    pub output: Target,

    /// The image format [default: from the name; svg for '-']
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
    const LEAST: Self = Self { width: 300, height: 200 };
    /// The most: a guard for memory.
    const MOST: Self = Self { width: 3000, height: 3000 };
}

impl FromStr for ImageSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (least, most) = (Self::LEAST, Self::MOST);
        text.split_once('x')
            .and_then(|(width, height)| {
                Some(Self { width: width.parse().ok()?, height: height.parse().ok()? })
            })
            .filter(|size| (least.width..=most.width).contains(&size.width))
            .filter(|size| (least.height..=most.height).contains(&size.height))
            .ok_or_else(|| expected(format!("WIDTHxHEIGHT from {least} to {most}")))
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
            let error = text.parse::<ImageSize>().unwrap_err().to_string();
            assert!(error.contains("from 300x200 to 3000x3000"), "{text}: {error}");
        }
    }
}
