//! Rows that are encoded and rebuilt: with a linear model every linear code is exact.

mod common;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parm::codes::directory::RunsOn;
use parm::codes::{Network, NetworkError};
use parm_config::{Config, Redundancy, code_of};
use parm_oip::{Datatype, ModelMetadata, Tensor};
use parm_serving::runtime::{CodingError, Lost, Members, RowDecoder, RowEncoder, Spec, coders};
use proptest::prelude::*;

/// The coders of a model whose input and output are alike.
fn identity(code: &str, datatype: &str, shape: &str) -> (RowEncoder, RowDecoder) {
    let text = format!(
        r#"{{"models": [{{"name": "m",
            "inputs": [{{"name": "x", "datatype": "{datatype}", "shape": {shape}}}],
            "outputs": [{{"name": "y", "datatype": "{}", "shape": {shape}}}],
            "redundancy": {{"policy": "coded", "code": {code}}}}}]}}"#,
        if datatype.starts_with("FP") { datatype } else { "FP32" }
    );
    let model = Config::parse(&text).unwrap().models.remove(0);
    let spec = Spec::new(&model, &ModelMetadata::default()).unwrap();
    let Redundancy::Coded(coded) = &model.redundancy else { panic!("it has a code") };
    let code = code_of(&model).unwrap().unwrap();
    let (_, encoder, decoder) = coders(&spec, coded, model.task, &code, &common::no_network).unwrap();
    (encoder, decoder)
}

fn members(rows: &[Vec<f32>]) -> Members {
    rows.iter().enumerate().map(|(slot, row)| (slot, vec![common::bytes(row)])).collect()
}

/// What a model that gives back what it gets answers.
fn answer(tensors: Vec<Tensor>) -> Vec<Tensor> {
    tensors.into_iter().map(|tensor| Tensor { name: "y".to_owned(), ..tensor }).collect()
}

