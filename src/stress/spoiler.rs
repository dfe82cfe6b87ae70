//! A source that fails now and then, and takes the rest of the batch with it. It also sees when the loop wakes.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;

use calloop::{EventIterator, EventSource, Poll, PostAction, Readiness, Token, TokenFactory};

use super::dice::Dice;
use super::rig::Shared;

pub(super) struct Spoiler {
    /// It fails in one of so many turns. 0: never.
    pub(super) one_in: Rc<Cell<u64>>,
    pub(super) dice: Dice,
    pub(super) token: Option<Token>,
    pub(super) shared: Rc<Shared>,
    /// The loop's own descriptor: readable when an event is there.
    pub(super) fd: zmq_sys::RawFd,
}

impl EventSource for Spoiler {
    type Event = Infallible;
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    const NEEDS_EXTRA_LIFECYCLE_EVENTS: bool = true;

    fn process_events<F>(&mut self, _: Readiness, token: Token, _: F) -> io::Result<PostAction>
    where
        F: FnMut(Infallible, &mut ()),
    {
        if self.token == Some(token) { Err(io::Error::other("spoilt")) } else { Ok(PostAction::Continue) }
    }

    fn register(&mut self, _: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.token = Some(factory.token());
        Ok(())
    }

    fn reregister(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.register(poll, factory)
    }

    fn unregister(&mut self, _: &mut Poll) -> calloop::Result<()> {
        self.token = None;
        Ok(())
    }

    fn before_sleep(&mut self) -> calloop::Result<Option<(Readiness, Token)>> {
        let spoils = self.one_in.get() > 0 && self.dice.one_in(self.one_in.get());
        let ready = Readiness { readable: true, writable: false, error: false };
        Ok(self.token.filter(|_| spoils).map(|token| (ready, token)))
    }

    fn before_handle_events(&mut self, _: EventIterator<'_>) {
        let no_event = zmq::poll(&mut [zmq::PollItem::from_fd(self.fd, zmq::POLLIN)], 0) == Ok(0);
        self.shared.wakes(no_event);
    }
}
