//! Charts on paper: axes, series and legends.

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::axis::{Axis, Room};
use crate::figure::{Figure, Form, Look, Note, Panel, Point, Reference, Scale};
use crate::pen::{Area, Dashing, Drawn, FINE, Pen, Place, font, px};

/// The length of a line in a legend, and its distance to the next, in pixels.
const SAMPLE: i32 = 34;
const LEGEND_LINE: i32 = 21;
/// A legend's line has this distance to the border of its panel, in pixels.
const LEGEND_TOP: i32 = 20;
/// The height of a title, in pixels.
const TITLE: i32 = 34;
/// The height of the name of the horizontal axis, in pixels.
const NAME: i32 = 22;
/// What the numbers at the axes need, percentiles more of it, and the margins at the other sides, in pixels.
const LEFT: (i32, i32) = (66, 6);
const PERCENTILES: i32 = 14;
const BELOW: (i32, i32) = (24, 4);
const TOP: i32 = 12;
const RIGHT: i32 = 8;
/// The most markers along a line.
const MOST_MARKERS: usize = 12;

/// The most lines of a legend that have room in a panel.
pub(crate) fn most_series(height: u32, panels: usize, title: bool) -> usize {
    let height = (height as i32 - if title { TITLE } else { 0 }) / panels.max(1) as i32;
    ((height - LEGEND_TOP) / LEGEND_LINE).max(0) as usize
}

/// White paper with a title; what is below the title.
pub(crate) fn paper<DB: DrawingBackend>(
    root: &Area<DB>,
    title: Option<&str>,
    dashing: Dashing,
) -> Drawn<DB, Area<DB>> {
    root.fill(&WHITE)?;
    let Some(title) = title else { return Ok(root.clone()) };
    let (width, body) = (root.dim_in_pixel().0 as i32, root.split_vertically(px(TITLE)).1);
    Pen { area: root, dashing }.text(title, 19, (width / 2, px(19)), HPos::Center, width - px(20))?;
    Ok(body)
}

/// Draws a figure.
pub(crate) fn draw<DB: DrawingBackend>(
    root: &Area<DB>,
    figure: &Figure,
    title: Option<&str>,
    dashing: Dashing,
) -> Drawn<DB> {
    let body = paper(root, title, dashing)?;
    let pen = Pen { area: root, dashing };
    let tails = figure.panels.iter().any(|panel| panel.up == Scale::Tail);
    let numbers = LEFT.0 + if tails { PERCENTILES } else { 0 };
    let sheet = Sheet { legend: legend_width(&pen, figure)?, numbers, pen };
    let last = figure.panels.len().saturating_sub(1);
    // The lowest panel has the name of the horizontal axis below it.
    let (width, height) = body.dim_in_pixel();
    let each = (height as i32 - px(NAME)) / (last as i32 + 1);
    let across = width as i32 - sheet.legend - px(numbers + LEFT.1 + RIGHT);
    let x = Axis::new(figure.across, &figure.xs(), Room::across(across / px(1)));
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
fn legend_width<DB: DrawingBackend>(pen: &Pen<'_, DB>, figure: &Figure) -> Drawn<DB, i32> {
    let mut widest = 0;
    for panel in &figure.panels {
        let reference = panel.reference.iter().map(|reference| &reference.name);
        for name in panel.series.iter().map(|series| &series.name).chain(reference) {
            widest = widest.max(pen.width(name, 14)?);
        }
    }
    Ok((widest + px(SAMPLE + 20)).min(pen.area.dim_in_pixel().0 as i32 / 2))
}

struct Sheet<'a, DB: DrawingBackend> {
    pen: Pen<'a, DB>,
    /// The width of the legends, in units.
    legend: i32,
    /// The width of the numbers at vertical axes, in pixels.
    numbers: i32,
}

