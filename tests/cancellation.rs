//! A future may be dropped at any time: nothing is lost, sent twice or torn, who waits next is served, and nothing of
//! the one that was dropped stays behind. By hand at every await point, in a random walk against a model, and in storms
//! of tiny timeouts.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use calloop_zmq::kind::{Any, Pull, Push, Req};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, Multipart};
use common::hand::Hand;
use common::{Probe, Rig, Rng, STALL, fewer, has_room, number};
use futures::future::LocalBoxFuture;
use futures::{FutureExt, SinkExt, StreamExt, select_biased};

type Socket = AsyncZmqSocket<Any>;

const LONG: Duration = Duration::from_secs(3600);
const TCP: &str = "tcp://127.0.0.1:*";

// Polled k times, then dropped; what it waits for is there from the beginning, comes before any of the polls or after
// the last of them, or does not come. The loop has its turns in between, or not.

/// One way for a future to be dropped.
#[derive(Clone, Copy, Debug)]
struct Case {
    polls: usize,
    /// What it waits for comes after so many polls.
    supply: Option<usize>,
    turns: bool,
}

fn cases() -> impl Iterator<Item = Case> {
    (0..=3).flat_map(|polls| {
        std::iter::once(None)
            .chain((0..=polls).map(Some))
            .flat_map(move |supply| [false, true].map(|turns| Case { polls, supply, turns }))
    })
}

/// How many futures of one method were dropped in which state.
#[derive(Debug, Default)]
struct Tally {
    unpolled: usize,
    waiting: usize,
    /// Woken, and dropped instead of being polled.
    called: usize,
    done: usize,
}

impl Tally {
    fn count(&mut self, polls: usize, done: bool, tested: &Hand) {
        *match (polls, done) {
            (_, true) => &mut self.done,
            (0, _) => &mut self.unpolled,
            _ if tested.is_woken() => &mut self.called,
            _ => &mut self.waiting,
        } += 1;
    }

    /// `waits`: some of them waited in vain, and some were dropped when they had just been called.
    fn print(&self, method: &str, waits: bool) {
        println!("{method}: {self:?}");
        assert!(self.unpolled > 0 && self.done > 0, "{method}: {self:?}");
        assert!(!waits || self.waiting > 0 && self.called > 0, "{method}: {self:?}");
    }
}

/// Gives the loop what turns it needs to notice what is there.
fn settle(rig: &mut Rig) {
    for _ in 0..3 {
        rig.turn(Duration::ZERO);
    }
}

/// Turns the loop until `done`; `STALL` is a failure.
fn turn_until(rig: &mut Rig, what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < STALL, "{what}: not within {STALL:?}");
        rig.turn(Duration::from_millis(10));
    }
}

/// Polls a future that has been polled before whenever it is woken, and only then.
fn finish<T>(rig: &mut Rig, what: &str, hand: &Hand, future: &mut LocalBoxFuture<'_, T>) -> T {
    let mut output = None;
    turn_until(rig, what, || {
        if hand.is_woken() {
            if let Poll::Ready(value) = hand.poll(future) {
                output = Some(value);
            }
        }
        output.is_some()
    });
    output.unwrap()
}

/// A socket whose messages come from a bare one on the same thread: they are there when its call returns.
struct Reader {
    context: AsyncZmqContext,
    socket: Rc<Socket>,
    peer: zmq::Socket,
    supplied: Cell<u64>,
}

impl Reader {
    fn new(rig: &mut Rig, kind: zmq::SocketType, peer: zmq::SocketType) -> Self {
        let socket = rig.adopt("reader", kind, |_| Ok(()));
        let endpoint = socket.bind("inproc://reader").unwrap();
        let peer = rig.context.zmq_context().socket(peer).unwrap();
        peer.set_sndtimeo(0).unwrap();
        peer.connect(&endpoint).unwrap();
        settle(rig);
        Self { context: rig.context.clone(), socket, peer, supplied: Cell::new(0) }
    }

    fn supply(&self) {
        let number = self.supplied.get();
        self.peer.send_multipart([&number.to_le_bytes()[..], &number.to_le_bytes()], 0).unwrap();
        self.supplied.set(number + 1);
    }
}

fn whole(message: &Multipart) -> u64 {
    assert_eq!(message.len(), 2, "torn");
    assert_eq!(message[0][..], message[1][..], "mixed up");
    number(&message[0])
}

/// What was received, if anything.
type Reading<'a> = LocalBoxFuture<'a, Option<u64>>;

fn recv(reader: &Reader) -> Reading<'_> {
    async { Some(whole(&reader.socket.recv().await.unwrap())) }.boxed_local()
}

fn recv_into(reader: &Reader) -> Reading<'_> {
    async {
        let mut message = Multipart::from(["old", "frames", "here"]);
        reader.socket.recv_into(&mut message).await.unwrap();
        Some(whole(&message))
    }
    .boxed_local()
}

fn next(reader: &Reader) -> Reading<'_> {
    async { Some(whole(&(&*reader.socket).next().await.unwrap().unwrap())) }.boxed_local()
}

fn readable(reader: &Reader) -> Reading<'_> {
    async {
        reader.socket.readable().await.unwrap();
        None
    }
    .boxed_local()
}

fn recv_in_time(reader: &Reader) -> Reading<'_> {
    async { Some(whole(&reader.context.timeout(LONG, reader.socket.recv()).await.unwrap().unwrap())) }.boxed_local()
}

