//! A last look, once a socket is quiet, where senders wait for their peers. Pure, as readiness.rs.
//!
//! Where `POLLOUT` says nothing (ROUTER, STREAM, XPUB without drops) a parked sender finds out by trying, and its try
//! may process commands: those that another sender, or the reader, was waiting for. Calling each other would never end.
//! Whether a try processed any cannot be seen, but it can be known: libzmq's sends do so only when the last one that
//! did is 3 million clock ticks ago, which is 0.6 to 3 milliseconds. So after a failed try that others wait beside, the
//! senders are called once more when nobody has tried for [`QUIET`]. The first of them to try then processes what there
//! is, for certain, and looks for everyone else; those who try within [`WINDOW`] of it process nothing, for certain, and
//! have seen all that it brought. Whatever comes later announces itself.

use std::cell::Cell;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Settling {
    phase: Cell<Phase>,
    /// Counts the tries, to see whether it was quiet.
    tries: Cell<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nobody was harmed since the last time.
    #[default]
    Settled,
    /// The senders are to be called at this time, if nobody tried by then.
    Due { at: Instant, tries: u64 },
    /// They are called. The first of them has not tried yet.
    Called,
    /// The first of them tried at this time.
    Tried { at: Instant },
}

/// What is to be done before the loop sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Nothing,
    /// Come back at this time.
    Wait(Instant),
    CallSenders,
}

impl Settling {
    #[inline]
    pub(crate) fn tried(&self) {
        self.tries.set(self.tries.get() + 1);
    }

    /// True if a try that failed just now has processed no commands, and needs no second one.
    pub(crate) fn in_window(&self, now: Instant) -> bool {
        matches!(self.phase.get(), Phase::Tried { at } if now.saturating_duration_since(at) < WINDOW)
    }

    /// A try failed and may have harmed others. Answers whether somebody has to come back for them.
    pub(crate) fn failed(&self, others_wait: bool, now: Instant) -> bool {
        match self.phase.get() {
            Phase::Called => self.phase.set(Phase::Tried { at: now }),
            _ if others_wait => self.come_back(now + QUIET),
            _ => {}
        }
        self.is_due()
    }

    /// True if somebody has to come back.
    pub(crate) fn is_due(&self) -> bool {
        matches!(self.phase.get(), Phase::Due { .. })
    }

    /// Libzmq may be called behind our back: come back now and then.
    pub(crate) fn lent(&self, now: Instant) {
        if !self.is_due() {
            self.come_back(now + WHILE_LENT);
        }
    }

    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        match self.phase.get() {
            Phase::Due { tries, .. } if tries != self.tries.get() => {
                self.come_back(now + QUIET);
                Verdict::Wait(now + QUIET)
            }
            Phase::Due { at, .. } if now < at => Verdict::Wait(at),
            Phase::Due { .. } => Verdict::CallSenders,
            _ => Verdict::Nothing,
        }
    }

    /// The senders are being called, for whatever reason: one that is due is not called twice.
    pub(crate) fn called(&self, now: Instant) {
        if self.verdict(now) == Verdict::CallSenders {
            self.phase.set(Phase::Called);
        }
    }

    fn come_back(&self, at: Instant) {
        self.phase.set(Phase::Due { at, tries: self.tries.get() });
    }
}

/// Longer than 3 million ticks of any clock in use.
const QUIET: Duration = Duration::from_millis(5);
/// Shorter than 3 million ticks of any clock in use.
const WINDOW: Duration = Duration::from_micros(500);
/// How often parked senders are called while the bare socket is lent out.
const WHILE_LENT: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_micros(100);

    #[test]
    fn a_lone_sender_settles_at_once() {
        let (settling, now) = (Settling::default(), Instant::now());
        settling.tried();
        assert!(!settling.failed(false, now));
        assert_eq!(settling.verdict(now + QUIET), Verdict::Nothing);
    }

    #[test]
    fn senders_are_called_once_it_was_quiet_and_then_settle() {
        let (settling, now) = (Settling::default(), Instant::now());
        settling.tried();
        assert!(settling.failed(true, now));
        assert_eq!(settling.verdict(now + TICK), Verdict::Wait(now + QUIET));

        let then = now + QUIET;
        assert_eq!(settling.verdict(then), Verdict::CallSenders);
        settling.called(then);
        settling.tried();
        assert!(!settling.in_window(then), "the first to try looks for everyone");
        assert!(!settling.failed(true, then));
        settling.tried();
        assert!(settling.in_window(then + TICK), "the next has nothing to look for");
        assert_eq!(settling.verdict(then + QUIET), Verdict::Nothing);
    }

    #[test]
    fn tries_in_the_meantime_put_it_off() {
        let (settling, now) = (Settling::default(), Instant::now());
        assert!(settling.failed(true, now));
        settling.tried();
        let then = now + QUIET;
        assert_eq!(settling.verdict(then), Verdict::Wait(then + QUIET));
        assert_eq!(settling.verdict(then + QUIET), Verdict::CallSenders);
    }

    #[test]
    fn a_try_after_the_window_starts_over() {
        let (settling, now) = (Settling::default(), Instant::now());
        assert!(settling.failed(true, now));
        settling.called(now + QUIET);
        assert!(!settling.failed(true, now + QUIET));
        let late = now + QUIET + WINDOW;
        assert!(!settling.in_window(late));
        assert!(settling.failed(true, late));
    }

    #[test]
    fn a_lent_socket_is_come_back_to() {
        let (settling, now) = (Settling::default(), Instant::now());
        settling.lent(now);
        settling.lent(now + TICK);
        assert_eq!(settling.verdict(now + TICK), Verdict::Wait(now + WHILE_LENT));
        assert_eq!(settling.verdict(now + WHILE_LENT), Verdict::CallSenders);
    }
}
