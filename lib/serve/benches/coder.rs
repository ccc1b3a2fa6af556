//! How long a server takes to encode a group and to rebuild a prediction, beside memcpy.
//!
//! `cargo bench -p parm-serving --bench coder`; the reference implementation's medians are printed
//! beside them: 93, 153 and 193 us to encode 3x224x224 floats for k = 2, 3, 4, and 8, 14 and 19 us to
//! decode 1000 floats (SOSP 2019, section 5.2.5).

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parm::codes::NetworkError;
use parm_config::{Config, Redundancy, code_of};
use parm_oip::ModelMetadata;
use parm_serving::runtime::{Lost, Members, RowDecoder, RowEncoder, Spec, coders};

const PICTURE: usize = 3 * 224 * 224;

fn coders_of(k: usize, input: &str) -> (RowEncoder, RowDecoder) {
    let text = format!(
        r#"{{"models": [{{"name": "m",
            "inputs": [{{"name": "x", "datatype": "FP32", "shape": {input}}}],
            "outputs": [{{"name": "y", "datatype": "FP32", "shape": [1000]}}],
            "redundancy": {{"policy": "coded", "code": {{"name": "sum", "k": {k}}}}}}}]}}"#
    );
    let model = Config::parse(&text).expect("a configuration").models.remove(0);
    let spec = Spec::new(&model, &ModelMetadata::default()).expect("fixed shapes");
    let Redundancy::Coded(coded) = &model.redundancy else { return coders_of(k, input) };
    let code = code_of(&model).expect("a code").expect("a code");
    let (_, encoder, decoder) =
        coders(&spec, coded, model.task, &code, &|_, _| Err(NetworkError("there is none".to_owned())))
            .expect("coders");
    (encoder, decoder)
}

/// Calls of which the median time is taken.
const CALLS: usize = 301;

fn time(call: impl FnOnce()) -> Duration {
    let since = Instant::now();
    call();
    since.elapsed()
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The median time of a call.
fn median(mut call: impl FnMut()) -> Duration {
    middle((0..CALLS).map(|_| time(&mut call)).collect())
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn row(elements: usize, seed: usize) -> Bytes {
    (0..elements).flat_map(|i| (((i * 31 + seed * 17) % 997) as f32).to_le_bytes()).collect()
}

fn main() {
    println!("{:34} {:>9} {:>9} {:>10}", "", "us", "original", "of memcpy");
    for (k, original) in [(2, 93.0), (3, 153.0), (4, 193.0)] {
        let (encoder, _) = coders_of(k, "[3, 224, 224]");
        let group: Members = (0..k).map(|slot| (slot, vec![row(PICTURE, slot)])).collect();
        let groups = [group];
        let cached = median(|| drop(black_box(encoder.encode(0, black_box(&groups)))));
        println!("encode k={k}, in cache               {:9.1} {original:9.0}", us(cached));
        // More rows than the cache holds, one group after the other.
        let many: Vec<[Members; 1]> = (0..64)
            .map(|seed| [(0..k).map(|slot| (slot, vec![row(PICTURE, seed * 7 + slot)])).collect()])
            .collect();
        let encode = |group: &[Members; 1]| drop(black_box(encoder.encode(0, black_box(group))));
        // The same rows copied, into memory that is new each time.
        let copy = |group: &[Members; 1]| {
            for (_, inputs) in &group[0] {
                let mut to: Vec<u8> = Vec::with_capacity(inputs[0].len());
                to.extend_from_slice(black_box(&inputs[0]));
                black_box(&to);
            }
        };
        // In turns, so that what changes on the machine meets both.
        let at = |turn: usize| &many[turn % many.len()];
        let (cold, copied) =
            (0..CALLS).map(|turn| (time(|| encode(at(2 * turn))), time(|| copy(at(2 * turn + 1))))).unzip();
        let (cold, copied) = (middle(cold), middle(copied));
        let ratio = copied.as_secs_f64() / cold.as_secs_f64();
        println!("encode k={k}, out of cache           {:9.1} {:>9} {ratio:10.2}", us(cold), "");
    }
    for (k, original) in [(2, 8.0), (3, 14.0), (4, 19.0)] {
        let (_, mut decoder) = coders_of(k, "[8]");
        let outputs: Vec<Vec<Bytes>> = (0..=k).map(|worker| vec![row(1000, worker)]).collect();
        let available = ((1 << (k + 1)) - 1) & !1;
        let lost = Lost { slot: 0, available, absent: 0 };
        let time = median(|| {
            drop(black_box(decoder.decode(lost, 1, |worker| outputs.get(worker).map(Vec::as_slice))));
        });
        println!("decode k={k}, 1000 floats            {:9.2} {original:9.0}", us(time));
    }
}