#[test]
fn a_dropped_read_loses_nothing() {
    for (kind, peer) in [(zmq::PULL, zmq::PUSH), (zmq::DEALER, zmq::DEALER)] {
        cancel_reads("recv", kind, peer, recv, 0);
        cancel_reads("recv_into", kind, peer, recv_into, 0);
        cancel_reads("readable", kind, peer, readable, 0);
        cancel_reads("timeout of recv", kind, peer, recv_in_time, 0);
        // A poll leaves its waker for the next message: one, and it goes with that.
        cancel_reads("next", kind, peer, next, 1);
    }
}

fn cancel_reads(
    method: &str,
    kind: zmq::SocketType,
    peer: zmq::SocketType,
    read: fn(&Reader) -> Reading<'_>,
    keeps: usize,
) {
    let mut rig = Rig::new();
    let reader = Reader::new(&mut rig, kind, peer);
    let mut tally = Tally::default();
    for case in cases() {
        let what = format!("{method} of {kind:?}, {case:?}");
        let (tested, behind) = (Hand::new(), Hand::new());
        let mut future = read(&reader);
        let mut next_in_line = None;
        let (mut output, mut joined) = (None, Poll::Pending);
        let first = reader.supplied.get();
        for poll in 0..=case.polls {
            if case.supply == Some(poll) {
                reader.supply();
            }
            if case.turns {
                settle(&mut rig);
            }
            if poll < case.polls && output.is_none() {
                if let Poll::Ready(read) = tested.poll(&mut future) {
                    output = Some(read);
                }
            }
            next_in_line.get_or_insert_with(|| {
                let mut future = recv(&reader);
                joined = behind.poll(&mut future);
                future
            });
        }
        tally.count(case.polls, output.is_some(), &tested);
        drop(future);
        assert!(tested.held() <= keeps, "{what}: {} wakers stay behind", tested.held());

        let took = u64::from(output.flatten().is_some());
        assert!(output.flatten().is_none_or(|number| number == first), "{what}: out of order");
        if joined.is_pending() {
            if reader.supplied.get() == first + took {
                settle(&mut rig);
                reader.supply();
            }
            joined = Poll::Ready(finish(&mut rig, &what, &behind, next_in_line.as_mut().unwrap()));
        }
        assert_eq!(joined, Poll::Ready(Some(first + took)), "{what}: lost or doubled");
        assert!(reader.socket.try_recv().unwrap().is_none(), "{what}: doubled");
        drop(next_in_line);
        settle(&mut rig);
        // The poll's waker may have been passed over by messages that were there without a call. One more is not.
        if tested.held() > 0 {
            reader.supply();
            settle(&mut rig);
            reader.socket.try_recv().unwrap().unwrap();
        }
        assert_eq!((tested.held(), behind.held()), (0, 0), "{what}: wakers stay behind");
    }
    tally.print(&format!("{method} of {kind:?}"), true);
}

/// A full socket, whose peer is a bare one on the same thread: it makes room by receiving.
struct Writer {
    context: AsyncZmqContext,
    kind: zmq::SocketType,
    socket: Rc<Socket>,
    peer: zmq::Socket,
    /// What the socket has taken, and the peer has not received yet.
    owed: RefCell<Vec<u64>>,
    received: RefCell<Vec<u64>>,
    last: Cell<u64>,
}

impl Writer {
    fn new(rig: &mut Rig, kind: zmq::SocketType) -> Self {
        let socket: Rc<Socket> = rig.adopt("writer", kind, |raw| {
            raw.set_sndhwm(1)?;
            if kind == zmq::ROUTER { raw.set_router_mandatory(true) } else { Ok(()) }
        });
        // So that what there is room for is not put off to the next turn.
        socket.set_budget(NonZeroUsize::MAX);
        let endpoint = socket.bind("inproc://writer").unwrap();
        let peer = if kind == zmq::PUSH { zmq::PULL } else { zmq::DEALER };
        let peer = rig.context.zmq_context().socket(peer).unwrap();
        peer.set_rcvtimeo(0).unwrap();
        peer.set_rcvhwm(1).unwrap();
        peer.set_identity(b"peer").unwrap();
        peer.connect(&endpoint).unwrap();
        settle(rig);
        let (owed, received) = (RefCell::default(), RefCell::default());
        Self { context: rig.context.clone(), kind, socket, peer, owed, received, last: Cell::new(0) }
    }

    fn number(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }

    fn message(&self, number: u64) -> Multipart {
        let mut message: Multipart = [number.to_le_bytes(), number.to_le_bytes()].into();
        if self.kind == zmq::ROUTER {
            message.push_front("peer");
        }
        message
    }

    fn took(&self, number: u64) {
        self.owed.borrow_mut().push(number);
    }

    fn fill(&self) {
        loop {
            let number = self.number();
            if !has_room(self.socket.try_send(self.message(number))) {
                return;
            }
            self.took(number);
        }
    }

    /// Makes room for one message.
    fn supply(&self) {
        assert!(self.receive(), "it was not full");
    }

    fn receive(&self) -> bool {
        let Ok(frames) = self.peer.recv_multipart(0) else { return false };
        let [one, other] = &frames[..] else { panic!("{} frames: torn", frames.len()) };
        assert_eq!(one, other, "mixed up");
        self.received.borrow_mut().push(u64::from_le_bytes(one[..].try_into().unwrap()));
        true
    }

    /// Receives everything, flushes the Sink, and compares with what the socket had taken.
    fn drain(&self, rig: &mut Rig, what: &str) {
        let mut flush = async { SinkExt::<Multipart>::flush(&mut &*self.socket).await.unwrap() }.boxed_local();
        let hand = Hand::new();
        let mut flushed = hand.poll(&mut flush);
        turn_until(rig, what, || {
            let received = self.receive();
            if flushed.is_pending() && hand.is_woken() {
                flushed = hand.poll(&mut flush);
            }
            !received && flushed.is_ready()
        });
        while self.receive() {}
        let (mut owed, mut received) = (self.owed.take(), self.received.take());
        if self.kind == zmq::ROUTER {
            // Each message waits for itself there.
            owed.sort_unstable();
            received.sort_unstable();
        }
        assert_eq!(received, owed, "{what}: lost, doubled or out of order");
    }
}

