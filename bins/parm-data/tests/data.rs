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
    for range in ["3", "5:2", "a:b", "-1:2"] {
        assert_eq!(tool("slice --").arg(range).stdin(items.clone()).run().code, 2, "{range}");
    }
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
