//! Files of tensors: NumPy's archives, safetensors, CSV and IDX.
//!
//! A tensor of any format is read as an `.npy` stream, so that there is one reader of rows: [`Container::open`] puts a header
//! before the bytes as they lie in the file. Each tensor is read twice: for its number of rows, which stands before
//! them in most formats, and for the rows. So memory does not depend on the size of the files.

mod csv;
mod idx;
mod npz;
mod safetensors;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use parm::counted;
use parm::hash::hexadecimal;
use parm::npy::{ItemHeader, Order, RowLayout, RowReader, Widened, decompress, read_full};
use parm_cli::input::{Reading, check_stdin};
use parm_cli::output::{Output, Target, commit};
use parm_cli::tools::data::{Convert, Format};
use parm_cli::{Input, Io, Usage};

use crate::streams::to_file;

/// Converts files of tensors; returns the line that --verbose prints.
pub(crate) fn convert(options: &Convert, io: &mut Io) -> Result<String> {
    check_stdin(&options.inputs)?;
    let to = match (options.to, &options.write.output) {
        (Some(format), _) => format,
        (None, Target::Stdout) => Format::Npy,
        (None, Target::Path(path)) => of_name(path).ok_or_else(|| {
            let names = "a name that ends in .npy, .npz, .safetensors, .csv or .idx, or --to";
            Usage::error(format!("found the output {}, expected {names}", path.display()))
        })?,
    };
    let mut files = Vec::new();
    for input in &options.inputs {
        files.push(Container::open_file(input, options, io)?);
    }
    let chosen = choose(&mut files, options)?;
    let output = options.write.output.create(io, options.write.compress.compression())?;
    match (to, &chosen[..]) {
        (Format::Npz, _) => npz::write(&mut files, &chosen, output)?,
        (Format::Safetensors, _) => safetensors::write(&mut files, &chosen, output)?,
        (_, [tensor]) => write_one(to, &mut files, tensor, output)?,
        (_, tensors) => {
            let names: Vec<_> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            return Err(Usage::error(format!(
                "found {} tensors, {}, expected one for this format: choose it with --name",
                names.len(),
                names.join(", ")
            )));
        }
    }
    let rows: u64 = chosen.iter().map(|tensor| tensor.rows).sum();
    Ok(format!("converted {} of {}", counted(chosen.len(), "tensor"), counted(rows, "row")))
}

fn write_one(to: Format, files: &mut [Container], tensor: &Tensor, output: Output) -> Result<()> {
    match to {
        Format::Csv => csv::write(&mut tensor.rows(files)?, output),
        Format::Idx => idx::write(tensor, &mut tensor.rows(files)?, output),
        _ => {
            let mut rows = tensor.rows(files)?;
            let mut writer = parm::npy::RowWriter::new(output, tensor.layout.clone());
            writer.announce(tensor.rows);
            blocks(&mut rows, |block| Ok(writer.write_raw(block)?))?;
            commit(writer)
        }
    }
}

/// The format of a file of this name, if its extension says it.
fn of_name(path: &Path) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".zst").unwrap_or(&name);
    let endings = [
        (".npy", Format::Npy),
        (".npz", Format::Npz),
        (".safetensors", Format::Safetensors),
        (".csv", Format::Csv),
        (".idx", Format::Idx),
        // As MNIST's files are named.
        ("-ubyte", Format::Idx),
    ];
    endings.into_iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| format)
}

/// The format of a file that begins with these bytes, 9 of them if it has as many.
fn of_begin(begin: &[u8]) -> Option<Format> {
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..);
    match begin {
        // A stream, which may be compressed with zstd.
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Format::Npy),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Some(Format::Npz),
        [0x1f, 0x8b, ..] | [0, 0, 0x08..=0x0e, ..] => Some(Format::Idx),
        // The length of the header, of less than 2^32 bytes, and the header's first brace.
        [_, _, _, _, 0, 0, 0, 0, b'{'] => Some(Format::Safetensors),
        text if !text.is_empty() && text.iter().all(is_text) => Some(Format::Csv),
        _ => None,
    }
}

/// A file of tensors.
struct Container {
    input: Input,
    reading: Reading,
    kind: Kind,
    /// The names of the tensors, in their order; a tensor without a name has none.
    names: Vec<Option<String>>,
}

enum Kind {
    Npy(File),
    Npz(npz::Archive),
    Safetensors(safetensors::Archive),
    Csv(csv::Table),
    Idx(idx::Item),
}

impl Container {
    fn open_file(input: &Input, options: &Convert, io: &mut Io) -> Result<Self> {
        let mut file = to_file(input, io)?;
        let mut begin = [0; 9];
        let found = read_full(&mut file, &mut begin)?;
        file.seek(SeekFrom::Start(0))?;
        let format = options.from.or_else(|| of_begin(&begin[..found])).with_context(|| {
            let found = hexadecimal(&begin[..found]);
            format!(
                "{input}: found a file that begins with {found}, expected npy, npz, safetensors, CSV or IDX"
            )
        })?;
        if !options.columns.is_empty() && format != Format::Csv {
            return Err(Usage::error(format!("--columns goes with CSV, found {input} of another format")));
        }
        let one = vec![None];
        let opened = match format {
            Format::Npy => Ok((Kind::Npy(file), one)),
            Format::Npz => npz::Archive::new(file).map(|(archive, names)| (Kind::Npz(archive), names)),
            Format::Safetensors => {
                safetensors::Archive::new(file).map(|(archive, names)| (Kind::Safetensors(archive), names))
            }
            Format::Csv => csv::Table::new(file, &options.columns).map(|table| (Kind::Csv(table), one)),
            Format::Idx => idx::Item::new(file).map(|item| (Kind::Idx(item), one)),
        };
        let (kind, names) = opened.with_context(|| input.to_string())?;
        Ok(Self { input: input.clone(), reading: options.read.reading(), kind, names })
    }

