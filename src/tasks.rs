//! A second way to run tasks: those that are woken in a turn of the loop run at the end of the same turn.
//!
//! calloop's executor hears of a wake-up through a descriptor, so a task runs one turn after it was woken: seven system
//! calls that do nothing but get there. Here every turn in which there are tasks ends with an idle callback that runs
//! those that are ready, after all events of the turn were handed out. `before_sleep` is the backstop for whoever was
//! woken too late for it, by another idle callback or another source's `before_sleep`, and a ping is the one for other
//! threads.
//!
//! The tasks themselves are async-task's. This file knows nothing of ZeroMQ.

mod handle;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use std::{fmt, io, mem, thread};

use async_task::Runnable;
use calloop::ping::{Ping, make_ping};
use calloop::{EventIterator, EventSource, LoopHandle, PostAction, Readiness, Token, TokenFactory};
use pin_project_lite::pin_project;
use slab::Slab;

use crate::error::{Error, JoinError, Panic};
pub use crate::tasks::handle::JoinHandle;
use crate::tasks::handle::Shared;

/// Runs tasks on the loop's thread, at the end of the turn in which they were woken. Cheap to clone.
///
/// Any executor will do for this crate's sockets, and calloop's own is the usual one. This one saves a turn of the loop
/// for each wake-up, and its tasks can be awaited and aborted. What tasks return goes to their [`JoinHandle`], not to a
/// callback with the loop's data.
///
/// A turn polls at most 256 times; what is left is polled in the next one, after the other sources had theirs. A task
/// that panics, in its drop too, hurts nobody else: its panic is kept for its handle.
///
/// # Dropping
///
/// Tasks go on when all clones and handles are dropped. When the loop is dropped, they are dropped with it.
///
/// # Examples
///
/// ```
/// use calloop_zmq::{AsyncZmqContext, Tasks, kind::{Rep, Req}};
/// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
/// let context = AsyncZmqContext::new(&event_loop.handle())?;
/// let tasks = Tasks::new(&event_loop.handle())?;
///
/// let server = context.socket::<Rep>()?;
/// let client = context.socket::<Req>()?;
/// client.connect(&server.bind("inproc://upper")?)?;
/// let serving = tasks.spawn(async move {
///     loop {
///         let request = server.recv().await?;
///         let reply = request.iter().map(|frame| frame.to_ascii_uppercase()).collect::<Vec<_>>();
///         server.send(reply).await?;
///     }
///     # #[allow(unreachable_code)]
///     calloop_zmq::Result::Ok(())
/// });
/// # let signal = event_loop.get_signal();
/// tasks.spawn(async move {
///     client.send("hello").await.expect("room for one");
///     assert_eq!(client.recv().await.expect("a reply")[0].as_str(), Some("HELLO"));
///     serving.abort();
///     # signal.stop();
/// });
/// event_loop.run(None, &mut (), |()| {})?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tasks {
    inner: Rc<Inner>,
}

impl Tasks {
    /// Creates an executor in this event loop.
    ///
    /// # Errors
    ///
    /// [`Error::Register`] if the loop takes no more sources.
    ///
    /// # Examples
    ///
    /// ```
    /// # let event_loop = calloop::EventLoop::<()>::try_new()?;
    /// let tasks = calloop_zmq::Tasks::new(&event_loop.handle())?;
    /// # drop(tasks);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new<D: 'static>(handle: &LoopHandle<'static, D>) -> crate::Result<Self> {
        let register = |error| Error::Register(error);
        let (ping, pinged) = make_ping().map_err(|error| register(error.into()))?;
        let inner = Rc::new(Inner {
            queue: Arc::new(Queue { ready: Mutex::default(), ping }),
            live: RefCell::default(),
            left: Cell::new(0),
            gone: Cell::new(false),
        });
        // A strong handle in here would keep the loop alive by what is in it.
        let weak = handle.downgrade();
        let end_of_turn = Box::new(move |inner: Rc<Inner>, queued: Rc<()>| {
            if let Some(handle) = weak.upgrade() {
                handle.insert_idle(move |_| {
                    drop(queued);
                    inner.run();
                });
            }
        });
        // The ping's source goes by itself, with the ping.
        handle.insert_source(pinged, |(), (), _| ()).map_err(|refused| register(refused.error))?;
        let source =
            TasksSource { inner: Rc::clone(&inner), end_of_turn, queued: Rc::default(), overdue: false, token: None };
        handle.insert_source(source, |_, (), _| ()).map_err(|refused| register(refused.error))?;
        Ok(Self { inner })
    }

    /// Starts a task. It is polled for the first time when this turn of the loop ends, or the next one if that is late.
    ///
    /// Dropping the handle lets the task go on by itself, and nobody hears what it returns then: let it tell of its own
    /// errors. If the loop is gone, the future is dropped at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use calloop_zmq::Tasks;
    /// # let mut event_loop = calloop::EventLoop::<()>::try_new()?;
    /// let tasks = Tasks::new(&event_loop.handle())?;
    /// let sum = tasks.spawn(async { 1 + 1 });
    /// assert!(matches!(event_loop.block_on(sum, &mut (), |()| {})?, Some(Ok(2))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let shared = Rc::new(Shared::default());
        let key = self.inner.live.borrow_mut().insert(Waker::noop().clone());
        let running =
            Running { future: Some(future), shared: Rc::clone(&shared), inner: Rc::downgrade(&self.inner), key };
        let queue = Arc::clone(&self.inner.queue);
        let (runnable, task) = async_task::spawn_local(running, move |runnable| queue.push(runnable));
        task.detach();
        let waker = runnable.waker();
        if let Some(entry) = self.inner.live.borrow_mut().get_mut(key) {
            entry.clone_from(&waker);
        }
        if self.inner.gone.get() {
            drop(runnable);
        } else {
            runnable.schedule();
        }
        JoinHandle { shared, waker }
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("live", &self.inner.live.borrow().len()).finish_non_exhaustive()
    }
}

