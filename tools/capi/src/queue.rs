//! Queues: many requests at a time from one thread, completions in the order in which they come.

#![allow(unsafe_code)] // Functions that C calls by name, with pointers.

use crate::answer::{Failure, guard, keep};
use crate::code::Code;
use crate::memory::{Place, Places, Target, User, bytes, give, look, take};
use crate::requests::{Doing, Full, Requests};
use crate::volume::{Volume, is_durable};
use bytes::Bytes;
use std::ffi::{c_char, c_int, c_void};
use std::time::{Duration, Instant};

/// Requests that one queue may have in flight.
pub const QUEUE_DEPTH_MAX: u32 = 65536;

/// What its maker has to say of a request: whose it is, and where to put what it reads.
struct Tag {
    user: User,
    target: Option<Target>,
}

/// Requests to volumes, of one array or several, and their completions.
pub struct Queue {
    requests: Requests<Tag>,
}

impl Queue {
    fn submit(&self, user: *mut c_void, target: Option<Target>, doing: Doing) -> Result<(), Failure> {
        let tag = Tag { user: User(user), target };
        self.requests.submit(tag, doing).map_err(|Full| Failure {
            code: Code::Full,
            text: "the queue is full: wait for completions, then submit again".into(),
        })
    }
}

/// The end of a request.
#[repr(C)]
pub struct Completion {
    /// What the request was submitted with.
    pub user: *mut c_void,
    /// What came of it.
    pub code: Code,
    /// What happened, to what, and what to do; null when it was done. Valid until the thread waits for completions
    /// again, or its end.
    pub message: *const c_char,
}

/// Makes a queue for at most `depth` requests in flight, at least 1 and at most PARITAS_QUEUE_DEPTH_MAX. `*queue` is
/// null on failure.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_queue_new(depth: u32, queue: *mut *mut Queue) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let made = unsafe { Place::new(queue, "the place for the queue") }?;
        made.put(std::ptr::null_mut());
        if depth == 0 || depth > QUEUE_DEPTH_MAX {
            return Err(Failure::invalid(format!("a queue has room for 1 to {QUEUE_DEPTH_MAX} requests")));
        }
        made.put(give(Queue { requests: Requests::new(depth as usize) }));
        Ok(())
    })
}

/// Releases the queue. Requests in flight are forgotten: those that change a volume go on, and nobody learns what
/// came of them; buffers are not touched from here on. Null is allowed.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_queue_free(queue: *mut Queue) {
    let _nothing = guard(|| {
        if !queue.is_null() {
            // SAFETY: the caller keeps the header's rules.
            drop(unsafe { take(queue, "the queue") }?);
        }
        Ok(())
    });
}

/// Begins to read, as paritas_read does. The buffer is filled by the call of paritas_queue_wait that gives the
/// completion, and must be there until then; on failure it is as it was.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_queue_read(
    queue: *const Queue,
    volume: *const Volume,
    offset: u64,
    buffer: *mut c_void,
    length: usize,
    user: *mut c_void,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (queue, volume) = unsafe { (look(queue, "the queue")?, look(volume, "the volume")?) };
        // SAFETY: likewise; the queue drops it, or fills it, as they say.
        let target = unsafe { Target::new(buffer, length) }?;
        let (volume, length) = (volume.volume.clone(), target.length());
        let doing = async move { volume.read_async(offset, length).await };
        queue.submit(user, Some(target), Box::pin(doing))
    })
}

/// Begins to write, as paritas_write does. The bytes are copied: the buffer is free when this call returns.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_queue_write(
    queue: *const Queue,
    volume: *const Volume,
    offset: u64,
    buffer: *const c_void,
    length: usize,
    flags: u32,
    user: *mut c_void,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (queue, volume) = unsafe { (look(queue, "the queue")?, look(volume, "the volume")?) };
        // SAFETY: likewise.
        let bytes = unsafe { bytes(buffer, length, "the buffer") }?;
        let (volume, is_durable) = (volume.volume.clone(), is_durable(flags)?);
        let bytes = engine::device::place(offset, bytes);
        let doing = async move {
            match is_durable {
                true => volume.write_durable_async(offset, bytes).await?,
                false => volume.write_async(offset, bytes).await?,
            }
            Ok(Bytes::new())
        };
        queue.submit(user, None, Box::pin(doing))
    })
}

