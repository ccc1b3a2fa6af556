//! Makes Rust of the protocol's messages and services; protox parses them, so no protoc is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["inference.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Slices of what was received, not copies.
        .bytes(".")
        // Parameters in the order of their names, as everywhere.
        .btree_map(".")
        .codec_path("crate::proto::Codec")
        // A server answers Unimplemented to what it leaves out.
        .generate_default_stubs(true)
        .compile_fds(files)?;
    Ok(())
}
