//! `parm-encode` as a process.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use parm_testkit::npy::{data, descr, f4, f4_values, f8, item, shape, u1};
use parm_testkit::{Tool, tool};

fn encode(arguments: &str) -> Tool {
    Tool::new("parm-encode").args(arguments)
}

#[test]
fn one_parity_is_the_sum_of_the_group() {
    let queries = f4(&[4, 3], &[1., 2., 3., 10., 20., 30., 4., 5., 6., 40., 50., 60.]);
    let parity = encode("--code sum -k 2").stdin(queries).run().output();
    assert_eq!(shape(&parity), [2, 3]);
    assert_eq!(f4_values(&parity), [11., 22., 33., 44., 55., 66.]);
}

#[test]
fn more_parities_have_powers_of_the_slot_as_weights() {
    let folder = tempfile::tempdir().unwrap();
    let queries = f4(&[3, 1], &[1., 10., 100.]);
    let call = encode("--code sum -k 3 -r 3 -o p-{}.npy").within(folder.path()).stdin(queries.clone());
    assert_eq!(call.run().output(), b"");
    for (parity, expected) in [111., 321., 941.].into_iter().enumerate() {
        let bytes = fs::read(folder.path().join(format!("p-{parity}.npy"))).unwrap();
        assert_eq!(f4_values(&bytes), [expected]);
        let picked =
            encode("--code sum -k 3 -r 3 --parity-index").arg(parity.to_string()).stdin(queries.clone());
        assert_eq!(picked.run().output(), bytes, "--parity-index writes the same stream");
    }
}

#[test]
fn weights_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("w.npy"), f8(&[1, 2], &[2., -1.])).unwrap();
    let call = encode("--code sum --weights w.npy").within(folder.path());
    assert_eq!(f4_values(&call.stdin(f4(&[2, 1], &[5., 3.])).run().output()), [7.]);
}

#[test]
fn replicate_deals_spare_workers_round_robin() {
    let queries = f4(&[2, 1], &[5., 3.]);
    for (parity, expected) in [(0, 5.), (1, 3.), (2, 5.)] {
        let call = encode("--code replicate -k 2 -r 3 --parity-index").arg(parity.to_string());
        assert_eq!(f4_values(&call.stdin(queries.clone()).run().output()), [expected]);
    }
}

#[test]
fn sums_of_bytes_do_not_overflow_and_doubles_stay_doubles() {
    let parity = encode("--code sum -k 2").stdin(u1(&[2, 2], &[200, 255, 100, 255])).run().output();
    assert_eq!(f4_values(&parity), [300., 510.]);
    let parity = encode("--code sum -k 2").stdin(f8(&[2, 1], &[1e300, 1e300])).run().output();
    assert_eq!((descr(&parity).as_str(), data(&parity)), ("<f8", 2e300_f64.to_le_bytes().as_slice()));
}

#[test]
fn tails_are_refused_padded_or_dropped() {
    let queries = f4(&[5, 1], &[1., 2., 3., 4., 5.]);
    let refused = encode("--code sum -k 3").stdin(queries.clone()).run();
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("standard input: found 5 rows"), "{}", refused.stderr);
    let padded = encode("--code sum -k 3 --tail pad").stdin(queries.clone()).run().output();
    assert_eq!((shape(&padded), f4_values(&padded)), (vec![2, 1], vec![6., 14.]));
    let dropped = encode("--code sum -k 3 --tail drop").stdin(queries).run().output();
    assert_eq!((shape(&dropped), f4_values(&dropped)), (vec![1, 1], vec![6.]));
}

#[test]
fn splitting_a_stream_changes_no_row() {
    let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
    for tail in ["error", "pad", "drop"] {
        let call = || encode("--code sum -k 4 --tail").arg(tail);
        let whole = call().stdin(f4(&[12, 1], &values)).run().output();
        for cut in 0..=12 {
            let (head, rest) = values.split_at(cut);
            let split = [f4(&[cut, 1], head), f4(&[12 - cut, 1], rest)].concat();
            assert_eq!(f4_values(&call().stdin(split).run().output()), f4_values(&whole), "cut at {cut}");
        }
    }
}

