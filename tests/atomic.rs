//! A message arrives whole or not at all: peers that die between two frames, and peers that come and go.

mod zmtp;

use std::cell::Cell;
use std::future::Future;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::Any;
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use zmq::SocketType;

fn run<F: Future<Output = ()>>(test: impl FnOnce(AsyncZmqContext) -> F) {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let test = context.timeout(Duration::from_secs(120), test(context.clone()));
    let done = event_loop.block_on(test, &mut (), |()| ()).unwrap();
    done.expect("nobody stops the loop").expect("it takes less than 120 seconds");
}

fn socket(context: &AsyncZmqContext, kind: SocketType) -> AsyncZmqSocket<Any> {
    let raw = context.zmq_context().socket(kind).unwrap();
    raw.set_linger(0).unwrap();
    context.adopt(raw).unwrap()
}

/// The frames of message `number`: each says which one it is of how many.
fn frames(number: u64, count: u64) -> impl Iterator<Item = String> {
    (0..count).map(move |at| format!("{number} {at} {count}"))
}

/// Checks that these are all the frames of one message.
fn check_whole(received: &[Vec<u8>]) {
    let texts: Vec<_> = received.iter().map(|frame| String::from_utf8_lossy(frame).into_owned()).collect();
    let number = texts[0].split(' ').next().unwrap().parse().unwrap();
    let expected: Vec<_> = frames(number, received.len() as u64).collect();
    assert_eq!(texts, expected, "a message was torn");
}

