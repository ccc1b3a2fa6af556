//! What is written: predictions, and what accompanies them.

use anyhow::{Result, bail};
use parm::calibration::Calibration;
use parm::npy::{RowLayout, RowWriter};
use parm::{Dtype, Float};
use parm_cli::output::{Target, commit};
use parm_cli::tools::decode::Decode;
use parm_cli::{Io, Output, Progress};

use crate::streams::Block;

/// The streams that are written side by side.
pub(crate) struct Outputs {
    pub(crate) predictions: RowWriter<Output>,
    solved: Option<RowWriter<Output>>,
    pub(crate) confidence: Option<RowWriter<Output>>,
    calibration: Option<Calibration>,
    erased: Option<RowWriter<Output>>,
    kept: Option<RowWriter<Output>>,
    /// Whether each block is flushed.
    flush: bool,
    /// Predictions written, where block by block.
    pub(crate) rows: u64,
}

impl Outputs {
    pub(crate) fn open(options: &Decode, io: &mut Io, layout: &RowLayout) -> Result<Self> {
        if options.confidence.is_some() && layout.shape.len() > 1 {
            bail!("--confidence: found predictions of {layout}, expected one number or one axis a row");
        }
        let calibration = options.calibration.as_deref().map(Calibration::read).transpose()?;
        let compression = options.write.compress.compression();
        let mut open = |to: &Option<Target>, layout: RowLayout| {
            to.as_ref().map(|to| to.rows(io, compression, layout)).transpose()
        };
        Ok(Self {
            solved: open(&options.solved, parm::mask::layout())?,
            confidence: open(&options.confidence, RowLayout::new(Dtype::F32, []))?,
            calibration,
            erased: open(&options.erased_out, parm::mask::layout())?,
            kept: open(&options.kept, parm::mask::layout())?,
            predictions: options.write.rows(io, layout.clone())?,
            flush: options.flush.flush,
            rows: 0,
        })
    }

    /// Writes a block of predictions and what accompanies them.
    pub(crate) fn write<T: Float>(
        &mut self,
        block: &Block<T>,
        elements: usize,
        fates: &Fates,
        announce: Announce,
        progress: &Progress,
    ) -> Result<()> {
        for &rows in &block.items {
            progress.expect(rows);
            if announce == Announce::AsRead {
                self.announce(rows);
                self.announce_answers(rows);
            }
        }
        let rows = block.available.len();
        self.predictions.write(&block.predictions.values()[..rows * elements])?;
        self.write_solved(&fates.solved)?;
        self.write_confidence(&fates.scores)?;
        self.write_erased(&block.available)?;
        self.flush()?;
        self.rows += rows as u64;
        progress.advance(rows as u64);
        Ok(())
    }

    /// Announces an item of predictions, and of what accompanies them.
    pub(crate) fn announce(&mut self, rows: u64) {
        self.predictions.announce(rows);
        self.solved.iter_mut().chain(&mut self.confidence).for_each(|rows_of| rows_of.announce(rows));
    }

    /// Announces an item of the masks of what came in.
    pub(crate) fn announce_answers(&mut self, rows: u64) {
        self.erased.iter_mut().chain(&mut self.kept).for_each(|mask| mask.announce(rows));
    }

    pub(crate) fn write_solved(&mut self, solved: &[u8]) -> Result<()> {
        Ok(self.solved.as_mut().map_or(Ok(()), |mask| mask.write_raw(solved))?)
    }

    pub(crate) fn write_confidence(&mut self, scores: &[f32]) -> Result<()> {
        let Some(rows) = &mut self.confidence else { return Ok(()) };
        let Some(calibration) = &self.calibration else { return Ok(rows.write(scores)?) };
        let calibrated: Vec<f32> = scores.iter().map(|&score| calibration.calibrate(score)).collect();
        Ok(rows.write(&calibrated)?)
    }

    pub(crate) fn write_erased(&mut self, available: &[bool]) -> Result<()> {
        write_mask(self.erased.as_mut(), available)
    }

    pub(crate) fn write_kept(&mut self, available: &[bool]) -> Result<()> {
        write_mask(self.kept.as_mut(), available)
    }

    /// Makes what was written readable, with `--flush`.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if !self.flush {
            return Ok(());
        }
        let Self { predictions, solved, confidence, erased, kept, .. } = self;
        let others = [solved, confidence, erased, kept].into_iter().flatten();
        Ok(std::iter::once(predictions).chain(others).try_for_each(RowWriter::flush)?)
    }

    pub(crate) fn commit(self) -> Result<()> {
        commit(self.predictions)?;
        [self.solved, self.confidence, self.erased, self.kept].into_iter().flatten().try_for_each(commit)
    }
}

/// Which items of the outputs are announced as their rows come in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announce {
    /// Those of the predictions.
    AsRead,
    /// None: one item was announced for all.
    Before,
}

/// What became of the predictions of a block.
#[derive(Default)]
pub(crate) struct Fates {
    /// Whether each arrived or was rebuilt: 1 or 0.
    pub(crate) solved: Vec<u8>,
    /// How far to trust each.
    pub(crate) scores: Vec<f32>,
}

impl Fates {
    /// All have arrived.
    pub(crate) fn reset(&mut self, rows: usize) {
        self.solved.clear();
        self.solved.resize(rows, 1);
        self.scores.clear();
        self.scores.resize(rows, 1.0);
    }

    /// Nothing rebuilt this row, and the default stands in its place, if there is one.
    pub(crate) fn leave_unsolved<T: Float>(
        &mut self,
        row: usize,
        predictions: &mut [T],
        default: Option<&[T]>,
    ) {
        self.solved[row] = 0;
        self.scores[row] = 0.0;
        if let Some(default) = default {
            predictions[row * default.len()..][..default.len()].copy_from_slice(default);
        }
    }
}

fn write_mask(to: Option<&mut RowWriter<Output>>, available: &[bool]) -> Result<()> {
    let bytes =
        |available: &[bool]| available.iter().map(|&available| u8::from(available)).collect::<Vec<_>>();
    Ok(to.map_or(Ok(()), |mask| mask.write_raw(&bytes(available)))?)
}
