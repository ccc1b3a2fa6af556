//! Speech Commands: one-second WAV files to spectrograms, in the set's own splits.
//!
//! A clip of 16 000 samples a second becomes `[1, 161, 101]`: the magnitudes of 161 frequencies in 101
//! frames, of 20 ms (320 samples, under a periodic Hamming window) every 10 ms (160 samples), each centred on
//! its time with the signal reflected at both ends; then log(1 + x), padded with zeros or cut at the end;
//! then the mean is subtracted, and the result divided by its unbiased deviation. ParM's training code does
//! the same with librosa.

use std::collections::HashSet;
use std::f64::consts::TAU;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

pub use crate::error::SpeechError;
use crate::error::{At, DataError, Doing};
use crate::folder::Folder;
use crate::limits::LEAST;
pub use crate::limits::{RATE, WINDOW};
use crate::wav::Wav;

/// Samples between the starts of two frames.
pub const HOP: usize = 160;
/// Frequencies of a frame.
pub const FREQUENCIES: usize = WINDOW / 2 + 1;
/// Frames of a clip.
pub const FRAMES: usize = 101;
/// The number of samples that are used; the last frame ends with them.
const SAMPLES: usize = (FRAMES - 1) * HOP + WINDOW / 2;

/// The parts that the set's lists divide it into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What is on no list.
    Train,
    /// What `validation_list.txt` names.
    Validation,
    /// What `testing_list.txt` names.
    Test,
}

/// Lists the clips of a split: a class per directory, without `_background_noise_`.
pub fn clips(directory: &Path, split: Split) -> Result<Folder, DataError> {
    let mut folder = Folder::open(directory, &["wav"], &["_background_noise_"])?;
    let validation = list(directory, "validation_list.txt", &folder)?;
    let test = list(directory, "testing_list.txt", &folder)?;
    folder.files.retain(|(path, _)| match split {
        Split::Train => !validation.contains(path) && !test.contains(path),
        Split::Validation => validation.contains(path),
        Split::Test => test.contains(path),
    });
    if folder.files.is_empty() {
        return Err(SpeechError::NoClips).at(directory);
    }
    Ok(folder)
}

/// Makes spectrograms.
#[derive(Clone)]
pub struct Spectrogram {
    transform: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
}

impl Default for Spectrogram {
    fn default() -> Self {
        let cosine = |i: usize| (TAU * i as f64 / WINDOW as f64).cos();
        Self {
            transform: RealFftPlanner::new().plan_fft_forward(WINDOW),
            window: (0..WINDOW).map(|i| 0.54 - 0.46 * cosine(i)).collect(),
        }
    }
}

impl Spectrogram {
    /// Reads a clip and makes its spectrogram, `[FREQUENCIES, FRAMES]`.
    pub fn open(&self, path: &Path) -> Result<Vec<f32>, DataError> {
        let file = File::open(path).doing("open").at(path)?;
        let samples = samples(BufReader::new(file)).at(path)?;
        self.of(&samples).at(path)
    }

    /// The spectrogram of these samples, from −1 to 1.
    pub fn of(&self, samples: &[f64]) -> Result<Vec<f32>, SpeechError> {
        let half = WINDOW / 2;
        if samples.len() < LEAST {
            return Err(SpeechError::Short(samples.len()));
        }
        // The sample at the end is not repeated: … 2 1 | 0 1 2 …
        let mut signal: Vec<f64> = samples[1..=half].iter().rev().chain(samples).copied().collect();
        signal.extend(samples[samples.len() - half - 1..samples.len() - 1].iter().rev());

        let mut clip = vec![0.0; FREQUENCIES * FRAMES];
        let (mut frame, mut spectrum) = (self.transform.make_input_vec(), self.transform.make_output_vec());
        for (t, samples) in signal.windows(WINDOW).step_by(HOP).take(FRAMES).enumerate() {
            for ((value, sample), weight) in frame.iter_mut().zip(samples).zip(&self.window) {
                *value = sample * weight;
            }
            // It fails for buffers of other lengths alone; these are its own.
            if self.transform.process(&mut frame, &mut spectrum).is_err() {
                unreachable!("the buffers are of the transform's lengths");
            }
            for (frequency, value) in spectrum.iter().enumerate() {
                clip[frequency * FRAMES + t] = value.norm_sqr().sqrt().ln_1p();
            }
        }
        Ok(standardize(&clip))
    }
}

/// Less the mean and divided by the unbiased deviation; a clip without any deviation, as silence is,
/// becomes zeros.
fn standardize(clip: &[f64]) -> Vec<f32> {
    let mean = clip.iter().sum::<f64>() / clip.len() as f64;
    let squares: f64 = clip.iter().map(|x| (x - mean).powi(2)).sum();
    let deviation = (squares / (clip.len() as f64 - 1.0)).sqrt();
    let scale = if deviation > 0.0 { deviation.recip() } else { 0.0 };
    clip.iter().map(|x| ((x - mean) * scale) as f32).collect()
}

/// Reads a WAV file: samples from −1 to 1, at most as many as its frames need. All are looked at.
fn samples(source: impl Read) -> Result<Vec<f64>, SpeechError> {
    let mut wav = Wav::new(source)?;
    if wav.rate != RATE {
        return Err(SpeechError::Rate(wav.rate));
    }
    if wav.channels != 1 {
        return Err(SpeechError::Channels(wav.channels));
    }
    let (mut samples, mut block) = (Vec::new(), Vec::new());
    loop {
        wav.read(&mut block)?;
        if block.is_empty() {
            return Ok(samples);
        }
        if !block.iter().all(|sample| sample.is_finite()) {
            return Err(SpeechError::NotFinite);
        }
        samples.extend(block.iter().take(SAMPLES - samples.len()));
    }
}

/// Reads a list of clips.
fn list(directory: &Path, name: &str, folder: &Folder) -> Result<HashSet<PathBuf>, DataError> {
    let file = directory.join(name);
    let text = fs::read_to_string(&file).doing("read").at(&file)?;
    let known: HashSet<&Path> = folder.files.iter().map(|(path, _)| path.as_path()).collect();
    let clip = |(index, clip): (usize, &str)| {
        let path = directory.join(clip);
        if known.contains(path.as_path()) {
            return Ok(path);
        }
        Err(SpeechError::NoClip { line: index + 1, clip: clip.into() })
    };
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines.map(clip).collect::<Result<_, _>>().at(&file)
}
