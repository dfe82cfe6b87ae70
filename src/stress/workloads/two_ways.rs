//! DEALER and ROUTER, one task for each direction: every call of one direction can swallow what the other waits for.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::{FutureExt, StreamExt};

use crate::AsyncZmqSocket;
use crate::kind::{CanRecv, CanSend, Dealer, Router};
use crate::stress::books::{InOrder, number, numbered};
use crate::stress::rig::{Moment, Rig, has_room, pause};

/// Both are ours.
pub(super) fn dealer_and_router(rig: &mut Rig) {
    let router = rig.socket::<Router>("ROUTER", |raw| {
        raw.set_router_mandatory(true)?;
        hwm_2(raw)
    });
    let dealer = rig.socket::<Dealer>("DEALER", |raw| {
        raw.set_identity(b"d")?;
        hwm_2(raw)
    });
    dealer.connect(&router.bind("inproc://both").unwrap()).unwrap();
    // The router must know its peer.
    assert!(dealer.try_send("hello").is_ok());
    assert!(router.try_recv().unwrap().is_some());
    let messages = rig.messages / 2;
    sends(rig, &dealer, messages, None);
    receives(rig, &dealer, messages);
    sends(rig, &router, messages, Some("d"));
    receives(rig, &router, messages);
}

/// The peer takes and sends at any moment.
pub(super) fn dealer(rig: &mut Rig) {
    let dealer = rig.socket::<Dealer>("DEALER", hwm_2);
    let peer = rig.raw(zmq::DEALER, hwm_2);
    peer.connect(&dealer.bind("inproc://dealer").unwrap()).unwrap();
    let messages = rig.messages / 2;
    sends(rig, &dealer, messages, None);
    receives(rig, &dealer, messages);
    let (arrivals, dice, mut sent) = (InOrder::new(&rig.shared), rig.dice.clone(), 0_u64);
    rig.peer(move |_| {
        for _ in 0..=dice.below(2) {
            if let Ok(frame) = peer.recv_msg(zmq::DONTWAIT) {
                arrivals.arrived(number(&frame));
            }
            if sent < messages && peer.send(&sent.to_le_bytes()[..], zmq::DONTWAIT).is_ok() {
                sent += 1;
            }
        }
    });
}

/// A writer, a reader that gives up and rests until something moves, and somebody who swallows what is for either of them:
/// also between the look before the sleep and what comes of it.
pub(super) fn dealer_with_meddler(rig: &mut Rig) {
    let dealer = rig.socket::<Dealer>("DEALER", hwm_2);
    let peer = rig.raw(zmq::DEALER, hwm_2);
    peer.connect(&dealer.bind("inproc://meddler").unwrap()).unwrap();
    sends(rig, &dealer, rig.messages, None);
    let (reader, shared, dice, probe) =
        (Rc::clone(&dealer), Rc::clone(&rig.shared), rig.dice.clone(), rig.probe("reader"));
    rig.executor.spawn(async move {
        loop {
            let mut waits = false;
            let mut receive = reader.recv();
            let wait = poll_fn(|cx| {
                if waits && dice.one_in(2) {
                    return Poll::Ready(None);
                }
                waits = true;
                receive.poll_unpin(cx).map(Some)
            });
            if probe.look_on(wait).await.is_none() {
                drop(receive);
                shared.pulse().await;
            }
        }
    });
    let (arrivals, dice, shared, mut last) =
        (InOrder::new(&rig.shared), rig.dice.clone(), Rc::clone(&rig.shared), u64::MAX);
    rig.peer(move |moment| {
        let (way, mut acted) = (dice.below(3), false);
        if way != 0 {
            acted = drain(&peer, &arrivals);
        }
        // Once for each message of the writer: its own progress is what shows.
        if way != 1 && last != shared.progress() && peer.send("for the reader", zmq::DONTWAIT).is_ok() {
            (last, acted) = (shared.progress(), true);
        }
        if acted && moment.is_ours() && dice.one_in(2) {
            assert!(dealer.with_ref(zmq::Socket::get_events).is_ok());
        }
    });
}

/// A writer whose peer makes room, and receives that fail: each of them swallows the announcement of the room.
pub(super) fn failing_receives(rig: &mut Rig) {
    let dealer = rig.socket::<Dealer>("DEALER", hwm_2);
    let peer = rig.raw(zmq::DEALER, hwm_2);
    peer.connect(&dealer.bind("inproc://room").unwrap()).unwrap();
    sends(rig, &dealer, rig.messages, None);
    let (arrivals, dice) = (InOrder::new(&rig.shared), rig.dice.clone());
    rig.peer(move |moment| {
        if drain(&peer, &arrivals) && moment.is_ours() {
            match dice.below(4) {
                0 => assert!(dealer.try_recv().unwrap().is_none()),
                1 => assert!(dealer.recv().now_or_never().is_none()),
                2 => assert!((&*dealer).next().now_or_never().is_none()),
                _ => {}
            }
        }
    });
}

