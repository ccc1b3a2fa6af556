//! Generates the protocol's messages and services. protox parses them, so that no protoc is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["inference.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Slices of the received bytes, not copies.
        .bytes(".")
        // Parameters in the order of their names, as everywhere.
        .btree_map(".")
        .codec_path("crate::proto::Codec")
        // Methods that a server leaves out answer UNIMPLEMENTED.
        .generate_default_stubs(true)
        .compile_fds(files)?;
    Ok(())
}
