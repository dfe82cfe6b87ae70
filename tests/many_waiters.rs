//! Any number of tasks wait on one socket: first come, first served; one is called at a time; who is dropped passes its
//! call on; and a thousand of them cost no more for each message than ten.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use calloop_zmq::kind::{Dealer, Pull, Push, Router};
use calloop_zmq::{AsyncZmqSocket, Multipart};
use common::hand::Hand;
use common::{Rig, Rng, STALL, has_room, number, numbered};
use futures::future::LocalBoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};

const TCP: &str = "tcp://127.0.0.1:*";

/// The order in which tasks came to a socket, which is the order in which they are to be served.
#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<u64>>,
    arrived: Cell<u64>,
    longest: Cell<usize>,
    served: Cell<u64>,
    /// Messages made, and those that were sent, in that order.
    made: Cell<u64>,
    sent: RefCell<VecDeque<u64>>,
    polls: Cell<u64>,
}

impl Queue {
    async fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let (mut future, mut place) = (pin!(future), None);
        poll_fn(|cx| {
            self.polls.set(self.polls.get() + 1);
            let poll = future.as_mut().poll(cx);
            let mut waiting = self.waiting.borrow_mut();
            if poll.is_ready() {
                let first = if place.is_some() { waiting.pop_front() } else { waiting.front().copied() };
                assert_eq!(first, place, "it overtook others");
                self.served.set(self.served.get() + 1);
            } else if place.is_none() {
                place = Some(self.arrived.get());
                self.arrived.set(self.arrived.get() + 1);
                waiting.push_back(self.arrived.get() - 1);
                self.longest.set(self.longest.get().max(waiting.len()));
            }
            poll
        })
        .await
    }

    fn assert_polls(&self, what: &str, most: u64) {
        let (polls, served) = (self.polls.get(), self.served.get());
        let hundredths = polls * 100 / served;
        println!("{what}: {polls} polls for {served} messages, {}.{:02} each", hundredths / 100, hundredths % 100);
        // Everyone's first poll found nothing.
        assert!(polls <= most * served + self.longest.get() as u64, "{what}: {polls} polls for {served} messages");
    }
}

/// Gives the loop what turns it needs to notice what is there.
fn settle(rig: &mut Rig) {
    for _ in 0..3 {
        rig.turn(Duration::ZERO);
    }
}

/// A bare peer on the test's thread. Its calls never wait.
fn bare(rig: &Rig, kind: zmq::SocketType, endpoint: &str) -> zmq::Socket {
    let raw = rig.context.zmq_context().socket(kind).unwrap();
    raw.set_linger(0).unwrap();
    raw.set_rcvtimeo(0).unwrap();
    raw.set_sndtimeo(0).unwrap();
    raw.set_rcvhwm(1).unwrap();
    raw.set_rcvbuf(4096).unwrap();
    raw.connect(endpoint).unwrap();
    raw
}

fn readers(rig: &mut Rig, endpoint: &str, tasks: usize) -> (Rc<AsyncZmqSocket<Pull>>, zmq::Socket, Rc<Queue>) {
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let push = bare(rig, zmq::PUSH, &pull.bind(endpoint).unwrap());
    let (queue, probe, last) = (Rc::new(Queue::default()), rig.probe("readers"), Rc::new(Cell::new(0)));
    for _ in 0..tasks {
        let (pull, queue, probe, last) = (Rc::clone(&pull), Rc::clone(&queue), Rc::clone(&probe), Rc::clone(&last));
        rig.spawn_aside(async move {
            loop {
                let message = probe.wait(queue.wait(pull.recv())).await.unwrap();
                assert_eq!(number(&message[0]), last.replace(last.get() + 1), "lost or doubled");
            }
        });
    }
    let all = Rc::clone(&queue);
    rig.run_until(|| all.waiting.borrow().len() == tasks);
    (pull, push, queue)
}

