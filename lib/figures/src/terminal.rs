//! Draws charts with characters.

use std::fmt::Write as _;

use parm_cli::tools::plot::TermOption;
use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::layout::Rect;
use ratatui_core::style::Color;
use ratatui_core::symbols::Marker;
use ratatui_core::widgets::Widget;
use ratatui_widgets::canvas::{Canvas, Line};

use crate::axis::{Axis, Room};
use crate::draw::marked;
use crate::figure::{Figure, Form, Panel, Series};

/// The colors of series: those of terminals whose meaning a theme of the terminal keeps readable.
const COLORS: [Color; 6] =
    [Color::Blue, Color::Red, Color::Green, Color::Yellow, Color::Magenta, Color::Cyan];
/// The markers of series.
const MARKERS: [&str; 8] = ["●", "□", "▲", "◇", "x", "▼", "+", "○"];
/// The rows of a panel between its axes, if it is the only one, and if there are several.
const ROWS: [u16; 2] = [18, 10];
/// The rows of a panel for its name, its axis and the numbers there.
const AROUND: u16 = 3;
/// The room of a label of the horizontal axis.
const LABEL: f64 = 8.0;

/// How a chart is drawn with characters.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// The number of columns.
    pub columns: u16,
    /// The characters.
    pub characters: TermOption,
    /// Whether series have colors.
    pub colors: bool,
}

impl Terminal {
    /// Draws a chart, with a line break after each line.
    #[must_use]
    pub fn draw(self, figure: &Figure, title: Option<&str>) -> String {
        let rows = ROWS[usize::from(figure.panels.len() > 1)];
        let mut text = title.map(|title| format!("{title}\n")).unwrap_or_default();
        let up: Vec<Axis> = figure
            .panels
            .iter()
            .map(|panel| {
                Axis::new(
                    &panel.up,
                    &panel.ys(),
                    Room { length: f64::from(rows), least: 2.0, character: 0.0 },
                )
            })
            .collect();
        let widths =
            up.iter().flat_map(|axis| axis.ticks.iter().map(|&tick| axis.label(tick).chars().count()));
        let left = (widths.max().unwrap_or(0) as u16 + 1).min(self.columns / 3);
        let width = self.columns.saturating_sub(left + 1).max(8);
        let room = Room { length: f64::from(width), least: 2.0, character: 1.0 };
        let across = Axis::new(&figure.across, &figure.xs(), room);
        for (at, (panel, up)) in figure.panels.iter().zip(&up).enumerate() {
            let area = Rect::new(0, 0, left + 1 + width, rows + AROUND);
            let mut buffer = Buffer::empty(area);
            let inside = Rect::new(left + 1, 1, width, rows);
            self.panel(&mut buffer, inside, panel, &across, up);
            self.write(&mut text, &buffer);
            if at + 1 == figure.panels.len() {
                let indent = usize::from(left + 1)
                    + usize::from(width).saturating_sub(figure.x_label.chars().count()) / 2;
                let _ = writeln!(text, "{:indent$}{}", "", figure.x_label);
            }
            self.legend(&mut text, panel);
        }
        text
    }

