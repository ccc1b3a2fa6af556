//! The subcommands that make other streams of streams, and other files of tensors.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use parm::Dtype;
use parm_cli::Io;
use parm_cli::tools::data::Data;
use parm_testkit::npy::{data, descr, f4, f4_values, f8, item, mask, shape, u1};
use parm_testkit::{Outcome, Tool};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn tool(arguments: &str, within: &Path) -> Outcome {
    Tool::new("parm-data").args(arguments).within(within).run()
}

/// Runs the tool in this process, in silence.
fn run(arguments: &str, within: &Path) {
    let words = arguments.split(' ').map(|word| word.replace('@', &format!("{}/", within.display())));
    let options = Data::try_parse_from(std::iter::once("parm-data".to_owned()).chain(words)).unwrap();
    parm_data::run(&options, &mut Io::new("parm-data", &[][..], vec![], vec![])).unwrap();
}

fn fixtures() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tensors")).unwrap()
}

fn folder_with(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn read(folder: &TempDir, name: &str) -> Vec<u8> {
    fs::read(folder.path().join(name)).unwrap()
}

#[test]
fn what_numpy_and_safetensors_write_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["plain.npz", "deflated.npz", "set.safetensors"] {
        for tensor in ["x", "labels"] {
            let file = fixtures().join(name).display().to_string();
            assert_eq!(
                tool(&format!("convert {file} --name {tensor} -o t.npy"), folder.path()).output(),
                b""
            );
            let expected = fs::read(fixtures().join(format!("{tensor}.npy"))).unwrap();
            let found = read(&folder, "t.npy");
            assert_eq!(
                (shape(&found), descr(&found)),
                (shape(&expected), descr(&expected)),
                "{name}: {tensor}"
            );
            assert_eq!(data(&found), data(&expected), "{name}: {tensor}");
        }
    }
    let table = fixtures().join("rows.csv").display().to_string();
    assert_eq!(tool(&format!("convert {table} -o t.npy"), folder.path()).output(), b"");
    assert_eq!(tool("cast --dtype f4 t.npy -o s.npy", folder.path()).output(), b"");
    let expected = fs::read(fixtures().join("x.npy")).unwrap();
    assert_eq!(f4_values(&read(&folder, "s.npy")), f4_values(&expected));
    let labels = fixtures().join("labels.csv").display().to_string();
    assert_eq!(tool(&format!("convert {labels} -o t.npy"), folder.path()).output(), b"");
    assert_eq!(data(&read(&folder, "t.npy")), data(&fs::read(fixtures().join("labels.npy")).unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Through each format and back, elements and shapes are the same.
    #[test]
    fn tensors_survive_the_trip_through_every_format(
        dtype in prop::sample::select(Dtype::ALL.to_vec()),
        shape in prop::collection::vec(1_usize..4, 0..4),
        items in prop::collection::vec(0_usize..5, 1..3),
        seed: u8,
    ) {
        let per_row = shape.iter().product::<usize>();
        let element = |at: usize| {
            // Finite in every type.
            let byte = |at: usize| (at.wrapping_mul(37).wrapping_add(seed.into()) % 60) as u8;
            if dtype == Dtype::Bool { vec![byte(at) & 1] } else { (0..dtype.size()).map(|i| byte(at + i)).collect() }
        };
        let mut stream = Vec::new();
        for &rows in &items {
            let bytes: Vec<u8> = (0..rows * per_row).flat_map(element).collect();
            let axes: Vec<usize> = std::iter::once(rows).chain(shape.iter().copied()).collect();
            stream.extend(item(&dtype.descr(), &axes, &bytes));
        }
        let folder = folder_with(&[("x.npy", stream)]);
        let at = folder.path();
        run("cat @x.npy -o @joined.npy", at);
        let joined = read(&folder, "joined.npy");
        for format in ["npy", "npz", "safetensors", "csv", "idx"] {
            let has_type = matches!(dtype, Dtype::U8 | Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::F32 | Dtype::F64);
            // A table without lines does not say what it is of.
            let is_empty = items.iter().sum::<usize>() == 0;
            if (format == "idx" && !has_type) || (format == "csv" && is_empty) {
                continue;
            }
            run(&format!("convert @x.npy -o @there.{format}"), at);
            run(&format!("convert @there.{format} -o @back.npy"), at);
            if format == "csv" {
                // Text has no type, and one axis.
                run(&format!("cast --dtype {dtype} @back.npy -o @typed.npy"), at);
                let typed = read(&folder, "typed.npy");
                prop_assert_eq!(data(&typed), data(&joined));
                prop_assert_eq!(shape_product(&read(&folder, "back.npy")), shape_product(&joined));
            } else {
                prop_assert!(read(&folder, "back.npy") == joined, "{}", format);
            }
        }
    }
}

fn shape_product(item: &[u8]) -> usize {
    shape(item).iter().product()
}

#[test]
fn bfloat16_becomes_f4() {
    let header = br#"{"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}         "#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header, &[0x80, 0x3f, 0x20, 0xc0]].concat();
    let folder = folder_with(&[("b.safetensors", file)]);
    let found = tool("convert b.safetensors", folder.path()).output();
    assert_eq!((descr(&found).as_str(), f4_values(&found)), ("<f4", vec![1.0, -2.5]));
}

#[test]
fn several_tensors_have_their_names() {
    let folder = folder_with(&[("a.npy", f4(&[2, 1], &[1., 2.])), ("b.npy", u1(&[3], &[7, 8, 9]))]);
    for archive in ["all.npz", "all.safetensors"] {
        assert_eq!(tool(&format!("convert a.npy b.npy -o {archive}"), folder.path()).output(), b"");
        let again = read(&folder, archive);
        assert_eq!(tool(&format!("convert a.npy b.npy -o {archive}"), folder.path()).output(), b"");
        assert!(read(&folder, archive) == again, "the same bytes each time");
        assert_eq!(data(&tool(&format!("convert {archive} --name b"), folder.path()).output()), [7, 8, 9]);
        let both = tool(&format!("convert {archive} -o two.npy"), folder.path());
        let message =
            "parm-data: found 2 tensors, a, b, expected one for this format: choose it with --name\n";
        assert_eq!((both.code, both.stderr.as_str()), (2, message));
    }
    assert_eq!(tool("convert a.npy --name weights -o w.npz", folder.path()).output(), b"");
    assert_eq!(f4_values(&tool("convert w.npz --name weights", folder.path()).output()), [1., 2.]);
    let piped = Tool::new("parm-data").args("convert --to csv").stdin(read(&folder, "b.npy")).run().output();
    assert_eq!(piped, b"7\n8\n9\n");
    let columns = "name,x,y\nq,1,2.5\nr,3,4\n";
    let piped = Tool::new("parm-data").args("convert --columns y,x").stdin(columns).run().output();
    assert_eq!((descr(&piped).as_str(), data(&piped)), ("<f8", data(&f8(&[2, 2], &[2.5, 1., 4., 3.]))));
}

#[test]
fn files_that_are_no_tensors_are_refused_by_name() {
    let safetensors = |header: &str, data: &[u8]| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    let npz = fs::read(fixtures().join("plain.npz")).unwrap();
    let mut other = npz.clone();
    for at in 0..other.len() - 5 {
        if other[at..].starts_with(b"x.npy") {
            other[at..at + 5].copy_from_slice(b"x.txt");
        }
    }
    for (file, message) in [
        (vec![1, 2, 3], "found a file that begins with 010203, expected npy, npz, safetensors, CSV or IDX"),
        (npz[..300].to_vec(), "cannot read the archive"),
        (other, "found the member 'x.txt', expected arrays of NumPy, NAME.npy"),
        (safetensors("{\"a\":0}", b""), "malformed header of safetensors"),
        (
            safetensors(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, &[0; 7]),
            "found 69 bytes, expected 70 as the header says",
        ),
        ([&[200, 0, 0, 0, 0, 0, 0, 0][..], b"{}"].concat(), "truncated header: found 2 bytes, expected 200"),
        (
            safetensors(r#"{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#, &[0; 2]),
            "a: found elements of type F8_E4M3, which .npy does not have",
        ),
        (
            safetensors(r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#, &[0; 4]),
            "a: found a single number (shape []), expected rows along axis 0",
        ),
        (b"1,2\n3,x\n".to_vec(), "line 2, column 1: found 'x', expected a number"),
        (b"1,2\n3\n".to_vec(), "CSV error: record 1"),
        (vec![0, 0, 8, 1, 0, 0, 0, 3, 1, 2], "found 2 bytes of data, expected 3 for shape [3]"),
        (vec![0, 0, 8, 1, 0, 0, 0, 1, 1, 2], "found 2 bytes of data, expected 1 for shape [1]"),
        (vec![0, 0, 0x0a, 1, 0, 0, 0, 1, 1], "found the element type 0a, expected 08, 09 or 0b to 0e"),
        (vec![0, 0, 8, 2, 0, 0, 0, 1], "truncated header: found 1 axis, expected 2 of them, at least 1"),
    ] {
        let folder = folder_with(&[("bad", file)]);
        let refused = tool("convert bad -o out.npz", folder.path());
        assert_eq!(refused.code, 1, "{message}");
        assert!(
            refused.stderr.starts_with(&format!("parm-data: bad: {message}")),
            "{} {message}",
            refused.stderr
        );
        assert_eq!(refused.stderr.lines().count(), 1);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{message}");
    }
    let huge = [&[0xff; 4][..], &[0; 4], b"{"].concat();
    let folder = folder_with(&[
        ("bad", huge),
        ("a.npy", f4(&[1], &[1.])),
        ("b.npy", item("<i8", &[1], &[0; 8])),
        ("t.csv", b"a,b\n1,2\n".to_vec()),
    ]);
    for (call, code, message) in [
        ("convert bad", 1, "bad: found a header of 4294967295 bytes, expected at most 100000000"),
        ("convert b.npy -o b.idx", 1, "b: found rows of i8[], expected u1, i1, i2, i4, f4 or f8 for IDX"),
        ("convert a.npy -o a.txt", 2, "found the output a.txt, expected a name that ends in .npy, .npz"),
        ("convert a.npy a.npy -o a.npz", 1, "found two tensors of the name 'a', in a.npy and a.npy"),
        ("convert a.npy b.npy --name c -o a.npz", 1, "a.npy: found no tensor 'c', expected one of a, b"),
        ("convert a.npy --columns 1", 2, "--columns goes with CSV, found a.npy of another format"),
        ("convert t.csv --columns c", 1, "t.csv: found no column 'c', expected one of a, b, or 0 to 1"),
        ("convert --from csv missing", 1, "missing: cannot open"),
    ] {
        let refused = tool(call, folder.path());
        assert_eq!(refused.code, code, "{call}: {}", refused.stderr);
        assert!(refused.stderr.starts_with(&format!("parm-data: {message}")), "{call}: {}", refused.stderr);
    }
}

#[test]
fn cast_scales_rounds_and_refuses_what_does_not_fit() {
    let folder = folder_with(&[
        ("bytes.npy", u1(&[2, 2, 1], &[0, 255, 51, 102])),
        ("halves.npy", f4(&[4], &[0.5, 1.5, -2.5, 2.6])),
        ("nan.npy", f4(&[2], &[1.0, f32::NAN])),
        ("large.npy", f8(&[2], &[1.0, 1e300])),
        ("most.npy", item("<u8", &[1], &u64::MAX.to_le_bytes())),
    ]);
    let cast = |call: &str| tool(&format!("cast {call}"), folder.path());
    let unit = cast("--scale 1/255 bytes.npy").output();
    assert_eq!((shape(&unit), f4_values(&unit)), (vec![2, 2, 1], vec![0., 1., 0.2, 0.4]));
    let standard = cast("--scale 1/255 --mean 0.5,0.2 --std 0.5,2 bytes.npy").output();
    assert_eq!(f4_values(&standard), [-1., 0.4, -0.6, 0.1]);
    assert_eq!(data(&cast("--mean -1 --dtype u2 bytes.npy").output()), [1, 0, 0, 1, 52, 0, 103, 0]);
    let rounded = cast("--dtype int8 halves.npy").output();
    assert_eq!((descr(&rounded).as_str(), data(&rounded)), ("|i1", [0, 2, 0xfe, 3].as_slice()));
    assert_eq!(data(&cast("--dtype b1 halves.npy").output()), [1; 4]);
    assert_eq!(data(&cast("--dtype f8 nan.npy").output())[..8], 1_f64.to_le_bytes());
    for (call, code, message) in [
        ("--dtype u1 halves.npy", 1, "halves.npy: row 2: found -2.5, expected 0 to 255, as u1 holds"),
        (
            "--dtype i4 nan.npy",
            1,
            "nan.npy: row 1: found NaN, expected -2147483648 to 2147483647, as i4 holds",
        ),
        (
            "--dtype b1 nan.npy",
            1,
            "nan.npy: row 1: found NaN, expected a number, which is true unless it is 0",
        ),
        ("--dtype f4 large.npy", 1, "large.npy: row 1: found 1"),
        ("--dtype f2 large.npy", 1, "large.npy: row 1: found 1"),
        (
            "--dtype i8 most.npy",
            1,
            "most.npy: row 0: found 18446744073709551615, expected -9223372036854775808 to",
        ),
        ("--argmax halves.npy", 1, "halves.npy: found rows of f4[], expected scores: rows with one axis"),
        ("--one-hot 3 halves.npy", 1, "halves.npy: found rows of f4[], expected labels: one integer a row"),
        ("halves.npy", 2, "found nothing to do, expected --dtype"),
        ("--mean 1,2,3 bytes.npy", 2, "found 3 numbers for --mean, expected 1 or 2, one for each channel"),
        ("--std 0 bytes.npy", 2, "found --std of 0 or less"),
    ] {
        let refused = cast(call);
        assert_eq!(refused.code, code, "{call}: {}", refused.stderr);
        assert!(refused.stderr.starts_with(&format!("parm-data: {message}")), "{call}: {}", refused.stderr);
    }
    for call in ["--scale 1/0 bytes.npy", "--dtype c8 bytes.npy", "--argmax --one-hot 2 bytes.npy"] {
        assert_eq!(cast(call).code, 2, "{call}");
    }
}

#[test]
fn labels_become_rows_and_rows_labels() {
    let labels = [2, 0, 1, 2];
    let folder = folder_with(&[("y.npy", u1(&[4], &labels)), ("wide.npy", f4(&[1, 300], &[0.; 300]))]);
    let hot = tool("cast --one-hot 3 y.npy -o hot.npy -v", folder.path());
    assert_eq!((hot.code, hot.stderr.as_str()), (0, "parm-data: cast 4 rows of u1[] to f4[3]\n"));
    let hot = read(&folder, "hot.npy");
    assert_eq!((shape(&hot), &f4_values(&hot)[..6]), (vec![4, 3], [0., 0., 1., 1., 0., 0.].as_slice()));
    let back = tool("cast --argmax hot.npy", folder.path()).output();
    assert_eq!((descr(&back).as_str(), data(&back)), ("|u1", labels.as_slice()));
    assert_eq!(descr(&tool("cast --argmax wide.npy", folder.path()).output()), "<u2");
    let refused = tool("cast --one-hot 2 y.npy", folder.path());
    assert_eq!(refused.stderr, "parm-data: y.npy: row 0: found label 2, expected 0 to 1\n");
}

#[test]
fn split_keeps_rows_together_and_classes_in_proportion() {
    let labels: Vec<u8> = (0..100).map(|row| u8::from(row >= 80)).collect();
    let rows: Vec<f32> = (0..100).map(|row| row as f32).collect();
    let files =
        [("x.npy", f4(&[100, 1], &rows)), ("y.npy", u1(&[100], &labels)), ("z.npy", f4(&[3], &[0.; 3]))];
    let folder = folder_with(&files);
    let split = |call: &str| tool(&format!("split x.npy y.npy {call}"), folder.path());
    let done = split("--validation 10 --test 0.2 --stratify y.npy -o parts -v");
    let line = "parm-data: split 2 streams: 70 train, 10 validation, 20 test rows\n";
    assert_eq!((done.code, done.stderr.as_str()), (0, line));
    let part = |of: &str, part: &str| read(&folder, &format!("{of}/{part}/x.npy"));
    let mut all = Vec::new();
    for (name, second) in [("train", 14), ("validation", 2), ("test", 4)] {
        let (x, y) = (f4_values(&part("parts", name)), read(&folder, &format!("parts/{name}/y.npy")));
        assert!(x.iter().zip(data(&y)).all(|(&row, &label)| labels[row as usize] == label), "{name}");
        assert_eq!(data(&y).iter().map(|&label| usize::from(label)).sum::<usize>(), second, "{name}");
        assert!(x.is_sorted(), "{name}");
        all.extend(x);
    }
    all.sort_by(f32::total_cmp);
    assert_eq!(all, rows, "each row is in one part");
    assert_eq!(split("--test 0.2 --validation 10 --stratify y.npy -o again").output(), b"");
    assert_eq!(part("parts", "test"), part("again", "test"), "the seed decides");
    assert_eq!(split("--test 20 --seed 1 -o other").output(), b"");
    assert_ne!(part("parts", "test"), part("other", "test"));
    assert!(!folder.path().join("other/validation").exists());
    for (call, code, message) in [
        ("split x.npy z.npy --test 2 -o bad", 1, "z.npy: found 3 rows, expected 100 as in x.npy"),
        ("split x.npy --test 2 --stratify z.npy -o bad", 1, "z.npy: found rows of f4[], expected labels"),
        (
            "split x.npy --test 100 -o bad",
            1,
            "found 0 rows for validation and 100 for tests, expected fewer than the 100 rows",
        ),
        ("split x.npy --test 0.001 -o bad", 1, "--test of 100 rows is none, expected at least 1"),
        (
            "split x.npy x.npy --test 2 -o bad",
            2,
            "found two streams of the name x.npy, expected different ones",
        ),
        ("split .. --test 2 -o bad", 2, "found .., expected a file, whose name its parts get"),
    ] {
        let refused = tool(call, folder.path());
        assert_eq!(refused.code, code, "{call}: {}", refused.stderr);
        assert!(refused.stderr.starts_with(&format!("parm-data: {message}")), "{call}: {}", refused.stderr);
        assert!(!folder.path().join("bad/test/x.npy").exists(), "{call}");
    }
    assert_eq!(split("-o bad").code, 2, "neither --test nor --validation");
}

#[test]
fn group_shows_the_rows_of_one_group() {
    let folder = folder_with(&[
        ("x.npy", [f4(&[3, 2], &[0., 1., 2., 3., 4., 5.]), f4(&[2, 2], &[6., 7., 8., 9.5])].concat()),
        ("y.npy", u1(&[5], &[5, 6, 7, 8, 9])),
        ("have.npy", mask(&[true, true, false, true, true])),
        ("p.npy", f4(&[2, 2], &[0.5, 1.5, 2.5, 3.5])),
    ]);
    let group = |call: &str| tool(&format!("group {call}"), folder.path());
    let shown =
        group("1 x.npy --code sum -k 2 --tail pad --parity p.npy --labels y.npy --available have.npy");
    let expected = "group 1 of the code sum, k = 2, r = 1\n  \
                    slot 0: row 2, label 7, unavailable: 4 5\n  \
                    slot 1: row 3, label 8, available: 6 7\n  \
                    parity 0 = 1 X0 + 1 X1: 2.5 3.5\n";
    assert_eq!(String::from_utf8(shown.output()).unwrap(), expected);
    let last = group("2 x.npy --code sum -k 2 -r 2 --tail pad --width 1 --labels y.npy").output();
    let expected = "group 2 of the code sum, k = 2, r = 2\n  \
                    slot 0: row 4, label 9: 8 and 1 more\n  \
                    slot 1: row 4, label 9, repeated (--tail pad)\n  \
                    parity 0 = 1 X0 + 1 X1\n  \
                    parity 1 = 1 X0 + 2 X1\n";
    assert_eq!(String::from_utf8(last).unwrap(), expected);
    let workers = String::from_utf8(group("0 x.npy --code berrut -k 2").output()).unwrap();
    assert!(workers.contains("  worker 2 = ") && workers.contains("n = 3"), "{workers}");
    let tiled = String::from_utf8(group("0 x.npy --code concat -k 2").output()).unwrap();
    assert!(tiled.ends_with("  parity 0 = the images of all slots, tiled\n"), "{tiled}");
    let report: Value =
        serde_json::from_slice(&group("0 x.npy --code sum -k 2 --parity p.npy --json").output()).unwrap();
    assert_eq!(report["rows"][1], json!({"slot": 1, "row": 1, "repeated": false, "values": [2.0, 3.0]}));
    assert_eq!((&report["weights"], &report["parities"]), (&json!([[1.0, 1.0]]), &json!([[0.5, 1.5]])));
    for (call, code, message) in [
        ("9 x.npy --code sum -k 2", 1, "x.npy: found 5 rows, 3 groups, expected group 9"),
        ("2 x.npy --code sum -k 2", 1, "x.npy: found 5 rows, which do not fill groups of k = 2"),
        ("2 x.npy --code sum -k 2 --tail drop", 1, "x.npy: rows 4 to 4 are left over, and in no group"),
        (
            "2 x.npy --code sum -k 2 --tail pad --parity p.npy",
            1,
            "p.npy: found 2 groups, expected a row for group 2",
        ),
        (
            "0 x.npy --code sum -k 2 --parity p.npy --parity p.npy",
            2,
            "found 2 --parity streams, expected at most r = 1",
        ),
        ("0 x.npy --code berrut -k 2 --labels y.npy", 2, "--labels goes with codes that keep the queries"),
        ("0 x.npy --code sum -k 5 --available p.npy", 1, "p.npy: found rows of f4[2], expected a mask"),
        ("1 y.npy --code sum -k 2 --labels y.npy --available x.npy", 1, "x.npy: found rows of f4[2]"),
    ] {
        let refused = group(call);
        assert_eq!(refused.code, code, "{call}: {}", refused.stderr);
        assert!(refused.stderr.starts_with(&format!("parm-data: {message}")), "{call}: {}", refused.stderr);
    }
    fs::write(folder.path().join("few.npy"), u1(&[3], &[1, 1, 1])).unwrap();
    let refused = group("1 x.npy --code sum -k 2 --labels few.npy");
    assert_eq!(refused.stderr, "parm-data: few.npy: found 3 rows, expected at least 4, one for each row\n");
}
