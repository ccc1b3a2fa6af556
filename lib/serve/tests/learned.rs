//! Learned encoders and decoders at work: they hold up nobody else, and run as seldom as they can.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::wait::{BOUND, soon};
use common::{Call, ask, asked, learned_code, linear, puppet, runtime_with, values};
use parm::codes::{Network, NetworkError};
use parm_config::Model;
use parm_engine::Roles;
use parm_serving::runtime::{How, Runtime};
use tokio::time::Instant;

/// A network that waits until the test lets it go on, and takes note of how many groups it got at once.
struct Held {
    go: Mutex<mpsc::Receiver<()>>,
    runs: Arc<Mutex<Vec<usize>>>,
    of: fn(&[f32]) -> Vec<f32>,
}

impl Network for Held {
    fn run(&self, groups: usize, values: &[f32]) -> Result<Vec<f32>, NetworkError> {
        self.runs.lock().unwrap().push(groups);
        let go = self.go.lock().unwrap().recv_timeout(BOUND);
        go.map_err(|_| NetworkError("nobody let it go on".to_owned()))?;
        Ok(values.chunks(values.len() / groups).flat_map(self.of).collect())
    }
}

/// What a network's runs were, and the way to let it go on.
struct Control {
    go: mpsc::Sender<()>,
    runs: Arc<Mutex<Vec<usize>>>,
}

impl Control {
    fn runs(&self) -> Vec<usize> {
        self.runs.lock().unwrap().clone()
    }
}

fn held(of: fn(&[f32]) -> Vec<f32>) -> (Arc<dyn Network>, Control) {
    let (go, wait) = mpsc::channel();
    let runs = Arc::new(Mutex::new(Vec::new()));
    (Arc::new(Held { go: Mutex::new(wait), runs: Arc::clone(&runs), of }), Control { go, runs })
}

/// Of `[k + r, 2]`: what the other queries and the first parity say of each slot, as for `sum`.
fn subtract(rows: &[f32]) -> Vec<f32> {
    let at = |row: usize, element: usize| rows[row * 2 + element];
    (0..2).flat_map(|slot| [0, 1].map(|element| at(2, element) - at(1 - slot, element))).collect()
}

/// Of `[k, 2]`: each of two parities, X1 + X2 and X1 + 2·X2.
fn add(rows: &[f32]) -> Vec<f32> {
    let sum = |times: f32| [rows[0] + times * rows[2], rows[1] + times * rows[3]];
    [sum(1.0), sum(2.0)].concat()
}

/// The first of them.
fn first(rows: &[f32]) -> Vec<f32> {
    add(rows)[..2].to_vec()
}

/// A runtime of a model with 3 inputs and 2 outputs, of which the last input is not coded.
fn learned(name: &str, weights: &[[f64; 2]], more: &str) -> (Runtime, Control, Control) {
    let folder = learned_code(name, weights);
    let model: Model = common::model(&format!(
        r#""redundancy": {{"policy": "coded", "code": {{"name": "directory", "directory": "{}"}},
            "group_delay_ms": 1e6}}, "answer": {{"when": "first"}}, "instances": [], "deadline_ms": 1e6,
            "call_timeout_ms": 1e6 {more}"#,
        folder.display()
    ));
    let model = Model { inputs: vec![two("x")], outputs: vec![two("y")], ..model };
    let (encoder, encoding) = held(if weights.len() == 1 { first } else { add });
    let (decoder, decoding) = held(subtract);
    let load = |file: &Path, _: &[usize]| -> Result<Arc<dyn Network>, NetworkError> {
        Ok(Arc::clone(if file.ends_with("e.pt") { &encoder } else { &decoder }))
    };
    let runtime = runtime_with(&model, &load);
    std::fs::remove_dir_all(&folder).unwrap();
    (runtime, encoding, decoding)
}

