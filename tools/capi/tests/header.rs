//! The header that is shipped is the one that the source makes. `PARITAS_BLESS=1` writes it.

use std::path::Path;
use std::{env, fs};

#[test]
fn the_header_is_that_of_the_source() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(package.join("cbindgen.toml")).expect("a configuration");
    let bindings = cbindgen::generate_with_config(package, config).expect("source that makes a header");
    let mut made = Vec::new();
    bindings.write(&mut made);
    let made = String::from_utf8(made).expect("a header is text");
    // What comments say to Rust alone is not for C, and codes are what C asks for most: theirs are the short names.
    let made = made.replace(" *\n * # Safety\n * As the header says of pointers.\n", "");
    let made = made.replace("PARITAS_CODE_", "PARITAS_");
    let path = package.join("include/paritas.h");
    if env::var_os("PARITAS_BLESS").is_some() {
        fs::write(&path, &made).expect("a header that can be written");
    }
    let shipped = fs::read_to_string(&path).expect("a header");
    assert!(shipped == made, "{} is old: PARITAS_BLESS=1 cargo test writes it anew", path.display());
}
