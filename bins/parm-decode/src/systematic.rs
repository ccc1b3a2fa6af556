//! Codes that keep the queries and add parities: what is missing is rebuilt in place.

use anyhow::{Context, Result};
use parm::codes::{Code, Decoder, Matrices};
use parm::erase::Erase;
use parm::{Dtype, Float, Tail, Task, counted};
use parm_cli::options::FlushOption;
use parm_cli::tools::decode::Decode;
use parm_cli::{Exit, Io, Progress, Usage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::learned;
use crate::losses::{default_row, each_or_drawn};
use crate::outputs::{Announce, Fates, Outputs};
use crate::report::{Report, report_unsolved, warn_condition, warn_non_finite};
use crate::streams::{Block, Recorded, Streams};
use crate::task;

/// Rebuilds what is missing from predictions and parity outputs.
pub(crate) fn run(options: &Decode, io: &mut Io, code: &Code) -> Result<Exit> {
    check_options(options)?;
    check_counts(options, code.r())?;
    let recorded = Recorded::for_each_loss(options, io)?;
    let first = Streams::first(options, io, recorded.as_ref(), code.k())?;
    let layout = first.predictions.layout().clone();
    if let Some(trained) = code.trained() {
        let checked = trained.file.check_predictions(&trained.directory, &layout.shape);
        checked.with_context(|| first.predictions.name().to_owned())?;
    }
    let task = task(options, code.task(), &layout)?;
    let outputs = Outputs::open(options, io, &layout)?;
    let recorded = recorded.as_ref();
    let report = match (code.learned_decoder(), layout.dtype) {
        (None, Dtype::F64) => decode::<f64>(options, io, (code, task), first, recorded, outputs),
        (None, _) => decode::<f32>(options, io, (code, task), first, recorded, outputs),
        (Some(model), Dtype::F64) => {
            learned::decode::<f64>(options, io, model, (code, task), first, recorded, outputs)
        }
        (Some(model), _) => {
            learned::decode::<f32>(options, io, model, (code, task), first, recorded, outputs)
        }
    }?;
    warn_non_finite(options, io, &report);
    warn_condition(options, io, &report, "weights that differ less, or fewer losses,");
    let exit = report_unsolved(options, io, &report, "missing ");
    let Report { rows, rebuilt, unsolved, .. } = report;
    let line = format!("wrote {}: {rebuilt} rebuilt, {unsolved} unsolved", counted(rows, "prediction"));
    options.common.count(io, &line);
    Ok(exit)
}

/// Refuses what only interpolating codes have.
fn check_options(options: &Decode) -> Result<()> {
    let name = options.code.code.display();
    let given = [
        ("--rows", options.rows.is_some()),
        ("--strict", options.strict),
        ("--corrupt", options.corrupt.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            Err(Usage::error(format!("{flag} goes with interpolating codes, not with --code {name}")))
        }
        None => Ok(()),
    }
}

fn check_counts(options: &Decode, r: usize) -> Result<()> {
    let found = options.parity.len();
    if found != r {
        return Err(Usage::error(format!(
            "found {found} --parity streams, expected r = {r}, in the order of parities"
        )));
    }
    let masks = options.parity_available.len();
    if masks != 0 && masks != r {
        return Err(Usage::error(format!(
            "found {masks} --parity-available masks, expected none or r = {r}, in the order of parities"
        )));
    }
    Ok(())
}

fn decode<T: Float>(
    options: &Decode,
    io: &mut Io,
    (code, task): (&Code, Task),
    first: Streams,
    recorded: Option<&Recorded>,
    mut outputs: Outputs,
) -> Result<Report> {
    let progress = Progress::new(&options.common, io, "predictions", Some(0));
    let default = default_row::<T>(options, io, first.predictions.layout().shape.as_slice())?;
    let k = code.k();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut rebuilder = Rebuilder::<T>::new(options, code.linear_decoder().with_task(task), default);
    if let Some(recorded) = recorded {
        // One item holds all copies, so that it can be loaded whole.
        let rows = first.count_rows()? * k as u64;
        outputs.announce(rows);
        outputs.announce_answers(rows);
        for slot in 0..k {
            let lose = Some((Erase::Slot(slot), &mut rng));
            rebuilder.pass(recorded.streams()?, lose, &mut outputs, Announce::Before, &progress)?;
        }
    } else {
        let lose = each_or_drawn(options).map(|erase| (erase, &mut rng));
        rebuilder.pass(first, lose, &mut outputs, Announce::AsRead, &progress)?;
    }
    outputs.commit()?;
    Ok(rebuilder.report)
}

/// Rebuilds group by group.
struct Rebuilder<T> {
    decoder: Decoder,
    tail: Tail,
    flush: FlushOption,
    default: Option<Vec<T>>,
    report: Report,
    /// Which answers of each group of a block are available: those of its queries, then of its parities.
    available: Vec<Vec<bool>>,
    /// The rows of a block that were rebuilt, and their values one behind the other.
    rebuilt: (Vec<usize>, Vec<T>),
}

impl<T: Float> Rebuilder<T> {
    fn new(options: &Decode, decoder: Decoder, default: Option<Vec<T>>) -> Self {
        Self {
            decoder,
            tail: options.tail.into(),
            flush: options.flush,
            default,
            report: Report::default(),
            available: Vec::new(),
            rebuilt: (Vec::new(), Vec::new()),
        }
    }

    /// Reads all streams once.
    fn pass(
        &mut self,
        streams: Streams,
        lose: Option<(Erase, &mut ChaCha8Rng)>,
        outputs: &mut Outputs,
        announce: Announce,
        progress: &Progress,
    ) -> Result<()> {
        let k = self.decoder.kind().k();
        let elements = streams.predictions.layout().elements();
        let mut fates = Fates::default();
        streams.read_groups(k, self.tail, self.flush, lose, |mut block| {
            self.report.non_finite += block.non_finite;
            fates.reset(block.available.len());
            self.rebuild(elements, &mut block, &mut fates)?;
            outputs.write(&block, elements, &fates, announce, progress)?;
            Ok(Some(block))
        })?;
        self.report.rows = outputs.rows;
        Ok(())
    }

    /// Rebuilds the missing rows of a block in place.
    fn rebuild(&mut self, elements: usize, block: &mut Block<T>, fates: &mut Fates) -> Result<()> {
        let k = self.decoder.kind().k();
        let Block { predictions, available, parities, parity_available, .. } = block;
        let lossy: Vec<usize> = available
            .chunks(k)
            .enumerate()
            .filter(|(_, group)| group.contains(&false))
            .map(|(group, _)| group)
            .collect();
        self.available.clear();
        for &group in &lossy {
            let slots = available[group * k..].iter().take(k).copied();
            let parities = parity_available.iter().map(|mask| mask.get(group).copied().unwrap_or(false));
            self.available.push(slots.chain(parities).collect());
        }
        let slots_of = |group: usize| k.min(available.len() - group * k);
        let answer = |at: usize, worker: usize| {
            let group = lossy[at];
            let (values, row) = match worker.checked_sub(slots_of(group)) {
                None => (predictions.values(), group * k + worker),
                Some(parity) => (parities[parity].values(), group),
            };
            &values[row * elements..][..elements]
        };
        let (rows, values) = &mut self.rebuilt;
        rows.clear();
        values.clear();
        let mut unsolved = Vec::new();
        let condition = self.decoder.decode(elements, &self.available, answer, |at, slot, rebuilt| {
            let row = lossy[at] * k + slot;
            match rebuilt {
                Some((values_of, confidence)) => {
                    fates.scores[row] = confidence;
                    rows.push(row);
                    values.extend_from_slice(values_of);
                }
                None => unsolved.push(row),
            }
        })?;
        let own = predictions.values_mut();
        for (&row, values) in rows.iter().zip(values.chunks_exact(elements)) {
            own[row * elements..][..elements].copy_from_slice(values);
        }
        for &row in &unsolved {
            fates.leave_unsolved(row, own, self.default.as_deref());
        }
        self.report.rebuilt += rows.len() as u64;
        self.report.unsolved += unsolved.len() as u64;
        self.report.worst_condition = self.report.worst_condition.max(condition);
        Ok(())
    }
}
