//! What the model sees of settling.rs.

use super::{Phase, Settling};
use crate::model::past;

impl Settling {
    pub(crate) fn print(&self, out: &mut Vec<u8>) {
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
        out.extend(self.called_at.get().map_or([0, 0], past));
        // From the fourth on, it makes no difference.
        out.push(self.in_vain.get().min(4) as u8);
    }
}
