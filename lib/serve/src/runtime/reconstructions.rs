//! Predictions are rebuilt, and compared with those that come after all.

use std::time::Duration;

use bytes::Bytes;
use parm_engine::{Decode, QueryId, Time};
use slab::Slab;
use tokio::time::Instant;

use super::Values;
use super::checks::{is_finite, trust};
use super::decoding::RowDecoder;
use super::driver::{Coded, DecoderTask, Driver, Row};
use super::learned::{Gathered, Job, Purpose};
use super::rows::{CodingError, Rebuilt};
use parm_oip::{Error, Status};

impl Driver {
    /// Rebuilds the prediction of a row: now, or by the task of a learned decoder.
    pub(super) fn rebuild_row(&mut self, now: Time, query: QueryId, row: u64, decode: Decode) {
        let Some(number) = self.rows.get(row as usize).map(|held| held.number) else {
            self.engine.decoded(now, query, false);
            return;
        };
        if let Some(decoder) = &self.decoder {
            let purpose = Purpose::Answer { query, row, number };
            match self.gather(decoder, decode) {
                // The task lives as long as this one.
                Ok(gathered) => drop(decoder.jobs.send(Job { purpose, gathered })),
                Err(error) => self.rebuilt(now, query, row, Err(error)),
            }
        } else {
            let rebuilt = self.rebuild(decode);
            self.rebuilt(now, query, row, rebuilt);
        }
    }

    /// Keeps what was rebuilt for a row, and tells the engine whether it can be given.
    fn rebuilt(&mut self, now: Time, query: QueryId, row: u64, rebuilt: Result<Rebuilt, Error>) {
        let rebuilt = rebuilt.and_then(|rebuilt| {
            let outputs = self.options.spec.iter().flat_map(|spec| spec.outputs.iter().zip(&rebuilt.outputs));
            match outputs.into_iter().find(|(spec, bytes)| !is_finite(spec.datatype, bytes)) {
                Some((spec, _)) => {
                    Err(internal(format!("the reconstruction of output '{}' is not finite", spec.name)))
                }
                None => Ok(rebuilt),
            }
        });
        let usable = rebuilt.is_ok();
        if let Some(held) = self.rows.get_mut(row as usize) {
            match rebuilt {
                Ok(rebuilt) => held.rebuilt = Some(rebuilt),
                Err(error) => held.failure = Some(error),
            }
        }
        self.engine.decoded(now, query, usable);
    }

    /// The learned decoder has rebuilt something.
    pub(super) fn decoded(
        &mut self,
        now: Time,
        purpose: Purpose,
        rebuilt: Result<Rebuilt, CodingError>,
        took: Duration,
    ) {
        self.stats.decode.record(took);
        let mut rebuilt = rebuilt.map_err(|error| failed(&error));
        if let (Ok(rebuilt), Some(coding)) = (&mut rebuilt, &self.options.coding) {
            coding.decoder.calibrate(rebuilt);
        }
        match purpose {
            Purpose::Answer { query, row, number } => {
                // The row may be gone, and another one in its place.
                if self.rows.get(row as usize).is_some_and(|held| held.number == number) {
                    self.rebuilt(now, query, row, rebuilt);
                }
            }
            Purpose::Compare { prediction } => self.compared(now, rebuilt, &prediction),
        }
    }

    /// Sees whether a reconstruction agrees with the prediction that came after it.
    pub(super) fn compare(&mut self, now: Time, row: u64, decode: Decode) {
        let Some(prediction) = self.rows.get(row as usize).and_then(|held| held.prediction.clone()) else {
            return;
        };
        if let Some(decoder) = &self.decoder {
            if let Ok(gathered) = self.gather(decoder, decode) {
                // The task lives as long as this one.
                drop(decoder.jobs.send(Job { purpose: Purpose::Compare { prediction }, gathered }));
            }
        } else {
            let rebuilt = self.rebuild(decode);
            self.compared(now, rebuilt, &prediction);
        }
    }

