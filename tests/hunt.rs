//! What a hostile reading of the sources turned up, each fault in the fewest steps that show it.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use calloop::ping::make_ping;
use calloop::{EventLoop, EventSource, PostAction, Readiness, Token, TokenFactory};
use calloop_zmq::kind::{Any, Dealer, Pull, Push, Rep, Req, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, MonitorEvent, Multipart, SetupError, proxy};
use common::{BeforeSleep, Rig, drain, has_room, router_and_full_peers};
use futures::{FutureExt, Sink, SinkExt, Stream, StreamExt};

/// So long is for ever: nothing here has to wait for more than a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// A waker that counts.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Count {
    fn new() -> (Arc<Self>, Waker) {
        let count = Arc::new(Self::default());
        (Arc::clone(&count), count.into())
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A source that fails once each time it is pinged, as somebody else's may.
struct Fails<S>(S);

impl<S: EventSource<Event = (), Metadata = (), Ret = ()>> EventSource for Fails<S>
where
    S::Error: Into<Box<dyn std::error::Error + Sync + Send>>,
{
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<C>(&mut self, readiness: Readiness, token: Token, _: C) -> io::Result<PostAction>
    where
        C: FnMut((), &mut ()),
    {
        let mut fired = false;
        self.0.process_events(readiness, token, |(), ()| fired = true).map_err(io::Error::other)?;
        if fired { Err(io::Error::other("as the test wants it")) } else { Ok(PostAction::Continue) }
    }

    fn register(&mut self, poll: &mut calloop::Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.0.register(poll, factory)
    }

    fn reregister(&mut self, poll: &mut calloop::Poll, factory: &mut TokenFactory) -> calloop::Result<()> {
        self.0.reregister(poll, factory)
    }

    fn unregister(&mut self, poll: &mut calloop::Poll) -> calloop::Result<()> {
        self.0.unregister(poll)
    }
}

/// Turns the loop until `done`, or not.
fn turn_until(event_loop: &mut EventLoop<'static, ()>, done: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while !done() && begin.elapsed() < PATIENCE {
        let _ = event_loop.dispatch(Duration::from_millis(100), &mut ());
    }
    done()
}

fn busy(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {}
}

// 1. Timers.

#[test]
fn later_sleeps_outlive_it_too() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (ping, pinged) = make_ping().unwrap();
    event_loop.handle().insert_source(Fails(pinged), |(), (), ()| ()).unwrap();
    let (_, waker) = Count::new();
    let mut lost = context.sleep(Duration::from_millis(20));
    assert!(lost.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
    busy(Duration::from_millis(25));
    ping.ping();
    assert!(event_loop.dispatch(Duration::ZERO, &mut ()).is_err());
    let (count, waker) = Count::new();
    let mut later = context.sleep(Duration::from_millis(20));
    assert!(later.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    assert!(turn_until(&mut event_loop, || count.get() > 0), "no sleep ends any more");
}

// 2. readable() and writable() against the slot.

#[test]
fn a_stream_wakes_when_somebody_asked_whether_the_socket_is_readable() {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let push = rig.context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&pull.bind("inproc://asked").unwrap()).unwrap();
    let mut stream = &*pull;
    let (count, waker) = Count::new();
    assert!(Pin::new(&mut stream).poll_next(&mut Context::from_waker(&waker)).is_pending());
    rig.idle(Duration::from_millis(1));
    push.send("for the stream", zmq::DONTWAIT).unwrap();
    assert!(rig.fd_readable("PULL"), "nothing to swallow");
    pull.readable().now_or_never().unwrap().unwrap();
    assert!(!rig.fd_readable("PULL"), "nothing swallowed");
    rig.idle(Duration::from_millis(100));
    assert_eq!(count.get(), 1, "the stream sleeps on its message");
}

#[test]
fn a_sink_wakes_when_somebody_asked_whether_the_socket_is_writable() {
    let mut rig = Rig::new();
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    let pull = rig.context.zmq_context().socket(zmq::PULL).unwrap();
    pull.set_rcvhwm(1).unwrap();
    pull.connect(&push.bind("inproc://asked").unwrap()).unwrap();
    while has_room(push.try_send("fill")) {}
    let mut sink = &*push;
    sink.feed("held".into()).now_or_never().unwrap().unwrap();
    let (count, waker) = Count::new();
    assert!(Pin::new(&mut sink).poll_flush(&mut Context::from_waker(&waker)).is_pending());
    rig.idle(Duration::from_millis(1));
    assert!(drain(&pull) > 0);
    assert!(rig.fd_readable("PUSH"), "nothing to swallow");
    push.writable().now_or_never().unwrap().unwrap();
    assert!(!rig.fd_readable("PUSH"), "nothing swallowed");
    rig.idle(Duration::from_millis(100));
    assert_eq!(count.get(), 1, "the sink sleeps on its room");
}

