//! State with one owner.

use parking_lot::Mutex;

/// State that only one task at a time ever touches: used within an `Arc` by the tasks of one shard.
///
/// There is never a wait: a shard's tasks run one at a time, and [`Owned::with`] takes a closure, which
/// cannot await, so no borrow crosses an await. Whoever borrows twice has a defect and is told so.
#[derive(Default)]
pub struct Owned<T> {
    state: Mutex<T>,
}

impl<T> Owned<T> {
    /// The owner of `state`.
    pub fn new(state: T) -> Owned<T> {
        Owned { state: Mutex::new(state) }
    }

    /// Borrows the state for the time of the closure.
    ///
    /// # Panics
    /// If the state is borrowed already, by this thread or by another.
    #[track_caller]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let mut state = self.state.try_lock().expect("shard state is borrowed twice");
        f(&mut state)
    }

    /// Gives the state back.
    pub fn into_inner(self) -> T {
        self.state.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_borrowed_one_closure_after_the_other() {
        let owned = Owned::new(vec![1]);
        owned.with(|state| state.push(2));
        assert_eq!(owned.with(|state| state.len()), 2);
        assert_eq!(owned.into_inner(), [1, 2]);
    }

    #[test]
    #[should_panic(expected = "borrowed twice")]
    fn borrowing_inside_a_borrow_panics() {
        let owned = Owned::new(0);
        owned.with(|_| owned.with(|_| ()));
    }

    #[test]
    fn a_panic_inside_a_borrow_does_not_lock_the_state_for_ever() {
        let owned = Owned::new(0);
        let closure = std::panic::AssertUnwindSafe(|| owned.with(|_| panic!("on purpose")));
        assert!(std::panic::catch_unwind(closure).is_err());
        owned.with(|state| *state += 1);
        assert_eq!(owned.into_inner(), 1);
    }
}
