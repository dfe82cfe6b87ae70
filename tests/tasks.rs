//! `Tasks`: who is woken in a turn of the loop runs in that turn, no wake-up is lost, and nothing outlives the loop.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod common;
mod support;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::hint::{black_box, spin_loop};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{self, AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Once, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use calloop::generic::{Generic, NoIoDrop};
use calloop::ping::{Ping, make_ping};
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, Interest, LoopHandle, Mode, PostAction};
use calloop_zmq::kind::{Pull, Push};
use calloop_zmq::{AsyncZmqContext, Elapsed, Error, JoinError, JoinHandle, Tasks};
use futures::future::join_all;

use common::{BeforeSleep, Rng};
use support::{DEADLINE, Wakes, Watchdog, now, poll_once, poll_with, run, run_counted, turn};

/// A loop that sleeps that long in these tests was not woken.
const STALL: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);
/// What one turn of the loop polls.
const BOUND: usize = 256;

/// A loop with its tasks.
struct Bed {
    event_loop: EventLoop<'static, ()>,
    tasks: Tasks,
    _watchdog: Watchdog,
}

/// The backtrace of a panic takes seconds to print on a busy machine, and a turn has less.
fn meant_panics_print_nothing() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let (text, string) = (panic.payload().downcast_ref::<&str>(), panic.payload().downcast_ref::<String>());
            let meant = text.copied().or(string.map(String::as_str)).is_some_and(|payload| payload.starts_with("of "));
            if !meant {
                print(panic);
            }
        }));
    });
}

impl Bed {
    fn new() -> Self {
        meant_panics_print_nothing();
        let event_loop = EventLoop::try_new().unwrap();
        let tasks = Tasks::new(&event_loop.handle()).unwrap();
        Self { event_loop, tasks, _watchdog: Watchdog::new() }
    }

    fn handle(&self) -> LoopHandle<'static, ()> {
        self.event_loop.handle()
    }

    fn context(&self) -> AsyncZmqContext {
        AsyncZmqContext::new(&self.handle()).unwrap()
    }

    /// One turn. Somebody must wake the loop if there is nothing to do yet.
    fn turn(&mut self) {
        let start = Instant::now();
        self.event_loop.dispatch(STALL, &mut ()).unwrap();
        assert!(start.elapsed() < STALL, "nobody woke the loop");
    }

    /// Some turns that do not wait: what is ready is done after them.
    fn settle(&mut self) {
        for _ in 0..5 {
            self.event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
        }
    }

    /// A task that waits for the gate, and how often it came through.
    fn waiter(&mut self, gate: &Gate) -> Rc<Cell<usize>> {
        let passed = Rc::new(Cell::new(0));
        let (gate, count) = (gate.clone(), Rc::clone(&passed));
        self.tasks.spawn(async move {
            loop {
                gate.pass().await;
                count.set(count.get() + 1);
            }
        });
        self.settle();
        passed
    }

    /// A source that is run by the ping.
    fn on_ping(&self, mut callback: impl FnMut() + 'static) -> Ping {
        let (ping, source) = make_ping().unwrap();
        self.handle().insert_source(source, move |(), (), ()| callback()).unwrap();
        ping
    }
}

/// Lets one task through for each time it is opened. May be opened on any thread.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<(usize, Option<Waker>)>>);

impl Gate {
    fn open(&self) {
        let waker = {
            let mut gate = self.0.lock().unwrap();
            gate.0 += 1;
            gate.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    async fn pass(&self) {
        poll_fn(|cx| {
            let mut gate = self.0.lock().unwrap();
            if gate.0 == 0 {
                gate.1 = Some(cx.waker().clone());
                return Poll::Pending;
            }
            gate.0 -= 1;
            Poll::Ready(())
        })
        .await;
    }
}

/// Counts its drops, on the thread on which it was made.
struct Guard(Rc<Cell<usize>>, thread::ThreadId);

impl Guard {
    fn new(drops: &Rc<Cell<usize>>) -> Self {
        Self(Rc::clone(drops), thread::current().id())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        assert_eq!(self.1, thread::current().id());
        self.0.set(self.0.get() + 1);
    }
}

/// Runs code in its drop.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn payload(error: JoinError) -> &'static str {
    match error {
        JoinError::Panicked(panic) => panic.into_payload().downcast_ref::<&'static str>().unwrap(),
        other => panic!("{other}"),
    }
}

#[test]
fn why_a_task_has_no_result_is_an_error_with_words() {
    let mut bed = Bed::new();
    let number = 3;
    for (panics, words) in [
        (bed.tasks.spawn(async { panic!("of a text") }), "the task panicked: of a text"),
        (bed.tasks.spawn(async move { panic_any(format!("of task {number}")) }), "the task panicked: of task 3"),
        (bed.tasks.spawn(async { resume_unwind(Box::new(3)) }), "the task panicked: (its payload is no text)"),
    ] {
        let outcome: calloop_zmq::Result<()> = run(&mut bed.event_loop, async { Ok(panics.await?) });
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Join(JoinError::Panicked(_))), "{error:?}");
        assert_eq!(error.to_string(), words);
        assert_eq!(io::Error::from(error).to_string(), words);
    }
}

fn is_aborted<T>(handle: JoinHandle<T>) -> bool {
    matches!(now(handle), Err(JoinError::Aborted))
}

// In the same turn.

#[test]
fn a_new_task_runs_in_the_next_turn() {
    let mut bed = Bed::new();
    let ran = Rc::new(Cell::new(false));
    let set = Rc::clone(&ran);
    bed.tasks.spawn(async move { set.set(true) });
    assert!(!ran.get(), "in spawn itself");
    bed.turn();
    assert!(ran.get());
}

