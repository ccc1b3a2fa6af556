//! `parm-decode` of interpolating codes, with F the identity: answers are coded queries.

use std::fs;
use std::path::Path;

use parm_testkit::npy::{data, f4, f4_values, f8, mask, shape};
use parm_testkit::{Outcome, Tool};
use tempfile::TempDir;

const CODES: [&str; 4] = [
    "--code berrut -k 4 --stragglers 2",
    "--code berrut -k 4 --stragglers 2 --points chebyshev1",
    "--code floater-hormann -k 4 --stragglers 2 --degree 1",
    "--code spline -k 4 --stragglers 2 --lambda-e 0 --lambda-d 1e-3",
];

/// Groups of four equal rows: every curve is exact on what does not change.
fn flat(groups: usize) -> Vec<f32> {
    (0..groups * 4).flat_map(|row| [(row / 4) as f32, 3.0, -1.0 - (row / 4) as f32]).collect()
}

/// Answers of so many queries.
fn stage(code: &str, rows: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let values = flat(rows.div_ceil(4));
    fs::write(folder.path().join("x.npy"), f4(&[rows, 3], &values[..rows * 3])).unwrap();
    let call = Tool::new("parm-encode").args(code).args("--tail pad -o y.npy x.npy").within(folder.path());
    assert_eq!(call.run().output(), b"");
    folder
}

fn decode(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-decode").args(arguments).within(folder).run()
}

#[track_caller]
fn assert_flat(stream: &[u8], rows: usize) {
    assert_eq!(shape(stream), [rows, 3]);
    for (found, expected) in f4_values(stream).into_iter().zip(flat(rows.div_ceil(4))) {
        assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
    }
}

/// Overwrites the answers that are not available.
fn write_lost(folder: &Path, available: &[bool]) {
    let mut answers = f4_values(&fs::read(folder.join("y.npy")).unwrap());
    for (row, _) in available.iter().enumerate().filter(|(_, available)| !**available) {
        answers[row * 3..][..3].fill(f32::NAN);
    }
    fs::write(folder.join("lost.npy"), f4(&[available.len(), 3], &answers)).unwrap();
    fs::write(folder.join("have.npy"), mask(available)).unwrap();
}

#[test]
fn any_answers_rebuild_all_predictions() {
    for code in CODES {
        let folder = stage(code, 12);
        // A process for each pattern would be slow: the matrices are tested for all of them.
        for kept in [0b10_0000, 0b00_0111, 0b10_1101, 0b11_1111] {
            let available: Vec<bool> = (0..18).map(|row| kept & (1 << (row % 6)) != 0).collect();
            write_lost(folder.path(), &available);
            let outcome = decode(folder.path(), &format!("{code} --available have.npy lost.npy"));
            assert_flat(&outcome.output(), 12);
        }
    }
}

#[test]
fn strict_leaves_groups_with_too_few_answers() {
    let folder = stage(CODES[0], 12);
    // The groups have 4, 3 and 0 answers.
    let mut available = [true; 18];
    [0, 1, 6, 7, 8].into_iter().chain(12..18).for_each(|row| available[row] = false);
    write_lost(folder.path(), &available);
    fs::write(folder.path().join("guess.npy"), f4(&[3], &[7., 8., 9.])).unwrap();
    let call = format!("{} --available have.npy --solved solved.npy lost.npy", CODES[0]);
    let solved = |extra: &str, warned: u32| {
        let outcome = decode(folder.path(), &format!("{call} {extra}"));
        assert_eq!(outcome.code, 3);
        let message = format!("parm-decode: warning: {warned} of 12 predictions could not be rebuilt\n");
        assert_eq!(outcome.stderr, message);
        let mask = fs::read(folder.path().join("solved.npy")).unwrap();
        (data(&mask).to_vec(), f4_values(&outcome.stdout)[24..].to_vec())
    };
    assert_eq!(solved("", 4), ([[1; 8].as_slice(), &[0; 4]].concat(), vec![0.0; 12]));
    let guess = [7., 8., 9.].repeat(4);
    assert_eq!(solved("--default guess.npy", 4).1, guess);
    assert_eq!(solved("--strict", 8).0, [[1; 4].as_slice(), &[0; 8]].concat());
    assert_eq!(decode(folder.path(), &format!("{call} --strict --allow-unsolved")).code, 0);
}

