//! `parm-infer` as a process.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use parm_testkit::npy::{data, descr, f4, f4_values, item, shape, u1};
use parm_testkit::{Tool, safetensors, tool};

const THREE: &str = "linear.pt";

/// A TorchScript model of testdata/models.
fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models").join(name)
}

fn infer(model: &Path) -> Tool {
    infer_on(1, model)
}

fn infer_on(threads: u32, model: &Path) -> Tool {
    Tool::new("parm-infer").args(&format!("--threads {threads} --model")).arg(model)
}

/// A folder with `linear.safetensors`: queries [2, 2] to their sum, their first number and ten times
/// their last, as `linear.pt`.
fn models() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("linear.safetensors");
    let weights = [1., 1., 1., 1., 1., 0., 0., 0., 0., 0., 0., 10.];
    fs::write(&path, safetensors::linear(&[2, 2], 3, &weights)).unwrap();
    (folder, path)
}

/// Queries [rows, 2, 2] that begin at `first`, and what the models answer.
fn queries(first: usize, rows: usize) -> (Vec<u8>, Vec<f32>) {
    let values: Vec<f32> = (first * 4..(first + rows) * 4).map(|value| value as f32).collect();
    let answers = values.chunks(4).flat_map(|x| [x.iter().sum(), x[0], 10.0 * x[3]]).collect();
    (f4(&[rows, 2, 2], &values), answers)
}

#[test]
fn every_batch_size_gives_the_answers_in_the_order_of_the_queries() {
    let (_folder, native) = models();
    let (input, answers) = queries(0, 600);
    for model in [native, script(THREE)] {
        for batch in ["1", "7", "256", "4000000000"] {
            for threads in [1, 2, 5] {
                let infer = infer_on(threads, &model).args("--batch").arg(batch);
                let output = infer.stdin(input.clone()).run().output();
                assert!(shape(&output) == [600, 3] && f4_values(&output) == answers, "{batch}, {threads}");
            }
        }
    }
}

#[test]
fn an_error_after_many_blocks_leaves_no_file_on_any_number_of_threads() {
    let (folder, native) = models();
    let (input, _) = queries(0, 300_000);
    for threads in [1, 2, 5] {
        let infer = infer_on(threads, &native).args("--batch 16 -o y.npy").within(folder.path());
        let ended = infer.stdin(input[..input.len() - 1].to_vec()).run();
        assert!(ended.code == 1 && ended.stderr.contains("item 1: truncated"), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(!folder.path().join("y.npy").exists());
    }
}

#[test]
fn timings_say_how_often_each_phase_came_and_stay_away_from_what_failed() {
    let (folder, native) = models();
    let file = folder.path().join("timings.json");
    let run = |input| infer(&native).args("--batch 256 --timings").arg(&file).stdin(input).run();
    let (input, answers) = queries(0, 600);
    assert!(run(input[..input.len() - 1].to_vec()).code == 1 && !file.exists());
    // Before any work: else that would be lost.
    let nowhere = infer(&native).args("-o q.npy --timings nowhere/t.json").within(folder.path());
    let refused = nowhere.stdin(input.clone()).run();
    assert!(
        refused.code == 1 && refused.stderr.contains("nowhere/t.json: cannot create"),
        "{}",
        refused.stderr
    );
    assert!(!folder.path().join("q.npy").exists());
    assert!(f4_values(&run(input).output()) == answers);
    let report: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!((&report["device"], &report["rows"]), (&"cpu".into(), &600.into()));
    assert!(report["device_memory"].is_null());
    let phase = |name: &str| &report["seconds"][name];
    let times =
        ["start", "load", "upload", "encode", "compute", "download"].map(|name| &phase(name)["times"]);
    // Three batches, which are read together.
    assert_eq!(times, [1, 1, 1, 0, 3, 3]);
    let total = report["seconds"]["total"].as_f64().unwrap();
    let [seconds, median] = ["seconds", "median"].map(|of| phase("compute")[of].as_f64().unwrap());
    assert!(0.0 < median && median <= seconds && seconds < total, "{report}");
}

#[test]
fn tf32_changes_nothing_on_the_cpu() {
    let (_folder, native) = models();
    let (input, answers) = queries(0, 10);
    let output = infer(&native).args("--device cpu --tf32").stdin(input).run().output();
    assert!(f4_values(&output) == answers);
}

#[test]
fn what_a_model_prints_goes_to_standard_error_and_not_into_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("y.npy");
    let input = f4(&[2, 2], &[1., 2., 3., 4.]);
    let run = |output: &Path| infer(&script("prints.pt")).args("-o").arg(output).stdin(input.clone()).run();
    assert_eq!(run(&file).stdout, b"");
    let stream = fs::read(&file).unwrap();
    assert_eq!(f4_values(&stream), [2., 4., 6., 8.]);
    for output in ["-", "/dev/stdout"] {
        let ended = run(Path::new(output));
        assert!(ended.code == 0 && ended.stderr.contains("seen [2, 2]"), "{}", ended.stderr);
        assert_eq!(ended.stdout, stream, "{output}");
    }
}

