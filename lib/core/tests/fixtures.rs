//! The fixtures that real `NumPy` made (testdata/npy/make.py): the good ones give the values of
//! their twins, and each bad one is refused with exactly this message.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parm::npy::{RowLayout, RowReader, StreamError, Window, decompress};

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/npy").join(kind)
}

fn names(kind: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(kind)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The layout, the number of rows and their bytes.
fn read(path: &Path, window: Window) -> Result<(RowLayout, usize, Vec<u8>), StreamError> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut reader = RowReader::new(decompress(File::open(path).unwrap(), window).unwrap(), name)?;
    let mut bytes = Vec::new();
    let rows = reader.read_raw(usize::MAX, &mut bytes)?;
    Ok((reader.layout().clone(), rows, bytes))
}

/// The data of a twin: what follows the header, whose length stands in bytes 8 and 9.
fn data(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes[6..8], [1, 0], "a twin has version 1.0");
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = String::from_utf8(bytes[10..10 + header].to_vec()).unwrap();
    assert!(text.contains("'fortran_order': False") && !text.contains("'>"), "{text}");
    bytes[10 + header..].to_vec()
}

#[test]
fn every_good_fixture_gives_the_values_of_its_twin() {
    for name in names("good") {
        let twin = folder("good").join(format!("{}.npy", name.split('.').next().unwrap()));
        let (layout, rows, bytes) = read(&folder("good").join(&name), Window::Normal).unwrap();
        assert_eq!(bytes, data(&twin), "{name}");
        assert_eq!(bytes.len(), rows * layout.bytes(), "{name}");
        assert_eq!(layout, read(&twin, Window::Normal).unwrap().0, "{name}");
    }
}

#[test]
fn layouts_are_those_of_numpy() {
    for (name, expected, rows) in [
        ("f2.npy", "f2[2, 2]", 3),
        ("u8.big-fortran-v2.npy", "u8[2, 2]", 3),
        ("b1.question-mark.npy", "b1[2, 2]", 3),
        ("rows0.npy", "f4[2, 2]", 0),
        ("flat.npy", "f8[]", 5),
        ("deep.npy", "i2[3, 1, 2, 2]", 2),
    ] {
        let (layout, found, _) = read(&folder("good").join(name), Window::Normal).unwrap();
        assert_eq!((layout.to_string().as_str(), found), (expected, rows), "{name}");
    }
}

#[test]
fn a_long_window_is_read_when_it_is_allowed() {
    for name in ["zstd-window-16m.npy", "zstd-window-128m.npy"] {
        let (_, _, bytes) = read(&folder("bad").join(name), Window::Long).unwrap();
        assert_eq!(bytes, data(&folder("good/f4.npy")), "{name}");
    }
}