/// Sends the message of that number.
type Writing = fn(&Writer, u64) -> LocalBoxFuture<'_, ()>;

fn send(writer: &Writer, number: u64) -> LocalBoxFuture<'_, ()> {
    async move { writer.socket.send(writer.message(number)).await.unwrap() }.boxed_local()
}

fn send_in_time(writer: &Writer, number: u64) -> LocalBoxFuture<'_, ()> {
    async move {
        writer.context.timeout(LONG, writer.socket.send(writer.message(number))).await.unwrap().unwrap();
    }
    .boxed_local()
}

fn sink_send(writer: &Writer, number: u64) -> LocalBoxFuture<'_, ()> {
    async move { SinkExt::send(&mut &*writer.socket, writer.message(number)).await.unwrap() }.boxed_local()
}

fn sink_feed(writer: &Writer, number: u64) -> LocalBoxFuture<'_, ()> {
    async move { (&*writer.socket).feed(writer.message(number)).await.unwrap() }.boxed_local()
}

fn sink_flush(writer: &Writer, _: u64) -> LocalBoxFuture<'_, ()> {
    async { SinkExt::<Multipart>::flush(&mut &*writer.socket).await.unwrap() }.boxed_local()
}

fn sink_close(writer: &Writer, _: u64) -> LocalBoxFuture<'_, ()> {
    async { SinkExt::<Multipart>::close(&mut &*writer.socket).await.unwrap() }.boxed_local()
}

fn writable(writer: &Writer, _: u64) -> LocalBoxFuture<'_, ()> {
    async { writer.socket.writable().await.unwrap() }.boxed_local()
}

/// When a message counts as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    /// It sends none.
    Nothing,
    /// If the future was ready, and not otherwise.
    WhenReady,
    /// From the first poll on: the Sink was empty, and holds it.
    WhenPolled,
}

#[test]
fn a_dropped_write_has_sent_all_or_nothing() {
    for kind in [zmq::PUSH, zmq::DEALER, zmq::ROUTER] {
        cancel_writes("send", kind, send, false, Takes::WhenReady);
        cancel_writes("timeout of send", kind, send_in_time, false, Takes::WhenReady);
        cancel_writes("writable", kind, writable, false, Takes::Nothing);
        cancel_writes("Sink send", kind, sink_send, false, Takes::WhenPolled);
        cancel_writes("Sink feed", kind, sink_feed, false, Takes::WhenPolled);
        cancel_writes("Sink flush", kind, sink_flush, true, Takes::Nothing);
        cancel_writes("Sink close", kind, sink_close, true, Takes::Nothing);
        cancel_writes("Sink feed behind another", kind, sink_feed, true, Takes::WhenReady);
    }
}

fn cancel_writes(method: &str, kind: zmq::SocketType, write: Writing, holds: bool, takes: Takes) {
    let mut rig = Rig::new();
    let writer = Writer::new(&mut rig, kind);
    let mut tally = Tally::default();
    for case in cases() {
        let what = format!("{method} of {kind:?}, {case:?}");
        let (tested, behind) = (Hand::new(), Hand::new());
        writer.fill();
        if holds {
            let held = writer.number();
            sink_feed(&writer, held).now_or_never().unwrap();
            writer.took(held);
        }
        let (number, next) = (writer.number(), writer.number());
        let mut future = write(&writer, number);
        let mut next_in_line = None;
        let (mut done, mut joined) = (false, Poll::Pending);
        for poll in 0..=case.polls {
            if case.supply == Some(poll) {
                writer.supply();
            }
            if case.turns {
                settle(&mut rig);
            }
            if poll < case.polls && !done {
                done = tested.poll(&mut future).is_ready();
            }
            next_in_line.get_or_insert_with(|| {
                let mut future = send(&writer, next);
                joined = behind.poll(&mut future);
                future
            });
        }
        tally.count(case.polls, done, &tested);
        drop(future);
        let keeps = usize::from(method.starts_with("Sink"));
        assert!(tested.held() <= keeps, "{what}: {} wakers stay behind", tested.held());

        let counts = match takes {
            Takes::Nothing => false,
            Takes::WhenReady => done,
            Takes::WhenPolled => case.polls > 0,
        };
        if counts {
            writer.took(number);
        }
        writer.took(next);
        // One room for each that has been taken and this one, and no more.
        let mut rooms = usize::from(holds) + usize::from(counts) + 1 - usize::from(case.supply.is_some());
        while joined.is_pending() {
            settle(&mut rig);
            if behind.is_woken() {
                joined = behind.poll(next_in_line.as_mut().unwrap());
            } else if rooms > 0 {
                rooms -= 1;
                writer.supply();
            } else {
                finish(&mut rig, &what, &behind, next_in_line.as_mut().unwrap());
                joined = Poll::Ready(());
            }
        }
        drop(next_in_line);
        writer.drain(&mut rig, &what);
        settle(&mut rig);
        assert_eq!((tested.held(), behind.held()), (0, 0), "{what}: wakers stay behind");
    }
    // Where room depends on the peer, `writable` says yes at once.
    let waits = !(method == "writable" && kind == zmq::ROUTER) && method != "Sink feed";
    tally.print(&format!("{method} of {kind:?}"), waits);
}

