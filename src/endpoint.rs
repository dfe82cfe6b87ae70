//! Endpoints: what is called on one, and why it is refused.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointCall {
    Bind,
    Connect,
    Unbind,
    Disconnect,
}

impl EndpointCall {
    /// The call on this endpoint, as an operation that failed.
    pub(crate) fn of(self, endpoint: &str) -> String {
        format!("{} {endpoint}", self.in_words())
    }

    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Connect => "connect to",
            Self::Unbind => "unbind",
            Self::Disconnect => "disconnect from",
        }
    }

    /// What `ENOENT` means. To bind, it is the file system's: there is no such directory.
    pub(crate) fn in_vain(self) -> &'static str {
        match self {
            Self::Bind | Self::Connect => "",
            Self::Unbind => ", where it is not bound",
            Self::Disconnect => ", where it is not connected",
        }
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Connect => "connect",
            Self::Unbind => "unbind",
            Self::Disconnect => "disconnect",
        }
    }
}

/// The text given is no endpoint: it holds a NUL, its port is no number up to 65535, or libzmq does not take it (`EINVAL`,
/// `EPROTONOSUPPORT`, `ENOCOMPATPROTO`, `ENODEV`).
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, Error, kind::Pull};
/// # let event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let error = context.socket::<Pull>()?.connect("nonsense").unwrap_err();
/// assert!(matches!(error, Error::Endpoint(_)), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError {
    pub(crate) call: EndpointCall,
    pub(crate) endpoint: String,
    pub(crate) reason: NoEndpoint,
}

/// Why a text is no endpoint. libzmq never saw what it would cut short or misread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEndpoint {
    Nul,
    Length,
    Port,
    Refused(zmq::Error),
}

impl NoEndpoint {
    pub(crate) fn errno(&self) -> Option<&zmq::Error> {
        match self {
            Self::Nul | Self::Length | Self::Port => None,
            Self::Refused(errno) => Some(errno),
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::Nul => "an endpoint holds no NUL",
            Self::Length => "it is too long",
            Self::Port => "a port is a number up to 65535",
            Self::Refused(zmq::Error::ENODEV) => "here is no such address or interface, and host names cannot be bound",
            Self::Refused(zmq::Error::EPROTONOSUPPORT) => "this libzmq has no such transport",
            Self::Refused(zmq::Error::ENOCOMPATPROTO) => "not a transport for this kind of socket",
            Self::Refused(_) => "endpoints look like tcp://127.0.0.1:5555, ipc:///tmp/socket or inproc://name",
        }
    }
}

impl EndpointError {
    /// The text that was given.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, Error, kind::Pull};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// match context.socket::<Pull>()?.connect("nonsense") {
    ///     Err(Error::Endpoint(error)) => assert_eq!(error.endpoint(), "nonsense"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {:?}: {}", self.call.in_words(), self.endpoint, self.reason.in_words())
    }
}

impl std::error::Error for EndpointError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.reason.errno().map(|source| source as _)
    }
}

/// libzmq reads a port by `atoi` and cuts it to 16 bits: it takes 99999 for 34463, -1 for 65535 and 80x for 80.
pub(crate) fn has_impossible_port(endpoint: &str) -> bool {
    let impossible =
        |address: &str| address.rsplit_once(':').is_some_and(|(_, port)| port != "*" && port.parse::<u16>().is_err());
    match endpoint.split_once("://") {
        Some(("tcp" | "udp", addresses)) => addresses.split(';').any(impossible), // where from, and where to
        Some(("ws" | "wss", address)) => address.split('/').next().is_some_and(impossible), // a path may follow
        _ => false,
    }
}
