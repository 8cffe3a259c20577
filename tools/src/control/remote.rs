//! The caller, as the command in the server sees it.

use super::line::Line;
use super::wire::Word;
use crate::attach::Devices;
use crate::outcome::{Failure, Report};
use paritas::volume::Array;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Somebody at the other end of a socket.
pub(crate) struct Remote {
    array: Array,
    devices: Arc<Devices>,
    line: Line,
    input: OwnedFd,
    output: OwnedFd,
    is_seated: bool,
}

impl Remote {
    pub(super) fn new(
        array: Array,
        devices: Arc<Devices>,
        line: Line,
        [input, output]: [OwnedFd; 2],
        is_seated: bool,
    ) -> Remote {
        Remote { array, devices, line, input, output, is_seated }
    }

    /// What the server has open.
    pub(crate) fn array(&self) -> &Array {
        &self.array
    }

    /// Which of its volumes are block devices.
    pub(crate) fn devices(&self) -> &Devices {
        &self.devices
    }

    /// A word to the person.
    pub(crate) fn say(&self, text: &str) {
        self.line.tell(&Word::Say(text.into()));
    }

    /// Words on the standard output, before the command ends.
    pub(crate) fn print(&self, text: &str) {
        self.line.tell(&Word::Print(text.into()));
    }

    /// Whether a person sits there and can be asked.
    pub(crate) fn is_seated(&self) -> bool {
        self.is_seated
    }

    /// Whether the person answers yes. Who goes away does not.
    pub(crate) fn ask(&self, question: &str) -> bool {
        self.line.ask(&Word::Ask(question.into())) == Some(true)
    }

    pub(crate) fn begin_bar(&self, what: &str, total: Option<u64>) {
        self.line.tell(&Word::Begin { what: what.into(), total });
    }

    pub(crate) fn move_bar(&self, done: u64, total: Option<u64>) {
        self.line.mention(&Word::At { done, total });
    }

    pub(crate) fn end_bar(&self) {
        self.line.tell(&Word::End);
    }

    /// The last word.
    pub(super) fn end(&self, answer: Result<Report, Failure>) {
        self.line.tell(&match answer {
            Ok(report) => Word::Done(report),
            Err(failure) => Word::Failed(failure),
        });
    }

    /// Whether the other side is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.line.is_gone()
    }

    pub(crate) fn input(&self) -> io::Result<File> {
        Ok(self.input.try_clone()?.into())
    }

    pub(crate) fn output(&self) -> io::Result<File> {
        Ok(self.output.try_clone()?.into())
    }
}
