//! `parm-infer --url` as a process, before a server in this one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parm::codes::{Code, Network, NetworkError};
use parm_config::{Config, Embedded, Model};
use parm_oip::instance::{Answer, CallContext, Instance};
use parm_oip::{Datatype, InferRequest, InferResponse, ModelMetadata, Tensor};
use parm_serving::server::{Addresses, Running};
use parm_serving::{Embed, NoModels};
use parm_testkit::npy::{data, descr, f4, f4_values, item, shape};
use parm_testkit::{Coprocess, Tool, tool};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

const AT_ONCE: &str = r#""distribution": "constant", "ms": 0"#;

/// A model of 4 floats in, 3 out: the sum of the first and the last, and the two between.
struct Server {
    runtime: Runtime,
    at: Addresses,
}

impl Server {
    /// Its answers take times of this distribution.
    fn start(service: &str) -> Self {
        let config = format!(
            r#"{{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "drain_ms": 100, "models": [{{"name": "toy",
                "inputs": [{{"name": "x", "datatype": "FP32", "shape": [4]}}],
                "outputs": [{{"name": "y", "datatype": "FP32", "shape": [3]}}], "placement": "pooled",
                "instances": [{{"capacity": 100, "synthetic": {{"count": 4, "behavior": {{
                    "service": {{{service}}}}}}}}}]}}]}}"#
        );
        Self::of(&config, Arc::new(NoModels))
    }

    /// One whose model answers each row with this row of an output.
    fn answering(datatype: Datatype, row: &[u8], tls: &str) -> Self {
        let shape = match datatype.size() {
            Some(size) => row.len() / size,
            None => 1,
        };
        let config = format!(
            r#"{{"http": "127.0.0.1:0", "grpc": "127.0.0.1:0", "drain_ms": 100, {tls} "models": [{{"name": "toy",
                "inputs": [{{"name": "x", "datatype": "FP32", "shape": [4]}}],
                "outputs": [{{"name": "y", "datatype": "{datatype}", "shape": [{shape}]}}],
                "files": {{"deployed": "none"}},
                "instances": [{{"embedded": {{}}, "roles": ["deployed"]}}]}}]}}"#
        );
        Self::of(&config, Arc::new(Answering { datatype, row: row.to_vec() }))
    }

    fn of(config: &str, embed: Arc<dyn Embed>) -> Self {
        let config = Config::parse(config).unwrap();
        let runtime = Runtime::new().unwrap();
        let running = runtime.block_on(Running::start(config, embed)).unwrap();
        let at = running.addresses;
        let (orders, told) = mpsc::channel(1);
        runtime.spawn(async move {
            let _orders = orders;
            running.serve(told).await
        });
        Self { runtime, at }
    }

    fn http(&self) -> String {
        url("http", self.at.http)
    }
}

/// Answers each row with the same one.
#[derive(Clone)]
struct Answering {
    datatype: Datatype,
    row: Vec<u8>,
}

impl Embed for Answering {
    fn instance(
        &self,
        _: &Embedded,
        _: &BTreeMap<String, PathBuf>,
        _: &Model,
        _: Option<&Code>,
    ) -> Result<Arc<dyn Instance>, NetworkError> {
        Ok(Arc::new(self.clone()))
    }

    fn network(&self, _: &Path, _: &Model, _: &[usize]) -> Result<Arc<dyn Network>, NetworkError> {
        Err(NetworkError("none".to_owned()))
    }
}

impl Instance for Answering {
    fn infer(&self, request: InferRequest, _: CallContext) -> Answer<InferResponse> {
        let rows = request.inputs[0].shape[0];
        let elements = self.datatype.size().map_or(1, |size| self.row.len() / size) as u64;
        let output = Tensor {
            name: "y".to_owned(),
            datatype: self.datatype,
            shape: vec![rows, elements],
            parameters: [].into(),
            data: bytes::Bytes::from(self.row.repeat(rows as usize)).into(),
        };
        let InferRequest { model, version, id, .. } = request;
        let response = InferResponse { model, version, id, parameters: [].into(), outputs: vec![output] };
        Box::pin(async { Ok(response) })
    }

    fn ready(&self, _: &str, _: &str) -> Answer<()> {
        Box::pin(async { Ok(()) })
    }

