//! ZeroMQ sockets that you `await`, on [calloop]'s event loop.
//!
//! An [`AsyncZmqSocket`] is a `Stream` and a `Sink` of [`Multipart`] messages, with [`recv`](AsyncZmqSocket::recv) and
//! [`send`](AsyncZmqSocket::send) beside them. Whoever waits is woken by the loop, on the loop's own thread; there is no
//! thread of ours and no runtime.
//!
//! ```
//! use calloop::EventLoop;
//! use calloop_zmq::{AsyncZmqContext, kind::{Pull, Push}};
//! use futures::StreamExt;
//!
//! let mut event_loop = EventLoop::<()>::try_new()?;
//! let (executor, scheduler) = calloop::futures::executor()?;
//! let signal = event_loop.get_signal();
//! event_loop.handle().insert_source(executor, move |outcome, (), ()| {
//!     println!("the task ended: {outcome:?}");
//!     signal.stop();
//! })?;
//!
//! let context = AsyncZmqContext::new(&event_loop.handle())?; // a ZeroMQ context tied to this loop
//! let pull = context.socket::<Pull>()?; // the kind is a type: `pull.send(..)` does not compile
//! let push = context.socket::<Push>()?;
//! push.connect(&pull.bind("tcp://127.0.0.1:*")?)?; // `bind` returns the endpoint really bound
//!
//! scheduler.schedule(async move {
//!     push.send(["oslo", "12C"]).await?; // one message, two frames
//!     push.send(["rome", "21C"]).await?;
//!     let mut reports = pull.take(2); // a socket is a Stream of messages
//!     while let Some(message) = reports.next().await {
//!         let [city, weather] = message?.try_into()?;
//!         println!("{}: {}", city.as_str().unwrap_or("?"), weather.as_str().unwrap_or("?"));
//!     }
//!     calloop_zmq::Result::Ok(()) // says which error `?` makes
//! })?;
//! event_loop.run(None, &mut (), |()| {})?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! For more there is a [`guide`] in short chapters: from callbacks to tasks, patterns, cancellation, shutdown, performance,
//! security, porting.
//!
//! # Questions
//!
//! ## Why is my message not on the wire after `send().await`?
//!
//! Because libzmq queues. `Ok` says that libzmq owns the message now; its I/O thread writes it out when the connection
//! stands and the peer keeps up. A closed socket goes on doing so for as long as its linger, which is
//! [one second](AsyncZmqContext::DEFAULT_LINGER) here unless you set another. Only an answer from the peer tells you that
//! the peer has it. How much may queue is the high-water mark (`set_sndhwm`, counted in messages); once it is reached,
//! `send` waits, or libzmq drops the message, depending on the [kind].
//!
//! ## Why are my first messages lost?
//!
//! A PUB sends to those whose subscriptions have arrived, and a ROUTER to those who are connected; `connect` only begins
//! to connect. No pause is long enough for sure. Wait for what has to be there:
//! [`wait_for_subscribers`](AsyncZmqSocket::wait_for_subscribers) on an [`XPub`](kind::XPub), or
//! [`wait_for_peers`](Monitor::wait_for_peers) and [`connected`](Monitor::connected) on the
//! [`monitor`](AsyncZmqSocket::monitor) of any socket.
//!
//! ## Why can't I poll the descriptor myself?
//!
//! Because `ZMQ_FD` does not say "a message is here". It says that libzmq has internal commands to process, says it once,
//! and any call on the socket may use the announcement up, also a send while another task waits to receive. This crate
//! keeps account of that for all who wait. The socket behind [`get_ref`](AsyncZmqSocket::get_ref) is still yours to call:
//! it answers `EAGAIN` instead of blocking, and nobody misses a wake-up for it.
//!
//! ## What happens when I drop the context? How do I stop cleanly?
//!
//! Nothing, while a clone of it or one of its sockets is left. After the last of them, libzmq ends the context, and that
//! waits for messages which still linger. It does so on a thread made for the purpose, so your loop goes on. Nobody waits
//! for that thread: a program that returns from `main` right then may cut off its last messages.
//!
//! So stop with [`terminate`](AsyncZmqContext::terminate): it ends every wait, your tasks see
//! [`Error::Terminated`] or the end of their stream and drop their sockets, and it resolves when libzmq is done. The
//! example `graceful_shutdown` does so on a signal. What a Sink accepted and libzmq did not take yet goes with
//! [`close`](AsyncZmqSocket::close). (libzmq's own default, to linger for ever, is what makes other programs hang at
//! their end on one message that nobody fetches. And no linger at all loses what was sent last. One second sends what can
//! be sent.)
//!
//! ## What does dropping a future lose?
//!
//! Nothing that you did not give it: a dropped `recv` leaves the message where it was, a dropped `send` has sent all of its
//! message or nothing. *Cancel safe* is said of each method, and [`guide::cancellation`] has all of it at one glance.
//!
//! ## How do I see what an error was about?
//!
//! `Display` names the operation and leaves the cause to `source()`, as error reporters expect. To print both without one:
//! `eprintln!("{error}: {}", error.source().map_or(String::new(), ToString::to_string))`.
//!
//! ## How do I say who may connect?
//!
//! With an authenticator, a task that libzmq asks about each peer: see [`zap`]. Its answer names the peer, and
//! [`Multipart::user_id`] tells that name of each message.
//!
//! ## Where is CURVE? Which libzmq is this?
//!
//! The zmq crate compiles libzmq 4.3.4 and leaves CURVE out, so that `set_curve_server` answers `EINVAL`. Two lines in
//! `.cargo/config.toml` link the system's libzmq instead; they stand with [`Features`], which is what
//! [`features()`] answers at run time. This crate is tested with both.
//!
//! ## What can still hold up my loop?
//!
//! Your own tasks, and three calls in which libzmq resolves a host name on the calling thread: `connect` to a `ws://`
//! endpoint with a name in it, and `unbind` and `disconnect` of a `tcp://` name that is not bound or connected in exactly
//! these words. Use addresses there. (`connect` to a `tcp://` name is resolved by libzmq's own thread.)
//!
//! ## May my program fork?
//!
//! To start another program, yes, as `std::process::Command` does. A child that goes on as a copy of its parent must not
//! call or drop a socket, a context or the loop that it inherited: the two share descriptors, and libzmq aborts the parent.
//!
//! ## Which executors work?
//!
//! All that poll their tasks on the loop's thread: calloop's own `executor`, `EventLoop::block_on`, the [`Tasks`] of this
//! crate, or one that you drive from a callback. The wakers are the ordinary ones. Sockets are not `Send`, so an executor
//! that moves tasks between threads refuses them at compile time. Whichever you take, the loop has to be dispatched for
//! anything to be woken. Where it is part of another loop, by its descriptor, dispatch it (with no timeout) also after you
//! have touched a socket or woken a task from outside of it: its descriptor does not tell of that.
//!
//! ## Which features are there?
//!
//! None is on by default, and none changes what the others do. `bytes`: the types of the `bytes` crate become frames, and
//! frames become `Bytes` by `IntoBytes`, without a copy wherever that is sound. `tracing`: events of the
//! `tracing` crate, see the next question.
//!
//! ## Why does my task not go on?
//!
//! Turn the feature `tracing` on, and collect the target `calloop_zmq` at the level `trace`. Each socket has a number and
//! a `kind`, and tells when it is opened (`open`, `adopt`), given endpoints (`bind`, `connect`, `unbind`, `disconnect`), and
//! ends (`close`, or `release` by [`into_inner`](AsyncZmqSocket::into_inner)). Between them stand the waits, each with its
//! `direction`: `park` where a task begins to wait, `yield` where one used up its
//! [budget](AsyncZmqSocket::set_budget), and `wake` where one is woken. A `park` without a `wake` behind it waits for the
//! peer: a message, or room for one. No event has anything of a message in it. The one event at the level `warn` says
//! that the end of a context takes long.
//!
//! ## How do I share a socket between tasks?
//!
//! Put it into an `Rc`: all methods take `&self`. Any number of tasks may wait in `recv` or `send`, and are served in the
//! order in which they came. (So a future that waits and that you keep without polling it holds up those that came after
//! it, also in your own task: go on polling it, or drop it, which loses nothing.) An `Rc` is no `Stream` and no `Sink`, but `&AsyncZmqSocket` is both: `(&*socket).next()`, or
//! `let mut messages = &*socket;` before a loop. So within one task no `Rc` is needed at all, one half of a `join!` may
//! send while the other receives. To send from another thread, give it the sender of a
//! bounded channel, and forward the receiver into the socket on the loop's thread.

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::unwrap_used))]

