//! Matrices of codes: how long D_F takes, and applying E against memcpy and `matrixmultiply`.
//!
//! Ratios against a peer in the same run, as in the bench `kernels`.
//!
//!     cargo bench -p parm --bench codes

use std::hint::black_box;
use std::time::Instant;

use parm::Float;
use parm::codes::geometry::Points;
use parm::codes::{Decoder, InterpolatingCode, Matrices, Redundancy, apply, combine, row_major};

/// Bytes that one pass reads and writes.
const BYTES: usize = 128 << 20;

const ROUNDS: usize = 11;

fn main() {
    // `cargo test` runs this file too, without the flag: once, on little data.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    let (bytes, rounds) = if quick { (1 << 20, 1) } else { (BYTES, ROUNDS) };
    decoding(if quick { 2 } else { 2000 });
    println!("{:28} {:>9} {:>9} {:>9} {:>8} {:>8}", "apply", "GB/s", "combine", "gemm", "/memcpy", "/gemm");
    for (k, s, elements) in [
        (1, 1, 784),
        (2, 1, 784),
        (3, 1, 784),
        (4, 1, 784),
        (6, 1, 784),
        (8, 1, 784),
        (8, 3, 784),
        (12, 3, 784),
        (60, 40, 784),
        (4, 1, 150_528),
        (8, 1, 150_528),
        (8, 1, 10),
    ] {
        run::<f32>(k, s, elements, bytes, rounds);
    }
    run::<f64>(8, 1, 784, bytes, rounds);
}

fn code(k: usize, stragglers: usize) -> InterpolatingCode {
    let redundancy = Redundancy { stragglers, byzantine: 0 };
    InterpolatingCode::berrut(k, redundancy, Points::default()).expect("k > 0")
}

/// D_F of k = 12, s = 3: solved, and found again.
fn decoding(rounds: usize) {
    let redundancy = Redundancy { stragglers: 3, byzantine: 0 };
    let points = Points::default();
    let codes = [
        ("berrut", InterpolatingCode::berrut(12, redundancy, points)),
        ("floater-hormann 3", InterpolatingCode::floater_hormann(12, redundancy, points, 3)),
        ("spline", InterpolatingCode::spline(12, redundancy, points, [0.0, 1e-4])),
    ];
    println!("{:28} {:>12} {:>12}", "D_F k=12 s=3", "solved", "cached");
    for (name, code) in codes {
        let code = code.expect("k > 0");
        let mut available = vec![true; code.workers()];
        for worker in [0, 4, 9] {
            available[worker] = false;
        }
        let time = |act: &mut dyn FnMut()| {
            let mut times: Vec<f64> = (0..rounds)
                .map(|_| {
                    let begin = Instant::now();
                    (0..50).for_each(|_| act());
                    begin.elapsed().as_secs_f64() / 50.0
                })
                .collect();
            times.sort_by(f64::total_cmp);
            times[times.len() / 2] * 1e6
        };
        let solved = time(&mut || drop(black_box(code.decoding(black_box(&available)))));
        let mut decoder = Decoder::new(code.clone());
        let cached = time(&mut || drop(black_box(decoder.decoding(black_box(&available)))));
        println!("{name:28} {solved:>9.2} µs {cached:>9.3} µs");
    }
}

fn run<T: Float>(k: usize, s: usize, elements: usize, bytes: usize, rounds: usize) {
    let code = code(k, s);
    let n = code.workers();
    let matrix: Vec<T> = row_major(&code.encoding());
    let groups = (bytes / ((k + n) * elements * size_of::<T>())).max(1);
    let moved = groups * (k + n) * elements * size_of::<T>();
    let queries: Vec<T> = (0..groups * k * elements).map(|i| T::from_f64((i % 251) as f64)).collect();
    let mut out = vec![T::from_f64(1.0); groups * n * elements];
    let source = vec![1_u8; moved / 2];
    let mut copy = vec![2_u8; moved / 2];
    let mut times = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..=rounds {
        for (kind, times) in times.iter_mut().enumerate() {
            let begin = Instant::now();
            if kind == 3 {
                copy.copy_from_slice(black_box(&source));
                black_box(&copy);
            } else {
                let groups = black_box(&queries).chunks_exact(k * elements);
                for (group, out) in groups.zip(out.chunks_exact_mut(n * elements)) {
                    match kind {
                        0 => apply(&matrix, group, elements, out),
                        1 => by_rows(&matrix, group, elements, out),
                        _ => T::multiply(&matrix, group, elements, out),
                    }
                }
                black_box(&out);
            }
            times.push(begin.elapsed().as_secs_f64());
        }
    }
    let [applied, combined, multiplied, memcpy] = times.map(|mut times| {
        times.remove(0);
        // The fastest pass of each: what else runs on the machine only ever adds.
        moved as f64 / times.into_iter().fold(f64::INFINITY, f64::min) / 1e9
    });
    let name = format!("k={k} n={n} {}[{elements}]", T::DTYPE);
    let (to_memcpy, to_gemm) = (applied / memcpy, applied / multiplied);
    println!("{name:28} {applied:>9.2} {combined:>9.2} {multiplied:>9.2} {to_memcpy:>8.2} {to_gemm:>8.2}");
}

fn by_rows<T: Float>(matrix: &[T], group: &[T], elements: usize, out: &mut [T]) {
    let rows: Vec<&[T]> = group.chunks_exact(elements).collect();
    for (weights, out) in matrix.chunks_exact(rows.len()).zip(out.chunks_exact_mut(elements)) {
        combine(weights, &rows, out);
    }
}
