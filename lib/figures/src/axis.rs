//! Axes: their range and their ticks.

use crate::figure::Scale;

/// The most intervals between the ticks of an axis.
const MOST_TICKS: usize = 8;

/// The lowest share that a tail is drawn to: P99.999.
pub(crate) const TAIL: f64 = 1e-5;

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// Its ends; for a logarithmic axis their logarithms, which are always finite.
    from: f64,
    to: f64,
    scale: Scale,
    logarithmic: bool,
    /// The values of its ticks.
    pub(crate) ticks: Vec<f64>,
    /// The decimals of tick labels.
    digits: usize,
}

/// The room of an axis for tick labels, in pixels or columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) length: f64,
    /// The least room of a label, and the room for each character.
    pub(crate) least: f64,
    pub(crate) character: f64,
}

impl Room {
    /// The room of a horizontal axis.
    pub(crate) fn across(length: f64) -> Self {
        Self { length, least: 8.0, character: 8.5 }
    }

    /// The room of a vertical axis.
    pub(crate) fn up(length: f64) -> Self {
        Self { length, least: 15.0, character: 0.0 }
    }
}

impl Axis {
    /// An axis for these values.
    pub(crate) fn new(scale: &Scale, values: &[f64], room: Room) -> Self {
        let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| {
            (low.min(value), high.max(value))
        });
        // There may be no values.
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        match scale {
            Scale::Names(names) => Self::names(names),
            Scale::Whole => Self::whole(low, high, values, room),
            Scale::Tail => Self::tail(low, room),
            Scale::Values if low > 0.0 && high / low > 10.0 => Self::logarithmic(low, high, room),
            Scale::Values | Scale::Shares => Self::linear(scale, low, high, room),
        }
    }

    /// A tick for each name.
    fn names(names: &[String]) -> Self {
        let ticks = (0..names.len()).map(|at| at as f64).collect();
        let to = names.len() as f64 - 0.5;
        Self { from: -0.5, to, scale: Scale::Names(names.to_vec()), logarithmic: false, ticks, digits: 0 }
    }

    /// Ticks at integers. Few integers are ticks at the data.
    fn whole(low: f64, high: f64, values: &[f64], room: Room) -> Self {
        let margin = if low < high { (high - low) * 0.04 } else { 1.0 };
        let (from, to) = (low - margin, high + margin);
        let axis = Self { from, to, scale: Scale::Whole, logarithmic: false, ticks: Vec::new(), digits: 0 };
        let steps = (2..=MOST_TICKS).rev().map(|most| steps(low, high, step(low, high, most).max(1.0)));
        axis.with(std::iter::once(values.to_vec()).chain(steps), room)
    }

    fn linear(scale: &Scale, low: f64, high: f64, room: Room) -> Self {
        let margin = if low < high { (high - low) * 0.06 } else { (low.abs() * 0.1).max(0.01) };
        let (mut from, mut to) = (low - margin, high + margin);
        if *scale == Scale::Shares {
            (from, to) = (from.max(0.0), to.min(1.0));
        }
        let axis = |most| {
            let step = step(from, to, most);
            let digits = (-step.log10().floor()).clamp(0.0, 15.0) as usize;
            Self { from, to, scale: scale.clone(), logarithmic: false, ticks: steps(from, to, step), digits }
        };
        let first = |axis: Self| Self { ticks: axis.ticks.into_iter().take(1).collect(), ..axis };
        let mut all = (2..=MOST_TICKS).rev().map(axis);
        all.find(|axis| axis.fits(room)).unwrap_or_else(|| first(axis(2)))
    }

    fn logarithmic(low: f64, high: f64, room: Room) -> Self {
        // The logarithm of the ratio might be infinite.
        let margin = (high.log10() - low.log10()) * 0.06;
        let (from, to) = (low.log10() - margin, high.log10() + margin);
        let decades = |every: i32, parts: &[f64]| {
            let all = (from.floor() as i32..=to.ceil() as i32).filter(|decade| decade % every == 0);
            let ticks = all.flat_map(|decade| parts.iter().map(move |part| part * power(decade)));
            ticks.filter(|tick| (from..=to).contains(&tick.log10())).collect::<Vec<_>>()
        };
        let fine = [&[1.0, 2.0, 5.0][..], &[1.0, 3.0]].map(|parts| decades(1, parts));
        let every = (1..=700).map(|every| decades(every, &[1.0]));
        let axis = Self { from, to, scale: Scale::Values, logarithmic: true, ticks: Vec::new(), digits: 0 };
        axis.with(fine.into_iter().chain(every), room)
    }

    /// Ticks at percentiles.
    fn tail(low: f64, room: Room) -> Self {
        let lowest = low.clamp(1e-12, 0.4) * 0.8;
        let decades = (1..).map(|decade| power(-decade)).take_while(|&share| share >= lowest);
        let ticks: Vec<f64> = std::iter::once(0.5).chain(decades).collect();
        let every = (1..=12).map(|every| ticks.iter().copied().step_by(every).collect());
        let from = lowest.log10();
        let axis =
            Self { from, to: 0.0, scale: Scale::Tail, logarithmic: true, ticks: Vec::new(), digits: 0 };
        axis.with(every, room)
    }

    /// Uses the first of several sets of ticks that has room.
    fn with(self, sets: impl Iterator<Item = Vec<f64>>, room: Room) -> Self {
        let mut sets = sets.map(|ticks| Self { ticks, ..self.clone() });
        sets.find(|axis| axis.fits(room)).unwrap_or(self)
    }

    /// True if the ticks are not too many, and their labels do not overlap.
    fn fits(&self, room: Room) -> bool {
        let label = |tick: f64| self.label(tick).chars().count() as f64 * room.character;
        let half = |tick: f64| f64::midpoint(label(tick), room.least);
        let apart = |pair: &[f64]| (self.share(pair[1]) - self.share(pair[0])).abs() * room.length;
        self.ticks.len() <= MOST_TICKS + 1
            && self.ticks.windows(2).all(|pair| apart(pair) >= half(pair[0]) + half(pair[1]))
    }

    /// The position of a value: 0 at the beginning, 1 at the end.
    fn share(&self, value: f64) -> f64 {
        let position = if self.logarithmic { value.log10() } else { value };
        // Halved, so that the difference of huge values is finite.
        (position / 2.0 - self.from / 2.0) / (self.to / 2.0 - self.from / 2.0)
    }

    /// The position of a value on an axis from `begin` to `end`, in pixels.
    pub(crate) fn place(&self, value: f64, begin: f64, end: f64) -> f64 {
        begin + (end - begin) * self.share(value)
    }

    /// The distance of series `i` among `count` from its x, so that those beside the same name do not cover each other.
    pub(crate) fn aside(&self, i: usize, count: usize) -> f64 {
        if !matches!(self.scale, Scale::Names(_)) {
            return 0.0;
        }
        (i as f64 - (count as f64 - 1.0) / 2.0) * (0.7 / count as f64).min(0.15)
    }

    /// The room of a label on an axis of a length. Numbers have as much as they need, names what there is.
    pub(crate) fn room(&self, length: f64) -> f64 {
        match &self.scale {
            Scale::Names(names) => (length / names.len() as f64 - 4.0).max(30.0),
            _ => f64::INFINITY,
        }
    }

    /// A value that need not be at a tick.
    pub(crate) fn exact(&self, value: f64) -> String {
        if matches!(self.scale, Scale::Names(_)) { self.label(value) } else { rounded(value) }
    }

    /// The label of a tick.
    pub(crate) fn label(&self, tick: f64) -> String {
        if let Scale::Names(names) = &self.scale {
            return names.get(tick as usize).cloned().unwrap_or_default();
        }
        match tick.abs() {
            _ if self.scale == Scale::Tail => percentile(tick),
            _ if !self.logarithmic => format!("{tick:.*}", self.digits),
            // The product of a part and a power has digits of its own: 0.30000000000000004.
            1e-4..1e5 => rounded(tick),
            _ => format!("{tick:e}"),
        }
    }
}

