//! `parm-data` as a process.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use flate2::Compression;
use flate2::write::GzEncoder;
use parm_testkit::npy::{data, f4, f4_values, item, shape, u1};
use parm_testkit::{Tool, npy};
use serde_json::{Value, json};

fn tool(arguments: &str) -> Tool {
    Tool::new("parm-data").args(arguments)
}

fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|value| value as f32).collect()
}

#[test]
fn info_describes_every_item() {
    let big = item(">f4", &[1, 2], &[0; 8]);
    let stream = [f4(&[3, 2], &numbers(6)), big].concat();
    let text = String::from_utf8(tool("info").stdin(stream.clone()).run().output()).unwrap();
    let expected = "standard input: 4 rows of f4[2], 2 items\n  \
                    item 1: 3 rows, C order, little-endian\n  \
                    item 2: 1 row, C order, big-endian\n";
    assert_eq!(text, expected);
    let report: Value = serde_json::from_slice(&tool("info --json").stdin(stream).run().output()).unwrap();
    assert_eq!((&report["rows"], &report["dtype"], &report["shape"]), (&json!(4), &json!("f4"), &json!([2])));
    assert_eq!(report["items"][1], json!({"rows": 1, "order": "C", "byte_order": "big"}));
}

#[test]
fn info_notices_a_truncated_item() {
    let stream = f4(&[3, 2], &numbers(6));
    let outcome = tool("info").stdin(&stream[..stream.len() - 1]).run();
    assert_eq!((outcome.code, outcome.stdout.as_slice()), (1, b"".as_slice()));
    assert!(outcome.stderr.contains("has 23 of 24 bytes"), "{}", outcome.stderr);
}

#[test]
fn cat_joins_files_and_pipes_into_one_item() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.npy"), f4(&[2, 1], &[0., 1.])).unwrap();
    fs::write(folder.path().join("b.npy"), [f4(&[1, 1], &[4.]), f4(&[1, 1], &[5.])].concat()).unwrap();
    let joined = tool("cat a.npy - b.npy").within(folder.path()).stdin(f4(&[2, 1], &[2., 3.])).run().output();
    assert_eq!((shape(&joined), f4_values(&joined)), (vec![6, 1], numbers(6)));
}

#[test]
fn cat_refuses_streams_of_other_rows() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.npy"), f4(&[2, 1], &[0., 1.])).unwrap();
    fs::write(folder.path().join("b.npy"), f4(&[1, 2], &[0., 1.])).unwrap();
    let refused = tool("cat a.npy b.npy -o c.npy").within(folder.path()).run();
    let expected = "parm-data: b.npy: found rows of f4[2], expected f4[1] as in a.npy\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (1, expected));
    assert!(!folder.path().join("c.npy").exists());
}

