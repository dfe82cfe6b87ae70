//! The socket: its endpoints, the bare socket inside it, and its end. Receiving and sending have files of their own.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use crate::context::Core;
use crate::endpoint::EndpointCall;
use crate::error::{Error, SendError};
use crate::events::Direction;
use crate::ffi::{self, Errno, Timeouts};
use crate::guard;
use crate::kind::Kind;
use crate::monitor::Monitored;
#[cfg(doc)]
use crate::multipart::Multipart;
use crate::outbox::Outbox;
use crate::readiness::{Place, WriteOrder};
use crate::seeded::{Bug, Point, pass, seeded};
use crate::state::{Attachment, State};
use crate::subscribers::Audience;
use crate::trace::{Event, Life, Trace};
use crate::transmit::Transmitter;
use crate::wait::Wait;

/// A ZeroMQ socket that is awaited: a `Stream` and a `Sink` of [`Multipart`]s, with [`recv`](Self::recv) and
/// [`send`](Self::send) beside them.
///
/// Made by [`AsyncZmqContext::socket`](crate::AsyncZmqContext::socket) or
/// [`adopt`](crate::AsyncZmqContext::adopt). Every method takes `&self`, and `&AsyncZmqSocket` is a `Stream` and a
/// `Sink` too, so that one task may receive while another sends. It has one owner, and dropping it closes the socket;
/// put it into an `Rc` to share it among tasks.
///
/// *Cancel safe* in the documentation of its methods means: the future can be dropped at any time before it is ready,
/// as [`timeout`](crate::AsyncZmqContext::timeout) and `select!` do, and nothing is lost or half done.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::{Rep, Req}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # event_loop.block_on(async {
/// let (server, client) = (context.socket::<Rep>()?, context.socket::<Req>()?);
/// client.connect(&server.bind("tcp://127.0.0.1:*")?)?;
/// client.send("hello").await?;
/// assert_eq!(server.recv().await?, "hello".into());
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a socket that is dropped is closed"]
pub struct AsyncZmqSocket<K: Kind> {
    // In the order in which they must go: the descriptor leaves the loop, the monitor is stopped, then the socket closes,
    // then the context may end. A descriptor that is closed first has its number given to the next socket; a monitor
    // that is not stopped before can hold up libzmq's threads.
    attachment: Attachment,
    monitored: Monitored,
    socket: Rc<ffi::Socket>,
    life: Life,
    outbox: Outbox,
    transmitter: Transmitter,
    stream_ended: Cell<bool>,
    /// A REQ waits for the reply to [`request`](AsyncZmqSocket::request).
    requesting: Cell<bool>,
    /// What the timeouts were before they became 0.
    timeouts: Timeouts,
    /// What an XPUB has counted, see [`wait_for_subscribers`](AsyncZmqSocket::wait_for_subscribers).
    audience: RefCell<Audience>,
    /// Kept so that the socket is not the last to hold its context.
    core: Rc<Core>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> AsyncZmqSocket<K> {
    pub(crate) fn new(socket: ffi::Socket, core: &Rc<Core>) -> crate::Result<Self> {
        let socket = Rc::new(socket);
        let adopt = |errno: Errno| errno.error("adopt the socket");
        let actual = socket.kind().map_err(adopt)?;
        if let Some(expected) = K::SOCKET_TYPE.filter(|expected| *expected != actual) {
            return Err(Error::KindMismatch { expected, actual });
        }
        let transmitter = Transmitter::new(actual);
        let write_order = if transmitter.waits_per_message() { WriteOrder::PerMessage } else { WriteOrder::Line };
        // A call of the user's own through `get_ref` that was meant to wait would block the whole loop.
        let timeouts = socket.timeouts().map_err(adopt)?;
        socket.set_timeouts(Timeouts::NONE).map_err(adopt)?;
        let trace = Trace::new(actual);
        let attachment = State::attach(&socket, core.hub(), write_order, trace)?;
        if !socket.is_of_our_context() {
            socket.note_immediate().map_err(adopt)?;
        }
        trace.tell(if socket.is_of_our_context() { Event::Opened } else { Event::Adopted });
        Ok(Self {
            attachment,
            monitored: Monitored::default(),
            socket,
            life: Life::new(trace),
            outbox: Outbox::default(),
            transmitter,
            stream_ended: Cell::new(false),
            requesting: Cell::new(false),
            timeouts,
            audience: RefCell::default(),
            core: Rc::clone(core),
            kind: PhantomData,
        })
    }

    /// Accepts connections at `endpoint`, and returns the endpoint really bound: the port for `tcp://127.0.0.1:*`, the
    /// path for `ipc://*`.
    ///
    /// For `tcp://` that is an address, an interface or `*`, and no host name: libzmq answers `ENODEV` to `localhost`.
    ///
    /// # Errors
    ///
    /// [`Error::Endpoint`] if the text is no endpoint, [`Error::Zmq`] with `EADDRINUSE` or `EADDRNOTAVAIL`,
    /// [`Error::Os`] where the file system refuses an `ipc://` path, [`Error::Setup`] for what would abort the process.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Rep};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let server = context.socket::<Rep>()?;
    /// let endpoint = server.bind("tcp://127.0.0.1:*")?;
    /// assert!(endpoint.starts_with("tcp://127.0.0.1:"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind(&self, endpoint: &str) -> crate::Result<String> {
        self.endpoint_call(EndpointCall::Bind, endpoint)?;
        let bound = self.last_endpoint()?;
        self.told(EndpointCall::Bind, &bound);
        Ok(bound)
    }

