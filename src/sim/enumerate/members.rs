//! The members of one run: they begin as an image, remember what is not flushed, and decide what survived the last
//! crash only when it is read.
//!
//! The schedule is one, and the worst for durability: reads answer at once, writes complete in the order of their
//! submission, and a flush completes only when nothing else is left that can. So whatever can be unflushed together
//! is. Time stands still until nothing else can happen.
//!
//! A *decision* is the first read of a block whose content the states left open disagree on: it is answered by the
//! run's script, and behind its end by whatever is the least torn. The images that agree on all that a run has read
//! are one for the engine, which is deterministic: one run stands for all of them.
//!
//! Invariants:
//! - `left` of a cell is never empty, and only decisions shorten it.
//! - A write is in `unflushed` from its submission until a flush that was submitted after its completion completes.
//! - `grown` says whether there may be an image that the last moment did not have.

use super::cell::{Content, Write};
use super::history::Expected;
use super::image::{Blocks, Image, Moment};
use crate::device::{Aligned, Device, DeviceError, Pending, check_range, check_write};
use crate::pool::Candidate;
use crate::runtime::{Clock, Completer, Entropy, Env, Owned, Sleep, Spawner, ticket};
use crate::sim::Rng;
use crate::types::{BLOCK, BLOCK_U64};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// What was decided at one read.
#[derive(Clone)]
pub(super) struct Decision {
    /// Which of the answers was taken.
    pub(super) taken: u16,
    /// Torn writes that each answer brings the run to.
    pub(super) torn: Vec<u16>,
}

enum Operation {
    Write { disk: usize, begun: u64, bytes: usize, answer: Completer<Result<usize, DeviceError>> },
    Flush { disk: usize, begun: u64, answer: Completer<Result<(), DeviceError>> },
}

/// See the head of this file.
pub(super) struct World {
    image: Arc<Image>,
    left: Vec<Vec<u32>>,
    script: Vec<u16>,
    decisions: Vec<Decision>,
    /// Torn writes, at least, of the states that are left.
    torn: u16,
    bytes: u64,
    durable: Vec<Blocks>,
    /// For each disk, what reads see of what was written.
    written: Vec<Blocks>,
    unflushed: Vec<Vec<Write>>,
    queue: VecDeque<Operation>,
    tick: u64,
    now: Duration,
    naps: BTreeMap<(Duration, u64), Waker>,
    slept: u64,
    entropy: Rng,
    /// Whether moments are kept.
    pub(super) keeps: bool,
    grown: bool,
    expected: Arc<Expected>,
    moments: Vec<Moment>,
    refused: u64,
}

/// The handle of a [`World`].
#[derive(Clone)]
pub(super) struct Members(Arc<Owned<World>>);

/// What a run leaves behind.
pub(super) struct Remains {
    pub(super) decisions: Vec<Decision>,
    pub(super) moments: Vec<Moment>,
    /// Images that the run stands for.
    pub(super) covered: u128,
}