#[test]
fn a_task_that_a_task_starts_runs_in_the_same_turn() {
    let mut bed = Bed::new();
    let tasks = bed.tasks.clone();
    let outer = bed.tasks.spawn(async move { tasks.spawn(async { 7 }).await.unwrap() });
    bed.turn();
    assert_eq!(now(outer).unwrap(), 7);
}

#[test]
fn woken_by_a_callback_it_runs_in_the_same_turn() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let passed = bed.waiter(&gate);
    let ping = bed.on_ping(move || gate.open());
    for round in 1..=100 {
        ping.ping();
        bed.turn();
        assert_eq!(passed.get(), round);
    }
}

#[test]
fn woken_by_a_timer_it_runs_in_the_same_turn() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let passed = bed.waiter(&gate);
    let fired = Rc::new(Cell::new(0));
    let count = Rc::clone(&fired);
    let fire = move |_, (): &mut (), (): &mut ()| {
        count.set(count.get() + 1);
        gate.open();
        TimeoutAction::ToDuration(MS)
    };
    bed.handle().insert_source(Timer::from_duration(MS), fire).unwrap();
    for _ in 0..50 {
        bed.turn();
        assert_eq!(passed.get(), fired.get());
    }
    assert!(fired.get() > 1);
}

#[test]
fn woken_by_a_message_it_runs_in_the_same_turn() {
    let mut bed = Bed::new();
    let context = bed.context();
    let (pull, push) = (context.socket::<Pull>().unwrap(), context.zmq_context().socket(zmq::PUSH).unwrap());
    push.connect(&pull.bind("inproc://same-turn").unwrap()).unwrap();
    let received = Rc::new(Cell::new(0));
    let count = Rc::clone(&received);
    bed.tasks.spawn(async move {
        loop {
            assert_eq!(pull.recv().await.unwrap().len(), 1);
            count.set(count.get() + 1);
        }
    });
    bed.settle();
    for round in 1..=100 {
        push.send("message", zmq::DONTWAIT).unwrap();
        bed.turn();
        assert_eq!(received.get(), round);
        // The loop's look at the socket before it sleeps is a matter of its own.
        bed.settle();
    }
}

// Woken too late for that.

#[test]
fn woken_before_the_loop_sleeps_it_runs_without_a_sleep() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let passed = bed.waiter(&gate);
    for round in 1..=100 {
        gate.open();
        bed.turn();
        assert_eq!(passed.get(), round);
    }
}

#[test]
fn woken_by_the_future_of_block_on_it_runs_without_a_sleep() {
    const ROUNDS: u64 = 100;
    let mut bed = Bed::new();
    let (there, back) = (Gate::default(), Gate::default());
    let (here, answer) = (there.clone(), back.clone());
    bed.tasks.spawn(async move {
        loop {
            here.pass().await;
            answer.open();
        }
    });
    bed.settle();
    let ((), turns) = run_counted(&mut bed.event_loop, &mut (), async {
        for _ in 0..ROUNDS {
            there.open();
            back.pass().await;
        }
    });
    // One for each, and calloop's own waker leaves its mark for one more.
    assert!(turns <= 2 * ROUNDS + 1, "{turns} turns for {ROUNDS} rounds");
}

#[test]
fn woken_by_an_idle_callback_it_runs_without_a_sleep() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let passed = bed.waiter(&gate);
    // Put in by a callback, it comes after that of the tasks.
    let handle = bed.handle().downgrade();
    let (wake, is_done) = (gate.clone(), Rc::new(Cell::new(false)));
    let done = Rc::clone(&is_done);
    let ping = bed.on_ping(move || {
        let (gate, done) = (wake.clone(), Rc::clone(&done));
        handle.upgrade().unwrap().insert_idle(move |()| {
            gate.open();
            done.set(true);
        });
    });
    ping.ping();
    bed.turn();
    assert_eq!((is_done.get(), passed.get()), (true, 0));
    bed.turn();
    assert_eq!(passed.get(), 1);
    // Put in before the turn, it comes first.
    bed.handle().insert_idle(move |()| gate.open());
    bed.event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
    assert_eq!(passed.get(), 2);
}

#[test]
fn woken_in_the_last_moment_before_the_sleep_it_runs_without_one() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let passed = bed.waiter(&gate);
    let due = Rc::new(Cell::new(0));
    let left = Rc::clone(&due);
    let open = move || {
        if left.get() > 0 {
            left.set(left.get() - 1);
            gate.open();
        }
    };
    bed.handle().insert_source(BeforeSleep(open), |(), (), ()| ()).unwrap();
    for round in 1..=100 {
        due.set(1);
        bed.turn();
        assert_eq!(passed.get(), round);
    }
}

#[test]
fn woken_by_a_task_of_another_loop_it_runs_without_a_sleep() {
    let (mut first, mut second) = (Bed::new(), Bed::new());
    let (there, back) = (Gate::default(), Gate::default());
    let forth = {
        let (there, back) = (there.clone(), back.clone());
        first.tasks.spawn(async move {
            for _ in 0..100 {
                there.open();
                back.pass().await;
            }
        })
    };
    second.tasks.spawn(async move {
        loop {
            there.pass().await;
            back.open();
        }
    });
    second.settle();
    for _ in 0..100 {
        assert!(!forth.is_finished());
        first.turn();
        second.turn();
    }
    first.turn();
    assert!(forth.is_finished());
}

#[test]
fn woken_by_another_thread_it_ends_the_sleep() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let passed = bed.waiter(&gate);
    let (about_to_sleep, sleeps) = mpsc::channel();
    // This one comes last: the tasks are at rest already.
    let tell = move || about_to_sleep.send(()).unwrap_or_default();
    bed.handle().insert_source(BeforeSleep(tell), |(), (), ()| ()).unwrap();
    let waking = thread::spawn(move || {
        for () in sleeps {
            gate.open();
        }
    });
    let mut turns = 0;
    while passed.get() < 1000 {
        bed.turn();
        turns += 1;
    }
    assert!(turns <= 2000, "{turns} turns for 1000 wake-ups");
    drop(bed);
    waking.join().unwrap();
}

