//! No wake-up is lost: the stresses under which one that is lost shows. Small high-water marks, both directions of a
//! socket in different tasks, and calls from the side. A stall or a spin ends the test with a diagnosis.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod common;

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::kind::{Any, CanRecv, CanSend, Dealer, Pull, Push, Rep, Req, Router};
use calloop_zmq::{AsyncZmqSocket, Multipart};
use common::{Pulse, Rig, Rng, has_room, number, numbered};
use futures::{FutureExt, SinkExt, StreamExt};

const MESSAGES: u64 = 50_000;
const TCP: &str = "tcp://127.0.0.1:*";

/// Turns that are not for a message: the loop's first ones, the end of the tasks.
const EXTRA_TURNS: u64 = 100;

/// Prints how many turns of the loop a message took, and asserts that it was no more than that.
fn assert_turns(what: &str, turns: u64, messages: u64, most: u64) {
    let hundredths = turns * 100 / messages;
    println!("{what}: {turns} turns for {messages} messages, {}.{:02} each", hundredths / 100, hundredths % 100);
    assert!(turns <= most * messages + EXTRA_TURNS, "{what}: {turns} turns for {messages} messages");
}

// PUSH with a high-water mark of 1: the writer parks all the time.

#[test]
fn push_hwm_1_inproc() {
    push_hwm_1("inproc://push", 2);
}

#[test]
fn push_hwm_1_tcp() {
    // Two events for each message, its arrival and the room that it leaves; and two turns for each event.
    push_hwm_1(TCP, 4);
}

fn push_hwm_1(endpoint: &str, most: u64) {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |raw| raw.set_rcvhwm(1));
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    push.connect(&pull.bind(endpoint).unwrap()).unwrap();
    let (sender, receiver) = (rig.probe("sender"), rig.probe("receiver"));
    spawn_push(&rig, &push, &sender);
    spawn_pull(&rig, &pull, &receiver);
    let turns = rig.run();
    assert!(sender.parked() > MESSAGES / 100, "the sender hardly ever waited: {}", sender.parked());
    assert_turns(endpoint, turns, MESSAGES, most);
}

#[test]
fn push_hwm_1_to_a_thread_inproc() {
    push_hwm_1_to_a_thread("inproc://push-thread");
}

#[test]
fn push_hwm_1_to_a_thread_tcp() {
    push_hwm_1_to_a_thread(TCP);
}

fn push_hwm_1_to_a_thread(endpoint: &str) {
    let mut rig = Rig::new();
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    let endpoint = push.bind(endpoint).unwrap();
    let peer = peer(
        &rig,
        zmq::PULL,
        |raw| raw.set_rcvhwm(1),
        &endpoint,
        |raw| {
            for n in 0..MESSAGES {
                assert_eq!(number(&raw.recv_msg(0).unwrap()), n);
            }
        },
    );
    let sender = rig.probe("sender");
    spawn_push(&rig, &push, &sender);
    let turns = rig.run();
    peer.join().unwrap();
    assert!(sender.parked() > MESSAGES / 100, "the sender hardly ever waited: {}", sender.parked());
    assert_turns(&format!("{endpoint}, peer in a thread"), turns, MESSAGES, 2);
}

fn spawn_push(rig: &Rig, push: &Rc<AsyncZmqSocket<Push>>, probe: &Rc<common::Probe>) {
    let (push, probe) = (Rc::clone(push), Rc::clone(probe));
    rig.spawn(async move {
        for n in 0..MESSAGES {
            probe.wait(push.send(numbered(n))).await.unwrap();
        }
    });
}

fn spawn_pull(rig: &Rig, pull: &Rc<AsyncZmqSocket<Pull>>, probe: &Rc<common::Probe>) {
    let (pull, probe) = (Rc::clone(pull), Rc::clone(probe));
    rig.spawn(async move {
        for n in 0..MESSAGES {
            assert_eq!(number(&probe.wait(pull.recv()).await.unwrap()[0]), n);
        }
    });
}

