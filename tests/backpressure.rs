//! Who sends to a full peer waits, holds no more than one message, and costs nothing while it waits.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod common;

use std::rc::Rc;
use std::time::Duration;

use calloop_zmq::kind::{Pull, Push, Router};
use calloop_zmq::{AsyncZmqSocket, Multipart};
use common::{Rig, has_room, number, numbered};
use futures::{FutureExt, SinkExt};

const TCP: &str = "tcp://127.0.0.1:*";
const IDLE: Duration = Duration::from_millis(300);
/// The event that parked it may be followed by others that change nothing.
/// In which senders that wait for their peers are called once more, a few milliseconds after the last try.
const SETTLE: Duration = Duration::from_millis(50);
const IDLE_TURNS: u64 = 3;

#[test]
fn a_sink_holds_one_message_inproc() {
    // inproc adds the two marks up.
    a_sink_holds_one_message("inproc://sink", Some(2));
}

#[test]
fn a_sink_holds_one_message_tcp() {
    a_sink_holds_one_message(TCP, None);
}

fn a_sink_holds_one_message(endpoint: &str, queue: Option<u64>) {
    let mut rig = Rig::new();
    let (push, peer, taken) = stopped_peer(&mut rig, endpoint);
    if let Some(queue) = queue {
        assert_eq!(taken, queue, "libzmq's own queue");
    }
    // Full: nobody can slip a message past libzmq now. The Sink takes one and says no to the next.
    let mut sink = &*push;
    sink.feed(large(taken)).now_or_never().expect("the Sink has room for one").unwrap();
    assert!(sink.feed(large(u64::MAX)).now_or_never().is_none(), "the Sink took two");
    assert!(sink.flush().now_or_never().is_none(), "libzmq had room");

    let (flusher, probe) = (Rc::clone(&push), rig.probe("flush"));
    let waiting = Rc::clone(&probe);
    rig.spawn(async move { probe.wait((&*flusher).flush()).await.unwrap() });
    rig.run_until(|| waiting.waits());
    let turns = rig.idle(IDLE);
    assert!(turns <= IDLE_TURNS, "a parked Sink cost {turns} turns");
    assert_eq!(waiting.parked(), 1);

    // The peer drains: all that was accepted arrives, in order.
    for n in 0..taken {
        assert_eq!(number(&peer.recv_msg(0).unwrap()), n);
    }
    rig.run();
    assert_eq!(number(&peer.recv_msg(0).unwrap()), taken);
    rig.idle(Duration::ZERO);
    assert!(peer.recv_msg(zmq::DONTWAIT).is_err(), "the message that was refused arrived");
}

#[test]
fn a_socket_that_is_the_sink_itself_holds_one_message_and_is_not_closed_before_it_is_gone() {
    let rig = Rig::new();
    let mut push = rig.context.socket::<Push>().unwrap();
    push.bind("inproc://own").unwrap();
    // Without a peer there is no room.
    push.feed("one".into()).now_or_never().expect("the Sink has room for one").unwrap();
    assert!(push.feed("two".into()).now_or_never().is_none(), "the Sink took two");
    assert!(SinkExt::close(&mut push).now_or_never().is_none(), "libzmq had room");

    let pull = rig.context.socket::<Pull>().unwrap();
    pull.connect("inproc://own").unwrap();
    SinkExt::close(&mut push).now_or_never().expect("there is room").unwrap();
    assert_eq!(pull.try_recv().unwrap(), Some("one".into()));
    assert_eq!(pull.try_recv().unwrap(), None, "the message that was refused arrived");
}

#[test]
fn a_parked_sender_costs_nothing_and_goes_on_inproc() {
    a_parked_sender_costs_nothing_and_goes_on("inproc://sender");
}

#[test]
fn a_parked_sender_costs_nothing_and_goes_on_tcp() {
    a_parked_sender_costs_nothing_and_goes_on(TCP);
}

fn a_parked_sender_costs_nothing_and_goes_on(endpoint: &str) {
    const MORE: u64 = 100;
    let mut rig = Rig::new();
    let (push, peer, taken) = stopped_peer(&mut rig, endpoint);
    let (sender, probe) = (Rc::clone(&push), rig.probe("sender"));
    let waiting = Rc::clone(&probe);
    rig.spawn(async move {
        for n in taken..taken + MORE {
            probe.wait(sender.send(large(n))).await.unwrap();
        }
    });
    rig.run_until(|| waiting.waits());
    let turns = rig.idle(IDLE);
    assert!(turns <= IDLE_TURNS, "a parked sender cost {turns} turns");
    assert_eq!((waiting.done(), waiting.parked()), (0, 1));

    let drained = std::thread::spawn(move || {
        for n in 0..taken + MORE {
            assert_eq!(number(&peer.recv_msg(0).unwrap()), n);
        }
    });
    rig.run();
    drained.join().unwrap();
    assert_eq!(waiting.done(), MORE);
}

