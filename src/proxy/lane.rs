//! One direction of a proxy: a message at a time, from one socket to the other.

use std::rc::Rc;
use std::task::{Context, Poll, ready};

use zmq::SocketType;

use crate::error::Error;
use crate::events::Direction;
use crate::ffi;
use crate::kind::Kind;
use crate::multipart::Multipart;
use crate::proxy::control::{ProxyControl, Way};
use crate::readiness::Place;
use crate::socket::AsyncZmqSocket;
use crate::state::State;
use crate::wait::{Standby, Wait};

/// One direction of a proxy.
pub(super) struct Lane<'a> {
    from: &'a dyn Port,
    reading: Wait<'a>,
    end: Standby<'a>,
    hand: Hand<'a>,
    way: Way,
}

impl<'a> Lane<'a> {
    pub(super) fn new(from: &'a dyn Port, to: &'a dyn Port, way: Way) -> Self {
        Self {
            from,
            reading: Wait::new(from.state(), Direction::Read),
            end: Standby::new(from.state()),
            hand: Hand::new(to),
            way,
        }
    }

    /// Fails if one of its sockets has ended.
    pub(super) fn check(&mut self, cx: &Context<'_>) -> crate::Result<()> {
        self.end.poll(cx)?;
        self.hand.check(cx)
    }

    /// Forwards one message. Where that has to wait, the lane stands in one line and no other.
    #[inline]
    pub(super) fn poll_one(
        &mut self,
        mut capture: Option<&mut Hand<'a>>,
        control: &ProxyControl,
        cx: &Context<'_>,
    ) -> Poll<crate::Result<()>> {
        if self.reading.is_uncalled(cx) {
            return Poll::Pending;
        }
        if self.poll_room(capture.as_deref_mut(), control, cx)?.is_pending() {
            // Called to receive: that is for the next one now.
            self.reading.leave();
            return Poll::Pending;
        }
        let message = &mut self.hand.message;
        if self.from.poll_recv_into(message, self.reading.place(), cx)?.is_pending() {
            self.hand.knows_room = false;
            if let Some(capture) = capture {
                capture.knows_room = false;
            }
            return Poll::Pending;
        }
        self.hand.is_full = true;
        control.count(self.way, |traffic| {
            traffic.messages += 1;
            traffic.bytes += message.iter().map(|frame| frame.len() as u64).sum::<u64>();
        });
        if let Some(capture) = capture {
            capture.copy(message);
            // If it waits, so does the next message.
            if let Poll::Ready(Err(error)) = capture.poll_empty(cx) {
                return Poll::Ready(Err(error));
            }
        }
        self.poll_hand(control, cx)
    }

    /// Sends what is in hand, and takes nothing up any more.
    pub(super) fn poll_finish(&mut self, control: &ProxyControl, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.reading.leave();
        self.poll_hand(control, cx)
    }

    /// Stands in no line any more, where it would hold others up.
    pub(super) fn rest(&mut self) {
        self.reading.leave();
        self.hand.rest();
    }

    /// Makes sure that a message can be sent.
    #[inline]
    fn poll_room(
        &mut self,
        capture: Option<&mut Hand<'a>>,
        control: &ProxyControl,
        cx: &Context<'_>,
    ) -> Poll<crate::Result<()>> {
        ready!(self.poll_hand(control, cx))?;
        ready!(self.hand.poll_room(cx))?;
        match capture {
            Some(capture) => {
                ready!(capture.poll_empty(cx))?;
                capture.poll_room(cx)
            }
            None => Poll::Ready(Ok(())),
        }
    }

    /// Sends what is in hand.
    #[inline]
    fn poll_hand(&mut self, control: &ProxyControl, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        if ready!(self.hand.poll_empty(cx))? == Outcome::Undeliverable {
            control.count(self.way, |traffic| traffic.undeliverable += 1);
        }
        Poll::Ready(Ok(()))
    }
}

/// The sending end of a lane, or a capture: it has a message in hand only while that waits for room.
pub(super) struct Hand<'a> {
    to: &'a dyn Port,
    sending: Wait<'a>,
    end: Standby<'a>,
    /// Its room is used again for the next message.
    message: Multipart,
    is_full: bool,
    /// `POLLOUT` was there when it was last asked, and no send has failed since.
    knows_room: bool,
}

