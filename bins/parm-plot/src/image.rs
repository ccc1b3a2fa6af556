//! The bytes of an image.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use parm_cli::tools::plot::{ImageFormat, ImageOptions};

use crate::draw::{self, most_series};
use crate::figure::{Drawing, Panel};
use crate::pen::Pen;
use crate::{png, swim};

/// An image.
pub(crate) struct Image {
    /// The content of its file.
    pub(crate) bytes: Vec<u8>,
    /// Characters of its texts that the font lacks, which are drawn as boxes.
    pub(crate) missing: BTreeSet<char>,
}

/// Makes the file of an image.
///
/// # Errors
/// There is no room for all series or lanes.
pub(crate) fn make(drawing: &Drawing, options: &ImageOptions, format: ImageFormat) -> Result<Image> {
    let (size, title) = (options.size, options.title.as_deref());
    let mut pen = Pen::new((f64::from(size.width), f64::from(size.height)))?;
    let top = pen.title(title);
    let room = pen.size.1 - top;
    let (what, found, most) = match drawing {
        Drawing::Chart(figure) => {
            let lines = |panel: &Panel| panel.series.len() + usize::from(panel.reference.is_some());
            let found = figure.panels.iter().map(lines).max().unwrap_or(0);
            ("series", found, most_series(room, figure.panels.len()))
        }
        Drawing::Timeline(timeline) => {
            let (needed, most) = swim::lanes(timeline, room);
            ("lanes", needed, most)
        }
    };
    if found > most {
        bail!(
            "found {found} {what}, expected at most {most} in an image of {size}: select some, or see --size"
        );
    }
    match drawing {
        Drawing::Chart(figure) => draw::draw(&mut pen, figure, top),
        Drawing::Timeline(timeline) => swim::draw(&mut pen, timeline, top),
    }
    let Pen { svg, font, .. } = pen;
    let svg = svg.finish();
    match format {
        // Viewers of SVG have their own fonts.
        ImageFormat::Svg => Ok(Image { bytes: svg.into_bytes(), missing: BTreeSet::new() }),
        ImageFormat::Png => {
            // Only texts have characters beyond ASCII.
            let missing = svg.chars().filter(|&c| !c.is_ascii() && !font.has(c)).collect();
            Ok(Image { bytes: png::render(&svg, size.width, size.height)?, missing })
        }
    }
}
