//! The context: where sockets come from, tied to one event loop.

use std::cell::RefCell;
use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver};
use std::task::{Context, Poll};
use std::time::Duration;

use calloop::LoopHandle;
use futures_channel::oneshot;

use crate::error::Elapsed;
use crate::ffi::{self, Closing, Errno};
use crate::hub::Hub;
use crate::kind::Kind;
use crate::sleep::{Sleep, Timeout};
use crate::socket::AsyncZmqSocket;
use crate::trace;

/// A ZeroMQ context tied to one event loop. Cheap to clone; all clones are the same context.
///
/// Each of its sockets wakes the tasks that wait on it from that loop, so everything here stays on the loop's thread
/// (`!Send`).
///
/// # Dropping
///
/// libzmq ends a context only when all its sockets are closed and what they still had to send is sent or has outlived
/// its linger. That can take long, so when the last clone and the last socket are dropped it happens on a thread of its
/// own, and nobody waits for it: a program that exits right away may lose its last messages.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{AsyncZmqContext, kind::Pull};
///
/// let event_loop = calloop::EventLoop::<()>::try_new()?;
/// let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let pull = context.socket::<Pull>()?;
/// # drop(pull);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AsyncZmqContext {
    core: Rc<Core>,
}

impl AsyncZmqContext {
    /// Creates a context whose sockets wake tasks from this event loop.
    ///
    /// # Errors
    ///
    /// [`Error::Register`](crate::Error::Register) if the loop takes no more sources.
    ///
    /// # Examples
    ///
    /// ```
    /// let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// let context = calloop_zmq::AsyncZmqContext::new(&event_loop.handle())?;
    /// # drop(context);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new<D: 'static>(handle: &LoopHandle<'static, D>) -> crate::Result<Self> {
        Self::with_context(handle, zmq::Context::new())
    }

    /// As [`new`](Self::new), with a context that exists: other threads may go on using its clones, and `inproc`
    /// endpoints are common to all.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Pull, zmq};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// let existing = zmq::Context::new();
    /// let context = AsyncZmqContext::with_context(&event_loop.handle(), existing.clone())?;
    /// context.socket::<Pull>()?.bind("inproc://common")?;
    /// existing.socket(zmq::PUSH)?.connect("inproc://common")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_context<D: 'static>(handle: &LoopHandle<'static, D>, context: zmq::Context) -> crate::Result<Self> {
        Ok(Self { core: Rc::new(Core::new(Hub::new(handle)?, Some(context))) })
    }

    /// The zmq crate's context, to clone and hand to other threads.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Pull};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// let pull = context.socket::<Pull>()?;
    /// pull.bind("inproc://reports")?;
    /// let zmq_context = context.zmq_context().clone();
    /// let thread = std::thread::spawn(move || {
    ///     let push = zmq_context.socket(zmq::PUSH)?;
    ///     push.connect("inproc://reports")?;
    ///     push.send("from a thread", 0)
    /// });
    /// assert_eq!(pull.recv().await?, "from a thread".into());
    /// thread.join().unwrap()?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn zmq_context(&self) -> &zmq::Context {
        self.core.context()
    }

    /// Creates a socket of kind `K`.
    ///
    /// Its linger is one second, see [`DEFAULT_LINGER`](Self::DEFAULT_LINGER); all other options are libzmq's defaults.
    ///
    /// # Errors
    ///
    /// [`Error::Zmq`](crate::Error::Zmq) with `EMFILE` if the context has its maximum of sockets (1,023) or the process
    /// is out of descriptors, [`Error::Terminated`](crate::Error::Terminated), or
    /// [`Error::Register`](crate::Error::Register).
    ///
    /// # Panics
    ///
    /// Where the loop itself is borrowed, as calloop's own `insert_source` does: in the `before_sleep` of another source,
    /// and in a drop that `LoopHandle::remove` causes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Rep};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let server = context.socket::<Rep>()?;
    /// server.bind("tcp://127.0.0.1:*")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn socket<K: Kind>(&self) -> crate::Result<AsyncZmqSocket<K>> {
        let kind =
            const { K::SOCKET_TYPE.expect("a socket of kind `Any` is adopted: its type does not say what to create") };
        let failed = |errno: Errno| errno.error("create the socket");
        let socket = ffi::Socket::open(self.core.context(), kind).map_err(failed)?;
        let socket = AsyncZmqSocket::new(socket, &self.core)?;
        let linger = i32::try_from(Self::DEFAULT_LINGER.as_millis()).unwrap_or(i32::MAX);
        socket.raw().set_linger(linger).map_err(failed)?;
        Ok(socket)
    }

    /// How long a socket made here goes on sending after it was closed, unless
    /// [`get_ref`](AsyncZmqSocket::get_ref)`().set_linger(..)` says otherwise: one second.
    ///
    /// libzmq's own default is for ever, and then one message that nobody fetches keeps the context from ever ending.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Push};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let push = context.socket::<Push>()?;
    /// assert_eq!(push.get_ref().get_linger()?, 1_000);
    /// # assert_eq!(AsyncZmqContext::DEFAULT_LINGER.as_millis(), 1_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const DEFAULT_LINGER: Duration = Duration::from_secs(1);

    /// Takes a socket of the zmq crate into the loop. It may belong to any context; its options stay as they are, but
    /// for the receive and send timeouts, which are 0 until [`into_inner`](AsyncZmqSocket::into_inner) gives it back. It
    /// comes between two messages: of one that it has sent or received a part of, the next would be the rest.
    ///
    /// # Errors
    ///
    /// [`Error::KindMismatch`](crate::Error::KindMismatch) if it is not of kind `K`; the socket is closed then, as by
    /// every error here. [`Error::Zmq`](crate::Error::Zmq) with `ENOTSUP` for libzmq's thread-safe kinds, which have no
    /// descriptor to wait on. [`Error::Terminated`](crate::Error::Terminated),
    /// [`Error::Register`](crate::Error::Register).
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Dealer};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let socket = zmq::Context::new().socket(zmq::DEALER)?;
    /// let dealer = context.adopt::<Dealer>(socket)?;
    /// # drop(dealer);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adopt<K: Kind>(&self, socket: zmq::Socket) -> crate::Result<AsyncZmqSocket<K>> {
        AsyncZmqSocket::new(ffi::Socket::foreign(socket, self.core.closing.clone()), &self.core)
    }

    /// Waits for this long, and for one turn of the loop at least. If the loop goes first, the wait ends early. The clock is
    /// that of [`Instant`](std::time::Instant): on Linux it stands still while the machine is suspended.
    ///
    /// Dropping the future takes its deadline out of the loop.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::AsyncZmqContext;
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// let begin = std::time::Instant::now();
    /// context.sleep(std::time::Duration::from_millis(2)).await;
    /// assert!(begin.elapsed().as_millis() >= 2);
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Unpin + use<> {
        Sleep::new(Rc::clone(self.core.hub()), duration)
    }

    /// Runs `future` for at most this long, or for one turn of the loop if that is longer. Its result comes first if both
    /// are there.
    ///
    /// When the time has passed, the future is dropped; with a cancel-safe one nothing is lost.
    ///
    /// # Errors
    ///
    /// [`Elapsed`] if the time passed first.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use calloop_zmq::{AsyncZmqContext, kind::Pull};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # let pull = context.socket::<Pull>()?;
    /// # event_loop.block_on(async {
    /// assert!(context.timeout(Duration::from_millis(5), pull.recv()).await.is_err());
    /// # }, &mut (), |_| {})?.unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeout<F: IntoFuture>(
        &self,
        duration: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> + use<F> {
        Timeout::new(Sleep::new(Rc::clone(self.core.hub()), duration), future.into_future())
    }

    /// Ends every wait on the context's sockets: their streams end, [`recv`](AsyncZmqSocket::recv) and
    /// [`send`](AsyncZmqSocket::send) answer [`Error::Terminated`](crate::Error::Terminated), now and from then on, and
    /// no more sockets are made.
    ///
    /// The sockets stay open until they are dropped, and what libzmq had taken over is still sent. Sockets that other
    /// threads made from [`zmq_context`](Self::zmq_context) go on: the zmq crate has no call for `zmq_ctx_shutdown`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Pull, Error};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// let pull = context.socket::<Pull>()?;
    /// let (ended, ()) = futures::join!(pull.recv(), async { context.shutdown() });
    /// assert!(matches!(ended, Err(Error::Terminated)));
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self) {
        self.core.hub.shut_down();
    }

    /// [Shuts down](Self::shutdown), then waits until libzmq has sent what it still had to send, within each socket's
    /// linger, and has ended the context.
    ///
    /// That comes after all sockets of this context are dropped, and all other clones of it: tasks that end on
    /// [`Error::Terminated`](crate::Error::Terminated) do that. What holds it up for more than half a second is told by
    /// [`Terminate::open_sockets`] and, with the feature `tracing`, by a warning. A socket that was
    /// [adopted](Self::adopt) and was the last of another context is waited for as well, until that has ended. But if other
    /// threads hold clones of [`zmq_context`](Self::zmq_context), libzmq goes on until the last of those is dropped, which is
    /// not waited for.
    ///
    /// The waiting is done on a thread of its own; the loop goes on.
    ///
    /// # Errors
    ///
    /// [`Error::Zmq`](crate::Error::Zmq) with `EAGAIN` if there is no thread to be had. The context is leaked then.
    ///
    /// # Cancel safety
    ///
    /// The shutdown is done when the future is made. Dropping the future only stops the waiting.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// let push = context.socket::<Push>()?;
    /// push.connect("inproc://nobody")?;
    /// push.send("last words").await?;
    /// push.close().await?;
    /// context.terminate().await?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn terminate(self) -> Terminate {
        self.shutdown();
        let (sender, ended) = oneshot::channel();
        self.core.ended.borrow_mut().push(sender);
        let hub = Rc::clone(&self.core.hub);
        let slow = Sleep::new(Rc::clone(&hub), SLOW);
        Terminate { ended, hub, slow: Some(slow) }
    }
}

