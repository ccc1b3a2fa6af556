//! The streams that are read side by side: predictions, their mask, parity outputs, their masks.

use std::io::{Cursor, Read};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parm::erase::Erase;
use parm::group::GroupCount;
use parm::mask::MaskReader;
use parm::npy::{RowBuffer, RowReader};
use parm::{Float, Tail};
use parm_cli::input::Source;
use parm_cli::input::check_stdin;
use parm_cli::options::FlushOption;
use parm_cli::tools::decode::{Decode, EraseOption};
use parm_cli::{Input, Io};
use rand_chacha::ChaCha8Rng;

/// What a stream has a row for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Each prediction, or answer.
    Rows,
    /// Each coding group.
    Groups,
}

/// All streams, at the same group.
pub(crate) struct Streams {
    pub(crate) predictions: RowReader<Source>,
    available: Option<MaskReader<Source>>,
    parities: Vec<RowReader<Source>>,
    parity_available: Vec<MaskReader<Source>>,
}

/// The rows of a block of groups, reused from block to block.
pub(crate) struct Block<T> {
    /// Rows of the items of predictions that begin here.
    pub(crate) items: Vec<u64>,
    pub(crate) predictions: RowBuffer<T>,
    /// One per prediction.
    pub(crate) available: Vec<bool>,
    /// One row per group, by parity.
    pub(crate) parities: Vec<RowBuffer<T>>,
    /// One per group, by parity.
    pub(crate) parity_available: Vec<Vec<bool>>,
    /// Answers that count as missing because they have NaN or infinity in them.
    pub(crate) non_finite: u64,
}

impl<T> Default for Block<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            predictions: RowBuffer::default(),
            available: Vec::new(),
            parities: Vec::new(),
            parity_available: Vec::new(),
            non_finite: 0,
        }
    }
}

impl Streams {
    /// The streams of the first pass over them.
    pub(crate) fn first(
        options: &Decode,
        io: &mut Io,
        recorded: Option<&Recorded>,
        rows_per_group: usize,
    ) -> Result<Self> {
        let window = options.read.reading();
        match (recorded, options.shard.shard) {
            (Some(recorded), _) => recorded.streams(),
            (None, None) => Self::open_with(options, |input, _| input.bytes(io, window)),
            (None, Some(shard)) => {
                let per_group = rows_per_group as u64;
                let rows = shard.rows(options.input.items(window)?.rows(), per_group);
                let groups = rows.start / per_group..rows.end.div_ceil(per_group);
                Self::open_with(options, |input, of| {
                    let part = if of == Of::Rows { &rows } else { &groups };
                    input.part(&input.items(window)?, part.clone(), window)
                })
            }
        }
    }

    fn open_with(options: &Decode, mut bytes: impl FnMut(&Input, Of) -> Result<Source>) -> Result<Self> {
        let predictions = RowReader::new(bytes(&options.input, Of::Rows)?, options.input.to_string())?;
        check_float(&predictions, "predictions")?;
        let mut mask = |input: &Input, of| anyhow::Ok(MaskReader::new(bytes(input, of)?, input.to_string())?);
        let available = options.available.as_ref().map(|input| mask(input, Of::Rows)).transpose()?;
        let parity_available =
            options.parity_available.iter().map(|input| mask(input, Of::Groups)).collect::<Result<_>>()?;
        let mut parities = Vec::new();
        for input in &options.parity {
            let parity = RowReader::new(bytes(input, Of::Groups)?, input.to_string())?;
            check_float(&parity, "parity outputs")?;
            let (found, expected) = (&parity.layout().shape, &predictions.layout().shape);
            if found != expected {
                bail!(
                    "{input}: found parity outputs of shape {found:?}, expected {expected:?} as the predictions in {}",
                    predictions.name()
                );
            }
            parities.push(parity);
        }
        Ok(Self { predictions, available, parities, parity_available })
    }

    /// Reads all streams once, whole groups at a time, loses predictions as `lose` says, and passes each
    /// block on. Only the last group may be short.
    pub(crate) fn read_groups<T: Float>(
        mut self,
        k: usize,
        tail: Tail,
        flush: FlushOption,
        mut lose: Option<(Erase, &mut ChaCha8Rng)>,
        mut take: impl FnMut(Block<T>) -> Result<Option<Block<T>>>,
    ) -> Result<()> {
        let block_rows = self.rows_per_block(k, flush);
        let mut count = GroupCount::new(k, tail);
        let mut reused = None;
        loop {
            let mut block = reused.take().unwrap_or_else(Block::default);
            let rows = self.read_predictions(block_rows, &mut block)?;
            block.items.clear();
            block.items.extend(self.predictions.take_opened());
            for &rows in &block.items {
                count.open_item(rows);
            }
            if let Some((erase, rng)) = &mut lose {
                for group in block.available.chunks_mut(k) {
                    erase.draw(group, *rng);
                }
            }
            let padded = usize::from(tail == Tail::Pad && rows % k > 0);
            self.read_parities(rows / k + padded, &mut block)?;
            reused = take(block)?;
            if rows < block_rows {
                break;
            }
        }
        count.finish().with_context(|| self.predictions.name().to_owned())?;
        self.check_ends(count.rows())
    }

