//! `--flush`: a program may wait for the answer to a group, or to an item, before it writes the next.

use std::fs::{self, File};
use std::io::Write;
use std::process::Command;

use parm_testkit::npy::{f4, mask};
use parm_testkit::{Coprocess, code_dir, safetensors};

/// A group of two queries of six values, and their sum.
fn group(index: usize) -> (Vec<f32>, Vec<f32>) {
    let values: Vec<f32> = (0..12).map(|at| (index * 12 + at) as f32).collect();
    let (first, second) = values.split_at(6);
    let sum = first.iter().zip(second).map(|(first, second)| first + second).collect();
    (values, sum)
}

#[test]
fn a_group_is_encoded_before_the_next_is_read() {
    let folder = tempfile::tempdir().unwrap();
    code_dir::learned(&folder.path().join("code"), (2, 2), Some("encoder.pt"), None);
    for code in ["--code sum -k 2", "--code code --threads 1 --parity-index 0"] {
        let mut encode = Coprocess::start("parm-encode", &format!("{code} --flush"), folder.path());
        let mut expected = Vec::new();
        for index in 0..3 {
            let (values, sum) = group(index);
            encode.send(&f4(&[2, 2, 3], &values));
            expected.extend(sum);
            assert_eq!(encode.answers(expected.len()), expected, "{code}");
        }
        encode.end();
    }
}

#[test]
fn a_group_is_encoded_before_its_item_ends() {
    let folder = tempfile::tempdir().unwrap();
    let ([first, of_first], [second, of_second]) = (group(0).into(), group(1).into());
    let item = f4(&[4, 6], &[first, second].concat());
    let mut encode = Coprocess::start("parm-encode", "--code sum -k 2 --flush", folder.path());
    let (begin, rest) = item.split_at(item.len() - 2 * 6 * 4);
    encode.send(begin);
    assert_eq!(encode.answers(6), of_first);
    encode.send(rest);
    assert_eq!(encode.answers(12), [of_first, of_second].concat());
    encode.end();
}

/// The second prediction of the second group is lost; before it the decoder has nothing to rebuild.
#[test]
fn a_group_is_decoded_once_all_its_streams_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    code_dir::learned(&path.join("code"), (2, 1), None, Some("decoder.pt"));
    fs::write(path.join("have.npy"), mask(&[true, true, true, false, true, true])).unwrap();
    assert!(Command::new("mkfifo").arg(path.join("parity")).status().unwrap().success());
    for code in ["--code sum -k 2", "--code code --threads 1"] {
        let call = format!("{code} --flush --parity parity --available have.npy");
        let mut decode = Coprocess::start("parm-decode", &call, path);
        let (mut parities, mut expected) = (None, Vec::new());
        for index in 0..3 {
            let predictions = [1.0, 2.0, 3.0, 4.0].map(|value: f32| value + index as f32);
            let sum = [predictions[0] + predictions[2], predictions[1] + predictions[3]];
            expected.extend(predictions);
            let mut sent = predictions;
            if index == 1 {
                sent[2..].fill(0.0);
            }
            decode.send(&f4(&[2, 2], &sent));
            let parities = parities.get_or_insert_with(|| File::create(path.join("parity")).unwrap());
            parities.write_all(&f4(&[1, 2], &sum)).unwrap();
            assert_eq!(decode.answers(expected.len()), expected, "{code}");
        }
        drop(parities);
        decode.end();
    }
}

#[test]
fn a_group_of_an_interpolating_code_is_decoded_before_the_next_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let available = [true, true, false, true, true, true, false, true, true];
    fs::write(folder.path().join("have.npy"), mask(&available)).unwrap();
    let call = "--code berrut -k 2 --stragglers 1 --flush --available have.npy";
    let mut decode = Coprocess::start("parm-decode", call, folder.path());
    for groups in 1..4 {
        decode.send(&f4(&[3, 2], &[1.0; 6]));
        let predictions = decode.answers(groups * 4);
        assert!(predictions.iter().all(|value| (value - 1.0).abs() < 1e-5), "{predictions:?}");
    }
    decode.end();
}

#[test]
fn an_item_is_answered_before_the_next_is_read() {
    let folder = tempfile::tempdir().unwrap();
    // Each output is the sum of the inputs.
    fs::write(folder.path().join("model"), safetensors::linear(&[4], 3, &[1.0; 12])).unwrap();
    let mut infer = Coprocess::start("parm-infer", "-m model --threads 1 --flush --batch 4", folder.path());
    let mut expected = Vec::new();
    for rows in [2, 1, 9] {
        let values: Vec<f32> = (0..rows * 4).map(|value| value as f32).collect();
        infer.send(&f4(&[rows, 4], &values));
        expected.extend(values.chunks(4).flat_map(|row| [row.iter().sum::<f32>(); 3]));
        assert_eq!(infer.answers(expected.len()), expected);
    }
    infer.end();
}
