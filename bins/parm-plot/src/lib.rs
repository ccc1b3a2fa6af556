//! JSON results to images: `curves` from the metrics of trainings, `workers` and `k` from the report
//! of a comparison of codes, `joint` from several, `latency` from records of requests, `load` from reports of
//! loads, `front` from advice, `timeline` from a journal of the serving core.
//!
//! `results`, `joint`, `latency`, `load` and `front` read JSON and make a `figure::Figure` of it, which `draw` draws;
//! `timeline` reads a journal, and `swim` draws it. Both draw with a `pen`, which measures texts by the
//! `font` and writes `svg`; `png` makes pixels of that. `image` is the whole of it.

mod axis;
mod draw;
mod fields;
mod figure;
mod font;
mod front;
mod image;
mod joint;
mod latency;
mod load;
mod names;
mod pen;
mod png;
mod results;
mod svg;
mod swim;
mod timeline;

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use parm::npy::Window;
use parm_cli::input::check_stdin;
use parm_cli::options::Common;
use parm_cli::output::{Compression, Target};
use parm_cli::tools::plot::{Chart, ImageFormat, ImageOptions, Latency, Plot};
use parm_cli::{Exit, Input, Io, Progress, Usage};

use crate::figure::{Drawing, Figure};
use crate::image::Image;
use crate::latency::Records;

/// The most bytes of one input: results are small, but a wrong file may be large.
const MOST_BYTES: u64 = 64 << 20;

/// The number of records between two updates of the progress bar.
const STEP: u64 = 1 << 14;

/// Runs the subcommand.
///
/// # Errors
/// Results that are refused, an output that cannot be written.
pub fn run(options: &Plot, io: &mut Io) -> Result<Exit> {
    let image = image(&options.chart);
    let format = format(image)?;
    let drawing = match &options.chart {
        Chart::Curves(curves) => Drawing::Chart(results::curves(&texts(&curves.inputs, io)?)?),
        Chart::Workers(compared) => Drawing::Chart(
            results::workers(&text(&compared.input, io)?, compared)?.with(&compared.reference)?,
        ),
        Chart::K(compared) => {
            Drawing::Chart(results::k(&text(&compared.input, io)?, compared)?.with(&compared.reference)?)
        }
        Chart::Joint(joint) => {
            Drawing::Chart(joint::joint(&texts(&joint.inputs, io)?, joint)?.with(&joint.reference)?)
        }
        Chart::Latency(latency) => Drawing::Chart(records(&options.common, latency, io)?),
        Chart::Load(load) => {
            let draw = if load.slices { load::slices } else { load::load };
            Drawing::Chart(draw(&texts(&load.inputs, io)?, load)?.with(&load.reference)?)
        }
        Chart::Front(front) => {
            Drawing::Chart(front::front(&texts(&front.inputs, io)?, front)?.with(&front.reference)?)
        }
        Chart::Timeline(timeline) => {
            Drawing::Timeline(timeline::timeline(&text(&timeline.input, io)?, timeline.group)?)
        }
    };
    let drew = match &drawing {
        Drawing::Chart(figure) => format!("drew {} series", figure.series()),
        Drawing::Timeline(timeline) => format!("drew group {}", timeline.group),
    };
    let Image { bytes, missing } = image::make(&drawing, image, format)?;
    if !missing.is_empty() {
        let characters: Vec<String> = missing.iter().map(char::to_string).collect();
        let message = format!(
            "{}: the font has no {}: boxes stand for them; in SVG, viewers use fonts of their own",
            image.output,
            characters.join(" ")
        );
        options.common.warn(io, &message);
    }
    let mut output = image.output.create(io, Compression::ByName(3))?;
    output.write_all(&bytes).with_context(|| format!("{}: cannot write", image.output))?;
    output.commit()?;
    options.common.count(io, &drew);
    Ok(Exit::Done)
}

/// The image of any chart.
fn image(chart: &Chart) -> &ImageOptions {
    match chart {
        Chart::Curves(curves) => &curves.image,
        Chart::Workers(compared) | Chart::K(compared) => &compared.image,
        Chart::Joint(joint) => &joint.image,
        Chart::Latency(latency) => &latency.image,
        Chart::Load(load) => &load.image,
        Chart::Front(front) => &front.image,
        Chart::Timeline(timeline) => &timeline.image,
    }
}

/// Draws records while they are read.
fn records(common: &Common, options: &Latency, io: &mut Io) -> Result<Figure> {
    check_stdin(&options.inputs)?;
    let progress = Progress::new(common, io, "records", None);
    let mut records = Records::default();
    let mut count = 0_u64;
    for input in &options.inputs {
        let source = input.bytes(io, Window::Normal)?;
        records.read(input.to_string(), source, || {
            count += 1;
            if count.is_multiple_of(STEP) {
                progress.advance(STEP);
            }
        })?;
    }
    records.figure()?.with(&options.reference)
}

/// The format of the image.
fn format(image: &ImageOptions) -> Result<ImageFormat> {
    let extension = match &image.output {
        _ if image.format.is_some() => return Ok(image.format.unwrap_or(ImageFormat::Svg)),
        Target::Stdout => return Ok(ImageFormat::Svg),
        Target::Path(path) => path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase(),
    };
    match extension.as_str() {
        "svg" => Ok(ImageFormat::Svg),
        "png" => Ok(ImageFormat::Png),
        _ => Err(Usage::error(format!(
            "{}: found a name that ends in neither .svg nor .png: change it, or use --format",
            image.output
        ))),
    }
}

/// Reads several inputs.
fn texts(inputs: &[Input], io: &mut Io) -> Result<Vec<(String, Vec<u8>)>> {
    check_stdin(inputs)?;
    inputs.iter().map(|input| text(input, io)).collect()
}

/// Reads an input, and returns it with its name.
fn text(input: &Input, io: &mut Io) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let source = input.bytes(io, Window::Normal)?;
    source.take(MOST_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("{input}: cannot read"))?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("{input}: found more than {MOST_BYTES} bytes, expected results as JSON");
    }
    Ok((input.to_string(), bytes))
}