// No wake-up is lost.

/// Each thread sends its task through, waits for it and does so again: one lost wake-up and all is still.
fn ping_pong(threads: usize, rounds: usize) {
    let mut bed = Bed::new();
    let mut running = Vec::new();
    let done = Rc::new(Cell::new(0));
    for _ in 0..threads {
        let gate = Gate::default();
        let (passed, has_passed) = mpsc::channel();
        let (here, done) = (gate.clone(), Rc::clone(&done));
        bed.tasks.spawn(async move {
            for _ in 0..rounds {
                here.pass().await;
                passed.send(()).unwrap();
            }
            done.set(done.get() + 1);
        });
        running.push(thread::spawn(move || {
            for _ in 0..rounds {
                gate.open();
                has_passed.recv().unwrap();
            }
        }));
    }
    while done.get() < threads {
        bed.turn();
    }
    for thread in running {
        thread.join().unwrap();
    }
}

/// Each thread wakes all tasks, again and again: none is let through less often than it was sent.
fn storm(threads: usize, tasks: usize, rounds: usize) {
    let mut bed = Bed::new();
    let gates: Vec<Gate> = (0..tasks).map(|_| Gate::default()).collect();
    let passing: Vec<_> = gates
        .iter()
        .map(|gate| {
            let gate = gate.clone();
            bed.tasks.spawn(async move {
                for _ in 0..threads * rounds {
                    gate.pass().await;
                }
            })
        })
        .collect();
    let running: Vec<_> = (0..threads)
        .map(|first| {
            let gates = gates.clone();
            thread::spawn(move || {
                for round in 0..rounds {
                    for turn in 0..gates.len() {
                        gates[(first * 7 + round + turn) % gates.len()].open();
                    }
                    if round % 16 == first {
                        // So that the loop goes to sleep now and then.
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    while !passing.iter().all(JoinHandle::is_finished) {
        bed.turn();
    }
    for thread in running {
        thread.join().unwrap();
    }
    assert!(passing.into_iter().all(|passed| now(passed).is_ok()));
    assert!(gates.iter().all(|gate| gate.0.lock().unwrap().0 == 0), "a task came through too often");
}

/// This thread, and those that it starts, on one core from here on.
fn pin() {
    // SAFETY: a set of processors is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let (mut all, size) = (set, size_of::<libc::cpu_set_t>());
    // SAFETY: the set is ours, and as large as is said.
    assert_eq!(unsafe { libc::sched_getaffinity(0, size, &raw mut all) }, 0);
    // SAFETY: the index is below the size of the set.
    let first = (0..1024).find(|&core| unsafe { libc::CPU_ISSET(core, &all) }).unwrap();
    // SAFETY: as before.
    unsafe { libc::CPU_SET(first, &mut set) };
    // SAFETY: the set is ours, and as large as is said.
    assert_eq!(unsafe { libc::sched_setaffinity(0, size, &raw const set) }, 0);
}

/// Keeps as many threads busy as it is told, until it is dropped.
struct Load(Arc<AtomicBool>, Vec<thread::JoinHandle<()>>);

impl Load {
    fn new(threads: usize) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let busy = |_| {
            let end = Arc::clone(&end);
            thread::spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    spin_loop();
                }
            })
        };
        let threads = (0..threads).map(busy).collect();
        Self(end, threads)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

#[test]
fn no_wake_up_of_another_thread_is_lost() {
    ping_pong(1, 10_000);
    ping_pong(4, 2000);
    storm(4, 16, 500);
}

#[test]
fn no_wake_up_of_another_thread_is_lost_on_one_core() {
    pin();
    ping_pong(1, 10_000);
    ping_pong(4, 2000);
    storm(4, 16, 500);
}

#[test]
fn no_wake_up_of_another_thread_is_lost_under_load() {
    let _load = Load::new(2);
    ping_pong(1, 500);
    ping_pong(4, 200);
    storm(4, 16, 200);
}

// Handles.

#[test]
fn a_handle_waits_for_the_output() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let here = gate.clone();
    let mut handle = bed.tasks.spawn(async move {
        here.pass().await;
        "output".to_owned()
    });
    let wakes = Wakes::new();
    bed.settle();
    assert!(!handle.is_finished());
    assert!(poll_with(&mut handle, &wakes).is_pending());
    // The last one to poll is the one who is told.
    let told = Wakes::new();
    assert!(poll_with(&mut handle, &told).is_pending());
    gate.open();
    bed.turn();
    assert_eq!((handle.is_finished(), wakes.count(), told.count()), (true, 0, 1));
    assert_eq!(format!("{handle:?}"), "JoinHandle { finished: true, .. }");
    assert_eq!(now(&mut handle).unwrap(), "output");
    assert!(handle.is_finished() && is_aborted(handle), "there is one output, and no end to waiting");
}

#[test]
fn a_handle_is_awaited_by_whatever_runs_on_the_loop() {
    let mut bed = Bed::new();
    let (executor, scheduler) = calloop::futures::executor().unwrap();
    let heard = Rc::new(Cell::new(0));
    let sum = Rc::clone(&heard);
    bed.handle().insert_source(executor, move |output: u32, (), ()| sum.set(sum.get() + output)).unwrap();
    let gates: [Gate; 3] = Default::default();
    let mut task = 0..3;
    let [by_executor, by_task, by_block_on] = gates.clone().map(|gate| {
        let number = task.next().unwrap();
        bed.tasks.spawn(async move {
            gate.pass().await;
            1 << number
        })
    });
    scheduler.schedule(async { by_executor.await.unwrap() }).unwrap();
    let sum = Rc::clone(&heard);
    bed.tasks.spawn(async move { sum.set(sum.get() + by_task.await.unwrap()) });
    bed.settle();
    assert_eq!(heard.get(), 0);
    gates[1].open();
    bed.turn();
    assert_eq!(heard.get(), 2, "in the same turn");
    gates[0].open();
    // calloop's executor hears of it one turn later.
    bed.turn();
    bed.turn();
    assert_eq!(heard.get(), 3);
    let opens = bed.on_ping(move || gates[2].open());
    opens.ping();
    assert_eq!(run(&mut bed.event_loop, by_block_on).unwrap(), 4);
}

#[test]
fn a_dropped_handle_lets_the_task_go_on() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let drops = Rc::new(Cell::new(0));
    let (here, guard) = (gate.clone(), Guard::new(&drops));
    drop(bed.tasks.spawn(async move {
        here.pass().await;
        guard
    }));
    bed.settle();
    assert_eq!(drops.get(), 0);
    gate.open();
    bed.turn();
    assert_eq!(drops.get(), 1, "the output goes with the task");
    let guard = Guard::new(&drops);
    let handle = bed.tasks.spawn(async move { guard });
    bed.turn();
    assert_eq!(drops.get(), 1);
    drop(handle);
    assert_eq!(drops.get(), 2, "the output goes with the handle");
}

#[test]
fn tasks_and_futures_that_await_each_other_in_chains() {
    let mut bed = Bed::new();
    let tasks = bed.tasks.clone();
    let mut last = bed.tasks.spawn(async { 0 });
    for _ in 0..100 {
        last = tasks.spawn(async move { last.await.unwrap() + 1 });
    }
    let all: Vec<_> = (0..100).map(|number| tasks.spawn(async move { number })).collect();
    let sum = tasks.spawn(async { join_all(all).await.into_iter().map(Result::unwrap).sum::<u32>() });
    assert_eq!(run(&mut bed.event_loop, last).unwrap(), 100);
    assert_eq!(run(&mut bed.event_loop, sum).unwrap(), 4950);
}

// Abort.

#[test]
fn aborted_before_its_first_poll_it_is_never_polled() {
    let mut bed = Bed::new();
    let (drops, polled) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (guard, set) = (Guard::new(&drops), Rc::clone(&polled));
    let handle = bed.tasks.spawn(async move {
        set.set(true);
        drop(guard);
    });
    handle.abort();
    assert_eq!((drops.get(), handle.is_finished()), (0, false), "in abort itself");
    bed.turn();
    assert_eq!((drops.get(), polled.get(), handle.is_finished()), (1, false, true));
    assert!(is_aborted(handle));
}

#[test]
fn aborted_while_it_waits_it_ends_in_that_turn() {
    let mut bed = Bed::new();
    let drops = Rc::new(Cell::new(0));
    let guard = Guard::new(&drops);
    let handle = Rc::new(RefCell::new(bed.tasks.spawn(async move {
        pending::<()>().await;
        drop(guard);
    })));
    let mut waiting = {
        let handle = Rc::clone(&handle);
        bed.tasks.spawn(poll_fn(move |cx| Pin::new(&mut *handle.borrow_mut()).poll(cx)))
    };
    bed.settle();
    assert!(poll_once(&mut waiting).is_pending());
    let aborted = Rc::clone(&handle);
    let ping = bed.on_ping(move || {
        aborted.borrow().abort();
        aborted.borrow().abort();
    });
    ping.ping();
    bed.turn();
    assert_eq!((drops.get(), handle.borrow().is_finished(), waiting.is_finished()), (1, true, true));
    assert!(matches!(now(waiting), Ok(Err(JoinError::Aborted))));
    handle.borrow().abort();
    bed.settle();
    assert_eq!(drops.get(), 1);
}

#[test]
fn aborted_while_it_is_ready_it_is_not_polled_again() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let here = gate.clone();
    let handle = bed.tasks.spawn(async move { here.pass().await });
    bed.settle();
    gate.open();
    handle.abort();
    bed.turn();
    assert!(is_aborted(handle));
    assert_eq!(gate.0.lock().unwrap().0, 1, "it came through");
}

#[test]
fn aborted_at_its_end_it_keeps_its_output() {
    let mut bed = Bed::new();
    let handle = bed.tasks.spawn(async { 7 });
    bed.turn();
    handle.abort();
    bed.settle();
    assert_eq!(now(handle).unwrap(), 7);
}

#[test]
fn a_task_aborts_itself_at_its_next_wait() {
    let mut bed = Bed::new();
    for goes_on in [false, true] {
        let own = Rc::new(RefCell::new(None::<JoinHandle<u32>>));
        let drops = Rc::new(Cell::new(0));
        let (guard, slot) = (Guard::new(&drops), Rc::clone(&own));
        let handle = bed.tasks.spawn(async move {
            let _guard = guard;
            slot.borrow().as_ref().unwrap().abort();
            if !goes_on {
                pending::<()>().await;
            }
            7
        });
        own.replace(Some(handle));
        bed.turn();
        assert_eq!(drops.get(), 1);
        let ended = now(own.take().unwrap());
        assert!(if goes_on { matches!(ended, Ok(7)) } else { matches!(ended, Err(JoinError::Aborted)) });
    }
}

#[test]
fn a_task_that_awaits_another_is_aborted_alone() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let passed = bed.waiter(&gate);
    let inner = bed.tasks.spawn({
        let gate = gate.clone();
        async move { gate.pass().await }
    });
    bed.settle();
    let outer = bed.tasks.spawn(inner);
    bed.settle();
    outer.abort();
    bed.turn();
    assert!(is_aborted(outer));
    // The inner one was the last to wait at the gate.
    gate.open();
    bed.turn();
    assert_eq!((gate.0.lock().unwrap().0, passed.get()), (0, 0));
}

