//! The bytes of an image.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use parm_cli::tools::plot::{ImageFormat, ImageOptions, ImageSize};

use crate::draw::{self, most_series};
use crate::figure::{Drawing, Panel};
use crate::pen::Pen;
use crate::theme::Theme;
use crate::{pdf, raster, swim};

/// An image.
#[derive(Debug)]
pub struct Image {
    /// The content of its file.
    pub bytes: Vec<u8>,
    /// Characters of its texts that the font lacks, which are drawn as boxes.
    pub missing: BTreeSet<char>,
}

/// Makes the file of an image.
///
/// # Errors
/// There is no room for all series or lanes.
pub fn image(drawing: &Drawing, options: &ImageOptions, format: ImageFormat) -> Result<Image> {
    let (size, title) = (options.size, options.title.as_deref());
    let mut pen = Pen::new(pixels(size), options.scale, Theme::of(options.theme))?;
    draw(&mut pen, drawing, title, size)?;
    let Pen { svg, font, .. } = pen;
    let svg = svg.finish();
    let render = match format {
        // Viewers of SVG have their own fonts.
        ImageFormat::Svg => return Ok(Image { bytes: svg.into_bytes(), missing: BTreeSet::new() }),
        ImageFormat::Png => raster::render,
        ImageFormat::Pdf => pdf::render,
    };
    // Only texts have characters beyond ASCII.
    let missing = svg.chars().filter(|&c| !c.is_ascii() && !font.has(c)).collect();
    Ok(Image { bytes: render(&svg, size.width, size.height)?, missing })
}

/// An SVG for a page, which has the colors of [`crate::page_variables`], and texts to show when points are pointed at.
///
/// # Errors
/// There is no room for all series or lanes.
pub fn page_svg(drawing: &Drawing, size: ImageSize) -> Result<String> {
    let mut pen = Pen::new(pixels(size), 1.0, Theme::page())?;
    pen.hints = true;
    draw(&mut pen, drawing, None, size)?;
    Ok(pen.svg.finish())
}

fn pixels(size: ImageSize) -> (f64, f64) {
    (f64::from(size.width), f64::from(size.height))
}

fn draw(pen: &mut Pen, drawing: &Drawing, title: Option<&str>, size: ImageSize) -> Result<()> {
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
            "found {found} {what}, expected at most {most} in an image of {size}: select some, or see --size and --scale"
        );
    }
    match drawing {
        Drawing::Chart(figure) => draw::draw(pen, figure, top),
        Drawing::Timeline(timeline) => swim::draw(pen, timeline, top),
    }
    Ok(())
}
