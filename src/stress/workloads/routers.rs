//! A mandatory ROUTER: `POLLOUT` says nothing, and each sender waits for its own peer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt, future};

use crate::AsyncZmqSocket;
use crate::kind::Router;
use crate::stress::books::{InOrder, number, numbered};
use crate::stress::rig::{How, Moment, Rig, has_room, pause};
use crate::{Error, Multipart};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A sender for each of four peers, and a reader. The first peer takes nothing before the others have all that is theirs.
pub(super) fn four_peers(rig: &mut Rig) {
    let router = router(rig);
    let messages = rig.messages / 8;
    let arrivals = NAMES.map(|_| InOrder::new(&rig.shared));
    let mut peers = Vec::new();
    for name in NAMES {
        peers.push(peer(rig, &router, name));
        sends(rig, &router, name, messages);
    }
    let (probe, dice) = (rig.probe("receiver"), rig.dice.clone());
    rig.spawn(async move {
        for _ in 0..4 * messages {
            probe.wait(router.recv()).await.unwrap();
        }
    });
    let mut sent = [0; 4];
    rig.peer(move |moment| {
        let patient = arrivals[1..].iter().any(|peer| peer.count() < messages);
        // One of them at a time; all of them when nothing else moves.
        let only = dice.below(4);
        for (at, peer) in (0_u64..).zip(&peers) {
            let which = usize::try_from(at).unwrap();
            if moment != Moment::Turn && at != only {
                continue;
            }
            if at > 0 || !patient {
                if let Ok(frame) = peer.recv_msg(zmq::DONTWAIT) {
                    arrivals[which].arrived(number(&frame));
                }
            }
            if sent[which] < messages && peer.send("to the router", zmq::DONTWAIT).is_ok() {
                sent[which] += 1;
            }
        }
    });
}

/// A sender whose peer makes room only between the steps of another one, whose peer never does. The second gives up now and
/// then and comes back, so that either may be called first.
pub(super) fn two_senders(rig: &mut Rig) {
    let router = router(rig);
    let (full, peer) = (peer(rig, &router, "full"), peer(rig, &router, "b"));
    while has_room(router.try_send(to("full", 0))) {}
    let (sender, dice, probe) = (Rc::clone(&router), rig.dice.clone(), rig.probe("full"));
    rig.executor.spawn(async move {
        loop {
            let (mut send, mut waits) = (sender.send(to("full", 1)), false);
            let wait = poll_fn(|cx| {
                if std::mem::replace(&mut waits, true) && dice.one_in(2) {
                    return Poll::Ready(());
                }
                send.poll_unpin(cx).map(Result::unwrap)
            });
            probe.look_on(wait).await;
        }
    });
    sends(rig, &router, "b", rig.messages);
    let (shared, arrivals, dice) = (Rc::clone(&rig.shared), InOrder::new(&rig.shared), rig.dice.clone());
    rig.peer(move |moment| {
        let _kept = &full;
        if shared.progress() < arrivals.count() + 2 {
            // It has room.
            return;
        }
        if moment == Moment::Turn {
            // Calls them both.
            drop(router.unbind("inproc://nobody").unwrap_err());
        }
        if moment != Moment::Turn || dice.one_in(8) {
            arrivals.arrived(number(&peer.recv_msg(zmq::DONTWAIT).unwrap()));
            if dice.one_in(8) {
                // Then the next try processes commands.
                pause(Duration::from_millis(3));
            }
        }
    });
}

