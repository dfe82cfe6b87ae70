//! Who sent what, who received what, and whether that agrees.
//!
//! A *lane* is what one task sends through one socket, numbered from 0. A number is counted as sent when the send has
//! said `Ok`, and used again when it was cancelled: so a cancelled send that went out after all shows as a double.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use calloop_zmq::zmq::Message;

use crate::parcel::{self, Label};

/// What may happen to a lane's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// Each arrives, at one of the receivers.
    Once,
    /// Each arrives at each of so many receivers.
    Copies(usize),
    /// As [`Once`](Self::Once), or lost by design: with a socket that goes while messages are on their way.
    AtMostOnce,
    /// Each receiver gets its copy, or it is lost by design: by a PUB whose subscriber is full.
    AtMostCopies,
}

impl Terms {
    fn may_lose(self) -> bool {
        matches!(self, Self::AtMostOnce | Self::AtMostCopies)
    }
}

/// All lanes of a run, for both threads.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    loads: BTreeMap<String, Load>,
    lanes: HashMap<u64, Lane>,
    opened: u64,
    /// Lanes whose sender or receiver has gone, and when; a message may still be on its way.
    retired: VecDeque<(Instant, u64)>,
    faults: Vec<String>,
}

/// What came of all lanes of one load.
#[derive(Clone, Default)]
pub(crate) struct Load {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Not received, where that is no fault.
    pub(crate) left_behind: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    pub(crate) torn: u64,
    /// When something last went on.
    pub(crate) progress: Option<Instant>,
}

struct Lane {
    load: String,
    terms: Terms,
    sent: u64,
    /// By receiver where each gets its copy, else one for all.
    tracks: HashMap<u64, Track>,
}

#[derive(Default)]
struct Track {
    /// All below were received, but for those that are missing.
    next: u64,
    missing: BTreeSet<u64>,
    /// How many are missing for so long that they are not remembered.
    forgotten: u64,
    /// The last that each receiver had.
    last: HashMap<u64, u64>,
}

impl Ledger {
    /// Begins a lane, and answers its name.
    pub(crate) fn open(&self, load: &str, terms: Terms) -> u64 {
        let mut books = self.books();
        let lane = books.opened;
        books.opened += 1;
        books.lanes.insert(lane, Lane { load: load.to_owned(), terms, sent: 0, tracks: HashMap::new() });
        books.load(load);
        lane
    }

    /// The lane's next message was sent.
    pub(crate) fn sent(&self, lane: u64) {
        let mut books = self.books();
        let Some(entry) = books.lanes.get_mut(&lane) else { return };
        entry.sent += 1;
        let load = entry.load.clone();
        books.load(&load).sent += 1;
    }

    /// How many of a lane's messages are still to arrive: none for sure, where some may be lost.
    pub(crate) fn on_their_way(&self, lane: u64) -> u64 {
        let books = self.books();
        books.lanes.get(&lane).filter(|lane| !lane.terms.may_lose()).map_or(0, Lane::missing)
    }

    /// That receiver got this message, on a socket of that load. Answers its label if it is whole.
    pub(crate) fn received(&self, load: &str, receiver: u64, frames: &[Message]) -> Option<Label> {
        let label = parcel::open(frames);
        let mut books = self.books();
        let totals = books.load(load);
        totals.received += 1;
        totals.progress = Some(Instant::now());
        let Some(label) = label else {
            totals.torn += 1;
            let sizes: Vec<_> = frames.iter().map(|frame| frame.len()).take(10).collect();
            books.faults.push(format!("{load}: torn: {} frames, of {sizes:?} bytes", frames.len()));
            return None;
        };
        if let Some(lane) = books.lanes.get_mut(&label.lane) {
            if let Some(fault) = lane.take(label.number, receiver) {
                let totals = books.load(load);
                match fault {
                    Fault::Doubled => totals.doubled += 1,
                    Fault::Reordered => totals.reordered += 1,
                }
                books.faults.push(format!("{load}: {fault:?}: {label:?} at receiver {receiver}"));
            }
        }
        Some(label)
    }

    /// The sender or a receiver of that lane has gone: what is on its way may still come.
    pub(crate) fn retire(&self, lane: u64) {
        let mut books = self.books();
        books.retired.push_back((Instant::now(), lane));
        while books.retired.front().is_some_and(|(since, _)| since.elapsed() > LATE) {
            let Some((_, lane)) = books.retired.pop_front() else { break };
            books.close(lane);
        }
    }

