//! Requests that wait for the engine: any number of them, and one thread that finishes those that are ready.
//!
//! Invariants:
//! - A task is polled by one thread at a time, and again after every wake that came during or after its last poll.
//! - The thread ends when it is told to and no task is left.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

type Doing = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
struct State {
    woken: VecDeque<Arc<Task>>,
    /// Tasks that are begun and not finished.
    left: usize,
    is_closing: bool,
}

/// Tasks, and those of them that are to be polled.
#[derive(Default)]
pub(super) struct Tasks {
    state: Mutex<State>,
    bell: Condvar,
}

/// One request.
struct Task {
    /// `None` once it is finished.
    doing: Mutex<Option<Doing>>,
    tasks: Arc<Tasks>,
}

impl Tasks {
    /// Begins a task in the caller's thread, which gives it to the engine, and does not wait for it.
    pub(super) fn begin(self: &Arc<Tasks>, doing: impl Future<Output = ()> + Send + 'static) {
        self.state.lock().left += 1;
        Arc::new(Task { doing: Mutex::new(Some(Box::pin(doing))), tasks: self.clone() }).poll();
    }

    /// Finishes tasks until [`Tasks::close`].
    pub(super) fn run(&self) {
        while let Some(task) = self.next() {
            task.poll();
        }
    }

    /// The thread that runs them ends with the last task.
    pub(super) fn close(&self) {
        self.state.lock().is_closing = true;
        self.bell.notify_all();
    }

    fn next(&self) -> Option<Arc<Task>> {
        let mut state = self.state.lock();
        loop {
            if let Some(task) = state.woken.pop_front() {
                return Some(task);
            }
            if state.is_closing && state.left == 0 {
                return None;
            }
            self.bell.wait(&mut state);
        }
    }

    fn finished(&self) {
        let mut state = self.state.lock();
        state.left -= 1;
        if state.is_closing && state.left == 0 {
            self.bell.notify_all();
        }
    }
}

impl Task {
    fn poll(self: &Arc<Task>) {
        let waker = self.clone().into();
        let mut doing = self.doing.lock();
        let Some(future) = doing.as_mut() else { return };
        if future.as_mut().poll(&mut Context::from_waker(&waker)) == Poll::Ready(()) {
            *doing = None;
            self.tasks.finished();
        }
    }
}

impl Wake for Task {
    fn wake(self: Arc<Task>) {
        let tasks = self.tasks.clone();
        tasks.state.lock().woken.push_back(self);
        tasks.bell.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Waker;
    use std::thread;

    /// Ready when it was polled so often; in between it leaves its waker.
    struct Steps {
        left: usize,
        waker: Arc<Mutex<Option<Waker>>>,
    }

    impl Future for Steps {
        type Output = ();

        fn poll(mut self: Pin<&mut Steps>, context: &mut Context<'_>) -> Poll<()> {
            if self.left == 0 {
                return Poll::Ready(());
            }
            self.left -= 1;
            *self.waker.lock() = Some(context.waker().clone());
            Poll::Pending
        }
    }

    #[test]
    fn tasks_that_are_woken_are_finished_and_the_thread_ends_with_the_last_one() {
        let (tasks, finished) = (Arc::new(Tasks::default()), Arc::new(AtomicUsize::new(0)));
        let wakers: Vec<_> = (0..100).map(|_| Arc::new(Mutex::new(None))).collect();
        for (i, waker) in wakers.iter().enumerate() {
            let (waker, finished) = (waker.clone(), finished.clone());
            tasks.begin(async move {
                Steps { left: i % 4, waker }.await;
                finished.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(finished.load(Ordering::Relaxed), 25, "what is ready at once needs no thread");
        let runner = {
            let tasks = tasks.clone();
            thread::spawn(move || tasks.run())
        };
        tasks.close();
        while finished.load(Ordering::Relaxed) < 100 {
            assert!(!runner.is_finished(), "tasks are left");
            for waker in &wakers {
                // Late, twice, and after the end.
                if let Some(waker) = waker.lock().clone() {
                    waker.wake_by_ref();
                    waker.wake();
                }
            }
        }
        runner.join().expect("no panic");
    }

    #[test]
    fn a_task_that_wakes_itself_while_it_is_polled_is_polled_again() {
        let tasks = Arc::new(Tasks::default());
        let mut again = true;
        tasks.begin(std::future::poll_fn(move |context| {
            if std::mem::take(&mut again) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        }));
        tasks.close();
        tasks.run();
        assert_eq!(tasks.state.lock().left, 0);
    }
}
