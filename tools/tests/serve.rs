//! `paritas serve`: where it says the volumes are, how it ends, and what it refuses.

mod common;
#[path = "../../tests/nbd_client/mod.rs"]
mod nbd_client;

use common::server::Server;
use common::{Bench, MIB, expect, noise};
use nbd_client::{Client, FLUSH, FUA, Mode};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, Read};
use std::os::unix::net::UnixStream;

fn connect(server: &Server, name: &str) -> Client<UnixStream> {
    let stream = UnixStream::connect(&server.socket).expect("connected");
    Client::connect(stream, name, Mode::Structured).expect("negotiated")
}

#[test]
fn it_says_where_each_volume_is_and_a_signal_ends_it_cleanly() {
    let bench = Bench::new(3, "2+1");
    bench.import("v", &noise(1, MIB));
    expect(0, &["volume", "create", &bench.volume("an empty one"), "--size", "16M"]);
    for signal in [Signal::TERM, Signal::INT] {
        let (mut server, line) = Server::start(&bench, &["--listen", "127.0.0.1:0"]);
        let uri = format!("nbd+unix:///v?socket={}", server.socket.display());
        assert!(line.starts_with("v ") && line.trim_end().ends_with(&uri), "{line}");
        let mut client = connect(&server, "v");
        assert!(client.read(0, MIB as u64) == noise(1, MIB));
        // Not flushed: the end of the server does that.
        connect(&server, "an empty one").write(0, 0, &noise(2, MIB));
        assert_eq!(server.signal(signal), Some(0));
        assert!(!server.socket.exists());
        let mut rest = String::new();
        server.out.read_to_string(&mut rest).expect("said");
        assert_eq!(rest.lines().count(), 3, "{rest}");
        assert!(rest.contains("nbd://127.0.0.1:") && rest.contains("/an%20empty%20one"), "{rest}");
        assert!(bench.export("an empty one")[..MIB] == noise(2, MIB));
        expect(0, &["status", &bench.array()]);
    }
    let (mut server, mut json) = Server::start(&bench, &["--json", "--export", "v"]);
    while serde_json::from_str::<Value>(&json).is_err() {
        server.out.read_line(&mut json).expect("said");
    }
    let said: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&said["exports"][0]["name"], &said["exports"][0]["size"]), (&"v".into(), &MIB.into()));
    assert_eq!(said["exports"].as_array().map(Vec::len), Some(1));
    // The only export is the one without a name, too.
    assert_eq!(connect(&server, "").size, MIB as u64);
    assert_eq!(server.signal(Signal::TERM), Some(0));
    server.out.read_to_string(&mut json).expect("said");
    assert_eq!(serde_json::from_str::<Value>(&json).expect("one document"), said);
}

#[test]
fn a_degraded_array_is_served_and_what_is_flushed_outlives_a_killed_server() {
    let bench = Bench::new(3, "2+1");
    bench.import("v", &noise(3, 4 * MIB));
    bench.lose(1);
    let (mut server, _) = Server::start(&bench, &[]);
    let mut client = connect(&server, "v");
    assert!(client.read(0, 4 * MIB as u64) == noise(3, 4 * MIB));
    client.write(0, 0, &noise(4, MIB));
    client.done(FLUSH, 0, 0, 0);
    client.write(FUA, MIB as u64, &noise(5, MIB));
    let _killed = server.signal(Signal::KILL);
    assert!(server.socket.exists(), "nobody removes it");
    let (mut server, _) = Server::start(&bench, &[]);
    let mut client = connect(&server, "v");
    assert!(client.read(0, 2 * MIB as u64) == [noise(4, MIB), noise(5, MIB)].concat());
    assert_eq!(server.signal(Signal::TERM), Some(0));
}

#[test]
fn a_read_only_server_writes_nothing() {
    let bench = Bench::new(3, "2+1");
    bench.import("v", &noise(6, MIB));
    let before = common::fingerprint(std::path::Path::new(&bench.array()));
    let (mut server, _) = Server::start(&bench, &["--read-only"]);
    let mut client = connect(&server, "v");
    assert!(client.read(0, MIB as u64) == noise(6, MIB));
    assert_eq!(client.call(nbd_client::WRITE, 0, 0, 512, &[1; 512]).error, nbd_client::EPERM);
    assert_eq!(server.signal(Signal::TERM), Some(0));
    assert_eq!(common::fingerprint(std::path::Path::new(&bench.array())), before);
}

#[test]
fn what_cannot_be_served_is_refused() {
    let bench = Bench::new(2, "mirror");
    bench.import("v", &noise(7, MIB));
    let array = bench.array();
    let (mut server, _) = Server::start(&bench, &[]);
    let taken = format!("unix:{}", server.socket.display());
    let free = format!("unix:{}", bench.beside("free").display());
    expect(65, &["serve", &array, "--listen", &free]);
    assert_eq!(server.signal(Signal::TERM), Some(0));

    let file = bench.file("file", b"text");
    let pem = bench.file("pem", b"no certificate");
    expect(64, &["serve"]);
    expect(64, &["serve", &array, "--listen", "nowhere"]);
    expect(64, &["serve", &array, "--listen", &free, "--tls-cert", &pem]);
    expect(64, &["serve", &array, "--listen", &free, "--tls", "required"]);
    expect(65, &["serve", &array, "--listen", &free, "--tls-cert", &pem, "--tls-key", &pem]);
    expect(65, &["serve", &array, "--listen", &free, "--export", "none"]);
    expect(65, &["serve", &array, "--listen", &format!("unix:{file}")]);
    expect(74, &["serve", &array, "--listen", "unix:/nowhere/at/all"]);
    expect(2, &["serve", bench.beside("nothing").to_str().expect("UTF-8"), "--listen", &free]);
    assert_eq!(std::fs::read(&file).expect("there"), b"text");
    // Somebody else's server is left alone.
    let other = Bench::new(2, "mirror");
    let (mut server, _) = Server::start(&bench, &[]);
    let ended = expect(65, &["serve", &other.array(), "--listen", &taken]);
    assert!(ended.err.contains("somebody listens"), "{ended:?}");
    assert!(connect(&server, "v").read(0, MIB as u64) == noise(7, MIB));
    assert_eq!(server.signal(Signal::TERM), Some(0));
}