#[test]
fn readers_are_served_in_the_order_in_which_they_came() {
    for endpoint in ["inproc://readers", TCP] {
        let (mut rig, mut rng) = (Rig::new(), Rng::new());
        let (_pull, push, queue) = readers(&mut rig, endpoint, 20);
        let mut sent = 0;
        for round in 0..300 {
            // One at a time, then in bursts, also of more than there are readers.
            for _ in 0..if round < 100 { 1 } else { 1 + rng.below(60) } {
                if push.send(&u64::to_le_bytes(sent)[..], 0).is_ok() {
                    sent += 1;
                }
            }
            rig.run_until(|| queue.served.get() == sent);
        }
        assert!(sent > 300);
        // Over tcp the descriptor also tells of what is neither a message nor room.
        queue.assert_polls(endpoint, if endpoint == TCP { 5 } else { 3 });
    }
}

fn senders(rig: &mut Rig, endpoint: &str, tasks: usize) -> (Rc<AsyncZmqSocket<Push>>, zmq::Socket, Rc<Queue>) {
    let push = rig.socket::<Push>("PUSH", |raw| {
        raw.set_sndhwm(1)?;
        raw.set_sndbuf(4096)
    });
    let pull = bare(rig, zmq::PULL, &push.bind(endpoint).unwrap());
    // Fills the buffers that tcp has.
    let padding = if endpoint == TCP { 20_000 } else { 0 };
    let (queue, probe) = (Rc::new(Queue::default()), rig.probe("senders"));
    for _ in 0..tasks {
        let (push, queue, probe) = (Rc::clone(&push), Rc::clone(&queue), Rc::clone(&probe));
        rig.spawn_aside(async move {
            loop {
                let id = queue.made.replace(queue.made.get() + 1);
                let message = [id.to_le_bytes().to_vec(), vec![0; padding]];
                probe.wait(queue.wait(push.send(message))).await.unwrap();
                queue.sent.borrow_mut().push_back(id);
            }
        });
    }
    let all = Rc::clone(&queue);
    rig.run_until(|| all.waiting.borrow().len() == tasks);
    (push, pull, queue)
}

#[test]
fn senders_are_served_in_the_order_in_which_they_came() {
    for (endpoint, rounds) in [("inproc://senders", 300), (TCP, 60)] {
        let (mut rig, mut rng) = (Rig::new(), Rng::new());
        let (_push, pull, queue) = senders(&mut rig, endpoint, 20);
        let mut received = 0;
        for round in 0..rounds {
            let goal = received + if round < 20 { 1 } else { 1 + rng.below(20) };
            let begin = Instant::now();
            while received < goal {
                if let Ok(frames) = pull.recv_multipart(0) {
                    let sent = queue.sent.borrow_mut().pop_front().unwrap();
                    assert_eq!(frames[0], sent.to_le_bytes(), "lost, doubled or out of order");
                    received += 1;
                } else {
                    // Nothing tells the loop what arrives at a bare socket.
                    rig.turn(Duration::from_millis(1));
                    assert!(begin.elapsed() < STALL, "round {round}: {received} of {goal}");
                }
            }
        }
        // Over tcp the descriptor also tells of what is neither a message nor room.
        queue.assert_polls(endpoint, if endpoint == TCP { 5 } else { 3 });
    }
}

// By hand: who is called, and when.

