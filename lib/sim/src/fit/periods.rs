//! Periods in which an instance is slow or down, from the calls that began in them.

use parm_workload::Time;

/// The least persistence of slowness from a call to the next one that is taken for periods.
const LEAST_PERSISTENCE: f64 = 0.1;

/// How many standard deviations it must be above that of independent times.
const DEVIATIONS: f64 = 5.0;

/// How many calls must be slow one after the other.
const LEAST_PAIRS: f64 = 10.0;

/// The bound above which calls count as slow, and how slowness persists: the correlation of "is slow" of a call with that
/// of the next one on the same instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bound {
    pub(super) above: f64,
    pub(super) persistence: f64,
}

/// The quotient of a bound that is tried and the one before it.
const STEP: f64 = 1.04;

/// The bound with the greatest persistence, of the times of the calls of each instance in their order, as multiples of
/// its median; none if slow calls do not follow each other more often than chance has it.
pub(super) fn bound(instances: &[Vec<f64>]) -> Option<Bound> {
    let calls = instances.iter().flatten().count();
    let most = instances.iter().flatten().copied().fold(0.0, f64::max);
    let bounds =
        std::iter::successors(Some(STEP), |bound| Some(bound * STEP)).take_while(|bound| *bound < most);
    let bounds = bounds.filter_map(|above| {
        let persistence = persistence(instances, above)?;
        Some(Bound { above, persistence })
    });
    let best = bounds.max_by(|one, other| one.persistence.total_cmp(&other.persistence))?;
    let chance = DEVIATIONS / (calls as f64).sqrt();
    (best.persistence >= LEAST_PERSISTENCE.max(chance)).then_some(best)
}

/// The correlation of "is above the bound" of neighbours; none if too few neighbours are both above it.
fn persistence(instances: &[Vec<f64>], above: f64) -> Option<f64> {
    let mut counts = [[0.0_f64; 2]; 2];
    for pair in instances.iter().flat_map(|times| times.windows(2)) {
        counts[usize::from(pair[0] > above)][usize::from(pair[1] > above)] += 1.0;
    }
    let [[neither, later], [earlier, both]] = counts;
    let product = (both + later) * (both + earlier) * (neither + later) * (neither + earlier);
    (both >= LEAST_PAIRS && product > 0.0).then(|| (both * neither - later * earlier) / product.sqrt())
}

/// Periods of instances.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Periods {
    /// Their number.
    pub(super) count: usize,
    /// Their length together, in ms.
    pub(super) ms: f64,
    /// The time of all instances in which they were seen, in ms.
    pub(super) observed_ms: f64,
}

impl Periods {
    /// Adds those of an instance, whose calls began at these times, in order; each says whether it was in a period.
    /// A period begins midway between the last call before it and its first one, and ends likewise.
    pub(super) fn add(&mut self, calls: impl Iterator<Item = (Time, bool)>) {
        let mut before: Option<(f64, bool)> = None;
        for (time, is_within) in calls {
            let ms = time as f64 / 1e6;
            let (last, was_within) = before.unwrap_or((ms, false));
            let past = ms - last;
            self.observed_ms += past;
            self.count += usize::from(is_within && !was_within);
            self.ms += past * f64::midpoint(f64::from(u8::from(was_within)), f64::from(u8::from(is_within)));
            before = Some((ms, is_within));
        }
    }

    /// The share of the time, and the mean length in ms; none without any.
    pub(super) fn share_and_length(&self) -> Option<[f64; 2]> {
        let share = self.ms / self.observed_ms;
        (self.count > 0 && share > 0.0 && share < 1.0).then(|| [share, self.ms / self.count as f64])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_have_their_share_and_length() {
        let mut periods = Periods::default();
        // A call each 10 ms; slow from 100 ms to 200 ms in each second.
        periods.add((0..1000).map(|call| (call * 10_000_000, (10..20).contains(&(call % 100)))));
        let [share, length] = periods.share_and_length().unwrap();
        assert_eq!((periods.count, length), (10, 100.0));
        assert!((share - 0.1).abs() < 1e-3, "{share}");
        assert_eq!(Periods::default().share_and_length(), None);
    }

    #[test]
    fn slow_calls_that_follow_each_other_have_a_bound_and_independent_ones_none() {
        let time = |call: u64| 0.94 + (call * 7 % 13) as f64 / 100.0;
        let runs = |slow: fn(u64) -> bool| {
            vec![(0..5000).map(|call| time(call) * if slow(call) { 3.0 } else { 1.0 }).collect::<Vec<f64>>()]
        };
        let Bound { above, persistence } = bound(&runs(|call| call % 100 < 5)).unwrap();
        assert!((1.06..2.82).contains(&above) && persistence > 0.7, "{above} {persistence}");
        // As many, spread evenly.
        assert_eq!(bound(&runs(|call| call % 20 == 3)), None);
        assert_eq!(bound(&[vec![1.0; 50]]), None);
    }
}
