//! The context: where sockets come from, tied to one event loop.

use std::fmt;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use calloop::LoopHandle;

use crate::error::Elapsed;
use crate::ffi::Errno;
use crate::hub::Hub;
use crate::kind::Kind;
use crate::sleep::{Sleep, Timeout};
use crate::socket::AsyncZmqSocket;

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
    pub fn new<D: 'static>(handle: &LoopHandle<'static, D>) -> crate::Result<Self> {
        Self::with_context(handle, zmq::Context::new())
    }

    /// As [`new`](Self::new), with a context that exists: other threads may go on using its clones, and `inproc`
    /// endpoints are common to all.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_context<D: 'static>(handle: &LoopHandle<'static, D>, context: zmq::Context) -> crate::Result<Self> {
        Ok(Self { core: Rc::new(Core { hub: Hub::new(handle)?, context: ManuallyDrop::new(context) }) })
    }

    /// The zmq crate's context, to clone and hand to other threads.
    pub fn zmq_context(&self) -> &zmq::Context {
        &self.core.context
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
    pub fn socket<K: Kind>(&self) -> crate::Result<AsyncZmqSocket<K>> {
        let kind =
            const { K::SOCKET_TYPE.expect("a socket of kind `Any` is adopted: its type does not say what to create") };
        let failed = |errno: Errno| errno.error("create the socket");
        let socket = self.core.context.socket(kind).map_err(|error| failed(error.into()))?;
        let socket = AsyncZmqSocket::new(socket, &self.core)?;
        let linger = i32::try_from(Self::DEFAULT_LINGER.as_millis()).unwrap_or(i32::MAX);
        socket.raw().set_linger(linger).map_err(failed)?;
        Ok(socket)
    }

    /// How long a socket made here goes on sending after it was closed, unless
    /// [`get_ref`](AsyncZmqSocket::get_ref)`().set_linger(..)` says otherwise: one second.
    ///
    /// libzmq's own default is for ever, and then one message that nobody fetches keeps the context from ever ending.
    pub const DEFAULT_LINGER: Duration = Duration::from_secs(1);

    /// Takes a socket of the zmq crate into the loop. It may belong to any context; its options stay as they are, but
    /// for the receive and send timeouts, which are 0 until
    /// [`into_inner`](AsyncZmqSocket::into_inner) gives it back.
    ///
    /// # Errors
    ///
    /// [`Error::KindMismatch`](crate::Error::KindMismatch) if it is not of kind `K`; the socket is closed then, as by
    /// every error here. [`Error::Zmq`](crate::Error::Zmq) with `ENOTSUP` for libzmq's thread-safe kinds, which have no
    /// descriptor to wait on. [`Error::Terminated`](crate::Error::Terminated),
    /// [`Error::Register`](crate::Error::Register).
    pub fn adopt<K: Kind>(&self, socket: zmq::Socket) -> crate::Result<AsyncZmqSocket<K>> {
        AsyncZmqSocket::new(socket, &self.core)
    }

    /// Waits for this long. If the loop goes first, the wait ends early.
    ///
    /// Dropping the future takes its deadline out of the loop.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Unpin + use<> {
        Sleep::new(Rc::clone(self.core.hub()), duration)
    }

    /// Runs `future` for at most this long. Its result comes first if both are there.
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
}

impl fmt::Debug for AsyncZmqContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncZmqContext").field("hub", &self.core.hub).finish_non_exhaustive()
    }
}

/// What the context and its sockets keep alive.
pub(crate) struct Core {
    hub: Rc<Hub>,
    context: ManuallyDrop<zmq::Context>,
}

impl Core {
    pub(crate) fn hub(&self) -> &Rc<Hub> {
        &self.hub
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Every socket keeps its core, so this clone outlives theirs; the last one ends the context, and that blocks.
        // Should there be no thread to be had, the context is leaked: better than a frozen loop.
        let context = ManuallyDrop::new(zmq::Context::clone(&self.context));
        let _ = thread::Builder::new().name("zmq-term".into()).spawn(move || drop(ManuallyDrop::into_inner(context)));
    }
}