#[test]
fn slice_takes_rows_across_items() {
    let items = [f4(&[4, 1], &numbers(4)), f4(&[0, 1], &[]), f4(&[3, 1], &[4., 5., 6.])].concat();
    for (range, expected) in [
        ("0:7", 0..7),
        (":", 0..7),
        ("2:5", 2..5),
        ("5:", 5..7),
        (":3", 0..3),
        ("4:4", 4..4),
        ("6:100", 6..7),
        ("50:100", 7..7),
    ] {
        let taken = tool("slice").arg(range).stdin(items.clone()).run().output();
        assert_eq!(f4_values(&taken), numbers(7)[expected], "{range}");
    }
    for (range, expected) in [
        ("-3:", vec![4., 5., 6.]),
        ("-100:2", vec![0., 1.]),
        (":-5", vec![0., 1.]),
        ("-4:-2", vec![3., 4.]),
        ("::3", vec![0., 3., 6.]),
        ("1:-1:2", vec![1., 3., 5.]),
        ("::-1", vec![6., 5., 4., 3., 2., 1., 0.]),
        ("5:1:-3", vec![5., 2.]),
        ("-1:2", vec![]),
    ] {
        let taken = tool("slice").arg(range).stdin(items.clone()).run().output();
        assert_eq!(f4_values(&taken), expected, "{range}");
    }
    // Steps longer than a block, and items as in the input.
    let long = [f4(&[200_000, 1], &numbers(200_000)), f4(&[1, 1], &[7.])].concat();
    let taken = tool("slice 5::99990").stdin(long).run().output();
    assert_eq!(f4_values(&taken), [5., 99_995., 199_985.]);
    let taken = tool("slice ::2").stdin(items.clone()).run().output();
    assert_eq!((shape(&taken), f4_values(&taken)), (vec![2, 1], vec![0., 2., 4., 6.]));
    let options = tool("slice -2: -v --zstd").stdin(items.clone()).run();
    assert_eq!((options.code, options.stderr.as_str()), (0, "parm-data: took 2 rows\n"));
    for range in ["3", "5:2", "-2:-5", "a:b", "::0", "1:2:3:4"] {
        assert_eq!(tool("slice --").arg(range).stdin(items.clone()).run().code, 2, "{range}");
    }
}

#[test]
fn info_tells_what_the_elements_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let floats = [f4(&[2, 2], &[1., f32::NAN, -3., 5.]), f4(&[1, 2], &[f32::INFINITY, 1.])].concat();
    fs::write(at("x.npy"), &floats).unwrap();
    fs::write(at("y.npy"), item("<i4", &[3], &[7, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0])).unwrap();
    let sum = Command::new("sha256sum").arg("x.npy").current_dir(folder.path()).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();
    let text = tool("info --stats x.npy y.npy").within(folder.path()).run().output();
    let text = String::from_utf8(text).unwrap();
    let lines =
        format!("  min -3, max 5, mean 1.000000, deviation 2.828427\n  1 NaN, 1 infinite\n  SHA-256 {sum}\n");
    assert!(text.contains(&lines), "{text}");
    assert!(text.contains("  2 classes: 2: 1, 7: 2\n"), "{text}");
    let packed = tool("cat --zstd x.npy").within(folder.path()).run().output();
    let report = tool("info --stats --json").stdin(packed).run().output();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["stats"]["deviation"], json!(8_f64.sqrt()));
    assert_eq!((&report["stats"]["nan"], &report["stats"]["classes"]), (&json!(1), &json!(null)));
    assert_eq!(report["sha256"], {
        let joined = tool("cat x.npy").within(folder.path()).run().output();
        let report = tool("info --stats --json").stdin(joined).run().output();
        serde_json::from_slice::<Value>(&report).unwrap()["sha256"].clone()
    });
    let report = tool("info --stats --json y.npy").within(folder.path()).run().output();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["stats"]["classes"], json!({"2": 1, "7": 2}));
    assert_eq!((&report["stats"]["min"], &report["stats"]["max"]), (&json!(2), &json!(7)));
}

