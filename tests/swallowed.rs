//! Wake-ups that are easily lost, each in the fewest steps that lose it: no chance, no threads.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Context;
use std::time::{Duration, Instant};

use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::kind::{Dealer, Pull, Push, Router};
use calloop_zmq::{AsyncZmqSocket, Multipart};
use common::{BeforeSleep, Probe, Rig, drain, has_room, router_and_full_peers};
use futures::task::ArcWake;
use futures::{FutureExt, SinkExt};

/// Starts a send that must wait, and turns the loop until it does.
fn park_send(rig: &mut Rig, router: &Rc<AsyncZmqSocket<Router>>, peer: &'static str) -> Rc<Probe> {
    let (sender, probe) = (Rc::clone(router), rig.probe(peer));
    let waiting = Rc::clone(&probe);
    rig.spawn(async move { probe.wait(sender.send([peer, "parked"])).await.unwrap() });
    rig.run_until(|| waiting.waits());
    rig.idle(Duration::from_millis(1));
    waiting
}

#[test]
fn a_router_sender_wakes_when_another_ones_attempt_swallowed_its_room() {
    let mut rig = Rig::new();
    let (router, peers) = router_and_full_peers(&mut rig, &["a", "b"]);
    let waiting = park_send(&mut rig, &router, "a");
    assert!(drain(&peers[0]) > 0);
    assert!(rig.fd_readable("ROUTER"), "nothing to swallow");
    assert!(router.try_send(["b", "full"]).is_err_and(|error| error.is_full()));
    assert!(!rig.fd_readable("ROUTER"), "nothing swallowed");
    rig.run();
    assert_eq!(waiting.done(), 1);
}

#[test]
fn a_router_sender_wakes_when_somebody_asked_whether_the_socket_is_writable() {
    let mut rig = Rig::new();
    let (router, peers) = router_and_full_peers(&mut rig, &["a"]);
    park_send(&mut rig, &router, "a");
    assert!(drain(&peers[0]) > 0);
    assert!(rig.fd_readable("ROUTER"), "nothing to swallow");
    router.writable().now_or_never().unwrap().unwrap();
    rig.run();
}

#[test]
fn a_router_sender_wakes_while_the_bare_socket_is_kept() {
    let mut rig = Rig::new();
    let (router, peers) = router_and_full_peers(&mut rig, &["a"]);
    let kept = router.get_ref();
    park_send(&mut rig, &router, "a");
    // Nobody calls anything on the bare socket: the room is announced, and the look that the loan causes swallows it.
    assert!(drain(&peers[0]) > 0);
    assert!(rig.fd_readable("ROUTER"), "nothing to swallow");
    rig.run();
    kept.get_events().unwrap();
}

#[test]
fn a_router_sender_wakes_when_the_kept_bare_socket_swallowed_its_room() {
    let mut rig = Rig::new();
    let (router, peers) = router_and_full_peers(&mut rig, &["a"]);
    let kept = router.get_ref();
    park_send(&mut rig, &router, "a");
    assert!(drain(&peers[0]) > 0);
    assert!(rig.fd_readable("ROUTER"), "nothing to swallow");
    kept.get_events().unwrap();
    assert!(!rig.fd_readable("ROUTER"), "nothing swallowed");
    rig.run();
}

/// A PUSH that is full, and a Sink's flush that waits for room for the message that it holds.
fn park_flush(rig: &mut Rig) -> (Rc<AsyncZmqSocket<Push>>, zmq::Socket) {
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    let pull = rig.context.zmq_context().socket(zmq::PULL).unwrap();
    pull.set_rcvhwm(1).unwrap();
    pull.connect(&push.bind("inproc://sink").unwrap()).unwrap();
    while has_room(push.try_send("fill")) {}
    let (sink, probe) = (Rc::clone(&push), rig.probe("flush"));
    let waiting = Rc::clone(&probe);
    rig.spawn(async move { probe.wait(SinkExt::send(&mut &*sink, Multipart::from("held"))).await.unwrap() });
    rig.run_until(|| waiting.waits());
    rig.idle(Duration::from_millis(1));
    (push, pull)
}

#[test]
fn a_flush_ends_when_somebody_else_sent_what_the_sink_held() {
    let mut rig = Rig::new();
    let (push, pull) = park_flush(&mut rig);
    pull.recv_msg(zmq::DONTWAIT).unwrap();
    assert!(rig.fd_readable("PUSH"));
    // Hands over what the Sink held, which takes the room; its own message finds none.
    assert!(push.try_send("too late").is_err_and(|error| error.is_full()));
    assert!(!rig.fd_readable("PUSH"));
    rig.run();
}

#[test]
fn a_flush_ends_when_what_the_sink_held_is_taken_back() {
    let mut rig = Rig::new();
    let (push, _pull) = park_flush(&mut rig);
    assert!(push.take_unsent().is_some());
    rig.run();
}

thread_local! {
    static ON_WAKE: RefCell<Option<Box<dyn FnOnce()>>> = RefCell::default();
}

