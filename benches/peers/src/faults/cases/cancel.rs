//! Futures are dropped before they are ready.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::{SinkExt, StreamExt};

use crate::faults::finding::Finding;
use crate::faults::library::{Frames, Library};
use crate::faults::scene::{Dice, INPROC, Scene};
use crate::faults::watch::progress;

/// Ready at the poll after so many.
async fn polls(mut count: u64) {
    poll_fn(|cx| {
        if count == 0 {
            return Poll::Ready(());
        }
        count -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Three frames, all of which tell the number.
fn frames(n: u64) -> Frames {
    let bytes = n.to_le_bytes().to_vec();
    vec![bytes.clone(), bytes.repeat(20), bytes]
}

/// The number, if the message is whole.
fn number(message: &[Vec<u8>]) -> Option<u64> {
    let n = u64::from_le_bytes(message.first()?.as_slice().try_into().ok()?);
    (frames(n) == message).then_some(n)
}

/// Now and then the peer is slow, so that the other side has to wait.
fn dawdle(dice: &mut Dice) {
    if dice.below(10) == 0 {
        thread::sleep(Duration::from_micros(dice.below(100)));
    }
}

pub fn receive<L: Library>(scene: Scene) -> Finding {
    let messages = scene.scale(20_000);
    let (raw, endpoint) = scene.bound(zmq::PULL, 0, INPROC);
    let peer = scene.connected(zmq::PUSH, 0, &endpoint);
    let (mut slow, mut dice) = (scene.dice.clone(), scene.dice.clone());
    thread::spawn(move || {
        for n in 0..messages {
            peer.send_multipart(frames(n), 0).expect("sent");
            dawdle(&mut slow);
        }
    });
    L::run(&scene.context, |library| async move {
        let mut pull = library.pull(raw);
        let (mut cancelled, mut due) = (0, 0);
        while due < messages {
            let patience = pin!(polls(dice.below(3)));
            match select(pull.next(), patience).await {
                Either::Left((Some(Ok(message)), _)) => {
                    match number(&L::frames(&message)) {
                        Some(n) if n == due => due += 1,
                        Some(_) => return Finding::wrong("loses or doubles messages"),
                        None => return Finding::wrong("tears messages"),
                    }
                    progress();
                }
                Either::Left((Some(Err(error)), _)) => return Finding::wrong(&format!("fails to receive: {error}")),
                Either::Left((None, _)) => return Finding::wrong("its stream ends"),
                Either::Right(_) => cancelled += 1,
            }
        }
        assert!(cancelled > 100, "hardly any future was dropped: {cancelled}");
        Finding::right()
    })
}

pub fn send<L: Library>(scene: Scene) -> Finding {
    let messages = scene.scale(5_000);
    let (raw, endpoint) = scene.bound(zmq::PUSH, 1, INPROC);
    let peer = scene.connected(zmq::PULL, 1, &endpoint);
    let (mut slow, mut dice) = (scene.dice.clone(), scene.dice.clone());
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let mut received = vec![0_u64; usize::try_from(messages).expect("a few")];
        loop {
            match number(&peer.recv_multipart(0).expect("a message")) {
                Some(n) if n == messages => break,
                Some(n) => received[usize::try_from(n).expect("a few")] += 1,
                None => Finding::wrong("tears messages").tell(),
            }
            progress();
            dawdle(&mut slow);
        }
        tell.send(received).expect("somebody waits");
    });
    L::run(&scene.context, |library| async move {
        let mut push = library.push(raw);
        let (mut cancelled, mut sent) = (0, Vec::new());
        for n in 0..messages {
            let patience = pin!(polls(dice.below(3)));
            match select(push.send(L::message(frames(n))), patience).await {
                Either::Left((Ok(()), _)) => sent.push(usize::try_from(n).expect("a few")),
                Either::Left((Err(error), _)) => return Finding::wrong(&format!("fails to send: {error}")),
                Either::Right(_) => cancelled += 1,
            }
        }
        if let Err(error) = push.send(L::message(frames(messages))).await {
            return Finding::wrong(&format!("fails to send: {error}"));
        }
        assert!(cancelled > 100, "hardly any future was dropped: {cancelled}");
        let received = told.await.expect("it tells");
        let lost = sent.iter().filter(|n| received[**n] == 0).count() as u64;
        let doubled = received.iter().filter(|times| **times > 1).count() as u64;
        match (lost, doubled) {
            (0, 0) => Finding::right(),
            (0, doubled) => Finding::wrong_with("doubles {} messages", doubled),
            (lost, _) => Finding::wrong_with("loses {} messages", lost),
        }
    })
}
