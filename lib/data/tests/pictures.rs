//! Pictures beside Pillow and torchvision's geometry, and those that are refused.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use parm_data_sets::picture::{Picture, PictureError};
use parm_data_sets::resize::Fit;
use parm_data_sets::{DataError, Fault};
use parm_testkit::npy;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/data-sets/pictures")
}

fn is(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == ending)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

#[test]
fn pictures_are_those_of_pillow() {
    let mut pictures = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() || is(name, "npy") {
            continue;
        }
        let picture = Picture::open(&path).unwrap();
        let expected = bytes(&format!("{name}.fits.npy"));
        assert_eq!(npy::shape(&expected), [2, 3, 24, 24]);
        let fits = [Fit::Crop { resize: 32, crop: 24 }, Fit::square(24)];
        for (fit, expected) in fits.into_iter().zip(npy::data(&expected).chunks_exact(3 * 24 * 24)) {
            let differences: Vec<u8> =
                fit.image(&picture).iter().zip(expected).map(|(&a, &b)| a.abs_diff(b)).collect();
            let most = differences.iter().max().unwrap();
            let mean = differences.iter().map(|&d| f64::from(d)).sum::<f64>() / differences.len() as f64;
            println!("{name} {fit:?}: at most {most}, mean {mean:.3}");
            // Decoders round differently, also inks, and smooth the colours of 4:2:0 differently.
            let is_lossy = is(name, "jpg") || ["lossy.webp", "inks.tif"].contains(&name);
            let tolerance = if is_lossy { (4, 0.5) } else { (0, 0.0) };
            assert!((*most, mean) <= tolerance, "{name} {fit:?}: at most {most}, mean {mean}");
        }
        pictures += 1;
    }
    assert_eq!(pictures, 29);
}

#[test]
fn grey_is_that_of_pillow() {
    // What Image.open("rgb.png").convert("L") has in it: the sum, and the first pixels.
    let grey = Picture::decode(&bytes("rgb.png")).unwrap().into_grey();
    let pixels: Vec<u8> = grey.rgb.iter().step_by(3).copied().collect();
    assert_eq!(pixels.iter().map(|&pixel| u64::from(pixel)).sum::<u64>(), 200_878);
    assert_eq!(pixels[..8], [26, 56, 52, 52, 59, 60, 57, 62]);
    assert!(grey.rgb.as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b));
}

#[test]
fn an_orientation_is_not_applied() {
    let picture = Picture::decode(&bytes("turned.jpg")).unwrap();
    assert_eq!((picture.width, picture.height), (53, 40));
}

/// The header chunk of a PNG with this size and these bits of grey.
fn png_of(width: u32, height: u32, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 0, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    bytes.extend(chunk);
    bytes.extend(crc.sum().to_be_bytes());
    bytes.extend(rest);
    bytes
}

#[test]
fn what_is_no_plain_picture_is_refused() {
    let refused = |bytes: &[u8]| Picture::decode(bytes).map(drop).unwrap_err();
    assert!(matches!(refused(b"8BPS\0\x01"), PictureError::Unknown(found) if found == b"8BPS"));
    assert!(matches!(refused(b""), PictureError::Unknown(found) if found.is_empty()));
    assert!(matches!(refused(&bytes("refused/deep.png")), PictureError::Deep(16)));
    assert!(matches!(refused(&bytes("refused/deep.tif")), PictureError::Deep(16)));
    // A JPEG of three components without its third.
    let mut two = bytes("full.jpg");
    let frame = two.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    (two[frame + 3], two[frame + 9]) = (14, 2);
    drop(two.drain(frame + 16..frame + 19));
    let scan = two.windows(2).position(|marker| marker == [0xff, 0xda]).unwrap();
    (two[scan + 3], two[scan + 4]) = (10, 2);
    drop(two.drain(scan + 9..scan + 11));
    let colours = refused(&two);
    assert!(matches!(&colours, PictureError::Colours(found) if found == "of 2 components"), "{colours:?}");
    let huge = refused(b"P6 100000 100000 255\n");
    assert!(matches!(huge, PictureError::Size { width: 100_000, height: 100_000 }), "{huge:?}");
    assert!(matches!(
        refused(&png_of(0, 5, b"")),
        PictureError::Size { width: 0, height: 5 } | PictureError::Png(_)
    ));
    assert!(matches!(refused(&png_of(1 << 20, 1 << 20, b"")), PictureError::Size { .. }));
    let bomb = refused(&png_of(8000, 8000, b""));
    assert!(matches!(bomb, PictureError::TooShort { bytes: 33, width: 8000, height: 8000 }), "{bomb:?}");
    // The same for JPEG: the header of a small picture that claims to be large.
    let mut large = bytes("full.jpg");
    let frame = large.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    large[frame + 5..frame + 9].copy_from_slice(&[0x1f, 0x40, 0x1f, 0x40]);
    assert!(matches!(refused(&large), PictureError::TooShort { width: 8000, height: 8000, .. }));
    let long = refused(&vec![0; (1 << 28) + 1]);
    assert!(matches!(long, PictureError::TooLong), "{long:?}");
}

