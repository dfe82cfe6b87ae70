//! The futures of `sleep` and `timeout`.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use crate::clock;
use crate::error::Elapsed;
use crate::hub::Hub;
use crate::timer::Deadline;

/// Ready once its deadline passed, and never at its first poll: a task that tries with a timeout of nothing, again and
/// again, would not let the loop go on, and a socket that used its budget up gives nothing before the loop does.
#[derive(Debug)]
pub(crate) struct Sleep {
    hub: Rc<Hub>,
    at: Instant,
    entered: Option<Deadline>,
}

impl Sleep {
    pub(crate) fn new(hub: Rc<Hub>, duration: Duration) -> Self {
        let now = clock::now();
        let at = now.checked_add(duration).unwrap_or(now + FAR);
        Self { hub, at, entered: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.hub.is_gone() || self.entered.is_some() && self.at <= clock::now() {
            return Poll::Ready(());
        }
        let this = &mut *self;
        let deadline = *this.entered.get_or_insert_with(|| this.hub.deadline(this.at));
        this.hub.wait(deadline, cx.waker());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(deadline) = self.entered {
            self.hub.forget(deadline);
        }
    }
}

pin_project! {
    /// A future, or its deadline.
    pub(crate) struct Timeout<F> {
        // `None` once the time has passed: who keeps this longer is not to hold up others in its line.
        #[pin]
        future: Option<F>,
        sleep: Sleep,
    }
}

impl<F> Timeout<F> {
    pub(crate) fn new(sleep: Sleep, future: F) -> Self {
        Self { future: Some(future), sleep }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(Poll::Ready(output)) = this.future.as_mut().as_pin_mut().map(|future| future.poll(cx)) {
            return Poll::Ready(Ok(output));
        }
        ready!(Pin::new(this.sleep).poll(cx));
        this.future.set(None);
        Poll::Ready(Err(Elapsed(())))
    }
}

/// What stands for a duration past the end of the clock: thirty years.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
