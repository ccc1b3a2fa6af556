//! The options of the image.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::output::Target;
use crate::value::{ValueError, between, expected};

/// The image that is written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Image")]
pub struct ImageOptions {
    /// Where to write; the name ends in .svg, .png or .pdf
    #[arg(short, long, value_name = "IMAGE", default_value = "-", help_heading = "Streams")]
    pub output: Target,

    /// The image format [default: from the name; svg for '-']
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<ImageFormat>,

    /// The size in pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "840x520")]
    pub size: ImageSize,

    /// The size of texts, lines and markers, as a factor of the usual one
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = scale)]
    pub scale: f64,

    /// The colors
    #[arg(long, value_name = "THEME", default_value = "light")]
    pub theme: ThemeOption,

    /// A title
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,

    /// Replace a text in the names of series; may be given several times
    ///
    /// Names are those of the legend. Every occurrence of OLD is replaced; an OLD that occurs in no name is an error.
    #[arg(long, value_name = "OLD=NEW")]
    pub rename: Vec<Rename>,

    /// Also write the numbers that are drawn, as CSV
    #[arg(long, value_name = "FILE.csv")]
    pub data: Option<Target>,

    /// Draw with characters, for a terminal, instead of an image
    ///
    /// The drawing is as wide as the terminal, or 100 columns where there is none. Colors follow --color.
    #[arg(
        long,
        value_name = "CHARACTERS",
        num_args = 0..=1,
        default_missing_value = "braille",
        require_equals = true,
        conflicts_with_all = ["format", "size", "scale", "theme"]
    )]
    pub term: Option<TermOption>,
}

/// What a terminal draws with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TermOption {
    /// Braille: eight dots a character
    Braille,
    /// Half blocks: for fonts without Braille
    Blocks,
}

/// The colors of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ThemeOption {
    /// On white
    Light,
    /// On near-black
    Dark,
}

/// A text, and what replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The text that is looked for.
    pub old: String,
    /// What replaces it.
    pub new: String,
}

impl FromStr for Rename {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('=').filter(|(old, _)| !old.is_empty());
        let (old, new) = parts.ok_or_else(|| expected("OLD=NEW"))?;
        Ok(Self { old: old.to_owned(), new: new.to_owned() })
    }
}

fn scale(text: &str) -> Result<f64, ValueError> {
    between(text, 0.5..=4.0)
}

/// A kind of image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    /// Scalable, with text as text
    Svg,
    /// Pixels
    Png,
    /// A page of the size of the image, at 96 pixels an inch, with text as text
    Pdf,
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
    fn names_are_replaced_up_to_the_first_equals_sign() {
        let rename = |old: &str, new: &str| Ok(Rename { old: old.to_owned(), new: new.to_owned() });
        assert_eq!("a=b=c".parse(), rename("a", "b=c"));
        assert_eq!("a=".parse(), rename("a", ""));
        for text in ["", "a", "=b"] {
            assert!(text.parse::<Rename>().is_err(), "{text}");
        }
    }

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