#[test]
fn the_items_of_the_output_are_those_of_the_input() {
    let (_folder, native) = models();
    let parts = [queries(0, 5), queries(5, 0), queries(5, 300), queries(305, 1)];
    let input: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    let answers: Vec<f32> = parts.iter().flat_map(|(_, answers)| answers.clone()).collect();
    for (batch, threads) in [("1", 1), ("7", 1), ("256", 1), ("7", 3), ("256", 3)] {
        let infer = infer_on(threads, &native).args("--batch").arg(batch);
        let output = infer.stdin(input.clone()).run().output();
        assert!(f4_values(&output) == answers, "{batch}");
        // Items without rows are left out.
        let mut item = output.as_slice();
        for rows in [5, 300, 1] {
            assert_eq!(shape(item), [rows, 3], "{batch}");
            item = &item[item.len() - data(item).len() + rows * 12..];
        }
        assert!(item.is_empty());
    }
}

#[test]
fn no_queries_give_no_answers_of_the_right_type_and_shape() {
    let (_folder, native) = models();
    for model in [native, script(THREE)] {
        let output = infer(&model).stdin(f4(&[0, 2, 2], &[])).run().output();
        assert_eq!((descr(&output).as_str(), shape(&output)), ("<f4", vec![0, 3]));
    }
    let output = infer(&script("to-i2.pt")).stdin(f4(&[0, 5], &[])).run().output();
    assert_eq!((descr(&output).as_str(), shape(&output)), ("<i2", vec![0, 5]));
}

#[test]
fn queries_of_every_type_are_read() {
    let (_folder, native) = models();
    let halves = [0x3c00_u16, 0x4000, 0x4200, 0x4400].map(u16::to_le_bytes).concat();
    let cases: [(&str, Vec<u8>); 6] = [
        ("|u1", vec![1, 2, 3, 4]),
        ("<f2", halves),
        ("<f8", [1_f64, 2., 3., 4.].map(f64::to_le_bytes).concat()),
        (">f8", [1_f64, 2., 3., 4.].map(f64::to_be_bytes).concat()),
        ("<i8", [1_i64, 2, 3, 4].map(i64::to_le_bytes).concat()),
        (">u2", [1_u16, 2, 3, 4].map(u16::to_be_bytes).concat()),
    ];
    for (descr, bytes) in cases {
        let output = infer(&native).stdin(item(descr, &[1, 2, 2], &bytes)).run().output();
        assert_eq!(f4_values(&output), [10., 1., 40.], "{descr}");
    }
}

#[test]
fn answers_keep_the_type_that_the_model_gives_them() {
    let input = f4(&[2], &[1., 0.]);
    let one = |name: &str| match name {
        "f2" => vec![0x00, 0x3c],
        "f8" => 1_f64.to_le_bytes().to_vec(),
        "f4" => 1_f32.to_le_bytes().to_vec(),
        other => {
            let mut bytes = vec![0; usize::from(other.as_bytes()[1] - b'0')];
            bytes[0] = 1;
            bytes
        }
    };
    for name in ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"] {
        let output = infer(&script(&format!("to-{name}.pt"))).stdin(input.clone()).run().output();
        assert_eq!(&descr(&output)[1..], name);
        let one = one(name);
        assert_eq!(data(&output), [one.clone(), vec![0; one.len()]].concat(), "{name}");
    }
    let output = infer(&script("to-bf16.pt")).stdin(input).run().output();
    assert_eq!((descr(&output).as_str(), f4_values(&output)), ("<f4", vec![1., 0.]));
}

