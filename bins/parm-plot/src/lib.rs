//! JSON results to images: reads the inputs that the options name, makes a figure of them with `parm-figures`, and
//! writes it as the options ask for.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail};
use parm::npy::Window;
use parm_cli::input::check_stdin;
use parm_cli::options::Common;
use parm_cli::output::{Compression, Target};
use parm_cli::tools::plot::{
    AverageOption, Chart, ImageFormat, ImageOptions, ImageSize, Latency, Plot, TermOption,
};
use parm_cli::{Exit, Input, Io, Progress, Usage};
use parm_figures::{self as figures, Drawing, Figure, Image, Records, Terminal};

/// The most bytes of one input: results are small, but a wrong file may be large.
const MOST_BYTES: u64 = 64 << 20;

/// The number of records between two updates of the progress bar.
const STEP: u64 = 1 << 14;

/// The columns of a drawing with characters where there is no terminal.
const COLUMNS: u16 = 100;

/// Runs the subcommand.
///
/// # Errors
/// Results that are refused, an output that cannot be written.
pub fn run(options: &Plot, io: &mut Io) -> Result<Exit> {
    let image = image(&options.chart);
    let format = format(image)?;
    let mut drawing = drawing(options, io)?;
    if let Drawing::Chart(figure) = &mut drawing {
        figures::rename(figure, &image.rename)?;
    }
    let bytes = match (image.term, &drawing) {
        (None, _) => picture(&drawing, image, format, &options.common, io)?,
        (Some(characters), Drawing::Chart(figure)) => {
            characters_of(figure, characters, image, &options.common, io)
        }
        (Some(_), Drawing::Timeline(_)) => bail!(Usage::error("--term: found a timeline, expected a chart")),
    };
    let data = image.data.as_ref().map(|target| target.create(io, Compression::ByName(3))).transpose()?;
    let mut output = image.output.create(io, Compression::ByName(3))?;
    output.write_all(&bytes).with_context(|| format!("{}: cannot write", image.output))?;
    if let Some((target, mut data)) = image.data.as_ref().zip(data) {
        data.write_all(&figures::csv(&drawing)?).with_context(|| format!("{target}: cannot write"))?;
        data.commit()?;
    }
    output.commit()?;
    let drew = match &drawing {
        Drawing::Chart(figure) => format!("drew {} series", figure.series()),
        Drawing::Timeline(timeline) => format!("drew group {}", timeline.group),
    };
    options.common.count(io, &drew);
    Ok(Exit::Done)
}

/// Reads the inputs.
fn drawing(options: &Plot, io: &mut Io) -> Result<Drawing> {
    let figure = match &options.chart {
        Chart::Curves(options) if options.average.average.is_some() => {
            each(&options.inputs, options.average, io, |input| figures::curves(std::slice::from_ref(input)))?
        }
        Chart::Curves(options) => figures::curves(&texts(&options.inputs, io)?)?,
        Chart::Scores(options) => {
            each(&options.inputs, options.average, io, |input| figures::scores(input, options.top))?
                .with(&options.reference)?
        }
        Chart::Workers(options) => {
            each(&options.inputs, options.average, io, |input| figures::workers(input, &options.selection))?
                .with(&options.reference)?
        }
        Chart::K(options) => {
            each(&options.inputs, options.average, io, |input| figures::k(input, &options.selection))?
                .with(&options.reference)?
        }
        Chart::Joint(options) => {
            figures::joint(&texts(&options.inputs, io)?, &options.k)?.with(&options.reference)?
        }
        Chart::Latency(latency) => records(&options.common, latency, io)?,
        Chart::Load(options) => {
            let draw = if options.slices { figures::slices } else { figures::load };
            let figure = if options.average.average.is_some() {
                each(&options.inputs, options.average, io, |input| {
                    draw(std::slice::from_ref(input), &options.latency)
                })?
            } else {
                draw(&texts(&options.inputs, io)?, &options.latency)?
            };
            figure.with(&options.reference)?
        }
        Chart::Front(options) => {
            figures::front(&texts(&options.inputs, io)?, options.latency)?.with(&options.reference)?
        }
        Chart::Timeline(options) => {
            return Ok(Drawing::Timeline(figures::timeline(&text(&options.input, io)?, options.group)?));
        }
    };
    Ok(Drawing::Chart(figure))
}

