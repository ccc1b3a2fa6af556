//! The half of the server that faces clients, and its life: what one client may do to others, who may ask
//! for what, and how it stops.

mod access;
mod backend;
mod certificates;
#[path = "../common/mod.rs"]
mod common;
mod life;
mod memory;
mod parameters;
mod peers;
mod raw;
mod statuses;
