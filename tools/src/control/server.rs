//! Takes the commands of others for the array that this process has open.

use super::command::{lead_on, named};
use super::folder::{make_run_folder, socket_of, sweep};
use super::line::Line;
use super::remote::Remote;
use super::wire::{Claim, Order, Question, VERSION, receive, receive_descriptors, send};
use crate::attach::{Devices, Place};
use crate::caller::Caller;
use crate::cli::Cli;
use crate::files::is_same;
use crate::outcome::{Failure, Report};
use clap::Parser;
use paritas::volume::{Array, Status};
use std::fs::Permissions;
use std::io::{self, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Callers at a time. Each has a thread.
const CALLERS_MAX: usize = 64;

/// Who connects says at once what he wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is waited for at the end: commands then fail, and say so.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// Looks once in a while.
const PAUSE: Duration = Duration::from_millis(20);

/// What a server has its array open for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// Clients, until it is told to end.
    Clients,
    /// Devices, until there are none. One that may only read takes no other commands: it keeps nobody from opening the
    /// array.
    Devices { read_only: bool },
}

/// Where commands come in, on a thread of its own until it is closed.
pub(crate) struct Desk {
    shared: Arc<Shared>,
    socket: PathBuf,
}

struct Shared {
    array: Array,
    devices: Arc<Devices>,
    purpose: Purpose,
    is_closing: AtomicBool,
    callers: AtomicUsize,
    /// Those of them that do not listen: stopped, most likely.
    deaf: Arc<AtomicUsize>,
}

impl Desk {
    /// Listens for commands on this array.
    ///
    /// # Errors
    /// When there is no folder for the socket, or no thread.
    pub(crate) fn open(array: &Array, purpose: Purpose) -> Result<Desk, Failure> {
        let (folder, uuid) = (make_run_folder()?, array.status()?.uuid);
        sweep(&folder, &uuid.to_string());
        let socket = socket_of(&folder, &uuid.to_string());
        let failed = |error: io::Error| Failure::io(format!("{}: {error}", socket.display()));
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        std::fs::set_permissions(&socket, Permissions::from_mode(0o600)).map_err(failed)?;
        let shared = Arc::new(Shared {
            array: array.clone(),
            devices: Arc::new(Devices::new(
                Place::of(&folder, uuid),
                purpose == Purpose::Devices { read_only: true },
            )),
            purpose,
            is_closing: AtomicBool::new(false),
            callers: AtomicUsize::new(0),
            deaf: Arc::default(),
        });
        let desk = Desk { shared: shared.clone(), socket: socket.clone() };
        thread::Builder::new()
            .name("control".into())
            .spawn(move || shared.listen(&listener))
            .map_err(failed)?;
        Ok(desk)
    }

    /// The volumes that are block devices.
    pub(crate) fn devices(&self) -> &Arc<Devices> {
        &self.shared.devices
    }

    /// Takes no more commands.
    pub(crate) fn close(&self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        // Wakes who listens. The socket's file may be gone already.
        let _unheard = UnixStream::connect(&self.socket).is_err();
        let _gone = std::fs::remove_file(&self.socket).is_err();
    }

    /// Lets the commands that are under way say how they ended, to whoever listens. The array is closed.
    pub(crate) fn leave(&self) {
        let turns = LEAVE_WAIT.as_millis() / PAUSE.as_millis();
        for _ in 0..turns {
            let deaf = self.shared.deaf.load(Ordering::SeqCst);
            if self.shared.callers.load(Ordering::SeqCst) <= deaf {
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn listen(self: Arc<Shared>, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.is_closing.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else {
                // No descriptors: some are given back soon.
                thread::sleep(PAUSE);
                continue;
            };
            if self.callers.fetch_add(1, Ordering::SeqCst) >= CALLERS_MAX {
                self.callers.fetch_sub(1, Ordering::SeqCst);
                continue;
            }
            let shared = self.clone();
            let served = move || {
                // Who breaks off is told nothing.
                let _unserved = shared.serve(stream).is_err();
                shared.callers.fetch_sub(1, Ordering::SeqCst);
            };
            if thread::Builder::new().name("command".into()).spawn(served).is_err() {
                self.callers.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// One caller: whose the array is, the command, and what comes of it.
    fn serve(&self, stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut input = BufReader::new(stream.try_clone()?);
        let Some(question) = receive::<Question>(&mut input)? else { return Ok(()) };
        let Ok(status) = self.array.status() else { return Ok(()) };
        let is_mine = self.is_meant(&status, &question);
        let array = format!("'{}' ({})", status.name, status.uuid);
        send(&mut &stream, &Claim { is_mine, version: VERSION.into(), array })?;
        if !is_mine {
            return Ok(());
        }
        // Only now does the other side send them: nothing was read ahead.
        let descriptors = receive_descriptors(&stream)?;
        let Some(order) = receive::<Order>(&mut input)? else { return Ok(()) };
        let line = Line::new(stream, self.deaf.clone())?;
        let remote =
            Remote::new(self.array.clone(), self.devices.clone(), line, descriptors, order.is_seated);
        let caller = Caller::Elsewhere(remote);
        let answer = run(order, &caller);
        if let Caller::Elsewhere(remote) = &caller {
            remote.end(answer);
        }
        let is_detached = matches!(question, Question::Device(_)) && self.devices.is_empty();
        if is_detached && self.purpose != Purpose::Clients {
            // This process ends now, and the kernel hangs up when all of it is gone.
            std::mem::forget((caller, input));
        }
        Ok(())
    }

    /// Whether what somebody asks for is here.
    fn is_meant(&self, status: &Status, question: &Question) -> bool {
        match question {
            Question::Device(device) => self.devices.has(Path::new(device)),
            Question::Array { .. } if self.purpose == Purpose::Devices { read_only: true } => false,
            Question::Array { place, name } | Question::ArrayForDevice { place, name } => {
                is_meant(status, Path::new(place), name.as_deref())
            }
        }
    }
}

fn run(order: Order, caller: &Caller) -> Result<Report, Failure> {
    let Cli { json, mut command } =
        Cli::try_parse_from(order.words).map_err(|error| Failure::usage(error.to_string()))?;
    if named(&command).is_none() {
        return Err(Failure::usage("a server runs no such command"));
    }
    lead_on(&mut command, Path::new(&order.folder));
    crate::run(command, json, caller)
}

/// Whether a place means an array: one of its members, or the directory of one.
fn is_meant(status: &Status, place: &Path, name: Option<&str>) -> bool {
    if name.is_some_and(|name| name != status.name) {
        return false;
    }
    let mut paths = status.members.iter().map(|member| member.path.as_path());
    if paths.any(|path| path == place || path.parent() == Some(place)) {
        return true;
    }
    // By another name: a link, or a directory of links.
    let members: Vec<_> =
        status.members.iter().filter_map(|member| std::fs::metadata(&member.path).ok()).collect();
    let is_member = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|it| members.iter().any(|member| is_same(member, &it)))
    };
    match std::fs::read_dir(place) {
        Ok(entries) => entries.flatten().any(|entry| is_member(&entry.path())),
        Err(_no_directory) => is_member(place),
    }
}
