//! One source for each context: what must be done before the loop sleeps, for all its sockets.
//!
//! Sockets put themselves on the hub's list when they owe somebody a look: an operation may have swallowed an
//! announcement that a waiter needed, or a task used its budget up and waits for the next turn. `before_sleep` goes
//! through that list, and answers with a synthetic event if anyone must be woken; `process_events` does the waking,
//! where nothing of the loop is borrowed. The list is cleared there and not in `before_sleep`: a synthetic event can be
//! lost with its batch, when some other source fails. An empty list costs nothing, however many sockets there are.

use std::cell::{Cell, OnceCell, RefCell};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::Instant;
use std::{fmt, io};

use calloop::ping::{self, Ping};
use calloop::{
    EventIterator, EventSource, LoopHandle, Poll, PostAction, Readiness, RegistrationToken, Token, TokenFactory,
};
use slab::Slab;

use crate::budget::Turn;
use crate::error::Error;
use crate::seeded::{Bug, Point, pass, seeded};
use crate::source::SocketSource;
use crate::timer::{Check, Deadline, TimerSource, Timers};

/// A socket of the context.
pub(crate) trait Member {
    /// Looks whether somebody must be woken. Runs before the loop sleeps, and must run no one else's code.
    fn look(&self) -> Look;
    /// Wakes them.
    fn pay(self: Rc<Self>);
    /// Ends every wait: the context is shut down.
    fn shut_down(&self);
}

/// A member's place with the hub, and that of its source in the loop.
#[derive(Debug)]
pub(crate) struct Membership {
    key: usize,
    source: RegistrationToken,
}

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Somebody must be woken before the loop sleeps.
    Ready,
    /// Nobody, and the next event will announce itself.
    Quiet,
    /// Nobody now, but libzmq may be called behind our back before the next turn: look again then.
    Watch,
}

/// The state of a context's source.
pub(crate) struct Hub {
    reach: Box<dyn Reach>,
    timers: Rc<Timers>,
    timer: OnceCell<RegistrationToken>,
    /// Budgets are for one turn.
    turn: Turn,
    members: RefCell<Slab<Weak<dyn Member>>>,
    /// The members that owe somebody a look.
    debtors: RefCell<Vec<Rc<dyn Member>>>,
    /// Sources whose socket is gone.
    husks: RefCell<Vec<RegistrationToken>>,
    /// It has looked, and the loop may be about to sleep on it.
    asleep: Cell<bool>,
    /// Wakes the loop from that sleep.
    ping: Ping,
    shut_down: Cell<bool>,
    gone: Cell<bool>,
}

