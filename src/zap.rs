//! Who may connect: an authenticator for libzmq's security mechanisms, as a task on the loop (ZAP 1.0, RFC 27).
//!
//! libzmq asks somebody in its own process about each peer that wants to connect to a socket with security: a *handler*
//! at `inproc://zeromq.zap.01`. [`Authenticator`] is one. It asks a [`Policy`] of yours, or [`Rules`], which are lists of
//! addresses, users and keys, and answers libzmq.
//!
//! ```
//! use calloop::EventLoop;
//! use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}, zap};
//!
//! let mut event_loop = EventLoop::<()>::try_new()?;
//! let (executor, scheduler) = calloop::futures::executor()?;
//! event_loop.handle().insert_source(executor, |ended: calloop_zmq::Result<()>, (), ()| {
//!     println!("the authenticator has ended: {ended:?}");
//! })?;
//! let context = AsyncZmqContext::new(&event_loop.handle())?;
//!
//! let rules = zap::Rules::new();
//! rules.add_user("shop", "alice", "secret");
//! let authenticator = zap::Authenticator::new(&context, rules.clone())?; // before any socket is bound
//! scheduler.schedule(authenticator.run())?;
//!
//! let orders = context.socket::<Pull>()?;
//! orders.require_zap("shop")?;
//! orders.get_ref().set_plain_server(true)?;
//! let endpoint = orders.bind("tcp://127.0.0.1:*")?;
//!
//! let client = context.socket::<Push>()?;
//! client.get_ref().set_plain_username(Some("alice"))?;
//! client.get_ref().set_plain_password(Some("secret"))?;
//! client.connect(&endpoint)?;
//!
//! # event_loop.block_on(async {
//! client.send("two pounds of tea").await?;
//! assert_eq!(orders.recv().await?.user_id(), Some("alice"));
//! # calloop_zmq::Result::Ok(())
//! # }, &mut (), |()| {})?.unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which sockets ask
//!
//! Those that accept peers over `tcp://`, `ipc://` or `ws://`; `inproc://` knows no strangers. All is set with the zmq
//! crate's own calls, before `bind`:
//!
//! | the server sets | its clients set | who is asked about |
//! |---|---|---|
//! | `set_zap_domain` | nothing (NULL) | everyone, by address |
//! | `set_plain_server(true)` | `set_plain_username`, `set_plain_password` | everyone, by name and password |
//! | `set_curve_server(true)`, `set_curve_secretkey` | `set_curve_serverkey`, `set_curve_publickey`, `set_curve_secretkey` | everyone, by key |
//!
//! A NULL socket with a domain that *connects* asks as well, about the one it connects to. Give that one no user id, or
//! the socket `set_rcvhwm(0)`: libzmq keeps a user id in the receive queue, another with each reconnect, and once they
//! fill it, nothing is received any more. (A queue with room for one message has that end at the first connection; `bind`
//! and `connect` refuse it with [`SetupError`](crate::SetupError).) Give none to the peers of a REQ that is a server
//! either: libzmq takes it for a reply, and no reply ever arrives.
//!
//! Nobody is asked a second time while a connection stands.
//!
//! CURVE is not in the libzmq that the zmq crate builds; `set_curve_server` and its like then answer `EINVAL`.
//! [`Features`](crate::Features) tells, and tells how to have it.
//!
//! # The order of set-up
//!
//! Make the [`Authenticator`] first. From then on requests wait for it, for it to be polled if need be. For a peer that
//! connects while there is none, libzmq's rules are these, and two of them let it in:
//!
//! | mechanism | without a handler |
//! |---|---|
//! | NULL with a domain | **everybody comes in**, unless the socket has [`require_zap`](crate::AsyncZmqSocket::require_zap) |
//! | CURVE | **everybody comes in** who knows the server's key, unless the socket has `require_zap` |
//! | PLAIN | nobody comes in |
//!
//! The same holds after the authenticator has ended. So call `require_zap` on each socket that is to be guarded. Clients
//! that were not let in for want of a handler try again by themselves, with NULL when their handshake has timed out.
//!
//! # What becomes of those who are refused
//!
//! | status | libzmq |
//! |---|---|
//! | 400, 500 | tells the client, and the client gives up: it never tries that `connect` again |
//! | 300 | does nothing until the server's handshake timeout (`set_handshake_ivl`, 30 seconds unless set); then the client tries again, by itself |
//!
//! A monitor of the server's socket shows either as `HANDSHAKE_FAILED_AUTH`.
//!
//! # Who sent this message?
//!
//! [`Multipart::user_id`](crate::Multipart::user_id) answers what the decision said about the sender; so does
//! `gets("User-Id")` of the zmq crate, on the frame that has it. Read it from sockets that ask, and from no others: on a
//! socket without security it is whatever the peer says it is.

