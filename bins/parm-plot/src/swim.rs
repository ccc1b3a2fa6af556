//! Timelines on paper: a lane for each query and each instance, side by side in time.

use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::axis::{Axis, Room};
use crate::draw::paper;
use crate::figure::{Form, Look, Scale};
use crate::pen::{Area, COLORS, Dashing, Drawn, FINE, Pen, Place, SHAPES, px};
use crate::timeline::{Answer, Bar, End, Kind, Query, Timeline};

/// The heights of a lane, at least and at most; of a line of the legend and of a note; of the axis; of a
/// title; in pixels.
const LANE: (i32, i32) = (18, 80);
const LEGEND_LINE: i32 = 21;
const NOTE: i32 = 19;
const AXIS: i32 = 48;
const TITLE: i32 = 34;
/// Between queries and instances, and above all, in pixels.
const GAP: i32 = 12;
/// The width of a sample in the legend, in pixels.
const SAMPLE: i32 = 26;

const GREY: RGBColor = RGBColor(150, 150, 150);
const PALE: RGBColor = RGBColor(240, 240, 240);
const LIGHT_BLUE: RGBColor = RGBColor(166, 206, 236);

/// What a timeline needs, and what there is, in lanes.
pub(crate) fn lanes(timeline: &Timeline, height: u32, title: bool) -> (usize, usize) {
    let title = if title { TITLE } else { 0 };
    let notes = NOTE * timeline.notes.len() as i32;
    let legend = LEGEND_LINE * entries(timeline).len() as i32;
    let room = height as i32 - title - AXIS - notes - 3 * GAP;
    let needed = (timeline.queries.len() + timeline.instances.len()) as i32;
    (needed.max(legend / LANE.0) as usize, (room / LANE.0).max(0) as usize)
}

/// A line of the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Bar(Kind),
    Arrival,
    Answer(Answer),
    End(End),
}

impl Entry {
    fn name(self) -> &'static str {
        match self {
            Self::Bar(Kind::Deployed) => "deployed model",
            Self::Bar(Kind::Copy) => "deployed model, again",
            Self::Bar(Kind::Approximate) => "approximate model",
            Self::Bar(Kind::Parity) => "parity model",
            Self::Bar(Kind::Coded) => "coded query",
            Self::Bar(Kind::Other) => "for other queries",
            Self::Arrival => "query arrives",
            Self::Answer(Answer::Prediction) => "its prediction",
            Self::Answer(Answer::Reconstructed) => "rebuilt",
            Self::Answer(Answer::Approximate) => "approximated",
            Self::Answer(Answer::Default) => "default answer",
            Self::End(End::Failed) => "call failed",
            Self::End(End::Cancelled) => "call cancelled",
            Self::End(End::Answered | End::Later) => "",
        }
    }
}

/// What occurs.
fn entries(timeline: &Timeline) -> Vec<Entry> {
    let calls = || timeline.instances.iter().flat_map(|instance| &instance.calls);
    let bars = calls().map(|bar| Entry::Bar(bar.kind));
    let ends =
        calls().filter(|bar| matches!(bar.end, End::Failed | End::Cancelled)).map(|bar| Entry::End(bar.end));
    let answers = timeline.queries.iter().filter_map(|query| query.answer);
    let answers = answers.map(|(_, answer)| Entry::Answer(answer));
    let mut entries: Vec<Entry> = bars.chain([Entry::Arrival]).chain(answers).chain(ends).collect();
    entries.sort_unstable();
    entries.dedup();
    entries
}

