//! The process that has an array open for the sake of its devices, and how others ask it: one line of JSON each way,
//! over a socket in the run folder. It lives as long as a volume is attached.

use super::attachments::{Attached, Attachments};
use super::daemon;
use super::place::Place;
use crate::cli::{Keep, Status};
use crate::outcome::{Failure, Report, print, say};
use crate::session;
use paritas::volume::Array;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long somebody may take to say what it wants.
const HEARING: Duration = Duration::from_secs(10);
/// Bytes of a line.
const LINE_BYTES: u64 = 64 << 10;

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wish {
    /// A volume becomes a device.
    Attach { volume: String, sector: Option<u32>, read_only: bool },
    /// And none any more.
    Detach { device: PathBuf },
}

/// Asks the server that listens there. `None` when there is none.
///
/// # Errors
/// What the server says, or that it died meanwhile.
pub(crate) fn ask(socket: &Path, wish: &Wish) -> Result<Option<Value>, Failure> {
    let failed = |error: std::io::Error| Failure::io(format!("{}: {error}", socket.display()));
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let line = serde_json::to_string(wish).expect("a wish has nothing that JSON has not");
    let mut answer = String::new();
    // It hangs up when it has done everything that there is to do for this, its own end included.
    let heard = writeln!(stream, "{line}").and_then(|()| stream.read_to_string(&mut answer));
    match (heard, serde_json::from_str::<Value>(&answer)) {
        (_, Ok(said)) if said.get("error").is_some() => {
            let exit = said["exit"].as_i64().and_then(|exit| i32::try_from(exit).ok());
            Err(Failure::relayed(exit.unwrap_or_default(), &said["error"]))
        }
        (_, Ok(said)) => Ok(Some(said)),
        // It ended before it heard us.
        (Ok(_), Err(_)) if answer.is_empty() => Ok(None),
        (Err(error), _)
            if error.kind() == ErrorKind::ConnectionReset || error.kind() == ErrorKind::BrokenPipe =>
        {
            Ok(None)
        }
        (Err(error), _) => Err(failed(error)),
        (Ok(_), Err(error)) => Err(failed(error.into())),
    }
}

/// What a device is told as.
pub(crate) fn told(attached: &Attached) -> Value {
    let Attached { volume, device, sector, read_only } = attached;
    json!({ "volume": volume, "device": device, "sector": sector, "read_only": read_only })
}

/// `paritas __keep`: opens the array, attaches a volume, says so, and serves until nothing is attached.
pub(crate) fn run(args: &Keep) -> Result<Report, Failure> {
    daemon::settle().map_err(|error| Failure::io(format!("a session of its own: {error}")))?;
    let array = Arc::new(session::open_to_serve(&args.array, args.read_only)?);
    let kept = keep(args, &array);
    let closed = session::close(&array);
    kept?;
    closed?;
    Ok(Report::silent())
}

fn keep(args: &Keep, array: &Array) -> Result<(), Failure> {
    let folder = super::place::run_folder()?;
    let place = Place::of(&folder, array.status()?.uuid);
    let socket = place.socket.clone();
    let mut attachments = Attachments::new(place);
    let wish = Wish::Attach { volume: args.volume.clone(), sector: args.sector, read_only: args.read_only };
    let first = fulfil(&wish, array, args.read_only, &mut attachments)?;
    let listener = listen(&socket);
    let served = listener.and_then(|listener| {
        let is_told = stop_on_signal(&socket)?;
        print(&format!("{first:#}"))
            .and_then(|()| daemon::let_go())
            .map_err(|error| Failure::io(error.to_string()))?;
        serve(&listener, array, args.read_only, &mut attachments, &is_told)
    });
    let removed = std::fs::remove_file(&socket);
    attachments.detach_all().iter().for_each(|error| say(&error.to_string()));
    served?;
    removed.map_err(|error| Failure::io(format!("{}: {error}", socket.display())))
}

/// The array is ours: whoever listened there before is no more.
fn listen(socket: &Path) -> Result<UnixListener, Failure> {
    let failed = |error: std::io::Error| Failure::io(format!("{}: {error}", socket.display()));
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    UnixListener::bind(socket).map_err(failed)
}

/// SIGTERM and SIGINT are an order to detach everything.
fn stop_on_signal(socket: &Path) -> Result<Arc<AtomicBool>, Failure> {
    let (flag, socket) = (Arc::new(AtomicBool::new(false)), socket.to_owned());
    let raised = flag.clone();
    ctrlc::set_handler(move || {
        raised.store(true, Ordering::Release);
        // Wakes who waits for somebody to come.
        let _nobody = UnixStream::connect(&socket).is_err();
    })
    .map_err(|error| Failure::io(format!("signals cannot be waited for: {error}")))?;
    Ok(flag)
}

/// Serves one after the other until nothing is attached. Returns what is to be hung up when this process ends, which
/// is when nobody holds it any more.
fn serve(
    listener: &UnixListener,
    array: &Array,
    read_only: bool,
    attachments: &mut Attachments,
    is_told: &AtomicBool,
) -> Result<(), Failure> {
    loop {
        let accepted = listener.accept();
        if is_told.swap(false, Ordering::AcqRel) {
            let errors = attachments.detach_all();
            errors
                .iter()
                .for_each(|error| say(&format!("{error}; this server goes on until that is detached")));
        } else if let Ok((stream, _)) = accepted {
            let last = hear(stream, array, read_only, attachments);
            if attachments.list().is_empty() {
                // The kernel hangs up when all of this process is gone.
                std::mem::forget(last);
            }
        }
        if attachments.list().is_empty() {
            return Ok(());
        }
    }
}

