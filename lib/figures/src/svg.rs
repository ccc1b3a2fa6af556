//! A small writer of SVG. Lengths and positions are pixels of the image.

use std::fmt::Write as _;

/// A position: from the left border, and from the upper one.
pub(crate) type Place = (f64, f64);

/// A color, as SVG writes it.
pub(crate) type Color = &'static str;

/// No fill.
pub(crate) const NONE: Color = "none";

/// The font and its substitutes; Verdana has the same widths.
const FONTS: &str = "DejaVu Sans, Verdana, sans-serif";

/// The style of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stroke {
    pub(crate) color: Color,
    pub(crate) width: f64,
    /// The lengths of dashes and gaps; empty for a solid line.
    pub(crate) dashes: &'static [u32],
}

impl Stroke {
    pub(crate) const fn solid(color: Color, width: f64) -> Self {
        Self { color, width, dashes: &[] }
    }
}

/// The anchor of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
    /// Its middle, with the text rotated upwards.
    Upwards,
}

/// An image, element by element.
pub(crate) struct Svg(String);

impl Svg {
    /// An empty image of a size, with the size that drawing assumes, and the colors of texts and background. Spaces
    /// are kept, since the widths of texts include them.
    pub(crate) fn new((width, height): Place, view: Place, ink: Color, paper: Color) -> Self {
        let mut svg = Self(String::new());
        let [right, down] = [view.0, view.1].map(number);
        svg.element(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {right} {down}\" font-family=\"{FONTS}\" fill=\"{ink}\" stroke-linejoin=\"round\" \
             xml:space=\"preserve\">"
        ));
        svg.rectangle((0.0, 0.0), view, paper);
        svg
    }

    /// The text of the file.
    pub(crate) fn finish(mut self) -> String {
        self.element(format_args!("</svg>"));
        self.0
    }

    fn element(&mut self, element: std::fmt::Arguments) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{element}");
    }

    /// Lines through points.
    pub(crate) fn lines<L: AsRef<[Place]>>(&mut self, lines: &[L], stroke: Stroke) {
        let data: String = lines.iter().map(|line| path(line.as_ref())).collect();
        self.element(format_args!("<path d=\"{data}\" fill=\"none\"{}/>", stroked(stroke)));
    }

    /// A polygon and its border.
    pub(crate) fn polygon(&mut self, corners: &[Place], fill: Color, border: Stroke) {
        let data = path(corners);
        self.element(format_args!("<path d=\"{data}Z\" fill=\"{fill}\"{}/>", stroked(border)));
    }

    /// A rectangle without a border.
    pub(crate) fn rectangle(&mut self, from: Place, to: Place, fill: Color) {
        let [x, y, width, height] = [from.0, from.1, to.0 - from.0, to.1 - from.1].map(number);
        self.element(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>"
        ));
    }

    /// A circle and its border.
    pub(crate) fn circle(&mut self, center: Place, radius: f64, fill: Color, border: Stroke) {
        let [x, y] = [center.0, center.1].map(number);
        let border = stroked(border);
        self.element(format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{fill}\"{border}/>"));
    }

    /// An invisible area around a point, with a text that viewers show when it is pointed at.
    pub(crate) fn hint(&mut self, center: Place, text: &str) {
        let ([x, y], text) = ([center.0, center.1].map(number), escaped(text));
        self.element(format_args!(
            "<circle class=\"point\" cx=\"{x}\" cy=\"{y}\" r=\"7\" fill=\"transparent\"><title>{text}</title></circle>"
        ));
    }

    /// A text of a size, on a base line through `at`.
    pub(crate) fn text(&mut self, text: &str, size: f64, at: Place, anchor: Anchor) {
        let ([x, y], text) = ([at.0, at.1].map(number), escaped(text));
        let place = match anchor {
            Anchor::Upwards => format!("transform=\"translate({x} {y}) rotate(-90)\""),
            _ => format!("x=\"{x}\" y=\"{y}\""),
        };
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle | Anchor::Upwards => "middle",
            Anchor::End => "end",
        };
        self.element(format_args!(
            "<text {place} font-size=\"{size}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }
}

/// The data of a path.
fn path(points: &[Place]) -> String {
    let places: Vec<String> = points.iter().map(|&(x, y)| format!("{},{}", number(x), number(y))).collect();
    format!("M{}", places.join(" "))
}

/// The attributes of a line.
fn stroked(Stroke { color, width, dashes }: Stroke) -> String {
    let mut attributes = format!(" stroke=\"{color}\" stroke-width=\"{width}\"");
    if !dashes.is_empty() {
        let lengths: Vec<String> = dashes.iter().map(u32::to_string).collect();
        let _ = write!(attributes, " stroke-dasharray=\"{}\"", lengths.join(" "));
    }
    attributes
}

/// A number, rounded to a tenth of a pixel. Adding 0 turns a negative zero into a positive one.
fn number(value: f64) -> String {
    ((value * 10.0).round() / 10.0 + 0.0).to_string()
}

/// Escapes text. Characters that XML forbids are replaced.
fn escaped(text: &str) -> String {
    let forbidden = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    let text = text.replace(forbidden, "\u{fffd}");
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_have_short_numbers_and_escaped_texts() {
        let mut svg = Svg::new((300.0, 200.0), (150.0, 100.0), "#000000", "#ffffff");
        let stroke = Stroke { color: "#000000", width: 1.75, dashes: &[8, 4] };
        svg.lines(&[[(0.0, 1.0 / 3.0), (-0.001, 2.5)], [(1e-9, 3.0), (4.0, 5.0)]], stroke);
        svg.polygon(&[(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)], NONE, Stroke::solid("#000000", 1.0));
        svg.text("a < \"b\" & \u{7}\u{ffff}", 12.0, (10.0, 20.126), Anchor::End);
        let text = svg.finish();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "<path d=\"M0,0.3 0,2.5M0,3 4,5\" fill=\"none\" stroke=\"#000000\" stroke-width=\"1.75\" stroke-dasharray=\"8 4\"/>",
                "<path d=\"M0,0 1,0 0,1Z\" fill=\"none\" stroke=\"#000000\" stroke-width=\"1\"/>",
                "<text x=\"10\" y=\"20.1\" font-size=\"12\" text-anchor=\"end\">a &lt; \"b\" &amp; \u{fffd}\u{fffd}</text>",
                "</svg>"
            ]
        );
    }
}