    /// Opens a tensor from its beginning.
    fn open(&mut self, at: usize) -> Result<RowReader<Box<dyn Read + '_>>> {
        let name = match &self.names[at] {
            Some(name) => format!("{}: {name}", self.input),
            None => self.input.to_string(),
        };
        let source: Box<dyn Read> = match &mut self.kind {
            Kind::Npy(file) => {
                file.seek(SeekFrom::Start(0))?;
                let source = decompress(file, self.reading.window)?;
                if self.reading.bf16 { Box::new(Widened::new(source)) } else { source }
            }
            Kind::Npz(archive) => archive.open(at).with_context(|| name.clone())?,
            Kind::Safetensors(archive) => archive.open(at).with_context(|| name.clone())?,
            Kind::Csv(table) => table.open()?,
            Kind::Idx(item) => item.open()?,
        };
        Ok(RowReader::new(source, name)?)
    }

    /// The name of a tensor: its own, or that of the file.
    fn name(&self, at: usize) -> String {
        let of_file = || match &self.input {
            Input::Stdin => "data".into(),
            Input::Path(path) => {
                let name = path.file_name().map_or("data".into(), |name| name.to_string_lossy().into_owned());
                let stem = name.strip_suffix(".zst").unwrap_or(&name);
                stem.rsplit_once('.').map_or(stem, |(stem, _)| stem).to_owned()
            }
        };
        self.names[at].clone().unwrap_or_else(of_file)
    }
}

/// A tensor that is converted.
struct Tensor {
    file: usize,
    at: usize,
    name: String,
    layout: RowLayout,
    rows: u64,
}

impl Tensor {
    /// Its rows, from the first.
    fn rows<'a>(&self, files: &'a mut [Container]) -> Result<RowReader<Box<dyn Read + 'a>>> {
        files[self.file].open(self.at)
    }

    fn bytes(&self) -> u64 {
        self.rows * self.layout.bytes() as u64
    }
}

/// The tensors that the options ask for, in their order, with their sizes.
fn choose(files: &mut [Container], options: &Convert) -> Result<Vec<Tensor>> {
    let all: Vec<(usize, usize)> = files
        .iter()
        .enumerate()
        .flat_map(|(file, container)| (0..container.names.len()).map(move |at| (file, at)))
        .collect();
    let names: Vec<_> = all.iter().map(|&(file, at)| files[file].name(at)).collect();
    let chosen: Vec<((usize, usize), String)> = match (&options.name[..], &all[..]) {
        ([], _) => all.iter().copied().zip(names).collect(),
        // The name of a tensor without one.
        ([name], &[(file, at)]) if files[file].names[at].is_none() => vec![((file, at), name.clone())],
        (wanted, _) => {
            let mut chosen = Vec::new();
            for name in wanted {
                let at = names.iter().position(|found| found == name).with_context(|| {
                    format!(
                        "{}: found no tensor '{name}', expected one of {}",
                        files[0].input,
                        names.join(", ")
                    )
                })?;
                chosen.push((all[at], name.clone()));
            }
            chosen
        }
    };
    ensure!(!chosen.is_empty(), "{}: found no tensor in it", files[0].input);
    let mut tensors: Vec<Tensor> = Vec::new();
    for ((file, at), name) in chosen {
        if let Some(twice) = tensors.iter().find(|tensor| tensor.name == name) {
            let (first, second) = (&files[twice.file].input, &files[file].input);
            bail!("found two tensors of the name '{name}', in {first} and {second}, expected different ones");
        }
        let mut rows = files[file].open(at)?;
        let layout = rows.layout().clone();
        let count = rows.skip_rest()?;
        tensors.push(Tensor { file, at, name, layout, rows: count });
    }
    Ok(tensors)
}

/// Passes on all rows of a stream, in blocks.
fn blocks(rows: &mut RowReader<impl Read>, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let layout = rows.layout().clone();
    let mut block = Vec::new();
    loop {
        let read = rows.read_raw(layout.rows_per_block(), &mut block)?;
        rows.take_opened().for_each(drop);
        if read == 0 {
            return Ok(());
        }
        take(&block[..read * layout.bytes()])?;
    }
}

/// The header of an item in C order of this layout, as the files have it.
fn header(
    layout: RowLayout,
    rows: u64,
    byte_order: parm::dtype::ByteOrder,
    stored: parm::npy::Stored,
) -> Result<Vec<u8>> {
    Ok(ItemHeader { rows, layout, byte_order, order: Order::C, stored }.to_bytes()?)
}
