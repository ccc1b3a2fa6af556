//! Where the program finds libtorch: beside it, in the Python environment that it is installed in, or where it was
//! built with it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let mut folders = vec!["$ORIGIN".to_owned()];
    // The program is in lib/parm, the packages of pip are in lib/python3.N. Debian's pip has a folder of its own.
    for packages in ["site-packages", "dist-packages"] {
        folders.extend((10..=14).map(|minor| format!("$ORIGIN/../python3.{minor}/{packages}/torch/lib")));
    }
    // pip install --target
    folders.push("$ORIGIN/../../torch/lib".to_owned());
    // The last one, which what is installed does not need.
    folders.extend(std::env::var("DEP_TCH_LIBTORCH_LIB"));
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", folders.join(":"));
}
