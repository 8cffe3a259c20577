//! Volumes over the Network Block Device protocol: a server for the clients that every Linux distribution has.
//!
//! The protocol is pure: bytes in, decisions and bytes out, without a socket, a thread or a clock.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`wire`] | numbers of the protocol, and fields in network byte order |
//! | [`negotiate`] | the handshake: fixed newstyle, from the greeting to the transmission phase |
//! | [`request`] | headers of requests, compact and extended, and what is wrong with them |
//! | [`reply`] | simple replies, chunks of structured replies, compact and extended |
//! | [`server`] | sockets, threads, limits, TLS: whatever is needed to serve an [`Array`](crate::volume::Array) |
//!
//! **Durability and ordering** are those of [`volume`](crate::volume): a flush answers for every write that was
//! answered before it, on whichever connection, so clients may use several at once.
//!
//! **Alignment.** Offsets and lengths are multiples of 512 bytes, which is what the server says; the rest is refused
//! with `EINVAL`.
//!
//! **Size.** It is read when a connection is negotiated. An array is open in one process only, which does not change
//! sizes while it serves, and the protocol has no finished way to tell a client of a change.
//!
#![doc = include_str!("CONFORMANCE.md")]

pub mod negotiate;
pub mod reply;
pub mod request;
pub mod server;
pub mod wire;
