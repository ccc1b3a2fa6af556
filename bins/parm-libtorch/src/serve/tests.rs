//! Tests that instances make the same coded queries as the server.

use std::path::PathBuf;

use bytes::Bytes;
use parm::Dtype;
use parm::codes::Encoding;
use parm::dtype::Float;
use parm_config::{Config, Redundancy, code_of};
use parm_oip::instance::CallContext;
use parm_oip::{Datatype, InferRequest, ModelMetadata, Parameters, Tensor};
use parm_serving::runtime::{Members, RowEncoder, Spec, coders};
use parm_testkit::safetensors;
use tempfile::TempDir;

use super::*;

/// The shape of a query, and its elements.
const QUERY: [usize; 3] = [1, 6, 6];
const ELEMENTS: usize = 36;

/// The file of a model of one linear layer.
fn write(folder: &TempDir, name: &str, query: &[usize], prediction: &[usize]) -> PathBuf {
    let (from, to) = (query.iter().product::<usize>(), prediction.iter().product::<usize>());
    let weights: Vec<f32> = (0..from * to).map(|at| (at as f32 * 0.7).sin()).collect();
    let (weights, bias): (&[f32], &[f32]) = (&weights, &vec![0.5; to]);
    let tensors = [("nn.0.weight", &[to, from][..], weights), ("nn.0.bias", &[to][..], bias)];
    let path = folder.path().join(name);
    std::fs::write(&path, safetensors::file(&safetensors::mlp(&[from, to], query, prediction), &tensors))
        .unwrap();
    path
}

fn model(code: &str) -> ModelConfig {
    let text = format!(
        r#"{{"models": [{{"name": "m",
            "inputs": [{{"name": "x", "datatype": "FP32", "shape": [1, 6, 6]}}],
            "outputs": [{{"name": "y", "datatype": "FP32", "shape": [3]}}],
            "redundancy": {{"policy": "coded", "code": {code}}}}}]}}"#
    );
    Config::parse(&text).unwrap().models.remove(0)
}

/// The code of a learned encoder, k = 3 and r = 2.
fn learned(encoder: &Path) -> Code {
    let folder = encoder.parent().unwrap();
    let name = encoder.file_name().unwrap().to_str().unwrap();
    let text = format!(
        r#"{{"format": 2, "code": "learned", "k": 3, "r": 2, "runs_on": "deployed", "encoder": "{name}"}}"#
    );
    std::fs::write(folder.join("code.json"), text).unwrap();
    Code::load(folder).unwrap()
}

/// Two groups; the second has no query in its second slot.
fn groups(k: usize) -> [Members; 2] {
    let query = |seed: usize| {
        let values = (0..ELEMENTS).flat_map(|at| ((seed * 50 + at) as f32 * 0.3).cos().to_le_bytes());
        vec![values.collect::<Bytes>()]
    };
    let whole: Members = (0..k).map(|slot| (slot, query(slot))).collect();
    let short = (0..k).filter(|slot| *slot != 1).map(|slot| (slot, query(9 + slot))).collect();
    [whole, short]
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let mut values = vec![0.0; tensor.data.len() / 4];
    f32::decode(Dtype::F32, &tensor.data.contiguous(), &mut values);
    values
}

/// The instance's answer to coded query `coded` of the groups, which it or the server encodes.
async fn answers(
    model: &ModelConfig,
    code: &Code,
    file: &Path,
    itself: bool,
    coded: usize,
) -> Result<Tensor, String> {
    let libtorch = Libtorch::new(Some(1));
    let embedded = Embedded { encode: Some(itself), ..Embedded::default() };
    let files = [("parity".to_owned(), file.to_owned())].into();
    let instance =
        libtorch.instance(&embedded, &files, model, Some(code)).map_err(|error| error.to_string())?;
    assert_eq!(instance.encodes(), itself);
    let spec = Spec::new(model, &ModelMetadata::default()).unwrap();
    let Redundancy::Coded(policy) = &model.redundancy else { panic!("it has a code") };
    let load = |file: &Path, group: &[usize]| libtorch.network(file, model, group);
    let (_, encoder, _): (_, RowEncoder, _) =
        coders(&spec, policy, model.task, code, &load).map_err(|error| error.to_string())?;
    let groups = groups(code.k());
    let mut request = InferRequest { model: "parity".to_owned(), ..InferRequest::default() };
    if itself {
        request.inputs = encoder.groups(&groups);
    } else {
        request.inputs = encoder.encode(coded, &groups).map_err(|error| error.to_string())?;
    }
    let call = CallContext { coded: itself.then_some(coded), ..CallContext::default() };
    let answer = instance.infer(request, call).await;
    answer.map(|mut answer| answer.outputs.remove(0)).map_err(|error| error.to_string())
}

#[tokio::test]
async fn instances_make_the_same_coded_queries_as_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "model", &QUERY, &[3]);
    let encoder = write(&folder, "encoder", &[3, 1, 6, 6], &[2, 1, 6, 6]);
    let sum = r#"{"name": "sum", "k": 3, "r": 2}"#;
    let mut cases = vec![(model(sum), learned(&encoder), 2)];
    for (code, coded) in
        [(sum, 2), (r#"{"name": "concat", "k": 4}"#, 1), (r#"{"name": "berrut", "k": 3, "s": 2}"#, 5)]
    {
        let model = model(code);
        let code = code_of(&model).unwrap().unwrap();
        cases.push((model, code, coded));
    }
    for (model, code, coded) in cases {
        for coded in 0..coded {
            let own = answers(&model, &code, &file, true, coded).await.unwrap();
            let other = answers(&model, &code, &file, false, coded).await.unwrap();
            assert_eq!((&own.name, own.datatype, &own.shape), (&other.name, other.datatype, &other.shape));
            assert_eq!(own.shape, [2, 3]);
            for (own, other) in floats(&own).iter().zip(floats(&other)) {
                assert!((own - other).abs() < 1e-3, "{:?}, {coded}: {own} {other}", code.encoding());
            }
        }
        let beyond = answers(&model, &code, &file, true, 9).await;
        assert!(beyond.is_err() || *code.encoding() == Encoding::Tiled, "{beyond:?}");
    }
}

#[tokio::test]
async fn what_are_no_groups_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(&folder, "model", &QUERY, &[3]);
    let model = model(r#"{"name": "sum", "k": 2}"#);
    let code = code_of(&model).unwrap().unwrap();
    let embedded = Embedded { encode: Some(true), ..Embedded::default() };
    let files = [("parity".to_owned(), file)].into();
    let instance = Libtorch::new(Some(1)).instance(&embedded, &files, &model, Some(&code)).unwrap();
    let tensor = Tensor {
        name: "x".to_owned(),
        datatype: Datatype::Fp32,
        shape: vec![1, 1, 6, 6],
        parameters: Parameters::default(),
        data: Bytes::from(vec![0; 4 * ELEMENTS]).into(),
    };
    let request = InferRequest { model: "parity".to_owned(), inputs: vec![tensor], ..Default::default() };
    assert!(instance.infer(request.clone(), CallContext::default()).await.is_ok(), "a query as it is");
    let call = CallContext { coded: Some(0), ..CallContext::default() };
    let error = instance.infer(request, call).await.unwrap_err().to_string();
    assert_eq!(error, "found input of shape [1, 1, 6, 6], expected rows of 2 times [1, 6, 6]");
}
