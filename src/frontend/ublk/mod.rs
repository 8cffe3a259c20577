//! A volume as a block device that the kernel asks this process for (ublk).
//!
//! The kernel's interface is small, and this is all that it takes: commands of an `io_uring`, a page of descriptors
//! that the kernel writes, and reads and writes of one file, by which the bytes of requests are moved.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`wire`] | the kernel's numbers and structures |
//! | [`request`] | what the kernel asks for, and what is no such thing |
//! | [`perform`] | what requests do to a volume, and errors as the kernel has them |
//! | [`server`] | devices that are made and taken away, and the thread that serves one |
//!
//! **Durability and ordering** are those of [`volume`](crate::volume): a flush answers for every write that was
//! answered before it. The device has a volatile cache, and writes that bypass it.
//!
//! **Alignment.** Requests begin and end at sectors of 512 or 4096 bytes, as the device was made. Blocks that are
//! written in part are the engine's affair: of two requests that write parts of one block both last.
//!
//! **Death of the server.** The kernel offers to keep a device for the next server (`UBLK_F_USER_RECOVERY`), and to ask
//! that one what the first has not answered. Nobody asks for that here. Writes that were answered and not flushed are
//! gone with the process, as with a disk that lost power, and a file system that stays mounted over this would go on
//! as if they were there. So the device fails, for good.
//!
//! **Space.** Ranges that are discarded, or made zeros, take none, unless the kernel asks for zeros that do.

pub mod perform;
pub mod request;
pub mod server;
pub mod wire;
