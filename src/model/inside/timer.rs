//! What the model sees of timer.rs.

use super::{Deadline, Timers};
use crate::clock;
use crate::model::past;

impl Timers {
    /// What the source does when the loop sets it: see `TimerSource::register`.
    pub(crate) fn arm(&self) {
        self.armed.set(self.next());
    }

    /// When calloop's timer goes off.
    pub(crate) fn armed(&self) -> Option<std::time::Instant> {
        self.armed.get()
    }

    /// What the source does when calloop's timer goes off: see `TimerSource::process_events`.
    pub(crate) fn fire(&self) {
        let due = self.due(clock::now());
        self.armed.set(self.next());
        drop(due);
    }

    pub(crate) fn print(&self, out: &mut Vec<u8>) {
        out.extend(self.armed.get().map_or([0, 0], past));
        for Deadline(at, _) in self.deadlines.borrow().keys() {
            out.extend(past(*at));
        }
        out.push(u8::MAX);
    }
}