#[test]
fn diff_says_where_streams_differ_and_by_how_much() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    write("a.npy", [f4(&[1, 2], &[1., 2.]), f4(&[2, 2], &[3., 4., 5.5, f32::NAN])].concat());
    write("b.npy", npy::f8(&[3, 2], &[1., 2., 3., 4.25, 5., 6.]));
    write("short.npy", f4(&[2, 2], &[1., 2., 3., 4.]));
    write("ints.npy", u1(&[3, 2], &[1, 2, 3, 4, 5, 6]));
    let diff = |call: &str| tool(&format!("diff {call}")).within(folder.path()).run();
    let found = diff("a.npy b.npy");
    let expected = "a.npy and b.npy: 3 of 6 elements differ by more than --atol 0 --rtol 0\n  \
                    not equal: 3\n  \
                    largest absolute difference: 0.5 at item 2, row 2, index [0]: 5.5 and 5\n  \
                    largest relative difference: 0.1 at item 2, row 2, index [0]: 5.5 and 5\n  \
                    NaN: 1 in a.npy alone, 0 in b.npy alone, 0 in both\n";
    assert_eq!((found.code, String::from_utf8(found.stdout).unwrap().as_str()), (1, expected));
    let found = diff("a.npy b.npy --atol 0.25 --rtol 0.05 --json");
    let report: Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!((found.code, &report["beyond"], &report["not_equal"]), (1, &json!(1), &json!(3)));
    assert_eq!(report["largest_absolute"]["index"], json!([0]));
    assert_eq!(report["nan"], json!({"first": 1, "second": 0, "both": 0}));
    // Streams that are equal within the tolerance, or in other types and items, give nothing.
    assert_eq!(diff("a.npy a.npy").output(), b"");
    assert_eq!(diff("b.npy ints.npy --atol .25").output(), b"");
    let told = diff("b.npy ints.npy --atol .25 -v");
    assert_eq!((told.code, told.stderr.as_str()), (0, "parm-data: compared 3 rows, 1 element not equal\n"));
    let refused = diff("short.npy b.npy");
    let message = "parm-data: short.npy: found 2 rows, expected 3 as in b.npy\n";
    assert_eq!((refused.code, refused.stderr.as_str()), (1, message));
}

#[test]
fn shuffle_keeps_data_and_labels_together() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.npy"), f4(&[50, 2], &numbers(100))).unwrap();
    fs::write(folder.path().join("y.npy"), u1(&[50], &(0..50).collect::<Vec<u8>>())).unwrap();
    let shuffle = |seed: &str| {
        let call = "shuffle x.npy y.npy -o xs.npy -o ys.npy --seed";
        assert_eq!(tool(call).arg(seed).within(folder.path()).run().output(), b"");
        let (x, y) = ["xs.npy", "ys.npy"].map(|name| fs::read(folder.path().join(name)).unwrap()).into();
        (f4_values(&x), data(&y).to_vec())
    };
    let (x, y) = shuffle("1");
    assert!(
        x.chunks(2).zip(&y).all(|(row, &label)| row[0] == f32::from(label) * 2.0 && row[1] == row[0] + 1.0)
    );
    let mut sorted = y.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..50).collect::<Vec<u8>>());
    assert_ne!(y, sorted);
    assert_eq!(shuffle("1").1, y, "the seed decides");
    assert_ne!(shuffle("2").1, y);
}

#[test]
fn shuffle_refuses_streams_of_other_lengths() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.npy"), f4(&[3, 1], &numbers(3))).unwrap();
    fs::write(folder.path().join("y.npy"), u1(&[2], &[0, 1])).unwrap();
    let refused = tool("shuffle x.npy y.npy -o xs.npy -o ys.npy").within(folder.path()).run();
    assert_eq!((refused.code, fs::read_dir(folder.path()).unwrap().count()), (1, 2), "no output is left");
    assert_eq!(refused.stderr, "parm-data: y.npy: found 2 rows, expected 3 as in x.npy\n");
    assert_eq!(tool("shuffle x.npy y.npy").within(folder.path()).run().code, 2);
}

