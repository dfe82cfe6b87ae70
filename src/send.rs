//! Sending: what one operation does, and the Sink made of it.
//!
//! libzmq may say EAGAIN from old knowledge: a send processes commands only when the last one that did is a millisecond
//! ago. So a failed attempt reads `ZMQ_EVENTS` once and tries again before it parks. Where `POLLOUT` tells the truth,
//! that read is also the last thing that touches the socket: whatever comes after it will announce itself.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_sink::Sink;

use crate::error::{Error, SendError};
use crate::events::Direction;
use crate::ffi::Errno;
use crate::kind::{CanSend, Kind};
use crate::multipart::Multipart;
use crate::readiness::Place;
use crate::seeded::{Bug, Point, pass, seeded};
use crate::socket::AsyncZmqSocket;
use crate::wait::Wait;
use crate::wakes::Wakes;

impl<K: Kind> AsyncZmqSocket<K> {
    /// Sends a message, waiting while libzmq has no room for it.
    ///
    /// `Ok` means that libzmq took the message over, not that it is on the wire or at the peer: libzmq's own threads
    /// send it, for as long as the socket's linger allows after it is closed.
    ///
    /// Several tasks may wait on one socket; they are served first come, first served. Where sending depends on the peer
    /// (ROUTER, STREAM, XPUB and PUB without drops) each message waits for itself, and one that can go does not wait for
    /// those that cannot. Several that are being sent to one peer may go in any order then: await one before the next.
    ///
    /// # Errors
    ///
    /// The [`SendError`] gives the message back, whole. [`Error::Terminated`] and [`Error::LoopGone`] when the wait can
    /// end in no other way, [`Error::EmptyMessage`] for a message without frames. What libzmq refuses is answered at
    /// once: `EFSM` from a REP or REQ whose turn it is to receive, `EHOSTUNREACH` from a mandatory ROUTER that does not
    /// know the peer, `ENOTSUP` from an [`Any`](crate::kind::Any) that only receives.
    ///
    /// # Cancel safety
    ///
    /// A dropped future has sent the whole message or nothing. Which of the two cannot be told afterwards, but a future
    /// that was dropped while it waited has sent nothing; its message is dropped with it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (pull, push) = (context.socket::<Pull>()?, context.socket::<Push>()?);
    /// # pull.bind("inproc://jobs")?;
    /// # push.connect("inproc://jobs")?;
    /// # event_loop.block_on(async {
    /// push.send("one frame").await?;
    /// push.send(["two", "frames"]).await?;
    /// push.send(vec![0xff; 1_000_000]).await?; // not copied
    /// # for _ in 0..3 {
    /// #     pull.recv().await?;
    /// # }
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&self, message: impl Into<Multipart>) -> impl Future<Output = Result<(), SendError>> + Unpin
    where
        K: CanSend,
    {
        let mut wait = Wait::new(self.state(), Direction::Write);
        let mut message = message.into();
        poll_fn(move |cx| {
            self.poll_send(&mut message, wait.place(), cx)
                .map_err(|error| SendError { message: std::mem::take(&mut message), error })
        })
    }

    /// Sends a message if libzmq has room for it now.
    ///
    /// It overtakes the tasks that wait in [`send`](Self::send), but not a message that the Sink holds; where sending
    /// depends on the peer, not one for the same peer.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), but never [`Error::LoopGone`]. If there is no room, the [`SendError`] with the message in it
    /// [is full](SendError::is_full): its error is [`Error::Full`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Push};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let push = context.socket::<Push>()?; // without a peer there is no room
    /// match push.try_send("job") {
    ///     Err(refused) if refused.is_full() => assert_eq!(refused.into_message(), "job".into()),
    ///     other => other?,
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_send(&self, message: impl Into<Multipart>) -> Result<(), SendError>
    where
        K: CanSend,
    {
        let mut message = message.into();
        let mut others = None;
        match self.check(&message).and_then(|()| self.attempt_in_order(&mut message, &mut others)) {
            Ok(true) => {
                self.state().succeeded_aside(Direction::Write);
                Ok(())
            }
            Ok(false) => Err(SendError { message, error: Error::Full }),
            Err(error) => Err(SendError { message, error }),
        }
    }

    /// Waits until libzmq says that a message can be sent (`POLLOUT`).
    ///
    /// Where having room depends on the peer that a message is for (ROUTER, STREAM, XPUB, PUB) there is nothing to say
    /// before there is a message: this is ready at once, and the next message may still have to wait.
    ///
    /// # Errors
    ///
    /// [`Error::Terminated`], [`Error::LoopGone`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (pull, push) = (context.socket::<Pull>()?, context.socket::<Push>()?);
    /// # pull.bind("inproc://jobs")?;
    /// # push.connect("inproc://jobs")?;
    /// # event_loop.block_on(async {
    /// push.writable().await?;
    /// push.try_send("job")?;
    /// # pull.recv().await?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn writable(&self) -> impl Future<Output = crate::Result<()>> + Unpin
    where
        K: CanSend,
    {
        self.ready(Direction::Write)
    }

    /// Takes back what the Sink could not send: a message that libzmq refused, or one that still waits for room.
    ///
    /// A Sink's errors cannot carry the message. It is kept here until the Sink is given the next one. There may be two,
    /// where the Sink held one and was given another: call it until there is none.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Push};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// use futures::SinkExt;
    /// let mut push = context.socket::<Push>()?; // without a peer there is no room
    /// push.feed("job".into()).await?;
    /// assert_eq!(push.take_unsent(), Some("job".into()));
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the message is dropped otherwise"]
    pub fn take_unsent(&self) -> Option<Multipart>
    where
        K: CanSend,
    {
        let unsent = self.outbox().take();
        self.state().flushed();
        // Senders may have stood behind it who have room.
        self.state().touched();
        unsent
    }

    #[inline]
    pub(crate) fn poll_send(
        &self,
        message: &mut Multipart,
        mut place: Place<'_>,
        cx: &Context<'_>,
    ) -> Poll<crate::Result<()>> {
        let state = self.state();
        self.transmitter().check(message)?;
        match state.poll_turn(Direction::Write, &mut place, cx) {
            Poll::Ready(Ok(())) => {}
            waits_or_ended => return waits_or_ended,
        }
        let mut others = None;
        match self.attempt_in_order(message, &mut others) {
            Ok(true) => {
                state.succeeded(Direction::Write, &mut place);
                Poll::Ready(Ok(()))
            }
            Ok(false) => self.park_writer(place, cx),
            Err(error) => {
                state.left(Direction::Write, &mut place, false);
                // A task that goes on asking is to let the loop go on.
                state.spend(Direction::Write);
                Poll::Ready(Err(error))
            }
        }
    }

    /// Sends what the Sink holds.
    pub(crate) fn poll_outbox(&self, mut place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        let mut others = None;
        let flushed = match self.try_flush(&mut others) {
            Ok(false) => return self.park_writer(place, cx),
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        self.state().left(Direction::Write, &mut place, true);
        Poll::Ready(flushed)
    }

    #[cold]
    fn park_writer(&self, mut place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        pass(Point::Park);
        if seeded(Bug::OneLookTooMany) {
            let _ = self.raw().events();
        }
        self.expire_loan();
        self.state().park(Direction::Write, &mut place, cx)?;
        Poll::Pending
    }

    /// Refuses what must not be attempted.
    #[inline]
    fn check(&self, message: &Multipart) -> crate::Result<()> {
        self.state().check()?;
        self.transmitter().check(message)
    }

    /// An attempt that does not overtake what the Sink accepted before. After a [`check`](Self::check).
    ///
    /// `others` are whom it found that must be woken: to be dropped after this operation has parked, or has no need to.
    #[inline]
    fn attempt_in_order(&self, message: &mut Multipart, others: &mut Option<Wakes>) -> crate::Result<bool> {
        let held_first = !self.outbox().is_empty()
            && (!self.transmitter().waits_per_message() || self.outbox().holds_for_peer_of(message));
        if held_first && !seeded(Bug::OutboxOvertaken) && !self.try_flush(others)? {
            return Ok(false);
        }
        self.attempt(message, others)
    }

    /// Sends what the Sink holds. `true`: nothing is left.
    fn try_flush(&self, others: &mut Option<Wakes>) -> crate::Result<bool> {
        while let Some(mut message) = self.outbox().pop() {
            match self.state().check().and_then(|()| self.attempt(&mut message, others)) {
                Ok(true) => self.state().succeeded_aside(Direction::Write),
                Ok(false) => {
                    if !seeded(Bug::OutboxNotPutBack) {
                        self.outbox().put_back(message);
                    }
                    return Ok(false);
                }
                Err(error) => {
                    self.outbox().refuse(message);
                    self.state().flushed();
                    return Err(error);
                }
            }
        }
        self.state().flushed();
        Ok(true)
    }

    /// Tries to hand the message over. `false`: there is no room, and it is untouched.
    #[inline]
    fn attempt(&self, message: &mut Multipart, others: &mut Option<Wakes>) -> crate::Result<bool> {
        self.state().tries();
        match self.transmitter().transmit(self.raw(), message) {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => self.attempt_again(message, others),
            Err(errno) => Err(self.state().failed(errno, "send")),
        }
    }

    #[cold]
    fn attempt_again(&self, message: &mut Multipart, others: &mut Option<Wakes>) -> crate::Result<bool> {
        let state = self.state();
        let failed = |errno| state.failed(errno, "send");
        let per_message = self.transmitter().waits_per_message();
        if per_message && state.is_settling() || seeded(Bug::NoLookAfterFailedSend) {
            return Ok(false);
        }
        let (events, found) = state.look_for_others(self.raw(), Direction::Write).map_err(failed)?;
        others.get_or_insert_default().append(found);
        if seeded(Bug::WakeBeforePark) {
            drop(others.take());
        }
        if !per_message && !events.writable || seeded(Bug::NoSecondTry) {
            return Ok(false);
        }
        match self.transmitter().transmit(self.raw(), message) {
            Ok(()) => return Ok(true),
            Err(Errno::EAGAIN) if per_message => state.unsettled(),
            // There was room, and then there was not: peers come and go. Go on at the next turn.
            Err(Errno::EAGAIN) => state.retry_next_turn(Direction::Write),
            Err(errno) => return Err(failed(errno)),
        }
        Ok(false)
    }
}

