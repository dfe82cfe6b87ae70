//! Every kind of socket over every transport: a message of one frame and one of several, in each direction that the
//! pattern allows, through every way of sending and of receiving.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod common;

use std::io::{self, Write};
use std::net::TcpStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use calloop_zmq::kind::{Any, CanRecv, CanSend, Dealer, Kind, Pair, Pub, Pull, Push, Rep, Req, Router, Stream, Sub};
use calloop_zmq::kind::{XPub, XSub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use common::{Rig, number, numbered};
use futures::channel::oneshot;
use futures::{SinkExt, StreamExt};

/// A way to send and a way to receive.
#[derive(Clone, Copy, Debug)]
enum Way {
    Futures,
    Tries,
    Into,
    ByReference,
    Owned,
}

const WAYS: [Way; 5] = [Way::Futures, Way::Tries, Way::Into, Way::ByReference, Way::Owned];

/// One frame (empty, short, long), and several, with an empty one among them.
fn messages() -> Vec<Multipart> {
    vec![
        "x".into(),
        "".into(),
        vec![7_u8; 100_000].into(),
        ["a", "", "b"].into(),
        (0..20).map(|n| zmq::Message::from(&vec![n; usize::from(n) * 10])).collect(),
    ]
}

async fn send<K: CanSend>(way: Way, socket: &mut AsyncZmqSocket<K>, message: Multipart) {
    match way {
        // Spelled out: on a `&mut` socket the method call finds `SinkExt::send` first.
        Way::Futures | Way::Into => AsyncZmqSocket::send(socket, message).await.unwrap(),
        Way::Tries => {
            socket.writable().await.unwrap();
            assert!(socket.try_send(message).is_ok());
        }
        Way::ByReference => {
            let mut sink = &*socket;
            sink.feed(message).await.unwrap();
            sink.flush().await.unwrap();
        }
        Way::Owned => SinkExt::send(socket, message).await.unwrap(),
    }
}

async fn recv<K: CanRecv>(way: Way, socket: &mut AsyncZmqSocket<K>) -> Multipart {
    match way {
        Way::Futures => socket.recv().await.unwrap(),
        Way::Tries => {
            socket.readable().await.unwrap();
            socket.try_recv().unwrap().unwrap()
        }
        Way::Into => {
            let mut message = ["what", "was", "there"].into();
            socket.recv_into(&mut message).await.unwrap();
            message
        }
        Way::ByReference => (&*socket).next().await.unwrap().unwrap(),
        Way::Owned => socket.next().await.unwrap().unwrap(),
    }
}

/// All messages, in all ways.
async fn pass<A: CanSend, B: CanRecv>(from: &mut AsyncZmqSocket<A>, to: &mut AsyncZmqSocket<B>) {
    for way in WAYS {
        for (message, same) in messages().into_iter().zip(messages()) {
            send(way, from, message).await;
            assert_eq!(recv(way, to).await, same, "{way:?}");
        }
    }
}

/// Runs the test over each transport; it gets an endpoint to bind.
fn over_each_transport<F: Future<Output = ()> + 'static>(test: impl Fn(AsyncZmqContext, String) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let ipc = format!("ipc://{}/socket", directory.path().display());
    for endpoint in ["inproc://kinds", &ipc, "tcp://127.0.0.1:*"] {
        println!("{endpoint}");
        let mut rig = Rig::new();
        let test = test(rig.context.clone(), endpoint.to_owned());
        rig.complete(test);
    }
}

/// Two sockets that are connected; the first is bound.
fn connected<A: Kind, B: Kind>(context: &AsyncZmqContext, endpoint: &str) -> (AsyncZmqSocket<A>, AsyncZmqSocket<B>) {
    let (bound, connected) = (context.socket::<A>().unwrap(), context.socket::<B>().unwrap());
    let endpoint = bound.bind(endpoint).unwrap();
    assert_eq!(bound.last_endpoint().unwrap(), endpoint);
    connected.connect(&endpoint).unwrap();
    (bound, connected)
}

