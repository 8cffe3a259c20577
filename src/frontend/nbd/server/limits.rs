//! What clients may take.

use crate::frontend::nbd::wire::PAYLOAD_MAX;
use std::time::Duration;

/// What clients may take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Connections at a time. More are closed at once.
    pub connections: usize,
    /// Requests of one connection in flight. More wait in its socket.
    pub requests: usize,
    /// Bytes of one connection in flight, read or written. One request of any size is always among them.
    pub connection_bytes: u64,
    /// Bytes of all connections in flight.
    pub bytes: u64,
    /// How long the handshake may take, with that of TLS.
    pub handshake: Duration,
    /// How long a client may be silent in the middle of a request, or not take anything of its replies.
    pub stall: Duration,
    /// How long a request's bytes may take to arrive in all.
    pub request: Duration,
    /// How long what is in flight may take when the server stops.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            requests: 128,
            connection_bytes: 2 * PAYLOAD_MAX as u64,
            bytes: 16 * PAYLOAD_MAX as u64,
            handshake: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            request: Duration::from_secs(300),
            farewell: Duration::from_secs(10),
        }
    }
}