#[test]
fn no_rows_give_no_rows() {
    for tail in ["error", "pad", "drop"] {
        let parity = encode("--code sum -k 2 --tail").arg(tail).stdin(f4(&[0, 3], &[])).run().output();
        assert_eq!((shape(&parity), data(&parity)), (vec![0, 3], [].as_slice()));
    }
}

#[test]
fn compressed_streams_are_read_and_written() {
    let folder = tempfile::tempdir().unwrap();
    let queries = f4(&[2, 2], &[1., 2., 3., 4.]);
    let call = encode("--code sum -k 2 -o p.npy.zst").within(folder.path()).stdin(queries.clone());
    assert_eq!(call.run().output(), b"");
    let compressed = fs::read(folder.path().join("p.npy.zst")).unwrap();
    assert_eq!(compressed[..4], [0x28, 0xb5, 0x2f, 0xfd]);
    let same = encode("--code sum -k 2 --zstd").stdin(queries).run().output();
    assert_eq!(same, compressed);
    let again = encode("--code sum -k 1").stdin(compressed).run().output();
    assert_eq!(f4_values(&again), [4., 6.]);
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.npy");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let truncated = &f4(&[2, 2], &[1., 2., 3., 4.])[..130];
    let failed = encode("--code sum -k 2 -o p.npy").within(folder.path()).stdin(truncated).run();
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");

    symlink("p.npy", folder.path().join("link.npy")).unwrap();
    let call = encode("--code sum -k 2 -o link.npy").within(folder.path());
    assert_eq!(call.stdin(f4(&[2, 1], &[1., 2.])).run().output(), b"");
    assert_eq!(f4_values(&fs::read(&path).unwrap()), [3.], "a link's file is replaced");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640, "and keeps its mode");
}

