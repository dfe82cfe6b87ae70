//! Why a task has no result.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Why a task of [`Tasks`](crate::Tasks) returned nothing.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{JoinError, Tasks};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let tasks = Tasks::new(&event_loop.handle())?;
/// let task = tasks.spawn(async { panic!("as it happens") });
/// let ended: Option<Result<(), JoinError>> = event_loop.block_on(task, &mut (), |()| {})?;
/// assert!(matches!(ended, Some(Err(JoinError::Panicked(_)))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It was [aborted](crate::JoinHandle::abort), or its loop is gone.
    #[error("the task was aborted")]
    Aborted,
    /// It panicked.
    #[error("the task panicked: {0}")]
    Panicked(Panic),
}

/// What a task panicked with.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{JoinError, Tasks};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// # let tasks = Tasks::new(&event_loop.handle())?;
/// let task = tasks.spawn(async { panic!("as it happens") });
/// let ended: Option<Result<(), JoinError>> = event_loop.block_on(task, &mut (), |()| {})?;
/// if let Some(Err(JoinError::Panicked(panic))) = ended {
///     assert_eq!(panic.into_payload().downcast_ref(), Some(&"as it happens"));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Panic {
    /// A payload is not `Sync`, and errors should be. Nobody keeps it locked.
    payload: Mutex<Box<dyn Any + Send>>,
}

impl Panic {
    pub(crate) fn new(payload: Box<dyn Any + Send>) -> Self {
        Self { payload: Mutex::new(payload) }
    }

    /// What was given to `panic!`, to go on with by [`resume_unwind`](std::panic::resume_unwind).
    ///
    /// # Examples
    ///
    /// See [`Panic`].
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its words.
impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = self.payload.lock().unwrap_or_else(PoisonError::into_inner);
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        f.write_str(text.unwrap_or("(its payload is no text)"))
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panic({self})")
    }
}
