//! What happens to a socket's connections, as a Stream.
//!
//! libzmq sends a monitor's events with calls that wait: on the thread that binds or closes, on its I/O thread, on the
//! one that reaps closed sockets. A monitor that is not there, not yet or not any more, or that is full, stops them for
//! good, and all other sockets with them. So the receiving PAIR has no high-water mark, is connected before libzmq knows
//! of the monitor, and stays until libzmq has let go of it, whichever of socket and monitor ends first.

use std::cell::{Cell, RefCell};
use std::ffi::CString;
use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::endpoint::EndpointCall;
use crate::error::Error;
use crate::events::Direction;
use crate::ffi::{self, Errno, EventMask};
use crate::kind::{Kind, Pair};
use crate::monitor_event::MonitorEvent;
use crate::multipart::Multipart;
use crate::peers::Peers;
use crate::socket::AsyncZmqSocket;
use crate::state::State;

/// The events of one socket's connections: a Stream of [`MonitorEvent`]s.
///
/// Made by [`AsyncZmqSocket::monitor`]. It is read by one task, like any Stream; and instead of reading it, or from time
/// to time, one can wait for the peers themselves: [`connected`](Self::connected),
/// [`wait_for_peers`](Self::wait_for_peers).
///
/// # The end
///
/// The last event is [`Stopped`](MonitorEvent::Stopped): the socket was closed or taken out of the loop, or has another
/// monitor. What its connections do after that, and thereby, is not told. When the context is shut down, the stream ends
/// without it. Dropping the monitor stops it; the socket goes on.
///
/// # What it costs
///
/// Events that nobody reads are kept, without a bound: libzmq can neither wait for a reader nor drop them. A connection
/// that comes and goes leaves about 1 KiB. So read a monitor or drop it.
///
/// A monitor is two sockets of the context, of which it has 1,023 at most. One of them counts in
/// [`Terminate::open_sockets`](crate::Terminate::open_sockets): a context does not end before its monitors are dropped.
///
/// # `inproc`
///
/// libzmq has no events for `inproc` endpoints. Nothing needs waiting for there: two sockets are peers as soon as one has
/// bound the endpoint and the other has connected to it.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, MonitorEvent, kind::Pull};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # event_loop.block_on(async {
/// use futures::StreamExt;
/// let pull = context.socket::<Pull>()?;
/// let mut monitor = pull.monitor()?;
/// pull.bind("tcp://127.0.0.1:*")?;
/// let event = monitor.next().await;
/// assert!(matches!(event, Some(Ok(MonitorEvent::Listening { .. }))));
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a monitor that is dropped is stopped"]
pub struct Monitor {
    /// Stopped in the drop, before the PAIR goes.
    link: Rc<Link>,
    pair: AsyncZmqSocket<Pair>,
    peers: Peers,
    /// An event has come.
    saw_any: bool,
    ended: bool,
}

impl<K: Kind> AsyncZmqSocket<K> {
    /// Begins to monitor the socket's connections.
    ///
    /// It tells what happens from now on, so begin before [`bind`](Self::bind) and [`connect`](Self::connect). A socket
    /// has one monitor: a second one takes the place of the first, which is [stopped](MonitorEvent::Stopped).
    ///
    /// Do not begin one on the bare socket as well (`zmq_socket_monitor`), before or after: where that one has no reader,
    /// libzmq blocks the thread that replaces it.
    ///
    /// # Errors
    ///
    /// [`Error::Zmq`] with `EMFILE` if the context has not two sockets left, or the process no descriptors; with `ENOTSUP`
    /// for a socket that was [adopted](crate::AsyncZmqContext::adopt) and belongs to another ZeroMQ context than the
    /// [`AsyncZmqContext`](crate::AsyncZmqContext) that adopted it: its events cannot leave that context. Adopt it through
    /// one [made of its own context](crate::AsyncZmqContext::with_context).
    /// [`Error::Terminated`], [`Error::LoopGone`], [`Error::Register`].
    ///
    /// # Panics
    ///
    /// Where the loop itself is borrowed, as [`AsyncZmqContext::socket`](crate::AsyncZmqContext::socket) does.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, MonitorEvent, kind::{Pull, Push}};
    /// use futures::TryStreamExt;
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// let pull = context.socket::<Pull>()?;
    /// let mut monitor = pull.monitor()?;
    /// let endpoint = pull.bind("tcp://127.0.0.1:*")?;
    /// # let push = context.socket::<Push>()?;
    /// # push.connect(&endpoint)?;
    /// while let Some(event) = monitor.try_next().await? {
    ///     println!("{event:?}");
    ///     if let MonitorEvent::HandshakeSucceeded { endpoint } = event {
    ///         println!("a peer at {endpoint}");
    ///         break;
    ///     }
    /// }
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn monitor(&self) -> crate::Result<Monitor> {
        self.state().check()?;
        let failed = |errno: Errno| errno.error("monitor the socket");
        let receiver = ffi::Socket::open(self.core().context(), zmq::PAIR).map_err(failed)?;
        receiver.unlimit_receiving().map_err(failed)?;
        if !self.raw().is_of_our_context() && !meets(self.raw(), &receiver)? {
            return Err(Errno::ENOTSUP.error("monitor a socket of another ZeroMQ context"));
        }
        let without_handshake = self.raw().kind().map_err(failed)? == zmq::STREAM;
        let pair = AsyncZmqSocket::<Pair>::new(receiver, self.core())?;
        let link = Rc::new(Link {
            socket: self.downgrade(),
            receiver: Rc::downgrade(pair.state()),
            stopped: Cell::new(false),
        });
        self.monitored().replace(None);
        let endpoint = unique_endpoint();
        pair.connect(&endpoint)?;
        if let Err(errno) = start(self.raw(), &endpoint, EventMask::All) {
            // Without a bound side to its connection it would not be closed before the context ends.
            let _ = pair.bind(&endpoint);
            return Err(failed(errno));
        }
        self.monitored().replace(Some(Rc::clone(&link)));
        Ok(Monitor { link, pair, peers: Peers::new(without_handshake), saw_any: false, ended: false })
    }
}

