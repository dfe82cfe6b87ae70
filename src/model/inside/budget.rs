//! What the model sees of budget.rs.

use super::{Budget, Turn};

impl Budget {
    /// What is left of a number that the user set: all of it, or so much.
    pub(crate) fn print(&self, turn: &Turn, out: &mut Vec<u8>) {
        let messages = self.messages.get().expect("time would decide, and tell each run another");
        let this_turn = self.turn.get() == turn.number.get();
        out.extend([&self.read, &self.write].map(|spent| {
            let (taken, asked) = if this_turn { (spent.messages.get(), spent.asked.get()) } else { (0, false) };
            // Nobody gets to the end of a large one.
            let known = u8::try_from(taken.min(messages.get())).unwrap_or(ASKED - 1).min(ASKED - 1);
            if messages.get() >= LARGE { 0 } else { known | if asked { ASKED } else { 0 } }
        }));
    }
}

const ASKED: u8 = 0x80;

pub(crate) const LARGE: usize = 1_000;
