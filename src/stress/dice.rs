//! Random numbers that can be had again.

use std::cell::Cell;
use std::rc::Rc;

/// `SplitMix64`. Clones go on with the same sequence.
#[derive(Clone, Debug)]
pub(super) struct Dice(Rc<Cell<u64>>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed)))
    }

    pub(super) fn next(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let state = self.0.get();
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn one_in(&self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}