/// Two images of 1×2 and their labels, in IDX format.
fn idx() -> (Vec<u8>, Vec<u8>) {
    let images = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 255, 51, 102].to_vec();
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 7, 3].to_vec();
    (images, labels)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn idx_reads_images_and_labels_gzip_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let (images, labels) = idx();
    for (images, labels) in [(images.clone(), labels.clone()), (gzip(&images), gzip(&labels))] {
        fs::write(folder.path().join("images"), images).unwrap();
        fs::write(folder.path().join("labels"), labels).unwrap();
        let read = |options: &str| {
            let call = format!("idx images labels -o out {options}");
            assert_eq!(tool(&call).within(folder.path()).run().output(), b"");
            ["out/images.npy", "out/labels.npy"].map(|name| fs::read(folder.path().join(name)).unwrap())
        };
        let [unit, labels] = read("");
        assert_eq!((shape(&unit), f4_values(&unit)), (vec![2, 1, 1, 2], vec![0., 1., 0.2, 0.4]));
        assert_eq!((npy::descr(&labels).as_str(), data(&labels)), ("|u1", [7, 3].as_slice()));
        assert_eq!(data(&read("--normalize none")[0]), [0, 255, 51, 102]);
        let [given, _] = read("--normalize standard --mean 0.5 --std 0.25");
        assert_eq!(f4_values(&given), [-2., 2., -1.2, -0.4]);
        let own = f4_values(&read("--normalize standard")[0]);
        assert!(own.iter().sum::<f32>().abs() < 1e-6, "{own:?}");
        assert!((own.iter().map(|x| x * x).sum::<f32>() / 4.0 - 1.0).abs() < 1e-6, "{own:?}");
    }
}

#[test]
fn idx_refuses_what_is_not_images_and_labels() {
    let folder = tempfile::tempdir().unwrap();
    let (images, labels) = idx();
    let mut three = labels.clone();
    three[7] = 3;
    three.push(1);
    let cases: [(&[u8], &[u8], &str); 6] = [
        (&images[..19], &labels, "images: found 3 bytes of data, expected 4 for shape [2, 1, 2]"),
        (&[&*images, &[0]].concat(), &labels, "images: found more bytes of data, expected 4"),
        (&images[..7], &labels, "images: truncated header"),
        (&labels, &labels, "images: truncated header"),
        (&images, &three, "labels: found 3 labels, expected 2 as images has images"),
        (&[&[9; 4], &images[4..]].concat(), &labels, "images: found the magic number [09, 09, 09, 09]"),
    ];
    for (images, labels, message) in cases {
        fs::write(folder.path().join("images"), images).unwrap();
        fs::write(folder.path().join("labels"), labels).unwrap();
        let outcome = tool("idx images labels -o out").within(folder.path()).run();
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.starts_with(&format!("parm-data: {message}")), "{}", outcome.stderr);
        assert!(!folder.path().join("out/images.npy").exists());
    }
    let misuse = tool("idx images labels -o out --mean 1").within(folder.path()).run();
    assert_eq!(misuse.code, 2);
}

#[test]
fn idx_keeps_labels_of_any_integer_type() {
    let folder = tempfile::tempdir().unwrap();
    let (images, _) = idx();
    fs::write(folder.path().join("images"), images).unwrap();
    for (code, label, descr, expected) in [
        (0x09, [7, 0xff].as_slice(), "|i1", [7, 0xff].as_slice()),
        (0x0b, &[1, 2, 3, 4], "<i2", &[2, 1, 4, 3]),
        (0x0c, &[0, 1, 2, 3, 4, 5, 6, 7], "<i4", &[3, 2, 1, 0, 7, 6, 5, 4]),
    ] {
        let labels = [&[0, 0, code, 1, 0, 0, 0, 2], label].concat();
        fs::write(folder.path().join("labels"), labels).unwrap();
        assert_eq!(tool("idx images labels -o out").within(folder.path()).run().output(), b"");
        let found = fs::read(folder.path().join("out/labels.npy")).unwrap();
        assert_eq!((npy::descr(&found).as_str(), data(&found)), (descr, expected));
    }
}

