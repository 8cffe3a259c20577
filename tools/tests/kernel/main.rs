//! Members that fail by the means of a real kernel: file systems that lie, delay, fail and hang (FUSE), block devices
//! (loop), file systems without room. The engine, its ring and its claims are the real ones; a process of its own has
//! the array open, and the `paritas` command looks at it. Nothing flushed may be missing, nothing wrong, and the
//! array must tell what befell it.
//!
//! That takes root, FUSE and loop devices: `tests/kernel` runs these tests. Alone, `cargo test` leaves them out.

#[path = "../common/mod.rs"]
mod common;

#[path = "../../src/endure/history.rs"]
#[allow(dead_code)] // Its own tests use the rest.
mod history;

mod array;
mod devices;
mod disk;
mod faults;
mod load;
mod room;
