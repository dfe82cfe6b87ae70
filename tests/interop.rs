//! pyzmq and zeromq.js at the other end: every pair of kinds that talk to each other, both ways, over tcp and ipc, whoever
//! binds, with NULL, PLAIN and (where this libzmq has it) CURVE.
//!
//! The peers are `interop/peer.py` and `interop/peer.mjs`, each in a process of its own with a libzmq of its own (4.3.5; the
//! zmq crate bundles 4.3.4). Both ends derive the same messages from a seed, so each knows what it must receive: the
//! number of frames, their lengths and their bytes, in order, nothing lost and nothing doubled. Each also sums up what it
//! sent and received, and the sums must agree across the processes: a check that never ran shows.
//!
//! `CALLOOP_ZMQ_SEED` repeats a run; `CALLOOP_ZMQ_PYTHON` and `CALLOOP_ZMQ_NODE` name the interpreters, `NODE_PATH` where
//! zeromq.js is. Without pyzmq or zeromq.js the tests say that they skip, and pass; where `CI` is set they fail.

use std::env;
use std::error::Error;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::ops::Range;
use std::path::Path;
use std::pin::pin;
use std::process::{self, Child, ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{self as sync_mpsc, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop_zmq::zmq::{self, SocketType};
use calloop_zmq::{
    AsyncZmqContext, AsyncZmqSocket, Monitor, MonitorEvent, Multipart, features,
    kind::{CanRecv, CanSend, Dealer, Kind, Pair, Pub, Pull, Push, Rep, Req, Router, Sub, XPub, XSub},
    zap,
};
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::future::{Either, select};
use futures::{SinkExt, StreamExt, try_join};

#[test]
fn push_and_pull() {
    run_pattern(0, 20_000, &[(SocketType::PUSH, SocketType::PULL), (SocketType::PULL, SocketType::PUSH)]);
}

#[test]
fn publish_and_subscribe() {
    let pairs =
        [(SocketType::PUB, SocketType::SUB), (SocketType::PUB, SocketType::XSUB), (SocketType::XPUB, SocketType::SUB)];
    run_pattern(1, 20_000, &both_ends(&pairs));
}

#[test]
fn request_and_reply() {
    let pairs = [
        (SocketType::REQ, SocketType::REP),
        (SocketType::REQ, SocketType::ROUTER),
        (SocketType::DEALER, SocketType::REP),
    ];
    run_pattern(2, 12_000, &both_ends(&pairs));
}

#[test]
fn dealer_and_router() {
    run_pattern(3, 20_000, &both_ends(&[(SocketType::DEALER, SocketType::ROUTER)]));
}

#[test]
fn dealer_and_dealer() {
    run_pattern(4, 10_000, &[(SocketType::DEALER, SocketType::DEALER)]);
}

#[test]
fn router_and_router() {
    run_pattern(5, 10_000, &[(SocketType::ROUTER, SocketType::ROUTER)]);
}

#[test]
fn pair_and_pair() {
    run_pattern(6, 10_000, &[(SocketType::PAIR, SocketType::PAIR)]);
}

#[test]
fn xpub_and_xsub() {
    run_pattern(7, 18_000, &both_ends(&[(SocketType::XPUB, SocketType::XSUB)]));
}

/// What a killed peer had sent arrives up to some point: all of it, whole and in order. The socket goes on with the next.
#[test]
fn a_peer_killed_in_mid_stream_leaves_whole_messages_in_order() {
    let _watchdog = Watchdog::start();
    for language in [Language::Python, Language::JavaScript] {
        let seed = seed();
        let Some(interpreter) = language.find() else { continue };
        let mut event_loop = EventLoop::<Done>::try_new().expect("an event loop");
        let context = AsyncZmqContext::new(&event_loop.handle()).expect("a context");
        let killing = async {
            let noise: Rc<[u8]> = make_noise(seed).into();
            let pull = context.socket::<Pull>()?;
            let mut monitor = pull.monitor()?;
            let endpoint = pull.bind("tcp://127.0.0.1:*")?;
            for number in 1..=KILLS {
                let peer = Peer::start(language, &interpreter, seed);
                let cell = Cell {
                    number,
                    rust: SocketType::PULL,
                    other: SocketType::PUSH,
                    mechanism: Mechanism::Null,
                    endpoint: endpoint.clone(),
                    rust_binds: true,
                    hwm: 100,
                    most: 50,
                    outgoing: 0,
                    incoming: 1_000_000,
                    seed,
                    noise: Rc::clone(&noise),
                };
                cell.kill(&context, &pull, &mut monitor, peer).await?;
            }
            Outcome::Ok(())
        };
        let ended = event_loop.block_on(killing, &mut None, |_| {}).expect("the loop runs").expect("nobody stops it");
        ended.unwrap_or_else(|error| panic!("{language:?}: {error}"));
    }
}

/// Each pair, with either kind at the Rust end.
fn both_ends(pairs: &[(SocketType, SocketType)]) -> Vec<(SocketType, SocketType)> {
    pairs.iter().flat_map(|&(left, right)| [(left, right), (right, left)]).collect()
}

/// How often a peer of each language is killed.
const KILLS: u64 = 2;
/// How long any single wait may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a test may take. The peer ends itself a little earlier.
const LIFETIME: Duration = Duration::from_secs(300);

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// What the event loop's callbacks leave for the test: the cell is over.
type Done = Option<(Peer, Outcome<usize>)>;

/// Runs one pattern in all its cells, with each peer: each pair of kinds, over tcp and ipc, with either end binding.
fn run_pattern(pattern: u64, messages: usize, pairs: &[(SocketType, SocketType)]) {
    let _watchdog = Watchdog::start();
    for (language, share) in [(Language::Python, 2), (Language::JavaScript, 4)] {
        let cells = 4 * pairs.len();
        let each = messages / share / cells;
        run_cells(language, pattern, each, pairs);
    }
}

fn run_cells(language: Language, pattern: u64, each: usize, pairs: &[(SocketType, SocketType)]) {
    let seed = seed();
    let Some(interpreter) = language.find() else { return };
    let directory = tempfile::tempdir().expect("a directory for ipc endpoints");
    let noise: Rc<[u8]> = make_noise(seed).into();
    let mut peer = Peer::start(language, &interpreter, seed);
    let mut number = pattern * 100;
    for &(rust, other) in pairs {
        for endpoint in [Endpoint::Tcp, Endpoint::Ipc] {
            for rust_binds in [true, false] {
                number += 1;
                let (sends, receives) = directions(rust, other);
                let each = each / (usize::from(sends) + usize::from(receives));
                let cell = Cell {
                    number,
                    rust,
                    other,
                    mechanism: match endpoint {
                        Endpoint::Tcp if features().curve => Mechanism::Curve,
                        Endpoint::Tcp => Mechanism::Null,
                        Endpoint::Ipc => Mechanism::Plain,
                    },
                    endpoint: match endpoint {
                        Endpoint::Tcp => "tcp://127.0.0.1:*".to_owned(),
                        Endpoint::Ipc => format!("ipc://{}/{number}", directory.path().display()),
                    },
                    rust_binds,
                    // Where libzmq drops what is too much, nothing may be too much: a PUB does, and so does a REP whose
                    // queue seems full because libzmq has not yet looked. Elsewhere a short queue makes both ends wait.
                    hwm: match (rust, other) {
                        (SocketType::PUB | SocketType::SUB | SocketType::XPUB | SocketType::XSUB, _) => 0,
                        (SocketType::REQ | SocketType::REP, _) | (_, SocketType::REQ | SocketType::REP) => 1000,
                        // With security, a queue for one is refused: libzmq would keep a user id in it.
                        _ if rust_binds => 2,
                        _ => 100,
                    },
                    most: if number % 100 == 1 { 10_000 } else { 50 },
                    outgoing: if sends { each } else { 0 },
                    incoming: if receives { each } else { 0 },
                    seed,
                    noise: Rc::clone(&noise),
                };
                let title = format!("{language:?}: {cell}");
                let wanted = cell.outgoing + cell.incoming;
                let started = Instant::now();
                let (returned, outcome) = run_cell(peer, cell, endpoint);
                peer = returned;
                match outcome {
                    Ok(crossed) => assert_eq!(crossed, wanted, "{title}"),
                    Err(error) => panic!("{title}: {error}\nCALLOOP_ZMQ_SEED={seed}\n{}", peer.last_words()),
                }
                println!("{title}: {:?}", started.elapsed());
            }
        }
    }
    peer.finish();
}

fn seed() -> u64 {
    let seed = match env::var("CALLOOP_ZMQ_SEED") {
        Ok(text) => text.parse().expect("CALLOOP_ZMQ_SEED is a number"),
        Err(_) => RandomState::new().hash_one("seed"),
    };
    println!("CALLOOP_ZMQ_SEED={seed}");
    seed
}

#[derive(Clone, Copy)]
enum Endpoint {
    Tcp,
    Ipc,
}

/// Runs a cell in an event loop of its own: by `block_on` over tcp, as a task of calloop's executor over ipc.
fn run_cell(peer: Peer, cell: Cell, endpoint: Endpoint) -> (Peer, Outcome<usize>) {
    let mut event_loop = EventLoop::<Done>::try_new().expect("an event loop");
    let context = AsyncZmqContext::new(&event_loop.handle()).expect("a context");
    let task = async move {
        let mut peer = peer;
        let outcome = cell.run(&context, &mut peer).await;
        (peer, outcome)
    };
    let mut done = None;
    match endpoint {
        Endpoint::Tcp => event_loop.block_on(task, &mut done, |_| {}).expect("the loop runs").expect("nobody stops it"),
        Endpoint::Ipc => {
            let (executor, scheduler) = calloop::futures::executor().expect("an executor");
            event_loop.handle().insert_source(executor, |output, (), done| *done = Some(output)).expect("it goes in");
            scheduler.schedule(task).expect("the executor is there");
            loop {
                event_loop.dispatch(None, &mut done).expect("the loop runs");
                if let Some(done) = done.take() {
                    return done;
                }
            }
        }
    }
}

/// Whether the Rust end sends and receives messages in this pattern.
fn directions(rust: SocketType, other: SocketType) -> (bool, bool) {
    let talks_only = |kind, peer| {
        matches!(kind, SocketType::PUSH | SocketType::PUB) || kind == SocketType::XPUB && peer == SocketType::SUB
    };
    (!talks_only(other, rust), !talks_only(rust, other))
}

/// Two sockets, one at each end, and what goes between them.
struct Cell {
    number: u64,
    rust: SocketType,
    other: SocketType,
    mechanism: Mechanism,
    endpoint: String,
    rust_binds: bool,
    hwm: i32,
    /// Of frames, in one message of each direction.
    most: u64,
    outgoing: usize,
    incoming: usize,
    seed: u64,
    noise: Rc<[u8]>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.rust_binds { "binds" } else { "connects" };
        let Self { number, rust, other, mechanism, endpoint, .. } = self;
        write!(f, "cell {number}: {rust:?} {verb} to {other:?}, {mechanism:?}, {endpoint}")
    }
}

impl Cell {
    /// Answers how many messages crossed.
    async fn run(&self, context: &AsyncZmqContext, peer: &mut Peer) -> Outcome<usize> {
        // No user ids: libzmq has a REQ that is a server trip over them.
        let policy = async |request: zap::Request| match request.credentials {
            zap::Credentials::Plain { username, password } if (&*username, &password[..]) == ("peer", b"secret") => {
                zap::Decision::allow()
            }
            zap::Credentials::Curve { .. } => zap::Decision::allow(),
            _ => zap::Decision::deny(),
        };
        let authenticator = pin!(zap::Authenticator::new(context, policy)?.run());
        match select(pin!(self.cross(context, peer)), authenticator).await {
            Either::Left((crossed, _)) => crossed,
            Either::Right((ended, _)) => Err(format!("the authenticator ended: {ended:?}").into()),
        }
    }

    async fn cross(&self, context: &AsyncZmqContext, peer: &mut Peer) -> Outcome<usize> {
        let run = Traffic { cell: self, context };
        match (self.rust, self.other) {
            (SocketType::REQ, _) => run.request(run.open::<Req>(peer).await?, peer, None).await,
            (SocketType::DEALER, SocketType::REP) => {
                run.request(run.open::<Dealer>(peer).await?, peer, Some(b"")).await
            }
            (SocketType::REP, _) => run.reply(run.open::<Rep>(peer).await?, peer, 0).await,
            (SocketType::ROUTER, SocketType::REQ) => run.reply(run.open::<Router>(peer).await?, peer, 2).await,
            (SocketType::PUSH, _) => {
                let push = run.open::<Push>(peer).await?;
                run.one_way_out(push, peer, None).await
            }
            (SocketType::PULL, _) => {
                let pull = run.open::<Pull>(peer).await?;
                run.one_way_in(pull, peer, None).await
            }
            (SocketType::PUB, _) => {
                let publisher = run.open::<Pub>(peer).await?;
                run.probe(&publisher, peer).await?;
                run.one_way_out(publisher, peer, Some(TOPIC)).await
            }
            (SocketType::XPUB, other) => {
                let publisher = run.open::<XPub>(peer).await?;
                run.expect_message(&publisher, &[&[&[1], TOPIC].concat()]).await?;
                peer.say("subscribed")?;
                if other == SocketType::SUB {
                    return run.one_way_out(publisher, peer, Some(TOPIC)).await;
                }
                run.both_ways(publisher, peer, Some(TOPIC), None).await
            }
            (SocketType::SUB, _) => {
                let subscriber = run.open::<Sub>(peer).await?;
                run.subscribed(&subscriber, peer).await?;
                run.one_way_in(subscriber, peer, Some(TOPIC)).await
            }
            (SocketType::XSUB, other) => {
                let subscriber = run.open::<XSub>(peer).await?;
                subscriber.subscribe(TOPIC)?;
                run.subscribed(&subscriber, peer).await?;
                if other == SocketType::PUB {
                    return run.one_way_in(subscriber, peer, Some(TOPIC)).await;
                }
                run.both_ways(subscriber, peer, None, Some(TOPIC)).await
            }
            (SocketType::DEALER, other) => {
                let dealer = run.open::<Dealer>(peer).await?;
                if other == SocketType::ROUTER {
                    run.put(&dealer, HELLO.into()).await?;
                    run.flush(&dealer).await?;
                }
                run.both_ways(dealer, peer, None, None).await
            }
            (SocketType::ROUTER, other) => {
                let router = run.open::<Router>(peer).await?;
                let id = format!("peer-{}", self.number);
                if other == SocketType::ROUTER {
                    run.insist(&router, &id).await?;
                }
                run.expect_message(&router, &[id.as_bytes(), HELLO]).await?;
                run.both_ways(router, peer, Some(id.as_bytes()), Some(id.as_bytes())).await
            }
            (SocketType::PAIR, _) => run.both_ways(run.open::<Pair>(peer).await?, peer, None, None).await,
            (SocketType::STREAM, _) => unreachable!("no pattern here has a STREAM"),
        }
    }

    /// Receives what a peer pushes, kills it in the middle, and receives what it leaves.
    async fn kill(
        &self,
        context: &AsyncZmqContext,
        pull: &AsyncZmqSocket<Pull>,
        monitor: &mut Monitor,
        mut peer: Peer,
    ) -> Outcome {
        let run = Traffic { cell: self, context };
        let Self { number, endpoint, hwm, most, incoming, .. } = self;
        peer.say(&format!("{number} PUSH PULL connect null {endpoint} {hwm} {most} {incoming} 0"))?;
        peer.expect(context, "endpoint connected").await?;
        let (mut plan, mut received) = (self.plan(true), Tally::default());
        let alive = 100 + 37 * as_usize(*number);
        for shape in plan.by_ref().take(alive) {
            run.check(&mut received, None, &shape, &run.take(pull).await?)?;
        }
        peer.last_words();
        loop {
            match context.timeout(DEADLINE, select(pull.recv(), monitor.next())).await? {
                Either::Left((message, _)) => {
                    run.check(&mut received, None, &plan.next().ok_or("too many")?, &message?)?;
                }
                Either::Right((Some(Ok(MonitorEvent::Disconnected { .. })), _)) => break,
                Either::Right((Some(Ok(_)), _)) => {}
                Either::Right((ended, _)) => return Err(format!("the monitor ended: {ended:?}").into()),
            }
        }
        // What the connection brought is in the queue by now.
        while let Ok(message) = context.timeout(Duration::from_millis(50), pull.recv()).await {
            run.check(&mut received, None, &plan.next().ok_or("too many")?, &message?)?;
        }
        println!("killed after {alive} messages, {received} arrived");
        Ok(())
    }

    /// The messages of one direction. The even streams are ours.
    fn plan(&self, incoming: bool) -> Plan {
        let count = if incoming { self.incoming } else { self.outgoing };
        let random = Random::new(self.seed, 2 * self.number + u64::from(incoming));
        Plan { random, index: 0, count, most: self.most }
    }
}

/// A cell in its loop. Where the Rust end binds it awaits `send` and `recv`; where it connects, it is Sink and Stream.
struct Traffic<'a> {
    cell: &'a Cell,
    context: &'a AsyncZmqContext,
}

