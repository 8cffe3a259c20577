//! A program of calls, blocking and not, on two volumes of an array whose members fail and whose process dies, against
//! a model. What a volume holds after a crash is what it held after some call, not before the last flush; what a call
//! is refused for is what its arguments deserve.
#![no_main]

use libfuzzer_sys::arbitrary::{Result as Drawn, Unstructured};
use libfuzzer_sys::fuzz_target;
use paritas::error::{Error, Kind};
use paritas::sim::Scenario;
use paritas::sim::trial::{Ending, Life, Setup, Trial, Verdict};
use paritas::types::{SECTOR_U64, Scheme};
use paritas::volume::{Array, Pace, Volume};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const NAMES: [&str; 2] = ["a", "b"];
const SECTORS_OF_A_BLOCK: u64 = 8;
/// Blocks of a volume at most, lives of a program, and calls of a life.
const BLOCKS_MAX: u64 = 96;
const LIVES: usize = 4;
const CALLS_MAX: usize = 40;

fuzz_target!(|bytes: &[u8]| {
    let _ = Program::draw(&mut Unstructured::new(bytes)).map(|program| program.run());
});

/// A call. Offsets and lengths are in sectors.
#[derive(Clone, Copy, Debug)]
enum Call {
    Write { at: u64, len: u64, durable: bool },
    Trim { at: u64, len: u64 },
    Read { at: u64, len: u64 },
    Flush,
    Resize { blocks: u64 },
    Create { blocks: u64, stronger: bool },
    Delete,
    Misaligned,
    Scrub,
    Rebuild,
    Sleep,
    Status,
}

/// Which volume, whether the caller blocks, and what it asks for.
type Step = (usize, bool, Call);

struct Program {
    seed: u64,
    setup: Setup,
    lives: Vec<Vec<Step>>,
}

impl Program {
    fn draw(input: &mut Unstructured) -> Drawn<Program> {
        let (k, m) = *input.choose(&[(1, 1), (2, 1), (1, 2), (3, 1), (2, 2), (1, 0)])?;
        let scheme = Scheme::new(k, m).expect("a valid scheme");
        let members = usize::from(scheme.width()) + input.int_in_range(0..=2)?;
        let scenario = *input.choose(&Scenario::ALL)?;
        let events = 1 << input.int_in_range(4..=11)?;
        let setup = Setup { scheme, members, member_bytes: 8 << 20, scenario, events };
        let seed = input.arbitrary::<u16>()?.into();
        let mut lives = Vec::new();
        while lives.len() < LIVES && !input.is_empty() {
            let calls = input.int_in_range(1..=CALLS_MAX)?;
            let drawn = (0..calls).map_while(|_| (!input.is_empty()).then(|| Program::draw_step(input)));
            lives.push(drawn.collect::<Drawn<Vec<Step>>>()?);
        }
        Ok(Program { seed, setup, lives })
    }

    fn draw_step(input: &mut Unstructured) -> Drawn<Step> {
        let kind: u8 = input.arbitrary()?;
        let at = u64::from(input.arbitrary::<u16>()?) % (BLOCKS_MAX * SECTORS_OF_A_BLOCK + 9);
        let short: u8 = input.arbitrary()?;
        let len = if short < 128 { short.into() } else { u64::from(short - 127) * SECTORS_OF_A_BLOCK };
        // Half of all calls are of whole blocks.
        let whole = |sectors: u64| if kind & 64 == 0 { sectors } else { sectors & !(SECTORS_OF_A_BLOCK - 1) };
        let (at, len) = (whole(at), whole(len));
        let blocks = u64::from(short) % BLOCKS_MAX;
        let call = match kind % 32 {
            0..9 => Call::Write { at, len, durable: false },
            9..11 => Call::Write { at, len, durable: true },
            11..15 => Call::Trim { at, len },
            15..20 => Call::Read { at, len },
            20..24 => Call::Flush,
            24 => Call::Resize { blocks },
            25 | 26 => Call::Create { blocks, stronger: at % 4 == 0 },
            27 => Call::Delete,
            28 => Call::Misaligned,
            29 if short % 2 == 0 => Call::Scrub,
            29 => Call::Rebuild,
            30 => Call::Sleep,
            _ => Call::Status,
        };
        Ok((usize::from(at % 3 == 0), kind & 128 == 0, call))
    }

    fn run(&self) {
        let outcome = self.setup.run([self.seed], |trial| self.lead(trial));
        if let Err(failure) = outcome {
            panic!("{failure:?}");
        }
    }

    fn lead(&self, trial: &mut Trial) -> Verdict {
        let books = Arc::new(Mutex::new(Books::default()));
        for steps in &self.lives {
            live(trial, &books, steps.clone(), self.setup.scheme)?;
        }
        trial.calm();
        live(trial, &books, Vec::new(), self.setup.scheme)
    }
}