mod decision;
mod key;
mod request;
mod rules;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures_core::Stream;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use slab::Slab;
use zmq::Message;

use crate::error::Error;
use crate::ffi::Errno;
use crate::guard::ZAP_ENDPOINT;
use crate::kind::{Kind, Router};
use crate::{AsyncZmqContext, AsyncZmqSocket, Multipart};

pub use decision::Decision;
pub use key::{InvalidKey, PublicKey};
pub use request::{Credentials, Malformed, Request};
pub use rules::Rules;

/// Decides who may connect. [`Rules`] are one, and so is every closure from a [`Request`] to the future of a
/// [`Decision`].
///
/// Requests are considered at the same time: one that waits, for a database say, holds up no other.
///
/// # Examples
///
/// ```
/// use calloop_zmq::zap::{Credentials, Decision, Policy, Request};
///
/// struct Evens;
///
/// impl Policy for Evens {
///     async fn decide(&self, request: Request) -> Decision {
///         match request.credentials {
///             Credentials::Plain { username, .. } if username.len() % 2 == 0 => {
///                 Decision::allow().with_user_id(username)
///             }
///             _ => Decision::deny(),
///         }
///     }
/// }
/// # let _ = Evens;
/// ```
pub trait Policy {
    /// Decides about one peer.
    ///
    /// The future is dropped when it takes longer than the [time limit](Authenticator::set_time_limit), and with the
    /// authenticator. One that panics is answered with status 500; the policy is called for others all the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zap::{Policy, Request, Rules}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let request = Request::parse(&Multipart::from(["1.0", "1", "shop", "192.0.2.7", "", "NULL"]))?;
    /// let rules = Rules::new(); // lets nobody in
    /// # event_loop.block_on(async {
    /// assert!(!rules.decide(request).await.is_allowed());
    /// # }, &mut (), |()| {})?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn decide(&self, request: Request) -> impl Future<Output = Decision>;
}

/// Closures, `async` ones among them.
impl<F: AsyncFn(Request) -> Decision> Policy for F {
    async fn decide(&self, request: Request) -> Decision {
        self(request).await
    }
}

/// The one in the process whom libzmq asks: binds `inproc://zeromq.zap.01` in its context, and answers while
/// [`run`](Self::run) is polled.
///
/// Dropping it, or the future of `run`, ends the service: open requests are answered with status 300, which is
/// [try again later](Decision::retry_later), and another authenticator can take its place. See the [module](self) for
/// what then becomes of those who connect.
///
/// # Examples
///
/// A policy that asks elsewhere:
///
/// ```
/// # use std::time::Duration;
/// use calloop_zmq::zap::{Authenticator, Decision, Request};
/// # use calloop_zmq::AsyncZmqContext;
/// # let event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # async fn is_known(address: &str) -> bool { address == "127.0.0.1" }
///
/// let authenticator = Authenticator::new(&context, async |request: Request| {
///     if is_known(&request.address).await { Decision::allow() } else { Decision::deny() }
/// })?;
/// authenticator.set_time_limit(Duration::from_secs(5));
/// let task = authenticator.run(); // for an executor on the loop's thread
/// # drop(task);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "it decides nothing before it is run, and nobody is asked when it is dropped"]
pub struct Authenticator<P> {
    counter: Counter,
    policy: P,
    time_limit: Cell<Duration>,
    max_pending: Cell<NonZeroUsize>,
}

