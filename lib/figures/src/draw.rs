//! Charts: axes, series and legends.

use crate::axis::{Axis, Room, rounded};
use crate::figure::{Figure, Form, Note, Panel, Reference, Series};
use crate::pen::{AXIS_NAME, LEGEND_LINE, Pen, SMALL, TEXT, TICK};
use crate::svg::{Anchor, Place};

/// The length of a sample line in a legend.
const SAMPLE: f64 = 34.0;
/// The distance between the first line of a legend and the border of its panel.
const LEGEND_TOP: f64 = 20.0;
/// The height of the name of the horizontal axis.
const NAME: f64 = 22.0;
/// The width of a vertical axis in addition to its labels.
const LEFT: f64 = 34.0;
/// The height of the labels of the horizontal axis, and the margins at the other sides. The halves align the
/// axes, which are a pixel wide, with pixels.
const BELOW: f64 = 27.5;
const TOP: f64 = 12.5;
const RIGHT: f64 = 8.0;
/// The most markers along a line.
const MOST_MARKERS: usize = 12;
/// The most points of a line with hints.
const MOST_HINTS: usize = 60;

/// The most lines of a legend that have room in one of several panels within this height.
pub(crate) fn most_series(height: f64, panels: usize) -> usize {
    ((height / panels.max(1) as f64 - LEGEND_TOP) / LEGEND_LINE).max(0.0) as usize
}

/// Draws a figure below `top`.
pub(crate) fn draw(pen: &mut Pen, figure: &Figure, top: f64) {
    let (width, height) = pen.size;
    let legend = width - legend_width(pen, figure);
    let each = (height - top - NAME) / figure.panels.len().max(1) as f64;
    let up = |panel: &Panel| Axis::new(&panel.up, &panel.ys(), Room::up(each - TOP - BELOW));
    let ys: Vec<Axis> = figure.panels.iter().map(up).collect();
    let numbers = ys.iter().flat_map(|y| y.ticks.iter().map(|&tick| y.label(tick)));
    let (left, right) = (pen.widest(numbers).round() + LEFT + 0.5, legend - RIGHT);
    let x = Axis::new(&figure.across, &figure.xs(), Room::across(right - left));
    for (i, (panel, y)) in (0..).zip(figure.panels.iter().zip(&ys)) {
        let top = top + each * f64::from(i);
        let inside = Block { from: (left, top + TOP), to: (right, top + each - BELOW) };
        let sheet = Sheet { inside, x: &x, y };
        // The lowest panel has the name of the horizontal axis below it.
        let is_last = i as usize + 1 == figure.panels.len();
        sheet.axes(pen, if is_last { &figure.x_label } else { "" }, &panel.y_label);
        sheet.series(pen, panel);
        self::legend(pen, panel, (legend, top));
    }
}

/// The width that the legends need, up to half of the image.
fn legend_width(pen: &Pen, figure: &Figure) -> f64 {
    let names = figure.panels.iter().flat_map(|panel| {
        let reference = panel.reference.iter().map(|reference| &reference.name);
        panel.series.iter().map(|series| &series.name).chain(reference)
    });
    (pen.widest(names) + SAMPLE + 20.0).min(pen.size.0 / 2.0)
}

/// A panel, between its axes.
struct Sheet<'a> {
    inside: Block,
    x: &'a Axis,
    y: &'a Axis,
}