/// Begins to flush, as paritas_flush does: writes count of which the completions were given before this call.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_queue_flush(
    queue: *const Queue,
    volume: *const Volume,
    user: *mut c_void,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (queue, volume) = unsafe { (look(queue, "the queue")?, look(volume, "the volume")?) };
        let volume = volume.volume.clone();
        let doing = async move { volume.flush_async().await.map(|()| Bytes::new()) };
        queue.submit(user, None, Box::pin(doing))
    })
}

/// Begins to trim, as paritas_trim does.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_queue_trim(
    queue: *const Queue,
    volume: *const Volume,
    offset: u64,
    length: u64,
    user: *mut c_void,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (queue, volume) = unsafe { (look(queue, "the queue")?, look(volume, "the volume")?) };
        let volume = volume.volume.clone();
        let doing = async move { volume.trim_async(offset, length).await.map(|()| Bytes::new()) };
        queue.submit(user, None, Box::pin(doing))
    })
}

/// Begins to write zeros, as paritas_write_zeroes does.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_queue_write_zeroes(
    queue: *const Queue,
    volume: *const Volume,
    offset: u64,
    length: u64,
    user: *mut c_void,
) -> Code {
    // SAFETY: the caller keeps the header's rules.
    unsafe { paritas_queue_trim(queue, volume, offset, length, user) }
}

/// Waits until at least `min` requests are done, or all in flight if these are fewer, at most `timeout` milliseconds
/// (a negative one: as long as it takes), then gives at most `max` completions, in the order in which requests were
/// done. `*count` is how many, less than `min` after a timeout or when no more are in flight. With a `min` of 0 it
/// does not wait.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_queue_wait(
    queue: *const Queue,
    completions: *mut Completion,
    min: usize,
    max: usize,
    timeout: c_int,
    count: *mut usize,
) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let (queue, count) =
            unsafe { (look(queue, "the queue")?, Place::new(count, "the place for the count")?) };
        count.put(0);
        // SAFETY: likewise.
        let places = unsafe { Places::new(completions, max, "the place for completions") }?;
        if min > max {
            return Err(Failure::invalid(format!(
                "{min} completions are more than the {max} that there is room for"
            )));
        }
        let timeout = u64::try_from(timeout).ok().map(Duration::from_millis);
        let done = queue.requests.wait(min, places.count(), timeout.map(|timeout| Instant::now() + timeout));
        let messages = keep(done.iter().map(|(_, result)| result.as_ref().err()));
        let given = done.len();
        places.put(done.into_iter().zip(messages).map(|((Tag { user, target }, result), message)| {
            let code = match result {
                Ok(bytes) => {
                    target.into_iter().for_each(|target| target.fill(&bytes));
                    Code::Ok
                }
                Err(error) => Code::of(&error),
            };
            Completion { user: user.0, code, message }
        }));
        count.put(given);
        Ok(())
    })
}

/// Tells a file descriptor that can be read (poll, epoll) while paritas_queue_wait has completions to give. It is the
/// queue's, to be waited for and neither read nor closed. It may be ready once without a completion: so call
/// paritas_queue_wait with a `min` of 0.
///
/// # Safety
/// As the header says of pointers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paritas_queue_descriptor(queue: *const Queue, descriptor: *mut c_int) -> Code {
    guard(|| {
        // SAFETY: the caller keeps the header's rules.
        let queue = unsafe { look(queue, "the queue") }?;
        // SAFETY: likewise.
        let place = unsafe { Place::new(descriptor, "the place for the descriptor") }?;
        let open = queue.requests.descriptor();
        place.put(open.map_err(|error| Failure { code: Code::Io, text: format!("no descriptor: {error}") })?);
        Ok(())
    })
}