#[test]
fn a_dropped_send_behind_another_in_the_sink_is_whole_or_not_there() {
    let mut rig = Rig::new();
    let writer = Writer::new(&mut rig, zmq::PUSH);
    let (mut gone, mut held) = (0, 0);
    for rooms in 0..=2 {
        writer.fill();
        let (first, second) = (writer.number(), writer.number());
        sink_feed(&writer, first).now_or_never().unwrap();
        writer.took(first);
        let hand = Hand::new();
        let mut future = sink_send(&writer, second);
        assert!(hand.poll(&mut future).is_pending());
        for _ in 0..rooms {
            writer.supply();
        }
        settle(&mut rig);
        assert_eq!(hand.is_woken(), rooms > 0);
        let done = hand.poll(&mut future).is_ready();
        assert_eq!(done, rooms == 2);
        drop(future);
        // With room for one, the first is out and the Sink holds the second.
        if rooms > 0 {
            writer.took(second);
            held += 1;
        } else {
            gone += 1;
        }
        writer.drain(&mut rig, "Sink send behind another");
        settle(&mut rig);
        assert_eq!(hand.held(), 0);
    }
    assert_eq!((gone, held), (1, 2));
}

#[test]
fn a_dropped_close_closes_and_leaves_nothing() {
    let mut rig = Rig::new();
    let mut tally = Tally::default();
    for (turn, case) in cases().enumerate() {
        let peer = rig.context.zmq_context().socket(zmq::PULL).unwrap();
        peer.set_rcvtimeo(0).unwrap();
        peer.set_rcvhwm(1).unwrap();
        let endpoint = format!("inproc://close-{turn}");
        peer.bind(&endpoint).unwrap();
        let push = rig.context.socket::<Push>().unwrap();
        push.get_ref().set_sndhwm(1).unwrap();
        push.connect(&endpoint).unwrap();
        let filled = (0..100).find(|_| !has_room(push.try_send("fill"))).unwrap();
        (&push).feed("held".into()).now_or_never().unwrap().unwrap();

        let tested = Hand::new();
        let mut future = push.close().boxed_local();
        let (mut done, mut received) = (false, Vec::new());
        for poll in 0..=case.polls {
            if case.supply == Some(poll) {
                received.push(peer.recv_bytes(0).unwrap());
            }
            if case.turns {
                settle(&mut rig);
            }
            if poll < case.polls && !done {
                done = matches!(tested.poll(&mut future), Poll::Ready(Ok(())));
            }
        }
        tally.count(case.polls, done, &tested);
        drop(future);
        assert_eq!(tested.held(), 0, "{case:?}");
        let wakes = tested.wakes();
        while let Ok(frame) = peer.recv_bytes(0) {
            received.push(frame);
        }
        settle(&mut rig);
        assert_eq!(tested.wakes(), wakes, "{case:?}: woken after its end");
        let mut expected = vec![b"fill".to_vec(); filled];
        expected.extend(done.then(|| b"held".to_vec()));
        assert_eq!(received, expected, "{case:?}");
    }
    tally.print("close", true);
}

#[test]
fn a_dropped_request_leaves_the_next_one_its_own_reply() {
    let mut tally = Tally::default();
    // A server from the start, or one that the request waits for in its send.
    for served in [true, false] {
        let mut rig = Rig::new();
        let server = rig.context.zmq_context().socket(zmq::ROUTER).unwrap();
        server.set_rcvtimeo(0).unwrap();
        server.set_linger(0).unwrap();
        server.bind("inproc://server").unwrap();
        let answer = |server: &zmq::Socket| {
            while let Ok(frames) = server.recv_multipart(0) {
                server.send_multipart(frames, 0).unwrap();
            }
        };
        for case in cases() {
            let what = format!("served = {served}, {case:?}");
            let req = rig.context.socket::<Req>().unwrap();
            if served {
                req.connect("inproc://server").unwrap();
            }
            let mut connected = served;
            let (tested, next) = (Hand::new(), Hand::new());
            let mut future = req.request("given up").boxed_local();
            let mut reply = None;
            for poll in 0..=case.polls {
                if case.supply == Some(poll) {
                    if !std::mem::replace(&mut connected, true) {
                        req.connect("inproc://server").unwrap();
                    }
                    answer(&server);
                }
                if case.turns {
                    settle(&mut rig);
                }
                if poll < case.polls && reply.is_none() {
                    if let Poll::Ready(read) = tested.poll(&mut future) {
                        reply = Some(read.unwrap());
                    }
                }
            }
            tally.count(case.polls, reply.is_some(), &tested);
            drop(future);
            assert_eq!(tested.held(), 0, "{what}");
            assert!(reply.is_none_or(|reply| reply == "given up".into()), "{what}");
            if !connected {
                req.connect("inproc://server").unwrap();
            }

            let mut future = req.request(["its", "own"]).boxed_local();
            let mut reply = next.poll(&mut future);
            turn_until(&mut rig, &what, || {
                answer(&server);
                if reply.is_pending() && next.is_woken() {
                    reply = next.poll(&mut future);
                }
                reply.is_ready()
            });
            let Poll::Ready(Ok(reply)) = reply else { panic!("{what}") };
            assert_eq!(reply, ["its", "own"].into(), "{what}");
            drop(future);
            assert_eq!(next.held(), 0, "{what}");
        }
    }
    tally.print("request", true);
}

