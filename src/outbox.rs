//! What a Sink holds.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::multipart::Multipart;

/// What the Sink accepted and libzmq did not take yet, and what libzmq refused.
///
/// One message, since a Sink is not ready before it is empty. Only several tasks that were all told "ready" before any
/// of them sent can make it more, and none of theirs is lost.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    held: RefCell<VecDeque<Multipart>>,
    refused: RefCell<VecDeque<Multipart>>,
}

impl Outbox {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.borrow().is_empty()
    }

    /// True if it holds one with the same first frame, which names the peer, or the topic.
    pub(crate) fn holds_for_peer_of(&self, message: &Multipart) -> bool {
        let peer = message.first().map(|frame| &frame[..]);
        self.held.borrow().iter().any(|held| held.first().map(|frame| &frame[..]) == peer)
    }

    pub(crate) fn push(&self, message: Multipart) {
        self.held.borrow_mut().push_back(message);
    }

    pub(crate) fn pop(&self) -> Option<Multipart> {
        self.held.borrow_mut().pop_front()
    }

    /// Undoes a [`pop`](Self::pop).
    pub(crate) fn put_back(&self, message: Multipart) {
        self.held.borrow_mut().push_front(message);
    }

    pub(crate) fn refuse(&self, message: Multipart) {
        self.refused.borrow_mut().push_back(message);
    }

    /// The Sink is given another message: what was refused before is nobody's business any more.
    #[inline]
    pub(crate) fn forget_refused(&self) {
        if !self.refused.borrow().is_empty() {
            self.refused.borrow_mut().clear();
        }
    }

    pub(crate) fn take(&self) -> Option<Multipart> {
        let refused = self.refused.borrow_mut().pop_front();
        refused.or_else(|| self.pop())
    }
}
