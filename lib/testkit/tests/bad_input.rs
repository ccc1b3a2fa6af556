//! What all tools answer to bad input: the right exit code, one line that names what was found and
//! what was expected, no output file, no panic.

use std::fs;
use std::path::Path;

use parm_testkit::Tool;
use parm_testkit::npy::{f4, item, mask, u1};
use tempfile::TempDir;

/// Good and bad files, and models of 4 → 3 for queries [2, 2].
fn stage() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let values = |count: usize| (0..count).map(|i| (i % 7) as f32).collect::<Vec<f32>>();
    let queries = f4(&[40, 2, 2], &values(160));
    write("x.npy", &queries);
    write("labels.npy", &u1(&[40], &(0..40).map(|row| row % 3).collect::<Vec<u8>>()));
    write("predictions.npy", &f4(&[40, 3], &values(120)));
    write("parity.npy", &f4(&[20, 3], &values(60)));
    write("have.npy", &mask(&[true; 40]));
    write("truncated.npy", &queries[..queries.len() - 10]);
    write("cut-header.npy", &queries[..50]);
    write("empty.npy", b"");
    write("text.npy", b"hello, world\n");
    write("strings.npy", &item("<U4", &[2], &[0; 32]));
    write("hostile.npy", &item("<f4", &[1 << 30, 1 << 30], b""));
    write("overflow.npy", &item("<f4", &[1 << 40, 1 << 40], b""));
    write("ints.npy", &u1(&[40, 3], &[0; 120]));
    write("wide.npy", &f4(&[20, 4], &values(80)));
    write("short.npy", &f4(&[19, 3], &values(57)));
    write("long.npy", &f4(&[21, 3], &values(63)));
    write("have-39.npy", &mask(&[true; 39]));
    write("have-41.npy", &mask(&[true; 41]));
    write("rows-9.npy", &f4(&[9, 2, 2], &values(36)));
    write("other.npy", &f4(&[8, 5], &values(40)));
    write("weights.npy", &f4(&[1, 3], &values(3)));
    write("nan.npy", &f4(&[1, 2], &[f32::NAN, 1.0]));
    write("far.npy", &u1(&[40], &[9; 40]));
    write("floats.npy", &f4(&[40], &values(40)));
    write("model.txt", b"not a model");
    write("cut.safetensors", &[200, 0, 0, 0, 0, 0, 0, 0, b'{']);
    let train = |what: &str, rest: &str| {
        let call = format!("{what} --data x.npy --hidden 5 --epochs 1 --threads 1 {rest}");
        assert_eq!(Tool::new("parm-train").args(&call).within(folder.path()).run().output(), b"");
    };
    train("base", "--labels labels.npy -o base.safetensors");
    train("parity", "--base base.safetensors --code sum -k 2 -o code");
    let copy = |name: &str, change: &dyn Fn(String) -> String| {
        fs::create_dir(folder.path().join(name)).unwrap();
        let text = fs::read_to_string(folder.path().join("code/code.json")).unwrap();
        fs::write(folder.path().join(name).join("code.json"), change(text)).unwrap();
        let model = fs::read(folder.path().join("code/parity-0.safetensors")).unwrap();
        fs::write(folder.path().join(name).join("parity-0.safetensors"), model).unwrap();
    };
    copy("unfinished", &|text| text);
    fs::remove_file(folder.path().join("unfinished/code.json")).unwrap();
    copy("no-model", &|text| text);
    fs::remove_file(folder.path().join("no-model/parity-0.safetensors")).unwrap();
    copy("half-json", &|text| text[..text.len() / 2].to_owned());
    copy("future", &|text| text.replace("\"format\": 2", "\"format\": 3"));
    copy("escaping", &|text| text.replace("parity-0.safetensors", "../parity-0.safetensors"));
    folder
}

