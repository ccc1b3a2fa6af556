//! Operations on streams. Each function returns the line that --verbose prints.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};

use anyhow::{Context, Result, bail};
use parm::counted;
use parm::dtype::ByteOrder;
use parm::npy::{Order, RowReader, RowWriter};
use parm_cli::input::{Reading, Source, check_stdin};
use parm_cli::output::commit;
use parm_cli::tools::data::{Cat, Info, Shuffle, Slice};
use parm_cli::{Input, Io, Output, Usage};
use serde_json::json;

use crate::examples;

/// Describes the items of streams.
pub(crate) fn info(options: &Info, io: &mut Io) -> Result<String> {
    check_stdin(&options.inputs)?;
    let mut text = String::new();
    for input in &options.inputs {
        let mut rows = input.rows(io, options.read.reading())?;
        let layout = rows.layout().clone();
        let mut items = Vec::new();
        loop {
            items.push(rows.header().clone());
            rows.skip_item()?;
            if !rows.next_item()? {
                break;
            }
        }
        let total: u64 = items.iter().map(|item| item.rows).sum();
        let order = |order| if order == Order::C { "C" } else { "Fortran" };
        let byte_order = |order| if order == ByteOrder::Little { "little" } else { "big" };
        if options.json {
            let items: Vec<_> = items
                .iter()
                .map(|item| {
                    let (order, byte_order) = (order(item.order), byte_order(item.byte_order));
                    json!({"rows": item.rows, "order": order, "byte_order": byte_order})
                })
                .collect();
            let description = json!({
                "stream": input.to_string(),
                "rows": total,
                "dtype": layout.dtype.name(),
                "shape": layout.shape,
                "items": items,
            });
            writeln!(text, "{description}")?;
        } else {
            writeln!(
                text,
                "{input}: {} of {layout}, {}",
                counted(total, "row"),
                counted(items.len(), "item")
            )?;
            for (index, item) in items.iter().enumerate() {
                let (order, byte_order) = (order(item.order), byte_order(item.byte_order));
                writeln!(
                    text,
                    "  item {}: {}, {order} order, {byte_order}-endian",
                    index + 1,
                    counted(item.rows, "row")
                )?;
            }
        }
    }
    io.print(&text)?;
    Ok(format!("described {}", counted(options.inputs.len(), "stream")))
}

/// Joins streams into one item.
pub(crate) fn cat(options: &Cat, io: &mut Io) -> Result<String> {
    check_stdin(&options.inputs)?;
    let reading = options.read.reading();
    let mut inputs = Vec::new();
    let mut total = 0;
    for input in &options.inputs {
        let mut twice = Twice::new(input, io, reading)?;
        total += twice.open(io, reading)?.skip_rest()?;
        inputs.push(twice);
    }
    let mut output: Option<RowWriter<Output>> = None;
    let mut buffer = Vec::new();
    for mut twice in inputs {
        let mut rows = twice.open(io, reading)?;
        let output = match &mut output {
            Some(output) if output.layout() != rows.layout() => bail!(
                "{}: found rows of {}, expected {} as in {}",
                rows.name(),
                rows.layout(),
                output.layout(),
                options.inputs[0]
            ),
            Some(output) => output,
            None => {
                let mut new = options.write.rows(io, rows.layout().clone())?;
                new.announce(total);
                output.insert(new)
            }
        };
        copy_rows(&mut rows, u64::MAX, Some(output), &mut buffer)?;
    }
    let output = output.context("no stream to join")?;
    commit(output)?;
    Ok(format!("joined {} of {}", counted(options.inputs.len(), "stream"), counted(total, "row")))
}

/// A stream that can be read twice: a regular file, or a copy of another input in an unnamed temporary file.
struct Twice {
    input: Input,
    copy: Option<File>,
}

impl Twice {
    fn new(input: &Input, io: &mut Io, reading: Reading) -> Result<Self> {
        let regular =
            matches!(input, Input::Path(path) if fs::metadata(path).is_ok_and(|data| data.is_file()));
        let copy = if regular {
            None
        } else {
            let mut bytes = input.bytes(io, reading)?;
            let mut copy = tempfile::tempfile().context("cannot create a temporary file")?;
            io::copy(&mut bytes, &mut copy).with_context(|| format!("{input}: cannot copy"))?;
            Some(copy)
        };
        Ok(Self { input: input.clone(), copy })
    }

