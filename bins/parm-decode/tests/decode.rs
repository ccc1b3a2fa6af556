//! `parm-decode` as a process, with F the identity: predictions are queries, parity outputs parity
//! queries, and small integers make everything exact.

use std::fs;
use std::path::Path;

use parm_testkit::npy::{data, descr, f4, f4_values, f8, item, mask, shape};
use parm_testkit::{Outcome, Tool};
use tempfile::TempDir;

/// Twelve rows of two, and their parities under `code`.
fn stage(code: &str, rows: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("y.npy"), f4(&[rows, 2], &values(rows))).unwrap();
    let encode = Tool::new("parm-encode").args(code).args("-o p{}.npy y.npy").within(folder.path());
    assert_eq!(encode.run().output(), b"");
    folder
}

fn values(rows: usize) -> Vec<f32> {
    (0..rows * 2).map(|value| ((value * 7) % 23) as f32).collect()
}

/// Predictions with the rows that are not available overwritten.
fn write_lost(folder: &Path, available: &[bool]) {
    let mut lost = values(available.len());
    for (row, _) in available.iter().enumerate().filter(|(_, available)| !**available) {
        lost[row * 2..][..2].fill(f32::NAN);
    }
    fs::write(folder.join("lost.npy"), f4(&[available.len(), 2], &lost)).unwrap();
    fs::write(folder.join("have.npy"), mask(available)).unwrap();
}

fn decode(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-decode").args(arguments).within(folder).run()
}

#[track_caller]
fn assert_rebuilt(stream: &[u8], rows: usize) {
    assert_eq!(shape(stream), [rows, 2]);
    for (found, expected) in f4_values(stream).into_iter().zip(values(rows)) {
        assert!((found - expected).abs() < 1e-3, "{found} for {expected}");
    }
}

#[test]
fn one_parity_rebuilds_any_one_loss_exactly() {
    for k in [1, 2, 3, 4, 6] {
        let folder = stage(&format!("--code sum -k {k}"), 12);
        for slot in 0..k {
            let available: Vec<bool> = (0..12).map(|row| row % k != slot).collect();
            write_lost(folder.path(), &available);
            let call = format!("--code sum -k {k} --parity p0.npy --available have.npy lost.npy");
            assert_eq!(f4_values(&decode(folder.path(), &call).output()), values(12), "k {k} slot {slot}");
        }
    }
}

#[test]
fn two_parities_rebuild_any_two_losses_even_with_a_parity_output_missing() {
    let folder = stage("--code sum -k 3 -r 2", 12);
    // Groups lose: two, one, one (and a parity output), none.
    let available = [false, false, true, true, false, true, true, true, false, true, true, true];
    write_lost(folder.path(), &available);
    fs::write(folder.path().join("have-p.npy"), mask(&[true, true, false, true])).unwrap();
    fs::write(folder.path().join("have-q.npy"), mask(&[true; 4])).unwrap();
    let call = "--code sum -k 3 -r 2 --parity p0.npy --parity p1.npy --parity-available have-p.npy \
                --parity-available have-q.npy --available have.npy lost.npy";
    assert_rebuilt(&decode(folder.path(), call).output(), 12);
}

#[test]
fn a_padded_tail_is_one_unknown() {
    for rows in [9, 10, 11] {
        let folder = stage("--code sum -k 4 --tail pad", rows);
        for lost in 8..rows {
            let available: Vec<bool> = (0..rows).map(|row| row != lost).collect();
            write_lost(folder.path(), &available);
            let call = "--code sum -k 4 --tail pad --parity p0.npy --available have.npy lost.npy";
            assert_rebuilt(&decode(folder.path(), call).output(), rows);
        }
    }
}

#[test]
fn a_dropped_tail_has_no_parity() {
    let folder = stage("--code sum -k 4 --tail drop", 10);
    let available: Vec<bool> = (0..10).map(|row| row != 2 && row != 9).collect();
    write_lost(folder.path(), &available);
    let call = "--code sum -k 4 --tail drop --parity p0.npy --available have.npy --default zero lost.npy";
    let outcome = decode(folder.path(), call);
    assert_eq!(outcome.code, 3);
    let mut expected = values(10);
    expected[18..].fill(0.0);
    assert_eq!(f4_values(&outcome.stdout), expected);
}

