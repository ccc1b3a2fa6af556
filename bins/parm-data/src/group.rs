//! One coding group of a stream.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use parm::codes::{Code, Encoding};
use parm::group::TailError;
use parm::npy::{RowBuffer, RowReader};
use parm::{Dtype, Tail, counted};
use parm_cli::input::{Source, check_stdin};
use parm_cli::tools::data::Group;
use parm_cli::{Input, Io, Usage};
use serde_json::{Value, json};

/// A row of the group.
struct Member {
    row: u64,
    available: Option<bool>,
    label: Option<i64>,
    numbers: Option<Numbers>,
}

/// The numbers of a row.
struct Numbers {
    values: Vec<f64>,
    /// Whether f4 holds them.
    is_single: bool,
}

/// Shows a coding group; returns the line that --verbose prints.
pub(crate) fn group(options: &Group, io: &mut Io) -> Result<String> {
    let inputs = [&options.input].into_iter().chain(&options.parity);
    check_stdin(inputs.chain(&options.available).chain(&options.labels))?;
    let code = options.curve.choose(&options.code, io)?;
    check(options, &code)?;
    let per_group = if code.interpolating().is_some() { code.workers() } else { code.k() };
    let members = members(options, per_group, io)?;
    let mut parities = Vec::new();
    for input in &options.parity {
        let mut rows = input.rows(io, options.read.reading())?;
        let found = skip(&mut rows, options.group)?;
        let mut row = numbers(&mut rows, 1)?;
        let Some(row) = row.pop() else {
            let groups = counted(found, "group");
            bail!("{input}: found {groups}, expected a row for group {}", options.group);
        };
        parities.push(row);
    }
    let report = Report { options, code: &code, members, parities };
    io.print(&if options.json { format!("{}\n", report.json()) } else { report.text()? })?;
    Ok(format!("showed group {} of {}", options.group, options.input))
}

fn check(options: &Group, code: &Code) -> Result<()> {
    let (found, r, name) = (options.parity.len(), code.r(), code.name());
    if found > r {
        return Err(Usage::error(format!("found {found} --parity streams, expected at most r = {r}")));
    }
    if options.labels.is_some() && code.interpolating().is_some() {
        return Err(Usage::error(format!(
            "--labels goes with codes that keep the queries; found {name}, whose rows are answers of workers"
        )));
    }
    Ok(())
}

/// The rows of the group.
fn members(options: &Group, per_group: usize, io: &mut Io) -> Result<Vec<Member>> {
    let reading = options.read.reading();
    let first = options.group.saturating_mul(per_group as u64);
    let mut stream = options.input.rows(io, reading)?;
    let before = skip(&mut stream, first)?;
    let rows = numbers(&mut stream, per_group)?;
    let total = before + rows.len() as u64;
    if rows.is_empty() {
        let groups = counted(total.div_ceil(per_group as u64), "group");
        bail!(
            "{}: found {}, {groups}, expected group {}",
            options.input,
            counted(total, "row"),
            options.group
        );
    }
    match Tail::from(options.tail) {
        Tail::Error if rows.len() < per_group => {
            let error = TailError { rows: total, k: per_group };
            return Err(anyhow::Error::new(error).context(options.input.to_string()));
        }
        Tail::Drop if rows.len() < per_group => {
            bail!(
                "{}: rows {first} to {} are left over, and in no group (--tail drop)",
                options.input,
                total - 1
            );
        }
        _ => {}
    }
    let [available, labels] = [&options.available, &options.labels];
    let available =
        available.as_ref().map(|input| mask(input, first, rows.len(), options, io)).transpose()?;
    let labels = labels.as_ref().map(|input| label(input, first, rows.len(), options, io)).transpose()?;
    let member = |(at, numbers)| Member {
        row: first + at as u64,
        available: available.as_ref().map(|mask| mask[at]),
        label: labels.as_ref().map(|labels| labels[at]),
        numbers: Some(numbers),
    };
    let mut members: Vec<Member> = rows.into_iter().enumerate().map(member).collect();
    // The last row is repeated.
    while let Some(last) = members.last().filter(|_| members.len() < per_group) {
        let Member { row, available, label, .. } = *last;
        members.push(Member { row, available, label, numbers: None });
    }
    Ok(members)
}

/// Entries of a mask.
fn mask(input: &Input, first: u64, count: usize, options: &Group, io: &mut Io) -> Result<Vec<bool>> {
    let mut reader = input.mask(io, options.read.reading())?;
    let (mut entries, end) = (Vec::new(), first as usize + count);
    reader.read(end, &mut entries)?;
    enough(input, entries.len(), end)?;
    Ok(entries.split_off(first as usize))
}

/// Some labels.
fn label(input: &Input, first: u64, count: usize, options: &Group, io: &mut Io) -> Result<Vec<i64>> {
    let (mut labels, end) = (input.labels(io, options.read.reading())?, first as usize + count);
    enough(input, labels.len(), end)?;
    labels.truncate(end);
    Ok(labels.split_off(first as usize))
}

