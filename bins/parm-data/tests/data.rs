//! `parm-data` as a process.

use std::fs;
use std::io::Write;

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
                    item 2: 1 rows, C order, big-endian\n";
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