/// A figure of each input, put together.
fn each(
    inputs: &[Input],
    average: AverageOption,
    io: &mut Io,
    figure: impl Fn(&figures::Input) -> Result<Figure>,
) -> Result<Figure> {
    let drawn = texts(inputs, io)?.into_iter().map(|input| {
        let figure = figure(&input)?;
        Ok((input.0, figure))
    });
    figures::combine(drawn.collect::<Result<Vec<_>>>()?, average.average)
}

/// The bytes of an image.
fn picture(
    drawing: &Drawing,
    options: &ImageOptions,
    format: ImageFormat,
    common: &Common,
    io: &mut Io,
) -> Result<Vec<u8>> {
    let Image { bytes, missing } = figures::image(drawing, options, format)?;
    if !missing.is_empty() {
        let characters: Vec<String> = missing.iter().map(char::to_string).collect();
        let message = format!(
            "{}: the font has no {}: boxes stand for them; in SVG, viewers use fonts of their own",
            options.output,
            characters.join(" ")
        );
        common.warn(io, &message);
    }
    Ok(bytes)
}

/// A chart as lines of characters.
fn characters_of(
    figure: &Figure,
    characters: TermOption,
    image: &ImageOptions,
    common: &Common,
    io: &Io,
) -> Vec<u8> {
    let terminal = io.terminals.stdout && matches!(image.output, Target::Stdout);
    let size = terminal.then(terminal_size::terminal_size).flatten();
    let columns = size.map_or(COLUMNS, |(width, _)| width.0);
    let terminal = Terminal { columns, characters, colors: common.color.colors(terminal) };
    terminal.draw(figure, image.title.as_deref()).into_bytes()
}

/// The image of any chart.
fn image(chart: &Chart) -> &ImageOptions {
    match chart {
        Chart::Curves(curves) => &curves.image,
        Chart::Scores(scores) => &scores.image,
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
    let mut records = options.slices.map_or_else(Records::default, Records::over_time);
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
///
/// # Errors
/// A name that does not tell; a scale that leaves too little room.
fn format(image: &ImageOptions) -> Result<ImageFormat> {
    let ImageSize { width, height } = image.size;
    let room = [width, height].map(|length| f64::from(length) / image.scale);
    let least = ImageSize::LEAST;
    if room[0] < f64::from(least.width) || room[1] < f64::from(least.height) {
        let [width, height] = room.map(f64::floor);
        return Err(Usage::error(format!(
            "--scale {}: an image of {} has room for what fits in {width}x{height}, expected at least {least}: see --size",
            image.scale, image.size
        )));
    }
    let extension = match &image.output {
        _ if image.term.is_some() => return Ok(ImageFormat::Svg),
        _ if image.format.is_some() => return Ok(image.format.unwrap_or(ImageFormat::Svg)),
        Target::Stdout => return Ok(ImageFormat::Svg),
        Target::Path(path) => path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase(),
    };
    match extension.as_str() {
        "svg" => Ok(ImageFormat::Svg),
        "png" => Ok(ImageFormat::Png),
        "pdf" => Ok(ImageFormat::Pdf),
        _ => Err(Usage::error(format!(
            "{}: found a name that ends in none of .svg, .png and .pdf: change it, or use --format",
            image.output
        ))),
    }
}

/// Reads several inputs.
fn texts(inputs: &[Input], io: &mut Io) -> Result<Vec<figures::Input>> {
    check_stdin(inputs)?;
    inputs.iter().map(|input| text(input, io)).collect()
}

/// Reads an input, and returns it with its name.
fn text(input: &Input, io: &mut Io) -> Result<figures::Input> {
    let mut bytes = Vec::new();
    let source = input.bytes(io, Window::Normal)?;
    source.take(MOST_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("{input}: cannot read"))?;
    if bytes.len() as u64 > MOST_BYTES {
        bail!("{input}: found more than {MOST_BYTES} bytes, expected results as JSON");
    }
    Ok((input.to_string(), bytes))
}
