//! Learned decoders: groups that lack predictions pass through the sibling `parm-infer`,
//! `[k + r, …]` with zeros for what is missing to `[k, …]`.

use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use anyhow::{Result, ensure};
use parm::codes::{Code, learned};
use parm::erase::Erase;
use parm::npy::{RowBuffer, RowLayout, RowWriter};
use parm::{Float, Tail, Task};
use parm_cli::tools::decode::Decode;
use parm_cli::{Io, Progress, sibling};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::losses::{default_row, each_or_drawn};
use crate::outputs::{Announce, Fates, Outputs};
use crate::report::Report;
use crate::streams::{Block, Recorded, Streams};

/// A block on its way to the writer.
struct Pending<T> {
    block: Block<T>,
    /// The groups that the decoder answers, by their index in the block.
    asked: Vec<usize>,
}

/// Rebuilds by a model.
pub(crate) fn decode<T: Float>(
    options: &Decode,
    io: &mut Io,
    model: &Path,
    (code, task): (&Code, Task),
    first: Streams,
    recorded: Option<&Recorded>,
    mut outputs: Outputs,
) -> Result<Report> {
    let progress = Progress::new(&options.common, io, "predictions", Some(0));
    let layout = first.predictions.layout().clone();
    let default = default_row::<T>(options, io, &layout.shape)?;
    let (k, r, tail, flush) = (code.k(), code.r(), Tail::from(options.tail), options.flush);
    let group_shape = |rows| std::iter::once(rows).chain(layout.shape.iter().copied()).collect::<Vec<_>>();
    let (passes, announce) = if let Some(recorded) = recorded {
        // One item holds all copies, so that it can be loaded whole.
        let rows = first.count_rows()? * k as u64;
        outputs.announce(rows);
        outputs.announce_answers(rows);
        let pass = |slot| Ok((recorded.streams()?, Some(Erase::Slot(slot))));
        ((0..k).map(pass).collect::<Result<Vec<_>>>()?, Announce::Before)
    } else {
        (vec![(first, each_or_drawn(options))], Announce::AsRead)
    };
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let elements = layout.elements();
    let (to_writer, pending) = mpsc::channel();
    let feed = move |queries: &mut RowWriter<_>| {
        for (streams, erase) in passes {
            let lose = erase.map(|erase| (erase, &mut rng));
            streams.read_groups::<T>(k, tail, flush, lose, |block| {
                let (asked, rows) = questions(&block, k, r, elements);
                queries.announce(asked.len() as u64);
                // The writer learns of the block before its answers can come; if it is gone, it knows why.
                let _ = to_writer.send(Pending { block, asked });
                queries.write(&rows)?;
                Ok(None)
            })?;
        }
        Ok(())
    };
    let drain = |answers: &mut sibling::Outputs| {
        let group_shape = group_shape(k);
        let report = Report::default();
        let mut writer = Writer { k, elements, group_shape, task, default, announce, outputs, report };
        writer.write(answers, &pending, &progress)?;
        Ok(writer)
    };
    let queries = RowLayout::new(T::DTYPE, group_shape(k + r));
    let ((), mut writer) = sibling::through(model, options.compute, flush, queries, feed, drain)?;
    writer.report.rows = writer.outputs.rows;
    writer.outputs.commit()?;
    Ok(writer.report)
}

/// The groups that the decoder is asked for, and their rows `[groups, k + r, elements]`.
fn questions<T: Float>(block: &Block<T>, k: usize, r: usize, elements: usize) -> (Vec<usize>, Vec<T>) {
    let (mut asked, mut rows) = (Vec::new(), Vec::new());
    for (group, slots) in block.available.chunks(k).enumerate() {
        let parities = block.parity_available.iter().map(|mask| mask.get(group).copied().unwrap_or(false));
        let available: Vec<bool> = slots.iter().copied().chain(parities).collect();
        let answer = |worker: usize| {
            let (values, row) = match worker.checked_sub(slots.len()) {
                None => (block.predictions.values(), group * k + worker),
                Some(parity) => (block.parities[parity].values(), group),
            };
            &values[row * elements..][..elements]
        };
        if learned::gather(k, r, &available, elements, answer, &mut rows) {
            asked.push(group);
        }
    }
    (asked, rows)
}

/// Puts the decoder's answers in the places of what is missing.
struct Writer<T> {
    k: usize,
    elements: usize,
    /// The shape of the decoder's outputs.
    group_shape: Vec<usize>,
    task: Task,
    default: Option<Vec<T>>,
    announce: Announce,
    outputs: Outputs,
    report: Report,
}

impl<T: Float> Writer<T> {
    fn write(
        &mut self,
        answers: &mut sibling::Outputs,
        pending: &Receiver<Pending<T>>,
        progress: &Progress,
    ) -> Result<()> {
        let (mut rebuilt, mut fates) = (RowBuffer::<T>::default(), Fates::default());
        for Pending { mut block, asked } in pending {
            // Before the first question there are no outputs to open.
            if !asked.is_empty() {
                let answers = answers.reader()?;
                ensure!(
                    answers.layout().shape == self.group_shape,
                    "found outputs of {} from the decoder, expected {:?}",
                    answers.layout(),
                    self.group_shape
                );
                let count = answers.read(asked.len(), &mut rebuilt)?;
                ensure!(
                    count == asked.len(),
                    "found {count} outputs of the decoder, expected {}",
                    asked.len()
                );
            }
            self.report.non_finite += block.non_finite;
            fates.reset(block.available.len());
            let mut answered = asked.into_iter().enumerate().peekable();
            for group in 0..block.available.len().div_ceil(self.k) {
                let answer = answered.next_if(|&(_, asked)| asked == group).map(|(answer, _)| answer);
                let answer = answer.map(|answer| &rebuilt.values()[answer * self.k * self.elements..]);
                self.rebuild(group, answer, &mut block, &mut fates);
            }
            self.outputs.write(&block, self.elements, &fates, self.announce, progress)?;
        }
        Ok(())
    }

    /// Fills what is missing of a group, from the decoder's answer `[k, elements]` if there is one.
    fn rebuild(&mut self, group: usize, answer: Option<&[T]>, block: &mut Block<T>, fates: &mut Fates) {
        let rows = group * self.k..block.available.len().min((group + 1) * self.k);
        for (slot, row) in rows.enumerate().filter(|&(_, row)| !block.available[row]) {
            let predictions = block.predictions.values_mut();
            let Some(answer) = answer else {
                fates.leave_unsolved(row, predictions, self.default.as_deref());
                self.report.unsolved += 1;
                continue;
            };
            let answer = &answer[slot * self.elements..][..self.elements];
            predictions[row * self.elements..][..self.elements].copy_from_slice(answer);
            fates.scores[row] = learned::confidence(self.task, answer);
            self.report.rebuilt += 1;
        }
    }
}