#[test]
fn pair() {
    over_each_transport(async |context, endpoint: String| {
        let (mut a, mut b) = connected::<Pair, Pair>(&context, &endpoint);
        pass(&mut a, &mut b).await;
        pass(&mut b, &mut a).await;
    });
}

#[test]
fn push_and_pull() {
    over_each_transport(async |context, endpoint: String| {
        let (mut pull, mut push) = connected::<Pull, Push>(&context, &endpoint);
        pass(&mut push, &mut pull).await;
        let (mut push, mut pull) = connected::<Push, Pull>(&context, &format!("{endpoint}2").replace("*2", "*"));
        pass(&mut push, &mut pull).await;
    });
}

#[test]
fn dealer_and_dealer() {
    over_each_transport(async |context, endpoint: String| {
        let (mut a, mut b) = connected::<Dealer, Dealer>(&context, &endpoint);
        pass(&mut a, &mut b).await;
        pass(&mut b, &mut a).await;
    });
}

#[test]
fn dealer_and_router() {
    over_each_transport(async |context, endpoint: String| {
        let (mut router, mut dealer) = (context.socket::<Router>().unwrap(), context.socket::<Dealer>().unwrap());
        router.get_ref().set_router_mandatory(true).unwrap();
        dealer.get_ref().set_identity(b"me").unwrap();
        dealer.connect(&router.bind(&endpoint).unwrap()).unwrap();
        for way in WAYS {
            for (message, same) in messages().into_iter().zip(messages()) {
                send(way, &mut dealer, message).await;
                let mut received = recv(way, &mut router).await;
                let id = received.pop_front().unwrap();
                assert_eq!(&id[..], b"me");
                assert_eq!(received, same, "{way:?}");
                received.push_front(id);
                send(way, &mut router, received).await;
                assert_eq!(recv(way, &mut dealer).await, same, "{way:?}");
            }
        }
    });
}

#[test]
fn req_and_rep() {
    over_each_transport(async |context, endpoint: String| {
        let (mut rep, mut req) = connected::<Rep, Req>(&context, &endpoint);
        for way in WAYS {
            for (message, same) in messages().into_iter().zip(messages()) {
                send(way, &mut req, message).await;
                let request = recv(way, &mut rep).await;
                assert_eq!(request, same, "{way:?}");
                send(way, &mut rep, request).await;
                assert_eq!(recv(way, &mut req).await, same, "{way:?}");
            }
        }
    });
}

#[test]
fn req_and_router() {
    over_each_transport(async |context, endpoint: String| {
        let (mut router, mut req) = connected::<Router, Req>(&context, &endpoint);
        send(Way::Futures, &mut req, "question".into()).await;
        let mut request = recv(Way::Futures, &mut router).await;
        let envelope = request.take_envelope();
        assert_eq!((envelope.len(), &request), (2, &"question".into()));
        let mut reply = Multipart::from(["an", "swer"]);
        reply.put_envelope(envelope);
        send(Way::Futures, &mut router, reply).await;
        assert_eq!(recv(Way::Futures, &mut req).await, ["an", "swer"].into());
    });
}

#[test]
fn pub_and_sub() {
    over_each_transport(async |context, endpoint: String| {
        let (mut publisher, mut sub) = connected::<Pub, Sub>(&context, &endpoint);
        sub.subscribe("").unwrap();
        meet(&context, &publisher, &sub).await;
        pass(&mut publisher, &mut sub).await;
    });
}

#[test]
fn pub_and_xsub() {
    over_each_transport(async |context, endpoint: String| {
        let (mut publisher, mut xsub) = connected::<Pub, XSub>(&context, &endpoint);
        xsub.subscribe("").unwrap();
        meet(&context, &publisher, &xsub).await;
        pass(&mut publisher, &mut xsub).await;
    });
}

