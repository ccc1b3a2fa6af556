//! `parm-sim advise`: chooses a policy, a code and k.

mod fleet;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use parm::codes::{CodeName, CodeSpec};
use parm::{CodeFile, counted};
use parm_cli::options::Common;
use parm_cli::tools::sim::Advise;
use parm_cli::{Exit, Io, Progress, Usage};
use parm_config::{CodeChoice, Model};
use parm_simulation::{Candidate, Cluster, KnownCode, Row, Verdict, candidates, choose, variants};
use serde_json::{Value, json};

use crate::json::{Advice as Report, Entry, FORMAT, Fewest};
use crate::plan::Plan;

/// Simulates all candidates, and reports the best one.
///
/// # Errors
/// A cluster, code or trace that is refused.
pub(crate) fn run(options: &Advise, common: &Common, io: &mut Io) -> Result<Exit> {
    if options.load.schedule.rate.len() > 1 {
        return Err(Usage::error("--rates: found several, expected one: advice is for one load"));
    }
    if options.json {
        io.record_inputs();
        [&options.cluster].into_iter().chain(&options.accuracy).for_each(|path| io.note_file(path));
    }
    let codes = options.accuracy.iter().map(|path| code(path)).collect::<Result<Vec<_>>>()?;
    let path = &options.cluster;
    let folder = path.parent().unwrap_or(Path::new("."));
    let models = variants(&crate::text(path)?, folder, options.model.as_deref(), &[])
        .with_context(|| path.display().to_string())?;
    let (_, base) = models.first().context("found no models")?;
    Cluster::new(base, 0, 1).with_context(|| path.display().to_string())?;
    let candidates = candidates(base, options.budget, &codes).with_context(|| path.display().to_string())?;
    if let Some(target) = &options.target {
        return fleet::run(options, target, (base, codes.as_slice()), common, io);
    }
    let models: Vec<(String, Model)> =
        candidates.iter().map(|candidate| (candidate.name.clone(), candidate.model.clone())).collect();
    let plan = Plan::new(&options.load, io)?;
    let progress = Progress::new(common, io, "queries", Some(plan.total(models.len())));
    let rows = plan.in_parallel(&models, &progress)?;
    drop(progress);
    let verdicts: Vec<Verdict> = candidates.iter().zip(&rows).map(|(of, row)| verdict(of, row)).collect();
    let (chosen, why) = choose(&verdicts, options.target_p999).context("found no candidates")?;
    let text = if options.json {
        json(&candidates, &rows, &verdicts, (chosen, &why), None, io)?
    } else {
        table(&candidates, &rows, &verdicts, chosen, &why)
    };
    io.print(&text)?;
    common.count(io, &counted(plan.total(models.len()), "query"));
    Ok(Exit::Done)
}

/// The candidates, and the choice among them with its reason.
fn json(
    candidates: &[Candidate],
    rows: &[Row],
    verdicts: &[Verdict],
    (chosen, why): (usize, &str),
    fewest: Option<Fewest>,
    io: &Io,
) -> Result<String> {
    let entry = |((verdict, row), candidate): ((&Verdict, &Row), &Candidate)| Entry {
        name: verdict.name.clone(),
        instances: candidate.model.synthetic_count(),
        median_ms: median_ms(row),
        p99_ms: p99_ms(row),
        p999_ms: verdict.p999_ms,
        reconstructed: share(row),
        lost: lost(row),
        accuracy: verdict.accuracy,
    };
    let model = &candidates[chosen].model;
    let policy = [
        ("redundancy", json!(model.redundancy)),
        ("answer", json!(model.answer)),
        ("placement", json!(model.placement)),
        ("ejection", json!(model.ejection)),
        ("instances", json!(model.instances)),
    ];
    let advice = Report {
        format: FORMAT,
        candidates: verdicts.iter().zip(rows).zip(candidates).map(entry).collect(),
        chosen: verdicts[chosen].name.clone(),
        why: why.to_owned(),
        policy: policy.map(|(name, value)| (name.to_owned(), value)).into_iter().collect(),
        fewest,
        made_by: io.made_by(),
    };
    Ok(format!("{}\n", serde_json::to_string(&advice)?))
}

