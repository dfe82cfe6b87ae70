//! What a socket, its source and the hub share: who waits on it, what it owes them, and whether it has ended.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::num::NonZeroUsize;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::budget::Budget;
use crate::clock;
use crate::error::Error;
use crate::events::{Direction, Events};
use crate::ffi::{self, Errno};
use crate::hub::{Hub, Look, Member, Membership};
use crate::line::Ticket;
use crate::readiness::{Place, Readiness, WriteOrder};
use crate::seeded::{Bug, Point, pass, seeded};
use crate::settling::{Settling, Verdict};
use crate::source::{Registration, SocketSource, Watched};
use crate::trace::{Event, Trace};
use crate::wakes::Wakes;

/// The state of one socket.
pub(crate) struct State {
    /// Held by its owner alone, so that dropping it there closes the socket.
    socket: Weak<ffi::Socket>,
    hub: Rc<Hub>,
    registration: Registration,
    readiness: RefCell<Readiness>,
    ended: Cell<Option<Ended>>,
    /// On the hub's list.
    owes: Cell<bool>,
    /// libzmq was called since the last look.
    touched: Cell<bool>,
    /// What must be woken at the next turn: what the last look found, and the directions that ran out of budget.
    due: Cell<Events>,
    budget: Budget,
    /// Where the owner stood when it lent the bare socket out, 0 if it did not: see [`lend`](State::lend).
    lent_at: Cell<usize>,
    settling: Settling,
    /// When the loop will be woken to settle.
    alarm: Cell<Option<Instant>>,
    trace: Trace,
}

/// Why every wait on a socket is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Terminated,
    LoopGone,
}

impl Ended {
    fn error(self) -> Error {
        match self {
            Self::Terminated => Error::Terminated,
            Self::LoopGone => Error::LoopGone,
        }
    }
}

impl State {
    /// Begins to watch the socket in the loop.
    pub(crate) fn attach(
        socket: &Rc<ffi::Socket>,
        hub: &Rc<Hub>,
        write_order: WriteOrder,
        trace: Trace,
    ) -> crate::Result<Attachment> {
        let fd = socket.fd().map_err(|errno| errno.error("read ZMQ_FD"))?;
        let state = Rc::new(Self {
            socket: Rc::downgrade(socket),
            hub: Rc::clone(hub),
            registration: Registration::new(fd),
            readiness: RefCell::new(Readiness::new(write_order).traced(trace)),
            ended: Cell::new(None),
            owes: Cell::new(false),
            touched: Cell::new(false),
            due: Cell::default(),
            budget: Budget::default(),
            lent_at: Cell::new(0),
            settling: Settling::default(),
            alarm: Cell::new(None),
            trace,
        });
        let member = Rc::downgrade(&state);
        let membership = hub.join(member, SocketSource::new(Rc::clone(&state) as Rc<dyn Watched>))?;
        Ok(Attachment { state, membership })
    }

    pub(crate) fn trace(&self) -> Trace {
        self.trace
    }

    pub(crate) fn set_budget(&self, budget: NonZeroUsize) {
        self.budget.set(budget);
    }

    /// Lets this place try, or parks it and answers `Pending`: others come first, or the budget of this turn is used up.
    #[inline]
    pub(crate) fn poll_turn(
        self: &Rc<Self>,
        direction: Direction,
        place: &mut Place<'_>,
        cx: &Context<'_>,
    ) -> Poll<crate::Result<()>> {
        pass(Point::Poll);
        if self.ended.get().is_none() && self.readiness.borrow().is_idle(direction) && self.has_budget(direction) {
            return Poll::Ready(Ok(()));
        }
        self.poll_turn_among_others(direction, place, cx)
    }

    fn poll_turn_among_others(
        self: &Rc<Self>,
        direction: Direction,
        place: &mut Place<'_>,
        cx: &Context<'_>,
    ) -> Poll<crate::Result<()>> {
        if let Err(terminated) = self.check() {
            return Poll::Ready(Err(terminated));
        }
        if direction == Direction::Read && self.would_disturb(place, cx) {
            return Poll::Pending;
        }
        let may_try = self.readiness.borrow().may_try(direction, place);
        if may_try && self.has_budget(direction) {
            return Poll::Ready(Ok(()));
        }
        if let Err(ended) = self.wait(direction, place, cx) {
            return Poll::Ready(Err(ended));
        }
        if !may_try && matches!(place, Place::Slot) {
            // It has not tried, and nobody passes a turn on to a slot for sure.
            self.readiness.borrow_mut().slot_is_held_up(direction);
            self.touched();
        }
        if may_try && !seeded(Bug::YieldForgotten) {
            // Not woken by itself: calloop's executor would poll it again, up to 1024 times, before anything else.
            self.retry_next_turn(direction);
        }
        self.trace.tell(if may_try { Event::Yielded(direction) } else { Event::Parked(direction) });
        Poll::Pending
    }