impl Traffic<'_> {
    /// Opens the socket and has the peer open its own; both are bound or connected afterwards.
    async fn open<K: Kind>(&self, peer: &mut Peer) -> Outcome<AsyncZmqSocket<K>> {
        let Cell { number, rust, other, mechanism, rust_binds, hwm, most, outgoing, incoming, .. } = *self.cell;
        let socket = self.context.socket::<K>()?;
        let options = socket.get_ref();
        options.set_sndhwm(hwm)?;
        options.set_rcvhwm(hwm)?;
        if rust == SocketType::ROUTER {
            options.set_router_mandatory(true)?;
        }
        if matches!(rust, SocketType::ROUTER | SocketType::DEALER) {
            options.set_identity(format!("rust-{number}").as_bytes())?;
        }
        if rust == SocketType::SUB {
            options.set_subscribe(TOPIC)?;
        }
        let keys = mechanism.set(options, rust_binds)?;
        let (action, endpoint) = if rust_binds {
            if !matches!(mechanism, Mechanism::Null) {
                socket.require_zap(DOMAIN)?;
            }
            ("connect", socket.bind(&self.cell.endpoint)?)
        } else {
            ("bind", self.cell.endpoint.clone())
        };
        let mechanism = format!("{mechanism:?}").to_lowercase();
        peer.say(&format!(
            "{number} {other:?} {rust:?} {action} {mechanism} {endpoint} {hwm} {most} {incoming} {outgoing} {keys}"
        ))?;
        let answer = peer.hear(self.context).await?;
        match answer.strip_prefix("endpoint ") {
            Some("connected") if rust_binds => {}
            Some(bound) if !rust_binds => socket.connect(bound)?,
            _ => return Err(format!("wanted an endpoint from the peer, got {answer:?}").into()),
        }
        Ok(socket)
    }

    /// Publishes until the peer's subscription has come: a PUB does not say when.
    async fn probe(&self, publisher: &AsyncZmqSocket<Pub>, peer: &mut Peer) -> Outcome {
        let give_up = Instant::now() + DEADLINE;
        while Instant::now() < give_up {
            publisher.send(TOPIC).await?;
            if let Ok(line) = self.context.timeout(Duration::from_millis(10), peer.lines.next()).await {
                return is("subscribed", &line.unwrap_or_default());
            }
        }
        Err("nobody subscribed".into())
    }

    /// Waits until the publisher has the subscription: a PUB says so with a probe.
    async fn subscribed<K: CanRecv>(&self, subscriber: &AsyncZmqSocket<K>, peer: &mut Peer) -> Outcome {
        if self.cell.other == SocketType::XPUB {
            return peer.expect(self.context, "subscribed").await;
        }
        self.expect_message(subscriber, &[TOPIC]).await?;
        Ok(peer.say("subscribed")?)
    }

    /// Greets a peer that may not be there yet.
    async fn insist(&self, router: &AsyncZmqSocket<Router>, id: &str) -> Outcome {
        let give_up = Instant::now() + DEADLINE;
        loop {
            match self.context.timeout(DEADLINE, router.send([id.as_bytes(), HELLO])).await?.map_err(Into::into) {
                Err(calloop_zmq::Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. }) if Instant::now() < give_up => {
                    self.context.sleep(Duration::from_millis(5)).await;
                }
                greeted => return Ok(greeted?),
            }
        }
    }

    async fn request<K: CanSend + CanRecv>(
        &self,
        socket: AsyncZmqSocket<K>,
        peer: &mut Peer,
        envelope: Option<&[u8]>,
    ) -> Outcome<usize> {
        let (mut sent, mut received) = (Tally::default(), Tally::default());
        for (request, reply) in self.cell.plan(false).zip(self.cell.plan(true)) {
            self.put(&socket, self.cut(&mut sent, envelope, &request)).await?;
            self.flush(&socket).await?;
            self.check(&mut received, envelope, &reply, &self.take(&socket).await?)?;
        }
        self.compare(socket, peer, sent, received).await
    }

    /// So many frames of each request are its envelope.
    async fn reply<K: CanSend + CanRecv>(
        &self,
        socket: AsyncZmqSocket<K>,
        peer: &mut Peer,
        envelope: usize,
    ) -> Outcome<usize> {
        let (mut sent, mut received) = (Tally::default(), Tally::default());
        for (reply, request) in self.cell.plan(false).zip(self.cell.plan(true)) {
            let mut message = self.take(&socket).await?;
            let envelope: Vec<_> = (0..envelope).filter_map(|_| message.pop_front()).collect();
            self.check(&mut received, None, &request, &message)?;
            let mut message = self.cut(&mut sent, None, &reply);
            for frame in envelope.into_iter().rev() {
                message.push_front(frame);
            }
            self.put(&socket, message).await?;
            self.flush(&socket).await?;
        }
        self.compare(socket, peer, sent, received).await
    }

    async fn one_way_out<K: CanSend>(
        &self,
        socket: AsyncZmqSocket<K>,
        peer: &mut Peer,
        envelope: Option<&[u8]>,
    ) -> Outcome<usize> {
        let sent = self.send_all(&socket, envelope).await?;
        self.compare(socket, peer, sent, Tally::default()).await
    }

    async fn one_way_in<K: CanRecv>(
        &self,
        socket: AsyncZmqSocket<K>,
        peer: &mut Peer,
        envelope: Option<&[u8]>,
    ) -> Outcome<usize> {
        let received = self.recv_all(&socket, envelope).await?;
        self.compare(socket, peer, Tally::default(), received).await
    }

    /// Sends and receives at once. The envelopes are the first frames of what is sent and received.
    async fn both_ways<K: CanSend + CanRecv>(
        &self,
        socket: AsyncZmqSocket<K>,
        peer: &mut Peer,
        sent: Option<&[u8]>,
        received: Option<&[u8]>,
    ) -> Outcome<usize> {
        let (sent, received) = try_join!(self.send_all(&socket, sent), self.recv_all(&socket, received))?;
        self.compare(socket, peer, sent, received).await
    }

    async fn send_all<K: CanSend>(&self, socket: &AsyncZmqSocket<K>, envelope: Option<&[u8]>) -> Outcome<Tally> {
        let mut sent = Tally::default();
        for shape in self.cell.plan(false) {
            let message = self.cut(&mut sent, envelope, &shape);
            self.put(socket, message).await?;
            if envelope == Some(TOPIC) && sent.messages % DECOY_EVERY == 0 {
                self.put(socket, DECOY.into()).await?;
            }
        }
        // A message that arrives twice arrives before this one.
        self.put(socket, envelope.into_iter().chain([END]).collect()).await?;
        self.flush(socket).await?;
        Ok(sent)
    }

    async fn recv_all<K: CanRecv>(&self, socket: &AsyncZmqSocket<K>, envelope: Option<&[u8]>) -> Outcome<Tally> {
        let mut received = Tally::default();
        for shape in self.cell.plan(true) {
            let mut message = self.take(socket).await?;
            while self.cell.other == SocketType::PUB && received.messages == 0 && message == TOPIC.into() {
                message = self.take(socket).await?;
            }
            self.check(&mut received, envelope, &shape, &message)?;
        }
        let end: Vec<&[u8]> = envelope.into_iter().chain([END]).collect();
        self.expect_message(socket, &end).await?;
        Ok(received)
    }

    async fn put<K: CanSend>(&self, mut socket: &AsyncZmqSocket<K>, message: Multipart) -> Outcome {
        if self.cell.rust_binds {
            self.context.timeout(DEADLINE, socket.send(message)).await??;
        } else {
            self.context.timeout(DEADLINE, socket.feed(message)).await??;
        }
        Ok(())
    }

    async fn flush<K: CanSend>(&self, mut socket: &AsyncZmqSocket<K>) -> Outcome {
        Ok(self.context.timeout(DEADLINE, SinkExt::<Multipart>::flush(&mut socket)).await??)
    }

    async fn take<K: CanRecv>(&self, mut socket: &AsyncZmqSocket<K>) -> Outcome<Multipart> {
        Ok(if self.cell.rust_binds {
            self.context.timeout(DEADLINE, socket.recv()).await??
        } else {
            self.context.timeout(DEADLINE, socket.next()).await?.ok_or("the stream ended")??
        })
    }

    async fn expect_message<K: CanRecv>(&self, socket: &AsyncZmqSocket<K>, wanted: &[&[u8]]) -> Outcome {
        let message = self.take(socket).await?;
        if message != wanted.iter().copied().collect() {
            return Err(format!("wanted {wanted:?}, got {message:?}").into());
        }
        Ok(())
    }

    /// Makes the message that the plan says.
    fn cut(&self, sent: &mut Tally, envelope: Option<&[u8]>, shape: &[Range<usize>]) -> Multipart {
        let frames = || shape.iter().map(|range| &self.cell.noise[range.clone()]);
        sent.count(frames());
        envelope.into_iter().chain(frames()).collect()
    }

    /// Checks a message against the plan.
    fn check(
        &self,
        received: &mut Tally,
        envelope: Option<&[u8]>,
        shape: &[Range<usize>],
        message: &Multipart,
    ) -> Outcome {
        let frames = || message.iter().map(|frame| &frame[..]);
        let wanted = envelope.into_iter().chain(shape.iter().map(|range| &self.cell.noise[range.clone()]));
        if !frames().eq(wanted) {
            let lengths: Vec<_> = shape.iter().map(Range::len).collect();
            let after = if envelope.is_some() { " after the envelope" } else { "" };
            return Err(format!(
                "after {received}: wanted frames of {lengths:?} bytes{after}, got {message:?} (or other bytes)"
            )
            .into());
        }
        received.count(frames().skip(usize::from(envelope.is_some())));
        Ok(())
    }

    /// Hears the peer's verdict. Only then may the sockets close: what is on its way would be lost.
    async fn compare<K: Kind>(
        &self,
        socket: AsyncZmqSocket<K>,
        peer: &mut Peer,
        sent: Tally,
        received: Tally,
    ) -> Outcome<usize> {
        peer.expect(self.context, &format!("received {sent}")).await?;
        peer.say("close")?;
        peer.expect(self.context, &format!("sent {received}")).await?;
        drop(socket);
        Ok(sent.messages + received.messages)
    }
}