/// A PUB does not tell who subscribed: publishes until the first message arrives, and takes the others out of the way.
async fn meet<A: CanSend, B: CanRecv>(
    context: &AsyncZmqContext,
    publisher: &AsyncZmqSocket<A>,
    subscriber: &AsyncZmqSocket<B>,
) {
    loop {
        publisher.send("anyone?").await.unwrap();
        if context.timeout(Duration::from_millis(5), subscriber.recv()).await.is_ok() {
            break;
        }
    }
    publisher.send("now").await.unwrap();
    while subscriber.recv().await.unwrap() != "now".into() {}
}

#[test]
fn xpub_and_sub() {
    over_each_transport(async |context, endpoint: String| {
        let (mut xpub, mut sub) = connected::<XPub, Sub>(&context, &endpoint);
        sub.subscribe("weather").unwrap();
        assert_eq!(recv(Way::Futures, &mut xpub).await, "\u{1}weather".into());
        for way in WAYS {
            send(way, &mut xpub, "sports: 2 to 1".into()).await;
            send(way, &mut xpub, "weather".into()).await;
            send(way, &mut xpub, ["weather", "", "21 degrees"].into()).await;
            assert_eq!(recv(way, &mut sub).await, "weather".into());
            assert_eq!(recv(way, &mut sub).await, ["weather", "", "21 degrees"].into());
        }
        sub.unsubscribe("weather").unwrap();
        assert_eq!(recv(Way::Futures, &mut xpub).await, "\0weather".into());
    });
}

#[test]
fn xpub_and_xsub() {
    over_each_transport(async |context, endpoint: String| {
        let (mut publisher, mut subscriber) = connected::<XPub, XSub>(&context, &endpoint);
        for way in WAYS {
            send(way, &mut subscriber, "\u{1}topic".into()).await;
            assert_eq!(recv(way, &mut publisher).await, "\u{1}topic".into());
            send(way, &mut publisher, "topic".into()).await;
            assert_eq!(recv(way, &mut subscriber).await, "topic".into());
            send(way, &mut publisher, ["topic", "more"].into()).await;
            assert_eq!(recv(way, &mut subscriber).await, ["topic", "more"].into());
            // Upstream goes whatever is no subscription.
            send(way, &mut subscriber, "upstream".into()).await;
            assert_eq!(recv(way, &mut publisher).await, "upstream".into());
            send(way, &mut subscriber, "\0topic".into()).await;
            assert_eq!(recv(way, &mut publisher).await, "\0topic".into());
        }
    });
}

#[test]
fn stream_and_a_plain_tcp_peer() {
    let mut rig = Rig::new();
    let context = rig.context.clone();
    rig.complete(async move {
        let mut stream = context.socket::<Stream>().unwrap();
        let endpoint = stream.bind("tcp://127.0.0.1:*").unwrap();
        for way in WAYS {
            let (address, (ended, peer)) = (endpoint.replace("tcp://", ""), oneshot::channel());
            thread::spawn(move || ended.send(plain_peer(&address)).unwrap());
            let [id, connected] = recv(way, &mut stream).await.try_into().unwrap();
            assert!(connected.is_empty());
            let [sender, body] = recv(way, &mut stream).await.try_into().unwrap();
            assert_eq!((&sender[..], &body[..]), (&id[..], &b"GET /"[..]));
            send(way, &mut stream, vec![&id[..], b"200 OK"].into()).await;
            // An empty body ends the connection.
            send(way, &mut stream, vec![&id[..], b""].into()).await;
            assert_eq!(peer.await.unwrap().unwrap(), "200 OK");
        }
    });
}

fn plain_peer(address: &str) -> io::Result<String> {
    let mut peer = TcpStream::connect(address)?;
    peer.set_read_timeout(Some(common::STALL))?;
    peer.write_all(b"GET /")?;
    io::read_to_string(peer)
}

