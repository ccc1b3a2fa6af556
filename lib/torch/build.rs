//! Compiles what tch lacks of libtorch, and says where the tests of this crate find libtorch. Programs that
//! link it say so themselves.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/stream.cpp");
    let mut stream = cc::Build::new();
    stream.cpp(true).std("c++17").warnings(false).file("src/stream.cpp");
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        stream.include(format!("{folder}/../include"));
    }
    stream.compile("parm_stream");
}