impl Hub {
    pub(crate) fn new<D: 'static>(handle: &LoopHandle<'static, D>) -> crate::Result<Rc<Self>> {
        let weak = handle.downgrade();
        let timers = Rc::new(Timers::default());
        let (ping, pinged) = ping::make_ping().map_err(|error| Error::Register(error.into()))?;
        let hub = Rc::new(Self {
            reach: Box::new(Upgrade { upgrade: move || weak.upgrade(), data: PhantomData }),
            timers: Rc::clone(&timers),
            timer: OnceCell::new(),
            turn: Turn::default(),
            members: RefCell::default(),
            debtors: RefCell::default(),
            husks: RefCell::default(),
            asleep: Cell::new(false),
            ping,
            shut_down: Cell::new(false),
            gone: Cell::new(false),
        });
        // The ping's source goes by itself, with the ping.
        insert(handle, pinged)?;
        let timer = insert(handle, TimerSource::new(timers))?;
        if let Err(error) = insert(handle, HubSource { hub: Rc::clone(&hub), token: None }) {
            handle.remove(timer);
            return Err(error);
        }
        let set = hub.timer.set(timer);
        debug_assert!(set.is_ok(), "a hub has one timer");
        Ok(hub)
    }

    /// Takes a new socket in, and its source into the loop.
    pub(crate) fn join(&self, member: Weak<dyn Member>, source: SocketSource) -> crate::Result<Membership> {
        if self.shut_down.get() {
            return Err(Error::Terminated);
        }
        if self.is_gone() {
            return Err(Error::LoopGone);
        }
        // Whoever opens and closes sockets without an end would have the loop look through what they left.
        self.reap();
        let source = self.reach.insert(source)?;
        Ok(Membership { key: self.members.borrow_mut().insert(member), source })
    }

    /// Lets a socket go, and its source at the next turn. Called in drops, where the loop may be borrowed.
    pub(crate) fn leave(&self, membership: &Membership) {
        let left = self.members.borrow_mut().remove(membership.key);
        drop(left);
        if !self.is_gone() {
            self.husks.borrow_mut().push(membership.source);
            self.nudge();
        }
    }

    /// Ends every wait on the sockets, and takes in no more.
    pub(crate) fn shut_down(&self) {
        self.shut_down.set(true);
        let members: Vec<_> = self.members.borrow().iter().filter_map(|(_, member)| member.upgrade()).collect();
        for member in members {
            member.shut_down();
        }
    }

    /// How many sockets are open.
    pub(crate) fn len(&self) -> usize {
        self.members.borrow().len()
    }

    /// Has `debtor` looked at before the loop sleeps.
    pub(crate) fn owe(&self, debtor: Rc<dyn Member>) {
        if !self.is_gone() {
            self.debtors.borrow_mut().push(debtor);
            self.nudge();
        }
    }

    #[inline]
    pub(crate) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Enters a deadline to wait for.
    pub(crate) fn deadline(&self, at: Instant) -> Deadline {
        self.timers.deadline(at)
    }

    /// Has `waker` woken at the deadline.
    pub(crate) fn wait(&self, deadline: Deadline, waker: &Waker) {
        self.timers.wait(deadline, waker);
        self.nudge();
    }

    /// Takes a deadline out.
    pub(crate) fn forget(&self, deadline: Deadline) {
        self.timers.forget(deadline);
    }

    /// There is something to look at. Nearly always the hub will look before the loop sleeps; but a source that comes
    /// after it in the loop may run tasks in its own `before_sleep`.
    pub(crate) fn nudge(&self) {
        if self.asleep.get() && !seeded(Bug::NoNudge) {
            self.ping.ping();
        }
    }

    /// True once the loop dropped the hub's source: nothing will be woken any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// The last before the loop sleeps: true if it must not, for there is something to do.
    fn before_sleep(&self) -> bool {
        self.turn.next();
        let act = self.must_act();
        self.asleep.set(!act);
        pass(Point::Sleep);
        act
    }

    fn must_act(&self) -> bool {
        let mut ready = false;
        self.debtors.borrow_mut().retain(|debtor| {
            let look = debtor.look();
            ready |= look == Look::Ready;
            look != Look::Quiet
        });
        ready || !self.husks.borrow().is_empty() || self.timers.check() != Check::Fine
    }

    fn act(&self) {
        self.reap();
        if self.timers.check() == Check::Overdue {
            self.timers.wake_due();
        }
        if self.timers.check() == Check::Arm {
            self.timer.get().copied().into_iter().for_each(|timer| self.reach.update(timer));
        }
        for debtor in self.debtors.take() {
            debtor.pay();
        }
    }

    fn reap(&self) {
        for husk in self.husks.take() {
            self.reach.remove(husk);
        }
    }

    fn end(&self) {
        self.gone.set(true);
        // A debtor holds the hub: left here, the two would keep each other.
        let debtors = self.debtors.take();
        drop(debtors);
        let sleepers = self.timers.end();
        drop(sleepers);
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("turn", &self.turn).field("gone", &self.gone).finish_non_exhaustive()
    }
}

/// The hub's place in the loop.
struct HubSource {
    hub: Rc<Hub>,
    token: Option<Token>,
}

impl HubSource {
    /// True if nobody else has the hub, and so nobody ever will.
    fn is_alone(&self) -> bool {
        Rc::strong_count(&self.hub) == 1
    }
}

impl EventSource for HubSource {
    type Event = Infallible;
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    const NEEDS_EXTRA_LIFECYCLE_EVENTS: bool = true;

