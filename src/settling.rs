//! A last look, once a socket is quiet, where senders wait for their peers. Pure, as readiness.rs.
//!
//! Where `POLLOUT` says nothing (ROUTER, STREAM, XPUB and PUB without drops) a parked sender finds out by trying, and
//! its try may process commands: those that another sender, or the reader, was waiting for. Calling each other would
//! never end.
//! Whether a try processed any cannot be seen, but it can be known: libzmq's sends do so only when the last one that
//! did is 3 million clock ticks ago, which is 0.6 to 3 milliseconds. So after a failed try that others wait beside, the
//! senders are called once more when nobody has tried for [`QUIET`]. The first of them to try then processes what there
//! is, for certain, and the first to fail looks for everyone else; those who try within [`WINDOW`] of the first process
//! nothing, for certain, and have seen all that it brought. Whatever comes later announces itself.
//!
//! A receive that fails processes commands, too: all there are. The senders are called at once then; but if they were a
//! moment ago, and nothing has happened since, only when it is quiet: one of them may be in the task that receives, and
//! each call have it receive again.
//!
//! If it never gets quiet, they are called all the same, now and then. If they take longer than the window, there is
//! nothing for certain, and they are called again, at ever longer intervals until something happens.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::clock;
use crate::seeded::{Bug, seeded};

#[derive(Debug, Default)]
pub(crate) struct Settling {
    phase: Cell<Phase>,
    /// Counts the tries, to see whether it was quiet.
    tries: Cell<u64>,
    /// How often the senders were called in vain since something happened.
    in_vain: Cell<u32>,
    /// When they were called last without being told of anything, if nothing has happened since.
    called_at: Cell<Option<Instant>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nobody was harmed since the last time.
    #[default]
    Settled,
    /// The senders are to be called when nobody has tried for a while, and at `latest` in any case. As of `since`, there
    /// had been so many tries.
    Due { since: Instant, latest: Instant, tries: u64 },
    /// They are called. Nobody has tried yet.
    Called,
    /// The first of them tries, at this time. Nobody has failed yet.
    Trying { first: Instant },
    /// One failed, and looked for the others.
    Tried { first: Instant },
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
    /// Somebody tries to send.
    #[inline]
    pub(crate) fn tries(&self) {
        self.tries.set(self.tries.get() + 1);
        if self.phase.get() == Phase::Called {
            self.phase.set(Phase::Trying { first: clock::now() });
        }
    }

    /// True if a try that failed just now has processed no commands, and needs no second one.
    pub(crate) fn in_window(&self, now: Instant) -> bool {
        matches!(self.phase.get(), Phase::Tried { first } if in_window(first, now))
    }

    /// A try failed and may have harmed others. Answers whether somebody has to come back for them.
    pub(crate) fn failed(&self, others_wait: bool, now: Instant) -> bool {
        match self.phase.get() {
            Phase::Trying { first } if in_window(first, now) => self.phase.set(Phase::Tried { first }),
            Phase::Due { latest, .. } => self.wait(now, latest),
            _ if others_wait => self.wait(now, self.latest(now)),
            _ => {}
        }
        self.is_due()
    }

    /// Something happened: whoever is harmed from now on is looked after soon.
    pub(crate) fn happened(&self) {
        self.in_vain.set(0);
        self.called_at.set(None);
    }

    /// A receive failed, and may have processed what a sender waits for. True if they are to be called at once, else
    /// somebody has to come back.
    pub(crate) fn receive_failed(&self, now: Instant) -> bool {
        let lately = self.called_at.get().is_some_and(|at| now < at + QUIET);
        if lately && !seeded(Bug::FailedReceiveAlwaysCalls) {
            self.disturbed(now);
            return false;
        }
        self.called_at.set(Some(now));
        true
    }

    /// True if somebody has to come back.
    pub(crate) fn is_due(&self) -> bool {
        matches!(self.phase.get(), Phase::Due { .. })
    }

    /// Commands are processed without a try, or may be, behind our back: come back now and then.
    pub(crate) fn disturbed(&self, now: Instant) {
        if !self.is_due() {
            self.wait(now, self.latest(now));
        }
    }

    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        let Phase::Due { mut since, latest, tries } = self.phase.get() else { return Verdict::Nothing };
        if tries != self.tries.get() && now < latest {
            since = now;
            self.wait(now, latest);
        }
        let at = latest.min(since + self.patience());
        if now < at { Verdict::Wait(at) } else { Verdict::CallSenders }
    }

    /// The senders are being called, for whatever reason: one that is due is not called twice.
    pub(crate) fn called(&self, now: Instant) {
        if self.verdict(now) != Verdict::CallSenders {
            return;
        }
        self.called_at.set(Some(now));
        match self.phase.get() {
            Phase::Due { since, tries, .. } if tries == self.tries.get() && since + QUIET <= now => {
                self.in_vain.set(self.in_vain.get().saturating_add(1));
                self.phase.set(Phase::Called);
            }
            // It was not quiet: this is a try for each, and nothing is certain.
            _ => self.wait(now, self.latest(now)),
        }
    }

    fn wait(&self, since: Instant, latest: Instant) {
        self.phase.set(Phase::Due { since, latest, tries: self.tries.get() });
    }

    fn latest(&self, now: Instant) -> Instant {
        now + LATEST.max(self.patience())
    }

    /// How long to wait for quiet: four times as long each time that it was in vain.
    fn patience(&self) -> Duration {
        QUIET.saturating_mul(4_u32.saturating_pow(self.in_vain.get())).min(PATIENCE)
    }
}