fn is(wanted: &str, line: &str) -> Outcome {
    if line == wanted { Ok(()) } else { Err(format!("wanted {wanted:?} from the peer, got {line:?}").into()) }
}

/// What went one way, summed up.
#[derive(Default)]
struct Tally {
    messages: usize,
    frames: usize,
    bytes: usize,
    crc: u32,
}

impl Tally {
    fn count<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]> + Clone) {
        let word = |length: usize| u32::try_from(length).expect("a small message").to_le_bytes();
        let mut crc = crc32(&word(frames.clone().count()), self.crc);
        for frame in frames.clone() {
            crc = crc32(&word(frame.len()), crc);
        }
        for frame in frames {
            crc = crc32(frame, crc);
            self.frames += 1;
            self.bytes += frame.len();
        }
        self.crc = crc;
        self.messages += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {:08x}", self.messages, self.frames, self.bytes, self.crc)
    }
}

/// zlib's `crc32(bytes, crc)`.
fn crc32(bytes: &[u8], crc: u32) -> u32 {
    !bytes.iter().fold(!crc, |crc, byte| CRC[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8))
}

const CRC: [u32; 256] = {
    let mut table = [0; 256];
    let mut value = 0_u32;
    let mut index = 0;
    while index < 256 {
        let (mut crc, mut bit) = (value, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        value += 1;
        index += 1;
    }
    table
};

/// The messages of one direction: for each frame, where it is cut from the noise.
#[derive(Clone)]
struct Plan {
    random: Random,
    index: usize,
    count: usize,
    most: u64,
}

impl Iterator for Plan {
    type Item = Vec<Range<usize>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index == self.count {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let bits = self.random.next();
        let (sort, size) = (bits % 100, bits >> 8);
        // In each direction of each cell: the smallest message, the one of most frames, the largest.
        let frames = match sort {
            _ if index == 0 => return Some(vec![cut(0, 0)]),
            _ if index == self.count / 2 => return Some(vec![cut(size % SPREAD, MIB)]),
            _ if index == 1 => self.most,
            0..60 => 1,
            60..85 => 2 + size % 4,
            85..97 => 6 + size % 15,
            _ => 21 + size % 30,
        };
        Some((0..frames).map(|_| self.frame()).collect())
    }
}

impl Plan {
    fn frame(&mut self) -> Range<usize> {
        let bits = self.random.next();
        let (size, offset) = ((bits >> 16) & 0x00FF_FFFF, (bits >> 40) % SPREAD);
        let length = match bits % 1000 {
            0..80 => 0,
            80..790 => 1 + size % 64,
            790..980 => 65 + size % 448,
            980..990 => 513 + size % 7680,
            990..999 => EDGES[as_usize(size) % EDGES.len()],
            _ => 8194 + size % 57344,
        };
        cut(offset, length)
    }
}

fn cut(offset: u64, length: u64) -> Range<usize> {
    as_usize(offset)..as_usize(offset + length)
}

fn as_usize(number: u64) -> usize {
    usize::try_from(number).expect("less than 2^32")
}

/// `SplitMix64`: quick to write and quick to run in both languages.
#[derive(Clone)]
struct Random {
    state: u64,
}

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        Self { state: seed.wrapping_add(stream.wrapping_mul(0xD1B5_4A32_D192_ED03)) }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// What all frames are cut from. No byte is 0 or 1: those would make a frame sent upstream a subscription.
fn make_noise(seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed, 0);
    (0..(MIB + SPREAD) / 8).flat_map(|_| (random.next() | 0x0202_0202_0202_0202).to_le_bytes()).collect()
}

