//! MNIST's format, good and bad.

use std::fs;

use parm_data_sets::Fault;
use parm_data_sets::idx::{IdxError, IdxFile};

/// A file of images with these axes and bytes.
fn images(axes: [u32; 3], data: &[u8]) -> Vec<u8> {
    let axes: Vec<u8> = axes.into_iter().flat_map(u32::to_be_bytes).collect();
    [&[0, 0, 8, 3], axes.as_slice(), data].concat()
}

/// The axes, and all items read `block` at a time.
fn read(bytes: &[u8], block: usize) -> Result<([usize; 3], Vec<u8>), Fault> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images");
    fs::write(&path, bytes).unwrap();
    let all = || {
        let mut file = IdxFile::<3>::open(&path, "images [N, H, W]")?;
        let (mut all, mut items) = (Vec::new(), Vec::new());
        while file.read(block, &mut items)? > 0 {
            all.extend_from_slice(&items);
        }
        Ok((file.axes, all))
    };
    all().map_err(|error: parm_data_sets::DataError| {
        assert_eq!(error.path, path);
        error.fault
    })
}

#[test]
fn items_come_in_blocks_of_any_size() {
    let data: Vec<u8> = (0..30).collect();
    for block in [1, 2, 3, 5, 100, usize::MAX] {
        assert_eq!(read(&images([5, 2, 3], &data), block).unwrap(), ([5, 2, 3], data.clone()));
    }
    assert_eq!(read(&images([0, 2, 3], &[]), 4).unwrap(), ([0, 2, 3], vec![]));
}

#[test]
fn bad_files_are_refused() {
    let refused = |bytes: &[u8]| match read(bytes, 2).unwrap_err() {
        Fault::Idx(error) => error,
        other => panic!("{other:?}"),
    };
    let good = images([2, 1, 2], &[1, 2, 3, 4]);
    for cut in [0, 1, 4, 15] {
        assert!(matches!(refused(&good[..cut]), IdxError::Header { .. }), "cut at {cut}");
    }
    let mut floats = good.clone();
    floats[2] = 0x0d;
    assert!(matches!(refused(&floats), IdxError::Magic { found: [0, 0, 0x0d, 3], .. }));
    assert_eq!(refused(&images([2, 0, 2], &[])), IdxError::Empty(vec![0, 2]));
    let most = u32::MAX as usize;
    assert_eq!(refused(&images([u32::MAX; 3], &[])), IdxError::Overflow(vec![most; 3]));
    let truncated = |found| IdxError::Truncated { found, expected: 4, axes: vec![2, 1, 2] };
    assert_eq!(refused(&good[..19]), truncated(3));
    assert_eq!(refused(&good[..16]), truncated(0));
    // What has not come takes no memory.
    assert!(matches!(
        refused(&images([u32::MAX, 1 << 15, 1 << 15], &[1])),
        IdxError::Truncated { found: 1, .. }
    ));
    assert_eq!(
        refused(&[good.as_slice(), &[5]].concat()),
        IdxError::TooLong { expected: 4, axes: vec![2, 1, 2] }
    );
}
