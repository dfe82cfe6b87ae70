//! A proxy passes everything, once and whole; it holds nobody's messages, and lets itself be paused, stopped and dropped.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod common;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::kind::{Any, Dealer, Kind, Pair, Pull, Push, Rep, Req, Router, Sub, XPub, XSub};
use calloop_zmq::{AsyncZmqSocket, Error, Multipart, Proxy, ProxyControl, Subscription, proxy};
use common::hand::Hand;
use common::{Rig, Rng, fewer, number, numbered};
use futures::{FutureExt, SinkExt};

const ENDPOINTS: [(&str, &str); 2] = [("inproc://front", "inproc://back"), ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*")];

/// Room for one message in each queue.
fn tight(raw: &zmq::Socket) -> zmq::Result<()> {
    raw.set_sndhwm(1)?;
    raw.set_rcvhwm(1)
}

/// Never drops: a send to a full peer waits.
fn tight_and_mandatory(raw: &zmq::Socket) -> zmq::Result<()> {
    raw.set_router_mandatory(true)?;
    tight(raw)
}

/// A socket that nothing watches, connected.
fn bare(rig: &Rig, kind: zmq::SocketType, endpoint: &str) -> zmq::Socket {
    let socket = rig.context.zmq_context().socket(kind).unwrap();
    tight(&socket).unwrap();
    socket.set_linger(0).unwrap();
    socket.connect(endpoint).unwrap();
    socket
}

/// What a task that runs a proxy has come to.
type End = Rc<RefCell<Option<Result<(), Error>>>>;

/// Runs a proxy in a task of its own.
fn run<F: Kind, B: Kind>(
    rig: &Rig,
    front: &Rc<AsyncZmqSocket<F>>,
    back: &Rc<AsyncZmqSocket<B>>,
    control: &ProxyControl,
) -> End {
    let (front, back, control) = (Rc::clone(front), Rc::clone(back), control.clone());
    let end = End::default();
    let slot = Rc::clone(&end);
    rig.spawn_aside(async move {
        let ended = proxy(&front, &back).control(&control).await;
        slot.replace(Some(ended));
    });
    end
}

/// A streamer with room for two messages in each queue (an inproc one is as long as both marks together): PULL in front,
/// PUSH behind.
struct Streamer {
    front: Rc<AsyncZmqSocket<Pull>>,
    back: Rc<AsyncZmqSocket<Push>>,
    producer: zmq::Socket,
    produced: Cell<u64>,
    endpoint: String,
    control: ProxyControl,
}

impl Streamer {
    fn new(rig: &mut Rig) -> Self {
        Self::with_queue(rig, 2)
    }

    /// With room for so many in front.
    fn with_queue(rig: &mut Rig, room: i32) -> Self {
        let (front, back) =
            (rig.socket::<Pull>("front", |raw| raw.set_rcvhwm(room - 1)), rig.socket::<Push>("back", tight));
        // So that only room ends a burst, and no turn that is over.
        front.set_budget(NonZeroUsize::MAX);
        back.set_budget(NonZeroUsize::MAX);
        let producer = bare(rig, zmq::PUSH, &front.bind("inproc://producers").unwrap());
        let endpoint = back.bind("inproc://consumers").unwrap();
        Self { front, back, producer, produced: Cell::new(0), endpoint, control: ProxyControl::new() }
    }

    fn run(&self, rig: &Rig) -> End {
        run(rig, &self.front, &self.back, &self.control)
    }

    fn consumer(&self, rig: &Rig) -> zmq::Socket {
        bare(rig, zmq::PULL, &self.endpoint)
    }

    fn passed(&self) -> u64 {
        self.control.front_to_back().messages
    }

    /// Produces until there is no room, however often the proxy makes some.
    fn produce_all(&self, rig: &mut Rig) {
        settle(rig);
        while self.produce() {
            settle(rig);
        }
    }

    fn produce(&self) -> bool {
        // A sender that found no room sees new room only a millisecond later, or when asked for its events.
        self.producer.get_events().unwrap();
        let sent = self.producer.send(&self.produced.get().to_le_bytes()[..], zmq::DONTWAIT).is_ok();
        self.produced.set(self.produced.get() + u64::from(sent));
        sent
    }
}

/// Lets everything happen that inproc peers have brought about: no other thread has a part in it.
fn settle(rig: &mut Rig) {
    for _ in 0..20 {
        rig.turn(Duration::ZERO);
    }
}

/// Turns the loop until so many have come to the consumer, and answers their numbers.
fn take_until(rig: &mut Rig, consumer: &zmq::Socket, count: usize) -> Vec<u64> {
    let taken = RefCell::new(Vec::new());
    rig.run_until(|| {
        taken.borrow_mut().extend(take(consumer));
        taken.borrow().len() >= count
    });
    taken.take()
}

/// Takes what is there, and answers the numbers.
fn take(consumer: &zmq::Socket) -> Vec<u64> {
    let message = || consumer.recv_msg(zmq::DONTWAIT).ok();
    std::iter::from_fn(message).map(|frame| number(&frame)).collect()
}

#[test]
fn requests_and_their_replies_pass_whole_and_once() {
    const CLIENTS: u64 = 8;
    const WORKERS: usize = 3;
    const REQUESTS: u64 = 200;
    for (for_clients, for_workers) in ENDPOINTS {
        let mut rig = Rig::new();
        let front = rig.socket::<Router>("front", tight_and_mandatory);
        let back = rig.socket::<Dealer>("back", tight);
        let (for_clients, for_workers) = (front.bind(for_clients).unwrap(), back.bind(for_workers).unwrap());
        let served = Rc::new(Cell::new(0));
        for _ in 0..WORKERS {
            // A REP drops a reply for which it sees no room, so only its other queue is short.
            let worker = rig.socket::<Rep>("worker", |raw| raw.set_rcvhwm(1));
            worker.connect(&for_workers).unwrap();
            let served = Rc::clone(&served);
            rig.spawn_aside(async move {
                while let Ok(request) = worker.recv().await {
                    worker.send(request).await.unwrap();
                    served.set(served.get() + 1);
                }
            });
        }
        for client in 0..CLIENTS {
            let socket = rig.socket::<Req>("client", tight);
            socket.connect(&for_clients).unwrap();
            let probe = rig.probe("client");
            rig.spawn(async move {
                for request in 0..REQUESTS {
                    let frames = || [client, request, client ^ request].map(u64::to_le_bytes);
                    socket.send(frames()).await.unwrap();
                    assert_eq!(probe.wait(socket.recv()).await.unwrap(), frames().into());
                }
            });
        }
        let control = ProxyControl::new();
        let end = run(&rig, &front, &back, &control);
        rig.run();
        assert!(end.borrow().is_none());
        let (there, back) = (control.front_to_back(), control.back_to_front());
        assert_eq!((there.messages, back.messages, served.get()), (1600, 1600, 1600), "{for_clients}");
        // A routing id of 5 bytes, the delimiter and the frames.
        assert_eq!((there.bytes, back.bytes, there.undeliverable), (1600 * 29, 1600 * 29, 0));
    }
}

#[test]
fn a_flood_both_ways_passes_whole_and_once() {
    const CLIENTS: u64 = 3;
    let messages = fewer(3000);
    for (for_clients, for_workers) in ENDPOINTS {
        let mut rig = Rig::new();
        let mut rng = Rng::new();
        let front = rig.socket::<Router>("front", tight_and_mandatory);
        let back = rig.socket::<Dealer>("back", tight);
        let (for_clients, for_workers) = (front.bind(for_clients).unwrap(), back.bind(for_workers).unwrap());
        // One worker, so that the order is everybody's own.
        let worker = rig.socket::<Dealer>("worker", tight);
        worker.connect(&for_workers).unwrap();
        rig.spawn_aside(async move {
            while let Ok(request) = worker.recv().await {
                worker.send(request).await.unwrap();
            }
        });
        for client in 0..CLIENTS {
            let socket = rig.socket::<Dealer>("client", tight);
            socket.connect(&for_clients).unwrap();
            let (sender, probe, more) = (Rc::clone(&socket), rig.probe("client"), 1 + rng.below(4));
            // From one to five frames, each of which says where it belongs, some of them too large to be inline.
            let message = move |number: u64| -> Multipart {
                let frame = |at: u64| {
                    [client, number, at].map(u64::to_le_bytes).concat().repeat(if at % 2 == 0 { 1 } else { 2 })
                };
                (0..=number % (more + 1)).map(frame).collect()
            };
            rig.spawn(async move {
                for number in 0..messages {
                    sender.send(message(number)).await.unwrap();
                }
            });
            rig.spawn(async move {
                for number in 0..messages {
                    assert_eq!(probe.wait(socket.recv()).await.unwrap(), message(number), "client {client}");
                }
            });
        }
        let control = ProxyControl::new();
        let _end = run(&rig, &front, &back, &control);
        rig.run();
        let total = CLIENTS * messages;
        assert_eq!((control.front_to_back().messages, control.back_to_front().messages), (total, total));
        assert_eq!(control.back_to_front().undeliverable, 0);
    }
}

#[test]
fn without_a_consumer_nothing_is_taken_up() {
    let mut rig = Rig::new();
    let streamer = Streamer::new(&mut rig);
    let _end = streamer.run(&rig);
    streamer.produce_all(&mut rig);
    assert_eq!((streamer.produced.get(), streamer.passed()), (2, 0));
    let consumer = streamer.consumer(&rig);
    rig.run_until(|| streamer.passed() == 2);
    assert_eq!(take(&consumer), [0, 1]);
}

#[test]
fn a_slow_consumer_holds_up_the_producer_and_the_proxy_holds_one_message_at_most() {
    // Messages that come one by one are taken up when there is room. A burst shows only when one is too many.
    for (burst, in_hand) in [(2, 0), (10, 1)] {
        let mut rig = Rig::new();
        let streamer = Streamer::with_queue(&mut rig, burst);
        let consumer = streamer.consumer(&rig);
        while streamer.produce() {}
        let _end = streamer.run(&rig);
        streamer.produce_all(&mut rig);
        assert_eq!(streamer.passed(), 2 + in_hand, "{in_hand} in hand");
        assert!(streamer.produced.get() <= 2 + in_hand + u64::try_from(burst).unwrap());
        let turns = rig.idle(Duration::from_millis(300));
        assert!(turns <= 3, "{turns} turns to wait for the consumer");
        for expected in 0..500 {
            assert_eq!(number(&consumer.recv_msg(zmq::DONTWAIT).unwrap()), expected);
            settle(&mut rig);
            streamer.produce_all(&mut rig);
            let under_way = streamer.passed() - expected - 1;
            assert!(under_way <= 3, "{under_way} in a queue of two and a hand");
        }
    }
}

#[test]
fn subscriptions_pass_upstream_and_messages_down() {
    let mut rig = Rig::new();
    let (front, back) = (rig.socket::<XSub>("front", tight), rig.socket::<XPub>("back", |_| Ok(())));
    let publisher = rig.socket::<XPub>("publisher", |_| Ok(()));
    front.connect(&publisher.bind("inproc://upstream").unwrap()).unwrap();
    let (subscriber, endpoint) = (rig.socket::<Sub>("subscriber", |_| Ok(())), back.bind("inproc://down").unwrap());
    subscriber.connect(&endpoint).unwrap();
    subscriber.subscribe("oslo").unwrap();
    let control = ProxyControl::new();
    let _end = run(&rig, &front, &back, &control);
    rig.complete(async move {
        assert_eq!(Subscription::from(publisher.recv().await.unwrap()), Subscription::Subscribe(b"oslo".to_vec()));
        publisher.send(["rome", "21C"]).await.unwrap();
        publisher.send(["oslo", "12C"]).await.unwrap();
        assert_eq!(subscriber.recv().await.unwrap(), ["oslo", "12C"].into());
        subscriber.unsubscribe("oslo").unwrap();
        assert_eq!(Subscription::from(publisher.recv().await.unwrap()), Subscription::Unsubscribe(b"oslo".to_vec()));
    });
    // What nobody subscribed to came no further than the publisher.
    assert_eq!((control.front_to_back().messages, control.back_to_front().messages), (1, 2));
}

#[test]
fn a_socket_that_is_both_sides_sends_what_it_receives() {
    let mut rig = Rig::new();
    let echo = rig.socket::<Router>("echo", tight_and_mandatory);
    let client = rig.socket::<Dealer>("client", tight);
    client.connect(&echo.bind("inproc://echo").unwrap()).unwrap();
    let control = ProxyControl::new();
    let _end = run(&rig, &echo, &echo, &control);
    rig.complete(async move {
        for number in 0..100 {
            client.send([numbered(number)[0][..].to_vec(), b"more".to_vec()]).await.unwrap();
            assert_eq!(number, common::number(&client.recv().await.unwrap()[0]));
        }
    });
    assert_eq!((control.front_to_back().messages, control.back_to_front().messages), (100, 0));
}

#[test]
fn what_passes_is_captured_and_a_full_capture_holds_it_up() {
    let mut rig = Rig::new();
    let front = rig.socket::<Pair>("front", |_| Ok(()));
    let back = rig.socket::<Pair>("back", |_| Ok(()));
    let tap = rig.socket::<Push>("tap", tight);
    // So that only the capture's room ends a burst, and no turn that is over.
    front.set_budget(NonZeroUsize::MAX);
    back.set_budget(NonZeroUsize::MAX);
    tap.set_budget(NonZeroUsize::MAX);
    let (left, right) = (
        bare(&rig, zmq::PAIR, &front.bind("inproc://left").unwrap()),
        bare(&rig, zmq::PAIR, &back.bind("inproc://right").unwrap()),
    );
    let listener = bare(&rig, zmq::PULL, &tap.bind("inproc://tap").unwrap());
    let control = ProxyControl::new();
    {
        let control = control.clone();
        rig.spawn_aside(async move {
            proxy(&front, &back).control(&control).capture(&tap).await.unwrap();
        });
    }
    let passed = || control.front_to_back().messages + control.back_to_front().messages;
    let large = "a frame that is too large to be copied inline, and that everybody gets nevertheless";
    left.send_multipart(["a", large], 0).unwrap();
    rig.run_until(|| passed() == 1);
    right.send("b", 0).unwrap();
    rig.run_until(|| passed() == 2);
    assert_eq!(right.recv_multipart(zmq::DONTWAIT).unwrap(), [b"a", large.as_bytes()]);
    assert_eq!(left.recv_bytes(zmq::DONTWAIT).unwrap(), b"b");
    assert_eq!(listener.recv_multipart(zmq::DONTWAIT).unwrap(), [b"a", large.as_bytes()]);
    assert_eq!(listener.recv_bytes(zmq::DONTWAIT).unwrap(), b"b");

    // Two fit into the capture's queue, and one copy is in hand: its message passes, the next does not.
    for number in 0..5_u64 {
        left.send(&number.to_le_bytes()[..], zmq::DONTWAIT).unwrap();
    }
    rig.run_until(|| passed() == 5);
    right.send("held up too", 0).unwrap();
    let turns = rig.idle(Duration::from_millis(100));
    assert!(turns <= 3, "{turns} turns to wait for the capture");
    assert_eq!(passed(), 5);
    assert_eq!(take(&listener), [0, 1]);
    rig.run_until(|| passed() >= 7);
    assert_eq!(number(&listener.recv_msg(zmq::DONTWAIT).unwrap()), 2, "the copy that was in hand comes first");
    let captured = Cell::new(1);
    rig.run_until(|| {
        captured.set(captured.get() + common::drain(&listener));
        captured.get() == 4
    });
    assert_eq!(left.recv_bytes(zmq::DONTWAIT).unwrap(), b"held up too");
}

#[test]
fn a_copy_in_hand_holds_nobody_up_in_a_pause_and_goes_before_the_end() {
    let mut rig = Rig::new();
    let streamer = Streamer::with_queue(&mut rig, 10);
    let tap = rig.socket::<Push>("tap", tight);
    tap.set_budget(NonZeroUsize::MAX);
    let listener = bare(&rig, zmq::PULL, &tap.bind("inproc://tap").unwrap());
    let consumer = streamer.consumer(&rig);
    while streamer.produce() {}
    let (end, control) = (End::default(), streamer.control.clone());
    {
        let (front, back, tap) = (Rc::clone(&streamer.front), Rc::clone(&streamer.back), Rc::clone(&tap));
        let (slot, control) = (Rc::clone(&end), control.clone());
        rig.spawn_aside(async move {
            let ended = proxy(&front, &back).control(&control).capture(&tap).await;
            slot.replace(Some(ended));
        });
    }
    // Two copies fit into the capture's queue. The third one is in hand.
    assert_eq!(take_until(&mut rig, &consumer, 3), [0, 1, 2]);
    settle(&mut rig);
    assert_eq!(streamer.passed(), 3);

    control.pause();
    settle(&mut rig);
    let sent = Rc::new(Cell::new(false));
    {
        let (tap, sent) = (Rc::clone(&tap), Rc::clone(&sent));
        rig.spawn_aside(async move {
            tap.send(numbered(100)).await.unwrap();
            sent.set(true);
        });
    }
    settle(&mut rig);
    assert!(!sent.get(), "there is no room for it yet");
    assert_eq!(take(&listener), [0, 1]);
    rig.run_until(|| sent.get());

    // One more of others, and the capture is full again.
    assert!(tap.try_send(numbered(101)).is_ok());
    control.stop();
    settle(&mut rig);
    assert!(end.borrow().is_none(), "the copy is in hand");
    assert_eq!(take(&listener), [100, 101]);
    rig.run_until(|| end.borrow().is_some());
    assert!(matches!(end.take(), Some(Ok(()))));
    assert_eq!((take(&listener), streamer.passed()), (vec![2], 3));
}

#[test]
fn a_paused_proxy_lets_nothing_pass_until_it_is_resumed() {
    let mut rig = Rig::new();
    let streamer = Streamer::new(&mut rig);
    let consumer = streamer.consumer(&rig);
    let end = streamer.run(&rig);
    streamer.produce();
    rig.run_until(|| streamer.passed() == 1);
    streamer.control.pause();
    streamer.produce_all(&mut rig);
    assert_eq!((streamer.produced.get(), streamer.passed()), (3, 1), "a queue of two is full");
    let turns = rig.idle(Duration::from_millis(200));
    assert!(turns <= 3, "{turns} turns in a pause");
    // It is in nobody's way.
    let taken = rig.complete({
        let front = Rc::clone(&streamer.front);
        async move { front.recv().await.unwrap() }
    });
    assert_eq!(number(&taken[0]), 1);
    streamer.control.resume();
    rig.run_until(|| streamer.passed() == 2);
    assert_eq!(take(&consumer), [0, 2]);
    assert!(end.borrow().is_none());
}

#[test]
fn a_stopped_proxy_ends_without_an_error_paused_or_not() {
    for paused in [false, true] {
        let mut rig = Rig::new();
        let streamer = Streamer::new(&mut rig);
        let end = streamer.run(&rig);
        settle(&mut rig);
        if paused {
            streamer.control.pause();
            settle(&mut rig);
        }
        assert!(end.borrow().is_none());
        streamer.control.stop();
        rig.run_until(|| end.borrow().is_some());
        assert!(matches!(end.take(), Some(Ok(()))));
        // There is no way back, also for the next.
        streamer.control.resume();
        let end = streamer.run(&rig);
        rig.run_until(|| end.borrow().is_some());
        assert!(matches!(end.take(), Some(Ok(()))));
    }
}

#[test]
fn a_stopped_proxy_takes_up_nothing_and_hands_over_what_it_has_in_hand() {
    let mut rig = Rig::new();
    let streamer = Streamer::with_queue(&mut rig, 10);
    let consumer = streamer.consumer(&rig);
    while streamer.produce() {}
    let end = streamer.run(&rig);
    streamer.produce_all(&mut rig);
    streamer.control.stop();
    settle(&mut rig);
    assert!(end.borrow().is_none(), "one is in hand");
    assert_eq!(take(&consumer), [0, 1]);
    rig.run_until(|| end.borrow().is_some());
    assert_eq!((take(&consumer), streamer.passed()), (vec![2], 3));
    // The rest stays where it is.
    assert_eq!(number(&streamer.front.try_recv().unwrap().unwrap()[0]), 3);
}

#[test]
fn the_end_of_the_context_ends_the_proxy_paused_or_not() {
    for paused in [false, true] {
        let mut rig = Rig::new();
        let streamer = Streamer::new(&mut rig);
        let end = streamer.run(&rig);
        if paused {
            streamer.control.pause();
        }
        settle(&mut rig);
        assert!(end.borrow().is_none());
        rig.context.shutdown();
        rig.run_until(|| end.borrow().is_some());
        assert!(matches!(end.take(), Some(Err(Error::Terminated))), "paused: {paused}");
    }
}

#[test]
fn a_dropped_proxy_leaves_the_message_in_hand_with_its_socket() {
    let mut rig = Rig::new();
    let streamer = Streamer::with_queue(&mut rig, 10);
    let consumer = streamer.consumer(&rig);
    while streamer.produce() {}
    let hand = Hand::new();
    let mut first = proxy(&streamer.front, &streamer.back).control(&streamer.control);
    assert!(hand.poll(&mut first).is_pending());
    drop(first);
    assert_eq!(hand.held(), 0, "it leaves no waker behind");
    let unsent = streamer.back.take_unsent().unwrap();
    assert_eq!((number(&unsent[0]), streamer.passed()), (2, 3));
    assert!(streamer.back.take_unsent().is_none());

    // The next proxy sends it first.
    (&*streamer.back).start_send_unpin(unsent).unwrap();
    assert_eq!(take(&consumer), [0, 1]);
    let _end = streamer.run(&rig);
    assert_eq!(take_until(&mut rig, &consumer, 8)[..8], [2, 3, 4, 5, 6, 7, 8, 9]);
}

/// A storm of proxies on the same sockets, each dropped after a while: nothing is lost, doubled or out of order.
#[test]
fn a_proxy_may_be_dropped_at_any_time_and_another_go_on() {
    let messages = fewer(3000);
    for (for_clients, for_workers) in ENDPOINTS {
        let mut rig = Rig::new();
        // Bursts come in, and do not go out.
        let front = rig.socket::<Router>("front", |raw| {
            tight_and_mandatory(raw)?;
            raw.set_rcvhwm(100)
        });
        let back = rig.socket::<Dealer>("back", tight);
        let (client, worker) =
            (rig.socket::<Dealer>("client", |raw| raw.set_rcvhwm(1)), rig.socket::<Dealer>("worker", tight));
        // So that only room ends a burst, and no turn that is over.
        for dealer in [&back, &client, &worker] {
            dealer.set_budget(NonZeroUsize::MAX);
        }
        front.set_budget(NonZeroUsize::MAX);
        client.connect(&front.bind(for_clients).unwrap()).unwrap();
        worker.connect(&back.bind(for_workers).unwrap()).unwrap();
        rig.spawn_aside(async move {
            while let Ok(request) = worker.recv().await {
                worker.send(request).await.unwrap();
            }
        });
        let (probe, sender) = (rig.probe("client"), Rc::clone(&client));
        rig.spawn(async move {
            for number in 0..messages {
                sender.send([numbered(number)[0][..].to_vec(), b"more".to_vec()]).await.unwrap();
            }
        });
        let done = Rc::new(Cell::new(false));
        let finished = Rc::clone(&done);
        rig.spawn(async move {
            for expected in 0..messages {
                let reply = probe.wait(client.recv()).await.unwrap();
                assert_eq!((number(&reply[0]), reply.len()), (expected, 2));
            }
            finished.set(true);
        });
        let (cancelled, left) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (dropped, in_hand) = (Rc::clone(&cancelled), Rc::clone(&left));
        let (mut rng, context) = (Rng::new(), rig.context.clone());
        rig.spawn(async move {
            while !done.get() {
                let short = Duration::from_micros(rng.below(500));
                assert!(context.timeout(short, proxy(&front, &back)).await.is_err());
                dropped.set(dropped.get() + 1);
                // To see that there was one; it goes back to where it was.
                if let Some(message) = front.take_unsent() {
                    in_hand.set(in_hand.get() + 1);
                    (&*front).start_send_unpin(message).unwrap();
                }
                if let Some(message) = back.take_unsent() {
                    in_hand.set(in_hand.get() + 1);
                    (&*back).start_send_unpin(message).unwrap();
                }
            }
        });
        rig.run();
        println!("{} proxies, {} left a message", cancelled.get(), left.get());
        assert!(cancelled.get() > messages / 30 && left.get() > 0);
    }
}

#[test]
fn messages_for_a_peer_that_has_gone_are_counted_and_the_others_arrive() {
    let mut rig = Rig::new();
    let front = rig.socket::<Pull>("front", |_| Ok(()));
    let back = rig.socket::<Router>("back", tight_and_mandatory);
    let producer = bare(&rig, zmq::PUSH, &front.bind("inproc://producer").unwrap());
    let peer = rig.context.zmq_context().socket(zmq::DEALER).unwrap();
    peer.set_identity(b"here").unwrap();
    peer.connect(&back.bind("inproc://peer").unwrap()).unwrap();
    let control = ProxyControl::new();
    let end = run(&rig, &front, &back, &control);
    for number in 0..10_u64 {
        for name in ["gone", "here"] {
            producer.send_multipart([name.as_bytes(), &number.to_le_bytes()], zmq::DONTWAIT).unwrap();
        }
        assert_eq!(take_until(&mut rig, &peer, 1), [number]);
    }
    let traffic = control.front_to_back();
    assert_eq!((traffic.messages, traffic.undeliverable), (20, 10));
    assert!(end.borrow().is_none());
}

#[test]
fn a_full_peer_of_a_mandatory_router_is_waited_for_at_no_cost() {
    // The direction that waits comes first or second.
    for router_in_front in [false, true] {
        let mut rig = Rig::new();
        let (router, peers) = common::router_and_full_peers(&mut rig, &["full"]);
        let dealer = rig.socket::<Dealer>("dealer", |_| Ok(()));
        let worker = bare(&rig, zmq::DEALER, &dealer.bind("inproc://workers").unwrap());
        let (polls, control) = (Rc::new(Cell::new(0)), ProxyControl::new());
        let (count, steered) = (Rc::clone(&polls), control.clone());
        rig.spawn_aside(async move {
            let running = if router_in_front { proxy(&router, &dealer) } else { proxy(&dealer, &router) };
            let mut running = running.control(&steered);
            poll_fn(|cx| {
                count.set(count.get() + 1);
                running.poll_unpin(cx)
            })
            .await
            .unwrap();
        });
        let messages = || control.front_to_back().messages + control.back_to_front().messages;
        worker.send_multipart(["full", "held up"], 0).unwrap();
        rig.run_until(|| messages() == 1);
        // The other direction goes on, and the end of its burst does not stir up the one that waits.
        peers[0].send("a request", 0).unwrap();
        rig.run_until(|| messages() == 2);
        rig.idle(Duration::from_millis(50));
        let before = polls.get();
        let turns = rig.idle(Duration::from_millis(300));
        let polls = polls.get() - before;
        assert!(turns <= 3 && polls <= 3, "{turns} turns, {polls} polls");
        let drained = Cell::new(0);
        rig.run_until(|| {
            drained.set(drained.get() + common::drain(&peers[0]));
            drained.get() == 3
        });
    }
}

#[test]
fn two_proxies_share_a_socket_and_the_one_without_a_consumer_takes_nothing() {
    let mut rig = Rig::new();
    let streamer = Streamer::new(&mut rig);
    let (nobody, dead_end) = (rig.socket::<Push>("nobody", tight), ProxyControl::new());
    let _dead_end = run(&rig, &streamer.front, &nobody, &dead_end);
    let consumer = streamer.consumer(&rig);
    let _end = streamer.run(&rig);
    for number in 0..100 {
        assert!(streamer.produce());
        assert_eq!(take_until(&mut rig, &consumer, 1), [number]);
    }
    assert_eq!(dead_end.front_to_back().messages, 0);
}

#[test]
fn a_proxy_that_is_called_and_has_no_room_any_more_passes_its_turn_on() {
    let mut rig = Rig::new();
    let streamer = Streamer::new(&mut rig);
    let (other, first) = (rig.socket::<Push>("other", tight), ProxyControl::new());
    let leaving = bare(&rig, zmq::PULL, &other.bind("inproc://other").unwrap());
    let _first = run(&rig, &streamer.front, &other, &first);
    settle(&mut rig);
    let consumer = streamer.consumer(&rig);
    let _second = streamer.run(&rig);
    settle(&mut rig);
    assert!(streamer.produce());
    assert_eq!(take_until(&mut rig, &leaving, 1), [0]);
    // Whoever got one is behind the other now, and both wait.
    assert!(streamer.produce());
    assert_eq!(take_until(&mut rig, &consumer, 1), [1]);
    settle(&mut rig);
    drop(leaving);
    rig.run_until(|| !other.with_ref(zmq::Socket::get_events).unwrap().contains(zmq::POLLOUT));
    for number in 2..10 {
        assert!(streamer.produce());
        assert_eq!(take_until(&mut rig, &consumer, 1), [number]);
        settle(&mut rig);
    }
    assert_eq!(first.front_to_back().messages, 1);
}

#[test]
fn kinds_that_do_not_fit_are_refused_at_once() {
    let mut rig = Rig::new();
    let hand = Hand::new();
    let mut socket = |kind| rig.adopt::<Any>("any", kind, |_| Ok(()));
    for (front, back) in [(zmq::PUSH, zmq::PUB), (zmq::PULL, zmq::SUB), (zmq::REP, zmq::REQ), (zmq::REP, zmq::DEALER)] {
        let (front, back) = (socket(front), socket(back));
        let Poll::Ready(Err(Error::Zmq { operation, source })) = hand.poll(&mut proxy(&front, &back)) else {
            panic!("it is not refused")
        };
        assert_eq!(source, zmq::Error::ENOTSUP);
        assert!(operation.starts_with("forward between a "), "{operation}");
    }
    let (pull, push) = (socket(zmq::PULL), socket(zmq::PUSH));
    assert!(hand.poll(&mut proxy(&pull, &push)).is_pending());
    assert!(hand.poll(&mut proxy(&push, &pull)).is_pending());
}

#[test]
fn a_timer_keeps_its_beat_beside_a_flood_through_a_proxy() {
    const MESSAGES: u64 = 100_000;
    const BUDGET: usize = 64;
    let mut rig = Rig::new();
    let (front, back) =
        (rig.socket::<Pull>("front", |raw| raw.set_rcvhwm(0)), rig.socket::<Push>("back", |raw| raw.set_sndhwm(0)));
    let unlimited = |kind, endpoint: &str| {
        let socket = rig.context.zmq_context().socket(kind).unwrap();
        socket.set_sndhwm(0).unwrap();
        socket.set_rcvhwm(0).unwrap();
        socket.connect(endpoint).unwrap();
        socket
    };
    let producer = unlimited(zmq::PUSH, &front.bind("inproc://producers").unwrap());
    let consumer = unlimited(zmq::PULL, &back.bind("inproc://consumers").unwrap());
    for number in 0..MESSAGES {
        producer.send(&number.to_le_bytes()[..], zmq::DONTWAIT).unwrap();
    }
    front.set_budget(NonZeroUsize::new(BUDGET).unwrap());
    // What was taken up goes out in the same turn.
    back.set_budget(NonZeroUsize::MAX);
    let (beats, last) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(Instant::now())));
    let (beat, at) = (Rc::clone(&beats), Rc::clone(&last));
    rig.handle()
        .insert_source(Timer::immediate(), move |_, &mut (), ()| {
            beat.set(beat.get() + 1);
            at.set(Instant::now());
            TimeoutAction::ToDuration(Duration::from_millis(1))
        })
        .unwrap();
    let control = ProxyControl::new();
    let _end = run(&rig, &front, &back, &control);
    let mut late = 0;
    while control.front_to_back().messages < MESSAGES {
        let (before, due) = (beats.get(), last.get().elapsed() >= Duration::from_millis(1));
        let so_far = control.front_to_back().messages;
        rig.turn(common::STALL);
        late += u32::from(due);
        assert!(!due || beats.get() > before, "a beat was left out");
        assert!(control.front_to_back().messages - so_far <= BUDGET as u64, "more than the budget in one turn");
    }
    assert!(late > 0, "the timer was never due");
    assert!(take(&consumer).into_iter().eq(0..MESSAGES));
}