#[test]
fn queries_become_of_the_type_that_a_script_takes() {
    let input = f4(&[2, 2], &[1., 2., 3., 4.]);
    for (name, descr_of, bytes) in [("f2", "<f2", 2), ("f8", "<f8", 8), ("bf16", "<f4", 4)] {
        let output =
            infer(&script(&format!("scale-{name}.pt"))).args("--batch 1").stdin(input.clone()).run().output();
        assert_eq!((descr(&output).as_str(), data(&output).len()), (descr_of, 4 * bytes), "{name}");
        // 2, 4, 6 and 8.
        match bytes {
            2 => {
                assert_eq!(
                    data(&output),
                    [0x4000_u16, 0x4400, 0x4600, 0x4800].map(u16::to_le_bytes).concat()
                );
            }
            8 => assert_eq!(data(&output), [2_f64, 4., 6., 8.].map(f64::to_le_bytes).concat()),
            _ => assert_eq!(f4_values(&output), [2., 4., 6., 8.]),
        }
    }
    // Whole numbers of any type are ids; others are none, in any batch.
    let ids = [1_i64, 4, 0, 2].map(i64::to_le_bytes).concat();
    let answers = [1., 10., 4., 40., 0., 0., 2., 20.];
    for input in [item("<i8", &[2, 2], &ids), f4(&[2, 2], &[1., 4., 0., 2.])] {
        let output = infer(&script("lookup.pt")).stdin(input).run().output();
        assert!(shape(&output) == [2, 2, 2] && f4_values(&output) == answers);
    }
    for (values, batch) in [([0.5, 1., 1., 1.], "2"), ([1., 1., 0.5, 1.], "1"), ([1., 1., 1., 2e7], "1")] {
        let ended = infer(&script("lookup.pt")).args("--batch").arg(batch).stdin(f4(&[2, 2], &values)).run();
        assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{values:?}: {}", ended.stderr);
    }
}

#[test]
fn of_several_outputs_the_first_is_taken_or_the_one_that_is_named() {
    let input = f4(&[2, 2], &[1., 2., 3., 4.]);
    let ask = |name: &str, options: &str| infer(&script(name)).args(options).stdin(input.clone()).run();
    for (name, options, factor) in [
        ("named.pt", "", 2.),
        ("named.pt", "--output-name double", 2.),
        ("named.pt", "--output-name triple", 3.),
        ("pair.pt", "", 1.),
        ("pair.pt", "--output-name 1", 1.),
    ] {
        let expected = [1., 2., 3., 4.].map(|value: f32| factor * value);
        assert_eq!(f4_values(&ask(name, options).output()), expected, "{name} {options}");
    }
    let (_folder, native) = models();
    let native = native.display().to_string();
    for (name, options, found) in [
        ("named.pt", "--output-name other", "found outputs [double, triple], expected 'other' among them"),
        ("pair.pt", "--output-name 2", "found outputs [0, 1], expected '2' among them"),
        ("prints.pt", "--output-name 1", "expected '1' among them"),
        (&native, "--output-name 1", "found a model of one output, expected no --output-name 1"),
    ] {
        let ended = ask(name, options);
        assert!(ended.code == 1 && ended.stderr.contains(found), "{name} {options}: {}", ended.stderr);
    }
}

#[test]
fn answers_go_to_a_file_and_the_count_to_standard_error() {
    let (folder, native) = models();
    let (input, answers) = queries(0, 3);
    fs::write(folder.path().join("in.npy"), input).unwrap();
    let ended = infer(&native).within(folder.path()).args("-v in.npy -o out.npy").run();
    assert_eq!((ended.code, ended.stderr.as_str()), (0, "parm-infer: 3 rows answered\n"));
    assert_eq!(f4_values(&fs::read(folder.path().join("out.npy")).unwrap()), answers);
}