// Panics.

#[test]
fn a_panic_hurts_nobody_else() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let before = bed.tasks.spawn(async { 1 });
    let panics = bed.tasks.spawn(async { panic_any("of the task") });
    let dropped = Rc::new(Cell::new(0));
    let guard = Guard::new(&dropped);
    drop(bed.tasks.spawn(async move {
        let _guard = guard;
        panic_any("of a task without a handle");
    }));
    let after = bed.tasks.spawn(async { 2 });
    bed.turn();
    assert_eq!((now(before).unwrap(), now(after).unwrap(), dropped.get()), (1, 2, 1));
    assert!(panics.is_finished());
    assert_eq!(payload(now::<JoinHandle<()>>(panics).unwrap_err()), "of the task");
    let passed = bed.waiter(&gate);
    gate.open();
    bed.turn();
    assert_eq!(passed.get(), 1);
}

#[test]
fn a_panic_in_a_drop_hurts_nobody_else() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic_any("of a drop");
        }
    }
    struct PanickingWaker;
    impl Wake for PanickingWaker {
        fn wake(self: Arc<Self>) {
            panic_any("of a waker");
        }
    }
    let mut bed = Bed::new();
    // The future's, after it returned: the closure keeps what it captured.
    let bomb = Bomb;
    let returns = bed.tasks.spawn(poll_fn(move |_| {
        black_box(&bomb);
        Poll::Ready(())
    }));
    // The future's, when it is aborted, with a handle and without.
    let waits = |bomb| async move {
        pending::<()>().await;
        drop(bomb);
    };
    let aborted = bed.tasks.spawn(waits(Bomb));
    let bomb = Bomb;
    let panics = bed.tasks.spawn(poll_fn(move |_| -> Poll<()> {
        black_box(&bomb);
        panic_any("of the poll")
    }));
    // The output's.
    drop(bed.tasks.spawn(async { Bomb }));
    let mut told = bed.tasks.spawn(async { 1 });
    let waker = Waker::from(Arc::new(PanickingWaker));
    assert!(Pin::new(&mut told).poll(&mut Context::from_waker(&waker)).is_pending());
    let after = bed.tasks.spawn(async { 2 });
    bed.turn();
    assert_eq!((now(told).unwrap(), now(after).unwrap()), (1, 2));
    assert_eq!(payload(now(returns).unwrap_err()), "of a drop");
    assert_eq!(payload(now(panics).unwrap_err()), "of the poll");
    aborted.abort();
    let after = bed.tasks.spawn(async { 3 });
    bed.turn();
    assert_eq!(now(after).unwrap(), 3);
    assert_eq!(payload(now(aborted).unwrap_err()), "of a drop");
    // Of the loop's end, and after it.
    let drops = Rc::new(Cell::new(0));
    let with_the_loop = bed.tasks.spawn(waits(Bomb));
    let guard = Guard::new(&drops);
    bed.tasks.spawn(async move {
        pending::<()>().await;
        drop(guard);
    });
    bed.turn();
    drop(bed.event_loop);
    assert!(is_aborted(with_the_loop));
    assert_eq!(drops.get(), 1);
    assert!(is_aborted(bed.tasks.spawn(waits(Bomb))));
}