#[test]
fn any_kind_known_at_run_time() {
    over_each_transport(async |context, endpoint: String| {
        let adopt = |kind| context.adopt::<Any>(context.zmq_context().socket(kind).unwrap()).unwrap();
        let (mut a, mut b) = (adopt(zmq::PAIR), adopt(zmq::PAIR));
        b.connect(&a.bind(&endpoint).unwrap()).unwrap();
        pass(&mut a, &mut b).await;
        pass(&mut b, &mut a).await;
        drop((a, b));

        let (mut push, mut pull) = (adopt(zmq::PUSH), adopt(zmq::PULL));
        pull.connect(&push.bind(&format!("{endpoint}2").replace("*2", "*")).unwrap()).unwrap();
        pass(&mut push, &mut pull).await;
        let refused = push.recv().await.unwrap_err();
        assert_eq!(refused.errno(), Some(zmq::Error::ENOTSUP.to_raw()));
        let refused = pull.send("wrong way").await.unwrap_err();
        assert_eq!(refused.into_message(), "wrong way".into());
    });
}

// Both directions of one socket, in halves and in tasks, while its queues are full most of the time.

#[test]
fn a_split_socket_under_a_full_high_water_mark() {
    for endpoint in ["inproc://split", "tcp://127.0.0.1:*"] {
        let mut rig = Rig::new();
        let (dealer, peer) = (small::<Dealer>(&rig.context), small::<Dealer>(&rig.context));
        peer.connect(&dealer.bind(endpoint).unwrap()).unwrap();
        let probes = [dealer, peer].map(|socket| {
            let (mut sink, mut stream) = socket.split();
            let (out, back) = (rig.probe("writer"), rig.probe("reader"));
            let (writer, reader) = (Rc::clone(&out), Rc::clone(&back));
            rig.spawn(async move {
                for n in 0..MESSAGES {
                    writer.wait(sink.send(numbered(n))).await.unwrap();
                }
            });
            rig.spawn(async move {
                for n in 0..MESSAGES {
                    assert_eq!(number(&reader.wait(stream.next()).await.unwrap().unwrap()[0]), n);
                }
            });
            [out, back]
        });
        rig.run();
        for probe in probes.iter().flatten() {
            assert!(probe.parked() > 10, "{}", probe.parked());
        }
    }
}

#[test]
fn a_reader_and_a_writer_of_one_dealer_in_two_tasks_under_a_full_high_water_mark() {
    for endpoint in ["inproc://two-tasks", "tcp://127.0.0.1:*"] {
        let mut rig = Rig::new();
        let (dealer, peer) = (Rc::new(small::<Dealer>(&rig.context)), small::<Dealer>(&rig.context));
        peer.connect(&dealer.bind(endpoint).unwrap()).unwrap();
        let (writes, reads) = (rig.probe("writer"), rig.probe("reader"));
        let (socket, probe) = (Rc::clone(&dealer), Rc::clone(&writes));
        rig.spawn(async move {
            for n in 0..MESSAGES {
                probe.wait(socket.send(numbered(n))).await.unwrap();
            }
        });
        let (socket, probe) = (dealer, Rc::clone(&reads));
        rig.spawn(async move {
            for n in 0..MESSAGES {
                assert_eq!(number(&probe.wait(socket.recv()).await.unwrap()[0]), n);
            }
        });
        // An echo.
        rig.spawn(async move {
            for _ in 0..MESSAGES {
                peer.send(peer.recv().await.unwrap()).await.unwrap();
            }
        });
        rig.run();
        assert!(writes.parked() > 10 && reads.parked() > 10, "{} {}", writes.parked(), reads.parked());
    }
}

fn small<K: Kind>(context: &AsyncZmqContext) -> AsyncZmqSocket<K> {
    let socket = context.socket::<K>().unwrap();
    socket.get_ref().set_sndhwm(2).unwrap();
    socket.get_ref().set_rcvhwm(2).unwrap();
    socket
}

const MESSAGES: u64 = 2_000;