    /// True if a reader that was not called had better not try: it would find nothing, and call the senders that wait for
    /// their peers. Where one of these is in the same task, they would keep each other busy for ever.
    fn would_disturb(&self, place: &Place<'_>, cx: &Context<'_>) -> bool {
        self.readiness.borrow().senders_settle() && self.is_uncalled(Direction::Read, place, cx)
    }

    /// True if this place waits for this task, and has not been called: polling it again would find nothing.
    pub(crate) fn is_uncalled(&self, direction: Direction, place: &Place<'_>, cx: &Context<'_>) -> bool {
        self.readiness.borrow().is_uncalled(direction, place, cx.waker())
    }

    /// Fails once the context is shut down: libzmq itself may not know of it.
    #[inline]
    pub(crate) fn check(&self) -> crate::Result<()> {
        match self.ended.get() {
            Some(Ended::Terminated) => Err(Error::Terminated),
            _ => Ok(()),
        }
    }

    /// Why every wait is over, if it is.
    pub(crate) fn ended(&self) -> Option<Error> {
        self.ended.get().map(Ended::error)
    }

    /// Waits at this place, after an attempt said EAGAIN.
    pub(crate) fn park(
        self: &Rc<Self>,
        direction: Direction,
        place: &mut Place<'_>,
        cx: &Context<'_>,
    ) -> crate::Result<()> {
        self.wait(direction, place, cx)?;
        self.trace.tell(Event::Parked(direction));
        Ok(())
    }

    fn wait(self: &Rc<Self>, direction: Direction, place: &mut Place<'_>, cx: &Context<'_>) -> crate::Result<()> {
        if let Some(ended) = self.ended.get() {
            return Err(ended.error());
        }
        let waker = cx.waker().clone();
        self.wake(|readiness| readiness.park(direction, place, waker));
        if self.lent_at.get() != 0 {
            self.owe();
        }
        Ok(())
    }

    /// An operation in this direction succeeded: counts it, gives its place up, and owes those who wait a look.
    #[inline]
    pub(crate) fn succeeded(self: &Rc<Self>, direction: Direction, place: &mut Place<'_>) {
        if self.readiness.borrow().is_idle(direction) {
            // There are no places in this direction then, and no turns to pass on.
            self.succeeded_aside(direction);
        } else {
            self.succeeded_among_others(direction, place);
        }
    }

    fn succeeded_among_others(self: &Rc<Self>, direction: Direction, place: &mut Place<'_>) {
        if matches!(place, Place::Slot) {
            self.readiness.borrow_mut().slot_took_turn(direction);
        }
        self.left(direction, place, true);
        self.succeeded_aside(direction);
    }

    /// As [`succeeded`](Self::succeeded), for an operation that stood in no place.
    #[inline]
    pub(crate) fn succeeded_aside(self: &Rc<Self>, direction: Direction) {
        self.spend(direction);
        if !seeded(Bug::SuccessOwesNothing) {
            self.touched();
        }
    }

    /// An operation in this direction ended without success, or its future was dropped.
    #[inline]
    pub(crate) fn left(&self, direction: Direction, place: &mut Place<'_>, took_turn: bool) {
        let ticket = match place {
            Place::Line(ticket) => ticket.take(),
            Place::Slot => None,
        };
        if let Some(ticket) = ticket {
            self.wake(|readiness| readiness.leave(direction, ticket, took_turn));
        }
    }

    /// libzmq was called and may have swallowed what somebody waits for: a look is owed before the loop sleeps.
    #[inline]
    pub(crate) fn touched(self: &Rc<Self>) {
        if self.readiness.borrow().anyone_waits() {
            self.touched.set(true);
            self.owe();
        }
    }

    /// A failed receive has processed every command. If a writer waits, looks at once.
    ///
    /// Writers of whom `POLLOUT` tells nothing are called for this now and then. One of them may be in the same task as the
    /// reader: its try would have the reader fail again, and so on for ever.
    pub(crate) fn look_for_writers(self: &Rc<Self>, socket: &ffi::Socket) -> Result<(), Errno> {
        if !self.readiness.borrow().waits(Direction::Write) || seeded(Bug::NoCrossLook) {
            return Ok(());
        }
        if self.readiness.borrow().senders_settle() && !self.settling.receive_failed(clock::now()) {
            self.owe();
            return Ok(());
        }
        let events = socket.events()?;
        self.wake(|readiness| readiness.ready(events));
        Ok(())
    }

