//! Readers of data sets: turn published files into rows.
//!
//! [`idx`] reads MNIST's format and [`cifar`] CIFAR's; [`picture`] decodes pictures and
//! [`resize`] cuts them to size as Pillow does; [`folder`] lists a class per directory; [`speech`]
//! makes spectrograms of [`wav`] files; [`list`] reads lists of pictures, [`boxes`] reads bounding boxes. [`scale`] turns
//! pixels into numbers. [`fetch`] downloads the sets of [`catalog`], and [`archive`] unpacks them.
//!
//! Every reader returns one example at a time and holds only that; [`in_order`] decodes on several threads.
//! Nothing here depends on torch or the command line, writes streams, or reads the environment.

pub mod archive;
pub mod boxes;
pub mod catalog;
pub mod cifar;
mod error;
pub mod fetch;
pub mod folder;
pub mod idx;
mod in_order;
mod limits;
pub mod list;
pub mod picture;
pub mod resize;
pub mod scale;
pub mod speech;
pub mod wav;

pub use error::{At, DataError, Fault};
pub use in_order::in_order;