    /// The rows of a block of groups of `k`.
    pub(crate) fn rows_per_block(&self, k: usize, FlushOption { flush }: FlushOption) -> usize {
        if flush { k } else { (self.predictions.layout().rows_per_block() / k).max(1) * k }
    }

    /// Reads the predictions of a block and which of them are available.
    pub(crate) fn read_predictions<T: Float>(
        &mut self,
        max_rows: usize,
        block: &mut Block<T>,
    ) -> Result<usize> {
        let rows = self.predictions.read(max_rows, &mut block.predictions)?;
        block.available.clear();
        match &mut self.available {
            None => block.available.resize(rows, true),
            Some(mask) => {
                if mask.read(rows, &mut block.available)? < rows {
                    bail!(
                        "{}: found fewer entries than {} has predictions",
                        mask.name(),
                        self.predictions.name()
                    );
                }
            }
        }
        let elements = self.predictions.layout().elements();
        block.non_finite = leave_out_non_finite(block.predictions.values(), elements, &mut block.available);
        Ok(rows)
    }

    /// Reads the parity outputs of a block and which of them are available.
    pub(crate) fn read_parities<T: Float>(&mut self, groups: usize, block: &mut Block<T>) -> Result<()> {
        block.parities.resize_with(self.parities.len(), RowBuffer::default);
        block.parity_available.resize_with(self.parities.len(), Vec::new);
        for (parity, rows) in self.parities.iter_mut().zip(&mut block.parities) {
            if parity.read(groups, rows)? < groups {
                bail!(
                    "{}: found fewer rows than {} has coding groups, expected one row per group",
                    parity.name(),
                    self.predictions.name()
                );
            }
        }
        for (parity, available) in block.parity_available.iter_mut().enumerate() {
            available.clear();
            match self.parity_available.get_mut(parity) {
                None => available.resize(groups, true),
                Some(mask) => {
                    if mask.read(groups, available)? < groups {
                        bail!("{}: found fewer entries than there are coding groups", mask.name());
                    }
                }
            }
            let values = block.parities[parity].values();
            block.non_finite += leave_out_non_finite(values, self.predictions.layout().elements(), available);
        }
        Ok(())
    }

    /// The number of predictions; reads them all.
    pub(crate) fn count_rows(mut self) -> Result<u64> {
        Ok(self.predictions.skip_rest()?)
    }

    /// Makes sure that no stream has rows left when the predictions have ended.
    pub(crate) fn check_ends(mut self, rows: u64) -> Result<()> {
        let mut values = RowBuffer::<f32>::default();
        for parity in &mut self.parities {
            if parity.read(1, &mut values)? > 0 {
                bail!(
                    "{}: found more rows than the {rows} predictions in {} have coding groups",
                    parity.name(),
                    self.predictions.name()
                );
            }
        }
        let mut entries = Vec::new();
        for mask in self.available.iter_mut().chain(&mut self.parity_available) {
            if mask.read(1, &mut entries)? > 0 {
                bail!(
                    "{}: found more entries than the {rows} predictions in {} ask for",
                    mask.name(),
                    self.predictions.name()
                );
            }
        }
        Ok(())
    }
}

/// Marks available rows that have NaN or infinity in them as missing: they would make reconstructions of
/// others so. Returns how many there are.
fn leave_out_non_finite<T: Float>(values: &[T], elements: usize, available: &mut [bool]) -> u64 {
    // Nearly always there are none: one pass that the compiler makes wide tells.
    let finite = |row: &[T]| row.iter().fold(true, |all, value| all & value.to_f64().is_finite());
    if finite(&values[..available.len() * elements]) {
        return 0;
    }
    let mut found = 0;
    for (row, available) in available.iter_mut().enumerate().filter(|(_, available)| **available) {
        if !finite(&values[row * elements..][..elements]) {
            *available = false;
            found += 1;
        }
    }
    found
}

fn check_float(rows: &RowReader<Source>, what: &str) -> Result<()> {
    if !rows.layout().dtype.is_float() {
        bail!("{}: found rows of {}, expected {what} of type f2, f4 or f8", rows.name(), rows.layout());
    }
    Ok(())
}

/// The streams in memory, to be read any number of times.
pub(crate) struct Recorded {
    options: Decode,
    bytes: Vec<(Input, Arc<[u8]>)>,
}

impl Recorded {
    /// The streams in memory if each loss is to be simulated.
    pub(crate) fn for_each_loss(options: &Decode, io: &mut Io) -> Result<Option<Self>> {
        check_stdin(options.inputs())?;
        (options.erase == Some(EraseOption::Each)).then(|| Self::read(options, io)).transpose()
    }

    fn read(options: &Decode, io: &mut Io) -> Result<Self> {
        let mut bytes = Vec::new();
        for input in options.inputs() {
            let mut content = Vec::new();
            input
                .bytes(io, options.read.reading())?
                .read_to_end(&mut content)
                .with_context(|| format!("{input}: cannot read"))?;
            bytes.push((input.clone(), content.into()));
        }
        Ok(Self { options: options.clone(), bytes })
    }

    pub(crate) fn streams(&self) -> Result<Streams> {
        Streams::open_with(&self.options, |input, _| {
            let known = self.bytes.iter().find(|(name, _)| name == input);
            let (_, bytes) = known.with_context(|| format!("{input}: not recorded"))?;
            Ok(Box::new(Cursor::new(Arc::clone(bytes))))
        })
    }
}
