//! Finds the results below a folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use parm::MadeBy;
use serde_json::Value;

/// The most files of a folder.
const MOST_FILES: usize = 10_000;
/// The most bytes of a file of JSON, and of a line of records.
const MOST_BYTES: u64 = 64 << 20;
const MOST_LINE: u64 = 1 << 20;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Of parm-score.
    Scores,
    /// Of parm-compare.
    Codes,
    /// A run of parm-train sweep.
    Run,
    /// Of parm-load or parm-sim.
    Load,
    /// Of parm-sim advise.
    Advice,
    /// The metrics of a training.
    Training,
    /// Records of requests.
    Records,
    /// A journal of the serving core.
    Journal,
    /// The code.json of a code directory.
    Code,
}

impl Kind {
    /// What a heading calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Codes => "comparison of codes",
            Self::Run => "run of a sweep",
            Self::Load => "latencies",
            Self::Advice => "advice",
            Self::Training => "training",
            Self::Records => "records of requests",
            Self::Journal => "journal of the serving core",
            Self::Code => "code",
        }
    }

    /// The kind of an object of JSON, which for lines of JSON is the first one.
    fn of(object: &Value) -> Option<Self> {
        let has = |field: &str| object.get(field).is_some();
        let first =
            |list: &str, field: &str| object.get(list).and_then(|list| list.get(0)?.get(field)).is_some();
        Some(match () {
            () if first("rows", "code") => Self::Codes,
            () if first("runs", "latency_ms") => Self::Load,
            () if first("candidates", "name") => Self::Advice,
            () if first("scores", "score") || first("aggregates", "score") => Self::Scores,
            () if has("run") && has("settings") => Self::Run,
            () if has("epoch") => Self::Training,
            () if has("intended_ns") && has("outcome") => Self::Records,
            () if has("t_ns") && has("event") => Self::Journal,
            () if has("format") && has("code") && has("k") => Self::Code,
            () => return None,
        })
    }
}

/// A file.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Its path below the folder.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// What it is; none if it is no result.
    pub(crate) kind: Option<Kind>,
    /// Its object of JSON; null for lines of JSON.
    pub(crate) value: Value,
    /// Why it could not be read.
    pub(crate) error: Option<String>,
}

impl Entry {
    /// What made the file, if it says so.
    pub(crate) fn made_by(&self) -> Option<MadeBy> {
        serde_json::from_value(self.value.get("made_by")?.clone()).ok()
    }
}

/// A folder and the files below it, by name.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    pub(crate) files: Vec<Entry>,
}

impl Folder {
    /// Reads what is below a folder. Hidden files are left out, and so are links to folders.
    ///
    /// # Errors
    /// The system's; too many files.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let mut folder = Self::default();
        folder.add(path, "")?;
        Ok(folder)
    }

    fn add(&mut self, path: &Path, name: &str) -> Result<()> {
        let listed = fs::read_dir(path).with_context(|| format!("{}: cannot read", path.display()))?;
        let mut listed = listed
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{}: cannot read", path.display()))?;
        listed.sort_by_key(fs::DirEntry::file_name);
        for item in listed {
            let (own, path) = (item.file_name().to_string_lossy().into_owned(), item.path());
            let name = if name.is_empty() { own.clone() } else { format!("{name}/{own}") };
            let kind = item.file_type().with_context(|| format!("{}: cannot read", path.display()))?;
            if own.starts_with('.') {
                continue;
            }
            if kind.is_dir() {
                self.add(&path, &name)?;
            } else if path.is_file() {
                if self.files.len() == MOST_FILES {
                    bail!(
                        "{}: found more than {MOST_FILES} files, expected an experiment's folder",
                        path.display()
                    );
                }
                self.files.push(Entry::read(name, path));
            }
        }
        Ok(())
    }

    /// The files that are results.
    pub(crate) fn results(&self) -> impl Iterator<Item = (Kind, &Entry)> {
        self.files.iter().filter_map(|file| Some((file.kind?, file)))
    }
}

impl Entry {
    fn read(name: String, path: PathBuf) -> Self {
        let bytes = path.metadata().map_or(0, |data| data.len());
        let mut entry = Self { name, path, bytes, kind: None, value: Value::Null, error: None };
        if let Err(error) = entry.recognise() {
            entry.error = Some(format!("{error:#}"));
        }
        entry
    }

    fn recognise(&mut self) -> Result<()> {
        let lines = match self.path.extension().and_then(OsStr::to_str) {
            Some("jsonl") => true,
            Some("json") => false,
            _ => return Ok(()),
        };
        let file = File::open(&self.path).context("cannot open")?;
        let mut text = Vec::new();
        if lines {
            BufReader::new(file).take(MOST_LINE).read_until(b'\n', &mut text).context("cannot read")?;
        } else {
            file.take(MOST_BYTES + 1).read_to_end(&mut text).context("cannot read")?;
            if text.len() as u64 > MOST_BYTES {
                bail!("found more than {MOST_BYTES} bytes");
            }
        }
        let value: Value = serde_json::from_slice(&text).context("malformed JSON")?;
        self.kind = Kind::of(&value);
        if !lines {
            self.value = value;
        }
        Ok(())
    }
}