#[test]
fn idx_of_large_images_takes_the_memory_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let axes = [40_u32, 1000, 1000].into_iter().flat_map(u32::to_be_bytes);
    let images: Vec<u8> = [0, 0, 8, 3].into_iter().chain(axes).chain((0..40_000_000).map(|_| 7)).collect();
    let labels = [&[0, 0, 8, 1, 0, 0, 0, 40], [1; 40].as_slice()].concat();
    fs::write(folder.path().join("images"), gzip(&images)).unwrap();
    fs::write(folder.path().join("labels"), labels).unwrap();
    // 80 MiB of addresses: an image is 1 MB, and 4 MB as f4; all of them 40 and 160 MB. Without the 64 MiB that
    // the allocator sets aside for each thread that meets another one in it.
    let call =
        "ulimit -v 81920; MALLOC_ARENA_MAX=1 \"$TOOL\" idx images labels -o out --normalize standard --std 1";
    let outcome = shell(call, folder.path());
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    let written = fs::read(folder.path().join("out/images.npy")).unwrap();
    assert_eq!(shape(&written), [40, 1, 1000, 1000]);
    assert!(data(&written).iter().all(|&byte| byte == 0), "every pixel is the mean");
}

/// Runs a line of bash in which "$TOOL" is parm-data.
fn shell(line: &str, within: &Path) -> Output {
    let tool = parm_testkit::tool::folder().join("parm-data");
    Command::new("bash").args(["-c", line]).env("TOOL", tool).current_dir(within).output().unwrap()
}

/// A folder with x.npy.
fn with_x() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.npy"), f4(&[4, 1], &numbers(4))).unwrap();
    folder
}

#[test]
fn a_closed_standard_output_is_an_error_where_data_go_there() {
    let folder = with_x();
    for line in [
        "\"$TOOL\" cat x.npy >&-",
        "\"$TOOL\" info x.npy >&-",
        "\"$TOOL\" cat x.npy -o /dev/stdout >&-",
        "\"$TOOL\" --help >&-",
        "\"$TOOL\" --version >&-",
    ] {
        let outcome = shell(line, folder.path());
        assert_eq!(outcome.status.code(), Some(1), "{line}");
        let message = String::from_utf8_lossy(&outcome.stderr);
        assert!(
            ["standard output", "/dev/stdout"].iter().any(|name| message.contains(name))
                && message.contains("Bad file descriptor"),
            "{line}: {message}"
        );
    }
    // Where they go elsewhere it does not matter, and neither does a closed standard input.
    for line in ["\"$TOOL\" cat x.npy -o y.npy >&- <&- 2>&-", "\"$TOOL\" cat x.npy > y.npy <&-"] {
        let outcome = shell(line, folder.path());
        assert!(outcome.status.success(), "{line}: {}", String::from_utf8_lossy(&outcome.stderr));
        assert_eq!(f4_values(&fs::read(folder.path().join("y.npy")).unwrap()), numbers(4));
    }
    let outcome = shell("\"$TOOL\" cat <&-", folder.path());
    let message = String::from_utf8_lossy(&outcome.stderr);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(message.contains("standard input") && message.contains("Bad file descriptor"), "{message}");
    // To /dev/null, which Rust's runtime opens in its place, output may go.
    assert!(shell("\"$TOOL\" cat x.npy <> /dev/null >&0", folder.path()).status.success());
}

#[test]
fn a_reader_that_ends_early_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.npy"), u1(&[1000, 1000], &vec![0; 1_000_000])).unwrap();
    let outcome = shell("\"$TOOL\" cat x.npy | true; echo ${PIPESTATUS[0]}", folder.path());
    assert_eq!((outcome.stdout.as_slice(), outcome.stderr.as_slice()), (b"0\n".as_slice(), b"".as_slice()));
}

