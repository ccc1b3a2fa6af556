//! Support for tests: `.npy` bytes that are made without the code under test, slow streams, an HTTP server
//! with wrong answers, a model server that commits faults, a proxy with faults, hostile inputs under a
//! counting allocator, the tools as processes, pages in a browser, what their reports say of a run, and whether these follow their
//! schemas.

pub mod browser;
pub mod code_dir;
mod coprocess;
pub mod hostile;
pub mod npy;
mod proxy;
pub mod report;
pub mod saboteur;
pub mod safetensors;
pub mod schema;
pub mod server;
pub mod tool;
mod trickle;
pub mod wait;

pub use coprocess::Coprocess;
pub use proxy::Proxy;
pub use saboteur::Saboteur;
pub use server::Server;
pub use tool::{Outcome, Tool};
pub use trickle::Trickle;
