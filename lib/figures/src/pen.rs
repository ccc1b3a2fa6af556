//! Draws lines, markers and texts of a chart.

use anyhow::Result;

use crate::axis::Axis;
use crate::figure::Look;
use crate::font::Font;
use crate::svg::{Anchor, Color, Place, Stroke, Svg};
use crate::theme::{COLORS, Theme};

/// The lengths of dashes and gaps in pixels; the first line is solid.
const DASHES: [&[u32]; 6] = [&[], &[8, 4], &[2, 3], &[10, 3, 2, 3], &[16, 5], &[10, 3, 2, 3, 2, 3]];

/// The number of marker shapes.
pub(crate) const SHAPES: usize = 8;
/// Half the width of a marker, in pixels.
const MARKER: f64 = 4.5;

/// The width of the line of a series, and a fine line.
const LINE: f64 = 1.75;
const FINE: f64 = 1.0;

/// The length of a tick.
pub(crate) const TICK: f64 = 4.0;

/// The sizes of texts.
pub(crate) const TEXT: f64 = 12.0;
pub(crate) const SMALL: f64 = 10.0;
pub(crate) const AXIS_NAME: f64 = 13.0;
const TITLE_TEXT: f64 = 16.0;

/// The height of a title, and of a line of a legend, in pixels.
pub(crate) const TITLE: f64 = 34.0;
pub(crate) const LEGEND_LINE: f64 = 21.0;

/// The distance of the base line below the middle of a capital letter, for each pixel of the text's size.
const HALF_CAPITAL: f64 = 0.36;

/// Draws on an image.
pub(crate) struct Pen {
    pub(crate) svg: Svg,
    pub(crate) font: Font,
    /// The size of the image, before it is scaled.
    pub(crate) size: Place,
    pub(crate) theme: &'static Theme,
    /// Whether points have hints, which viewers show when they are pointed at.
    pub(crate) hints: bool,
}

impl Pen {
    /// Draws an image of this size, in which all is larger by the factor `scale`.
    pub(crate) fn new(image: Place, scale: f64, theme: &'static Theme) -> Result<Self> {
        let size = (image.0 / scale, image.1 / scale);
        let svg = Svg::new(image, size, theme.ink, theme.paper);
        Ok(Self { svg, font: Font::new()?, size, theme, hints: false })
    }

    /// The line of axes.
    pub(crate) fn fine(&self) -> Stroke {
        Stroke::solid(self.theme.ink, FINE)
    }

    /// The grid lines at the ticks of an axis.
    pub(crate) fn grid(&self) -> Stroke {
        Stroke::solid(self.theme.grid, FINE)
    }

    /// The color of a series.
    pub(crate) fn color(&self, look: Look) -> Color {
        self.theme.series[look.marker % COLORS]
    }

    /// Writes the title, and returns the y below it.
    pub(crate) fn title(&mut self, title: Option<&str>) -> f64 {
        let Some(title) = title else { return 0.0 };
        let width = self.size.0;
        self.text(title, TITLE_TEXT, (width / 2.0, 17.0), Anchor::Middle, width - 20.0);
        TITLE
    }

    /// The width of the widest of these texts.
    pub(crate) fn widest<T: AsRef<str>>(&self, texts: impl IntoIterator<Item = T>) -> f64 {
        texts.into_iter().map(|text| self.font.width(text.as_ref(), TEXT)).fold(0.0, f64::max)
    }

    /// Writes text with its middle line through `at`, or as much of its end as fits.
    pub(crate) fn text(&mut self, text: &str, size: f64, (x, y): Place, anchor: Anchor, width: f64) {
        if text.is_empty() {
            return;
        }
        let (text, half) = (self.font.fitted(text, size, width), size * HALF_CAPITAL);
        let at = if anchor == Anchor::Upwards { (x + half, y) } else { (x, y + half) };
        self.svg.text(&text, size, at, anchor);
    }

    /// A horizontal axis below a rectangle, with labels, grid lines, and its name, if it has one.
    pub(crate) fn axis(&mut self, axis: &Axis, (left, top): Place, (right, bottom): Place, name: &str) {
        let (fine, grid) = (self.fine(), self.grid());
        for &tick in &axis.ticks {
            let x = axis.place(tick, left, right);
            self.svg.lines(&[[(x, top), (x, bottom)]], grid);
            self.svg.lines(&[[(x, bottom), (x, bottom + TICK)]], fine);
            self.text(&axis.label(tick), TEXT, (x, bottom + 12.5), Anchor::Middle, axis.room(right - left));
        }
        self.svg.lines(&[[(left, bottom), (right, bottom)]], fine);
        let middle = f64::midpoint(left, right);
        let room = 2.0 * middle.min(self.size.0 - middle);
        self.text(name, AXIS_NAME, (middle, bottom + 36.5), Anchor::Middle, room);
    }

    /// A line of a series.
    pub(crate) fn line(&mut self, points: &[Place], look: Look) {
        if points.len() > 1 {
            self.svg.lines(&[points], stroke(self.color(look), look.dash));
        }
    }

    /// A bar from a low to a high value.
    pub(crate) fn interval(&mut self, low: Place, high: Place, look: Look) {
        let cap = |(x, y): Place| [(x - 3.0, y), (x + 3.0, y)];
        self.svg.lines(&[[low, high], cap(low), cap(high)], Stroke::solid(self.color(look), FINE));
    }

    /// Eight shapes, filled and open in turn.
    pub(crate) fn marker(&mut self, (x, y): Place, shape: usize, color: Color) {
        let at = |(right, down): Place| (x + right * MARKER, y + down * MARKER);
        let (svg, stroke, paper) = (&mut self.svg, stroke(color, 0), self.theme.paper);
        let mut cross = |lines: [[Place; 2]; 2]| svg.lines(&lines.map(|line| line.map(at)), stroke);
        match shape % SHAPES {
            4 => cross([[(-1.0, -1.0), (1.0, 1.0)], [(-1.0, 1.0), (1.0, -1.0)]]),
            6 => cross([[(0.0, -1.2), (0.0, 1.2)], [(-1.2, 0.0), (1.2, 0.0)]]),
            0 => svg.circle((x, y), MARKER - LINE / 2.0, color, stroke),
            1 => svg.polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)].map(at), paper, stroke),
            2 => svg.polygon(&[(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)].map(at), color, stroke),
            3 => svg.polygon(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)].map(at), paper, stroke),
            5 => svg.polygon(&[(0.0, 1.15), (1.1, -0.85), (-1.1, -0.85)].map(at), color, stroke),
            _ => svg.circle((x, y), MARKER - LINE / 2.0, paper, stroke),
        }
    }
}

/// The line of a series.
pub(crate) fn stroke(color: Color, dash: usize) -> Stroke {
    Stroke { color, width: LINE, dashes: DASHES[dash % DASHES.len()] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_do_not_repeat_soon() {
        let looks: std::collections::BTreeSet<_> =
            (0..40).map(|i| (i % COLORS, i % SHAPES, i % DASHES.len())).collect();
        assert_eq!(looks.len(), 40);
    }
}
