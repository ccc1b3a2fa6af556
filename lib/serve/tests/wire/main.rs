//! The protocol on the wire, against what others write and against itself.

mod golden;
mod naive;
mod round_trip;
mod strategies;
