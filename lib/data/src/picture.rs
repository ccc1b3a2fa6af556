//! JPEG and PNG files as red, green and blue.
//!
//! A picture becomes what Pillow's `convert("RGB")` makes of it: grey is repeated, palettes are looked
//! up, and transparency is dropped, not blended. An orientation that a camera has noted (EXIF) is not
//! applied, as torchvision does not. Refused are 16 bits a channel, CMYK, pictures of more than
//! [`MAX_PIXELS`], and files that end before the picture does.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use png::{ColorType, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::{At, DataError, Doing};

/// The most pixels that a picture may have: 2²⁶, which as RGB take 192 MiB.
pub const MAX_PIXELS: u64 = 1 << 26;

/// The most bytes that a file may have.
const MAX_BYTES: u64 = 1 << 28;

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

/// A picture that is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PictureError {
    /// Something else.
    #[error("found bytes {0:02x?} at its beginning, expected a JPEG or PNG picture")]
    Unknown(Vec<u8>),
    /// A file that no picture of a sensible size needs.
    #[error("found more than {MAX_BYTES} bytes, expected a picture")]
    TooLong,
    /// More pixels than [`MAX_PIXELS`], or none.
    #[error("found {width}x{height} pixels, expected 1 to {MAX_PIXELS} of them")]
    Size { width: u64, height: u64 },
    /// A header that promises more than any compression can keep.
    #[error("found {bytes} bytes, which cannot hold the {width}x{height} pixels of the header")]
    TooShort { bytes: u64, width: u64, height: u64 },
    /// Samples of 16 bits.
    #[error("found 16 bits a channel, expected 8: convert the picture")]
    Deep,
    /// Neither grey nor RGB.
    #[error("found the colours {0}, expected grey or RGB: convert the picture")]
    Colours(String),
    /// A JPEG without the marker of its end.
    #[error("truncated JPEG: found no end of the picture in {0} bytes")]
    Truncated(usize),
    /// A JPEG that cannot be decoded.
    #[error("cannot decode JPEG")]
    Jpeg(#[source] zune_jpeg::errors::DecodeErrors),
    /// A PNG that cannot be decoded.
    #[error("cannot decode PNG")]
    Png(#[from] png::DecodingError),
}

impl Picture {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mut bytes = Vec::new();
        let file = File::open(path).doing("open").at(path)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).doing("read").at(path)?;
        Self::decode(&bytes).at(path)
    }

    /// Decodes a JPEG or PNG.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        match bytes {
            _ if bytes.len() as u64 > MAX_BYTES => Err(PictureError::TooLong),
            [0xff, 0xd8, ..] => decode_jpeg(bytes),
            [0x89, b'P', b'N', b'G', ..] => decode_png(bytes),
            _ => Err(PictureError::Unknown(bytes[..bytes.len().min(4)].to_vec())),
        }
    }
}

/// Checks a size before anything of that size is made: `most` is how many pixels a byte can hold.
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
    match decoder.input_colorspace() {
        Some(ColorSpace::Luma | ColorSpace::YCbCr | ColorSpace::RGB) => {}
        other => return Err(PictureError::Colours(other.map_or("?".into(), |found| format!("{found:?}")))),
    }
    if !is_whole(bytes) {
        return Err(PictureError::Truncated(bytes.len()));
    }
    let rgb = decoder.decode().map_err(PictureError::Jpeg)?;
    Ok(Picture { width, height, rgb })
}

/// Whether a JPEG has the marker of its end: the decoder would fill what is missing with grey.
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
    // Palettes and fewer than 8 bits become bytes; transparency is dropped below.
    decoder.set_transformations(Transformations::EXPAND);
    let info = decoder.read_header_info()?;
    let (width, height) = (u64::from(info.width), u64::from(info.height));
    if info.bit_depth == png::BitDepth::Sixteen {
        return Err(PictureError::Deep);
    }
    // Deflate makes at most 1032 bytes of one, and a byte holds at most 8 pixels.
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
