//! Exported programs and models of several inputs, as processes.

use std::fs;
use std::path::{Path, PathBuf};

use parm_testkit::Tool;
use parm_testkit::npy::{f4, f4_values, item, shape};
use safetensors::SafeTensors;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/exported").join(name)
}

fn infer(program: &str, options: &str) -> Tool {
    infer_on(1, program, options)
}

fn infer_on(threads: u32, program: &str, options: &str) -> Tool {
    Tool::new("parm-infer").args(&format!("--threads {threads} --model")).arg(fixture(program)).args(options)
}

/// The shape and numbers of a tensor of values; integers as floats.
fn value(file: &str, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = fs::read(fixture(file)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let view = tensors.tensor(name).unwrap();
    let numbers = match view.dtype() {
        safetensors::Dtype::I64 => {
            view.data().as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes) as f32).collect()
        }
        _ => view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
    };
    (view.shape().to_vec(), numbers)
}

fn stream((shape, numbers): &(Vec<usize>, Vec<f32>)) -> Vec<u8> {
    f4(shape, numbers)
}

fn assert_near(output: &[u8], expected: &(Vec<usize>, Vec<f32>), what: &str) {
    assert_eq!(shape(output), expected.0, "{what}");
    let largest = expected.1.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
    for (found, expected) in f4_values(output).iter().zip(&expected.1) {
        assert!((found - expected).abs() <= 1e-5 * largest, "{what}: {found} {expected}");
    }
}

#[test]
fn programs_answer_as_pytorch_does() {
    for (program, values) in [
        ("mlp.pt2", "mlp.safetensors"),
        ("mlp-fixed.pt2", "mlp.safetensors"),
        ("mlp-by-four.pt2", "mlp.safetensors"),
        ("no-grad.pt2", "no-grad.safetensors"),
        ("cnn.pt2", "cnn.safetensors"),
        ("cnn-train.pt2", "cnn.safetensors"),
        ("vit-2.15.pt2", "vit.safetensors"),
        ("distilbert.pt2", "distilbert.safetensors"),
    ] {
        let queries = stream(&value(values, "queries"));
        for (batch, threads) in [("1", 1), ("3", 1), ("256", 1), ("3", 2), ("256", 3)] {
            let infer = infer_on(threads, program, "--batch").args(batch);
            let output = infer.stdin(queries.clone()).run().output();
            assert_near(&output, &value(values, "outputs"), program);
        }
    }
}

#[test]
fn optimised_models_and_those_in_bf16_answer_nearly_as_they_are() {
    let queries = stream(&value("cnn.safetensors", "queries"));
    for model in ["cnn.pt2", "cnn.pt", "cnn-traced.pt"] {
        let answers = |options: &str| {
            let output = infer(model, options).stdin(queries.clone()).run().output();
            (output.clone(), f4_values(&output))
        };
        let (bytes, plain) = answers("--optimize off");
        assert_near(&bytes, &value("cnn.safetensors", "outputs"), model);
        let largest = plain.iter().fold(0_f32, |largest, value| largest.max(value.abs()));
        let apart = |found: &[f32]| {
            plain.iter().zip(found).map(|(a, b)| (a - b).abs()).fold(0_f32, f32::max) / largest
        };
        let (default, auto, bf16) = (answers(""), answers("--optimize auto"), answers("--precision bf16"));
        assert!(default.0 == auto.0, "{model}");
        assert!(apart(&auto.1) <= 1e-5, "{model}: {:e}", apart(&auto.1));
        assert!(apart(&bf16.1) > 1e-5 && apart(&bf16.1) <= 3e-2, "{model}: {:e}", apart(&bf16.1));
    }
    let refused =
        Tool::new("parm-infer").args("--url http://127.0.0.1:1 --model-name m --precision bf16").run();
    assert_eq!(refused.code, 2, "{}", refused.stderr);
}

#[test]
fn other_inputs_come_from_files_and_outputs_have_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (queries, table) = (value("two.safetensors", "queries"), value("two.safetensors", "table"));
    fs::write(path.join("x.npy"), stream(&queries)).unwrap();
    fs::write(path.join("table.npy"), stream(&table)).unwrap();
    for (options, output) in [
        ("--constant table=table.npy", "outputs.logits"),
        ("--input x --constant table=table.npy --output-name features", "outputs.features"),
    ] {
        let found = infer("two.pt2", options).args("x.npy").within(path).run().output();
        assert_near(&found, &value("two.safetensors", output), options);
    }
    fs::write(path.join("short.npy"), f4(&[3, 5], &[0.0; 15])).unwrap();
    for (options, code, message) in [
        ("", 1, "found the inputs x, table, expected --input"),
        (
            "--input x",
            1,
            "found no value of table, expected --constant NAME=FILE for each input but the query",
        ),
        ("--input x --constant x=x.npy", 1, "found --input and --constant of 'x', expected one of them"),
        ("--input y --constant table=table.npy", 1, "found no input 'y', expected one of x, table"),
        ("--constant y=table.npy", 1, "found no input 'y', expected one of x, table"),
        ("--constant table=short.npy", 1, "found f4[3, 5] for the input 'table', expected f4[3, 6]"),
        ("--constant table=none.npy", 1, "none.npy"),
        ("--constant table", 2, "expected NAME=FILE.npy"),
        ("--constant table=table.npy --output-name no", 1, "found outputs [logits, features], expected 'no'"),
    ] {
        let ended = infer("two.pt2", options).args("x.npy -o out.npy").within(path).run();
        assert!(ended.code == code && ended.stderr.contains(message), "{options}: {}", ended.stderr);
        assert!(!path.join("out.npy").exists());
    }
    let ended = infer("mlp.pt2", "--activation relu").stdin(f4(&[1, 16], &[0.0; 16])).run();
    assert!(ended.code == 1 && ended.stderr.contains("found an exported program, which has its activations"));
}

