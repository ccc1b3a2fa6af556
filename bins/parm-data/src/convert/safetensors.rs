//! safetensors: the length of a header, the header in JSON, and little-endian bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail, ensure};
use parm::Dtype;
use parm::dtype::ByteOrder;
use parm::npy::{RowLayout, Stored, Widened, read_full};
use parm_cli::Output;
use safetensors::tensor::{self, Metadata, TensorInfo};

use super::{Container, Tensor, blocks, header};

/// The longest header, as the library of safetensors has it.
const MAX_HEADER: u64 = 100_000_000;

/// The element types of both.
const TYPES: [(tensor::Dtype, Dtype); 12] = [
    (tensor::Dtype::BOOL, Dtype::Bool),
    (tensor::Dtype::I8, Dtype::I8),
    (tensor::Dtype::I16, Dtype::I16),
    (tensor::Dtype::I32, Dtype::I32),
    (tensor::Dtype::I64, Dtype::I64),
    (tensor::Dtype::U8, Dtype::U8),
    (tensor::Dtype::U16, Dtype::U16),
    (tensor::Dtype::U32, Dtype::U32),
    (tensor::Dtype::U64, Dtype::U64),
    (tensor::Dtype::F16, Dtype::F16),
    (tensor::Dtype::F32, Dtype::F32),
    (tensor::Dtype::F64, Dtype::F64),
];

pub(super) struct Archive {
    file: File,
    /// Where the data begin.
    begin: u64,
    tensors: Vec<TensorInfo>,
}

impl Archive {
    /// Opens a file, and lists its tensors in the order of their data.
    pub(super) fn new(mut file: File) -> Result<(Self, Vec<Option<String>>)> {
        let mut length = [0; 8];
        let found = read_full(&mut file, &mut length)?;
        ensure!(
            found == 8,
            "truncated: found {found} bytes, expected the length of a safetensors header, 8 bytes"
        );
        let length = u64::from_le_bytes(length);
        ensure!(length <= MAX_HEADER, "found a header of {length} bytes, expected at most {MAX_HEADER}");
        let mut text = Vec::new();
        (&mut file).take(length).read_to_end(&mut text)?;
        let found = text.len();
        ensure!(found as u64 == length, "truncated header: found {found} bytes, expected {length}");
        let metadata: Metadata = serde_json::from_slice(&text).context("malformed header of safetensors")?;
        let (begin, found) = (8 + length, file.metadata()?.len());
        let expected = begin + metadata.data_len() as u64;
        ensure!(found == expected, "found {found} bytes, expected {expected} as the header says");
        let names = metadata.offset_keys();
        let tensors = names.iter().filter_map(|name| metadata.info(name).cloned()).collect();
        Ok((Self { file, begin, tensors }, names.into_iter().map(Some).collect()))
    }

    pub(super) fn open(&mut self, at: usize) -> Result<Box<dyn Read + '_>> {
        let info = &self.tensors[at];
        let known = TYPES.into_iter().find(|(theirs, _)| *theirs == info.dtype);
        let (dtype, stored) = match known {
            Some((_, dtype)) => (dtype, Stored::AsTyped),
            None if info.dtype == tensor::Dtype::BF16 => (Dtype::F32, Stored::Bfloat16),
            None => bail!("found elements of type {}, which .npy does not have", info.dtype),
        };
        let Some((&rows, shape)) = info.shape.split_first() else {
            bail!("found a single number (shape []), expected rows along axis 0");
        };
        let header = header(RowLayout::new(dtype, shape), rows as u64, ByteOrder::Little, stored)?;
        let (first, end) = info.data_offsets;
        self.file.seek(SeekFrom::Start(self.begin + first as u64))?;
        let data = (&mut self.file).take((end - first) as u64);
        Ok(Box::new(Widened::new(Cursor::new(header).chain(data))))
    }
}

/// Writes all tensors.
pub(super) fn write(files: &mut [Container], tensors: &[Tensor], mut output: Output) -> Result<()> {
    let mut infos = Vec::new();
    let mut end = 0;
    for Tensor { name, layout, rows, .. } in tensors {
        let begin = end;
        end += usize::try_from(*rows)? * layout.bytes();
        let dtype = TYPES.into_iter().find(|(_, ours)| *ours == layout.dtype).map(|(theirs, _)| theirs);
        let shape = std::iter::once(usize::try_from(*rows)?).chain(layout.shape.iter().copied()).collect();
        let dtype = dtype.context("an element type that safetensors does not have")?;
        infos.push((name.clone(), TensorInfo { dtype, shape, data_offsets: (begin, end) }));
    }
    let metadata = HashMap::from([("format".to_owned(), "np".to_owned())]);
    let mut text = serde_json::to_vec(&Metadata::new(Some(metadata), infos)?)?;
    // The data begin at a multiple of 8.
    text.resize(text.len().next_multiple_of(8), b' ');
    output.write_all(&(text.len() as u64).to_le_bytes())?;
    output.write_all(&text)?;
    for tensor in tensors {
        blocks(&mut tensor.rows(files)?, |block| Ok(output.write_all(block)?))?;
    }
    output.commit()
}
