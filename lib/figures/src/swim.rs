//! Draws timelines: a lane for each query and each instance over time.

use crate::axis::{Axis, Room};
use crate::figure::Scale;
use crate::pen::{LEGEND_LINE, Pen, SMALL, TEXT, stroke};
use crate::svg::{Anchor, NONE, Place, Stroke};
use crate::timeline::{Answer, Bar, End, Kind, Query, Timeline};

/// The least and the largest height of a lane.
const LANE: (f64, f64) = (18.0, 80.0);
const NOTE: f64 = 19.0;
const AXIS: f64 = 48.0;
/// The gap between queries and instances, and above the lanes.
const GAP: f64 = 12.0;
/// The width of a sample in the legend.
const SAMPLE: f64 = 26.0;
/// The width of hatching lines, and of lines from queries to answers.
const THIN: f64 = 1.5;

/// The number of lanes that a timeline needs, and that have room in this height.
pub(crate) fn lanes(timeline: &Timeline, height: f64) -> (usize, usize) {
    let notes = NOTE * timeline.notes.len() as f64;
    let legend = LEGEND_LINE * entries(timeline).len() as f64;
    let room = height - AXIS - notes - 3.0 * GAP;
    let needed = timeline.queries.len() + timeline.instances.len();
    (needed.max((legend / LANE.0) as usize), (room / LANE.0).max(0.0) as usize)
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
            Self::Bar(kind) => kind.name(),
            Self::Arrival => "query arrives",
            Self::Answer(answer) => answer.name(),
            Self::End(end) => end.name(),
        }
    }
}

/// The items that occur.
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

/// Draws a timeline below `top`.
pub(crate) fn draw(pen: &mut Pen, timeline: &Timeline, top: f64) {
    let (width, height) = pen.size;
    let entries = entries(timeline);
    let legend = pen.widest(entries.iter().map(|entry| entry.name())) + SAMPLE + 24.0;
    let legend = width - legend.min(width / 2.0);
    let queries = timeline.queries.iter().map(|query| format!("query {}", query.number));
    let instances = timeline.instances.iter().map(|instance| format!("instance {}", instance.number));
    let names: Vec<String> = queries.chain(instances).collect();
    let margin = (pen.widest(&names) + 16.0).min(width / 4.0);
    let x = (margin, legend - 8.0);
    let notes = NOTE * timeline.notes.len() as f64;
    let lanes = names.len().max(1) as f64;
    let lane = ((height - AXIS - notes - top - 3.0 * GAP) / lanes).clamp(1.0, LANE.1);
    let sheet = Sheet {
        x,
        axis: Axis::new(&Scale::Values, &[0.0, timeline.end], Room::across(x.1 - x.0)),
        lane,
        top: top + GAP,
        floor: (top + 3.0 * GAP + lane * lanes).floor() + 0.5,
        queries: timeline.queries.len(),
    };
    sheet.frame(pen, timeline);
    for (lane, name) in names.iter().enumerate() {
        pen.text(name, TEXT, (margin - 8.0, sheet.middle(lane)), Anchor::End, margin - 12.0);
    }
    for (i, instance) in timeline.instances.iter().enumerate() {
        // The calls of the group are drawn over all others.
        let mut calls: Vec<&Bar> = instance.calls.iter().collect();
        calls.sort_by_key(|bar| std::cmp::Reverse(bar.kind));
        for bar in calls {
            sheet.bar(pen, bar, sheet.middle(sheet.queries + i));
        }
    }
    for (lane, query) in timeline.queries.iter().enumerate() {
        sheet.query(pen, query, sheet.middle(lane));
    }
    self::legend(pen, &entries, (legend, sheet.top + 8.0));
    for (line, note) in (0..).zip(&timeline.notes) {
        let y = sheet.floor + AXIS + NOTE * (f64::from(line) + 0.5);
        pen.text(note, TEXT, (8.0, y), Anchor::Start, width - 16.0);
    }
}

/// The layout of lanes and times.
struct Sheet {
    axis: Axis,
    /// The left and the right end.
    x: Place,
    top: f64,
    /// The y of the axis.
    floor: f64,
    /// The height of a lane.
    lane: f64,
    /// The number of queries, whose lanes come first.
    queries: usize,
}

impl Sheet {
    fn at(&self, ms: f64) -> f64 {
        self.axis.place(ms, self.x.0, self.x.1)
    }

    /// The middle of a lane.
    fn middle(&self, lane: usize) -> f64 {
        let gap = if lane < self.queries { 0.0 } else { GAP };
        self.top + gap + self.lane * (lane as f64 + 0.5)
    }

    /// Draws the axis, and a line at each reconstruction.
    fn frame(&self, pen: &mut Pen, timeline: &Timeline) {
        let name = format!("ms since the first query of group {} arrived", timeline.group);
        pen.axis(&self.axis, (self.x.0, self.top), (self.x.1, self.floor), &name);
        for (lane, query) in timeline.queries.iter().enumerate() {
            if let Some((ms, Answer::Reconstructed)) = query.answer {
                let x = self.at(ms);
                pen.svg.lines(&[[(x, self.middle(lane)), (x, self.floor)]], stroke(pen.theme.ink, DOTTED));
            }
        }
    }

    fn query(&self, pen: &mut Pen, query: &Query, y: f64) {
        let (from, to) = (self.at(query.arrived), query.answer.map_or(self.x.1, |(ms, _)| self.at(ms)));
        pen.svg.lines(&[[(from, y), (to, y)]], Stroke::solid(pen.theme.ink, THIN));
        arrival(pen, (from, y));
        let Some((ms, answer)) = query.answer else { return };
        pen.marker((to, y), shape(answer), pen.theme.ink);
        let took = format!("{:.1} ms", ms - query.arrived);
        let (begin, width) = (to + 10.0, pen.font.width(&took, SMALL));
        if begin + width <= self.x.1 {
            pen.svg.rectangle((begin - 2.0, y - 6.0), (begin + width + 2.0, y + 6.0), pen.theme.paper);
            pen.text(&took, SMALL, (begin, y), Anchor::Start, f64::INFINITY);
        }
    }

