//! Speech Commands.

use anyhow::Result;
use parm::npy::RowLayout;
use parm::{Dtype, counted};
use parm_cli::options::Common;
use parm_cli::tools::data::{self, Speech};
use parm_cli::{Io, Progress};
use parm_data_sets::in_order;
use parm_data_sets::speech::{FRAMES, FREQUENCIES, Spectrogram, Split, clips};

use crate::examples::{self, check_left_out};
use crate::pair::{self, Pair};

/// Reads one part of the set; returns the line that --verbose prints.
pub(crate) fn speech(options: &Speech, common: &Common, io: &mut Io) -> Result<String> {
    let split = match options.split {
        data::Split::Train => Split::Train,
        data::Split::Validation => Split::Validation,
        data::Split::Test => Split::Test,
    };
    let mut folder = clips(&options.set, split)?;
    check_left_out(&folder, options.strict, "WAV files", common, io)?;
    examples::shuffle(&mut folder.files, options.listing);
    let labels = pair::labels(folder.classes.len());
    let clip = RowLayout::new(Dtype::F32, [1, FREQUENCIES, FRAMES]);
    let count = folder.files.len() as u64;
    let mut pair = Pair::create(&options.output, [("clips", clip), ("labels", labels.clone())], count, io)?;
    let progress = Progress::new(common, io, "clips", Some(count));
    let spectrogram = Spectrogram::default();
    in_order(
        options.decoding.threads(),
        &folder.files,
        |(path, label)| Ok((spectrogram.open(path)?, *label)),
        |(clip, label)| {
            pair.examples.write(&clip)?;
            pair.answers.write_raw(&pair::label(&labels, label))?;
            progress.advance(1);
            anyhow::Ok(())
        },
    )?;
    pair.commit(Some(&folder.classes), io)?;
    let (clips, words) = (counted(count, "clip"), counted(folder.classes.len(), "word"));
    Ok(format!("read {clips} of {words}{}", examples::beside(&folder)))
}
