//! Figures on paper: the axes, lines, markers and legends.
//!
//! Everything is drawn [`FINE`] times as large as it will be: the library's coordinates are whole
//! pixels, too coarse for small markers, and its lines have jagged edges, which averaging smooths.

use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::axis::Axis;
use crate::figure::{Figure, Look, Panel, Point, Series};

/// Units of the drawing in one pixel of the image.
pub(crate) const FINE: u32 = 4;

/// The name under which the font is registered; in SVG, any font without serifs.
pub(crate) const FONT: &str = "sans-serif";

/// Colors that the color-blind can tell apart, and of different lightness (Okabe and Ito, *Color
/// universal design*, 2008), without those that are faint on white paper.
const COLORS: [RGBColor; 7] = [
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
/// The length of a line in a legend, and its distance to the next, in pixels.
const SAMPLE: i32 = 34;
const LEGEND_LINE: i32 = 21;
/// The width of a series' line, in units.
pub(crate) const LINE: u32 = FINE * 7 / 4;
/// A legend's line has this distance to the border of its panel, in pixels.
const LEGEND_TOP: i32 = 20;
/// The most markers along a line.
const MOST_MARKERS: usize = 12;

type Area<DB> = DrawingArea<DB, Shift>;
type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;

/// Pixels to units.
fn px(pixels: i32) -> i32 {
    pixels * FINE as i32
}

fn font(size: i32) -> TextStyle<'static> {
    (FONT, px(size)).into_font().color(&BLACK)
}

/// The most series of a panel whose legend has room.
pub(crate) fn most_series(height: u32, panels: usize, title: bool) -> usize {
    let height = (height as i32 - if title { 34 } else { 0 }) / panels.max(1) as i32;
    ((height - LEGEND_TOP) / LEGEND_LINE).max(0) as usize
}

/// Draws a figure.
pub(crate) fn draw<DB: DrawingBackend>(
    root: &Area<DB>,
    figure: &Figure,
    title: Option<&str>,
    dashing: Dashing,
) -> Drawn<DB> {
    root.fill(&WHITE)?;
    let (width, _) = root.dim_in_pixel();
    let mut body = root.clone();
    if let Some(title) = title {
        let top;
        (top, body) = root.split_vertically(px(34));
        let style = font(19).pos(Pos::new(HPos::Center, VPos::Center));
        let title = fitting(root, title, &style, width - px(20) as u32)?;
        top.draw(&Text::new(title, (width as i32 / 2, px(19)), style))?;
    }
    let x = Axis::across(figure);
    let sheet = Sheet { root, dashing, legend: legend_width(root, figure, width)? };
    let last = figure.panels.len().saturating_sub(1);
    // The lowest panel has the name of the horizontal axis below it.
    let name = px(22);
    let each = (body.dim_in_pixel().1 as i32 - name) / (last as i32 + 1);
    let mut rest = body;
    for (i, panel) in figure.panels.iter().enumerate() {
        let area;
        // The last panel takes what is left: split beyond its height, it would leave the image.
        (area, rest) = if i == last { (rest.clone(), rest) } else { rest.split_vertically(each) };
        sheet.panel(&area, panel, &x, (i == last).then_some(figure.x_label.as_str()))?;
    }
    root.present()
}

/// The width that the legends need, up to half of the image.
fn legend_width<DB: DrawingBackend>(
    root: &Area<DB>,
    figure: &Figure,
    width: u32,
) -> Result<u32, DrawingAreaErrorKind<DB::ErrorType>> {
    let mut widest = 0;
    for series in figure.panels.iter().flat_map(|panel| &panel.series) {
        widest = widest.max(root.estimate_text_size(&clean(&series.name), &font(14))?.0);
    }
    Ok((widest + px(SAMPLE + 20) as u32).min(width / 2))
}

/// The text, or as much of its end as fits: the ends of paths differ more than their beginnings.
fn fitting<DB: DrawingBackend>(
    root: &Area<DB>,
    text: &str,
    style: &TextStyle<'_>,
    width: u32,
) -> Result<String, DrawingAreaErrorKind<DB::ErrorType>> {
    let whole = clean(text);
    let mut fit = whole.clone();
    let mut cut = whole.chars();
    while root.estimate_text_size(&fit, style)?.0 > width && cut.next().is_some() {
        fit = format!("…{}", cut.as_str());
    }
    Ok(fit)
}

/// Without control characters, which XML forbids.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

struct Sheet<'a, DB: DrawingBackend> {
    root: &'a Area<DB>,
    dashing: Dashing,
    legend: u32,
}

