//! A process that outlives a server, to tell the kernel's NBD client that it died.
//!
//! The kernel waits for answers to what it has asked a server that is gone, for as long as it would wait for one that
//! is there: so whoever writes to the device hangs. The guard sleeps until the pipe from its server ends, and unless it
//! was dismissed before, disconnects the device; then everything that was asked fails at once, as on a disk that is
//! unplugged.

use super::nbd;
use crate::cli;
use crate::outcome::{Failure, Report};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Who watches over this process.
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// For the device with this number, as long as it has this name.
    ///
    /// # Errors
    /// When no process can be started.
    pub(crate) fn start(index: u32, name: &str) -> io::Result<Guard> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["__guard", &index.to_string(), "--", name]).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // What a terminal sends to its server is not for it.
        command.process_group(0);
        Ok(Guard { child: command.spawn()? })
    }

    /// The device is gone as it should.
    pub(crate) fn dismiss(mut self) {
        if let Some(mut pipe) = self.child.stdin.take() {
            // One that is gone already has nothing to be told.
            let _gone = pipe.write_all(b".").is_err();
        }
        let _gone = self.child.wait().is_err();
    }
}

/// `paritas __guard`
pub(crate) fn run(args: &cli::Guard) -> Result<Report, Failure> {
    let mut said = Vec::new();
    // A pipe that fails has ended.
    let _ended = io::stdin().read_to_end(&mut said).is_ok();
    if said.is_empty() && nbd::is_named(args.index, &args.name) {
        nbd::disconnect(args.index).map_err(|error| Failure::io(format!("nbd{}: {error}", args.index)))?;
    }
    Ok(Report::silent())
}
