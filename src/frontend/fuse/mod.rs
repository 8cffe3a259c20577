//! A volume as a file that the kernel asks this process for (FUSE): what a loop device lies on, and who has that may
//! have any file system on a volume.
//!
//! The file is mounted on a file, without a folder around it. Nothing of it is kept in the page cache, by whomever it
//! is opened: what lies on it has a cache of its own.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`request`] | what the kernel asks for, and what is no such thing |
//! | [`perform`] | what requests do to a volume, and errors as the kernel has them |
//! | [`server`] | the mount and its threads |
//!
//! **Durability and ordering** are those of [`volume`](crate::volume): `fsync` answers for every write that was
//! answered before it. Closing the file keeps nothing.
//!
//! **Alignment.** Writes begin and end at multiples of 512 bytes, as on a disk; others are refused with `EINVAL`.
//! Blocks that are written in part are the engine's affair: of two calls that write parts of one block both last.
//! Reads may begin and end anywhere.
//!
//! **Size** is that of the volume, asked for each time. Nobody changes it through the file.
//!
//! **Space.** Holes that are punched and ranges that are made zeros take none; none is set aside in advance.

pub mod perform;
pub mod request;
pub mod server;