/// Draws a timeline.
pub(crate) fn draw<DB: DrawingBackend>(
    root: &Area<DB>,
    timeline: &Timeline,
    title: Option<&str>,
    dashing: Dashing,
) -> Drawn<DB> {
    let body = paper(root, title, dashing)?;
    let pen = Pen { area: root, dashing };
    let ((left, top), (width, height)) = (body.get_base_pixel(), body.dim_in_pixel());
    let (right, bottom) = (left + width as i32, top + height as i32);
    let entries = entries(timeline);
    let mut legend = 0;
    for entry in &entries {
        legend = legend.max(pen.width(entry.name(), 14)?);
    }
    let legend = (legend + px(SAMPLE + 24)).min(width as i32 / 2);
    let names: Vec<String> = timeline
        .queries
        .iter()
        .map(|query| format!("query {}", query.number))
        .chain(timeline.instances.iter().map(|instance| format!("instance {}", instance.number)))
        .collect();
    let mut margin = 0;
    for name in &names {
        margin = margin.max(pen.width(name, 14)?);
    }
    let margin = (margin + px(16)).min(width as i32 / 4);
    let floor = bottom - px(AXIS + NOTE * timeline.notes.len() as i32);
    let lanes = names.len().max(1) as i32;
    let lane = ((floor - top - px(3 * GAP)) / lanes).clamp(px(1), px(LANE.1));
    let floor = floor.min(top + px(3 * GAP) + lane * lanes);
    let sheet = Sheet {
        x: (left + margin, right - legend - px(8)),
        axis: Axis::new(
            Scale::Values,
            &[0.0, timeline.end],
            Room::across((width as i32 - legend - margin) / px(1) - 8),
        ),
        lane,
        top: top + px(GAP),
        floor,
        pen,
    };
    sheet.frame(timeline)?;
    let queries = timeline.queries.len();
    for (lane, name) in names.iter().enumerate() {
        sheet.pen.text(
            name,
            14,
            (sheet.x.0 - px(8), sheet.middle(lane, queries)),
            HPos::Right,
            margin - px(12),
        )?;
    }
    for (i, instance) in timeline.instances.iter().enumerate() {
        let y = sheet.middle(queries + i, queries);
        // Those of the group stand before all others.
        let mut calls: Vec<&Bar> = instance.calls.iter().collect();
        calls.sort_by_key(|bar| std::cmp::Reverse(bar.kind));
        calls.into_iter().try_for_each(|bar| sheet.bar(bar, y))?;
    }
    for (lane, query) in timeline.queries.iter().enumerate() {
        sheet.query(query, sheet.middle(lane, queries))?;
    }
    sheet.legend(&entries, right - legend)?;
    for (line, note) in (0..).zip(&timeline.notes) {
        let y = floor + px(AXIS + NOTE * line + NOTE / 2);
        sheet.pen.text(note, 14, (left + px(8), y), HPos::Left, width as i32 - px(16))?;
    }
    root.present()
}

struct Sheet<'a, DB: DrawingBackend> {
    pen: Pen<'a, DB>,
    axis: Axis,
    /// From left to right.
    x: (i32, i32),
    top: i32,
    /// Where the axis stands.
    floor: i32,
    /// The height of a lane.
    lane: i32,
}

