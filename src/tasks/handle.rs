//! Who started a task, and wants to know how it ended.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::error::JoinError;
#[cfg(doc)]
use crate::tasks::Tasks;

/// A task of [`Tasks`]. As a future, it waits for what the task returns.
///
/// Dropping it lets the task go on by itself.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{JoinError, Tasks};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// let tasks = Tasks::new(&event_loop.handle())?;
///
/// let sum = tasks.spawn(async { 1 + 1 });
/// let never = tasks.spawn(std::future::pending::<()>());
/// let both = async {
///     never.abort();
///     (sum.await, never.await)
/// };
/// let ended = event_loop.block_on(both, &mut (), |()| {})?;
/// assert!(matches!(ended, Some((Ok(2), Err(JoinError::Aborted)))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct JoinHandle<T> {
    pub(super) shared: Rc<Shared<T>>,
    pub(super) waker: Waker,
}

impl<T> JoinHandle<T> {
    /// Has the task's future dropped when the task's next poll would be: at the end of this turn of the loop, or of the
    /// next. A task that has ended by then is not affected.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::{JoinError, Tasks};
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let tasks = Tasks::new(&event_loop.handle())?;
    /// let never = tasks.spawn(std::future::pending::<()>());
    /// never.abort();
    /// assert!(matches!(event_loop.block_on(never, &mut (), |()| {})?, Some(Err(JoinError::Aborted))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn abort(&self) {
        self.shared.aborted.set(true);
        self.waker.wake_by_ref();
    }

    /// True if the task has ended, in whichever way.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Tasks;
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// # let tasks = Tasks::new(&event_loop.handle())?;
    /// let task = tasks.spawn(async {});
    /// assert!(!task.is_finished());
    /// event_loop.dispatch(std::time::Duration::ZERO, &mut ())?;
    /// assert!(task.is_finished());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_finished(&self) -> bool {
        self.shared.ended.get()
    }
}

/// # Cancel safety
///
/// Dropping the future lets the task go on; poll it by `&mut` to keep it.
impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.shared.ended.get() {
            return Poll::Ready(self.shared.outcome.take().unwrap_or(Err(JoinError::Aborted)));
        }
        self.shared.awaiter.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// What a task and its handle share.
pub(super) struct Shared<T> {
    pub(super) aborted: Cell<bool>,
    /// The task's future is dropped.
    pub(super) ended: Cell<bool>,
    /// `None` if it was aborted, and when the handle has given it out.
    pub(super) outcome: Cell<Option<Result<T, JoinError>>>,
    /// Who awaits the handle.
    pub(super) awaiter: Cell<Option<Waker>>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { aborted: Cell::default(), ended: Cell::default(), outcome: Cell::new(None), awaiter: Cell::new(None) }
    }
}