/// The end of a context, see [`AsyncZmqContext::terminate`].
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::Pull};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # event_loop.block_on(async {
/// let pull = context.socket::<Pull>()?;
/// let end = context.terminate();
/// assert_eq!(end.open_sockets(), 1); // it waits for this one
/// drop(pull);
/// end.await?;
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Terminate {
    ended: oneshot::Receiver<()>,
    hub: Rc<Hub>,
    /// Runs until the end is late; then that was told.
    slow: Option<Sleep>,
}

impl Terminate {
    /// How many sockets of the context are still open. Each [`Monitor`](crate::Monitor) is one.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Pull};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// # let pull = context.socket::<Pull>()?;
    /// let end = context.terminate();
    /// assert_eq!(end.open_sockets(), 1);
    /// drop(pull);
    /// assert_eq!(end.open_sockets(), 0);
    /// # end.await?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_sockets(&self) -> usize {
        self.hub.len()
    }
}

impl Future for Terminate {
    type Output = crate::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<crate::Result<()>> {
        if let Poll::Ready(ended) = Pin::new(&mut self.ended).poll(cx) {
            return Poll::Ready(ended.map_err(|_| Errno::EAGAIN.error("end the context")));
        }
        if self.slow.as_mut().is_some_and(|slow| Pin::new(slow).poll(cx).is_ready()) {
            self.slow = None;
            trace::slow_end(self.open_sockets());
        }
        Poll::Pending
    }
}

