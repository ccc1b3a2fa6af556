//! Learned decoders, by a TorchScript model that decodes as `sum` with r = 1 does: both must agree.

use std::fs;
use std::path::Path;

use parm_testkit::npy::{data, f4, f4_values, f8, mask, shape};
use parm_testkit::{Outcome, Tool, code_dir};
use tempfile::TempDir;

fn decode(folder: &Path, arguments: &str) -> Outcome {
    Tool::new("parm-decode").args(arguments).within(folder).run()
}

fn values(rows: usize) -> Vec<f32> {
    (0..rows * 2).map(|value| ((value * 7) % 23) as f32).collect()
}

/// A folder with `rows` predictions of two, of which every `every`-th is lost (and not a number), their
/// mask, their parity outputs, and a code with a learned decoder.
fn stage(rows: usize, k: usize, every: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    write("y.npy", f4(&[rows, 2], &values(rows)));
    let available: Vec<bool> = (0..rows).map(|row| row % every != every - 1).collect();
    let mut lost = values(rows);
    for (row, _) in available.iter().enumerate().filter(|(_, available)| !**available) {
        lost[row * 2..][..2].fill(f32::NAN);
    }
    write("lost.npy", f4(&[rows, 2], &lost));
    write("have.npy", mask(&available));
    let call = format!("--code sum -k {k} --tail pad -o p.npy y.npy");
    let _ = Tool::new("parm-encode").args(&call).within(folder.path()).run().output();
    code_dir::learned(&folder.path().join("code"), (k, 1), None, Some("decoder.pt"));
    folder
}

#[test]
fn a_learned_decoder_fills_what_is_missing() {
    for (rows, k, every, tail) in [(600, 2, 4, "error"), (90_000, 3, 5, "error"), (11, 4, 10, "pad")] {
        let folder = stage(rows, k, every);
        let call = format!(
            "--tail {tail} --parity p.npy --available have.npy --solved s.npy --confidence c.npy -v lost.npy"
        );
        let outcome = decode(folder.path(), &format!("--code code --threads 1 {call}"));
        let lost = rows / every;
        let message = format!("parm-decode: wrote {rows} predictions: {lost} rebuilt, 0 unsolved\n");
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, message.as_str()));
        assert!(shape(&outcome.stdout) == [rows, 2] && f4_values(&outcome.stdout) == values(rows));
        let sure = f4_values(&fs::read(folder.path().join("c.npy")).unwrap());
        assert!(sure.iter().enumerate().all(|(row, &sure)| (sure == 1.0) == (row % every != every - 1)));
        assert!(data(&fs::read(folder.path().join("s.npy")).unwrap()).iter().all(|&solved| solved == 1));
    }
}

#[test]
fn an_exported_program_decodes_as_well() {
    let folder = stage(600, 2, 4);
    code_dir::learned(&folder.path().join("program"), (2, 1), None, Some("decoder.pt2"));
    let decoded = |code: &str| {
        let call = format!("--code {code} --threads 1 --parity p.npy --available have.npy lost.npy");
        decode(folder.path(), &call).output()
    };
    assert_eq!(decoded("program"), decoded("code"));
}

#[test]
fn losses_beyond_the_parities_stay_as_they_came_or_get_the_default() {
    let folder = stage(6, 3, 9);
    fs::write(folder.path().join("have.npy"), mask(&[false, false, true, true, false, true])).unwrap();
    let call = "--code code --parity p.npy --available have.npy";
    let outcome = decode(folder.path(), &format!("{call} --default zero y.npy"));
    assert_eq!(outcome.code, 3);
    assert_eq!(outcome.stderr, "parm-decode: warning: 2 of 3 missing predictions could not be rebuilt\n");
    let mut expected = values(6);
    expected[..4].fill(0.0);
    assert_eq!(f4_values(&outcome.stdout), expected);
    // A parity output that is lost as well solves nothing.
    fs::write(folder.path().join("parity.npy"), mask(&[true, false])).unwrap();
    let outcome =
        decode(folder.path(), &format!("{call} --parity-available parity.npy --allow-unsolved -v y.npy"));
    assert_eq!(outcome.stderr, "parm-decode: wrote 6 predictions: 0 rebuilt, 3 unsolved\n");

    // The last row of a short group stands in its empty slots, and is lost with them.
    let folder = stage(5, 3, 5);
    let short =
        decode(folder.path(), "--tail pad --code code --parity p.npy --available have.npy -v lost.npy");
    assert!(short.stderr.ends_with("wrote 5 predictions: 0 rebuilt, 1 unsolved\n"), "{}", short.stderr);
}

#[test]
fn each_loss_is_simulated_and_f8_stays_f8() {
    let folder = stage(600, 3, 999);
    let wide: Vec<f64> = values(600).iter().map(|&value| f64::from(value)).collect();
    fs::write(folder.path().join("y8.npy"), f8(&[600, 2], &wide)).unwrap();
    let call = "--parity p.npy --erase each --erased-out erased.npy y8.npy";
    let learned = decode(folder.path(), &format!("--code code {call}")).output();
    let erased = fs::read(folder.path().join("erased.npy")).unwrap();
    let linear = decode(folder.path(), &format!("--code sum -k 3 {call}")).output();
    assert_eq!(shape(&learned), [1800, 2]);
    assert!(learned == linear && erased == fs::read(folder.path().join("erased.npy")).unwrap());
}

#[test]
fn a_model_that_is_no_decoder_and_streams_that_end_early_are_refused() {
    let folder = stage(6, 3, 2);
    let call = "--parity p.npy --available have.npy -o out.npy lost.npy";
    code_dir::learned(&folder.path().join("wrong"), (3, 1), None, Some("total.pt"));
    let outcome = decode(folder.path(), &format!("--code wrong {call}"));
    assert_eq!(outcome.code, 1);
    assert!(
        outcome.stderr.ends_with("parm-decode: parm-infer failed (exit status: 1)\n"),
        "{}",
        outcome.stderr
    );
    code_dir::learned(&folder.path().join("encoder"), (3, 1), None, Some("encoder.pt"));
    let outcome = decode(folder.path(), &format!("--code encoder {call}"));
    assert_eq!(outcome.stderr, "parm-decode: found outputs of f4[2, 2] from the decoder, expected [3, 2]\n");

    fs::write(folder.path().join("p.npy"), f4(&[1, 2], &[0.0, 0.0])).unwrap();
    let outcome = decode(folder.path(), &format!("--code code {call}"));
    assert_eq!(outcome.code, 1);
    assert_eq!(
        outcome.stderr,
        "parm-decode: p.npy: found fewer rows than lost.npy has coding groups, expected one row per group\n"
    );
    assert!(!folder.path().join("out.npy").exists());
}
