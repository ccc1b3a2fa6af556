//! A directory with examples, their targets, and the names of the classes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use parm::Dtype;
use parm::npy::{RowLayout, RowWriter};
use parm_cli::output::{Compression, Target, commit};
use parm_cli::{Io, Output};

/// Two streams with the same number of rows.
pub(crate) struct Pair {
    directory: PathBuf,
    /// The queries.
    pub(crate) examples: RowWriter<Output>,
    /// The targets.
    pub(crate) answers: RowWriter<Output>,
}

impl Pair {
    /// Makes the directory and opens two streams in it: names without `.npy`, layouts, and rows.
    pub(crate) fn create(
        directory: &Path,
        [examples, answers]: [(&str, RowLayout); 2],
        rows: u64,
        io: &mut Io,
    ) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("{}: cannot create", directory.display()))?;
        let mut open = |(name, layout)| {
            let target = Target::Path(directory.join(format!("{name}.npy")));
            let mut writer = target.rows(io, Compression::ByName(3), layout)?;
            writer.announce(rows);
            anyhow::Ok(writer)
        };
        Ok(Self { examples: open(examples)?, answers: open(answers)?, directory: directory.to_owned() })
    }

    /// Gives the files their names, and writes the names of the classes to `classes.json`.
    pub(crate) fn commit(self, classes: Option<&[String]>, io: &mut Io) -> Result<()> {
        commit(self.examples)?;
        commit(self.answers)?;
        let Some(classes) = classes else { return Ok(()) };
        let target = Target::Path(self.directory.join("classes.json"));
        let mut output = target.create(io, Compression::ByName(3))?;
        serde_json::to_writer_pretty(&mut output, classes)?;
        writeln!(output)?;
        output.commit()
    }
}

/// The type of labels of this number of classes: u1 up to 256.
pub(crate) fn labels(classes: usize) -> RowLayout {
    let dtype = match classes {
        0..=0x100 => Dtype::U8,
        0x101..=0x1_0000 => Dtype::U16,
        _ => Dtype::U32,
    };
    RowLayout::new(dtype, [])
}

/// The bytes of a label in such a stream.
pub(crate) fn label(layout: &RowLayout, label: usize) -> Vec<u8> {
    label.to_le_bytes()[..layout.bytes()].to_vec()
}
