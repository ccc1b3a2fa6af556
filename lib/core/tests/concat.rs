//! The code `concat` against the fixtures that real Pillow made (testdata/concat/make.py).

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use parm::Float;
use parm::codes::concat::Concat;
use parm::npy::{RowBuffer, RowReader};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/concat")
}

/// The shape of a row, the number of rows and their values.
fn read<T: Float>(name: &str) -> (Vec<usize>, usize, Vec<T>) {
    let mut rows = RowReader::new(File::open(folder().join(name)).unwrap(), name).unwrap();
    let mut values = RowBuffer::<T>::default();
    let count = rows.read(100, &mut values).unwrap();
    let layout = rows.layout();
    (layout.shape.clone(), count, values.values()[..count * layout.elements()].to_vec())
}

/// The largest error, as a share of the value or, near 0, of 1.
fn error<T: Float>(name: &str) -> f64 {
    let (shape, k, images) = read::<T>(&format!("{name}.npy"));
    let (tiled_shape, groups, expected) = read::<T>(&format!("{name}.tiled.npy"));
    assert_eq!((&tiled_shape, groups), (&shape, 1), "{name}");
    let mut out = Vec::new();
    Concat::new(k, &shape).unwrap().encode_groups(&images, &mut out);
    assert_eq!(out.len(), expected.len(), "{name}");
    let errors = out.iter().zip(&expected).map(|(found, expected)| {
        let (found, expected) = (found.to_f64(), expected.to_f64());
        (found - expected).abs() / expected.abs().max(1.0)
    });
    errors.fold(0.0, f64::max)
}

#[test]
fn images_are_tiled_as_pillow_shrinks_them() {
    let entries = fs::read_dir(folder()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> =
        names.filter_map(|name| Some(name.strip_suffix(".tiled.npy")?.to_owned())).collect();
    assert_eq!(names.len(), 14);
    for name in names {
        let (single, double) = (error::<f32>(&name), error::<f64>(&name));
        assert!(single < 1e-6 && double < 1e-6, "{name}: {single}, {double}");
    }
}

#[test]
fn matrices_of_slots_are_the_encoder() {
    for (k, height, width) in [(1, 5, 4), (2, 28, 28), (3, 9, 7), (4, 8, 11), (5, 12, 10)] {
        let concat = Concat::new(k, &[2, height, width]).unwrap();
        let queries: Vec<f64> =
            (0..k * 2 * height * width).map(|i| ((i * 7919) % 101) as f64 / 10.0).collect();
        let mut expected = Vec::new();
        concat.encode_groups(&queries, &mut expected);
        let mut found = vec![0.0; expected.len()];
        for (slot, image) in queries.chunks_exact(2 * height * width).enumerate() {
            let [down, across] = concat.matrices::<f64>(slot);
            for (i, out) in found.iter_mut().enumerate() {
                let (channel, y, x) = (i / (height * width), i / width % height, i % width);
                let pixel = |v: usize, u: usize| image[(channel * height + v) * width + u];
                *out += (0..height * width)
                    .map(|at| {
                        down[y * height + at / width]
                            * pixel(at / width, at % width)
                            * across[x * width + at % width]
                    })
                    .sum::<f64>();
            }
        }
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9), "k = {k}");
    }
}
