//! CSV: a row of numbers in each line. A first line that has something else in the columns that are read is a header.

use std::fs::File;
use std::io::{self, BufWriter, Cursor, IntoInnerError, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail};
use csv::{ReaderBuilder, StringRecord, Trim};
use half::f16;
use parm::Dtype;
use parm::dtype::ByteOrder;
use parm::npy::{RowLayout, RowReader, Stored};
use parm_cli::Output;

use super::{blocks, header};

/// Lines that are converted at a time.
const LINES: usize = 256;

pub(super) struct Table {
    file: File,
    has_header: bool,
    /// The columns that are read.
    columns: Vec<usize>,
    /// i8, or u8 or f8 if not all numbers are of that type.
    dtype: Dtype,
    rows: u64,
}

impl Table {
    /// Reads the table once, for the number of its rows and the type of its numbers.
    pub(super) fn new(file: File, names: &[String]) -> Result<Self> {
        let mut table = Self { file, has_header: false, columns: Vec::new(), dtype: Dtype::I64, rows: 0 };
        let mut first = StringRecord::new();
        if !reader(table.begin()?).read_record(&mut first)? {
            bail!("found no line in it, expected CSV");
        }
        table.columns = match names {
            [] => (0..first.len()).collect(),
            names => names.iter().map(|name| column(name, &first)).collect::<Result<_>>()?,
        };
        table.has_header = table.columns.iter().any(|&column| first[column].parse::<f64>().is_err());
        let (columns, has_header, mut rows) = (table.columns.clone(), table.has_header, 0);
        let (mut signed, mut unsigned) = (true, true);
        let mut lines = reader(table.begin()?);
        let mut record = StringRecord::new();
        while lines.read_record(&mut record)? {
            rows += 1;
            if rows == 1 && has_header {
                continue;
            }
            for &column in &columns {
                let field = &record[column];
                signed &= field.parse::<i64>().is_ok();
                unsigned &= field.parse::<u64>().is_ok();
                if field.parse::<f64>().is_err() {
                    let line = record.position().map_or(0, csv::Position::line);
                    bail!("line {line}, column {column}: found '{field}', expected a number");
                }
            }
        }
        table.rows = rows - u64::from(has_header);
        table.dtype = match (signed, unsigned) {
            (true, _) => Dtype::I64,
            (false, true) => Dtype::U64,
            (false, false) => Dtype::F64,
        };
        Ok(table)
    }

    fn begin(&mut self) -> Result<&File> {
        self.file.seek(SeekFrom::Start(0))?;
        Ok(&self.file)
    }

    pub(super) fn open(&mut self) -> Result<Box<dyn Read + '_>> {
        self.begin()?;
        let shape = if self.columns.len() == 1 { vec![] } else { vec![self.columns.len()] };
        let header =
            header(RowLayout::new(self.dtype, shape), self.rows, ByteOrder::Little, Stored::AsTyped)?;
        let mut lines = reader(&self.file);
        if self.has_header {
            lines.read_record(&mut StringRecord::new())?;
        }
        Ok(Box::new(Elements { table: self, lines, ready: Cursor::new(header) }))
    }
}

fn reader(file: &File) -> csv::Reader<&File> {
    ReaderBuilder::new().has_headers(false).trim(Trim::All).from_reader(file)
}

/// The column of a number, or of a name in the header.
fn column(name: &str, first: &StringRecord) -> Result<usize> {
    let numbered = name.parse().ok().filter(|&number| number < first.len());
    numbered.or_else(|| first.iter().position(|field| field == name)).with_context(|| {
        let names: Vec<_> = first.iter().collect();
        format!("found no column '{name}', expected one of {}, or 0 to {}", names.join(", "), first.len() - 1)
    })
}

/// The numbers of a table as little-endian elements, after the header of an item.
struct Elements<'a> {
    table: &'a Table,
    lines: csv::Reader<&'a File>,
    ready: Cursor<Vec<u8>>,
}

impl Elements<'_> {
    /// Converts further lines; false at the end.
    fn advance(&mut self) -> Result<bool> {
        let mut bytes = Vec::new();
        let mut record = StringRecord::new();
        for _ in 0..LINES {
            if !self.lines.read_record(&mut record)? {
                break;
            }
            for &column in &self.table.columns {
                let field = &record[column];
                bytes.extend(match self.table.dtype {
                    Dtype::I64 => field.parse::<i64>()?.to_le_bytes(),
                    Dtype::U64 => field.parse::<u64>()?.to_le_bytes(),
                    _ => field.parse::<f64>()?.to_le_bytes(),
                });
            }
        }
        self.ready = Cursor::new(bytes);
        Ok(!self.ready.get_ref().is_empty())
    }
}

impl Read for Elements<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.ready.read(buffer)?;
            if read > 0 || buffer.is_empty() || !self.advance().map_err(io::Error::other)? {
                return Ok(read);
            }
        }
    }
}

/// Writes a row in each line, without a header.
pub(super) fn write(rows: &mut RowReader<impl Read>, output: Output) -> Result<()> {
    let layout = rows.layout().clone();
    let mut lines = BufWriter::new(output);
    blocks(rows, |block| {
        for row in block.chunks_exact(layout.bytes()) {
            for (at, element) in row.chunks_exact(layout.dtype.size()).enumerate() {
                if at > 0 {
                    lines.write_all(b",")?;
                }
                write_element(layout.dtype, element, &mut lines)?;
            }
            lines.write_all(b"\n")?;
        }
        Ok(())
    })?;
    lines.into_inner().map_err(IntoInnerError::into_error)?.commit()
}

/// The shortest text that gives the same number again.
fn write_element(dtype: Dtype, bytes: &[u8], to: &mut impl Write) -> io::Result<()> {
    match (dtype, bytes) {
        (Dtype::F16, &[a, b]) => write!(to, "{}", f16::from_le_bytes([a, b])),
        (Dtype::F32, &[a, b, c, d]) => write!(to, "{}", f32::from_le_bytes([a, b, c, d])),
        (Dtype::F64, _) => {
            bytes.as_chunks().0.iter().try_for_each(|bytes| write!(to, "{}", f64::from_le_bytes(*bytes)))
        }
        _ => dtype.integers(bytes).into_iter().flatten().try_for_each(|integer| write!(to, "{integer}")),
    }
}