const MIB: u64 = 1 << 20;
const SPREAD: u64 = 1 << 16;

/// Lengths at which libzmq, ZMTP or the kernel change their ways.
const EDGES: [u64; 14] = [29, 30, 31, 32, 33, 34, 255, 256, 8191, 8192, 8193, 65535, 65536, 65537];

const TOPIC: &[u8] = b"A";
const DECOY: [&str; 2] = ["B", "nobody subscribed to this"];
const DECOY_EVERY: usize = 16;
const END: &[u8] = b"end";
const HELLO: &[u8] = b"hello";
/// Where the Rust end looks for who may connect to it.
const DOMAIN: &str = "interop";

/// How the two ends trust each other. Who binds is the server.
#[derive(Clone, Copy, Debug)]
enum Mechanism {
    Null,
    Plain,
    Curve,
}

impl Mechanism {
    /// Sets the Rust end up, and answers the keys for the other.
    fn set(self, socket: &zmq::Socket, server: bool) -> Outcome<String> {
        match self {
            Self::Null => {}
            Self::Plain if server => socket.set_plain_server(true)?,
            Self::Plain => {
                socket.set_plain_username(Some("rust"))?;
                socket.set_plain_password(Some("secret"))?;
            }
            Self::Curve => {
                let (ours, theirs) = (zmq::CurveKeyPair::new()?, zmq::CurveKeyPair::new()?);
                let (bound, connected) = if server { (&ours, &theirs) } else { (&theirs, &ours) };
                socket.set_curve_server(server)?;
                socket.set_curve_secretkey(&ours.secret_key)?;
                socket.set_curve_publickey(&ours.public_key)?;
                if !server {
                    socket.set_curve_serverkey(&bound.public_key)?;
                }
                let keys = [&bound.public_key, &bound.secret_key, &connected.public_key, &connected.secret_key];
                return Ok(keys.map(|key| zmq::z85_encode(key).expect("32 bytes")).join(" "));
            }
        }
        Ok(String::new())
    }
}

