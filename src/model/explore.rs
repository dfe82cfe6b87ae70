//! All interleavings of a scene, up to a depth.
//!
//! Breadth first, so that the first that fails is a shortest one. Two interleavings after which everything is the same
//! that can make a difference are followed further once; how many they all are is counted. No state can be copied, so
//! each is reached again from the start.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::setup::{Op, Setup};
use super::world::World;
use crate::seeded::{Bug, Seeded};

/// What was seen.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) states: usize,
    /// Steps that were made from a state to a state.
    pub(crate) steps: usize,
    pub(crate) depth: usize,
    /// How many interleavings of this length there are. All were followed.
    pub(crate) interleavings: f64,
    /// Nothing new was found at this depth: longer ones lead to the same states.
    pub(crate) closed_at: Option<usize>,
    /// Calls to libzmq in the longest run.
    pub(crate) calls: u64,
    /// Steps that were possible in no state.
    pub(crate) never_taken: Vec<Op>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, interleavings, .. } = self;
        write!(
            f,
            "{states} states, {steps} steps between them: all {interleavings:.1e} interleavings of {depth} steps"
        )?;
        match self.closed_at {
            Some(closed_at) => write!(f, ", and of any length: nothing is new after {closed_at}"),
            None => Ok(()),
        }
    }
}

/// The shortest interleaving that fails.
pub(crate) struct Failure {
    pub(crate) path: Vec<Op>,
    pub(crate) what: String,
    log: String,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, what, log } = self;
        writeln!(f, "after {} steps: {what}\n{path:?}\n^ the descriptor is high\n{log}", path.len())
    }
}

struct Node {
    /// The step that led here first, and from where.
    from: usize,
    op: Op,
    depth: usize,
    /// What may come next.
    ops: Vec<Op>,
    next: Vec<usize>,
}

/// Follows all interleavings of the scene. `bug` is left in.
pub(crate) fn explore(setup: &'static Setup, depth: usize, bug: Option<Bug>) -> Result<Report, Failure> {
    let _seeded = Seeded::new(bug, None);
    let all = setup.ops();
    let possible = |world: &World| all.iter().copied().filter(|op| world.can(*op)).collect::<Vec<_>>();
    let root = World::new(setup, false);
    let mut nodes = vec![Node { from: 0, op: Op::Turn, depth: 0, ops: possible(&root), next: Vec::new() }];
    let mut seen = HashMap::from([(root.print(), 0)]);
    root.end();
    let (mut at, mut steps, mut calls) = (0, 0, 0);
    while at < nodes.len() && nodes[at].depth < depth {
        let path = path(&nodes, at);
        for op in nodes[at].ops.clone() {
            let world = play(setup, &path, false);
            let done = catch_unwind(AssertUnwindSafe(|| {
                world.apply(op);
                let print = world.print();
                let found = seen.len();
                let to = *seen.entry(print).or_insert(found);
                if to == found {
                    nodes.push(Node {
                        from: at,
                        op,
                        depth: nodes[at].depth + 1,
                        ops: possible(&world),
                        next: Vec::new(),
                    });
                    // What is left alone comes to rest, from everywhere.
                    world.rest();
                }
                to
            }));
            let what = match (&done, world.violation()) {
                (Err(_), _) => Some("a panic".to_owned()),
                (Ok(_), violation) => violation,
            };
            if let Some(what) = what {
                world.end();
                return Err(explain(setup, path.into_iter().chain([op]).collect(), what));
            }
            calls = calls.max(world.calls());
            world.end();
            steps += 1;
            nodes[at].next.extend(done);
        }
        at += 1;
    }
    let closed_at = (at == nodes.len()).then(|| nodes.last().map_or(0, |last| last.depth));
    let taken = |op: &Op| nodes.iter().any(|node| !node.next.is_empty() && node.ops.contains(op));
    // Who polls at once when it is woken need not be run.
    let never_taken = all.iter().copied().filter(|op| !taken(op) && !matches!(op, Op::Run(_))).collect();
    // Of any length there are infinitely many: a number that can be compared with others.
    let depth = if closed_at.is_some() { COMPARED } else { depth };
    let interleavings = interleavings(&nodes, depth);
    Ok(Report { states: nodes.len(), steps, depth, interleavings, closed_at, calls, never_taken })
}

/// Plays an interleaving from the start.
fn play(setup: &'static Setup, path: &[Op], with_log: bool) -> Rc<World> {
    let world = World::new(setup, with_log);
    for op in path {
        world.apply(*op);
    }
    world
}

fn path(nodes: &[Node], mut at: usize) -> Vec<Op> {
    let mut path = Vec::new();
    while at != 0 {
        path.push(nodes[at].op);
        at = nodes[at].from;
    }
    path.reverse();
    path
}

/// How many ways there are to go `depth` steps from the start.
fn interleavings(nodes: &[Node], depth: usize) -> f64 {
    let mut ways = vec![0.0; nodes.len()];
    ways[0] = 1.0;
    for _ in 0..depth {
        let mut next = vec![0.0; nodes.len()];
        for (node, ways) in nodes.iter().zip(&ways) {
            for to in &node.next {
                next[*to] += ways;
            }
        }
        ways = next;
    }
    ways.iter().sum()
}

/// Plays a failed interleaving again, and writes down what happens.
pub(crate) fn explain(setup: &'static Setup, path: Vec<Op>, what: String) -> Failure {
    let world = World::new(setup, true);
    let played = catch_unwind(AssertUnwindSafe(|| {
        for op in &path {
            world.apply(*op);
        }
        world.rest();
    }));
    drop(played);
    let log = world.log();
    world.end();
    Failure { path, what, log }
}

const COMPARED: usize = 10;