/// A socket of the zmq crate in a thread of its own, connected to `endpoint`. Its calls give up in the end.
fn peer(
    rig: &Rig,
    kind: zmq::SocketType,
    setup: impl FnOnce(&zmq::Socket) -> zmq::Result<()>,
    endpoint: &str,
    run: impl FnOnce(&zmq::Socket) + Send + 'static,
) -> JoinHandle<()> {
    let raw = rig.context.zmq_context().socket(kind).unwrap();
    let patience = i32::try_from(2 * common::STALL.as_millis()).unwrap();
    raw.set_rcvtimeo(patience).unwrap();
    raw.set_sndtimeo(patience).unwrap();
    setup(&raw).unwrap();
    raw.connect(endpoint).unwrap();
    thread::spawn(move || run(&raw))
}

// DEALER and ROUTER with a high-water mark of 2 and one task for each direction: every call of one direction can
// swallow what the other waits for.

#[test]
fn dealer_and_router_hwm_2_inproc() {
    dealer_and_router("inproc://both");
}

#[test]
fn dealer_and_router_hwm_2_tcp() {
    dealer_and_router(TCP);
}

fn dealer_and_router(endpoint: &str) {
    let mut rig = Rig::new();
    let router = rig.socket::<Router>("ROUTER", router_hwm_2);
    let dealer = rig.socket::<Dealer>("DEALER", dealer_hwm_2);
    dealer.connect(&router.bind(endpoint).unwrap()).unwrap();
    let (one, other) = (Rc::clone(&dealer), Rc::clone(&router));
    // The router must know its peer.
    rig.complete(async move {
        one.send("hello").await.unwrap();
        other.recv().await.unwrap();
    });
    let probes = [rig.probe("DEALER sends"), rig.probe("DEALER receives")];
    spawn_both_directions(&rig, &dealer, &probes, false);
    let router_probes = [rig.probe("ROUTER sends"), rig.probe("ROUTER receives")];
    spawn_both_directions(&rig, &router, &router_probes, true);
    let turns = rig.run();
    for probe in probes.iter().chain(&router_probes) {
        assert!(probe.parked() > MESSAGES / 100, "a direction hardly ever waited: {}", probe.parked());
    }
    assert_turns(endpoint, turns, 2 * MESSAGES, 2);
}

#[test]
fn dealer_hwm_2_with_a_thread_inproc() {
    dealer_with_a_thread("inproc://dealer-thread");
}

#[test]
fn dealer_hwm_2_with_a_thread_tcp() {
    dealer_with_a_thread(TCP);
}

fn dealer_with_a_thread(endpoint: &str) {
    let mut rig = Rig::new();
    let dealer = rig.socket::<Dealer>("DEALER", dealer_hwm_2);
    let endpoint = dealer.bind(endpoint).unwrap();
    let peer = peer(&rig, zmq::ROUTER, router_hwm_2, &endpoint, |raw| {
        assert_eq!(raw.recv_multipart(0).unwrap()[0], b"d");
        both_directions(raw, Some(b"d"));
    });
    let one = Rc::clone(&dealer);
    rig.complete(async move { one.send("hello").await.unwrap() });
    let probes = [rig.probe("sends"), rig.probe("receives")];
    spawn_both_directions(&rig, &dealer, &probes, false);
    let turns = rig.run();
    peer.join().unwrap();
    assert!(probes.iter().all(|probe| probe.parked() > MESSAGES / 1000), "a direction hardly ever waited");
    assert_turns(&format!("DEALER {endpoint}, peer in a thread"), turns, 2 * MESSAGES, 2);
}

#[test]
fn router_hwm_2_with_a_thread_inproc() {
    router_with_a_thread("inproc://router-thread");
}

#[test]
fn router_hwm_2_with_a_thread_tcp() {
    router_with_a_thread(TCP);
}

fn router_with_a_thread(endpoint: &str) {
    let mut rig = Rig::new();
    let router = rig.socket::<Router>("ROUTER", router_hwm_2);
    let endpoint = router.bind(endpoint).unwrap();
    let peer = peer(&rig, zmq::DEALER, dealer_hwm_2, &endpoint, |raw| {
        raw.send("hello", 0).unwrap();
        both_directions(raw, None);
    });
    let one = Rc::clone(&router);
    rig.complete(async move { assert_eq!(&one.recv().await.unwrap()[0][..], b"d") });
    let probes = [rig.probe("sends"), rig.probe("receives")];
    spawn_both_directions(&rig, &router, &probes, true);
    let turns = rig.run();
    peer.join().unwrap();
    assert!(probes.iter().all(|probe| probe.parked() > MESSAGES / 1000), "a direction hardly ever waited");
    assert_turns(&format!("ROUTER {endpoint}, peer in a thread"), turns, 2 * MESSAGES, 2);
}

