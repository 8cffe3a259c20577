//! The line to a caller: what it is told, word by word.
//!
//! A caller may be stopped (Ctrl-Z) for as long as it likes. Then it misses how far things were, and nothing else: the
//! thread that works for it waits until it listens again, or is gone. The end of the server waits for nobody who does
//! not listen.

use super::wire::{Word, line, receive};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::io::{self, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Who takes nothing for so long does not listen.
const EAR: Duration = Duration::from_millis(200);

/// Somebody who is told things over a socket.
pub(super) struct Line {
    socket: Mutex<UnixStream>,
    /// How many callers do not listen, this one among them.
    deaf: Arc<AtomicUsize>,
}

impl Line {
    /// # Errors
    /// Those of the socket.
    pub(super) fn new(socket: UnixStream, deaf: Arc<AtomicUsize>) -> io::Result<Line> {
        socket.set_write_timeout(Some(EAR))?;
        Ok(Line { socket: Mutex::new(socket), deaf })
    }

    /// Says a word, however long it takes until the caller listens. Who is gone is told nothing; what was begun for him
    /// goes on, or looks.
    pub(super) fn tell(&self, word: &Word) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let _untold = line(word).and_then(|bytes| self.send(&socket, &bytes)).is_err();
    }

    /// Says a word that is old news soon, if the caller listens right now: most of the room in between stays free, for
    /// words that matter.
    pub(super) fn mention(&self, word: &Word) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if has_room(&socket) {
            let _untold = line(word).and_then(|bytes| self.send(&socket, &bytes)).is_err();
        }
    }

    /// Asks, and waits for the answer: people take their time. `None` from who goes away.
    pub(super) fn ask(&self, question: &Word) -> Option<bool> {
        self.tell(question);
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let _kept = socket.set_read_timeout(None).is_err();
        let _deaf = Deaf::new(&self.deaf);
        receive(&mut BufReader::new(&*socket)).ok().flatten()
    }

    /// Whether nobody is there any more. The other side says nothing behind its command that it is not asked for.
    pub(super) fn is_gone(&self) -> bool {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut byte = [0];
        !matches!(recv(&*socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT), Err(Errno::AGAIN))
    }

    /// All of it, or as much as there was before the other side was gone.
    fn send(&self, mut socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
        let mut deaf = None;
        while !bytes.is_empty() {
            match socket.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    deaf.get_or_insert_with(|| Deaf::new(&self.deaf));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Somebody who does not listen, or has to answer first, as long as this is there.
struct Deaf<'a>(&'a AtomicUsize);

impl Deaf<'_> {
    fn new(deaf: &AtomicUsize) -> Deaf<'_> {
        deaf.fetch_add(1, Ordering::SeqCst);
        Deaf(deaf)
    }
}

impl Drop for Deaf<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether most of what was said has been taken.
fn has_room(socket: &UnixStream) -> bool {
    let mut events = [PollFd::new(socket, PollFlags::OUT)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut events, Some(&at_once)).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Report;
    use serde_json::json;
    use std::thread;

    fn pair() -> (Line, BufReader<UnixStream>, Arc<AtomicUsize>) {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        let deaf = Arc::new(AtomicUsize::new(0));
        (Line::new(ours, deaf.clone()).expect("a line"), BufReader::new(theirs), deaf)
    }

    fn next(ear: &mut BufReader<UnixStream>) -> Option<Word> {
        receive(ear).expect("a whole line")
    }

    #[test]
    fn who_is_stopped_misses_how_far_it_was_and_never_how_it_ended() {
        let (line, mut ear, deaf) = pair();
        for done in 0..100_000 {
            line.mention(&Word::At { done, total: Some(100_000) });
        }
        // Nobody has listened, and there is room for this.
        line.tell(&Word::Done(Report::done(json!({ "text": "x".repeat(4096) }), "")));
        assert_eq!(deaf.load(Ordering::SeqCst), 0);
        drop(line);
        let mut mentioned = 0;
        let mut last = None;
        while let Some(word) = next(&mut ear) {
            mentioned += u32::from(matches!(word, Word::At { .. }));
            last = Some(word);
        }
        assert!(matches!(last, Some(Word::Done(_))) && (1..100_000).contains(&mentioned), "{mentioned}");
    }

    #[test]
    fn who_does_not_listen_is_waited_for_and_told_everything() {
        let (line, mut ear, deaf) = pair();
        let text = "x".repeat(1000);
        thread::scope(|scope| {
            let telling = scope.spawn(|| {
                (0..10_000).for_each(|number| line.tell(&Word::Print(format!("{number} {text}"))));
                line.tell(&Word::End);
            });
            // More than there is room for: it waits, and says so.
            while deaf.load(Ordering::SeqCst) == 0 {
                assert!(!telling.is_finished(), "there was no room for all that");
                thread::yield_now();
            }
            for number in 0..10_000 {
                let Some(Word::Print(told)) = next(&mut ear) else { panic!("{number} is missing") };
                assert!(told == format!("{number} {text}"));
            }
            assert!(matches!(next(&mut ear), Some(Word::End)));
        });
        assert_eq!(deaf.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn who_is_gone_is_told_nothing_and_holds_nobody_up() {
        let (line, ear, deaf) = pair();
        assert!(!line.is_gone());
        thread::scope(|scope| {
            let telling = scope.spawn(|| (0..10_000).for_each(|_| line.tell(&Word::Print("x".repeat(1000)))));
            while deaf.load(Ordering::SeqCst) == 0 {
                assert!(!telling.is_finished(), "there was no room for all that");
                thread::yield_now();
            }
            drop(ear);
            telling.join().expect("no panic");
        });
        assert!(line.is_gone() && deaf.load(Ordering::SeqCst) == 0);
        assert_eq!(line.ask(&Word::Ask("well?".into())), None);
    }

    #[test]
    fn an_answer_is_waited_for_and_who_speaks_only_then_is_there() {
        let (line, mut ear, _deaf) = pair();
        for answer in [true, false] {
            thread::scope(|scope| {
                let asking = scope.spawn(|| line.ask(&Word::Ask("well?".into())));
                assert!(matches!(next(&mut ear), Some(Word::Ask(_))));
                super::super::wire::send(ear.get_mut(), &answer).expect("sent");
                assert_eq!(asking.join().expect("no panic"), Some(answer));
            });
            assert!(!line.is_gone());
        }
    }
}