impl Members {
    /// Disks of `bytes` bytes that hold one of the images that the script leads to. `life` makes the engine's chance
    /// another than in other lives.
    pub(super) fn new(
        image: &Arc<Image>,
        bytes: u64,
        expected: Arc<Expected>,
        script: Vec<u16>,
        life: u64,
    ) -> Members {
        let disks = image.base.len();
        let all = |states: usize| (0..u32::try_from(states).expect("cells are small")).collect();
        Members(Arc::new(Owned::new(World {
            left: image.cells.iter().map(|cell| all(cell.states.len())).collect(),
            image: image.clone(),
            script,
            decisions: Vec::new(),
            torn: 0,
            bytes,
            durable: vec![Blocks::new(); disks],
            written: vec![Blocks::new(); disks],
            unflushed: vec![Vec::new(); disks],
            queue: VecDeque::new(),
            tick: 0,
            now: Duration::ZERO,
            naps: BTreeMap::new(),
            slept: 0,
            entropy: Rng::new(life),
            keeps: false,
            grown: true,
            expected,
            moments: Vec::new(),
            refused: 0,
        })))
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut World) -> R) -> R {
        self.0.with(f)
    }

    /// The disks as candidates.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let (disks, bytes) = self.with(|world| (world.durable.len(), world.bytes));
        let member = |disk| Arc::new(Member { members: self.clone(), disk, bytes });
        (0..disks).map(|disk| Candidate { device: member(disk), path: format!("disk{disk}") }).collect()
    }

    /// Time, chance and tasks of an engine in this run.
    pub(super) fn env(&self, spawner: Spawner) -> Env {
        Env { clock: Arc::new(self.clone()), entropy: Arc::new(self.clone()), spawner }
    }

    /// Lets one thing happen; time passes only with `timers`. `false` if nothing is left that can.
    pub(super) fn step(&self, timers: bool) -> bool {
        enum Event {
            Written(Completer<Result<usize, DeviceError>>, usize),
            Flushed(Completer<Result<(), DeviceError>>),
            Woken(Waker),
        }
        let event = self.with(|world| {
            let write = world.queue.iter().position(|operation| matches!(operation, Operation::Write { .. }));
            match world.queue.remove(write.unwrap_or(0)) {
                Some(Operation::Write { disk, begun, bytes, answer }) => {
                    world.complete(disk, begun);
                    Some(Event::Written(answer, bytes))
                }
                Some(Operation::Flush { disk, begun, answer }) => {
                    world.flush(disk, begun);
                    Some(Event::Flushed(answer))
                }
                None if timers => world.naps.pop_first().map(|((due, _), waker)| {
                    world.now = world.now.max(due);
                    Event::Woken(waker)
                }),
                None => None,
            }
        });
        match event {
            Some(Event::Written(answer, bytes)) => answer.complete(Ok(bytes)),
            Some(Event::Flushed(answer)) => answer.complete(Ok(())),
            Some(Event::Woken(waker)) => waker.wake(),
            None => return false,
        }
        true
    }

    /// From here on, other things are promised. What could be lost until now could be lost under the old promise.
    pub(super) fn promise(&self, expected: Expected) {
        self.with(|world| {
            world.moment();
            world.expected = Arc::new(expected);
            world.grown = true;
        });
    }

    /// Ends the run. Says also what was asked of the disks that must not be asked.
    pub(super) fn end(&self) -> (Remains, Option<String>) {
        self.with(|world| {
            world.moment();
            let left = |product: u128, left: &Vec<u32>| product.saturating_mul(left.len() as u128);
            let remains = Remains {
                decisions: std::mem::take(&mut world.decisions),
                moments: std::mem::take(&mut world.moments),
                covered: world.left.iter().fold(1, left),
            };
            let refused = world.refused;
            (remains, (refused > 0).then(|| format!("{refused} misaligned or out-of-range requests")))
        })
    }
}

impl World {
    /// Remembers what a power loss could leave now, if the last moment does not say it.
    pub(super) fn moment(&mut self) {
        if !std::mem::take(&mut self.grown) || !self.keeps {
            return;
        }
        self.moments.push(Moment {
            left: self.left.clone(),
            durable: self.durable.clone(),
            unflushed: self.unflushed.clone(),
            expected: self.expected.clone(),
            decisions: self.decisions.len(),
        });
    }

    /// What the members hold, all of it durable.
    pub(super) fn now_durable(&self) -> Image {
        let mut image = Image::blank(self.durable.len());
        for ((disk, base), written) in image.base.iter_mut().zip(&self.image.base).zip(&self.written) {
            *disk = base.clone();
            Arc::make_mut(disk).extend(written.iter().map(|(block, content)| (*block, content.clone())));
        }
        image
    }

    fn complete(&mut self, disk: usize, begun: u64) {
        self.tick += 1;
        let tick = self.tick;
        let World { unflushed, written, .. } = self;
        let write =
            unflushed[disk].iter_mut().find(|write| write.begun == begun).expect("unflushed until it is");
        write.ended = Some(tick);
        written[disk].extend(write.contents().map(|(block, content)| (block, content.clone())));
    }

    fn flush(&mut self, disk: usize, begun: u64) {
        let is_covered = |write: &Write| write.ended.is_some_and(|ended| ended < begun);
        if !self.unflushed[disk].iter().any(is_covered) {
            return;
        }
        self.moment();
        let (mut covered, rest): (Vec<Write>, Vec<Write>) =
            std::mem::take(&mut self.unflushed[disk]).into_iter().partition(is_covered);
        self.unflushed[disk] = rest;
        covered.sort_by_key(|write| write.ended);
        let contents = covered.iter().flat_map(Write::contents);
        self.durable[disk].extend(contents.map(|(block, content)| (block, content.clone())));
    }

    fn block(&mut self, disk: usize, block: u64) -> Content {
        if let Some(content) = self.written[disk].get(&block) {
            return content.clone();
        }
        match self.image.places[disk].get(&block).copied() {
            Some((cell, at)) => self.decide(cell, at),
            None => self.image.base[disk].get(&block).unwrap_or(&self.image.zeros).clone(),
        }
    }

