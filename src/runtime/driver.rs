//! A thread that owns an executor.
//!
//! Invariant: the thread sleeps whenever no task is ready; wakers end its sleep, and I/O of its reactor that is done,
//! nothing else does.

use super::executor::{Executor, Order, Rest, Spawner};
use super::reactor::Reactor;
use super::ticket::{Dropped, Ticket};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread::{self, JoinHandle};

/// Polls between two looks at the I/O.
const POLLS_MAX: usize = 64;

/// One thread that runs one shard's tasks in FIFO order. Dropping it stops the thread, drops the tasks
/// that have not finished and waits for the thread to end.
pub struct Driver {
    spawner: Spawner,
    /// `None` only while it is dropped.
    thread: Option<JoinHandle<()>>,
}

impl Driver {
    /// Starts the thread; `name` is what `top` and debuggers show (Linux keeps 15 bytes).
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(name: &str) -> io::Result<Driver> {
        let executor = Executor::new(Order::Fifo);
        Driver::spawn(name, executor.spawner(), move || run(&executor))
    }

    /// [`Driver::start`], with I/O that the thread carries out between tasks. When the thread ends, also by a panic of
    /// a task, it drops the tasks and finishes the I/O.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start_with(name: &str, mut reactor: impl Reactor + 'static) -> io::Result<Driver> {
        let executor = Executor::with_alarm(Order::Fifo, reactor.alarm());
        Driver::spawn(name, executor.spawner(), move || {
            match catch_unwind(AssertUnwindSafe(|| run_with(&executor, &mut reactor))) {
                Ok(Ok(())) => {
                    drop(executor);
                    reactor.finish();
                }
                Ok(Err(_broken)) => {
                    drop(reactor);
                    run(&executor);
                }
                Err(panic) => {
                    drop(executor);
                    reactor.finish();
                    resume_unwind(panic);
                }
            }
        })
    }

    fn spawn(name: &str, spawner: Spawner, run: impl FnOnce() + Send + 'static) -> io::Result<Driver> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(run)?;
        Ok(Driver { spawner, thread: Some(thread) })
    }

    /// A handle that spawns tasks on the thread.
    pub fn spawner(&self) -> Spawner {
        self.spawner.clone()
    }

    /// Runs `future` on the thread; the ticket receives what it returns.
    pub fn spawn_ticket<T, F>(&self, future: F) -> Ticket<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.spawner.spawn_ticket(future)
    }

    /// Runs `future` on the thread and blocks the caller until it has finished.
    ///
    /// # Errors
    /// [`Dropped`] if this or another task panicked, which ends the thread.
    ///
    /// # Panics
    /// When called by one of the thread's own tasks, which would wait for itself.
    pub fn block_on<T, F>(&self, future: F) -> Result<T, Dropped>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        assert!(!self.is_current(), "a task of the driver blocks on the driver");
        self.spawner.spawn_ticket(future).wait()
    }

    fn is_current(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.spawner.close();
        if self.is_current() {
            // A task holds the last handle: the thread ends by itself once that task returns.
            return;
        }
        if let Some(thread) = self.thread.take() {
            // Whoever waited for the panicked task has been told; the others are dropped like at any stop.
            let _panicked = thread.join().is_err();
        }
    }
}

/// Runs tasks until the executor is closed.
fn run(executor: &Executor) {
    while executor.park() {
        executor.run_until_stalled();
    }
}