#[test]
fn a_dropped_sleep_or_timeout_leaves_nothing() {
    let mut rig = Rig::new();
    let context = rig.context.clone();
    let mut tally = Tally::default();
    for duration in [Duration::ZERO, Duration::from_micros(200), LONG] {
        for (polls, turns) in (0..=3).flat_map(|polls| [(polls, false), (polls, true)]) {
            for method in ["sleep", "timeout"] {
                let hand = Hand::new();
                let mut future = match method {
                    "sleep" => context.sleep(duration).boxed_local(),
                    _ => context.timeout(duration, std::future::pending::<()>()).map(drop).boxed_local(),
                };
                let mut done = false;
                for _ in 0..polls {
                    if !done {
                        done = hand.poll(&mut future).is_ready();
                        if turns && !done && duration != LONG {
                            turn_until(&mut rig, method, || hand.is_woken());
                        } else if turns {
                            settle(&mut rig);
                        }
                    }
                }
                tally.count(polls, done, &hand);
                drop(future);
                assert_eq!(hand.held(), 0, "{method} {duration:?}, {polls} polls, turns = {turns}");
            }
        }
    }
    tally.print("sleep and timeout", true);
}

#[test]
fn a_dropped_terminate_leaves_the_end_to_the_others() {
    let mut rig = Rig::new();
    for case in cases() {
        let context = AsyncZmqContext::new(&rig.handle()).unwrap();
        let pull = context.socket::<Pull>().unwrap();
        let reader = Hand::new();
        let (tested, other) = (Hand::new(), Hand::new());
        let mut pull = Some(async move { pull.recv().await }.boxed_local());
        assert!(reader.poll(pull.as_mut().unwrap()).is_pending());
        let mut rest = context.clone().terminate().boxed_local();
        let mut future = context.terminate().boxed_local();
        assert!(other.poll(&mut rest).is_pending());
        let mut done = false;
        for poll in 0..=case.polls {
            if case.supply == Some(poll) {
                pull = None;
            }
            if case.turns {
                settle(&mut rig);
            }
            if poll < case.polls && !done {
                done = tested.poll(&mut future).is_ready();
            }
        }
        drop(future);
        // The end may be coming right now, from its thread.
        turn_until(&mut rig, "release", || tested.held() == 0);
        if let Some(mut pull) = pull {
            assert!(reader.is_woken(), "{case:?}: the shutdown is done when the future is made");
            assert!(matches!(reader.poll(&mut pull), Poll::Ready(Err(Error::Terminated))), "{case:?}");
        }
        finish(&mut rig, "terminate", &other, &mut rest).unwrap();
        drop(rest);
        turn_until(&mut rig, "release", || other.held() == 0);
        assert_eq!(reader.held(), 0, "{case:?}");
    }
}

#[test]
fn a_wait_that_moves_to_another_task_leaves_the_first_one_nothing() {
    let mut rig = Rig::new();
    let reader = Reader::new(&mut rig, zmq::DEALER, zmq::DEALER);
    let writer = Writer::new(&mut rig, zmq::PUSH);
    for read in [recv, recv_into, readable, recv_in_time, next] {
        let (first, second) = (Hand::new(), Hand::new());
        let mut future = read(&reader);
        assert!(first.poll(&mut future).is_pending() && second.poll(&mut future).is_pending());
        assert_eq!(first.held(), 0);
        reader.supply();
        settle(&mut rig);
        assert!(second.is_woken());
        assert!(second.poll(&mut future).is_ready());
        while reader.socket.try_recv().unwrap().is_some() {}
    }
    for write in [send, send_in_time, writable, sink_send] as [Writing; 4] {
        writer.fill();
        let (first, second, number) = (Hand::new(), Hand::new(), writer.number());
        let mut future = write(&writer, number);
        assert!(first.poll(&mut future).is_pending() && second.poll(&mut future).is_pending());
        assert_eq!(first.held(), 0);
        writer.supply();
        settle(&mut rig);
        assert!(second.is_woken());
        assert!(second.poll(&mut future).is_ready());
    }
}

// A random walk over one line of waiters, against a model of it.

/// How many steps a walk has.
fn steps() -> u64 {
    fewer(30_000)
}

/// Futures in one line, polled by hand.
struct Line<'a, T> {
    waiters: VecDeque<(Hand, LocalBoxFuture<'a, T>)>,
    /// Dropped: before they were called, and after.
    cancelled: (u64, u64),
}

impl<'a, T> Line<'a, T> {
    fn new() -> Self {
        Self { waiters: VecDeque::new(), cancelled: (0, 0) }
    }

    /// Who comes to a line that is not empty waits.
    fn join(&mut self, mut future: LocalBoxFuture<'a, T>) -> Option<T> {
        let hand = Hand::new();
        match hand.poll(&mut future) {
            Poll::Ready(output) => {
                assert!(self.waiters.is_empty(), "it overtook {}", self.waiters.len());
                Some(output)
            }
            Poll::Pending => {
                self.waiters.push_back((hand, future));
                None
            }
        }
    }

    /// Only the first in the line is served.
    fn poll(&mut self, at: usize) -> Option<T> {
        let (hand, future) = &mut self.waiters[at];
        let Poll::Ready(output) = hand.poll(future) else { return None };
        assert_eq!(at, 0, "it overtook {at}");
        self.waiters.pop_front();
        Some(output)
    }

    fn cancel(&mut self, at: usize) {
        let (hand, future) = self.waiters.remove(at).unwrap();
        let called = hand.is_woken();
        self.cancelled.0 += u64::from(!called);
        self.cancelled.1 += u64::from(called);
        drop(future);
        assert_eq!(hand.held(), 0, "it left its waker behind");
    }

    fn woken(&self) -> Option<usize> {
        assert!(self.waiters.iter().filter(|(hand, _)| hand.is_woken()).count() <= 1, "one at a time");
        self.waiters.iter().position(|(hand, _)| hand.is_woken())
    }

