//! One error type for the crate: a variant for each case that callers branch on, the rest as the errno that libzmq gave.

mod join;
mod returned;
mod setup;

use std::borrow::Cow;
use std::io;

pub use crate::endpoint::EndpointError;
pub use crate::error::join::{JoinError, Panic};
pub use crate::error::returned::{FrameCountError, SendError};
pub use crate::error::setup::SetupError;

/// A result whose error is [`Error`].
///
/// # Examples
///
/// ```
/// fn checked(text: &str) -> calloop_zmq::Result<calloop_zmq::Multipart> {
///     if text.is_empty() { Err(calloop_zmq::Error::EmptyMessage) } else { Ok(text.into()) }
/// }
/// # assert!(checked("").is_err() && checked("x").is_ok());
/// ```
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a socket.
///
/// The `Display` form names the operation and leaves the cause to
/// [`source()`](std::error::Error::source), so that error reporters do not print it twice.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, Error, kind::Pull};
/// # let event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let pull = context.socket::<Pull>()?;
/// pull.bind("inproc://taken")?;
/// match context.socket::<Pull>()?.bind("inproc://taken") {
///     Err(Error::Zmq { source: zmq::Error::EADDRINUSE, .. }) => println!("somebody else was here"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ZeroMQ context was shut down. Every operation answers this from now on; only dropping the socket is left.
    #[error("the ZeroMQ context was terminated")]
    Terminated,
    /// The event loop, or the socket's source in it, is gone: nothing will wake who waits here.
    #[error("the event loop of this socket is gone")]
    LoopGone,
    /// The monitor has ended: its socket was closed, or has another monitor now.
    #[error("the monitor has ended: its socket was closed, or has another monitor")]
    MonitorStopped,
    /// libzmq has no room for the message now: the queues for it are at their high-water marks, or there is no peer. Only
    /// [`try_send`](crate::AsyncZmqSocket::try_send) says so; `send` waits.
    #[error("there is no room for the message now")]
    Full,
    /// A message has at least one frame; this one had none.
    #[error("a message needs at least one frame")]
    EmptyMessage,
    /// A received message had another number of frames than the program asked for.
    #[error("expected {expected} frames, the message has {actual}")]
    FrameCount {
        /// The number asked for.
        expected: usize,
        /// The number found.
        actual: usize,
    },
    /// The adopted socket is of another kind than the type says.
    #[error("expected a {expected:?} socket, this is a {actual:?}")]
    KindMismatch {
        /// The kind in the type.
        expected: zmq::SocketType,
        /// The kind that libzmq reports.
        actual: zmq::SocketType,
    },
    /// The text given is no endpoint that this libzmq takes.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// What the socket is set to would make libzmq abort the process or stall; it was not asked.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// Something needs CURVE, and this libzmq was built without it. [`Features`](crate::Features) says how to have
    /// another.
    #[error(
        "this libzmq has no CURVE: the zmq crate builds it without; link the system's, with \
         `[target.<triple>.zmq] rustc-link-lib = [\"zmq\"]` in .cargo/config.toml"
    )]
    CurveMissing,
    /// The deadline of [`timeout`](crate::AsyncZmqContext::timeout) passed.
    #[error(transparent)]
    Elapsed(#[from] Elapsed),
    /// A task of [`Tasks`](crate::Tasks) that was waited for has no result.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// libzmq refused the operation.
    #[error("cannot {operation}{}", in_words(*source))]
    Zmq {
        /// What was attempted, for a reader: `send`, `bind tcp://127.0.0.1:5555`.
        operation: Cow<'static, str>,
        /// libzmq's answer.
        source: zmq::Error,
    },
    /// The operation failed with an errno that the zmq crate has no name for.
    #[error(transparent)]
    Os(#[from] OsError),
    /// The event loop refused a source.
    #[error("cannot register with the event loop")]
    Register(#[source] calloop::Error),
}

impl Error {
    /// The errno behind this error, as libzmq or the system gave it.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Error;
    /// assert_eq!(Error::from(zmq::Error::EAGAIN).errno(), Some(zmq::Error::EAGAIN.to_raw()));
    /// assert_eq!(Error::EmptyMessage.errno(), None);
    /// ```
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Terminated => Some(zmq::Error::ETERM.to_raw()),
            Self::Full => Some(zmq::Error::EAGAIN.to_raw()),
            Self::Endpoint(error) => error.reason.errno().map(|errno| errno.to_raw()),
            Self::Zmq { source, .. } => Some(source.to_raw()),
            Self::Os(error) => error.source.raw_os_error(),
            _ => None,
        }
    }
}

/// What libzmq's own words leave open.
fn in_words(refused: zmq::Error) -> &'static str {
    match refused {
        zmq::Error::EFSM => ": this socket sends and receives by turns",
        zmq::Error::EHOSTUNREACH => ": there is no such peer",
        zmq::Error::EMFILE => ": no socket is left to the ZeroMQ context, or no descriptor to the process",
        _ => "",
    }
}

/// So that `?` takes what the zmq crate's own calls answer, on [`get_ref`](crate::AsyncZmqSocket::get_ref) for one.
impl From<zmq::Error> for Error {
    fn from(source: zmq::Error) -> Self {
        match source {
            zmq::Error::ETERM => Self::Terminated,
            source => Self::Zmq { operation: "complete a call of the zmq crate".into(), source },
        }
    }
}

/// Keeps the kind: a program that already handles `io::Error` goes on branching on it.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Terminated | Error::LoopGone | Error::MonitorStopped => io::ErrorKind::NotConnected,
            Error::Full => io::ErrorKind::WouldBlock,
            Error::EmptyMessage | Error::KindMismatch { .. } | Error::Endpoint(_) | Error::Setup(_) => {
                io::ErrorKind::InvalidInput
            }
            Error::CurveMissing => io::ErrorKind::Unsupported,
            Error::FrameCount { .. } => io::ErrorKind::InvalidData,
            Error::Elapsed(_) => io::ErrorKind::TimedOut,
            Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. } => io::ErrorKind::HostUnreachable,
            Error::Zmq { source, .. } => Self::from(*source).kind(),
            Error::Os(error) => error.source.kind(),
            Error::Join(_) | Error::Register(_) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// An operation failed with an errno that the zmq crate has no name for (it would panic).
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, Error, kind::Pull};
/// # let event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let error = context.socket::<Pull>()?.bind("ipc:///dev/null/socket").unwrap_err(); // not a directory
/// assert!(matches!(error, Error::Os(_)), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}")]
pub struct OsError {
    pub(crate) operation: Cow<'static, str>,
    pub(crate) source: io::Error,
}

impl OsError {
    /// The errno.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, Error, kind::Pull};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// match context.socket::<Pull>()?.bind("ipc:///dev/null/socket") {
    ///     Err(Error::Os(error)) => assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR)),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn raw_os_error(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

/// The deadline of a [`timeout`](crate::AsyncZmqContext::timeout) passed before its future ended.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, Elapsed};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// # event_loop.block_on(async {
/// let never = std::future::pending::<()>();
/// let elapsed: Result<(), Elapsed> = context.timeout(std::time::Duration::ZERO, never).await;
/// assert_eq!(elapsed.unwrap_err().to_string(), "deadline has elapsed");
/// # calloop_zmq::Result::Ok(())
/// # }, &mut (), |()| {})?.unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline has elapsed")]
pub struct Elapsed(pub(crate) ());

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Error::from(elapsed).into()
    }
}