#[test]
fn an_idle_proxy_costs_no_turns() {
    let mut rig = Rig::new();
    let (front, back) = (rig.socket::<Router>("front", |_| Ok(())), rig.socket::<Dealer>("back", |_| Ok(())));
    front.bind("inproc://front").unwrap();
    back.bind("inproc://back").unwrap();
    let _end = run(&rig, &front, &back, &ProxyControl::new());
    rig.idle(Duration::from_millis(20));
    let turns = rig.idle(Duration::from_millis(500));
    assert!(turns <= 3, "{turns} turns");
}

#[test]
fn debug_tells_the_kinds_and_the_traffic() {
    let mut rig = Rig::new();
    let streamer = Streamer::new(&mut rig);
    let running = proxy(&streamer.front, &streamer.back).control(&streamer.control);
    let text = format!("{running:?}");
    for part in ["front: PULL", "back: PUSH", "order: Run", "front_to_back: Traffic { messages: 0"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_control_steers_all_its_proxies_and_holds_no_waker_of_those_that_have_gone() {
    let mut rig = Rig::new();
    let (one, other) = (Streamer::new(&mut rig), rig.socket::<Push>("other", |_| Ok(())));
    let (hand, control) = (Hand::new(), ProxyControl::new());
    let mut both: [Proxy<'_>; 2] =
        [proxy(&one.front, &one.back), proxy(&one.front, &other)].map(|proxy| proxy.control(&control));
    for running in &mut both {
        assert!(hand.poll(running).is_pending());
    }
    let before = hand.wakes();
    control.stop();
    assert_eq!(hand.wakes() - before, 2);
    for running in &mut both {
        assert!(matches!(hand.poll(running), Poll::Ready(Ok(()))));
    }
    drop(both);
    assert_eq!(hand.held(), 0);
}
