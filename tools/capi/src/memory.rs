//! Pointers from C: checked as far as they can be, then believed, as the header's rules for pointers allow. Nothing
//! else in this library follows one.
//!
//! The rules, on which every proof here rests: what a pointer is said to lead to is there, as long as it says, until
//! the call returns (a buffer that is read into: until its completion is given, or its queue is freed), and no other
//! thread changes it meanwhile. Handles come from this library and are released once, and no call that uses one is
//! under way then.

#![allow(unsafe_code)] // What a C program hands over has no safe form.

use crate::answer::Failure;
use std::ffi::{CStr, c_char, c_void};

/// Refuses what cannot lead to a `T`.
fn check<T>(pointer: *const T, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::invalid(format!("{what} is a null pointer")));
    }
    if !pointer.is_aligned() {
        let text = format!("{what} is misaligned: its address must be a multiple of {}", align_of::<T>());
        return Err(Failure::invalid(text));
    }
    Ok(())
}

/// What a pointer leads to.
///
/// # Safety
/// A pointer that is not null leads to a `T`, which stays while `'a` lasts and which nobody changes.
pub(crate) unsafe fn look<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    check(pointer, what)?;
    // SAFETY: it is not null and aligned; the caller says the rest.
    Ok(unsafe { &*pointer })
}

/// Text that ends with a zero byte.
///
/// # Safety
/// A pointer that is not null leads to such text, which stays while `'a` lasts and which nobody changes.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, what: &str) -> Result<&'a CStr, Failure> {
    check(pointer, what)?;
    // SAFETY: it is not null; the caller says the rest.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// A list of such texts.
///
/// # Safety
/// A pointer that is not null leads to so many pointers, and each of these that is not null to text that ends with a
/// zero byte; all of it stays while `'a` lasts, and nobody changes it.
pub(crate) unsafe fn texts<'a>(
    pointer: *const *const c_char,
    count: usize,
    what: &str,
) -> Result<Vec<&'a CStr>, Failure> {
    check(pointer, what)?;
    check_length(count.saturating_mul(size_of::<*const c_char>()))?;
    // SAFETY: it is not null, aligned, and no longer than a slice may be; the caller says the rest.
    let pointers = unsafe { std::slice::from_raw_parts(pointer, count) };
    // SAFETY: the caller says so.
    pointers.iter().map(|pointer| unsafe { text(*pointer, what) }).collect()
}

/// As many bytes as `length` says.
///
/// # Safety
/// A pointer that is not null leads to so many bytes, which stay while `'a` lasts and which nobody changes.
pub(crate) unsafe fn bytes<'a>(
    pointer: *const c_void,
    length: usize,
    what: &str,
) -> Result<&'a [u8], Failure> {
    check_length(length)?;
    check(pointer.cast::<u8>(), what)?;
    // SAFETY: it is not null, bytes are always aligned, and no more than a slice may have; the caller says the rest.
    Ok(unsafe { std::slice::from_raw_parts(pointer.cast(), length) })
}

fn check_length(length: usize) -> Result<(), Failure> {
    match isize::try_from(length) {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::invalid(format!("a buffer of {length} bytes is longer than memory"))),
    }
}

/// Where a call leaves a value for its caller.
pub(crate) struct Place<T>(*mut T);

impl<T> Place<T> {
    /// A place for one value.
    ///
    /// # Safety
    /// A pointer that is not null leads to memory for a `T`, which stays until the call returns, and which nobody
    /// else uses meanwhile.
    pub(crate) unsafe fn new(pointer: *mut T, what: &str) -> Result<Place<T>, Failure> {
        check(pointer, what)?;
        Ok(Place(pointer))
    }

    /// Leaves a value. What was there is overwritten, and not dropped: it may be no `T` yet.
    pub(crate) fn put(&self, value: T) {
        // SAFETY: who made the place says that there is memory for it, and `new` that it is aligned.
        unsafe { self.0.write(value) }
    }
}

/// Where a call leaves many values for its caller.
pub(crate) struct Places<T> {
    pointer: *mut T,
    count: usize,
}

impl<T> Places<T> {
    /// A place for `count` values.
    ///
    /// # Safety
    /// As [`Place::new`], for so many.
    pub(crate) unsafe fn new(pointer: *mut T, count: usize, what: &str) -> Result<Places<T>, Failure> {
        if count > 0 {
            check(pointer, what)?;
        }
        check_length(count.saturating_mul(size_of::<T>()))?;
        Ok(Places { pointer, count })
    }

    /// How many there is room for.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Leaves the values.
    ///
    /// # Panics
    /// When there is no room for them.
    pub(crate) fn put(&self, values: impl Iterator<Item = T>) {
        for (at, value) in values.enumerate() {
            assert!(at < self.count, "no more is left than there is room for");
            // SAFETY: it is one of the places that the caller of `new` says are there, and `new` that they are aligned.
            unsafe { self.pointer.add(at).write(value) }
        }
    }
}

/// A buffer that bytes are read into.
pub(crate) struct Target {
    pointer: *mut u8,
    length: usize,
}

// SAFETY: it is an address; who fills it, in whatever thread, is the only one who uses what is there, as `new` demands.
unsafe impl Send for Target {}

impl Target {
    /// A buffer of `length` bytes.
    ///
    /// # Safety
    /// A pointer that is not null leads to so many bytes, which stay until [`Target::fill`] or until it is dropped,
    /// and which nobody else uses meanwhile.
    pub(crate) unsafe fn new(pointer: *mut c_void, length: usize) -> Result<Target, Failure> {
        check_length(length)?;
        check(pointer.cast::<u8>(), "the buffer")?;
        Ok(Target { pointer: pointer.cast(), length })
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Puts the bytes there.
    ///
    /// # Panics
    /// When they are not as many as there is room for.
    pub(crate) fn fill(self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.length, "as many are read as were asked for");
        // SAFETY: there is room for as many, as the caller of `new` says, and what the engine has read is elsewhere.
        unsafe { self.pointer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }
}

/// Something that a C program names again when its request is done; nobody here follows it.
pub(crate) struct User(pub(crate) *mut c_void);

// SAFETY: it is an address that is only handed back.
unsafe impl Send for User {}

/// Gives a C program something to hold, until it brings it back to [`take`].
pub(crate) fn give<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// Takes back what a C program was given.
///
/// # Safety
/// A pointer that is not null comes from [`give`], and is given to nobody any more.
pub(crate) unsafe fn take<T>(pointer: *mut T, what: &str) -> Result<Box<T>, Failure> {
    check(pointer, what)?;
    // SAFETY: it comes from `give`, as the caller says, and once only.
    Ok(unsafe { Box::from_raw(pointer) })
}
