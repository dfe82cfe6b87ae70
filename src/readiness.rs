//! Who waits for what on one socket, and who must be woken when. Pure: no libzmq, no event loop.
//!
//! A ZeroMQ socket has one descriptor and two directions, and the descriptor belongs to neither. It says "there are
//! commands that I have not processed": a message came, a peer made room, a peer came or went. *Any* call on the
//! socket processes commands, and with them swallows the announcement that somebody else was waiting for. So a waiter
//! cannot be left to the descriptor. These are the rules that keep one from sleeping while its direction is ready;
//! `recv.rs`, `send.rs` and `state.rs` carry them out:
//!
//! * **Try first.** Nobody waits before its own attempt, made after everything known so far, said EAGAIN.
//! * **A look finds everyone.** Whoever reads `ZMQ_EVENTS` tells it to [`ready`](Readiness::ready), which picks the
//!   waiters of *both* directions, not only of the one that was asked for.
//! * **An operation that may have swallowed something owes a look** if [`anyone_waits`](Readiness::anyone_waits). A
//!   failed attempt pays at once; successful ones pay together, once, before the loop sleeps.
//! * **One is called at a time**, the first in the line. Who leaves the line after being called, with a message or
//!   without, [passes the call on](Readiness::leave): there may be more for the next.
//!
//! Where a send depends on its peer (ROUTER, STREAM, XPUB and PUB without drops), `POLLOUT` says nothing about the
//! message at hand and the head of the line may be stuck while others could go. There the line of writers is no line:
//! everyone is called on every event, and a newcomer may try at once ([`WriteOrder::PerMessage`]).
//!
//! Besides the line, each direction has one *slot*, for `poll_next` and the Sink's polls. A future leaves the line when
//! it is dropped; a poll leaves nothing behind that could tell that nobody will poll again. So the slot is called along
//! with the head, never instead of it, and holds nobody up. While there is a line, it has one turn for each call.
//!
//! Wakers are handed out in [`Wakes`], to be woken when nothing is borrowed: a waker may run code that comes back here.

use std::task::Waker;

use crate::events::{Direction, Events};
use crate::line::{Line, Ticket};
use crate::seeded::{Bug, seeded};
use crate::trace::{Side, Trace};
use crate::wakes::Wakes;

/// What the writers of a socket wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteOrder {
    /// Room for any message: `POLLOUT` tells the truth when it is down, and the first in the line goes first.
    Line,
    /// Room for this message: `POLLOUT` tells nothing, each waiter tries for itself.
    PerMessage,
}

/// Where somebody waits: the slot of the polled traits, or the line of the futures.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    Slot,
    Line(&'a mut Option<Ticket>),
}

/// The waiters of one socket.
#[derive(Debug)]
pub(crate) struct Readiness {
    read: Waiters,
    write: Waiters,
    write_order: WriteOrder,
    /// Those who wait for the end alone.
    bystanders: Line,
}

impl Readiness {
    pub(crate) fn new(write_order: WriteOrder) -> Self {
        Self { read: Waiters::default(), write: Waiters::default(), write_order, bystanders: Line::default() }
    }

    /// Has whom it calls told of as waiters on this socket.
    pub(crate) fn traced(mut self, trace: Trace) -> Self {
        self.read.side = trace.side(Direction::Read);
        self.write.side = trace.side(Direction::Write);
        self
    }

    /// True if nobody waits in this direction, and nobody was called who has not had its turn yet. So it is nearly always
    /// under load.
    #[inline]
    pub(crate) fn is_idle(&self, direction: Direction) -> bool {
        self.waiters(direction).is_idle()
    }

    /// True if this place may try now: it would overtake nobody, or it was called.
    #[inline]
    pub(crate) fn may_try(&self, direction: Direction, place: &Place<'_>) -> bool {
        if self.calls_everyone(direction) && !seeded(Bug::HeadOfLineBlocks) {
            return true;
        }
        let line = &self.waiters(direction).line;
        match place {
            Place::Slot => line.is_empty() || self.waiters(direction).slot_called,
            Place::Line(None) => line.is_empty() || seeded(Bug::NewcomerOvertakes),
            Place::Line(Some(ticket)) => line.is_first(ticket) || line.is_called(ticket),
        }
    }

