//! What the model sees of readiness.rs.

use std::task::Waker;

use super::{Line, Readiness, WriteOrder};
use crate::model::socket::flags;

impl Readiness {
    /// Everything that can make a difference from now on. `name` knows the wakers.
    pub(crate) fn print(&self, name: &dyn Fn(&Waker) -> u8, out: &mut Vec<u8>) {
        for waiters in [&self.read, &self.write] {
            let slot = waiters.slot.as_ref().map_or(0, name);
            out.extend([slot, flags([waiters.slot_called, waiters.slot_held_up])]);
            waiters.line.print(name, out);
        }
        self.bystanders.print(name, out);
        out.push(flags([self.write_order == WriteOrder::PerMessage]));
    }

    /// True if a line keeps this waker. A slot may: nobody tells it that it is not polled again.
    pub(crate) fn keeps_in_line(&self, waker: &Waker) -> bool {
        [&self.read.line, &self.write.line, &self.bystanders].into_iter().any(|line| line.keeps(waker))
    }

    /// How many stand in the lines.
    pub(crate) fn in_lines(&self) -> usize {
        [&self.read.line, &self.write.line, &self.bystanders].map(Line::len).iter().sum()
    }
}