impl<P: Policy> Authenticator<P> {
    /// Takes the place where libzmq asks. Requests wait from now on; [`run`](Self::run) answers them.
    ///
    /// Make it before the sockets that it is to guard are bound: see the [module](self).
    ///
    /// # Errors
    ///
    /// [`Error::Zmq`] with `EADDRINUSE` if the context has an authenticator already, this crate's or another. Those of
    /// [`AsyncZmqContext::socket`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, zap::{Authenticator, Rules}};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let authenticator = Authenticator::new(&context, Rules::new())?;
    /// assert!(Authenticator::new(&context, Rules::new()).is_err(), "a context has one");
    /// # drop(authenticator);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(context: &AsyncZmqContext, policy: P) -> crate::Result<Self> {
        let socket = context.socket::<Router>()?;
        socket.bind(ZAP_ENDPOINT).map_err(|error| match error {
            Error::Zmq { source: source @ zmq::Error::EADDRINUSE, .. } => {
                Error::Zmq { operation: "be a context's second ZAP handler".into(), source }
            }
            error => error,
        })?;
        Ok(Self {
            counter: Counter { socket, open: RefCell::default(), context: context.clone() },
            policy,
            time_limit: Cell::new(Self::DEFAULT_TIME_LIMIT),
            max_pending: Cell::new(Self::DEFAULT_MAX_PENDING),
        })
    }

    /// Sets how long the policy may take for one decision; then the answer is to [try again
    /// later](Decision::retry_later). The default is 30 seconds.
    ///
    /// Nothing tells an authenticator that a peer has given up. libzmq's own do after their `ZMQ_HANDSHAKE_IVL`, 30
    /// seconds unless set: what is decided later than that is for nobody.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, zap::{Authenticator, Rules}};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let authenticator = Authenticator::new(&context, Rules::new())?;
    /// authenticator.set_time_limit(std::time::Duration::from_secs(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_time_limit(&self, limit: Duration) {
        self.time_limit.set(limit);
    }

    /// Sets how many requests may be with the policy at a time. More wait in libzmq, as many as there are connections.
    /// The default is 1,000.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, zap::{Authenticator, Rules}};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let authenticator = Authenticator::new(&context, Rules::new())?;
    /// authenticator.set_max_pending(10.try_into()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_max_pending(&self, requests: NonZeroUsize) {
        self.max_pending.set(requests);
    }

    /// Answers requests until the context is shut down, then resolves to `Ok`.
    ///
    /// What is no request as RFC 27 has it is answered with status 400, or dropped if it does not even have a request id
    /// to answer to; the policy does not see it. A request that the policy panics on is answered with status 500.
    ///
    /// # Errors
    ///
    /// [`Error::LoopGone`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the service, as dropping the authenticator does.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, zap::{Authenticator, Rules}};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// # event_loop.block_on(async {
    /// let service = Authenticator::new(&context, Rules::new())?.run();
    /// context.shutdown();
    /// service.await?;
    /// # calloop_zmq::Result::Ok(())
    /// # }, &mut (), |()| {})?.unwrap()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn run(self) -> crate::Result<()> {
        let Self { counter, policy, time_limit, max_pending } = self;
        let consider = |ticket: usize, request: Request| {
            // The call is in there too: it may panic as well as what it returns.
            let decision = AssertUnwindSafe(async { policy.decide(request).await }).catch_unwind();
            let decision = counter.context.timeout(time_limit.get(), decision);
            async move {
                let decision = match decision.await {
                    Ok(Ok(decision)) => decision,
                    Ok(Err(_panic)) => Decision::fail(),
                    Err(_elapsed) => Decision::retry_later(),
                };
                (ticket, decision)
            }
        };
        let mut pending = FuturesUnordered::new();
        poll_fn(|cx| {
            loop {
                while let Poll::Ready(Some((ticket, decision))) = pending.poll_next_unpin(cx) {
                    counter.answer(ticket, &decision);
                }
                if pending.len() >= max_pending.get().get() {
                    return Poll::Pending;
                }
                match Pin::new(&mut &counter.socket).poll_next(cx) {
                    Poll::Ready(Some(Ok(message))) => match counter.open(message) {
                        Some((ticket, Ok(request))) => pending.push(consider(ticket, request)),
                        Some((ticket, Err(malformed))) => {
                            counter.answer(ticket, &Decision::deny().with_reason(malformed.to_string()));
                        }
                        None => {}
                    },
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    const DEFAULT_TIME_LIMIT: Duration = Duration::from_secs(30);
    const DEFAULT_MAX_PENDING: NonZeroUsize = NonZeroUsize::new(1_000).expect("it is not zero");
}

impl<P> fmt::Debug for Authenticator<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("time_limit", &self.time_limit.get())
            .field("max_pending", &self.max_pending.get())
            .finish_non_exhaustive()
    }
}

impl<K: Kind> AsyncZmqSocket<K> {
    /// Lets no peer in but those that a ZAP handler has let in, in this domain: sets `ZMQ_ZAP_DOMAIN`, and
    /// `ZMQ_ZAP_ENFORCE_DOMAIN`, which the zmq crate does not know.
    ///
    /// Without the second, everybody comes in whenever there is no handler: see [the order of
    /// set-up](crate::zap#the-order-of-set-up). Call it before `bind`; what is bound already goes on as it was.
    ///
    /// # Errors
    ///
    /// [`Error::Zmq`] with `EINVAL` if the domain is empty or longer than 255 bytes, or if libzmq is older than 4.3.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Pull};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let orders = context.socket::<Pull>()?;
    /// orders.require_zap("shop")?;
    /// orders.bind("tcp://127.0.0.1:*")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn require_zap(&self, domain: &str) -> crate::Result<()> {
        self.state().check()?;
        let failed = |errno: Errno| errno.error("require ZAP");
        if domain.is_empty() {
            return Err(Errno::EINVAL.error("require ZAP without a domain"));
        }
        let refused = |error| Errno::from(error).error("require ZAP: a domain has up to 255 bytes");
        self.raw().get_ref().set_zap_domain(domain).map_err(refused)?;
        self.raw().enforce_domain().map_err(failed)
    }
}

