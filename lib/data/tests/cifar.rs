//! CIFAR's two sets, in directories and archives, good and bad.

use std::fs::{self, File};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use parm_data_sets::cifar::{Cifar, CifarError};
use parm_data_sets::{DataError, Fault};
use tempfile::TempDir;

/// Records of these labels; image i of file f has all pixels 10·f + i.
fn records(file: u8, labels: &[&[u8]]) -> Vec<u8> {
    let record = |(i, labels): (usize, &&[u8])| [*labels, &[10 * file + i as u8; 3072]].concat();
    labels.iter().enumerate().flat_map(record).collect()
}

fn cifar10() -> Vec<(&'static str, Vec<u8>)> {
    // In an order of their own, as in the archive that is published.
    vec![
        ("data_batch_2.bin", records(2, &[&[3]])),
        ("batches.meta.txt", b"airplane\nautomobile\n\n".to_vec()),
        ("data_batch_5.bin", records(5, &[&[6], &[7]])),
        ("test_batch.bin", records(6, &[&[8]])),
        ("data_batch_1.bin", records(1, &[&[1], &[2]])),
        ("data_batch_4.bin", records(4, &[&[5]])),
        ("data_batch_3.bin", records(3, &[&[4]])),
    ]
}

fn cifar100() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("train.bin", records(1, &[&[19, 99], &[0, 30]])),
        ("test.bin", records(2, &[&[1, 2]])),
        ("fine_label_names.txt", b"apple\naquarium_fish\n".to_vec()),
        ("coarse_label_names.txt", b"aquatic_mammals\n".to_vec()),
    ]
}

/// The files in a directory, in another directory of that, in a .tar and in a .tar.gz.
fn places(inner: &str, files: &[(&str, Vec<u8>)]) -> (TempDir, [&'static str; 4]) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("outer").join(inner)).unwrap();
    let tar = File::create(folder.path().join("x.tar")).unwrap();
    let gzip = GzEncoder::new(File::create(folder.path().join("x.tar.gz")).unwrap(), Compression::fast());
    let (mut tar, mut gzip) = (tar::Builder::new(tar), tar::Builder::new(gzip));
    for (name, content) in files {
        fs::write(folder.path().join("outer").join(inner).join(name), content).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let path = format!("{inner}/{name}");
        tar.append_data(&mut header.clone(), &path, content.as_slice()).unwrap();
        gzip.append_data(&mut header, &path, content.as_slice()).unwrap();
    }
    tar.finish().unwrap();
    gzip.into_inner().unwrap().finish().unwrap();
    std::os::unix::fs::symlink(format!("outer/{inner}"), folder.path().join("plain")).unwrap();
    (folder, ["plain", "outer", "x.tar", "x.tar.gz"])
}

/// The first pixels and the labels of a split.
fn read(path: &Path, train: bool) -> Result<(Cifar, Vec<(u8, u8)>), DataError> {
    let set = Cifar::open(path, train)?;
    let mut found = Vec::new();
    set.read(|image, label| {
        assert!(image.len() == 3072 && image.iter().all(|&pixel| pixel == image[0]));
        found.push((image[0], label));
        Ok::<_, DataError>(())
    })?;
    assert_eq!(set.count(), found.len() as u64);
    Ok((set, found))
}

#[test]
fn both_sets_are_read_from_everywhere() {
    let (folder, places10) = places("cifar-10-batches-bin", &cifar10());
    for place in places10 {
        let (set, train) = read(&folder.path().join(place), true).unwrap();
        assert_eq!(train, [(10, 1), (11, 2), (20, 3), (30, 4), (40, 5), (50, 6), (51, 7)], "{place}");
        assert_eq!(set.classes().unwrap(), ["airplane", "automobile"]);
        assert_eq!(read(&folder.path().join(place), false).unwrap().1, [(60, 8)], "{place}");
    }
    let (folder, places100) = places("cifar-100-binary", &cifar100());
    for place in places100 {
        let (set, train) = read(&folder.path().join(place), true).unwrap();
        assert_eq!(train, [(10, 99), (11, 30)], "{place}: the fine labels");
        assert_eq!(set.classes().unwrap(), ["apple", "aquarium_fish"]);
        assert_eq!(read(&folder.path().join(place), false).unwrap().1, [(20, 2)], "{place}");
    }
}

#[test]
fn what_is_not_cifar_is_refused() {
    let refused = |files: &[(&str, Vec<u8>)]| {
        let (folder, places) = places("x", files);
        let mut errors = [places[0], places[3]].map(|place| {
            match read(&folder.path().join(place), true).unwrap_err().fault {
                Fault::Cifar(error) => error,
                other => panic!("{other:?}"),
            }
        });
        errors.reverse();
        let [first, second] = errors;
        assert_eq!(first, second, "the same from a directory and an archive");
        first
    };
    assert_eq!(refused(&[("x.bin", vec![])]), CifarError::Unknown { pickled: false });
    let pickled = refused(&[("data_batch_1", vec![])]);
    assert_eq!(pickled, CifarError::Unknown { pickled: true });
    assert!(pickled.to_string().ends_with("in the binary version, not Python's"));
    let mut files = cifar10();
    files.pop();
    assert_eq!(refused(&files), CifarError::Missing("data_batch_3.bin"));
    files.push(("data_batch_3.bin", vec![0; 3074]));
    let size = CifarError::Size { file: "data_batch_3.bin", found: 3074, record: 3073 };
    assert_eq!(refused(&files), size);
    files.pop();
    files.push(("data_batch_3.bin", records(3, &[&[9], &[10]])));
    let label = CifarError::Label { file: "data_batch_3.bin", record: 1, label: 10, classes: 10 };
    assert_eq!(refused(&files), label);
    let file = ("train.bin", records(1, &[&[0, 100]]));
    assert_eq!(
        refused(&[file]),
        CifarError::Label { file: "train.bin", record: 0, label: 100, classes: 100 }
    );
}

#[test]
fn what_shrinks_or_ends_early_is_refused() {
    let (folder, _) = places("x", &cifar100());
    let path = folder.path().join("plain");
    let set = Cifar::open(&path, true).unwrap();
    fs::write(path.join("train.bin"), [0; 3074 + 5]).unwrap();
    let error = set.read(|_, _| Ok::<_, DataError>(())).unwrap_err();
    let truncated = CifarError::Truncated { file: "train.bin", record: 1 };
    assert!(matches!(error.fault, Fault::Cifar(found) if found == truncated));
    for (name, most) in [("x.tar", 4000), ("x.tar.gz", 30)] {
        let bytes = fs::read(folder.path().join(name)).unwrap();
        fs::write(folder.path().join("cut"), &bytes[..most]).unwrap();
        let error = read(&folder.path().join("cut"), true).unwrap_err();
        assert!(matches!(error.fault, Fault::Io("read", _) | Fault::Cifar(_)), "{error:?}");
    }
    let missing = Cifar::open(Path::new("nowhere"), true).unwrap_err();
    assert!(matches!(missing.fault, Fault::Io("open", _)));
}
