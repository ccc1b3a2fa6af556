//! Linear codes rebuild exactly: every k to 8, every r to 3, every pattern of losses, against the
//! definition solved by plain Gaussian elimination.

use nalgebra::DMatrix;
use parm::codes::{CodeError, CodeKind, Decoder, Decoding, LinearCode, Matrices, combine, combine_naive};
use proptest::prelude::*;

const K: usize = 8;
const R: usize = 3;

/// The specification: which lost predictions the equations P_j = Σ w_ji·x_i determine, by reduced
/// row echelon form, and what they are.
///
/// `answers` has the predictions and then the parity outputs; those that are not available are not
/// looked at.
fn solve_naively(code: &LinearCode, available: &[bool], answers: &[f64]) -> Vec<(usize, Option<f64>)> {
    let k = code.k();
    let lost: Vec<usize> = (0..k).filter(|&slot| !available[slot]).collect();
    let mut rows: Vec<Vec<f64>> = (0..code.r())
        .filter(|&j| available[k + j])
        .map(|j| {
            let w = code.weights(j);
            let known: f64 = (0..k).filter(|&i| available[i]).map(|i| w[i] * answers[i]).sum();
            lost.iter().map(|&i| w[i]).chain([answers[k + j] - known]).collect()
        })
        .collect();
    let mut pivots = Vec::new();
    let mut done = 0;
    for column in 0..lost.len() {
        let Some(best) =
            (done..rows.len()).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))
        else {
            break;
        };
        if rows[best][column].abs() < 1e-9 {
            continue;
        }
        rows.swap(done, best);
        let pivot = rows[done][column];
        rows[done].iter_mut().for_each(|x| *x /= pivot);
        let pivot_row = rows[done].clone();
        for row in (0..rows.len()).filter(|&row| row != done) {
            let times = rows[row][column];
            rows[row].iter_mut().zip(&pivot_row).for_each(|(x, p)| *x -= times * p);
        }
        pivots.push(column);
        done += 1;
    }
    // A lost prediction is determined when its row of the reduced form has no other unknown.
    let free = |column: &usize| !pivots.contains(column);
    lost.iter()
        .enumerate()
        .map(|(column, &slot)| {
            let row = pivots.iter().position(|&pivot| pivot == column);
            let row =
                row.filter(|&row| (0..lost.len()).filter(free).all(|other| rows[row][other].abs() < 1e-9));
            (slot, row.map(|row| rows[row][lost.len()]))
        })
        .collect()
}

/// All 2^n patterns of n losses.
fn patterns(n: usize) -> impl Iterator<Item = Vec<bool>> {
    (0..1_usize << n).map(move |bits| (0..n).map(|i| bits & (1 << i) != 0).collect())
}

fn available(pattern: &[bool]) -> Vec<bool> {
    pattern.iter().map(|lost| !lost).collect()
}

/// The predictions of a linear F, one class wide, and the parity outputs that follow from them.
fn answers(code: &LinearCode, predictions: &[f64]) -> Vec<f64> {
    let parities = (0..code.r())
        .map(|j| code.weights(j).iter().zip(predictions).map(|(w, x)| w * x).sum())
        .collect::<Vec<f64>>();
    [predictions.to_vec(), parities].concat()
}

fn rebuild(decoding: &Decoding, answers: &[f64]) -> Vec<(usize, f64)> {
    let value = |terms: &[(usize, f64)]| terms.iter().map(|&(at, c)| c * answers[at]).sum();
    decoding.rebuilt.iter().map(|rebuilt| (rebuilt.slot, value(&rebuilt.terms))).collect()
}

/// Rounding errors of f64, amplified by the system that is solved.
fn tolerance(decoding: &Decoding, answers: &[f64]) -> f64 {
    let largest = answers.iter().fold(1.0_f64, |largest, x| largest.max(x.abs()));
    1e-13 * largest * decoding.condition.max(1.0)
}

