//! Spectrograms beside SciPy's and a naive transform, and clips that are refused.

use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};

use parm_data_sets::Fault;
use parm_data_sets::folder::FolderError;
use parm_data_sets::speech::{FRAMES, FREQUENCIES, HOP, Spectrogram, SpeechError, Split, WINDOW, clips};
use parm_testkit::npy;
use proptest::prelude::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/data-sets/clips")
}

#[test]
fn spectrograms_are_those_of_scipy() {
    for name in ["second", "short", "long"] {
        let clip = Spectrogram::default().open(&folder().join(format!("{name}.wav"))).unwrap();
        assert_eq!(clip.len(), FREQUENCIES * FRAMES);
        let expected = fs::read(folder().join(format!("{name}.spectrogram.npy"))).unwrap();
        assert_eq!(npy::shape(&expected), [17, FRAMES]);
        let every_tenth = clip.chunks_exact(FRAMES).step_by(10).flatten();
        for (found, expected) in every_tenth.zip(npy::f4_values(&expected)) {
            let tolerance = 1e-5 * expected.abs().max(0.1);
            assert!((found - expected).abs() <= tolerance, "{name}: {found} for {expected}");
        }
    }
}

/// The definition: each frequency of each frame a sum over the reflected signal.
fn naive(samples: &[f64]) -> Vec<f64> {
    let count = samples.len() as i64;
    let reflected = |i: i64| {
        samples[(if i < 0 {
            -i
        } else if i >= count {
            2 * count - 2 - i
        } else {
            i
        }) as usize]
    };
    let mut clip = vec![0.0; FREQUENCIES * FRAMES];
    for t in 0..FRAMES.min(samples.len() / HOP + 1) {
        for frequency in 0..FREQUENCIES {
            let (mut re, mut im) = (0.0, 0.0);
            for i in 0..WINDOW {
                let window = 0.54 - 0.46 * (TAU * i as f64 / WINDOW as f64).cos();
                let value = window * reflected((t * HOP + i) as i64 - WINDOW as i64 / 2);
                let angle = TAU * (frequency * i % WINDOW) as f64 / WINDOW as f64;
                (re, im) = (re + value * angle.cos(), im - value * angle.sin());
            }
            clip[frequency * FRAMES + t] = (1.0 + re.hypot(im)).ln();
        }
    }
    let mean = clip.iter().sum::<f64>() / clip.len() as f64;
    let deviation = (clip.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (clip.len() - 1) as f64).sqrt();
    clip.iter().map(|x| (x - mean) / deviation).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_fast_way_is_the_naive_one((count, seed) in (161_usize..2000, 0_usize..1000)) {
        let samples: Vec<f64> =
            (0..count).map(|i| ((i * 7919 + seed * 31) % 1009) as f64 / 504.0 - 1.0).collect();
        let found = Spectrogram::default().of(&samples).unwrap();
        for (found, expected) in found.iter().zip(naive(&samples)) {
            prop_assert!((f64::from(*found) - expected).abs() < 1e-6, "{found} for {expected}");
        }
    }
}

#[test]
fn silence_is_zeros() {
    let clip = Spectrogram::default().of(&vec![0.0; 16_000]).unwrap();
    assert!(clip.iter().all(|&value| value == 0.0));
}