fn enough(input: &Input, found: usize, end: usize) -> Result<()> {
    if found < end {
        bail!("{input}: found {}, expected at least {end}, one for each row", counted(found, "row"));
    }
    Ok(())
}

/// Skips rows; returns how many there were, fewer only at the end.
fn skip(rows: &mut RowReader<Source>, count: u64) -> Result<u64> {
    let mut block = Vec::new();
    let mut skipped = 0;
    while skipped < count {
        let read =
            rows.read_raw((count - skipped).min(rows.layout().rows_per_block() as u64) as usize, &mut block)?;
        rows.take_opened().for_each(drop);
        if read == 0 {
            break;
        }
        skipped += read as u64;
    }
    Ok(skipped)
}

/// The numbers of up to `count` rows.
fn numbers(rows: &mut RowReader<Source>, count: usize) -> Result<Vec<Numbers>> {
    let (elements, dtype) = (rows.layout().elements(), rows.layout().dtype);
    let mut buffer = RowBuffer::<f64>::default();
    let read = rows.read(count, &mut buffer)?;
    let rows = buffer.values()[..read * elements].chunks_exact(elements);
    let is_single = matches!(dtype, Dtype::F16 | Dtype::F32);
    Ok(rows.map(|row| Numbers { values: row.to_vec(), is_single }).collect())
}

impl Numbers {
    /// The first of them.
    fn text(&self, width: usize) -> String {
        let number =
            |value: &f64| if self.is_single { (*value as f32).to_string() } else { value.to_string() };
        let shown: Vec<_> = self.values.iter().take(width).map(number).collect();
        let rest = self.values.len() - shown.len();
        shown.join(" ") + &if rest > 0 { format!(" and {rest} more") } else { String::new() }
    }
}

struct Report<'a> {
    options: &'a Group,
    code: &'a Code,
    members: Vec<Member>,
    parities: Vec<Numbers>,
}

impl Report<'_> {
    /// What each coded query is made of; none if a network makes it, or tiles are.
    fn weights(&self) -> Option<Vec<Vec<f64>>> {
        let matrix = self.code.parity_matrix();
        let weighted = *self.code.encoding() == Encoding::Weighted;
        weighted.then(|| matrix.row_iter().map(|row| row.iter().copied().collect()).collect())
    }

    fn text(&self) -> Result<String> {
        let (code, group) = (self.code, self.options.group);
        let interpolates = code.interpolating().is_some();
        let workers =
            if interpolates { format!("n = {}", code.workers()) } else { format!("r = {}", code.r()) };
        let mut text = format!("group {group} of the code {}, k = {}, {workers}\n", code.name(), code.k());
        let weights = self.weights();
        let sum = |at: usize| match (weights.as_ref().and_then(|weights| weights.get(at)), code.encoding()) {
            (Some(row), _) => {
                let terms: Vec<_> =
                    row.iter().enumerate().map(|(slot, weight)| format!("{weight} X{slot}")).collect();
                terms.join(" + ").replace("+ -", "- ")
            }
            (None, Encoding::Tiled) => "the images of all slots, tiled".into(),
            (None, _) => "what the encoder makes of all slots".into(),
        };
        for (at, member) in self.members.iter().enumerate() {
            let Member { row, available, label, numbers } = member;
            let place =
                if interpolates { format!("worker {at} = {}", sum(at)) } else { format!("slot {at}") };
            write!(text, "  {place}: row {row}")?;
            if let Some(label) = label {
                write!(text, ", label {label}")?;
            }
            match available {
                Some(true) => write!(text, ", available")?,
                Some(false) => write!(text, ", unavailable")?,
                None => {}
            }
            match numbers {
                Some(numbers) => writeln!(text, ": {}", numbers.text(self.options.width))?,
                None => writeln!(text, ", repeated (--tail pad)")?,
            }
        }
        for parity in 0..code.r() {
            write!(text, "  parity {parity} = {}", sum(parity))?;
            match self.parities.get(parity) {
                Some(numbers) => writeln!(text, ": {}", numbers.text(self.options.width))?,
                None => writeln!(text)?,
            }
        }
        Ok(text)
    }

    fn json(&self) -> Value {
        let member = |(at, member): (usize, &Member)| {
            let mut value = json!({"row": member.row, "repeated": member.numbers.is_none()});
            value[if self.code.interpolating().is_some() { "worker" } else { "slot" }] = json!(at);
            if let Some(label) = member.label {
                value["label"] = json!(label);
            }
            if let Some(available) = member.available {
                value["available"] = json!(available);
            }
            if let Some(numbers) = &member.numbers {
                value["values"] = json!(numbers.values);
            }
            value
        };
        json!({
            "group": self.options.group,
            "code": self.code.name().as_str(),
            "k": self.code.k(),
            "r": self.code.r(),
            "workers": self.code.workers(),
            "weights": self.weights(),
            "rows": self.members.iter().enumerate().map(member).collect::<Vec<_>>(),
            "parities": self.parities.iter().map(|parity| &parity.values).collect::<Vec<_>>(),
        })
    }
}