    /// Connects to `endpoint`. libzmq connects in the background, and again whenever the connection breaks.
    ///
    /// A `ws://` endpoint with a host name is resolved by the calling thread: the loop stands still for that long.
    /// `tcp://` names are resolved by libzmq's own threads.
    ///
    /// # Errors
    ///
    /// [`Error::Endpoint`] if the text is no endpoint, [`Error::Setup`] for what would abort the process. That nobody
    /// listens there is no error.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Rep, Req}};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let server = context.socket::<Rep>()?;
    /// # let endpoint = server.bind("tcp://127.0.0.1:*")?;
    /// let client = context.socket::<Req>()?;
    /// client.connect(&endpoint)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn connect(&self, endpoint: &str) -> crate::Result<()> {
        self.endpoint_call(EndpointCall::Connect, endpoint)?;
        self.told(EndpointCall::Connect, endpoint);
        Ok(())
    }

    /// Stops accepting connections at an endpoint that [`bind`](Self::bind) returned, and closes those it accepted.
    ///
    /// libzmq does not tell this from [`disconnect`](Self::disconnect): either ends whatever has this endpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Zmq`] with `ENOENT` if it is not bound there.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Rep};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let server = context.socket::<Rep>()?;
    /// let endpoint = server.bind("tcp://127.0.0.1:*")?;
    /// server.unbind(&endpoint)?;
    /// assert!(server.unbind(&endpoint).is_err(), "it is not bound there any more");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unbind(&self, endpoint: &str) -> crate::Result<()> {
        self.endpoint_call(EndpointCall::Unbind, endpoint)?;
        self.told(EndpointCall::Unbind, endpoint);
        Ok(())
    }

    /// Ends the connection to an endpoint given to [`connect`](Self::connect). Messages from that peer that were not
    /// received yet are discarded (libzmq's `zmq_disconnect`), but for the one that would have come next.
    ///
    /// Call this and not the bare socket's: in the middle of a message, which some kinds are in as soon as they were asked
    /// whether there is one, that call has libzmq abort the process. And where a ROUTER or a REP connects to an `inproc://`
    /// endpoint that nobody has bound, let it stay so or drop the socket: after a disconnect, the `bind` would abort.
    ///
    /// # Errors
    ///
    /// [`Error::Zmq`] with `ENOENT` if it is not connected there, [`Error::Setup`] for what would abort the process.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Req};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let client = context.socket::<Req>()?;
    /// client.connect("tcp://127.0.0.1:5555")?;
    /// client.disconnect("tcp://127.0.0.1:5555")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn disconnect(&self, endpoint: &str) -> crate::Result<()> {
        self.endpoint_call(EndpointCall::Disconnect, endpoint)?;
        self.told(EndpointCall::Disconnect, endpoint);
        Ok(())
    }

    /// The endpoint last bound or connected to (`ZMQ_LAST_ENDPOINT`); empty if there was none.
    ///
    /// # Errors
    ///
    /// [`Error::Terminated`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Rep};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let server = context.socket::<Rep>()?;
    /// assert_eq!(server.last_endpoint()?, "");
    /// let endpoint = server.bind("tcp://127.0.0.1:*")?;
    /// assert_eq!(server.last_endpoint()?, endpoint);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn last_endpoint(&self) -> crate::Result<String> {
        self.socket.last_endpoint().map_err(|errno| errno.error("read the endpoint"))
    }

    /// The bare socket, for its options and whatever else the zmq crate offers.
    ///
    /// Anything may be called on it: whoever waits is looked after. Its `send` and `recv` answer `EAGAIN` instead of
    /// blocking the loop, for `ZMQ_RCVTIMEO` and `ZMQ_SNDTIMEO` are 0 while the socket is here; leave them so. A message
    /// that you begin there, end there: what is sent or received next would be taken for the rest of it.
    ///
    /// While the reference may be alive and somebody waits, the socket is looked at once in each turn of the loop (a
    /// system call), for nobody can see what is called on it and when. It counts as returned when the socket is moved or
    /// used by `&mut`, so set options before the socket goes to its place; where it stays, as in an `Rc`, use
    /// [`with_ref`](Self::with_ref).
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Pull};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let pull = context.socket::<Pull>()?;
    /// pull.get_ref().set_rcvhwm(100)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_ref(&self) -> &zmq::Socket {
        self.state().lend(self.address());
        self.socket.get_ref()
    }

    /// As [`get_ref`](Self::get_ref), for the time of a call: it is known when the reference has gone.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::rc::{Rc, Weak};
    /// # use calloop_zmq::{AsyncZmqContext, kind::Pull};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let pull = Rc::new(context.socket::<Pull>()?);
    /// pull.with_ref(|socket| socket.set_rcvhwm(100))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_ref<R>(&self, call: impl FnOnce(&zmq::Socket) -> R) -> R {
        // Before, should the call panic; and after, should somebody begin to wait in it.
        self.state().touched();
        let result = call(self.socket.get_ref());
        self.state().touched();
        result
    }

    /// Takes the socket out of the loop and gives it back, connections and queued messages with it, and with the
    /// timeouts that it had before. A message that the Sink still held is dropped: flush first. So is one that a
    /// [`disconnect`](Self::disconnect) left: receive it first. Its monitor is stopped.
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
    /// push.try_send("job")?;
    /// let pull: zmq::Socket = pull.into_inner();
    /// assert_eq!(pull.recv_msg(zmq::DONTWAIT)?.as_str(), Some("job"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the socket is closed otherwise"]
    #[allow(clippy::missing_panics_doc, reason = "only a look holds the socket too, and only while it looks")]
    pub fn into_inner(self) -> zmq::Socket {
        let Self { attachment, monitored, socket, life, timeouts, .. } = self;
        drop(attachment);
        drop(monitored);
        // It fails after termination only, when no timeout matters any more.
        let _ = socket.set_timeouts(timeouts);
        let socket = Rc::into_inner(socket).expect("nobody else keeps the socket").into_inner();
        life.release();
        socket
    }

    /// Sets how many messages the socket receives, and how many it sends, in one turn of the loop before the task that
    /// asks for more is parked until the next turn. It is for all tasks on this socket together.
    ///
    /// Without it time decides: all sockets of a context together have half a millisecond of each turn, shared among those
    /// that are busy, and each gets at least one message in each direction. A number is for programs that must know beforehand how many
    /// messages a turn brings. A small one is dear, for a turn costs as much as some fifty small messages.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Pull};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let pull = context.socket::<Pull>()?;
    /// pull.set_budget(256.try_into()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_budget(&self, budget: NonZeroUsize) {
        self.state().set_budget(budget);
    }

    /// Hands over what the Sink still holds, then closes the socket.
    ///
    /// The socket's linger decides how long libzmq goes on sending after that.
    ///
    /// # Errors
    ///
    /// A message that could not be handed over comes back in the [`SendError`]. The socket is closed all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the socket at once; what the Sink held is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let pull = context.socket::<Pull>()?;
    /// # pull.bind("inproc://log")?;
    /// # event_loop.block_on(async {
    /// use futures::SinkExt;
    /// let mut push = context.socket::<Push>()?;
    /// push.feed("held, as there is no peer yet".into()).await?;
    /// push.connect("inproc://log")?;
    /// push.close().await?;
    /// # assert_eq!(pull.recv().await?.len(), 1);
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn close(self) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_outbox(Place::Slot, cx))
            .await
            .map_err(|error| SendError { message: self.outbox.take().unwrap_or_default(), error })
    }

    /// Resolves when `ZMQ_EVENTS` shows the direction.
    pub(crate) fn ready(&self, direction: Direction) -> impl Future<Output = crate::Result<()>> + Unpin {
        let mut wait = Wait::new(self.state(), direction);
        poll_fn(move |cx| self.poll_events(direction, wait.place(), cx))
    }

    /// Ready when `ZMQ_EVENTS` shows the direction. Its place in line is given up then: it took nothing.
    pub(crate) fn poll_events(
        &self,
        direction: Direction,
        mut place: Place<'_>,
        cx: &Context<'_>,
    ) -> Poll<crate::Result<()>> {
        let state = self.state();
        match state.poll_turn(direction, &mut place, cx) {
            Poll::Ready(Ok(())) => {}
            waits_or_ended => return waits_or_ended,
        }
        if direction == Direction::Write && self.transmitter.waits_per_message() {
            state.left(direction, &mut place, true);
            state.asked(direction);
            return Poll::Ready(Ok(()));
        }
        match state.look_for_others(&self.socket, direction) {
            Ok((events, others)) if events.has(direction) => {
                drop(others);
                // It took nothing, and may have swallowed what others wait for.
                state.left(direction, &mut place, true);
                state.call(direction);
                state.asked(direction);
                Poll::Ready(Ok(()))
            }
            Ok((_, others)) => {
                pass(Point::Park);
                self.expire_loan();
                state.park(direction, &mut place, cx)?;
                drop(others);
                Poll::Pending
            }
            Err(errno) => {
                state.left(direction, &mut place, false);
                Poll::Ready(Err(state.failed(errno, "read ZMQ_EVENTS")))
            }
        }
    }

    fn endpoint_call(&self, call: EndpointCall, endpoint: &str) -> crate::Result<()> {
        self.state().check()?;
        let done =
            guard::prepare(&self.socket, call, endpoint).and_then(|()| self.socket.endpoint_call(call, endpoint));
        // Each of these processes commands, also when it fails; and a new pipe never announces its first message.
        if !seeded(Bug::EndpointCallOwesNothing) {
            self.state().touched();
        }
        done
    }

    fn told(&self, call: EndpointCall, endpoint: &str) {
        self.state().trace().tell(Event::Endpoint(call, endpoint));
    }

    #[inline]
    pub(crate) fn state(&self) -> &Rc<State> {
        &self.attachment.state
    }

    #[inline]
    pub(crate) fn raw(&self) -> &ffi::Socket {
        &self.socket
    }

    #[inline]
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    #[inline]
    pub(crate) fn transmitter(&self) -> &Transmitter {
        &self.transmitter
    }

    pub(crate) fn stream_ended(&self) -> bool {
        self.stream_ended.get()
    }

    pub(crate) fn set_stream_ended(&self) {
        self.stream_ended.set(true);
    }

    pub(crate) fn requesting(&self) -> &Cell<bool> {
        &self.requesting
    }

    pub(crate) fn audience(&self) -> &RefCell<Audience> {
        &self.audience
    }

    pub(crate) fn monitored(&self) -> &Monitored {
        &self.monitored
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// For a monitor: to know the socket without keeping it open.
    pub(crate) fn downgrade(&self) -> Weak<ffi::Socket> {
        Rc::downgrade(&self.socket)
    }

    /// Ends the loan of [`get_ref`](Self::get_ref) if the socket has moved since.
    pub(crate) fn expire_loan(&self) {
        self.state().returned(self.address());
    }

    fn address(&self) -> usize {
        (&raw const *self).addr()
    }
}

impl<K: Kind> fmt::Debug for AsyncZmqSocket<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncZmqSocket")
            .field("kind", &K::SOCKET_TYPE)
            .field("state", &self.attachment.state)
            .finish_non_exhaustive()
    }
}