    fn process_events<F>(&mut self, _: Readiness, token: Token, _: F) -> Result<PostAction, io::Error>
    where
        F: FnMut(Infallible, &mut ()),
    {
        if self.token != Some(token) {
            return Ok(PostAction::Continue);
        }
        self.hub.act();
        if !self.is_alone() {
            return Ok(PostAction::Continue);
        }
        // The context, its sockets and sleeps are gone. The ping goes with the hub.
        self.hub.timer.get().copied().into_iter().for_each(|timer| self.hub.reach.remove(timer));
        Ok(PostAction::Remove)
    }

    // These answer `Ok`, always: on an `Err` calloop forgets half of a source with lifecycle events and panics at the
    // next dispatch. Nobody has the token that it takes to disable the source: it is registered once, and taken out to
    // be dropped.
    fn register(&mut self, _: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.token = Some(factory.token());
        Ok(())
    }

    fn reregister(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.register(poll, factory)
    }

    fn unregister(&mut self, _: &mut Poll) -> calloop::Result<()> {
        Ok(())
    }

    fn before_sleep(&mut self) -> calloop::Result<Option<(Readiness, Token)>> {
        let act = self.hub.before_sleep() || self.is_alone();
        Ok(self.token.filter(|_| act).map(|token| (SYNTHETIC, token)))
    }

    fn before_handle_events(&mut self, _: EventIterator<'_>) {
        self.hub.asleep.set(false);
    }
}

impl Drop for HubSource {
    fn drop(&mut self) {
        self.hub.end();
    }
}

/// The loop, reached without being held.
///
/// A strong handle in anything that a task owns is a cycle that leaks the loop. calloop's weak handle cannot be named,
/// so it stands here as the closure that upgrades it.
trait Reach {
    fn insert(&self, source: SocketSource) -> crate::Result<RegistrationToken>;
    fn remove(&self, token: RegistrationToken);
    fn update(&self, token: RegistrationToken);
}

struct Upgrade<F, D> {
    upgrade: F,
    data: PhantomData<fn(&mut D)>,
}

impl<F, D: 'static> Reach for Upgrade<F, D>
where
    F: Fn() -> Option<LoopHandle<'static, D>>,
{
    fn insert(&self, source: SocketSource) -> crate::Result<RegistrationToken> {
        let handle = (self.upgrade)().ok_or(Error::LoopGone)?;
        insert(&handle, source)
    }

    fn remove(&self, token: RegistrationToken) {
        if let Some(handle) = (self.upgrade)() {
            handle.remove(token);
        }
    }

    fn update(&self, token: RegistrationToken) {
        if let Some(handle) = (self.upgrade)() {
            // It fails if somebody removed the timer, which only the loop's end does.
            let updated = handle.update(&token);
            debug_assert!(updated.is_ok(), "the timer is the hub's own");
        }
    }
}

fn insert<D, S>(handle: &LoopHandle<'static, D>, source: S) -> crate::Result<RegistrationToken>
where
    S: EventSource<Metadata = (), Ret = ()> + 'static,
{
    handle.insert_source(source, |_, (), _| ()).map_err(|refused| Error::Register(refused.error))
}

const SYNTHETIC: Readiness = Readiness { readable: true, writable: false, error: false };

#[cfg(test)]
#[path = "model/inside/hub.rs"]
pub(crate) mod inside;

#[cfg(test)]
mod tests {
    use calloop::EventLoop;

    use super::*;
    use crate::context::Core;
    use crate::ffi;
    use crate::kind::Pull;
    use crate::socket::AsyncZmqSocket;

    #[test]
    fn sockets_that_come_and_go_in_one_turn_do_not_pile_up_in_the_loop() {
        let event_loop = EventLoop::<()>::try_new().unwrap();
        let hub = Hub::new(&event_loop.handle()).unwrap();
        let (core, context) = (Core::of_model(Rc::clone(&hub)), zmq::Context::new());
        for _ in 0..100 {
            let socket = ffi::Socket::open(&context, zmq::PULL).unwrap();
            drop(AsyncZmqSocket::<Pull>::new(socket, &core).unwrap());
            assert_eq!(hub.husks.borrow().len(), 1);
        }
    }
}