// 3. Senders that wait for their peers.

#[test]
fn a_router_sender_wakes_though_others_keep_trying() {
    let mut rig = Rig::new();
    let (router, peers) = router_and_full_peers(&mut rig, &["a", "b"]);
    let (sender, probe) = (Rc::clone(&router), rig.probe("a"));
    let waiting = Rc::clone(&probe);
    rig.spawn_aside(async move { probe.wait(sender.send(["a", "parked"])).await.unwrap() });
    rig.run_until(|| waiting.waits());
    rig.idle(Duration::from_millis(1));
    assert!(drain(&peers[0]) > 0);
    assert!(router.try_send(["b", "full"]).is_err_and(|error| error.is_full()));
    assert!(!rig.fd_readable("ROUTER"), "nothing swallowed");
    // Somebody who has a little patience for a full peer, again and again.
    let (other, context) = (Rc::clone(&router), rig.context.clone());
    rig.spawn_aside(async move {
        loop {
            let gave_up = context.timeout(Duration::from_millis(1), other.send(["b", "still full"])).await;
            assert!(gave_up.is_err());
        }
    });
    let begin = Instant::now();
    while waiting.done() == 0 {
        assert!(begin.elapsed() < PATIENCE, "there is room for it, and still it waits");
        rig.turn(Duration::from_millis(100));
    }
}

/// The window in which tries are said to process nothing begins at the first try that *failed* after the senders were
/// called; libzmq counts from the first try.
#[test]
fn a_router_sender_wakes_though_the_first_of_those_called_could_send() {
    let mut lost = Vec::new();
    for micros in (300..2400).step_by(100) {
        let mut rig = Rig::new();
        let (router, peers) = router_and_full_peers(&mut rig, &["a", "b", "c"]);
        let wakers = [(); 3].map(|()| Count::new());
        let mut a = router.send(["a", "1"]);
        let mut b = router.send(["b", "1"]);
        let mut c = router.send(["c", "1"]);
        assert!(a.poll_unpin(&mut Context::from_waker(&wakers[0].1)).is_pending());
        assert!(b.poll_unpin(&mut Context::from_waker(&wakers[1].1)).is_pending());
        assert!(c.poll_unpin(&mut Context::from_waker(&wakers[2].1)).is_pending());
        let begin = Instant::now();
        // The senders are called to settle.
        while wakers.iter().any(|(count, _)| count.get() == 0) {
            assert!(begin.elapsed() < PATIENCE);
            rig.turn(Duration::from_millis(50));
        }
        // The first can send, so its try is no failure.
        assert!(drain(&peers[0]) > 0);
        assert!(a.poll_unpin(&mut Context::from_waker(&wakers[0].1)).is_ready());
        busy(Duration::from_micros(micros));
        let before = wakers[1].0.get();
        assert!(b.poll_unpin(&mut Context::from_waker(&wakers[1].1)).is_pending());
        assert!(drain(&peers[1]) > 0);
        assert!(rig.fd_readable("ROUTER"), "nothing to swallow");
        busy(Duration::from_micros(400));
        assert!(c.poll_unpin(&mut Context::from_waker(&wakers[2].1)).is_pending());
        let swallowed = !rig.fd_readable("ROUTER");
        let begin = Instant::now();
        while wakers[1].0.get() == before && begin.elapsed() < PATIENCE {
            rig.turn(Duration::from_millis(50));
        }
        if wakers[1].0.get() == before {
            lost.push((micros, swallowed));
        }
    }
    assert!(lost.is_empty(), "lost after so many microseconds: {lost:?}");
}

#[test]
fn senders_with_something_else_to_do_settle_too() {
    let mut rig = Rig::new();
    let (router, _peers) = router_and_full_peers(&mut rig, &["a", "b"]);
    for name in ["a", "b"] {
        let router = Rc::clone(&router);
        rig.spawn_aside(async move {
            let mut send = router.send([name, "parked"]);
            // A millisecond of work in each poll.
            futures::future::poll_fn(|cx| {
                busy(Duration::from_millis(1));
                send.poll_unpin(cx)
            })
            .await
            .unwrap();
        });
    }
    assert_settles(&mut rig);
}

#[test]
fn many_senders_settle_too() {
    let mut rig = Rig::new();
    let many: Vec<String> = (0..950).map(|number| format!("peer {number}")).collect();
    let (router, _peers) = router_and_full_peers(&mut rig, &many);
    for name in many {
        let router = Rc::clone(&router);
        rig.spawn_aside(async move { router.send([name.as_str(), "parked"]).await.unwrap() });
    }
    assert_settles(&mut rig);
}