#[test]
fn cut_pictures_are_refused_wherever_they_are_cut() {
    for name in [
        "full.jpg",
        "half.jpg",
        "progressive.jpg",
        "grey.jpg",
        "inks.jpg",
        "rgb.png",
        "palette.png",
        "rgb.bmp",
        "palette.bmp",
        "palette.gif",
        "rgb.ppm",
        "rgb.tif",
        "packed.tif",
        "exact.webp",
        "lossy.webp",
    ] {
        let whole = bytes(name);
        let picture = Picture::decode(&whole).unwrap();
        for cut in (0..whole.len()).step_by(7).chain([whole.len() - 2, whole.len() - 1]) {
            let error = match Picture::decode(&whole[..cut]) {
                // A picture may be whole before the last bytes, which hold nothing.
                Ok(found) => {
                    assert!(cut + 24 > whole.len() && found == picture, "{name} cut at {cut}");
                    continue;
                }
                Err(error) => error,
            };
            let expected = match error {
                PictureError::Unknown(_) => cut < 12,
                PictureError::Truncated(found) => found == cut,
                PictureError::Jpeg(_) => is(name, "jpg"),
                PictureError::Png(_) => is(name, "png"),
                PictureError::Other(..) => !is(name, "png") && !is(name, "jpg"),
                _ => false,
            };
            assert!(expected, "{name} cut at {cut}: {error:?}");
        }
    }
}

#[test]
fn mutated_pictures_do_no_harm() {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for name in [
        "full.jpg",
        "half.jpg",
        "progressive.jpg",
        "inks.jpg",
        "ycck.jpg",
        "rgb.png",
        "palette.png",
        "bilevel.png",
        "palette.bmp",
        "palette.gif",
        "rgb.ppm",
        "packed.tif",
        "exact.webp",
        "lossy.webp",
    ] {
        let whole = bytes(name);
        for _ in 0..300 {
            let mut bytes = whole.clone();
            for _ in 0..=next() % 4 {
                let at = next() % bytes.len();
                bytes[at] = next() as u8;
            }
            if let Ok(picture) = Picture::decode(&bytes) {
                assert_eq!(picture.rgb.len(), picture.width * picture.height * 3);
            }
        }
    }
}

#[test]
fn errors_name_the_file_and_the_cause() {
    let missing = Picture::open(Path::new("nowhere/x.png")).unwrap_err();
    assert!(matches!(missing.fault, Fault::Io("open", _)));
    let error = Picture::open(&folder().join("refused/deep.png")).unwrap_err();
    let DataError { path, .. } = &error;
    assert!(path.ends_with("refused/deep.png") && error.to_string().ends_with("refused/deep.png"));
    let cause = error.source().unwrap().to_string();
    assert_eq!(cause, "found 16 bits a channel, expected 8: convert the picture");
}

#[test]
fn messages_on_broken_pictures_have_no_words_of_rust() {
    let mut png = bytes("rgb.png");
    let data = png.windows(4).position(|name| name == b"IDAT").unwrap();
    // A bit of the data that its checksum does not fit any more.
    png[data + 6] ^= 1;
    let message = Picture::decode(&png).unwrap_err().to_string();
    assert!(message.starts_with("cannot decode PNG: "), "{message}");
    // The checksum of the header.
    let mut png = bytes("rgb.png");
    let header = png.windows(4).position(|name| name == b"IHDR").unwrap();
    png[header + 4 + 13] ^= 1;
    let message = Picture::decode(&png).unwrap_err().to_string();
    assert!(message.contains("IHDR") && !message.contains(['{', '}']), "{message}");
}
