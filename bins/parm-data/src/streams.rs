//! Operations on streams. Each function returns the line that --verbose prints.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};

use anyhow::{Context, Result, bail};
use parm::counted;
use parm::npy::{RowReader, RowWriter};
use parm_cli::input::{Reading, Source, check_stdin};
use parm_cli::output::commit;
use parm_cli::tools::data::{Cat, Shuffle, Slice};
use parm_cli::{Input, Io, Output, Usage};

use crate::examples;

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

/// A file with the content of an input: itself if it is a regular file, or a copy in an unnamed temporary file.
pub(crate) fn to_file(input: &Input, io: &mut Io) -> Result<File> {
    if let Input::Path(path) = input
        && fs::metadata(path).is_ok_and(|data| data.is_file())
    {
        return File::open(path).with_context(|| format!("{input}: cannot open"));
    }
    copy_of(input, &mut input.source(io)?)
}

/// A temporary file with these bytes of an input, at its beginning.
fn copy_of(input: &Input, bytes: &mut Source) -> Result<File> {
    let mut copy = tempfile::tempfile().context("cannot create a temporary file")?;
    io::copy(bytes, &mut copy).with_context(|| format!("{input}: cannot copy"))?;
    copy.seek(SeekFrom::Start(0))?;
    Ok(copy)
}

/// A stream that can be read twice: a regular file, or a copy of another input in an unnamed temporary file.
pub(crate) struct Twice {
    input: Input,
    copy: Option<File>,
}

impl Twice {
    pub(crate) fn new(input: &Input, io: &mut Io, reading: Reading) -> Result<Self> {
        let regular =
            matches!(input, Input::Path(path) if fs::metadata(path).is_ok_and(|data| data.is_file()));
        let copy = if regular { None } else { Some(copy_of(input, &mut input.bytes(io, reading)?)?) };
        Ok(Self { input: input.clone(), copy })
    }

    pub(crate) fn open(&mut self, io: &mut Io, reading: Reading) -> Result<RowReader<Source>> {
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

/// Takes a range of rows. Items of the output follow those of the input; backwards, there is one.
pub(crate) fn slice(options: &Slice, io: &mut Io) -> Result<String> {
    let reading = options.read.reading();
    let (chosen, mut rows) = if let Some(chosen) = options.rows.fixed() {
        (chosen, options.input.rows(io, reading)?)
    } else {
        let mut twice = Twice::new(&options.input, io, reading)?;
        let total = twice.open(io, reading)?.skip_rest()?;
        (options.rows.of(total), twice.open(io, reading)?)
    };
    let layout = rows.layout().clone();
    let (row_bytes, block_rows) = (layout.bytes(), layout.rows_per_block());
    let mut output = options.write.rows(io, layout)?;
    let (mut block, mut kept) = (Vec::new(), Vec::new());
    let (mut position, mut taken) = (0, 0);
    // Item by item, since the header of each part comes before its rows.
    while position < chosen.end {
        let item_end = position + rows.header().rows;
        let (count, first) = chosen.within(position, item_end);
        if !chosen.backwards {
            output.announce(count);
        }
        taken += count;
        if count > 0 {
            copy_rows(&mut rows, first - position, None, &mut block)?;
            position = first;
        }
        let end = if count > 0 { first + (count - 1) * chosen.step + 1 } else { position };
        while position < end {
            let read = rows.read_raw(block_rows.min((end - position) as usize), &mut block)?;
            let (count, first) = chosen.within(position, position + read as u64);
            for i in 0..count {
                let at = (first + i * chosen.step - position) as usize * row_bytes;
                kept.extend_from_slice(&block[at..][..row_bytes]);
            }
            if !chosen.backwards {
                output.write_raw(&kept)?;
                kept.clear();
            }
            position += read as u64;
        }
        // Rows after the range are not read.
        if chosen.end <= item_end {
            break;
        }
        copy_rows(&mut rows, item_end - position, None, &mut block)?;
        if !rows.next_item()? {
            break;
        }
        position = item_end;
    }
    if chosen.backwards {
        output.announce(taken);
        kept.rchunks(row_bytes).try_for_each(|row| output.write_raw(row))?;
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
