//! What several tests need: a loop that is run to a deadline, wakers that count, the process's descriptors.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]
#![allow(dead_code, unreachable_pub, reason = "each test binary takes what it needs")]

use std::future::{Future, poll_fn};
use std::mem::replace;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use calloop::EventLoop;
use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::SendError;

/// Longer than anything here takes on a busy machine, short enough to wait for.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Runs the loop until the future is ready, and answers its output and the turns that the loop took.
///
/// Panics if that takes longer than [`DEADLINE`].
pub fn run_counted<D, F: Future>(event_loop: &mut EventLoop<'static, D>, data: &mut D, future: F) -> (F::Output, u64) {
    let _watchdog = Watchdog::new();
    let signal = event_loop.get_signal();
    let timer = event_loop
        .handle()
        .insert_source(Timer::from_duration(DEADLINE), move |_, (), _| {
            signal.stop();
            TimeoutAction::Drop
        })
        .unwrap();
    let mut turns = 0;
    let output = event_loop.block_on(future, data, |_| turns += 1).unwrap();
    event_loop.handle().remove(timer);
    (output.expect("the future was not ready before the deadline"), turns)
}

/// As [`run_counted`], for a loop without data.
pub fn run<F: Future>(event_loop: &mut EventLoop<'static, ()>, future: F) -> F::Output {
    run_counted(event_loop, &mut (), future).0
}

/// Turns the loop until `done`, and answers the number of turns.
///
/// Panics if that takes longer than [`DEADLINE`].
pub fn turn_until<D>(event_loop: &mut EventLoop<'static, D>, data: &mut D, mut done: impl FnMut(&D) -> bool) -> u64 {
    let (_watchdog, start) = (Watchdog::new(), Instant::now());
    let mut turns = 0;
    while !done(data) {
        assert!(start.elapsed() < DEADLINE, "still not done after {turns} turns of the loop");
        event_loop.dispatch(Some(Duration::from_millis(10)), data).unwrap();
        turns += 1;
    }
    turns
}

/// Polls a condition of the process as a whole, which nothing announces.
///
/// Panics if it does not hold before [`DEADLINE`].
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "never: {what}");
        thread::yield_now();
    }
}

/// Ends the process if it is not dropped in time: the loop's thread itself is stuck, and no assertion will ever run.
pub struct Watchdog {
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    pub fn new() -> Self {
        let (alive, done) = mpsc::channel();
        let test = thread::current().name().unwrap_or("?").to_owned();
        thread::spawn(move || {
            if done.recv_timeout(DEADLINE + DEADLINE / 2) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{test}: the thread of the loop is blocked");
                process::abort();
            }
        });
        Self { _alive: alive }
    }
}

/// A waker that counts.
#[derive(Default)]
pub struct Wakes(AtomicUsize);

impl Wakes {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once, with a waker that does nothing.
pub fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls once, with this waker.
pub fn poll_with<F: Future + Unpin>(future: &mut F, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
}

/// Lets the loop turn once.
pub async fn turn() {
    let mut polled = false;
    poll_fn(move |cx| {
        if replace(&mut polled, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What must be ready at once.
pub fn now<F: Future + Unpin>(mut future: F) -> F::Output {
    match poll_once(&mut future) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// Some tests count the descriptors of the process, so they take turns; a blocked loop ends the process.
pub struct Alone {
    pub descriptors: usize,
    _watchdog: Watchdog,
    _turn: MutexGuard<'static, ()>,
}

pub fn alone() -> Alone {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Alone { descriptors: descriptors(), _watchdog: Watchdog::new(), _turn: turn }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if !thread::panicking() {
            // libzmq's threads give them back, and are gone themselves then.
            eventually("the descriptors are back", || descriptors() <= self.descriptors);
        }
    }
}

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// True if it was sent, false if there was no room. Nothing else may come of it.
pub fn has_room(tried: Result<(), SendError>) -> bool {
    match tried {
        Ok(()) => true,
        Err(refused) if refused.is_full() => false,
        Err(refused) => panic!("{refused:?}"),
    }
}