    fn panel(self, buffer: &mut Buffer, inside: Rect, panel: &Panel, across: &Axis, up: &Axis) {
        buffer.set_stringn(0, 0, &panel.y_label, buffer.area.width.into(), Color::Reset);
        let (right, below) = (f64::from(inside.width), f64::from(inside.height));
        let place = |x: f64, y: f64| (across.place(x, 0.0, right - 1.0), up.place(y, 0.0, below - 1.0));
        let count = panel.series.len();
        let series =
            || panel.series.iter().enumerate().map(|(i, series)| (i, across.aside(i, count), series));
        let lines = |aside: f64, series: &Series| -> Vec<(f64, f64)> {
            series.points.iter().map(|point| place(point.x + aside, point.y)).collect()
        };
        let marker = match self.characters {
            TermOption::Braille => Marker::Braille,
            TermOption::Blocks => Marker::HalfBlock,
        };
        let canvas =
            Canvas::default().marker(marker).x_bounds([-0.5, right - 0.5]).y_bounds([-0.5, below - 0.5]);
        let draw = |context: &mut ratatui_widgets::canvas::Context<'_>| {
            if let Some(reference) = &panel.reference {
                let (_, y) = place(0.0, reference.at);
                context.draw(&Line::new(0.0, y, right - 1.0, y, Color::DarkGray));
            }
            for (_, aside, series) in series().filter(|(.., series)| series.look.form != Form::Markers) {
                for pair in lines(aside, series).windows(2) {
                    context.draw(&Line::new(pair[0].0, pair[0].1, pair[1].0, pair[1].1, color(series)));
                }
            }
            for (_, aside, series) in series() {
                for point in &series.points {
                    if let Some((low, high)) = point.interval {
                        let x = point.x + aside;
                        let ((x, low), (_, high)) = (place(x, low), place(x, high));
                        context.draw(&Line::new(x, low, x, high, color(series)));
                    }
                }
            }
        };
        canvas.paint(draw).render(inside, buffer);
        for (i, aside, series) in series() {
            // The distance of markers along steps is meant in pixels, of which a column has about eight.
            let places: Vec<(f64, f64)> =
                lines(aside, series).iter().map(|&(x, y)| (x * 8.0, y * 16.0)).collect();
            for (x, y) in marked(&places, series.look.form, i) {
                let (column, row) = ((x / 8.0).round() as u16, (below - 1.0 - y / 16.0).round() as u16);
                if column < inside.width && row < inside.height {
                    buffer.set_string(inside.x + column, inside.y + row, symbol(series), color(series));
                }
            }
        }
        axes(buffer, inside, across, up);
    }

    /// A line for each series.
    fn legend(self, text: &mut String, panel: &Panel) {
        for series in &panel.series {
            let symbol = if series.look.form == Form::Line { "─" } else { symbol(series) };
            let (on, off) = self.escapes(color(series));
            let _ = writeln!(text, "  {on}{symbol}{off} {}", series.name);
        }
        if let Some(reference) = &panel.reference {
            let _ = writeln!(text, "  ─ {}", reference.name);
        }
    }

    /// The lines of a buffer, without spaces at their ends.
    fn write(self, text: &mut String, buffer: &Buffer) {
        for row in buffer.content().chunks(buffer.area.width.into()) {
            let used = row.iter().rposition(|cell| cell.symbol() != " ").map_or(0, |last| last + 1);
            for cell in &row[..used] {
                self.cell(text, cell);
            }
            text.push('\n');
        }
    }

    fn cell(self, text: &mut String, cell: &Cell) {
        let (on, off) = self.escapes(cell.fg);
        let _ = write!(text, "{on}{}{off}", cell.symbol());
    }

    /// What switches a color on and off.
    fn escapes(self, color: Color) -> (&'static str, &'static str) {
        let on = match color {
            _ if !self.colors => "",
            Color::Blue => "\x1b[34m",
            Color::Red => "\x1b[31m",
            Color::Green => "\x1b[32m",
            Color::Yellow => "\x1b[33m",
            Color::Magenta => "\x1b[35m",
            Color::Cyan => "\x1b[36m",
            Color::DarkGray => "\x1b[90m",
            _ => "",
        };
        (on, if on.is_empty() { "" } else { "\x1b[0m" })
    }
}

fn color(series: &Series) -> Color {
    COLORS[series.look.marker % COLORS.len()]
}

fn symbol(series: &Series) -> &'static str {
    MARKERS[series.look.marker % MARKERS.len()]
}

/// The axes, left of a panel and below it.
fn axes(buffer: &mut Buffer, inside: Rect, across: &Axis, up: &Axis) {
    let (left, floor) = (inside.x - 1, inside.bottom());
    for row in inside.top()..floor {
        buffer.set_string(left, row, "│", Color::Reset);
    }
    for &tick in &up.ticks {
        let row = up.place(tick, f64::from(inside.height - 1), 0.0).round();
        if !(0.0..f64::from(inside.height)).contains(&row) {
            continue;
        }
        let (label, row) = (up.label(tick), inside.top() + row as u16);
        let fitted: String = label.chars().take(left.into()).collect();
        let begin = usize::from(left).saturating_sub(fitted.chars().count());
        buffer.set_string(begin as u16, row, &fitted, Color::Reset);
        buffer.set_string(left, row, "┤", Color::Reset);
    }
    buffer.set_string(left, floor, "└", Color::Reset);
    for column in inside.left()..inside.right() {
        buffer.set_string(column, floor, "─", Color::Reset);
    }
    let between = f64::from(inside.width) / across.ticks.len().max(1) as f64;
    for &tick in &across.ticks {
        let column = across.place(tick, 0.0, f64::from(inside.width - 1)).round();
        if !(0.0..f64::from(inside.width)).contains(&column) {
            continue;
        }
        let column = inside.left() + column as u16;
        buffer.set_string(column, floor, "┬", Color::Reset);
        let label: String = across.label(tick).chars().take(between.max(LABEL) as usize - 1).collect();
        let length = label.chars().count() as u16;
        let begin = column.saturating_sub(length / 2).min(inside.right().saturating_sub(length));
        buffer.set_string(begin, floor + 1, &label, Color::Reset);
    }
}