/// A second with hardly a turn comes, and soon: where others use the cores too, settling takes another try or two.
fn assert_settles(rig: &mut Rig) {
    let turns: Vec<u64> = (0..8).map(|_| rig.idle(Duration::from_secs(1))).take_while(|turns| *turns > 10).collect();
    assert!(turns.len() < 8, "{turns:?} turns in idle seconds");
}

// 4. Spins.

#[test]
fn a_lent_socket_does_not_spin_while_the_first_in_the_line_does_something_else() {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let push = rig.context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&pull.bind("inproc://spin").unwrap()).unwrap();
    let (_, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    // The first is kept, and not polled: its task awaits something else just now.
    let mut first = pull.recv();
    assert!(first.poll_unpin(&mut cx).is_pending());
    let mut second = pull.recv();
    assert!(second.poll_unpin(&mut cx).is_pending());
    let _lent = pull.get_ref();
    push.send("for the first", zmq::DONTWAIT).unwrap();
    rig.idle(Duration::from_millis(10));
    let turns = rig.idle(Duration::from_millis(200));
    assert!(turns <= 3, "{turns} turns in an idle fifth of a second");
}

// 5. Panics.

#[test]
fn a_reader_wakes_though_a_call_on_the_bare_socket_panicked() {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let push = rig.context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&pull.bind("inproc://panics").unwrap()).unwrap();
    let (count, waker) = Count::new();
    let mut recv = pull.recv();
    assert!(recv.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    rig.idle(Duration::from_millis(1));
    push.send("for the reader", zmq::DONTWAIT).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        pull.with_ref(|raw| {
            assert!(raw.get_events().unwrap().contains(zmq::POLLIN));
            panic!("as the test wants it");
        });
    }));
    assert!(panicked.is_err());
    rig.idle(Duration::from_millis(100));
    assert_eq!(count.get(), 1, "the reader sleeps on its message");
}

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn std::any::Any>>> = RefCell::default();
}

/// A waker that owns a task, as those of executors do whose tasks nobody else keeps.
struct Owns;