/// A reader whose peer sends, and sends that fail: each of them may swallow the announcement of the message.
pub(super) fn failing_sends(rig: &mut Rig) {
    let dealer = rig.socket::<Dealer>("DEALER", hwm_2);
    let peer = rig.raw(zmq::DEALER, hwm_2);
    peer.connect(&dealer.bind("inproc://full").unwrap()).unwrap();
    while has_room(dealer.try_send("fill")) {}
    receives(rig, &dealer, rig.messages);
    let (dice, shared, messages, mut sent) = (rig.dice.clone(), Rc::clone(&rig.shared), rig.messages, 0_u64);
    rig.peer(move |moment| {
        if sent > shared.progress() || sent == messages {
            return;
        }
        if dice.one_in(16) {
            // Then a send processes commands before it says EAGAIN.
            pause(Duration::from_millis(3));
        }
        // It processes commands: the room that the reader made.
        peer.get_events().unwrap();
        peer.send(&sent.to_le_bytes()[..], zmq::DONTWAIT).unwrap();
        sent += 1;
        if moment.is_ours() {
            match dice.below(3) {
                0 => assert!(dealer.try_send("no room").is_err_and(|error| error.is_full())),
                1 => assert!(dealer.send("no room").now_or_never().is_none()),
                _ => {}
            }
        }
    });
}

/// A full writer that is polled for nothing, and finds what is for the reader; the peer makes room while the reader runs.
/// Once for each message of the writer: its own progress is what shows.
pub(super) fn polled_for_nothing(rig: &mut Rig) {
    let dealer = rig.socket::<Dealer>("DEALER", hwm_2);
    let peer = rig.raw(zmq::DEALER, hwm_2);
    peer.connect(&dealer.bind("inproc://nothing").unwrap()).unwrap();
    let (writer, probe, messages) = (Rc::clone(&dealer), rig.probe("writer"), rig.messages);
    let waker = Rc::new(RefCell::new(Waker::noop().clone()));
    let kept = Rc::clone(&waker);
    rig.spawn(async move {
        for n in 0..messages {
            let mut send = writer.send(numbered(n));
            let wait = poll_fn(|cx| {
                kept.replace(cx.waker().clone());
                send.poll_unpin(cx)
            });
            probe.wait(wait).await.unwrap();
        }
    });
    rig.executor.spawn(async move {
        loop {
            drop(dealer.recv().await.unwrap());
        }
    });
    let (arrivals, shared) = (InOrder::new(&rig.shared), Rc::clone(&rig.shared));
    let (mut seen, mut sent_at, mut turns) = (u64::MAX, u64::MAX, 0);
    rig.peer(move |moment| {
        let progress = shared.progress();
        if moment == Moment::Turn {
            turns = if seen == progress { turns + 1 } else { 0 };
            seen = progress;
            match turns {
                // What its successes owe is paid first.
                0 => {}
                1 => {
                    // It may run at once, and put another one there.
                    let waker = waker.borrow().clone();
                    waker.wake();
                }
                _ => _ = drain(&peer, &arrivals),
            }
        } else if turns > 0 && sent_at != progress {
            if peer.send("for the reader", zmq::DONTWAIT).is_ok() {
                sent_at = progress;
            }
        } else if turns > 0 {
            drain(&peer, &arrivals);
        }
    });
}

/// Sends that succeed, and swallow what the reader waits for: the peer sends just before.
pub(super) fn roomy_dealer(rig: &mut Rig) {
    let dealer = rig.socket::<Dealer>("DEALER", |raw| raw.set_sndhwm(0));
    let peer = rig.raw(zmq::DEALER, |raw| raw.set_rcvhwm(0));
    peer.connect(&dealer.bind("inproc://roomy").unwrap()).unwrap();
    receives(rig, &dealer, rig.messages);
    let (dice, shared, messages, mut sent) = (rig.dice.clone(), Rc::clone(&rig.shared), rig.messages, 0_u64);
    rig.peer(move |moment| {
        if !moment.is_ours() || sent > shared.progress() || sent == messages {
            return;
        }
        // A send processes commands when the last one that did is a while ago.
        if dice.one_in(8) {
            pause(Duration::from_millis(3));
        }
        peer.send(&sent.to_le_bytes()[..], zmq::DONTWAIT).unwrap();
        sent += 1;
        assert!(dealer.try_send("now").is_ok());
        while peer.recv_msg(zmq::DONTWAIT).is_ok() {}
    });
}

/// Takes all that is there. Answers whether there was any.
fn drain(peer: &zmq::Socket, arrivals: &InOrder) -> bool {
    let before = arrivals.count();
    while let Ok(frame) = peer.recv_msg(zmq::DONTWAIT) {
        arrivals.arrived(number(&frame));
    }
    arrivals.count() != before
}

fn hwm_2(raw: &zmq::Socket) -> zmq::Result<()> {
    raw.set_sndhwm(2)?;
    raw.set_rcvhwm(2)
}

fn sends<K: CanSend>(rig: &mut Rig, socket: &Rc<AsyncZmqSocket<K>>, messages: u64, to: Option<&'static str>) {
    let (socket, probe) = (Rc::clone(socket), rig.probe(if to.is_some() { "ROUTER sends" } else { "DEALER sends" }));
    rig.spawn(async move {
        for n in 0..messages {
            let mut message = numbered(n);
            if let Some(to) = to {
                message.push_front(to);
            }
            probe.wait(socket.send(message)).await.unwrap();
        }
    });
}

fn receives<K: CanRecv>(rig: &mut Rig, socket: &Rc<AsyncZmqSocket<K>>, messages: u64) {
    let (socket, probe, arrivals) = (Rc::clone(socket), rig.probe("receiver"), InOrder::new(&rig.shared));
    rig.spawn(async move {
        for _ in 0..messages {
            let message = probe.wait(socket.recv()).await.unwrap();
            arrivals.arrived(number(message.last().unwrap()));
        }
    });
}
