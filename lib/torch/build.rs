//! Compiles what tch lacks of libtorch, and says where the tests of this crate find libtorch. Programs that
//! link it say so themselves.

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