#[test]
fn outputs_go_where_links_and_descriptors_lead() {
    let folder = with_x();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("store")).unwrap();
    fs::write(at("store/old.npy"), "old").unwrap();
    for (link, to) in
        [("old.npy", "store/old.npy"), ("new.npy", "store/new.npy"), ("stdout", "/proc/self/fd/1")]
    {
        symlink(to, at(link)).unwrap();
    }
    for name in ["old", "new"] {
        let outcome = shell(&format!("\"$TOOL\" cat x.npy -o {name}.npy"), folder.path());
        assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
        assert!(at(&format!("{name}.npy")).is_symlink(), "{name}");
        assert_eq!(f4_values(&fs::read(at(&format!("store/{name}.npy"))).unwrap()), numbers(4));
    }
    for line in [
        "\"$TOOL\" cat x.npy -o stdout | cat",
        "\"$TOOL\" cat x.npy -o /dev/stdout | cat",
        "\"$TOOL\" cat x.npy -o /dev/fd/5 5>&1 | cat",
        "\"$TOOL\" cat x.npy -o /dev/fd/5 5> five.npy; cat five.npy",
        "\"$TOOL\" cat x.npy -o >(cat > got.npy); while [ ! -s got.npy ]; do sleep .01; done; cat got.npy",
        "mkfifo pipe; cat pipe & \"$TOOL\" cat x.npy -o pipe; wait",
    ] {
        let outcome = shell(line, folder.path());
        assert!(outcome.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&outcome.stderr));
        assert_eq!(f4_values(&outcome.stdout), numbers(4), "{line}");
    }
    assert!(at("stdout").is_symlink());
    for (target, message) in [
        ("/dev/fd/77", "/dev/fd/77: cannot create: Bad file descriptor"),
        ("missing/y.npy", "missing/y.npy: cannot create: No such file"),
        ("store", "store: cannot create: Is a directory"),
    ] {
        let outcome = tool("cat x.npy -o").arg(target).within(folder.path()).run();
        assert_eq!(outcome.code, 1);
        assert!(outcome.stderr.starts_with(&format!("parm-data: {message}")), "{}", outcome.stderr);
    }
}

#[test]
fn names_of_files_are_bytes() {
    let folder = with_x();
    let name = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    fs::copy(folder.path().join("x.npy"), folder.path().join(name(b"caf\xe9.npy"))).unwrap();
    let call = tool("cat").arg(name(b"caf\xe9.npy")).arg("-o").arg(name(b"o\xe9.npy"));
    assert_eq!(call.within(folder.path()).run().output(), b"");
    let written = fs::read(folder.path().join(name(b"o\xe9.npy"))).unwrap();
    assert_eq!(f4_values(&written), numbers(4));
    let missing = tool("info").arg(name(b"no\xe9.npy")).within(folder.path()).run();
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.starts_with("parm-data: no\u{fffd}.npy: cannot open"), "{}", missing.stderr);
}

#[test]
fn bfloat16_is_read_where_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    // 1.5 and -2 as ml_dtypes writes them.
    let stream = item("<V2", &[2, 1], &[0xc0, 0x3f, 0x00, 0xc0]);
    fs::write(folder.path().join("x.npy"), &stream).unwrap();
    for call in ["cat --bf16 x.npy", "cat --bf16", "slice --bf16 : x.npy"] {
        let read = tool(call).within(folder.path()).stdin(stream.clone()).run().output();
        assert_eq!((npy::descr(&read).as_str(), f4_values(&read)), ("<f4", vec![1.5, -2.0]), "{call}");
    }
    let refused = tool("cat x.npy").within(folder.path()).run();
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("with --bf16 they are read as bfloat16"), "{}", refused.stderr);
}

#[test]
fn progress_that_is_demanded_is_written_without_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let (images, labels) = idx();
    fs::write(folder.path().join("images"), images).unwrap();
    fs::write(folder.path().join("labels"), labels).unwrap();
    let stderr = |progress: &str| {
        let outcome = tool("idx images labels -o out --progress").arg(progress).within(folder.path()).run();
        assert_eq!(outcome.code, 0);
        outcome.stderr
    };
    let shown = stderr("always");
    assert!(shown.lines().last().is_some_and(|line| line.starts_with("2/2 images, ")), "{shown}");
    assert!(!shown.contains('\x1b') && !shown.contains('\r'), "{shown:?}");
    assert_eq!((stderr("auto"), stderr("never")), (String::new(), String::new()));
}