#[test]
fn what_cannot_be_rebuilt_gets_the_default_and_is_reported() {
    let folder = stage("--code sum -k 2", 4);
    write_lost(folder.path(), &[false, false, true, false]);
    fs::write(folder.path().join("guess.npy"), f4(&[1, 2], &[8., 9.])).unwrap();
    fs::write(folder.path().join("flat.npy"), f4(&[2], &[8., 9.])).unwrap();
    let tail = values(4)[4..].to_vec();
    for (default, row) in [
        ("keep", [f32::NAN, f32::NAN]),
        ("zero", [0., 0.]),
        ("uniform", [0.5, 0.5]),
        ("guess.npy", [8., 9.]),
        ("flat.npy", [8., 9.]),
    ] {
        let call = format!(
            "--code sum -k 2 --parity p0.npy --available have.npy --solved solved.npy --default {default} lost.npy"
        );
        let outcome = decode(folder.path(), &call);
        assert_eq!(outcome.code, 3);
        assert_eq!(outcome.stderr, "parm-decode: warning: 2 of 3 missing predictions could not be rebuilt\n");
        let expected: Vec<String> =
            [&row, &row, tail.as_slice()].concat().iter().map(f32::to_string).collect();
        let found: Vec<String> = f4_values(&outcome.stdout).iter().map(f32::to_string).collect();
        assert_eq!(found, expected, "{default}");
        assert_eq!(data(&fs::read(folder.path().join("solved.npy")).unwrap()), [0, 0, 1, 1]);
        assert_eq!(decode(folder.path(), &format!("{call} --allow-unsolved")).code, 0);
    }
}

#[test]
fn losses_that_are_drawn_leave_no_true_prediction_where_nothing_was_rebuilt() {
    let folder = stage("--code sum -k 2", 400);
    let call = "--code sum -k 2 --parity p0.npy --erase p=0.7 --solved solved.npy --allow-unsolved y.npy";
    let rebuilt = f4_values(&decode(folder.path(), call).stdout);
    let solved = fs::read(folder.path().join("solved.npy")).unwrap();
    let solved = data(&solved);
    let unsolved: Vec<usize> = (0..400).filter(|&row| solved[row] == 0).collect();
    assert!(unsolved.len() > 100, "{}", unsolved.len());
    assert!(unsolved.iter().all(|&row| rebuilt[2 * row..][..2] == [0.5, 0.5]));
    // But for one who asks for it.
    let kept = f4_values(&decode(folder.path(), &format!("{call} --default keep")).stdout);
    assert!(unsolved.iter().all(|&row| kept[2 * row..][..2] == values(400)[2 * row..][..2]));
}

#[test]
fn answers_that_are_not_finite_are_rebuilt_and_spoil_no_other() {
    let folder = stage("--code sum -k 2", 8);
    for (spoilt, parity) in [(f32::NAN, false), (f32::INFINITY, false), (f32::NEG_INFINITY, true)] {
        let [mut own, mut sums] = [values(8), f4_values(&fs::read(folder.path().join("p0.npy")).unwrap())];
        // A prediction of the first group, and one of the second or its parity output.
        own[1] = spoilt;
        if parity {
            sums[2] = spoilt;
        } else {
            own[4] = spoilt;
        }
        fs::write(folder.path().join("spoilt.npy"), f4(&[8, 2], &own)).unwrap();
        fs::write(folder.path().join("sums.npy"), f4(&[4, 2], &sums)).unwrap();
        fs::write(folder.path().join("have.npy"), mask(&[true, true, true, !parity, true, true, true, true]))
            .unwrap();
        let call = "--code sum -k 2 --parity sums.npy --available have.npy --solved solved.npy --default zero spoilt.npy";
        let outcome = decode(folder.path(), call);
        assert!(
            outcome.stderr.contains("warning: 2 answers with NaN or infinity count as missing"),
            "{}",
            outcome.stderr
        );
        let mut expected = values(8);
        if parity {
            expected[6..8].fill(0.0);
        }
        assert_eq!((f4_values(&outcome.stdout), outcome.code), (expected, if parity { 3 } else { 0 }));
    }
}

#[test]
fn each_loss_is_simulated_in_turn() {
    let folder = stage("--code sum -k 3", 6);
    let call = "--code sum -k 3 --parity p0.npy --erase each --erased-out lost.npy y.npy";
    let copies = decode(folder.path(), call).output();
    assert_eq!(shape(&copies), [18, 2]);
    assert_eq!(f4_values(&copies), values(6).repeat(3));
    let lost = fs::read(folder.path().join("lost.npy")).unwrap();
    let expected: Vec<u8> =
        (0..3).flat_map(|slot| (0..6).map(move |row| u8::from(row % 3 != slot))).collect();
    assert_eq!(data(&lost), expected);
}

