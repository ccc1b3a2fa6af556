//! Strokes, markers and text on paper.
//!
//! Everything is drawn [`FINE`] times as large as it will be: the library's coordinates are whole
//! pixels, too coarse for small markers, and its lines have jagged edges, which averaging smooths.

use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figure::Look;

/// Units of the drawing in one pixel of the image.
pub(crate) const FINE: u32 = 4;

/// The name under which the font is registered; in SVG, any font without serifs.
pub(crate) const FONT: &str = "sans-serif";

/// Colors that the color-blind can tell apart, and of different lightness (Okabe and Ito, *Color
/// universal design*, 2008), without those that are faint on white paper.
pub(crate) const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(0, 0, 0),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Dashes and gaps in pixels, by turns; the first line is whole.
pub(crate) const DASHES: [&[u32]; 6] =
    [&[], &[8, 4], &[2, 3], &[10, 3, 2, 3], &[16, 5], &[10, 3, 2, 3, 2, 3]];

/// How lines are dashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dashing {
    /// Cut into pieces.
    Cut,
    /// Drawn whole, in a width that says which dashes it has: [`mark`].
    Marked,
}

/// The width of a whole line that stands for dashes number `dash`: no line is as wide.
pub(crate) fn mark(dash: usize) -> u32 {
    100_000 + dash as u32
}

/// Half the width of a marker, in pixels.
const MARKER: f64 = 4.5;
/// The width of a series' line, in units.
pub(crate) const LINE: u32 = FINE * 7 / 4;

/// Part of the paper.
pub(crate) type Area<DB> = DrawingArea<DB, Shift>;
/// What drawing gives.
pub(crate) type Drawn<DB, T = ()> = Result<T, DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;
/// A place on the paper, in units.
pub(crate) type Place = (i32, i32);

/// Pixels to units.
pub(crate) fn px(pixels: i32) -> i32 {
    pixels * FINE as i32
}

/// Text of a size in pixels.
pub(crate) fn font(size: i32) -> TextStyle<'static> {
    (FONT, px(size)).into_font().color(&BLACK)
}

/// Without control characters, which XML forbids.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Draws on an area, by the units of the whole image.
pub(crate) struct Pen<'a, DB: DrawingBackend> {
    pub(crate) area: &'a Area<DB>,
    pub(crate) dashing: Dashing,
}

