//! The bytes of an image.

use std::collections::BTreeSet;
use std::sync::Once;

use ab_glyph::{Font, FontRef, GlyphId};
use anyhow::{Context, Result, bail};
use parm_cli::tools::plot::{ImageFormat, ImageOptions, ImageSize};
use plotters::prelude::{BitMapBackend, DrawingBackend, IntoDrawingArea, SVGBackend};
use plotters::style::{FontStyle, register_font};

use crate::draw::{draw, most_series};
use crate::figure::{Drawing, Panel};
use crate::pen::{Area, DASHES, Dashing, Drawn, FINE, FONT, LINE, mark};
use crate::swim;

/// The font is part of the program: a bare machine has none.
static REGISTERED: Once = Once::new();

/// An image.
pub(crate) struct Image {
    /// The content of its file.
    pub(crate) bytes: Vec<u8>,
    /// Characters in its texts that the font has not: boxes stand for them.
    pub(crate) missing: BTreeSet<char>,
}

/// Makes the file of an image.
///
/// # Errors
/// More series or lanes than there is room for.
pub(crate) fn make(drawing: &Drawing, options: &ImageOptions, format: ImageFormat) -> Result<Image> {
    let (size, title) = (options.size, options.title.as_deref());
    let (what, found, most) = match drawing {
        Drawing::Chart(figure) => {
            let lines = |panel: &Panel| panel.series.len() + usize::from(panel.reference.is_some());
            let most = most_series(size.height, figure.panels.len(), title.is_some());
            ("series", figure.panels.iter().map(lines).max().unwrap_or(0), most)
        }
        Drawing::Timeline(timeline) => {
            let (needed, most) = swim::lanes(timeline, size.height, title.is_some());
            ("lanes", needed, most)
        }
    };
    if found > most {
        bail!(
            "found {found} {what}, expected at most {most} in an image of {size}: select some, or see --size"
        );
    }
    REGISTERED.call_once(|| drop(register_font(FONT, FontStyle::Normal, dejavu::sans::regular())));
    match format {
        // Who shows it has fonts of their own.
        ImageFormat::Svg => {
            Ok(Image { bytes: svg(drawing, title, size)?.into_bytes(), missing: BTreeSet::new() })
        }
        ImageFormat::Png => {
            let missing = missing(&svg(drawing, title, size)?)?;
            Ok(Image { bytes: png(drawing, title, size)?, missing })
        }
    }
}

/// The characters that the font has not, of a drawing as SVG. All its characters beyond ASCII are those of
/// its texts.
fn missing(svg: &str) -> Result<BTreeSet<char>> {
    let font = FontRef::try_from_slice(dejavu::sans::regular()).context("the font")?;
    let is_missing = |c: &char| !c.is_ascii() && font.glyph_id(*c) == GlyphId(0);
    Ok(svg.chars().filter(is_missing).collect())
}

fn put<DB: DrawingBackend>(
    root: &Area<DB>,
    drawing: &Drawing,
    title: Option<&str>,
    dashing: Dashing,
) -> Drawn<DB> {
    match drawing {
        Drawing::Chart(figure) => draw(root, figure, title, dashing),
        Drawing::Timeline(timeline) => swim::draw(root, timeline, title, dashing),
    }
}

fn svg(drawing: &Drawing, title: Option<&str>, size: ImageSize) -> Result<String> {
    let fine = (size.width * FINE, size.height * FINE);
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, fine).into_drawing_area();
    put(&root, drawing, title, Dashing::Marked).context("cannot draw")?;
    drop(root);
    // The library knows no dashes. Its own way, a path for each dash, would make the lines of large
    // files that nobody could edit. Text cannot match: its quotes are escaped.
    for (dash, lengths) in DASHES.iter().enumerate() {
        let lengths: Vec<String> = lengths.iter().map(|length| (length * FINE).to_string()).collect();
        let dashes = match lengths.join(" ") {
            lengths if lengths.is_empty() => lengths,
            lengths => format!(" stroke-dasharray=\"{lengths}\""),
        };
        let line = format!("stroke-width=\"{LINE}\" stroke-linejoin=\"round\"{dashes}");
        text = text.replace(&format!("stroke-width=\"{}\"", mark(dash)), &line);
    }
    let (from, to) = (format!("width=\"{}\" height=\"{}\"", fine.0, fine.1), (size.width, size.height));
    Ok(text.replacen(&from, &format!("width=\"{}\" height=\"{}\"", to.0, to.1), 1))
}

fn png(drawing: &Drawing, title: Option<&str>, size: ImageSize) -> Result<Vec<u8>> {
    let fine = (size.width * FINE, size.height * FINE);
    let mut pixels = vec![0; fine.0 as usize * fine.1 as usize * 3];
    let root = BitMapBackend::with_buffer(&mut pixels, fine).into_drawing_area();
    put(&root, drawing, title, Dashing::Cut).context("cannot draw")?;
    drop(root);
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.width, size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&averaged(&pixels, fine.0 as usize))?;
    writer.finish()?;
    Ok(bytes)
}

/// The mean of each square of [`FINE`] by [`FINE`] pixels; three bytes each, `width` of them a line.
fn averaged(pixels: &[u8], width: usize) -> Vec<u8> {
    let fine = FINE as usize;
    let mut out = Vec::with_capacity(pixels.len() / fine.pow(2));
    let mut sums = vec![0_u32; width / fine * 3];
    for lines in pixels.chunks_exact(width * 3 * fine) {
        sums.fill(0);
        for line in lines.chunks_exact(width * 3) {
            for (sums, square) in sums.chunks_exact_mut(3).zip(line.chunks_exact(3 * fine)) {
                for pixel in square.chunks_exact(3) {
                    sums.iter_mut().zip(pixel).for_each(|(sum, &byte)| *sum += u32::from(byte));
                }
            }
        }
        out.extend(sums.iter().map(|sum| (sum / FINE.pow(2)) as u8));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_averaged_by_channel() {
        let fine = FINE as usize;
        let line = [[9, 0, 200].repeat(fine), [30, 60, 90].repeat(fine)].concat();
        assert_eq!(averaged(&line.repeat(fine), 2 * fine), [9, 0, 200, 30, 60, 90]);
    }
}