// The loop keeps turning.

#[test]
fn a_turn_polls_so_often_and_no_more() {
    for tasks in [1, 3, 300] {
        let mut bed = Bed::new();
        let polls = Rc::new(Cell::new(0));
        let count = |polls: Rc<Cell<usize>>| {
            poll_fn(move |cx| -> Poll<()> {
                polls.set(polls.get() + 1);
                cx.waker().wake_by_ref();
                Poll::Pending
            })
        };
        for _ in 0..tasks {
            bed.tasks.spawn(count(Rc::clone(&polls)));
        }
        for turns in 1..=10 {
            bed.turn();
            assert_eq!(polls.get(), turns * BOUND, "{tasks} tasks");
        }
    }
}

#[test]
fn who_is_woken_first_runs_first() {
    let mut bed = Bed::new();
    let order = Rc::new(RefCell::new(Vec::new()));
    let gates: Vec<Gate> = (0..10).map(|_| Gate::default()).collect();
    for (number, gate) in gates.iter().enumerate() {
        let (gate, order) = (gate.clone(), Rc::clone(&order));
        bed.tasks.spawn(async move {
            loop {
                order.borrow_mut().push(number);
                gate.pass().await;
            }
        });
    }
    bed.turn();
    assert_eq!(order.take(), (0..10).collect::<Vec<_>>());
    let mixed = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7];
    for number in mixed {
        gates[number].open();
    }
    bed.turn();
    assert_eq!(order.take(), mixed);
}

#[test]
fn a_task_that_wakes_itself_leaves_others_their_turn() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let passed = bed.waiter(&gate);
    bed.tasks.spawn(async {
        loop {
            turn().await;
        }
    });
    let (beats, events) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let count = Rc::clone(&beats);
    let beat = move |_, (): &mut (), (): &mut ()| {
        count.set(count.get() + 1);
        TimeoutAction::ToDuration(MS)
    };
    bed.handle().insert_source(Timer::from_duration(MS), beat).unwrap();
    let count = Rc::clone(&events);
    let ping = bed.on_ping(move || {
        count.set(count.get() + 1);
        gate.open();
    });
    let mut slowest = Duration::ZERO;
    for turns in 1..=500 {
        ping.ping();
        let start = Instant::now();
        bed.turn();
        slowest = slowest.max(start.elapsed());
        assert_eq!((events.get(), passed.get()), (turns, turns));
    }
    let start = Instant::now();
    let (before, mut turns) = (beats.get(), 0);
    while beats.get() < before + 50 {
        bed.turn();
        turns += 1;
        assert!(start.elapsed() < DEADLINE);
    }
    println!("50 beats of 1 ms in {:?} and {turns} turns; the slowest turn took {slowest:?}", start.elapsed());
}

