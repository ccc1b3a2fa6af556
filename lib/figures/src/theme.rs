//! The colors of an image.

use parm_cli::tools::plot::ThemeOption;

use crate::svg::Color;

/// The number of colors of series.
pub(crate) const COLORS: usize = 7;

/// The colors of an image. Those of series can be told apart by the color-blind, and differ in lightness (Okabe and
/// Ito, *Color universal design*, 2008); those that are faint on the background are not used for lines.
#[derive(Debug)]
pub(crate) struct Theme {
    pub(crate) ink: Color,
    pub(crate) paper: Color,
    pub(crate) grid: Color,
    /// Borders, and areas, of what is less important.
    pub(crate) faint: Color,
    pub(crate) pale: Color,
    /// The area of a call.
    pub(crate) filled: Color,
    pub(crate) series: [Color; COLORS],
}

const BLACK: Color = "#000000";
const PALE: Color = "#f0f0f0";

const LIGHT: Theme = Theme {
    ink: BLACK,
    paper: "#ffffff",
    grid: "#dcdcdc",
    faint: "#969696",
    pale: PALE,
    filled: "#a6ceec",
    series: ["#0072b2", "#d55e00", "#009e73", BLACK, "#cc79a7", "#e69f00", "#56b4e9"],
};

const DARK: Theme = Theme {
    ink: PALE,
    paper: "#14171c",
    grid: "#3a3f47",
    faint: "#8c8c8c",
    pale: "#2a2e35",
    filled: "#1f4e79",
    series: ["#56b4e9", "#e69f00", "#009e73", PALE, "#cc79a7", "#f0e442", "#d55e00"],
};

/// The colors of a page, which defines them as variables, so that they follow its own theme.
const PAGE: Theme = Theme {
    ink: "var(--ink)",
    paper: "var(--paper)",
    grid: "var(--grid)",
    faint: "var(--faint)",
    pale: "var(--pale)",
    filled: "var(--filled)",
    series: [
        "var(--series-0)",
        "var(--series-1)",
        "var(--series-2)",
        "var(--series-3)",
        "var(--series-4)",
        "var(--series-5)",
        "var(--series-6)",
    ],
};

impl Theme {
    /// The theme of an image in a file.
    pub(crate) fn of(option: ThemeOption) -> &'static Self {
        match option {
            ThemeOption::Light => &LIGHT,
            ThemeOption::Dark => &DARK,
        }
    }

    /// The theme of an image within a page.
    pub(crate) fn page() -> &'static Self {
        &PAGE
    }
}

/// The colors of images within a page as variables of CSS, for a light page and for a dark one.
#[must_use]
pub fn page_variables() -> [String; 2] {
    [&LIGHT, &DARK].map(|theme| {
        let Theme { ink, paper, grid, faint, pale, filled, series } = theme;
        let series: Vec<String> = (0..).zip(series).map(|(at, color)| format!("--series-{at}: {color};")).collect();
        let series = series.join(" ");
        format!(
            "--ink: {ink}; --paper: {paper}; --grid: {grid}; --faint: {faint}; --pale: {pale}; --filled: {filled}; {series}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The relative luminance of a color (WCAG 2.2).
    fn luminance(color: Color) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&color[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(one: Color, other: Color) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn colors_stand_out_from_the_background() {
        for theme in [&LIGHT, &DARK] {
            assert!(contrast(theme.ink, theme.paper) > 12.0);
            for color in theme.series {
                assert!(contrast(color, theme.paper) > 2.2, "{color} on {}", theme.paper);
            }
        }
    }

    #[test]
    fn a_page_has_every_variable_of_its_theme() {
        for variables in page_variables() {
            let Theme { ink, paper, grid, faint, pale, filled, series } = Theme::page();
            for used in [ink, paper, grid, faint, pale, filled].into_iter().chain(series) {
                let name = used.trim_start_matches("var(").trim_end_matches(')');
                assert!(variables.contains(&format!("{name}: #")), "{name} in {variables}");
            }
        }
    }
}
