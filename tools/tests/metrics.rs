//! Figures over HTTP, as programs collect them.

mod common;

use common::{Bench, MIB, command, expect, noise};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

/// A server with metrics, killed when it is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(bench: &Bench) -> Server {
        let listen = format!("unix:{}", bench.beside("socket").to_str().expect("UTF-8"));
        let array = bench.array();
        let args =
            ["serve", &array, "--listen", &listen, "--metrics", "127.0.0.1:0", "--scrub-every", "never"];
        let mut child =
            command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let said = lines.find_map(|line| {
            let line = line.expect("said");
            let url = line.split("http://").nth(1)?;
            Some(url.trim_end_matches("/metrics").to_owned())
        });
        // Commands find it from here on.
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("said");
        Server { child, address: said.expect("it says where they are") }
    }

    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    }

    fn metrics(&self) -> String {
        self.ask("GET /metrics HTTP/1.1\r\nHost: here\r\nAccept: */*\r\n\r\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended where the test did not fail.
        let _ended = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
    }
}

/// The value of a line that begins so.
#[track_caller]
fn value(text: &str, start: &str) -> f64 {
    let mut lines = text.lines().filter(|line| line.starts_with(start));
    let line = lines.next().unwrap_or_else(|| panic!("no {start} in\n{text}"));
    assert_eq!(lines.next(), None, "{start} is there once");
    line.rsplit(' ').next().expect("a word").parse().expect("a number")
}

#[test]
fn they_tell_how_the_array_is_and_what_it_does() {
    let bench = Bench::new(3, "2+1");
    let array = bench.array();
    bench.import("v \"1\"", &noise(1, 2 * MIB));
    let mut server = Server::start(&bench);
    let first = server.metrics();
    assert!(
        first.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0")
    );
    assert!(first.ends_with("# EOF\n"));
    let name = "array=\"array\"";
    assert!((value(&first, &format!("paritas_condition{{{name}}}"))).abs() < 0.5);
    let volume = format!("{name},volume=\"v \\\"1\\\"\"");
    let size = value(&first, &format!("paritas_volume_size_bytes{{{volume}}}"));
    assert!((size - f64::from(2 << 20)).abs() < 0.5);
    let reads = format!("paritas_volume_operation_duration_seconds_count{{{volume},operation=\"read\"}}");
    let before = value(&first, &reads);
    assert!(bench.export("v \"1\"") == noise(1, 2 * MIB));
    let second = server.metrics();
    assert!(value(&second, &reads) > before);
    let labels = format!("{name},le=\"+Inf\",volume=\"v \\\"1\\\"\",operation=\"read\"");
    let all = format!("paritas_volume_operation_duration_seconds_bucket{{{labels}}}");
    assert!((value(&second, &all) - value(&second, &reads)).abs() < 0.5);
    let bytes = format!("paritas_volume_operation_bytes_total{{{volume},operation=\"read\"}}");
    assert!(value(&second, &bytes) - value(&first, &bytes) >= f64::from(2 << 20));
    // A member goes: who watches sees it.
    expect(0, &["fail", &array, "m1"]);
    let third = server.metrics();
    assert!(value(&third, &format!("paritas_condition{{{name}}}")) > 0.5);
    assert!(third.contains("state=\"failed\"} 0\n"), "{third}");
    assert_eq!(kill_process(Pid::from_child(&server.child), Signal::TERM), Ok(()));
    assert_eq!(server.child.wait().expect("ended").code(), Some(0));
}

#[test]
fn whatever_else_is_asked_for_does_not_keep_others_from_them() {
    let bench = Bench::new(2, "mirror");
    let server = Server::start(&bench);
    assert!(server.ask("GET / HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(server.ask("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(server.ask("GET /metrics?x=1 HTTP/1.1\r\n\r\n").ends_with("# EOF\n"));
    // Clients that say nothing, or too much.
    let silent = TcpStream::connect(&server.address).expect("connected");
    let mut endless = TcpStream::connect(&server.address).expect("connected");
    let _cut_off = endless.write_all(&[b'x'; 1 << 20]).is_err();
    let mut gone = TcpStream::connect(&server.address).expect("connected");
    gone.write_all(b"GET /metr").expect("sent");
    drop(gone);
    assert!(server.metrics().ends_with("# EOF\n"));
    drop((silent, endless));
    let taken = server.address.clone();
    let other = Bench::new(2, "mirror");
    let listen = format!("unix:{}", other.beside("socket").display());
    expect(74, &["serve", &other.array(), "--listen", &listen, "--metrics", &taken]);
    expect(0, &["status", &other.array()]);
}
