//! A server in the background: what starts one, and what becomes one.
//!
//! The starter hands the server a pipe as its standard output and reads it to its end. What the server says there, as
//! one JSON document, is its answer: that it is ready, or why it is not. Then it puts `/dev/null` in the pipe's
//! place. A server that dies closes the pipe, too, so nobody waits for one that is no more; and nobody waits for
//! ever.

use super::descriptors;
use crate::outcome::Failure;
use rustix::stdio::dup2_stdout;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Bytes of a log that is gone on with; a longer one is begun anew.
const LOG_BYTES: u64 = 1 << 20;

/// Starts a server: in the folder `/`, with nothing of the caller's but the environment, without an input, and with
/// what it says on its standard error in the file `log`. Returns its answer.
///
/// # Errors
/// What the server says, or how it died, or that it has said nothing for so long; then it is killed.
pub(crate) fn start(command: &mut Command, log: &Path, patience: Duration) -> Result<Value, Failure> {
    let failed =
        |what: &str, error: io::Error| Failure::io(format!("a server in the background: {what}: {error}"));
    descriptors::keep_to_this_process().map_err(|error| failed("descriptors", error))?;
    let errors = open_log(log).map_err(|error| failed(&log.display().to_string(), error))?;
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
    // Sockets that were meant for the caller.
    command.env_remove("LISTEN_FDS").env_remove("LISTEN_PID").env_remove("LISTEN_FDNAMES");
    let mut child = command.spawn().map_err(|error| failed("it cannot be started", error))?;
    let Some(answer) = answer(&mut child, patience) else {
        let gone = child.kill().and_then(|()| child.wait());
        let state = if gone.is_ok() { "it was killed" } else { "it cannot be killed" };
        let text =
            format!("it was not ready within {} s, and {state}; see {}", patience.as_secs(), log.display());
        return Err(failed("late", io::Error::other(text)));
    };
    let Ok(said) = serde_json::from_str::<Value>(&answer) else {
        let ended = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        let text = format!("it ended without a word ({ended}); see {}", log.display());
        return Err(failed("lost", io::Error::other(text)));
    };
    if said.get("error").is_none() {
        return Ok(said);
    }
    let status = child.wait().map_err(|error| failed("its end", error))?;
    Err(Failure::relayed(exit_code(status), &said["error"]))
}

/// What it says until it closes its output; `None` when that does not happen in time.
fn answer(child: &mut Child, patience: Duration) -> Option<String> {
    let mut output = child.stdout.take()?;
    let (send, said) = channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        // What was said before an error is looked at as it is.
        let _whole = output.read_to_end(&mut text).is_ok();
        let _unheard = send.send(text).is_err();
    });
    match said.recv_timeout(patience) {
        Ok(text) => Some(String::from_utf8_lossy(&text).into_owned()),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if log.metadata()?.len() > LOG_BYTES {
        log.set_len(0)?;
    }
    Ok(log)
}

/// As a command ends that was killed: 128 and the number of the signal.
fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Makes this process one that outlives its starter: a session of its own, which no terminal ends.
///
/// # Errors
/// When it leads a session already.
pub(crate) fn settle() -> io::Result<()> {
    rustix::process::setsid()?;
    // The kernel writes through this process to get memory free: so it gets some without that. Only who may ask for
    // it has it, and only where there is such a thing.
    let _ordinary = rustix::process::configure_io_flusher_behavior(true).is_err();
    Ok(())
}

/// Lets go of the starter, who has been told.
///
/// # Errors
/// When there is no `/dev/null`.
pub(crate) fn let_go() -> io::Result<()> {
    let nothing = File::options().write(true).open("/dev/null")?;
    Ok(dup2_stdout(nothing)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::time::Instant;

    /// A server that is a script.
    fn script(text: &str, log: &Path, patience: Duration) -> Result<Value, Failure> {
        start(Command::new("sh").args(["-c", text]), log, patience)
    }

    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn it_answers_and_goes_on_with_nothing_of_the_callers() {
        let folder = tempfile::tempdir().expect("a folder");
        let (log, seen) = (folder.path().join("log"), folder.path().join("seen"));
        // What a shell leaves open to its children.
        let left = File::create(folder.path().join("left")).expect("made");
        rustix::io::fcntl_setfd(left.as_fd(), rustix::io::FdFlags::empty()).expect("set");
        let text = format!(
            "pwd >{0}; ls -l /proc/self/fd >>{0}; echo careful >&2; echo '{{\"pid\": '$$'}}'; \
             exec sleep 600 >/dev/null",
            seen.display()
        );
        let said = script(&text, &log, LONG).expect("ready");
        let pid = i32::try_from(said["pid"].as_i64().expect("a number")).expect("a pid");
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid).expect("one"),
            rustix::process::Signal::KILL,
        )
        .expect("it runs");
        let seen = std::fs::read_to_string(seen).expect("written");
        assert!(seen.starts_with("/\n"), "{seen}");
        assert!(!seen.contains(&folder.path().join("left").display().to_string()), "{seen}");
        assert!(seen.contains("0 -> /dev/null"), "{seen}");
        assert_eq!(std::fs::read_to_string(&log).expect("kept"), "careful\n");
    }

    #[test]
    fn why_it_is_not_ready_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let refused = r#"echo '{"error": {"kind": "busy", "message": "somebody has it"}}'; exit 65"#;
        let text = |script_text: &str, patience| {
            format!("{:?}", script(script_text, &log, patience).expect_err("none"))
        };
        let busy = text(refused, LONG);
        assert!(
            busy.contains("Refused") && busy.contains("busy") && busy.contains("somebody has it"),
            "{busy}"
        );
        let died = text("kill -9 $$", LONG);
        assert!(died.contains("signal: 9") && died.contains("log"), "{died}");
        let garbled = text("echo hello; exit 3", LONG);
        assert!(garbled.contains("exit status: 3"), "{garbled}");
        let since = Instant::now();
        let late = text("exec sleep 600", Duration::from_millis(50));
        assert!(late.contains("it was killed") && since.elapsed() < Duration::from_secs(500), "{late}");
        assert!(script("exit 0", Path::new("/nowhere/log"), LONG).is_err());
    }

    #[test]
    fn a_log_is_gone_on_with_until_it_is_long() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let length = || std::fs::metadata(&log).expect("there").len();
        for _ in 0..2 {
            script("echo 1234567 >&2; echo {}", &log, LONG).expect("ready");
        }
        assert_eq!(length(), 16);
        std::fs::write(&log, vec![b'x'; (1 << 20) + 1]).expect("written");
        script("echo 1234567 >&2; echo {}", &log, LONG).expect("ready");
        assert_eq!(length(), 8);
    }
}