/// Checks one pattern of losses against the definition.
fn check(code: &LinearCode, lost: &[bool], predictions: &[f64]) -> Result<(), TestCaseError> {
    let available = available(lost);
    let mut answers = answers(code, predictions);
    let expected = solve_naively(code, &available, &answers);
    let decoding = code.decoding(&available);
    // Nothing that is lost may take part.
    answers.iter_mut().zip(lost).filter(|(_, lost)| **lost).for_each(|(answer, _)| *answer = f64::NAN);
    let scale: Vec<f64> = answers.iter().copied().filter(|x| !x.is_nan()).collect();
    let rebuilt = rebuild(&decoding, &answers);
    let unsolved: Vec<usize> = expected.iter().filter(|(_, x)| x.is_none()).map(|&(slot, _)| slot).collect();
    prop_assert_eq!(&decoding.unsolved, &unsolved, "{:?} {:?}", code, lost);
    prop_assert_eq!(rebuilt.len() + unsolved.len(), expected.len());
    for (slot, value) in rebuilt {
        let (naive, error) = (expected.iter().find(|(at, _)| *at == slot), (value - predictions[slot]).abs());
        prop_assert!(
            error <= tolerance(&decoding, &scale),
            "slot {}: off by {} in {:?}",
            slot,
            error,
            decoding
        );
        let naive = naive.and_then(|(_, x)| *x).unwrap();
        prop_assert!((naive - predictions[slot]).abs() <= 1e3 * tolerance(&decoding, &scale));
    }
    Ok(())
}

fn values(n: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-100.0..100.0, n)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_sum_code_rebuilds_every_pattern_that_can_be_solved(predictions in values(K)) {
        for (k, r) in (1..=K).flat_map(|k| (0..=R).map(move |r| (k, r))) {
            let code = LinearCode::sum(k, r).unwrap();
            for lost in patterns(k + r) {
                check(&code, &lost, &predictions[..k])?;
                // The default weights solve whatever counting allows.
                let decoding = code.decoding(&available(&lost));
                let missing = lost[..k].iter().filter(|lost| **lost).count();
                let parities = lost[k..].iter().filter(|lost| !**lost).count();
                prop_assert_eq!(decoding.unsolved.is_empty(), missing <= parities || missing == 0);
                prop_assert!(decoding.condition < 1e5, "{}", decoding.condition);
            }
        }
    }

    #[test]
    fn padded_groups_rebuild_their_real_rows(predictions in values(K)) {
        for (k, r) in (1..=6).flat_map(|k| (0..=R).map(move |r| (k, r))) {
            let code = LinearCode::sum(k, r).unwrap();
            for real in 1..=k {
                let padded = code.padded(real);
                prop_assert_eq!((padded.k(), padded.r()), (real, r));
                // What the encoder makes of the padded group is what the padded code makes of its real rows.
                let mut group = predictions[..real].to_vec();
                group.resize(k, predictions[real - 1]);
                let (whole, short) = (answers(&code, &group), answers(&padded, &predictions[..real]));
                for (whole, short) in whole[k..].iter().zip(&short[real..]) {
                    prop_assert!((whole - short).abs() <= 1e-10 * whole.abs().max(1.0));
                }
                for lost in patterns(real + r) {
                    check(&padded, &lost, &predictions[..real])?;
                }
            }
        }
    }
}

/// Small whole weights, many of them zero, so that ranks are clear cut.
fn weights(k: usize, r: usize) -> impl Strategy<Value = DMatrix<f64>> {
    let weight = prop::sample::select(vec![0.0, 0.0, 1.0, 1.0, -1.0, 2.0, 0.5]);
    prop::collection::vec(weight, k * r).prop_map(move |weights| DMatrix::from_vec(r, k, weights))
}

fn weighted() -> impl Strategy<Value = (LinearCode, Vec<f64>)> {
    (1..=6_usize, 0..=4_usize).prop_flat_map(|(k, r)| {
        (weights(k, r), values(k))
            .prop_map(move |(weights, x)| (LinearCode::weighted(k, weights).unwrap(), x))
    })
}

