//! Fits a cluster to a recorded run.
//!
//! A journal names the instance of each call, so that the times of each instance, the periods in which it is slow or
//! down, and its failures can be told. Records of requests do not: without redundancy, and with a known number of
//! instances that take requests in order, they tell how long calls took, and nothing else.

mod arrivals;
mod law;
mod periods;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use parm_workload::faults::{Crash, Service, Slow};
use parm_workload::{Outcome, Record, Time, TraceError};
use serde_json::{Map, Value, json};

use crate::recording::{Call, CallEnd, Recording};
pub use arrivals::{ArrivalFit, ArrivalLaw};
use law::{are_alike, law, quantile, rounded};
use periods::{Bound, Periods};

/// A cluster that was fitted to a recorded run.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// The arrivals.
    pub arrivals: ArrivalFit,
    /// The instances, those with one law together.
    pub alike: Vec<Alike>,
    /// The number of calls that an instance runs at once.
    pub capacity: usize,
    /// The time of each further row of a call, in ms.
    pub per_row_ms: f64,
    /// What happens to calls; none if records of requests cannot tell it.
    pub faults: Option<FittedFaults>,
    /// The time of each query outside its calls; none if not both kinds of files are there to tell it.
    pub query: Option<Service>,
    /// Requests without an answer, of records of requests, which are left out.
    pub left_out: usize,
}

/// Instances with one law of times.
#[derive(Clone, Debug, PartialEq)]
pub struct Alike {
    /// Their number.
    pub count: usize,
    /// The times of their calls outside of slow periods, in ms and sorted.
    pub times: Vec<f64>,
}

/// What happens to the calls of instances.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedFaults {
    /// Periods in which they are slow.
    pub slow: Option<Slow>,
    /// The correlation of "is slow" of a call with that of the next one on the same instance.
    pub persistence: Option<f64>,
    /// Periods in which they fail at once.
    pub crash: Option<Crash>,
    /// The share that fails otherwise.
    pub errors: f64,
    /// The share that is never answered.
    pub hangs: f64,
}

/// A recorded run that cannot be fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Times that are no trace.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Not one file of each kind.
    #[error(
        "found {records} files of records of requests and {journals} journals, expected one file, or one of each kind"
    )]
    Files {
        /// The number of files of records.
        records: usize,
        /// The number of journals.
        journals: usize,
    },
    /// Records alone, without the number of instances.
    #[error(
        "records of requests do not say how many instances there were, nor which one took a request: expected \
         --instances, or a journal"
    )]
    Instances,
    /// A journal with the number of instances.
    #[error("found --instances with a journal, expected one of them: a journal names the instances")]
    Named,
    /// Records of a run with redundancy.
    #[error(
        "found {count} answers that no call of the deployed model alone gave (rebuilt, approximate or default), expected a \
         run without redundancy, or a journal: their latencies are not those of calls"
    )]
    Redundant {
        /// Their number.
        count: usize,
    },
    /// Records of which too many have no answer.
    #[error(
        "found {failed} of {all} requests without an answer, expected at most 1 %: records do not say on which instance \
         a call failed, a journal does"
    )]
    Failed {
        /// Those without an answer.
        failed: usize,
        /// All.
        all: usize,
    },
    /// Requests that ended before an instance was free.
    #[error(
        "found {count} requests that ended before one of {instances} instances was free, expected none: there are more"
    )]
    Overlap {
        /// Their number.
        count: usize,
        /// The number of instances that was given.
        instances: usize,
    },
    /// A journal of which too many calls were cancelled.
    #[error(
        "found {cancelled} of {all} calls that were cancelled while they ran, expected at most 1 %: how long they would \
         have taken is not known"
    )]
    Cancelled {
        /// Those that were cancelled.
        cancelled: usize,
        /// All.
        all: usize,
    },
    /// No calls that were answered.
    #[error("found no call with an answer, expected at least one")]
    Calls,
    /// Records and a journal of different runs.
    #[error("the records and the journal are not of one run: found {found}, expected {expected}")]
    Runs {
        /// What was found.
        found: String,
        /// What one run has.
        expected: String,
    },
}

/// The largest share of requests or calls that may be left out.
const MOST_LEFT_OUT: f64 = 0.01;

