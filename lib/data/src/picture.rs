//! Decodes pictures to RGB: JPEG, PNG, and BMP, GIF, PNM, TIFF and WebP with the crate `image`.
//!
//! A picture becomes what Pillow's `convert("RGB")` makes of it: grey is repeated, palettes are looked
//! up, inks (CMYK, YCCK) are multiplied, and transparency is dropped, not blended. Of several frames or
//! pages the first is read. An orientation that a camera has noted (EXIF) is not applied, as torchvision
//! does not. Refused are more than 8 bits a channel, pictures of more than 2²⁶ pixels, and files that
//! end before the picture does.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use png::{ColorType, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

pub use crate::error::PictureError;
use crate::error::{At, DataError, Doing};
use crate::limits::{MAX_BYTES, MAX_PIXELS};

/// The file name extensions of pictures, in lower case.
pub const TYPES: [&str; 12] =
    ["bmp", "gif", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"];

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels of a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// `[height, width, 3]`.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mut bytes = Vec::new();
        let file = File::open(path).doing("open").at(path)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).doing("read").at(path)?;
        Self::decode(&bytes).at(path)
    }

    /// The same picture in grey, as Pillow's `convert("L")` makes it: all three channels are the luma of ITU-R 601-2.
    #[must_use]
    pub fn into_grey(mut self) -> Self {
        for pixel in self.rgb.as_chunks_mut().0 {
            let [r, g, b] = pixel.map(u32::from);
            *pixel = [((r * 19_595 + g * 38_470 + b * 7_471 + 0x8000) >> 16) as u8; 3];
        }
        self
    }

    /// Decodes a picture of any supported format.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        match bytes {
            _ if bytes.len() as u64 > MAX_BYTES => Err(PictureError::TooLong),
            [0xff, 0xd8, ..] => decode_jpeg(bytes),
            [0x89, b'P', b'N', b'G', ..] => decode_png(bytes),
            _ => decode_other(bytes),
        }
    }
}

/// Checks a size before memory is allocated. `most` is the largest number of pixels that a byte can hold.
fn check(bytes: &[u8], width: u64, height: u64, most: u64) -> Result<(), PictureError> {
    let pixels = width.saturating_mul(height);
    if pixels == 0 || pixels > MAX_PIXELS {
        return Err(PictureError::Size { width, height });
    }
    let bytes = bytes.len() as u64;
    if pixels > bytes.saturating_mul(most) {
        return Err(PictureError::TooShort { bytes, width, height });
    }
    Ok(())
}

fn decode_jpeg(bytes: &[u8]) -> Result<Picture, PictureError> {
    let options = DecoderOptions::default()
        .jpeg_set_out_colorspace(ColorSpace::RGB)
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX));
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder.decode_headers().map_err(PictureError::Jpeg)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    // A block of 64 pixels takes at least one bit.
    check(bytes, width as u64, height as u64, 8 * 64)?;
    let components = decoder.info().map_or(0, |info| info.components);
    if !matches!(components, 1 | 3 | 4) {
        return Err(PictureError::Colours(format!("of {components} components")));
    }
    if !is_whole(bytes) {
        return Err(PictureError::Truncated(bytes.len()));
    }
    let rgb = decoder.decode().map_err(PictureError::Jpeg)?;
    Ok(Picture { width, height, rgb })
}

/// True if a JPEG has its end marker; the decoder would fill missing data with grey.
fn is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[first, marker]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        match (first, marker) {
            (0xff, 0xd9) => return true,
            // Data of a scan, with its escaped bytes, restarts and padding; or bytes between segments,
            // which decoders skip.
            (0..0xff, _) | (0xff, 0x00 | 0x01 | 0xd0..=0xd8 | 0xff) => at += 1,
            _ => {
                let length = bytes.get(at + 2..).and_then(|rest| rest.first_chunk());
                at += 2 + length.map_or(0, |&length| usize::from(u16::from_be_bytes(length)));
            }
        }
    }
    false
}

fn decode_png(bytes: &[u8]) -> Result<Picture, PictureError> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    // Palettes and fewer than 8 bits are expanded to bytes; transparency is dropped below.
    decoder.set_transformations(Transformations::EXPAND);
    let info = decoder.read_header_info()?;
    let (width, height) = (u64::from(info.width), u64::from(info.height));
    if info.bit_depth == png::BitDepth::Sixteen {
        return Err(PictureError::Deep(16));
    }
    // Deflate expands a byte to at most 1032 bytes, and a byte holds at most 8 pixels.
    check(bytes, width, height, 8 * 1032)?;
    let mut reader = decoder.read_info()?;
    let (colours, _) = reader.output_color_type();
    let mut samples = vec![0; reader.output_buffer_size().ok_or(PictureError::Size { width, height })?];
    reader.next_frame(&mut samples)?;
    let rgb = match colours {
        ColorType::Grayscale => samples.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => samples.as_chunks().0.iter().flat_map(|&[grey, _]| [grey; 3]).collect(),
        ColorType::Rgb => samples,
        ColorType::Rgba => samples.as_chunks().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect(),
        ColorType::Indexed => return Err(PictureError::Colours("of a palette without one".into())),
    };
    Ok(Picture { width: width as usize, height: height as usize, rgb })
}

/// The formats that the crate `image` decodes, and their names.
const OTHERS: [(ImageFormat, &str); 5] = [
    (ImageFormat::Bmp, "BMP"),
    (ImageFormat::Gif, "GIF"),
    (ImageFormat::Pnm, "PNM"),
    (ImageFormat::Tiff, "TIFF"),
    (ImageFormat::WebP, "WebP"),
];

fn decode_other(bytes: &[u8]) -> Result<Picture, PictureError> {
    let guessed = image::guess_format(bytes).ok();
    let Some((format, name)) = OTHERS.into_iter().find(|(format, _)| guessed == Some(*format)) else {
        return Err(PictureError::Unknown(bytes[..bytes.len().min(4)].to_vec()));
    };
    let failed = |error| PictureError::Other(name, error);
    // Within the crate's own limit of memory, 512 MiB.
    let decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    // In these formats, a few bytes can be a large picture of one colour.
    check(bytes, width.into(), height.into(), u64::MAX)?;
    let rgb = match DynamicImage::from_decoder(decoder).map_err(failed)? {
        DynamicImage::ImageLuma8(grey) => grey.iter().flat_map(|&grey| [grey; 3]).collect(),
        DynamicImage::ImageLumaA8(grey) => {
            grey.as_chunks().0.iter().flat_map(|&[grey, _]| [grey; 3]).collect()
        }
        DynamicImage::ImageRgb8(rgb) => rgb.into_raw(),
        DynamicImage::ImageRgba8(rgba) => {
            rgba.as_chunks().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect()
        }
        deep => {
            let colour = deep.color();
            return Err(PictureError::Deep(
                (colour.bits_per_pixel() / u16::from(colour.channel_count())) as u8,
            ));
        }
    };
    Ok(Picture { width: width as usize, height: height as usize, rgb })
}