    /// Waits at this place, at the end of the line if it is new there. To be called after an attempt said EAGAIN, or
    /// where [`may_try`](Self::may_try) said no.
    ///
    /// A different waker that the slot held is woken: its task would otherwise wait for what nobody tells it.
    pub(crate) fn park(&mut self, direction: Direction, place: &mut Place<'_>, waker: Waker) -> Wakes {
        let mut released = Wakes::default();
        if seeded(Bug::OneWakerForBoth) {
            let other = Events { readable: direction == Direction::Write, writable: direction == Direction::Read };
            self.call(other).forget();
        }
        let waiters = self.waiters_mut(direction);
        match place {
            Place::Slot => {
                waiters.slot_held_up = false;
                match &mut waiters.slot {
                    Some(held) if held.will_wake(&waker) => released.release(Some(waker)),
                    slot if seeded(Bug::ReplacedWakerNotWoken) => released.release(slot.replace(waker)),
                    slot => released.add(waiters.side, slot.replace(waker)),
                }
            }
            Place::Line(Some(ticket)) => released.release(waiters.line.wait_again(ticket, waker)),
            Place::Line(ticket) => **ticket = Some(waiters.line.join(waker)),
        }
        released
    }

    /// True if this place waits with this waker, and has not been called.
    pub(crate) fn is_uncalled(&self, direction: Direction, place: &Place<'_>, waker: &Waker) -> bool {
        match place {
            Place::Slot => self.waiters(direction).slot.as_ref().is_some_and(|held| held.will_wake(waker)),
            Place::Line(None) => false,
            Place::Line(Some(ticket)) => self.waiters(direction).line.waits_with(ticket, waker),
        }
    }

    /// The slot waits without a try of its own, because there is a line. A Sink has room for a message of its own, so that
    /// nothing but the line may hold it up: it is called when the line is gone, event or no event.
    pub(crate) fn slot_is_held_up(&mut self, direction: Direction) {
        self.waiters_mut(direction).slot_held_up = true;
    }

    /// The slot had its turn.
    #[inline]
    pub(crate) fn slot_took_turn(&mut self, direction: Direction) {
        self.waiters_mut(direction).slot_called = false;
    }

    /// Gives a place in the line up: its operation ended (`took_turn`), or its future was dropped.
    ///
    /// Its turn passes on to the next: more may be there, and the call that it got may have been the only one.
    pub(crate) fn leave(&mut self, direction: Direction, ticket: Ticket, took_turn: bool) -> Wakes {
        let waiters = self.waiters_mut(direction);
        let mut wakes = Wakes::default();
        let had_turn = took_turn || waiters.line.is_called(&ticket);
        wakes.release(waiters.line.leave(ticket));
        let lost = seeded(if took_turn { Bug::BatonLostOnSuccess } else { Bug::BatonLostOnCancel });
        if had_turn && !lost {
            waiters.call_slot(&mut wakes);
            waiters.call_first(&mut wakes);
        } else if waiters.slot_held_up && waiters.line.is_empty() {
            waiters.call_slot(&mut wakes);
        }
        wakes
    }

    /// Waits for the end alone, and is in nobody's way.
    pub(crate) fn stand_by(&mut self, place: &mut Option<Ticket>, waker: &Waker) -> Wakes {
        let mut released = Wakes::default();
        match place {
            Some(ticket) if self.bystanders.waits_with(ticket, waker) => {}
            Some(ticket) => released.release(self.bystanders.wait_again(ticket, waker.clone())),
            None => *place = Some(self.bystanders.join(waker.clone())),
        }
        released
    }

    /// Stands by no more.
    pub(crate) fn stand_down(&mut self, ticket: Ticket) -> Wakes {
        let mut wakes = Wakes::default();
        wakes.release(self.bystanders.leave(ticket));
        wakes
    }

    /// Something happened, and this is what a look found: calls those for whom it may matter.
    pub(crate) fn ready(&mut self, events: Events) -> Wakes {
        self.call(self.concerns(events))
    }

    /// The directions in which an event, or an operation that may have swallowed one, matters: what is ready, and
    /// writers whom `POLLOUT` tells nothing.
    pub(crate) fn concerns(&self, events: Events) -> Events {
        let everyone = self.calls_everyone(Direction::Write) && !seeded(Bug::PolloutBelieved);
        Events { readable: events.readable, writable: events.writable || everyone }
    }

