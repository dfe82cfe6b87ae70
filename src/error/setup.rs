//! Set-ups that libzmq does not survive.

use std::fmt;

/// The socket's options, or its kind, would make libzmq abort the process or stall for ever.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, Error, SetupError, kind::Pull};
/// # let event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let pull = context.socket::<Pull>()?;
/// let refused = pull.bind("inproc://zeromq.zap.01").unwrap_err();
/// assert!(matches!(refused, Error::Setup(SetupError::HandlerKind { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// A ZAP handler is a REP or a ROUTER. Behind one of another kind the process is aborted (an assertion in libzmq) as
    /// soon as the first peer connects to a socket with security.
    HandlerKind {
        /// What was to be bound there.
        actual: zmq::SocketType,
    },
    /// `ZMQ_ZAP_ENFORCE_DOMAIN` and a PLAIN server without a domain: the process is aborted when the first peer connects.
    /// [`require_zap`](crate::AsyncZmqSocket::require_zap) sets both.
    PlainWithoutDomain,
    /// A socket that asks a ZAP handler, with room to receive one message (`set_rcvhwm(1)`): libzmq stores the peer's
    /// user id in that room, and nothing that a peer with a user id sends is ever received. Set 2 for the same effect.
    NoRoomForUserId,
    /// A message that was received halfway, by calls on [the bare socket](crate::AsyncZmqSocket::get_ref), when its
    /// connection is to end: the process is aborted at the next receive. Receive the rest before.
    HalfReceived,
    /// `ZMQ_IMMEDIATE` on a SUB, XSUB, ROUTER or REP that connects: when the connection is lost while a message waits, the
    /// process is aborted at the next receive, or that message is joined with another peer's. The option does nothing
    /// for these kinds: they do not choose whom they send to.
    ImmediateReceiver {
        /// What was to be connected.
        actual: zmq::SocketType,
    },
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandlerKind { actual } => {
                write!(f, "libzmq would abort: a ZAP handler is a REP or a ROUTER, this is a {actual:?}")
            }
            Self::PlainWithoutDomain => {
                f.write_str("libzmq would abort: ZMQ_ZAP_ENFORCE_DOMAIN and a PLAIN server without a ZAP domain")
            }
            Self::NoRoomForUserId => {
                f.write_str("libzmq would stall: a receive high-water mark of 1 on a socket that asks a ZAP handler")
            }
            Self::HalfReceived => {
                f.write_str("libzmq would abort: a connection is to end while a message is received halfway")
            }
            Self::ImmediateReceiver { actual } => {
                write!(f, "libzmq would abort: ZMQ_IMMEDIATE on a {actual:?}, when the connection is lost")
            }
        }
    }
}

impl std::error::Error for SetupError {}