struct Inner {
    queue: Arc<Queue>,
    /// One waker for each task whose future is not dropped yet.
    live: RefCell<Slab<Waker>>,
    /// Polls that this turn has left.
    left: Cell<usize>,
    /// The loop has dropped the source: nothing will run any more.
    gone: Cell<bool>,
}

impl Inner {
    fn run(&self) {
        while let Some(left) = self.left.get().checked_sub(1) {
            let Some(runnable) = self.queue.pop() else { return };
            self.left.set(left);
            runnable.run();
        }
    }

    /// Drops all tasks. They and what they wait on may own each other.
    fn end(&self) {
        self.gone.set(true);
        let wakers: Vec<Waker> = self.live.borrow().iter().map(|(_, waker)| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
        // Now each is in the queue, but for those which another thread wakes at this moment: it holds the task, and is
        // about to put it there.
        let deadline = Instant::now() + LAST_WAKE;
        loop {
            while let Some(runnable) = self.queue.pop() {
                drop(runnable);
            }
            if self.live.borrow().is_empty() || Instant::now() > deadline {
                return;
            }
            thread::yield_now();
        }
    }
}

/// The tasks that are ready, in the order in which they were woken. Other threads put some in.
struct Queue {
    ready: Mutex<Ready>,
    /// Wakes the loop.
    ping: Ping,
}

#[derive(Default)]
struct Ready {
    tasks: VecDeque<Runnable>,
    /// The loop sleeps, or is about to.
    asleep: bool,
}

impl Queue {
    fn push(&self, runnable: Runnable) {
        let mut ready = self.lock();
        ready.tasks.push_back(runnable);
        let asleep = mem::take(&mut ready.asleep);
        drop(ready);
        if asleep {
            self.ping.ping();
        }
    }

    fn pop(&self) -> Option<Runnable> {
        self.lock().tasks.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Ready> {
        // Nobody else's code runs under the lock, so a panic cannot have left it half changed.
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pin_project! {
    /// What is run as a task. Nothing panics out of it: async-task ends the process on a panic in a drop.
    struct Running<F: Future> {
        #[pin]
        future: Option<F>,
        shared: Rc<Shared<F::Output>>,
        inner: Weak<Inner>,
        key: usize,
    }

    impl<F: Future> PinnedDrop for Running<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            drop(catch_unwind(AssertUnwindSafe(|| this.future.set(None))));
            if let Some(inner) = this.inner.upgrade() {
                let waker = inner.live.borrow_mut().try_remove(*this.key);
                drop(waker);
            }
            this.shared.ended.set(true);
            let awaiter = this.shared.awaiter.take();
            drop(catch_unwind(AssertUnwindSafe(|| awaiter.map(Waker::wake))));
        }
    }
}

impl<F: Future> Future for Running<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let shared = this.shared;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let output = match this.future.as_mut().as_pin_mut() {
                Some(future) if !shared.aborted.get() => Some(ready!(future.poll(cx))),
                _ => None,
            };
            // Here and not in our drop, so that the handle hears of a panic in its.
            this.future.set(None);
            // Without a handle, the output is dropped here, where it may panic.
            if Rc::strong_count(shared) > 1 {
                shared.outcome.set(output.map(Ok));
            }
            Poll::Ready(())
        }));
        ended.unwrap_or_else(|payload| {
            shared.outcome.set(Some(Err(JoinError::Panicked(Panic::new(payload)))));
            Poll::Ready(())
        })
    }
}

