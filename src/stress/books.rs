//! What is kept account of: what must arrive, in which order, and whose turn it is.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use super::executor::Executor;
use super::rig::{How, Rig, Shared};
use crate::Multipart;

/// A number as a message, and back from its first bytes.
pub(super) fn numbered(number: u64) -> Multipart {
    (&number.to_le_bytes()).into()
}

pub(super) fn number(frame: &[u8]) -> u64 {
    frame.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

/// The numbers from 0, in order.
#[derive(Clone)]
pub(super) struct InOrder {
    shared: Rc<Shared>,
    next: Rc<Cell<u64>>,
}

impl InOrder {
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        Self { shared: Rc::clone(shared), next: Rc::default() }
    }

    pub(super) fn arrived(&self, number: u64) {
        let next = self.next.get();
        if number != next {
            let how = if number < next { How::Disorder } else { How::Lost };
            self.shared.fault(how, &format!("{number} came where {next} was due"));
        }
        self.next.set(next + 1);
    }

    pub(super) fn count(&self) -> u64 {
        self.next.get()
    }
}

/// Numbers in any order, each once.
#[derive(Clone)]
pub(super) struct Ledger {
    shared: Rc<Shared>,
    open: Rc<RefCell<BTreeSet<u64>>>,
    sent: Rc<Cell<u64>>,
    arrived: Rc<Cell<u64>>,
}

impl Ledger {
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        Self { shared: Rc::clone(shared), open: Rc::default(), sent: Rc::default(), arrived: Rc::default() }
    }

    pub(super) fn sent(&self, number: u64) {
        self.open.borrow_mut().insert(number);
        self.sent.set(self.sent.get() + 1);
    }

    /// It has not arrived, and must not any more.
    pub(super) fn given_up(&self, number: u64) {
        if !self.open.borrow_mut().remove(&number) {
            self.shared.fault(How::Doubled, &format!("{number} was given up, and had been sent"));
        }
        self.sent.set(self.sent.get() - 1);
    }

    pub(super) fn arrived(&self, number: u64) {
        if !self.open.borrow_mut().remove(&number) {
            self.shared.fault(How::Doubled, &format!("{number} came twice, or was never sent"));
        }
        self.arrived.set(self.arrived.get() + 1);
    }

    /// So many were sent.
    pub(super) fn count(&self) -> u64 {
        self.sent.get()
    }

    pub(super) fn arrivals(&self) -> u64 {
        self.arrived.get()
    }

    /// So many are on their way.
    pub(super) fn open(&self) -> u64 {
        self.sent.get() - self.arrived.get()
    }
}

/// Those who wait, in the order in which they came.
#[derive(Clone)]
pub(super) struct Line {
    shared: Rc<Shared>,
    strict: bool,
    waiting: Rc<RefCell<VecDeque<u64>>>,
    last: Rc<Cell<u64>>,
}

impl Line {
    pub(super) fn new(rig: &Rig) -> Self {
        // Where a waker runs its task at once, the next is served before the first one's poll returns.
        let strict = !matches!(rig.executor, Executor::AtOnce(_));
        Self { shared: Rc::clone(&rig.shared), strict, waiting: Rc::default(), last: Rc::default() }
    }

    pub(super) fn stand(&self) -> Standing<'_> {
        self.last.set(self.last.get() + 1);
        Standing { line: self, number: self.last.get() }
    }
}

/// One who may wait. Leaves when dropped.
pub(super) struct Standing<'a> {
    line: &'a Line,
    number: u64,
}

impl Standing<'_> {
    pub(super) fn waits(&self) {
        let mut waiting = self.line.waiting.borrow_mut();
        if !waiting.contains(&self.number) {
            waiting.push_back(self.number);
        }
    }

    /// Fails if somebody came before.
    pub(super) fn is_served(&self) {
        let first = self.line.waiting.borrow().front().copied();
        if self.line.strict && first.is_some_and(|first| first != self.number) {
            self.line.shared.fault(How::Unfair, "one was served before another who came first");
        }
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        self.line.waiting.borrow_mut().retain(|number| *number != self.number);
    }
}