proptest! {
    #[test]
    fn answers_of_no_weight_take_no_part((code, _) in weighted()) {
        for lost in patterns(code.k() + code.r()) {
            for rebuilt in code.decoding(&available(&lost)).rebuilt {
                // A parity that shares no query, directly or by way of others, with the slot.
                let mut linked = vec![rebuilt.slot];
                let holds = |j: usize, linked: &[usize]| linked.iter().any(|&i| code.weights(j)[i] != 0.0);
                for _ in 0..code.k() {
                    for j in (0..code.r()).filter(|&j| !lost[code.k() + j]) {
                        if holds(j, &linked) {
                            linked.extend((0..code.k()).filter(|&i| code.weights(j)[i] != 0.0));
                        }
                    }
                    linked.sort_unstable();
                    linked.dedup();
                }
                for (at, c) in rebuilt.terms {
                    let helps = if at < code.k() { linked.contains(&at) } else { holds(at - code.k(), &linked) };
                    prop_assert!(helps, "answer {} has the coefficient {}", at, c);
                }
            }
        }
    }

    #[test]
    fn weights_with_zeros_leave_exactly_what_they_cannot_solve((code, predictions) in weighted()) {
        for lost in patterns(code.k() + code.r()) {
            check(&code, &lost, &predictions)?;
        }
    }

    #[test]
    fn the_order_of_parities_and_slots_changes_nothing((code, predictions) in weighted(), seed: u64) {
        let (k, r) = (code.k(), code.r());
        let rotate = |by: usize, n: usize| (0..n).map(|i| (i + by) % n.max(1)).collect::<Vec<_>>();
        let (slots, parities) = (rotate(seed as usize % 7, k), rotate(seed as usize % 5, r));
        let moved = DMatrix::from_fn(r, k, |j, i| code.weights(parities[j])[slots[i]]);
        let moved = LinearCode::weighted(k, moved).unwrap();
        let places: Vec<usize> = slots.iter().copied().chain(parities.iter().map(|j| k + j)).collect();
        let given = answers(&code, &predictions);
        let moved_answers: Vec<f64> = places.iter().map(|&at| given[at]).collect();
        for lost in patterns(k + r) {
            let moved_lost: Vec<bool> = places.iter().map(|&at| lost[at]).collect();
            let one = code.decoding(&available(&lost));
            let other = moved.decoding(&available(&moved_lost));
            let mut back: Vec<(usize, f64)> =
                rebuild(&other, &moved_answers).into_iter().map(|(slot, x)| (slots[slot], x)).collect();
            back.sort_by_key(|&(slot, _)| slot);
            let one_rebuilt = rebuild(&one, &given);
            prop_assert_eq!(one_rebuilt.len(), back.len());
            for ((slot, x), (other_slot, y)) in one_rebuilt.into_iter().zip(back) {
                prop_assert_eq!(slot, other_slot);
                prop_assert!((x - y).abs() <= 2.0 * tolerance(&one, &given), "{} {} {:?} {:?}", x, y, one, other);
            }
        }
    }

    #[test]
    fn a_cached_decoding_is_the_decoding((code, _) in weighted(), order in prop::collection::vec(any::<u16>(), 1..40)) {
        let n = code.k() + code.r();
        let mut decoder = Decoder::new(code.clone());
        prop_assert_eq!(decoder.kind(), &CodeKind::from(code.clone()));
        for bits in order {
            let available: Vec<bool> = (0..n).map(|i| bits & (1 << i) != 0).collect();
            prop_assert_eq!(&*decoder.decoding(&available), &code.decoding(&available));
        }
    }
}

#[test]
fn the_cache_is_bounded_and_stays_right() {
    let code = LinearCode::sum(13, 1).unwrap();
    let mut decoder = Decoder::new(code.clone());
    for lost in patterns(14) {
        let available = available(&lost);
        assert_eq!(*decoder.decoding(&available), code.decoding(&available));
    }
}

