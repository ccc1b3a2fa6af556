//! Hostile exported programs: each is refused with a reason or loaded, without a panic, and without memory
//! beyond a multiple of the file's length.

use std::fs::{self, File};
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

use parm_testkit::hostile::{Counting, account, arrived, soak};
use parm_torch::{Choices, Device, Model, ModelError, Session, Tuning};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use zip::write::FileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// What a reader may hold beyond [`FACTOR`] × the file's length: buffers, and messages of libtorch.
const CONSTANT: isize = 4 << 20;

/// The members of the archive, its graph as parsed, and as checked.
const FACTOR: usize = 16;

/// Inputs of one run.
const INPUTS: u64 = 4000;

#[global_allocator]
static COUNTING: Counting = Counting;

type Members = Vec<(String, Vec<u8>)>;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/exported").join(name)
}

fn unpack(name: &str) -> Members {
    let mut archive = ZipArchive::new(File::open(fixture(name)).unwrap()).unwrap();
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        members.push((member.name().to_owned(), bytes));
    }
    members
}

fn pack(members: &Members) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(name, FileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Loads a file of these bytes, and optimises it to answer: none, or the message. Checks the memory that it takes.
fn load(bytes: &[u8]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pt2");
    fs::write(&path, bytes).unwrap();
    let (result, excess) = account(FACTOR, || {
        arrived(bytes.len());
        // What is cut out of it is loaded or refused as well.
        let part = Choices { from: Some("relu".into()), to: Some("linear_2".into()), ..Choices::default() };
        let _ = Model::load_as(&path, Device::CPU, &part);
        let model = Model::load_as(&path, Device::CPU, &Choices::default())?;
        if let Some(shape) = model.query_shape().map(<[usize]>::to_vec) {
            let _ = Session::new(model, Device::CPU, &shape).map(|session| session.tuned(Tuning::default()));
        }
        Ok::<_, ModelError>(())
    });
    assert!(excess <= CONSTANT, "{excess} bytes beyond {FACTOR} times {}", bytes.len());
    let text = result.err()?.to_string();
    let text = text.strip_prefix(&format!("{}: ", path.display())).unwrap_or(&text);
    assert!(!text.contains('\n'), "{text}");
    Some(text.to_owned())
}

/// The MLP with a change of a member that is JSON.
fn with_json(member: &str, change: impl Fn(&mut Value)) -> Vec<u8> {
    changed("mlp.pt2", member, change)
}

fn changed(program: &str, member: &str, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut members = unpack(program);
    let (_, bytes) = members.iter_mut().find(|(name, _)| name.ends_with(member)).unwrap();
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    change(&mut value);
    *bytes = serde_json::to_vec(&value).unwrap();
    pack(&members)
}

const GRAPH: &str = "/models/model.json";
const WEIGHTS: &str = "/model_weights_config.json";

fn graph(change: impl Fn(&mut Value)) -> Option<String> {
    load(&with_json(GRAPH, |json| change(&mut json["graph_module"])))
}

/// The entry of the first weight, 32 × 16 numbers.
fn weight(change: impl Fn(&mut Value)) -> Option<String> {
    load(&with_json(WEIGHTS, |json| change(&mut json["config"]["0.weight"])))
}

fn refused(message: Option<String>, part: &str) {
    let message = message.unwrap_or_else(|| panic!("loaded, expected '{part}'"));
    assert!(message.contains(part), "'{message}', expected '{part}'");
}

#[test]
fn the_archive_as_it_is_loads() {
    assert_eq!(load(&pack(&unpack("mlp.pt2"))), None);
}

#[test]
fn members_that_are_missing_are_named() {
    let all = unpack("mlp.pt2");
    for (missing, message) in [
        (GRAPH, "found no member models/model.json"),
        ("/byteorder", "found no member byteorder"),
        (WEIGHTS, "found no tensor '0.weight' in the archive"),
        ("/weight_0", "found no member data/weights/weight_0"),
    ] {
        let left = all.iter().filter(|(name, _)| !name.ends_with(missing)).cloned().collect();
        refused(load(&pack(&left)), message);
    }
}

#[test]
fn archives_that_lie_are_refused() {
    let all = unpack("mlp.pt2");
    let mut other_folder = all.clone();
    other_folder[0].0 = "elsewhere/a".into();
    refused(load(&pack(&other_folder)), "expected all members in ");
    let mut big_endian = all.clone();
    big_endian.iter_mut().find(|(name, _)| name.ends_with("/byteorder")).unwrap().1 = b"big".to_vec();
    refused(load(&pack(&big_endian)), "found byte order 'big', expected little");
    let mut two = all.clone();
    let model = all.iter().find(|(name, _)| name.ends_with(GRAPH)).unwrap();
    two.push((model.0.replace("model.json", "other.json"), model.1.clone()));
    refused(load(&pack(&two)), "several models in one archive");

    // The central directory says that a member is of 10 GB.
    let mut bytes = pack(&all);
    let entry = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    for at in [20, 24] {
        bytes[entry + at..entry + at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    }
    let message = load(&bytes).unwrap();
    assert!(message.contains("expected at most the file's") || message.contains("damaged"), "{message}");
    let whole = pack(&all);
    for length in [0, 10, whole.len() / 2, whole.len() - 1] {
        assert!(load(&whole[..length]).is_some(), "{length}");
    }
}

#[test]
fn tensors_that_reach_beyond_their_file_are_refused() {
    let beyond = "beyond its 512 numbers";
    refused(
        weight(|entry| entry["tensor_meta"]["sizes"][0] = json!({ "as_int": 10_000_000_000_i64 })),
        beyond,
    );
    refused(weight(|entry| entry["tensor_meta"]["sizes"][0] = json!({ "as_int": i64::MAX })), beyond);
    refused(weight(|entry| entry["tensor_meta"]["sizes"][0] = json!({ "as_int": -1 })), beyond);
    refused(weight(|entry| entry["tensor_meta"]["strides"][1] = json!({ "as_int": 2 })), beyond);
    refused(weight(|entry| entry["tensor_meta"]["strides"][1] = json!({ "as_int": -1 })), beyond);
    refused(weight(|entry| entry["tensor_meta"]["storage_offset"] = json!({ "as_int": 1 })), beyond);
    refused(weight(|entry| entry["tensor_meta"]["strides"] = json!([])), beyond);
    refused(weight(|entry| entry["tensor_meta"]["dtype"] = json!(8)), "beyond its 256 numbers");
    refused(weight(|entry| entry["tensor_meta"]["dtype"] = json!(99)), "of a type that is not supported");
    refused(weight(|entry| entry["use_pickle"] = json!(true)), "as a pickle of Python objects");
    refused(
        weight(|entry| entry["path_name"] = json!("../../etc/passwd")),
        "found no member data/weights/../../etc/passwd",
    );
}

#[test]
fn lists_of_weights_without_keys_are_refused() {
    let refuse = |change: &dyn Fn(&mut Value)| {
        refused(load(&with_json(WEIGHTS, change)), "found a list of weights without keys");
    };
    refuse(&|json| *json = json!([json["config"].clone()]));
    refuse(&|json| {
        let entry = &mut json["config"]["0.weight"];
        *entry = json!([entry["path_name"], false, entry["tensor_meta"]]);
    });
}

#[test]
fn graphs_that_are_no_lists_of_calls_are_refused() {
    let first = |module: &mut Value| module["graph"]["nodes"][0].take();
    // A call of what a later one makes: in a list of calls, a cycle is that.
    refused(
        graph(|module| {
            let nodes = module["graph"]["nodes"].as_array_mut().unwrap();
            nodes.reverse();
        }),
        "expected one that a node before it makes",
    );
    refused(
        graph(|module| {
            let own = module["graph"]["nodes"][0]["outputs"][0].clone();
            module["graph"]["nodes"][0]["inputs"][0]["arg"] = own;
        }),
        "expected one that a node before it makes",
    );
    refused(
        graph(|module| {
            let node = first(module);
            module["graph"]["nodes"].as_array_mut().unwrap().splice(0..1, [node.clone(), node]);
        }),
        "expected names that differ",
    );
    refused(graph(|module| module["graph"]["nodes"] = json!([])), "in the outputs, expected one that a node");
    refused(
        graph(|module| module["signature"]["output_specs"] = json!([])),
        "expected 'a tensor' among them",
    );
    refused(
        graph(|module| module["graph"]["nodes"][0]["inputs"][0]["name"] = json!("nothing")),
        "found the argument 'nothing' of torch.ops.aten.linear.default, expected input, weight, bias",
    );
    refused(
        graph(|module| {
            module["graph"]["nodes"][0]["inputs"].as_array_mut().unwrap().remove(0);
        }),
        "expected its argument 'input'",
    );
    refused(
        graph(|module| module["graph"]["nodes"][0]["inputs"][0]["arg"] = json!({ "as_custom_obj": {} })),
        "not custom obj",
    );
    refused(
        graph(|module| module["signature"]["input_specs"][0] = json!({ "custom_obj": {} })),
        "an object of a custom class",
    );
}

/// The second node is a graph under torch.no_grad() of three inputs.
#[test]
fn graphs_within_the_graph_that_do_not_fit_it_are_refused() {
    let refuse = |change: &dyn Fn(&mut Value), message: &str| {
        let node = |json: &mut Value| change(&mut json["graph_module"]["graph"]["nodes"][1]);
        refused(load(&changed("no-grad.pt2", GRAPH, node)), message);
    };
    let of = "of torch.ops.higher_order.wrap_with_set_grad_enabled, expected";
    refuse(&|node| drop(node["inputs"].as_array_mut().unwrap().pop()), &format!("'2 values' {of} 3"));
    refuse(&|node| node["outputs"] = json!([]), &format!("'0 values' {of} 1"));
    let first = |value: Value| move |node: &mut Value| node["inputs"][0]["arg"] = value.clone();
    refuse(&first(json!({ "as_int": 0 })), &format!("{of} true or false, and a graph"));
    refuse(
        &|node| node["inputs"][2]["arg"] = json!({ "as_tensor": { "name": "elsewhere" } }),
        "found the value 'elsewhere'",
    );
    let inner = |node: &mut Value, change: &dyn Fn(&mut Value)| {
        change(&mut node["inputs"][1]["arg"]["as_graph"]["graph"]);
    };
    // The names of the graph outside are not those within.
    refuse(
        &|node| inner(node, &|graph| graph["inputs"][0]["as_tensor"]["name"] = json!("y")),
        "found the value 'x' in torch.ops.aten.linear.default",
    );
    refuse(
        &|node| inner(node, &|graph| graph["nodes"][0]["target"] = json!("torch.ops.aten.from_file.default")),
        "it maps a file",
    );
    refuse(
        &|node| inner(node, &|graph| graph["outputs"][0] = json!({ "as_int": 1 })),
        "expected tensors and",
    );
}

#[test]
fn parts_that_would_compute_something_else_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pt2");
    let cut = |change: &dyn Fn(&mut Value), from: Option<&str>, to: &str| {
        fs::write(&path, changed("cnn.pt2", GRAPH, |json| change(&mut json["graph_module"]))).unwrap();
        let (from, to) = (from.map(str::to_owned), Some(to.to_owned()));
        let error = Model::load_as(&path, Device::CPU, &Choices { from, to, ..Choices::default() }).err();
        error.map(|error| error.to_string())
    };
    // A node that nobody reads from doubles the output of the first one in place.
    let doubles = |module: &mut Value| {
        let name = |name: &str| json!({ "as_tensor": { "name": name } });
        let argument = |name: &str, value: Value| json!({ "name": name, "arg": value });
        let node = json!({
            "target": "torch.ops.aten.mul_.Scalar",
            "inputs": [argument("self", name("conv2d")), argument("other", json!({ "as_int": 2 }))],
            "outputs": [name("mul_")],
        });
        module["graph"]["nodes"].as_array_mut().unwrap().insert(1, node);
    };
    let changes = "found 'mul_', which is not in the part and changes values of it in place";
    refused(cut(&doubles, None, "relu"), changes);
    refused(cut(&doubles, Some("conv2d"), "relu"), changes);
    assert_eq!(cut(&doubles, Some("batch_norm"), "linear"), None);
    let no_calls = |module: &mut Value| module["module_call_graph"] = json!([]);
    refused(cut(&no_calls, None, "relu"), "found JSON of another structure");
}

#[test]
fn convolutions_of_impossible_numbers_are_refused_when_they_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pt2");
    // The first node is a convolution from one channel to eight.
    let refuse = |name: &str, value: Value| {
        let given = json!([{ "name": name, "arg": value, "kind": 2 }]);
        let change = |json: &mut Value| {
            let inputs = json["graph_module"]["graph"]["nodes"][0]["inputs"].as_array_mut().unwrap();
            inputs.retain(|input| input["name"] != name);
            inputs.extend(given.as_array().unwrap().clone());
        };
        fs::write(&path, changed("cnn.pt2", GRAPH, change)).unwrap();
        let model = Model::load(&path, Device::CPU).unwrap();
        let shape = model.query_shape().unwrap().to_vec();
        let session = Session::new(model, Device::CPU, &shape).unwrap().tuned(Tuning::default());
        let queries = vec![0.5; shape.iter().product()];
        let error = session.run(1, &queries, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("the model refuses rows") && error.contains("conv2d"), "{name}: {error}");
    };
    for groups in [0, -1, 3, i64::MAX] {
        refuse("groups", json!({ "as_int": groups }));
    }
    for numbers in [[0, 1], [-1, -1], [i64::MIN, 1]] {
        refuse("stride", json!({ "as_ints": numbers }));
        refuse("dilation", json!({ "as_ints": numbers }));
    }
    refuse("padding", json!({ "as_ints": [-1, 1] }));
    refuse("bias", json!({ "as_tensor": { "name": "p_fc_bias" } }));
    refuse("weight", json!({ "as_tensor": { "name": "p_conv2_weight" } }));
}

