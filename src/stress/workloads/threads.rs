//! A peer in a thread of its own, which goes on while the loop is in the middle of something.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::kind::{Dealer, Push};
use crate::stress::books::{InOrder, number, numbered};
use crate::stress::rig::Rig;

pub(super) fn push(rig: &mut Rig) {
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    let peer = rig.raw(zmq::PULL, |raw| {
        raw.set_rcvhwm(1)?;
        raw.set_rcvtimeo(PATIENCE)
    });
    peer.connect(&push.bind("inproc://push").unwrap()).unwrap();
    let arrived = Arc::new(AtomicU64::new(0));
    let (probe, messages, counter) = (rig.probe("sender"), rig.messages, Arc::clone(&arrived));
    rig.thread(move |stop| {
        while !stop.load(Ordering::Relaxed) {
            if let Ok(frame) = peer.recv_msg(0) {
                assert_eq!(number(&frame), counter.fetch_add(1, Ordering::Relaxed));
            }
        }
    });
    rig.spawn(async move {
        for n in 0..messages {
            probe.wait(push.send(numbered(n))).await.unwrap();
        }
    });
    let shared = Rc::clone(&rig.shared);
    rig.until(move || shared.live() == 0 && arrived.load(Ordering::Relaxed) == messages);
}

pub(super) fn dealer(rig: &mut Rig) {
    let dealer = rig.socket::<Dealer>("DEALER", hwm_2);
    let peer = rig.raw(zmq::DEALER, hwm_2);
    peer.connect(&dealer.bind("inproc://dealer").unwrap()).unwrap();
    let messages = rig.messages / 2;
    let arrived = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&arrived);
    rig.thread(move |stop| {
        let mut sent = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            let sends = if sent < messages { zmq::POLLOUT } else { zmq::POLLIN };
            peer.poll(zmq::POLLIN | sends, PATIENCE.into()).unwrap();
            if let Ok(frame) = peer.recv_msg(zmq::DONTWAIT) {
                assert_eq!(number(&frame), counter.fetch_add(1, Ordering::Relaxed));
            }
            if sent < messages && peer.send(&sent.to_le_bytes()[..], zmq::DONTWAIT).is_ok() {
                sent += 1;
            }
        }
    });
    let (sender, probe) = (Rc::clone(&dealer), rig.probe("sender"));
    rig.spawn(async move {
        for n in 0..messages {
            probe.wait(sender.send(numbered(n))).await.unwrap();
        }
    });
    let (probe, arrivals) = (rig.probe("receiver"), InOrder::new(&rig.shared));
    rig.spawn(async move {
        for _ in 0..messages {
            arrivals.arrived(number(&probe.wait(dealer.recv()).await.unwrap()[0]));
        }
    });
    let shared = Rc::clone(&rig.shared);
    rig.until(move || shared.live() == 0 && arrived.load(Ordering::Relaxed) == messages);
}

fn hwm_2(raw: &zmq::Socket) -> zmq::Result<()> {
    raw.set_sndhwm(2)?;
    raw.set_rcvhwm(2)
}

/// Milliseconds until the thread looks whether it is over.
const PATIENCE: i32 = 20;