fn live(trial: &mut Trial, books: &Arc<Mutex<Books>>, steps: Vec<Step>, scheme: Scheme) -> Verdict {
    let caller = |life| Caller { life, books: books.clone(), scheme };
    let ending = trial.run(|life| {
        let caller = caller(life);
        async move { caller.live(steps).await }
    })?;
    match ending {
        Ending::Returned(verdict) => verdict,
        Ending::Crashed => Ok(()),
    }
}

/// The tag of each sector's writer; 0 for zeros.
type State = Vec<u32>;

/// What is known of a volume.
#[derive(Default)]
struct Book {
    /// What it held after each call since the last opening; empty if there is no volume.
    states: Vec<State>,
    /// It holds the state of that place, or a later one.
    flushed: usize,
    /// It is being deleted, or was when the process died.
    dying: bool,
    /// It is being made, of this state.
    birth: Option<State>,
}

#[derive(Default)]
struct Books {
    volumes: [Book; 2],
    tags: u32,
}

/// The program in one of its lives.
struct Caller {
    life: Life,
    books: Arc<Mutex<Books>>,
    scheme: Scheme,
}

fn contents(state: &[u32], first: u64) -> Vec<u8> {
    let sectors = (first..).zip(state);
    sectors.flat_map(|(at, tag)| sector(*tag, at)).collect()
}

fn sector(tag: u32, at: u64) -> [u8; 512] {
    let mut sector = [0; 512];
    if tag > 0 {
        let word = (u64::from(tag) << 32 | at).to_le_bytes();
        sector.as_chunks_mut::<8>().0.fill(word);
    }
    sector
}

impl Caller {
    fn with<T>(&self, index: usize, read: impl FnOnce(&mut Book) -> T) -> T {
        // A process that dies in a call that blocks unwinds this caller.
        read(&mut self.books.lock().unwrap_or_else(PoisonError::into_inner).volumes[index])
    }

    fn array(&self) -> &Array {
        self.life.array()
    }

    async fn live(self, steps: Vec<Step>) -> Verdict {
        for index in 0..NAMES.len() {
            self.settle(index).await.map_err(|error| format!("'{}' after opening: {error}", NAMES[index]))?;
        }
        for (index, blocks, call) in steps {
            self.life.tell(|| format!("'{}' {call:?}", NAMES[index]));
            let made = self.make(index, blocks, call).await;
            made.map_err(|error| format!("'{}' {call:?}: {error}", NAMES[index]))?;
        }
        Ok(())
    }