impl Wake for Owns {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Owns {
    fn drop(&mut self) {
        let kept = KEPT.take();
        drop(kept);
    }
}

/// A socket, and on it a wait that ends when `Owns` is dropped.
fn owned_wait(rig: &mut Rig) -> (&'static AsyncZmqSocket<Pull>, Waker) {
    let pull: &'static Rc<AsyncZmqSocket<Pull>> = Box::leak(Box::new(rig.socket::<Pull>("PULL", |_| Ok(()))));
    let mut owned = pull.recv();
    assert!(owned.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    KEPT.replace(vec![Box::new(owned)]);
    (pull, Arc::new(Owns).into())
}

#[test]
fn a_wait_may_own_the_task_of_another_when_it_is_dropped() {
    let mut rig = Rig::new();
    let (pull, waker) = owned_wait(&mut rig);
    let mut recv = pull.recv();
    assert!(recv.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    drop(recv);
    assert!(KEPT.take().is_empty(), "the waker was not dropped");
}

#[test]
fn a_wait_may_own_the_task_of_another_when_it_is_polled_by_somebody_else() {
    let mut rig = Rig::new();
    let (pull, waker) = owned_wait(&mut rig);
    let mut recv = pull.recv();
    assert!(recv.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    assert!(recv.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending());
    assert!(KEPT.take().is_empty(), "the waker was not dropped");
}

#[test]
fn a_slot_may_own_the_task_of_another_when_its_socket_is_dropped() {
    let mut rig = Rig::new();
    let (_, waker) = owned_wait(&mut rig);
    let mut pull = rig.context.socket::<Pull>().unwrap();
    assert!(Pin::new(&mut pull).poll_next(&mut Context::from_waker(&waker)).is_pending());
    drop(waker);
    drop(pull);
    assert!(KEPT.take().is_empty(), "the waker was not dropped");
}

// 6. Leaks.

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fn loop_with_contexts(count: usize) -> (EventLoop<'static, ()>, usize) {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let before = open_descriptors();
    for _ in 0..count {
        let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
        drop(context);
        event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
    }
    let left = open_descriptors().saturating_sub(before);
    (event_loop, left)
}

#[test]
fn a_dropped_context_leaves_the_loop() {
    let (mut event_loop, left) = loop_with_contexts(200);
    let begin = Instant::now();
    // Others run tests in this process, with descriptors of their own.
    let mut left = left;
    while left > 150 && begin.elapsed() < PATIENCE {
        event_loop.dispatch(Duration::from_millis(10), &mut ()).unwrap();
        left = left.min(open_descriptors());
    }
    assert!(left < 150, "{left} descriptors of 200 contexts that are gone");
}

// 7. The Sink's messages.

fn poll_flush(sink: &AsyncZmqSocket<Any>) -> Poll<calloop_zmq::Result<()>> {
    Pin::new(&mut &*sink).poll_flush(&mut Context::from_waker(Waker::noop()))
}

fn start_send(sink: &AsyncZmqSocket<Any>, message: impl Into<Multipart>) -> calloop_zmq::Result<()> {
    Pin::new(&mut &*sink).start_send(message.into())
}

#[test]
fn close_gives_back_the_message_that_it_could_not_hand_over() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let push = context.socket::<Push>().unwrap();
    // Refused, told so, and forgotten.
    assert!(Pin::new(&mut &push).start_send(Multipart::new()).is_err());
    Pin::new(&mut &push).start_send("accepted".into()).unwrap();
    context.shutdown();
    let error = push.close().now_or_never().unwrap().unwrap_err();
    assert_eq!(error.into_message(), "accepted".into());
}

#[test]
fn no_message_of_a_sink_is_lost_when_its_context_ends() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    // SAFETY: a context of our own, ended once, after its socket is closed.
    let raw = unsafe { zmq_sys::zmq_ctx_new() };
    // SAFETY: a new socket, owned by nobody else.
    let socket = unsafe { zmq::Socket::from_raw(zmq_sys::zmq_socket(raw, i32::try_from(zmq_sys::ZMQ_PUSH).unwrap())) };
    let push = context.adopt::<Any>(socket).unwrap();
    start_send(&push, "first").unwrap();
    assert!(poll_flush(&push).is_pending());
    // SAFETY: as above.
    unsafe { zmq_sys::zmq_ctx_shutdown(raw) };
    let second = start_send(&push, "second");
    let mut unsent = Vec::new();
    while let Some(message) = push.take_unsent() {
        unsent.push(message);
    }
    assert!(second.is_err());
    assert_eq!(unsent, ["first", "second"].map(Multipart::from));
    drop(push);
}

#[test]
fn an_empty_message_is_refused_by_a_sink_that_waits() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let push = context.socket::<Push>().unwrap();
    Pin::new(&mut &push).start_send("waits for a peer".into()).unwrap();
    let sent = push.send(Multipart::new()).now_or_never();
    assert!(sent.is_some_and(|sent| sent.is_err()), "an empty message waits in the line");
}

// 8. Contents and errors.

#[test]
fn recv_into_leaves_nothing_of_the_old_message_on_an_error() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let req = context.socket::<Req>().unwrap();
    let mut message = Multipart::from(["old", "frames"]);
    assert!(req.recv_into(&mut message).now_or_never().unwrap().is_err());
    assert!(message.iter().all(|frame| frame.is_empty()), "{message:?}");
}

#[test]
fn a_stream_of_errors_lets_the_loop_go_on() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let mut rep = context.socket::<Rep>().unwrap();
    let dealer = context.socket::<Dealer>().unwrap();
    dealer.connect(&rep.bind("inproc://errors").unwrap()).unwrap();
    dealer.try_send(["", "request"]).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut ready = 0;
    while ready < 10_000 && Pin::new(&mut rep).poll_next(&mut cx).is_ready() {
        ready += 1;
    }
    assert!(ready < 10_000, "a task that logs them and goes on never comes back");
}

// 9. A look that watches.

