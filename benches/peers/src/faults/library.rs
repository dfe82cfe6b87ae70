//! What the cases ask of a library.

use std::fmt::Display;
use std::time::Duration;

use futures::{Sink, Stream};

use super::finding::Finding;

/// A message as the cases have it.
pub type Frames = Vec<Vec<u8>>;

/// One of the libraries, running: what the cases do not do with its Streams and Sinks themselves.
///
/// The raw sockets that it takes over have just been made, and bound or connected. That is what the libraries do with
/// their own.
pub trait Library: Clone + 'static {
    const NAME: &str;

    type Outgoing: 'static;
    type Incoming: 'static;
    type SendError: Display + 'static;
    type RecvError: Display + 'static;
    type Pull: Stream<Item = Result<Self::Incoming, Self::RecvError>> + Unpin + 'static;
    type Push: Sink<Self::Outgoing, Error = Self::SendError> + Unpin + 'static;
    type Dealer: Stream<Item = Result<Self::Incoming, Self::RecvError>>
        + Sink<Self::Outgoing, Error = Self::SendError>
        + Unpin
        + 'static;
    type Router: Stream<Item = Result<Self::Incoming, Self::RecvError>>
        + Sink<Self::Outgoing, Error = Self::SendError>
        + Unpin
        + 'static;

    /// Runs `main`, and drops everything after it.
    fn run<F, T>(context: &zmq::Context, main: impl FnOnce(Self) -> F) -> T
    where
        F: Future<Output = T> + 'static,
        T: 'static;

    /// A task beside it.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Unpin + 'static;

    fn pull(&self, raw: zmq::Socket) -> Self::Pull;
    fn push(&self, raw: zmq::Socket) -> Self::Push;
    fn dealer(&self, raw: zmq::Socket) -> Self::Dealer;
    fn router(&self, raw: zmq::Socket) -> Self::Router;

    /// The raw socket, which each of them lends.
    fn raw(pull: &Self::Pull) -> &zmq::Socket;

    /// One more endpoint.
    fn connect(pull: &Self::Pull, endpoint: &str) {
        Self::raw(pull).connect(endpoint).expect("an endpoint");
    }

    fn message(frames: Frames) -> Self::Outgoing;
    fn frames(message: &Self::Incoming) -> Frames;

    /// Asks "one" with a REQ socket, gives the reply up after a while, asks "two". `req` makes such a socket.
    fn ask_twice(self, req: impl Fn() -> zmq::Socket + 'static) -> impl Future<Output = Finding> + 'static;

    /// What the documentation says for the end of a program, all sockets being dropped.
    fn goodbye(self) -> impl Future<Output = ()> + 'static {
        async {}
    }
}

/// How long a library waits for the reply that it gives up.
pub const SOON: Duration = Duration::from_millis(50);

/// What it is worth that this was the reply to "two".
pub fn second_reply(reply: &[u8]) -> Finding {
    if reply == b"two" { Finding::right() } else { Finding::wrong("the reply to another request is taken for it") }
}
