//! Set-ups with which libzmq would abort the process, or stall for ever: refused before libzmq sees them.
//!
//! Options are set on the bare socket, where nobody looks. But libzmq uses what they are at the `bind` or `connect`, and
//! that goes through here.

use std::fmt;
use std::fs::File;

use crate::ffi::{self, EndpointCall, Errno};
use crate::zap;

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
        }
    }
}

impl std::error::Error for SetupError {}

/// Refuses what must not reach libzmq. Whatever else is wrong, it says itself.
pub(crate) fn check(socket: &ffi::Socket, call: EndpointCall, endpoint: &str) -> crate::Result<()> {
    match call {
        EndpointCall::Bind | EndpointCall::Connect => {}
        EndpointCall::Unbind | EndpointCall::Disconnect => return Ok(()),
    }
    let failed = |errno: Errno| errno.error(format!("{} {endpoint}", call.name()));
    if endpoint == zap::ENDPOINT && matches!(call, EndpointCall::Bind) {
        let actual = socket.kind().map_err(failed)?;
        if !matches!(actual, zmq::REP | zmq::ROUTER) {
            return Err(SetupError::HandlerKind { actual }.into());
        }
    }
    // Within the process nobody is asked about anybody.
    if endpoint.starts_with("inproc://") {
        return Ok(());
    }
    // To bind to an address, libzmq looks through the network interfaces, where its build knows how to. That takes a
    // descriptor, and without one it aborts. Another thread may still be faster.
    if let (EndpointCall::Bind, Err(error)) = (call, File::open("/")) {
        if let Some(errno) = Errno::of_descriptors(&error) {
            return Err(failed(errno));
        }
    }
    let security = socket.security().map_err(failed)?;
    if security.plain_server && security.enforces_domain && !security.has_domain {
        return Err(SetupError::PlainWithoutDomain.into());
    }
    if security.asks() && security.rcvhwm == 1 {
        return Err(SetupError::NoRoomForUserId.into());
    }
    Ok(())
}
