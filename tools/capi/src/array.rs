//! Arrays: opened and closed; and what the last failure was.

#![allow(unsafe_code)] // Functions that C calls by name, with pointers.

use crate::answer::{guard, message};
use crate::code::Code;
use crate::memory::{Place, give, look, take, text};
use crate::options::{Options, chosen};
use engine::volume::OpenOptions;
use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

/// An open array.
pub struct Array {
    pub(crate) array: engine::volume::Array,
}

/// The library's version, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn paritas_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no zero byte"),
        };
    VERSION.as_ptr()
}

/// What the calling thread's last call that failed had to say: what happened, to what, and what to do. Empty when
/// none failed. Valid until the thread's next call that fails, or its end.
#[unsafe(no_mangle)]
pub extern "C" fn paritas_message() -> *const c_char {
    message()
}

/// Opens the array whose members lie in the directory `place`, or of which `place` is one. It is recovered first if
/// it was not closed. `options` may be null. `*array` is null on failure.
///
/// Only one process has an array open for writing at a time (PARITAS_BUSY). An array that lacks members is opened,
/// and says so (paritas_array_status); with too few of them to write it answers PARITAS_READ_ONLY, and can still be
/// opened with the flag PARITAS_OPEN_READ_ONLY.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_open(
    place: *const c_char,
    options: *const Options,
    array: *mut *mut Array,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let opened = unsafe { Place::new(array, "the place for the array") }?;
        opened.put(ptr::null_mut());
        // SAFETY: likewise.
        let place = unsafe { text(place, "the array's place") }?;
        let options = match options.is_null() {
            true => OpenOptions::default(),
            // SAFETY: likewise.
            false => unsafe { chosen(look(options, "options")?) }?,
        };
        let array = engine::volume::Array::open(OsStr::from_bytes(place.to_bytes()), &options)?;
        opened.put(give(Array { array }));
        Ok(())
    })
}

/// Makes everything durable, gives the members back, and releases the handle, also on failure: then something that
/// was accepted could not be made durable. Volumes of the array answer PARITAS_CLOSED from here on; their handles are
/// released by their own calls, before or after this one.
///
/// A process that ends without it is like a power cut: what was flushed is durable.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_close(array: *mut Array) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let array = unsafe { take(array, "the array") }?;
        Ok(array.array.close()?)
    })
}
