//! Figures of JSON results: of trainings, scores, comparisons of codes, loads, simulations, advice and journals.
//!
//! A module for each kind of result reads JSON and makes a [`Figure`] of it; [`combine`] puts those of several inputs
//! together. A figure becomes an image ([`image()`]), an SVG for a page ([`page_svg`]), characters ([`Terminal`]) or
//! its numbers ([`numbers()`]).
//!
//! `draw` draws charts and `swim` timelines, with a `pen`, which measures texts by the `font` and writes `svg` in the
//! colors of a `theme`; `raster` and `pdf` render that.

mod axis;
mod combine;
mod draw;
mod fields;
mod figure;
mod font;
mod front;
mod image;
mod joint;
mod latency;
mod load;
mod names;
mod numbers;
mod pdf;
mod pen;
mod raster;
mod results;
mod scores;
mod svg;
mod swim;
mod terminal;
mod theme;
mod timeline;

pub use combine::{combine, rename};
pub use figure::{Drawing, Figure};
pub use front::front;
pub use image::{Image, image, page_svg};
pub use joint::joint;
pub use latency::Records;
pub use load::{load, slices};
pub use numbers::{Numbers, csv, numbers};
pub use results::{curves, k, workers};
pub use scores::{score_name, scores};
pub use terminal::Terminal;
pub use theme::page_variables;
pub use timeline::{Timeline, timeline};

/// An input: its name, and what it contains.
pub type Input = (String, Vec<u8>);
