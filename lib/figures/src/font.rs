//! The font of images: the widths of texts, and the available characters.

use anyhow::{Context, Result};
use skrifa::instance::{LocationRef, Size};
use skrifa::metrics::GlyphMetrics;
use skrifa::{FontRef, MetadataProvider, charmap::Charmap};

/// DejaVu Sans. It is part of the program, since a machine may have no fonts.
pub(crate) fn bytes() -> &'static [u8] {
    dejavu::sans::regular()
}

/// The font and the cache of widths.
pub(crate) struct Font {
    characters: Charmap<'static>,
    glyphs: GlyphMetrics<'static>,
    units_per_em: f64,
}

impl Font {
    pub(crate) fn new() -> Result<Self> {
        let font = FontRef::new(bytes()).context("the font")?;
        let (size, location) = (Size::unscaled(), LocationRef::default());
        let units_per_em = f64::from(font.metrics(size, location).units_per_em);
        Ok(Self { characters: font.charmap(), glyphs: font.glyph_metrics(size, location), units_per_em })
    }

    /// True if the font has a character; otherwise a box is drawn.
    pub(crate) fn has(&self, c: char) -> bool {
        self.characters.map(c).is_some()
    }

    /// The width of a text, in pixels.
    pub(crate) fn width(&self, text: &str, size: f64) -> f64 {
        text.chars().map(|c| self.advance(c, size)).sum()
    }

    fn advance(&self, c: char, size: f64) -> f64 {
        let glyph = self.characters.map(c).unwrap_or_default();
        f64::from(self.glyphs.advance_width(glyph).unwrap_or_default()) / self.units_per_em * size
    }

    /// The text, or as much of its end as fits, since the ends of paths differ more than their beginnings.
    pub(crate) fn fitted(&self, text: &str, size: f64, width: f64) -> String {
        if self.width(text, size) <= width {
            return text.to_owned();
        }
        let mut left = width - self.advance('…', size);
        let end = text.char_indices().rev().take_while(|&(_, c)| {
            left -= self.advance(c, size);
            left >= 0.0
        });
        format!("…{}", &text[end.last().map_or(text.len(), |(at, _)| at)..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_measured_and_keep_the_end_that_fits() {
        let font = Font::new().unwrap();
        // A digit of DejaVu Sans is 1303 of 2048 units wide.
        assert!((font.width("2048", 20.0) - 4.0 * 20.0 * 1303.0 / 2048.0).abs() < 1e-9);
        let text = "a/long/path/of/an/évaluation";
        for width in 0..300 {
            let fitted = font.fitted(text, 12.0, f64::from(width));
            let end = fitted.strip_prefix('…').unwrap_or(&fitted);
            assert!(text.ends_with(end));
            assert!(end.is_empty() || font.width(&fitted, 12.0) <= f64::from(width), "{fitted}");
        }
        assert_eq!(font.fitted(text, 12.0, 300.0), text);
        assert_eq!(font.fitted(text, 12.0, 0.0), "…");
        // Without a cache of characters this would take days.
        assert!(font.fitted(&"a".repeat(1 << 20), 12.0, 300.0).len() < 60);
    }

    #[test]
    fn the_font_has_greek_but_no_chinese() {
        let font = Font::new().unwrap();
        assert!(font.has('α') && font.has('…') && font.has('−') && !font.has('度'));
    }
}