#[test]
fn drawn_losses_depend_on_the_seed_alone() {
    let folder = stage("--code sum -k 3", 12);
    let draw = |how: &str, seed: u64| {
        let call = format!(
            "--code sum -k 3 --parity p0.npy --erase {how} --seed {seed} --erased-out lost.npy --allow-unsolved y.npy"
        );
        let _ = decode(folder.path(), &call).output();
        data(&fs::read(folder.path().join("lost.npy")).unwrap()).to_vec()
    };
    for how in ["one", "p=0.5"] {
        assert_eq!(draw(how, 1), draw(how, 1), "{how}");
        assert_ne!(draw(how, 1), draw(how, 2), "{how}");
    }
    assert!(draw("one", 3).chunks(3).all(|group| group.iter().sum::<u8>() == 2));
    assert_eq!(draw("p=0", 1), [1; 12]);
    assert_eq!(draw("p=1", 1), [0; 12]);
}

#[test]
fn the_float_type_of_predictions_is_kept() {
    let folder = stage("--code sum -k 2", 2);
    fs::write(folder.path().join("have.npy"), mask(&[true, false])).unwrap();
    let expected = values(2);
    let halves: Vec<u8> =
        [0x0000_u16, 0x4700, 0x7e00, 0x7e00].iter().flat_map(|half| half.to_le_bytes()).collect();
    fs::write(folder.path().join("half.npy"), item("<f2", &[2, 2], &halves)).unwrap();
    let call = "--code sum -k 2 --parity p0.npy --available have.npy";
    let rebuilt = decode(folder.path(), &format!("{call} half.npy")).output();
    // 0, 7, 14, 21 as halves
    let bits: Vec<u8> =
        [0x0000_u16, 0x4700, 0x4b00, 0x4d40].iter().flat_map(|half| half.to_le_bytes()).collect();
    assert_eq!((descr(&rebuilt).as_str(), data(&rebuilt)), ("<f2", bits.as_slice()));
    assert_eq!(expected, [0., 7., 14., 21.]);
    fs::write(folder.path().join("double.npy"), f8(&[2, 2], &[0., 7., 1e9, 1e9])).unwrap();
    let rebuilt = decode(folder.path(), &format!("{call} double.npy")).output();
    let expected = f8(&[2, 2], &[0., 7., 14., 21.]);
    assert_eq!((descr(&rebuilt).as_str(), data(&rebuilt)), ("<f8", data(&expected)));
}

#[test]
fn splitting_streams_changes_no_row() {
    let folder = stage("--code sum -k 3", 12);
    let available: Vec<bool> = (0..12).map(|row| row % 5 != 1).collect();
    write_lost(folder.path(), &available);
    let call = "--code sum -k 3 --parity p0.npy --available have.npy";
    let whole = f4_values(&decode(folder.path(), &format!("{call} lost.npy")).output());
    let lost = f4_values(&fs::read(folder.path().join("lost.npy")).unwrap());
    for cut in [1, 2, 3, 7, 11] {
        let (head, rest) = lost.split_at(cut * 2);
        let split = [f4(&[cut, 2], head), f4(&[12 - cut, 2], rest)].concat();
        let masks = [mask(&available[..12 - cut]), mask(&available[12 - cut..])].concat();
        fs::write(folder.path().join("have.npy"), masks).unwrap();
        fs::write(folder.path().join("split.npy"), split).unwrap();
        assert_eq!(f4_values(&decode(folder.path(), &format!("{call} split.npy")).output()), whole);
    }
}

#[test]
fn replicate_returns_copies_and_none_guesses() {
    let folder = stage("--code replicate -k 3", 6);
    write_lost(folder.path(), &[false, true, true, true, false, true]);
    let call = "--code replicate -k 3 --parity p0.npy --available have.npy --default zero lost.npy";
    let outcome = decode(folder.path(), call);
    let mut expected = values(6);
    expected[8..10].fill(0.0);
    assert_eq!((outcome.code, f4_values(&outcome.stdout)), (3, expected.clone()));
    let outcome = decode(folder.path(), "--code none -k 3 --available have.npy --default zero lost.npy");
    expected[..2].fill(0.0);
    assert_eq!((outcome.code, f4_values(&outcome.stdout)), (3, expected));
}

