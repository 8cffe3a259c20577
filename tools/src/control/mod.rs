//! A running array can be commanded: who has it open runs the commands of others on it.
//!
//! `paritas serve` listens on a socket of its user's run folder. A command that names an array first asks the servers
//! there whose it is. If one has it open, the command's words and folder go there, with the caller's standard input
//! and output; the server runs the same code on the array that is open, and what it says, how far it is, and how it
//! ends come back line by line. If none has it, the command opens the array itself.
//!
//! | file | idea |
//! | --- | --- |
//! | `folder` | where the sockets are |
//! | `wire` | what is said over one |
//! | `command` | which commands go there, and the paths in them |
//! | `client` | finds the server of an array, and follows what it says |
//! | `line` | how a caller is told things, stopped ones too |
//! | `remote` | the caller, as the command in the server sees it |
//! | `server` | takes commands |

mod client;
mod command;
mod folder;
mod line;
mod remote;
mod server;
mod wire;

pub(crate) use client::{find, find_for_device};
pub(crate) use folder::{make_run_folder, sweep};
pub(crate) use remote::Remote;
pub(crate) use server::{Desk, Purpose};
