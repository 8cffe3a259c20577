//! The control device: what makes devices, and takes them away. Each call waits until the kernel has done it.

#![allow(unsafe_code)] // The kernel writes into memory behind the compiler's back; nothing safe can say so.

use crate::frontend::ublk::wire::{
    self, ANY_DEVICE, COMMAND_BYTES, FEATURE_BYTES, INFO_BYTES, Info, Parameters, SECTOR_BITS,
};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::mem::forget;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Where a kernel with ublk has it.
pub const CONTROL: &str = "/dev/ublk-control";
/// Entries of the ring: there is one command at a time.
const ENTRIES: u32 = 2;

/// The control device, as one thread uses it.
pub struct Control {
    device: File,
    ring: IoUring<squeue::Entry128>,
    /// Commands so far: each is marked with its number.
    asked: u64,
}

impl Control {
    /// Opens it.
    ///
    /// # Errors
    /// When there is none, or this process may not, or the kernel gives it no ring.
    pub fn open() -> io::Result<Control> {
        let device = File::options().read(true).write(true).open(Path::new(CONTROL))?;
        let ring = IoUring::builder().build(ENTRIES)?;
        Ok(Control { device, ring, asked: 0 })
    }

    /// What the kernel's driver can do: see [`wire::feature`].
    ///
    /// # Errors
    /// The kernel's. One that does not know the question is older than Linux 6.5.
    pub fn features(&mut self) -> io::Result<u64> {
        let bytes = self.ask(wire::Control::Features, ANY_DEVICE, vec![0; FEATURE_BYTES], 0)?;
        Ok(u64::from_ne_bytes(wire::field(&bytes, 0)))
    }

    /// How a device is; `None` when there is none with this number.
    ///
    /// # Errors
    /// The kernel's.
    pub fn info(&mut self, device: u32) -> io::Result<Option<Info>> {
        match self.ask(wire::Control::Info, device, vec![0; INFO_BYTES], 0) {
            Ok(bytes) => Ok(Some(Info::decode(&wire::field(&bytes, 0)))),
            Err(error) if is_none(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a device, and returns how it became, with its number.
    pub(super) fn add(&mut self, info: &Info) -> io::Result<Info> {
        let bytes = self.ask(wire::Control::Add, info.device, info.encode().into(), 0)?;
        Ok(Info::decode(&wire::field(&bytes, 0)))
    }

    pub(super) fn set(&mut self, device: u32, parameters: &Parameters) -> io::Result<()> {
        self.ask(wire::Control::SetParameters, device, parameters.encode().into(), 0).map(|_| ())
    }

    /// Starts a device that this process serves already: the kernel reads from it meanwhile.
    pub(super) fn start(&mut self, device: u32) -> io::Result<()> {
        let process = std::process::id();
        self.ask(wire::Control::Start, device, Vec::new(), process.into()).map(|_| ())
    }

    /// Fails what whoever uses the device asks from now on; nobody finds it any more. What is under way is waited for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn stop(&mut self, device: u32) -> io::Result<()> {
        match self.ask(wire::Control::Stop, device, Vec::new(), 0) {
            Err(error) if !is_none(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Lets the kernel forget a device, as soon as nobody has it open any more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn delete(&mut self, device: u32) -> io::Result<()> {
        let mut deleted = self.ask(wire::Control::DeleteLater, device, Vec::new(), 0);
        // An older kernel can only wait for that.
        if deleted.as_ref().is_err_and(|error| Errno::from_io_error(error) == Some(Errno::OPNOTSUPP)) {
            deleted = self.ask(wire::Control::Delete, device, Vec::new(), 0);
        }
        match deleted {
            Err(error) if !is_none(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives a device another size, in bytes.
    ///
    /// # Errors
    /// The kernel's. One without [`wire::feature::RESIZE`] cannot.
    pub fn resize(&mut self, device: u32, size: u64) -> io::Result<()> {
        self.ask(wire::Control::Resize, device, Vec::new(), size >> SECTOR_BITS).map(|_| ())
    }

    /// Asks for something, with bytes for the kernel to read or to write, and waits until it is done. Returns the
    /// bytes.
    fn ask(
        &mut self,
        control: wire::Control,
        device: u32,
        mut bytes: Vec<u8>,
        number: u64,
    ) -> io::Result<Vec<u8>> {
        let length = u16::try_from(bytes.len()).expect("structures are small");
        let address = if bytes.is_empty() { 0 } else { bytes.as_mut_ptr().expose_provenance() as u64 };
        let command: [u8; COMMAND_BYTES] = wire::Control::command(device, (address, length), number);
        let file = types::Fd(self.device.as_raw_fd());
        let entry = opcode::UringCmd80::new(file, control.opcode()).cmd(command).build();
        self.asked += 1;
        let entry = entry.user_data(self.asked);
        // SAFETY: the command points to `bytes`, on the heap, and says how long they are. They are neither touched nor
        // freed before the completion: below, they are leaked on every way out that comes before that. `self`
        // keeps the descriptor open.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("there is one command at a time");
        loop {
            let entered = self.ring.submit_and_wait(1);
            // One that was given up may complete as well.
            if let Some(entry) = self.ring.completion().find(|entry| entry.user_data() == self.asked) {
                let result = entry.result();
                return if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(bytes) };
            }
            match entered.as_ref().err().and_then(Errno::from_io_error) {
                None | Some(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
                Some(error) => {
                    forget(bytes);
                    return Err(error.into());
                }
            }
        }
    }
}

/// Whether there is no such device.
fn is_none(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NODEV)
}