fn router_hwm_2(raw: &zmq::Socket) -> zmq::Result<()> {
    raw.set_router_mandatory(true)?;
    dealer_hwm_2(raw)
}

fn dealer_hwm_2(raw: &zmq::Socket) -> zmq::Result<()> {
    raw.set_sndhwm(2)?;
    raw.set_rcvhwm(2)?;
    raw.set_identity(if raw.get_socket_type()? == zmq::ROUTER { b"r" } else { b"d" })
}

/// One task sends the numbers, another receives them.
fn spawn_both_directions<K: CanSend + CanRecv>(
    rig: &Rig,
    socket: &Rc<AsyncZmqSocket<K>>,
    probes: &[Rc<common::Probe>; 2],
    routed: bool,
) {
    let (sender, probe) = (Rc::clone(socket), Rc::clone(&probes[0]));
    rig.spawn(async move {
        for n in 0..MESSAGES {
            let mut message = numbered(n);
            if routed {
                message.push_front("d");
            }
            probe.wait(sender.send(message)).await.unwrap();
        }
    });
    let (receiver, probe) = (Rc::clone(socket), Rc::clone(&probes[1]));
    rig.spawn(async move {
        for n in 0..MESSAGES {
            let message = probe.wait(receiver.recv()).await.unwrap();
            assert_eq!(message.len(), 1 + usize::from(routed));
            assert_eq!(number(message.last().unwrap()), n);
        }
    });
}

/// The same, in a thread and without a loop.
fn both_directions(raw: &zmq::Socket, id: Option<&[u8]>) {
    let (mut sent, mut received, mut quiet_since) = (0, 0, Instant::now());
    while sent < MESSAGES || received < MESSAGES {
        let before = (sent, received);
        while sent < MESSAGES {
            let body = sent.to_le_bytes();
            let frames: Vec<&[u8]> = id.into_iter().chain([&body[..]]).collect();
            match raw.send_multipart(frames, zmq::DONTWAIT) {
                Ok(()) => sent += 1,
                Err(zmq::Error::EAGAIN) => break,
                Err(error) => panic!("{error}"),
            }
        }
        while received < MESSAGES {
            match raw.recv_multipart(zmq::DONTWAIT) {
                Ok(frames) => {
                    assert_eq!(frames.last().unwrap()[..], u64::to_le_bytes(received));
                    received += 1;
                }
                Err(zmq::Error::EAGAIN) => break,
                Err(error) => panic!("{error}"),
            }
        }
        if before == (sent, received) {
            // Lets the send see the room that was made: it processes commands once in a millisecond.
            raw.get_events().unwrap();
            assert!(quiet_since.elapsed() < 2 * common::STALL, "the peer is stuck at {sent} and {received}");
            thread::yield_now();
        } else {
            quiet_since = Instant::now();
        }
    }
}

// A failed attempt looks after the other direction at once, and hides that a successful one must do so too. So: sends
// that succeed, with something else to wait for in between.

#[test]
fn dealer_that_sends_now_and_then_inproc() {
    dealer_that_sends_now_and_then("inproc://now-and-then");
}

#[test]
fn dealer_that_sends_now_and_then_tcp() {
    dealer_that_sends_now_and_then(TCP);
}

fn dealer_that_sends_now_and_then(endpoint: &str) {
    let mut rig = Rig::new();
    let dealer = rig.socket::<Dealer>("DEALER", |raw| {
        raw.set_sndhwm(0)?;
        raw.set_rcvhwm(2)
    });
    let endpoint = dealer.bind(endpoint).unwrap();
    let peer = peer(&rig, zmq::DEALER, dealer_hwm_2, &endpoint, |raw| {
        for n in 0..MESSAGES {
            raw.send(&n.to_le_bytes()[..], 0).unwrap();
            if n % 16 == 0 {
                while raw.recv_msg(zmq::DONTWAIT).is_ok() {}
            }
        }
        // Closed any earlier, tcp would drop what is on its way here because of what is on its way there.
        while raw.recv_msg(0).unwrap().as_str() != Some("done") {}
    });
    let (sender, pulse, mut rng) = (Rc::clone(&dealer), rig.pulse(), Rng::new());
    let sent = Rc::new(Cell::new(0));
    let counter = Rc::clone(&sent);
    rig.spawn_aside(async move {
        loop {
            sender.send("now").await.unwrap();
            counter.set(counter.get() + 1);
            for _ in 0..rng.below(3) {
                pulse.next().await;
            }
            pulse.next().await;
        }
    });
    let probe = rig.probe("receiver");
    let receiving = Rc::clone(&probe);
    rig.spawn(async move {
        for n in 0..MESSAGES {
            assert_eq!(number(&probe.wait(dealer.recv()).await.unwrap()[0]), n);
        }
        dealer.send("done").await.unwrap();
    });
    let turns = rig.run();
    peer.join().unwrap();
    assert!(sent.get() > 100 && receiving.parked() > MESSAGES / 100, "{} sent", sent.get());
    assert_turns(&format!("DEALER {endpoint}, sends now and then"), turns, MESSAGES + sent.get(), 2);
}

