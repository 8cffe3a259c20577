//! Addresses and the sockets on them.

use crate::error::{Error, Kind, Result};
use rustix::net::sockopt;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Bytes of replies that a socket of this machine takes before its client has taken any: a large reply goes with few
/// wakes. The network's sockets find out themselves how much is good.
const SEND_BYTES: usize = 1 << 20;

/// Where a server listens: `unix:PATH` or `HOST:PORT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A socket file.
    Unix(PathBuf),
    /// A host's name or number, and a port; an IPv6 number stands in brackets.
    Tcp(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Address, String> {
        let wrong = || format!("'{text}' is neither unix:PATH nor HOST:PORT");
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(wrong()) } else { Ok(Address::Unix(path.into())) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let has_brackets = host.starts_with('[') && host.ends_with(']');
        let is_plain = !host.is_empty() && !host.contains([':', '/']);
        match port.parse::<u16>() {
            Ok(_) if has_brackets || is_plain => Ok(Address::Tcp(text.into())),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            Address::Tcp(place) => f.write_str(place),
        }
    }
}

impl Address {
    /// By which clients find a volume there.
    pub fn uri(&self, volume: &str, encrypted: bool) -> String {
        let scheme = if encrypted { "nbds" } else { "nbd" };
        let name = escaped(volume.as_bytes(), "");
        match self {
            Address::Unix(path) => {
                let path = escaped(path.as_os_str().as_encoded_bytes(), "/");
                format!("{scheme}+unix:///{name}?socket={path}")
            }
            Address::Tcp(place) => format!("{scheme}://{place}/{name}"),
        }
    }
}

/// With everything but letters, digits and a few marks as numbers.
fn escaped(bytes: &[u8], also: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also.as_bytes().contains(&byte);
    let escape = |byte: &u8| if plain(*byte) { char::from(*byte).into() } else { format!("%{byte:02X}") };
    bytes.iter().map(escape).collect()
}

enum Open {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// A socket file that this process made.
struct Made {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for Made {
    fn drop(&mut self) {
        // Somebody else's by now: left alone.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _gone = fs::remove_file(&self.path).is_ok();
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

pub(super) struct Listener {
    open: Open,
    address: Address,
    _made: Option<Made>,
}

impl Listener {
    pub(super) fn bind(address: &Address) -> Result<Listener> {
        let failed = |error: io::Error| Error::io(format!("{address}: {error}"));
        match address {
            Address::Unix(path) => {
                clear_stale(path)?;
                let listener = UnixListener::bind(path).map_err(failed)?;
                let made = Made { path: path.clone(), identity: identity(path).map_err(failed)? };
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Listener { open: Open::Unix(listener), address: address.clone(), _made: Some(made) })
            }
            Address::Tcp(place) => {
                let listener = TcpListener::bind(place.as_str()).map_err(|error| match error.kind() {
                    ErrorKind::AddrInUse => Error::new(Kind::Busy, format!("{address}: {error}")),
                    _ => failed(error),
                })?;
                Listener::of_tcp(listener).map_err(failed)
            }
        }
    }

    fn of_tcp(listener: TcpListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        let address = Address::Tcp(listener.local_addr()?.to_string());
        Ok(Listener { open: Open::Tcp(listener), address, _made: None })
    }

    fn of_unix(listener: UnixListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        let path = listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
        Ok(Listener { open: Open::Unix(listener), address: Address::Unix(path), _made: None })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Somebody, unless they went away again.
    pub(super) fn accept(&self) -> io::Result<Option<Socket>> {
        let accepted = match &self.open {
            Open::Unix(listener) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
            Open::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::Tcp(stream)),
        };
        match accepted {
            Ok(socket) => socket.prepare().map(|()| Some(socket)),
            Err(error) if is_passing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted)
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.open {
            Open::Unix(listener) => listener.as_fd(),
            Open::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// Removes a socket file that nobody listens on.
fn clear_stale(path: &Path) -> Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(format!("{}: {error}", path.display()))),
    };
    if !found.file_type().is_socket() {
        return Err(Error::new(Kind::Refused, format!("{} is no socket", path.display())));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| Error::io(format!("{}: {error}", path.display())))
        }
        _ => Err(Error::new(Kind::Busy, format!("somebody listens on {} already", path.display()))),
    }
}

/// The sockets that a service manager handed over.
pub(super) fn inherited() -> Result<Vec<Listener>> {
    let failed = |error: io::Error| Error::io(format!("a socket that was handed over: {error}"));
    let mut handed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..handed.len() {
        let listener = match handed.take_unix_listener(index) {
            Ok(Some(listener)) => Listener::of_unix(listener),
            // The other kind, or nothing of use.
            Ok(None) => continue,
            Err(_) => match handed.take_tcp_listener(index).map_err(failed)? {
                Some(listener) => Listener::of_tcp(listener),
                None => continue,
            },
        };
        listeners.push(listener.map_err(failed)?);
    }
    Ok(listeners)
}

/// Lets a socket take [`SEND_BYTES`], or what the kernel gives of that.
pub(super) fn take_much(stream: &UnixStream) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(stream, SEND_BYTES)?)
}