    /// The content of a block that may have several.
    fn decide(&mut self, index: usize, at: usize) -> Content {
        let cell = &self.image.cells[index];
        let left = &mut self.left[index];
        let least = |left: &[u32]| left.iter().map(|state| cell.states[*state as usize].1).min().unwrap_or(0);
        let mut answers: BTreeMap<u16, u16> = BTreeMap::new();
        for state in left.iter() {
            let torn = cell.states[*state as usize].1;
            let fewest = answers.entry(cell.id(at, *state)).or_insert(torn);
            *fewest = torn.min(*fewest);
        }
        if answers.len() > 1 {
            let before = least(left);
            let mut answers: Vec<(u16, u16)> = answers.into_iter().map(|(id, torn)| (torn, id)).collect();
            answers.sort_unstable();
            let taken = self.script.get(self.decisions.len()).copied().unwrap_or(0);
            let (torn, id) = answers[usize::from(taken)];
            let others = self.torn - before;
            self.decisions
                .push(Decision { taken, torn: answers.iter().map(|(torn, _)| others + torn).collect() });
            self.torn = others + torn;
            left.retain(|state| cell.id(at, *state) == id);
        }
        cell.content(at, left[0]).clone()
    }
}

impl Clock for Members {
    fn monotonic(&self) -> Duration {
        self.with(|world| world.now)
    }

    fn wall_seconds(&self) -> u64 {
        1_750_000_000 + self.monotonic().as_secs()
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        Box::pin(Nap { due: self.monotonic().saturating_add(duration), members: self.clone(), key: None })
    }
}

impl Entropy for Members {
    fn next_u64(&self) -> u64 {
        self.with(|world| world.entropy.next_u64())
    }
}

/// A sleep: known to the world only while somebody waits for it.
struct Nap {
    members: Members,
    due: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Nap {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (due, key, members) = (self.due, self.key, self.members.clone());
        let key = members.with(|world| {
            if world.now >= due {
                return None;
            }
            let key = key.unwrap_or_else(|| {
                world.slept += 1;
                (due, world.slept)
            });
            world.naps.insert(key, context.waker().clone());
            Some(key)
        });
        self.key = key;
        if key.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Nap {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.members.with(|world| world.naps.remove(&key));
            drop(waker);
        }
    }
}

/// One disk.
struct Member {
    members: Members,
    disk: usize,
    bytes: u64,
}

impl Member {
    fn refuse<T: Send + 'static>(&self, error: DeviceError) -> Pending<T> {
        self.members.with(|world| world.refused += 1);
        Box::pin(std::future::ready(Err(error)))
    }
}