/// Where libzmq hands its requests in. Its drop leaves nobody waiting for an answer.
struct Counter {
    socket: AsyncZmqSocket<Router>,
    /// The requests that are not answered yet.
    open: RefCell<Slab<ReplyTo>>,
    /// For the time limit.
    context: AsyncZmqContext,
}

/// What a reply needs of its request.
struct ReplyTo {
    /// The routing ids and the delimiter: whoever passed the request on finds the way back by them.
    envelope: Multipart,
    request_id: Message,
}

impl Counter {
    /// Reads a message. `None`: there is nobody to answer to.
    fn open(&self, mut message: Multipart) -> Option<(usize, Result<Request, Malformed>)> {
        let envelope = message.take_envelope();
        let request = Request::parse(&message);
        let request_id = message.into_iter().nth(1).filter(|_| !envelope.is_empty())?;
        let ticket = self.open.borrow_mut().insert(ReplyTo { envelope, request_id });
        Some((ticket, request))
    }

    fn answer(&self, ticket: usize, decision: &Decision) {
        let Some(ReplyTo { envelope, request_id }) = self.open.borrow_mut().try_remove(ticket) else { return };
        let mut reply = decision.encode(&request_id);
        reply.put_envelope(envelope);
        // A ROUTER never waits to send: libzmq drops a reply to who has gone. What fails is the context's end.
        let _ = self.socket.try_send(reply);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // Closing is done by another thread, some time later: by then a next authenticator may want the place.
        let _ = self.socket.unbind(ZAP_ENDPOINT);
        // Each request has its answer (RFC 27), also those that were not read yet.
        for _ in 0..LAST_LOOK {
            let Ok(Some(message)) = self.socket.try_recv() else { break };
            self.open(message);
        }
        let tickets: Vec<usize> = self.open.borrow().iter().map(|(ticket, _)| ticket).collect();
        for ticket in tickets {
            self.answer(ticket, &Decision::retry_later());
        }
    }
}

/// How many requests that nobody has read yet are answered at the end, at most.
const LAST_LOOK: usize = 10_000;
