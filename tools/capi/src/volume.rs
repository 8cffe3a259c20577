//! Volumes, by calls that block.

#![allow(unsafe_code)] // Functions that C calls by name, with pointers.

use crate::answer::{Failure, guard};
use crate::array::Array;
use crate::code::Code;
use crate::memory::{Place, Target, bytes, give, look, take, text};
use std::ffi::{c_char, c_void};
use std::ptr;

/// A volume of an open array.
pub struct Volume {
    pub(crate) volume: engine::volume::Volume,
}

/// A write that is durable, with everything accepted before it, when it is done (force unit access).
pub const WRITE_FUA: u32 = 1;

/// Whether a write is to be durable when it is done.
pub(crate) fn is_durable(flags: u32) -> Result<bool, Failure> {
    match flags & !WRITE_FUA {
        0 => Ok(flags & WRITE_FUA != 0),
        _ => Err(Failure::invalid(format!("a write has unknown flags: {flags:#x}"))),
    }
}

/// Opens the volume of that name. `*volume` is null on failure.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_volume_open(
    array: *const Array,
    name: *const c_char,
    volume: *mut *mut Volume,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let opened = unsafe { Place::new(volume, "the place for the volume") }?;
        opened.put(ptr::null_mut());
        // SAFETY: likewise.
        let (array, name) = unsafe { (look(array, "the array")?, text(name, "the name")?) };
        let name = name.to_str().map_err(|_| Failure::invalid("the name is not UTF-8"))?;
        let volume = array.array.volume(name)?;
        opened.put(give(Volume { volume }));
        Ok(())
    })
}

/// Releases the handle. Nothing is flushed, and requests under way go on. Null is allowed.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_volume_release(volume: *mut Volume) {
    let _nothing = guard(|| {
        if !volume.is_null() {
            // SAFETY: the caller keeps the header's rules.
            drop(unsafe { take(volume, "the volume") }?);
        }
        Ok(())
    });
}

/// Tells the volume's bytes.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_volume_size(volume: *const Volume, size: *mut u64) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (volume, place) =
            unsafe { (look(volume, "the volume")?, Place::new(size, "the place for the size")?) };
        place.put(volume.volume.size()?);
        Ok(())
    })
}

/// Reads `length` bytes at `offset`. What was never written, or trimmed, is zeros. On failure the buffer is as it
/// was. Until it returns it takes as much memory as the buffer again; so does a write.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_read(
    volume: *const Volume,
    offset: u64,
    buffer: *mut c_void,
    length: usize,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (volume, target) = unsafe { (look(volume, "the volume")?, Target::new(buffer, length)?) };
        target.fill(&volume.volume.read(offset, length)?);
        Ok(())
    })
}

/// Writes `length` bytes at `offset`. Durable after a flush, or on return with the flag PARITAS_WRITE_FUA. A call of
/// up to 1 MiB is one step of the volume's history; a longer one is a sequence of such steps in order of address, and
/// on failure some of them may have been done.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_write(
    volume: *const Volume,
    offset: u64,
    buffer: *const c_void,
    length: usize,
    flags: u32,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (volume, bytes) = unsafe { (look(volume, "the volume")?, bytes(buffer, length, "the buffer")?) };
        let bytes = engine::device::place(offset, bytes);
        match is_durable(flags)? {
            true => volume.volume.write_durable(offset, bytes)?,
            false => volume.volume.write(offset, bytes)?,
        }
        Ok(())
    })
}

/// Makes everything durable, with full redundancy, that the volume had accepted before this call.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_flush(volume: *const Volume) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let volume = unsafe { look(volume, "the volume") }?;
        Ok(volume.volume.flush()?)
    })
}

/// Makes a range read as zeros and gives its space free: one step of the history, whatever its length. Durable after
/// a flush.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_trim(volume: *const Volume, offset: u64, length: u64) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let volume = unsafe { look(volume, "the volume") }?;
        Ok(volume.volume.trim(offset, length)?)
    })
}

/// Writes zeros. They take no space: it is paritas_trim, which promises them.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_write_zeroes(volume: *const Volume, offset: u64, length: u64) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let volume = unsafe { look(volume, "the volume") }?;
        Ok(volume.volume.write_zeroes(offset, length)?)
    })
}