#[test]
fn one_parity_subtracts_and_nothing_else() {
    for k in 1..=K {
        let code = LinearCode::sum(k, 1).unwrap();
        assert_eq!(code.weights(0), vec![1.0; k], "r = 1 is the plain sum");
        for slot in 0..k {
            let available: Vec<bool> = (0..=k).map(|at| at != slot).collect();
            let decoding = code.decoding(&available);
            let [rebuilt] = decoding.rebuilt.as_slice() else { panic!("{decoding:?}") };
            let others = (0..k).filter(|&at| at != slot).map(|at| (at, -1.0));
            assert_eq!(rebuilt.terms, others.chain([(k, 1.0)]).collect::<Vec<_>>());
            assert_eq!((rebuilt.slot, decoding.condition), (slot, 1.0));
        }
    }
}

#[test]
fn the_default_weights_are_powers_of_the_slot() {
    let code = LinearCode::sum(4, 3).unwrap();
    assert_eq!(code.weights(1), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(code.weights(2), [1.0, 4.0, 9.0, 16.0]);
}

#[test]
fn spare_answers_make_noisy_reconstructions_better() {
    // Least squares over all parities minimises Σ c²: with independent noise of equal size on the
    // parity outputs that is the variance of what is rebuilt.
    for k in 1..=K {
        let code = LinearCode::sum(k, 3).unwrap();
        let variance = |available: &[bool], slot: usize| {
            let decoding = code.decoding(available);
            let rebuilt = decoding.rebuilt.iter().find(|rebuilt| rebuilt.slot == slot).unwrap();
            rebuilt.terms.iter().filter(|(at, _)| *at >= k).map(|(_, c)| c * c).sum::<f64>()
        };
        for slot in 0..k {
            let mut all = vec![true; k + 3];
            all[slot] = false;
            let together = variance(&all, slot);
            for parity in 0..3 {
                let alone: Vec<bool> =
                    (0..k + 3).map(|at| at != slot && (at < k || at == k + parity)).collect();
                assert!(
                    together <= variance(&alone, slot) * (1.0 + 1e-12),
                    "k = {k}, slot {slot}, parity {parity}"
                );
            }
        }
    }
}

#[test]
fn answers_that_do_not_help_do_not_take_part() {
    // A row that is not a number must not spoil a reconstruction that does not need it.
    let code =
        LinearCode::weighted(3, DMatrix::from_row_slice(2, 3, &[1.0, 1.0, 0.0, 0.0, 0.0, 1.0])).unwrap();
    let decoding = code.decoding(&[false, true, false, true, true]);
    let terms: Vec<_> = decoding.rebuilt.iter().map(|rebuilt| rebuilt.terms.clone()).collect();
    let places: Vec<Vec<usize>> =
        terms.iter().map(|terms| terms.iter().map(|(at, _)| *at).collect()).collect();
    assert_eq!(places, [vec![1, 3], vec![4]], "{terms:?}");
}

#[test]
fn replicas_stand_for_the_query_they_repeat() {
    let code = LinearCode::replicate(3, 2).unwrap();
    let decoding = code.decoding(&[false, false, false, true, true]);
    let rebuilt: Vec<_> = decoding.rebuilt.iter().map(|r| (r.slot, r.terms.clone())).collect();
    assert_eq!(decoding.unsolved, [2]);
    assert_eq!(rebuilt.len(), 2);
    for (slot, terms) in rebuilt {
        assert_eq!(terms.len(), 1, "{terms:?}");
        assert_eq!(terms[0].0, 3 + slot);
        assert!((terms[0].1 - 1.0).abs() < 1e-14);
    }
    assert_eq!(LinearCode::none(2).unwrap().decoding(&[false, true]).unsolved, [0]);
}

#[test]
fn nothing_lost_needs_nothing() {
    let decoding = LinearCode::sum(3, 2).unwrap().decoding(&[true; 5]);
    assert_eq!(decoding, Decoding { rebuilt: vec![], unsolved: vec![], condition: 1.0 });
}

#[test]
fn default_weights_that_overflow_are_refused_before_they_are_made() {
    for (k, r) in [(2, 1025), (3, 700), (9, 400), (1, 3000), (5, 2)] {
        let made = DMatrix::from_fn(r, k, |j, i| ((i + 1) as f64).powf(j as f64));
        assert_eq!(LinearCode::sum(k, r), LinearCode::weighted(k, made), "{k}, {r}");
    }
    // Such a matrix would take 2^90 bytes.
    let error = LinearCode::sum(1 << 43, 1 << 44).unwrap_err();
    assert_eq!(error, CodeError::Weight { value: f64::INFINITY, parity: 1024, slot: 1 });
}

#[test]
fn the_parities_of_a_code_are_made_without_its_queries() {
    for code in [LinearCode::sum(3, 2).unwrap(), LinearCode::replicate(3, 4).unwrap()] {
        assert_eq!(*code.parity_matrix(), Matrices::encoding(&code).remove_rows(0, 3));
    }
}

#[test]
fn nearly_equal_weights_show_in_the_condition_number() {
    let code = LinearCode::weighted(2, DMatrix::from_row_slice(2, 2, &[1.0, 1.0, 1.0, 1.0 + 1e-6])).unwrap();
    let condition = code.decoding(&[false, false, true, true]).condition;
    assert!((1e6..1e7).contains(&condition), "{condition}");
    assert!(condition > parm::codes::ILL_CONDITIONED);
}

#[test]
fn a_scale_changes_no_condition() {
    for scale in [1e-30, 1e-12, 1.0, 1e12, 1e30] {
        let weights = DMatrix::from_row_slice(2, 2, &[1.0, 1.0, 1.0, 2.0]) * scale;
        let decoding = LinearCode::weighted(2, weights).unwrap().decoding(&[false, false, true, true]);
        assert!(
            decoding.unsolved.is_empty() && (decoding.condition - 6.854).abs() < 1e-3,
            "{scale} {decoding:?}"
        );
    }
}

#[test]
fn what_makes_no_code_is_refused_with_numbers() {
    assert_eq!(LinearCode::sum(0, 1).unwrap_err(), CodeError::NoQueries);
    assert_eq!(LinearCode::replicate(0, 1).unwrap_err(), CodeError::NoQueries);
    assert_eq!(LinearCode::none(0).unwrap_err(), CodeError::NoQueries);
    let shape = LinearCode::weighted(3, DMatrix::zeros(1, 2)).unwrap_err();
    assert_eq!(shape, CodeError::WeightShape { found_r: 1, found_k: 2, r: 1, k: 3 });
    assert_eq!(shape.to_string(), "found weights of 1x2, expected r x k = 1x3");
    let weight = LinearCode::weighted(2, DMatrix::from_row_slice(1, 2, &[1.0, f64::INFINITY])).unwrap_err();
    assert_eq!(weight.to_string(), "found weight inf for parity 0, slot 1; expected a finite number");
    assert!(LinearCode::weighted(1, DMatrix::from_element(1, 1, f64::NAN)).is_err());
    assert!(LinearCode::sum(4, 2000).is_err(), "weights that overflow");
}

proptest! {
    #[test]
    fn doubles_combine_as_the_formula_says(weights in prop::collection::vec(-4.0..4.0, 0..6), length in 0_usize..5000) {
        let rows: Vec<Vec<f64>> =
            (0..weights.len()).map(|row| (0..length).map(|i| ((i * 7 + row * 13) % 101) as f64 - 50.0).collect()).collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let (mut fast, mut naive) = (vec![f64::NAN; length], vec![f64::NAN; length]);
        combine(&weights, &rows, &mut fast);
        combine_naive(&weights, &rows, &mut naive);
        prop_assert_eq!(fast, naive);
    }
}
