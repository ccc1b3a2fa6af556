//! How far to trust a rebuilt prediction.

use crate::dtype::Float;
use crate::task::Task;

/// The confidence in a rebuilt prediction of a task, from 0 to 1. Only logits say how sure they are: see
/// [`confidence`]. That of values, embeddings and boxes is 1/(1 + a), with the amplification a, and 0 if one is not
/// a number.
#[must_use]
pub fn confidence_of<T: Float>(task: Task, prediction: &[T], amplification: f64) -> f32 {
    match task {
        Task::Classify => confidence(prediction, amplification),
        _ if prediction.iter().any(|value| value.partial_cmp(value).is_none()) => 0.0,
        _ => (1.0 / (1.0 + amplification)) as f32,
    }
}

/// A score in [0, 1] of a rebuilt prediction: m/(m + a), with the margin m between the two largest
/// of its logits and the [amplification](super::Reconstruction::amplification) a of its
/// reconstruction. It grows with the margin, which is what tells right from wrong, and shrinks with
/// the errors that the loss lets in; a margin as large as they are scores ½.
///
/// It orders reconstructions; it is no probability before it is calibrated. 0 where the logits are
/// no numbers, or fewer than two.
#[must_use]
pub fn confidence<T: Float>(logits: &[T], amplification: f64) -> f32 {
    let Some([first, second]) = largest_two(logits) else { return 0.0 };
    let margin = first - second;
    // Infinite logits, or one class alone.
    if !margin.is_finite() || margin <= 0.0 {
        return 0.0;
    }
    (margin / (margin + amplification)) as f32
}

/// Values that are looked at side by side, so that the compiler uses vectors: to rebuild 1000 logits
/// takes half the time (`cargo bench -p parm-serving --bench coder`).
const LANES: usize = 16;

/// The two largest values; −∞ where there are fewer. None if one is not a number.
fn largest_two<T: Float>(values: &[T]) -> Option<[f64; 2]> {
    let least = T::from_f64(f64::NEG_INFINITY);
    let (mut first, mut second) = ([least; LANES], [least; LANES]);
    let mut is_number = [true; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut padded = [least; LANES];
    padded[..rest.len()].copy_from_slice(rest);
    for chunk in chunks.iter().chain([&padded]) {
        for lane in 0..LANES {
            let value = chunk[lane];
            let lower = if value > first[lane] { first[lane] } else { value };
            second[lane] = if lower > second[lane] { lower } else { second[lane] };
            first[lane] = if value > first[lane] { value } else { first[lane] };
            is_number[lane] &= value.partial_cmp(&value).is_some();
        }
    }
    let mut largest = [f64::NEG_INFINITY; 2];
    for value in first.into_iter().chain(second).map(T::to_f64) {
        if value > largest[0] {
            largest = [value, largest[0]];
        } else {
            largest[1] = largest[1].max(value);
        }
    }
    is_number.into_iter().all(|is| is).then_some(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_logits_the_amplification_alone_counts() {
        let logits = [3.0, 1.0];
        assert_eq!(confidence_of(Task::Classify, &logits, 1.5), confidence(&logits, 1.5));
        for task in [Task::Regress, Task::Embed, Task::Boxes] {
            assert_eq!(confidence_of(task, &[3.0, 1.0], 1.5), 0.4);
            assert_eq!(confidence_of(task, &[7.0], 0.0), 1.0);
            assert_eq!(confidence_of(task, &[7.0, f32::NAN], 1.0), 0.0);
        }
    }

    proptest! {
        #[test]
        fn the_largest_two_are_those_of_sorting(values in prop::collection::vec(-3.0_f32..3.0, 0..70)) {
            let mut sorted: Vec<f64> = values.iter().map(|&value| value.into()).collect();
            sorted.extend([f64::NEG_INFINITY; 2]);
            sorted.sort_by(|a, b| b.total_cmp(a));
            prop_assert_eq!(largest_two(&values), Some([sorted[0], sorted[1]]));
        }

        #[test]
        fn confidence_grows_with_the_margin_and_shrinks_with_the_loss(
            rest in prop::collection::vec(-9.0_f64..0.0, 1..6), margins in (0.0..20.0, 0.0..20.0),
            amplifications in (0.1..50.0, 0.1..50.0),
        ) {
            let score = |margin: f64, amplification: f64| {
                let mut logits = rest.clone();
                logits.push(logits.iter().copied().fold(f64::MIN, f64::max) + margin);
                confidence(&logits, amplification)
            };
            let score_of = score(margins.0, amplifications.0);
            prop_assert!((0.0..=1.0).contains(&score_of));
            prop_assert!((score(margins.1, amplifications.0) >= score_of) || margins.1 < margins.0);
            prop_assert!((score(margins.0, amplifications.1) <= score_of) || amplifications.1 < amplifications.0);
        }
    }

    #[test]
    fn what_is_no_number_is_not_trusted() {
        for logits in
            [&[f32::NAN, 1.0][..], &[1.0, f32::NAN], &[f32::INFINITY, 1.0], &[2.0, 2.0], &[3.0], &[]]
        {
            assert_eq!(confidence(logits, 1.0), 0.0, "{logits:?}");
        }
        assert_eq!(confidence(&[0.0_f32, 3.0, -1.0], 3.0), 0.5);
    }
}