/// A value in four significant digits.
pub(crate) fn rounded(value: f64) -> String {
    format!("{value:.3e}").parse::<f64>().map_or_else(|_| value.to_string(), |value| value.to_string())
}

/// 10 to the n, rounded correctly.
fn power(n: i32) -> f64 {
    format!("1e{n}").parse().unwrap_or(f64::NAN)
}

/// The name of the percentile above which there is this share: P99 for 0.01.
fn percentile(share: f64) -> String {
    let nines = (-share.log10()).round() as usize;
    match nines {
        _ if share == 0.5 => "P50".to_owned(),
        0 | 1 => "P90".to_owned(),
        2 => "P99".to_owned(),
        _ => format!("P99.{}", "9".repeat(nines - 2)),
    }
}

/// A round step between ticks, so that there are not too many.
fn step(low: f64, high: f64, most: usize) -> f64 {
    let least = ((high / 2.0 - low / 2.0) / most as f64 * 2.0).max(f64::MIN_POSITIVE);
    let decade = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|part| part * decade).into_iter().find(|&step| step >= least).unwrap_or(least)
}

/// The multiples of `step` in a range.
fn steps(low: f64, high: f64, step: f64) -> Vec<f64> {
    let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
    let count = (last - first + 1.0).clamp(0.0, 1000.0) as usize;
    // Adding 0 turns a negative zero into a positive one.
    (0..count).map(|i| (first + i as f64) * step + 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(scale: &Scale, values: &[f64]) -> Axis {
        Axis::new(scale, values, Room::up(400.0))
    }

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn shares_have_round_numbers_and_stay_between_0_and_1() {
        let axis = up(&Scale::Shares, &[0.83, 0.97, 1.0]);
        assert_eq!(labels(&axis), ["0.85", "0.90", "0.95", "1.00"]);
        assert_eq!(axis.to, 1.0);
        let axis = up(&Scale::Shares, &[0.0, 0.0]);
        assert_eq!(axis.from, 0.0);
        assert!(axis.to > 0.0 && !axis.ticks.is_empty());
        assert!(!up(&Scale::Shares, &[0.001, 0.9]).logarithmic);
    }

    #[test]
    fn a_wide_loss_is_logarithmic() {
        let axis = up(&Scale::Values, &[0.02, 3.0]);
        assert!(axis.logarithmic);
        assert_eq!(labels(&axis), ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]);
        let axis = up(&Scale::Values, &[1e-9, 2e4]);
        assert!(labels(&axis).len() <= MOST_TICKS && labels(&axis).contains(&"1e-6".into()), "{axis:?}");
        assert_eq!(labels(&Axis::new(&Scale::Values, &[0.05, 3.0], Room::up(80.0)))[1], "0.3");
        assert!(!up(&Scale::Values, &[0.0, 3.0]).logarithmic);
        let axis = up(&Scale::Values, &[-1.0, 2.0]);
        assert_eq!(labels(&axis), ["-1.0", "-0.5", "0.0", "0.5", "1.0", "1.5", "2.0"]);
    }

    #[test]
    fn few_whole_numbers_stand_where_the_data_are() {
        let whole = |xs: &[f64]| labels(&Axis::new(&Scale::Whole, xs, Room::across(500.0)));
        let counted = |most: u32| (1..=most).map(f64::from).collect::<Vec<_>>();
        assert_eq!(whole(&counted(3)), ["1", "2", "3"]);
        assert_eq!(whole(&[1.0]), ["1"]);
        assert_eq!(whole(&counted(90))[..3], ["20", "40", "60"]);
        // Nine epochs: no halves.
        assert_eq!(whole(&counted(9))[..2], ["1", "2"]);
        // Two that stand too close for both.
        assert_eq!(whole(&[1.0, 1000.0, 1001.0]).len(), 5);
    }

    #[test]
    fn tails_are_numbered_by_percentiles_down_to_what_there_is() {
        assert_eq!(labels(&up(&Scale::Tail, &[1.0, 1e-4])), ["P50", "P90", "P99", "P99.9", "P99.99"]);
        assert_eq!(labels(&up(&Scale::Tail, &[1.0, 0.005])), ["P50", "P90", "P99"]);
        assert_eq!(labels(&up(&Scale::Tail, &[1.0])), ["P50"]);
        let low = Axis::new(&Scale::Tail, &[1e-5], Room::up(60.0));
        assert!(low.ticks.len() > 1 && low.ticks.len() < 5, "in a low panel some are left out: {low:?}");
    }

    #[test]
    fn numbers_of_a_short_axis_stand_apart() {
        for length in [60.0, 100.0, 200.0, 500.0] {
            for values in [[1000.0, 900_000.0], [100_000.0, 200_000.0], [0.001, 0.001_5]] {
                let axis = Axis::new(&Scale::Values, &values, Room::across(length));
                let width: usize = labels(&axis).iter().map(|label| label.len() * 8).sum();
                assert!(axis.ticks.len() < 2 || (width as f64) < length, "{length}: {axis:?}");
            }
        }
    }

    #[test]
    fn extremes_make_axes_too() {
        for values in [[1e-300, 1e300], [f64::MIN_POSITIVE, 1.0], [0.0, 0.0], [-1e300, 1e300], [7.0, 7.0]] {
            for scale in [Scale::Whole, Scale::Values, Scale::Tail] {
                let axis = up(&scale, &values);
                assert!(axis.from < axis.to && axis.ticks.len() < 20, "{axis:?}");
                let _ = labels(&axis);
                let places = values.map(|value| axis.place(value.max(f64::MIN_POSITIVE), 0.0, 400.0));
                assert!(places.iter().all(|place| place.is_finite()), "{places:?} on {axis:?}");
            }
        }
        let nothing = up(&Scale::Values, &[]);
        assert!(nothing.from < nothing.to);
    }
}
