//! Support for tests: `.npy` bytes made without the code under test, streams that trickle, a server
//! that answers badly, a model server that sabotages, a proxy with faults, hostile inputs under an allocator that counts, and the tools run as processes.

pub mod code_dir;
pub mod hostile;
pub mod npy;
mod proxy;
pub mod saboteur;
pub mod safetensors;
pub mod server;
pub mod tool;
mod trickle;
pub mod wait;

pub use proxy::Proxy;
pub use saboteur::Saboteur;
pub use server::Server;
pub use tool::{Outcome, Tool};
pub use trickle::Trickle;