impl Monitor {
    /// Waits for the next connection to complete its handshake, and answers its endpoint.
    ///
    /// It reads the events up to that one; the stream goes on after it. A STREAM's peers shake no hands: there the
    /// connection itself is waited for.
    ///
    /// # Errors
    ///
    /// [`Error::MonitorStopped`] if the socket is closed before, or has another monitor; [`Error::Terminated`],
    /// [`Error::LoopGone`]. [`Error::Zmq`] with `ENOTSUP`, instead of a wait that would never end, if the socket has bound
    /// and connected to nothing but `inproc` endpoints so far.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no peer. The events that it had read are gone from the stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Rep, Req}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// # let rep = context.socket::<Rep>()?;
    /// # let endpoint = rep.bind("tcp://127.0.0.1:*")?;
    /// let req = context.socket::<Req>()?;
    /// let mut monitor = req.monitor()?;
    /// req.connect(&endpoint)?;
    /// assert_eq!(monitor.connected().await?, endpoint);
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn connected(&mut self) -> crate::Result<String> {
        loop {
            let event = self.read().await?;
            if self.peers.is_arrival(&event) {
                return Ok(event.endpoint().to_owned());
            }
        }
    }

    /// Waits until at least so many [peers](Self::peers) are connected.
    ///
    /// It reads all the events that there are, and then more if it has to; the stream goes on after them.
    ///
    /// # Errors
    ///
    /// As [`connected`](Self::connected).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no peer: those counted stay counted. The events that it had read are gone from the
    /// stream.
    ///
    /// # Examples
    ///
    /// Workers that all get their share, since the first job is sent when the last of them is there:
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// let jobs = context.socket::<Push>()?;
    /// let mut monitor = jobs.monitor()?;
    /// let endpoint = jobs.bind("tcp://127.0.0.1:*")?;
    /// let workers = [context.socket::<Pull>()?, context.socket::<Pull>()?];
    /// for worker in &workers {
    ///     worker.connect(&endpoint)?;
    /// }
    /// monitor.wait_for_peers(2).await?;
    /// jobs.send("one").await?;
    /// jobs.send("two").await?;
    /// for worker in &workers {
    ///     worker.recv().await?;
    /// }
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn wait_for_peers(&mut self, count: usize) -> crate::Result<()> {
        loop {
            while self.try_read()?.is_some() {}
            if self.peers() >= count {
                return Ok(());
            }
            self.read().await?;
        }
    }

    /// How many peers are connected, by the events read so far: those that shook hands since the monitor began, without
    /// those that went.
    ///
    /// libzmq does not tell of a connection that this side ends with [`disconnect`](AsyncZmqSocket::disconnect): its peer
    /// stays in the count.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// # let (pull, push) = (context.socket::<Pull>()?, context.socket::<Push>()?);
    /// let mut monitor = pull.monitor()?;
    /// # push.connect(&pull.bind("tcp://127.0.0.1:*")?)?;
    /// monitor.wait_for_peers(1).await?;
    /// assert_eq!(monitor.peers(), 1);
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn peers(&self) -> usize {
        self.peers.count()
    }

    /// The next event, for who waits for a peer.
    async fn read(&mut self) -> crate::Result<MonitorEvent> {
        if let Some(event) = self.try_read()? {
            return Ok(event);
        }
        if !self.saw_any && self.link.socket.upgrade().is_some_and(|socket| socket.is_inproc_only()) {
            return Err(Errno::ENOTSUP.error("wait for peers over inproc, where libzmq has no events"));
        }
        let read = poll_fn(|cx| self.poll_read(cx)).await;
        read.unwrap_or_else(|| Err(self.end()))
    }

