//! The IDX format of MNIST: a magic number with the element type and the number of axes, the axes as
//! big-endian u32, and the elements, big-endian too. Integers are read; the file may be gzip.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use parm::Dtype;

pub use crate::error::IdxError;
use crate::error::{At, DataError, Doing, Fault};
use crate::limits::MAX_PIXELS;

/// The most bytes of items that are read at a time, unless one is larger.
const BLOCK_BYTES: usize = 1 << 20;

/// An IDX file, read up to its items.
pub struct IdxFile<const AXES: usize> {
    path: PathBuf,
    /// The number of items, and the shape of each.
    pub axes: [usize; AXES],
    /// The type of the elements.
    pub dtype: Dtype,
    source: Box<dyn Read>,
    size: u64,
    read: u64,
}

impl<const AXES: usize> IdxFile<AXES> {
    /// Opens a file and reads its header. Labels are integers, items of more axes bytes. `what` describes
    /// it in messages, as "labels `[N]`".
    pub fn open(path: &Path, what: &'static str) -> Result<Self, DataError> {
        let mut file = File::open(path).doing("open").at(path)?;
        let mut magic = Vec::new();
        file.by_ref().take(2).read_to_end(&mut magic).doing("read").at(path)?;
        let gzip = magic == [0x1f, 0x8b];
        let whole = Cursor::new(magic).chain(file);
        let mut source: Box<dyn Read> =
            if gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
        let (axes, dtype, size) = header(&mut source, what).at(path)?;
        Ok(Self { path: path.to_owned(), axes, dtype, source, size, read: 0 })
    }

    /// Bytes of one item.
    #[must_use]
    pub fn item_bytes(&self) -> usize {
        self.axes[1..].iter().product::<usize>() * self.dtype.size()
    }

    /// Replaces `items` by the next items, little-endian: up to a megabyte, or one larger item. Returns their
    /// number; 0 at the end of the file, which is checked with the last item.
    pub fn read(&mut self, items: &mut Vec<u8>) -> Result<usize, DataError> {
        let count = (BLOCK_BYTES / self.item_bytes().max(1)).max(1);
        let wanted = (count as u64).saturating_mul(self.item_bytes() as u64).min(self.size - self.read);
        items.clear();
        self.source.by_ref().take(wanted).read_to_end(items).doing("read").at(&self.path)?;
        self.read += items.len() as u64;
        let (expected, axes) = (self.size, || self.axes.to_vec());
        if (items.len() as u64) < wanted {
            return Err(IdxError::Truncated { found: self.read, expected, axes: axes() }).at(&self.path);
        }
        if self.read == self.size {
            let mut more = Vec::new();
            self.source.by_ref().take(1).read_to_end(&mut more).doing("read").at(&self.path)?;
            if !more.is_empty() {
                return Err(IdxError::TooLong { expected, axes: axes() }).at(&self.path);
            }
        }
        if self.dtype.size() > 1 {
            items.chunks_exact_mut(self.dtype.size()).for_each(<[u8]>::reverse);
        }
        Ok(items.len() / self.item_bytes().max(1))
    }
}

/// Reads the header: the axes, the element type, and the bytes that follow.
fn header<const AXES: usize>(
    source: &mut impl Read,
    what: &'static str,
) -> Result<([usize; AXES], Dtype, u64), Fault> {
    let mut header = Vec::new();
    source.take(4 + 4 * AXES as u64).read_to_end(&mut header).doing("read")?;
    let (words, _) = header.as_chunks::<4>();
    let Some((&found, words)) = words.split_first().filter(|(_, axes)| axes.len() == AXES) else {
        return Err(IdxError::Header { what }.into());
    };
    let dtype = match found {
        [0, 0, 0x08, _] => Some(Dtype::U8),
        [0, 0, 0x09, _] => Some(Dtype::I8),
        [0, 0, 0x0b, _] => Some(Dtype::I16),
        [0, 0, 0x0c, _] => Some(Dtype::I32),
        _ => None,
    };
    let (types, fits): (_, fn(Dtype) -> bool) =
        if AXES == 1 { ("08, 09, 0b or 0c", |_| true) } else { ("08", |dtype| dtype == Dtype::U8) };
    let dtype = dtype.filter(|&dtype| usize::from(found[3]) == AXES && fits(dtype));
    let dtype = dtype.ok_or(IdxError::Magic { found, types, axes: AXES as u8, what })?;
    let axes: Vec<usize> = words.iter().map(|&word| u32::from_be_bytes(word) as usize).collect();
    if axes[1..].contains(&0) {
        return Err(IdxError::Empty(axes[1..].to_vec()).into());
    }
    let bytes = |axes: &[usize]| {
        axes.iter().try_fold(dtype.size() as u64, |bytes, &axis| bytes.checked_mul(axis as u64))
    };
    let size = bytes(&axes).ok_or_else(|| IdxError::Overflow(axes.clone()))?;
    if bytes(&axes[1..]).is_none_or(|bytes| bytes > MAX_PIXELS) {
        return Err(IdxError::Large(axes[1..].to_vec()).into());
    }
    let axes = axes.try_into().map_err(|_| IdxError::Header { what })?;
    Ok((axes, dtype, size))
}