// Each single call that can swallow an announcement, with the kernel as the witness that it did.

type Socket = AsyncZmqSocket<Any>;
/// Called until the announcement is gone.
type Swallow = fn(&Socket, kind: zmq::SocketType);

const TWO_WAY: [zmq::SocketType; 3] = [zmq::PAIR, zmq::DEALER, zmq::ROUTER];

// Not the calls that announce something themselves, as a bind that succeeds does.
const CALLS: [(&str, Swallow); 4] = [
    ("a bare look", |socket, _| assert!(socket.get_ref().get_events().is_ok())),
    ("a bind that fails", |socket, _| drop(socket.bind("inproc://swallow").unwrap_err())),
    ("an unbind that fails", |socket, _| drop(socket.unbind("tcp://127.0.0.1:1").unwrap_err())),
    ("a disconnect that fails", |socket, _| drop(socket.disconnect("tcp://127.0.0.1:1").unwrap_err())),
];

#[test]
fn a_reader_wakes_whatever_swallowed_its_message() {
    let roomy: [(&str, Swallow); 3] = [
        ("a try that succeeds", |socket, kind| assert!(socket.try_send(to_peer(kind)).is_ok())),
        ("a send that succeeds", |socket, kind| socket.send(to_peer(kind)).now_or_never().unwrap().unwrap()),
        ("a Sink that sends", |mut socket, kind| socket.feed(to_peer(kind)).now_or_never().unwrap().unwrap()),
    ];
    let full: [(&str, Swallow); 4] = [
        ("a try that fails", |socket, kind| {
            assert!(socket.try_send(to_peer(kind)).is_err_and(|error| error.is_full()));
        }),
        ("a send that is cancelled", |socket, kind| assert!(socket.send(to_peer(kind)).now_or_never().is_none())),
        ("a Sink that has no room", |mut socket, kind| drop(SinkExt::send(&mut socket, to_peer(kind)).now_or_never())),
        ("a look for room", |socket, _| drop(socket.writable().now_or_never())),
    ];
    let cases = (roomy.into_iter().map(|case| (case, 0))).chain(full.into_iter().chain(CALLS).map(|case| (case, 1)));
    for ((name, swallow), hwm) in cases {
        for kind in TWO_WAY {
            if kind == zmq::ROUTER && name == "a look for room" {
                // It has none to take: room depends on the peer.
                continue;
            }
            println!("{kind:?}, {name}");
            let mut rig = Rig::new();
            let (socket, peer) = two_way(&mut rig, kind, hwm);
            while hwm != 0 && has_room(socket.try_send(to_peer(kind))) {}
            let (receiver, probe) = (Rc::clone(&socket), rig.probe("receiver"));
            let parked = Rc::clone(&probe);
            rig.spawn(async move { drop(probe.wait(receiver.recv()).await.unwrap()) });
            rig.run_until(|| parked.waits());
            rig.idle(Duration::from_millis(1));
            peer.send("for the reader", zmq::DONTWAIT).unwrap();
            swallow_announcement(&rig, &socket, kind, swallow);
            rig.run();
        }
    }
}

