//! Compiles the functions of libtorch that tch lacks, and sets the rpath of this crate's tests. Programs that
//! link this crate set their own.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/device.cpp");
    let mut device = cc::Build::new();
    device.cpp(true).std("c++17").warnings(false).file("src/device.cpp");
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
        device.include(format!("{folder}/../include"));
    }
    device.compile("parm_device");
}
