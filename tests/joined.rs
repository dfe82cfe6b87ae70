//! Operations that share a task, under executors that poll it once in a turn of the loop.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod support;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::AsyncZmqContext;
use calloop_zmq::kind::{Dealer, Pull, Router};
use futures::{FutureExt, StreamExt};
use support::has_room;

/// How a task receives, each time that it is polled.
#[derive(Clone, Copy, Debug)]
enum Receives {
    Waiting,
    WithoutWaiting,
    /// With a future of its own each time.
    Anew,
}

#[test]
fn a_sender_to_a_full_peer_and_a_reader_in_one_task_do_not_keep_the_loop_turning() {
    it_rests(Receives::Waiting);
}

#[test]
fn nor_do_such_a_sender_and_who_receives_without_waiting() {
    it_rests(Receives::WithoutWaiting);
    it_rests(Receives::Anew);
}

/// `block_on` polls its task once, and then turns the loop: a task that wakes itself in each turn keeps it spinning.
fn it_rests(receives: Receives) {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let router = context.socket::<Router>().unwrap();
    let dealer = context.socket::<Dealer>().unwrap();
    router.with_ref(|socket| socket.set_router_mandatory(true).and_then(|()| socket.set_sndhwm(1))).unwrap();
    dealer.with_ref(|socket| socket.set_identity(b"peer").and_then(|()| socket.set_rcvhwm(1))).unwrap();
    router.bind("inproc://joined").unwrap();
    dealer.connect("inproc://joined").unwrap();
    while has_room(router.try_send(["peer", "message"])) {}
    for sender_first in [true, false] {
        let polls = Cell::new(0);
        let mut send = pin!(router.send(["peer", "one too many"]));
        let mut recv = router.recv();
        let both = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            let mut ready = sender_first && send.as_mut().poll(cx).is_ready();
            ready |= match receives {
                Receives::Waiting => recv.poll_unpin(cx).is_ready(),
                Receives::WithoutWaiting => router.try_recv().unwrap().is_some(),
                Receives::Anew => router.recv().poll_unpin(cx).is_ready(),
            };
            ready |= !sender_first && send.as_mut().poll(cx).is_ready();
            assert!(!ready, "the peer takes nothing, and sends nothing");
            Poll::<()>::Pending
        });
        let waited = context.timeout(Duration::from_millis(300), both);
        let waited = event_loop.block_on(waited, &mut (), |()| ()).unwrap().unwrap();
        assert!(waited.is_err());
        println!("{receives:?}, sender first: {sender_first}; {} polls", polls.get());
        assert!(polls.get() <= 20, "{receives:?}: {} polls in 300 ms, sender first: {sender_first}", polls.get());
    }
}

/// A Stream that has tried is not called when the line is gone: only one that the line kept from trying.
#[test]
fn nor_do_a_stream_and_a_receive_that_is_made_anew_at_each_poll() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let pull = context.socket::<Pull>().unwrap();
    for stream_first in [true, false] {
        let polls = Cell::new(0);
        let both = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            let mut stream = &pull;
            let mut ready = stream_first && stream.poll_next_unpin(cx).is_ready();
            let mut recv = pull.recv();
            ready |= recv.poll_unpin(cx).is_ready();
            ready |= !stream_first && stream.poll_next_unpin(cx).is_ready();
            assert!(!ready, "nobody sends anything");
            Poll::<()>::Pending
        });
        let waited = context.timeout(Duration::from_millis(300), both);
        let waited = event_loop.block_on(waited, &mut (), |()| ()).unwrap().unwrap();
        assert!(waited.is_err());
        assert!(polls.get() <= 20, "{} polls in 300 ms, Stream first: {stream_first}", polls.get());
    }
}
