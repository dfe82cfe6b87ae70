//! Receiving: what one operation does, and the Stream made of it.
//!
//! An attempt that says EAGAIN has processed every command, so the reader may park on it without another look. If it
//! swallowed what a writer waits for, that writer is looked for at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::error::Error;
use crate::events::Direction;
use crate::ffi::{self, Errno};
use crate::kind::{CanRecv, Kind};
use crate::multipart::Multipart;
use crate::readiness::Place;
use crate::seeded::{Bug, Point, pass, seeded};
use crate::socket::AsyncZmqSocket;
use crate::wait::Wait;

impl<K: Kind> AsyncZmqSocket<K> {
    /// Receives a message, waiting for one if there is none.
    ///
    /// Several tasks may wait on one socket; they are served first come, first served.
    ///
    /// # Errors
    ///
    /// [`Error::Terminated`] and [`Error::LoopGone`] when the wait can end in no other way. What libzmq refuses is
    /// answered at once: `EFSM` from a REP or REQ whose turn it is to send, `ENOTSUP` from an [`Any`](crate::kind::Any)
    /// that only sends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the message stays in libzmq for the next receive.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let pull = context.socket::<Pull>()?;
    /// let push = context.socket::<Push>()?;
    /// pull.bind("inproc://jobs")?;
    /// push.connect("inproc://jobs")?;
    /// # event_loop.block_on(async {
    /// push.send(["resize", "cat.png"]).await?;
    /// let message = pull.recv().await?;
    /// assert_eq!(message.len(), 2);
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |_| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv(&self) -> impl Future<Output = crate::Result<Multipart>> + Unpin
    where
        K: CanRecv,
    {
        let mut wait = Wait::new(self.state(), Direction::Read);
        poll_fn(move |cx| self.poll_recv(wait.place(), cx))
    }

    /// Receives a message into `message`, whose room is used again: a loop that receives this way allocates nothing,
    /// also for messages of several frames.
    ///
    /// The old frames are dropped at the first poll, whatever comes of it.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv). `message` is empty then.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, Multipart, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (pull, push) = (context.socket::<Pull>()?, context.socket::<Push>()?);
    /// # pull.bind("inproc://jobs")?;
    /// # push.connect("inproc://jobs")?;
    /// # event_loop.block_on(async {
    /// # push.send("one").await?;
    /// # push.send("two").await?;
    /// let mut message = Multipart::new();
    /// pull.recv_into(&mut message).await?;
    /// assert_eq!(message, "one".into());
    /// pull.recv_into(&mut message).await?;
    /// assert_eq!(message, "two".into());
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recv_into(&self, message: &mut Multipart) -> impl Future<Output = crate::Result<()>> + Unpin
    where
        K: CanRecv,
    {
        let mut wait = Wait::new(self.state(), Direction::Read);
        poll_fn(move |cx| self.poll_recv_into(message, wait.place(), cx))
    }

    /// Receives a message if there is one now; `None` if not.
    ///
    /// It overtakes the tasks that wait in [`recv`](Self::recv), and no budget limits it: a program that calls it in a
    /// loop decides itself when to let the event loop go on.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv), but never [`Error::LoopGone`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let (pull, push) = (context.socket::<Pull>()?, context.socket::<Push>()?);
    /// # pull.bind("inproc://jobs")?;
    /// # push.connect("inproc://jobs")?;
    /// assert_eq!(pull.try_recv()?, None);
    /// push.try_send("job")?;
    /// assert_eq!(pull.try_recv()?, Some("job".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_recv(&self) -> crate::Result<Option<Multipart>>
    where
        K: CanRecv,
    {
        self.state().check()?;
        let mut message = Multipart::new();
        let received = match receive(self.raw(), &mut message) {
            Ok(()) => {
                self.state().succeeded_aside(Direction::Read);
                Ok(Some(message))
            }
            Err(Errno::EAGAIN) => self.state().look_for_writers(self.raw()).map(|()| None),
            Err(errno) => Err(errno),
        };
        received.map_err(|errno| self.state().failed(errno, "receive"))
    }

    /// Waits until libzmq says that a message can be received (`POLLIN`).
    ///
    /// Somebody else may take the message first: [`try_recv`](Self::try_recv) can still find none.
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
    /// push.send("job").await?;
    /// pull.readable().await?;
    /// assert!(pull.try_recv()?.is_some());
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn readable(&self) -> impl Future<Output = crate::Result<()>> + Unpin
    where
        K: CanRecv,
    {
        self.ready(Direction::Read)
    }