/// A connection to a client.
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub(super) fn prepare(&self) -> io::Result<()> {
        match self {
            Socket::Unix(stream) => {
                take_much(stream)?;
                stream.set_nonblocking(true)
            }
            Socket::Tcp(stream) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                // A client whose machine lost its power does not stay for ever.
                Ok(sockopt::set_socket_keepalive(stream, true)?)
            }
        }
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Unix(_) => f.write_str("a client of this machine"),
            Socket::Tcp(stream) => match stream.peer_addr() {
                Ok(address) => write!(f, "client {address}"),
                Err(_) => f.write_str("a client that is gone"),
            },
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Unix(stream) => stream.as_fd(),
            Socket::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl io::Read for &Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => (&*stream).read(buffer),
            Socket::Tcp(stream) => (&*stream).read(buffer),
        }
    }
}

impl io::Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => (&*stream).write(bytes),
            Socket::Tcp(stream) => (&*stream).write(bytes),
        }
    }

    fn write_vectored(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => (&*stream).write_vectored(parts),
            Socket::Tcp(stream) => (&*stream).write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_spelled_as_they_are_read() {
        for text in ["unix:a/b", "unix:/run/x y", "localhost:10809", "127.0.0.1:0", "[::1]:1"] {
            assert_eq!(text.parse::<Address>().expect("an address").to_string(), text);
        }
        for text in ["", "unix:", "host", "host:", "host:70000", "::1:1", ":1", "a/b:1", "unix"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn uris_name_any_volume_on_any_socket() {
        let uri =
            |address: &str, volume: &str, tls| address.parse::<Address>().expect("one").uri(volume, tls);
        assert_eq!(uri("unix:/a b/s", "v", false), "nbd+unix:///v?socket=/a%20b/s");
        assert_eq!(uri("unix:s", "a b?&#%", true), "nbds+unix:///a%20b%3F%26%23%25?socket=s");
        assert_eq!(uri("h:1", "v\u{e9}", false), "nbd://h:1/v%C3%A9");
    }

    #[test]
    fn a_stale_socket_is_taken_over_a_live_one_and_a_file_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        let address = Address::Unix(path.clone());
        drop(UnixListener::bind(&path).expect("bound"));
        let listener = Listener::bind(&address).expect("taken over");
        let kind = |result: Result<Listener>| result.map(|_| ()).map_err(|error| error.kind());
        assert_eq!(kind(Listener::bind(&address)), Err(Kind::Busy));
        drop(listener);
        assert!(!path.exists(), "a socket file goes with its server");
        fs::write(&path, "text").expect("written");
        assert_eq!(kind(Listener::bind(&address)), Err(Kind::Refused));
        assert_eq!(fs::read(&path).expect("there"), b"text");
    }
}