#[test]
fn what_cannot_be_answered_is_refused_with_one_line_that_names_both_sides() {
    let (folder, native) = models();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let good = fs::read(&native).unwrap();
    let described = |metadata: &str| safetensors::file(metadata, &[]);
    let mlp = safetensors::mlp(&[4, 3], &[2, 2], &[3]);
    let bias: (&str, &[usize], &[f32]) = ("nn.0.bias", &[3], &[0.; 3]);
    let weight: (&str, &[usize], &[f32]) = ("nn.0.weight", &[3, 4], &[0.; 12]);
    let wide: (&str, &[usize], &[f32]) = ("nn.0.weight", &[4, 3], &[0.; 12]);
    let other: (&str, &[usize], &[f32]) = ("other", &[1], &[0.]);
    let pk = write("pk.pt", b"PK\x03\x04 and no archive");
    let (fits, _) = queries(0, 10);
    let flat = f4(&[2, 4], &[0.; 8]);
    let numbers = f4(&[10], &[0.; 10]);
    let cases: Vec<(PathBuf, &[u8], &str, &str)> = vec![
        (folder.path().join("none.pt"), &fits, "none.pt", "No such file"),
        (folder.path().to_owned(), &fits, "directory", ""),
        (write("empty", b""), &fits, "found no safetensors", "expected a model"),
        (write("text", b"weights, weights, weights"), &fits, "found no safetensors", "expected a model"),
        (write("cut", &good[..good.len() - 1]), &fits, "found no safetensors", "expected a model"),
        (pk, &fits, "pk.pt: found a zip archive that is incomplete or damaged", "write the model again"),
        (
            write("foreign", &described("\"format\":\"pt\"")),
            &fits,
            "found safetensors without tensors",
            "expected the parameters of an MLP",
        ),
        (write("json", &described("\"parm\":\"{\"")), &fits, "malformed", "expected an architecture"),
        (
            write("says", &described(&mlp.replace("{\\\"", "{\\\"a\\\":1,\\\""))),
            &fits,
            "it says more than that",
            "expected an architecture",
        ),
        (
            write("state", &safetensors::file("\"format\":\"pt\"", &[weight])),
            &fits,
            "found no nn.0.bias of [3]",
            "expected the parameters of an MLP of widths [4, 3]",
        ),
        (
            write("kind", &described(&mlp.replace("mlp", "rnn"))),
            &fits,
            "unknown variant `rnn`",
            "expected an architecture",
        ),
        (write("few", &described(&safetensors::mlp(&[4], &[4], &[4]))), &fits, "layers [4]", "at least two"),
        (
            write("sizes", &described(&safetensors::mlp(&[4, 3], &[2, 3], &[3]))),
            &fits,
            "layers [4, 3] for queries [2, 3]",
            "expected sizes above 0",
        ),
        (
            write("huge", &described(&safetensors::mlp(&[1 << 40, 1 << 40], &[1 << 40], &[1 << 40]))),
            &fits,
            "found none",
            "expected tensor nn.0.weight of Float[1099511627776, 1099511627776]",
        ),
        (
            write("part", &safetensors::file(&mlp, &[weight])),
            &fits,
            "found none",
            "expected tensor nn.0.bias",
        ),
        (
            write("shape", &safetensors::file(&mlp, &[wide, bias])),
            &fits,
            "found Float[4, 3]",
            "expected tensor nn.0.weight of Float[3, 4]",
        ),
        (
            write("more", &safetensors::file(&mlp, &[weight, bias, other])),
            &fits,
            "found tensor other",
            "expected no more",
        ),
        (
            native.clone(),
            &flat,
            "linear.safetensors on standard input: found rows of shape [4]",
            "expected [2, 2]",
        ),
        (script(THREE), &numbers, "the model refuses rows of shape []", ""),
        (script("total.pt"), &fits, "found outputs of shape [] for 8 queries", "expected one row each"),
        (
            script("fails.pt"),
            &fits,
            "the model refuses rows of shape [2, 2]: the first line of the reason its second line, which is long",
            "which is long, and its end",
        ),
        (script("ragged.pt"), &fits, "found outputs of f4[2]", "expected f4[8] as for the first batch"),
        (script("to-c8.pt"), &fits, "found outputs of type ComplexFloat", "expected f2 f4 f8"),
        (native.clone(), &fits[..fits.len() - 5], "item 1: truncated", "155 of 160"),
        (native.clone(), b"", "standard input", "expected an .npy item"),
    ];
    refused(folder.path(), cases);
}