impl Sheet<'_> {
    fn place(&self, x: f64, y: f64) -> Place {
        let Block { from, to } = self.inside;
        (self.x.place(x, from.0, to.0), self.y.place(y, to.1, from.1))
    }

    /// Draws the axes with names, labels and grid lines.
    fn axes(&self, pen: &mut Pen, x_label: &str, y_label: &str) {
        let Block { from: (left, top), to: (right, bottom) } = self.inside;
        let (fine, grid) = (pen.fine(), pen.grid());
        for &tick in &self.y.ticks {
            let y = self.y.place(tick, bottom, top);
            pen.svg.lines(&[[(left, y), (right, y)]], grid);
            pen.svg.lines(&[[(left - TICK, y), (left, y)]], fine);
            pen.text(&self.y.label(tick), TEXT, (left - 8.0, y), Anchor::End, f64::INFINITY);
        }
        pen.axis(self.x, (left, top), (right, bottom), x_label);
        pen.svg.lines(&[[(left, top), (left, bottom)]], fine);
        let (middle, room) = (f64::midpoint(top, bottom), bottom - top + 2.0 * TOP);
        pen.text(y_label, AXIS_NAME, (10.0, middle), Anchor::Upwards, room);
    }

    /// Draws the reference, lines, intervals and markers, and notes if there is room.
    fn series(&self, pen: &mut Pen, panel: &Panel) {
        let Block { from: (left, top), to: (right, bottom) } = self.inside;
        if let Some(Reference { at, .. }) = panel.reference {
            let (y, fine) = (self.y.place(at, bottom, top), pen.fine());
            pen.svg.lines(&[[(left, y), (right, y)]], fine);
        }
        let count = panel.series.len();
        let series =
            || panel.series.iter().enumerate().map(|(i, series)| (i, self.x.aside(i, count), series));
        let places = |aside: f64, series: &Series| -> Vec<Place> {
            series.points.iter().map(|point| self.place(point.x + aside, point.y)).collect()
        };
        for (_, aside, series) in series().filter(|(.., series)| series.look.form != Form::Markers) {
            pen.line(&places(aside, series), series.look);
        }
        let mut taken = Vec::new();
        for (i, aside, series) in series() {
            let (places, color) = (places(aside, series), pen.color(series.look));
            for point in &series.points {
                if let Some((low, high)) = point.interval {
                    // An interval of a mean may reach beyond 1, where no share is.
                    let end = |y: f64| {
                        let (x, y) = self.place(point.x + aside, y);
                        (x, y.clamp(top, bottom))
                    };
                    pen.interval(end(low), end(high), series.look);
                }
            }
            if series.look.form == Form::Line {
                taken.extend(places.windows(2).map(|pair| Block::around(pair[0], pair[1], 2.0)));
            }
            for at in marked(&places, series.look.form, i) {
                pen.marker(at, series.look.marker, color);
                taken.push(Block::around(at, at, 5.0));
            }
        }
        for note in &panel.notes {
            self.note(pen, note, &mut taken);
        }
        if pen.hints {
            for (_, aside, series) in series() {
                self.hints(pen, series, aside);
            }
        }
    }

    /// Gives points a text to show: all points of a short series, some of a long one.
    fn hints(&self, pen: &mut Pen, series: &Series, aside: f64) {
        let every = series.points.len().div_ceil(MOST_HINTS).max(1);
        for point in series.points.iter().step_by(every) {
            let interval = point
                .interval
                .map_or(String::new(), |(low, high)| format!(" ({} to {})", rounded(low), rounded(high)));
            let (x, y) = (self.x.exact(point.x), self.y.exact(point.y));
            let place = self.place(point.x + aside, point.y);
            pen.svg.hint(place, &format!("{}: {x}, {y}{interval}", series.name));
        }
    }

    /// Writes a note beside its point, if there is room.
    fn note(&self, pen: &mut Pen, note: &Note, taken: &mut Vec<Block>) {
        let (x, y) = self.place(note.x, note.y);
        let (width, height) = (pen.font.width(&note.text, SMALL), 13.0);
        let sides = [(1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1)];
        let blocks = sides.map(|(right, down)| {
            let at = (x + f64::from(right) * (width / 2.0 + 7.0), y + f64::from(down) * 12.0);
            Block {
                from: (at.0 - width / 2.0, at.1 - height / 2.0),
                to: (at.0 + width / 2.0, at.1 + height / 2.0),
            }
        });
        let covers = |block: &Block| {
            let others: f64 = taken.iter().map(|other| block.shared(other)).sum();
            others + block.area() - block.shared(&self.inside)
        };
        // A corner may overlap other elements.
        let free = |block: &Block| covers(block) <= block.area() / 10.0;
        let best = blocks.into_iter().min_by(|a, b| covers(a).total_cmp(&covers(b)));
        if let Some(block) = best.filter(free) {
            let at = (block.from.0, f64::midpoint(block.from.1, block.to.1));
            pen.text(&note.text, SMALL, at, Anchor::Start, f64::INFINITY);
            taken.push(Block::around(block.from, block.to, 2.0));
        }
    }
}

