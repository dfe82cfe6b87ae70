//! PUSH and PULL.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use futures::SinkExt;

use crate::AsyncZmqSocket;
use crate::kind::{Pull, Push};
use crate::stress::books::{InOrder, number, numbered};
use crate::stress::rig::Rig;

/// A PUSH that parks for nearly each message, and a peer that makes room at any moment.
pub(super) fn push(rig: &mut Rig) {
    let push = push_to_peer(rig);
    let (probe, messages) = (rig.probe("sender"), rig.messages);
    rig.spawn(async move {
        for n in 0..messages {
            probe.wait(push.send(numbered(n))).await.unwrap();
        }
    });
}

/// The same with a Sink, and with futures beside it: what was accepted first goes first.
pub(super) fn sink(rig: &mut Rig) {
    let push = push_to_peer(rig);
    let (probe, messages, dice) = (rig.probe("sender"), rig.messages, rig.dice.clone());
    rig.spawn(async move {
        let mut sink = &*push;
        for n in 0..messages {
            match dice.below(4) {
                0 => probe.wait(push.send(numbered(n))).await.unwrap(),
                1 => probe.wait(SinkExt::send(&mut sink, numbered(n))).await.unwrap(),
                _ => probe.wait(sink.feed(numbered(n))).await.unwrap(),
            }
        }
        probe.wait(sink.flush()).await.unwrap();
    });
}

fn push_to_peer(rig: &mut Rig) -> Rc<AsyncZmqSocket<Push>> {
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    let peer = rig.raw(zmq::PULL, |raw| raw.set_rcvhwm(1));
    peer.connect(&push.bind("inproc://push").unwrap()).unwrap();
    let (counted, dice, messages) = (InOrder::new(&rig.shared), rig.dice.clone(), rig.messages);
    let arrivals = counted.clone();
    let drain = move |most| {
        for _ in 0..most {
            let Ok(frame) = peer.recv_msg(zmq::DONTWAIT) else { break };
            arrivals.arrived(number(&frame));
        }
    };
    let (shared, ended) = (Rc::clone(&rig.shared), Rc::clone(&rig.shared));
    rig.peer(move |_| {
        drain(1 + dice.below(3));
        if shared.live() == 0 {
            drain(messages);
        }
    });
    rig.until(move || counted.count() == messages && ended.live() == 0);
    push
}

/// A PULL whose announcements are swallowed as soon as they are made, by calls that are known to the crate.
pub(super) fn pull_with_meddler(rig: &mut Rig) {
    pull_and_meddle(rig);
}

/// The same while the bare socket is lent out.
pub(super) fn pull_lent_with_meddler(rig: &mut Rig) {
    let pull = pull_and_meddle(rig);
    assert!(pull.get_ref().get_rcvhwm().is_ok());
}

fn pull_and_meddle(rig: &mut Rig) -> Rc<AsyncZmqSocket<Pull>> {
    let (pull, mut send) = pull_from_peer(rig);
    receive(rig, &pull);
    let (dice, meddled) = (rig.dice.clone(), Rc::clone(&pull));
    rig.peer(move |moment| {
        // Only what has been sent is swallowed: a call for nothing would heal what the one before did.
        if send() && moment.is_ours() && dice.one_in(2) {
            meddle(&meddled, dice.below(6));
        }
    });
    pull
}

fn meddle(pull: &AsyncZmqSocket<Pull>, way: u64) {
    match way {
        0 => drop(pull.bind("inproc://pull").unwrap_err()),
        1 => drop(pull.unbind("inproc://nobody").unwrap_err()),
        2 => drop(pull.disconnect("inproc://nobody").unwrap_err()),
        3 => pull.with_ref(|raw| raw.set_rcvhwm(1_000)).unwrap(),
        _ => assert!(pull.with_ref(zmq::Socket::get_events).is_ok()),
    }
}

/// The same by one who keeps the bare socket, and calls it when nobody can know.
pub(super) fn pull_with_keeper(rig: &mut Rig) {
    let (pull, send) = pull_from_peer(rig);
    receive(rig, &pull);
    let (shared, sends) = (Rc::clone(&rig.shared), Rc::new(RefCell::new(send)));
    let by_keeper = Rc::clone(&sends);
    rig.executor.spawn(async move {
        let bare = pull.get_ref();
        loop {
            shared.pulse().await;
            if by_keeper.borrow_mut()() {
                assert!(bare.get_events().is_ok());
            }
        }
    });
    // The keeper goes on when something has moved.
    let mut begun = false;
    rig.peer(move |_| {
        if !std::mem::replace(&mut begun, true) {
            sends.borrow_mut()();
        }
    });
}