    fn any(&self, rng: &mut Rng) -> Option<usize> {
        let len = u64::try_from(self.waiters.len()).unwrap();
        (len > 0).then(|| usize::try_from(rng.below(len)).unwrap())
    }

    fn assert_cancelled(&self, what: &str) {
        let (waiting, called) = self.cancelled;
        println!("{what}: {waiting} dropped while they waited, {called} when they had been called");
        assert!(waiting > steps() / 100 && called > steps() / 100);
    }
}

#[test]
fn a_walk_among_readers() {
    let (mut rig, mut rng) = (Rig::new(), Rng::new());
    let reader = Reader::new(&mut rig, zmq::PULL, zmq::PUSH);
    let (mut line, mut taken) = (Line::new(), 0);
    for step in 0..steps() {
        let served = match rng.below(8) {
            0 | 1 if line.waiters.len() < 8 => {
                line.join([recv, recv_into, recv_in_time][usize::try_from(rng.below(3)).unwrap()](&reader))
            }
            2 => line.any(&mut rng).and_then(|at| line.poll(at)),
            3 | 4 => line.woken().and_then(|at| line.poll(at)),
            5 => {
                // Those that were called are the ones to drop.
                let called = line.woken().filter(|_| rng.below(2) == 0);
                if let Some(at) = called.or_else(|| line.any(&mut rng)) {
                    line.cancel(at);
                }
                None
            }
            6 if reader.supplied.get() < taken + 4 => {
                reader.supply();
                None
            }
            _ => {
                rig.turn(Duration::ZERO);
                None
            }
        };
        if let Some(number) = served {
            assert_eq!(number, Some(taken), "step {step}");
            taken += 1;
        }
        if step % 16 == 0 {
            settle(&mut rig);
            while let Some(at) = line.woken() {
                if let Some(number) = line.poll(at) {
                    assert_eq!(number, Some(taken), "step {step}");
                    taken += 1;
                }
                settle(&mut rig);
            }
            let left = reader.supplied.get() - taken;
            assert!(left == 0 || line.waiters.is_empty(), "step {step}: {left} messages, nobody called");
        }
    }
    println!("{taken} received");
    assert!(taken > steps() / 100);
    line.assert_cancelled("readers");
}

/// Answers the number that it sent.
fn sent(writer: &Writer, number: u64) -> LocalBoxFuture<'_, u64> {
    send(writer, number).map(move |()| number).boxed_local()
}

#[test]
fn a_walk_among_writers() {
    let (mut rig, mut rng) = (Rig::new(), Rng::new());
    let writer = Writer::new(&mut rig, zmq::PUSH);
    writer.fill();
    let capacity = writer.owed.borrow().len();
    let mut line = Line::new();
    for step in 0..steps() {
        let sent = match rng.below(8) {
            0 | 1 if line.waiters.len() < 8 => line.join(sent(&writer, writer.number())),
            2 => line.any(&mut rng).and_then(|at| line.poll(at)),
            3 | 4 => line.woken().and_then(|at| line.poll(at)),
            5 => {
                let called = line.woken().filter(|_| rng.below(2) == 0);
                if let Some(at) = called.or_else(|| line.any(&mut rng)) {
                    line.cancel(at);
                }
                None
            }
            6 => {
                writer.receive();
                None
            }
            _ => {
                rig.turn(Duration::ZERO);
                None
            }
        };
        if let Some(number) = sent {
            writer.took(number);
        }
        if step % 16 == 0 {
            settle(&mut rig);
            while let Some(at) = line.woken() {
                if let Some(number) = line.poll(at) {
                    writer.took(number);
                }
                settle(&mut rig);
            }
            let room = capacity + writer.received.borrow().len() - writer.owed.borrow().len();
            assert!(room == 0 || line.waiters.is_empty(), "step {step}: room for {room}, nobody called");
        }
    }
    line.assert_cancelled("writers");
    line.waiters.clear();
    println!("{} sent", writer.owed.borrow().len());
    assert!(u64::try_from(writer.owed.borrow().len()).unwrap() > steps() / 100);
    writer.drain(&mut rig, "the walk");
}

// Storms: tasks with hardly any patience, beside one that has all of it. It would find out if a call got lost: those
// behind it cannot help it.

/// So many futures are dropped unready.
/// How many cancellations make a storm.
fn storm() -> u64 {
    fewer(20_000)
}

/// What went through one pair of sockets in one direction.
#[derive(Default)]
struct Log {
    /// By the task that sent it, or is about to.
    sent: RefCell<Vec<u64>>,
    received: RefCell<Vec<u64>>,
    senders: Cell<usize>,
    cancelled: Cell<u64>,
    completed: Cell<u64>,
}

impl Log {
    fn sender(&self) -> usize {
        self.senders.set(self.senders.get() + 1);
        self.sent.borrow_mut().push(0);
        self.received.borrow_mut().push(0);
        self.sent.borrow().len() - 1
    }

    fn stormed(&self) -> bool {
        self.cancelled.get() >= storm()
    }

    fn is_done(&self) -> bool {
        self.senders.get() == 0 && *self.sent.borrow() == *self.received.borrow()
    }

    /// One to three frames, the same in each; a large one behind them fills what buffers there are.
    fn message(&self, sender: usize, padding: usize) -> Multipart {
        let number = self.sent.borrow()[sender];
        let frame = [u64::try_from(sender).unwrap().to_le_bytes(), number.to_le_bytes()].concat();
        let mut message: Multipart = vec![frame; 1 + usize::try_from(number % 3).unwrap()].into();
        if padding > 0 {
            message.push_back(vec![0; padding]);
        }
        message
    }