#[test]
fn operators_that_do_more_than_compute_are_refused() {
    for (target, reason) in [
        ("torch.ops.aten.from_file.default", "it maps a file"),
        ("torch.ops.aten.set_.source_Tensor", "storage"),
        ("torch.ops.mylib.run.default", "no operator of PyTorch's own"),
        ("builtins.exec", "expected an operator of torch.ops"),
    ] {
        refused(graph(|module| module["graph"]["nodes"][0]["target"] = json!(target)), reason);
    }
}

#[test]
fn other_schemas_are_told_with_their_version() {
    let other = with_json(GRAPH, |json| json["schema_version"]["major"] = json!(9));
    refused(load(&other), "found a program of schema 9.");
    refused(load(&with_json(GRAPH, |json| *json = json!([]))), "models/model.json: found JSON that is not");
}

#[test]
fn what_cannot_be_exported_is_refused_by_name() {
    for (name, reason) in [
        ("refused-cond.pt2", "torch.ops.higher_order.cond: it depends on values"),
        ("refused-operator.pt2", "torch.ops.example.twice.default: it is no operator of PyTorch's own"),
        ("refused-shape.pt2", "found a shape that depends on values"),
    ] {
        refused(load(&fs::read(fixture(name)).unwrap()), reason);
    }
}