/// Connections that bring their first message along: it is never announced.
pub(super) fn pull_with_late_binds(rig: &mut Rig) {
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    receive(rig, &pull);
    let (context, messages, shared) = (rig.context.zmq_context().clone(), rig.messages, Rc::clone(&rig.shared));
    let (mut sent, last) = (0, Cell::new(None));
    rig.peer(move |moment| {
        if !moment.is_ours() || sent > shared.progress() || sent == messages {
            return;
        }
        let (peer, endpoint) = (context.socket(zmq::PUSH).unwrap(), format!("inproc://{sent}"));
        peer.set_linger(0).unwrap();
        peer.connect(&endpoint).unwrap();
        peer.send(&sent.to_le_bytes()[..], zmq::DONTWAIT).unwrap();
        pull.bind(&endpoint).unwrap();
        sent += 1;
        // The one before has been received.
        last.set(Some(peer));
    });
}

/// The meddler again, and a source that spoils batches: what the look found is not told at once.
pub(super) fn pull_with_spoilt_batches(rig: &mut Rig) {
    rig.spoils.set(3);
    pull_with_meddler(rig);
}

/// More than the budget allows, and nothing more before that is gone.
pub(super) fn pull_bursts(rig: &mut Rig) {
    let (pull, peer) = pull_and_peer(rig);
    pull.set_budget(4.try_into().unwrap());
    receive(rig, &pull);
    let (shared, messages, mut sent) = (Rc::clone(&rig.shared), rig.messages, 0_u64);
    rig.peer(move |_| {
        if sent == shared.progress() {
            for _ in 0..50.min(messages - sent) {
                peer.send(&sent.to_le_bytes()[..], zmq::DONTWAIT).unwrap();
                sent += 1;
            }
        }
    });
}

/// A reader that does something else while messages come.
pub(super) fn lazy_pull(rig: &mut Rig) {
    let (pull, mut send) = pull_from_peer(rig);
    let (probe, context, messages) = (rig.probe("receiver"), rig.context.clone(), rig.messages);
    let (arrivals, shared) = (InOrder::new(&rig.shared), Rc::clone(&rig.shared));
    rig.spawn(async move {
        while arrivals.count() < messages {
            arrivals.arrived(number(&probe.wait(pull.recv()).await.unwrap()[0]));
            // From here on the next one is announced.
            while let Some(message) = pull.try_recv().unwrap() {
                arrivals.arrived(number(&message[0]));
                shared.progressed();
            }
            context.sleep(Duration::from_millis(3)).await;
        }
    });
    rig.peer(move |_| _ = send());
}

fn pull_and_peer(rig: &mut Rig) -> (Rc<AsyncZmqSocket<Pull>>, zmq::Socket) {
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let peer = rig.raw(zmq::PUSH, |_| Ok(()));
    peer.connect(&pull.bind("inproc://pull").unwrap()).unwrap();
    (pull, peer)
}

/// A peer that sends when no message is on its way: a lost one is not healed by those behind it.
fn pull_from_peer(rig: &mut Rig) -> (Rc<AsyncZmqSocket<Pull>>, impl FnMut() -> bool + use<>) {
    let (pull, peer) = pull_and_peer(rig);
    let (shared, messages) = (Rc::clone(&rig.shared), rig.messages);
    let number = Cell::new(0_u64);
    let send = move || {
        let sends = number.get() < messages && number.get() <= shared.progress();
        if sends {
            peer.send(&number.get().to_le_bytes()[..], zmq::DONTWAIT).unwrap();
            number.set(number.get() + 1);
        }
        sends
    };
    (pull, send)
}

fn receive(rig: &mut Rig, pull: &Rc<AsyncZmqSocket<Pull>>) {
    let (probe, messages, arrivals) = (rig.probe("receiver"), rig.messages, InOrder::new(&rig.shared));
    let pull = Rc::clone(pull);
    rig.spawn(async move {
        for _ in 0..messages {
            arrivals.arrived(number(&probe.wait(pull.recv()).await.unwrap()[0]));
        }
    });
}
