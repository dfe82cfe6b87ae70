//! `sleep` and `timeout`: on time, in order, without loss, and gone when dropped.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};
use std::thread;
use std::time::{Duration, Instant};

use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, EventSource, Poll as Poller, PostAction, Readiness, Token, TokenFactory};
use calloop_zmq::kind::Pull;
use calloop_zmq::{AsyncZmqContext, Multipart};
use futures::future::join;

use support::{Wakes, poll_once, poll_with, run, run_counted, turn, turn_until};

fn fixture() -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (event_loop, context)
}

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_sleep_is_not_early_and_takes_few_turns() {
    let (mut event_loop, context) = fixture();
    for duration in [Duration::ZERO, Duration::from_nanos(1), Duration::from_micros(1500), 20 * MS] {
        let start = Instant::now();
        let ((), turns) = run_counted(&mut event_loop, &mut (), context.sleep(duration));
        assert!(start.elapsed() >= duration);
        assert!(turns <= 5, "{turns} turns for one sleep of {duration:?}");
    }
}

#[test]
fn the_longest_sleep_waits() {
    let (_event_loop, context) = fixture();
    let mut sleep = context.sleep(Duration::MAX);
    assert!(poll_once(&mut sleep).is_pending());
}

#[test]
fn a_ready_future_beats_its_deadline() {
    let (mut event_loop, context) = fixture();
    assert_eq!(run(&mut event_loop, context.timeout(Duration::ZERO, async { 1 })), Ok(1));
    assert_eq!(run(&mut event_loop, context.timeout(HOUR, async { 2 })), Ok(2));
    assert!(run(&mut event_loop, context.timeout(Duration::ZERO, std::future::pending::<()>())).is_err());
    // Both are there when it is polled next: the future counts.
    let pull = context.socket::<Pull>().unwrap();
    let push = connected_push(&pull, &context);
    let mut timeout = Box::pin(context.timeout(MS, pull.recv()));
    assert!(poll_once(&mut timeout).is_pending());
    push.send("in time", 0).unwrap();
    let deadline = Instant::now() + 2 * MS;
    while Instant::now() < deadline {
        std::hint::spin_loop();
    }
    let Poll::Ready(Ok(Ok(message))) = poll_once(&mut timeout) else { panic!("the message was there") };
    assert_eq!(message, "in time".into());
}

/// A bare peer, to be used here or on another thread.
fn connected_push(pull: &calloop_zmq::AsyncZmqSocket<Pull>, context: &AsyncZmqContext) -> zmq::Socket {
    let endpoint = format!("inproc://push-{pull:p}");
    pull.bind(&endpoint).unwrap();
    let push = context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&endpoint).unwrap();
    push
}

