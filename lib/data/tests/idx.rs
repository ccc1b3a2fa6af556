//! MNIST's format, good and bad.

use std::fs;

use parm::Dtype;
use parm_data_sets::Fault;
use parm_data_sets::idx::{IdxError, IdxFile};

/// A file of images with these axes and bytes.
fn images(axes: [u32; 3], data: &[u8]) -> Vec<u8> {
    let axes: Vec<u8> = axes.into_iter().flat_map(u32::to_be_bytes).collect();
    [&[0, 0, 8, 3], axes.as_slice(), data].concat()
}

/// The axes, the type, and all items.
fn read<const AXES: usize>(bytes: &[u8]) -> Result<([usize; AXES], Dtype, Vec<u8>), Fault> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images");
    fs::write(&path, bytes).unwrap();
    let all = || {
        let mut file = IdxFile::<AXES>::open(&path, "images [N, H, W]")?;
        let (mut all, mut items) = (Vec::new(), Vec::new());
        while file.read(&mut items)? > 0 {
            assert!(items.len() <= (1 << 20).max(file.item_bytes()), "a block is bounded");
            all.extend_from_slice(&items);
        }
        Ok((file.axes, file.dtype, all))
    };
    all().map_err(|error: parm_data_sets::DataError| {
        assert_eq!(error.path, path);
        error.fault
    })
}

#[test]
fn items_come_in_blocks_whatever_their_size() {
    for [count, height, width] in [[5, 2, 3], [0, 2, 3], [5000, 20, 30], [3, 1200, 1000]] {
        let data: Vec<u8> = (0..count * height * width).map(|i| (i % 251) as u8).collect();
        let (axes, dtype, found) = read(&images([count, height, width], &data)).unwrap();
        assert_eq!((axes, dtype), ([count, height, width].map(|axis| axis as usize), Dtype::U8));
        assert!(found == data);
    }
}

#[test]
fn labels_are_integers_of_any_type() {
    for (code, dtype, values) in [
        (0x08, Dtype::U8, vec![0_i32, 9, 255]),
        (0x09, Dtype::I8, vec![0, -1, 127]),
        (0x0b, Dtype::I16, vec![258, -2, 32_767]),
        (0x0c, Dtype::I32, vec![16_909_060, -3, 7]),
    ] {
        let size = dtype.size();
        let data: Vec<u8> =
            values.iter().flat_map(|value| value.to_be_bytes()[4 - size..].to_vec()).collect();
        let little: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()[..size].to_vec()).collect();
        let file = [&[0, 0, code, 1, 0, 0, 0, 3], data.as_slice()].concat();
        assert_eq!(read::<1>(&file).unwrap(), ([3], dtype, little));
        let cut = read::<1>(&file[..file.len() - 1]).unwrap_err();
        assert!(matches!(cut, Fault::Idx(IdxError::Truncated { .. })), "{cut:?}");
    }
    for code in [0x0d, 0x0e, 0x0a] {
        let refused = read::<1>(&[0, 0, code, 1, 0, 0, 0, 0]).unwrap_err();
        let message =
            format!("found the magic number [00, 00, {code:02x}, 01], expected 00 00 (08, 09, 0b or 0c) 01");
        assert!(refused.to_string().starts_with(&message), "{refused}");
    }
}

#[test]
fn bad_files_are_refused() {
    let refused = |bytes: &[u8]| match read::<3>(bytes).unwrap_err() {
        Fault::Idx(error) => error,
        other => panic!("{other:?}"),
    };
    let good = images([2, 1, 2], &[1, 2, 3, 4]);
    for cut in [0, 1, 4, 15] {
        assert!(matches!(refused(&good[..cut]), IdxError::Header { .. }), "cut at {cut}");
    }
    for code in [0x09, 0x0c, 0x0d] {
        let mut other = good.clone();
        other[2] = code;
        assert!(matches!(refused(&other), IdxError::Magic { found: [0, 0, found, 3], .. } if found == code));
    }
    assert_eq!(refused(&images([2, 0, 2], &[])), IdxError::Empty(vec![0, 2]));
    let most = u32::MAX as usize;
    assert_eq!(refused(&images([u32::MAX; 3], &[])), IdxError::Overflow(vec![most; 3]));
    let truncated = |found| IdxError::Truncated { found, expected: 4, axes: vec![2, 1, 2] };
    assert_eq!(refused(&good[..19]), truncated(3));
    assert_eq!(refused(&good[..16]), truncated(0));
    // What has not come takes no memory, and an item is at most a picture.
    assert!(matches!(
        refused(&images([u32::MAX, 1 << 13, 1 << 13], &[1])),
        IdxError::Truncated { found: 1, .. }
    ));
    assert_eq!(
        refused(&images([1, 1 << 13, (1 << 13) + 1], &[1])),
        IdxError::Large(vec![1 << 13, (1 << 13) + 1])
    );
    assert_eq!(
        refused(&[good.as_slice(), &[5]].concat()),
        IdxError::TooLong { expected: 4, axes: vec![2, 1, 2] }
    );
}