    fn metadata(&self, _: &str, _: &str) -> Answer<ModelMetadata> {
        Box::pin(async { Ok(ModelMetadata::default()) })
    }
}

/// A program may wait for the answers of an item before it writes the next.
#[test]
fn with_flush_an_item_is_answered_before_the_next_is_read() {
    let server = Server::start(AT_ONCE);
    let folder = tempfile::tempdir().unwrap();
    let call = format!("--url {} --model-name toy --flush", server.http());
    let mut infer = Coprocess::start("parm-infer", &call, folder.path());
    let mut expected = Vec::new();
    for (first, rows) in [(0, 2), (2, 1), (3, 100)] {
        let (item, answers) = queries(first, rows);
        infer.send(&item);
        expected.extend(answers);
        assert_eq!(infer.answers(expected.len()), expected);
    }
    infer.end();
}

fn url(scheme: &str, at: Option<SocketAddr>) -> String {
    format!("{scheme}://{}", at.unwrap())
}

fn infer(url: &str) -> Tool {
    Tool::new("parm-infer").arg("--url").arg(url).args("--model-name toy")
}

/// Queries [rows, 4] that begin at `first`, and what the model answers.
fn queries(first: usize, rows: usize) -> (Vec<u8>, Vec<f32>) {
    let values: Vec<f32> = (first * 4..(first + rows) * 4).map(|value| value as f32).collect();
    let answers = values.chunks(4).flat_map(|x| [x[0] + x[3], x[1], x[2]]).collect();
    (f4(&[rows, 4], &values), answers)
}

