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

/// The ROUTER, and DEALERs that have said hello to it.
pub fn family<const N: usize>(scene: &Scene, names: [&[u8]; N]) -> (zmq::Socket, [zmq::Socket; N]) {
    let (raw, endpoint) = scene.bound(zmq::ROUTER, 1, INPROC);
    raw.set_router_mandatory(true).expect("a switch");
    let peers = names.map(|name| {
        let peer = scene.socket(zmq::DEALER, 1);
        peer.set_identity(name).expect("a name");
        peer.connect(&endpoint).expect("an endpoint");
        peer.send("hello", 0).expect("sent");
        peer
    });
    (raw, peers)
}

/// A ROUTER that has received so many hellos.
pub async fn greeted<L: Library>(library: &L, raw: zmq::Socket, hellos: usize) -> L::Router {
    let mut router = library.router(raw);
    for _ in 0..hellos {
        assert!(router.next().await.is_some_and(|hello| hello.is_ok()), "a hello");
    }
    router
}

pub fn full<L: Library>(scene: Scene) -> Finding {
    let messages = scene.scale(1_000);
    // As long as the other has room, libzmq reports that the socket can send.
    let (raw, [peer, other]) = family(&scene, [PEER, b"other"]);
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
        let _other = other;
        let mut router = greeted(&library, raw, 2).await;
        for n in 0..messages {
            if let Err(error) = router.send(L::message(vec![PEER.to_vec(), n.to_le_bytes().to_vec()])).await {
                return Finding::wrong(&format!("fails to send: {error}"));
            }
        }
        pending().await
    })
}

pub fn unknown<L: Library>(scene: Scene) -> Finding {
    let (raw, [peer]) = family(&scene, [PEER]);
    peer.set_rcvtimeo(200).expect("a number");
    let to = |name: &[u8], frames: usize| -> Frames {
        let rest = (1..frames).map(|frame| format!("{frame} of {frames}").into_bytes());
        [name.to_vec()].into_iter().chain(rest).collect()
    };
    L::run(&scene.context, |library| async move {
        let mut router = greeted(&library, raw, 1).await;
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
            lost => Finding::wrong_with("an error, but {} of the 4 messages after it are not sent", lost),
        }
    })
}