/// Peers that read `k` frames, close, and come again: 0 to 3 of messages of three.
fn closes_after_frame(kind: SocketType, peer_type: &'static str, peers: usize) {
    run(|context| async move {
        let socket = socket(&context, kind);
        if kind == SocketType::REQ {
            socket.get_ref().set_req_relaxed(true).unwrap();
        }
        // Several sockets of ours would share the peers; several peers share our messages.
        let endpoint = socket.bind("tcp://127.0.0.1:*").unwrap();
        let address = endpoint.strip_prefix("tcp://").unwrap().to_owned();
        let whole = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..peers)
            .map(|first| {
                let (address, whole, stop) = (address.clone(), Arc::clone(&whole), Arc::clone(&stop));
                thread::spawn(move || {
                    for round in first.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let stream = TcpStream::connect(&address).unwrap();
                        let Ok(mut peer) = zmtp::Peer::handshake(stream, peer_type, "peer") else { continue };
                        // While its predecessor is not reaped, a PAIR has no use for this one, nor a ROUTER for a
                        // second one of that name: libzmq leaves it connected and says nothing.
                        peer.set_patience(Duration::from_millis(50)).unwrap();
                        if peer_type == "SUB" {
                            peer.send(&[b"\x01"]).unwrap();
                        }
                        // It closes after so many frames: in front of a message, in the middle, at the end.
                        let mut received: Vec<Vec<u8>> = Vec::new();
                        for _ in 0..(round % 4) + 9 * (round % 3) {
                            let Ok(frame) = peer.frame() else { break };
                            // The delimiter that REQ adds.
                            if !(received.is_empty() && frame.bytes.is_empty()) {
                                received.push(frame.bytes);
                            }
                            if !frame.more {
                                assert_eq!(received.len(), 3, "a message was torn");
                                check_whole(&received);
                                received.clear();
                                whole.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                })
            })
            .collect();
        let refused = Cell::new(0);
        let mut number = 0;
        while whole.load(Ordering::Relaxed) < 300 {
            number += 1;
            let mut message: Multipart = frames(number, 3).collect();
            if kind == SocketType::ROUTER {
                message.push_front("peer");
            }
            match context.timeout(Duration::from_millis(2), socket.send(message)).await {
                // A ROUTER drops what has no peer, and a PUB what has no subscriber.
                Ok(Ok(())) if matches!(kind, SocketType::ROUTER | SocketType::PUB) => {
                    context.sleep(Duration::from_micros(50)).await;
                }
                Ok(Ok(())) => {}
                Ok(Err(error)) => panic!("{error:?}"),
                Err(_) => refused.set(refused.get() + 1),
            }
        }
        stop.store(true, Ordering::Relaxed);
        drop(socket);
        for thread in threads {
            thread.join().expect("no peer saw a torn message");
        }
    });
}

#[test]
fn a_peer_that_closes_between_frames_tears_no_push() {
    closes_after_frame(SocketType::PUSH, "PULL", 1);
    closes_after_frame(SocketType::PUSH, "PULL", 3);
}

#[test]
fn a_peer_that_closes_between_frames_tears_no_dealer() {
    closes_after_frame(SocketType::DEALER, "DEALER", 1);
    closes_after_frame(SocketType::DEALER, "DEALER", 3);
}

#[test]
fn a_peer_that_closes_between_frames_tears_no_pair() {
    closes_after_frame(SocketType::PAIR, "PAIR", 1);
}

#[test]
fn a_peer_that_closes_between_frames_tears_no_request() {
    closes_after_frame(SocketType::REQ, "REP", 1);
    closes_after_frame(SocketType::REQ, "REP", 3);
}

#[test]
fn a_peer_that_closes_between_frames_tears_nothing_of_a_router() {
    closes_after_frame(SocketType::ROUTER, "DEALER", 1);
}

#[test]
fn a_peer_that_closes_between_frames_tears_no_publication() {
    closes_after_frame(SocketType::PUB, "SUB", 1);
    closes_after_frame(SocketType::PUB, "SUB", 3);
}

/// Three peers that come and go while messages of one to five frames stream to them. `CHURN` in the environment sets
/// how many messages the peers of each pattern receive.
fn churn(kind: SocketType, peer_kind: SocketType, bind: &str) {
    let enough: u64 = std::env::var("CHURN").map_or(3_000, |count| count.parse().unwrap());
    run(|context| async move {
        let socket = socket(&context, kind);
        let endpoint = socket.bind(bind).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let whole = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..3u64)
            .map(|peer| {
                let (endpoint, stop, whole) = (endpoint.clone(), Arc::clone(&stop), Arc::clone(&whole));
                let context = context.zmq_context().clone();
                thread::spawn(move || {
                    let mut lives = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let socket = context.socket(peer_kind).unwrap();
                        socket.set_linger(0).unwrap();
                        socket.set_rcvtimeo(20).unwrap();
                        if peer_kind == SocketType::SUB {
                            socket.set_subscribe(b"").unwrap();
                        }
                        if socket.connect(&endpoint).is_err() {
                            continue;
                        }
                        lives += 1;
                        for _ in 0..(lives * 7 + peer * 13) % 50 {
                            let Ok(received) = socket.recv_multipart(0) else { break };
                            check_whole(&received);
                            whole.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    lives
                })
            })
            .collect();
        let mut number = 0;
        while whole.load(Ordering::Relaxed) < enough {
            number += 1;
            let message: Multipart = frames(number, 1 + number % 5).collect();
            // Between two peers there may be none.
            while context.timeout(Duration::from_millis(100), socket.send(message_again(&message))).await.is_err() {}
            if kind == SocketType::PUB && number % 100 == 0 {
                // It never waits for its subscribers.
                context.sleep(Duration::from_micros(100)).await;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let lives: u64 = threads.into_iter().map(|thread| thread.join().expect("no peer saw a torn message")).sum();
        println!("{kind:?} over {bind}: {number} sent, {enough} received whole, by {lives} peers");
        assert!(lives > 3, "peers came and went");
    });
}

fn message_again(message: &Multipart) -> Multipart {
    message.iter().map(|frame| &frame[..]).collect()
}

#[test]
fn pushes_stay_whole_while_peers_come_and_go() {
    churn(SocketType::PUSH, SocketType::PULL, "inproc://push");
    churn(SocketType::PUSH, SocketType::PULL, "tcp://127.0.0.1:*");
}

#[test]
fn dealers_messages_stay_whole_while_peers_come_and_go() {
    churn(SocketType::DEALER, SocketType::DEALER, "inproc://dealer");
    churn(SocketType::DEALER, SocketType::DEALER, "tcp://127.0.0.1:*");
}

#[test]
fn publications_stay_whole_while_peers_come_and_go() {
    churn(SocketType::PUB, SocketType::SUB, "inproc://pub");
    churn(SocketType::PUB, SocketType::SUB, "tcp://127.0.0.1:*");
}
