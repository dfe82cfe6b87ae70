//! A ROUTER with `ZMQ_ROUTER_MANDATORY`, whose sends depend on the peer that they are for.

use std::future::pending;
use std::thread;
use std::time::Duration;

use futures::{SinkExt, StreamExt};

use crate::faults::finding::Finding;
use crate::faults::library::{Frames, Library};
use crate::faults::scene::{INPROC, Scene};
use crate::faults::watch::progress;

const PEER: &[u8] = b"peer";

/// The ROUTER, and a DEALER that has said hello to it.
fn pair(scene: &Scene) -> (zmq::Socket, zmq::Socket) {
    let (raw, endpoint) = scene.bound(zmq::ROUTER, 1, INPROC);
    raw.set_router_mandatory(true).expect("a switch");
    let peer = scene.socket(zmq::DEALER, 1);
    peer.set_identity(PEER).expect("a name");
    peer.connect(&endpoint).expect("an endpoint");
    peer.send("hello", 0).expect("sent");
    (raw, peer)
}

pub fn full<L: Library>(scene: Scene) -> Finding {
    let messages = scene.scale(1_000);
    let (raw, peer) = pair(&scene);
    let mut dice = scene.dice.clone();
    thread::spawn(move || {
        for n in 0..messages {
            if peer.recv_multipart(0).expect("a message") != [n.to_le_bytes()] {
                Finding::wrong("loses messages").tell();
            }
            progress();
            thread::sleep(Duration::from_micros(dice.below(200)));
        }
        Finding::right().tell()
    });
    L::run(&scene.context, |library| async move {
        let mut router = library.router(raw);
        assert!(router.next().await.is_some_and(|hello| hello.is_ok()), "a hello");
        for n in 0..messages {
            if let Err(error) = router.send(L::message(vec![PEER.to_vec(), n.to_le_bytes().to_vec()])).await {
                return Finding::wrong(&format!("fails to send: {error}"));
            }
        }
        pending().await
    })
}

pub fn unknown<L: Library>(scene: Scene) -> Finding {
    let (raw, peer) = pair(&scene);
    peer.set_rcvtimeo(200).expect("a number");
    let to = |name: &[u8], frames: usize| -> Frames {
        let rest = (1..frames).map(|frame| format!("{frame} of {frames}").into_bytes());
        [name.to_vec()].into_iter().chain(rest).collect()
    };
    L::run(&scene.context, |library| async move {
        let mut router = library.router(raw);
        assert!(router.next().await.is_some_and(|hello| hello.is_ok()), "a hello");
        let mut lost = 0;
        for frames in 2..=5 {
            if router.send(L::message(to(b"nobody", frames))).await.is_ok() {
                return Finding::wrong("no error is told");
            }
            // What goes wrong with one message should not be the next one's trouble.
            let next = to(PEER, frames);
            let sent = router.send(L::message(next.clone())).await;
            let arrived = peer.recv_multipart(0);
            match (sent, arrived) {
                (Ok(()), Ok(arrived)) if arrived == next[1..] => {}
                (_, Err(_)) => lost += 1,
                _ => return Finding::wrong("the next message does not arrive as it was"),
            }
            progress();
        }
        match lost {
            0 => Finding::right(),
            lost => Finding::wrong_with("the error comes, but of 4 next messages {} fail or are lost", lost),
        }
    })
}
