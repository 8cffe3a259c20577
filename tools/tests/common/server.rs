//! A server that runs.

use super::{Bench, command};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Stdio};

/// `paritas serve`, killed when it is dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) out: BufReader<ChildStdout>,
    pub(crate) socket: PathBuf,
}

impl Server {
    /// Starts one on a socket beside the array; it has said its first line.
    pub(crate) fn start(bench: &Bench, args: &[&str]) -> (Server, String) {
        Server::start_on(bench, &bench.array(), args)
    }

    /// The same for an array that is named otherwise.
    pub(crate) fn start_on(bench: &Bench, array: &str, args: &[&str]) -> (Server, String) {
        let socket = bench.beside("socket");
        let listen = format!("unix:{}", socket.to_str().expect("UTF-8"));
        let all = [&["serve", array, "--listen", &listen], args].concat();
        let mut child = command(&all).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("said");
        (Server { child, out, socket }, line)
    }

    pub(crate) fn signal(&mut self, signal: Signal) -> Option<i32> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("alive");
        self.child.wait().expect("ended").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended where the test did not fail.
        let _ended = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
    }
}
