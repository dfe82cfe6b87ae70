//! Waking, when nothing is borrowed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

use smallvec::SmallVec;

use crate::trace::Side;

/// Wakers to wake as soon as nothing is borrowed. Dropping it wakes them.
///
/// A waker that is not needed any more is in here too: the last one of a task owns it, and may drop anything.
#[must_use = "bind it, so that it wakes after the borrow it came from has ended"]
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    called: SmallVec<[(Waker, Side); 2]>,
    unneeded: Option<Waker>,
}

impl Wakes {
    /// Will wake this one.
    pub(crate) fn add(&mut self, side: Side, called: Option<Waker>) {
        self.called.extend(called.map(|waker| (waker, side)));
    }

    /// Will drop this one, which is not needed any more.
    pub(crate) fn release(&mut self, unneeded: Option<Waker>) {
        self.unneeded = unneeded;
    }

    /// Wakes nobody.
    pub(crate) fn forget(mut self) {
        self.called.clear();
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.called.append(&mut others.called);
    }
}

impl FromIterator<Waker> for Wakes {
    fn from_iter<I: IntoIterator<Item = Waker>>(wakers: I) -> Self {
        Self { called: wakers.into_iter().map(|waker| (waker, Side::default())).collect(), unneeded: None }
    }
}

impl Drop for Wakes {
    #[inline]
    fn drop(&mut self) {
        // Nearly always there is nobody.
        if !self.called.is_empty() {
            wake_all(&mut self.called);
        }
    }
}

#[cold]
fn wake_all(called: &mut SmallVec<[(Waker, Side); 2]>) {
    for (waker, side) in called.drain(..) {
        side.woken();
        // A waker that panics is reported by the panic hook. It must not keep the others from being woken, nor end the
        // dispatch that we are in: calloop drops the rest of the batch then.
        drop(catch_unwind(AssertUnwindSafe(|| waker.wake())));
    }
}
