//! Sequences of operations on real sockets, against a model of what may come of them.
//!
//! Two sockets that connect and two that are bound, over `inproc`, so that nothing happens by itself. What a sequence does
//! to them is in its bytes. The model knows each message by its number, and claims:
//!
//! * what libzmq took arrives once, and in order; if no connection was ended meanwhile, all of it arrives;
//! * what was refused, cancelled, or taken back from a Sink never arrives, and comes back whole where it comes back;
//! * when the loop has nothing more to do, whoever has not been woken has nothing to do either;
//! * every wait ends with the context, and with the loop.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop_zmq::kind::Any;
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, Multipart, SendError};
use futures::{Sink, Stream};
use zmq::SocketType;

use crate::source::Source;

pub(crate) fn run(data: &[u8]) {
    let mut source = Source(data);
    let mut world = World::new(&mut source);
    for _ in 0..MAX_STEPS {
        if source.is_empty() || world.ended {
            break;
        }
        world.step(&mut source);
    }
    world.finish();
}

type Socket = Rc<AsyncZmqSocket<Any>>;

struct World {
    pattern: Pattern,
    /// Where there is one now: 0 and 1 connect, 2 and 3 are bound.
    sockets: [Option<Socket>; SOCKETS],
    /// How many have been in that place.
    generations: [usize; SOCKETS],
    connected: [[Option<String>; SOCKETS]; SOCKETS],
    waiting: Vec<Waiting>,
    /// The slots of the Sinks: who polls there, and what it was told when it last did.
    sinks: [Slot; SOCKETS],
    model: Model,
    drops_loop: bool,
    ended: bool,
    context: AsyncZmqContext,
    event_loop: EventLoop<'static, ()>,
}

/// Who talks to whom.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Pipeline,
    Dealers,
    Pairs,
    Router,
}

impl Pattern {
    fn kind(self, place: usize) -> SocketType {
        match (self, is_bound(place)) {
            (Self::Pipeline, false) => zmq::PUSH,
            (Self::Pipeline, true) => zmq::PULL,
            (Self::Dealers, _) | (Self::Router, false) => zmq::DEALER,
            (Self::Pairs, _) => zmq::PAIR,
            (Self::Router, true) => zmq::ROUTER,
        }
    }

    fn sends(self, place: usize) -> bool {
        self.kind(place) != zmq::PULL
    }

    fn receives(self, place: usize) -> bool {
        self.kind(place) != zmq::PUSH
    }

    fn is_router(self, place: usize) -> bool {
        self.kind(place) == zmq::ROUTER
    }
}

/// A future that was begun.
struct Waiting {
    place: usize,
    what: What,
    future: Pin<Box<dyn Future<Output = Outcome>>>,
    wakes: Arc<Wakes>,
    /// How often it had been woken when it was last polled.
    polled_at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Send(usize),
    Receive,
    Next,
    Readable,
    Writable,
}

enum Outcome {
    Sent(Result<(), SendError>),
    Received(calloop_zmq::Result<Multipart>),
    Next(Option<calloop_zmq::Result<Multipart>>),
    Ready(calloop_zmq::Result<()>),
}