impl<'a> Hand<'a> {
    pub(super) fn new(to: &'a dyn Port) -> Self {
        Self {
            to,
            sending: Wait::new(to.state(), Direction::Write),
            end: Standby::new(to.state()),
            message: Multipart::new(),
            is_full: false,
            knows_room: false,
        }
    }

    /// Fails if the socket has ended.
    pub(super) fn check(&mut self, cx: &Context<'_>) -> crate::Result<()> {
        self.end.poll(cx)
    }

    /// Sends the message in hand, if there is one.
    #[inline]
    pub(super) fn poll_empty(&mut self, cx: &Context<'_>) -> Poll<crate::Result<Outcome>> {
        // What a proxy before this one had in hand is with the socket. It goes first.
        if !self.is_full && (self.knows_room || self.to.holds_nothing()) {
            return Poll::Ready(Ok(Outcome::Sent));
        }
        if self.sending.is_uncalled(cx) {
            return Poll::Pending;
        }
        let sent = if self.is_full {
            self.to.poll_send(&mut self.message, self.sending.place(), cx)
        } else {
            self.to.poll_held(self.sending.place(), cx)
        };
        let outcome = match sent {
            Poll::Ready(Ok(())) => Outcome::Sent,
            Poll::Ready(Err(error)) if is_for_nobody(&error) => Outcome::Undeliverable,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                self.knows_room = false;
                return Poll::Pending;
            }
        };
        // What libzmq has of it is the last frame; the others are here in a second reference, and are not to be kept until
        // the next message comes.
        if self.message.len() > 1 || outcome == Outcome::Undeliverable {
            self.message.clear();
        }
        self.is_full = false;
        Poll::Ready(Ok(outcome))
    }

    /// Waits for room, with nothing in hand.
    #[inline]
    fn poll_room(&mut self, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        if self.knows_room {
            return Poll::Ready(Ok(()));
        }
        if self.sending.is_uncalled(cx) {
            return Poll::Pending;
        }
        ready!(self.to.poll_events(Direction::Write, self.sending.place(), cx))?;
        self.knows_room = true;
        Poll::Ready(Ok(()))
    }

    /// Takes a copy in hand, whose frames are the same.
    fn copy(&mut self, message: &mut Multipart) {
        self.message.clear();
        self.message.extend(message.iter_mut().map(ffi::share));
        self.is_full = true;
    }

    /// Stands in no line any more.
    pub(super) fn rest(&mut self) {
        self.sending.leave();
        self.knows_room = false;
    }
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        if self.is_full {
            self.to.hold(std::mem::take(&mut self.message));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Sent,
    Undeliverable,
}

/// A socket of any kind.
pub(super) trait Port {
    fn state(&self) -> &Rc<State>;
    fn kind(&self) -> SocketType;
    fn poll_recv_into(&self, message: &mut Multipart, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>>;
    fn poll_send(&self, message: &mut Multipart, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>>;
    fn poll_events(&self, direction: Direction, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>>;
    /// Sends what its Sink holds.
    fn poll_held(&self, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>>;
    fn holds_nothing(&self) -> bool;
    fn hold(&self, message: Multipart);
}

impl<K: Kind> Port for AsyncZmqSocket<K> {
    fn state(&self) -> &Rc<State> {
        self.state()
    }

    fn kind(&self) -> SocketType {
        self.transmitter().kind()
    }

    fn poll_recv_into(&self, message: &mut Multipart, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_recv_into(message, place, cx)
    }

    fn poll_send(&self, message: &mut Multipart, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_send(message, place, cx)
    }

    fn poll_events(&self, direction: Direction, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_events(direction, place, cx)
    }

    fn poll_held(&self, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_outbox(place, cx)
    }

    fn holds_nothing(&self) -> bool {
        self.outbox().is_empty()
    }

    fn hold(&self, message: Multipart) {
        self.outbox().push(message);
    }
}

/// True if the message that met this error can never be sent, and the next one may.
fn is_for_nobody(error: &Error) -> bool {
    matches!(error, Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. } | Error::FrameCount { .. })
}