    fn sent(&self, sender: usize) {
        self.sent.borrow_mut()[sender] += 1;
    }

    fn take(&self, message: &Multipart, padding: usize) {
        self.completed.set(self.completed.get() + 1);
        let frames = &message[..message.len() - usize::from(padding > 0)];
        assert!(frames.iter().all(|frame| frame[..] == frames[0][..]), "mixed up");
        let (sender, number) = frames[0].split_at(8);
        let sender = usize::try_from(u64::from_le_bytes(sender.try_into().unwrap())).unwrap();
        let number = u64::from_le_bytes(number.try_into().unwrap());
        assert_eq!(number, self.received.borrow()[sender], "lost, doubled or out of order, from {sender}");
        assert_eq!(frames.len(), 1 + usize::try_from(number % 3).unwrap(), "torn");
        self.received.borrow_mut()[sender] += 1;
    }
}

/// One end of a storm.
#[derive(Clone)]
struct End {
    context: AsyncZmqContext,
    socket: Rc<Socket>,
    rng: Rc<RefCell<Rng>>,
    log: Rc<Log>,
    padding: usize,
}

impl End {
    /// A time in microseconds, from 5 on: hardly any is over before the future has waited.
    fn moment(&self, most: u64) -> Duration {
        Duration::from_micros(5 + self.rng.borrow_mut().below(most))
    }

    /// Receives until the rig goes. `patience`: at most so many microseconds for each message.
    fn spawn_receiver(&self, rig: &Rig, probe: &Rc<Probe>, patience: Option<u64>) {
        let (end, probe) = (self.clone(), Rc::clone(probe));
        rig.spawn_aside(async move {
            loop {
                let message = match patience {
                    Some(most) => end.context.timeout(end.moment(most), end.socket.recv()).await.ok(),
                    None => Some(end.socket.recv().await),
                };
                match message {
                    Some(message) => {
                        end.log.take(&message.unwrap(), end.padding);
                        probe.wait(std::future::ready(())).await;
                    }
                    None => end.cancelled().await,
                }
            }
        });
    }

    /// Receives a few and pauses, until the rig goes.
    fn spawn_bursty_receiver(&self, rig: &Rig, probe: &Rc<Probe>) {
        let (end, probe) = (self.clone(), Rc::clone(probe));
        rig.spawn_aside(async move {
            loop {
                let burst = end.rng.borrow_mut().below(6);
                for _ in 0..burst {
                    end.log.take(&probe.wait(end.socket.recv()).await.unwrap(), end.padding);
                }
                let pause = end.moment(300);
                end.context.sleep(pause).await;
            }
        });
    }

    /// Sends until the storm is over. A message that was given up comes next.
    fn spawn_sender(&self, rig: &Rig, probe: &Rc<Probe>, patience: Option<u64>) {
        let (end, probe) = (self.clone(), Rc::clone(probe));
        let id = end.log.sender();
        rig.spawn_aside(async move {
            while !end.log.stormed() {
                let future = end.socket.send(end.log.message(id, end.padding));
                let sent = match patience {
                    Some(most) => end.context.timeout(end.moment(most), future).await.ok(),
                    None => Some(future.await),
                };
                match sent {
                    Some(sent) => {
                        sent.unwrap();
                        end.log.sent(id);
                        probe.wait(std::future::ready(())).await;
                    }
                    None => end.cancelled().await,
                }
            }
            end.log.senders.set(end.log.senders.get() - 1);
        });
    }

    /// Sends a few and pauses, until the storm is over.
    fn spawn_bursty_sender(&self, rig: &Rig, probe: &Rc<Probe>) {
        let (end, probe) = (self.clone(), Rc::clone(probe));
        let id = end.log.sender();
        rig.spawn_aside(async move {
            while !end.log.stormed() {
                let burst = end.rng.borrow_mut().below(6);
                for _ in 0..burst {
                    probe.wait(end.socket.send(end.log.message(id, end.padding))).await.unwrap();
                    end.log.sent(id);
                }
                let pause = end.moment(300);
                end.context.sleep(pause).await;
            }
            end.log.senders.set(end.log.senders.get() - 1);
        });
    }

