//! Axes: their range, and the round numbers that stand at them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::figure::{Figure, Panel};

/// The most numbers at an axis.
const MOST_TICKS: usize = 8;

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) logarithmic: bool,
    /// The numbers that stand at it.
    pub(crate) ticks: Vec<f64>,
    /// Digits after the point.
    digits: usize,
}

impl Axis {
    /// The horizontal axis: whole numbers. Few of them stand where the data are.
    pub(crate) fn across(figure: &Figure) -> Self {
        let xs = figure.xs();
        let (low, high) = (xs.first().copied().unwrap_or(0.0), xs.last().copied().unwrap_or(0.0));
        let margin = if low < high { (high - low) * 0.04 } else { 1.0 };
        let ticks = if xs.len() <= MOST_TICKS { xs } else { steps(low, high, step(low, high).max(1.0)) };
        Self { from: low - margin, to: high + margin, logarithmic: false, ticks, digits: 0 }
    }

    /// The vertical axis of a panel: logarithmic if its numbers allow it and span more than a factor
    /// of ten, and never beyond 0 and 1 for shares.
    pub(crate) fn up(panel: &Panel) -> Self {
        let points = panel.series.iter().flat_map(|series| &series.points);
        let values = points.flat_map(|point| {
            let (low, high) = point.interval.unwrap_or((point.y, point.y));
            [point.y, low, high]
        });
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
        if !panel.shares && low > 0.0 && high / low > 10.0 {
            return Self::logarithmic(low, high);
        }
        let margin = if low < high { (high - low) * 0.06 } else { (low.abs() * 0.1).max(0.01) };
        let (mut from, mut to) = (low - margin, high + margin);
        if panel.shares {
            (from, to) = (from.max(0.0), to.min(1.0));
        }
        let step = step(from, to);
        let digits = (-step.log10().floor()).clamp(0.0, 15.0) as usize;
        Self { from, to, logarithmic: false, ticks: steps(from, to, step), digits }
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        // Not the logarithm of the ratio, which may be infinite.
        let margin = (high.log10() - low.log10()) * 0.06;
        let (from, to) = (low.log10() - margin, high.log10() + margin);
        let decades = |every: i32, parts: &[f64]| {
            let all = (from.floor() as i32..=to.ceil() as i32).filter(|decade| decade % every == 0);
            let ticks = all.flat_map(|decade| parts.iter().map(move |part| part * power(decade)));
            ticks.filter(|tick| (from..=to).contains(&tick.log10())).collect::<Vec<_>>()
        };
        let finest = decades(1, &[1.0, 2.0, 5.0]);
        let every = (1..).map(|every| decades(every, &[1.0]));
        let ticks = std::iter::once(finest).chain(every).find(|ticks| ticks.len() <= MOST_TICKS);
        let (from, to) = (10_f64.powf(from), 10_f64.powf(to));
        Self { from, to, logarithmic: true, ticks: ticks.unwrap_or_default(), digits: 0 }
    }

    /// Where a value stands, by a measure of its own.
    fn position(&self, value: f64) -> f64 {
        if self.logarithmic { value.log10() } else { value }
    }
}

/// 10 to the n, as near as can be.
fn power(n: i32) -> f64 {
    format!("1e{n}").parse().unwrap_or(f64::NAN)
}

impl ValueFormatter<f64> for Axis {
    fn format(value: &f64) -> String {
        value.to_string()
    }

    fn format_ext(&self, value: &f64) -> String {
        match value.abs() {
            _ if !self.logarithmic => format!("{value:.*}", self.digits),
            1e-4..1e5 => value.to_string(),
            _ => format!("{value:e}"),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (begin, end): (i32, i32)) -> i32 {
        let (from, to) = (self.position(self.from), self.position(self.to));
        // Halves, so that the difference of huge values is finite.
        let share = (self.position(*value) / 2.0 - from / 2.0) / (to / 2.0 - from / 2.0);
        begin + (f64::from(end - begin) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // No lines between those at the numbers.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

/// A round step, so that not too many numbers stand between the two.
fn step(low: f64, high: f64) -> f64 {
    let least = ((high - low) / MOST_TICKS as f64).max(f64::MIN_POSITIVE);
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|part| part * decade).into_iter().find(|&step| step >= least).unwrap_or(least)
}

/// The multiples of `step` between the two.
fn steps(low: f64, high: f64, step: f64) -> Vec<f64> {
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let count = (last - first + 1.0).clamp(0.0, 1000.0) as usize;
    // Adding 0 makes a positive zero of a negative one.
    (0..count).map(|i| (first + i as f64) * step + 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Look, Point, Series};

    fn panel(shares: bool, values: &[f64]) -> Panel {
        let points = values.iter().zip(1..).map(|(&y, x)| Point { x: f64::from(x), y, interval: None });
        let series = Series { name: String::new(), look: Look::of(0), points: points.collect() };
        Panel { y_label: String::new(), shares, series: vec![series] }
    }

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.format_ext(tick)).collect()
    }

    #[test]
    fn shares_have_round_numbers_and_stay_between_0_and_1() {
        let axis = Axis::up(&panel(true, &[0.83, 0.97, 1.0]));
        assert_eq!(labels(&axis), ["0.85", "0.90", "0.95", "1.00"]);
        assert_eq!(axis.to, 1.0);
        let axis = Axis::up(&panel(true, &[0.0, 0.0]));
        assert_eq!(axis.from, 0.0);
        assert!(axis.to > 0.0 && !axis.ticks.is_empty());
        assert!(!Axis::up(&panel(true, &[0.001, 0.9])).logarithmic);
    }

    #[test]
    fn a_wide_loss_is_logarithmic() {
        let axis = Axis::up(&panel(false, &[0.02, 3.0]));
        assert!(axis.logarithmic);
        assert_eq!(labels(&axis), ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]);
        let axis = Axis::up(&panel(false, &[1e-9, 2e4]));
        assert!(labels(&axis).len() <= MOST_TICKS && labels(&axis).contains(&"1e-6".into()), "{axis:?}");
        assert!(!Axis::up(&panel(false, &[0.0, 3.0])).logarithmic);
        assert_eq!(
            labels(&Axis::up(&panel(false, &[-1.0, 2.0]))),
            ["-1.0", "-0.5", "0.0", "0.5", "1.0", "1.5", "2.0"]
        );
    }

    #[test]
    fn few_whole_numbers_stand_where_the_data_are() {
        let figure = |values: &[f64]| Figure { x_label: String::new(), panels: vec![panel(true, values)] };
        assert_eq!(labels(&Axis::across(&figure(&[0.5; 3]))), ["1", "2", "3"]);
        assert_eq!(labels(&Axis::across(&figure(&[0.5; 1]))), ["1"]);
        assert_eq!(labels(&Axis::across(&figure(&[0.5; 90])))[..3], ["20", "40", "60"]);
        // Nine epochs: no halves.
        assert_eq!(labels(&Axis::across(&figure(&[0.5; 9])))[..2], ["1", "2"]);
    }

    #[test]
    fn extremes_make_axes_too() {
        for values in [[1e-300, 1e300], [f64::MIN_POSITIVE, 1.0], [0.0, 0.0], [-1e300, 1e300], [7.0, 7.0]] {
            let axis = Axis::up(&panel(false, &values));
            assert!(axis.from < axis.to && axis.ticks.len() < 20, "{axis:?}");
            let _ = labels(&axis);
        }
    }
}
