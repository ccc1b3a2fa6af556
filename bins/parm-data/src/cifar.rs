//! CIFAR-10 and CIFAR-100.

use anyhow::Result;
use parm::counted;
use parm::npy::RowLayout;
use parm_cli::options::Common;
use parm_cli::tools::data::{Cifar, Normalize, Split};
use parm_cli::{Io, Progress, Usage};
use parm_data_sets::cifar::{self, SHAPE};
use parm_data_sets::scale::Histogram;

use crate::pair::{self, Pair};
use crate::pixels::Wanted;

/// Reads one part of a set; returns the line that --verbose prints.
pub(crate) fn cifar(options: &Cifar, common: &Common, io: &mut Io) -> Result<String> {
    let wanted = Wanted::new(&options.pixels, Normalize::Unit, SHAPE[0])?;
    let set = cifar::Cifar::open(&options.set, is_train(options.split, "CIFAR")?)?;
    let scale = wanted.scale(|| {
        let mut histogram = Histogram::new(SHAPE[0]);
        set.read(|image, _| {
            histogram.add(image);
            anyhow::Ok(())
        })?;
        Ok(histogram)
    })?;
    let layouts = [("images", RowLayout::new(scale.dtype(), SHAPE)), ("labels", pair::labels(256))];
    let mut pair = Pair::create(&options.output, layouts, set.count(), io)?;
    let progress = Progress::new(common, io, "images", Some(set.count()));
    let mut bytes = Vec::new();
    set.read(|image, label| {
        bytes.clear();
        scale.write(image, &mut bytes);
        pair.examples.write_raw(&bytes)?;
        pair.answers.write_raw(&[label])?;
        progress.advance(1);
        anyhow::Ok(())
    })?;
    pair.commit(set.classes(), io)?;
    Ok(format!("read {} of 3x32x32", counted(set.count(), "image")))
}

/// Which split to read, of a set that has only train and test.
pub(crate) fn is_train(split: Split, set: &str) -> Result<bool> {
    match split {
        Split::Train => Ok(true),
        Split::Test => Ok(false),
        Split::Validation => {
            Err(Usage::error(format!("{set} has no --split validation, expected train or test")))
        }
    }
}
