//! `parm-train`: trains deployed models, and the parts of codes for deployed models.

mod adopt;
mod base;
mod code;
mod data;
mod export;
mod family;
mod plan;
mod recipe;
mod sweep;
mod watch;

use std::time::Instant;

use anyhow::Result;
use parm_cli::options::{Common, Compute, TimingsFile, TimingsOption};
use parm_cli::tools::train::{Train, What};
use parm_cli::{Exit, Io, signals};
use parm_torch::device::Settings;
use parm_torch::timings::Report;
use parm_torch::train::TrainError;
use parm_torch::{Device, Phase, Timings, device};

/// Runs the tool.
///
/// # Errors
/// Streams and options that are refused or do not fit each other, a training that diverges, and outputs that
/// cannot be written.
pub fn run(options: &Train, io: &mut Io) -> Result<Exit> {
    let common = &options.common;
    io.record_inputs();
    let result = match &options.what {
        What::Base(options) => base::run(options, common, io),
        What::Parity(options) => code::run_parity(options, common, io),
        What::Coders(options) => code::run_coders(options, common, io),
        What::Joint(options) => code::run_joint(options, common, io),
        What::Adopt(options) => adopt::run(options, common, io),
        What::Sweep(options) => sweep::run(options, common, io),
        What::Export(options) => export::run(options, common, io),
    };
    match (result, signals::noted()) {
        (Err(error), Some(signal)) if is_stop(&error) => {
            common.note(io, &format!("{error:#}"));
            Ok(Exit::Signal(signal))
        }
        (result, _) => result.map(|()| Exit::Done),
    }
}

fn is_stop(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(|error| matches!(error, TrainError::Stopped { .. }))
}

/// The device of a training, and its timings.
struct Machine {
    device: Device,
    timings: Timings,
    /// The file of the timings.
    file: TimingsFile,
}

impl Machine {
    fn prepare(compute: Compute, timings: &TimingsOption, common: &Common, io: &mut Io) -> Result<Self> {
        let file = timings.create(io)?;
        let begin = Instant::now();
        let timings = Timings::new(move || begin.elapsed().as_secs_f64());
        let Compute { device, threads, tf32 } = compute;
        device::keep_memory(1);
        // With minibatches of small models, waking threads costs more than it gains.
        let settings = Settings { device, threads: Some(threads.unwrap_or(1)), tf32 };
        let chosen = timings.measure(Phase::Start, || device::prepare(settings))?;
        if let Some(note) = &chosen.note {
            common.note(io, note);
        }
        io.resolve("device", chosen.device.to_string());
        io.resolve("threads", threads.unwrap_or(1));
        Ok(Self { device: chosen.device, timings, file })
    }

    /// Writes the timings of a training on this number of rows, if a file is given.
    fn report(self, rows: usize, io: &Io) -> Result<()> {
        self.file.write(&Report::new(Train::NAME, self.device, rows as u64, &self.timings), io.made_by())
    }
}
