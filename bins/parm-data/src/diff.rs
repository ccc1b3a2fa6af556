//! Where two streams differ.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use parm::counted;
use parm::difference::{Difference, Place, Tolerance};
use parm::npy::RowReader;
use parm_cli::input::{Source, check_stdin};
use parm_cli::options::Common;
use parm_cli::tools::data::Diff;
use parm_cli::{Exit, Io};
use serde_json::{Value, json};

/// Compares two streams.
pub(crate) fn diff(options: &Diff, common: &Common, io: &mut Io) -> Result<Exit> {
    let inputs = [&options.first, &options.second];
    check_stdin(inputs)?;
    let reading = options.read.reading();
    let [mut first, mut second] = [inputs[0].rows(io, reading)?, inputs[1].rows(io, reading)?];
    if first.layout().shape != second.layout().shape {
        bail!(
            "{}: found rows of {}, expected the shape of {} in {}",
            second.name(),
            second.layout(),
            first.layout(),
            first.name()
        );
    }
    let tolerance = Tolerance { absolute: options.atol, relative: options.rtol };
    let (difference, items) = compare(tolerance, &mut first, &mut second)?;
    let report = Report { options, difference, items, shape: &first.layout().shape };
    let text = report.text()?;
    let differs = report.difference.beyond > 0;
    if options.json {
        io.print(&format!("{}\n", report.json()))?;
    } else if differs {
        io.print(&text)?;
    }
    let Difference { rows, different, .. } = report.difference;
    common.count(
        io,
        &format!("compared {}, {} not equal", counted(rows, "row"), counted(different, "element")),
    );
    Ok(if differs { Exit::Failed } else { Exit::Done })
}

/// Compares all rows; also returns the rows of the items of the first stream.
fn compare(
    tolerance: Tolerance,
    first: &mut RowReader<Source>,
    second: &mut RowReader<Source>,
) -> Result<(Difference, Vec<u64>)> {
    let [a, b] = [first.layout().clone(), second.layout().clone()];
    let mut difference = Difference::new(tolerance);
    let mut items = Vec::new();
    let (mut x, mut y) = (Vec::new(), Vec::new());
    loop {
        let block = a.rows_per_block();
        let [found, expected] = [first.read_raw(block, &mut x)?, second.read_raw(block, &mut y)?];
        items.extend(first.take_opened());
        second.take_opened().for_each(drop);
        if found != expected {
            let [found, expected] = [
                difference.rows + found as u64 + first.skip_rest()?,
                difference.rows + expected as u64 + second.skip_rest()?,
            ];
            bail!(
                "{}: found {}, expected {expected} as in {}",
                first.name(),
                counted(found, "row"),
                second.name()
            );
        }
        if found == 0 {
            return Ok((difference, items));
        }
        let bytes = [(a.dtype, &x[..found * a.bytes()]), (b.dtype, &y[..found * b.bytes()])];
        difference.add(found, bytes);
    }
}

struct Report<'a> {
    options: &'a Diff,
    difference: Difference,
    /// Rows of the items of the first stream.
    items: Vec<u64>,
    shape: &'a [usize],
}

impl Report<'_> {
    /// The item that a row is in, from 1.
    fn item(&self, row: u64) -> usize {
        let ends = self.items.iter().scan(0, |end, rows| {
            *end += rows;
            Some(*end)
        });
        1 + ends.take_while(|&end| end <= row).count()
    }

    /// The index of an element of a row.
    fn index(&self, mut element: usize) -> Vec<usize> {
        let mut index = vec![0; self.shape.len()];
        for (at, &axis) in index.iter_mut().zip(self.shape).rev() {
            *at = element % axis;
            element /= axis;
        }
        index
    }

    fn text(&self) -> Result<String> {
        let mut text = String::new();
        let Diff { first, second, atol, rtol, .. } = self.options;
        let Difference { elements, different, beyond, nan, infinite, .. } = self.difference;
        let allowed = format!("--atol {atol} --rtol {rtol}");
        writeln!(
            text,
            "{first} and {second}: {beyond} of {} differ by more than {allowed}",
            counted(elements, "element")
        )?;
        writeln!(text, "  not equal: {different}")?;
        let named = [("absolute", self.difference.absolute), ("relative", self.difference.relative)];
        for (kind, Place { row, element, values: [a, b], difference }) in
            named.into_iter().filter_map(|(kind, place)| Some((kind, place?)))
        {
            let item =
                if self.items.len() > 1 { format!("item {}, ", self.item(row)) } else { String::new() };
            let index = self.index(element);
            writeln!(
                text,
                "  largest {kind} difference: {difference} at {item}row {row}, index {index:?}: {a} and {b}"
            )?;
        }
        if nan != [0; 3] {
            writeln!(
                text,
                "  NaN: {} in {first} alone, {} in {second} alone, {} in both",
                nan[0], nan[1], nan[2]
            )?;
        }
        if infinite > 0 {
            writeln!(text, "  infinite in one, or with other signs: {infinite}")?;
        }
        Ok(text)
    }

    fn json(&self) -> Value {
        let place = |place: Option<Place>| {
            place.map(|Place { row, element, values, difference }| {
                let (item, index) = (self.item(row), self.index(element));
                json!({"difference": difference, "item": item, "row": row, "index": index, "values": values})
            })
        };
        let Difference { rows, elements, different, beyond, nan, infinite, absolute, relative, .. } =
            self.difference;
        json!({
            "first": self.options.first.to_string(),
            "second": self.options.second.to_string(),
            "atol": self.options.atol,
            "rtol": self.options.rtol,
            "rows": rows,
            "elements": elements,
            "not_equal": different,
            "beyond": beyond,
            "largest_absolute": place(absolute),
            "largest_relative": place(relative),
            "nan": {"first": nan[0], "second": nan[1], "both": nan[2]},
            "infinite": infinite,
        })
    }
}