    fn open(&mut self, io: &mut Io, reading: Reading) -> Result<RowReader<Source>> {
        match &mut self.copy {
            None => self.input.rows(io, reading),
            Some(copy) => {
                copy.seek(SeekFrom::Start(0))?;
                Ok(RowReader::new(Box::new(copy.try_clone()?) as Source, self.input.to_string())?)
            }
        }
    }
}

/// Copies up to `count` rows to an output, or skips them; returns their number.
fn copy_rows(
    rows: &mut RowReader<Source>,
    count: u64,
    mut output: Option<&mut RowWriter<Output>>,
    buffer: &mut Vec<u8>,
) -> Result<u64> {
    let (row_bytes, block_rows) = (rows.layout().bytes(), rows.layout().rows_per_block());
    let mut copied = 0;
    while copied < count {
        let wanted = (block_rows as u64).min(count - copied) as usize;
        let read = rows.read_raw(wanted, buffer)?;
        if let Some(output) = &mut output {
            output.write_raw(&buffer[..read * row_bytes])?;
        }
        copied += read as u64;
        if read < wanted {
            break;
        }
    }
    Ok(copied)
}

/// Takes a range of rows. Items of the output follow those of the input.
pub(crate) fn slice(options: &Slice, io: &mut Io) -> Result<String> {
    let mut rows = options.input.rows(io, options.read.reading())?;
    let layout = rows.layout().clone();
    let (start, stop) = (options.rows.start, options.rows.stop.unwrap_or(u64::MAX));
    let mut output = options.write.rows(io, layout.clone())?;
    let mut buffer = Vec::new();
    let (mut position, mut taken) = (0, 0);
    // Item by item, since the header of each part comes before its rows.
    while position < stop {
        let end = position + rows.header().rows;
        let (from, to) = (start.clamp(position, end), stop.clamp(position, end));
        output.announce(to.saturating_sub(from));
        copy_rows(&mut rows, from - position, None, &mut buffer)?;
        taken += copy_rows(&mut rows, to.saturating_sub(from), Some(&mut output), &mut buffer)?;
        // Rows after the range are not read.
        if to < end || !rows.next_item()? {
            break;
        }
        position = end;
    }
    commit(output)?;
    Ok(format!("took {}", counted(taken, "row")))
}

/// Shuffles streams of the same number of rows in the same order.
pub(crate) fn shuffle(options: &Shuffle, io: &mut Io) -> Result<String> {
    check_stdin(&options.inputs)?;
    if options.inputs.len() != options.output.len() {
        return Err(Usage::error(format!(
            "found {} streams and {} outputs, expected an --output for each stream",
            options.inputs.len(),
            options.output.len()
        )));
    }
    let mut order: Option<Vec<usize>> = None;
    let mut outputs = Vec::new();
    for (input, target) in options.inputs.iter().zip(&options.output) {
        let mut rows = input.rows(io, options.read.reading())?;
        let layout = rows.layout().clone();
        let mut data = Vec::new();
        let count = rows.read_raw(usize::MAX, &mut data)?;
        let order = order.get_or_insert_with(|| examples::order(count, options.seed));
        if order.len() != count {
            bail!("{input}: found {count} rows, expected {} as in {}", order.len(), options.inputs[0]);
        }
        let mut output = target.rows(io, options.compress.compression(), layout.clone())?;
        output.announce(count as u64);
        let row_bytes = layout.bytes();
        let mut block = Vec::new();
        for rows in order.chunks(layout.rows_per_block()) {
            block.clear();
            for row in rows {
                block.extend_from_slice(&data[row * row_bytes..][..row_bytes]);
            }
            output.write_raw(&block)?;
        }
        outputs.push(output);
    }
    // Outputs are committed last, so that a stream that does not fit leaves none.
    outputs.into_iter().try_for_each(commit)?;
    let rows = order.map_or(0, |order| order.len());
    Ok(format!("shuffled {} of {}", counted(options.inputs.len(), "stream"), counted(rows, "row")))
}