#[test]
fn a_writer_wakes_whatever_swallowed_its_room() {
    let with_messages: [(&str, Swallow); 3] = [
        ("tries that succeed", |socket, _| assert!(socket.try_recv().unwrap().is_some())),
        ("receives that succeed", |socket, _| drop(socket.recv().now_or_never().unwrap().unwrap())),
        ("a stream's messages", |mut socket, _| drop(socket.next().now_or_never().unwrap().unwrap().unwrap())),
    ];
    let without: [(&str, Swallow); 4] = [
        ("a try that fails", |socket, _| assert!(socket.try_recv().unwrap().is_none())),
        ("a receive that is cancelled", |socket, _| assert!(socket.recv().now_or_never().is_none())),
        ("a stream that has nothing", |mut socket, _| assert!(socket.next().now_or_never().is_none())),
        ("a look for messages", |socket, _| assert!(socket.readable().now_or_never().is_none())),
    ];
    let cases = (with_messages.into_iter().map(|case| (case, 250)))
        .chain(without.into_iter().chain(CALLS).map(|case| (case, 0)));
    for ((name, swallow), messages) in cases {
        for kind in TWO_WAY {
            println!("{kind:?}, {name}");
            let mut rig = Rig::new();
            let (socket, peer) = two_way(&mut rig, kind, 1);
            while has_room(socket.try_send(to_peer(kind))) {}
            let (sender, probe) = (Rc::clone(&socket), rig.probe("sender"));
            let parked = Rc::clone(&probe);
            rig.spawn(async move { probe.wait(sender.send(to_peer(kind))).await.unwrap() });
            rig.run_until(|| parked.waits());
            rig.idle(Duration::from_millis(1));
            for _ in 0..messages {
                peer.send("queued", zmq::DONTWAIT).unwrap();
            }
            rig.idle(Duration::from_millis(1));
            while peer.recv_msg(zmq::DONTWAIT).is_ok() {}
            swallow_announcement(&rig, &socket, kind, swallow);
            rig.run();
        }
    }
}

fn swallow_announcement(rig: &Rig, socket: &Socket, kind: zmq::SocketType, swallow: Swallow) {
    assert!(rig.fd_readable("socket"), "nothing to swallow");
    let begin = Instant::now();
    // A send processes commands once in a millisecond, a receive that succeeds one time in a hundred.
    while rig.fd_readable("socket") {
        swallow(socket, kind);
        assert!(begin.elapsed() < common::STALL, "it swallows nothing");
    }
}

/// A socket that sends and receives, and its bare peer. The mark is for what the socket sends.
fn two_way(rig: &mut Rig, kind: zmq::SocketType, hwm: i32) -> (Rc<Socket>, zmq::Socket) {
    let socket = rig.adopt::<Any>("socket", kind, |raw| {
        raw.set_sndhwm(hwm)?;
        raw.set_rcvhwm(0)?;
        if kind == zmq::ROUTER { raw.set_router_mandatory(true) } else { Ok(()) }
    });
    // So that what is there is not put off to the next turn, which would look at the socket.
    socket.set_budget(NonZeroUsize::MAX);
    let peer_kind = if kind == zmq::PAIR { kind } else { zmq::DEALER };
    let peer = rig.context.zmq_context().socket(peer_kind).unwrap();
    peer.set_identity(b"peer").unwrap();
    peer.set_sndhwm(0).unwrap();
    peer.set_rcvhwm(hwm).unwrap();
    peer.connect(&socket.bind("inproc://swallow").unwrap()).unwrap();
    peer.send("hello", zmq::DONTWAIT).unwrap();
    assert!(socket.try_recv().unwrap().is_some());
    (socket, peer)
}

fn to_peer(kind: zmq::SocketType) -> Multipart {
    if kind == zmq::ROUTER { ["peer", "message"].into() } else { "message".into() }
}

/// libzmq says EAGAIN from old knowledge for a millisecond. Nobody must wait because of that.
#[test]
fn a_send_finds_the_room_that_the_peer_made_just_now() {
    let mut rig = Rig::new();
    let (socket, peer) = two_way(&mut rig, zmq::DEALER, 1);
    for _ in 0..1000 {
        while has_room(socket.try_send(to_peer(zmq::DEALER))) {}
        while peer.recv_msg(zmq::DONTWAIT).is_ok() {}
        assert!(socket.try_send(to_peer(zmq::DEALER)).is_ok());
    }
}

// Calls from the side, at random points: each may swallow what a task waits for.

#[test]
fn pull_with_a_meddling_task_inproc() {
    pull_with_a_meddler("inproc://meddler", spawn_meddler);
}

#[test]
fn pull_with_a_meddling_task_tcp() {
    pull_with_a_meddler(TCP, spawn_meddler);
}

