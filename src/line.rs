//! A waiting line. It knows nothing of what is waited for.

#![allow(clippy::indexing_slicing, reason = "a line's tickets are its own, and no one leaves it twice")]

use std::task::Waker;

use slab::Slab;

use crate::seeded::{Bug, seeded};

/// First come, first served; leaving from anywhere in the line is one step.
#[derive(Debug, Default)]
pub(crate) struct Line {
    entries: Slab<Entry>,
    first: Option<usize>,
    last: Option<usize>,
    /// How many entries hold a waker, that is, have not been called.
    waiting: usize,
}

/// A place in a line. It is given up by [`Line::leave`] and by nothing else.
#[derive(Debug)]
pub(crate) struct Ticket(usize);

#[derive(Debug)]
struct Entry {
    /// Taken when the entry is called.
    waker: Option<Waker>,
    before: Option<usize>,
    behind: Option<usize>,
}

impl Line {
    pub(crate) fn join(&mut self, waker: Waker) -> Ticket {
        let key = self.entries.insert(Entry { waker: Some(waker), before: self.last, behind: None });
        match self.last {
            Some(last) => self.entries[last].behind = Some(key),
            None => self.first = Some(key),
        }
        self.last = Some(key);
        self.waiting += 1;
        Ticket(key)
    }

    /// Keeps the place; the call, if there was one, is used up. Gives back the waker held until now.
    pub(crate) fn wait_again(&mut self, ticket: &Ticket, waker: Waker) -> Option<Waker> {
        if seeded(Bug::OldWakerKept) && !self.is_called(ticket) {
            return Some(waker);
        }
        let held = self.entries[ticket.0].waker.replace(waker);
        if held.is_none() {
            self.waiting += 1;
        }
        held
    }

    /// Gives back the waker, unless the entry had been called.
    #[allow(clippy::needless_pass_by_value, reason = "the ticket ends here")]
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<Waker> {
        let Entry { waker, before, behind } = self.entries.remove(ticket.0);
        match before {
            Some(before) => self.entries[before].behind = behind,
            None => self.first = behind,
        }
        match behind {
            Some(behind) => self.entries[behind].before = before,
            None => self.last = before,
        }
        if waker.is_some() {
            self.waiting -= 1;
        }
        waker
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn is_first(&self, ticket: &Ticket) -> bool {
        self.first == Some(ticket.0)
    }

    pub(crate) fn is_called(&self, ticket: &Ticket) -> bool {
        self.entries[ticket.0].waker.is_none()
    }

    /// True if the entry waits with this waker, and has not been called.
    pub(crate) fn waits_with(&self, ticket: &Ticket, waker: &Waker) -> bool {
        self.entries[ticket.0].waker.as_ref().is_some_and(|held| held.will_wake(waker))
    }

    /// True if somebody has not been called.
    #[inline]
    pub(crate) fn anyone_waits(&self) -> bool {
        self.waiting > 0
    }

    pub(crate) fn first_waits(&self) -> bool {
        self.first.is_some_and(|first| self.entries[first].waker.is_some())
    }

    pub(crate) fn call_first(&mut self) -> Option<Waker> {
        self.call(self.first?)
    }

    pub(crate) fn call_all(&mut self, mut called: impl FnMut(Waker)) {
        let mut next = self.first;
        while let Some(key) = next {
            next = self.entries[key].behind;
            self.call(key).into_iter().for_each(&mut called);
        }
    }

    fn call(&mut self, key: usize) -> Option<Waker> {
        let waker = self.entries[key].waker.take();
        if waker.is_some() {
            self.waiting -= 1;
        }
        waker
    }
}

#[cfg(test)]
#[path = "model/inside/line.rs"]
mod inside;