#[test]
fn what_is_swallowed_behind_the_last_look_is_looked_for_at_once() {
    for lent in [false, true] {
        let mut event_loop = EventLoop::<()>::try_new().unwrap();
        let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
        let pull = Rc::new(context.socket::<Pull>().unwrap());
        let push = context.zmq_context().socket(zmq::PUSH).unwrap();
        push.connect(&pull.bind("inproc://behind").unwrap()).unwrap();
        if lent {
            // It stays where it is: the reference may be alive for all that the crate knows.
            pull.get_ref().get_rcvhwm().unwrap();
        }
        let (count, waker) = Count::new();
        let mut recv = pull.recv();
        assert!(recv.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
        event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
        let (mut armed, meddler) = (true, Rc::clone(&pull));
        let swallow = move || {
            if std::mem::take(&mut armed) {
                push.send("swallowed", zmq::DONTWAIT).unwrap();
                meddler.with_ref(zmq::Socket::get_events).unwrap();
            }
        };
        event_loop.handle().insert_source(BeforeSleep(swallow), |(), (), ()| ()).unwrap();
        let begin = Instant::now();
        while count.get() == 0 {
            event_loop.dispatch(PATIENCE, &mut ()).unwrap();
            assert!(begin.elapsed() < PATIENCE, "the loop slept on it; lent: {lent}");
        }
    }
}

// 10. The end, and who is not called.

/// The first in the line was called, and its task does something else just now. The look that a lent socket is given
/// finds the end of the context before its descriptor tells.
#[test]
fn the_end_that_a_look_finds_wakes_also_who_stands_behind_one_that_takes_its_time() {
    let mut rig = Rig::new();
    // SAFETY: a context of our own; its sockets are closed at the end.
    let raw = unsafe { zmq_sys::zmq_ctx_new() };
    let open = |kind: u32| {
        // SAFETY: a new socket, owned by nobody else.
        unsafe { zmq::Socket::from_raw(zmq_sys::zmq_socket(raw, i32::try_from(kind).unwrap())) }
    };
    let (pull, push) = (open(zmq_sys::ZMQ_PULL), open(zmq_sys::ZMQ_PUSH));
    push.set_linger(0).unwrap();
    pull.bind("inproc://end").unwrap();
    push.connect("inproc://end").unwrap();
    let pull = rig.context.adopt::<Pull>(pull).unwrap();
    let ((first_count, first_waker), (second_count, second_waker)) = (Count::new(), Count::new());
    let (mut first, mut second) = (pull.recv(), pull.recv());
    assert!(first.poll_unpin(&mut Context::from_waker(&first_waker)).is_pending());
    assert!(second.poll_unpin(&mut Context::from_waker(&second_waker)).is_pending());
    rig.idle(Duration::from_millis(1));
    push.send("for the first", zmq::DONTWAIT).unwrap();
    rig.idle(Duration::from_millis(1));
    assert_eq!((first_count.get(), second_count.get()), (1, 0));
    let _lent = pull.get_ref();
    // SAFETY: as above.
    unsafe { zmq_sys::zmq_ctx_shutdown(raw) };
    let begin = Instant::now();
    while second_count.get() == 0 {
        assert!(begin.elapsed() < PATIENCE, "the second waits for ever");
        rig.turn(Duration::from_millis(100));
    }
    assert!(second.poll_unpin(&mut Context::from_waker(&second_waker)).is_ready());
    assert!(rig.idle(Duration::from_millis(100)) <= 3, "and the loop sleeps again");
}

/// As above, with a call that fails before libzmq is asked for what it is about.
#[test]
fn the_end_that_a_disconnect_finds_wakes_who_waits() {
    let mut rig = Rig::new();
    // SAFETY: a context of our own; its socket is closed at the end.
    let raw = unsafe { zmq_sys::zmq_ctx_new() };
    // SAFETY: a new socket, owned by nobody else.
    let router =
        unsafe { zmq::Socket::from_raw(zmq_sys::zmq_socket(raw, i32::try_from(zmq_sys::ZMQ_ROUTER).unwrap())) };
    let router = rig.context.adopt::<Router>(router).unwrap();
    let (count, waker) = Count::new();
    let mut received = router.recv();
    assert!(received.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    rig.idle(Duration::from_millis(1));
    // SAFETY: as above.
    unsafe { zmq_sys::zmq_ctx_shutdown(raw) };
    assert!(matches!(router.disconnect("inproc://nowhere").unwrap_err(), Error::Terminated));
    let begin = Instant::now();
    while count.get() == 0 {
        assert!(begin.elapsed() < PATIENCE, "it waits for ever");
        rig.turn(Duration::from_millis(100));
    }
    assert!(received.poll_unpin(&mut Context::from_waker(&waker)).is_ready());
}

// 11. The order of messages to one peer.

#[test]
fn nothing_overtakes_what_the_sink_of_a_router_holds_for_the_same_peer() {
    for through_send in [false, true] {
        let mut rig = Rig::new();
        let (router, peers) = router_and_full_peers(&mut rig, &["a", "b"]);
        let mut sink = &*router;
        sink.feed(["a", "first"].into()).now_or_never().unwrap().unwrap();
        assert!(drain(&peers[0]) > 0 && drain(&peers[1]) > 0);
        let try_to = |peer| has_room(router.try_send([peer, "second"]));
        let sent = if through_send { router.send(["a", "second"]).now_or_never().is_some() } else { try_to("a") };
        // There is room for one message at least, and it is not for the second.
        let texts: Vec<_> = std::iter::from_fn(|| peers[0].recv_multipart(zmq::DONTWAIT).ok()).flatten().collect();
        assert_eq!(texts[0], b"first");
        assert_eq!(texts.get(1).is_some(), sent);
        assert!(try_to("b"), "others do not wait");
    }
}

// 12. Aborts.

#[test]
fn a_connection_does_not_end_in_the_middle_of_a_message() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let pull = context.socket::<Pull>().unwrap();
    let push = context.zmq_context().socket(zmq::PUSH).unwrap();
    push.bind("inproc://half").unwrap();
    pull.connect("inproc://half").unwrap();
    push.send_multipart(["first", "second"], zmq::DONTWAIT).unwrap();
    pull.with_ref(|raw| raw.recv_msg(zmq::DONTWAIT)).unwrap();
    let refused = pull.disconnect("inproc://half").unwrap_err();
    assert!(matches!(refused, Error::Setup(SetupError::HalfReceived)), "{refused:?}");
    assert_eq!(pull.try_recv().unwrap(), Some("second".into()));
    pull.disconnect("inproc://half").unwrap();
    assert!(pull.try_recv().unwrap().is_none());
}

/// Asked whether there is a message, these kinds take its first frame out of its connection, to see. The loop asks at
/// each event.
#[test]
fn a_connection_may_end_while_a_message_of_it_waits() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    for (kind, peer) in [
        (zmq::SUB, zmq::PUB),
        (zmq::XSUB, zmq::PUB),
        (zmq::ROUTER, zmq::DEALER),
        (zmq::REP, zmq::DEALER),
        (zmq::DEALER, zmq::DEALER),
        (zmq::PULL, zmq::PUSH),
    ] {
        let open = || {
            let (socket, peer) =
                (context.zmq_context().socket(kind).unwrap(), context.zmq_context().socket(peer).unwrap());
            if kind == zmq::SUB {
                socket.set_subscribe(b"").unwrap();
            }
            (context.adopt::<Any>(socket).unwrap(), peer)
        };
        for delay in [false, true] {
            let ((socket, first), (_, second)) = (open(), open());
            for (number, peer) in [&first, &second].into_iter().enumerate() {
                let endpoint = format!("inproc://{kind:?}{number}{delay}");
                peer.bind(&endpoint).unwrap();
                socket.connect(&endpoint).unwrap();
            }
            if kind == zmq::XSUB {
                socket.try_send("\u{1}").unwrap();
            }
            let send = |peer: &zmq::Socket, text: &str| {
                if peer.get_socket_type().unwrap() == zmq::PUB {
                    // It has to take the subscription in.
                    peer.get_events().unwrap();
                }
                peer.send_multipart(["", text, "end"], zmq::DONTWAIT).unwrap();
            };
            send(&first, "first");
            // This is what the loop does at an event.
            assert!(socket.with_ref(zmq::Socket::get_events).unwrap().contains(zmq::POLLIN), "{kind:?}");
            socket.disconnect(&format!("inproc://{kind:?}0{delay}")).unwrap();
            if delay {
                assert!(socket.readable().now_or_never().is_some() || !begins_by_itself(kind), "{kind:?}");
            }
            send(&second, "second");
            let text = |message: &Multipart| message.iter().nth_back(1).map(|frame| frame.as_str().unwrap().to_owned());
            let mut received = Vec::new();
            while let Some(message) = socket.try_recv().unwrap() {
                assert_eq!(message.iter().last().unwrap().as_str(), Some("end"), "{kind:?}: torn");
                received.push(text(&message).unwrap());
                if kind == zmq::REP {
                    socket.try_send("reply").unwrap();
                }
            }
            let kept: &[&str] = if begins_by_itself(kind) { &["first", "second"] } else { &["second"] };
            assert_eq!(received, kept, "{kind:?}");
        }
    }
}

