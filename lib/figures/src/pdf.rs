//! Renders SVG to PDF.

use anyhow::{Context, Result, anyhow};
use krilla::Document;
use krilla::geom::Size;
use krilla::page::PageSettings;
use krilla_svg::{SurfaceExt, SvgSettings};

use crate::raster;

/// Points of a PDF for each pixel: 72 and 96 an inch.
const POINTS: f32 = 0.75;

/// Renders an image of this size with the program's font only.
///
/// # Errors
/// Text that is not SVG.
pub(crate) fn render(svg: &str, width: u32, height: u32) -> Result<Vec<u8>> {
    let tree = raster::tree(svg)?;
    let size =
        Size::from_wh(width as f32 * POINTS, height as f32 * POINTS).context("cannot draw: no such size")?;
    let mut document = Document::new();
    let mut page = document.start_page_with(PageSettings::new(size));
    let mut surface = page.surface();
    surface.draw_svg(&tree, size, SvgSettings::default()).context("cannot draw")?;
    surface.finish();
    page.finish();
    document.finish().map_err(|error| anyhow!("cannot write the PDF: {error:?}"))
}
