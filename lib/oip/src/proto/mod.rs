//! The gRPC messages of the protocol, and its service: client and server.
//!
//! Made of `proto/inference.proto`, which says what they mean. A server implements as many of the
//! service's calls as it likes; the others answer `UNIMPLEMENTED`.

mod codec;

pub use codec::aside;
pub use codec::{Codec, check_fields};
pub use generated::*;

mod generated {
    // Written by a program.
    #![allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]

    tonic::include_proto!("inference");
}