#[test]
fn rows_leave_out_what_padding_repeated() {
    for rows in 9..=12 {
        let folder = stage(CODES[0], rows);
        let call = format!("{} --erase one --solved solved.npy", CODES[0]);
        assert_flat(&decode(folder.path(), &format!("{call} --rows {rows} y.npy")).output(), rows);
        assert_eq!(shape(&fs::read(folder.path().join("solved.npy")).unwrap()), [rows]);
        assert_eq!(shape(&decode(folder.path(), &format!("{call} y.npy")).output()), [12, 3]);
    }
    let folder = stage(CODES[0], 9);
    for rows in [0, 8, 13] {
        let call = format!("{} --erase one --rows {rows} -o z.npy y.npy", CODES[0]);
        let outcome = decode(folder.path(), &call);
        assert_eq!(outcome.code, 1);
        let expected =
            format!("found 3 groups of k = 4 queries, expected {} for --rows {rows}", (rows + 3) / 4);
        assert!(outcome.stderr.contains(&expected), "{}", outcome.stderr);
        assert!(!folder.path().join("z.npy").exists());
    }
}

#[test]
fn splitting_the_answers_changes_nothing() {
    let folder = stage(CODES[2], 12);
    let answers = f4_values(&fs::read(folder.path().join("y.npy")).unwrap());
    let call = format!("{} --erase one --seed 3 --rows 11 -", CODES[2]);
    let run = |stream: Vec<u8>| Tool::new("parm-decode").args(&call).stdin(stream).run().output();
    let whole = f4_values(&run(f4(&[18, 3], &answers)));
    for cut in 0..=18 {
        let (head, rest) = answers.split_at(cut * 3);
        let split = [f4(&[cut, 3], head), f4(&[18 - cut, 3], rest)].concat();
        assert_eq!(f4_values(&run(split)), whole, "cut at {cut}");
    }
}

#[test]
fn each_worker_is_lost_in_turn() {
    let folder = stage(CODES[1], 8);
    let call = format!("{} --erase each --erased-out lost.npy --rows 7 y.npy", CODES[1]);
    let copies = decode(folder.path(), &call).output();
    assert_eq!(shape(&copies), [6 * 7, 3]);
    let expected: Vec<f32> = flat(2)[..21].repeat(6);
    for (found, expected) in f4_values(&copies).into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4);
    }
    let lost: Vec<u8> =
        (0..6).flat_map(|worker| (0..12).map(move |row| u8::from(row % 6 != worker))).collect();
    assert_eq!(data(&fs::read(folder.path().join("lost.npy")).unwrap()), lost);
}

#[test]
fn doubles_stay_doubles() {
    let folder = tempfile::tempdir().unwrap();
    let answers: Vec<f64> = [1e300, 2.0].repeat(3);
    fs::write(folder.path().join("y.npy"), f8(&[3, 2], &answers)).unwrap();
    let call = "--code berrut -k 2 --stragglers 1 --erase one y.npy";
    let rebuilt = decode(folder.path(), call).output();
    assert_eq!(shape(&rebuilt), [2, 2]);
    for value in data(&rebuilt).as_chunks::<8>().0.iter().step_by(2) {
        assert!((f64::from_le_bytes(*value) / 1e300 - 1.0).abs() < 1e-12);
    }
}