/// Holds at most one message that libzmq has not taken yet, and accepts no other before that one is gone.
///
/// Flushing means that libzmq has taken everything over, as for [`send`](AsyncZmqSocket::send). Closing flushes and
/// leaves the socket open. On an error, [`take_unsent`](AsyncZmqSocket::take_unsent) gives the message back.
///
/// With `futures::SinkExt` in scope, `send` on a `&mut AsyncZmqSocket` is the Sink's, on a socket or `&socket` the
/// [socket's own](AsyncZmqSocket::send). `stream.forward(socket)` drops the socket when the stream ends, and what libzmq
/// has not sent then has its linger to leave; `stream.forward(&socket)` keeps it.
///
/// As with the Stream, of several tasks that poll one socket's Sink the last one is woken.
impl<K: CanSend> Sink<Multipart> for &AsyncZmqSocket<K> {
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
        match self.state().poll_turn(Direction::Write, &mut Place::Slot, cx) {
            Poll::Ready(Ok(())) => self.poll_flush(cx),
            waits_or_ended => waits_or_ended,
        }
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, mut message: Multipart) -> crate::Result<()> {
        self.outbox().forget_refused();
        let mut others = None;
        match self.check(&message).and_then(|()| self.attempt_in_order(&mut message, &mut others)) {
            Ok(true) => {
                self.state().succeeded(Direction::Write, &mut Place::Slot);
                Ok(())
            }
            Ok(false) => {
                self.outbox().push(message);
                Ok(())
            }
            Err(error) => {
                self.outbox().refuse(message);
                Err(error)
            }
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
        if self.outbox().is_empty() { Poll::Ready(Ok(())) } else { self.poll_outbox(Place::Slot, cx) }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_flush(cx)
    }
}

/// As for `&AsyncZmqSocket`.
impl<K: CanSend> Sink<Multipart> for AsyncZmqSocket<K> {
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
        self.state().returned(0);
        Pin::new(&mut &*self).poll_ready(cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Multipart) -> crate::Result<()> {
        Pin::new(&mut &*self).start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}
