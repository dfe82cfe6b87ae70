//! What the model sees of line.rs.

use std::task::Waker;

use super::Line;
use crate::model::socket::small;

impl Line {
    pub(crate) fn print(&self, name: &dyn Fn(&Waker) -> u8, out: &mut Vec<u8>) {
        out.extend([small(self.entries.len()), small(self.waiting)]);
        let mut next = self.first;
        while let Some(key) = next {
            let entry = &self.entries[key];
            out.push(entry.waker.as_ref().map_or(0, name));
            next = entry.behind;
        }
    }

    pub(crate) fn keeps(&self, waker: &Waker) -> bool {
        self.entries.iter().any(|(_, entry)| entry.waker.as_ref().is_some_and(|held| held.will_wake(waker)))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