/// Fits a cluster to a recorded run: a journal, records of requests with the number of instances, or the records and
/// the journal of one run.
///
/// # Errors
/// Files that cannot tell what a cluster needs.
pub fn fit(recordings: &[Recording], instances: Option<usize>) -> Result<Fit, FitError> {
    let (journals, records): (Vec<&Recording>, Vec<&Recording>) =
        recordings.iter().partition(|recording| recording.calls.is_some());
    match (&records[..], &journals[..], instances) {
        ([] | [_], [_], Some(_)) => Err(FitError::Named),
        ([], [journal], None) => of_journal(journal, None),
        ([records], [journal], None) => of_journal(journal, Some(*records)),
        ([_], [], None) => Err(FitError::Instances),
        ([records], [], Some(instances)) => of_records(records, instances),
        _ => Err(FitError::Files { records: records.len(), journals: journals.len() }),
    }
}

fn of_records(recording: &Recording, instances: usize) -> Result<Fit, FitError> {
    let is_redundant = |record: &&Record| record.reconstructed + record.approximate + record.default > 0;
    let count = recording.records.iter().filter(is_redundant).count();
    if count > 0 {
        return Err(FitError::Redundant { count });
    }
    let all = recording.records.len();
    let answered: Vec<&Record> =
        recording.records.iter().filter(|record| record.outcome == Outcome::Answered).collect();
    let failed = all - answered.len();
    if failed as f64 > MOST_LEFT_OUT * all as f64 {
        return Err(FitError::Failed { failed, all });
    }
    let mut times = served(&answered, instances)?;
    times.sort_by(f64::total_cmp);
    Ok(Fit {
        arrivals: arrivals_of(recording)?,
        alike: vec![Alike { count: instances, times }],
        capacity: 1,
        per_row_ms: 0.0,
        faults: None,
        query: None,
        left_out: failed,
    })
}

/// How long each request was served, in ms, if instances take one at a time, in order: request i waits until all but
/// `instances` − 1 of the requests before it have ended.
fn served(answered: &[&Record], instances: usize) -> Result<Vec<f64>, FitError> {
    let sent = |record: &Record| record.sent_ns.unwrap_or(record.intended_ns);
    let mut ends: Vec<Time> = answered.iter().map(|record| record.ended_ns).collect();
    ends.sort_unstable();
    let mut in_order = answered.to_vec();
    in_order.sort_by_key(|record| sent(record));
    let begins = in_order.iter().enumerate().map(|(place, record)| {
        let free = place.checked_sub(instances).and_then(|place| ends.get(place)).copied();
        free.map_or(sent(record), |free| free.max(sent(record)))
    });
    let times: Vec<Option<Time>> =
        in_order.iter().zip(begins).map(|(record, begin)| record.ended_ns.checked_sub(begin)).collect();
    let count = times.iter().filter(|time| time.is_none()).count();
    if count > 0 {
        return Err(FitError::Overlap { count, instances });
    }
    Ok(times.into_iter().flatten().map(|time| time as f64 / 1e6).collect())
}

fn arrivals_of(recording: &Recording) -> Result<ArrivalFit, FitError> {
    recording.trace()?;
    let times: Vec<f64> = recording.records.iter().map(|record| record.intended_ns as f64 / 1e9).collect();
    Ok(arrivals::arrivals(&times))
}

