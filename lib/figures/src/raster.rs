//! Renders SVG to PNG, and reads it for other formats.

use std::sync::Arc;

use anyhow::{Context, Result};
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::{Database, Source};
use resvg::usvg::{Options, Tree};

use crate::font;

/// The elements of an image, whose texts have the program's font only.
///
/// # Errors
/// Text that is not SVG.
pub(crate) fn tree(svg: &str) -> Result<Tree> {
    let mut fonts = Database::new();
    fonts.load_font_source(Source::Binary(Arc::new(font::bytes())));
    let options = Options { fontdb: Arc::new(fonts), ..Options::default() };
    Tree::from_str(svg, &options).context("cannot draw")
}

/// Renders an image of this size to PNG.
///
/// # Errors
/// Text that is not SVG.
pub(crate) fn render(svg: &str, width: u32, height: u32) -> Result<Vec<u8>> {
    let tree = tree(svg)?;
    let mut image = Pixmap::new(width, height).context("cannot draw: no such size")?;
    resvg::render(&tree, Transform::identity(), &mut image.as_mut());
    // The background is white, so that all pixels are opaque.
    let colors: Vec<u8> =
        image.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&colors)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::svg::{Anchor, Place, Stroke, Svg};

    const WIDTH: u32 = 120;
    const BLACK: &str = "#000000";

    /// Which pixels of a line of an image are dark.
    fn dark(draw: impl Fn(&mut Svg), y: usize) -> Vec<bool> {
        let size = (f64::from(WIDTH), 40.0);
        let mut svg = Svg::new(size, size, BLACK, "#ffffff");
        draw(&mut svg);
        let bytes = render(&svg.finish(), WIDTH, 40).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let line = pixels.chunks_exact(WIDTH as usize * 3).nth(y).unwrap();
        line.chunks_exact(3).map(|pixel| pixel.iter().all(|&channel| channel < 80)).collect()
    }

    #[test]
    fn lines_have_their_dashes() {
        let line: [Place; 2] = [(0.0, 20.5), (f64::from(WIDTH), 20.5)];
        let dashes =
            |dashes| dark(|svg| svg.lines(&[line], Stroke { dashes, ..Stroke::solid(BLACK, 1.0) }), 20);
        assert_eq!(dashes(&[]), [true; WIDTH as usize]);
        assert_eq!(dashes(&[8, 4]), [[true; 8].as_slice(), &[false; 4]].concat().repeat(10));
    }

    #[test]
    fn texts_are_drawn_with_the_programs_font_and_boxes_stand_for_what_it_lacks() {
        let count = |text: &str, anchor| {
            let line = dark(|svg| svg.text(text, 30.0, (60.0, 30.0), anchor), 20);
            let halves = line.split_at(60);
            [halves.0, halves.1].map(|half| half.iter().filter(|&&dark| dark).count())
        };
        let [left, right] = count("HH", Anchor::Start);
        assert!(left == 0 && (6..30).contains(&right), "{left} {right}");
        let [left, right] = count("HH", Anchor::End);
        assert!((6..30).contains(&left) && right == 0, "{left} {right}");
        let [left, right] = count("度", Anchor::Start);
        assert!(left == 0 && (2..10).contains(&right), "the sides of a box: {left} {right}");
    }
}
