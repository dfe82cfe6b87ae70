//! Bugs that the tests of this crate can switch on, to see that the stress finds each: see `stress`.
//!
//! A test that cannot fail proves nothing. So where one of the rules that keep a waiter from sleeping for ever is carried
//! out, a switch leaves it out: `seeded(Bug::X)` is true in a unit test that asked for that bug, and on its thread alone.
//! In every other build it is the constant `false`, and what hangs on it is not compiled.
//!
//! In the same way, [`pass`] is a place where a test may let something happen, and nothing at all elsewhere.

/// A rule that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Bug {
    /// A failed receive does not look for writers, nor a failed send for readers.
    NoCrossLook,
    /// A successful operation owes nobody a look.
    SuccessOwesNothing,
    /// Nor does anything else: nobody looks before the loop sleeps.
    NoLookBeforeSleep,
    /// The two directions share one waker.
    OneWakerForBoth,
    /// A send that says EAGAIN is believed, and `ZMQ_EVENTS` not read.
    NoLookAfterFailedSend,
    /// It is read, and the send is not tried again.
    NoSecondTry,
    /// It is read once more after the second try: what that swallows, nobody is told.
    OneLookTooMany,
    /// A receive waits before it has tried.
    OneReceivePerEvent,
    /// A dropped future stays in the line.
    WakerKeptAfterCancel,
    /// A dropped future that had been called calls nobody in its place.
    BatonLostOnCancel,
    /// Who took a message does not call the next.
    BatonLostOnSuccess,
    /// A future that is polled by another task goes on waking the first.
    OldWakerKept,
    /// A slot that is taken over wakes nobody.
    ReplacedWakerNotWoken,
    /// The slot is called instead of the line, not along with it.
    SlotInsteadOfLine,
    /// A newcomer tries though others wait.
    NewcomerOvertakes,
    /// Wakers are woken while the waiters are borrowed.
    WakeUnderBorrow,
    /// Others are woken before the one who found them has parked.
    WakeBeforePark,
    /// Paying a debt clears what was touched since the look.
    TouchedClearedTooEarly,
    /// What the look found is not kept for the turn after a batch that was lost.
    DebtClearedBeforeSleep,
    /// Who used its budget up is not called at the next turn.
    YieldForgotten,
    /// The hub does not ping a loop that it believes asleep.
    NoNudge,
    /// A call that changes endpoints owes nobody a look.
    EndpointCallOwesNothing,
    /// The bare socket is lent out and not watched.
    LoanForgotten,
    /// An event does not read `ZMQ_EVENTS` when nobody waits.
    EventUnread,
    /// An event is for readers.
    EventForReadersOnly,
    /// The end wakes those who receive.
    EndForReadersOnly,
    /// Of writers that wait for their peers, an event calls the first.
    OnlyFirstWriterCalled,
    /// Nor are they called at all unless `POLLOUT` says so.
    PolloutBelieved,
    /// What `POLLOUT` says of them is taken for certain.
    PolloutCertain,
    /// Such a writer waits behind the others.
    HeadOfLineBlocks,
    /// Each failed receive calls them.
    FailedReceiveAlwaysCalls,
    /// Nobody comes back for them when it is quiet.
    NeverSettles,
    /// Their tries are taken for harmless long after the first.
    EndlessWindow,
    /// A message that the Sink holds is forgotten when it finds no room.
    OutboxNotPutBack,
    /// A send overtakes what the Sink holds.
    OutboxOvertaken,
}

/// Where a test may let something happen: between one step and the next that must not miss it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Point {
    /// Between a failed attempt and its wait.
    Park,
    /// Between the look before the loop sleeps and the sleep.
    Sleep,
    /// Between the event, or the look, that found somebody ready and the wake.
    Wake,
    /// Between the wake and the attempt.
    Poll,
}

#[cfg(not(test))]
#[inline]
pub(crate) const fn seeded(_: Bug) -> bool {
    false
}

#[cfg(not(test))]
#[inline]
pub(crate) const fn pass(_: Point) {}

#[cfg(test)]
pub(crate) use for_tests::*;

#[cfg(test)]
mod for_tests {
    use std::cell::{Cell, RefCell};

    use super::{Bug, Point};

    impl Bug {
        pub(crate) const ALL: [Self; 35] = [
            Self::NoCrossLook,
            Self::SuccessOwesNothing,
            Self::NoLookBeforeSleep,
            Self::OneWakerForBoth,
            Self::NoLookAfterFailedSend,
            Self::NoSecondTry,
            Self::OneLookTooMany,
            Self::OneReceivePerEvent,
            Self::WakerKeptAfterCancel,
            Self::BatonLostOnCancel,
            Self::BatonLostOnSuccess,
            Self::OldWakerKept,
            Self::ReplacedWakerNotWoken,
            Self::SlotInsteadOfLine,
            Self::NewcomerOvertakes,
            Self::WakeUnderBorrow,
            Self::WakeBeforePark,
            Self::TouchedClearedTooEarly,
            Self::DebtClearedBeforeSleep,
            Self::YieldForgotten,
            Self::NoNudge,
            Self::EndpointCallOwesNothing,
            Self::LoanForgotten,
            Self::EventUnread,
            Self::EventForReadersOnly,
            Self::EndForReadersOnly,
            Self::OnlyFirstWriterCalled,
            Self::PolloutBelieved,
            Self::PolloutCertain,
            Self::HeadOfLineBlocks,
            Self::FailedReceiveAlwaysCalls,
            Self::NeverSettles,
            Self::EndlessWindow,
            Self::OutboxNotPutBack,
            Self::OutboxOvertaken,
        ];
    }

    /// What a test lets happen.
    pub(crate) type Hook = Box<dyn FnMut(Point)>;

    thread_local! {
        static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    pub(crate) fn seeded(bug: Bug) -> bool {
        BUG.get() == Some(bug)
    }

    /// Runs what the test put there.
    pub(crate) fn pass(point: Point) {
        let hook = HOOK.with(|hook| hook.try_borrow_mut().map(|mut hook| hook.take()).ok().flatten());
        if let Some(mut hook) = hook {
            hook(point);
            HOOK.set(Some(hook));
        }
    }

    /// A bug, and what happens at the delicate points, on this thread and until it is dropped.
    #[derive(Debug)]
    pub(crate) struct Seeded(());

    impl Seeded {
        pub(crate) fn new(bug: Option<Bug>, hook: Option<Hook>) -> Self {
            BUG.set(bug);
            HOOK.set(hook);
            Self(())
        }
    }

    impl Drop for Seeded {
        fn drop(&mut self) {
            BUG.set(None);
            HOOK.set(None);
        }
    }

    #[test]
    fn a_bug_is_there_for_whom_it_was_asked_and_no_longer() {
        let asked = Seeded::new(Some(Bug::NoNudge), None);
        for bug in Bug::ALL {
            assert_eq!(seeded(bug), bug == Bug::NoNudge);
        }
        assert!(std::thread::spawn(|| !seeded(Bug::NoNudge)).join().unwrap());
        drop(asked);
        assert!(!seeded(Bug::NoNudge));
    }
}
