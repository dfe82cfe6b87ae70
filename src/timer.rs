//! Deadlines of `sleep` and `timeout`: one calloop timer for all of them.
//!
//! calloop's own `TimeoutFuture` inserts a source for each and leaves it in the loop until its deadline when dropped.
//! Here a deadline is an entry in an ordered map, gone when its future is. The one timer is moved only when an earlier
//! deadline appears; one that was removed costs at most a single turn at its old time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::collections::btree_map::OccupiedEntry;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventSource, Poll, PostAction, Readiness, Token, TokenFactory};

use crate::clock;
use crate::wakes::Wakes;

/// The deadlines that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    deadlines: RefCell<BTreeMap<Deadline, Waker>>,
    last_id: Cell<u64>,
    /// What calloop's timer is set to.
    armed: Cell<Option<Instant>>,
}

/// What the deadlines need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Fine,
    /// One has passed.
    Overdue,
    /// calloop's timer would come too late.
    Arm,
}

/// A deadline, and a number that tells those of the same instant apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(Instant, u64);

impl Timers {
    pub(crate) fn deadline(&self, at: Instant) -> Deadline {
        self.last_id.set(self.last_id.get() + 1);
        Deadline(at, self.last_id.get())
    }

    /// Wakes `waker` at the deadline, and nobody else whom an earlier call named for it.
    pub(crate) fn wait(&self, deadline: Deadline, waker: &Waker) {
        let waker = waker.clone();
        let replaced = self.deadlines.borrow_mut().insert(deadline, waker);
        drop(replaced);
    }

    pub(crate) fn forget(&self, deadline: Deadline) {
        let forgotten = self.deadlines.borrow_mut().remove(&deadline);
        drop(forgotten);
    }

    /// What must be done before the loop sleeps.
    pub(crate) fn check(&self) -> Check {
        let Some(next) = self.next() else { return Check::Fine };
        let now = clock::now();
        match self.armed.get() {
            // calloop's timer goes off with the next batch, or went with one that another source spoilt.
            _ if next <= now => Check::Overdue,
            Some(armed) if now < armed && armed <= next => Check::Fine,
            _ => Check::Arm,
        }
    }

    /// Wakes those whose deadline passed.
    pub(crate) fn wake_due(&self) {
        let due = self.due(clock::now());
        drop(due);
    }

    /// Wakes everyone, early: there is no loop any more.
    pub(crate) fn end(&self) -> Wakes {
        self.deadlines.take().into_values().collect()
    }

    fn next(&self) -> Option<Instant> {
        self.deadlines.borrow().first_key_value().map(|(deadline, _)| deadline.0)
    }

    fn due(&self, now: Instant) -> Wakes {
        let mut deadlines = self.deadlines.borrow_mut();
        std::iter::from_fn(|| deadlines.first_entry().filter(|first| first.key().0 <= now).map(OccupiedEntry::remove))
            .collect()
    }
}

/// The source that fires at the earliest deadline. `LoopHandle::update` sets it to a new one.
#[derive(Debug)]
pub(crate) struct TimerSource {
    timers: Rc<Timers>,
    timer: Timer,
}

impl TimerSource {
    pub(crate) fn new(timers: Rc<Timers>) -> Self {
        Self { timers, timer: Timer::immediate() }
    }
}

impl EventSource for TimerSource {
    type Event = Infallible;
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<F>(&mut self, readiness: Readiness, token: Token, _: F) -> Result<PostAction, io::Error>
    where
        F: FnMut(Infallible, &mut ()),
    {
        let mut due = Wakes::default();
        self.timer.process_events(readiness, token, |_, ()| {
            due = self.timers.due(clock::now());
            self.timers.armed.set(self.timers.next());
            match self.timers.next() {
                Some(next) => TimeoutAction::ToInstant(next),
                None => TimeoutAction::Drop,
            }
        })?;
        drop(due);
        // The timer asks to be removed when it has nothing left to wait for; it stays for the next deadline.
        Ok(PostAction::Continue)
    }

    fn register(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        let next = self.timers.next();
        self.timers.armed.set(next);
        match next {
            Some(next) => {
                self.timer.set_deadline(next);
                self.timer.register(poll, factory)
            }
            None => Ok(()),
        }
    }

    fn reregister(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.timer.unregister(poll)?;
        self.register(poll, factory)
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.timers.armed.set(None);
        self.timer.unregister(poll)
    }
}

#[cfg(test)]
#[path = "model/inside/timer.rs"]
pub(crate) mod inside;