    /// What is ready, as far as the events tell it without a doubt.
    pub(crate) fn certain(&self, events: Events) -> Events {
        let unknown = self.calls_everyone(Direction::Write) && !seeded(Bug::PolloutCertain);
        Events { readable: events.readable, writable: events.writable && !unknown }
    }

    /// Calls those who wait in these directions.
    pub(crate) fn call(&mut self, directions: Events) -> Wakes {
        let mut wakes = Wakes::default();
        if directions.readable {
            self.read.call_slot(&mut wakes);
            self.read.call_first(&mut wakes);
        }
        if directions.writable {
            let everyone = self.calls_everyone(Direction::Write) && !seeded(Bug::OnlyFirstWriterCalled);
            self.write.call_slot(&mut wakes);
            if everyone {
                self.write.call_all(&mut wakes);
            } else {
                self.write.call_first(&mut wakes);
            }
        }
        wakes
    }

    /// The Sink holds nothing any more: calls who waits for that, room or no room.
    pub(crate) fn flushed(&mut self) -> Wakes {
        let mut wakes = Wakes::default();
        self.write.call_slot(&mut wakes);
        wakes
    }

    /// True if [`call`](Self::call) would wake somebody.
    pub(crate) fn would_wake(&self, directions: Events) -> bool {
        directions.readable && self.read.can_be_called(false)
            || directions.writable && self.write.can_be_called(self.calls_everyone(Direction::Write))
    }

    /// True if somebody waits who has not been called.
    #[inline]
    pub(crate) fn anyone_waits(&self) -> bool {
        self.read.someone_waits() || self.write.someone_waits()
    }

    /// True if somebody who has not been called waits in this direction.
    pub(crate) fn waits(&self, direction: Direction) -> bool {
        self.waiters(direction).someone_waits()
    }

    /// The socket or its loop came to its end: calls everyone, each to find out for itself.
    pub(crate) fn end(&mut self) -> Wakes {
        if seeded(Bug::EndForReadersOnly) {
            return self.call(Events::only(Direction::Read));
        }
        let mut wakes = Wakes::default();
        for waiters in [&mut self.read, &mut self.write] {
            waiters.call_slot(&mut wakes);
            waiters.call_all(&mut wakes);
        }
        // Nobody told that these wait, so nobody tells that they are woken.
        self.bystanders.call_all(|waker| wakes.add(Side::default(), Some(waker)));
        wakes
    }

    /// True if somebody waits of whom a read of `ZMQ_EVENTS` can tell whether it is ready.
    pub(crate) fn looking_helps(&self) -> bool {
        self.read.someone_waits() || self.write.someone_waits() && !self.calls_everyone(Direction::Write)
    }

    /// True if somebody waits to send for whom `POLLOUT` says nothing.
    pub(crate) fn senders_settle(&self) -> bool {
        self.calls_everyone(Direction::Write) && self.write.someone_waits()
    }

    #[inline]
    fn calls_everyone(&self, direction: Direction) -> bool {
        direction == Direction::Write && self.write_order == WriteOrder::PerMessage
    }