/// A PUSH with a high-water mark of 1, its peer that receives nothing by itself, and the number of messages after which
/// it was full, with everything between the two at rest.
fn stopped_peer(rig: &mut Rig, endpoint: &str) -> (Rc<AsyncZmqSocket<Push>>, zmq::Socket, u64) {
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    let peer = rig.context.zmq_context().socket(zmq::PULL).unwrap();
    peer.set_rcvhwm(1).unwrap();
    peer.set_rcvtimeo(i32::try_from(common::STALL.as_millis()).unwrap()).unwrap();
    peer.connect(&push.bind(endpoint).unwrap()).unwrap();
    let (filler, mut taken) = (Rc::clone(&push), 0);
    let taken = rig.complete({
        let context = rig.context.clone();
        async move {
            // Full for a while, and not only for now: tcp has threads and buffers in between, and a busy machine is slow
            // to make use of them.
            let mut quiet = 0;
            while quiet < 4 {
                match context.timeout(Duration::from_millis(150), filler.send(large(taken))).await {
                    Ok(sent) => {
                        sent.unwrap();
                        taken += 1;
                        quiet = 0;
                    }
                    Err(_) => quiet += 1,
                }
            }
            taken
        }
    });
    (push, peer, taken)
}

/// Fills the kernel's buffers soon.
fn large(number: u64) -> Multipart {
    let mut bytes = vec![0; 256 * 1024];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

#[test]
fn a_router_sender_parked_on_a_full_peer_costs_nothing_while_others_go_on() {
    const MESSAGES: u64 = 1000;
    let mut rig = Rig::new();
    let router = rig.socket::<Router>("ROUTER", |raw| {
        raw.set_router_mandatory(true)?;
        raw.set_sndhwm(1)
    });
    let endpoint = router.bind("inproc://router").unwrap();
    let [full, free] = ["full", "free"].map(|name| {
        let peer = rig.context.zmq_context().socket(zmq::DEALER).unwrap();
        peer.set_identity(name.as_bytes()).unwrap();
        peer.set_rcvhwm(1).unwrap();
        peer.connect(&endpoint).unwrap();
        peer.send("hello", zmq::DONTWAIT).unwrap();
        assert!(router.try_recv().unwrap().is_some());
        peer
    });
    let mut queued = 0;
    while has_room(router.try_send(["full", "fill"])) {
        queued += 1;
    }
    let (sender, probe) = (Rc::clone(&router), rig.probe("sender to the full peer"));
    let parked = Rc::clone(&probe);
    rig.spawn(async move { probe.wait(sender.send(["full", "last"])).await.unwrap() });
    rig.run_until(|| parked.waits());
    let turns = rig.idle(IDLE);
    assert!(turns <= IDLE_TURNS, "a parked ROUTER sender cost {turns} turns");
    assert_eq!(parked.parked(), 1);

    // Others go on, through futures and tries.
    let (sender, probe) = (Rc::clone(&router), rig.probe("sender to the free peer"));
    let going = Rc::clone(&probe);
    rig.spawn(async move {
        for n in 0..MESSAGES {
            let mut message = numbered(n);
            message.push_front("free");
            probe.wait(sender.send(message)).await.unwrap();
        }
    });
    let received = std::thread::spawn(move || {
        for n in 0..MESSAGES {
            assert_eq!(number(&free.recv_msg(0).unwrap()), n);
        }
        free
    });
    rig.run_until(|| going.done() == MESSAGES);
    let free = received.join().unwrap();
    assert_eq!(parked.done(), 0);
    assert!(router.try_send(["free", "tried"]).is_ok());
    assert_eq!(free.recv_msg(0).unwrap().as_str(), Some("tried"));
    // The last of those may announce itself, and senders that tried beside each other settle. Then there is rest again.
    rig.idle(SETTLE);
    let turns = rig.idle(IDLE);
    assert!(turns <= IDLE_TURNS, "a parked ROUTER sender cost {turns} turns after others went on");

    for _ in 0..queued {
        assert_eq!(full.recv_msg(zmq::DONTWAIT).unwrap().as_str(), Some("fill"));
    }
    rig.run();
    assert_eq!(full.recv_msg(zmq::DONTWAIT).unwrap().as_str(), Some("last"));
    assert!(free.recv_msg(zmq::DONTWAIT).is_err(), "a message went astray");
}