#[test]
fn pull_with_a_meddler_that_keeps_the_bare_socket_inproc() {
    pull_with_a_meddler("inproc://keeper", spawn_keeper);
}

#[test]
fn pull_with_a_meddler_that_keeps_the_bare_socket_tcp() {
    pull_with_a_meddler(TCP, spawn_keeper);
}

#[test]
fn pull_with_a_meddling_timer_inproc() {
    pull_with_a_meddler("inproc://timer", insert_meddling_timer);
}

#[test]
fn pull_with_a_meddling_timer_tcp() {
    pull_with_a_meddler(TCP, insert_meddling_timer);
}

type Meddler = fn(&Rig, Rc<AsyncZmqSocket<Pull>>, Rc<Cell<u64>>);

fn pull_with_a_meddler(endpoint: &str, start: Meddler) {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |raw| raw.set_rcvhwm(2));
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(2));
    push.connect(&pull.bind(endpoint).unwrap()).unwrap();
    let meddled = Rc::new(Cell::new(0));
    start(&rig, Rc::clone(&pull), Rc::clone(&meddled));
    let (sender, receiver) = (rig.probe("sender"), rig.probe("receiver"));
    spawn_push(&rig, &push, &sender);
    spawn_pull(&rig, &pull, &receiver);
    let turns = rig.run();
    println!("{endpoint}: meddled {} times", meddled.get());
    assert!(meddled.get() > 10, "nobody meddled");
    assert!(receiver.parked() > MESSAGES / 100, "the receiver hardly ever waited: {}", receiver.parked());
    // The meddler's own turns are among them.
    assert_turns(endpoint, turns, MESSAGES + meddled.get(), 2);
}

fn spawn_meddler(rig: &Rig, pull: Rc<AsyncZmqSocket<Pull>>, meddled: Rc<Cell<u64>>) {
    // Connected to now and then; it never sends.
    let spare = rig.context.zmq_context().socket(zmq::PUSH).unwrap();
    spare.bind("inproc://spare").unwrap();
    let (pulse, mut rng) = (rig.pulse(), Rng::new());
    rig.spawn_aside(async move {
        let _spare = spare;
        loop {
            pulse.next().await;
            match rng.below(200) {
                0 => {
                    pull.connect("inproc://spare").unwrap();
                    pulse.next().await;
                    pull.disconnect("inproc://spare").unwrap();
                }
                1..50 => pull.get_ref().set_rcvbuf(4096).unwrap(),
                50..120 => drop(pull.get_ref().get_events().unwrap()),
                _ => continue,
            }
            meddled.set(meddled.get() + 1);
        }
    });
}

fn spawn_keeper(rig: &Rig, pull: Rc<AsyncZmqSocket<Pull>>, meddled: Rc<Cell<u64>>) {
    let (pulse, rng) = (rig.pulse(), Rng::new());
    rig.spawn_aside(async move { keep_and_meddle(pull.get_ref(), pulse, rng, &meddled).await });
}

async fn keep_and_meddle(kept: &zmq::Socket, pulse: Pulse, mut rng: Rng, meddled: &Cell<u64>) {
    loop {
        pulse.next().await;
        if rng.below(2) == 0 {
            kept.get_events().unwrap();
            meddled.set(meddled.get() + 1);
        }
    }
}

fn insert_meddling_timer(rig: &Rig, pull: Rc<AsyncZmqSocket<Pull>>, meddled: Rc<Cell<u64>>) {
    let (pulse, mut last) = (rig.pulse(), 0);
    let timer = Timer::immediate();
    rig.handle()
        .insert_source(timer, move |_, &mut (), ()| {
            // Not without progress: it would repair what it broke.
            if pulse.progress() != last {
                last = pulse.progress();
                pull.get_ref().get_events().unwrap();
                meddled.set(meddled.get() + 1);
            }
            TimeoutAction::ToDuration(Duration::from_micros(300))
        })
        .unwrap();
}

