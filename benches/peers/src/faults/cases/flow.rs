//! Messages flow, and nothing else happens.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};

use crate::faults::finding::Finding;
use crate::faults::library::Library;
use crate::faults::scene::{INPROC, Scene};
use crate::faults::watch::progress;

/// Where the two directions of a socket are.
#[derive(Clone, Copy)]
pub enum Shape {
    TwoTasks,
    Joined,
}

pub fn one_way<L: Library>(scene: Scene) -> Finding {
    let messages = scene.scale(20_000);
    let (raw, endpoint) = scene.bound(zmq::PUSH, 1, INPROC);
    let peer = scene.connected(zmq::PULL, 1, &endpoint);
    thread::spawn(move || {
        for n in 0..messages {
            if peer.recv_bytes(0).expect("a message") != n.to_le_bytes() {
                Finding::wrong("loses messages").tell();
            }
            progress();
        }
        Finding::right().tell()
    });
    L::run(&scene.context, |library| {
        let mut push = library.push(raw);
        async move {
            for n in 0..messages {
                if let Err(error) = push.send(L::message(vec![n.to_le_bytes().to_vec()])).await {
                    return Finding::wrong(&format!("fails to send: {error}"));
                }
            }
            pending().await
        }
    })
}

pub fn both_ways<L: Library>(scene: Scene, endpoint: &str, high_water_mark: i32, shape: Shape) -> Finding {
    let messages = scene.scale(20_000);
    let (raw, endpoint) = scene.bound(zmq::DEALER, high_water_mark, endpoint);
    let peer = scene.connected(zmq::DEALER, high_water_mark, &endpoint);
    thread::spawn(move || {
        loop {
            peer.send(peer.recv_msg(0).expect("a message"), 0).expect("sent");
        }
    });
    L::run(&scene.context, |library| async move {
        let (mut sink, mut stream) = library.dealer(raw).split();
        let writer = async move {
            for n in 0..messages {
                if let Err(error) = sink.send(L::message(vec![n.to_le_bytes().to_vec()])).await {
                    Finding::wrong(&format!("fails to send: {error}")).tell();
                }
            }
        };
        let reader = async move {
            for n in 0..messages {
                match stream.next().await {
                    Some(Ok(message)) if L::frames(&message) == [n.to_le_bytes()] => progress(),
                    Some(Ok(_)) => Finding::wrong("loses messages").tell(),
                    Some(Err(error)) => Finding::wrong(&format!("fails to receive: {error}")).tell(),
                    None => Finding::wrong("its stream ends").tell(),
                }
            }
        };
        match shape {
            Shape::TwoTasks => {
                library.spawn(writer);
                reader.await;
            }
            Shape::Joined => drop(futures::join!(writer, reader)),
        }
        Finding::right()
    })
}

const FRAMES: usize = 100;

pub fn peers_leave<L: Library>(scene: Scene) -> Finding {
    let peers = scene.scale(200);
    let (raw, endpoint) = scene.bound(zmq::PUSH, 2, INPROC);
    let context = scene.context.clone();
    let mut dice = scene.dice.clone();
    let failed = Arc::new(AtomicU64::new(0));
    let failures = Arc::clone(&failed);
    let peers = move || {
        for _ in 0..peers {
            let pull = context.socket(zmq::PULL).expect("a socket");
            pull.set_rcvhwm(2).expect("a number");
            pull.connect(&endpoint).expect("an endpoint");
            for _ in 0..=dice.below(5) {
                let frames = pull.recv_multipart(0).expect("a message");
                if frames.len() != FRAMES || frames.iter().any(|frame| *frame != frames[0]) {
                    Finding::wrong("delivers torn messages").tell();
                }
                progress();
            }
        }
        match failures.load(Ordering::Relaxed) {
            0 => Finding::right().tell(),
            failures => Finding::wrong_with("failed sends: {}; no message is torn", failures).tell(),
        }
    };
    L::run(&scene.context, |library| async move {
        let mut push = library.push(raw);
        thread::spawn(peers);
        for n in 0_u64.. {
            if let Err(error) = push.send(L::message(vec![n.to_le_bytes().to_vec(); FRAMES])).await {
                eprintln!("{error}");
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        unreachable!("so many messages are too many")
    })
}

pub fn timer<L: Library>(scene: Scene) -> Finding {
    let (raw, endpoint) = scene.bound(zmq::PULL, 0, INPROC);
    let peer = scene.connected(zmq::PUSH, 0, &endpoint);
    thread::spawn(move || {
        loop {
            peer.send("a message", 0).expect("sent");
        }
    });
    L::run(&scene.context, |library| async move {
        let mut pull = library.pull(raw);
        let ticks = Rc::new(Cell::new(0_u64));
        let ticking = Rc::clone(&ticks);
        let clock = library.clone();
        library.spawn(async move {
            loop {
                clock.sleep(Duration::from_millis(1)).await;
                ticking.set(ticking.get() + 1);
            }
        });
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(1) {
            pull.next().await.expect("a stream").map_err(|error| error.to_string()).expect("a message");
            progress();
        }
        match ticks.get() {
            // Less than a quarter of those that it should be.
            few @ 0..250 => Finding::wrong_with("the timer ticks {} times", few),
            many => Finding::right_with("right: it ticks {} times", many),
        }
    })
}
