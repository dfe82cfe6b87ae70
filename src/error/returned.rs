//! Errors that give a message back.

use std::{fmt, io};

use crate::error::Error;
use crate::multipart::Multipart;

/// A message that was not sent, and why.
///
/// The message is whole and untouched: no frame of it went out. `?` turns this into an [`Error`] and drops the message.
///
/// # Examples
///
/// ```
/// # use calloop_zmq::{AsyncZmqContext, kind::Rep};
/// # let event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let rep = context.socket::<Rep>()?;
/// let error = rep.try_send("an answer to nobody").unwrap_err();
/// assert_eq!(error.message, "an answer to nobody".into());
/// assert_eq!(error.error.errno(), Some(zmq::Error::EFSM.to_raw()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SendError {
    /// The message as it was given.
    pub message: Multipart,
    /// Why it was not sent.
    pub error: Error,
}

impl SendError {
    /// True if there was [no room](Error::Full) for the message: it may be sent later.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Push};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let push = context.socket::<Push>()?;
    /// assert!(push.try_send("nobody is there").unwrap_err().is_full());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_full(&self) -> bool {
        matches!(self.error, Error::Full)
    }

    /// Takes the message back, to send it again or elsewhere.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{AsyncZmqContext, kind::Rep};
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let context = AsyncZmqContext::new(&event_loop.handle())?;
    /// let rep = context.socket::<Rep>()?;
    /// let error = rep.try_send("an answer to nobody").unwrap_err();
    /// assert_eq!(error.into_message(), "an answer to nobody".into());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "the message is dropped otherwise"]
    pub fn into_message(self) -> Multipart {
        self.message
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("error", &self.error)
            .field("message", &format_args!("{} frames", self.message.len()))
            .finish()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        error.error
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        error.error.into()
    }
}

/// A message had another number of frames than the array it should fill; see [`Multipart`]'s `TryInto`.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{FrameCountError, Multipart, zmq};
/// let message = Multipart::from(["one", "two"]);
/// let error: FrameCountError = <[zmq::Message; 3]>::try_from(message).unwrap_err();
/// assert_eq!(error.to_string(), "expected 3 frames, the message has 2");
/// ```
pub struct FrameCountError {
    /// The message as it was received.
    pub message: Multipart,
    /// The number of frames asked for.
    pub expected: usize,
}

impl FrameCountError {
    /// Takes the message back.
    ///
    /// # Examples
    ///
    /// ```
    /// # use calloop_zmq::{Multipart, zmq};
    /// let message = Multipart::from(["one", "two"]);
    /// let error = <[zmq::Message; 3]>::try_from(message).unwrap_err();
    /// assert_eq!(error.into_message(), ["one", "two"].into());
    /// ```
    #[must_use = "the message is dropped otherwise"]
    pub fn into_message(self) -> Multipart {
        self.message
    }
}

impl fmt::Debug for FrameCountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameCountError")
            .field("expected", &self.expected)
            .field("actual", &self.message.len())
            .finish()
    }
}

impl fmt::Display for FrameCountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} frames, the message has {}", self.expected, self.message.len())
    }
}

impl std::error::Error for FrameCountError {}

impl From<FrameCountError> for Error {
    fn from(error: FrameCountError) -> Self {
        Self::FrameCount { expected: error.expected, actual: error.message.len() }
    }
}

impl From<FrameCountError> for io::Error {
    fn from(error: FrameCountError) -> Self {
        Error::from(error).into()
    }
}