#[test]
fn the_message_outlives_the_timeout() {
    let (mut event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    let push = connected_push(&pull, &context);
    run(&mut event_loop, async {
        assert!(context.timeout(MS, pull.recv()).await.is_err());
        push.send("late", 0).unwrap();
        assert_eq!(context.timeout(HOUR, pull.recv()).await.unwrap().unwrap(), "late".into());
    });
}

/// A peer on another thread, timeouts so short that most of them end in the middle of something.
#[test]
fn a_storm_of_tiny_timeouts_loses_no_message() {
    const MESSAGES: u64 = 30_000;
    let (mut event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    let push = connected_push(&pull, &context);
    let sender = thread::spawn(move || {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        for number in 0..MESSAGES {
            push.send(&number.to_le_bytes()[..], 0).unwrap();
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Now and then a pause that some of the timeouts below do not outlast.
            if random >> 56 == 0 {
                let until = Instant::now() + Duration::from_micros(random >> 40 & 0x3ff);
                while Instant::now() < until {
                    thread::yield_now();
                }
            }
        }
    });
    let (mut next, mut cancellations) = (0, 0);
    run(&mut event_loop, async {
        let mut message = Multipart::new();
        while next < MESSAGES {
            let patience = Duration::from_micros(next % 7 * 10);
            if let Ok(received) = context.timeout(patience, pull.recv_into(&mut message)).await {
                received.unwrap();
                assert_eq!(message, (&next.to_le_bytes()).into());
                next += 1;
            } else {
                cancellations += 1;
                // The patience of zero is at an end before the loop gets a turn, and with it a new budget.
                turn().await;
            }
        }
    });
    sender.join().unwrap();
    println!("{cancellations} cancellations among {MESSAGES} messages");
    assert!(cancellations > 0);
}

#[test]
fn dropped_timeouts_do_not_wake_the_loop() {
    let (mut event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    let (wakes, mut dropped) = (Wakes::new(), 0);
    for _ in 0..1000 {
        let mut timeouts: Vec<_> = (50..60).map(|ms| Box::pin(context.timeout(ms * MS, pull.recv()))).collect();
        for timeout in &mut timeouts {
            assert!(poll_with(timeout, &wakes).is_pending());
        }
        // Arms the timer for the earliest.
        event_loop.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
        dropped += timeouts.len();
        drop(timeouts);
    }
    assert_eq!(dropped, 10_000);
    let before = wakes.count();
    let ((), turns) = run_counted(&mut event_loop, &mut (), context.sleep(100 * MS));
    println!("{turns} turns after {dropped} dropped timeouts");
    assert!(turns <= 6, "{turns} turns");
    assert_eq!(wakes.count(), before, "a dropped timeout was woken");
}

/// Says which deadline it was woken for.
struct Says(u32, Arc<Mutex<Vec<u32>>>);

impl Wake for Says {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

#[test]
fn sleeps_end_in_the_order_of_their_deadlines() {
    let (mut event_loop, context) = fixture();
    let durations = [17, 3, 29, 11, 23, 5, 13, 2, 19, 7, 31];
    let woken = Arc::new(Mutex::new(Vec::new()));
    let mut sleeps: Vec<_> = durations.map(|ms| Box::pin(context.sleep(ms * MS))).into();
    for (sleep, ms) in sleeps.iter_mut().zip(durations) {
        let waker = Arc::new(Says(ms, Arc::clone(&woken))).into();
        assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    turn_until(&mut event_loop, &mut (), |()| woken.lock().unwrap().len() == durations.len());
    assert!(woken.lock().unwrap().is_sorted(), "{woken:?}");
}

#[test]
fn an_earlier_deadline_moves_the_timer() {
    let (mut event_loop, context) = fixture();
    let (mut late, wakes) = (context.sleep(HOUR), Wakes::new());
    assert!(poll_with(&mut late, &wakes).is_pending());
    // Armed for the hour.
    event_loop.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
    event_loop.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
    let start = Instant::now();
    let ((), turns) = run_counted(&mut event_loop, &mut (), context.sleep(10 * MS));
    println!("{turns} turns, {:?}", start.elapsed());
    assert!(start.elapsed() >= 10 * MS && turns <= 5, "{turns} turns");
    // And back: the hour is still waited for, and quietly.
    assert_eq!(wakes.count(), 0);
    let ((), turns) = run_counted(&mut event_loop, &mut (), context.sleep(10 * MS));
    assert!(turns <= 5, "{turns} turns");
    drop(late);
    run(&mut event_loop, context.sleep(MS));
}

/// A sleep entered in another source's callback, in an idle, in a task.
#[test]
fn a_sleep_may_begin_anywhere() {
    let (mut event_loop, context) = fixture();
    let (executor, scheduler) = calloop::futures::executor().unwrap();
    let ended = Rc::new(Cell::new(0));
    event_loop.handle().insert_source(executor, |(), (), ()| ()).unwrap();
    let sleeper = {
        let (ended, context) = (Rc::clone(&ended), context.clone());
        move || {
            let (ended, context) = (Rc::clone(&ended), context.clone());
            scheduler
                .schedule(async move {
                    context.sleep(5 * MS).await;
                    ended.set(ended.get() + 1);
                })
                .unwrap();
        }
    };
    sleeper();
    let again = sleeper.clone();
    event_loop
        .handle()
        .insert_source(Timer::from_duration(MS), move |_, (), ()| {
            again();
            TimeoutAction::Drop
        })
        .unwrap();
    event_loop.handle().insert_idle(move |()| sleeper());
    turn_until(&mut event_loop, &mut (), |()| ended.get() == 3);
}

#[test]
fn many_tasks_sleep_at_once() {
    const TASKS: u32 = 1000;
    let mut event_loop = EventLoop::<u32>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (executor, scheduler) = calloop::futures::executor().unwrap();
    event_loop.handle().insert_source(executor, |(), (), ended| *ended += 1).unwrap();
    for number in 0..TASKS {
        let context = context.clone();
        let task = async move {
            for _ in 0..3 {
                context.sleep(MS * (1 + number % 10)).await;
            }
        };
        scheduler.schedule(task).unwrap();
    }
    let turns = turn_until(&mut event_loop, &mut 0, |ended| *ended == TASKS);
    println!("{turns} turns for {TASKS} tasks of 3 sleeps");
}

#[test]
fn two_contexts_have_two_clocks() {
    let (mut event_loop, first) = fixture();
    let second = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let start = Instant::now();
    run(&mut event_loop, join(first.sleep(20 * MS), second.sleep(5 * MS)));
    assert!(start.elapsed() >= 20 * MS);
    drop(first);
    run(&mut event_loop, second.sleep(5 * MS));
}

#[test]
fn a_moved_sleep_wakes_its_last_task() {
    let (mut event_loop, context) = fixture();
    let (mut sleep, first, second) = (context.sleep(5 * MS), Wakes::new(), Wakes::new());
    assert!(poll_with(&mut sleep, &first).is_pending());
    assert!(poll_with(&mut sleep, &second).is_pending());
    assert_eq!(Arc::strong_count(&first), 1, "the first waker is kept");
    turn_until(&mut event_loop, &mut (), |()| second.count() > 0);
    assert_eq!((first.count(), second.count()), (0, 1));
    assert_eq!(Arc::strong_count(&second), 1, "the waker is kept after it was woken");
    assert!(poll_once(&mut sleep).is_ready());
}

#[test]
fn a_sleep_ends_with_its_loop() {
    let (event_loop, context) = fixture();
    let (mut sleep, wakes) = (context.sleep(HOUR), Wakes::new());
    assert!(poll_with(&mut sleep, &wakes).is_pending());
    drop(event_loop);
    assert_eq!(wakes.count(), 1);
    assert!(poll_once(&mut sleep).is_ready());
    assert!(poll_once(&mut context.sleep(HOUR)).is_ready());
    drop(context);
    drop(sleep);
}

/// A source of somebody else's, which fails when told to: calloop gives up the rest of the batch then.
struct Fails {
    spoils: Rc<Cell<bool>>,
    token: Option<Token>,
}

impl EventSource for Fails {
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = std::io::Error;

    const NEEDS_EXTRA_LIFECYCLE_EVENTS: bool = true;

    fn process_events<F>(&mut self, _: Readiness, token: Token, _: F) -> std::io::Result<PostAction>
    where
        F: FnMut((), &mut ()),
    {
        if self.token == Some(token) {
            Err(std::io::Error::other("as it should here"))
        } else {
            Ok(PostAction::Continue)
        }
    }

    fn register(&mut self, _: &mut Poller, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.token = Some(factory.token());
        Ok(())
    }

    fn reregister(&mut self, poll: &mut Poller, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.register(poll, factory)
    }

    fn unregister(&mut self, _: &mut Poller) -> calloop::Result<()> {
        Ok(())
    }

    fn before_sleep(&mut self) -> calloop::Result<Option<(Readiness, Token)>> {
        let readable = Readiness { readable: true, writable: false, error: false };
        Ok(self.token.filter(|_| self.spoils.take()).map(|token| (readable, token)))
    }
}

#[test]
fn sleeps_survive_the_failure_of_another_source() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let spoils = Rc::new(Cell::new(false));
    event_loop.handle().insert_source(Fails { spoils: Rc::clone(&spoils), token: None }, |(), (), ()| ()).unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (mut sleep, wakes) = (context.sleep(50 * MS), Wakes::new());
    assert!(poll_with(&mut sleep, &wakes).is_pending());
    event_loop.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
    let due = Instant::now() + 51 * MS;
    while Instant::now() < due {
        std::hint::spin_loop();
    }
    // In one batch with the timer, and with what the context has to do, before both.
    spoils.set(true);
    event_loop.dispatch(Some(Duration::ZERO), &mut ()).unwrap_err();
    assert_eq!(wakes.count(), 0, "the timer came first, and this test shows nothing");
    turn_until(&mut event_loop, &mut (), |()| wakes.count() > 0);
    assert!(poll_once(&mut sleep).is_ready());
}