fn in_window(first: Instant, now: Instant) -> bool {
    now.saturating_duration_since(first) < WINDOW || seeded(Bug::EndlessWindow)
}

/// Longer than 3 million ticks of any clock in use.
const QUIET: Duration = Duration::from_millis(5);
/// Shorter than 3 million ticks of any clock in use.
const WINDOW: Duration = Duration::from_micros(500);
/// Senders are called after this time though it is not quiet.
const LATEST: Duration = Duration::from_millis(50);
/// The longest wait for quiet.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
#[path = "model/inside/settling.rs"]
pub(crate) mod inside;

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_micros(100);

    #[test]
    fn a_lone_sender_settles_at_once() {
        let (settling, now) = (Settling::default(), Instant::now());
        settling.tries();
        assert!(!settling.failed(false, now));
        assert_eq!(settling.verdict(now + QUIET), Verdict::Nothing);
    }

    #[test]
    fn senders_are_called_once_it_was_quiet_and_then_settle() {
        let (settling, now) = (Settling::default(), Instant::now());
        settling.tries();
        assert!(settling.failed(true, now));
        assert_eq!(settling.verdict(now + TICK), Verdict::Wait(now + QUIET));
        assert_eq!(settling.verdict(now + QUIET), Verdict::CallSenders);
        settling.called(now + QUIET);
        settling.tries();
        let then = Instant::now();
        assert!(!settling.in_window(then), "the first to fail looks for everyone");
        assert!(!settling.failed(true, then));
        settling.tries();
        assert!(settling.in_window(then), "the next has nothing to look for");
        assert_eq!(settling.verdict(then + PATIENCE), Verdict::Nothing);
    }

    #[test]
    fn the_window_begins_with_the_first_try_even_if_that_one_can_send() {
        let (settling, now) = (Settling::default(), Instant::now());
        assert!(settling.failed(true, now));
        settling.called(now + QUIET);
        settling.tries();
        let late = Instant::now() + WINDOW;
        settling.tries();
        assert!(settling.failed(true, late), "too long after the first");
    }

    #[test]
    fn tries_in_the_meantime_put_it_off_but_not_for_ever() {
        let (settling, now) = (Settling::default(), Instant::now());
        assert!(settling.failed(true, now));
        settling.tries();
        let then = now + QUIET;
        assert_eq!(settling.verdict(then), Verdict::Wait(then + QUIET));
        settling.tries();
        assert_eq!(settling.verdict(now + LATEST), Verdict::CallSenders);
        settling.called(now + LATEST);
        assert!(settling.is_due(), "nothing is certain yet");
    }

    #[test]
    fn failures_in_the_meantime_do_not_put_off_the_latest() {
        let (settling, now) = (Settling::default(), Instant::now());
        for failure in 0..10 {
            settling.tries();
            assert!(settling.failed(true, now + failure * QUIET));
        }
        settling.tries();
        assert_eq!(settling.verdict(now + LATEST), Verdict::CallSenders);
    }

    #[test]
    fn called_at_the_latest_but_not_in_quiet_nothing_is_certain() {
        let (settling, now) = (Settling::default(), Instant::now());
        assert!(settling.failed(true, now));
        settling.tries();
        assert_eq!(settling.verdict(now + 9 * QUIET + TICK), Verdict::Wait(now + LATEST));
        assert_eq!(settling.verdict(now + LATEST), Verdict::CallSenders);
        settling.called(now + LATEST);
        assert!(settling.is_due());
    }

    #[test]
    fn calls_in_vain_come_ever_later_until_something_happens() {
        let (settling, mut now) = (Settling::default(), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..6 {
            assert!(settling.failed(true, now));
            let Verdict::Wait(at) = settling.verdict(now) else { panic!("it is due at once") };
            waits.push((at - now).as_millis());
            now = at;
            settling.called(now);
            // Whoever tries does so too late.
            settling.tries();
            now += WINDOW + PATIENCE;
        }
        assert_eq!(waits, [5, 20, 80, 320, 1000, 1000]);
        settling.happened();
        assert!(settling.failed(true, now));
        assert_eq!(settling.verdict(now), Verdict::Wait(now + QUIET));
    }

    #[test]
    fn failed_receives_call_the_senders_at_once_but_not_again_and_again() {
        let (settling, now) = (Settling::default(), Instant::now());
        assert!(settling.receive_failed(now));
        assert!(!settling.is_due());
        assert!(!settling.receive_failed(now + TICK));
        assert_eq!(settling.verdict(now + TICK), Verdict::Wait(now + TICK + QUIET), "they are come back to");
        assert!(settling.receive_failed(now + QUIET));
        settling.happened();
        assert!(settling.receive_failed(now + QUIET), "an event was not for them alone");
        let then = now + TICK + 2 * QUIET;
        settling.called(then);
        assert!(!settling.receive_failed(then), "they were called when it was quiet");
    }

    #[test]
    fn a_lent_socket_is_come_back_to() {
        let (settling, now) = (Settling::default(), Instant::now());
        settling.disturbed(now);
        settling.disturbed(now + TICK);
        assert_eq!(settling.verdict(now + TICK), Verdict::Wait(now + QUIET));
        assert_eq!(settling.verdict(now + QUIET), Verdict::CallSenders);
    }
}
