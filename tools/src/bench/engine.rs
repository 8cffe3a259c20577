//! The same jobs through the engine, as a program would do them: many at a time as futures, one at a time by calls
//! that block.

use super::load::{Job, Measured, Meter, Pace, Verb, noise_at};
use crate::outcome::Failure;
use bytes::Bytes;
use paritas::error::{Error, Kind};
use paritas::volume::Volume;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

type Operation = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

/// Runs a job on a volume. Ends early, and says so, when there is no more room.
pub(super) fn run(volume: &Volume, job: Job, noise: &Bytes) -> Result<(Measured, bool), Failure> {
    let (pace, mut meter) = (Pace::start(job), Meter::start());
    let ended = match job.verb {
        Verb::FlushedWrite => one_by_one(volume, job, pace, &mut meter, noise),
        Verb::Read | Verb::Write => together(volume, job, pace, &mut meter, noise),
    };
    let is_full = match ended {
        Ok(()) => false,
        Err(Ended::Engine(error)) if error.kind() == Kind::NoSpace => true,
        Err(Ended::Engine(error)) => return Err(error.into()),
        Err(Ended::Interrupted(failure)) => return Err(failure),
    };
    if job.verb == Verb::Write {
        volume.flush()?;
    }
    Ok((meter.finish(), is_full))
}

/// Why a job ended before its limits.
enum Ended {
    Engine(Error),
    Interrupted(Failure),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Ended {
        Ended::Engine(error)
    }
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended::Interrupted(failure)
    }
}

fn bytes_for(noise: &Bytes, offset: u64, size: usize) -> Bytes {
    let from = noise_at(noise.len(), offset, size);
    noise.slice(from..from + size)
}

fn one_by_one(
    volume: &Volume,
    job: Job,
    mut pace: Pace,
    meter: &mut Meter,
    noise: &Bytes,
) -> Result<(), Ended> {
    while let Some(offset) = pace.next()? {
        let begun = Instant::now();
        volume.write(offset, bytes_for(noise, offset, job.size))?;
        volume.flush()?;
        meter.done(begun, job.size);
    }
    Ok(())
}

fn together(
    volume: &Volume,
    job: Job,
    mut pace: Pace,
    meter: &mut Meter,
    noise: &Bytes,
) -> Result<(), Ended> {
    let (woken, wakes) = channel();
    let mut lanes: Vec<Lane> = (0..job.depth).map(|index| Lane::new(index, &woken)).collect();
    let mut running = lanes.len();
    while running > 0 {
        let lane = &mut lanes[wakes.recv().expect("this function holds a sender")];
        // A wake may come for what has ended already.
        while !lane.over {
            let operation = match &mut lane.operation {
                Some(operation) => operation,
                none => match pace.next()? {
                    Some(offset) => {
                        lane.begun = Instant::now();
                        none.insert(start(volume, job, noise, offset))
                    }
                    None => {
                        lane.over = true;
                        running -= 1;
                        break;
                    }
                },
            };
            let Poll::Ready(ended) = operation.as_mut().poll(&mut Context::from_waker(&lane.waker)) else {
                break;
            };
            lane.operation = None;
            ended?;
            meter.done(lane.begun, job.size);
        }
    }
    Ok(())
}

fn start(volume: &Volume, job: Job, noise: &Bytes, offset: u64) -> Operation {
    let volume = volume.clone();
    match job.verb {
        Verb::Read => Box::pin(async move { volume.read_async(offset, job.size).await.map(drop) }),
        Verb::Write | Verb::FlushedWrite => {
            let bytes = bytes_for(noise, offset, job.size);
            Box::pin(async move { volume.write_async(offset, bytes).await })
        }
    }
}

/// One operation at a time, until the job is over.
struct Lane {
    operation: Option<Operation>,
    begun: Instant,
    waker: Waker,
    over: bool,
}

impl Lane {
    fn new(index: usize, woken: &Sender<usize>) -> Lane {
        let bell = Arc::new(Bell { index, woken: woken.clone() });
        // To be polled for the first time.
        bell.wake_by_ref();
        Lane { operation: None, begun: Instant::now(), waker: bell.into(), over: false }
    }
}

/// Tells which lane is to be polled.
struct Bell {
    index: usize,
    woken: Sender<usize>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Nobody polls any more once the job is over.
        let _unheard = self.woken.send(self.index).is_err();
    }
}