#[test]
fn confidences_go_through_the_calibration_which_must_be_one() {
    let file = std::env::temp_dir().join(format!("parm-calibration-{}.json", std::process::id()));
    let model = |calibration: &str| {
        let text = format!(
            r#"{{"models": [{{"name": "m",
                "inputs": [{{"name": "x", "datatype": "FP32", "shape": [2]}}],
                "outputs": [{{"name": "y", "datatype": "FP32", "shape": [2]}}],
                "redundancy": {{"policy": "coded", "calibration": {calibration}}}}}]}}"#
        );
        Config::parse(&text).unwrap().models.remove(0)
    };
    let rebuilt = |calibration: &str| {
        let model = model(calibration);
        let spec = Spec::new(&model, &ModelMetadata::default()).unwrap();
        let Redundancy::Coded(coded) = &model.redundancy else { panic!("it has a code") };
        let code = code_of(&model).unwrap().unwrap();
        let (_, _, mut decoder) = coders(&spec, coded, model.task, &code, &common::no_network)?;
        let outputs = [[1.0, 2.0], [0.0, 0.0], [2.0, 5.0]].map(|row| vec![common::bytes(&row)]);
        let lost = Lost { slot: 1, available: 0b101, absent: 0 };
        decoder.decode(lost, 1, |worker| Some(&outputs[worker][..]))
    };
    let named = format!("{file:?}");
    let plain = rebuilt("null").unwrap();
    assert!(0.0 < plain.confidence && plain.confidence < 1.0, "{}", plain.confidence);
    // A line from 0.2 at 0 to 0.4 at 1.
    std::fs::write(&file, r#"{"format": 1, "points": [[0.0, 0.2], [1.0, 0.4]]}"#).unwrap();
    let calibrated = rebuilt(&named).unwrap();
    assert_eq!(calibrated.outputs, plain.outputs);
    assert!(
        (calibrated.confidence - (0.2 + 0.2 * plain.confidence)).abs() < 1e-6,
        "{}",
        calibrated.confidence
    );
    for (text, expected) in [
        ("{", "malformed calibration: EOF"),
        (r#"{"format": 1, "points": []}"#, "expected at least one"),
        (r#"{"format": 2, "points": [[0, 0]]}"#, "found format 2"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = rebuilt(&named).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("parm-calibration-"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
}

proptest! {
    #[test]
    fn sum_rebuilds_any_r_losses(
        k in 1_usize..5,
        r in 1_usize..3,
        values in prop::collection::vec(-100.0_f32..100.0, 4 * 3),
        seed in any::<u64>(),
    ) {
        let (encoder, mut decoder) = identity(&format!(r#"{{"name": "sum", "k": {k}, "r": {r}}}"#), "FP32", "[3]");
        let rows: Vec<Vec<f32>> = values.chunks(3).take(k).map(<[f32]>::to_vec).collect();
        let group = members(&rows);
        let mut outputs: Vec<Vec<Bytes>> = group.iter().map(|(_, inputs)| inputs.clone()).collect();
        for parity in 0..r {
            let coded = answer(encoder.encode(parity, std::slice::from_ref(&group)).unwrap());
            outputs.push(decoder.accept(&coded, 1, 1).unwrap());
        }
        // Any r of the k + r are lost, chosen by the seed; the first lost query is rebuilt.
        let mut order: Vec<usize> = (0..k + r).collect();
        order.sort_by_key(|worker| seed.rotate_left(7 * *worker as u32).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let lost = &order[..r];
        let available = (0..k + r).filter(|worker| !lost.contains(worker)).fold(0, |mask, worker| mask | 1 << worker);
        if let Some(&slot) = lost.iter().filter(|&&worker| worker < k).min() {
            let rebuilt = decoder
                .decode(Lost { slot, available, absent: 0 }, 1, |worker| Some(&outputs[worker][..]))
                .unwrap();
            for (found, expected) in common::floats(&rebuilt.outputs[0]).iter().zip(&rows[slot]) {
                prop_assert!((found - expected).abs() < 0.02, "{found} {expected}");
            }
        }
    }

    #[test]
    fn slots_without_a_query_are_zeros(present in 0_usize..3, row in prop::collection::vec(-9.0_f32..9.0, 2)) {
        let (encoder, mut decoder) = identity(r#"{"name": "sum", "k": 3}"#, "FP32", "[2]");
        let group: Members = vec![(present, vec![common::bytes(&row)])];
        let coded = answer(encoder.encode(0, &[group]).unwrap());
        prop_assert_eq!(common::floats(&coded[0].data.contiguous()), row.clone());
        let parity = decoder.accept(&coded, 1, 1).unwrap();
        let absent = 0b111 & !(1 << present);
        let rebuilt = decoder
            .decode(Lost { slot: present, available: 0b1000, absent }, 1, |worker| (worker == 3).then_some(&parity[..]))
            .unwrap();
        prop_assert_eq!(common::floats(&rebuilt.outputs[0]), row);
    }
}

#[test]
fn whole_numbers_and_halves_are_coded_as_floats() {
    let (encoder, _) = identity(r#"{"name": "sum", "k": 2}"#, "UINT8", "[2]");
    let group: Members =
        vec![(0, vec![Bytes::from_static(&[200, 1])]), (1, vec![Bytes::from_static(&[100, 2])])];
    let coded = encoder.encode(0, &[group]).unwrap();
    // More than a byte holds.
    assert_eq!(
        (coded[0].datatype, common::floats(&coded[0].data.contiguous())),
        (Datatype::Fp32, vec![300.0, 3.0])
    );
    let (encoder, mut decoder) = identity(r#"{"name": "sum", "k": 2}"#, "FP16", "[1]");
    let [one, two] = [half::f16::from_f32(1.5), half::f16::from_f32(2.25)]
        .map(|half| Bytes::from(half.to_le_bytes().to_vec()));
    let coded = answer(encoder.encode(0, &[vec![(0, vec![one.clone()]), (1, vec![two.clone()])]]).unwrap());
    let parity = decoder.accept(&coded, 1, 1).unwrap();
    let outputs = [vec![one], vec![], parity];
    let rebuilt = decoder
        .decode(Lost { slot: 1, available: 0b101, absent: 0 }, 1, |worker| Some(&outputs[worker][..]))
        .unwrap();
    assert_eq!(rebuilt.outputs[0], two);
}

#[test]
fn doubles_are_coded_as_doubles() {
    let (encoder, mut decoder) = identity(r#"{"name": "sum", "k": 2}"#, "FP64", "[1]");
    let row = |value: f64| Bytes::from(value.to_le_bytes().to_vec());
    let coded = answer(encoder.encode(0, &[vec![(0, vec![row(0.1)]), (1, vec![row(1e-12)])]]).unwrap());
    assert_eq!(coded[0].datatype, Datatype::Fp64);
    let outputs = [vec![], vec![row(1e-12)], decoder.accept(&coded, 1, 1).unwrap()];
    let rebuilt = decoder
        .decode(Lost { slot: 0, available: 0b110, absent: 0 }, 1, |worker| Some(&outputs[worker][..]))
        .unwrap();
    let value = f64::from_le_bytes(rebuilt.outputs[0][..].try_into().unwrap());
    assert!((value - 0.1).abs() < 1e-15, "{value}");
}

#[test]
fn concat_tiles_images_and_rgb_keeps_its_channels() {
    let (encoder, _) = identity(r#"{"name": "concat", "k": 2}"#, "FP32", "[3, 2, 2]");
    // Each channel has a value of its own, which a mean of pixels does not change.
    let image = |base: f32| -> Vec<f32> { (0..3).flat_map(|channel| [base + channel as f32; 4]).collect() };
    let coded = encoder.encode(0, &[members(&[image(10.0), image(20.0)])]).unwrap();
    let expected: Vec<f32> = (0..3).flat_map(|c| [10.0 + c as f32, 20.0 + c as f32].repeat(2)).collect();
    assert_eq!(common::floats(&coded[0].data.contiguous()), expected);
    assert_eq!(coded[0].shape, [1, 3, 2, 2]);
}

#[test]
fn what_a_parity_model_answers_is_checked() {
    let (encoder, decoder) = identity(r#"{"name": "sum", "k": 2}"#, "FP32", "[2]");
    let good = answer(encoder.encode(0, &[members(&[vec![1.0, 2.0], vec![3.0, 4.0]])]).unwrap());
    decoder.accept(&good, 1, 1).unwrap();
    let with = |change: fn(&mut Tensor)| {
        let mut tensors = good.clone();
        change(&mut tensors[0]);
        decoder.accept(&tensors, 1, 1).unwrap_err().to_string()
    };
    assert!(with(|tensor| tensor.shape = vec![2, 1]).contains("expected [1, 2]"));
    assert!(with(|tensor| tensor.datatype = Datatype::Int32).contains("expected a float type"));
    assert!(with(|tensor| tensor.data = Bytes::from_static(b"1234").into()).contains("in 4 bytes"));
    assert!(decoder.accept(&[], 1, 1).unwrap_err().to_string().contains("found no output 'y'"));
    assert!(decoder.accept(&good, 2, 1).unwrap_err().to_string().contains("expected [2, 2]"));
}

/// A network that is a function of its rows, of two elements each.
/// The decoder of a model of `elements` outputs, with more of its configuration.
fn decoder(elements: usize, more: &str) -> Result<RowDecoder, CodingError> {
    let text = format!(
        r#"{{"models": [{{"name": "m", {more}
            "inputs": [{{"name": "x", "datatype": "FP32", "shape": [2]}}],
            "outputs": [{{"name": "y", "datatype": "FP32", "shape": [{elements}]}}]}}]}}"#
    );
    let model = Config::parse(&text).unwrap().models.remove(0);
    let spec = Spec::new(&model, &ModelMetadata::default()).unwrap();
    let Redundancy::Coded(coded) = &model.redundancy else { panic!("it has a code") };
    let code = code_of(&model).unwrap().unwrap();
    coders(&spec, coded, model.task, &code, &common::no_network).map(|(_, _, decoder)| decoder)
}

const SUM: &str = r#""redundancy": {"policy": "coded"},"#;

#[test]
fn agreement_and_confidence_are_those_of_the_task() {
    let near = [3.0, 1.2, 0.0, 1.0];
    let own = [3.0, 1.0, 1.0, 1.0];
    // X2 = P − X1 has the amplification √2; logits have a margin of 0.2 as well.
    let (alone, margin) = (1.0 / (1.0 + 2.0_f32.sqrt()), 0.2 / (0.2 + 2.0_f32.sqrt()));
    for (task, agrees, confidence) in [
        // The top-1 is the same, the angle is 17 degrees, and the first box is empty.
        (r#""task": "classify","#, true, margin),
        (r#""task": "embed","#, true, alone),
        (r#""task": "boxes","#, false, alone),
        ("", true, margin),
    ] {
        let mut decoder = decoder(4, &format!("{task} {SUM}")).unwrap();
        let found = decoder.agrees(&[common::bytes(&near)], &[common::bytes(&own)]);
        assert_eq!(found, Some(agrees), "{task}");
        let outputs = [own, own, near].map(|row| vec![common::bytes(&row)]);
        let lost = Lost { slot: 1, available: 0b101, absent: 0 };
        let rebuilt = decoder.decode(lost, 1, |worker| Some(&outputs[worker][..])).unwrap();
        assert!((rebuilt.confidence - confidence).abs() < 1e-3, "{task}: {}", rebuilt.confidence);
    }
}

#[test]
fn values_agree_by_the_deviation_of_the_predictions_that_came() {
    // One number is a value, whatever else is said of it.
    for more in ["", r#""task": "regress","#] {
        let mut decoder = decoder(1, &format!("{more} {SUM}")).unwrap();
        let mut agrees =
            |rebuilt: f32, own: f32| decoder.agrees(&[common::bytes(&[rebuilt])], &[common::bytes(&[own])]);
        let sign = |i: i32| if i % 2 == 0 { 1.0 } else { -1.0 };
        // Around 1000 with a deviation of 1: the first predictions say too little of it.
        for i in 0..7 {
            assert_eq!(agrees(0.0, 1000.0 + sign(i)), None);
        }
        for i in 7..200 {
            let own = 1000.0 + sign(i);
            assert_eq!(agrees(own + 0.19, own), Some(true), "{i}");
            assert_eq!(agrees(own + 0.25, own), Some(false), "{i}");
        }
        assert_eq!(agrees(f32::NAN, 1000.0), Some(false));
    }
}

#[test]
fn a_task_that_the_outputs_or_the_code_contradict_is_refused() {
    let message = |decoder: Result<RowDecoder, CodingError>| match decoder {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it was made"),
    };
    let found = message(decoder(3, &format!(r#""task": "boxes", {SUM}"#)));
    assert!(found.contains("found predictions of 3 numbers, expected 4"), "{found}");
    let found = message(decoder(1, &format!(r#""task": "classify", {SUM}"#)));
    assert!(found.contains("found predictions of one number, which tell no classes apart"), "{found}");
    let unknown = Config::parse(r#"{"models": [{"name": "m", "task": "logits"}]}"#).unwrap_err().to_string();
    assert!(unknown.contains("unknown variant `logits`, expected one of `classify`, `regress`"), "{unknown}");
    let folder = std::env::temp_dir().join(format!("parm-task-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("p.pt"), "").unwrap();
    let file = r#"{"format": 2, "code": "sum", "k": 2, "parity": ["p.pt"], "output": "embeddings"}"#;
    std::fs::write(folder.join("code.json"), file).unwrap();
    let code = format!(
        r#""redundancy": {{"policy": "coded", "code": {{"name": "directory", "directory": {folder:?}}}}},"#
    );
    let found = message(decoder(2, &format!(r#""task": "regress", {code}"#)));
    assert!(found.contains("found the task regress, expected embed: the outputs are embeddings"), "{found}");
    // Without a task, it is that of the directory.
    let mut of_directory = decoder(2, &code).unwrap();
    let [a, b] = [[1.0, 0.9], [1.0, 1.1]].map(|row| [common::bytes(&row)]);
    assert_eq!(of_directory.agrees(&a, &b), Some(true), "the top-1 differs, and the direction does not");
    std::fs::remove_dir_all(&folder).unwrap();
}

struct By(fn(&[[f32; 2]]) -> Vec<[f32; 2]>);

impl Network for By {
    fn run(&self, groups: usize, values: &[f32]) -> Result<Vec<f32>, NetworkError> {
        let groups = values.chunks(values.len() / groups);
        Ok(groups.flat_map(|group| self.0(group.as_chunks().0).concat()).collect())
    }
}

#[test]
fn learned_coders_see_zeros_for_what_is_absent_or_lost() {
    let folder = common::learned_code("coder", &[[1.0, 1.0]]);
    let text = format!(
        r#"{{"models": [{{"name": "m",
            "inputs": [{{"name": "x", "datatype": "FP32", "shape": [2]}}],
            "outputs": [{{"name": "y", "datatype": "FP32", "shape": [2]}}],
            "redundancy": {{"policy": "coded", "code": {{"name": "directory", "directory": {folder:?}}}}}}}]}}"#
    );
    let model = Config::parse(&text).unwrap().models.remove(0);
    let code = code_of(&model).unwrap().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!((code.r(), code.runs_on()), (1, RunsOn::Deployed));
    let spec = Spec::new(&model, &ModelMetadata::default()).unwrap();
    let Redundancy::Coded(coded) = &model.redundancy else { panic!("it has a code") };
    let Err(error) = coders(&spec, coded, model.task, &code, &common::no_network) else {
        panic!("it has no networks")
    };
    assert_eq!(error.to_string(), "there is none");
    // The encoder is the first query and twice the second; the decoder gives what it sees of each slot.
    let load = |file: &Path, group: &[usize]| -> Result<Arc<dyn Network>, NetworkError> {
        if file.ends_with("e.pt") {
            assert_eq!(group, [2, 2]);
            return Ok(Arc::new(By(|rows| {
                vec![[rows[0][0] + 2.0 * rows[1][0], rows[0][1] + 2.0 * rows[1][1]]]
            })));
        }
        assert_eq!(group, [3, 2]);
        Ok(Arc::new(By(|rows| {
            vec![
                rows[2].map(|parity| parity + 100.0 * rows[0][0]),
                rows[2].map(|parity| parity + 100.0 * rows[1][0]),
            ]
        })))
    };
    let (_, encoder, mut decoder) = coders(&spec, coded, model.task, &code, &load).unwrap();
    let both = encoder.encode(0, &[members(&[vec![1.0, 2.0], vec![3.0, 4.0]])]).unwrap();
    assert_eq!(common::floats(&both[0].data.contiguous()), [7.0, 10.0]);
    let alone = encoder.encode(0, &[vec![(1, vec![common::bytes(&[3.0, 4.0])])]]).unwrap();
    assert_eq!(common::floats(&alone[0].data.contiguous()), [6.0, 8.0]);
    let parity = decoder.accept(&answer(both), 1, 1).unwrap();
    let outputs = [vec![common::bytes(&[1.0, 2.0])], vec![common::bytes(&[9.0, 9.0])], parity];
    let lost = Lost { slot: 1, available: 0b101, absent: 0 };
    let rebuilt = decoder.decode(lost, 1, |worker| Some(&outputs[worker][..])).unwrap();
    // What slot 1 holds is not at hand: a zero.
    assert_eq!(common::floats(&rebuilt.outputs[0]), [7.0, 10.0]);
}
