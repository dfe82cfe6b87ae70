//! Long random interleavings, where there are too many to follow all: more waiters, and everything that may happen.
//!
//! A walk that fails is shortened for as long as what is left of it fails, and then written down.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::explore::{Failure, explain};
use super::setup::{Op, Setup};
use super::world::World;
use crate::seeded::{Bug, Seeded};

/// Random numbers that can be had again (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let end = u64::try_from(end).expect("a small number");
        usize::try_from((mixed ^ (mixed >> 31)) % end).expect("less than it")
    }
}

/// Goes `steps` steps, and rests now and then. Answers how many operations were done.
pub(crate) fn walk(setup: &'static Setup, seed: u64, steps: usize, bug: Option<Bug>) -> Result<u64, Failure> {
    let _seeded = Seeded::new(bug, None);
    let (all, mut random, mut path) = (setup.ops(), Random(seed), Vec::new());
    let world = World::new(setup, false);
    let walked = catch_unwind(AssertUnwindSafe(|| {
        while path.len() < steps && world.violation().is_none() {
            let possible: Vec<Op> = all.iter().copied().filter(|op| world.can(*op)).collect();
            let Some(op) = possible.get(random.below(possible.len().max(1))) else { break };
            path.push(*op);
            world.apply(*op);
            if random.below(REST_EVERY) == 0 {
                path.push(Op::Rest);
                world.rest();
            }
        }
        path.push(Op::Rest);
        world.rest();
    }));
    let fails = walked.is_err() || world.violation().is_some();
    let done = world.completions();
    world.end();
    if !fails {
        return Ok(done);
    }
    let path = shorten(setup, path);
    let what = fails_with(setup, &path).unwrap_or_else(|| "it does not fail again".into());
    Err(explain(setup, path, what))
}

/// Leaves out what is not needed for the failure: the end first, and then each step.
fn shorten(setup: &'static Setup, mut path: Vec<Op>) -> Vec<Op> {
    let mut part = path.len() / 2;
    while part > 0 {
        let mut at = path.len();
        while at >= part {
            let mut less = path.clone();
            less.drain(at - part..at);
            if fails_with(setup, &less).is_some() {
                path = less;
            }
            at = at.min(path.len() + part).saturating_sub(part);
        }
        part /= 2;
    }
    path
}

fn fails_with(setup: &'static Setup, path: &[Op]) -> Option<String> {
    let world = World::new(setup, false);
    let played = catch_unwind(AssertUnwindSafe(|| {
        for op in path {
            if *op == Op::Rest {
                world.rest();
            } else if world.can(*op) {
                world.apply(*op);
            }
        }
    }));
    let what = world.violation().or_else(|| played.is_err().then(|| "a panic".into()));
    world.end();
    what
}

const REST_EVERY: usize = 40;
