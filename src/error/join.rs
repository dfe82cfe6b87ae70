//! Why a task has no result.

use std::any::Any;
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
    /// It panicked, with this payload; [`resume_unwind`](std::panic::resume_unwind) goes on with it. A payload is not
    /// `Sync`, errors should be: hence the mutex, which nobody keeps locked.
    #[error("the task panicked{}", said(.0))]
    Panicked(Mutex<Box<dyn Any + Send>>),
}

/// The words of a panic, if it had any.
fn said(payload: &Mutex<Box<dyn Any + Send>>) -> String {
    let payload = payload.lock().unwrap_or_else(PoisonError::into_inner);
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(String::new, |text| format!(": {text}"))
}