#[test]
fn every_bad_fixture_is_refused_with_a_message_that_says_where_and_what() {
    let mut untested = names("bad");
    let mut wrong = Vec::new();
    for (name, expected) in BAD {
        assert!(untested.remove(*name), "{name} does not exist, or is listed twice");
        let found = match read(&folder("bad").join(name), Window::Normal) {
            Ok((layout, rows, _)) => format!("read {rows} rows of {layout}"),
            Err(error) => error.to_string(),
        };
        let expected = expected.replace("<types>", TYPES).replace("<keys>", KEYS).replace("<magic>", MAGIC);
        if found != format!("{name}: {expected}") {
            wrong.push(format!("found    {found}\nexpected {name}: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(untested.is_empty(), "without an expected message: {untested:?}");
}

const TYPES: &str = "expected f2 f4 f8, i1 to i8, u1 to u8 or b1";
const KEYS: &str = "expected a dictionary of 'descr', 'fortran_order' and 'shape'";
const MAGIC: &str = "expected the bytes 93 4e 55 4d 50 59 (\\x93NUMPY)";

/// Each bad fixture and what follows its name in the message.
const BAD: &[(&str, &str)] = &[
    ("object.npy", "item 1: found elements of type '|O' (Python objects), <types>"),
    (
        "structured.npy",
        "item 1: found elements of type [('a', '<f4'), ('b', '<i2', (2,))] (structured records), <types>",
    ),
    ("bytes.npy", "item 1: found elements of type '|S2' (strings), <types>"),
    ("unicode.npy", "item 1: found elements of type '<U2' (strings), <types>"),
    ("complex.npy", "item 1: found elements of type '<c8' (complex numbers), <types>"),
    ("datetime.npy", "item 1: found elements of type '<M8[ns]' (dates or times), <types>"),
    ("timedelta.npy", "item 1: found elements of type '<m8[s]' (dates or times), <types>"),
    ("void.npy", "item 1: found elements of type '|V8' (raw or structured records), <types>"),
    ("longdouble.npy", "item 1: found elements of type '<f16' (a float of unusual width), <types>"),
    ("unknown-type.npy", "item 1: found elements of type '<x4' (an unknown type), <types>"),
    (
        "bfloat16.npy",
        "item 1: found elements of type 'V2' (records of 2 bytes; with --bf16 they are read as bfloat16), <types>",
    ),
    (
        "octal-shape.npy",
        "item 1: malformed header: found shape (010, 2), expected a tuple of lengths below 2^64",
    ),
    (
        "list-shape.npy",
        "item 1: malformed header: found shape [3, 2, 2], expected a tuple of lengths below 2^64",
    ),
    ("comma-shape.npy", "item 1: malformed header: found shape (,), expected a tuple of lengths below 2^64"),
    (
        "text-behind.npy",
        "item 1: malformed header: found '{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 2)} or so', <keys>",
    ),
    (
        "unclosed.npy",
        "item 1: malformed header: found '{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2, 2),', <keys>",
    ),
    ("descr-is-a-number.npy", "item 1: found elements of type 4 (an unknown type), <types>"),
    ("zero-dims.npy", "item 1: found a single number (shape ()), expected rows along axis 0"),
    ("dims65.npy", "item 1: found 65 dimensions, expected at most 64"),
    (
        "empty-rows.npy",
        "item 1: found shape [3, 0, 2], whose rows have no elements; expected at least one element a row",
    ),
    (
        "negative-shape.npy",
        "item 1: malformed header: found shape (3, -2, 2), expected a tuple of lengths below 2^64",
    ),
    (
        "float-shape.npy",
        "item 1: malformed header: found shape (3.0, 2), expected a tuple of lengths below 2^64",
    ),
    (
        "shape-is-a-number.npy",
        "item 1: malformed header: found shape 3, expected a tuple of lengths below 2^64",
    ),
    ("overflow-product.npy", "item 1: found shape [4294967296, 4294967296], whose size overflows"),
    ("overflow-bytes.npy", "item 1: found shape [4611686018427387904], whose size overflows"),
    ("overflow-isize.npy", "item 1: found shape [2305843009213693952], whose size overflows"),
    ("overflow-row-of-none.npy", "item 1: found shape [0, 8589934592, 8589934592], whose size overflows"),
    (
        "overflow-number.npy",
        "item 1: malformed header: found shape (18446744073709551616,), expected a tuple of lengths below 2^64",
    ),
    ("hostile.npy", "item 1: truncated: the item has 0 of 9223372032559808512 bytes of data"),
    ("hostile-fortran.npy", "item 1: truncated: the item has 0 of 9223372032559808512 bytes of data"),
    ("version-0.npy", "item 1: found format version 0.0, expected 1.0, 2.0 or 3.0"),
    ("version-9.npy", "item 1: found format version 9.0, expected 1.0, 2.0 or 3.0"),
    ("version-1.1.npy", "item 1: found format version 1.1, expected 1.0, 2.0 or 3.0"),
    ("header-of-10001.npy", "item 1: found a header of 10001 characters, expected at most 10000"),
    ("header-of-4-gib.npy", "item 1: found a header of 4294967295 characters, expected at most 10000"),
    ("header-of-none.npy", "item 1: malformed header: found '', <keys>"),
    (
        "garbage-header.npy",
        "item 1: malformed header: found 'these are not the keys you are looking for', <keys>",
    ),
    ("not-a-dictionary.npy", "item 1: malformed header: found '['descr', 'fortran_order', 'shape']', <keys>"),
    ("missing-key.npy", "item 1: malformed header: found no key 'fortran_order', <keys>"),
    ("unknown-key.npy", "item 1: malformed header: found the key 'x', <keys>"),
    ("order-is-a-number.npy", "item 1: malformed header: found fortran_order 1, expected True or False"),
    ("not-ascii.npy", "item 1: found elements of type '<f\u{fffd}' (a float of unusual width), <types>"),
    ("not-utf8.npy", "item 1: found elements of type '<f\u{fffd}' (a float of unusual width), <types>"),
    ("control-characters.npy", "item 1: found elements of type '\\x1b[31mred\\n' (an unknown type), <types>"),
    (
        "nested-tuples.npy",
        "item 1: malformed header: found '((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((…', <keys>",
    ),
    ("nested-lists.npy", "item 1: malformed header: found no key 'fortran_order', <keys>"),
    (
        "nested-sets.npy",
        "item 1: malformed header: found '{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{{0}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}}', <keys>",
    ),
    ("empty.npy", "item 1: found the end of the stream, expected an .npy item"),
    ("text.npy", "item 1: not an .npy item: found 31 2e 30 20 32 2e, <magic>"),
    ("short-text.npy", "item 1: not an .npy item: found 31 0a, <magic>"),
    (
        "archive.npz",
        "item 1: not an .npy item: found 50 4b 03 04 14 00, <magic>; this looks like an .npz archive: extract its arrays first",
    ),
    (
        "gzip.npy",
        "item 1: not an .npy item: found 1f 8b 08 00 00 00, <magic>; this looks like gzip: decompress it first",
    ),
    ("truncated-magic.npy", "item 1: truncated header: found 4 of 8 bytes"),
    ("truncated-version.npy", "item 1: truncated header: found 7 of 8 bytes"),
    ("truncated-length.npy", "item 1: truncated header: found 9 of 10 bytes"),
    ("truncated-header.npy", "item 1: truncated header: found 100 of 128 bytes"),
    ("truncated-data.npy", "item 1: truncated: the item has 47 of 48 bytes of data"),
    ("no-data.npy", "item 1: truncated: the item has 0 of 48 bytes of data"),
    ("truncated-fortran.npy", "item 1: truncated: the item has 43 of 48 bytes of data"),
    ("truncated-header-2.npy", "item 2: truncated header: found 60 of 128 bytes"),
    ("truncated-data-2.npy", "item 2: truncated: the item has 30 of 48 bytes of data"),
    ("changed-dtype.npy", "item 2: found rows of f8[2, 2], expected f4[2, 2] as in item 1"),
    ("changed-shape.npy", "item 2: found rows of f4[4], expected f4[2, 2] as in item 1"),
    ("changed-refused-dtype.npy", "item 2: found elements of type '|S2' (strings), <types>"),
    ("trailing-byte.npy", "item 2: not an .npy item: found 0a, <magic>"),
    ("trailing-zeros.npy", "item 2: not an .npy item: found 00 00 00 00 00 00, <magic>"),
    (
        "trailing-zstd.npy",
        "item 2: not an .npy item: found 28 b5 2f fd 20 b0, <magic>; this looks like zstd within a stream: compress the whole stream, once",
    ),
    ("zstd-truncated.npy", "item 1: cannot read: zstd: incomplete frame"),
    ("zstd-truncated-header.npy", "item 1: cannot read: zstd: incomplete frame"),
    ("zstd-corrupt.npy", "item 2: cannot read: zstd: Restored data doesn't match checksum"),
    ("zstd-trailing.npy", "item 2: cannot read: zstd: Unknown frame descriptor"),
    ("zstd-of-nothing.npy", "item 1: found the end of the stream, expected an .npy item"),
    (
        "zstd-twice.npy",
        "item 1: not an .npy item: found 28 b5 2f fd 20 b0, <magic>; this looks like zstd within a stream: compress the whole stream, once",
    ),
    (
        "zstd-window-16m.npy",
        "item 1: cannot read: zstd: found a window of 16777216 bytes, expected at most 8388608 (--long allows 2 GiB)",
    ),
    (
        "zstd-window-128m.npy",
        "item 1: cannot read: zstd: found a window of 134217728 bytes, expected at most 8388608 (--long allows 2 GiB)",
    ),
];
