//! Descriptors that whoever started this process has left open.

// A descriptor that this process has, but no owner of it, has no safe form.
#![allow(unsafe_code)]

use rustix::io::{FdFlags, fcntl_setfd};
use std::io;
use std::os::fd::BorrowedFd;

/// Lets no program that is started from now on have any descriptor of this process but the first three.
///
/// # Errors
/// When they cannot be listed.
pub(crate) fn keep_to_this_process() -> io::Result<()> {
    let listed = std::fs::read_dir("/proc/self/fd")?;
    let numbers = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // All are listed before any is touched: one of them is the listing's own, which is closed then.
    for number in numbers.filter(|number| *number > 2).collect::<Vec<_>>() {
        // SAFETY: the descriptor is used for one call, which sets a flag of it, or fails where none is open any more:
        // it neither closes it nor touches memory. It is not -1.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let _closed = fcntl_setfd(descriptor, FdFlags::CLOEXEC).is_err();
    }
    Ok(())
}