fn begins_by_itself(kind: zmq::SocketType) -> bool {
    !matches!(kind, zmq::DEALER | zmq::PULL)
}

/// With `ZMQ_IMMEDIATE`, libzmq throws away what is left of a message when its connection is lost, and aborts, or goes on
/// with another peer's.
#[test]
fn kinds_that_look_into_a_message_do_not_connect_with_immediate() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let connect = |kind, immediate, endpoint| {
        let socket = context.zmq_context().socket(kind).unwrap();
        socket.set_immediate(immediate).unwrap();
        context.adopt::<Any>(socket).unwrap().connect(endpoint)
    };
    for kind in [zmq::SUB, zmq::XSUB, zmq::ROUTER, zmq::REP] {
        let refused = connect(kind, true, "tcp://127.0.0.1:9").unwrap_err();
        assert!(
            matches!(refused, Error::Setup(SetupError::ImmediateReceiver { actual }) if actual == kind),
            "{refused:?}"
        );
        connect(kind, false, "tcp://127.0.0.1:9").unwrap();
        connect(kind, true, "inproc://somebody").unwrap();
    }
    for kind in [zmq::DEALER, zmq::REQ, zmq::PULL, zmq::PUSH, zmq::PAIR, zmq::PUB, zmq::XPUB, zmq::STREAM] {
        connect(kind, true, "tcp://127.0.0.1:9").unwrap();
    }
}