fn of_journal(journal: &Recording, records: Option<&Recording>) -> Result<Fit, FitError> {
    let calls = journal.calls.as_deref().unwrap_or_default();
    let answers = || calls.iter().filter_map(|call| Some((call, call.took(CallEnd::Answered)?)));
    let extreme = |of: fn(f64, f64) -> f64| answers().map(|(_, ms)| ms).reduce(of);
    let (Some(least), Some(most)) = (extreme(f64::min), extreme(f64::max)) else {
        return Err(FitError::Calls);
    };
    let is_down = |call: &Call| call.took(CallEnd::Failed).is_some_and(|ms| ms < least / 2.0);
    let count = |of: &dyn Fn(&&Call) -> bool| calls.iter().filter(of).count();
    let cancelled = count(&|call| call.took(CallEnd::Cancelled).is_some_and(|ms| ms <= most));
    if cancelled as f64 > MOST_LEFT_OUT * calls.len() as f64 {
        return Err(FitError::Cancelled { cancelled, all: calls.len() });
    }
    let hung = count(&|call| call.took(CallEnd::Cancelled).is_some_and(|ms| ms > most));
    let failed = count(&|call| call.took(CallEnd::Failed).is_some() && !is_down(call));
    let share = |of: usize| of as f64 / (answers().count() + hung + failed) as f64;

    let mut down = Periods::default();
    let mut by_instance: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        by_instance.entry(call.instance).or_default().push(call);
    }
    for calls in by_instance.values() {
        down.add(calls.iter().map(|call| (call.begin, is_down(call))));
    }
    let crash = down.share_and_length().map(|[share, length]| Crash {
        every_ms: rounded(length * (1.0 - share) / share, 1),
        down_ms: rounded(length, 1),
    });

    let per_row_ms = rounded(per_row(answers()), 4).max(0.0);
    let alone = |call: &Call| {
        let ms = call.took(CallEnd::Answered)?;
        Some((call.begin, (ms - per_row_ms * call.rows.saturating_sub(1) as f64).max(0.0)))
    };
    let times: Vec<Vec<(Time, f64)>> =
        by_instance.values().map(|calls| calls.iter().filter_map(|call| alone(call)).collect()).collect();
    let (slow, persistence, usual) = slow_periods(&times);
    Ok(Fit {
        arrivals: arrivals_of(journal)?,
        alike: grouped(usual),
        capacity: by_instance.values().map(|calls| at_once(calls)).max().unwrap_or(1),
        per_row_ms,
        faults: Some(FittedFaults { slow, persistence, crash, errors: share(failed), hangs: share(hung) }),
        query: records.map(|records| outside(&records.records, &journal.records)).transpose()?,
        left_out: 0,
    })
}

impl Call {
    /// Its time in ms, if it ended so.
    fn took(&self, how: CallEnd) -> Option<f64> {
        let (end, at) = self.end?;
        (end == how).then(|| at.saturating_sub(self.begin) as f64 / 1e6)
    }
}

/// The time of each further row: the slope of the medians of the times over the numbers of rows, by least squares.
fn per_row<'a>(answers: impl Iterator<Item = (&'a Call, f64)>) -> f64 {
    let mut by_rows: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    answers.for_each(|(call, ms)| by_rows.entry(call.rows).or_default().push(ms));
    let medians: Vec<[f64; 3]> =
        by_rows.into_iter().map(|(rows, times)| [rows as f64, median(&times), times.len() as f64]).collect();
    let weight: f64 = medians.iter().map(|[.., count]| count).sum();
    let mean =
        |of: fn(&[f64; 3]) -> f64| medians.iter().map(|point| of(point) * point[2]).sum::<f64>() / weight;
    let (rows, ms) = (mean(|point| point[0]), mean(|point| point[1]));
    let sum = |of: &dyn Fn(&[f64; 3]) -> f64| medians.iter().map(|point| of(point) * point[2]).sum::<f64>();
    let square = sum(&|[of, ..]| (of - rows).powi(2));
    if square > 0.0 { sum(&|[of, time, _]| (of - rows) * (time - ms)) / square } else { 0.0 }
}

fn median(times: &[f64]) -> f64 {
    quantile(&sorted(times.iter().copied()), 0.5)
}

