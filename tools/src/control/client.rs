//! Finds the server that has an array open, and follows what it says of a command.

use super::command::{Named, named};
use super::folder::sockets;
use super::wire::{Claim, Order, Question, VERSION, Word, receive, send, send_descriptors};
use crate::caller::{Bar, Caller};
use crate::cli::Command;
use crate::consent;
use crate::outcome::{Failure, Report, say};
use std::ffi::OsString;
use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A server answers without waiting for its members. One that takes longer is not asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server that has the array of a command open.
pub(crate) struct Owner {
    input: BufReader<UnixStream>,
}

/// The server that has the array open that a command names. `None` when none has, or the command needs none.
///
/// # Errors
/// When several have an array open that is meant, or one of another version has.
pub(crate) fn find(command: &Command) -> Result<Option<Owner>, Failure> {
    match named(command) {
        None => Ok(None),
        Some(Named::Array(place, name)) => {
            find_by(place, |place| Question::Array { place, name: name.map(str::to_owned) })
        }
        Some(Named::ArrayForDevice(place, name)) => find_for_device(place, name),
        Some(Named::Device(device)) => find_by(device, Question::Device),
    }
}

/// The server that makes devices of the volumes of an array.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_for_device(place: &Path, name: Option<&str>) -> Result<Option<Owner>, Failure> {
    find_by(place, |place| Question::ArrayForDevice { place, name: name.map(str::to_owned) })
}

fn find_by(place: &Path, question: impl FnOnce(OsString) -> Question) -> Result<Option<Owner>, Failure> {
    let sockets = sockets();
    if sockets.is_empty() {
        return Ok(None);
    }
    let place = whole(place).map_err(|error| Failure::io(format!("{}: {error}", place.display())))?;
    let question = question(place.into());
    // A socket whose server is gone refuses, or says nothing.
    let mut owners: Vec<(Owner, Claim)> =
        sockets.iter().filter_map(|socket| ask(socket, &question).ok().flatten()).collect();
    if owners.len() > 1 {
        let arrays: Vec<&str> = owners.iter().map(|(_, claim)| claim.array.as_str()).collect();
        let text =
            format!("several arrays are meant: {}; choose with --name or by one member", arrays.join(", "));
        return Err(Failure::refused(text));
    }
    match owners.pop() {
        Some((_, claim)) if claim.version != VERSION => Err(Failure::refused(format!(
            "array {} is served by paritas {}, and this is {VERSION}: use that one, or serve it anew",
            claim.array, claim.version
        ))),
        owner => Ok(owner.map(|(owner, _)| owner)),
    }
}

/// From the root on, and by its true name where it has one.
fn whole(place: &Path) -> io::Result<PathBuf> {
    place.canonicalize().or_else(|_absent| std::path::absolute(place))
}

fn ask(socket: &Path, question: &Question) -> io::Result<Option<(Owner, Claim)>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    send(&mut stream, question)?;
    let mut input = BufReader::new(stream);
    let claim: Option<Claim> = receive(&mut input)?;
    Ok(claim.filter(|claim| claim.is_mine).map(|claim| (Owner { input }, claim)))
}

impl Owner {
    /// Lets the server run the command that this process was started for.
    ///
    /// # Errors
    /// Its own; and when the server ends before it says how the command ended.
    pub(crate) fn run(mut self) -> Result<Report, Failure> {
        self.order().map_err(|error| unheard(&error))?;
        let caller = Caller::Here;
        let mut bar: Option<Bar<'_>> = None;
        loop {
            let word = receive(&mut self.input).map_err(|error| unheard(&error))?;
            match word.ok_or_else(|| unheard(&"it ended"))? {
                Word::Say(text) => say(&text),
                Word::Print(text) => caller.print(&text)?,
                Word::Ask(question) => {
                    let agrees = consent::ask(&question);
                    send(self.input.get_mut(), &agrees).map_err(|error| unheard(&error))?;
                }
                Word::Begin { what, total } => bar = Some(caller.bar(&what, total)),
                Word::At { done, total } => {
                    if let Some(bar) = &mut bar {
                        bar.show(done, total);
                    }
                }
                Word::End => bar = None,
                Word::Done(report) => return self.until_over(Ok(report)),
                Word::Failed(failure) => return self.until_over(Err(failure)),
            }
        }
    }

    /// The server hangs up when it has done everything that there is to do for this, its own end included.
    fn until_over(mut self, answer: Result<Report, Failure>) -> Result<Report, Failure> {
        while let Ok(Some(_)) = receive::<Word>(&mut self.input) {}
        answer
    }

    fn order(&mut self) -> io::Result<()> {
        let folder = std::env::current_dir()?.into();
        let order = Order { words: std::env::args_os().collect(), folder, is_seated: consent::is_seated() };
        let stream = self.input.get_mut();
        stream.set_read_timeout(None)?;
        send_descriptors(stream)?;
        send(stream, &order)
    }
}

fn unheard(why: &dyn std::fmt::Display) -> Failure {
    Failure::io(format!("the server that has the array open did not say how the command ended: {why}"))
}