#[test]
fn wrong_answers_are_left_out_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let code = "--code berrut -k 8 --stragglers 0 --byzantine 1";
    // Two groups of 17 answers, the same but for a little noise that harms nobody; and those of
    // worker 4 of the second group.
    let mut answers: Vec<f32> = [1.0, 3.0, -1.0].repeat(34);
    answers.iter_mut().enumerate().for_each(|(i, value)| *value += 1e-3 * ((i * i * 7) % 13) as f32);
    answers[(17 + 4) * 3..][..3].copy_from_slice(&[90., -70., 60.]);
    fs::write(folder.path().join("y.npy"), f4(&[34, 3], &answers)).unwrap();
    fs::write(folder.path().join("have.npy"), mask(&[true; 34])).unwrap();
    for locate in ["vote", "residual", "both"] {
        let call =
            format!("{code} --available have.npy --locate {locate} --threshold 9 --kept kept.npy -v y.npy");
        let outcome = decode(folder.path(), &call);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        for (found, expected) in f4_values(&outcome.stdout).into_iter().zip([1.0, 3.0, -1.0].repeat(16)) {
            assert!((found - expected).abs() < 0.1, "{locate}: {found} for {expected}");
        }
        let expected: Vec<u8> = (0..34).map(|row| u8::from(row != 21)).collect();
        assert_eq!(data(&fs::read(folder.path().join("kept.npy")).unwrap()), expected, "{locate}");
        let line = "wrote 16 predictions: 16 rebuilt, 0 unsolved; left out 1 wrong answers, worker 4: 1";
        assert!(outcome.stderr.contains(line), "{}", outcome.stderr);
    }
}

#[test]
fn confidence_is_one_for_what_arrived_and_shrinks_with_the_loss() {
    let folder = stage("--code berrut -k 4 --stragglers 2", 4);
    let scores = |call: &str| {
        let outcome = decode(folder.path(), &format!("{call} --allow-unsolved --confidence c.npy -o z.npy"));
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        f4_values(&fs::read(folder.path().join("c.npy")).unwrap())
    };
    let with = |lost: &[usize]| {
        let available: Vec<bool> = (0..6).map(|worker| !lost.contains(&worker)).collect();
        write_lost(folder.path(), &available);
        scores("--code berrut -k 4 --stragglers 2 --available have.npy lost.npy")
    };
    let whole = with(&[]);
    assert!(whole.iter().all(|score| (0.5..1.0).contains(score)), "{whole:?}");
    assert_eq!(with(&[0, 1, 2, 3, 4, 5]), [0.0; 4]);
    // What is known of the query beside the lost workers is less.
    assert!(with(&[0, 1])[0] < whole[0]);
    // Systematic codes: available, rebuilt, unsolved.
    fs::write(folder.path().join("p.npy"), f4(&[2, 3], &[0., 6., -2., 0., 6., -2.])).unwrap();
    fs::write(folder.path().join("have.npy"), mask(&[true, false, false, false])).unwrap();
    let sum = scores("--code sum -k 2 --parity p.npy --available have.npy x.npy");
    let margin = 3.0;
    assert_eq!(sum, [1.0, margin / (margin + 2.0_f32.sqrt()), 0.0, 0.0]);
}

#[test]
fn bad_calls_are_refused() {
    let folder = stage(CODES[0], 8);
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("have.npy", &mask(&[true; 12]));
    write("have-11.npy", &mask(&[true; 11]));
    write("have-13.npy", &mask(&[true; 13]));
    write("images.npy", &f4(&[6, 1, 2], &[0.0; 12]));
    for (call, code, message) in [
        (
            "--code berrut -k 4 --available have.npy y.npy",
            1,
            "found 12 answers, which do not fill groups of n = 5 workers for k = 4 queries (2 left over)",
        ),
        (
            "--code berrut -k 4 --stragglers 2 --available have-11.npy y.npy",
            1,
            "have-11.npy: found fewer entries",
        ),
        (
            "--code berrut -k 4 --stragglers 2 --available have-13.npy y.npy",
            1,
            "have-13.npy: found more entries",
        ),
        ("--code berrut -k 4 --stragglers 2 y.npy", 2, "--available"),
        (
            "--code berrut -k 4 --stragglers 2 --available have.npy --parity y.npy y.npy",
            2,
            "--parity goes with codes with parities, not with --code berrut",
        ),
        (
            "--code berrut -k 4 --stragglers 2 --available have.npy --parity-available y.npy y.npy",
            2,
            "--parity-available goes with codes with parities",
        ),
        ("--code berrut -k 4 -r 2 --available have.npy y.npy", 2, "-r goes with codes with parities"),
        (
            "--code sum -k 4 --available have.npy --parity y.npy --rows 3 y.npy",
            2,
            "--rows goes with interpolating codes, not with --code sum",
        ),
        (
            "--code sum -k 4 --available have.npy --parity y.npy --strict y.npy",
            2,
            "--strict goes with interpolating codes, not with --code sum",
        ),
        ("--code berrut -k 4 --available have.npy --locate vote y.npy", 2, "--byzantine"),
        (
            "--code berrut -k 4 --byzantine 0 --available have.npy --locate vote y.npy",
            2,
            "--locate needs --byzantine E with E from 1",
        ),
        (
            "--code berrut -k 4 --byzantine 1 --available have.npy --locate vote --threshold=-1 y.npy",
            2,
            "found --threshold -1, expected a number from 0",
        ),
        (
            "--code berrut -k 4 --byzantine 1 --available have.npy --locate vote --threshold nan y.npy",
            2,
            "found --threshold NaN",
        ),
        ("--code berrut -k 4 --available have.npy --kept kept.npy y.npy", 2, "--locate"),
        (
            "--code berrut -k 4 --erase one --confidence c.npy images.npy",
            1,
            "found predictions of f4[1, 2], expected one number or one axis a row",
        ),
        (
            "--code berrut -k 4 --stragglers 2 --erase one --default x.npy y.npy",
            1,
            "found a default of shape",
        ),
    ] {
        let outcome = decode(folder.path(), &format!("{call} -o z.npy"));
        assert_eq!(outcome.code, code, "{call}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{call}: {}", outcome.stderr);
        assert!(!folder.path().join("z.npy").exists(), "{call}");
    }
}