/// Whose sockets are at the other end.
#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    JavaScript,
}

impl Language {
    fn script(self) -> &'static str {
        match self {
            Self::Python => "tests/interop/peer.py",
            Self::JavaScript => "tests/interop/peer.mjs",
        }
    }

    fn command(self, interpreter: &str) -> Command {
        let mut command = Command::new(interpreter);
        if matches!(self, Self::JavaScript) && env::var_os("NODE_PATH").is_none() {
            command.env("NODE_PATH", concat!(env!("CARGO_MANIFEST_DIR"), "/target/node/node_modules"));
        }
        command
    }

    /// An interpreter that has ZeroMQ. `None`, and a plain word about it, if there is none.
    fn find(self) -> Option<String> {
        let (variable, candidates, imports, what) = match self {
            Self::Python => (
                "CALLOOP_ZMQ_PYTHON",
                &[concat!(env!("CARGO_MANIFEST_DIR"), "/target/venv/bin/python"), "python3"][..],
                ["-c", "import zmq"],
                "no Python with pyzmq: neither CALLOOP_ZMQ_PYTHON, target/venv/bin/python nor python3",
            ),
            Self::JavaScript => (
                "CALLOOP_ZMQ_NODE",
                &["node"][..],
                ["-e", "require('zeromq'); process.exit(require('zlib').crc32 ? 0 : 1)"],
                "no Node.js of 20.15 or later with zeromq.js: not in NODE_PATH, and not in target/node",
            ),
        };
        let has_zmq = |interpreter: &str| {
            let done = self.command(interpreter).args(imports).stdin(Stdio::null()).output();
            done.is_ok_and(|output| output.status.success())
        };
        if let Ok(interpreter) = env::var(variable) {
            assert!(has_zmq(&interpreter), "{variable} is {interpreter}, which has no ZeroMQ");
            return Some(interpreter);
        }
        let found = candidates.iter().find(|candidate| has_zmq(candidate)).map(|&found| found.to_owned());
        if found.is_none() {
            assert!(env::var_os("CI").is_none(), "{what}");
            // Not by eprintln, which the test harness keeps to itself when a test passes.
            let _ = writeln!(io::stderr(), "interop: SKIPPED, {what}");
        }
        found
    }
}