/// A waker that runs its task at once, as an executor without a queue does.
struct Inline;

impl ArcWake for Inline {
    fn wake_by_ref(_: &Arc<Self>) {
        if let Some(run) = ON_WAKE.take() {
            run();
        }
    }
}

/// A waker to ask whether it was woken.
#[derive(Default)]
struct Flag(AtomicBool);

impl ArcWake for Flag {
    fn wake_by_ref(this: &Arc<Self>) {
        this.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_sender_wakes_when_the_reader_that_it_woke_swallowed_its_room() {
    let mut rig = Rig::new();
    let dealer = rig.socket::<Dealer>("DEALER", |raw| raw.set_sndhwm(1));
    let peer = rig.context.zmq_context().socket(zmq::DEALER).unwrap();
    peer.set_rcvhwm(1).unwrap();
    peer.connect(&dealer.bind("inproc://inline").unwrap()).unwrap();
    while has_room(dealer.try_send("fill")) {}

    // The reader, by hand: it parks, and when woken receives all there is. By then the peer has made room.
    let waker = futures::task::waker(Arc::new(Inline));
    let mut cx = Context::from_waker(&waker);
    let reader = Rc::clone(&dealer);
    // Leaked, so that the wait goes on when the waker has run.
    let reader: &'static AsyncZmqSocket<Dealer> = Box::leak(Box::new(reader));
    let mut first = reader.recv();
    assert!(first.poll_unpin(&mut cx).is_pending());
    peer.send("for the reader", zmq::DONTWAIT).unwrap();
    let again = waker.clone();
    ON_WAKE.replace(Some(Box::new(move || {
        assert!(drain(&peer) > 0);
        let mut cx = Context::from_waker(&again);
        assert!(first.poll_unpin(&mut cx).is_ready());
        let mut second = reader.recv();
        assert!(second.poll_unpin(&mut cx).is_pending());
        // The peer stays, and so does the wait.
        Box::leak(Box::new((peer, second)));
    })));

    let woken = Arc::new(Flag::default());
    let waker = futures::task::waker(Arc::clone(&woken));
    let mut send = dealer.send("parked");
    assert!(send.poll_unpin(&mut Context::from_waker(&waker)).is_pending());
    assert!(ON_WAKE.take().is_none(), "the reader did not run");
    rig.run_until(|| woken.0.load(Ordering::Relaxed));
}

#[test]
fn a_reader_wakes_when_another_sources_before_sleep_swallowed_its_message() {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let push = rig.context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&pull.bind("inproc://late").unwrap()).unwrap();
    let armed = Rc::new(Cell::new(false));
    let (meddler, arm) = (Rc::clone(&pull), Rc::clone(&armed));
    // Inserted after the context, so that it runs after the context has looked.
    let late = BeforeSleep(move || {
        if arm.take() {
            assert!(meddler.try_recv().unwrap().is_some());
        }
    });
    rig.handle().insert_source(late, |(), (), ()| ()).unwrap();
    let probe = rig.probe("receiver");
    let parked = Rc::clone(&probe);
    rig.spawn(async move { drop(probe.wait(pull.recv()).await.unwrap()) });
    rig.run_until(|| parked.waits());
    rig.idle(Duration::from_millis(1));
    push.send("for the meddler", zmq::DONTWAIT).unwrap();
    push.send("for the reader", zmq::DONTWAIT).unwrap();
    armed.set(true);
    rig.run();
    assert!(!armed.get());
}

/// A hub that takes the loop for asleep while it is not wakes it for what it would look at anyway.
#[test]
fn what_a_call_owes_while_the_loop_is_awake_does_not_wake_it_again() {
    const WHILE: Duration = Duration::from_millis(100);
    let mut rig = Rig::new();
    let dealer = rig.socket::<Dealer>("DEALER", |_| Ok(()));
    let peer = rig.context.zmq_context().socket(zmq::DEALER).unwrap();
    peer.connect(&dealer.bind("inproc://awake").unwrap()).unwrap();
    let (reader, probe) = (Rc::clone(&dealer), rig.probe("reader"));
    let waiting = Rc::clone(&probe);
    rig.spawn_aside(async move { drop(probe.wait(reader.recv()).await) });
    rig.run_until(|| waiting.waits());
    rig.idle(Duration::from_millis(10));
    let sent = Rc::new(Cell::new(false));
    let (sends, sender) = (Rc::clone(&sent), dealer);
    let sends = move |_, (): &mut (), (): &mut ()| {
        sends.set(has_room(sender.try_send("for a reader, a look is owed")));
        TimeoutAction::Drop
    };
    rig.handle().insert_source(Timer::immediate(), sends).unwrap();
    while !sent.get() {
        rig.turn(WHILE);
    }
    let begin = Instant::now();
    rig.turn(WHILE);
    assert!(begin.elapsed() > WHILE * 9 / 10, "woken after {:?}, for nothing", begin.elapsed());
}
