//! A client's bytes, encrypted or not. Nothing here blocks.

use super::listen::Socket;
use rustls::ServerConnection;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

/// Bytes that may wait to be encrypted and sent.
const ENCRYPTED_MAX: usize = 256 << 10;

pub(super) struct Stream {
    socket: Arc<Socket>,
    tls: Option<Box<ServerConnection>>,
}

impl Stream {
    pub(super) fn new(socket: Arc<Socket>) -> Stream {
        Stream { socket, tls: None }
    }

    /// What follows is encrypted, `early` already.
    pub(super) fn encrypt(&mut self, mut session: ServerConnection, mut early: &[u8]) -> io::Result<()> {
        session.set_buffer_limit(Some(ENCRYPTED_MAX));
        while !early.is_empty() {
            session.read_tls(&mut early)?;
            session.process_new_packets().map_err(io::Error::other)?;
        }
        self.tls = Some(Box::new(session));
        self.push()
    }

    /// Some bytes; none at the end.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when none are there yet.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return (&*self.socket).read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                outcome => return outcome,
            }
            if tls.read_tls(&mut &*self.socket)? == 0 {
                return Ok(0);
            }
            let taken = tls.process_new_packets();
            // Also what tells the client why it is refused.
            push(tls, &self.socket)?;
            taken.map_err(io::Error::other)?;
        }
    }

    /// Takes some bytes to send them.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when none can be taken yet.
    pub(super) fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return (&*self.socket).write_vectored(parts) };
        push(tls, &self.socket)?;
        let taken = tls.writer().write_vectored(parts)?;
        push(tls, &self.socket)?;
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Sends what was taken, as far as the socket lets it go.
    pub(super) fn push(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| push(tls, &self.socket))
    }

    /// Whether something that was taken is still to be sent.
    pub(super) fn is_pushing(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether a read that was short has taken everything.
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Says that nothing more comes.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _told = push(tls, &self.socket).is_ok();
        }
    }
}

fn push(tls: &mut ServerConnection, mut socket: &Socket) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(&mut socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
