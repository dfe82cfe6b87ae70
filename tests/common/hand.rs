//! Polling by hand: a waker that counts, and tells who still keeps it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Polls one future after the other with the same waker.
pub(crate) struct Hand {
    count: Arc<Count>,
    waker: Waker,
}

#[derive(Default)]
struct Count {
    wakes: AtomicU64,
    /// How many there were at the last poll.
    polled_at: AtomicU64,
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }
}

impl Hand {
    pub(crate) fn new() -> Self {
        let count = Arc::new(Count::default());
        Self { waker: Arc::clone(&count).into(), count }
    }

    pub(crate) fn poll<F: Future + Unpin + ?Sized>(&self, future: &mut F) -> Poll<F::Output> {
        self.count.polled_at.store(self.wakes(), Ordering::Relaxed);
        Pin::new(future).poll(&mut Context::from_waker(&self.waker))
    }

    pub(crate) fn wakes(&self) -> u64 {
        self.count.wakes.load(Ordering::Relaxed)
    }

    /// Whether it was woken since its last poll.
    pub(crate) fn is_woken(&self) -> bool {
        self.wakes() != self.count.polled_at.load(Ordering::Relaxed)
    }

    /// How many clones of the waker somebody keeps.
    pub(crate) fn held(&self) -> usize {
        Arc::strong_count(&self.count) - 2
    }
}
