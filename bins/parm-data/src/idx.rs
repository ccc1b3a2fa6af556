//! MNIST's format.

use anyhow::{Result, bail};
use parm::counted;
use parm::npy::RowLayout;
use parm_cli::options::Common;
use parm_cli::tools::data::{Idx, Normalize};
use parm_cli::{Io, Progress};
use parm_data_sets::idx::IdxFile;
use parm_data_sets::scale::Histogram;

use crate::pair::Pair;
use crate::pixels::Wanted;

/// Reads images and labels and writes them as streams; returns the line that --verbose prints.
pub(crate) fn idx(options: &Idx, common: &Common, io: &mut Io) -> Result<String> {
    let wanted = Wanted::new(&options.pixels, Normalize::Unit, 1)?;
    let open = || IdxFile::<3>::open(&options.images, "images [N, H, W]");
    let mut images = open()?;
    let mut labels = IdxFile::<1>::open(&options.labels, "labels [N]")?;
    let [count, height, width] = images.axes;
    if labels.axes != [count] {
        bail!(
            "{}: found {} labels, expected {count} as {} has images",
            options.labels.display(),
            labels.axes[0],
            options.images.display()
        );
    }
    let mut block = Vec::new();
    let scale = wanted.scale(|| {
        let (mut histogram, mut images) = (Histogram::new(1), open()?);
        while images.read(&mut block)? > 0 {
            histogram.add(&block);
        }
        Ok(histogram)
    })?;
    let layouts = [
        ("images", RowLayout::new(scale.dtype(), [1, height, width])),
        ("labels", RowLayout::new(labels.dtype, [])),
    ];
    let mut pair = Pair::create(&options.output, layouts, count as u64, io)?;
    let progress = Progress::new(common, io, "images", Some(count as u64));
    let mut bytes = Vec::new();
    loop {
        let read = images.read(&mut block)?;
        if read == 0 {
            break;
        }
        bytes.clear();
        scale.write(&block, &mut bytes);
        pair.examples.write_raw(&bytes)?;
        progress.advance(read as u64);
    }
    while labels.read(&mut block)? > 0 {
        pair.answers.write_raw(&block)?;
    }
    pair.commit(None, io)?;
    Ok(format!("read {} of {height}x{width}", counted(count, "image")))
}