fn sorted(times: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The periods in which instances are slow, how slowness persists, and the times of each instance outside of them.
fn slow_periods(instances: &[Vec<(Time, f64)>]) -> (Option<Slow>, Option<f64>, Vec<Vec<f64>>) {
    // Relative to the instance's own median: one that is slow for good is not slow for a while.
    let relative: Vec<Vec<f64>> = instances
        .iter()
        .map(|calls| {
            let usual = median(&calls.iter().map(|call| call.1).collect::<Vec<_>>());
            calls.iter().map(|call| if usual > 0.0 { call.1 / usual } else { 1.0 }).collect()
        })
        .collect();
    let of = |instances: &[Vec<(Time, f64)>]| {
        instances.iter().map(|calls| sorted(calls.iter().map(|call| call.1))).collect()
    };
    let Some(Bound { above, persistence }) = periods::bound(&relative) else {
        return (None, None, of(instances));
    };
    let mut periods = Periods::default();
    for (calls, relative) in instances.iter().zip(&relative) {
        periods.add(calls.iter().zip(relative).map(|(call, time)| (call.0, *time > above)));
    }
    let part = |is_slow: bool| {
        let times = relative.iter().flatten().copied().filter(|time| (*time > above) == is_slow);
        quantile(&sorted(times), 0.5)
    };
    let factor = part(true) / part(false);
    let Some([share, length]) = periods.share_and_length() else { return (None, None, of(instances)) };
    let slow = Slow { share: rounded(share, 6), length_ms: rounded(length, 1), factor: rounded(factor, 4) };
    let usual = |(calls, relative): (&Vec<(Time, f64)>, &Vec<f64>)| {
        sorted(calls.iter().zip(relative).filter(|(_, time)| **time <= above).map(|(call, _)| call.1))
    };
    (Some(slow), Some(persistence), instances.iter().zip(&relative).map(usual).collect())
}

/// Puts instances with one law together; `instances` are the sorted times of each.
fn grouped(instances: Vec<Vec<f64>>) -> Vec<Alike> {
    let mut groups: Vec<(Vec<f64>, Alike)> = Vec::new();
    for times in instances.into_iter().filter(|times| !times.is_empty()) {
        match groups.iter_mut().find(|(first, _)| are_alike(first, &times)) {
            Some((_, alike)) => {
                alike.count += 1;
                alike.times.extend(times);
            }
            None => groups.push((times.clone(), Alike { count: 1, times })),
        }
    }
    let sorted = |(_, mut alike): (Vec<f64>, Alike)| {
        alike.times.sort_by(f64::total_cmp);
        alike
    };
    groups.into_iter().map(sorted).collect()
}

/// The most calls of an instance that ran at once.
fn at_once(calls: &[&Call]) -> usize {
    let ends = calls.iter().filter_map(|call| Some((call.end?.1, -1)));
    let mut changes: Vec<(Time, i64)> = calls.iter().map(|call| (call.begin, 1)).chain(ends).collect();
    // An end comes before a begin at the same time.
    changes.sort_unstable();
    let (mut now, mut most) = (0_i64, 1);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    usize::try_from(most).unwrap_or(1)
}

/// The time of each query outside of its calls, between its client and the serving core: its latency for the client
/// without that in the journal, whose clock may have another zero.
fn outside(records: &[Record], queries: &[Record]) -> Result<Service, FitError> {
    let runs = |found: String, expected: &str| FitError::Runs { found, expected: expected.to_owned() };
    // The journal has the queries of the warm-up, too.
    let Some(first) = queries.len().checked_sub(records.len()) else {
        let found = format!("{} requests and {} queries", records.len(), queries.len());
        return Err(runs(found, "at least as many queries"));
    };
    let latencies = |of: &[Record]| {
        let answered = of.iter().filter(|record| record.outcome == Outcome::Answered);
        answered.map(|record| (record.ended_ns as f64 - record.intended_ns as f64) / 1e6).collect::<Vec<_>>()
    };
    let counted = queries.get(first..).unwrap_or_default();
    let (full, mut within) = (latencies(records), latencies(counted));
    if full.len() != within.len() {
        return Err(runs(format!("{} and {} answers", full.len(), within.len()), "as many of both"));
    }
    // Of two requests one after the other the second one may have overtaken the first one on its way.
    for (place, pair) in full.windows(2).enumerate() {
        let (Some(&one), Some(&other)) = (within.get(place), within.get(place + 1)) else { break };
        let kept = (pair[0] - one).min(pair[1] - other);
        let swapped = (pair[0] - other).min(pair[1] - one);
        if kept < 0.0 && swapped > kept {
            within.swap(place, place + 1);
        }
    }
    let times = sorted(full.iter().zip(&within).map(|(full, within)| full - within));
    let negative = times.iter().filter(|ms| **ms < 0.0).count();
    if negative as f64 > MOST_LEFT_OUT * times.len() as f64 {
        return Err(runs(format!("{negative} answers that the client had before the server"), "none"));
    }
    Ok(law(&times.into_iter().map(|ms| ms.max(0.0)).collect::<Vec<_>>()))
}

impl Fit {
    /// The cluster as a configuration of `parm-serve`: one pooled model without redundancy.
    #[must_use]
    pub fn cluster(&self) -> Value {
        let mut behavior = Map::new();
        if self.per_row_ms > 0.0 {
            behavior.insert("per_row_ms".to_owned(), self.per_row_ms.into());
        }
        if let Some(FittedFaults { slow, crash, errors, hangs, .. }) = &self.faults {
            let faults = [
                ("slow", slow.as_ref().map(|slow| json!(slow))),
                ("crash", crash.as_ref().map(|crash| json!(crash))),
                ("errors", (*errors > 0.0).then(|| json!(rounded(*errors, 8)))),
                ("hangs", (*hangs > 0.0).then(|| json!(rounded(*hangs, 8)))),
            ];
            behavior.extend(faults.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        }
        let instances = |alike: &Alike| {
            let mut behavior = behavior.clone();
            behavior.insert("service".to_owned(), json!(law(&alike.times)));
            json!({"capacity": self.capacity, "synthetic": {"count": alike.count, "behavior": behavior}})
        };
        let mut model = json!({"name": "fitted", "placement": "pooled", "redundancy": {"policy": "none"},
            "instances": self.alike.iter().map(instances).collect::<Vec<_>>()});
        if let Some(query) = &self.query {
            model["overhead"] = json!({"query": query});
        }
        json!({"models": [model]})
    }

    /// What was found, a line for each part of the cluster.
    #[must_use]
    pub fn table(&self) -> String {
        let mut table = String::new();
        let ArrivalFit { rate, variation, dispersion, law } = &self.arrivals;
        let dispersion = dispersion.map_or(String::new(), |of| format!(", dispersion {of:.2}"));
        let _ =
            writeln!(table, "arrivals   {law}, {rate:.2} a second (variation {variation:.3}{dispersion})");
        for Alike { count, times } in &self.alike {
            let at = |share| quantile(times, share);
            let _ = writeln!(
                table,
                "instances  {count}: median {:.3} ms, P99 {:.3}, P99.9 {:.3} ({} calls)",
                at(0.5),
                at(0.99),
                at(0.999),
                times.len()
            );
        }
        if self.capacity > 1 {
            let _ = writeln!(table, "capacity   {} calls at once", self.capacity);
        }
        if self.per_row_ms > 0.0 {
            let _ = writeln!(table, "batches    {:.4} ms for each further row", self.per_row_ms);
        }
        match &self.faults {
            None => {
                table += "slow       unknown: records of requests do not name instances\n\
                              failures   unknown: records of requests do not have calls\n";
            }
            Some(FittedFaults { slow, persistence, crash, errors, hangs }) => {
                let _ = match slow {
                    Some(Slow { share, length_ms, factor }) => writeln!(
                        table,
                        "slow       {:.3} % of the time, {length_ms:.1} ms each, {factor:.2} times as long (correlation of \
                         neighbours {:.2})",
                        share * 100.0,
                        persistence.unwrap_or(0.0)
                    ),
                    None => writeln!(table, "slow       no periods: slow calls do not follow each other"),
                };
                let _ = writeln!(
                    table,
                    "failures   {:.4} % of calls; {:.4} % are never answered",
                    errors * 100.0,
                    hangs * 100.0
                );
                if let Some(Crash { every_ms, down_ms }) = crash {
                    let _ = writeln!(table, "crashes    each {every_ms:.0} ms, for {down_ms:.0} ms");
                }
            }
        }
        let _ = match &self.query {
            Some(Service::Quantiles { quantiles }) => {
                let median = quantiles.iter().find(|(share, _)| *share >= 0.5).map_or(0.0, |(_, ms)| *ms);
                writeln!(
                    table,
                    "network    median {median:.3} ms for each query, between its client and the serving core"
                )
            }
            Some(_) => writeln!(table, "network    constant"),
            None => writeln!(table, "network    unknown: it takes the records and the journal of one run"),
        };
        if self.left_out > 0 {
            let _ = writeln!(table, "left out   {} requests without an answer", self.left_out);
        }
        table
    }

    /// The same as a JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let ArrivalFit { rate, variation, dispersion, law: of } = &self.arrivals;
        let instances = self.alike.iter().map(|Alike { count, times }| {
            let at = |share| quantile(times, share);
            json!({"count": count, "calls": times.len(), "median_ms": at(0.5), "p99_ms": at(0.99), "p99.9_ms": at(0.999)})
        });
        let faults = self.faults.as_ref().map(|of| {
            json!({"slow": of.slow, "persistence": of.persistence, "crash": of.crash, "errors": of.errors,
                "hangs": of.hangs})
        });
        json!({
            "format": 1,
            "arrivals": {"law": of.to_string(), "rate": rate, "variation": variation, "dispersion": dispersion},
            "instances": instances.collect::<Vec<_>>(),
            "capacity": self.capacity,
            "per_row_ms": self.per_row_ms,
            "faults": faults,
            "query": self.query,
            "left_out": self.left_out,
        })
    }
}
