//! Names the shared library as programs ask for it at run time: the number changes when the ABI does.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libparitas.so.0");
}