    #[inline]
    pub(crate) fn poll_recv(&self, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<Multipart>> {
        let mut message = Multipart::new();
        self.poll_recv_new(&mut message, place, cx).map_ok(|()| message)
    }

    /// Receives into a message without frames. It is handed down and not up, because each result that it came up in
    /// would move it.
    #[inline]
    fn poll_recv_new(&self, message: &mut Multipart, place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        self.poll_receive(place, cx, |socket| receive(socket, message))
    }

    #[inline]
    pub(crate) fn poll_recv_into(
        &self,
        message: &mut Multipart,
        place: Place<'_>,
        cx: &Context<'_>,
    ) -> Poll<crate::Result<()>> {
        let received = self.poll_receive(place, cx, |socket| receive_into(socket, message));
        if !matches!(received, Poll::Ready(Ok(()))) {
            // Some kinds leave what was in there.
            message.clear();
        }
        received
    }

    #[inline]
    fn poll_receive(
        &self,
        mut place: Place<'_>,
        cx: &Context<'_>,
        receive: impl FnOnce(&ffi::Socket) -> Result<(), Errno>,
    ) -> Poll<crate::Result<()>> {
        let state = self.state();
        match state.poll_turn(Direction::Read, &mut place, cx) {
            Poll::Ready(Ok(())) => {}
            waits_or_ended => return waits_or_ended,
        }
        if seeded(Bug::OneReceivePerEvent) && matches!(place, Place::Line(None)) {
            return self.park_reader(place, cx);
        }
        match receive(self.raw()) {
            Ok(()) => {
                state.succeeded(Direction::Read, &mut place);
                Poll::Ready(Ok(()))
            }
            Err(Errno::EAGAIN) => self.park_reader(place, cx),
            Err(errno) => {
                state.left(Direction::Read, &mut place, false);
                // A task that goes on asking is to let the loop go on.
                state.spend(Direction::Read);
                Poll::Ready(Err(state.failed(errno, "receive")))
            }
        }
    }

    #[cold]
    fn park_reader(&self, mut place: Place<'_>, cx: &Context<'_>) -> Poll<crate::Result<()>> {
        pass(Point::Park);
        self.expire_loan();
        let state = self.state();
        state.park(Direction::Read, &mut place, cx)?;
        match state.look_for_writers(self.raw()) {
            Ok(()) => Poll::Pending,
            Err(errno) => {
                state.left(Direction::Read, &mut place, false);
                Poll::Ready(Err(state.failed(errno, "receive")))
            }
        }
    }
}

/// Messages as they come. The stream ends when the context is terminated.
///
/// For one task at a time. A second one takes the first one's place and wakes it, so that two which keep on polling keep
/// on waking each other; use [`recv`](AsyncZmqSocket::recv) to wait in many.
///
/// # Examples
///
/// A `Stream` that owns its part of a shared socket, for calloop's `StreamSource` or `futures::stream::select`:
///
/// ```
/// # use std::rc::Rc;
/// # use calloop_zmq::{AsyncZmqContext, kind::Dealer};
/// use futures::{StreamExt, stream};
/// # let event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let dealer = Rc::new(context.socket::<Dealer>()?);
/// let receiver = Rc::clone(&dealer);
/// let messages = stream::poll_fn(move |cx| (&*receiver).poll_next_unpin(cx));
/// # drop(messages);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<K: CanRecv> Stream for &AsyncZmqSocket<K> {
    type Item = crate::Result<Multipart>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_terminated() {
            return Poll::Ready(None);
        }
        let mut message = Multipart::new();
        match self.poll_recv_new(&mut message, Place::Slot, cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Some(Ok(message))),
            Poll::Ready(Err(error)) => Poll::Ready(self.end_stream(error).map(Err)),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<K: CanRecv> FusedStream for &AsyncZmqSocket<K> {
    fn is_terminated(&self) -> bool {
        self.stream_ended()
    }
}

/// As for `&AsyncZmqSocket`.
impl<K: CanRecv> Stream for AsyncZmqSocket<K> {
    type Item = crate::Result<Multipart>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.state().returned(0);
        Pin::new(&mut &*self).poll_next(cx)
    }
}

impl<K: CanRecv> FusedStream for AsyncZmqSocket<K> {
    fn is_terminated(&self) -> bool {
        self.stream_ended()
    }
}

/// Receives one whole message, all frames in one go: nothing may be called on the socket in between. `message` has no
/// frames yet.
#[inline]
fn receive(socket: &ffi::Socket, message: &mut Multipart) -> Result<(), Errno> {
    socket.begin_message()?;
    socket.recv_first(message.frames_mut())?;
    if message.first().is_some_and(zmq::Message::get_more) { receive_rest(socket, message) } else { Ok(()) }
}

/// As [`receive`], into a message that was used before.
#[inline]
fn receive_into(socket: &ffi::Socket, message: &mut Multipart) -> Result<(), Errno> {
    let first = message.keep_one();
    socket.begin_message()?;
    socket.recv_frame(first)?;
    if first.get_more() { receive_rest(socket, message) } else { Ok(()) }
}

/// It fails only at the context's end: libzmq hands over whole messages. What there is of it then is no message.
fn receive_rest(socket: &ffi::Socket, message: &mut Multipart) -> Result<(), Errno> {
    message.reserve_rest();
    loop {
        let mut frame = zmq::Message::new();
        socket.recv_frame(&mut frame)?;
        let more = frame.get_more();
        message.push_back(frame);
        if !more {
            return Ok(());
        }
    }
}

impl<K: Kind> AsyncZmqSocket<K> {
    /// The error that the stream yields before it ends, if this one ends it; termination is an end, not an error.
    fn end_stream(&self, error: Error) -> Option<Error> {
        match error {
            Error::Terminated => {
                self.set_stream_ended();
                None
            }
            Error::LoopGone => {
                self.set_stream_ended();
                Some(error)
            }
            error => Some(error),
        }
    }
}