    #[inline]
    fn waiters(&self, direction: Direction) -> &Waiters {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    fn waiters_mut(&mut self, direction: Direction) -> &mut Waiters {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

/// The waiters of one direction.
#[derive(Debug, Default)]
struct Waiters {
    slot: Option<Waker>,
    /// The slot was called, and has not had its turn.
    slot_called: bool,
    /// The slot was refused a try, for the sake of the line. One that tried must not be called when the line goes: with a
    /// task that makes its receives anew at each poll, that would not end.
    slot_held_up: bool,
    line: Line,
    side: Side,
}

impl Waiters {
    #[inline]
    fn is_idle(&self) -> bool {
        self.slot.is_none() && !self.slot_called && self.line.is_empty()
    }

    #[inline]
    fn someone_waits(&self) -> bool {
        self.slot.is_some() || self.line.anyone_waits()
    }

    /// True if a call would find somebody: where one is called at a time, it may be that the first was called already
    /// and takes its time.
    fn can_be_called(&self, everyone: bool) -> bool {
        self.slot.is_some() || if everyone { self.line.anyone_waits() } else { self.line.first_waits() }
    }

    fn call_slot(&mut self, wakes: &mut Wakes) {
        if let Some(waker) = self.slot.take() {
            self.slot_called = true;
            wakes.add(self.side, Some(waker));
        }
    }

    fn call_first(&mut self, wakes: &mut Wakes) {
        if seeded(Bug::SlotInsteadOfLine) && self.slot_called {
            return;
        }
        wakes.add(self.side, self.line.call_first());
    }

    fn call_all(&mut self, wakes: &mut Wakes) {
        self.line.call_all(|waker| wakes.add(self.side, Some(waker)));
    }
}

#[cfg(test)]
#[path = "model/inside/readiness.rs"]
pub(crate) mod inside;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A waiter in the line, and how often it was woken.
    struct Waiter {
        ticket: Option<Ticket>,
        count: Arc<Count>,
        waker: Waker,
    }

    impl Waiter {
        fn new() -> Self {
            let count = Arc::new(Count::default());
            Self { ticket: None, waker: Arc::clone(&count).into(), count }
        }

        fn parked(readiness: &mut Readiness, direction: Direction) -> Self {
            let mut waiter = Self::new();
            waiter.park(readiness, direction);
            waiter
        }

        fn park(&mut self, readiness: &mut Readiness, direction: Direction) {
            drop(readiness.park(direction, &mut Place::Line(&mut self.ticket), self.waker.clone()));
        }

        fn may_try(&mut self, readiness: &Readiness, direction: Direction) -> bool {
            readiness.may_try(direction, &Place::Line(&mut self.ticket))
        }

        fn leave(&mut self, readiness: &mut Readiness, direction: Direction, took_turn: bool) {
            drop(readiness.leave(direction, self.ticket.take().unwrap(), took_turn));
        }

        fn wakes(&self) -> usize {
            self.count.0.load(Ordering::Relaxed)
        }
    }

    const READ: Direction = Direction::Read;
    const WRITE: Direction = Direction::Write;
    const IN: Events = Events { readable: true, writable: false };
    const OUT: Events = Events { readable: false, writable: true };
    const NOTHING: Events = Events { readable: false, writable: false };

    fn line() -> Readiness {
        Readiness::new(WriteOrder::Line)
    }

    #[test]
    fn one_is_called_per_readiness_and_the_first_come_is_the_first() {
        let mut readiness = line();
        let waiters: Vec<Waiter> = (0..3).map(|_| Waiter::parked(&mut readiness, READ)).collect();
        drop(readiness.ready(IN));
        drop(readiness.ready(IN));
        assert_eq!(waiters.iter().map(Waiter::wakes).collect::<Vec<_>>(), [1, 0, 0]);
    }

    #[test]
    fn a_newcomer_overtakes_nobody() {
        let mut readiness = line();
        assert!(Waiter::new().may_try(&readiness, READ));
        let mut first = Waiter::parked(&mut readiness, READ);
        assert!(!Waiter::new().may_try(&readiness, READ));
        assert!(first.may_try(&readiness, READ), "the head may look for itself");
        drop(readiness.ready(IN));
        assert!(!Waiter::new().may_try(&readiness, READ), "called, and still first");
        first.leave(&mut readiness, READ, true);
        assert!(Waiter::new().may_try(&readiness, READ));
    }

    #[test]
    fn who_took_a_message_calls_the_next() {
        let mut readiness = line();
        let mut waiters: Vec<Waiter> = (0..1000).map(|_| Waiter::parked(&mut readiness, READ)).collect();
        drop(readiness.ready(IN));
        for served in 0..1000 {
            assert!(waiters[served].may_try(&readiness, READ));
            waiters[served].leave(&mut readiness, READ, true);
            assert_eq!(waiters.iter().map(Waiter::wakes).sum::<usize>(), (served + 2).min(1000));
        }
        assert!(!readiness.anyone_waits() && readiness.in_lines() == 0);
    }

    #[test]
    fn who_is_cancelled_after_being_called_passes_it_on() {
        let mut readiness = line();
        let [mut first, second] = [(); 2].map(|()| Waiter::parked(&mut readiness, READ));
        drop(readiness.ready(IN));
        first.leave(&mut readiness, READ, false);
        assert_eq!(second.wakes(), 1);
    }

    #[test]
    fn who_is_cancelled_before_being_called_leaves_nothing_behind() {
        let mut readiness = line();
        let [mut first, mut second, mut third] = [(); 3].map(|()| Waiter::parked(&mut readiness, READ));
        second.leave(&mut readiness, READ, false);
        assert_eq!(Arc::strong_count(&second.count), 2, "the waiter's own waker, and no other");
        drop(readiness.ready(IN));
        first.leave(&mut readiness, READ, true);
        assert_eq!((second.wakes(), third.wakes()), (0, 1));
        third.leave(&mut readiness, READ, true);
        assert!(readiness.in_lines() == 0 && !readiness.anyone_waits());
    }

    #[test]
    fn a_called_one_that_finds_nothing_keeps_its_place() {
        let mut readiness = line();
        let [mut first, second] = [(); 2].map(|()| Waiter::parked(&mut readiness, READ));
        drop(readiness.ready(IN));
        first.park(&mut readiness, READ);
        drop(readiness.ready(IN));
        assert_eq!((first.wakes(), second.wakes()), (2, 0));
    }

    #[test]
    fn each_direction_is_called_by_its_own_event() {
        let mut readiness = line();
        let (reader, writer) = (Waiter::parked(&mut readiness, READ), Waiter::parked(&mut readiness, WRITE));
        drop(readiness.ready(NOTHING));
        assert_eq!((reader.wakes(), writer.wakes()), (0, 0));
        drop(readiness.ready(OUT));
        assert_eq!((reader.wakes(), writer.wakes()), (0, 1));
        drop(readiness.ready(IN));
        assert_eq!((reader.wakes(), writer.wakes()), (1, 1));
    }

    #[test]
    fn writers_that_wait_for_their_peers_are_all_called_by_any_event() {
        let mut readiness = Readiness::new(WriteOrder::PerMessage);
        let writers = [(); 2].map(|()| Waiter::parked(&mut readiness, WRITE));
        assert!(Waiter::new().may_try(&readiness, WRITE), "a newcomer's peer may have room");
        assert!(!readiness.would_wake(readiness.certain(OUT)), "POLLOUT says nothing");
        drop(readiness.ready(NOTHING));
        assert_eq!(writers.each_ref().map(Waiter::wakes), [1, 1]);
    }

    #[test]
    fn where_senders_wait_for_their_peers_room_is_never_certain_and_always_concerns_them() {
        let all = [NOTHING, IN, OUT, IN.and(OUT)];
        let readiness = line();
        assert_eq!(all.map(|events| readiness.certain(events)), all);
        assert_eq!(all.map(|events| readiness.concerns(events)), all);
        let readiness = Readiness::new(WriteOrder::PerMessage);
        assert_eq!(all.map(|events| readiness.certain(events)), [NOTHING, IN, NOTHING, IN]);
        assert_eq!(all.map(|events| readiness.concerns(events)), [OUT, IN.and(OUT), OUT, IN.and(OUT)]);
    }

    #[test]
    fn the_slot_is_called_along_with_the_line_and_holds_nobody_up() {
        let mut readiness = line();
        let stream = Waiter::new();
        drop(readiness.park(READ, &mut Place::Slot, stream.waker.clone()));
        assert!(Waiter::new().may_try(&readiness, READ));
        let future = Waiter::parked(&mut readiness, READ);
        assert!(!readiness.may_try(READ, &Place::Slot), "it overtakes nobody either");
        drop(readiness.ready(IN));
        assert_eq!((stream.wakes(), future.wakes()), (1, 1));
        assert!(readiness.may_try(READ, &Place::Slot));
        readiness.slot_took_turn(READ);
        assert!(!readiness.may_try(READ, &Place::Slot), "one turn for each call");
    }

    #[test]
    fn a_slot_that_the_line_holds_up_is_called_when_the_line_is_gone() {
        let mut readiness = line();
        let mut futures = [(); 2].map(|()| Waiter::parked(&mut readiness, WRITE));
        let sink = Waiter::new();
        drop(readiness.park(WRITE, &mut Place::Slot, sink.waker.clone()));
        readiness.slot_is_held_up(WRITE);
        futures[0].leave(&mut readiness, WRITE, false);
        assert_eq!((sink.wakes(), futures[1].wakes()), (0, 0), "there is a line still");
        futures[1].leave(&mut readiness, WRITE, false);
        assert_eq!(sink.wakes(), 1);
        assert!(readiness.may_try(WRITE, &Place::Slot));
        // One that has tried, and then a line comes and goes.
        drop(readiness.park(WRITE, &mut Place::Slot, sink.waker.clone()));
        Waiter::parked(&mut readiness, WRITE).leave(&mut readiness, WRITE, false);
        assert_eq!(sink.wakes(), 1, "nothing has changed for it");
    }

    #[test]
    fn a_replaced_waker_is_woken_and_the_same_one_is_kept() {
        let mut readiness = line();
        let (old, new) = (Waiter::new(), Waiter::new());
        drop(readiness.park(READ, &mut Place::Slot, old.waker.clone()));
        drop(readiness.park(READ, &mut Place::Slot, old.waker.clone()));
        assert_eq!(old.wakes(), 0);
        drop(readiness.park(READ, &mut Place::Slot, new.waker.clone()));
        assert_eq!((old.wakes(), new.wakes()), (1, 0));
        drop(readiness.ready(IN));
        assert_eq!((old.wakes(), new.wakes()), (1, 1));
    }

    #[test]
    fn the_end_calls_everyone_once() {
        let mut readiness = line();
        let stream = Waiter::new();
        drop(readiness.park(WRITE, &mut Place::Slot, stream.waker.clone()));
        let waiters = [READ, READ, WRITE, WRITE].map(|direction| Waiter::parked(&mut readiness, direction));
        drop(readiness.end());
        drop(readiness.end());
        assert_eq!(waiters.each_ref().map(Waiter::wakes), [1; 4]);
        assert_eq!(stream.wakes(), 1);
        assert!(!readiness.anyone_waits());
    }

    /// What is said of the waiters: readers wait, writers wait, a call would wake readers, writers, looking helps,
    /// senders settle.
    fn said(readiness: &Readiness) -> [bool; 6] {
        let waits = [READ, WRITE].map(|direction| readiness.waits(direction));
        assert_eq!(readiness.anyone_waits(), waits.contains(&true));
        assert!(!readiness.would_wake(NOTHING));
        assert_eq!(
            readiness.would_wake(IN.and(OUT)),
            readiness.would_wake(IN) || readiness.would_wake(OUT),
            "both directions are each of them"
        );
        let [reads, writes] = waits;
        let (wakes_readers, wakes_writers) = (readiness.would_wake(IN), readiness.would_wake(OUT));
        [reads, writes, wakes_readers, wakes_writers, readiness.looking_helps(), readiness.senders_settle()]
    }

    #[test]
    fn what_is_said_of_the_waiters_is_what_a_call_finds() {
        for order in [WriteOrder::Line, WriteOrder::PerMessage] {
            let settles = order == WriteOrder::PerMessage;
            let mut readiness = Readiness::new(order);
            assert_eq!(said(&readiness), [false; 6]);
            for (direction, event) in [(READ, IN), (WRITE, OUT)] {
                let waiting = match direction {
                    Direction::Read => [true, false, true, false, true, false],
                    Direction::Write => [false, true, false, true, !settles, settles],
                };
                let mut waiter = Waiter::parked(&mut readiness, direction);
                assert_eq!(said(&readiness), waiting, "{direction:?}");
                drop(readiness.call(event));
                assert_eq!(said(&readiness), [false; 6], "called");
                waiter.park(&mut readiness, direction);
                waiter.park(&mut readiness, direction);
                assert_eq!(said(&readiness), waiting, "it waits again, and is one");
                waiter.leave(&mut readiness, direction, false);
                assert_eq!(said(&readiness), [false; 6], "left");
                drop(readiness.park(direction, &mut Place::Slot, waiter.waker.clone()));
                assert_eq!(said(&readiness), waiting, "the slot is a waiter too");
                drop(readiness.call(event));
                assert_eq!((said(&readiness), waiter.wakes()), ([false; 6], 2));
            }
        }
    }

    #[test]
    fn a_call_finds_nobody_behind_one_that_takes_its_time_unless_it_is_for_everyone() {
        for (order, finds) in [(WriteOrder::Line, false), (WriteOrder::PerMessage, true)] {
            let mut readiness = Readiness::new(order);
            let first = Waiter::parked(&mut readiness, WRITE);
            drop(readiness.call(OUT));
            let second = Waiter::parked(&mut readiness, WRITE);
            assert!(readiness.waits(WRITE));
            assert_eq!(readiness.would_wake(OUT), finds);
            drop(readiness.call(OUT));
            assert_eq!((first.wakes(), second.wakes()), (1, usize::from(finds)));
        }
    }

    #[test]
    fn a_direction_is_idle_when_nobody_waits_and_no_call_is_left_over() {
        let mut readiness = line();
        let stream = Waiter::new();
        drop(readiness.park(READ, &mut Place::Slot, stream.waker.clone()));
        assert!(!readiness.is_idle(READ) && readiness.is_idle(WRITE));
        drop(readiness.call(IN));
        assert!(!readiness.is_idle(READ), "called, and has not had its turn");
        readiness.slot_took_turn(READ);
        assert!(readiness.is_idle(READ));
        let mut future = Waiter::parked(&mut readiness, READ);
        assert!(!readiness.is_idle(READ));
        drop(readiness.call(IN));
        assert!(!readiness.is_idle(READ), "called, and has not had its turn");
        future.leave(&mut readiness, READ, true);
        assert!(readiness.is_idle(READ));
    }

    #[test]
    fn a_place_is_uncalled_while_it_waits_with_that_waker() {
        let mut readiness = line();
        let (mut waiter, other) = (Waiter::parked(&mut readiness, WRITE), Waiter::new());
        let place = Place::Line(&mut waiter.ticket);
        assert!(readiness.is_uncalled(WRITE, &place, &waiter.waker));
        assert!(!readiness.is_uncalled(WRITE, &place, &other.waker), "another task has to take the place over first");
        drop(readiness.call(OUT));
        assert!(!readiness.is_uncalled(WRITE, &place, &waiter.waker));
    }

    #[test]
    fn who_waits_for_the_sink_is_called_when_that_is_empty_room_or_no_room() {
        let mut readiness = line();
        let [reader, flusher] = [READ, WRITE].map(|direction| {
            let waiter = Waiter::new();
            drop(readiness.park(direction, &mut Place::Slot, waiter.waker.clone()));
            waiter
        });
        let writer = Waiter::parked(&mut readiness, WRITE);
        drop(readiness.flushed());
        assert_eq!([&reader, &flusher, &writer].map(Waiter::wakes), [0, 1, 0]);
    }

    #[test]
    fn nobody_is_woken_before_the_wakes_are_dropped_and_then_everyone_is() {
        let waiters = [(); 3].map(|()| Waiter::new());
        let [first, second, third] = waiters.each_ref().map(|waiter| waiter.waker.clone());
        let mut wakes = Wakes::from_iter([first]);
        wakes.append(Wakes::from_iter([second, third]));
        assert_eq!(waiters.each_ref().map(Waiter::wakes), [0; 3]);
        drop(wakes);
        assert_eq!(waiters.each_ref().map(Waiter::wakes), [1; 3]);
    }

    #[test]
    fn after_the_end_everyone_may_find_out() {
        let mut readiness = line();
        let [_first, mut second] = [(); 2].map(|()| Waiter::parked(&mut readiness, READ));
        assert!(!second.may_try(&readiness, READ));
        drop(readiness.end());
        assert!(second.may_try(&readiness, READ));
    }

    #[test]
    fn who_waits_for_the_end_alone_is_woken_by_nothing_else_and_by_its_last_waker() {
        let mut readiness = line();
        let (old, new, gone) = (Waiter::new(), Waiter::new(), Waiter::new());
        let (mut moved, mut left) = (None, None);
        drop(readiness.stand_by(&mut moved, &old.waker));
        drop(readiness.stand_by(&mut moved, &new.waker));
        drop(readiness.stand_by(&mut moved, &new.waker));
        drop(readiness.stand_by(&mut left, &gone.waker));
        drop(readiness.stand_down(left.take().unwrap()));
        assert_eq!([&old, &gone].map(|waiter| Arc::strong_count(&waiter.count)), [2; 2], "their own wakers, no others");
        assert!(!readiness.anyone_waits());
        drop(readiness.ready(IN.and(OUT)));
        assert_eq!([&old, &new, &gone].map(Waiter::wakes), [0; 3]);
        drop(readiness.end());
        assert_eq!([&old, &new, &gone].map(Waiter::wakes), [0, 1, 0]);
    }

    #[test]
    fn a_waker_that_panics_does_not_keep_the_others_from_being_woken() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("as the test wants it");
            }
        }
        let (before, after) = (Waiter::new(), Waiter::new());
        drop(Wakes::from_iter([before.waker.clone(), Arc::new(Panics).into(), after.waker.clone()]));
        assert_eq!((before.wakes(), after.wakes()), (1, 1));
    }
}