/// Hears one wish, and answers it.
fn hear(mut stream: UnixStream, array: &Array, read_only: bool, attachments: &mut Attachments) -> UnixStream {
    let limits =
        stream.set_read_timeout(Some(HEARING)).and_then(|()| stream.set_write_timeout(Some(HEARING)));
    let mut line = String::new();
    let heard = limits.and_then(|()| BufReader::new((&stream).take(LINE_BYTES)).read_line(&mut line));
    let wish = heard.ok().and_then(|_| serde_json::from_str::<Wish>(&line).ok());
    if let Some(wish) = wish {
        let answer =
            fulfil(&wish, array, read_only, attachments).unwrap_or_else(|failure| failure.document());
        // Whoever does not wait for the answer does not need it.
        let _gone = writeln!(stream, "{answer}").is_err();
    }
    stream
}

fn fulfil(
    wish: &Wish,
    array: &Array,
    read_only: bool,
    attachments: &mut Attachments,
) -> Result<Value, Failure> {
    match wish {
        Wish::Attach { volume, sector, read_only: wanted } => {
            if read_only && !wanted {
                return Err(Failure::refused(
                    "the array is open to be read only, for volumes that are attached so: detach these first",
                ));
            }
            let volume = array.volume(volume)?;
            Ok(told(&attachments.attach(&volume, *sector, *wanted)?))
        }
        Wish::Detach { device } => {
            attachments.detach(device)?;
            Ok(json!({ "device": device }))
        }
    }
}

/// What opens the array of such a server.
pub(crate) fn command_line(array: &Status, wish: &Wish) -> Result<Vec<std::ffi::OsString>, Failure> {
    let Wish::Attach { volume, sector, read_only } = wish else {
        return Err(Failure::usage("a server is started to attach something"));
    };
    let place = std::path::absolute(&array.array)
        .map_err(|error| Failure::io(format!("{}: {error}", array.array.display())))?;
    let mut args = vec!["__keep".into(), "--json".into()];
    if let Some(name) = &array.choice.name {
        args.extend(["--name".into(), name.into()]);
    }
    if let Some(sector) = sector {
        args.extend(["--sector".into(), sector.to_string().into()]);
    }
    if *read_only {
        args.push("--read-only".into());
    }
    args.extend(["--".into(), place.into(), volume.into()]);
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn nobody_is_asked_where_nobody_listens_and_errors_come_back_as_they_were() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("sock");
        let wish = Wish::Detach { device: "/dev/loop9".into() };
        assert!(ask(&socket, &wish).expect("nobody").is_none());
        let listener = listen(&socket).expect("bound");
        let answers = ["{\"device\": \"/dev/loop9\"}\n", "", "", "garbage"];
        let server = thread::spawn(move || {
            for (i, answer) in answers.into_iter().enumerate() {
                let (mut stream, _) = listener.accept().expect("somebody");
                if i == 2 {
                    let refused = Failure::refused("it is mounted").document();
                    writeln!(stream, "{refused}").expect("sent");
                }
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).expect("asked");
                assert_eq!(
                    serde_json::from_str::<Wish>(&line).expect("a wish"),
                    Wish::Detach { device: "/dev/loop9".into() }
                );
                stream.write_all(answer.as_bytes()).expect("sent");
            }
        });
        assert_eq!(ask(&socket, &wish).expect("answered"), Some(json!({ "device": "/dev/loop9" })));
        assert!(ask(&socket, &wish).expect("it ended").is_none());
        let refused = format!("{:?}", ask(&socket, &wish).expect_err("refused"));
        assert!(refused.contains("Refused") && refused.contains("it is mounted"), "{refused}");
        assert!(ask(&socket, &wish).is_err());
        server.join().expect("no panic");
        // What a server that died has left is no server, and in nobody's way.
        assert!(ask(&socket, &wish).expect("nobody").is_none());
        listen(&socket).expect("bound again");
    }

    #[test]
    fn a_server_is_started_with_what_was_asked_for() {
        use clap::Parser;
        let array = Status { array: "-dir".into(), choice: crate::cli::Choice { name: Some("n".into()) } };
        let wish = Wish::Attach { volume: "--v".into(), sector: Some(512), read_only: true };
        let mut args = vec!["paritas".into()];
        args.extend(command_line(&array, &wish).expect("one"));
        let parsed = crate::cli::Cli::try_parse_from(args).expect("understood");
        let crate::cli::Command::Keep(keep) = parsed.command else { panic!("another command") };
        assert!(parsed.json && keep.array.array.is_absolute() && keep.array.array.ends_with("-dir"));
        assert_eq!((keep.volume.as_str(), keep.sector, keep.read_only), ("--v", Some(512), true));
        assert_eq!(keep.array.choice.name.as_deref(), Some("n"));
        assert!(command_line(&array, &Wish::Detach { device: "/dev/loop9".into() }).is_err());
    }
}