#[derive(Default)]
struct Slot {
    wakes: Arc<Wakes>,
    parked_at: Option<usize>,
    /// To be ready for another message, or to have the last one sent.
    to_be_ready: bool,
}

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl World {
    fn new(source: &mut Source<'_>) -> Self {
        let head = source.byte();
        let pattern = [Pattern::Pipeline, Pattern::Dealers, Pattern::Pairs, Pattern::Router][usize::from(head & 3)];
        let event_loop = EventLoop::try_new().unwrap();
        // No thread of libzmq's has a part in this.
        let context = zmq::Context::new();
        context.set_io_threads(0).unwrap();
        let mut world = Self {
            pattern,
            sockets: Default::default(),
            generations: [0; SOCKETS],
            connected: Default::default(),
            waiting: Vec::new(),
            sinks: Default::default(),
            model: Model::default(),
            drops_loop: head & 4 != 0,
            ended: false,
            context: AsyncZmqContext::with_context(&event_loop.handle(), context).unwrap(),
            event_loop,
        };
        let mark = i32::from(head >> 4);
        for place in [2, 3, 0, 1] {
            world.open(place, mark);
        }
        if head & 8 == 0 {
            world.connect(0, 2);
            world.connect(1, if pattern == Pattern::Pairs { 3 } else { 2 });
        }
        world
    }

    fn step(&mut self, source: &mut Source<'_>) {
        let operation = source.below(18);
        let place = source.below(SOCKETS);
        match operation {
            0 | 1 => self.begin_send(place, source),
            2 => self.begin(place, What::Receive),
            3 => self.begin(place, What::Next),
            4 => self.begin(place, if source.below(2) == 0 { What::Readable } else { What::Writable }),
            5 if !self.waiting.is_empty() => self.poll(source.below(self.waiting.len())),
            6 if !self.waiting.is_empty() => self.cancel(source.below(self.waiting.len())),
            7 => self.turn(),
            8 | 9 => self.pump(),
            10 => self.try_send(place, source),
            11 => {
                self.try_receive(place);
            }
            12 => self.feed(place, source),
            13 => self.flush(place),
            14 => self.take_unsent(place),
            15 => {
                let peer = 2 + source.below(2);
                if self.connected[place][peer].is_some() {
                    self.disconnect(place, peer)
                } else {
                    self.connect(place, peer)
                }
            }
            16 => self.meddle(place, source),
            // Rarer than the rest.
            17 => match source.byte() {
                0..64 => self.close(place),
                64..128 if self.sockets[place].is_none() => self.open(place, 2),
                255 => self.shut_down(),
                _ => {}
            },
            _ => {}
        }
    }

    fn open(&mut self, place: usize, mark: i32) {
        let raw = self.context.zmq_context().socket(self.pattern.kind(place)).unwrap();
        raw.set_linger(0).unwrap();
        if mark > 0 {
            raw.set_sndhwm(mark).unwrap();
            raw.set_rcvhwm(mark).unwrap();
        }
        if self.pattern == Pattern::Router {
            if is_bound(place) {
                raw.set_router_mandatory(true).unwrap();
            } else {
                raw.set_identity(name(place)).unwrap();
            }
        }
        let socket = self.context.adopt::<Any>(raw).unwrap();
        self.generations[place] += 1;
        if is_bound(place) {
            socket.bind(&self.endpoint(place)).unwrap();
        }
        self.sockets[place] = Some(Rc::new(socket));
    }

    fn endpoint(&self, place: usize) -> String {
        format!("inproc://{place}-{}", self.generations[place])
    }

    /// Two connections between two sockets would be two ways, and messages overtake each other on them.
    fn connect(&mut self, place: usize, peer: usize) {
        let Some(socket) = &self.sockets[place] else { return };
        if is_bound(place) || self.sockets[peer].is_none() || self.connected[place][peer].is_some() {
            return;
        }
        // A PAIR turns a second one away.
        let taken = |place: usize| self.connected[place].iter().any(Option::is_some);
        let peers = (0..SOCKETS).any(|other| self.connected[other][peer].is_some());
        if self.pattern == Pattern::Pairs && (taken(place) || peers) {
            return;
        }
        let endpoint = self.endpoint(peer);
        socket.connect(&endpoint).unwrap();
        self.connected[place][peer] = Some(endpoint);
    }

    fn disconnect(&mut self, place: usize, peer: usize) {
        let Some(socket) = &self.sockets[place] else { return };
        let endpoint = self.connected[place][peer].take().unwrap();
        // It may have been ended by the peer.
        let _ = socket.disconnect(&endpoint);
        self.model.is_lossy = true;
    }

    fn close(&mut self, place: usize) {
        // A wait holds its socket.
        while let Some(at) = self.waiting.iter().position(|waiting| waiting.place == place) {
            self.cancel(at);
        }
        if self.sockets[place].take().is_none() {
            return;
        }
        self.model.is_lossy = true;
        if let Some(held) = self.model.held[place].take() {
            self.model.messages[held].state = State::Unknown;
        }
        self.sinks[place].parked_at = None;
        for other in 0..SOCKETS {
            self.connected[place][other] = None;
            // libzmq 4.3.4 keeps a PAIR's place taken until it has read the end of the peer that it had.
            if self.pattern != Pattern::Pairs {
                self.connected[other][place] = None;
            }
        }
    }

    fn meddle(&mut self, place: usize, source: &mut Source<'_>) {
        let Some(socket) = &self.sockets[place] else { return };
        // libzmq 4.3.4 tells the other end of a connection of a new mark, also when that end is gone, and crashes.
        let marks = !self.model.is_lossy;
        match source.below(7) {
            0 => {
                socket.with_ref(|raw| raw.get_events()).unwrap();
            }
            1 if marks => socket.with_ref(|raw| raw.set_sndhwm(1 + i32::from(source.byte() % 4))).unwrap(),
            2 if marks => socket.with_ref(|raw| raw.set_rcvhwm(1 + i32::from(source.byte() % 4))).unwrap(),
            3 => socket.set_budget((1 + source.below(4)).try_into().unwrap()),
            4 => {
                // A call that processes commands, and does nothing else.
                socket.unbind("inproc://nobody").unwrap_err();
            }
            // From now on the loop looks after it at every turn.
            5 => {
                socket.get_ref().get_events().unwrap();
            }
            6 => {
                // Out of the loop and in again.
                let idle = self.waiting.iter().all(|waiting| waiting.place != place);
                if idle && self.model.held[place].is_none() {
                    let socket = Rc::into_inner(self.sockets[place].take().unwrap()).expect("nobody else has it");
                    let adopted = self.context.adopt(socket.into_inner()).unwrap();
                    self.sockets[place] = Some(Rc::new(adopted));
                    self.sinks[place].parked_at = None;
                }
            }
            _ => {}
        }
    }

    fn begin_send(&mut self, place: usize, source: &mut Source<'_>) {
        let Some(socket) = self.sockets[place].clone().filter(|_| self.pattern.sends(place)) else { return };
        if self.waiting.len() == MAX_WAITING {
            return;
        }
        let (number, message) = self.message(place, source);
        let future = Box::pin(async move { Outcome::Sent(socket.send(message).await) });
        self.wait(place, What::Send(number), future);
    }

    fn begin(&mut self, place: usize, what: What) {
        let Some(socket) = self.sockets[place].clone() else { return };
        let allowed = match what {
            What::Writable => self.pattern.sends(place),
            // There is one slot.
            What::Next if self.waiting.iter().any(|other| (other.place, other.what) == (place, What::Next)) => false,
            _ => self.pattern.receives(place),
        };
        if !allowed || self.waiting.len() == MAX_WAITING {
            return;
        }
        let future: Pin<Box<dyn Future<Output = Outcome>>> = match what {
            What::Receive => Box::pin(async move { Outcome::Received(socket.recv().await) }),
            What::Next => Box::pin(poll_fn(move |cx| Pin::new(&mut &*socket).poll_next(cx).map(Outcome::Next))),
            What::Readable => Box::pin(async move { Outcome::Ready(socket.readable().await) }),
            _ => Box::pin(async move { Outcome::Ready(socket.writable().await) }),
        };
        self.wait(place, what, future);
    }

    fn wait(&mut self, place: usize, what: What, future: Pin<Box<dyn Future<Output = Outcome>>>) {
        self.waiting.push(Waiting { place, what, future, wakes: Arc::default(), polled_at: 0 });
        self.poll(self.waiting.len() - 1);
    }

    /// Polls one, and takes it out if it is done.
    fn poll(&mut self, at: usize) {
        let Waiting { future, wakes, polled_at, .. } = &mut self.waiting[at];
        *polled_at = wakes.count();
        let waker = Waker::from(Arc::clone(wakes));
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            let Waiting { place, what, .. } = self.waiting.remove(at);
            self.came_of(place, what, outcome);
        }
    }

    fn came_of(&mut self, place: usize, what: What, outcome: Outcome) {
        match (what, outcome) {
            (What::Send(number), Outcome::Sent(Ok(()))) => self.model.accepted(place, number),
            (What::Send(number), Outcome::Sent(Err(refused))) => self.refused(place, number, refused),
            (_, Outcome::Received(Ok(message)) | Outcome::Next(Some(Ok(message)))) => self.receive(place, message),
            (_, Outcome::Ready(Ok(()))) => {}
            (_, Outcome::Received(Err(error)) | Outcome::Next(Some(Err(error))) | Outcome::Ready(Err(error))) => {
                assert!(self.ended && is_end(&error), "{what:?}: {error:?}");
            }
            (_, Outcome::Next(None)) => assert!(self.ended, "the stream ended"),
            (_, Outcome::Sent(_)) => panic!("{what:?} has sent"),
        }
    }

    fn refused(&mut self, place: usize, number: usize, refused: SendError) {
        let gone = self.pattern.is_router(place)
            && matches!(refused.error, Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. });
        assert!(gone || self.ended && is_end(&refused.error), "{refused:?}");
        self.comes_back(place, number, refused.into_message());
    }

    /// Messages come back as they were.
    fn comes_back(&mut self, place: usize, number: usize, mut message: Multipart) {
        if self.pattern.is_router(place) {
            message.pop_front();
        }
        assert_eq!(message, body(number, self.model.messages[number].frames));
        self.model.messages[number].state = State::Never;
    }

    fn cancel(&mut self, at: usize) {
        let Waiting { what, future, .. } = self.waiting.remove(at);
        drop(future);
        if let What::Send(number) = what {
            self.model.messages[number].state = State::Never;
        }
    }

    fn try_send(&mut self, place: usize, source: &mut Source<'_>) {
        let Some(socket) = self.sockets[place].clone().filter(|_| self.pattern.sends(place)) else { return };
        let (number, message) = self.message(place, source);
        match socket.try_send(message) {
            Ok(()) => self.model.accepted(place, number),
            Err(refused) if refused.is_full() => self.comes_back(place, number, refused.into_message()),
            Err(refused) => self.refused(place, number, refused),
        }
    }

    fn try_receive(&mut self, place: usize) -> bool {
        let Some(socket) = self.sockets[place].clone().filter(|_| self.pattern.receives(place)) else { return false };
        let received = socket.try_recv().unwrap();
        let came = received.is_some();
        received.into_iter().for_each(|message| self.receive(place, message));
        came
    }

    /// The Sink of a ROUTER keeps no order with what is sent beside it, so the model knows nothing of it.
    fn sink(&self, place: usize) -> Option<Socket> {
        self.sockets[place].clone().filter(|_| self.pattern.sends(place) && !self.pattern.is_router(place))
    }

    fn feed(&mut self, place: usize, source: &mut Source<'_>) {
        let Some(socket) = self.sink(place) else { return };
        if self.poll_sink(place, true) {
            let (number, message) = self.message(place, source);
            Pin::new(&mut &*socket).start_send(message).unwrap();
            self.model.held[place] = Some(number);
        }
    }

    fn flush(&mut self, place: usize) {
        self.poll_sink(place, false);
    }

    /// True if the Sink holds nothing now.
    fn poll_sink(&mut self, place: usize, to_be_ready: bool) -> bool {
        let Some(socket) = self.sink(place) else { return false };
        let slot = &mut self.sinks[place];
        let woken = slot.wakes.count();
        let waker = Waker::from(Arc::clone(&slot.wakes));
        let (mut sink, mut cx) = (&*socket, Context::from_waker(&waker));
        let sink = Pin::new(&mut sink);
        let polled = if to_be_ready { sink.poll_ready(&mut cx) } else { sink.poll_flush(&mut cx) };
        let Poll::Ready(flushed) = polled else {
            (slot.parked_at, slot.to_be_ready) = (Some(woken), to_be_ready);
            return false;
        };
        flushed.unwrap();
        slot.parked_at = None;
        self.model.flushed(place);
        true
    }

    fn take_unsent(&mut self, place: usize) {
        let Some(socket) = self.sink(place) else { return };
        match (socket.take_unsent(), self.model.held[place].take()) {
            (Some(message), Some(number)) => self.comes_back(place, number, message),
            (None, Some(number)) => self.model.accepted(place, number),
            (unsent, None) => assert!(unsent.is_none(), "{unsent:?}"),
        }
    }

    fn shut_down(&mut self) {
        self.ended = true;
        self.model.is_lossy = true;
        self.context.shutdown();
        let ended = self.waiting.iter().all(|waiting| waiting.wakes.count() > waiting.polled_at);
        assert!(ended, "everyone is woken at the end");
        self.everyone_ends();
    }

    fn everyone_ends(&mut self) {
        while !self.waiting.is_empty() {
            let left = self.waiting.len();
            self.poll(left - 1);
            assert_eq!(self.waiting.len(), left - 1, "every wait ends");
        }
    }

    fn turn(&mut self) {
        self.event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
    }

    fn woken(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.wakes.count()).sum::<usize>()
            + self.sinks.iter().map(|sink| sink.wakes.count()).sum::<usize>()
    }

    /// Turns the loop until it has nothing more to do.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..100 {
            let woken = self.woken();
            self.turn();
            quiet = if self.woken() == woken { quiet + 1 } else { 0 };
            if quiet == 3 {
                return;
            }
        }
        panic!("nobody polls, and the loop goes on waking");
    }

    /// Turns the loop and polls whom it woke, until nobody is woken any more. Whoever is not must have nothing to do.
    fn pump(&mut self) {
        for _ in 0..1_000 {
            self.settle();
            let woken = |waiting: &Waiting| waiting.wakes.count() > waiting.polled_at;
            let Some(at) = self.waiting.iter().position(woken) else {
                return self.nobody_is_forgotten();
            };
            self.poll(at);
        }
        panic!("they go on waking each other");
    }

    fn nobody_is_forgotten(&mut self) {
        let mut at = 0;
        while let Some(Waiting { place, what, .. }) = self.waiting.get(at) {
            let (place, what, left) = (*place, *what, self.waiting.len());
            // A sender of a ROUTER finds out by and by.
            if !(self.pattern.is_router(place) && matches!(what, What::Send(_))) {
                self.poll(at);
                assert_eq!(self.waiting.len(), left, "{what:?} on socket {place} was ready, and was not woken");
            }
            at += 1;
        }
        for place in 0..SOCKETS {
            let slot = &self.sinks[place];
            if slot.parked_at == Some(slot.wakes.count()) {
                self.poll_sink(place, slot.to_be_ready);
                assert!(self.sinks[place].parked_at.is_some(), "the Sink of socket {place} was not woken");
            }
        }
    }

    fn finish(mut self) {
        if !self.ended {
            self.pump();
        }
        if self.drops_loop && !self.ended {
            self.ended = true;
            self.model.is_lossy = true;
            self.event_loop = EventLoop::try_new().unwrap();
            self.everyone_ends();
        }
        while !self.waiting.is_empty() {
            self.cancel(0);
        }
        if !self.ended {
            self.drain();
        }
        self.model.check();
        self.sockets = Default::default();
        if !self.drops_loop {
            self.terminate();
        }
    }

    /// Receives all there is.
    fn drain(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            self.turn();
            let mut came = false;
            for place in 0..SOCKETS {
                came |= self.try_receive(place);
                self.flush(place);
            }
            quiet = if came { 0 } else { quiet + 1 };
        }
    }

    fn terminate(mut self) {
        let begin = Instant::now();
        let mut ended = self.context.terminate();
        while Pin::new(&mut ended).poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.event_loop.dispatch(Duration::from_millis(1), &mut ()).unwrap();
            assert!(begin.elapsed() < Duration::from_secs(10), "the context does not end");
        }
    }

    /// A message of this sender, as it hands it over.
    fn message(&mut self, place: usize, source: &mut Source<'_>) -> (usize, Multipart) {
        let (number, frames) = (self.model.messages.len(), 1 + source.below(3));
        self.model.messages.push(Message { sender: place, frames, state: State::Waits });
        let mut message = body(number, frames);
        if self.pattern.is_router(place) {
            message.push_front(name(source.below(2)));
        }
        (number, message)
    }

    fn receive(&mut self, place: usize, mut message: Multipart) {
        let from = self.pattern.is_router(place).then(|| message.pop_front().unwrap());
        let number = u32::from_le_bytes(message[0][..4].try_into().unwrap()) as usize;
        assert_eq!(message, body(number, self.model.messages[number].frames), "whole");
        let sender = self.model.messages[number].sender;
        assert!(from.is_none_or(|from| from[..] == *name(sender)));
        self.model.received(place, number);
    }
}