    /// Counts, and lets others run: who never waits would keep the loop from its turn.
    async fn cancelled(&self) {
        self.log.cancelled.set(self.log.cancelled.get() + 1);
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn assert_stormed(&self, what: &str) {
        let (cancelled, completed) = (self.log.cancelled.get(), self.log.completed.get());
        println!("{what}: {cancelled} cancelled, {completed} messages of {:?}", self.log.received.borrow());
        assert!(cancelled >= storm() && completed > storm() / 50);
    }
}

/// Two sockets with a high-water mark of 2, and small buffers between them; frames of `padding` bytes fill those too.
fn ends(rig: &mut Rig, kinds: [zmq::SocketType; 2], endpoint: &str) -> [End; 2] {
    let padding = if endpoint == TCP { 20_000 } else { 0 };
    let (context, rng, log) = (rig.context.clone(), Rc::new(RefCell::new(Rng::new())), Rc::new(Log::default()));
    let sockets = kinds.map(|kind| {
        rig.adopt::<Any>("one of two", kind, |raw| {
            raw.set_sndhwm(2)?;
            raw.set_rcvhwm(2)?;
            raw.set_sndbuf(4096)?;
            raw.set_rcvbuf(4096)
        })
    });
    sockets[0].connect(&sockets[1].bind(endpoint).unwrap()).unwrap();
    sockets.map(|socket| End { context: context.clone(), socket, rng: Rc::clone(&rng), log: Rc::clone(&log), padding })
}

#[test]
fn a_storm_around_recv_inproc() {
    storm_around_recv("inproc://storm");
}

#[test]
fn a_storm_around_recv_tcp() {
    storm_around_recv(TCP);
}

fn storm_around_recv(endpoint: &str) {
    let mut rig = Rig::new();
    let [from, to] = ends(&mut rig, [zmq::PUSH, zmq::PULL], endpoint);
    let (sender, receiver) = (rig.probe("senders"), rig.probe("receivers"));
    for _ in 0..3 {
        from.spawn_bursty_sender(&rig, &sender);
    }
    to.spawn_receiver(&rig, &receiver, None);
    for patience in [10, 50, 100, 200] {
        to.spawn_receiver(&rig, &receiver, Some(patience));
    }
    rig.run_until(|| to.log.is_done());
    assert!(to.socket.try_recv().unwrap().is_none(), "doubled");
    to.assert_stormed(&format!("recv, {endpoint}"));
}

#[test]
fn a_storm_around_send_inproc() {
    storm_around_send("inproc://storm");
}

#[test]
fn a_storm_around_send_tcp() {
    storm_around_send(TCP);
}

fn storm_around_send(endpoint: &str) {
    let mut rig = Rig::new();
    let [from, to] = ends(&mut rig, [zmq::PUSH, zmq::PULL], endpoint);
    let (sender, receiver) = (rig.probe("senders"), rig.probe("receivers"));
    from.spawn_sender(&rig, &sender, None);
    for patience in [10, 50, 100, 200] {
        from.spawn_sender(&rig, &sender, Some(patience));
    }
    to.spawn_bursty_receiver(&rig, &receiver);
    rig.run_until(|| from.log.is_done());
    assert!(to.socket.try_recv().unwrap().is_none(), "doubled");
    from.assert_stormed(&format!("send, {endpoint}"));
}

#[test]
fn a_storm_in_both_directions_inproc() {
    storm_in_both_directions("inproc://storm");
}

#[test]
fn a_storm_in_both_directions_tcp() {
    storm_in_both_directions(TCP);
}

/// All of it on one pair: each direction's calls swallow what the other waits for.
fn storm_in_both_directions(endpoint: &str) {
    let mut rig = Rig::new();
    let [one, other] = ends(&mut rig, [zmq::DEALER, zmq::DEALER], endpoint);
    let (sender, receiver) = (rig.probe("senders"), rig.probe("receivers"));
    let back = Rc::new(Log::default());
    let (one_back, other_back) = (End { log: Rc::clone(&back), ..one.clone() }, End { log: back, ..other.clone() });
    for (from, to) in [(&one, &other), (&other_back, &one_back)] {
        from.spawn_sender(&rig, &sender, None);
        from.spawn_sender(&rig, &sender, Some(50));
        from.spawn_sender(&rig, &sender, Some(100));
        to.spawn_bursty_receiver(&rig, &receiver);
        to.spawn_receiver(&rig, &receiver, Some(30));
    }
    rig.run_until(|| one.log.is_done() && one_back.log.is_done());
    one.assert_stormed(&format!("both, there, {endpoint}"));
    one_back.assert_stormed(&format!("both, back, {endpoint}"));
}

#[test]
fn a_called_waiter_that_is_dropped_passes_its_call_on_inproc() {
    second_thoughts("inproc://second");
}

#[test]
fn a_called_waiter_that_is_dropped_passes_its_call_on_tcp() {
    second_thoughts(TCP);
}

/// Ready in one of two polls, but never in the first.
async fn second_thought(rng: &RefCell<Rng>) {
    let mut waited = false;
    poll_fn(|_| {
        let again = std::mem::replace(&mut waited, true);
        if again && rng.borrow_mut().below(2) == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn second_thoughts(endpoint: &str) {
    let mut rig = Rig::new();
    let [from, to] = ends(&mut rig, [zmq::PUSH, zmq::PULL], endpoint);
    let (sender, receiver) = (rig.probe("senders"), rig.probe("receivers"));
    let counts = [(); 2].map(|()| Rc::new(Cell::new(0_u64)));
    for _ in 0..4 {
        let (end, probe, cancelled) = (from.clone(), Rc::clone(&sender), Rc::clone(&counts[0]));
        let id = end.log.sender();
        rig.spawn_aside(async move {
            while !end.log.stormed() {
                select_biased! {
                    () = second_thought(&end.rng).boxed_local().fuse() => {
                        cancelled.set(cancelled.get() + 1);
                        end.cancelled().await;
                    }
                    sent = end.socket.send(end.log.message(id, end.padding)).fuse() => {
                        sent.unwrap();
                        end.log.sent(id);
                        probe.wait(std::future::ready(())).await;
                    }
                }
            }
            end.log.senders.set(end.log.senders.get() - 1);
        });
        let (end, probe, cancelled) = (to.clone(), Rc::clone(&receiver), Rc::clone(&counts[1]));
        rig.spawn_aside(async move {
            loop {
                select_biased! {
                    () = second_thought(&end.rng).boxed_local().fuse() => {
                        cancelled.set(cancelled.get() + 1);
                        end.cancelled().await;
                    }
                    message = end.socket.recv().fuse() => {
                        end.log.take(&message.unwrap(), end.padding);
                        probe.wait(std::future::ready(())).await;
                    }
                }
            }
        });
    }
    rig.run_until(|| to.log.is_done());
    println!("{} sends and {} receives were called and dropped", counts[0].get(), counts[1].get());
    assert!(counts.iter().all(|count| count.get() > storm() / 100));
    to.assert_stormed(&format!("second thoughts, {endpoint}"));
}
