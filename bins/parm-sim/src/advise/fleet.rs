//! `parm-sim advise --target`: the fewest instances, and their policy.

use std::collections::HashMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use parm::counted;
use parm_cli::options::Common;
use parm_cli::tools::sim::Advise;
use parm_cli::{Exit, Io, Progress, Usage};
use parm_config::Model;
use parm_simulation::{Candidate, KnownCode, Row, Trial, Verdict, choose, fleet, most, smallest};
use parm_workload::{Expectation, Watch};

use super::{table, verdict};
use crate::json::Fewest;
use crate::plan::Plan;

/// Simulations of policies with numbers of instances. All have the same arrivals and faults, seed by seed.
struct Fleets<'a> {
    base: &'a Model,
    codes: &'a [KnownCode],
    plan: Plan,
    target: Expectation,
    progress: Progress,
    /// The trials so far, by policy and number of instances.
    known: HashMap<(String, usize), Row>,
}

impl Fleets<'_> {
    /// The trials of a policy with this number of instances; none if there are too few for it.
    fn row(&mut self, policy: &str, instances: usize) -> Result<Option<&Row>> {
        let key = (policy.to_owned(), instances);
        if !self.known.contains_key(&key) {
            let candidates = fleet(self.base, instances, self.codes)?;
            let Some(candidate) = candidates.into_iter().find(|candidate| candidate.name == policy) else {
                return Ok(None);
            };
            let rows = self.plan.in_parallel(&[(candidate.name, candidate.model)], &self.progress)?;
            self.known.extend(rows.into_iter().map(|row| (key.clone(), row)));
        }
        Ok(self.known.get(&key))
    }

    /// Whether the target holds with most of the seeds.
    fn holds(&mut self, policy: &str, instances: usize) -> Result<bool> {
        let (target, queries) = (self.target.clone(), self.plan.queries());
        Ok(self.row(policy, instances)?.is_some_and(|row| holds(row, &target, queries)))
    }
}

fn holds(row: &Row, target: &Expectation, queries: u64) -> bool {
    let holds = |trial: &&Trial| Watch::new(target, queries, 1).reasons(&trial.summary).is_empty();
    2 * row.trials.iter().filter(holds).count() > row.trials.len()
}

/// Searches the fewest instances with which the target holds, and reports the policies with that number.
///
/// # Errors
/// A target that cannot be read, or a cluster, code or trace that is refused.
pub(super) fn run(
    options: &Advise,
    target: &str,
    (base, codes): (&Model, &[KnownCode]),
    common: &Common,
    io: &mut Io,
) -> Result<Exit> {
    let wrong = |problem: String| Usage::error(format!("--target: {problem}"));
    let expectation: Expectation = target.parse().map_err(|error| wrong(format!("{error}")))?;
    if expectation.needs_objective() {
        return Err(wrong("found goodput, expected other quantities: there is no objective".to_owned()));
    }
    let most = most(base, options.budget);
    let policies: Vec<String> =
        fleet(base, most, codes)?.into_iter().map(|candidate| candidate.name).collect();
    let plan = Plan::new(&options.load, io)?;
    let queries = plan.queries();
    let progress = Progress::new(common, io, "queries", None);
    let mut fleets =
        Fleets { base, codes, plan, target: expectation.clone(), progress, known: HashMap::new() };
    let found = smallest(&policies, most, |policy, instances| fleets.holds(policy, instances))?;
    let simulated = fleets.known.len();
    let best = if options.exhaustive {
        let mut all = (1..=most).flat_map(|instances| policies.iter().map(move |policy| (policy, instances)));
        let mut best = None;
        all.try_for_each(|(policy, instances)| {
            let holds = fleets.holds(policy, instances)?;
            best = best.or(holds.then_some(instances));
            Ok::<_, anyhow::Error>(())
        })?;
        best
    } else {
        None
    };
    let instances = found.unwrap_or(most);
    let mut rows = Vec::new();
    let mut candidates: Vec<Candidate> = Vec::new();
    for candidate in fleet(base, instances, codes)? {
        if let Some(row) = fleets.row(&candidate.name, instances)? {
            rows.push(row.clone());
            candidates.push(candidate);
        }
    }
    drop(fleets);
    let verdicts: Vec<Verdict> = candidates.iter().zip(&rows).map(|(of, row)| verdict(of, row)).collect();
    // Of those that hold, as without a number of instances to find.
    let held: Vec<usize> = (0..rows.len()).filter(|&at| holds(&rows[at], &expectation, queries)).collect();
    let among: Vec<Verdict> = held.iter().map(|&at| verdicts[at].clone()).collect();
    let accurate = choose(&among, Some(f64::INFINITY)).and_then(|(at, _)| held.get(at).copied());
    let chosen = match accurate {
        Some(at) => at,
        None => choose(&verdicts, None).context("found no candidates")?.0,
    };
    let choices = policies.len() * most;
    let regret = best.zip(found).map(|(best, found)| found - best);
    let mut why = match found {
        Some(count) => format!(
            "{target} holds with {}, and was not found to hold with fewer",
            counted(count, "instance")
        ),
        None => format!(
            "{target} does not hold with up to {}; this has the least P99.9",
            counted(most, "instance")
        ),
    };
    let _ = write!(why, "; {simulated} of {choices} choices simulated");
    if let Some(regret) = regret {
        let _ = write!(why, ", regret against the best of all: {}", counted(regret, "instance"));
    }
    let text = if options.json {
        let fewest = Fewest {
            target: target.to_owned(),
            instances: found,
            held: held.iter().map(|&at| verdicts[at].name.clone()).collect(),
            simulated,
            choices,
            regret,
        };
        super::json(&candidates, &rows, &verdicts, (chosen, &why), Some(fewest), io)?
    } else {
        table(&candidates, &rows, &verdicts, chosen, &why)
    };
    io.print(&text)?;
    common.count(io, &counted(simulated, "choice"));
    Ok(if found.is_some() { Exit::Done } else { Exit::Unmet })
}