fn called<T>(waiters: &[(Hand, LocalBoxFuture<'_, T>)]) -> Vec<usize> {
    waiters.iter().enumerate().filter(|(_, (hand, _))| hand.is_woken()).map(|(at, _)| at).collect()
}

/// So many futures that wait.
fn waiting<'a, T>(count: usize, future: impl Fn(usize) -> LocalBoxFuture<'a, T>) -> Vec<(Hand, LocalBoxFuture<'a, T>)> {
    let wait = |at| {
        let (hand, mut future) = (Hand::new(), future(at));
        assert!(hand.poll(&mut future).is_pending());
        (hand, future)
    };
    (0..count).map(wait).collect()
}

/// A DEALER without room and without messages, and a bare peer of it.
fn full_dealer(rig: &mut Rig) -> (Rc<AsyncZmqSocket<Dealer>>, zmq::Socket) {
    let dealer = rig.socket::<Dealer>("DEALER", |raw| raw.set_sndhwm(1));
    // So that who is called has its turn at once, however many had one before it.
    dealer.set_budget(NonZeroUsize::MAX);
    let peer = bare(rig, zmq::DEALER, &dealer.bind("inproc://full").unwrap());
    settle(rig);
    (0..100).find(|_| !has_room(dealer.try_send("fill"))).expect("it fills up");
    (dealer, peer)
}

#[test]
fn one_is_called_at_a_time() {
    let mut rig = Rig::new();
    let (dealer, peer) = full_dealer(&mut rig);
    let mut readers = waiting(50, |_| async { number(&dealer.recv().await.unwrap()[0]) }.boxed_local());
    let mut writers = waiting(50, |at| dealer.send(numbered(at as u64)).map(Result::unwrap).boxed_local());
    settle(&mut rig);
    assert!(called(&readers).is_empty() && called(&writers).is_empty(), "nothing happened");

    let mut first = (0, 0);
    for burst in [1, 1, 1, 5, 10, 1] {
        for number in 0..burst {
            peer.send(&u64::to_le_bytes(first.0 + number)[..], 0).unwrap();
        }
        for _ in 0..burst {
            settle(&mut rig);
            assert_eq!(called(&readers), [0], "the first, and nobody else");
            assert!(called(&writers).is_empty(), "there is no room");
            let (hand, mut reader) = readers.remove(0);
            assert_eq!(hand.poll(&mut reader), Poll::Ready(first.0));
            first.0 += 1;
        }
        // There might have been more: the next one had a look.
        assert_eq!(called(&readers), [0]);
        let (hand, reader) = &mut readers[0];
        assert!(hand.poll(reader).is_pending());
    }
    for burst in [1, 1, 2, 1] {
        for _ in 0..burst {
            peer.recv_bytes(0).unwrap();
        }
        for _ in 0..burst {
            settle(&mut rig);
            assert_eq!(called(&writers), [0], "the first, and nobody else");
            assert!(called(&readers).is_empty(), "there is no message");
            let (hand, mut writer) = writers.remove(0);
            assert!(hand.poll(&mut writer).is_ready());
            first.1 += 1;
        }
        assert_eq!(called(&writers), [0]);
        let (hand, writer) = &mut writers[0];
        assert!(hand.poll(writer).is_pending());
    }
    assert_eq!(first, (19, 5));
}

#[test]
fn a_newcomer_does_not_overtake() {
    let mut rig = Rig::new();
    let (dealer, peer) = full_dealer(&mut rig);
    let read = || async { number(&dealer.recv().await.unwrap()[0]) }.boxed_local();
    let mut readers = waiting(1, |_| read());
    peer.send(&1_u64.to_le_bytes()[..], 0).unwrap();
    // The message is there, and nobody knows of it; then the first is called, and did not come yet.
    for _ in 0..2 {
        readers.extend(waiting(1, |_| read()));
        settle(&mut rig);
        assert_eq!(called(&readers), [0]);
    }
    peer.send(&2_u64.to_le_bytes()[..], 0).unwrap();
    peer.send(&3_u64.to_le_bytes()[..], 0).unwrap();
    for (expected, (hand, reader)) in (1..).zip(&mut readers) {
        assert!(hand.is_woken());
        assert_eq!(hand.poll(reader), Poll::Ready(expected));
    }
    drop(readers);

    let write = |at: usize| dealer.send(numbered(at as u64)).map(Result::unwrap).boxed_local();
    let mut writers = waiting(1, write);
    while peer.recv_bytes(0).is_ok() {}
    for _ in 0..2 {
        writers.extend(waiting(1, write));
        settle(&mut rig);
        assert_eq!(called(&writers), [0]);
    }
    for (hand, writer) in &mut writers {
        assert!(hand.is_woken());
        if hand.poll(writer).is_pending() {
            peer.recv_bytes(0).unwrap();
            settle(&mut rig);
            assert!(hand.poll(writer).is_ready());
        }
    }
}

#[test]
fn of_a_thousand_those_that_are_dropped_leave_nothing_and_the_others_are_served_in_order() {
    const WAITERS: usize = 1000;
    let (mut rig, mut rng) = (Rig::new(), Rng::new());
    let (dealer, peer) = full_dealer(&mut rig);
    let mut readers: VecDeque<_> =
        waiting(WAITERS, |_| async { number(&dealer.recv().await.unwrap()[0]) }.boxed_local()).into();
    let (mut sent, mut dropped, mut called) = (0_u64, 0, 0);
    while !readers.is_empty() {
        peer.send(&sent.to_le_bytes()[..], 0).unwrap();
        settle(&mut rig);
        // Some of those who are called in turn, and one from the middle.
        while rng.below(2) == 0 {
            let at = if rng.below(2) == 0 { 0 } else { usize::try_from(rng.below(readers.len() as u64)).unwrap() };
            let Some((hand, reader)) = readers.remove(at) else { break };
            called += usize::from(hand.is_woken());
            dropped += 1;
            drop(reader);
            assert_eq!(hand.held(), 0, "it left its waker behind");
            if readers.is_empty() {
                println!("{sent} served, {dropped} dropped, {called} of them called");
                assert!(sent > 100 && called > 100);
                return;
            }
        }
        let (hand, mut reader) = readers.pop_front().unwrap();
        assert!(hand.is_woken(), "the call got lost");
        assert_eq!(hand.poll(&mut reader), Poll::Ready(sent), "out of order");
        sent += 1;
        assert!(hand.held() == 0 && readers.iter().filter(|(hand, _)| hand.is_woken()).count() <= 1);
    }
    println!("{sent} served, {dropped} dropped, {called} of them called");
    assert!(sent > 100 && called > 100);
}

// What many cost.

#[test]
fn a_thousand_readers_cost_as_little_for_each_message_as_ten() {
    for tasks in [10, 1000, 2000] {
        let mut rig = Rig::new();
        let (pull, _push, queue) = readers(&mut rig, "inproc://many", tasks);
        let push = rig.socket::<Push>("PUSH", |_| Ok(()));
        push.connect(&pull.last_endpoint().unwrap()).unwrap();
        let (context, sent) = (rig.context.clone(), Rc::new(Cell::new(0)));
        let sender = Rc::clone(&sent);
        rig.spawn(async move {
            let mut rng = Rng::new();
            while sender.get() < 10_000 {
                for _ in 0..=rng.below(50) {
                    push.send(numbered(sender.replace(sender.get() + 1))).await.unwrap();
                }
                context.sleep(Duration::from_micros(1)).await;
            }
        });
        rig.run();
        rig.run_until(|| queue.served.get() == sent.get());
        assert_eq!(queue.longest.get(), tasks);
        queue.assert_polls(&format!("{tasks} readers"), 3);
    }
}

#[test]
fn a_thousand_senders_cost_as_little_for_each_message_as_ten() {
    for tasks in [10, 1000, 2000] {
        let mut rig = Rig::new();
        let (_push, pull, queue) = senders(&mut rig, "inproc://many", tasks);
        let pull = Rc::new(rig.context.adopt::<Pull>(pull).unwrap());
        let probe = rig.probe("receiver");
        rig.spawn(async move {
            for _ in 0..10_000 {
                probe.wait(pull.recv()).await.unwrap();
            }
        });
        rig.run();
        assert_eq!(queue.longest.get(), tasks);
        assert!(queue.served.get() >= 10_000);
        queue.assert_polls(&format!("{tasks} senders"), 3);
    }
}

// Together on one socket.

#[test]
fn router_senders_wait_for_their_own_peer_only() {
    const PEERS: usize = 4;
    const EACH: usize = 10;
    let mut rig = Rig::new();
    let router = rig.socket::<Router>("ROUTER", |raw| {
        raw.set_sndhwm(1)?;
        raw.set_router_mandatory(true)
    });
    let endpoint = router.bind("inproc://router").unwrap();
    let mut peers = Vec::new();
    for peer in 0..PEERS {
        let raw = rig.context.zmq_context().socket(zmq::DEALER).unwrap();
        raw.set_identity(peer.to_string().as_bytes()).unwrap();
        raw.set_rcvhwm(1).unwrap();
        raw.set_rcvtimeo(0).unwrap();
        raw.connect(&endpoint).unwrap();
        peers.push(raw);
    }
    settle(&mut rig);
    let sent = [(); PEERS].map(|()| Rc::new(Cell::new(0)));
    let probe = rig.probe("senders");
    // Interleaved: whoever waits for a full peer has others around it.
    for task in 0..PEERS * EACH {
        let (router, probe, sent) = (Rc::clone(&router), Rc::clone(&probe), Rc::clone(&sent[task % PEERS]));
        rig.spawn(async move {
            for round in 0..10 {
                let message = [(task % PEERS).to_string(), task.to_string(), round.to_string()];
                probe.wait(router.send(message)).await.unwrap();
                sent.set(sent.get() + 1);
            }
        });
    }
    let mut received = vec![0; PEERS * EACH];
    let mut drain = |peer: usize| {
        while let Ok(frames) = peers[peer].recv_multipart(0) {
            let [task, round] =
                [0, 1].map(|at| String::from_utf8(frames[at].clone()).unwrap().parse::<usize>().unwrap());
            assert_eq!((task % PEERS, received[task]), (peer, round), "misrouted, lost, doubled or out of order");
            received[task] += 1;
        }
    };
    // The last of them receives nothing. Each of the others is served alone while the rest is full.
    for peer in 0..PEERS - 1 {
        let others: Vec<_> = sent[peer + 1..].iter().map(|sent| sent.get()).collect();
        for _ in 0..1000 {
            drain(peer);
            rig.turn(Duration::from_millis(1));
            if sent[peer].get() == 10 * EACH {
                break;
            }
        }
        drain(peer);
        assert_eq!(sent[peer].get(), 10 * EACH, "they wait for another peer");
        assert!(peer == 0 || sent[peer + 1..].iter().map(|sent| sent.get()).eq(others), "there is no room");
    }
    assert!(rig.is_live());
    for _ in 0..1000 {
        drain(PEERS - 1);
        rig.turn(Duration::from_millis(1));
        if !rig.is_live() {
            break;
        }
    }
    drain(PEERS - 1);
    assert!(!rig.is_live() && received.iter().all(|received| *received == 10), "{received:?}");
}

#[test]
fn a_stream_beside_futures_under_a_flood() {
    stream_beside_futures(true);
}

#[test]
fn a_stream_beside_futures_with_pauses() {
    stream_beside_futures(false);
}

/// One task polls the Stream, three await `recv`.
fn stream_beside_futures(flood: bool) {
    const MESSAGES: u64 = 20_000;
    let (mut rig, rng) = (Rig::new(), RefCell::new(Rng::new()));
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let push = rig.socket::<Push>("PUSH", |_| Ok(()));
    push.connect(&pull.bind("inproc://beside").unwrap()).unwrap();
    let (total, probe) = (Rc::new(Cell::new(0)), rig.probe("readers"));
    let each = [(); 4].map(|()| Rc::new(Cell::new(0_u64)));
    for (task, own) in each.iter().enumerate() {
        let (pull, probe, total, own) = (Rc::clone(&pull), Rc::clone(&probe), Rc::clone(&total), Rc::clone(own));
        rig.spawn_aside(async move {
            loop {
                let message = if task == 0 {
                    probe.wait((&*pull).next()).await.unwrap().unwrap()
                } else {
                    probe.wait(pull.recv()).await.unwrap()
                };
                assert_eq!(number(&message[0]), total.replace(total.get() + 1), "lost, doubled or out of order");
                own.set(own.get() + 1);
            }
        });
    }
    let context = rig.context.clone();
    rig.spawn(async move {
        for number in 0..MESSAGES {
            push.send(numbered(number)).await.unwrap();
            if !flood && rng.borrow_mut().below(4) == 0 {
                context.sleep(Duration::from_micros(1)).await;
            }
        }
    });
    rig.run_until(|| total.get() == MESSAGES);
    let each = each.map(|own| own.get());
    println!("flood = {flood}: {each:?}");
    assert!(each.iter().all(|own| *own > MESSAGES / 100), "{each:?}");
}

#[test]
fn a_sink_beside_futures_lets_them_send() {
    const EACH: u64 = 3000;
    let mut rig = Rig::new();
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    let pull = rig.socket::<Pull>("PULL", |raw| raw.set_rcvhwm(1));
    push.connect(&pull.bind("inproc://mixed").unwrap()).unwrap();
    let probe = rig.probe("senders");
    let each = [(); 3].map(|()| Rc::new(Cell::new(0_u64)));
    for (task, own) in each.iter().enumerate() {
        let (push, probe, own) = (Rc::clone(&push), Rc::clone(&probe), Rc::clone(own));
        rig.spawn_aside(async move {
            loop {
                if task == 0 {
                    probe.wait((&*push).feed(numbered(own.get()))).await.unwrap();
                } else {
                    probe.wait(push.send(numbered(own.get()))).await.unwrap();
                }
                own.set(own.get() + 1);
            }
        });
    }
    rig.spawn(async move {
        for _ in 0..3 * EACH {
            pull.recv().await.unwrap();
        }
    });
    rig.run();
    let each = each.map(|own| own.get());
    println!("{each:?}");
    assert!(each.iter().all(|own| *own > EACH / 100), "{each:?}");
}

#[test]
fn two_readers_and_two_writers_on_each_of_two_full_dealers() {
    const EACH: u64 = 10_000;
    for endpoint in ["inproc://two", TCP] {
        let mut rig = Rig::new();
        let dealers = ["one", "other"].map(|name| {
            rig.socket::<Dealer>(name, |raw| {
                raw.set_sndhwm(1)?;
                raw.set_rcvhwm(1)
            })
        });
        dealers[0].connect(&dealers[1].bind(endpoint).unwrap()).unwrap();
        let (writer, reader) = (rig.probe("writers"), rig.probe("readers"));
        for dealer in &dealers {
            let next = Rc::new(RefCell::new([0_u64; 2]));
            let total = Rc::new(Cell::new(0));
            for task in 0..2_usize {
                let (socket, probe) = (Rc::clone(dealer), Rc::clone(&writer));
                rig.spawn(async move {
                    for number in 0..EACH {
                        let message = [(task as u64).to_le_bytes(), number.to_le_bytes()];
                        probe.wait(socket.send(message)).await.unwrap();
                    }
                });
                let (socket, probe) = (Rc::clone(dealer), Rc::clone(&reader));
                let (next, total) = (Rc::clone(&next), Rc::clone(&total));
                rig.spawn(async move {
                    // The last message ends both: the other one waits for one more.
                    while total.get() < 2 * EACH - 1 {
                        let message = probe.wait(socket.recv()).await.unwrap();
                        let [sender, number] = [0, 1].map(|at| number(&message[at]));
                        let expected = &mut next.borrow_mut()[usize::try_from(sender).unwrap()];
                        assert_eq!(number, *expected, "lost, doubled or out of order");
                        *expected += 1;
                        total.set(total.get() + 1);
                    }
                });
            }
        }
        rig.run();
        assert!(reader.parked() > EACH / 100, "readers hardly ever waited: {}", reader.parked());
        println!("{endpoint}: writers parked {}, readers {}", writer.parked(), reader.parked());
        assert!(writer.parked() > EACH / 100, "writers hardly ever waited: {}", writer.parked());
    }
}

#[test]
fn what_the_sink_accepted_goes_before_what_is_sent_after_it() {
    let (mut rig, mut rng) = (Rig::new(), Rng::new());
    let (dealer, peer) = full_dealer(&mut rig);
    while peer.recv_bytes(0).is_ok() {}
    settle(&mut rig);
    // Messages of the Sink are even, those of `send` odd: each tells how many the Sink had accepted when it began.
    let (mut accepted, mut received, mut sent, mut held) = (0_u64, 0, 0, 0);
    let mut check = |frame: Vec<u8>| {
        let number = u64::from_le_bytes(frame[..].try_into().unwrap());
        if number % 2 == 0 {
            assert_eq!(number / 2, received, "lost, doubled or out of order");
            received += 1;
        } else {
            sent += 1;
            assert!(number / 2 <= received, "it overtook what the Sink held");
        }
    };
    let (sink, mut senders) = (Hand::new(), VecDeque::new());
    for _ in 0..20_000 {
        match rng.below(6) {
            0 => {
                let mut ready = poll_fn(|cx| SinkExt::<Multipart>::poll_ready_unpin(&mut &*dealer, cx));
                if let Poll::Ready(ready) = sink.poll(&mut ready) {
                    ready.unwrap();
                    (&*dealer).start_send_unpin(numbered(2 * accepted)).unwrap();
                    accepted += 1;
                }
            }
            1 if senders.len() < 4 => {
                let (hand, mut sender) = (Hand::new(), dealer.send(numbered(2 * accepted + 1)).boxed_local());
                if hand.poll(&mut sender).is_pending() {
                    held += 1;
                    senders.push_back((hand, sender));
                }
            }
            2 | 3 => senders.retain_mut(|(hand, sender)| !hand.is_woken() || hand.poll(sender).is_pending()),
            4 => {
                if let Ok(frame) = peer.recv_bytes(0) {
                    check(frame);
                }
            }
            _ => rig.turn(Duration::ZERO),
        }
    }
    let begin = Instant::now();
    loop {
        senders.retain_mut(|(hand, sender)| !hand.is_woken() || hand.poll(sender).is_pending());
        let mut flush = poll_fn(|cx| SinkExt::<Multipart>::poll_flush_unpin(&mut &*dealer, cx));
        let flushed = sink.poll(&mut flush).is_ready();
        match peer.recv_bytes(0) {
            Ok(frame) => check(frame),
            Err(_) if flushed && senders.is_empty() => break,
            Err(_) => assert!(begin.elapsed() < STALL, "{} senders wait, flushed = {flushed}", senders.len()),
        }
        rig.turn(Duration::ZERO);
    }
    println!("{received} by the Sink, {sent} sent, {held} of them waited");
    assert_eq!(received, accepted);
    assert!(received > 100 && sent > 100 && held > 100);
}

/// There is no room, but a Sink takes one message all the same. Nothing but the senders before it holds it up.
#[test]
fn a_sink_goes_on_when_the_senders_before_it_give_up() {
    let rig = Rig::new();
    let push = rig.context.socket::<Push>().unwrap();
    let (first, second, behind) = (Hand::new(), Hand::new(), Hand::new());
    let mut sends = [push.send("first"), push.send("second")];
    assert!(first.poll(&mut sends[0]).is_pending() && second.poll(&mut sends[1]).is_pending());
    let mut sink = &push;
    let mut feed = sink.feed("third".into());
    assert!(behind.poll(&mut feed).is_pending());
    drop(sends);
    assert!(behind.is_woken());
    assert!(behind.poll(&mut feed).is_ready());
    assert_eq!(push.take_unsent(), Some("third".into()));
}