impl<DB: DrawingBackend> Sheet<'_, DB> {
    fn panel(&self, area: &Area<DB>, panel: &Panel, x: &Axis, x_label: Option<&str>) -> Drawn<DB> {
        let (width, height) = area.dim_in_pixel();
        let (plot, legend) = area.split_horizontally(width as i32 - self.legend);
        let below = BELOW.0 + if x_label.is_some() { NAME } else { 0 };
        let room = Room::up(height as i32 / px(1) - TOP - BELOW.1 - below);
        let mut chart = ChartBuilder::on(&plot)
            .margin_top(px(TOP))
            .margin_right(px(RIGHT))
            .margin_left(px(LEFT.1))
            .margin_bottom(px(BELOW.1))
            .set_label_area_size(LabelAreaPosition::Left, px(self.numbers))
            .set_label_area_size(LabelAreaPosition::Bottom, px(below))
            .build_cartesian_2d(x.clone(), Axis::new(panel.up, &panel.ys(), room))?;
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
        if let Some(Reference { at, .. }) = panel.reference {
            self.pen.stroke(vec![place(x.from, at), place(x.to, at)])?;
        }
        for series in panel.series.iter().filter(|series| series.look.form != Form::Markers) {
            let at = |point: &Point| place(point.x, point.y);
            self.pen.line(&series.points.iter().map(at).collect::<Vec<_>>(), series.look)?;
        }
        let mut taken = Vec::new();
        for (i, series) in panel.series.iter().enumerate() {
            for point in &series.points {
                if let Some((low, high)) = point.interval {
                    self.pen.interval(place(point.x, low), place(point.x, high), series.look)?;
                }
            }
            let places: Vec<Place> = series.points.iter().map(|point| place(point.x, point.y)).collect();
            if series.look.form == Form::Line {
                taken.extend(places.windows(2).map(|pair| Block::around(pair[0], pair[1], px(2))));
            }
            for at in marked(&places, series.look.form, i) {
                self.pen.marker(at, series.look)?;
                taken.push(Block::around(at, at, px(5)));
            }
        }
        let from = place(x.from, f64::NAN).0;
        let paper = plot.get_pixel_range();
        let inside = Block { from: (from, paper.1.start), to: (paper.0.end, paper.1.end - px(below)) };
        for note in &panel.notes {
            self.note(note, place(note.x, note.y), &mut taken, &inside)?;
        }
        self.legend(&legend, panel)
    }

    /// Writes a note beside its place, if there is room.
    fn note(&self, note: &Note, (x, y): Place, taken: &mut Vec<Block>, inside: &Block) -> Drawn<DB> {
        let (width, height) = (self.pen.width(&note.text, 12)?, px(13));
        let sides = [(1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1)];
        let blocks = sides.map(|(right, down)| {
            let at = (x + right * (width / 2 + px(7)), y + down * px(12));
            Block { from: (at.0 - width / 2, at.1 - height / 2), to: (at.0 + width / 2, at.1 + height / 2) }
        });
        let covers = |block: &Block| {
            let others: i64 = taken.iter().map(|other| block.shared(other)).sum();
            others + block.area() - block.shared(inside)
        };
        // A corner may touch another thing.
        let free = |block: &Block| covers(block) <= block.area() / 10;
        let Some(block) = blocks.into_iter().min_by_key(covers).filter(free) else { return Ok(()) };
        let at = (block.from.0, i32::midpoint(block.from.1, block.to.1));
        self.pen.text(&note.text, 12, at, HPos::Left, width)?;
        taken.push(Block::around(block.from, block.to, px(2)));
        Ok(())
    }

    fn legend(&self, legend: &Area<DB>, panel: &Panel) -> Drawn<DB> {
        let (left, top) = legend.get_base_pixel();
        let (begin, end) = (left + px(4), left + px(4 + SAMPLE));
        let line = |i: i32| top + px(LEGEND_TOP + LEGEND_LINE * i);
        let write = |name: &str, y: i32| {
            self.pen.text(name, 14, (end + px(6), y), HPos::Left, self.legend - px(SAMPLE + 14))
        };
        for (i, series) in (0..).zip(&panel.series) {
            let (y, Look { form, .. }) = (line(i), series.look);
            if form != Form::Markers {
                self.pen.line(&[(begin, y), (end, y)], series.look)?;
            }
            if form != Form::Line {
                self.pen.marker((i32::midpoint(begin, end), y), series.look)?;
            }
            write(&series.name, y)?;
        }
        if let Some(reference) = &panel.reference {
            let y = line(panel.series.len() as i32);
            self.pen.stroke(vec![(begin, y), (end, y)])?;
            write(&reference.name, y)?;
        }
        Ok(())
    }
}