#[test]
fn files_of_other_programs_are_named_with_what_to_do_in_python() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = |name: &str| script("foreign").join(name);
    let onnx = folder.path().join("m.onnx");
    fs::write(&onnx, b"\x08\x08\x12\x07pytorch\x1a\x042.11").unwrap();
    let stream = folder.path().join("x.npy");
    fs::write(&stream, f4(&[1], &[0.])).unwrap();
    let (fits, _) = queries(0, 1);
    let cases: Vec<(PathBuf, &[u8], &str, &str)> = vec![
        (
            foreign("state.pth"),
            &fits,
            "found a state dict of torch.save",
            "state.pth', map_location='cpu'), '",
        ),
        (foreign("old.pth"), &fits, "found a state dict of torch.save", "old.safetensors'"),
        (
            foreign("dict.pth"),
            &fits,
            "found a state dict of torch.save",
            "from safetensors.torch import save_file",
        ),
        (
            foreign("lightning.ckpt"),
            &fits,
            "found a checkpoint of torch.save",
            "weights_only=False)['state_dict']",
        ),
        (foreign("inner.pth"), &fits, "found a checkpoint of torch.save", "weights_only=False)['model']"),
        (
            foreign("module.pth"),
            &fits,
            "found a module that torch.save pickled",
            "torch.export.save(torch.export.export(model, (example,), dynamic_shapes=(",
        ),
        (foreign("tensor.pt"), &fits, "found a tensor of torch.save", "numpy.save("),
        (foreign("list.pt"), &fits, "found a pickle of torch.save", "shows what it holds"),
        (
            foreign("compiled.pt2"),
            &fits,
            "found a package that AOTInductor compiled (.pt2)",
            "torch.export.save(torch.export.export(model, (example,)",
        ),
        (
            foreign("old.pt2"),
            &fits,
            "found an exported program of PyTorch 2.7 or older",
            "torch.export.save(torch.export.export(model, (example,)",
        ),
        (foreign("arrays.npz"), &fits, "found arrays of NumPy (.npz)", "save_file(dict(numpy.load("),
        (onnx, &fits, "found an ONNX model", "--url"),
        (stream, &fits, "found an array of NumPy (.npy)", "give it as the queries"),
    ];
    refused(folder.path(), cases);
}

/// Makes sure that each model refuses its input in one line with these words, and leaves nothing behind.
fn refused(folder: &Path, cases: Vec<(PathBuf, &[u8], &str, &str)>) {
    for (model, input, found, expected) in cases {
        let ended = infer(&model).args("--batch 8 -o").arg(folder.join("out.npy")).stdin(input).run();
        let line = &ended.stderr;
        assert!(line.contains(found) && line.contains(expected), "{}: {line}", model.display());
        assert_eq!((ended.code, line.lines().count()), (1, 1), "{line}");
        assert!(line.starts_with("parm-infer: ") && !line.contains("panicked"), "{line}");
        assert!(!folder.join("out.npy").exists(), "no partial output: {}", model.display());
    }
    let hidden = fs::read_dir(folder).unwrap().filter_map(Result::ok);
    let left: Vec<_> = hidden
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn options_that_make_no_sense_are_usage_errors() {
    for arguments in ["--threads 0", "--batch 0", "--device gpu", "--batch x"] {
        let ended = infer(&script(THREE)).args(arguments).run();
        assert_eq!((ended.code, ended.stdout.len()), (2, 0), "{arguments}: {}", ended.stderr);
    }
}

#[test]
fn a_missing_gpu_is_an_error_for_cuda_and_none_for_auto() {
    if Path::new("/dev/nvidiactl").exists() {
        return;
    }
    let (input, _) = queries(0, 1);
    let ended = infer(&script(THREE)).args("--device cuda").stdin(input.clone()).run();
    assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{}", ended.stderr);
    assert!(ended.stderr.contains("expected"), "{}", ended.stderr);
    assert_eq!(shape(&infer(&script(THREE)).args("--device auto").stdin(input).run().output()), [1, 3]);
}

#[test]
fn a_full_disk_is_an_error() {
    let (folder, native) = models();
    let (input, _) = queries(0, 100_000);
    let ended = infer(&native).args("-o /dev/full").stdin(input.clone()).run();
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("/dev/full") && ended.stderr.contains("No space left"), "{}", ended.stderr);
    let path = folder.path().join("in.npy");
    fs::write(&path, input).unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = command("1", &native).arg(path).stdout(full).output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_closed_output_ends_it_silently_even_while_it_waits_for_input() {
    let (_folder, native) = models();
    let (input, _) = queries(0, 400_000);
    for threads in ["1", "3"] {
        let mut child = command(threads, &native)
            .args(["--batch", "1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut stdin = child.stdin.take().unwrap();
        // It may end before it has read all of this; the pipe stays open in any case.
        let _ = stdin.write_all(&input[..input.len() / 2]);
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < Duration::from_mins(1), "it hangs");
            std::thread::sleep(Duration::from_millis(5));
        }
        let ended = child.wait_with_output().unwrap();
        assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), b"".as_slice()));
    }
}