/// A call, its exit code, and what its message must contain, both sides of it.
type Case = (&'static str, i32, &'static [&'static str]);

const STREAMS: &[Case] = &[
    ("parm-encode --code sum -k 2 missing.npy", 1, &["missing.npy: cannot open", "No such file"]),
    ("parm-encode --code sum -k 2 code", 1, &["code: found a directory, expected a file"]),
    ("parm-encode --code sum -k 2 truncated.npy", 1, &["truncated.npy: item 1", "has 630 of 640 bytes"]),
    ("parm-encode --code sum -k 2 cut-header.npy", 1, &["item 1: truncated header: found 50 of 128 bytes"]),
    ("parm-encode --code sum -k 2 empty.npy", 1, &["found the end of the stream, expected an .npy item"]),
    ("parm-encode --code sum -k 2 text.npy", 1, &["found 68 65 6c 6c 6f 2c", "expected the bytes 93 4e"]),
    ("parm-encode --code sum -k 2 strings.npy", 1, &["type '<U4' (strings)", "expected f2 f4 f8"]),
    ("parm-encode --code sum -k 2 hostile.npy", 1, &["has 0 of 4611686018427387904 bytes"]),
    (
        "parm-encode --code sum -k 2 overflow.npy",
        1,
        &["found shape [1099511627776, 1099511627776]", "overflows"],
    ),
    ("parm-data info truncated.npy", 1, &["has 630 of 640 bytes"]),
    ("parm-data cat x.npy truncated.npy", 1, &["truncated.npy: item 1"]),
    ("parm-data slice 0:50 truncated.npy", 1, &["truncated.npy: item 1"]),
    ("parm-data slice -5: truncated.npy", 1, &["truncated.npy: item 1"]),
    ("parm-data info --stats truncated.npy", 1, &["has 630 of 640 bytes"]),
    ("parm-data diff x.npy truncated.npy", 1, &["truncated.npy: item 1"]),
    (
        "parm-data diff x.npy predictions.npy",
        1,
        &["predictions.npy: found rows of f4[3], expected the shape of f4[2, 2] in x.npy"],
    ),
    ("parm-data diff - -", 2, &["'-' (standard input) is named twice"]),
    ("parm-data diff x.npy x.npy --atol=-1", 2, &["--atol", "expected 0 or more"]),
    ("parm-data shuffle truncated.npy", 1, &["truncated.npy: item 1"]),
    (
        "parm-score --labels labels.npy truncated.npy",
        1,
        &["truncated.npy", "expected predictions: floats [classes]"],
    ),
    ("parm-infer -m base.safetensors truncated.npy", 1, &["truncated.npy: item 1", "has 630 of 640 bytes"]),
    ("parm-infer -m base.safetensors empty.npy", 1, &["expected an .npy item"]),
    ("parm-train base --data truncated.npy --labels labels.npy", 1, &["truncated.npy: item 1"]),
];

const CODES: &[Case] = &[
    ("parm-encode --code sum x.npy", 2, &["--code sum needs -k K"]),
    ("parm-encode --code sum -k 0 x.npy", 2, &["invalid value '0' for '-k"]),
    ("parm-encode --code sum -k two x.npy", 2, &["invalid value 'two'"]),
    ("parm-encode x.npy", 2, &["--code"]),
    (
        "parm-encode --code product -k 2 x.npy",
        2,
        &["--code product: found neither a code", "nor a directory"],
    ),
    ("parm-encode --code none -k 2 x.npy", 2, &["no parity queries (r = 0)"]),
    ("parm-encode --code sum -k 2 -r 2 x.npy", 2, &["--parity-index J", "-o 'name-{}.npy'"]),
    (
        "parm-encode --code sum -k 2 -r 2 --parity-index 2 x.npy",
        2,
        &["found --parity-index 2, expected 0 to 1"],
    ),
    ("parm-encode --code sum -k 7 x.npy", 1, &["x.npy: found 40 rows", "multiple of k", "--tail pad"]),
    (
        "parm-encode --code sum -k 2 --weights weights.npy x.npy",
        1,
        &["found weights of 1x3, expected r x k = 1x2"],
    ),
    (
        "parm-encode --code sum --weights nan.npy x.npy",
        1,
        &["nan.npy: found weight NaN", "expected a finite number"],
    ),
    (
        "parm-encode --code sum --weights floats.npy x.npy",
        1,
        &["found rows of f4[], expected weights [r, k]"],
    ),
    ("parm-encode --code replicate -k 2 --weights weights.npy x.npy", 2, &["--weights goes with --code sum"]),
    ("parm-encode --code code other.npy", 1, &["found queries of shape [5]", "was trained for [2, 2]"]),
    ("parm-encode --code code -k 3 x.npy", 1, &["the code has -k 2, but -k 3 was asked for"]),
    ("parm-encode --code unfinished x.npy", 1, &["unfinished: found no code.json"]),
    ("parm-encode --code no-model x.npy", 1, &["no-model/parity-0.safetensors: not found"]),
    ("parm-encode --code half-json x.npy", 1, &["half-json/code.json: malformed"]),
    ("parm-encode --code future x.npy", 1, &["future/code.json: found format 3, expected 1 or 2"]),
    (
        "parm-encode --code escaping x.npy",
        1,
        &["found the file name '../parity-0.safetensors', expected a plain name"],
    ),
];

const DECODE: &[Case] = &[
    ("parm-decode --code sum -k 2 --parity parity.npy predictions.npy", 2, &["--available"]),
    (
        "parm-decode --code sum -k 2 --available have.npy predictions.npy",
        2,
        &["found 0 --parity", "expected r = 1"],
    ),
    (
        "parm-decode --code sum -k 2 --parity parity.npy --available have-39.npy predictions.npy",
        1,
        &["have-39.npy: found fewer entries than predictions.npy"],
    ),
    (
        "parm-decode --code sum -k 2 --parity parity.npy --available have-41.npy predictions.npy",
        1,
        &["have-41.npy: found more entries than the 40 predictions"],
    ),
    (
        "parm-decode --code sum -k 2 --parity short.npy --available have.npy predictions.npy",
        1,
        &["short.npy: found fewer rows than predictions.npy has coding groups"],
    ),
    (
        "parm-decode --code sum -k 2 --parity long.npy --available have.npy predictions.npy",
        1,
        &["long.npy: found more rows than the 40 predictions"],
    ),
    (
        "parm-decode --code sum -k 2 --parity wide.npy --available have.npy predictions.npy",
        1,
        &["wide.npy: found parity outputs of shape [4], expected [3]"],
    ),
    (
        "parm-decode --code sum -k 2 --parity parity.npy --available have.npy ints.npy",
        1,
        &["ints.npy: found rows of u1[3], expected predictions of type f2, f4 or f8"],
    ),
    (
        "parm-decode --code sum -k 2 --parity parity.npy --available labels.npy predictions.npy",
        1,
        &["labels.npy: row 2: found 2 in a mask, expected 0 or 1"],
    ),
    (
        "parm-decode --code sum -k 2 --parity - --available - predictions.npy",
        2,
        &["'-' (standard input) is named twice"],
    ),
    (
        "parm-decode --code sum -k 2 --parity parity.npy --parity-available have.npy \
         --parity-available have.npy --available have.npy predictions.npy",
        2,
        &["found 2 --parity-available masks, expected none or r = 1"],
    ),
    (
        "parm-decode --code sum -k 2 --parity parity.npy --available have.npy --default wide.npy predictions.npy",
        1,
        &["wide.npy: found a default of shape", "expected one row of shape [3]"],
    ),
    (
        "parm-decode --code sum -k 2 --parity parity.npy --erase p=2 predictions.npy",
        2,
        &["p=P with P from 0 to 1"],
    ),
    (
        "parm-decode --code sum -k 2 --parity parity.npy --erase one --available have.npy x.npy",
        2,
        &["cannot be used with"],
    ),
    (
        "parm-decode --code code --parity other.npy --available have.npy wide.npy",
        1,
        &["found parity outputs of shape [5], expected [4]"],
    ),
    (
        "parm-decode --code code --parity wide.npy --available have.npy wide.npy",
        1,
        &["wide.npy: found predictions of shape [4]", "was trained for [3]"],
    ),
    (
        "parm-decode --code sum -k 3 --parity parity.npy --erase one predictions.npy",
        1,
        &["predictions.npy: found 40 rows", "--tail"],
    ),
];

const MODELS: &[Case] = &[
    ("parm-infer x.npy", 2, &["--model"]),
    ("parm-infer -m missing.pt x.npy", 1, &["missing.pt", "No such file"]),
    ("parm-infer -m model.txt x.npy", 1, &["model.txt", "expected"]),
    ("parm-infer -m cut.safetensors x.npy", 1, &["cut.safetensors", "expected"]),
    ("parm-infer -m base.safetensors other.npy", 1, &["other.npy", "[5]", "[2, 2]"]),
    ("parm-infer -m base.safetensors --device gpu x.npy", 2, &["expected auto, cpu, cuda or cuda:N"]),
    ("parm-infer -m base.safetensors --batch 0 x.npy", 2, &["invalid value '0'"]),
    ("parm-score --labels far.npy predictions.npy", 1, &["far.npy: row 0: found label 9, expected 0 to 2"]),
    (
        "parm-score --labels floats.npy predictions.npy",
        1,
        &["found rows of f4[], expected labels: one integer"],
    ),
    (
        "parm-score --labels labels.npy parity.npy",
        1,
        &["labels.npy: found 40 rows, expected as many as parity.npy has: 20"],
    ),
    (
        "parm-score --labels labels.npy --available have-39.npy predictions.npy",
        1,
        &["found 39 entries, expected 40"],
    ),
    (
        "parm-score --reference wide.npy --available have.npy predictions.npy",
        1,
        &["f4[4], expected predictions of 3 classes"],
    ),
    ("parm-score predictions.npy", 2, &["--labels"]),
    ("parm-score --labels labels.npy -f 2 predictions.npy", 2, &["expected a number from 0 to 1"]),
    ("parm-train base --data x.npy --labels floats.npy", 1, &["floats.npy", "f4[]", "expected"]),
    ("parm-train base --data rows-9.npy --labels labels.npy", 1, &["labels.npy", "40", "9"]),
    ("parm-train parity --base base.safetensors --code none -k 2 --data x.npy", 2, &["none", "sum"]),
    (
        "parm-train parity --base base.safetensors --code sum -k 2 --data other.npy",
        1,
        &["other.npy", "[5]", "[2, 2]"],
    ),
    (
        "parm-train parity --targets short.npy --hidden 5 --code sum -k 2 --data x.npy",
        1,
        &["short.npy", "19", "40"],
    ),
    ("parm-train parity --code sum -k 2 --data x.npy", 2, &["--base"]),
    ("parm-train base --data x.npy --labels labels.npy --validation 40", 1, &["40"]),
];

#[track_caller]
fn check(folder: &Path, (call, code, message): Case) {
    let (name, arguments) = call.split_once(' ').unwrap();
    let before = fs::read_dir(folder).unwrap().count();
    // Whatever the tool writes would go to out*; parm-score and `parm-data info`, `diff` and `group` write none.
    let output = match (name, arguments.split(' ').next()) {
        ("parm-score", _) | (_, Some("info" | "diff" | "group")) => "",
        _ if call.contains(" -o ") => "",
        _ => "-o out.npy",
    };
    let outcome = Tool::new(name).args(arguments).args(output).within(folder).run();
    assert_eq!(outcome.code, code, "{call}: {}", outcome.stderr);
    assert_eq!(outcome.stdout, b"", "{call}");
    assert!(!outcome.stderr.contains("panicked"), "{call}: {}", outcome.stderr);
    for part in message {
        assert!(outcome.stderr.contains(part), "{call}\nfound    {}expected {part}", outcome.stderr);
    }
    if code == 1 {
        let prefix = format!("{name}: ");
        assert!(outcome.stderr.starts_with(&prefix), "{call}: {}", outcome.stderr);
        assert_eq!(outcome.stderr.lines().count(), 1, "{call}: {}", outcome.stderr);
    }
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.len() == before, "{call} left something behind: {left:?}");
}

#[test]
fn each_bad_input_gets_its_answer() {
    let folder = stage();
    for table in [STREAMS, CODES, DECODE, MODELS] {
        for &case in table {
            check(folder.path(), case);
        }
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let folder = stage();
    for call in [
        "parm-encode --code sum -k 2 x.npy -o /dev/full",
        "parm-encode --code sum -k 2 --zstd x.npy -o /dev/full",
        "parm-decode --code sum -k 2 --parity parity.npy --available have.npy predictions.npy -o /dev/full",
        "parm-infer -m base.safetensors x.npy -o /dev/full",
        "parm-data cat x.npy x.npy -o /dev/full",
        "parm-data slice 1:3 x.npy -o /dev/full",
        "parm-data shuffle x.npy -o /dev/full",
    ] {
        check(folder.path(), (call, 1, &["/dev/full", "No space left on device"]));
    }
}

#[test]
fn a_closed_pipe_ends_every_tool_silently() {
    let folder = stage();
    for call in [
        "parm-encode --code sum -k 2 x.npy",
        "parm-decode --code sum -k 2 --parity parity.npy --available have.npy predictions.npy",
        "parm-infer -m base.safetensors x.npy",
        "parm-data cat x.npy",
        "parm-data info x.npy",
        "parm-score --labels labels.npy predictions.npy",
    ] {
        // The reader is gone before the tool writes.
        let script = format!("{{ sleep 0.3; {call}; echo $? > exit; }} | true");
        let path = format!("{}:{}", parm_testkit::tool::folder().display(), std::env::var("PATH").unwrap());
        let output = std::process::Command::new("bash")
            .args(["-c", &script])
            .current_dir(folder.path())
            .env("PATH", path)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{call}");
        assert_eq!(fs::read_to_string(folder.path().join("exit")).unwrap(), "0\n", "{call}");
    }
}