/// One task that sends to a peer that is mostly full, and receives from it.
pub(super) fn one_task(rig: &mut Rig) {
    let router = router(rig);
    // The other one has room: `POLLOUT` is true.
    let (peer, roomy) = (peer(rig, &router, "a"), peer(rig, &router, "b"));
    let (probe, messages, dice) = (rig.probe("both"), rig.messages / 2, rig.dice.clone());
    rig.spawn(async move {
        for n in 0..messages {
            let message = to("a", n);
            let (receive, transmit) = (router.recv(), router.send(message));
            let (came, went) = if dice.one_in(2) {
                probe.wait(future::join(receive, transmit)).await
            } else {
                let (went, came) = probe.wait(future::join(transmit, receive)).await;
                (came, went)
            };
            drop(came.unwrap());
            went.unwrap();
        }
    });
    let (arrivals, dice, mut sent) = (InOrder::new(&rig.shared), rig.dice.clone(), 0);
    rig.peer(move |moment| {
        let _kept = &roomy;
        if moment != Moment::Turn {
            // Else a spin is over before it shows.
            return;
        }
        if dice.one_in(2) {
            if let Ok(frame) = peer.recv_msg(zmq::DONTWAIT) {
                arrivals.arrived(number(&frame));
            }
        }
        if dice.one_in(2) && sent < messages && peer.send("to the router", zmq::DONTWAIT).is_ok() {
            sent += 1;
        }
    });
}

/// Peers that are full, and go while somebody waits to send to them. There is no other one then.
///
/// Another task receives: while a message is there that nobody takes, libzmq does not see that a peer has gone.
pub(super) fn peers_go(rig: &mut Rig) {
    let router = router(rig);
    let (probe, rounds, shared) = (rig.probe("sender"), rig.messages, Rc::clone(&rig.shared));
    let (sender, waits) = (Rc::clone(&router), Rc::clone(&probe));
    let (tells, mut hears) = mpsc::unbounded();
    rig.executor.spawn(async move {
        loop {
            let hello = router.recv().await.unwrap();
            if tells.unbounded_send(hello).is_err() {
                return;
            }
        }
    });
    rig.spawn(async move {
        for _ in 0..rounds {
            let hello = hears.next().await.unwrap();
            loop {
                let message = Multipart::from([&hello[0][..], b"fill"]);
                match probe.wait(sender.send(message)).await.map_err(|unsent| unsent.error) {
                    Ok(()) => {}
                    Err(Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. }) => break,
                    Err(error) => return shared.fault(How::WrongEnd, &format!("{error:?}")),
                }
            }
        }
    });
    let (context, peer, mut number) = (rig.context.zmq_context().clone(), RefCell::new(None::<zmq::Socket>), 0_u32);
    rig.peer(move |moment| {
        if moment != Moment::Turn {
            return;
        }
        if peer.borrow().is_none() {
            if waits.waits() {
                // The only peer is gone, and no other one comes.
                return;
            }
            let new = context.socket(zmq::DEALER).unwrap();
            new.set_linger(0).unwrap();
            number += 1;
            new.set_identity(number.to_string().as_bytes()).unwrap();
            new.set_rcvhwm(1).unwrap();
            new.connect("inproc://router").unwrap();
            new.send("hello", zmq::DONTWAIT).unwrap();
            peer.replace(Some(new));
        } else if waits.waits() {
            peer.take();
        }
    });
}

fn router(rig: &mut Rig) -> Rc<AsyncZmqSocket<Router>> {
    let router = rig.socket::<Router>("ROUTER", |raw| {
        raw.set_router_mandatory(true)?;
        raw.set_sndhwm(1)?;
        raw.set_rcvhwm(1)
    });
    router.bind("inproc://router").unwrap();
    router
}

fn peer(rig: &Rig, router: &AsyncZmqSocket<Router>, name: &str) -> zmq::Socket {
    let peer = rig.raw(zmq::DEALER, |raw| {
        raw.set_identity(name.as_bytes())?;
        raw.set_sndhwm(1)?;
        raw.set_rcvhwm(1)
    });
    peer.connect("inproc://router").unwrap();
    peer.send("hello", zmq::DONTWAIT).unwrap();
    assert!(router.try_recv().unwrap().is_some());
    peer
}

fn sends(rig: &mut Rig, router: &Rc<AsyncZmqSocket<Router>>, name: &'static str, messages: u64) {
    let (router, probe) = (Rc::clone(router), rig.probe(name));
    rig.spawn(async move {
        for n in 0..messages {
            probe.wait(router.send(to(name, n))).await.unwrap();
        }
    });
}

fn to(name: &str, number: u64) -> Multipart {
    let mut message = numbered(number);
    message.push_front(name);
    message
}