#[test]
fn a_closed_pipe_ends_it_silently() {
    let mut child = Command::new(tool::folder().join("parm-encode"))
        .args(["--code", "sum", "-k", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let queries = f4(&[1 << 20, 1], &vec![0.; 1 << 20]);
    let feeding = std::thread::spawn(move || drop(stdin.write_all(&queries)));
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn a_signal_leaves_no_file() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let folder = tempfile::tempdir().unwrap();
        // The shell reports an end by signal as 128 plus its number; the input never ends.
        let script = format!(
            "mkfifo in; sleep 60 > in & parm-encode --code sum -k 2 -o p.npy < in & tool=$!; \
             exec 3> in; cat head >&3; until ls -A | grep -q tmp; do sleep 0.01; done; \
             kill -{signal} $tool; wait $tool; code=$?; kill %1; ls -A | grep -cvx -e head -e in; exit $code"
        );
        fs::write(folder.path().join("head"), &f4(&[2, 2], &[0.; 4])[..128]).unwrap();
        let begin = Instant::now();
        let path = format!("{}:{}", tool::folder().display(), std::env::var("PATH").unwrap());
        // Background jobs of a shell that is not interactive ignore SIGINT, unless told otherwise.
        let output = Command::new("bash")
            .args(["-mc", &script])
            .current_dir(folder.path())
            .env("PATH", path)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"0\n", "nothing is left");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn big_endian_and_fortran_order_are_read() {
    let queries = item(">f4", &[2, 2], &[1.0_f32, 2., 3., 4.].map(f32::to_be_bytes).concat());
    assert_eq!(f4_values(&encode("--code sum -k 2").stdin(queries).run().output()), [4., 6.]);
    let header = String::from_utf8_lossy(&f4(&[2, 2], &[0.; 4])[..128]).into_owned();
    assert!(header.contains("False"));
    let mut fortran = f4(&[2, 2], &[1., 3., 2., 4.]);
    let at = fortran.windows(6).position(|window| window == b"False,").unwrap();
    fortran[at..at + 6].copy_from_slice(b"True, ");
    assert_eq!(f4_values(&encode("--code sum -k 2").stdin(fortran).run().output()), [4., 6.]);
}

/// Berrut's weights of worker point z, as the formula stands.
fn berrut(k: usize, z: f64) -> Vec<f64> {
    let point = |j: usize| ((2 * j + 1) as f64 * std::f64::consts::PI / (2 * k) as f64).cos();
    let term = |j: usize| (if j.is_multiple_of(2) { 1.0 } else { -1.0 }) / (z - point(j));
    if let Some(same) = (0..k).find(|&j| (z - point(j)).abs() < 1e-12) {
        // The limit: this worker carries the query itself.
        return (0..k).map(|j| f64::from(u8::from(j == same))).collect();
    }
    let sum: f64 = (0..k).map(term).sum();
    (0..k).map(|j| term(j) / sum).collect()
}

#[test]
fn berrut_writes_one_stream_of_coded_queries_in_worker_order() {
    let values: Vec<f32> = (0..18).map(|value| ((value * 5) % 11) as f32).collect();
    for (points, angle) in [
        ("", &(|i, n| i / n) as &dyn Fn(f64, f64) -> f64),
        ("--points approxifer", &|i, n| i / n),
        ("--points chebyshev1", &|i, n| (2.0 * i + 1.0) / (2.0 * n)),
        ("--points chebyshev2", &|i, n| i / (n - 1.0)),
    ] {
        let call = encode("--code berrut -k 3 --stragglers 1").args(points);
        let coded = call.stdin(f4(&[6, 3], &values)).run().output();
        assert_eq!(shape(&coded), [8, 3]);
        for (i, found) in f4_values(&coded).into_iter().enumerate() {
            let (group, worker, element) = (i / 12, i / 3 % 4, i % 3);
            let weights = berrut(3, (angle(worker as f64, 4.0) * std::f64::consts::PI).cos());
            let expected: f64 =
                (0..3).map(|j| weights[j] * f64::from(values[(group * 3 + j) * 3 + element])).sum();
            assert!((f64::from(found) - expected).abs() < 1e-5, "{points}: {found} for {expected}");
        }
    }
}

#[test]
fn interpolating_codes_count_their_workers() {
    let queries = f8(&[8, 2], &[1.0; 16]);
    for (call, workers) in [
        ("--code berrut -k 4", 5),
        ("--code berrut -k 4 --stragglers 0", 4),
        ("--code floater-hormann -k 4 --stragglers 2 --degree 3", 6),
        ("--code spline -k 4 --stragglers 3 --lambda-e 1e-4 --lambda-d 0.1", 7),
        ("--code berrut -k 4 --byzantine 1", 10),
        ("--code berrut -k 4 --byzantine 2 --stragglers 0", 11),
    ] {
        let coded = encode(call).stdin(queries.clone()).run().output();
        assert_eq!((descr(&coded).as_str(), shape(&coded)), ("<f8", vec![2 * workers, 2]), "{call}");
        // Every curve through equal queries is flat.
        for value in data(&coded).as_chunks().0 {
            assert!((f64::from_le_bytes(*value) - 1.0).abs() < 1e-12, "{call}");
        }
    }
}

#[test]
fn tails_of_interpolating_codes_are_refused_padded_or_dropped() {
    let queries = f4(&[5, 1], &[1., 2., 3., 4., 5.]);
    let refused = encode("--code berrut -k 3").stdin(queries.clone()).run();
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("found 5 rows") && refused.stderr.contains("--tail pad"));
    let padded = encode("--code berrut -k 3 --tail pad").stdin(queries.clone()).run().output();
    let full = f4(&[6, 1], &[1., 2., 3., 4., 5., 5.]);
    assert_eq!(padded, encode("--code berrut -k 3").stdin(full).run().output());
    let dropped = encode("--code berrut -k 3 --tail drop").stdin(queries).run().output();
    assert_eq!(dropped, encode("--code berrut -k 3").stdin(f4(&[3, 1], &[1., 2., 3.])).run().output());
}

#[test]
fn splitting_a_stream_changes_no_coded_query() {
    let values: Vec<f32> = (0..10).map(|value| value as f32).collect();
    let call = || encode("--code floater-hormann -k 4 --stragglers 2 --tail pad");
    let whole = call().stdin(f4(&[10, 1], &values)).run().output();
    for cut in 0..=10 {
        let (head, rest) = values.split_at(cut);
        let split = [f4(&[cut, 1], head), f4(&[10 - cut, 1], rest)].concat();
        assert_eq!(f4_values(&call().stdin(split).run().output()), f4_values(&whole), "cut at {cut}");
    }
}

#[test]
fn options_of_other_codes_are_refused() {
    for (call, message) in [
        ("--code sum -k 2 --stragglers 1", "--stragglers goes with interpolating codes, not with --code sum"),
        ("--code sum -k 2 --byzantine 1", "--byzantine goes with interpolating codes"),
        ("--code none -k 2 --points chebyshev1", "--points goes with interpolating codes"),
        ("--code berrut -k 2 -r 1", "-r goes with codes with parities"),
        ("--code berrut -k 2 --weights w.npy", "--weights goes with --code sum, not with --code berrut"),
        (
            "--code berrut -k 2 --degree 1",
            "--degree goes with --code floater-hormann, not with --code berrut",
        ),
        ("--code berrut -k 2 --lambda-e 1", "--lambda-e goes with --code spline, not with --code berrut"),
        ("--code floater-hormann -k 2 --lambda-d 1", "--lambda-d goes with --code spline"),
        ("--code spline -k 2 --degree 1", "--degree goes with --code floater-hormann"),
        ("--code spline -k 2 --lambda-d=-1", "found lambda -1; expected a finite number from 0"),
        ("--code berrut", "--code berrut needs -k K"),
        ("--code berrut -k 2 --parity-index 0", "--parity-index goes with codes with parities"),
        ("--code berrut -k 2 --points equal", "invalid value 'equal'"),
        ("--code lagrange -k 2", "sum, concat, replicate, none, berrut, floater-hormann, spline"),
    ] {
        let outcome = encode(call).stdin(f4(&[2, 1], &[1., 2.])).run();
        assert_eq!(outcome.code, 2, "{call}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{call}: {}", outcome.stderr);
    }
}

#[test]
fn concat_tiles_images_channel_by_channel() {
    // Two channels of 4×4, constant in each image.
    let image = |value: f32| [[value; 16], [-value; 16]].concat();
    let images = |count: usize| (1..=count).flat_map(|value| image(value as f32)).collect::<Vec<f32>>();
    let two = encode("--code concat -k 2").stdin(f4(&[2, 2, 4, 4], &images(2))).run().output();
    assert_eq!(shape(&two), [1, 2, 4, 4]);
    let side_by_side = [1., 1., 2., 2.].repeat(4);
    let negative: Vec<f32> = side_by_side.iter().map(|value| -value).collect();
    assert_eq!(f4_values(&two), [side_by_side, negative].concat());
    let four = encode("--code concat -k 4 --tail pad").stdin(f4(&[3, 2, 4, 4], &images(3))).run().output();
    let quadrants = [[1., 1., 2., 2.].repeat(2), [3.; 8].to_vec()].concat();
    assert_eq!(f4_values(&four)[..16], quadrants, "the last image is repeated");
    for (call, rows, code, message) in [
        ("--code concat -k 2", f4(&[2, 4], &[0.0; 8]), 1, "expected images: [channels, height, width]"),
        ("--code concat -k 9", f4(&[9, 2, 2], &[0.0; 36]), 1, "pad each image to 3x3"),
        ("--code concat -k 2 -r 2", f4(&[2, 2, 2], &[0.0; 8]), 2, "concat has one parity query"),
    ] {
        let refused = encode(call).stdin(rows).run();
        assert!(refused.code == code && refused.stderr.contains(message), "{call}: {}", refused.stderr);
    }
}