/// The others may have it. A receive processes commands once in a hundred frames, and one of them may be that loss.
#[test]
fn a_connection_with_immediate_may_be_lost_while_messages_wait() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    for adopted_connected in [false, true] {
        let socket = context.zmq_context().socket(zmq::DEALER).unwrap();
        socket.set_immediate(true).unwrap();
        let peer = context.zmq_context().socket(zmq::DEALER).unwrap();
        peer.bind("tcp://127.0.0.1:*").unwrap();
        let endpoint = peer.get_last_endpoint().unwrap().unwrap();
        if adopted_connected {
            socket.connect(&endpoint).unwrap();
        }
        let dealer = context.adopt::<Dealer>(socket).unwrap();
        if !adopted_connected {
            dealer.connect(&endpoint).unwrap();
        }
        peer.set_sndtimeo(5000).unwrap();
        for _ in 0..400 {
            peer.send_multipart(["one", "two", "three"], 0).unwrap();
        }
        let begin = Instant::now();
        while dealer.try_recv().unwrap().is_none() {
            assert!(begin.elapsed() < PATIENCE, "nothing comes");
        }
        let monitor = dealer.monitor().unwrap();
        // It connects again after it has let go of what it had.
        let mut again = Box::pin(
            monitor.filter(|event| std::future::ready(matches!(event, Ok(MonitorEvent::ConnectRetried { .. })))),
        );
        drop(peer);
        while again.next().now_or_never().is_none() {
            assert!(begin.elapsed() < PATIENCE, "it is not lost");
        }
        // The loss is announced. What is left of it is gone, or whole.
        let mut message = Multipart::new();
        while let Some(received) = dealer.try_recv().unwrap() {
            assert_eq!(received.len(), 3);
            if let Some(received) = dealer.recv_into(&mut message).now_or_never() {
                received.unwrap();
                assert_eq!(message.len(), 3);
            }
        }
    }
}

// 13. Futures that are kept when they are done.

#[test]
fn a_timeout_that_is_kept_after_its_end_holds_up_nobody() {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let push = rig.context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&pull.bind("inproc://kept").unwrap()).unwrap();
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    let mut kept = Box::pin(rig.context.timeout(Duration::ZERO, pull.recv()));
    assert!(kept.poll_unpin(&mut cx).is_pending());
    while count.get() == 0 {
        rig.turn(PATIENCE);
    }
    assert!(matches!(kept.poll_unpin(&mut cx), Poll::Ready(Err(_))));
    push.send("for the next", zmq::DONTWAIT).unwrap();
    let received = pull.recv().now_or_never();
    assert!(received.is_some(), "it stands behind one that is dead");
    assert!(matches!(kept.poll_unpin(&mut cx), Poll::Ready(Err(_))), "and that one says so again");
}

#[test]
fn a_proxy_that_is_kept_after_its_end_holds_up_nobody() {
    let mut rig = Rig::new();
    let other = AsyncZmqContext::new(&rig.handle()).unwrap();
    let back = rig.socket::<Dealer>("BACK", |_| Ok(()));
    let front = other.socket::<Dealer>().unwrap();
    let peer = rig.context.zmq_context().socket(zmq::DEALER).unwrap();
    peer.connect(&back.bind("inproc://kept").unwrap()).unwrap();
    front.bind("inproc://front").unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    // It has room for what comes, so it waits for that.
    let client = other.socket::<Dealer>().unwrap();
    client.connect("inproc://front").unwrap();
    let mut kept = proxy(&front, &*back);
    assert!(kept.poll_unpin(&mut cx).is_pending());
    other.shutdown();
    assert!(matches!(kept.poll_unpin(&mut cx), Poll::Ready(Err(Error::Terminated))));
    peer.send("for the next", zmq::DONTWAIT).unwrap();
    assert!(back.recv().now_or_never().is_some(), "it stands behind one that is dead");
}

// 14. Tasks that only ask.