#[test]
fn while_its_tasks_wait_the_loop_sleeps() {
    const NAP: Duration = Duration::from_millis(100);
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let context = bed.context();
    for _ in 0..20 {
        bed.tasks.spawn(pending::<()>());
        let pull = context.socket::<Pull>().unwrap();
        bed.tasks.spawn(async move { pull.recv().await.map(drop) });
    }
    let handle = bed.tasks.spawn(pending::<()>());
    bed.tasks.spawn(handle);
    let passed = bed.waiter(&gate);
    gate.open();
    bed.settle();
    let turns = Rc::new(Cell::new(0));
    let count = Rc::clone(&turns);
    bed.handle().insert_source(BeforeSleep(move || count.set(count.get() + 1)), |(), (), ()| ()).unwrap();
    let nap = |event_loop: &mut EventLoop<'static, ()>| {
        turns.set(0);
        let start = Instant::now();
        while start.elapsed() < NAP {
            event_loop.dispatch(NAP.saturating_sub(start.elapsed()), &mut ()).unwrap();
        }
        assert!(turns.get() <= 3, "{} turns", turns.get());
    };
    nap(&mut bed.event_loop);
    drop(bed.tasks);
    nap(&mut bed.event_loop);
    assert_eq!(passed.get(), 1);
}

// Others in the loop fail.

#[test]
fn tasks_run_although_another_source_fails() {
    let fails: [fn() -> io::Result<PostAction>; 2] =
        [|| Err(io::Error::other("of the source")), || panic_any("of the source")];
    for fail in fails {
        let (mut bed, gate) = (Bed::new(), Gate::default());
        let passed = bed.waiter(&gate);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let source = Generic::new(ours, Interest::READ, Mode::Level);
        let fails = move |_, ours: &mut NoIoDrop<UnixStream>, (): &mut ()| {
            (&**ours).read_exact(&mut [0]).unwrap();
            gate.open();
            fail()
        };
        bed.handle().insert_source(source, fails).unwrap();
        let turn = |bed: &mut Bed, fails: bool| {
            let start = Instant::now();
            let turned = catch_unwind(AssertUnwindSafe(|| bed.event_loop.dispatch(STALL, &mut ())));
            assert!(start.elapsed() < STALL, "nobody woke the loop");
            assert_eq!(!matches!(turned, Ok(Ok(()))), fails);
        };
        // Once: in the next turn.
        theirs.write_all(b"!").unwrap();
        turn(&mut bed, true);
        assert_eq!(passed.get(), 0);
        turn(&mut bed, false);
        assert_eq!(passed.get(), 1);
        // In every turn: still one turn later.
        for round in 1..=20 {
            theirs.write_all(b"!").unwrap();
            turn(&mut bed, true);
            assert_eq!(passed.get(), round);
        }
        turn(&mut bed, false);
        assert_eq!(passed.get(), 21);
        // And all is as it was.
        bed.settle();
        bed.event_loop.dispatch(MS, &mut ()).unwrap();
        assert_eq!(passed.get(), 21);
    }
}

#[test]
fn tasks_run_although_an_idle_callback_panics() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let passed = bed.waiter(&gate);
    for round in 1..=3 {
        // It comes before ours, which goes with it.
        bed.handle().insert_idle(|()| panic_any("of the callback"));
        gate.open();
        let turned = catch_unwind(AssertUnwindSafe(|| bed.event_loop.dispatch(STALL, &mut ())));
        assert!(turned.is_err());
        assert_eq!(passed.get(), round - 1);
        bed.turn();
        assert_eq!(passed.get(), round);
    }
}

// With others of their kind.

#[test]
fn two_in_one_loop_wake_each_other() {
    let (mut bed, gate) = (Bed::new(), Gate::default());
    let second = Tasks::new(&bed.handle()).unwrap();
    let (there, back) = (Gate::default(), Gate::default());
    let far = {
        let (there, back) = (there.clone(), back.clone());
        second.spawn(async move {
            for _ in 0..100 {
                there.pass().await;
                back.open();
            }
        })
    };
    let here = gate.clone();
    let near = bed.tasks.spawn(async move {
        here.pass().await;
        for _ in 0..100 {
            there.open();
            back.pass().await;
        }
    });
    bed.settle();
    gate.open();
    let mut turns = 0;
    while !near.is_finished() || !far.is_finished() {
        bed.turn();
        turns += 1;
    }
    assert!(turns <= 101, "{turns} turns");
}

#[test]
fn tasks_and_calloop_s_executor_wake_each_other() {
    let mut bed = Bed::new();
    let (executor, scheduler) = calloop::futures::executor().unwrap();
    bed.handle().insert_source(executor, |(), (), ()| ()).unwrap();
    let (there, back) = (Gate::default(), Gate::default());
    {
        let (there, back) = (there.clone(), back.clone());
        let forever = async move {
            loop {
                there.pass().await;
                back.open();
            }
        };
        scheduler.schedule(forever).unwrap();
    }
    let near = bed.tasks.spawn(async move {
        for _ in 0..100 {
            there.open();
            back.pass().await;
        }
    });
    let mut turns = 0;
    while !near.is_finished() {
        bed.turn();
        turns += 1;
    }
    assert!(turns <= 300, "{turns} turns");
}

#[test]
fn a_task_runs_another_loop_within() {
    let mut bed = Bed::new();
    let outer = bed.tasks.spawn(async {
        let mut within = Bed::new();
        let inner = within.tasks.spawn(async {
            turn().await;
            futures::executor::block_on(async { 3 })
        });
        let left = within.tasks.spawn(pending::<()>());
        let output = run(&mut within.event_loop, inner).unwrap();
        drop(within);
        (output, is_aborted(left))
    });
    assert_eq!(run(&mut bed.event_loop, outer).unwrap(), (3, true));
}

