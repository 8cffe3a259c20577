//! Serves the volumes of an open array.
//!
//! One thread listens, and each connection has a thread of its own, which sleeps until its client sends something or
//! the engine has answered: so one that is slow, greedy or hostile blocks itself alone. What all of them together may
//! have is in [`Limits`].

mod budget;
mod connection;
mod connections;
mod input;
mod limits;
mod line;
mod link;
mod listen;
mod output;
mod perform;
mod stream;
mod tls;

pub use limits::Limits;
pub use link::{Link, Terms};
pub use listen::Address;
pub use tls::Certificates;

use super::negotiate::{self, Tls};
use crate::error::{Error, Result};
use crate::frontend::bell::Bell;
use crate::volume::{Array, Volume};
use connections::Connections;
use listen::{Listener, Socket};
use rustix::event::{PollFd, PollFlags, poll};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// How long the listener rests when the system has no more descriptors to give.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What is served, and how.
pub struct Options {
    /// Volumes that are served; all when `None`.
    pub exports: Option<Vec<String>>,
    /// Nobody may write.
    pub read_only: bool,
    /// With what connections are encrypted, if they are.
    pub certificates: Option<Certificates>,
    /// Whether they must be. Without effect where there are no certificates.
    pub tls_required: bool,
    /// What clients may take.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            exports: None,
            read_only: false,
            certificates: None,
            tls_required: true,
            limits: Limits::default(),
        }
    }
}

/// What is served, and to whom.
struct Shared {
    array: Array,
    options: Options,
    listener: Arc<Bell>,
    connections: Arc<Connections>,
}

impl Shared {
    fn tls(&self) -> Tls {
        match (&self.options.certificates, self.options.tls_required) {
            (None, _) => Tls::Off,
            (Some(_), false) => Tls::Optional,
            (Some(_), true) => Tls::Required,
        }
    }

    fn volumes(&self) -> Vec<Volume> {
        let mut volumes = self.array.volumes().unwrap_or_default();
        if let Some(chosen) = &self.options.exports {
            volumes.retain(|volume| chosen.iter().any(|name| name == volume.name()));
        }
        volumes
    }
}

impl negotiate::Exports for Shared {
    fn names(&self) -> Vec<String> {
        self.volumes().iter().map(|volume| volume.name().to_owned()).collect()
    }

    fn find(&self, name: &str) -> Option<negotiate::Export> {
        let mut volumes = self.volumes();
        let is_only = volumes.len() == 1;
        volumes.retain(|volume| volume.name() == name || name.is_empty() && is_only);
        let volume = volumes.pop()?;
        let scheme = volume.scheme();
        Some(negotiate::Export {
            name: volume.name().to_owned(),
            description: format!("a paritas volume, {}+{}", scheme.k(), scheme.m()),
            size: volume.size().ok()?,
            read_only: self.options.read_only,
        })
    }
}

/// A server whose sockets are open, and which serves as soon as it runs. Dropping it removes the socket files that it
/// made.
pub struct Server {
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
}

/// Stops a server from elsewhere.
#[derive(Clone)]
pub struct Stopper(Arc<Shared>);

impl Stopper {
    /// The server accepts nobody and nothing any more, answers what it has accepted, and returns.
    pub fn stop(&self) {
        self.0.connections.stop();
        self.0.listener.ring();
    }
}

impl Server {
    /// Opens the sockets: those of `addresses`, and those that a service manager handed over when `inherit` says
    /// so. A socket file that nobody listens on any more is taken over. `complain` gets a line about a connection that
    /// failed, not more than a few in a time.
    ///
    /// # Errors
    /// [`Kind::NotFound`] for an export that is no volume; [`Kind::Busy`] where somebody listens;
    /// [`Kind::Refused`] where something else is; [`Kind::Io`].
    ///
    /// [`Kind::NotFound`]: crate::error::Kind::NotFound
    /// [`Kind::Busy`]: crate::error::Kind::Busy
    /// [`Kind::Refused`]: crate::error::Kind::Refused
    /// [`Kind::Io`]: crate::error::Kind::Io
    pub fn bind(
        array: &Array,
        addresses: &[Address],
        inherit: bool,
        options: Options,
        complain: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Server> {
        for name in options.exports.iter().flatten() {
            array.volume(name)?;
        }
        let mut listeners = if inherit { listen::inherited()? } else { Vec::new() };
        for address in addresses {
            listeners.push(Listener::bind(address)?);
        }
        let none = |error| Error::io(format!("no event of the kernel: {error}"));
        let connections = Arc::new(Connections::new(options.limits.clone(), complain));
        let listener = Bell::new().map_err(none)?;
        let shared = Shared { array: array.clone(), options, listener, connections };
        Ok(Server { shared: Arc::new(shared), listeners })
    }

    /// Where it listens, with the ports that the system chose.
    pub fn addresses(&self) -> Vec<Address> {
        self.listeners.iter().map(|listener| listener.address().clone()).collect()
    }

    /// The volumes that it serves now.
    pub fn exports(&self) -> Vec<Volume> {
        self.shared.volumes()
    }

    /// By which it is stopped.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.shared.clone())
    }

    /// Serves until it is stopped, and what was in flight is answered, or a limited time has passed. The array
    /// stays open.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the sockets cannot be waited for.
    pub fn run(self) -> Result<()> {
        let mut number = 0;
        while !self.shared.connections.is_stopping() {
            for socket in self.wait()? {
                number += 1;
                let shared = self.shared.clone();
                let serve = move |socket, bell| connection::serve(&shared, socket, bell);
                // Whoever is turned away learns it from the end of the connection.
                let _served = self.shared.connections.admit(number, socket, serve);
            }
        }
        drop(self.listeners);
        self.shared.connections.wait();
        Ok(())
    }

    /// Who connected.
    fn wait(&self) -> Result<Vec<Socket>> {
        let bell = &self.shared.listener;
        if !bell.lie_down() {
            return Ok(Vec::new());
        }
        let mut fds = vec![PollFd::new(bell, PollFlags::IN)];
        fds.extend(
            self.listeners.iter().map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)),
        );
        let polled = poll(&mut fds, None);
        let ready: Vec<bool> = fds[1..].iter().map(|fd| !fd.revents().is_empty()).collect();
        bell.wake_up(!fds[0].revents().is_empty());
        match polled {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::io(format!("sockets cannot be waited for: {error}"))),
        }
        let mut sockets = Vec::new();
        for (listener, _) in self.listeners.iter().zip(ready).filter(|(_, ready)| *ready) {
            match listener.accept() {
                Ok(socket) => sockets.extend(socket),
                Err(error) => {
                    self.shared.connections.complaints.tell(&format!("{}: {error}", listener.address()));
                    std::thread::sleep(EXHAUSTED);
                }
            }
        }
        Ok(sockets)
    }
}
