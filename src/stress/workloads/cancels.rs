//! Several waiters that give up, some of them just when they were called. Nothing is lost or doubled, and whoever goes
//! on is served in order.

use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use std::future::{Future, poll_fn};

use crate::kind::{Pull, Push};
use crate::stress::books::{Ledger, Line, number, numbered};
use crate::stress::dice::Dice;
use crate::stress::rig::{Rig, Shared};

const TASKS: usize = 4;

pub(super) fn readers(rig: &mut Rig) {
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let peer = rig.raw(zmq::PUSH, |_| Ok(()));
    peer.connect(&pull.bind("inproc://pull").unwrap()).unwrap();
    let (ledger, line, messages) = (Ledger::new(&rig.shared), Line::new(rig), rig.messages);
    for _ in 0..TASKS {
        let (pull, ledger, line, probe) = (Rc::clone(&pull), ledger.clone(), line.clone(), rig.probe("receiver"));
        let (shared, dice) = (Rc::clone(&rig.shared), rig.dice.clone());
        rig.executor.spawn(async move {
            loop {
                if let Some(message) = probe.look_on(fickle(&shared, &dice, &line, pull.recv())).await {
                    ledger.arrived(number(&message.unwrap()[0]));
                    shared.progressed();
                }
            }
        });
    }
    let (arrived, dice) = (ledger.clone(), rig.dice.clone());
    rig.until(move || arrived.arrivals() == messages);
    rig.peer(move |_| {
        if ledger.count() < messages && ledger.open() <= dice.below(2) {
            peer.send(&ledger.count().to_le_bytes()[..], zmq::DONTWAIT).unwrap();
            ledger.sent(ledger.count());
        }
    });
}

pub(super) fn senders(rig: &mut Rig) {
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    let peer = rig.raw(zmq::PULL, |raw| raw.set_rcvhwm(1));
    peer.connect(&push.bind("inproc://push").unwrap()).unwrap();
    let (ledger, line, messages) = (Ledger::new(&rig.shared), Line::new(rig), rig.messages);
    for task in 0..TASKS {
        let (push, ledger, line, probe) = (Rc::clone(&push), ledger.clone(), line.clone(), rig.probe("sender"));
        let (shared, dice) = (Rc::clone(&rig.shared), rig.dice.clone());
        let mut next = task as u64;
        rig.executor.spawn(async move {
            loop {
                ledger.sent(next);
                let sent = probe.look_on(fickle(&shared, &dice, &line, push.send(numbered(next)))).await;
                match sent {
                    Some(sent) => {
                        sent.unwrap();
                        shared.progressed();
                    }
                    None => ledger.given_up(next),
                }
                next += TASKS as u64;
            }
        });
    }
    let (counted, dice) = (ledger.clone(), rig.dice.clone());
    rig.until(move || counted.arrivals() >= messages);
    rig.peer(move |_| {
        for _ in 0..=dice.below(2) {
            if let Ok(frame) = peer.recv_msg(zmq::DONTWAIT) {
                ledger.arrived(number(&frame));
            }
        }
    });
}

/// Waits, and gives up now and then instead of polling again: also when it was called.
async fn fickle<T>(shared: &Shared, dice: &Dice, line: &Line, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    // Leaves the line before the future does.
    let standing = line.stand();
    let mut waits = false;
    poll_fn(|cx| {
        if waits && dice.one_in(3) {
            return Poll::Ready(None);
        }
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            standing.is_served();
            return Poll::Ready(Some(output));
        }
        waits = true;
        standing.waits();
        if dice.one_in(4) {
            shared.wake_at_pulse(cx.waker());
        }
        Poll::Pending
    })
    .await
}
