//! IDX, the format of MNIST: a magic number with the element type and the number of axes, the axes as big-endian u32, and
//! the elements, big-endian too.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::MultiGzDecoder;
use parm::Dtype;
use parm::dtype::ByteOrder;
use parm::npy::{RowLayout, RowReader, Stored, read_full};
use parm_cli::Output;

use super::{Tensor, blocks, header};

/// The codes of the element types.
const TYPES: [(u8, Dtype); 6] = [
    (0x08, Dtype::U8),
    (0x09, Dtype::I8),
    (0x0b, Dtype::I16),
    (0x0c, Dtype::I32),
    (0x0d, Dtype::F32),
    (0x0e, Dtype::F64),
];

pub(super) struct Item {
    file: File,
    /// Where the data begin.
    begin: u64,
    layout: RowLayout,
    rows: u64,
}

impl Item {
    pub(super) fn new(mut file: File) -> Result<Self> {
        let mut magic = [0; 2];
        read_full(&mut file, &mut magic)?;
        file.seek(SeekFrom::Start(0))?;
        if magic == [0x1f, 0x8b] {
            let mut plain = tempfile::tempfile().context("cannot create a temporary file")?;
            io::copy(&mut MultiGzDecoder::new(file), &mut plain).context("cannot decompress gzip")?;
            plain.seek(SeekFrom::Start(0))?;
            file = plain;
        }
        let mut words = Vec::new();
        (&mut file).take(4).read_to_end(&mut words)?;
        let &[0, 0, code, axes] = &words[..] else {
            bail!(
                "found {words:02x?} at its beginning, expected IDX: 00 00, an element type, and the number of axes"
            );
        };
        let known = TYPES.into_iter().find(|(known, _)| *known == code);
        let (_, dtype) = known
            .with_context(|| format!("found the element type {code:02x}, expected 08, 09 or 0b to 0e"))?;
        let mut sizes = Vec::new();
        (&mut file).take(4 * u64::from(axes)).read_to_end(&mut sizes)?;
        let sizes: Vec<usize> =
            sizes.as_chunks().0.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
        let Some((&rows, shape)) = sizes.split_first().filter(|_| sizes.len() == usize::from(axes)) else {
            bail!(
                "truncated header: found {}, expected {axes} of them, at least 1",
                parm::counted(sizes.len(), "axis")
            );
        };
        let bytes = sizes.iter().try_fold(dtype.size() as u64, |bytes, &size| bytes.checked_mul(size as u64));
        let bytes = bytes.with_context(|| format!("found shape {sizes:?}, whose size overflows"))?;
        let begin = 4 + 4 * u64::from(axes);
        let found = file.metadata()?.len() - begin;
        ensure!(found == bytes, "found {found} bytes of data, expected {bytes} for shape {sizes:?}");
        Ok(Self { file, begin, layout: RowLayout::new(dtype, shape), rows: rows as u64 })
    }

    pub(super) fn open(&mut self) -> Result<Box<dyn Read + '_>> {
        let header = header(self.layout.clone(), self.rows, ByteOrder::Big, Stored::AsTyped)?;
        self.file.seek(SeekFrom::Start(self.begin))?;
        Ok(Box::new(Cursor::new(header).chain(&mut self.file)))
    }
}

/// Writes a tensor.
pub(super) fn write(tensor: &Tensor, rows: &mut RowReader<impl Read>, mut output: Output) -> Result<()> {
    let layout = &tensor.layout;
    let code = TYPES.into_iter().find(|(_, dtype)| *dtype == layout.dtype).map(|(code, _)| code);
    let code = code.with_context(|| {
        format!(
            "{}: found rows of {layout}, expected u1, i1, i2, i4, f4 or f8 for IDX (see parm-data cast)",
            tensor.name
        )
    })?;
    let mut header = vec![0, 0, code, u8::try_from(layout.shape.len() + 1)?];
    for size in std::iter::once(tensor.rows).chain(layout.shape.iter().map(|&size| size as u64)) {
        let size = u32::try_from(size)
            .with_context(|| format!("{}: found an axis of {size}, expected below 2^32", tensor.name))?;
        header.extend(size.to_be_bytes());
    }
    output.write_all(&header)?;
    let mut swapped = Vec::new();
    blocks(rows, |block| {
        swapped.clear();
        swapped.extend_from_slice(block);
        swapped.chunks_exact_mut(layout.dtype.size()).for_each(<[u8]>::reverse);
        Ok(output.write_all(&swapped)?)
    })?;
    output.commit()
}
