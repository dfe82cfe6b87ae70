//! What the loop holds of a socket: a source over the number of its `ZMQ_FD`.
//!
//! Level-triggered, with one read of `ZMQ_EVENTS` for each event: the read silences the descriptor, an event that got
//! lost with its batch comes back, and it works where edges do not exist. The registration lives outside the source, so
//! that a socket can take it out and end it without touching the loop: `LoopHandle::remove` drops what it removes
//! while the loop's list is borrowed, and a socket may be dropped in there, with the executor that ran its task.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;

use calloop::generic::Generic;
use calloop::{EventSource, Interest, Mode, Poll, PostAction, Readiness, Token, TokenFactory};

use crate::ffi::ZmqFd;

/// What a source tells its socket.
pub(crate) trait Watched {
    fn registration(&self) -> &Registration;
    /// The descriptor is readable.
    fn on_event(&self);
    /// The source was removed, or the loop dropped.
    fn on_gone(&self);
}

/// The descriptor's place in the loop's poller. Ends when taken.
#[derive(Debug)]
pub(crate) struct Registration(RefCell<Option<Generic<ZmqFd>>>);

impl Registration {
    pub(crate) fn new(fd: ZmqFd) -> Self {
        Self(RefCell::new(Some(Generic::new(fd, Interest::READ, Mode::Level))))
    }

    /// Stops watching. Must come before the socket is closed: libzmq gives the number to the next one.
    pub(crate) fn end(&self) {
        let ended = self.0.take();
        drop(ended);
    }

    fn with(&self, then: impl FnOnce(&mut Generic<ZmqFd>) -> calloop::Result<()>) -> calloop::Result<()> {
        self.0.borrow_mut().as_mut().map_or(Ok(()), then)
    }

    /// calloop keeps a `Generic`'s token to itself; asking it to process the event is the only way to compare.
    fn owns(&self, readiness: Readiness, token: Token) -> io::Result<bool> {
        let mut owns = false;
        if let Some(generic) = self.0.borrow_mut().as_mut() {
            generic.process_events(readiness, token, |_, _| {
                owns = true;
                Ok(PostAction::Continue)
            })?;
        }
        Ok(owns)
    }
}

/// The source of one socket.
pub(crate) struct SocketSource(Rc<dyn Watched>);

impl SocketSource {
    pub(crate) fn new(socket: Rc<dyn Watched>) -> Self {
        Self(socket)
    }
}

impl EventSource for SocketSource {
    type Event = Infallible;
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<F>(&mut self, readiness: Readiness, token: Token, _: F) -> Result<PostAction, io::Error>
    where
        F: FnMut(Infallible, &mut ()),
    {
        // Errors go to the tasks that wait. An `Err` from here would cost other sources the rest of the batch.
        if self.0.registration().owns(readiness, token)? {
            self.0.on_event();
        }
        Ok(PostAction::Continue)
    }

    fn register(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.0.registration().with(|generic| generic.register(poll, factory))
    }

    fn reregister(&mut self, poll: &mut Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.0.registration().with(|generic| generic.reregister(poll, factory))
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.0.registration().with(|generic| generic.unregister(poll))
    }
}

impl Drop for SocketSource {
    fn drop(&mut self) {
        self.0.on_gone();
    }
}

#[cfg(test)]
#[path = "model/inside/source.rs"]
pub(crate) mod inside;
