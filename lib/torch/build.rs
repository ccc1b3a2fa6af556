//! Compiles the functions of libtorch that tch lacks, and sets the rpath of this crate's tests. Programs that
//! link this crate set their own.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let mut sources = cc::Build::new();
    sources.cpp(true).std("c++17").warnings(false);
    println!("cargo:rerun-if-changed=src/thrown.h");
    for file in ["src/device.cpp", "src/operator.cpp", "src/script.cpp"] {
        println!("cargo:rerun-if-changed={file}");
        sources.file(file);
    }
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        sources.include(format!("{folder}/../include"));
        sources.include(format!("{folder}/../include/torch/csrc/api/include"));
    }
    sources.compile("parm_torch");
}