#[test]
fn an_ill_conditioned_system_is_named() {
    let folder = stage("--code sum -k 7 -r 7", 7);
    write_lost(folder.path(), &[false; 7]);
    let parities = (0..7).map(|parity| format!("--parity p{parity}.npy")).collect::<Vec<_>>().join(" ");
    let outcome =
        decode(folder.path(), &format!("--code sum -k 7 -r 7 {parities} --available have.npy lost.npy"));
    assert_eq!(outcome.code, 0);
    assert!(
        outcome.stderr.starts_with("parm-decode: warning: a system with condition number "),
        "{}",
        outcome.stderr
    );
    let quiet = format!("-q --code sum -k 7 -r 7 {parities} --available have.npy lost.npy");
    assert_eq!(decode(folder.path(), &quiet).stderr, "");
}

#[test]
fn confidences_of_what_has_no_classes_are_those_of_the_amplification() {
    let folder = stage("--code sum -k 2", 4);
    write_lost(folder.path(), &[true, false, false, false]);
    let call = "--code sum -k 2 --parity p0.npy --available have.npy --allow-unsolved --confidence c.npy";
    let confidences = |arguments: &str| {
        let ended = decode(folder.path(), &format!("{call} {arguments}"));
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        f4_values(&fs::read(folder.path().join("c.npy")).unwrap())
    };
    // X2 = P - X1 lets in the errors of two answers.
    let alone = [1.0, (1.0 / (1.0 + 2.0_f64.sqrt())) as f32, 0.0, 0.0];
    for task in ["regress", "embed"] {
        assert_eq!(confidences(&format!("--task {task} lost.npy")), alone, "{task}");
    }
    assert_ne!(confidences("--task classify lost.npy")[1], alone[1]);
    // One number tells no classes apart.
    for (name, from) in [("one.npy", "lost.npy"), ("one-parity.npy", "p0.npy")] {
        let first: Vec<f32> =
            f4_values(&fs::read(folder.path().join(from)).unwrap()).into_iter().step_by(2).collect();
        fs::write(folder.path().join(name), f4(&[first.len(), 1], &first)).unwrap();
    }
    let call = call.replace("p0.npy", "one-parity.npy");
    let ended = decode(folder.path(), &format!("{call} one.npy"));
    assert_eq!((ended.code, f4_values(&fs::read(folder.path().join("c.npy")).unwrap())), (0, alone.to_vec()));
    for (task, message) in [
        ("classify", "--task classify: found predictions of one number, which tell no classes apart"),
        ("boxes", "--task boxes: found predictions of one number, expected 4"),
    ] {
        let ended = decode(folder.path(), &format!("{call} --task {task} one.npy"));
        assert!(ended.code == 2 && ended.stderr.contains(message), "{}", ended.stderr);
    }
}

#[test]
fn calibrated_confidences_are_read_off_the_curve() {
    let folder = stage("--code sum -k 2", 4);
    write_lost(folder.path(), &[true, false, false, false]);
    let call =
        "--code sum -k 2 --parity p0.npy --available have.npy --confidence c.npy --allow-unsolved lost.npy";
    let confidences = |options: &str| {
        let _ = decode(folder.path(), &format!("{call} {options}")).output();
        f4_values(&fs::read(folder.path().join("c.npy")).unwrap())
    };
    let raw = confidences("");
    assert!(raw[0] == 1.0 && (0.01..0.99).contains(&raw[1]) && raw[2..] == [0.0, 0.0], "{raw:?}");
    let curve = r#"{"format": 1, "points": [[0.0, 0.25], [1.0, 0.75]]}"#;
    fs::write(folder.path().join("curve.json"), curve).unwrap();
    let calibrated = confidences("--calibration curve.json");
    assert!((calibrated[1] - (0.25 + raw[1] / 2.0)).abs() < 1e-6, "{calibrated:?}");
    assert_eq!((calibrated[0], &calibrated[2..]), (1.0, &raw[2..]), "certain either way");
    for (text, message) in [
        ("{", "curve.json: malformed calibration"),
        (r#"{"format": 2, "points": [[0.0, 0.25]]}"#, "curve.json: found format 2, expected 1"),
        (r#"{"format": 1, "points": [[0.5, 0.5], [0.4, 0.6]]}"#, "curve.json: found points that do not rise"),
    ] {
        fs::write(folder.path().join("curve.json"), text).unwrap();
        let refused = decode(folder.path(), &format!("{call} --calibration curve.json"));
        assert!(refused.code == 1 && refused.stderr.contains(message), "{}", refused.stderr);
    }
}
