//! What the model sees of settling.rs.

use super::{Phase, QUIET, Settling};
use crate::clock;
use crate::model::past;

impl Settling {
    pub(crate) fn print(&self, turn: u64, out: &mut Vec<u8>) {
        match self.phase.get() {
            Phase::Settled => out.push(0),
            Phase::Due { since, latest, tries } => {
                out.extend([1, u8::from(tries == self.tries.get())]);
                out.extend(past(since));
                out.extend(past(latest));
            }
            Phase::Called => out.push(2),
            Phase::Trying { first } => {
                out.push(3);
                out.extend(past(first));
            }
            Phase::Tried { first } => {
                out.push(4);
                out.extend(past(first));
            }
        }
        out.push(u8::from(self.called_in.get() == turn));
        match self.called_at.get() {
            Some(at) if at + QUIET > clock::now() => out.extend(past(at)),
            // It makes no difference any more.
            _ => out.extend([0, 0]),
        }
        out.push(u8::from(self.progress.get()));
        // From the fourth on, it makes no difference.
        out.push(self.in_vain.get().min(4) as u8);
    }
}