impl<DB: DrawingBackend> Sheet<'_, DB> {
    fn at(&self, ms: f64) -> i32 {
        self.axis.map(&ms, self.x)
    }

    /// The middle of a lane; the first ones are those of queries.
    fn middle(&self, lane: usize, queries: usize) -> i32 {
        let gap = if lane < queries { 0 } else { px(GAP) };
        self.top + gap + self.lane * lane as i32 + self.lane / 2
    }

    /// The axis, and a line where something was rebuilt.
    fn frame(&self, timeline: &Timeline) -> Drawn<DB> {
        let bottom = self.floor;
        for tick in self.axis.ticks.iter().filter(|&&tick| tick >= 0.0) {
            let x = self.at(*tick);
            let grid = RGBColor(220, 220, 220).stroke_width(FINE);
            self.pen.area.draw(&PathElement::new(vec![(x, self.top), (x, bottom)], grid))?;
            self.pen.stroke(vec![(x, bottom), (x, bottom + px(4))])?;
            let label = self.axis.format_ext(tick);
            self.pen.text(&label, 14, (x, bottom + px(13)), HPos::Center, px(100))?;
        }
        self.pen.stroke(vec![(self.x.0, bottom), (self.x.1, bottom)])?;
        let name = format!("ms since the first query of group {} arrived", timeline.group);
        let middle = i32::midpoint(self.x.0, self.x.1);
        self.pen.text(&name, 15, (middle, bottom + px(33)), HPos::Center, (self.x.1 - self.x.0) * 3 / 2)?;
        for (lane, query) in timeline.queries.iter().enumerate() {
            if let Some((ms, Answer::Reconstructed)) = query.answer {
                let (x, y) = (self.at(ms), self.middle(lane, timeline.queries.len()));
                self.pen.line(&[(x, y), (x, bottom)], Look { marker: 3, dash: 2, form: Form::Line })?;
            }
        }
        Ok(())
    }

    fn query(&self, query: &Query, y: i32) -> Drawn<DB> {
        let (from, to) = (self.at(query.arrived), query.answer.map_or(self.x.1, |(ms, _)| self.at(ms)));
        self.pen.area.draw(&PathElement::new(vec![(from, y), (to, y)], BLACK.stroke_width(FINE * 3 / 2)))?;
        self.arrival((from, y))?;
        let Some((ms, answer)) = query.answer else { return Ok(()) };
        self.mark((to, y), shape(answer))?;
        let took = format!("{:.1} ms", ms - query.arrived);
        let (begin, width) = (to + px(10), self.pen.width(&took, 12)?);
        if begin + width <= self.x.1 {
            let box_ = [(begin - px(2), y - px(6)), (begin + width + px(2), y + px(6))];
            self.pen.area.draw(&Rectangle::new(box_, WHITE.filled()))?;
            self.pen.text(&took, 12, (begin, y), HPos::Left, width)?;
        }
        Ok(())
    }

    fn arrival(&self, (x, y): Place) -> Drawn<DB> {
        let style = BLACK.stroke_width(FINE * 2);
        self.pen.area.draw(&PathElement::new(vec![(x, y - px(6)), (x, y + px(6))], style))
    }

    fn mark(&self, at: Place, shape: usize) -> Drawn<DB> {
        self.pen.marker(at, Look { marker: black(shape), dash: 0, form: Form::Markers })
    }

    fn bar(&self, bar: &Bar, y: i32) -> Drawn<DB> {
        let half = self.lane * 3 / 10;
        let (from, to) = (self.at(bar.from), self.at(bar.to));
        self.block((from, y - half), (to, y + half), bar.kind, bar.end != End::Later)?;
        let width = self.pen.width(&bar.label, 12)?;
        if width + px(8) <= to - from && !bar.label.is_empty() {
            let middle = i32::midpoint(from, to);
            if bar.kind != Kind::Deployed {
                let box_ = [(middle - width / 2 - px(3), y - px(7)), (middle + width / 2 + px(3), y + px(7))];
                self.pen.area.draw(&Rectangle::new(box_, WHITE.filled()))?;
            }
            self.pen.text(&bar.label, 12, (middle, y), HPos::Center, width)?;
        }
        match bar.end {
            End::Failed if bar.kind != Kind::Other => self.mark((to, y), CROSS),
            End::Cancelled if bar.kind != Kind::Other => self.mark((to, y), PLUS),
            _ => Ok(()),
        }
    }

    /// The rectangle of a call, open at its end if that is not drawn.
    fn block(&self, from: Place, to: Place, kind: Kind, closed: bool) -> Drawn<DB> {
        let (fill, ink) = match kind {
            Kind::Deployed | Kind::Copy => (LIGHT_BLUE, BLACK),
            Kind::Other => (PALE, GREY),
            _ => (WHITE, BLACK),
        };
        self.pen.area.draw(&Rectangle::new([from, to], fill.filled()))?;
        let (lines, color) = match kind {
            Kind::Deployed | Kind::Other => (Vec::new(), BLACK),
            Kind::Copy => (rungs(from, to, true), COLORS[0]),
            Kind::Approximate => (rungs(from, to, false), COLORS[4]),
            Kind::Parity => (slants(from, to, false), COLORS[1]),
            Kind::Coded => (slants(from, to, true), COLORS[2]),
        };
        for line in lines {
            self.pen.area.draw(&PathElement::new(line.to_vec(), color.stroke_width(FINE * 3 / 2)))?;
        }
        let mut border = vec![(to.0, from.1), from, (from.0, to.1), to];
        if closed {
            border.push((to.0, from.1));
        }
        self.pen.area.draw(&PathElement::new(border, ink.stroke_width(FINE)))
    }

    fn legend(&self, entries: &[Entry], left: i32) -> Drawn<DB> {
        for (i, entry) in (0..).zip(entries) {
            let y = self.top + px(8 + LEGEND_LINE * i);
            let (begin, end) = (left + px(4), left + px(4 + SAMPLE));
            let middle = (i32::midpoint(begin, end), y);
            match *entry {
                Entry::Bar(kind) => self.block((begin, y - px(7)), (end, y + px(7)), kind, true)?,
                Entry::Arrival => self.arrival(middle)?,
                Entry::Answer(answer) => self.mark(middle, shape(answer))?,
                Entry::End(End::Failed) => self.mark(middle, CROSS)?,
                Entry::End(_) => self.mark(middle, PLUS)?,
            }
            let room = self.pen.area.dim_in_pixel().0 as i32 - end - px(8);
            self.pen.text(entry.name(), 14, (end + px(8), y), HPos::Left, room)?;
        }
        Ok(())
    }
}

