//! The scores of reports by name: of parm-score, parm-compare and parm-train sweep, of all their formats.

use std::collections::{BTreeSet, HashMap};
use std::io::Read as _;

use anyhow::{Context, Result, bail, ensure};
use parm_cli::{Input, Io};
use serde_json::{Map, Value};

/// The values of each score over several reports.
#[derive(Default)]
pub(crate) struct Samples {
    /// In the order of their first appearance.
    pub(crate) scores: Vec<(String, Vec<f64>)>,
    places: HashMap<String, usize>,
    /// What the first report of parm-score is about, and its name: all others must be about the same.
    about: Option<(String, [Value; 4])>,
    /// The runs of sweeps.
    runs: BTreeSet<String>,
}

impl Samples {
    /// Reads reports.
    ///
    /// # Errors
    /// What is none, and reports of different kinds of groups.
    pub(crate) fn read(inputs: &[Input], io: &mut Io) -> Result<Self> {
        let mut samples = Self::default();
        for input in inputs {
            let mut text = String::new();
            input.source(io)?.read_to_string(&mut text).with_context(|| input.to_string())?;
            // A sweep writes a report on each line.
            let mut found = 0;
            for report in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
                samples.add(input, &report.with_context(|| input.to_string())?)?;
                found += 1;
            }
            ensure!(found > 0, "{input}: found an empty file, expected a report");
        }
        samples.name_single_run();
        Ok(samples)
    }

    /// If there is only one run, its scores go by their own names, to be compared with those of another one.
    fn name_single_run(&mut self) {
        if let (Some(run), 1) = (self.runs.first(), self.runs.len()) {
            for (name, _) in &mut self.scores {
                *name = name.strip_prefix(&format!("{run}:")).unwrap_or(name).to_owned();
            }
            self.places = self.scores.iter().map(|(name, _)| name.clone()).zip(0..).collect();
        }
    }

    fn add(&mut self, input: &Input, report: &Value) -> Result<()> {
        if let Some(run) = report["run"].as_str() {
            self.add_run(run, report);
            return Ok(());
        }
        let list = ["scores", "rows", "values", "embeddings", "boxes"]
            .into_iter()
            .find_map(|list| Some((list, report[list].as_array()?)));
        let Some((list, items)) = list else {
            bail!("{input}: found no scores, expected JSON of parm-score, parm-compare or parm-train sweep");
        };
        let format = &report["format"];
        ensure!(*format == 1 || *format == 2, "{input}: found format {format}, expected 1 or 2");
        if list != "rows" {
            self.check(input, report)?;
        }
        let is_classes = report["task"].is_null() || report["task"] == "classify";
        for item in items {
            match list {
                "scores" => self.push(&score(item, is_classes), &item["value"]),
                "rows" => self.add_row(item),
                // Format 1, where a line has several scores.
                _ => self.add_line(list, item),
            }
        }
        Ok(())
    }

    /// Sees that scores are about the same groups.
    fn check(&mut self, input: &Input, report: &Value) -> Result<()> {
        const KEYS: [&str; 4] = ["task", "k", "extra_workers", "f"];
        let mut about = KEYS.map(|key| report[key].clone());
        // Format 1 names the task of all but classes.
        if about[0].is_null() {
            about[0] = "classify".into();
        }
        let (first, expected) = self.about.get_or_insert_with(|| (input.to_string(), about.clone()));
        // Format 1 does not have all of them for all tasks.
        let differ = |a: &Value, b: &Value| a != b && !a.is_null() && !b.is_null();
        let differ = KEYS.iter().zip(expected.iter().zip(&about)).find(|(_, (a, b))| differ(a, b));
        if let Some((key, (expected, found))) = differ {
            bail!("{input}: found {key} {found}, expected {expected} as {first} has");
        }
        Ok(())
    }

    /// A row of a comparison.
    fn add_row(&mut self, row: &Value) {
        let name = format!("{}:k{}:{}-lost", text(&row["code"]), row["k"], row["lost"]);
        for score in ["deployed", "A_a", "A_d", "A_all", "A_all_at_rate", "agreement"] {
            self.push(&format!("{name}:{score}"), &row[score]);
        }
    }

    /// A run of a sweep; runs that differ in their seeds alone have one name.
    fn add_run(&mut self, run: &str, report: &Value) {
        let seed = format!("-s{}", report["seed"]);
        let name = run.strip_suffix(&seed).unwrap_or(run);
        self.runs.insert(name.to_owned());
        for (score, value) in report.as_object().into_iter().flatten() {
            match value {
                Value::Object(parts) if score == "IoU" => self.add_all(&format!("{name}:IoU"), parts, &[]),
                _ if ["k", "n", "seed"].contains(&score.as_str()) => {}
                _ => self.push(&format!("{name}:{score}"), value),
            }
        }
    }

    fn add_line(&mut self, list: &str, line: &Value) {
        let name = format!("{}:{}", text(&line[list]).replace(", ", ":"), text(&line["against"]));
        if let Value::Object(parts) = line {
            self.add_all(&name, parts, &["rows", "low", "high"]);
        }
    }

    fn add_all(&mut self, name: &str, scores: &Map<String, Value>, without: &[&str]) {
        for (score, value) in scores.iter().filter(|(score, _)| !without.contains(&score.as_str())) {
            self.push(&format!("{name}:{score}"), value);
        }
    }

    /// Adds a value, if it is a number.
    fn push(&mut self, name: &str, value: &Value) {
        let Some(value) = value.as_f64() else { return };
        let place = *self.places.entry(name.to_owned()).or_insert_with(|| {
            self.scores.push((name.to_owned(), Vec::new()));
            self.scores.len() - 1
        });
        self.scores[place].1.push(value);
    }

    /// The values of a score.
    pub(crate) fn of(&self, name: &str) -> &[f64] {
        self.places.get(name).map_or(&[], |&place| &self.scores[place].1)
    }

    /// The task of reports of parm-score, if there is one.
    pub(crate) fn task(&self) -> Option<&Value> {
        self.about.as_ref().map(|(_, about)| &about[0])
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The name of a score: of classes that of the table, with the n of a top-n accuracy; of others what it is about first.
fn score(entry: &Value, is_classes: bool) -> String {
    // Format 1 has names such as A_o(0.1) and "A_all, 1 lost".
    let plain = text(&entry["score"]).split('(').next().unwrap_or_default();
    let name = plain.replace(", ", ":").replace(' ', "-");
    let lost = entry["lost"].as_u64().map(|lost| format!(":{lost}-lost")).unwrap_or_default();
    let baseline = entry["baseline"].as_str().map(|baseline| format!(":{baseline}")).unwrap_or_default();
    if !is_classes {
        return format!("{}{baseline}:{}:{name}", text(&entry["of"]), text(&entry["against"]));
    }
    let top = entry["top"].as_u64().filter(|&n| n > 1).map(|n| format!(":top-{n}")).unwrap_or_default();
    format!("{name}{lost}{baseline}{top}")
}
