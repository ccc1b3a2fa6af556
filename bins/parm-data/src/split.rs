//! Parts of data for training, validation and tests.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, bail};
use parm::npy::RowWriter;
use parm::{counted, split};
use parm_cli::output::{Target, commit};
use parm_cli::tools::data::Divide;
use parm_cli::tools::train::Share;
use parm_cli::{Input, Io, Output, Usage};

use crate::examples;
use crate::streams::Twice;

/// The parts, as directories: the rest, and what the options ask for.
const PARTS: [&str; 3] = ["train", "validation", "test"];

/// Which part each row belongs to, and the rows of each part.
struct Plan {
    part: Vec<u8>,
    rows: [usize; 3],
}

/// Splits streams of the same number of rows; returns the line that --verbose prints.
pub(crate) fn split(options: &Divide, io: &mut Io) -> Result<String> {
    let names = names(options)?;
    let reading = options.read.reading();
    let mut plan: Option<Plan> = None;
    let mut outputs = Vec::new();
    for (path, name) in options.inputs.iter().zip(&names) {
        let input = Input::Path(path.clone());
        let mut twice = Twice::new(&input, io, reading)?;
        let count = twice.open(io, reading)?.skip_rest()? as usize;
        let plan = match &mut plan {
            Some(plan) if plan.part.len() != count => {
                let first = options.inputs[0].display();
                bail!("{input}: found {count} rows, expected {} as in {first}", plan.part.len());
            }
            Some(plan) => plan,
            None => plan.insert(Plan::new(options, count, io)?),
        };
        let mut rows = twice.open(io, reading)?;
        let layout = rows.layout().clone();
        let mut parts: Vec<Option<RowWriter<Output>>> = Vec::new();
        for (part, &count) in PARTS.iter().zip(&plan.rows) {
            if count == 0 {
                parts.push(None);
                continue;
            }
            let folder = options.output.join(part);
            fs::create_dir_all(&folder).with_context(|| format!("{}: cannot create", folder.display()))?;
            let target = Target::Path(folder.join(name));
            let mut output = target.rows(io, options.compress.compression(), layout.clone())?;
            output.announce(count as u64);
            parts.push(Some(output));
        }
        let mut block = Vec::new();
        for of_rows in plan.part.chunks(layout.rows_per_block()) {
            rows.read_raw(of_rows.len(), &mut block)?;
            for (row, &part) in block.chunks_exact(layout.bytes()).zip(of_rows) {
                if let Some(output) = &mut parts[usize::from(part)] {
                    output.write_raw(row)?;
                }
            }
        }
        outputs.extend(parts.into_iter().flatten());
    }
    // Outputs are committed last, so that a stream that does not fit leaves none.
    outputs.into_iter().try_for_each(commit)?;
    let rows = plan.map_or([0; 3], |plan| plan.rows);
    let parts: Vec<_> = PARTS.iter().zip(rows).map(|(part, rows)| format!("{rows} {part}")).collect();
    Ok(format!("split {}: {} rows", counted(options.inputs.len(), "stream"), parts.join(", ")))
}

/// The names of the outputs, those of the streams.
fn names(options: &Divide) -> Result<Vec<OsString>> {
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for path in &options.inputs {
        let name = path.file_name().ok_or_else(|| {
            Usage::error(format!("found {}, expected a file, whose name its parts get", path.display()))
        })?;
        if !seen.insert(name) {
            let name = name.display();
            return Err(Usage::error(format!(
                "found two streams of the name {name}, expected different ones"
            )));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

impl Plan {
    fn new(options: &Divide, count: usize, io: &mut Io) -> Result<Self> {
        let labels = match &options.stratify {
            None => None,
            Some(path) => {
                let labels = Input::Path(path.clone()).labels(io, options.read.reading())?;
                if labels.len() != count {
                    let (path, first) = (path.display(), options.inputs[0].display());
                    bail!(
                        "{path}: found {}, expected {count} as {first} has rows",
                        counted(labels.len(), "label")
                    );
                }
                Some(labels)
            }
        };
        let wanted = |flag: &str, share: Option<Share>| match share.map(|share| share.of(count)) {
            Some(0) => bail!("--{flag} of {} is none, expected at least 1", counted(count, "row")),
            rows => Ok(rows.unwrap_or(0)),
        };
        let [validation, test] = [wanted("validation", options.validation)?, wanted("test", options.test)?];
        if validation.saturating_add(test) >= count {
            bail!(
                "found {} for validation and {test} for tests, expected fewer than the {}",
                counted(validation, "row"),
                counted(count, "row")
            );
        }
        let class = |row: usize| labels.as_ref().map_or(0, |labels| labels[row]);
        let mut part = vec![0; count];
        let [taken, rest] = split::draw(&examples::order(count, options.seed), class, test);
        for row in taken {
            part[row] = 2;
        }
        // A random order again: rows come out in ascending order.
        let order: Vec<usize> =
            examples::order(rest.len(), options.seed).into_iter().map(|i| rest[i]).collect();
        let [taken, _] = split::draw(&order, class, validation);
        for row in taken {
            part[row] = 1;
        }
        Ok(Self { part, rows: [count - validation - test, validation, test] })
    }
}