/// What is known of the messages.
#[derive(Default)]
struct Model {
    messages: Vec<Message>,
    /// By sender, those that libzmq took, in this order.
    taken: [Vec<usize>; SOCKETS],
    /// What a Sink holds, or has handed over since.
    held: [Option<usize>; SOCKETS],
    /// By receiver and sender, how far it is.
    reached: [[usize; SOCKETS]; SOCKETS],
    /// A connection was ended: its messages may go with it, and those of a new one overtake them.
    is_lossy: bool,
}

struct Message {
    sender: usize,
    frames: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waits,
    /// libzmq has it. It is this one in the sender's order.
    Taken(usize),
    /// The Sink that held it is gone.
    Unknown,
    /// It was refused or given up.
    Never,
    Received,
}

impl Model {
    fn accepted(&mut self, sender: usize, number: usize) {
        // What a Sink holds goes first.
        self.flushed(sender);
        self.messages[number].state = State::Taken(self.taken[sender].len());
        self.taken[sender].push(number);
    }

    fn flushed(&mut self, sender: usize) {
        if let Some(held) = self.held[sender].take() {
            self.accepted(sender, held);
        }
    }

    fn received(&mut self, receiver: usize, number: usize) {
        let sender = self.messages[number].sender;
        if self.held[sender] == Some(number) {
            self.flushed(sender);
        }
        let state = std::mem::replace(&mut self.messages[number].state, State::Received);
        match state {
            State::Taken(at) => {
                let reached = &mut self.reached[receiver][sender];
                assert!(at >= *reached || self.is_lossy, "message {number} was overtaken");
                *reached = at + 1;
            }
            State::Unknown => {}
            state => panic!("message {number} came, and it was {state:?}"),
        }
    }

    fn check(&self) {
        for number in self.taken.iter().flatten() {
            let state = self.messages[*number].state;
            assert!(self.is_lossy || state == State::Received, "message {number} is lost: {state:?}");
        }
    }
}

/// A message that its number tells all of.
fn body(number: usize, frames: usize) -> Multipart {
    let first = (number as u32).to_le_bytes().to_vec();
    let rest = (1..frames).map(|frame| vec![frame as u8; number * 7 % 50]);
    [first].into_iter().chain(rest).collect()
}

fn is_bound(place: usize) -> bool {
    place >= 2
}

fn name(place: usize) -> &'static [u8] {
    [&b"left"[..], b"right"][place]
}

fn is_end(error: &Error) -> bool {
    matches!(error, Error::Terminated | Error::LoopGone)
}

const SOCKETS: usize = 4;
const MAX_WAITING: usize = 12;
const MAX_STEPS: usize = 400;