#[test]
fn a_constant_of_one_row_serves_all_rows() {
    let folder = tempfile::tempdir().unwrap();
    let values = "distilbert-mask.safetensors";
    let (queries, outputs) = (value(values, "queries"), value(values, "outputs"));
    // The mask of the first row, for the first row alone.
    let tensors = fs::read(fixture(values)).unwrap();
    let tensors = SafeTensors::deserialize(&tensors).unwrap();
    let name = tensors.names().into_iter().find(|name| name.contains("mask")).unwrap().to_owned();
    let (mask_shape, mask) = value(values, &name);
    let row: Vec<u8> =
        mask[..mask_shape[1]].iter().flat_map(|&number| (number as i64).to_le_bytes()).collect();
    for shape in [vec![mask_shape[1]], vec![1, mask_shape[1]]] {
        fs::write(folder.path().join("mask.npy"), item("<i8", &shape, &row)).unwrap();
        let one = (vec![1, queries.0[1]], queries.1[..queries.0[1]].to_vec());
        let found = infer("distilbert-mask.pt2", "--constant attention_mask=mask.npy --input input_ids")
            .stdin(stream(&one))
            .within(folder.path())
            .run()
            .output();
        assert_near(&found, &(vec![1, outputs.0[1]], outputs.1[..outputs.0[1]].to_vec()), "mask");
    }
}

#[test]
fn models_are_described() {
    let describe = |program: &str| {
        let output = infer(program, "--describe").run().output();
        String::from_utf8(output).unwrap()
    };
    let text = describe("cnn-train.pt2");
    for line in [
        "kind        exported program of PyTorch 2.11.0",
        "inputs      x f4[rows, 1, 8, 8]\n",
        "query       x\n",
        "batch       any number of rows\n",
        "outputs     0 f4[rows, 5]\n",
        "trainable   yes\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let text = describe("two.pt2");
    assert!(text.contains("inputs      x f4[rows, 6], table f4[3, 6]\n"), "{text}");
    assert!(text.contains("outputs     logits f4[rows, 4], features f4[rows, 11]\n"), "{text}");
    assert!(text.contains("query       to be named (--input)\n"), "{text}");
    let text = describe("mlp-fixed.pt2");
    assert!(text.contains("batch       4 rows at a time\n"), "{text}");
    assert!(text.contains("trainable   no: found a graph of a constant or bounded number of rows"), "{text}");
    assert!(text.contains("dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)"), "{text}");
    let text = describe("mlp-by-four.pt2");
    assert!(text.contains("inputs      x f4[rows, 16]\n"), "{text}");
    assert!(text.contains("batch       multiples of 4 rows\noutputs     0 f4[rows, 5]\n"), "{text}");
    let text = describe("distilbert.pt2");
    assert!(text.contains("trainable   no: found queries of type i8, "), "{text}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/linear.pt");
    let output = Tool::new("parm-infer").args("--describe -m").arg(script).run().output();
    let text = String::from_utf8(output).unwrap();
    assert!(text.contains("kind        TorchScript\n") && text.contains("in 2 tensors\n"), "{text}");
}

#[test]
fn wrong_queries_are_refused_before_anything_runs() {
    let ended = infer("cnn.pt2", "").stdin(f4(&[2, 8, 8], &[0.0; 128])).run();
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("found rows of shape [8, 8], expected [1, 8, 8]"), "{}", ended.stderr);
    let ended = infer("distilbert.pt2", "").stdin(f4(&[1, 12], &[0.5; 12])).run();
    assert!(ended.stderr.contains("expected integers up to 2^24"), "{}", ended.stderr);
    // A token beyond the vocabulary.
    let ended = infer("distilbert.pt2", "").stdin(f4(&[1, 12], &[50.0; 12])).run();
    assert!(ended.code == 1 && ended.stderr.contains("aten.embedding"), "{}", ended.stderr);
}

#[test]
fn a_model_is_cut_at_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (program, values, node) in [
        ("cnn.pt2", "cnn.safetensors", "relu"),
        ("vit-2.15.pt2", "vit.safetensors", "add_1"),
        // Behind the embedding of token ids, which codes can sum.
        ("distilbert.pt2", "distilbert.safetensors", "layer_norm"),
    ] {
        fs::write(path.join("x.npy"), stream(&value(values, "queries"))).unwrap();
        let between = infer(program, &format!("--to {node} x.npy")).within(path).run().output();
        let output = infer(program, &format!("--from {node}")).stdin(between).run().output();
        assert_near(&output, &value(values, "outputs"), program);
    }
    let text = infer("distilbert.pt2", "--from layer_norm --describe").run().output();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("query       layer_norm\n") && text.contains("trainable   yes"), "{text}");
    let linear = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/models/linear.pt");
    let ended = Tool::new("parm-infer").args("--to relu -m").arg(linear).run();
    assert!(
        ended.code == 1 && ended.stderr.contains("found TorchScript, which has no nodes"),
        "{}",
        ended.stderr
    );
    for (options, code, message) in [
        ("--to relu9", 1, "cnn.pt2: found no node 'relu9' that makes a tensor, expected one as relu"),
        ("--to relu --output-name 0", 2, "cannot be used with"),
        ("--from relu --code code --parity-out p.npy", 2, "cannot be used with"),
    ] {
        let ended = infer("cnn.pt2", options).run();
        assert!(ended.code == code && ended.stderr.contains(message), "{options}: {}", ended.stderr);
    }
}