/// A rectangle, in units.
struct Block {
    from: Place,
    to: Place,
}

impl Block {
    /// What is so near to a line that is level or upright.
    fn around(from: Place, to: Place, near: i32) -> Self {
        Self {
            from: (from.0.min(to.0) - near, from.1.min(to.1) - near),
            to: (from.0.max(to.0) + near, from.1.max(to.1) + near),
        }
    }

    fn area(&self) -> i64 {
        self.shared(self)
    }

    /// The area of what both cover.
    fn shared(&self, other: &Self) -> i64 {
        let side = |from: i32, to: i32| i64::from((to - from).max(0));
        side(self.from.0.max(other.from.0), self.to.0.min(other.to.0))
            * side(self.from.1.max(other.from.1), self.to.1.min(other.to.1))
    }
}

/// Where series number `i` has markers: at all points, or at some of many, at other places for each
/// series.
fn marked(places: &[Place], form: Form, i: usize) -> Vec<Place> {
    match form {
        Form::Line => Vec::new(),
        Form::Markers => places.to_vec(),
        Form::Both => {
            let every = places.len().div_ceil(MOST_MARKERS).max(1);
            places.iter().skip(i * 2 % every).step_by(every).copied().collect()
        }
        Form::Steps => along(places, px(64), px(17) * (i as i32 % 4)),
    }
}

/// Places along a path of steps, `every` so many units.
fn along(path: &[Place], every: i32, first: i32) -> Vec<Place> {
    let mut places = path.first().filter(|_| path.len() == 1).copied().into_iter().collect::<Vec<_>>();
    let mut left = first;
    for pair in path.windows(2) {
        let ((x, y), (dx, dy)) = (pair[0], (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1));
        let length = dx.abs() + dy.abs();
        while left < length {
            places.push((x + dx.signum() * left.min(dx.abs()), y + dy.signum() * (left - dx.abs()).max(0)));
            left += every;
        }
        left -= length;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_have_few_markers() {
        let places = |count: i32| (0..count).map(|x| (x, 0)).collect::<Vec<_>>();
        for count in [1, 12, 13, 500] {
            for i in 0..20 {
                let markers = marked(&places(count), Form::Both, i).len();
                assert!((1..=MOST_MARKERS).contains(&markers), "{count} {i}");
            }
        }
        assert_eq!(marked(&places(500), Form::Markers, 3).len(), 500);
        assert_eq!(marked(&places(500), Form::Line, 3), []);
    }

    #[test]
    fn steps_have_markers_at_equal_distances_along_them() {
        let path = [(0, 0), (10, 0), (10, 10), (13, 10)];
        assert_eq!(along(&path, 8, 4), [(4, 0), (10, 2), (10, 10)]);
        assert_eq!(along(&path[..1], 8, 4), [(0, 0)]);
        assert_eq!(along(&[], 8, 4), []);
    }

    #[test]
    fn blocks_share_what_both_cover() {
        let block = |from, to| Block { from, to };
        let one = block((0, 0), (10, 10));
        assert_eq!((one.area(), one.shared(&block((5, 8), (20, 20)))), (100, 10));
        assert_eq!(one.shared(&block((11, 0), (20, 10))), 0);
    }
}