#[test]
fn push_with_a_meddler_that_keeps_the_bare_socket() {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |raw| raw.set_rcvhwm(1));
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    push.connect(&pull.bind("inproc://push-keeper").unwrap()).unwrap();
    let meddled = Rc::new(Cell::new(0));
    let (kept, pulse, rng, counter) = (Rc::clone(&push), rig.pulse(), Rng::new(), Rc::clone(&meddled));
    rig.spawn_aside(async move { keep_and_meddle(kept.get_ref(), pulse, rng, &counter).await });
    let (sender, receiver) = (rig.probe("sender"), rig.probe("receiver"));
    spawn_push(&rig, &push, &sender);
    spawn_pull(&rig, &pull, &receiver);
    rig.run();
    assert!(meddled.get() > 10 && sender.parked() > MESSAGES / 100);
}

#[test]
fn router_with_a_meddler_that_keeps_the_bare_socket() {
    let mut rig = Rig::new();
    let router = rig.socket::<Router>("ROUTER", router_hwm_2);
    let dealer = rig.socket::<Dealer>("DEALER", dealer_hwm_2);
    dealer.connect(&router.bind("inproc://router-keeper").unwrap()).unwrap();
    let (one, other) = (Rc::clone(&dealer), Rc::clone(&router));
    rig.complete(async move {
        one.send("hello").await.unwrap();
        other.recv().await.unwrap();
    });
    let meddled = Rc::new(Cell::new(0));
    let (kept, pulse, rng, counter) = (Rc::clone(&router), rig.pulse(), Rng::new(), Rc::clone(&meddled));
    rig.spawn_aside(async move { keep_and_meddle(kept.get_ref(), pulse, rng, &counter).await });
    let probes = [rig.probe("DEALER sends"), rig.probe("DEALER receives")];
    spawn_both_directions(&rig, &dealer, &probes, false);
    let router_probes = [rig.probe("ROUTER sends"), rig.probe("ROUTER receives")];
    spawn_both_directions(&rig, &router, &router_probes, true);
    rig.run();
    assert!(meddled.get() > 10 && router_probes[0].parked() > MESSAGES / 100);
}

// The two that calloop's book has wrong.

#[test]
fn req_whose_reply_comes_before_the_next_look() {
    let mut rig = Rig::new();
    let req = rig.socket::<Req>("REQ", |_| Ok(()));
    let peer = rig.context.zmq_context().socket(zmq::REP).unwrap();
    peer.bind("inproc://req").unwrap();
    req.connect("inproc://req").unwrap();
    for _ in 0..ROUNDS {
        assert!(req.try_send("question").is_ok());
        assert_eq!(peer.recv_msg(zmq::DONTWAIT).unwrap().as_str(), Some("question"));
        wait_for_what_is_swallowed(&mut rig, &req, "REQ", || peer.send("answer", zmq::DONTWAIT).unwrap());
    }
}

#[test]
fn rep_whose_request_comes_before_the_next_look() {
    let mut rig = Rig::new();
    let rep = rig.socket::<Rep>("REP", |_| Ok(()));
    let peer = rig.context.zmq_context().socket(zmq::REQ).unwrap();
    rep.bind("inproc://rep").unwrap();
    peer.connect("inproc://rep").unwrap();
    for _ in 0..ROUNDS {
        wait_for_what_is_swallowed(&mut rig, &rep, "REP", || peer.send("question", zmq::DONTWAIT).unwrap());
        assert!(rep.try_send("answer").is_ok());
        assert_eq!(peer.recv_msg(zmq::DONTWAIT).unwrap().as_str(), Some("answer"));
    }
}

/// A task parks in `recv`, the message comes, and before the loop turns a call out of turn (`EFSM`) swallows its
/// announcement.
fn wait_for_what_is_swallowed<K: CanSend + CanRecv>(
    rig: &mut Rig,
    socket: &Rc<AsyncZmqSocket<K>>,
    name: &'static str,
    message_comes: impl FnOnce(),
) {
    let (receiver, probe) = (Rc::clone(socket), rig.probe("receiver"));
    let waiting = Rc::clone(&probe);
    rig.spawn(async move { drop(probe.wait(receiver.recv()).await.unwrap()) });
    rig.run_until(|| waiting.waits());
    // The task that was just made is one event, the connection may be others.
    rig.idle(Duration::ZERO);
    message_comes();
    assert!(rig.fd_readable(name), "nothing to swallow");
    // A send processes commands once in a millisecond.
    let begin = Instant::now();
    while rig.fd_readable(name) {
        drop(socket.try_send("out of turn").unwrap_err());
        assert!(begin.elapsed() < common::STALL, "the send swallows nothing");
    }
    rig.run();
}

const ROUNDS: u32 = 100;
