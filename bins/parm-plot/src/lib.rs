//! JSON results to images: `curves` from the metrics of trainings, `workers` and `k` from the report
//! of a comparison of codes.
//!
//! `results` reads JSON and makes a `figure::Figure` of it, `draw` puts that on paper, and
//! `image` makes the bytes of a file.

mod axis;
mod draw;
mod figure;
mod image;
mod results;

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use parm::npy::Window;
use parm_cli::input::check_stdin;
use parm_cli::output::{Compression, Target};
use parm_cli::tools::plot::{Chart, ImageFormat, ImageOptions, Plot};
use parm_cli::{Exit, Input, Io, Usage};

/// Bytes of one input that are read at most: results are small, and a wrong file may not be.
const MOST_BYTES: u64 = 64 << 20;

/// Draws what the subcommand says.
///
/// # Errors
/// Results that are refused, an output that cannot be written.
pub fn run(options: &Plot, io: &mut Io) -> Result<Exit> {
    let (figure, image) = match &options.chart {
        Chart::Curves(curves) => {
            check_stdin(&curves.inputs)?;
            format(&curves.image)?;
            let texts = curves.inputs.iter().map(|input| text(input, io)).collect::<Result<Vec<_>>>()?;
            (results::curves(&texts)?, &curves.image)
        }
        Chart::Workers(compared) => {
            format(&compared.image)?;
            (results::workers(&text(&compared.input, io)?, compared)?, &compared.image)
        }
        Chart::K(compared) => {
            format(&compared.image)?;
            (results::k(&text(&compared.input, io)?, compared)?, &compared.image)
        }
    };
    let series = figure.panels.iter().map(|panel| panel.series.len()).sum::<usize>();
    let bytes = image::make(&figure, image, format(image)?)?;
    let mut output = image.output.create(io, Compression::ByName(3))?;
    output.write_all(&bytes).with_context(|| format!("{}: cannot write", image.output))?;
    output.commit()?;
    options.common.count(io, "parm-plot", &format!("drew {series} series"));
    Ok(Exit::Done)
}

/// The kind of image that is asked for.
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
            "{}: found a name that ends in neither .svg nor .png: change it, or say --format",
            image.output
        ))),
    }
}

/// All of an input, with its name.
fn text(input: &Input, io: &mut Io) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let source = input.bytes(io, Window::Normal)?;
    source.take(MOST_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("{input}: cannot read"))?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("{input}: found more than {MOST_BYTES} bytes, expected results as JSON");
    }
    Ok((input.to_string(), bytes))
}