#[test]
fn a_task_puts_sources_in_and_takes_them_out() {
    let mut bed = Bed::new();
    let (executor, scheduler) = calloop::futures::executor::<()>().unwrap();
    let drops = Rc::new(Cell::new(0));
    let (tasks, guard) = (bed.tasks.clone(), Guard::new(&drops));
    let held = bed.tasks.spawn(pending::<()>());
    scheduler
        .schedule(async move {
            let _owns = (guard, tasks);
            held.await.unwrap();
        })
        .unwrap();
    let handle = bed.handle();
    let executor = handle.insert_source(executor, |(), (), ()| ()).unwrap();
    let tasks = bed.tasks.clone();
    let task = bed.tasks.spawn(async move {
        turn().await;
        handle.remove(executor);
        let (ping, pinged) = make_ping().unwrap();
        let gate = Gate::default();
        let here = gate.clone();
        let source = handle.insert_source(pinged, move |(), (), ()| gate.open()).unwrap();
        ping.ping();
        here.pass().await;
        handle.remove(source);
        tasks.spawn(async { 7 }).await.unwrap()
    });
    assert_eq!(run(&mut bed.event_loop, task).unwrap(), 7);
    assert_eq!(drops.get(), 1);
}

#[test]
fn a_task_sleeps_and_takes_its_time() {
    let mut bed = Bed::new();
    let context = bed.context();
    let (pull, push) = (context.socket::<Pull>().unwrap(), context.socket::<Push>().unwrap());
    push.connect(&pull.bind("inproc://sleepers").unwrap()).unwrap();
    let (start, sleeper) = (Instant::now(), context.clone());
    let task = bed.tasks.spawn(async move {
        for _ in 0..5 {
            sleeper.sleep(5 * MS).await;
        }
        assert!(matches!(sleeper.timeout(5 * MS, pull.recv()).await, Err(Elapsed { .. })));
        push.send("message").await.unwrap();
        sleeper.timeout(STALL, pull.recv()).await.unwrap().unwrap().len()
    });
    assert_eq!(run(&mut bed.event_loop, task).unwrap(), 1);
    assert!(start.elapsed() >= 30 * MS);
    // Aborted by the time: the wait goes with the task.
    let sleeper = context.clone();
    let task = bed.tasks.spawn(async move { sleeper.sleep(DEADLINE * 60).await });
    bed.settle();
    let start = Instant::now();
    assert!(run(&mut bed.event_loop, context.timeout(5 * MS, task)).is_err());
    assert!(start.elapsed() >= 5 * MS);
}

// The end of the loop.

/// One of each, all with a guard; some own what keeps them.
fn populate(bed: &Bed, context: &AsyncZmqContext, drops: &Rc<Cell<usize>>) -> (usize, Vec<JoinHandle<()>>) {
    let mut kept = Vec::new();
    let guarded = |task: Pin<Box<dyn Future<Output = ()>>>| {
        let guard = Guard::new(drops);
        bed.tasks.spawn(async move {
            let _guard = guard;
            task.await;
        })
    };
    kept.push(guarded(Box::pin(pending())));
    drop(guarded(Box::pin(pending())));
    // Owns the tasks.
    let tasks = bed.tasks.clone();
    kept.push(guarded(Box::pin(async move {
        pending::<()>().await;
        tasks.spawn(async {});
    })));
    // Awaits itself.
    let own = Rc::new(RefCell::new(None::<JoinHandle<()>>));
    let slot = Rc::clone(&own);
    let itself = guarded(Box::pin(async move {
        let handle = slot.take().unwrap();
        handle.await.unwrap();
    }));
    own.replace(Some(itself));
    // Holds itself, without a poll.
    let own = Rc::new(RefCell::new(None::<JoinHandle<()>>));
    let slot = Rc::clone(&own);
    let itself = guarded(Box::pin(async move {
        pending::<()>().await;
        drop(slot);
    }));
    own.replace(Some(itself));
    // Await each other.
    let (left, right) = (Rc::new(RefCell::new(None::<JoinHandle<()>>)), Rc::new(RefCell::new(None::<JoinHandle<()>>)));
    for (mine, other) in [(&left, &right), (&right, &left)] {
        let slot = Rc::clone(other);
        let task = guarded(Box::pin(async move {
            let handle = slot.take().unwrap();
            handle.await.unwrap();
        }));
        mine.replace(Some(task));
    }
    // Owns the socket that it waits for, and the context that it sleeps in.
    let (pull, push) = (context.socket::<Pull>().unwrap(), context.socket::<Push>().unwrap());
    kept.push(guarded(Box::pin(async move { drop(pull.recv().await) })));
    kept.push(guarded(Box::pin(async move { drop(push.send("nobody is there").await) })));
    let sleeper = context.clone();
    kept.push(guarded(Box::pin(async move { sleeper.sleep(DEADLINE * 60).await })));
    // Is always ready.
    kept.push(guarded(Box::pin(async {
        loop {
            turn().await;
        }
    })));
    (11, kept)
}

#[test]
fn what_waits_ends_with_the_loop() {
    for turns in [0, 1, 5] {
        for tasks_last in [false, true] {
            for context_first in [false, true] {
                let mut bed = Bed::new();
                let drops = Rc::new(Cell::new(0));
                let ours = zmq::Context::new();
                let context = AsyncZmqContext::with_context(&bed.handle(), ours.clone()).unwrap();
                let (all, kept) = populate(&bed, &context, &drops);
                let wakes = Wakes::new();
                let mut kept = kept;
                for handle in &mut kept {
                    assert!(poll_with(handle, &wakes).is_pending());
                }
                for _ in 0..turns {
                    bed.turn();
                }
                assert_eq!(drops.get(), 0);
                let context = (!context_first).then_some(context);
                let tasks = tasks_last.then(|| bed.tasks.clone());
                drop(bed);
                assert_eq!((drops.get(), Rc::strong_count(&drops)), (all, 1));
                assert_eq!(wakes.count(), kept.len());
                assert!(kept.into_iter().all(|handle| handle.is_finished() && is_aborted(handle)));
                drop((tasks, context));
                // Returns when all sockets are closed; the watchdog waits too.
                let _watchdog = Watchdog::new();
                drop(ours);
            }
        }
    }
}

