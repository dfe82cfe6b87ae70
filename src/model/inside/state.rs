//! What the model sees of state.rs.

use std::task::Waker;

use super::*;
use crate::model::socket::flags;

impl State {
    /// Everything that can make a difference from now on. `name` knows the wakers.
    pub(crate) fn print(&self, name: &dyn Fn(&Waker) -> u8, out: &mut Vec<u8>) {
        self.readiness.borrow().print(name, out);
        let due = self.due.get();
        out.push(flags([
            self.owes.get(),
            self.touched.get(),
            due.readable,
            due.writable,
            self.lent_at.get() != 0,
            self.registration.is_over(),
        ]));
        out.push(match self.ended.get() {
            None => 0,
            Some(Ended::Terminated) => 1,
            Some(Ended::LoopGone) => 2,
        });
        self.budget.print(self.hub.turn(), out);
        self.settling.print(out);
        out.extend(self.alarm.get().map_or([0, 0], crate::model::past));
    }

    /// True if the loop watches the descriptor.
    pub(crate) fn is_watched(&self) -> bool {
        !self.registration.is_over()
    }

    /// True if senders that wait for their peers are to be called when it is quiet.
    pub(crate) fn has_to_come_back(&self) -> bool {
        self.readiness.borrow().senders_settle() && self.settling.is_due()
    }

    pub(crate) fn is_borrowed(&self) -> bool {
        self.readiness.try_borrow_mut().is_err()
    }

    pub(crate) fn keeps_in_line(&self, waker: &Waker) -> bool {
        self.readiness.borrow().keeps_in_line(waker)
    }

    pub(crate) fn in_lines(&self) -> usize {
        self.readiness.borrow().in_lines()
    }
}