#[test]
fn outputs_that_are_none_are_neither_listed_nor_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pt2");
    let none_first = with_json(GRAPH, |json| {
        let none = json!({ "user_output": { "arg": { "as_none": true } } });
        json["graph_module"]["signature"]["output_specs"].as_array_mut().unwrap().insert(0, none);
    });
    fs::write(&path, none_first).unwrap();
    let load = |output: Option<&str>| {
        let choices = Choices { output: output.map(str::to_owned), ..Choices::default() };
        Model::load_as(&path, Device::CPU, &choices)
    };
    let names: Vec<String> =
        load(None).unwrap().summary().outputs.into_iter().map(|output| output.name).collect();
    assert_eq!(names, ["1"]);
    assert!(load(Some("1")).is_ok());
    for name in ["0", "2"] {
        let error = load(Some(name)).unwrap_err().to_string();
        assert!(error.ends_with(&format!("found outputs [1], expected '{name}' among them")), "{error}");
    }
}

/// Mutates bytes of members, or of the whole archive.
fn mutated(members: &Members, input: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(input);
    let mut members = members.clone();
    let whole = rng.random_range(0..4) == 0;
    let mutate = |bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng| {
        for _ in 0..rng.random_range(1..4) {
            if bytes.is_empty() {
                return;
            }
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..4) {
                0 => bytes[at] ^= 1 << rng.random_range(0..8),
                1 => bytes[at] = b"0123456789-\",:[]{}eas"[rng.random_range(0..21)],
                2 => {
                    let end = (at + rng.random_range(1..40)).min(bytes.len());
                    let part = bytes[at..end].to_vec();
                    let to = rng.random_range(0..bytes.len());
                    bytes.splice(to..to, part);
                }
                _ => {
                    let end = (at + rng.random_range(1..20)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
        }
    };
    if whole {
        let mut bytes = pack(&members);
        mutate(&mut bytes, &mut rng);
        return bytes;
    }
    let at = rng.random_range(0..members.len());
    mutate(&mut members[at].1, &mut rng);
    pack(&members)
}

#[test]
fn mutated_archives_are_loaded_or_refused() {
    let programs = ["mlp.pt2", "no-grad.pt2", "cnn.pt2"].map(unpack);
    let mutated = |input| mutated(&programs[(input % 3) as usize], input);
    soak(
        INPUTS,
        |input| eprintln!("{:?}", load(&mutated(input))),
        |input| {
            let bytes = mutated(input);
            (0, load(&bytes).is_none())
        },
    );
}