impl fmt::Debug for AsyncZmqContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncZmqContext").field("hub", &self.core.hub).finish_non_exhaustive()
    }
}

/// What the context and its sockets keep alive.
pub(crate) struct Core {
    hub: Rc<Hub>,
    /// `None` in its drop only.
    context: Option<zmq::Context>,
    /// Told when the context has ended.
    ended: RefCell<Vec<oneshot::Sender<()>>>,
    /// Adopted sockets are closed on threads of their own. They are waited for, since one of them may be the last to
    /// hold the context, and have something to send.
    closing: Closing,
    closed: Option<Receiver<Infallible>>,
}

impl Core {
    fn new(hub: Rc<Hub>, context: Option<zmq::Context>) -> Self {
        let (closing, closed) = mpsc::channel();
        Self { hub, context, ended: RefCell::default(), closing, closed: Some(closed) }
    }

    pub(crate) fn hub(&self) -> &Rc<Hub> {
        &self.hub
    }

    pub(crate) fn context(&self) -> &zmq::Context {
        self.context.as_ref().expect("only a drop takes it")
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Every socket that was made here keeps its core, so this clone outlives theirs. The last one ends the context, and
        // that blocks.
        let ended = self.ended.take();
        let (Some(context), Some(closed)) = (self.context.take(), self.closed.take()) else { return };
        ffi::drop_elsewhere(context, move || {
            // Nothing comes: it ends when all who hold the other end have dropped it, our own included.
            let _ = closed.recv();
            for sender in ended {
                // Nobody may be waiting any more.
                let _ = sender.send(());
            }
        });
    }
}

/// When the end of a context is called slow.
const SLOW: Duration = Duration::from_millis(500);

#[cfg(test)]
#[path = "model/inside/context.rs"]
pub(crate) mod inside;
