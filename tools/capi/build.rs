//! How the shared library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The name that programs ask for at run time: its number changes when the ABI does.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libparitas.so.0");
    // The thread of an array may outlast the call that closes it: so its code stays, whoever unloads the library.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
