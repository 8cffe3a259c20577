//! Connections without a handshake, to somebody who has been told everything already: the kernel's client, which makes
//! a block device of a volume.

use super::connection;
use super::connections::Connections;
use super::limits::Limits;
use super::listen::Socket;
use crate::error::{Error, Result};
use crate::frontend::nbd::negotiate::{Agreed, Export};
use crate::frontend::nbd::wire::Mode;
use crate::volume::Volume;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

/// The kernel sends in its own time, and so it is when the machine slept meanwhile.
const PATIENT: Duration = Duration::from_hours(24 * 365);

/// What a link's client must know beforehand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Bytes of the volume. The client keeps to it by itself: the engine knows it at any time.
    pub size: u64,
    /// The transmission flags.
    pub flags: u16,
}

/// A volume that is served to one client, over sockets that only the two have. Dropping it ends that.
pub struct Link {
    connections: Arc<Connections>,
}

impl Link {
    /// Serves a volume over so many connections; the client's ends of the sockets are for whoever is the client.
    /// Requests are compact, replies simple. `complain` gets a line about a request that failed, not more than a few
    /// in a time.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the system has no sockets or threads to give, and what
    /// [`Volume::size`] has.
    pub fn new(
        volume: &Volume,
        read_only: bool,
        connections: usize,
        complain: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<(Link, Terms, Vec<UnixStream>)> {
        let limits = Limits { stall: PATIENT, request: PATIENT, ..Limits::default() };
        let link = Link { connections: Arc::new(Connections::new(limits, complain)) };
        let size = volume.size()?;
        // The size may change while it is linked.
        let export = Export {
            name: volume.name().into(),
            description: String::new(),
            size: i64::MAX.unsigned_abs(),
            read_only,
        };
        let agreed = Agreed { export, mode: Mode::Simple, allocation: false };
        let terms = Terms { size, flags: agreed.export.flags(agreed.mode, agreed.allocation) };
        let mut clients = Vec::new();
        for number in 0..connections {
            let (own, client) = pair().map_err(|error| Error::io(format!("a pair of sockets: {error}")))?;
            let (all, agreed, volume) = (link.connections.clone(), agreed.clone(), volume.clone());
            let admitted = link.connections.admit(number as u64, own, move |socket, bell| {
                connection::serve_agreed(&all, socket, bell, agreed, volume);
            });
            if !admitted {
                return Err(Error::io("no thread for a connection"));
            }
            clients.push(client);
        }
        Ok((link, terms, clients))
    }

    /// Answers what was asked for, and asks for nothing more.
    pub fn end(self) {
        self.connections.stop();
        self.connections.wait();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.connections.stop();
    }
}

/// Our end, and the client's, which takes as many bytes before we have taken any.
fn pair() -> io::Result<(Socket, UnixStream)> {
    let (own, client) = UnixStream::pair()?;
    let own = Socket::Unix(own);
    own.prepare()?;
    super::listen::take_much(&client)?;
    Ok((own, client))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontend::nbd::wire::{REQUEST, SIMPLE_REPLY, command, flag, modifier};
    use crate::volume::{Array, CreateOptions};
    use std::io::{Read, Write};

    const SIZE: u64 = 8 << 20;

    fn array() -> (tempfile::TempDir, Array, Volume) {
        let folder = tempfile::tempdir().expect("a folder");
        let members: Vec<_> = (0..3).map(|i| folder.path().join(format!("m{i}"))).collect();
        let options = CreateOptions { size: Some(64 << 20), ..CreateOptions::default() };
        let array = Array::create(&members, &options).expect("made");
        let volume = array.create_volume("v", SIZE, None).expect("created");
        (folder, array, volume)
    }

    /// A request, and the error number of its reply, behind which `data` is read.
    fn call(
        socket: &mut UnixStream,
        [flags, kind]: [u16; 2],
        offset: u64,
        length: u32,
        data: &mut [u8],
    ) -> u32 {
        let cookie = offset ^ u64::from(kind);
        let mut request = REQUEST.to_be_bytes().to_vec();
        request.extend([flags.to_be_bytes(), kind.to_be_bytes()].concat());
        request.extend([cookie.to_be_bytes(), offset.to_be_bytes()].concat());
        request.extend(length.to_be_bytes());
        if kind == command::WRITE {
            request.extend(&*data);
        }
        socket.write_all(&request).expect("sent");
        let mut reply = [0; 16];
        socket.read_exact(&mut reply).expect("answered");
        assert!(reply[..4] == SIMPLE_REPLY.to_be_bytes() && reply[8..] == cookie.to_be_bytes(), "{reply:?}");
        let error = u32::from_be_bytes(reply[4..8].try_into().expect("4 bytes"));
        if kind == command::READ && error == 0 {
            socket.read_exact(data).expect("read");
        }
        error
    }

    #[test]
    fn a_linked_client_needs_no_handshake_and_sees_a_volume_grow() {
        let (_folder, array, volume) = array();
        let (link, terms, mut clients) = Link::new(&volume, false, 2, |_| {}).expect("linked");
        assert_eq!((terms.size, terms.flags & flag::READ_ONLY), (SIZE, 0));
        assert_ne!(terms.flags & flag::CAN_MULTI_CONN, 0);
        let mut data = [7; 4096];
        assert_eq!(call(&mut clients[0], [modifier::FUA, command::WRITE], SIZE - 4096, 4096, &mut data), 0);
        data.fill(0);
        assert_eq!(call(&mut clients[1], [0, command::READ], SIZE - 4096, 4096, &mut data), 0);
        assert_eq!(data, [7; 4096]);
        assert_ne!(call(&mut clients[1], [0, command::READ], SIZE, 4096, &mut data), 0, "there is no more");
        volume.resize(2 * SIZE).expect("resized");
        assert_eq!(call(&mut clients[1], [0, command::READ], SIZE, 4096, &mut data), 0);
        assert_eq!(data, [0; 4096]);
        link.end();
        assert_eq!(clients[0].read(&mut data).expect("the end"), 0);
        array.close().expect("closed");
    }

    #[test]
    fn a_link_that_is_read_only_writes_nothing_and_one_that_is_dropped_ends() {
        let (_folder, _array, volume) = array();
        let (link, terms, mut clients) = Link::new(&volume, true, 1, |_| {}).expect("linked");
        assert_ne!(terms.flags & flag::READ_ONLY, 0);
        let mut data = [7; 512];
        assert_ne!(call(&mut clients[0], [0, command::WRITE], 0, 512, &mut data), 0);
        assert_eq!(call(&mut clients[0], [0, command::FLUSH], 0, 0, &mut data), 0);
        drop(link);
        assert_eq!(clients[0].read(&mut data).expect("the end"), 0);
    }
}
