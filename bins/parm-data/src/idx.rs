//! The IDX format of MNIST: a magic number with the element type and the number of axes, the axes as
//! big-endian u32, and the elements.

use std::fs::{self, File};
use std::io::{Chain, Cursor, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use parm::Dtype;
use parm::npy::RowLayout;
use parm_cli::output::{Compression, Target, commit};
use parm_cli::tools::data::{Idx, Normalize};
use parm_cli::{Io, Usage};

/// Reads images and labels and writes them as streams; returns the line that --verbose prints.
pub(crate) fn idx(options: &Idx, io: &mut Io) -> Result<String> {
    if (options.mean.is_some() || options.std.is_some()) && options.normalize != Normalize::Standard {
        return Err(Usage::error("--mean and --std go with --normalize standard"));
    }
    if options.std.is_some_and(|std| std.is_nan() || std <= 0.0) {
        return Err(Usage::error("found --std of 0 or less, expected a number above 0"));
    }
    let images = read::<3>(&options.images, "images [N, H, W]")?;
    let labels = read::<1>(&options.labels, "labels [N]")?;
    let [count, height, width] = images.axes;
    if labels.axes != [count] {
        bail!(
            "{}: found {} labels, expected {count} as {} has images",
            options.labels.display(),
            labels.axes[0],
            options.images.display()
        );
    }
    fs::create_dir_all(&options.output)
        .with_context(|| format!("{}: cannot create", options.output.display()))?;
    let shape = [1, height, width];
    let images = match normalization(options, &images.data) {
        None => (RowLayout::new(Dtype::U8, shape), images.data),
        Some((mean, std)) => {
            // One of 256 values each: divide once.
            let table: Vec<f32> =
                (0..=255_u8).map(|pixel| ((f64::from(pixel) / 255.0 - mean) / std) as f32).collect();
            let floats: Vec<f32> = images.data.iter().map(|&pixel| table[usize::from(pixel)]).collect();
            (RowLayout::new(Dtype::F32, shape), bytemuck::cast_slice(&floats).to_vec())
        }
    };
    let labels = (RowLayout::new(Dtype::U8, []), labels.data);
    let mut outputs = Vec::new();
    for (name, (layout, data)) in [("images.npy", images), ("labels.npy", labels)] {
        let target = Target::Path(options.output.join(name));
        let mut output = target.rows(io, Compression::ByName(3), layout)?;
        output.announce(count as u64);
        output.write_raw(&data)?;
        outputs.push(output);
    }
    outputs.into_iter().try_for_each(commit)?;
    Ok(format!("read {count} images of {height}x{width}"))
}

/// The mean and deviation to normalise with; none to keep the bytes.
fn normalization(options: &Idx, pixels: &[u8]) -> Option<(f64, f64)> {
    match options.normalize {
        Normalize::None => None,
        Normalize::Unit => Some((0.0, 1.0)),
        Normalize::Standard => {
            let count = pixels.len().max(1) as f64;
            let unit = || pixels.iter().map(|&pixel| f64::from(pixel) / 255.0);
            let mean = options.mean.unwrap_or_else(|| unit().sum::<f64>() / count);
            let deviation = || (unit().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
            // Pixels that are all alike have no deviation to divide by.
            let std = options.std.unwrap_or_else(|| deviation().max(f64::MIN_POSITIVE));
            Some((mean, std))
        }
    }
}

struct IdxFile<const AXES: usize> {
    axes: [usize; AXES],
    data: Vec<u8>,
}

/// Reads an IDX file of bytes, decompressed if it is gzip.
fn read<const AXES: usize>(path: &Path, what: &str) -> Result<IdxFile<AXES>> {
    let name = path.display();
    let mut file = File::open(path).with_context(|| format!("{name}: cannot open"))?;
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic).with_context(|| format!("{name}: cannot read"))?;
    let gzip = magic == [0x1f, 0x8b];
    let whole: Chain<Cursor<Vec<u8>>, File> = Cursor::new(magic).chain(file);
    let mut source: Box<dyn Read> = if gzip { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };

    let mut header = vec![0; 4 + 4 * AXES];
    source
        .read_exact(&mut header)
        .with_context(|| format!("{name}: truncated header, expected IDX {what}"))?;
    let expected = [0, 0, 0x08, AXES as u8];
    if header[..4] != expected {
        bail!(
            "{name}: found the magic number {:02x?}, expected {expected:02x?}: IDX {what} of bytes",
            &header[..4]
        );
    }
    let mut axes = [0; AXES];
    for (axis, bytes) in axes.iter_mut().zip(header[4..].as_chunks().0) {
        *axis = u32::from_be_bytes(*bytes) as usize;
    }
    if axes[1..].contains(&0) {
        bail!("{name}: found images of shape {:?}, expected at least one pixel", &axes[1..]);
    }
    let size = axes.iter().try_fold(1_u64, |size, &axis| size.checked_mul(axis as u64));
    let size = size.with_context(|| format!("{name}: found shape {axes:?}, whose size overflows"))?;
    let mut data = Vec::new();
    // One byte more shows that there is more.
    source
        .take(size.saturating_add(1))
        .read_to_end(&mut data)
        .with_context(|| format!("{name}: cannot read"))?;
    if data.len() as u64 != size {
        let found = if data.len() as u64 > size { "more".into() } else { data.len().to_string() };
        bail!("{name}: found {found} bytes of data, expected {size} for shape {axes:?}");
    }
    Ok(IdxFile { axes, data })
}
