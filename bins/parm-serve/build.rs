//! Where the installed program, and the one in the build tree, find libtorch.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let built = std::env::var("DEP_TCH_LIBTORCH_LIB").ok();
    for folder in std::iter::once("$ORIGIN/../lib/parm").chain(built.as_deref()) {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