    /// As [`read`](Self::read), if there is one now.
    fn try_read(&mut self) -> crate::Result<Option<MonitorEvent>> {
        if self.ended {
            return Err(self.end());
        }
        let message = self.pair.try_recv()?;
        Ok(message.map(|message| self.take(&message)))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<crate::Result<MonitorEvent>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.pair).poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => Poll::Ready(Some(Ok(self.take(&message)))),
            Poll::Ready(ended) => {
                self.ended = true;
                Poll::Ready(ended.and_then(Result::err).map(Err))
            }
            Poll::Pending if self.link.stopped.get() => {
                // What came before is read first; if this turn's budget is used up, in the next.
                if self.pair.raw().events().is_ok_and(|events| events.readable) {
                    return Poll::Pending;
                }
                // The last event was lost: a signal hit libzmq as it sent it.
                self.ended = true;
                Poll::Ready(Some(Ok(MonitorEvent::Stopped)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn take(&mut self, message: &Multipart) -> MonitorEvent {
        let event = MonitorEvent::decode(message);
        self.saw_any = true;
        self.ended = matches!(event, MonitorEvent::Stopped);
        self.peers.update(&event);
        event
    }

    /// Why there are no more events.
    fn end(&self) -> Error {
        match self.pair.state().ended() {
            Some(error) => error,
            None => Error::MonitorStopped,
        }
    }
}

/// The events as they come. The stream ends after [`MonitorEvent::Stopped`], or when the context is shut down.
///
/// Its one error is [`Error::LoopGone`], and ends it.
impl Stream for Monitor {
    type Item = crate::Result<MonitorEvent>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_read(cx)
    }
}

impl FusedStream for Monitor {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("peers", &self.peers()).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.link.stop();
    }
}

/// A socket's side of its monitor. Dropped before the socket is closed.
#[derive(Debug, Default)]
pub(crate) struct Monitored(RefCell<Option<Rc<Link>>>);

impl Monitored {
    fn replace(&self, link: Option<Rc<Link>>) {
        let replaced = self.0.replace(link);
        if let Some(replaced) = replaced {
            replaced.stop();
        }
    }
}

impl Drop for Monitored {
    fn drop(&mut self) {
        self.replace(None);
    }
}

/// What a monitor and its socket know of each other.
#[derive(Debug)]
struct Link {
    socket: Weak<ffi::Socket>,
    receiver: Weak<State>,
    stopped: Cell<bool>,
}

impl Link {
    /// Has libzmq let go of the monitor: in the time of this call, for the PAIR is there and takes everything.
    fn stop(&self) {
        if self.stopped.replace(true) {
            return;
        }
        if let Some(socket) = self.socket.upgrade() {
            socket.stop_monitor();
        }
        if let Some(receiver) = self.receiver.upgrade() {
            receiver.call(Direction::Read);
        }
    }
}

/// Whether `inproc` endpoints lead from one socket to the other: they do within one context, and libzmq tells of none
/// to which it belongs.
///
/// A monitor without events is harmless without a reader. Its endpoint is in use, in its own context only.
fn meets(socket: &ffi::Socket, receiver: &ffi::Socket) -> crate::Result<bool> {
    let endpoint = unique_endpoint();
    start(socket, &endpoint, EventMask::None).map_err(|errno| errno.error("monitor the socket"))?;
    let bound = receiver.endpoint_call(EndpointCall::Bind, &endpoint);
    socket.stop_monitor();
    Ok(bound.is_err_and(|error| error.errno() == Some(Errno::EADDRINUSE.raw())))
}

fn start(socket: &ffi::Socket, endpoint: &str, events: EventMask) -> Result<(), Errno> {
    let endpoint = CString::new(endpoint).map_err(|_| Errno::EINVAL)?;
    socket.start_monitor(&endpoint, events)
}

/// One that nobody else has, another copy of this crate in the process included.
fn unique_endpoint() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one(count);
    format!("inproc://calloop-zmq.monitor.{count}.{random:016x}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Wake, Waker};

    use calloop::EventLoop;

    use super::*;
    use crate::AsyncZmqContext;
    use crate::kind::Pull;

    /// A signal that hits libzmq as it sends the last event makes it lose that.
    #[test]
    fn the_end_does_not_depend_on_the_last_event() {
        struct Count(AtomicU64);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let event_loop = EventLoop::<()>::try_new().unwrap();
        let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
        let pull = context.socket::<Pull>().unwrap();
        let mut monitor = pull.monitor().unwrap();
        // The last event is sent, and taken away.
        pull.raw().stop_monitor();
        let last = monitor.pair.try_recv().unwrap().unwrap();
        assert!(matches!(MonitorEvent::decode(&last), MonitorEvent::Stopped));

        let count = Arc::new(Count(AtomicU64::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        assert!(monitor.poll_read(&mut cx).is_pending());
        drop(pull);
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "who waits is woken");
        let stopped = monitor.poll_read(&mut cx);
        assert!(matches!(stopped, Poll::Ready(Some(Ok(MonitorEvent::Stopped)))), "{stopped:?}");
        assert!(matches!(monitor.poll_read(&mut cx), Poll::Ready(None)));
    }
}
