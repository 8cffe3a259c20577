//! Figures for programs that collect them: OpenMetrics text over HTTP.
//!
//! Nothing is kept between two requests: each is answered from what the array says then. One client is served at a
//! time, within seconds, whatever it sends: whoever collects comes back.

mod text;

use crate::outcome::{Failure, say};
use paritas::error::Kind;
use paritas::volume::Array;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a client may take for one step.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request.
const REQUEST_BYTES: u64 = 16 << 10;
/// Behind an error of the listener, such as too few descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What programs that know it ask for, and the text is.
const CONTENT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An endpoint, until it is closed.
pub(crate) struct Endpoint {
    address: SocketAddr,
    is_closing: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Endpoint {
    /// Listens there.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn open(address: SocketAddr, array: &Array) -> Result<Endpoint, Failure> {
        let failed = |error: io::Error| Failure::io(format!("metrics on {address}: {error}"));
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let is_closing = Arc::new(AtomicBool::new(false));
        let (closing, array) = (is_closing.clone(), array.clone());
        let listen = move || {
            for client in listener.incoming() {
                if closing.load(Ordering::Acquire) {
                    return;
                }
                match client {
                    // One that breaks off, or sends nothing, gets nothing.
                    Ok(client) => drop(serve(&client, &array)),
                    Err(_none) => thread::sleep(PAUSE),
                }
            }
        };
        let thread = thread::Builder::new().name("metrics".into()).spawn(listen).map_err(failed)?;
        Ok(Endpoint { address, is_closing, thread })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// Ends it.
    pub(crate) fn close(self) {
        self.is_closing.store(true, Ordering::Release);
        // Wakes who listens. Where that cannot be reached, the end of the process ends it.
        if TcpStream::connect_timeout(&self.address, PATIENCE).is_ok() && self.thread.join().is_err() {
            say("the thread for metrics has died");
        }
    }
}

fn serve(client: &TcpStream, array: &Array) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let (status, kind, body) = match wanted(client)?.as_deref() {
        Some("/metrics") => match text::of(array) {
            Ok(text) => ("200 OK", CONTENT, text),
            Err(error) if error.kind() == Kind::Closed => {
                ("503 Service Unavailable", "text/plain", error.to_string())
            }
            Err(error) => ("500 Internal Server Error", "text/plain", error.to_string()),
        },
        Some(_) => ("404 Not Found", "text/plain", "metrics are at /metrics\n".into()),
        None => ("405 Method Not Allowed", "text/plain", "only GET\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut client = client;
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}

/// The path that a client gets; nothing when it wants something else than to get one.
fn wanted(client: &TcpStream) -> io::Result<Option<String>> {
    let mut lines = BufReader::new(client.take(REQUEST_BYTES)).lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    // All of it is read, or the client would be told that nobody listened.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    Ok((method == Some("GET")).then(|| path.to_owned()))
}
