//! How an array is, and which volumes it has.

#![allow(unsafe_code)] // Functions that C calls by name, with pointers.

use crate::answer::{Failure, guard};
use crate::array::Array;
use crate::code::Code;
use crate::memory::{Place, look};
use engine::volume::{MemberHealth, State};
use std::ffi::{CString, c_char, c_void};

/// How an array is.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Every member is in full use, and all data has its full redundancy.
    Healthy = 0,
    /// Everything can be read and written, but some data has less redundancy than its scheme.
    Degraded = 1,
    /// Some data is lost; all else is served.
    Damaged = 2,
    /// The array cannot be written.
    Failed = 3,
}

/// How an array is, in numbers. `paritas status --json` has all of it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// The worst of what follows.
    pub condition: Condition,
    /// Members in the member table.
    pub members: u32,
    /// Those of them that are in full use.
    pub members_in_use: u32,
    /// Volumes.
    pub volumes: u32,
    /// Entries in the list of what is lost.
    pub damages: u64,
    /// Bytes of members that rebuilds and scrubs under way have done, and that they have to do, an estimate.
    pub work_done: u64,
    /// See work_done.
    pub work_total: u64,
    /// Blocks that were reconstructed for a reader since the array was opened.
    pub reconstructed: u64,
    /// Blocks that were rewritten in place since the array was opened.
    pub healed: u64,
}

/// A volume in a list.
#[repr(C)]
pub struct VolumeInfo {
    /// Its name: valid until the function that is told about it returns.
    pub name: *const c_char,
    /// Its bytes.
    pub size: u64,
    /// Bytes of it that take space, as of the last checkpoint.
    pub used: u64,
    /// How many more members may be lost, whichever they are. Negative when data is beyond reach already.
    pub tolerance: i32,
}

/// Tells how the array is.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_array_status(array: *const Array, status: *mut Status) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (array, place) =
            unsafe { (look(array, "the array")?, Place::new(status, "the place for the status")?) };
        let status = array.array.status()?;
        let is_in_use = |health| matches!(health, MemberHealth::Active | MemberHealth::Spare);
        place.put(Status {
            condition: match status.state {
                State::Healthy => Condition::Healthy,
                State::Degraded => Condition::Degraded,
                State::Damaged => Condition::Damaged,
                State::Failed => Condition::Failed,
            },
            members: count(status.members.len()),
            members_in_use: count(status.members.iter().filter(|member| is_in_use(member.health)).count()),
            volumes: count(status.volumes.len()),
            damages: status.damage.len() as u64,
            work_done: status.jobs.iter().map(|job| job.done).sum(),
            work_total: status.jobs.iter().map(|job| job.total).sum(),
            reconstructed: status.work.reconstructed,
            healed: status.work.healed,
        });
        Ok(())
    })
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Calls `each` for every volume, with `user`, in this thread, before it returns. `each` may call this library, and
/// must return (no longjmp).
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_array_volumes(
    array: *const Array,
    each: Option<unsafe extern "C" fn(volume: *const VolumeInfo, user: *mut c_void)>,
    user: *mut c_void,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let array = unsafe { look(array, "the array") }?;
        let each = each.ok_or_else(|| Failure::invalid("the function for each volume is a null pointer"))?;
        for volume in array.array.status()?.volumes {
            // No name has a zero byte: what has one could not be opened from here either.
            let Ok(name) = CString::new(volume.name) else { continue };
            let (size, used, tolerance) = (volume.size, volume.used, volume.tolerance.into());
            let info = VolumeInfo { name: name.as_ptr(), size, used, tolerance };
            // SAFETY: the caller's function takes what the header says, and is given it.
            unsafe { each(&raw const info, user) }
        }
        Ok(())
    })
}