#[test]
fn errors_that_grow_are_warned_of() {
    // A high degree and an end without answers: a polynomial, far from its points.
    let code = "--code floater-hormann -k 24 --stragglers 0 --degree 16";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("y.npy"), f4(&[24, 2], &[1.0; 48])).unwrap();
    let available: Vec<bool> = (0..24).map(|worker| worker < 14).collect();
    fs::write(folder.path().join("have.npy"), mask(&available)).unwrap();
    let outcome = decode(folder.path(), &format!("{code} --available have.npy y.npy"));
    assert_eq!(outcome.code, 0);
    assert!(outcome.stderr.contains("was solved: its reconstructions amplify errors"), "{}", outcome.stderr);
}

#[test]
fn answers_that_are_made_wrong_are_found() {
    let folder = stage("--code berrut -k 4 --byzantine 1", 40);
    let call = "--code berrut -k 4 --byzantine 1 --locate residual -v y.npy";
    let errors = |how: &str| {
        let outcome = decode(folder.path(), &format!("--corrupt {how} --kept kept.npy {call}"));
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let kept = data(&fs::read(folder.path().join("kept.npy")).unwrap()).to_vec();
        let left_out = kept.len() - kept.iter().map(|&kept| usize::from(kept)).sum::<usize>();
        assert!(
            outcome.stderr.contains(&format!("; left out {left_out} wrong answers")),
            "{}",
            outcome.stderr
        );
        (outcome.stdout, outcome.stderr)
    };
    let (rebuilt, message) = errors("noise=1000");
    assert!(message.ends_with("; found 10 of 10 corrupted answers\n"), "{message}");
    assert_flat(&rebuilt, 40);
    assert!(errors("noise=0").1.contains("; left out 0 wrong answers"));
    // The first group has none before it.
    assert!(errors("stale").1.ends_with(" of 9 corrupted answers\n"));
    assert_eq!(errors("flip"), errors("flip"), "the seed decides");
    assert_ne!(errors("flip --seed 1"), errors("flip"));

    for (arguments, message) in [
        ("--corrupt flip --code berrut -k 4 y.npy", "--corrupt"),
        ("--corrupt flip --code berrut -k 4 --byzantine 0 y.npy", "--corrupt needs --byzantine E"),
        ("--corrupt noise=-1 --code berrut -k 4 --byzantine 1 y.npy", "expected flip, stale or noise=SIGMA"),
    ] {
        let outcome = decode(folder.path(), arguments);
        assert!(outcome.code == 2 && outcome.stderr.contains(message), "{arguments}: {}", outcome.stderr);
    }
}
