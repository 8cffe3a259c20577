//! Arrays and volumes, made and deleted.

#![allow(unsafe_code)] // Functions that C calls by name, with pointers.

use crate::answer::{Failure, guard};
use crate::array::Array;
use crate::code::Code;
use crate::memory::{Place, give, look, text, texts};
use crate::volume::Volume;
use engine::types::Scheme as EngineScheme;
use engine::volume::CreateOptions;
use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

/// Overwrite members that hold something else.
pub const CREATE_FORCE: u32 = 1;

/// How data is spread over members: so many columns of data, and so many of parity, as many of which may be lost. 4
/// and 2 is 4+2, 1 and 1 a mirror, 1 and 2 a mirror of three, 4 and 0 a stripe of four. All zeros are the default.
#[repr(C)]
pub struct Scheme {
    /// Columns of data, 1 to 255.
    pub data: u32,
    /// Columns of parity; 255 columns at most are data and parity.
    pub parity: u32,
}

/// What a new array is to be. All zeros are the defaults.
#[repr(C)]
pub struct NewArray {
    /// 0 or PARITAS_CREATE_FORCE.
    pub flags: u32,
    /// The scheme of volumes that name none, and what protects the metadata. The default is a mirror below five
    /// members, else two columns of parity beside at most eight of data.
    pub scheme: Scheme,
    /// Bytes of members that are files and do not exist yet or are blank, 64 MiB at least. 0: all members exist, and
    /// files and devices are used whole.
    pub size: u64,
    /// Bytes of a chunk, a power of two of 32 KiB to 128 MiB; 0 to choose by the members' sizes.
    pub chunk: u64,
    /// The array's name; null for that of the first member's directory.
    pub name: *const c_char,
}

impl Scheme {
    fn chosen(&self) -> Result<Option<EngineScheme>, Failure> {
        let (data, parity) = (self.data, self.parity);
        if (data, parity) == (0, 0) {
            return Ok(None);
        }
        let columns = u8::try_from(data).ok().zip(u8::try_from(parity).ok());
        let scheme = columns.and_then(|(data, parity)| EngineScheme::new(data, parity));
        let wrong =
            || Failure::invalid(format!("{data} columns of data and {parity} of parity are no scheme"));
        scheme.map(Some).ok_or_else(wrong)
    }
}

/// The engine's options.
///
/// # Safety
/// A name that is not null is text that ends with a zero byte.
unsafe fn chosen(options: &NewArray) -> Result<CreateOptions, Failure> {
    let some = |bytes: u64| (bytes > 0).then_some(bytes);
    if options.flags & !CREATE_FORCE != 0 {
        return Err(Failure::invalid(format!("the options have unknown flags: {:#x}", options.flags)));
    }
    let name = match options.name.is_null() {
        true => None,
        // SAFETY: the caller says so.
        false => Some(unsafe { name_of(options.name) }?.to_owned()),
    };
    Ok(CreateOptions {
        name,
        scheme: options.scheme.chosen()?,
        chunk: some(options.chunk),
        size: some(options.size),
        force: options.flags & CREATE_FORCE != 0,
    })
}

/// A name of an array or volume.
///
/// # Safety
/// A pointer that is not null leads to text that ends with a zero byte, which stays while `'a` lasts.
unsafe fn name_of<'a>(name: *const c_char) -> Result<&'a str, Failure> {
    // SAFETY: the caller says so.
    let name = unsafe { text(name, "the name") }?;
    name.to_str().map_err(|_| Failure::invalid("the name is not UTF-8"))
}

/// Makes an array of `count` files and block devices, whose paths `members` lists, and opens it, with the upkeep
/// PARITAS_UPKEEP_BACKGROUND. `options` may be null: then all members exist, and are used whole. Durable on return.
/// What is refused has changed and created nothing, and `*array` is null then.
///
/// A member that holds something else is PARITAS_REFUSED, unless the flag PARITAS_CREATE_FORCE lets it be overwritten:
/// then what it held is lost. One that is named twice or smaller than 64 MiB is refused, too.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_create(
    members: *const *const c_char,
    count: usize,
    options: *const NewArray,
    array: *mut *mut Array,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let made = unsafe { Place::new(array, "the place for the array") }?;
        made.put(ptr::null_mut());
        // SAFETY: likewise.
        let members = unsafe { texts(members, count, "the list of members") }?;
        let options = match options.is_null() {
            true => CreateOptions::default(),
            // SAFETY: likewise.
            false => unsafe { chosen(look(options, "options")?) }?,
        };
        let members: Vec<PathBuf> =
            members.iter().map(|path| OsStr::from_bytes(path.to_bytes()).into()).collect();
        let array = engine::volume::Array::create(&members, &options)?;
        made.put(give(Array { array }));
        Ok(())
    })
}

/// Makes a volume of `size` bytes, a multiple of 4096, and opens it. It reads as zeros and takes no space. `scheme` may
/// be null: then it has that of the array. Durable on return. `volume` may be null: then it is not opened; else
/// `*volume` is null on failure. A name that is taken is PARITAS_EXISTS.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_volume_create(
    array: *const Array,
    name: *const c_char,
    size: u64,
    scheme: *const Scheme,
    volume: *mut *mut Volume,
) -> Code {
    guard(|| {
        let opened = match volume.is_null() {
            true => None,
            // SAFETY: the caller keeps the header's rules.
            false => Some(unsafe { Place::new(volume, "the place for the volume") }?),
        };
        if let Some(opened) = &opened {
            opened.put(ptr::null_mut());
        }
        // SAFETY: likewise.
        let (array, name) = unsafe { (look(array, "the array")?, name_of(name)?) };
        let scheme = match scheme.is_null() {
            true => None,
            // SAFETY: likewise.
            false => unsafe { look(scheme, "the scheme") }?.chosen()?,
        };
        let volume = array.array.create_volume(name, size, scheme)?;
        if let Some(opened) = opened {
            opened.put(give(Volume { volume }));
        }
        Ok(())
    })
}

/// Deletes a volume and everything on it. Durable on return. Its handles answer PARITAS_NOT_FOUND from here on, and
/// are released as ever.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_volume_delete(array: *const Array, name: *const c_char) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (array, name) = unsafe { (look(array, "the array")?, name_of(name)?) };
        Ok(array.array.delete_volume(name)?)
    })
}

/// Gives a volume another size, a multiple of 4096. What is cut off is lost; what is added reads as zeros. Durable
/// after a flush.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_volume_resize(volume: *const Volume, size: u64) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let volume = unsafe { look(volume, "the volume") }?;
        Ok(volume.volume.resize(size)?)
    })
}
