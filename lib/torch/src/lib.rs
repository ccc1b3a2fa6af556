//! Models on libtorch: the only crate that names tch.
//!
//! [`device`] chooses where to compute and loads the GPU code if there is a GPU, `memory` lays tensors out
//! for it, `network` has the native architectures and the files of their models, `exported` and `script` have
//! the other kinds of models, exported programs and TorchScript, and `model` is a model of any kind. `numbers`
//! has a model's parameters and buffers, `trainable` is what training needs of a model, `operator` calls
//! libtorch's operators by name, `encoder` makes coded queries, [`session`] runs a model on blocks of rows,
//! `adam` and [`train`] make new ones, [`timings`] says where the time went. Tensors cross this crate's border
//! as slices of numbers, never as types of tch or ndarray.
//!
//! Nothing here reads the clock or the environment. Random numbers are ChaCha8's, keyed by seed and epoch, so
//! that a resumed training equals an uninterrupted one. Dropout draws libtorch's own random numbers, whose
//! generator is seeded before each minibatch by seed, epoch and minibatch.

mod adam;
pub mod device;
mod encoder;
mod exported;
#[cfg(test)]
mod fixtures;
mod foreign;
mod memory;
mod model;
mod network;
mod numbers;
mod operator;
mod script;
pub mod session;
mod summary;
mod thrown;
pub mod timings;
pub mod train;
mod trainable;

pub use device::Device;
pub use encoder::{Encoder, EncoderError};
pub use exported::{Batch, CutError, Program, ProgramError};
pub use model::{Choices, EXTENSIONS, InputsError, Model, ModelError, NotTrainable};
pub use network::{CheckpointError, Description, ExportError, Family, Network, Output, ShapeError};
pub use numbers::HoldError;
pub use script::Script;
pub use session::{Pass, Session, Tuning};
pub use summary::{Port, Summary};
pub use timings::{Phase, Timings};

/// The longest message of libtorch that is passed on, in characters.
const MAX_MESSAGE: usize = 240;

/// The longest exception of a model that is passed on, in characters.
const MAX_EXCEPTION: usize = 8000;

/// The relevant line of a message of libtorch, without its stack trace. An exception of a TorchScript program
/// is passed on completely, with its lines joined.
fn one_line(message: &str) -> String {
    let lines = || message.lines().map(str::trim).filter(|line| !line.is_empty());
    // An exception follows the lines of the program that raised it.
    let raised = message.rfind("<--- HERE").map(|at| &message[at..]);
    let is_exception = |line: &&str| !line.starts_with(' ') && exception(line).is_some();
    if let Some(begin) = raised.and_then(|rest| rest.lines().skip(1).position(|line| is_exception(&line))) {
        let exception_lines = raised.into_iter().flat_map(|rest| rest.lines().skip(1 + begin));
        let is_own = |line: &&str| !line.starts_with("Exception raised from") && !line.starts_with("frame #");
        let own: Vec<&str> =
            exception_lines.take_while(is_own).map(str::trim).filter(|line| !line.is_empty()).collect();
        let text = own.join(" ");
        return cut(
            text.strip_prefix("builtins.").unwrap_or(&text).trim_start_matches("RuntimeError: "),
            MAX_EXCEPTION,
        );
    }
    let error = lines().find_map(|line| line.strip_prefix("RuntimeError: "));
    let line = error.or_else(|| lines().next()).unwrap_or("no message");
    cut(line.strip_prefix("Internal torch error: ").unwrap_or(line), MAX_MESSAGE)
}

/// The name of the exception at the beginning of a line, as `builtins.ValueError: …`.
fn exception(line: &str) -> Option<&str> {
    let (name, _) = line.split_once(": ")?;
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// True if the memory of a GPU was exhausted. Only the message of libtorch shows that.
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
        let raised = |exception: &str| {
            one_line(&format!(
                "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript \
                 (most recent call last):\n  File \"code/m.py\", line 4, in forward\n    ops.prim.Raise\n    \
                 ~~~ <--- HERE\n{exception}\n\nException raised from x at y.cpp:3\nframe #0: z"
            ))
        };
        assert_eq!(raised("builtins.RuntimeError: one\n  two"), "one two");
        assert_eq!(raised("builtins.ValueError: too few"), "ValueError: too few");
        let long = "é".repeat(999);
        assert_eq!(raised(&format!("RuntimeError: {long}")), long);
        assert_eq!(one_line(&"é".repeat(999)).chars().count(), MAX_MESSAGE + 1);
    }
}
