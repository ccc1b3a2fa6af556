//! CIFAR-10 and CIFAR-100 in their binary version: records of labels and an image `[3, 32, 32]`.
//!
//! CIFAR-10 has the files `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, with one label a
//! record; CIFAR-100 `train.bin` and `test.bin`, with the coarse label before the fine one. The fine label is
//! read. Both sets are read from a directory or from the published archive. The members of the archive are
//! unordered; each is searched from the beginning.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

pub use crate::error::CifarError;
use crate::error::{At, DataError, Doing, Fault};

/// The shape of an image.
pub const SHAPE: [usize; 3] = [3, 32, 32];
/// Bytes of an image.
const IMAGE: usize = 3 * 32 * 32;

/// One of the two sets, in a directory or an archive.
#[derive(Clone, Debug)]
pub struct Cifar {
    path: PathBuf,
    place: Place,
    fine: bool,
    parts: Vec<(&'static str, u64)>,
    classes: Option<Vec<String>>,
}

#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    /// As .tar or .tar.gz.
    Archive,
}

/// The files of a set, by their names without directories, and the names of its classes.
#[derive(Default)]
struct Found {
    sizes: BTreeMap<String, u64>,
    classes: Option<String>,
}

impl Cifar {
    /// Recognises the set in a directory (or its `cifar-10-batches-bin` or `cifar-100-binary`) or in an
    /// archive.
    pub fn open(path: &Path, train: bool) -> Result<Self, DataError> {
        let (place, found) = if path.is_dir() {
            let inner = ["cifar-10-batches-bin", "cifar-100-binary"].map(|name| path.join(name));
            let directory = inner.into_iter().find(|inner| inner.is_dir()).unwrap_or(path.to_owned());
            let found = in_directory(&directory).at(&directory)?;
            (Place::Directory(directory), found)
        } else {
            (Place::Archive, in_archive(path).at(path)?)
        };
        let has = |name| found.sizes.contains_key(name);
        let (fine, names): (_, &[_]) = match (has("train.bin"), has("data_batch_1.bin"), train) {
            (true, _, true) => (true, &["train.bin"]),
            (true, _, false) => (true, &["test.bin"]),
            (_, true, true) => (false, &BATCHES),
            (_, true, false) => (false, &["test_batch.bin"]),
            (false, false, _) => {
                let pickled = has("data_batch_1") || has("train");
                return Err(CifarError::Unknown { pickled }).at(path);
            }
        };
        let record = record_bytes(fine);
        let part = |&name: &&'static str| {
            let &size = found.sizes.get(name).ok_or(CifarError::Missing(name))?;
            if size % record != 0 {
                return Err(CifarError::Size { file: name, found: size, record });
            }
            Ok((name, size / record))
        };
        let parts = names.iter().map(part).collect::<Result<_, _>>().at(path)?;
        let classes = found.classes.map(|text| text.split_whitespace().map(str::to_owned).collect());
        Ok(Self { path: path.to_owned(), place, fine, parts, classes })
    }

    /// Images of the split.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.parts.iter().map(|(_, records)| records).sum()
    }

    /// The names of the classes, if the set has them.
    #[must_use]
    pub fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    /// Passes each image and its label to `sink`, in the order of the set. An error of `sink` ends it.
    pub fn read<E: From<DataError>>(
        &self,
        mut sink: impl FnMut(&[u8], u8) -> Result<(), E>,
    ) -> Result<(), E> {
        for &(name, records) in &self.parts {
            match &self.place {
                Place::Directory(directory) => {
                    let path = directory.join(name);
                    let file = File::open(&path).doing("open").at(&path)?;
                    self.part(name, records, &mut BufReader::new(file), &mut sink)?;
                }
                Place::Archive => {
                    let mut archive = unpacked(&self.path).at(&self.path)?;
                    let mut entries = archive.entries().doing("read").at(&self.path)?;
                    let is_part = |entry: &io::Result<tar::Entry<_>>| {
                        entry.as_ref().is_err() || entry.as_ref().is_ok_and(|entry| file_name(entry) == name)
                    };
                    let entry = entries.find(is_part).ok_or(CifarError::Missing(name)).at(&self.path)?;
                    let mut entry = entry.doing("read").at(&self.path)?;
                    self.part(name, records, &mut entry, &mut sink)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the records of one file.
    fn part<E: From<DataError>>(
        &self,
        file: &'static str,
        records: u64,
        source: &mut impl Read,
        sink: &mut impl FnMut(&[u8], u8) -> Result<(), E>,
    ) -> Result<(), E> {
        let classes = if self.fine { 100 } else { 10 };
        let mut bytes = vec![0; record_bytes(self.fine) as usize];
        for record in 0..records {
            source
                .read_exact(&mut bytes)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => CifarError::Truncated { file, record }.into(),
                    _ => Fault::Io("read", error),
                })
                .at(&self.path)?;
            let (labels, image) = bytes.split_at(bytes.len() - IMAGE);
            let label = labels.last().copied().unwrap_or_default();
            if label >= classes {
                return Err(CifarError::Label { file, record, label, classes }).at(&self.path)?;
            }
            sink(image, label)?;
        }
        Ok(())
    }
}

const BATCHES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];

/// The files that name the classes, one a line.
const CLASSES: [&str; 2] = ["batches.meta.txt", "fine_label_names.txt"];

/// Bytes of a record.
fn record_bytes(fine: bool) -> u64 {
    (if fine { 2 } else { 1 }) + IMAGE as u64
}

fn in_directory(directory: &Path) -> Result<Found, Fault> {
    let mut found = Found::default();
    for entry in fs::read_dir(directory).doing("read")? {
        let entry = entry.doing("read")?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if CLASSES.contains(&&*name) {
            found.classes = Some(names(File::open(entry.path()).doing("open")?)?);
        }
        found.sizes.insert(name, fs::metadata(entry.path()).doing("read")?.len());
    }
    Ok(found)
}

fn in_archive(path: &Path) -> Result<Found, Fault> {
    let mut found = Found::default();
    for entry in unpacked(path)?.entries().doing("read")? {
        let entry = entry.doing("read")?;
        let name = file_name(&entry);
        let size = entry.size();
        if CLASSES.contains(&&*name) {
            found.classes = Some(names(entry)?);
        }
        found.sizes.insert(name, size);
    }
    Ok(found)
}

/// Opens an archive, gzip or not.
fn unpacked(path: &Path) -> Result<tar::Archive<Box<dyn Read>>, Fault> {
    let mut magic = Vec::new();
    File::open(path).doing("open")?.take(2).read_to_end(&mut magic).doing("read")?;
    let file = BufReader::new(File::open(path).doing("open")?);
    let gzip = magic == [0x1f, 0x8b];
    Ok(tar::Archive::new(if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) }))
}

fn file_name(entry: &tar::Entry<impl Read>) -> String {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Reads names of classes, with a limited length.
fn names(source: impl Read) -> Result<String, Fault> {
    let mut text = Vec::new();
    source.take(1 << 16).read_to_end(&mut text).doing("read")?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
