//! The gRPC messages of the protocol, and its service: client and server.
//!
//! Generated from `proto/inference.proto`, which documents them. Methods that a server does not implement
//! answer `UNIMPLEMENTED`.

mod codec;

pub use codec::aside;
pub use codec::{Codec, check_fields};
pub use generated::*;

mod generated {
    // Generated code.
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

    tonic::include_proto!("inference");
}
