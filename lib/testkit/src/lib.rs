//! Support for tests: `.npy` bytes made without the code under test, streams that trickle, and the
//! tools run as processes.

pub mod code_dir;
pub mod npy;
pub mod safetensors;
pub mod tool;
pub mod trickle;

pub use tool::{Outcome, Tool};
pub use trickle::Trickle;
