//! How an array is to be opened.

#![allow(unsafe_code)] // Follows a pointer that a C program put into its options.

use crate::answer::Failure;
use crate::memory::text;
use engine::volume::{OpenOptions, Upkeep};
use std::ffi::{c_char, c_int};

/// Open the array to read it: nothing is claimed and nothing is written, so what is found damaged is not healed, and
/// members that came back are not taken back.
pub const OPEN_READ_ONLY: u32 = 1;

/// Do all that the array needs while it is open, as a server does: members that came back are taken back, and what
/// lacks redundancy is rebuilt in the background.
pub const UPKEEP_BACKGROUND: c_int = 0;

/// Take members back that came back, and rebuild nothing.
pub const UPKEEP_ON_DEMAND: c_int = 1;

/// Heal what is met on the way, and do no more.
pub const UPKEEP_NOTHING: c_int = 2;

/// How an array is to be opened. All zeros are the defaults.
#[repr(C)]
pub struct Options {
    /// 0 or PARITAS_OPEN_READ_ONLY.
    pub flags: u32,
    /// One of PARITAS_UPKEEP_...
    pub upkeep: c_int,
    /// The array's name, where a directory holds several; else null.
    pub name: *const c_char,
    /// Bytes of accepted writes that may wait in memory; 0 for the default, 128 MiB.
    pub write_buffer: u64,
    /// Bytes of the volumes' maps that are kept in memory; 0 for the default, 256 MiB.
    pub map_cache: u64,
}

/// The engine's options.
///
/// # Safety
/// A name that is not null is text that ends with a zero byte.
pub(crate) unsafe fn chosen(options: &Options) -> Result<OpenOptions, Failure> {
    let upkeep = match options.upkeep {
        UPKEEP_BACKGROUND => Upkeep::Background,
        UPKEEP_ON_DEMAND => Upkeep::OnDemand,
        UPKEEP_NOTHING => Upkeep::Nothing,
        other => return Err(Failure::invalid(format!("{other} is none of PARITAS_UPKEEP_..."))),
    };
    if options.flags & !OPEN_READ_ONLY != 0 {
        return Err(Failure::invalid(format!("the options have unknown flags: {:#x}", options.flags)));
    }
    let mut chosen =
        OpenOptions { read_only: options.flags & OPEN_READ_ONLY != 0, upkeep, ..OpenOptions::default() };
    if !options.name.is_null() {
        // SAFETY: the caller says so.
        let name = unsafe { text(options.name, "the name") }?;
        chosen.name = Some(name.to_str().map_err(|_| Failure::invalid("the name is not UTF-8"))?.to_owned());
    }
    if options.write_buffer > 0 {
        chosen.write_buffer = options.write_buffer;
    }
    if options.map_cache > 0 {
        chosen.map_cache = options.map_cache;
    }
    Ok(chosen)
}