/// Runs tasks and I/O until the executor is closed.
fn run_with(executor: &Executor, reactor: &mut impl Reactor) -> io::Result<()> {
    loop {
        executor.run(POLLS_MAX);
        let sleep = match executor.lie_down() {
            Rest::Busy => false,
            Rest::Asleep => true,
            Rest::Closed => return Ok(()),
        };
        let submitted = reactor.submit(sleep);
        if sleep {
            executor.get_up();
        }
        submitted?;
        reactor.complete();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Signal, ticket};
    use std::sync::Arc;

    fn start() -> Driver {
        Driver::start("test").expect("a thread")
    }

    #[test]
    fn tasks_run_on_the_drivers_thread() {
        let driver = Driver::start("shard-7").expect("a thread");
        let name = driver.block_on(async { thread::current().name().map(str::to_owned) });
        assert_eq!(name, Ok(Some("shard-7".to_owned())));
    }

    #[test]
    fn many_threads_block_on_one_driver() {
        let driver = Arc::new(start());
        let threads: Vec<_> = (0..4_u64)
            .map(|t| {
                let driver = driver.clone();
                thread::spawn(move || {
                    (0..200).map(|i| driver.block_on(async move { t * i }).expect("alive")).sum()
                })
            })
            .collect();
        let sum: u64 = threads.into_iter().map(|thread| -> u64 { thread.join().expect("no panic") }).sum();
        assert_eq!(sum, 6 * 19_900);
    }

    #[test]
    fn a_waker_from_another_thread_unparks_the_driver() {
        let driver = start();
        let (completer, inner) = ticket();
        let outer = driver.spawn_ticket(inner);
        thread::sleep(std::time::Duration::from_millis(20));
        completer.complete(9);
        assert_eq!(outer.wait(), Ok(Ok(9)));
    }

    #[test]
    fn dropping_the_driver_drops_its_tasks_and_answers_their_waiters() {
        let driver = start();
        let signal = Signal::new();
        let waiting = driver.spawn_ticket(signal.listen());
        driver.block_on(async {}).expect("alive");
        drop(driver);
        assert_eq!(waiting.wait(), Err(Dropped));
    }

    #[test]
    fn a_driver_that_is_busy_for_ever_still_stops() {
        let driver = start();
        driver.spawner().spawn(std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        }));
        driver.block_on(async {}).expect("alive");
    }

    #[test]
    fn a_panic_of_the_driver_answers_every_waiter() {
        let driver = start();
        let bystander = driver.spawn_ticket(std::future::pending::<()>());
        assert_eq!(driver.block_on(async { panic!("on purpose") }), Err::<(), _>(Dropped));
        assert_eq!(bystander.wait(), Err(Dropped));
        let later = loop {
            // The thread may still be unwinding.
            if driver.thread.as_ref().is_some_and(JoinHandle::is_finished) {
                break driver.block_on(async {});
            }
            thread::yield_now();
        };
        assert_eq!(later, Err(Dropped));
    }

    #[test]
    fn a_task_may_hold_the_last_handle_of_its_own_driver() {
        let driver = start();
        let spawner = driver.spawner();
        let (completer, ticket) = ticket();
        spawner.spawn(async move {
            drop(driver);
            completer.complete(());
        });
        assert_eq!(ticket.wait(), Ok(()));
        while spawner.spawn_ticket(async {}).wait().is_ok() {}
    }
    /// Sleeps on a channel, and breaks when it is told to.
    struct Fake {
        bell: std::sync::mpsc::Receiver<()>,
        alarm: std::task::Waker,
        breaks: Arc<std::sync::atomic::AtomicBool>,
        log: Arc<parking_lot::Mutex<Vec<&'static str>>>,
    }

    struct Rings(parking_lot::Mutex<std::sync::mpsc::Sender<()>>);

    impl std::task::Wake for Rings {
        fn wake(self: Arc<Self>) {
            // Nobody sleeps any more once the reactor is gone.
            let _unheard = self.0.lock().send(()).is_err();
        }
    }

    impl Reactor for Fake {
        fn alarm(&self) -> std::task::Waker {
            self.alarm.clone()
        }
        fn submit(&mut self, sleep: bool) -> io::Result<()> {
            if sleep {
                self.bell.recv().expect("the alarm holds a sender");
            }
            match self.breaks.load(std::sync::atomic::Ordering::Relaxed) {
                true => Err(io::ErrorKind::Other.into()),
                false => Ok(()),
            }
        }
        fn complete(&mut self) {}
        fn finish(&mut self) {
            self.log.lock().push("finished");
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            self.log.lock().push("dropped");
        }
    }

    type Log = Arc<parking_lot::Mutex<Vec<&'static str>>>;

    fn start_with_fake() -> (Driver, Arc<std::sync::atomic::AtomicBool>, Log) {
        let (sender, bell) = std::sync::mpsc::channel();
        let alarm = Arc::new(Rings(parking_lot::Mutex::new(sender))).into();
        let (breaks, log) = (Arc::default(), Log::default());
        let fake = Fake { bell, alarm, breaks: Arc::clone(&breaks), log: log.clone() };
        (Driver::start_with("test", fake).expect("a thread"), breaks, log)
    }

    #[test]
    fn tasks_are_dropped_before_the_reactor_finishes_also_after_a_panic() {
        struct Note(Log);
        impl Drop for Note {
            fn drop(&mut self) {
                self.0.lock().push("task");
            }
        }
        for panics in [false, true] {
            let (driver, _, log) = start_with_fake();
            let note = Note(log.clone());
            driver.spawner().spawn(async move {
                let _note = note;
                std::future::pending::<()>().await;
            });
            let ended = driver.block_on(async move { assert!(!panics, "on purpose") });
            assert_eq!(ended.is_err(), panics);
            drop(driver);
            assert_eq!(*log.lock(), ["task", "finished", "dropped"]);
        }
    }

    #[test]
    fn a_reactor_that_breaks_is_dropped_and_tasks_run_on() {
        let (driver, breaks, log) = start_with_fake();
        assert_eq!(driver.block_on(async { 1 }), Ok(1));
        breaks.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(
            (2..5).map(|n| driver.block_on(async move { n })).collect::<Vec<_>>(),
            [Ok(2), Ok(3), Ok(4)]
        );
        // It is turned when there is nothing else to do.
        for _ in 0..5000 {
            if !log.lock().is_empty() {
                break;
            }
            thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(driver.block_on(async { 5 }), Ok(5));
        drop(driver);
        assert_eq!(*log.lock(), ["dropped"]);
    }
}
