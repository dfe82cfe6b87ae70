//! The workloads, by what they press on.

mod cancels;
mod ends;
mod one_way;
mod routers;
mod threads;
mod two_ways;
mod waiters;

use std::time::Duration;

use super::executor::Kind;
use super::executor::Kind::{AtOnce, Calloop, Tasks};
use super::rig::Rig;

/// What is done, and what it may cost.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) play: fn(&mut Rig),
    pub(super) executors: &'static [Kind],
    /// Turns of the loop for a hundred messages, at most.
    pub(super) most_turns: u64,
    /// Its messages are dear: it has one for so many of the others.
    pub(super) dear: u64,
    /// Nothing happens by itself in it, and no later turn finds what the one before did not.
    pub(super) strict: bool,
    /// What it presses on is no wait.
    pub(super) hardly_parks: bool,
    /// So long without progress, though the peers did all they could, is a stall where one is expected.
    pub(super) stall: Duration,
}

const SOON: Duration = Duration::from_millis(150);
/// Longer than the longest wait for quiet.
const SETTLED: Duration = Duration::from_millis(1_500);

const ANY: &[Kind] = &[Calloop, Tasks, AtOnce];

const fn workload(name: &'static str, play: fn(&mut Rig)) -> Workload {
    Workload { name, play, executors: ANY, most_turns: 200, dear: 1, strict: false, hardly_parks: false, stall: SOON }
}

const fn strict(name: &'static str, play: fn(&mut Rig)) -> Workload {
    Workload { strict: true, ..workload(name, play) }
}

pub(super) static ALL: [Workload; 30] = [
    strict("push, hwm 1", one_way::push),
    strict("sink, hwm 1", one_way::sink),
    strict("pull, meddler", one_way::pull_with_meddler),
    strict("pull, lent, meddler", one_way::pull_lent_with_meddler),
    // What it calls in a `before_sleep` behind the hub's, nobody can know before the next turn.
    Workload { most_turns: 400, executors: &[Calloop, Tasks], ..strict("pull, keeper", one_way::pull_with_keeper) },
    Workload { dear: 10, ..strict("pull, late binds", one_way::pull_with_late_binds) },
    Workload { most_turns: 400, ..workload("pull, spoilt batches", one_way::pull_with_spoilt_batches) },
    workload("pull, bursts", one_way::pull_bursts),
    Workload { dear: 40, most_turns: 1200, hardly_parks: true, ..workload("pull, lazy", one_way::lazy_pull) },
    workload("dealer + router, hwm 2", two_ways::dealer_and_router),
    strict("dealer, hwm 2", two_ways::dealer),
    strict("dealer, meddler", two_ways::dealer_with_meddler),
    strict("dealer, failing receives", two_ways::failing_receives),
    strict("dealer, failing sends", two_ways::failing_sends),
    strict("dealer, for nothing", two_ways::polled_for_nothing),
    workload("dealer, roomy", two_ways::roomy_dealer),
    strict("readers, cancelled", cancels::readers),
    strict("senders, cancelled", cancels::senders),
    strict("three kinds of waiters", waiters::three_kinds),
    Workload { most_turns: 60, executors: &[Calloop, Tasks], ..workload("readers, one each", waiters::one_each) },
    strict("two streams", waiters::two_streams),
    strict("wait handed over", waiters::handed_over),
    Workload {
        executors: &[Calloop],
        hardly_parks: true,
        ..strict("polled by its waker", waiters::polled_by_its_waker)
    },
    workload("router, 4 peers", routers::four_peers),
    Workload { dear: 20, most_turns: 1200, stall: SETTLED, ..workload("router, 2 senders", routers::two_senders) },
    Workload { most_turns: 400, ..workload("router, one task", routers::one_task) },
    Workload { dear: 20, most_turns: 1200, ..workload("router, peers go", routers::peers_go) },
    Workload { dear: 2, most_turns: 400, hardly_parks: true, ..workload("shutdown", ends::shutdown) },
    workload("push to a thread", threads::push),
    workload("dealer to a thread", threads::dealer),
];
