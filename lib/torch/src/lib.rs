//! Models on libtorch: the only crate that names tch.
//!
//! [`device`] chooses where to compute and loads the GPU code if there is a GPU, [`network`] has the
//! native architectures, [`checkpoint`] is the file of a native model, [`model`] is a model of either
//! kind, native or TorchScript, [`encoder`] makes coded queries, [`session`] runs a model on blocks of
//! rows, [`adam`] and [`train`] make new ones. Tensors cross this
//! crate's border as slices of numbers, never as types of tch or ndarray.
//!
//! Nothing here reads the clock, the environment or libtorch's random source: what is random is
//! drawn from ChaCha8, keyed by seed and epoch, so a resumed training repeats an unbroken one.

pub mod adam;
pub mod checkpoint;
pub mod device;
pub mod encoder;
pub mod model;
pub mod network;
pub mod session;
pub mod train;

pub use device::Device;
pub use encoder::Encoder;
pub use model::Model;
pub use network::{Description, Family, Mode, Network};
pub use session::{Pass, Session};

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

#[cfg(test)]
mod tests {
    use super::{MAX_MESSAGE, one_line};

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
