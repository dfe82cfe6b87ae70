//! A request given up, a message of nothing.

use std::thread;

use futures::SinkExt;

use crate::faults::finding::Finding;
use crate::faults::library::Library;
use crate::faults::scene::{INPROC, Scene};

pub fn request<L: Library>(scene: Scene, relaxed: bool) -> Finding {
    let (peer, endpoint) = scene.bound(zmq::ROUTER, 0, INPROC);
    thread::spawn(move || {
        // The first reply comes late, just before the second.
        let requests = [(); 2].map(|()| peer.recv_multipart(0).expect("a request"));
        for request in requests {
            // Who asked may be gone.
            let _ = peer.send_multipart(request, 0);
        }
        loop {
            thread::park();
        }
    });
    let context = scene.context.clone();
    let req = move || {
        let raw = context.socket(zmq::REQ).expect("a socket");
        raw.set_req_relaxed(relaxed).expect("a switch");
        raw.set_req_correlate(relaxed).expect("a switch");
        raw.connect(&endpoint).expect("an endpoint");
        raw
    };
    L::run(&scene.context, |library| library.ask_twice(req))
}

pub fn empty<L: Library>(scene: Scene) -> Finding {
    let (raw, endpoint) = scene.bound(zmq::PUSH, 0, INPROC);
    let peer = scene.connected(zmq::PULL, 0, &endpoint);
    peer.set_rcvtimeo(200).expect("a number");
    L::run(&scene.context, |library| async move {
        let mut push = library.push(raw);
        let empty = push.send(L::message(Vec::new())).await.is_err();
        let after = push.send(L::message(vec![b"after".to_vec()])).await.is_ok();
        match (empty, after && peer.recv_bytes(0).is_ok_and(|bytes| bytes == b"after")) {
            (true, true) => Finding::right_with("an error; the next message arrives", 0),
            (false, true) => Finding::right_with("`Ok`, and nothing is sent; the next message arrives", 0),
            (_, false) => Finding::wrong("the next message does not arrive"),
        }
    })
}
