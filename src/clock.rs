//! The clock. Unit tests can stop it, so that what depends on the time can be told beforehand.

#[cfg(not(test))]
pub(crate) use running::now;
#[cfg(test)]
pub(crate) use stoppable::*;

#[cfg(not(test))]
mod running {
    use std::time::Instant;

    #[inline]
    pub(crate) fn now() -> Instant {
        Instant::now()
    }
}

#[cfg(test)]
mod stoppable {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        static STOPPED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    pub(crate) fn now() -> Instant {
        STOPPED_AT.get().unwrap_or_else(Instant::now)
    }

    /// The clock of this thread stands still until this is dropped, but for [`advance`](Self::advance).
    #[derive(Debug)]
    pub(crate) struct Stopped(());

    impl Stopped {
        pub(crate) fn new() -> Self {
            STOPPED_AT.set(Some(Instant::now()));
            Self(())
        }

        #[allow(clippy::unused_self, reason = "only who stopped the clock may set it")]
        pub(crate) fn advance(&self, by: Duration) {
            STOPPED_AT.set(Some(now() + by));
        }
    }

    impl Drop for Stopped {
        fn drop(&mut self) {
            STOPPED_AT.set(None);
        }
    }
}