impl<DB: DrawingBackend> Pen<'_, DB> {
    /// The width of a text, in units.
    pub(crate) fn width(&self, text: &str, size: i32) -> Drawn<DB, i32> {
        Ok(self.area.estimate_text_size(&clean(text), &font(size))?.0 as i32)
    }

    /// Writes text, or as much of its end as fits: the ends of paths differ more than their beginnings.
    pub(crate) fn text(&self, text: &str, size: i32, at: Place, anchor: HPos, width: i32) -> Drawn<DB> {
        let whole = clean(text);
        let mut fit = whole.clone();
        let mut cut = whole.chars();
        while self.width(&fit, size)? > width && cut.next().is_some() {
            fit = format!("…{}", cut.as_str());
        }
        self.area.draw(&Text::new(fit, at, font(size).pos(Pos::new(anchor, VPos::Center))))
    }

    /// Strokes a path in black, as wide as a pixel.
    pub(crate) fn stroke(&self, path: Vec<Place>) -> Drawn<DB> {
        self.area.draw(&PathElement::new(path, BLACK.stroke_width(FINE)))
    }

    pub(crate) fn line(&self, points: &[(i32, i32)], look: Look) -> Drawn<DB> {
        let color = COLORS[look.marker % COLORS.len()];
        let dash = look.dash % DASHES.len();
        if points.len() < 2 {
            return Ok(());
        }
        match self.dashing {
            Dashing::Marked => {
                self.area.draw(&PathElement::new(points.to_vec(), color.stroke_width(mark(dash))))
            }
            Dashing::Cut => cut(points, DASHES[dash])
                .into_iter()
                .try_for_each(|piece| self.area.draw(&PathElement::new(piece, color.stroke_width(LINE)))),
        }
    }

    pub(crate) fn interval(&self, low: (i32, i32), high: (i32, i32), look: Look) -> Drawn<DB> {
        let style = COLORS[look.marker % COLORS.len()].stroke_width(FINE);
        let cap = |(x, y): (i32, i32)| vec![(x - px(3), y), (x + px(3), y)];
        for path in [vec![low, high], cap(low), cap(high)] {
            self.area.draw(&PathElement::new(path, style))?;
        }
        Ok(())
    }

    /// Eight shapes, filled and open by turns.
    pub(crate) fn marker(&self, center: (i32, i32), look: Look) -> Drawn<DB> {
        let color = COLORS[look.marker % COLORS.len()];
        let at = |&(x, y): &(f64, f64)| {
            let unit = MARKER * f64::from(FINE);
            (center.0 + (x * unit).round() as i32, center.1 + (y * unit).round() as i32)
        };
        let shape = look.marker % SHAPES;
        let (strokes, filled): (&[&[(f64, f64)]], bool) = match shape {
            0 | 7 => {
                let radius = (MARKER * f64::from(FINE)) as i32;
                self.area.draw(&Circle::new(center, radius, color.filled()))?;
                if shape == 7 {
                    self.area.draw(&Circle::new(center, radius - LINE as i32, WHITE.filled()))?;
                }
                return Ok(());
            }
            1 => (&[&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]], false),
            2 => (&[&[(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)]], true),
            3 => (&[&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]], false),
            4 => (&[&[(-1.0, -1.0), (1.0, 1.0)], &[(-1.0, 1.0), (1.0, -1.0)]], true),
            5 => (&[&[(0.0, 1.15), (1.1, -0.85), (-1.1, -0.85)]], true),
            _ => (&[&[(0.0, -1.2), (0.0, 1.2)], &[(-1.2, 0.0), (1.2, 0.0)]], true),
        };
        for stroke in strokes {
            let mut path: Vec<(i32, i32)> = stroke.iter().map(at).collect();
            if path.len() == 2 {
                self.area.draw(&PathElement::new(path, color.stroke_width(LINE)))?;
                continue;
            }
            let inside = if filled { color } else { WHITE };
            self.area.draw(&Polygon::new(path.clone(), inside.filled()))?;
            path.push(path[0]);
            self.area.draw(&PathElement::new(path, color.stroke_width(LINE)))?;
        }
        Ok(())
    }
}

/// How many shapes of markers there are.
pub(crate) const SHAPES: usize = 8;

/// Cuts a path into dashes.
fn cut(points: &[(i32, i32)], dashes: &[u32]) -> Vec<Vec<(i32, i32)>> {
    if dashes.is_empty() {
        return vec![points.to_vec()];
    }
    let mut pieces = Vec::new();
    let mut lengths = dashes.iter().map(|&length| f64::from(length * FINE)).cycle();
    let (mut left, mut on) = (lengths.next().unwrap_or(f64::INFINITY), true);
    let mut piece = vec![points[0]];
    for pair in points.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let (length, mut done) = (dx.hypot(dy), 0.0);
        while length - done > left {
            done += left;
            let share = done / length;
            let at = (from.0 + (dx * share).round() as i32, from.1 + (dy * share).round() as i32);
            if on {
                piece.push(at);
                pieces.push(std::mem::take(&mut piece));
            }
            piece = vec![at];
            (left, on) = (lengths.next().unwrap_or(f64::INFINITY), !on);
        }
        left -= length - done;
        if on {
            piece.push(to);
        }
    }
    if on && piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_go_round_corners() {
        let fine = FINE as i32;
        let path = [(0, 0), (6 * fine, 0), (6 * fine, 10 * fine)];
        let pieces = cut(&path, &[8, 4]);
        let expected = [
            vec![(0, 0), (6 * fine, 0), (6 * fine, 2 * fine)],
            vec![(6 * fine, 6 * fine), (6 * fine, 10 * fine)],
        ];
        assert_eq!(pieces, expected);
        assert_eq!(cut(&path, &[]), [path.to_vec()]);
    }

    #[test]
    fn looks_do_not_repeat_soon() {
        let looks: std::collections::BTreeSet<_> =
            (0..40).map(|i| (i % COLORS.len(), i % SHAPES, i % DASHES.len())).collect();
        assert_eq!(looks.len(), 40);
    }
}