/// The place of the tasks in the loop.
struct TasksSource {
    inner: Rc<Inner>,
    /// Has the tasks run in an idle callback.
    end_of_turn: Box<dyn Fn(Rc<Inner>, Rc<()>)>,
    /// The idle callback has it too, until it is run or dropped.
    queued: Rc<()>,
    /// The last turn ended without its idle callbacks: some source failed or panicked.
    overdue: bool,
    token: Option<Token>,
}

impl TasksSource {
    /// True if no task is left, and there can be no more.
    fn is_done(&self) -> bool {
        Rc::strong_count(&self.inner) == 1 && self.inner.live.borrow().is_empty()
    }
}

impl EventSource for TasksSource {
    type Event = Infallible;
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    const NEEDS_EXTRA_LIFECYCLE_EVENTS: bool = true;

    fn process_events<F>(&mut self, _: Readiness, token: Token, _: F) -> io::Result<PostAction>
    where
        F: FnMut(Infallible, &mut ()),
    {
        // The event of `before_sleep` mostly just keeps the loop awake. But where some source fails in every turn, idle
        // callbacks never run.
        if self.overdue {
            self.inner.run();
        }
        if self.token == Some(token) && self.is_done() { Ok(PostAction::Remove) } else { Ok(PostAction::Continue) }
    }

    // These answer `Ok`, always: on an `Err` calloop forgets half of a source with lifecycle events and panics at the
    // next dispatch.
    fn register(&mut self, _: &mut calloop::Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.token = Some(factory.token());
        Ok(())
    }

    fn reregister(&mut self, poll: &mut calloop::Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.register(poll, factory)
    }

    fn unregister(&mut self, _: &mut calloop::Poll) -> calloop::Result<()> {
        self.token = None;
        Ok(())
    }

    fn before_sleep(&mut self) -> calloop::Result<Option<(Readiness, Token)>> {
        self.inner.left.set(POLLS_PER_TURN);
        let mut ready = self.inner.queue.lock();
        ready.asleep = ready.tasks.is_empty();
        let stay_awake = !ready.asleep || self.is_done();
        Ok(self.token.filter(|_| stay_awake).map(|token| (SYNTHETIC, token)))
    }

    fn before_handle_events(&mut self, _: EventIterator<'_>) {
        self.inner.queue.lock().asleep = false;
        self.overdue = Rc::strong_count(&self.queued) > 1;
        if !self.overdue && !self.inner.live.borrow().is_empty() {
            (self.end_of_turn)(Rc::clone(&self.inner), Rc::clone(&self.queued));
        }
    }
}

impl Drop for TasksSource {
    fn drop(&mut self) {
        self.inner.end();
    }
}

/// How often tasks are polled in one turn of the loop before the other sources have theirs.
const POLLS_PER_TURN: usize = 256;

/// How long the end waits for other threads which are waking tasks at that moment. They need microseconds. A task that
/// one of them still holds then is leaked: only this thread may drop it.
const LAST_WAKE: Duration = Duration::from_millis(100);

const SYNTHETIC: Readiness = Readiness { readable: true, writable: false, error: false };

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::hint::black_box;
    use std::sync::Barrier;

    use calloop::EventLoop;

    use super::*;

    /// A thread that wakes a task has it in its hands until it gets the queue's lock, which a third one keeps here.
    #[test]
    fn the_end_waits_for_a_thread_that_holds_a_task() {
        for round in 0..1000 {
            let mut event_loop = EventLoop::<()>::try_new().unwrap();
            // The loop drops its sources in the order in which they came: first this one, then that of the tasks.
            let first = Arc::new(());
            let (owned, (_ping, pinged)) = (Arc::clone(&first), make_ping().unwrap());
            event_loop.handle().insert_source(pinged, move |(), (), ()| _ = &owned).unwrap();
            let tasks = Tasks::new(&event_loop.handle()).unwrap();
            let (probe, slot) = (Rc::new(()), Arc::new(Mutex::new(None)));
            let (held, waker) = (Rc::clone(&probe), Arc::clone(&slot));
            tasks.spawn(poll_fn(move |cx| -> Poll<()> {
                black_box(&held);
                *waker.lock().unwrap() = Some(cx.waker().clone());
                Poll::Pending
            }));
            event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
            let waker = slot.lock().unwrap().take().unwrap();
            let (queue, start) = (Arc::clone(&tasks.inner.queue), Barrier::new(3));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let lock = queue.lock();
                    start.wait();
                    while Arc::strong_count(&first) > 1 {
                        thread::yield_now();
                    }
                    drop(lock);
                });
                scope.spawn(|| {
                    start.wait();
                    waker.wake();
                });
                start.wait();
                // If it has not come to the lock after these, it is not held up by it: then this round shows nothing.
                for _ in 0..100 {
                    thread::yield_now();
                }
                drop(event_loop);
            });
            assert_eq!(Rc::strong_count(&probe), 1, "in round {round}");
        }
    }
}