/// A code from its directory, or from the output of parm-score.
fn code(path: &Path) -> Result<KnownCode> {
    let last = if path.is_dir() { path.file_name() } else { path.file_stem() };
    let name = last.map_or_else(|| path.display().to_string(), |name| name.display().to_string());
    if path.is_dir() {
        let file = CodeFile::load(path)?;
        let scores = file.scores.as_ref();
        let missing = || format!("{}: found no A_a and A_d: it was not scored with labels", path.display());
        return Ok(KnownCode {
            name: format!("{name} (k={})", file.k),
            k: file.k,
            r: file.r,
            available: scores.and_then(|scores| scores.available).with_context(missing)?,
            degraded: scores.and_then(|scores| scores.degraded).with_context(missing)?,
            choice: CodeChoice::Directory(
                std::path::absolute(path).with_context(|| path.display().to_string())?,
            ),
        });
    }
    let report: Value = serde_json::from_str(&crate::text(path)?).with_context(|| {
        format!("{}: expected a code directory or the output of parm-score --json", path.display())
    })?;
    let number = |name: &str| {
        let found = report[name].as_u64().and_then(|number| usize::try_from(number).ok());
        found.with_context(|| {
            format!("{}: found no {name}, expected the output of parm-score --json", path.display())
        })
    };
    let score = |name: &str| {
        let scores = report["scores"].as_array().into_iter().flatten();
        let found = scores.filter(|entry| entry["score"] == name).find_map(|entry| entry["value"].as_f64());
        found.with_context(|| format!("{}: found no {name}, expected scores against labels", path.display()))
    };
    let (k, r) = (number("k")?, number("extra_workers")?);
    if k == 0 || r == 0 {
        bail!("{}: found k = {k} and {r} parities, expected at least one of each", path.display());
    }
    Ok(KnownCode {
        name: format!("{name} (k={k})"),
        choice: CodeChoice::Named(CodeSpec { r: Some(r), ..CodeSpec::new(CodeName::Sum, k) }),
        k,
        r,
        available: score("A_a")?,
        degraded: score("A_d")?,
    })
}

fn verdict(candidate: &Candidate, row: &Row) -> Verdict {
    Verdict::new(candidate, row.median(|trial| trial.summary.within_ms(0.999)), share(row), lost(row))
}

fn median_ms(row: &Row) -> Option<f64> {
    row.median(|trial| trial.summary.within_ms(0.5))
}

fn p99_ms(row: &Row) -> Option<f64> {
    row.median(|trial| trial.summary.within_ms(0.99))
}

/// The share of reconstructions among answers.
fn share(row: &Row) -> f64 {
    row.median(|trial| trial.summary.share(trial.summary.reconstructed)).unwrap_or(0.0)
}

/// The share of queries that failed or got a default answer.
fn lost(row: &Row) -> f64 {
    let lost = row.median(|trial| {
        let (summary, all) = (&trial.summary, trial.summary.failed() + trial.summary.answered());
        (all > 0).then(|| (summary.failed() + summary.default) as f64 / all as f64)
    });
    lost.unwrap_or(1.0)
}

fn table(candidates: &[Candidate], rows: &[Row], verdicts: &[Verdict], chosen: usize, why: &str) -> String {
    let width = candidates.iter().map(|of| of.name.chars().count()).max().unwrap_or(0).max(4);
    let mut table = format!(
        "  {:width$}{:>10}{:>10}{:>10}{:>10}{:>9}{:>9}{:>9}\n",
        "NAME", "INSTANCES", "MED", "P99", "P99.9", "REBUILT", "LOST", "A_O"
    );
    let ms = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.3}"));
    for (at, ((candidate, row), verdict)) in candidates.iter().zip(rows).zip(verdicts).enumerate() {
        let _ = writeln!(
            table,
            "{} {:width$}{:>10}{:>10}{:>10}{:>10}{:>9.4}{:>9.4}{:>9.4}",
            if at == chosen { '*' } else { ' ' },
            candidate.name,
            candidate.model.synthetic_count(),
            ms(median_ms(row)),
            ms(p99_ms(row)),
            ms(verdict.p999_ms),
            share(row),
            lost(row),
            verdict.accuracy
        );
    }
    let _ = writeln!(table, "\n{}: {why}", verdicts[chosen].name);
    table
}
