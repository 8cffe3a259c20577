//! libparitas: arrays and their volumes for C, and for every language that speaks its ABI.
//!
//! What a C program reads is the header, `include/paritas.h`, which a test makes of the comments here. In each
//! exported function the arguments are looked at first (`memory.rs`), then the engine is called, inside of
//! [`answer::guard`], so that no panic leaves this library. What takes no pointers from C is safe code
//! (`requests.rs`, `answer.rs`); where there is unsafe code, the header's rules for pointers are its proof.

mod answer;
mod memory;
mod requests;

// In the order of the header.
pub mod code;
pub mod options;

pub mod array;
pub mod listing;

pub mod create;
pub mod volume;

pub mod queue;