// The rooms, from the top: each knows those below it. (A socket also keeps, unopened, what its context, its monitor and its
// subscribers leave with it.)

// What a program is made of.
mod context;
#[cfg(any(doc, doctest))]
pub mod guide;
mod monitor;
mod proxy;
mod tasks;
pub mod zap;

// What one operation on a socket does.
mod recv;
mod request;
mod send;
mod socket;
mod subscribers;
mod subscription;

// What a socket's tasks wait for, and what is owed to them.
mod budget;
mod readiness;
mod settling;
mod state;
mod wait;

// What stands in the loop.
mod hub;
mod sleep;
mod source;
mod timer;

// What libzmq is asked to do.
mod features;
mod ffi;
mod guard;
mod transmit;

// What is handed about, and known to all.
#[cfg(feature = "bytes")]
mod bytes;
mod clock;
mod endpoint;
mod error;
mod events;
pub mod kind;
mod line;
mod monitor_event;
mod multipart;
mod outbox;
mod peers;
mod property;
mod trace;
mod wakes;

// What shows that it holds.
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
#[cfg(test)]
mod model;
mod seeded;
#[cfg(test)]
mod stress;

#[cfg(feature = "bytes")]
pub use bytes::IntoBytes;
pub use context::{AsyncZmqContext, Terminate};
pub use error::{
    Elapsed, EndpointError, Error, FrameCountError, JoinError, OsError, Panic, Result, SendError, SetupError,
};
pub use features::{Descriptor, Features, features};
pub use monitor::Monitor;
pub use monitor_event::{MonitorEvent, ProtocolError};
pub use multipart::{IntoFrame, IntoIter, Multipart};
pub use proxy::{Proxy, ProxyControl, Traffic, proxy};
pub use socket::AsyncZmqSocket;
pub use subscription::Subscription;
pub use tasks::{JoinHandle, Tasks};
pub use zmq;