/// The names of a panel's lines.
fn legend(pen: &mut Pen, panel: &Panel, (left, top): Place) {
    let (begin, end) = (left + 4.0, left + 4.0 + SAMPLE);
    let room = pen.size.0 - end - 10.0;
    let mut y = top + LEGEND_TOP + 0.5;
    for series in &panel.series {
        if series.look.form != Form::Markers {
            pen.line(&[(begin, y), (end, y)], series.look);
        }
        if series.look.form != Form::Line {
            let color = pen.color(series.look);
            pen.marker((f64::midpoint(begin, end), y), series.look.marker, color);
        }
        pen.text(&series.name, TEXT, (end + 6.0, y), Anchor::Start, room);
        y += LEGEND_LINE;
    }
    if let Some(reference) = &panel.reference {
        let fine = pen.fine();
        pen.svg.lines(&[[(begin, y), (end, y)]], fine);
        pen.text(&reference.name, TEXT, (end + 6.0, y), Anchor::Start, room);
    }
}

/// A rectangle.
#[derive(Clone, Copy)]
struct Block {
    from: Place,
    to: Place,
}

impl Block {
    /// The surroundings of a horizontal or vertical line.
    fn around(from: Place, to: Place, near: f64) -> Self {
        Self {
            from: (from.0.min(to.0) - near, from.1.min(to.1) - near),
            to: (from.0.max(to.0) + near, from.1.max(to.1) + near),
        }
    }

    fn area(&self) -> f64 {
        self.shared(self)
    }

    /// The area of the intersection.
    fn shared(&self, other: &Self) -> f64 {
        let side = |from: f64, to: f64| (to - from).max(0.0);
        side(self.from.0.max(other.from.0), self.to.0.min(other.to.0))
            * side(self.from.1.max(other.from.1), self.to.1.min(other.to.1))
    }
}

/// The points of series `i` with markers: all, or some of many, which differ between series.
pub(crate) fn marked(places: &[Place], form: Form, i: usize) -> Vec<Place> {
    match form {
        Form::Line => Vec::new(),
        Form::Markers => places.to_vec(),
        Form::Both => {
            let every = places.len().div_ceil(MOST_MARKERS).max(1);
            places.iter().skip(i * 2 % every).step_by(every).copied().collect()
        }
        Form::Steps => along(places, 64.0, 17.0 * (i % 4) as f64),
    }
}

/// Points along a path of steps at equal distances of `every` pixels.
fn along(path: &[Place], every: f64, first: f64) -> Vec<Place> {
    let mut places = path.first().filter(|_| path.len() == 1).copied().into_iter().collect::<Vec<_>>();
    let mut left = first;
    for pair in path.windows(2) {
        let ((x, y), (dx, dy)) = (pair[0], (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1));
        let length = dx.abs() + dy.abs();
        while left < length {
            places.push((x + dx.signum() * left.min(dx.abs()), y + dy.signum() * (left - dx.abs()).max(0.0)));
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
        let places = |count: i32| (0..count).map(|x| (f64::from(x), 0.0)).collect::<Vec<_>>();
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
        let path = [(0.0, 0.0), (10.0, 0.0), (10.0, 10.0), (13.0, 10.0)];
        assert_eq!(along(&path, 8.0, 4.0), [(4.0, 0.0), (10.0, 2.0), (10.0, 10.0)]);
        assert_eq!(along(&path[..1], 8.0, 4.0), [(0.0, 0.0)]);
        assert_eq!(along(&[], 8.0, 4.0), []);
    }

    #[test]
    fn blocks_share_what_both_cover() {
        let block = |from, to| Block { from, to };
        let one = block((0.0, 0.0), (10.0, 10.0));
        assert_eq!((one.area(), one.shared(&block((5.0, 8.0), (20.0, 20.0)))), (100.0, 10.0));
        assert_eq!(one.shared(&block((11.0, 0.0), (20.0, 10.0))), 0.0);
    }
}
