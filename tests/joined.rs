//! Operations that share a task, under executors that poll it once in a turn of the loop.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Dealer, Router};
use calloop_zmq::{AsyncZmqContext, Multipart};

/// `block_on` polls its task once, and then turns the loop: a task that wakes itself in each turn keeps it spinning.
#[test]
fn a_sender_to_a_full_peer_and_a_reader_in_one_task_do_not_keep_the_loop_turning() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let router = context.socket::<Router>().unwrap();
    let dealer = context.socket::<Dealer>().unwrap();
    router.with_ref(|socket| socket.set_router_mandatory(true).and_then(|()| socket.set_sndhwm(1))).unwrap();
    dealer.with_ref(|socket| socket.set_identity(b"peer").and_then(|()| socket.set_rcvhwm(1))).unwrap();
    router.bind("inproc://joined").unwrap();
    dealer.connect("inproc://joined").unwrap();
    while router.try_send(["peer", "message"]).unwrap().is_none() {}
    for sender_first in [true, false] {
        let polls = Cell::new(0);
        let mut send = pin!(router.send(["peer", "one too many"]));
        let mut recv = pin!(router.recv());
        let both = poll_fn(|cx| {
            polls.set(polls.get() + 1);
            let mut ready = sender_first && send.as_mut().poll(cx).is_ready();
            ready |= recv.as_mut().poll(cx).is_ready();
            ready |= !sender_first && send.as_mut().poll(cx).is_ready();
            assert!(!ready, "the peer takes nothing, and sends nothing");
            std::task::Poll::<Multipart>::Pending
        });
        let waited = context.timeout(Duration::from_millis(300), both);
        let waited = event_loop.block_on(waited, &mut (), |()| ()).unwrap().unwrap();
        assert!(waited.is_err());
        println!("sender first: {sender_first}; {} polls", polls.get());
        assert!(polls.get() <= 20, "{} polls in 300 ms, sender first: {sender_first}", polls.get());
    }
}
