//! paritas is a redundant block storage engine. It spreads volumes over N member devices, disk files or block
//! devices, with mirroring or Reed-Solomon parity, checksums every block, heals what it can, and is shipped
//! with the simulator that proves it.
//!
//! **The promise.** With tolerance m, any m members may at the same time be absent, slow, lying, stale or rotten,
//! in any mixture, block by block, and every acknowledged and flushed byte is returned exactly, now and after
//! any number of crashes, crashes during recovery included. After a crash a volume is a *prefix* of its write
//! history that contains every flushed write. Beyond m, exactly the affected blocks return a data-loss error
//! that names them; everything else is served, and wrong bytes are never returned.
//!
//! Programs use [`volume::Array`] and [`volume::Volume`]; the example there is all that it takes. The map of the
//! rest, from the bottom up:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`types`], [`limits`], [`error`] | coordinates, bounds, error kinds that say what to do |
//! | [`format`](mod@format) | PURE: bytes and values of everything on the members, drawn byte by byte |
//! | [`checksum`], [`codec`], [`layout`] | PURE: two witnesses, Reed-Solomon, where a chunk's rows are |
//! | [`device`] | PORT: what a member is; files and block devices; faults on purpose |
//! | [`runtime`] | the executor and everything else with threads, locks and clocks |
//! | [`pool`] | who the members are: rings, election, eviction |
//! | [`space`] | the segment table, free chunks, the runway |
//! | [`stripe`] | redundancy in motion: records onto columns, the verified read |
//! | [`map`] | LBA to pointer: overlays above copy-on-write trees |
//! | [`log`] | the write buffer and replay |
//! | [`commit`] | the order: data, then records, then roots |
//! | [`maintain`] | rebuild |
//! | [`volume`] | what a user holds |
//! | [`frontend`] | volumes for others, behind features: `nbd`, `fuse`, `ublk` |
//! | [`sim`] | the other world: simulated members, faults, crashes, oracle |
//! | [`zoo`] | bugs that are planted to measure the simulator |
//!
#![doc = include_str!("ARCHITECTURE.md")]

pub mod checksum;
pub mod codec;
pub mod commit;
pub mod device;
pub mod error;
pub mod format;
pub mod frontend;
pub mod layout;
pub mod limits;
pub mod log;
pub mod maintain;
pub mod map;
pub mod pool;
pub mod runtime;
pub mod sim;
pub mod space;
pub mod stripe;
pub mod types;
pub mod volume;
pub mod zoo;

/// The README's example is compiled and run like every other.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