/// Shapes of markers.
const CROSS: usize = 4;
const PLUS: usize = 6;

fn shape(answer: Answer) -> usize {
    match answer {
        Answer::Prediction => 0,
        Answer::Reconstructed => 3,
        Answer::Approximate => 1,
        Answer::Default => 5,
    }
}

/// The number of the black marker of this shape: shapes and colors go round at different paces.
fn black(shape: usize) -> usize {
    (0..COLORS.len() * SHAPES)
        .find(|n| n % SHAPES == shape && COLORS[n % COLORS.len()] == BLACK)
        .unwrap_or(shape)
}

/// Slanted lines that fill a rectangle.
fn slants((left, top): Place, (right, bottom): Place, falling: bool) -> Vec<[Place; 2]> {
    let height = bottom - top;
    let first = left - height;
    let lines = (0..).map(|i| first + i * px(6)).take_while(|&x| x < right);
    lines
        .map(|x| {
            let ends = [x.max(left), (x + height).min(right)];
            ends.map(|end| (end, if falling { top + (end - x) } else { bottom - (end - x) }))
        })
        .filter(|[from, to]| from.0 < to.0)
        .collect()
}

/// Level or upright lines that fill a rectangle.
fn rungs((left, top): Place, (right, bottom): Place, level: bool) -> Vec<[Place; 2]> {
    let (begin, end) = if level { (top, bottom) } else { (left, right) };
    let lines = (1..).map(|i| begin + i * px(4)).take_while(|&at| at < end);
    lines.map(|at| if level { [(left, at), (right, at)] } else { [(at, top), (at, bottom)] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hatches_stay_inside() {
        let (from, to) = ((10, 20), (333, 97));
        for lines in
            [slants(from, to, false), slants(from, to, true), rungs(from, to, true), rungs(from, to, false)]
        {
            assert!(lines.len() > 2);
            let inside = |&(x, y): &Place| (10..=333).contains(&x) && (20..=97).contains(&y);
            assert!(lines.iter().flatten().all(inside), "{lines:?}");
        }
        assert!(slants(from, from, false).is_empty());
    }

    #[test]
    fn every_shape_has_a_black_marker() {
        for shape in 0..SHAPES {
            let number = black(shape);
            assert_eq!((number % SHAPES, COLORS[number % COLORS.len()]), (shape, BLACK));
        }
    }
}