    /// The volume is there if it must be, and holds what it held after some call, not before the last flush.
    async fn settle(&self, index: usize) -> Verdict {
        let found = match self.array().volume_async(NAMES[index]).await {
            Ok(volume) => Some(volume),
            Err(error) if error.kind() == Kind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let Some(volume) = found else {
            return self.with(index, |book| {
                let may_be_absent = book.states.is_empty() || book.dying;
                *book = Book::default();
                if may_be_absent { Ok(()) } else { Err("it is gone".into()) }
            });
        };
        let len = volume.size_async().await?;
        let bytes = volume.read_async(0, usize::try_from(len)?).await?;
        self.with(index, |book| {
            let mut candidates: Vec<State> = book.states.drain(..).skip(book.flushed).collect();
            candidates.extend(book.birth.take());
            let newest = candidates.into_iter().rfind(|state| contents(state, 0) == bytes);
            let state = newest.ok_or("it is what it never was since the last flush")?;
            *book = Book { states: vec![state], ..Book::default() };
            Ok(())
        })
    }

    async fn make(&self, index: usize, blocks: bool, call: Call) -> Verdict {
        match call {
            Call::Scrub => drop(self.array().scrub_async().await),
            Call::Rebuild => drop(self.array().rebuild_async(Pace::default()).await),
            Call::Sleep => self.life.sleep(Duration::from_millis(700)).await,
            Call::Status => drop(self.array().status_async().await?),
            Call::Create { blocks, stronger } => self.create(index, blocks, stronger).await?,
            _ => {
                let found = self.array().volume_async(NAMES[index]).await;
                match (found, self.with(index, |book| book.states.last().cloned())) {
                    (Ok(volume), Some(state)) => self.call(index, blocks, call, volume, state).await?,
                    (Err(error), None) if error.kind() == Kind::NotFound => {}
                    (Ok(_), None) => return Err("a volume that nobody made".into()),
                    (Err(error), _) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn create(&self, index: usize, blocks: u64, stronger: bool) -> Verdict {
        let exists = self.with(index, |book| !book.states.is_empty());
        let state = vec![0; usize::try_from(blocks * SECTORS_OF_A_BLOCK)?];
        self.with(index, |book| book.birth = (!exists).then(|| state.clone()));
        let copies = Scheme::new(1, self.scheme.m() + 1).expect("a mirror");
        let scheme = stronger.then_some(copies);
        let made = self.array().create_volume_async(NAMES[index], blocks * 4096, scheme).await;
        self.with(index, |book| {
            book.birth = None;
            match made {
                Ok(_) if exists => Err("there are two volumes of one name".into()),
                Ok(_) => {
                    *book = Book { states: vec![state], ..Book::default() };
                    Ok(())
                }
                Err(error) if exists && error.kind() == Kind::Exists => Ok(()),
                // Its members are too few, or full.
                Err(error) if is_refusal(&error) || blocks == 0 => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
    }

    async fn call(&self, index: usize, blocks: bool, call: Call, volume: Volume, state: State) -> Verdict {
        let size = state.len() as u64;
        let range = |at: u64, len: u64| {
            if len == 0 {
                // Nothing is done, wherever.
                return Some(0..0);
            }
            let end = at.checked_add(len).filter(|end| *end <= size)?;
            Some(usize::try_from(at).ok()?..usize::try_from(end).ok()?)
        };
        match call {
            Call::Read { at, len } => {
                let (offset, bytes) = (at * SECTOR_U64, usize::try_from(len * SECTOR_U64)?);
                let read =
                    if blocks { volume.read(offset, bytes) } else { volume.read_async(offset, bytes).await };
                match (read, range(at, len)) {
                    (Ok(read), Some(range)) if read == contents(&state[range.clone()], at) => Ok(()),
                    (Ok(_), _) => Err("it reads what was not written".into()),
                    (Err(error), range)
                        if error.kind() == Kind::Invalid && range.as_ref().is_none_or(Range::is_empty) =>
                    {
                        Ok(())
                    }
                    (Err(error), _) => Err(error.into()),
                }
            }
            Call::Write { at, len, durable } => {
                let tag = {
                    let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
                    books.tags += 1;
                    books.tags
                };
                let next = range(at, len).map(|range| filled(&state, range, tag));
                let data = contents(&vec![tag; usize::try_from(len)?], at);
                let offset = at * SECTOR_U64;
                let made = self.asked(index, next.clone(), async {
                    match (blocks, durable) {
                        (true, true) => volume.write_durable(offset, data),
                        (true, false) => volume.write(offset, data),
                        (false, true) => volume.write_durable_async(offset, data).await,
                        (false, false) => volume.write_async(offset, data).await,
                    }
                });
                let made = made.await?;
                self.with(index, |book| {
                    if made && durable {
                        book.flushed = book.states.len() - 1;
                    }
                });
                Ok(())
            }
            Call::Trim { at, len } => {
                let next = range(at, len).map(|range| filled(&state, range, 0));
                let (offset, bytes) = (at * SECTOR_U64, len * SECTOR_U64);
                let made = self.asked(index, next, async {
                    if blocks {
                        volume.trim(offset, bytes)
                    } else {
                        volume.write_zeroes_async(offset, bytes).await
                    }
                });
                made.await.map(drop)
            }
            Call::Resize { blocks } => {
                let mut next = state;
                next.resize(usize::try_from(blocks * SECTORS_OF_A_BLOCK)?, 0);
                let next = (blocks > 0).then_some(next);
                self.asked(index, next, volume.resize_async(blocks * 4096)).await.map(drop)
            }
            Call::Flush => {
                let accepted = self.with(index, |book| book.states.len() - 1);
                if blocks { volume.flush() } else { volume.flush_async().await }?;
                self.with(index, |book| book.flushed = accepted);
                Ok(())
            }
            Call::Delete => {
                self.with(index, |book| book.dying = true);
                let deleted = self.array().delete_volume_async(NAMES[index]).await;
                match deleted {
                    Ok(()) => self.with(index, |book| *book = Book::default()),
                    Err(error) => return Err(error.into()),
                }
                Ok(())
            }
            _ => {
                let refused = [
                    volume.read_async(1, 512).await.map(drop),
                    volume.write_async(0, vec![1; 511]).await,
                    volume.trim_async(513, 512).await,
                    volume.resize_async(512).await,
                    volume.read_async(u64::MAX - 511, 512).await.map(drop),
                    volume.trim_async(512, u64::MAX - 511).await,
                ];
                let invalid = |outcome: &Result<(), Error>| {
                    outcome.as_ref().is_err_and(|error| error.kind() == Kind::Invalid)
                };
                match refused.iter().all(invalid) {
                    true => Ok(()),
                    false => Err(format!("what is misaligned or outside: {refused:?}").into()),
                }
            }
        }
    }

    /// Asks for what makes `next` of a volume, or for what must be refused. Whether it was accepted.
    async fn asked(
        &self,
        index: usize,
        next: Option<State>,
        call: impl Future<Output = Result<(), Error>>,
    ) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let is_valid = next.is_some();
        self.with(index, |book| book.states.extend(next));
        match call.await {
            Ok(()) if is_valid => Ok(true),
            Ok(()) => Err("it was accepted".into()),
            Err(error) if !is_valid && error.kind() == Kind::Invalid => Ok(false),
            Err(error) if is_valid && error.kind() == Kind::NoSpace => {
                self.with(index, |book| book.states.pop());
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn filled(state: &State, range: Range<usize>, tag: u32) -> State {
    let mut next = state.clone();
    next[range].fill(tag);
    next
}

/// Too little room, or too few members for that scheme.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), Kind::NoSpace | Kind::Refused | Kind::Invalid)
}