#[test]
fn answers_stand_in_the_order_of_the_queries_over_every_encoding() {
    // Answers overtake each other.
    let server = Server::start(r#""distribution": "exponential", "mean_ms": 3"#);
    let (http, grpc) = (server.http(), url("grpc", server.at.grpc));
    let (input, answers) = queries(0, 300);
    for (url, encoding) in
        [(&http, "auto"), (&http, "json"), (&http, "binary"), (&grpc, "auto"), (&grpc, "grpc")]
    {
        for call in ["--batch 7 --concurrency 8", "--batch 7 --concurrency 1", "--batch 4000000000"] {
            let call = format!("--encoding {encoding} {call}");
            let output = infer(url).args(&call).stdin(input.clone()).run().output();
            assert!(shape(&output) == [300, 3] && f4_values(&output) == answers, "{url} {call}");
        }
    }
}

#[test]
fn the_items_of_the_output_are_those_of_the_input() {
    let server = Server::start(AT_ONCE);
    let parts = [queries(0, 5), queries(5, 0), queries(5, 300), queries(305, 1)];
    let input: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    let answers: Vec<f32> = parts.iter().flat_map(|(_, answers)| answers.clone()).collect();
    let output = infer(&server.http()).args("--batch 7").stdin(input).run().output();
    assert!(f4_values(&output) == answers);
    let mut item = output.as_slice();
    for rows in [5, 300, 1] {
        assert_eq!(shape(item), [rows, 3]);
        item = &item[item.len() - data(item).len() + rows * 12..];
    }
    assert!(item.is_empty());
}

#[test]
fn queries_of_other_types_and_none_are_answered() {
    let server = Server::start(AT_ONCE);
    for (descr, bytes) in
        [("|u1", vec![1, 2, 3, 4]), (">f8", [1_f64, 2., 3., 4.].map(f64::to_be_bytes).concat())]
    {
        let output = infer(&server.http()).stdin(item(descr, &[1, 4], &bytes)).run().output();
        assert_eq!(f4_values(&output), [5., 2., 3.], "{descr}");
    }
    let output = infer(&server.http()).stdin(f4(&[0, 4], &[])).run().output();
    assert_eq!((descr(&output).as_str(), shape(&output)), ("<f4", vec![0, 3]));
}

#[test]
fn what_cannot_be_answered_is_one_line_and_leaves_no_file() {
    let server = Server::start(r#""distribution": "constant", "ms": 200"#);
    let http = server.http();
    let folder = tempfile::tempdir().unwrap();
    let (fits, _) = queries(0, 10);
    let wide = f4(&[2, 5], &[0.; 10]);
    let cases: [(&str, &str, &[u8], i32, &str); 10] = [
        (&http, "", &wide, 1, "found rows of shape [5] for input 'x', expected [4]"),
        (&http, "", &f4(&[0, 5], &[]), 1, "found rows of shape [5] for input 'x', expected [4]"),
        (&http, "", &f4(&[0, 1 << 40], &[]), 1, "expected at most 268435456 bytes"),
        (&http, "--timeout 1", &fits, 1, "rows 0 to 9: no answer within 1 ms"),
        (&http, "--model-version 7", &fits, 1, "model toy: "),
        (&http, "--header connection:x", &fits, 1, "connection"),
        (&http, "-m model.pt", &fits, 2, "cannot be used with"),
        (&http, "--threads 1", &fits, 2, "cannot be used with"),
        (&http, "--code code --parity-out p{}.npy", &fits, 2, "cannot be used with"),
        ("http://127.0.0.1:1", "", &fits, 1, "model toy: "),
    ];
    for (url, call, input, code, expected) in cases {
        let ended = infer(url).args(call).args("-o out.npy").within(folder.path()).stdin(input).run();
        assert!(ended.code == code && ended.stderr.contains(expected), "{call}: {}", ended.stderr);
        assert!(code == 2 || ended.stderr.lines().count() == 1, "{call}: {}", ended.stderr);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{call}");
    }
    let unknown = Tool::new("parm-infer").args(&format!("--url {http} --model-name other")).stdin(fits).run();
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("unknown model: 'other'"), "{}", unknown.stderr);
}

#[test]
fn a_server_that_dies_in_the_middle_is_an_error_and_leaves_no_file() {
    let server = Server::start(AT_ONCE);
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(tool::folder().join("parm-infer"))
        .args(["--url", &server.http(), "--model-name", "toy", "--batch", "2", "-o", "out.npy"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (input, _) = queries(0, 10);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&input[..input.len() - 128]).unwrap();
    // Its file is there, so it has had the answer to the first two rows, and has sent no others.
    while fs::read_dir(folder.path()).unwrap().count() == 0 {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    server.runtime.shutdown_timeout(Duration::from_millis(200));
    stdin.write_all(&input[input.len() - 128..]).unwrap();
    drop(stdin);
    let ended = child.wait_with_output().unwrap();
    let message = String::from_utf8(ended.stderr).unwrap();
    assert_eq!((ended.status.code(), message.lines().count()), (Some(1), 1), "{message}");
    assert!(message.contains("rows 2 to 3: "), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn bf16_is_written_as_f4_and_strings_are_refused() {
    // 1.5, -2 and the largest: the upper halves of floats.
    let halves = [0x3fc0_u16, 0xc000, 0x7f7f];
    let row: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
    let server = Server::answering(Datatype::Bf16, &row, "");
    let expected: Vec<f32> = halves.iter().map(|&half| f32::from_bits(u32::from(half) << 16)).collect();
    for url in [server.http(), url("grpc", server.at.grpc)] {
        let output = infer(&url).args("--batch 1").stdin(queries(0, 2).0).run().output();
        assert_eq!((descr(&output).as_str(), shape(&output)), ("<f4", vec![2, 3]));
        assert_eq!(f4_values(&output), expected.repeat(2));
    }
    let server = Server::answering(Datatype::Bytes, b"\x03\0\0\0cat", "");
    let ended = infer(&server.http()).stdin(queries(0, 2).0).run();
    assert_eq!((ended.code, ended.stdout.len()), (1, 0));
    let expected = "rows 0 to 1: found outputs of BYTES, expected numbers or truth values";
    assert!(ended.stderr.contains(expected), "{}", ended.stderr);
}

#[test]
fn of_several_outputs_the_first_is_taken_or_the_one_that_is_named() {
    let config = r#"{"http": "127.0.0.1:0", "grpc": null, "models": [{"name": "toy", "placement": "pooled",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [4]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [3]}, {"name": "z", "datatype": "FP32", "shape": [1]}],
        "instances": [{"synthetic": {}}]}]}"#;
    let server = Server::of(config, Arc::new(NoModels));
    let ask = |options: &str| infer(&server.http()).args(options).stdin(queries(0, 2).0).run();
    for (options, expected) in [("", [2, 3]), ("--output-name y", [2, 3]), ("--output-name z", [2, 1])] {
        assert_eq!(shape(&ask(options).output()), expected, "{options}");
    }
    let ended = ask("--output-name w");
    let message = "model toy: found outputs [y, z], expected 'w' among them";
    assert!(ended.code == 1 && ended.stderr.contains(message), "{}", ended.stderr);
}

/// A server whose model describes itself with these inputs and answers with its input: over JSON, one request
/// to a connection. What it was asked comes back, too.
fn echo(inputs: &'static str) -> (String, std::sync::mpsc::Receiver<serde_json::Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let (mut line, mut length) = (String::new(), 0);
            reader.read_line(&mut line).unwrap();
            let is_infer = line.contains("/infer ");
            while line.trim() != "" {
                line.clear();
                reader.read_line(&mut line).unwrap();
                let header = line.to_ascii_lowercase();
                length =
                    header.strip_prefix("content-length: ").map_or(length, |n| n.trim().parse().unwrap());
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = if is_infer {
                let request: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let mut output = request["inputs"][0].clone();
                output["name"] = "y".into();
                asked.send(request).unwrap();
                serde_json::json!({"model_name": "toy", "outputs": [output]}).to_string()
            } else {
                format!(r#"{{"name": "toy", "platform": "test", "inputs": {inputs}, "outputs": []}}"#)
            };
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, requests)
}

#[test]
fn models_that_take_one_row_at_a_time_get_one() {
    for (inputs, sent) in [
        (r#"[{"name": "x", "datatype": "FP32", "shape": [1, 4]}]"#, &[1, 4][..]),
        (r#"[{"name": "x", "datatype": "FP32", "shape": [4]}]"#, &[4]),
    ] {
        let (url, requests) = echo(inputs);
        let (input, _) = queries(0, 3);
        let output = infer(&url).args("--encoding json").stdin(input.clone()).run().output();
        assert_eq!((shape(&output), f4_values(&output)), (vec![3, 4], f4_values(&input)), "{inputs}");
        for _ in 0..3 {
            assert_eq!(requests.recv().unwrap()["inputs"][0]["shape"], serde_json::json!(sent), "{inputs}");
        }
    }
}

#[test]
fn a_model_whose_server_names_no_input_is_sent_the_rows_as_they_are() {
    for (options, name) in [("", "input-0"), ("--input-name tokens", "tokens")] {
        let (url, requests) = echo("[]");
        let call = infer(&url).args("--encoding json").args(options);
        let output = call.stdin(item("<i4", &[2, 1], &[1, 0, 0, 0, 2, 0, 0, 0])).run().output();
        assert_eq!((descr(&output).as_str(), shape(&output)), ("<i4", vec![2, 1]));
        let tensor = &requests.recv().unwrap()["inputs"][0];
        assert_eq!((&tensor["name"], &tensor["datatype"]), (&name.into(), &"INT32".into()));
        assert_eq!(tensor["shape"], serde_json::json!([2, 1]));
    }
}

#[test]
fn over_tls_the_servers_certificate_is_trusted_by_ca_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let tls = format!(r#""tls": {{"certificate": {certificate:?}, "key": {key:?}}},"#);
    let row: Vec<u8> = 2.5_f32.to_le_bytes().to_vec();
    let server = Server::answering(Datatype::Fp32, &row, &tls);
    for (scheme, at) in [("https", server.at.http), ("grpcs", server.at.grpc)] {
        let url = format!("{scheme}://localhost:{}", at.unwrap().port());
        let (input, _) = queries(0, 2);
        let call = infer(&url).arg("--ca").arg(certificate.to_str().unwrap());
        assert_eq!(f4_values(&call.stdin(input.clone()).run().output()), [2.5, 2.5]);
        let ended = infer(&url).stdin(input).run();
        assert_eq!((ended.code, ended.stderr.lines().count()), (1, 1), "{}", ended.stderr);
        assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
    }
    let ended = infer("https://127.0.0.1:1").args("--ca none.pem").stdin(queries(0, 1).0).run();
    assert_eq!((ended.code, ended.stderr.contains("none.pem")), (1, true), "{}", ended.stderr);
}
