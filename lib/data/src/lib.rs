//! Readers of data sets: what turns published files into rows.
//!
//! [`idx`] reads MNIST's format and [`cifar`] CIFAR's; [`picture`] decodes pictures and
//! [`resize`] cuts them to size as Pillow does; [`folder`] lists a class per directory; [`speech`]
//! makes spectrograms of [`wav`] files; [`boxes`] reads where things are in pictures. [`scale`] turns
//! pixels into numbers. [`fetch`] downloads the sets of [`catalog`], and [`archive`] unpacks them.
//!
//! Every reader gives one example at a time and holds no more than that; [`in_order`] decodes on
//! several threads. The heavy decoders live here and not in the core. Nothing here knows of torch or
//! the command line, writes a stream, or reads the environment.

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
pub mod picture;
pub mod resize;
pub mod scale;
pub mod speech;
pub mod wav;

pub use error::{At, DataError, Fault};
pub use in_order::in_order;
