//! The kernels of the `sum` code against a memcpy of the bytes that they read and write: one core,
//! data far larger than the last cache.
//!
//! A plain `main`, since what counts is a ratio: on a shared machine two numbers can be compared
//! only if they were taken alternately, which the usual harnesses, one function after the other,
//! do not do.
//!
//!     cargo bench -p parm --bench kernels

use std::hint::black_box;
use std::time::Instant;

use parm::Float;
use parm::codes::{combine, encode_groups};

/// Bytes that one pass reads and writes: many times the last cache of most machines.
const BYTES: usize = 384 << 20;

/// Passes of each kind, alternately; the medians are compared.
const ROUNDS: usize = 15;

struct Case {
    name: &'static str,
    k: usize,
    elements: usize,
    kernel: Kernel,
}

#[derive(Clone, Copy, PartialEq)]
enum Kernel {
    /// k rows in, their weighted sum out.
    Encode,
    /// The parity output and k − 1 predictions in, the lost one out.
    Decode,
}

fn main() {
    // `cargo test` runs this file too, without the flag: once, on little data.
    let quick = !std::env::args().any(|arg| arg == "--bench");
    let (bytes, rounds) = if quick { (1 << 20, 1) } else { (BYTES, ROUNDS) };
    println!("{:28} {:>9} {:>9} {:>7}", "kernel", "GB/s", "memcpy", "ratio");
    // Digits, CIFAR, spectrograms of 96 by 128, ImageNet, and the predictions of ten classes.
    for (k, elements) in
        [(2, 784), (3, 784), (4, 784), (2, 3072), (2, 12_288), (2, 150_528), (4, 150_528), (2, 10)]
    {
        for (kernel, name) in [(Kernel::Encode, "encode"), (Kernel::Decode, "decode")] {
            let case = Case { name, k, elements, kernel };
            case.run::<f32>(bytes, rounds);
        }
    }
    let case = Case { name: "encode", k: 2, elements: 784, kernel: Kernel::Encode };
    case.run::<f64>(bytes, rounds);
}

impl Case {
    fn run<T: Float>(&self, bytes: usize, rounds: usize) {
        let (k, elements) = (self.k, self.elements);
        let groups = bytes / ((k + 1) * elements * size_of::<T>()).max(1);
        let moved = groups * (k + 1) * elements * size_of::<T>();
        // One value a page is enough to have all pages in memory, but zeros might be shared.
        let queries: Vec<T> = (0..groups * k * elements).map(|i| T::from_f64((i % 251) as f64)).collect();
        let mut out = vec![T::from_f64(1.0); groups * elements];
        let source = vec![1_u8; moved / 2];
        let mut copy = vec![2_u8; moved / 2];
        let weights = vec![T::from_f64(1.0); k];
        let mut solved = vec![T::from_f64(-1.0); k];
        solved[0] = T::from_f64(1.0);
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..=rounds {
            let begin = Instant::now();
            match self.kernel {
                Kernel::Encode => encode_groups(&weights, black_box(&queries), elements, &mut out),
                Kernel::Decode => {
                    let mut rows = Vec::with_capacity(k);
                    let queries = black_box(&queries).chunks_exact(k * elements);
                    for (group, out) in queries.zip(out.chunks_exact_mut(elements)) {
                        rows.clear();
                        rows.extend(group.chunks_exact(elements));
                        combine(&solved, &rows, out);
                    }
                }
            }
            black_box(&out);
            times[0].push(begin.elapsed().as_secs_f64());
            let begin = Instant::now();
            copy.copy_from_slice(black_box(&source));
            black_box(&copy);
            times[1].push(begin.elapsed().as_secs_f64());
        }
        let [kernel, memcpy] = times.map(|mut times| {
            times.remove(0); // the caches and the page tables of the first pass are those of the set-up
            times.sort_by(f64::total_cmp);
            moved as f64 / times[times.len() / 2] / 1e9
        });
        let name = format!("{} k={k} {}[{elements}]", self.name, T::DTYPE);
        println!("{name:28} {kernel:>9.2} {memcpy:>9.2} {:>7.2}", kernel / memcpy);
    }
}