    /// A look in the course of an operation in this direction: what it found, and who must be woken in the other one.
    ///
    /// They are for the caller to wake when it has parked itself, or has no need to: a waker may run code that swallows
    /// what the caller would wait for. No one in the same direction is called: where each waits for its own peer, two
    /// of them would call each other for ever.
    pub(crate) fn look_for_others(&self, socket: &ffi::Socket, own: Direction) -> Result<(Events, Wakes), Errno> {
        let events = socket.events()?;
        if seeded(Bug::NoCrossLook) {
            return Ok((events, Wakes::default()));
        }
        let mut readiness = self.readiness.borrow_mut();
        let others = match own {
            Direction::Read => Events { readable: false, ..readiness.concerns(events) },
            Direction::Write => Events { writable: false, ..events },
        };
        Ok((events, readiness.call(others)))
    }

    /// Waits for the end alone, and takes nobody's turn. Fails if it has come.
    pub(crate) fn stand_by(&self, ticket: &mut Option<Ticket>, cx: &Context<'_>) -> crate::Result<()> {
        if let Some(ended) = self.ended() {
            return Err(ended);
        }
        self.wake(|readiness| readiness.stand_by(ticket, cx.waker()));
        Ok(())
    }

    /// Waits for the end no more.
    pub(crate) fn stand_down(&self, ticket: Ticket) {
        self.wake(|readiness| readiness.stand_down(ticket));
    }

    /// Calls whoever waits in this direction: it is ready, and who found out took nothing.
    pub(crate) fn call(&self, direction: Direction) {
        self.wake(|readiness| readiness.call(Events::only(direction)));
    }

    /// What the Sink held is gone: sent by somebody else, refused, or taken back.
    pub(crate) fn flushed(&self) {
        self.wake(Readiness::flushed);
    }

    /// A sender makes a try.
    #[inline]
    pub(crate) fn tries(&self) {
        self.settling.tries();
    }

    /// True if a sender that waits for its peer and failed just now need not look for others.
    pub(crate) fn is_settling(&self) -> bool {
        self.settling.in_window(clock::now())
    }

    /// A sender that waits for its peer failed, and may have harmed others.
    pub(crate) fn unsettled(self: &Rc<Self>) {
        let others_wait = self.readiness.borrow().anyone_waits();
        if self.settling.failed(others_wait, clock::now()) {
            self.owe();
        }
    }

    /// Calls somebody who waits in this direction at the next turn of the loop.
    pub(crate) fn retry_next_turn(self: &Rc<Self>, direction: Direction) {
        self.due.set(self.due.get().and(Events::only(direction)));
        self.owe();
    }

    /// The error for the caller. The end of the context ends every wait on the socket.
    #[cold]
    pub(crate) fn failed(self: &Rc<Self>, errno: Errno, operation: &'static str) -> Error {
        if errno == Errno::ETERM {
            self.end(Ended::Terminated);
        }
        self.touched();
        errno.error(operation)
    }

    /// The bare socket is lent out: until the borrow ends, anything may be called on it at any time.
    ///
    /// A shared borrow ends at the latest when its owner moves or is borrowed mutably. So `owner`, the address where
    /// the owner stands, tells later whether the borrow may still be alive: see [`returned`](Self::returned).
    pub(crate) fn lend(self: &Rc<Self>, owner: usize) {
        if !seeded(Bug::LoanForgotten) {
            self.lent_at.set(owner);
        }
        self.touched();
    }

    /// The owner stands at `owner` now, or is borrowed mutably (0): a borrow from elsewhere is over.
    #[inline]
    pub(crate) fn returned(&self, owner: usize) {
        if self.lent_at.get() != owner {
            self.lent_at.set(0);
        }
    }

    fn end(&self, ended: Ended) {
        if self.ended.get().is_none() {
            self.ended.set(Some(ended));
        }
        // After termination libzmq processes no commands: the descriptor would stay readable and the loop spin.
        self.registration.end();
        self.wake(Readiness::end);
    }

    fn owe(self: &Rc<Self>) {
        if self.owes.replace(true) {
            // On the list, where the last look may have left it to watch: it did not see what is owed now.
            self.hub.nudge();
        } else {
            self.hub.owe(Rc::clone(self) as Rc<dyn Member>);
        }
    }

    #[inline]
    fn has_budget(&self, direction: Direction) -> bool {
        // Without a loop there is nobody to be fair to, and no next turn.
        self.budget.has(direction, self.hub.turn()) || self.hub.is_gone()
    }

    #[inline]
    pub(crate) fn spend(&self, direction: Direction) {
        self.budget.spend(direction, self.hub.turn());
    }

    /// Somebody asked whether this direction is ready, and it is.
    pub(crate) fn asked(&self, direction: Direction) {
        self.budget.ask(direction, self.hub.turn());
    }