/// What POLLOUT says of a mandatory ROUTER is no promise, and what a task does not take is there when it asks again.
#[test]
fn a_task_that_asks_and_takes_nothing_lets_the_loop_go_on() {
    let mut rig = Rig::new();
    let (router, peers) = router_and_full_peers(&mut rig, &["a"]);
    peers[0].send("not taken", zmq::DONTWAIT).unwrap();
    for reads in [false, true] {
        let asks = Cell::new(0_u64);
        let mut task = Box::pin(async {
            while asks.get() < 1_000_000 {
                asks.set(asks.get() + 1);
                if reads {
                    router.readable().await.unwrap();
                } else {
                    router.writable().await.unwrap();
                    assert!(router.try_send(["a", "no room"]).is_err_and(|error| error.is_full()));
                }
            }
        });
        for _ in 0..3 {
            rig.turn(Duration::ZERO);
            let before = asks.get();
            assert!(task.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending(), "reads: {reads}");
            assert!(asks.get() > before, "and has its turn in each");
        }
    }
}

// What holds.

#[test]
fn a_look_outlives_a_batch_that_another_source_cut_short() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (ping, pinged) = make_ping().unwrap();
    event_loop.handle().insert_source(Fails(pinged), |(), (), ()| ()).unwrap();
    let pull = context.socket::<Pull>().unwrap();
    let push = context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&pull.bind("inproc://cut").unwrap()).unwrap();
    let (count, waker) = Count::new();
    let mut recv = pull.recv();
    assert!(recv.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
    push.send("swallowed", zmq::DONTWAIT).unwrap();
    pull.with_ref(zmq::Socket::get_events).unwrap();
    ping.ping();
    assert!(event_loop.dispatch(Duration::ZERO, &mut ()).is_err(), "the batch was not cut short");
    assert!(turn_until(&mut event_loop, || count.get() > 0));
}

#[test]
fn a_called_waiter_that_is_dropped_with_its_task_passes_the_call_on_to_the_third() {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let push = rig.context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&pull.bind("inproc://three").unwrap()).unwrap();
    let wakers = [(); 3].map(|()| Count::new());
    let mut waits: Vec<_> = wakers
        .iter()
        .map(|(_, waker)| {
            let mut recv = pull.recv();
            assert!(recv.poll_unpin(&mut Context::from_waker(waker)).is_pending());
            recv
        })
        .collect();
    rig.idle(Duration::from_millis(1));
    push.send("one", zmq::DONTWAIT).unwrap();
    rig.idle(Duration::from_millis(1));
    assert_eq!(wakers.each_ref().map(|(count, _)| count.get()), [1, 0, 0]);
    drop(waits.remove(1));
    drop(waits.remove(0));
    assert_eq!(wakers.each_ref().map(|(count, _)| count.get()), [1, 0, 1]);
    assert!(waits[0].poll_unpin(&mut Context::from_waker(&wakers[2].1)).is_ready());
}

#[test]
fn a_socket_may_be_dropped_by_the_waker_that_its_own_event_wakes() {
    struct Drops;
    impl Wake for Drops {
        fn wake(self: Arc<Self>) {
            let kept = KEPT.take();
            drop(kept);
        }
    }
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let mut pull = context.socket::<Pull>().unwrap();
    let push = context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&pull.bind("inproc://drops").unwrap()).unwrap();
    let waker = Arc::new(Drops).into();
    assert!(Pin::new(&mut pull).poll_next(&mut Context::from_waker(&waker)).is_pending());
    KEPT.replace(vec![Box::new(pull)]);
    push.send("the last", zmq::DONTWAIT).unwrap();
    assert!(turn_until(&mut event_loop, || KEPT.with_borrow(Vec::is_empty)));
    for _ in 0..3 {
        event_loop.dispatch(Duration::from_millis(10), &mut ()).unwrap();
    }
}

/// The reader's failed try may have swallowed the sender's room, so it calls the sender; and that one is in the same task,
/// which polls both.
#[test]
fn a_task_that_sends_to_a_full_peer_and_receives_does_not_wake_itself_for_ever() {
    let mut rig = Rig::new();
    let (router, peers) = router_and_full_peers(&mut rig, &["full"]);
    let (polls, gone) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (count, tells) = (Rc::clone(&polls), Rc::clone(&gone));
    rig.spawn_aside(async move {
        let send = async {
            router.send(["full", "parked"]).await.unwrap();
            tells.set(true);
        };
        let mut both = Box::pin(futures::future::join(send, router.recv()));
        poll_fn(|cx| {
            count.set(count.get() + 1);
            both.as_mut().poll(cx)
        })
        .await
        .1
        .unwrap();
    });
    rig.idle(Duration::from_millis(50));
    let before = polls.get();
    rig.idle(Duration::from_millis(300));
    assert!(polls.get() - before <= 10, "{} polls while both wait", polls.get() - before);
    assert!(!gone.get());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !gone.get() {
        assert!(Instant::now() < deadline, "the sender has room and sleeps");
        drain(&peers[0]);
        rig.turn(Duration::from_millis(10));
    }
}
