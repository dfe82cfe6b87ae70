//! What the model sees of readiness.rs.

use std::task::Waker;

use super::{Line, Readiness, WriteOrder};
use crate::model::socket::{flags, small};

impl Readiness {
    /// Everything that can make a difference from now on. `name` knows the wakers.
    pub(crate) fn print(&self, name: &dyn Fn(&Waker) -> u8, out: &mut Vec<u8>) {
        for waiters in [&self.read, &self.write] {
            out.extend([waiters.slot.as_ref().map_or(0, name), flags([waiters.slot_called])]);
            waiters.line.print(name, out);
        }
        self.bystanders.print(name, out);
        out.push(flags([self.write_order == WriteOrder::PerMessage]));
    }

    /// True if a line keeps this waker. A slot may: nobody tells it that it is not polled again.
    pub(crate) fn keeps_in_line(&self, waker: &Waker) -> bool {
        [&self.read.line, &self.write.line, &self.bystanders].into_iter().any(|line| {
            line.entries.iter().any(|(_, entry)| entry.waker.as_ref().is_some_and(|held| held.will_wake(waker)))
        })
    }

    /// How many stand in the lines.
    pub(crate) fn in_lines(&self) -> usize {
        [&self.read.line, &self.write.line, &self.bystanders].map(|line| line.entries.len()).iter().sum()
    }
}

impl Line {
    fn print(&self, name: &dyn Fn(&Waker) -> u8, out: &mut Vec<u8>) {
        out.extend([small(self.entries.len()), small(self.waiting)]);
        let mut next = self.first;
        while let Some(key) = next {
            let entry = &self.entries[key];
            out.push(entry.waker.as_ref().map_or(0, name));
            next = entry.behind;
        }
    }
}