    /// What must be done for senders that wait for their peers, and has the loop woken in time for it.
    fn settle(&self, readiness: &Readiness, lent: bool) -> Verdict {
        if !readiness.senders_settle() || seeded(Bug::NeverSettles) {
            return Verdict::Nothing;
        }
        let now = clock::now();
        if lent {
            self.settling.disturbed(now);
        }
        let verdict = self.settling.verdict(now);
        match verdict {
            Verdict::Wait(at) if self.alarm.get().is_none_or(|alarm| alarm <= now || at < alarm) => {
                self.alarm.set(Some(at));
                self.hub.wait(self.hub.deadline(at), Waker::noop());
            }
            _ => {}
        }
        verdict
    }

    /// Wakes whom `pick` picks, after the borrow.
    fn wake(&self, pick: impl FnOnce(&mut Readiness) -> Wakes) {
        let wakes = pick(&mut self.readiness.borrow_mut());
        pass(Point::Wake);
        let _held = seeded(Bug::WakeUnderBorrow).then(|| self.readiness.borrow_mut());
        drop(wakes);
    }
}

impl Watched for State {
    fn registration(&self) -> &Registration {
        &self.registration
    }

    fn on_event(&self) {
        self.settling.happened();
        if seeded(Bug::EventUnread) && !self.readiness.borrow().anyone_waits() {
            return;
        }
        // Read also when nobody waits: it silences the descriptor and lets libzmq reap peers that went away.
        match self.socket.upgrade().map(|socket| socket.events()) {
            Some(Ok(_)) if seeded(Bug::EventForReadersOnly) => self.call(Direction::Read),
            Some(Ok(events)) => self.wake(|readiness| readiness.ready(events)),
            Some(Err(_)) => self.end(Ended::Terminated),
            None => {}
        }
    }

    fn on_gone(&self) {
        self.end(Ended::LoopGone);
    }
}

impl Member for State {
    fn look(&self) -> Look {
        // A look found the end before, and its event was lost with a batch.
        if self.ended.get().is_some() {
            return Look::Ready;
        }
        let readiness = self.readiness.borrow();
        let mut due = self.due.get();
        let lent = self.lent_at.get() != 0;
        let touched = self.touched.take();
        let unknown =
            !due.readable && readiness.waits(Direction::Read) || !due.writable && readiness.waits(Direction::Write);
        let unknown = unknown && !seeded(Bug::NoLookBeforeSleep);
        if unknown && (touched || lent && readiness.looking_helps()) {
            let found = match self.socket.upgrade().map(|socket| socket.events()) {
                Some(Ok(events)) if touched => readiness.concerns(events),
                // Nobody knows whether anything was called. Writers of whom `POLLOUT` tells nothing would be called at
                // every turn, and each call be a turn.
                Some(Ok(events)) => readiness.certain(events),
                // That concerns everyone, also those whom no readiness would call.
                Some(Err(_)) => {
                    self.ended.set(Some(Ended::Terminated));
                    return Look::Ready;
                }
                None => Events::default(),
            };
            due = due.and(found);
        }
        let settles = self.settle(&readiness, lent);
        due.writable |= settles == Verdict::CallSenders;
        if readiness.would_wake(due) {
            if !seeded(Bug::DebtClearedBeforeSleep) {
                self.due.set(due);
            }
            return Look::Ready;
        }
        self.due.take();
        if lent && readiness.anyone_waits() || settles != Verdict::Nothing {
            return Look::Watch;
        }
        self.owes.set(false);
        Look::Quiet
    }

    fn pay(self: Rc<Self>) {
        self.owes.set(false);
        let mut due = self.due.take();
        if seeded(Bug::DebtClearedBeforeSleep) {
            due = Events { readable: true, writable: true };
        }
        if let Some(ended) = self.ended.get() {
            self.end(ended);
            return;
        }
        if due.writable {
            self.settling.called(clock::now());
        }
        self.wake(|readiness| readiness.call(due));
        // It may have been touched since the look, by a source whose event came first.
        let touched = self.touched.get() && !seeded(Bug::TouchedClearedTooEarly);
        let must_look = touched || self.lent_at.get() != 0 || self.settling.is_due();
        if must_look && self.readiness.borrow().anyone_waits() {
            self.owe();
        }
    }

    fn shut_down(&self) {
        self.end(Ended::Terminated);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("ended", &self.ended).field("budget", &self.budget).finish_non_exhaustive()
    }
}

/// A socket's hold on the loop. Dropped before the socket is closed.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) state: Rc<State>,
    membership: Membership,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.state.registration.end();
        // Nobody is waiting: a wait borrows the socket. But the slot of its Stream or Sink may still hold a waker, and
        // with it a task and that task's executor.
        let waiters = self.state.readiness.replace(Readiness::new(WriteOrder::Line));
        drop(waiters);
        self.state.hub.leave(&self.membership);
    }
}

#[cfg(test)]
#[path = "model/inside/state.rs"]
pub(crate) mod inside;