#[test]
fn who_is_dropped_with_the_loop_may_start_and_wake_others() {
    let mut bed = Bed::new();
    let drops = Rc::new(Cell::new(0));
    let gates: Vec<Gate> = (0..3).map(|_| Gate::default()).collect();
    let (refused, aborts) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(Vec::<JoinHandle<()>>::new())));
    for gate in &gates {
        let (tasks, count, gates, here) = (bed.tasks.clone(), Rc::clone(&drops), gates.clone(), gate.clone());
        let (handles, others) = (Rc::clone(&refused), Rc::clone(&aborts));
        let last_words = OnDrop(move || {
            gates.iter().for_each(Gate::open);
            others.borrow().iter().for_each(JoinHandle::abort);
            let (guard, nested, more) = (Guard::new(&count), Guard::new(&count), tasks.clone());
            let on_drop = OnDrop(move || drop(more.spawn(pending::<()>())));
            handles.borrow_mut().push(tasks.spawn(async move { drop((guard, on_drop)) }));
            drop(nested);
            assert!(!format!("{tasks:?}").is_empty());
        });
        let task = bed.tasks.spawn(async move {
            here.pass().await;
            here.pass().await;
            drop(last_words);
        });
        aborts.borrow_mut().push(task);
    }
    bed.settle();
    let tasks = bed.tasks.clone();
    drop(bed);
    assert_eq!(drops.get(), 6);
    assert!(refused.take().into_iter().all(is_aborted));
    assert!(aborts.take().into_iter().all(is_aborted));
    // Nothing is left, and nothing comes any more.
    let (guard, wakes) = (Guard::new(&drops), Wakes::new());
    let mut late = tasks.spawn(async move { drop(guard) });
    assert!(matches!(poll_with(&mut late, &wakes), Poll::Ready(Err(JoinError::Aborted))));
    assert_eq!((drops.get(), Rc::strong_count(&drops)), (7, 1));
    assert_eq!(format!("{tasks:?}"), "Tasks { live: 0, .. }");
}

/// Threads that wake tasks and drop their wakers while the loop goes: each future is dropped, and on the loop's thread.
fn end_under_wakes(rounds: u32) {
    const TASKS: usize = 16;
    struct Round {
        wakers: Vec<Waker>,
        go: Arc<AtomicBool>,
        delay: u64,
    }
    let (_watchdog, mut rng) = (Watchdog::new(), Rng::new());
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (send, rounds) = mpsc::channel::<Round>();
            let worker = thread::spawn(move || {
                for Round { wakers, go, delay } in rounds {
                    // What follows takes a microsecond: a sleep would miss it.
                    while !go.load(Ordering::SeqCst) {
                        thread::yield_now();
                    }
                    for _ in 0..delay {
                        spin_loop();
                    }
                    for (number, waker) in wakers.into_iter().enumerate() {
                        match number % 4 {
                            0 => waker.wake(),
                            1 => drop(waker.clone()),
                            _ => waker.wake_by_ref(),
                        }
                    }
                }
            });
            (send, worker)
        })
        .collect();
    for round in 0..rounds {
        let mut event_loop = EventLoop::<()>::try_new().unwrap();
        // The loop drops its sources in the order in which they came: this one, and then the tasks.
        let go = Arc::new(AtomicBool::new(false));
        let going = Arc::clone(&go);
        let tell = OnDrop(move || going.store(true, Ordering::SeqCst));
        event_loop.handle().insert_source(BeforeSleep(move || _ = black_box(&tell)), |(), (), ()| ()).unwrap();
        let tasks = Tasks::new(&event_loop.handle()).unwrap();
        let drops = Rc::new(Cell::new(0));
        let wakers = Arc::new(Mutex::new(Vec::new()));
        let handles: Vec<_> = (0..TASKS)
            .map(|_| {
                let (guard, wakers) = (Guard::new(&drops), Arc::clone(&wakers));
                let mut first = true;
                tasks.spawn(poll_fn(move |cx| -> Poll<()> {
                    black_box(&guard);
                    if std::mem::take(&mut first) {
                        wakers.lock().unwrap().push(cx.waker().clone());
                    }
                    Poll::Pending
                }))
            })
            .collect();
        let kept = (round % 2 == 0).then_some(handles);
        event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
        let wakers = std::mem::take(&mut *wakers.lock().unwrap());
        assert_eq!(wakers.len(), TASKS);
        for (send, _) in &threads {
            send.send(Round { wakers: wakers.clone(), go: Arc::clone(&go), delay: rng.below(200) }).unwrap();
        }
        drop(wakers);
        if round % 8 == 0 {
            // Some are in the queue before the end.
            go.store(true, Ordering::SeqCst);
            event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
        }
        if round % 5 == 0 {
            drop(tasks);
        }
        drop(event_loop);
        assert_eq!((drops.get(), Rc::strong_count(&drops)), (TASKS, 1), "in round {round}");
        assert!(kept.into_iter().flatten().all(is_aborted));
    }
    for (send, worker) in threads {
        drop(send);
        worker.join().unwrap();
    }
}

#[test]
fn every_task_ends_with_the_loop_although_other_threads_wake_it() {
    end_under_wakes(3000);
}

#[test]
fn every_task_ends_with_the_loop_on_one_core_too() {
    pin();
    end_under_wakes(1000);
}
