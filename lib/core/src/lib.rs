//! The core of coded inference: tensor streams, masks, coding groups, codes and scores.
//!
//! One row's path through a tool is one module's path through this crate: [`npy`] turns bytes into
//! rows and back, [`group`] counts rows into coding groups, [`codes`] turns a group into parity
//! queries and answers into reconstructions, [`mask`] and [`erase`] say which predictions are
//! available, and [`score`] and [`measures`] compare the result with the truth. [`task`] says what a prediction
//! is. [`summary`] describes the elements of a stream, [`difference`] compares those of two, and [`split`] takes rows for
//! validation. [`statistics`] says what several measurements come to.
//!
//! Nothing here knows of torch, tokio or the command line, and nothing reads the clock, the
//! environment or a random source that was not passed in.

pub mod activation;
pub mod calibration;
pub mod codes;
pub mod corrupt;
pub mod device;
pub mod difference;
pub mod dtype;
pub mod erase;
pub mod group;
pub mod hash;
pub mod made_by;
pub mod mask;
pub mod measures;
pub mod neighbours;
pub mod npy;
pub mod page;
pub mod score;
pub mod split;
pub mod statistics;
pub mod summary;
pub mod task;
pub mod words;

pub use activation::Activation;
pub use codes::LinearCode;
pub use codes::directory::CodeFile;
pub use device::DeviceChoice;
pub use dtype::{Dtype, Float};
pub use group::Tail;
pub use made_by::{MadeBy, MadeFrom};
pub use task::Task;
pub use words::counted;