impl<DB: DrawingBackend> Sheet<'_, DB> {
    fn panel(&self, area: &Area<DB>, panel: &Panel, x: &Axis, x_label: Option<&str>) -> Drawn<DB> {
        let (plot, legend) = area.split_horizontally(area.dim_in_pixel().0 - self.legend);
        let mut chart = ChartBuilder::on(&plot)
            .margin_top(px(12))
            .margin_right(px(8))
            .margin_left(px(6))
            .margin_bottom(px(4))
            .set_label_area_size(LabelAreaPosition::Left, px(66))
            .set_label_area_size(LabelAreaPosition::Bottom, px(if x_label.is_some() { 46 } else { 24 }))
            .build_cartesian_2d(x.clone(), Axis::up(panel))?;
        chart
            .configure_mesh()
            .bold_line_style(RGBColor(220, 220, 220).stroke_width(FINE))
            .light_line_style(TRANSPARENT)
            .axis_style(BLACK.stroke_width(FINE))
            .label_style(font(14))
            .axis_desc_style(font(15))
            .x_desc(x_label.unwrap_or_default())
            .y_desc(panel.y_label.as_str())
            .set_all_tick_mark_size(px(4))
            .draw()?;
        let place = |x: f64, y: f64| chart.plotting_area().map_coordinate(&(x, y));
        for series in &panel.series {
            let at = |point: &Point| place(point.x, point.y);
            self.line(&series.points.iter().map(at).collect::<Vec<_>>(), series.look)?;
        }
        for (i, series) in panel.series.iter().enumerate() {
            for point in &series.points {
                if let Some((low, high)) = point.interval {
                    self.interval(place(point.x, low), place(point.x, high), series.look)?;
                }
            }
            for point in marked(series, i) {
                self.marker(place(point.x, point.y), series.look)?;
            }
        }
        self.legend(&legend, panel)
    }

    fn legend(&self, legend: &Area<DB>, panel: &Panel) -> Drawn<DB> {
        let (left, top) = legend.get_base_pixel();
        let style = font(14).pos(Pos::new(HPos::Left, VPos::Center));
        for (i, series) in (0..).zip(&panel.series) {
            let y = top + px(LEGEND_TOP + LEGEND_LINE * i);
            let (begin, end) = (left + px(4), left + px(4 + SAMPLE));
            self.line(&[(begin, y), (end, y)], series.look)?;
            self.marker((i32::midpoint(begin, end), y), series.look)?;
            let name = fitting(self.root, &series.name, &style, self.legend - px(SAMPLE + 14) as u32)?;
            self.root.draw(&Text::new(name, (end + px(6), y), style.clone()))?;
        }
        Ok(())
    }

    fn line(&self, points: &[(i32, i32)], look: Look) -> Drawn<DB> {
        let color = COLORS[look.marker % COLORS.len()];
        let dash = look.dash % DASHES.len();
        if points.len() < 2 {
            return Ok(());
        }
        match self.dashing {
            Dashing::Marked => {
                self.root.draw(&PathElement::new(points.to_vec(), color.stroke_width(mark(dash))))
            }
            Dashing::Cut => cut(points, DASHES[dash])
                .into_iter()
                .try_for_each(|piece| self.root.draw(&PathElement::new(piece, color.stroke_width(LINE)))),
        }
    }

    fn interval(&self, low: (i32, i32), high: (i32, i32), look: Look) -> Drawn<DB> {
        let style = COLORS[look.marker % COLORS.len()].stroke_width(FINE);
        let cap = |(x, y): (i32, i32)| vec![(x - px(3), y), (x + px(3), y)];
        for path in [vec![low, high], cap(low), cap(high)] {
            self.root.draw(&PathElement::new(path, style))?;
        }
        Ok(())
    }

    /// Eight shapes, filled and open by turns.
    fn marker(&self, center: (i32, i32), look: Look) -> Drawn<DB> {
        let color = COLORS[look.marker % COLORS.len()];
        let at = |&(x, y): &(f64, f64)| {
            let unit = MARKER * f64::from(FINE);
            (center.0 + (x * unit).round() as i32, center.1 + (y * unit).round() as i32)
        };
        let shape = look.marker % SHAPES;
        let (strokes, filled): (&[&[(f64, f64)]], bool) = match shape {
            0 | 7 => {
                let radius = (MARKER * f64::from(FINE)) as i32;
                self.root.draw(&Circle::new(center, radius, color.filled()))?;
                if shape == 7 {
                    self.root.draw(&Circle::new(center, radius - LINE as i32, WHITE.filled()))?;
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
                self.root.draw(&PathElement::new(path, color.stroke_width(LINE)))?;
                continue;
            }
            let inside = if filled { color } else { WHITE };
            self.root.draw(&Polygon::new(path.clone(), inside.filled()))?;
            path.push(path[0]);
            self.root.draw(&PathElement::new(path, color.stroke_width(LINE)))?;
        }
        Ok(())
    }
}

/// How many shapes of markers there are.
const SHAPES: usize = 8;

/// The points that get a marker: all, or some of many, at other places for each series.
fn marked(series: &Series, i: usize) -> impl Iterator<Item = &Point> {
    let every = series.points.len().div_ceil(MOST_MARKERS).max(1);
    series.points.iter().skip(i * 2 % every).step_by(every)
}

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
    fn long_lines_have_few_markers() {
        let points = |count: u32| (0..count).map(|x| Point { x: f64::from(x), y: 0.0, interval: None });
        for count in [1, 12, 13, 500] {
            let series = Series { name: String::new(), look: Look::of(0), points: points(count).collect() };
            for i in 0..20 {
                assert!((1..=MOST_MARKERS).contains(&marked(&series, i).count()), "{count} {i}");
            }
        }
    }

    #[test]
    fn looks_do_not_repeat_soon() {
        let looks: std::collections::BTreeSet<_> =
            (0..40).map(|i| (i % COLORS.len(), i % SHAPES, i % DASHES.len())).collect();
        assert_eq!(looks.len(), 40);
    }
}
