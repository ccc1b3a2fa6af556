//! Spectrograms beside SciPy's and a naive transform, and clips that are refused.

use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};

use parm_data_sets::Fault;
use parm_data_sets::folder::FolderError;
use parm_data_sets::speech::{FRAMES, FREQUENCIES, HOP, Spectrogram, SpeechError, Split, WINDOW, clips};
use parm_data_sets::wav::WavError;
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

/// A RIFF file of these chunks, the length of each padded to an even one.
fn riff(size: Option<u32>, chunks: &[(&[u8], Option<u32>, &[u8])]) -> Vec<u8> {
    let mut body = b"WAVE".to_vec();
    for (name, length, content) in chunks {
        body.extend(*name);
        body.extend(length.unwrap_or(content.len() as u32).to_le_bytes());
        body.extend(*content);
        body.extend(&[0][..content.len() % 2]);
    }
    let size = size.unwrap_or(body.len() as u32);
    [b"RIFF", size.to_le_bytes().as_slice(), &body].concat()
}

/// A format chunk: plain, or with an extension of this subformat and so many valid bits.
fn format(format: u16, bits: u16, extension: Option<(u16, u16)>) -> Vec<u8> {
    let block = bits / 8;
    let mut chunk = Vec::new();
    for half in [format, 1] {
        chunk.extend(half.to_le_bytes());
    }
    for whole in [16_000, 16_000 * u32::from(block)] {
        chunk.extend(whole.to_le_bytes());
    }
    for half in [block, bits] {
        chunk.extend(half.to_le_bytes());
    }
    if let Some((subformat, valid)) = extension {
        chunk.extend([22, 0]);
        chunk.extend(valid.to_le_bytes());
        chunk.extend([4, 0, 0, 0]);
        chunk.extend(subformat.to_le_bytes());
        chunk.extend(b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71");
    }
    chunk
}

#[test]
fn riff_is_read_as_its_specification_has_it() {
    let values: Vec<i16> = (0..400).map(|i| (i * 7919 % 65_521 - 32_760) as i16).collect();
    let encode = |of: &dyn Fn(i16) -> Vec<u8>| values.iter().flat_map(|&value| of(value)).collect::<Vec<_>>();
    let data = encode(&|value| value.to_le_bytes().to_vec());
    let plain = format(1, 16, None);
    let expected = open(&riff(None, &[(b"fmt ", None, &plain), (b"data", None, &data)])).unwrap();
    let exact = |value: i16| f64::from(value) / 32_768.0;
    assert_eq!(
        Spectrogram::default().of(&values.iter().map(|&v| exact(v)).collect::<Vec<_>>()).unwrap(),
        expected
    );

    // Chunks of odd length before the samples and behind them, also within the format chunk.
    let odd_format = [plain.as_slice(), &[0]].concat();
    let list: (&[u8], _, &[u8]) = (b"LIST", None, b"INFOISFT\x05\0\0\0Lavf\0");
    let chunks = [(b"JUNK".as_slice(), None, b"odd".as_slice()), (b"fmt ", None, &odd_format), list];
    let chunks = [&chunks[..], &[(b"data", None, &data), (b"id3 ", None, b"x")]].concat();
    assert_eq!(open(&riff(None, &chunks)).unwrap(), expected);

    // Every encoding that holds these values, plain and extensible.
    let wide = |bytes: usize| {
        let shift = bytes * 8 - 16;
        encode(&|value| (i32::from(value) << shift).to_le_bytes()[..bytes].to_vec())
    };
    for (kind, bits, bytes) in [
        (1, 16, data.clone()),
        (1, 24, wide(3)),
        (1, 32, wide(4)),
        (3, 32, encode(&|value| (exact(value) as f32).to_le_bytes().to_vec())),
        (3, 64, encode(&|value| exact(value).to_le_bytes().to_vec())),
    ] {
        for form in [format(kind, bits, None), format(0xfffe, bits, Some((kind, bits)))] {
            let found = open(&riff(None, &[(b"fmt ", None, &form), (b"data", None, &bytes)])).unwrap();
            assert_eq!(found, expected, "format {kind} of {bits} bits, {} bytes of format", form.len());
        }
    }
    // 20 valid bits in 24, in the upper ones.
    let form = format(0xfffe, 24, Some((1, 20)));
    assert_eq!(open(&riff(None, &[(b"fmt ", None, &form), (b"data", None, &wide(3))])).unwrap(), expected);

    // What programs leave for lengths when they write to a pipe.
    for (size, length) in [
        (Some(0), Some(0)),
        (Some(u32::MAX), Some(0)),
        (Some(u32::MAX), Some(u32::MAX)),
        (Some(36), Some(0)),
        (Some(0x7fff_f024), Some(0x7fff_f000)),
        (Some(0), None),
    ] {
        let bytes = riff(size, &[(b"fmt ", None, &plain), (b"data", length, &data)]);
        assert_eq!(open(&bytes).unwrap(), expected, "{size:x?} {length:x?}");
    }
    // No samples at all, said so, are none, whatever follows.
    let none = riff(None, &[(b"fmt ", None, &plain), (b"data", None, b""), (b"LIST", None, &[1; 1000])]);
    assert!(matches!(open(&none).unwrap_err(), Fault::Speech(SpeechError::Short(0))));
}

#[test]
fn wav_files_of_other_formats_are_refused() {
    let refused = |bytes: &[u8]| match open(bytes).unwrap_err() {
        Fault::Speech(SpeechError::Wave(error)) => error,
        other => panic!("{other:?}"),
    };
    let of = |form: &[u8]| riff(None, &[(b"fmt ", None, form), (b"data", None, &[0; 4000])]);
    // MS ADPCM, A-law; floats of 16 bits; integers of 64; an extension of another family.
    for (kind, bits) in [(2, 4), (6, 8), (3, 16), (1, 64)] {
        let error = refused(&of(&format(kind, bits, None)));
        assert!(matches!(error, WavError::Format { format, bits: found } if (format, found) == (kind, bits)));
    }
    let mut ambisonic = format(0xfffe, 16, Some((1, 16)));
    *ambisonic.last_mut().unwrap() = 0;
    assert!(matches!(refused(&of(&ambisonic)), WavError::Format { format: 0xfffe, .. }));
    assert!(matches!(refused(&of(&[0; 15])), WavError::Truncated("its format chunk")));
    let unformatted = riff(None, &[(b"data", None, &[0; 4000])]);
    assert!(matches!(refused(&unformatted), WavError::NoFormat));
    let half = riff(Some(0), &[(b"fmt ", None, &format(1, 16, None)), (b"data", Some(0), &[0; 4000])]);
    assert!(matches!(refused(&half[..half.len() - 1]), WavError::Truncated("a sample")));
    assert!(matches!(refused(b"RIFF\x04\0\0\0AVI LIST"), WavError::NoWave));
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