    fn compared(&mut self, now: Time, rebuilt: Result<Rebuilt, Error>, prediction: &Values) {
        if let (Ok(rebuilt), Values::Row(prediction), Some(coding)) =
            (rebuilt, prediction, &mut self.options.coding)
            && let Some(agrees) = coding.decoder.agrees(&rebuilt.outputs, prediction)
        {
            self.engine.compared(now, agrees);
        }
    }

    /// Takes together what a learned decoder rebuilds a prediction from.
    fn gather(&self, decoder: &DecoderTask, decode: Decode) -> Result<Gathered, Error> {
        let (Some(coding), Some(spec)) = (&self.options.coding, &self.options.spec) else {
            return Err(no_code());
        };
        let answers = Answers::new(&coding.decoder, self.groups.get(&decode.group), &self.rows, decode)?;
        Ok(decoder.learned.gather(decode.into(), spec.outputs.len(), |worker| answers.of(worker)))
    }

    /// Rebuilds a prediction by the code's own decoder.
    fn rebuild(&mut self, decode: Decode) -> Result<Rebuilt, Error> {
        let since = Instant::now();
        let (Some(coding), Some(spec)) = (&mut self.options.coding, &self.options.spec) else {
            return Err(no_code());
        };
        let answers = Answers::new(&coding.decoder, self.groups.get(&decode.group), &self.rows, decode)?;
        let mut rebuilt =
            coding.decoder.decode(decode.into(), spec.outputs.len(), |worker| answers.of(worker));
        if let Ok(rebuilt) = &mut rebuilt
            && coding.decoder.interpolates()
        {
            let [own, largest] = answers.norms(decode.slot);
            rebuilt.confidence *= trust(own, largest);
        }
        self.stats.decode.record(since.elapsed());
        rebuilt.map_err(|error| failed(&error))
    }
}

/// The answers that are at hand for one row of a group.
struct Answers<'a> {
    /// The outputs of coded queries, by worker.
    coded: Vec<(usize, Vec<Bytes>)>,
    /// The queries, by slot.
    members: &'a [(usize, u64)],
    rows: &'a Slab<Row>,
}

impl<'a> Answers<'a> {
    fn new(
        decoder: &RowDecoder,
        group: Option<&'a Coded>,
        rows: &'a Slab<Row>,
        decode: Decode,
    ) -> Result<Self, Error> {
        let group = group.ok_or_else(|| internal("the group is gone".to_owned()))?;
        let coded = group.outputs.iter().map(|(&worker, outputs)| (worker, decoder.row(outputs, decode.row)));
        let members = group.members.get(decode.row).map_or(&[][..], Vec::as_slice);
        Ok(Self { coded: coded.collect(), members, rows })
    }

    /// The outputs of a worker: of a systematic code the prediction of the query in its slot, or the outputs
    /// of its parity.
    fn of(&self, worker: usize) -> Option<&[Bytes]> {
        if let Some((_, outputs)) = self.coded.iter().find(|(of, _)| *of == worker) {
            return Some(outputs);
        }
        let (_, row) = self.members.iter().find(|(slot, _)| *slot == worker)?;
        match self.rows.get(*row as usize)?.prediction.as_ref()? {
            Values::Row(outputs) => Some(outputs),
            Values::Whole(_) => None,
        }
    }

    /// The norm of the query in a slot, and the largest of all.
    fn norms(&self, slot: usize) -> [f64; 2] {
        let norm = |of: u64| self.rows.get(of as usize).map_or(0.0, |row| row.norm);
        let own = self.members.iter().find(|(of, _)| *of == slot).map_or(0.0, |(_, row)| norm(*row));
        [own, self.members.iter().map(|(_, row)| norm(*row)).fold(0.0, f64::max)]
    }
}

fn internal(text: String) -> Error {
    Error::new(Status::Internal, text)
}

fn failed(error: &CodingError) -> Error {
    internal(error.to_string())
}

fn no_code() -> Error {
    internal("the model has no code".to_owned())
}