    fn bar(&self, pen: &mut Pen, bar: &Bar, y: f64) {
        let half = self.lane * 0.3;
        let (from, to) = (self.at(bar.from), self.at(bar.to));
        block(pen, (from, y - half), (to, y + half), bar.kind, bar.end != End::Later);
        let width = pen.font.width(&bar.label, SMALL);
        if width + 8.0 <= to - from && !bar.label.is_empty() {
            let middle = f64::midpoint(from, to);
            if bar.kind != Kind::Deployed {
                let half = width / 2.0 + 3.0;
                pen.svg.rectangle((middle - half, y - 7.0), (middle + half, y + 7.0), pen.theme.paper);
            }
            pen.text(&bar.label, SMALL, (middle, y), Anchor::Middle, f64::INFINITY);
        }
        match bar.end {
            End::Failed if bar.kind != Kind::Other => pen.marker((to, y), CROSS, pen.theme.ink),
            End::Cancelled if bar.kind != Kind::Other => pen.marker((to, y), PLUS, pen.theme.ink),
            _ => {}
        }
    }
}

fn arrival(pen: &mut Pen, (x, y): Place) {
    pen.svg.lines(&[[(x, y - 6.0), (x, y + 6.0)]], Stroke::solid(pen.theme.ink, 2.0));
}

/// Draws the rectangle of a call, open at the right if its end is not in the image.
fn block(pen: &mut Pen, from: Place, to: Place, kind: Kind, closed: bool) {
    let (fill, ink) = match kind {
        Kind::Deployed | Kind::Copy => (pen.theme.filled, pen.theme.ink),
        Kind::Other => (pen.theme.pale, pen.theme.faint),
        _ => (pen.theme.paper, pen.theme.ink),
    };
    pen.svg.rectangle(from, to, fill);
    let (lines, color) = match kind {
        Kind::Deployed | Kind::Other => (Vec::new(), pen.theme.ink),
        Kind::Copy => (rungs(from, to, true), pen.theme.series[0]),
        Kind::Approximate => (rungs(from, to, false), pen.theme.series[4]),
        Kind::Parity => (slants(from, to, false), pen.theme.series[1]),
        Kind::Coded => (slants(from, to, true), pen.theme.series[2]),
    };
    if !lines.is_empty() {
        pen.svg.lines(&lines, Stroke::solid(color, THIN));
    }
    let (border, ink) = ([(to.0, from.1), from, (from.0, to.1), to], Stroke::solid(ink, 1.0));
    if closed {
        pen.svg.polygon(&border, NONE, ink);
    } else {
        pen.svg.lines(&[border], ink);
    }
}

/// Draws the legend.
fn legend(pen: &mut Pen, entries: &[Entry], (left, top): Place) {
    let (begin, end) = (left + 4.0, left + 4.0 + SAMPLE);
    for (i, &entry) in (0..).zip(entries) {
        let y = top + LEGEND_LINE * f64::from(i);
        let middle = (f64::midpoint(begin, end), y);
        match entry {
            Entry::Bar(kind) => block(pen, (begin, y - 7.0), (end, y + 7.0), kind, true),
            Entry::Arrival => arrival(pen, middle),
            Entry::Answer(answer) => pen.marker(middle, shape(answer), pen.theme.ink),
            Entry::End(End::Failed) => pen.marker(middle, CROSS, pen.theme.ink),
            Entry::End(_) => pen.marker(middle, PLUS, pen.theme.ink),
        }
        pen.text(entry.name(), TEXT, (end + 8.0, y), Anchor::Start, pen.size.0 - end - 8.0);
    }
}

/// The number of a pattern of dashes, and of shapes of markers.
const DOTTED: usize = 2;
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

/// Slanted lines that fill a rectangle.
fn slants((left, top): Place, (right, bottom): Place, falling: bool) -> Vec<[Place; 2]> {
    let height = bottom - top;
    let firsts = (0..).map(|i| left - height + 6.0 * f64::from(i)).take_while(|&x| x < right);
    let lines = firsts.map(|x| {
        let ends = [x.max(left), (x + height).min(right)];
        ends.map(|end| (end, if falling { top + (end - x) } else { bottom - (end - x) }))
    });
    lines.filter(|[from, to]| from.0 < to.0).collect()
}

/// Horizontal or vertical lines that fill a rectangle.
fn rungs((left, top): Place, (right, bottom): Place, level: bool) -> Vec<[Place; 2]> {
    let (begin, end) = if level { (top, bottom) } else { (left, right) };
    let lines = (1..).map(|i| begin + 4.0 * f64::from(i)).take_while(|&at| at < end);
    lines.map(|at| if level { [(left, at), (right, at)] } else { [(at, top), (at, bottom)] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hatches_stay_inside() {
        let (from, to) = ((10.0, 20.0), (333.0, 97.0));
        for lines in
            [slants(from, to, false), slants(from, to, true), rungs(from, to, true), rungs(from, to, false)]
        {
            assert!(lines.len() > 2);
            let inside = |&(x, y): &Place| (10.0..=333.0).contains(&x) && (20.0..=97.0).contains(&y);
            assert!(lines.iter().flatten().all(inside), "{lines:?}");
        }
        assert!(slants(from, from, false).is_empty());
    }
}
