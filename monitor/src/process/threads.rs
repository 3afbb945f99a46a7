//! The threads of a process, and what others may ask of each.
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use endo_core::{GuestAddr, SignalStackId};

use super::RobustList;

/// What the other threads of a process may know of one.
#[derive(Debug, Default)]
pub struct SharedState {
    robust_list: AtomicU64,
    /// The host's alternate stack, if it is to be used again once the thread is no more.
    pub(super) signal_stack: Option<SignalStackId>,
}

impl SharedState {
    /// The state of a thread whose handlers run on this stack.
    pub(super) fn on(signal_stack: Option<SignalStackId>) -> Self {
        SharedState { signal_stack, ..Default::default() }
    }

    /// The locks that others must learn of if the thread ends with them held.
    pub fn robust_list(&self) -> RobustList {
        RobustList::at(GuestAddr(self.robust_list.load(Ordering::Relaxed)))
    }

    /// Says where that list is.
    pub fn set_robust_list(&self, list: RobustList) {
        self.robust_list.store(list.head().0, Ordering::Relaxed);
    }
}

type Living = BTreeMap<i32, Arc<SharedState>>;

/// The living threads of a process by their ids, which are the host's.
#[derive(Debug, Default)]
pub struct Threads {
    living: Mutex<Living>,
}

impl Threads {
    /// Adds the thread with this id.
    pub fn add(&self, id: i32, shared: Arc<SharedState>) {
        self.lock().0.insert(id, shared);
    }

    /// Removes a thread, and says whether it was the last.
    #[must_use]
    pub fn remove(&self, id: i32) -> bool {
        let mut threads = self.lock();
        threads.0.remove(&id);
        threads.0.is_empty()
    }

    /// Whether there is more than one.
    pub fn are_several(&self) -> bool {
        self.lock().0.len() > 1
    }

    /// A thread's state, if it lives.
    pub fn find(&self, id: i32) -> Option<Arc<SharedState>> {
        self.lock().0.get(&id).cloned()
    }

    /// All threads but one.
    pub(super) fn others(&self, id: i32) -> Vec<(i32, Arc<SharedState>)> {
        let threads = self.lock();
        let others = threads.0.iter().filter(|&(&other, _)| other != id);
        others.map(|(&id, shared)| (id, Arc::clone(shared))).collect()
    }

    pub(super) fn lock(&self) -> LockedThreads<'_> {
        LockedThreads(self.living.lock().expect("no thread panics with the list of threads locked"))
    }
}

/// The list, locked.
pub(super) struct LockedThreads<'a>(MutexGuard<'a, Living>);

impl LockedThreads<'_> {
    /// In a forked child: leaves the one thread that there is, and hands out the others, which are no more.
    pub(super) fn keep_only(&mut self, id: i32, shared: Arc<SharedState>) -> Living {
        let mut gone = std::mem::take(&mut *self.0);
        gone.retain(|_, other| !Arc::ptr_eq(other, &shared));
        self.0.insert(id, shared);
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_threads() -> (Threads, Arc<SharedState>) {
        let threads = Threads::default();
        let second = Arc::new(SharedState::default());
        threads.add(10, Arc::default());
        threads.add(11, Arc::clone(&second));
        (threads, second)
    }

    #[test]
    fn the_last_one_to_go_learns_it() {
        let (threads, _) = two_threads();
        assert!(!threads.remove(10));
        assert!(threads.remove(11));
    }

    #[test]
    fn a_forked_child_has_the_thread_that_forked_under_its_new_id() {
        let (threads, second) = two_threads();
        let gone = threads.lock().keep_only(30, second);
        assert_eq!(gone.into_keys().collect::<Vec<_>>(), [10]);
        assert!(threads.find(30).is_some() && threads.find(11).is_none());
        assert!(threads.remove(30));
    }

    #[test]
    fn a_threads_locks_can_be_asked_for_by_others() {
        let (threads, second) = two_threads();
        second.set_robust_list(RobustList::at(GuestAddr(0x1000)));
        assert_eq!(threads.find(11).unwrap().robust_list().head(), GuestAddr(0x1000));
        assert_eq!(threads.others(11).len(), 1);
    }
}