fn command(threads: &str, model: &Path) -> Command {
    let mut command = Command::new(tool::folder().join("parm-infer"));
    command.args(["--threads", threads, "--model"]).arg(model);
    command
}

/// A deployed model and a code for groups of three with two parities, barely trained.
fn coded() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..80).map(|value| ((value * 37) % 101) as f32 / 50.0 - 1.0).collect();
    fs::write(folder.path().join("x.npy"), f4(&[20, 2, 2], &values)).unwrap();
    fs::write(folder.path().join("y.npy"), u1(&[20], &(0..20).map(|row| row % 3).collect::<Vec<u8>>()))
        .unwrap();
    let train = |call: &str| {
        let call = format!("{call} --data x.npy --epochs 2 --validation 0");
        assert_eq!(Tool::new("parm-train").args(&call).within(folder.path()).run().output(), b"");
    };
    train("base --hidden 8 --labels y.npy -o base.safetensors");
    train("parity --hidden 8 --base base.safetensors --code sum -k 3 -r 2 -o code");
    train("parity --hidden 8 --base base.safetensors --code concat -k 3 -o tiles");
    train("coders --base base.safetensors -k 3 -r 2 -o around");
    train(
        "coders --base base.safetensors -k 3 --runs-on parity --hidden 8 --encoder conv --decoder linear -o learned",
    );
    folder
}

/// Two items of f4 have one shape and nearly the same numbers.
fn close(found: &[u8], expected: &[u8]) {
    assert_eq!(shape(found), shape(expected));
    for (found, expected) in f4_values(found).iter().zip(f4_values(expected)) {
        assert!((found - expected).abs() <= 1e-4 * expected.abs() + 1e-6, "{found} {expected}");
    }
}

#[test]
fn one_pass_is_the_separate_steps() {
    let folder = coded();
    let run = |tool: &str, call: &str| Tool::new(tool).args(call).within(folder.path()).run().output();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    for (code, r, tail, batches) in [
        ("code", 2, "pad", [1, 4, 256].as_slice()),
        ("code", 2, "drop", &[1, 4, 256]),
        ("tiles", 1, "pad", &[4]),
        ("around", 2, "pad", &[4]),
        ("learned", 1, "drop", &[4]),
    ] {
        let predictions = run("parm-infer", "-m base.safetensors x.npy");
        let _ = run("parm-encode", &format!("--code {code} --tail {tail} -o q{{}}.npy x.npy"));
        for batch in batches {
            let call = format!(
                "-m base.safetensors --code {code} --parity-out p{{}}.npy --tail {tail} --batch {batch} \
                 --threads 3 x.npy"
            );
            // libtorch's products of matrices differ in the last bits between batches.
            close(&run("parm-infer", &call), &predictions);
            for parity in 0..r {
                let model = match code {
                    "around" => "base.safetensors".into(),
                    _ => format!("{code}/parity-{parity}.safetensors"),
                };
                let separate = run("parm-infer", &format!("-m {model} q{parity}.npy"));
                let pass = read(&format!("p{parity}.npy"));
                close(&pass, &separate);
            }
        }
    }
}

#[test]
fn one_pass_refuses_another_model_and_rows_that_do_not_fill_groups() {
    let folder = coded();
    fs::copy(folder.path().join("code/parity-0.safetensors"), folder.path().join("other.safetensors"))
        .unwrap();
    for (call, code, message) in [
        (
            "-m other.safetensors --code code --parity-out p{}.npy x.npy",
            1,
            "the model that code was trained for",
        ),
        ("-m base.safetensors --code code --parity-out p{}.npy x.npy", 1, "x.npy: found 20 rows"),
        ("-m base.safetensors --code code --parity-out p.npy --tail pad x.npy", 2, "'name-{}.npy'"),
        ("-m base.safetensors --code code x.npy", 2, "--parity-out"),
        ("-m base.safetensors --parity-out p{}.npy x.npy", 2, "--code"),
    ] {
        let ended = Tool::new("parm-infer").args(call).args("-o out.npy").within(folder.path()).run();
        assert!(ended.code == code && ended.stderr.contains(message), "{call}: {}", ended.stderr);
        assert!(!folder.path().join("p0.npy").exists() && !folder.path().join("out.npy").exists(), "{call}");
    }
}
