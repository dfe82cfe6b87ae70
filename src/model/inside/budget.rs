//! What the model sees of budget.rs.

use super::{Budget, Turn};

impl Budget {
    /// What is left of a number that the user set: all of it, or so much.
    pub(crate) fn print(&self, turn: &Turn, out: &mut Vec<u8>) {
        let messages = self.messages.get().expect("time would decide, and tell each run another");
        let this_turn = self.turn.get() == turn.number();
        out.extend([&self.read, &self.write].map(|spent| {
            let spent = if this_turn { spent.messages.get() } else { 0 };
            // Nobody gets to the end of a large one.
            if messages.get() >= LARGE { 0 } else { u8::try_from(spent.min(messages.get())).unwrap_or(u8::MAX) }
        }));
    }
}

pub(crate) const LARGE: usize = 1_000;
