//! NumPy's archives: zip files with an `.npy` item for each array.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use anyhow::{Context, Result};
use parm::npy::RowWriter;
use parm_cli::Output;
use zip::read::ZipArchive;
use zip::write::{FileOptions, ZipWriter};
use zip::{CompressionMethod, DateTime};

use super::{Container, Tensor, blocks};

pub(super) struct Archive(ZipArchive<BufReader<File>>);

impl Archive {
    /// Opens an archive, and lists its arrays.
    pub(super) fn new(file: File) -> Result<(Self, Vec<Option<String>>)> {
        let mut zip = ZipArchive::new(BufReader::new(file)).context("cannot read the archive")?;
        let mut names = Vec::new();
        for at in 0..zip.len() {
            let member = zip.by_index_raw(at).context("cannot read the archive")?;
            let name = member.name().strip_suffix(".npy").with_context(|| {
                format!("found the member '{}', expected arrays of NumPy, NAME.npy", member.name())
            })?;
            names.push(Some(name.to_owned()));
        }
        Ok((Self(zip), names))
    }

    pub(super) fn open(&mut self, at: usize) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.by_index(at)?))
    }
}

/// Writes an archive without compression, as `numpy.savez` does.
pub(super) fn write(files: &mut [Container], tensors: &[Tensor], mut output: Output) -> Result<()> {
    // Sizes and sums stand before the data, and are known after them.
    let mut zip = ZipWriter::new(tempfile::tempfile().context("cannot create a temporary file")?);
    for tensor in tensors {
        let options = FileOptions::default()
            .compression_method(CompressionMethod::Stored)
            // The same bytes on every day.
            .last_modified_time(DateTime::default())
            .large_file(tensor.bytes() >= u64::from(u32::MAX) / 2);
        zip.start_file(format!("{}.npy", tensor.name), options)?;
        let mut writer = RowWriter::new(&mut zip, tensor.layout.clone());
        writer.announce(tensor.rows);
        blocks(&mut tensor.rows(files)?, |block| Ok(writer.write_raw(block)?))?;
        writer.finish()?;
    }
    let mut file = zip.finish()?;
    file.seek(SeekFrom::Start(0))?;
    io::copy(&mut file, &mut output)?;
    output.commit()
}