/// `peer.py` or `peer.mjs`, killed and reaped at the latest when this is dropped.
struct Peer {
    child: Child,
    stdin: ChildStdin,
    lines: UnboundedReceiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Peer {
    fn start(language: Language, interpreter: &str, seed: u64) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(language.script());
        let mut child = language
            .command(interpreter)
            .arg(script)
            .arg(seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the interpreter starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped");
        let (sender, lines) = unbounded();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.unbounded_send(line))
        });
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            // What is no UTF-8 is not ours to read.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { child, stdin, lines, stderr: Some(stderr) }
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.stdin, "{line}")
    }

    async fn hear(&mut self, context: &AsyncZmqContext) -> Outcome<String> {
        let line = context.timeout(DEADLINE, self.lines.next()).await.map_err(|_| "the peer says nothing")?;
        Ok(line.ok_or("the peer has gone")?)
    }

    async fn expect(&mut self, context: &AsyncZmqContext, wanted: &str) -> Outcome {
        is(wanted, &self.hear(context).await?)
    }

    /// Ends the peer, which must agree that all went well.
    fn finish(mut self) {
        drop(self.say(""));
        let last = futures::executor::block_on(self.lines.next());
        let status = self.child.wait().expect("it is our child");
        assert!(last.as_deref() == Some("bye") && status.success(), "{last:?}, {status}\n{}", self.last_words());
    }

    /// Kills the peer, and answers what it wrote to its stderr.
    fn last_words(&mut self) -> String {
        // It fails if the peer has gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let words = self.stderr.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        format!("the peer's stderr:\n{words}")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let words = self.last_words();
        if thread::panicking() {
            eprintln!("{words}");
        }
    }
}

/// Ends the process with a word if a test takes too long: a loop that never comes back would also never time out.
struct Watchdog {
    _alive: sync_mpsc::Sender<()>,
}

impl Watchdog {
    fn start() -> Self {
        let (alive, watch) = sync_mpsc::channel();
        let test = thread::current().name().unwrap_or_default().to_owned();
        thread::spawn(move || {
            if watch.recv_timeout(LIFETIME) == Err(RecvTimeoutError::Timeout) {
                let _ = writeln!(io::stderr(), "{test}: still running after {LIFETIME:?}; the event loop is stuck");
                process::abort();
            }
        });
        Self { _alive: alive }
    }
}
