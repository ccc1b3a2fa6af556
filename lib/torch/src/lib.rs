//! Models on libtorch: the only crate that names tch.
//!
//! [`device`] chooses where to compute and loads the GPU code if there is a GPU, `memory` lays tensors out for it, [`network`] has the
//! native architectures, [`checkpoint`] is the file of a native model, [`model`] is a model of either
//! kind, native or TorchScript, [`encoder`] makes coded queries, [`session`] runs a model on blocks of
//! rows, [`adam`] and [`train`] make new ones, [`timings`] says where the time went. Tensors cross this
//! crate's border as slices of numbers, never as types of tch or ndarray.
//!
//! Nothing here reads the clock, the environment or libtorch's random source: what is random is
//! drawn from ChaCha8, keyed by seed and epoch, so a resumed training repeats an unbroken one.

pub mod adam;
pub mod checkpoint;
pub mod device;
pub mod encoder;
mod memory;
pub mod model;
pub mod network;
pub mod session;
pub mod timings;
pub mod train;

pub use device::Device;
pub use encoder::Encoder;
pub use model::Model;
pub use network::{Description, Family, Mode, Network};
pub use session::{Pass, Session};
pub use timings::{Phase, Timings};

/// The longest message of libtorch that is passed on, in characters.
const MAX_MESSAGE: usize = 240;

/// The line that matters of a message of libtorch, which are followed by stack traces.
fn one_line(message: &str) -> String {
    let lines = || message.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().find_map(|line| line.strip_prefix("RuntimeError: "));
    let line = error.or_else(|| lines().next()).unwrap_or("no message");
    let line = line.strip_prefix("Internal torch error: ").unwrap_or(line);
    match line.char_indices().nth(MAX_MESSAGE) {
        None => line.into(),
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

/// Whether memory of a GPU was short. libtorch tells kinds of errors apart in its messages alone.
fn is_out_of_memory(error: &tch::TchError) -> bool {
    error.to_string().contains("CUDA out of memory")
}

#[cfg(test)]
mod tests {
    use tch::TchError;

    use super::{MAX_MESSAGE, is_out_of_memory, one_line};

    #[test]
    fn short_memory_of_a_gpu_is_told_from_other_errors() {
        let error = |message: &str| TchError::Torch(message.into());
        assert!(is_out_of_memory(&error("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")));
        assert!(!is_out_of_memory(&error("mat1 and mat2 shapes cannot be multiplied")));
    }

    #[test]
    fn messages_of_libtorch_become_the_line_that_matters() {
        let trace = "The following operation failed in the TorchScript interpreter.\nTraceback of \
                     TorchScript:\n  code <--- HERE\nRuntimeError: shapes cannot be multiplied\n\nframe #0";
        assert_eq!(one_line(trace), "shapes cannot be multiplied");
        assert_eq!(one_line("Internal torch error: no archive\nframe #0"), "no archive");
        assert_eq!(one_line("\n"), "no message");
        assert_eq!(one_line(&"é".repeat(999)).chars().count(), MAX_MESSAGE + 1);
    }
}