    /// Something else is not as it should be.
    pub(crate) fn fault(&self, what: String) {
        self.books().faults.push(what);
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.books().faults.clone()
    }

    /// Something went on in a load that sends nothing of its own at the moment.
    pub(crate) fn progress(&self, load: &str) {
        self.books().load(load).progress = Some(Instant::now());
    }

    /// The loads in which nothing went on for so long.
    pub(crate) fn stalled(&self, limit: Duration) -> Vec<String> {
        let mut books = self.books();
        let idle = |load: &mut Load| load.progress.get_or_insert_with(Instant::now).elapsed() > limit;
        books.loads.iter_mut().filter_map(|(name, load)| idle(load).then(|| name.clone())).collect()
    }

    /// True if nothing is on its way in any lane from which nothing may be lost.
    pub(crate) fn is_settled(&self) -> bool {
        self.books().lanes.values().all(|lane| lane.terms.may_lose() || lane.missing() == 0)
    }

    /// Closes all lanes, and answers what came of each load. What has not arrived by now is lost.
    pub(crate) fn close(&self) -> BTreeMap<String, Load> {
        let mut books = self.books();
        let lanes: Vec<_> = books.lanes.keys().copied().collect();
        for lane in lanes {
            books.close(lane);
        }
        books.loads.clone()
    }

    pub(crate) fn loads(&self) -> BTreeMap<String, Load> {
        self.books().loads.clone()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn load(&mut self, name: &str) -> &mut Load {
        if !self.loads.contains_key(name) {
            self.loads.insert(name.to_owned(), Load::default());
        }
        self.loads.get_mut(name).expect("it was put there")
    }

    fn close(&mut self, lane: u64) {
        let Some(closed) = self.lanes.remove(&lane) else { return };
        let (missing, forged) = (closed.missing(), closed.forged());
        if forged > 0 {
            self.faults.push(format!("{}: lane {lane}: {forged} received that no send had said Ok to", closed.load));
        }
        if missing > 0 && !closed.terms.may_lose() {
            self.faults.push(format!("{}: lane {lane}: {missing} of {} lost", closed.load, closed.sent));
        }
        let load = self.load(&closed.load);
        load.doubled += forged;
        if closed.terms.may_lose() {
            load.left_behind += missing;
        } else {
            load.lost += missing;
        }
    }
}

#[derive(Debug)]
enum Fault {
    Doubled,
    Reordered,
}

impl Lane {
    fn take(&mut self, number: u64, receiver: u64) -> Option<Fault> {
        let one_for_all = matches!(self.terms, Terms::Once | Terms::AtMostOnce);
        let track = self.tracks.entry(if one_for_all { 0 } else { receiver }).or_default();
        let last = track.last.insert(receiver, number);
        if number >= track.next {
            track.missing.extend(track.next..number);
            track.next = number + 1;
        } else if !track.missing.remove(&number) {
            return Some(Fault::Doubled);
        }
        // What a PUB dropped would pile up here.
        while self.terms.may_lose() && track.missing.len() > REMEMBERED {
            track.missing.pop_first();
            track.forgotten += 1;
        }
        last.is_some_and(|last| last > number).then_some(Fault::Reordered)
    }

    /// How many messages have not arrived.
    fn missing(&self) -> u64 {
        let arrived = self.tracks.values().map(|track| track.missing(self.sent));
        let receivers = if let Terms::Copies(copies) = self.terms { copies } else { 1 };
        arrived.sum::<u64>() + self.sent * receivers.saturating_sub(self.tracks.len()) as u64
    }

    /// How many have arrived that were never said to be sent.
    fn forged(&self) -> u64 {
        self.tracks.values().map(|track| track.next.saturating_sub(self.sent)).sum()
    }
}

impl Track {
    fn missing(&self, sent: u64) -> u64 {
        self.missing.len() as u64 + self.forgotten + sent.saturating_sub(self.next)
    }
}

/// So late comes nothing any more.
const LATE: Duration = Duration::from_secs(30);
/// So many gaps of a lane are remembered, to tell a late message from a doubled one.
const REMEMBERED: usize = 1000;