/// A WAV file by hand. `format` is 1 for integers and 3 for floats.
fn wav(rate: u32, channels: u16, format: u16, bits: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0");
    bytes.extend(format.to_le_bytes());
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    let block = channels * bits / 8;
    bytes.extend((rate * u32::from(block)).to_le_bytes());
    bytes.extend(block.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

fn open(bytes: &[u8]) -> Result<Vec<f32>, Fault> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.wav");
    fs::write(&path, bytes).unwrap();
    Spectrogram::default().open(&path).map_err(|error| {
        assert_eq!(error.path, path);
        error.fault
    })
}

#[test]
fn integers_and_floats_are_the_same_clip() {
    let values: Vec<i8> = (0..400).map(|i| (i * 37 % 251 - 125) as i8).collect();
    let encode = |of: &dyn Fn(i8) -> Vec<u8>| values.iter().flat_map(|&value| of(value)).collect::<Vec<_>>();
    let bytes =
        open(&wav(16_000, 1, 1, 8, &encode(&|v| vec![v.wrapping_sub(-128).cast_unsigned()]))).unwrap();
    let words =
        open(&wav(16_000, 1, 1, 16, &encode(&|v| (i16::from(v) << 8).to_le_bytes().to_vec()))).unwrap();
    let floats =
        open(&wav(16_000, 1, 3, 32, &encode(&|v| (f32::from(v) / 128.0).to_le_bytes().to_vec()))).unwrap();
    assert_eq!(words, bytes);
    assert_eq!(words, floats);
}

#[test]
fn what_is_no_clip_of_speech_is_refused() {
    let refused = |bytes: &[u8]| match open(bytes).unwrap_err() {
        Fault::Speech(error) => error,
        other => panic!("{other:?}"),
    };
    let second = vec![1; 32_000];
    assert!(matches!(refused(&wav(8000, 1, 1, 16, &second)), SpeechError::Rate(8000)));
    assert!(matches!(refused(&wav(16_000, 2, 1, 16, &second)), SpeechError::Channels(2)));
    assert!(matches!(refused(&wav(16_000, 1, 1, 16, &[])), SpeechError::Short(0)));
    assert!(matches!(refused(&wav(16_000, 1, 1, 16, &[0; 320])), SpeechError::Short(160)));
    let mut nan = vec![0; 64_000];
    nan[60_000..60_004].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(refused(&wav(16_000, 1, 3, 32, &nan)), SpeechError::NotFinite));
    let whole = wav(16_000, 1, 1, 16, &second);
    for cut in [0, 3, 11, 20, 40, 44, 1000, whole.len() - 1] {
        let error = refused(&whole[..cut]);
        assert!(matches!(error, SpeechError::Wave(_)), "cut at {cut}: {error:?}");
    }
    assert!(matches!(refused(b"not a WAV file at all, though long enough"), SpeechError::Wave(_)));
}

#[test]
fn the_lists_divide_the_set() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for name in ["yes/b.wav", "yes/a.wav", "no/a.wav", "no/c.wav", "_background_noise_/x.wav", "no/notes.txt"]
    {
        write(name, b"");
    }
    let names = |split| {
        let folder = clips(folder.path(), split)?;
        assert_eq!(folder.classes, ["no", "yes"]);
        let name = |(path, label): &(PathBuf, usize)| {
            let parts: Vec<_> = path.iter().rev().take(2).map(|part| part.to_str().unwrap()).collect();
            format!("{}/{} {label}", parts[1], parts[0])
        };
        Ok::<_, parm_data_sets::DataError>(folder.files.iter().map(name).collect::<Vec<_>>())
    };
    assert!(matches!(names(Split::Train).unwrap_err().fault, Fault::Io("read", _)), "no lists");
    write("validation_list.txt", b"yes/a.wav\n");
    write("testing_list.txt", b"no/c.wav\n\n");
    assert_eq!(names(Split::Train).unwrap(), ["no/a.wav 0", "yes/b.wav 1"]);
    assert_eq!(names(Split::Validation).unwrap(), ["yes/a.wav 1"]);
    assert_eq!(names(Split::Test).unwrap(), ["no/c.wav 0"]);
    write("testing_list.txt", b"");
    assert!(matches!(names(Split::Test).unwrap_err().fault, Fault::Speech(SpeechError::NoClips)));
    write("testing_list.txt", b"no/c.wav\nno/d.wav\n");
    let error = names(Split::Test).unwrap_err();
    assert!(error.path.ends_with("testing_list.txt"));
    let says_which =
        matches!(&error.fault, Fault::Speech(SpeechError::NoClip { line: 2, clip }) if clip == "no/d.wav");
    assert!(says_which, "{error:?}");
}

#[test]
fn directories_without_classes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = || match clips(folder.path(), Split::Train).unwrap_err().fault {
        Fault::Folder(error) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(), FolderError::NoClasses);
    fs::create_dir(folder.path().join("yes")).unwrap();
    assert_eq!(refused(), FolderError::EmptyClass("wav".into()));
}
