//! Files of pictures, with classes or with boxes.

use std::path::Path;

use anyhow::Result;
use parm::npy::RowLayout;
use parm::{Dtype, counted};
use parm_cli::options::Common;
use parm_cli::tools::data::{Boxes, Images, Normalize, Size, Split};
use parm_cli::{Io, Progress, Usage};
use parm_data_sets::folder::Folder;
use parm_data_sets::picture::{Picture, TYPES};
use parm_data_sets::resize::Fit;
use parm_data_sets::scale::Scale;
use parm_data_sets::{At, boxes, in_order, list};

use crate::cifar::is_train;
use crate::examples::{self, check_left_out};
use crate::pair::{self, Pair};
use crate::pixels;

/// Reads pictures from a directory for each class; returns the line that --verbose prints.
pub(crate) fn images(options: &Images, common: &Common, io: &mut Io) -> Result<String> {
    let Images { resize, crop, size, grey, .. } = *options;
    if crop > resize {
        return Err(Usage::error(format!("found --crop {crop}, expected at most --resize, {resize}")));
    }
    let channels = if grey { 1 } else { 3 };
    let default = if grey { Normalize::Unit } else { Normalize::Imagenet };
    let scale = pixels::scale_at_once(&options.pixels, default, channels)?;
    let mut folder = if options.set.is_file() {
        list::csv(&options.set, options.set.parent().unwrap_or(Path::new("")))?
    } else {
        Folder::open(&options.set, &TYPES, &[])?
    };
    check_left_out(&folder, options.strict, "pictures", common, io)?;
    examples::shuffle(&mut folder.files, options.listing);
    let fit = match size {
        Some(Size { width, height }) => Fit::Squeeze { width, height },
        None => Fit::Crop { resize, crop },
    };
    // Labels that are numbers need not have all classes.
    let most = folder.files.iter().map(|(_, label)| label + 1).max().unwrap_or(0);
    let labels = pair::labels(most.max(folder.classes.len()));
    let layouts = [("images", layout(&scale, fit, channels)), ("labels", labels.clone())];
    let count = folder.files.len() as u64;
    let mut pair = Pair::create(&options.output, layouts, count, io)?;
    let progress = Progress::new(common, io, "images", Some(count));
    in_order(
        options.decoding.threads(),
        &folder.files,
        |(path, label)| {
            let picture = Picture::open(path)?;
            let picture = if grey { picture.into_grey() } else { picture };
            Ok((row(&picture, fit, &scale, channels), *label))
        },
        |(row, label)| {
            pair.examples.write_raw(&row)?;
            pair.answers.write_raw(&pair::label(&labels, label))?;
            progress.advance(1);
            anyhow::Ok(())
        },
    )?;
    let classes = Some(&folder.classes[..]).filter(|classes| !classes.is_empty());
    pair.commit(classes, io)?;
    let (images, classes) =
        (counted(count, "image"), counted(classes.map_or(most, <[String]>::len), "class"));
    Ok(format!("read {images} of {classes}{}", examples::beside(&folder)))
}

/// Reads pictures and boxes; returns the line that --verbose prints.
pub(crate) fn boxes(options: &Boxes, common: &Common, io: &mut Io) -> Result<String> {
    let (scale, fit) =
        (pixels::scale_at_once(&options.pixels, Normalize::Imagenet, 3)?, Fit::square(options.size));
    let mut boxes = if options.boxes.is_dir() {
        if options.images.is_some() {
            return Err(Usage::error("--images goes with a CSV file, not with CUB-200-2011"));
        }
        boxes::cub(&options.boxes, is_train(options.split.unwrap_or(Split::Train), "CUB-200-2011")?)?
    } else {
        if options.split.is_some() {
            return Err(Usage::error("--split goes with CUB-200-2011, not with a CSV file"));
        }
        let beside = options.boxes.parent().unwrap_or(Path::new(""));
        boxes::csv(&options.boxes, options.images.as_deref().unwrap_or(beside))?
    };
    examples::shuffle(&mut boxes, options.listing);
    let layouts = [("images", layout(&scale, fit, 3)), ("boxes", RowLayout::new(Dtype::F32, [4]))];
    let count = boxes.len() as u64;
    let mut pair = Pair::create(&options.output, layouts, count, io)?;
    let progress = Progress::new(common, io, "images", Some(count));
    in_order(
        options.decoding.threads(),
        &boxes,
        |boxed| {
            let picture = Picture::open(&boxed.picture)?;
            let numbers = boxed.numbers(picture.width, picture.height).at(&boxed.picture)?;
            Ok((row(&picture, fit, &scale, 3), numbers))
        },
        |(row, numbers)| {
            pair.examples.write_raw(&row)?;
            pair.answers.write(&numbers)?;
            progress.advance(1);
            anyhow::Ok(())
        },
    )?;
    pair.commit(None, io)?;
    Ok(format!("read {} with a box each", counted(count, "image")))
}

/// The layout of the rows of images.
fn layout(scale: &Scale, fit: Fit, channels: usize) -> RowLayout {
    let [height, width] = fit.size();
    RowLayout::new(scale.dtype(), [channels, height, width])
}

/// The row that a picture becomes, of its first channels.
fn row(picture: &Picture, fit: Fit, scale: &Scale, channels: usize) -> Vec<u8> {
    let mut row = Vec::new();
    let [height, width] = fit.size();
    scale.write(&fit.image(picture)[..channels * height * width], &mut row);
    row
}