fn two(name: &str) -> parm_config::TensorSpec {
    let json = format!(r#"{{"name": "{name}", "datatype": "FP32", "shape": [2]}}"#);
    serde_json::from_str(&json).unwrap()
}

/// A request of rows of the same number twice.
fn pairs(firsts: &[f32]) -> parm_serving::runtime::Ask {
    let mut ask = ask(firsts);
    let values: Vec<f32> = firsts.iter().flat_map(|&first| [first; 2]).collect();
    ask.payload =
        parm_serving::runtime::Payload::Rows { inputs: vec![common::bytes(&values)], rows: firsts.len() };
    ask
}

async fn next(calls: &mut tokio::sync::mpsc::UnboundedReceiver<Call>) -> Call {
    soon("a call", calls.recv()).await.unwrap()
}

/// Waits, for real, until something is so.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !holds() {
        assert!(since.elapsed() < BOUND, "waited {BOUND:?} for {what}");
        tokio::task::yield_now().await;
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test(start_paused = true)]
async fn while_a_network_decodes_other_queries_are_answered_at_once() {
    let (runtime, encoding, decoding) = learned("held-decoder", &[[1.0, 1.0]], "");
    encoding.go.send(()).unwrap();
    let mut slow = puppet(&runtime, Roles::DEPLOYED).await;
    let mut quick = puppet(&runtime, Roles::DEPLOYED).await;
    let mut parity = puppet(&runtime, Roles::parity(0)).await;
    let (one, two) = (asked(&runtime, pairs(&[1.0])), asked(&runtime, pairs(&[5.0])));
    let (stuck, other) = (next(&mut slow).await, next(&mut quick).await);
    let lost = stuck.firsts()[0];
    other.answer(linear);
    next(&mut parity).await.answer(linear);
    until("a decoding of one row", || decoding.runs() == [1]).await;
    // It does not come back before it is told to.
    let mut times = Vec::new();
    for number in 0..100_u8 {
        let since = Instant::now();
        let mut own = pairs(&[f32::from(number)]);
        own.allow_reconstructed = false;
        let answer = asked(&runtime, own);
        next(&mut quick).await.answer(linear);
        let answers = answer.await.unwrap().unwrap();
        assert_eq!((answers[0].how, values(&answers[0])[0]), (How::Prediction, f32::from(number)));
        times.push(since.elapsed());
    }
    times.sort();
    assert!(times[98] < Duration::from_millis(20), "P99 {:?}", times[98]);
    assert_eq!(decoding.runs(), [1]);
    decoding.go.send(()).unwrap();
    let (lost_one, _) = if lost == 1.0 { (one, two) } else { (two, one) };
    let rebuilt = lost_one.await.unwrap().unwrap();
    assert!(matches!(rebuilt[0].how, How::Reconstructed { .. }), "{rebuilt:?}");
    assert_eq!(values(&rebuilt[0]), [lost, 2.0 * lost]);
    drop(stuck);
}

#[tokio::test]
async fn what_is_lost_together_is_decoded_in_one_run() {
    let more = r#", "batch": {"max_size": 3, "delay_ms": 1e5}"#;
    let (runtime, encoding, decoding) = learned("batched-decoder", &[[1.0, 1.0]], more);
    encoding.go.send(()).unwrap();
    let mut slow = puppet(&runtime, Roles::DEPLOYED).await;
    let mut quick = puppet(&runtime, Roles::DEPLOYED).await;
    let mut parity = puppet(&runtime, Roles::parity(0)).await;
    let answers = [asked(&runtime, pairs(&[1.0, 2.0, 3.0])), asked(&runtime, pairs(&[10.0, 20.0, 30.0]))];
    let stuck = next(&mut slow).await;
    let lost = stuck.firsts();
    next(&mut quick).await.answer(linear);
    next(&mut parity).await.answer(linear);
    until("a decoding of three rows", || decoding.runs() == [3]).await;
    decoding.go.send(()).unwrap();
    for answer in answers {
        let answers = answer.await.unwrap().unwrap();
        let firsts: Vec<f32> = answers.iter().map(|answer| values(answer)[0]).collect();
        assert!(firsts == [1.0, 2.0, 3.0] || firsts == [10.0, 20.0, 30.0], "{firsts:?}");
        let rebuilt = answers.iter().all(|answer| matches!(answer.how, How::Reconstructed { .. }));
        assert_eq!(rebuilt, firsts == lost);
    }
    assert_eq!(decoding.runs(), [3]);
}

#[tokio::test]
async fn a_network_encodes_a_group_once_for_all_of_its_parities() {
    let (runtime, encoding, _) =
        learned("held-encoder", &[[1.0, 1.0], [1.0, 2.0]], r#", "batch": {"max_size": 2, "delay_ms": 1e5}"#);
    let mut deployed = [puppet(&runtime, Roles::DEPLOYED).await, puppet(&runtime, Roles::DEPLOYED).await];
    let mut first = puppet(&runtime, Roles::parity(0)).await;
    let mut second = puppet(&runtime, Roles::parity(1)).await;
    let answers = [asked(&runtime, pairs(&[1.0, 2.0])), asked(&runtime, pairs(&[10.0, 20.0]))];
    for calls in &mut deployed {
        next(calls).await.answer(linear);
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap().len(), 2);
    }
    encoding.go.send(()).unwrap();
    assert_eq!(next(&mut first).await.firsts(), [11.0, 22.0]);
    assert_eq!(next(&mut second).await.firsts(), [21.0, 42.0]);
    // Two rows, in one run.
    assert_eq!(encoding.runs(), [2]);
}