impl Device for Member {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, len: usize) -> Pending<Bytes> {
        if let Err(error) = check_range(self.bytes, offset, len) {
            return self.refuse(error);
        }
        let first = offset / BLOCK_U64;
        let read = self.members.with(|world| {
            if len == BLOCK {
                return world.block(self.disk, first);
            }
            let mut buffer = Aligned::zeroed(len);
            for (block, part) in (first..).zip(buffer.as_mut().chunks_mut(BLOCK)) {
                part.copy_from_slice(&world.block(self.disk, block));
            }
            buffer.freeze()
        });
        Box::pin(std::future::ready(Ok(read)))
    }

    fn write(&self, offset: u64, pieces: Vec<Bytes>) -> Pending<usize> {
        let bytes = match check_write(self.bytes, offset, &pieces) {
            Ok(bytes) => bytes,
            Err(error) => return self.refuse(error),
        };
        let (answer, answered) = ticket();
        let whole = |piece: &Bytes| {
            (0..piece.len() / BLOCK).map(|at| piece.slice(at * BLOCK..(at + 1) * BLOCK)).collect()
        };
        let blocks = pieces.iter().flat_map(|piece| -> Vec<Content> { whole(piece) }).collect();
        self.members.with(|world| {
            world.tick += 1;
            let begun = world.tick;
            world.unflushed[self.disk].push(Write { first: offset / BLOCK_U64, blocks, begun, ended: None });
            world.queue.push_back(Operation::Write { disk: self.disk, begun, bytes, answer });
            world.grown = true;
        });
        Box::pin(async { answered.await.unwrap_or(Err(DeviceError::Gone)) })
    }

    fn flush(&self) -> Pending<()> {
        let (answer, answered) = ticket();
        self.members.with(|world| {
            world.tick += 1;
            let begun = world.tick;
            world.queue.push_back(Operation::Flush { disk: self.disk, begun, answer });
        });
        Box::pin(async { answered.await.unwrap_or(Err(DeviceError::Gone)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Executor, Order};

    const DISKS: usize = 2;
    const BLOCKS: u64 = 16;

    fn block(fill: u8) -> Content {
        Aligned::copy_of(&[fill; BLOCK]).freeze()
    }

    fn members(image: &Arc<Image>, script: &[u16]) -> Members {
        let members = Members::new(image, BLOCKS * BLOCK_U64, Arc::default(), script.to_vec(), 0);
        members.with(|world| world.keeps = true);
        members
    }

    fn run<T: Send + 'static>(members: &Members, future: Pending<T>) -> T {
        let executor = Executor::new(Order::Fifo);
        let slot = Arc::new(Owned::new(None));
        let answer = slot.clone();
        executor.spawner().spawn(async move {
            let output = future.await;
            answer.with(|slot| *slot = Some(output));
        });
        loop {
            executor.run_until_stalled();
            if let Some(output) = slot.with(Option::take) {
                return output.expect("no operation fails");
            }
            assert!(members.step(true), "it waits for nothing");
        }
    }

    fn device(members: &Members, disk: usize) -> Arc<dyn Device> {
        members.candidates()[disk].device.clone()
    }

    fn write(members: &Members, disk: usize, at: u64, fill: u8) {
        let pending = device(members, disk).write(at * BLOCK_U64, vec![block(fill)]);
        assert_eq!(run(members, pending), BLOCK);
    }

    fn read(members: &Members, disk: usize, at: u64) -> Bytes {
        run(members, device(members, disk).read(at * BLOCK_U64, BLOCK))
    }

    /// Block 1 of both disks flushed, block 2 of both not.
    fn crashed() -> Arc<Image> {
        let blank = Arc::new(Image::blank(DISKS));
        let members = members(&blank, &[]);
        for disk in 0..DISKS {
            write(&members, disk, 1, 1);
            run(&members, device(&members, disk).flush());
            write(&members, disk, 2, 2);
        }
        let (remains, refused) = members.end();
        assert_eq!(refused, None);
        Arc::new(blank.after(remains.moments.last().expect("one at the end")))
    }

    #[test]
    fn what_was_flushed_is_certain_and_what_was_not_is_decided_when_it_is_read() {
        let image = crashed();
        assert_eq!(image.count(), 8 * 8);
        let (mut covered, mut seen) = (0, std::collections::BTreeSet::new());
        for script in 0..8 {
            let members = members(&image, &[script]);
            assert_eq!(read(&members, 0, 1), block(1));
            let found = read(&members, 0, 2);
            assert_eq!(read(&members, 0, 2), found, "decided once");
            seen.insert(found);
            let (remains, _) = members.end();
            assert_eq!((remains.decisions.len(), remains.decisions[0].torn.len()), (1, 8));
            assert_eq!(remains.decisions[0].torn[usize::from(script)], u16::from(script > 1));
            covered += remains.covered;
        }
        assert_eq!((covered, seen.len()), (64, 8), "the runs divide the images among them");
        assert!(seen.contains(&block(0)) && seen.contains(&block(2)));
    }

    #[test]
    fn what_was_not_read_is_open_at_the_next_crash_too() {
        let image = crashed();
        let members = members(&image, &[1]);
        read(&members, 0, 2);
        write(&members, 0, 3, 3);
        write(&members, 1, 2, 9);
        let (remains, _) = members.end();
        let next = image.after(remains.moments.last().expect("one at the end"));
        // Block 3 of the one disk has eight contents. Block 2 of the other has the eight that it had, the new one,
        // and what each of the eight and the new one tear into.
        assert_eq!(next.cells.len(), 2);
        let states: Vec<usize> = next.cells.iter().map(|cell| cell.states.len()).collect();
        assert_eq!(states[0], 8);
        assert!(states[1] > 9 + 6, "{states:?}");
        assert_eq!(members.with(|world| world.block(0, 2)).len(), BLOCK);
    }

    #[test]
    fn a_flush_covers_what_completed_before_it_and_a_moment_comes_before_it() {
        let blank = Arc::new(Image::blank(1));
        let members = members(&blank, &[]);
        write(&members, 0, 1, 1);
        let flush = device(&members, 0).flush();
        write(&members, 0, 2, 2);
        run(&members, flush);
        let (remains, _) = members.end();
        let counts: Vec<u128> = remains.moments.iter().map(|moment| blank.after(moment).count()).collect();
        assert_eq!(counts, [64], "what is left after the flush was among what could be left before");
        assert_eq!(members.with(|world| (world.durable[0].len(), world.unflushed[0].len())), (1, 1));
    }

    #[test]
    fn a_new_promise_is_a_new_moment() {
        let blank = Arc::new(Image::blank(1));
        let members = members(&blank, &[]);
        write(&members, 0, 1, 1);
        members.promise(Expected { is_made: true, ..Expected::default() });
        let (remains, _) = members.end();
        let promised: Vec<bool> = remains.moments.iter().map(|moment| moment.expected.is_made).collect();
        assert_eq!(promised, [false, true]);
    }
}
