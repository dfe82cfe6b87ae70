//! What the integration tests share: a loop with an executor, a runner that ends every test with a diagnosis instead of
//! a hang, and random numbers that can be had again.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

pub(crate) mod hand;

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::os::fd::RawFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, io};

use calloop::futures::Scheduler;
use calloop::{EventLoop, EventSource, LoopHandle, PostAction, Readiness, Token, TokenFactory};
use calloop_zmq::kind::{Kind, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, SendError};

/// A loop with an executor, a context, and a watch over both.
pub(crate) struct Rig {
    pub(crate) context: AsyncZmqContext,
    scheduler: Scheduler<()>,
    shared: Rc<Shared>,
    sockets: Vec<WatchedSocket>,
    probes: Vec<Rc<Probe>>,
    event_loop: EventLoop<'static, ()>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let event_loop = EventLoop::try_new().unwrap();
        let (executor, scheduler) = calloop::futures::executor().unwrap();
        event_loop.handle().insert_source(executor, |(), (), ()| {}).unwrap();
        Self {
            context: AsyncZmqContext::new(&event_loop.handle()).unwrap(),
            scheduler,
            shared: Rc::default(),
            sockets: Vec::new(),
            probes: Vec::new(),
            event_loop,
        }
    }

    pub(crate) fn handle(&self) -> LoopHandle<'static, ()> {
        self.event_loop.handle()
    }

    /// A socket whose state a diagnosis prints. `setup` gets the bare socket before it is adopted, so that no loan of
    /// it makes the loop look at it more often than it would.
    pub(crate) fn socket<K: Kind>(
        &mut self,
        name: &'static str,
        setup: impl FnOnce(&zmq::Socket) -> zmq::Result<()>,
    ) -> Rc<AsyncZmqSocket<K>> {
        let kind = K::SOCKET_TYPE.unwrap();
        self.adopt(name, kind, setup)
    }

    /// The same for a kind given by value: `Any` takes each.
    pub(crate) fn adopt<K: Kind>(
        &mut self,
        name: &'static str,
        kind: zmq::SocketType,
        setup: impl FnOnce(&zmq::Socket) -> zmq::Result<()>,
    ) -> Rc<AsyncZmqSocket<K>> {
        let socket = self.context.zmq_context().socket(kind).unwrap();
        socket.set_linger(0).unwrap();
        setup(&socket).unwrap();
        // Read here once: later it would be a call on the socket, and these repair what a diagnosis is to show.
        let fd = socket.get_fd().unwrap();
        let socket = Rc::new(self.context.adopt::<K>(socket).unwrap());
        let watched = Rc::clone(&socket);
        self.sockets.push(WatchedSocket {
            name,
            fd,
            events: Box::new(move || format!("{:?}", watched.get_ref().get_events())),
        });
        socket
    }

    /// Whether the kernel calls that socket's descriptor readable. Calls nothing on the socket.
    pub(crate) fn fd_readable(&self, name: &str) -> bool {
        self.sockets.iter().find(|socket| socket.name == name).is_some_and(|socket| fd_readable(socket.fd))
    }

    pub(crate) fn probe(&mut self, name: &'static str) -> Rc<Probe> {
        let probe = Rc::new(Probe {
            name,
            shared: Rc::clone(&self.shared),
            waits: Cell::new(false),
            parked: Cell::new(0),
            done: Cell::new(0),
        });
        self.probes.push(Rc::clone(&probe));
        probe
    }

    pub(crate) fn pulse(&self) -> Pulse {
        Pulse(Rc::clone(&self.shared))
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let shared = Rc::clone(&self.shared);
        shared.live.set(shared.live.get() + 1);
        self.scheduler
            .schedule(async move {
                task.await;
                shared.live.set(shared.live.get() - 1);
                shared.progressed();
            })
            .unwrap();
    }

    /// A task that nobody waits for: it goes with the rig.
    pub(crate) fn spawn_aside(&self, task: impl Future<Output = ()> + 'static) {
        self.scheduler.schedule(task).unwrap();
    }

    /// True while a spawned task has not ended.
    pub(crate) fn is_live(&self) -> bool {
        self.shared.live.get() > 0
    }

    /// One turn of the loop.
    pub(crate) fn turn(&mut self, timeout: Duration) {
        let before = self.shared.progress.get();
        self.event_loop.dispatch(timeout, &mut ()).unwrap();
        self.shared.turn.set(self.shared.turn.get() + 1);
        if self.shared.progress.get() != before {
            self.shared.pulses.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Turns the loop until `done`, and answers how many turns that took. No message for [`STALL`], or [`SPIN`] turns
    /// without one, is a failure.
    pub(crate) fn run_until(&mut self, done: impl Fn() -> bool) -> u64 {
        let (first, begin) = (self.shared.turn.get(), Instant::now());
        let (mut progress, mut last, mut last_turn) = (self.shared.progress.get(), Instant::now(), first);
        while !done() {
            self.turn(STALL);
            let turn = self.shared.turn.get();
            // Checked before progress is: one that came with the time-out was not woken.
            assert!(last.elapsed() < STALL, "no progress for {STALL:?}\n{}", self.diagnosis());
            assert!(turn - last_turn < SPIN, "{SPIN} turns without progress\n{}", self.diagnosis());
            assert!(begin.elapsed() < DEADLINE, "not done in {DEADLINE:?}\n{}", self.diagnosis());
            if self.shared.progress.get() != progress {
                (progress, last, last_turn) = (self.shared.progress.get(), Instant::now(), turn);
            }
        }
        self.shared.turn.get() - first
    }

    /// Turns the loop until all tasks have ended.
    pub(crate) fn run(&mut self) -> u64 {
        let shared = Rc::clone(&self.shared);
        self.run_until(|| shared.live.get() == 0)
    }

    /// Runs one task to its end.
    pub(crate) fn complete<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> T {
        let output = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&output);
        self.spawn(async move {
            let result = task.await;
            slot.replace(Some(result));
        });
        self.run();
        output.take().unwrap()
    }

    /// Turns the loop for this long, and answers how many turns it took: one at least.
    pub(crate) fn idle(&mut self, time: Duration) -> u64 {
        let (first, begin) = (self.shared.turn.get(), Instant::now());
        loop {
            self.turn(time.saturating_sub(begin.elapsed()));
            if begin.elapsed() >= time {
                break;
            }
        }
        self.shared.turn.get() - first
    }

    /// What a stall looks like, in an order that does not repair it while it prints: `ZMQ_EVENTS` is last.
    fn diagnosis(&self) -> String {
        let mut text = format!("turn {}, progress {}\n", self.shared.turn.get(), self.shared.progress.get());
        for socket in &self.sockets {
            writeln!(text, "  fd of {}: readable = {}", socket.name, fd_readable(socket.fd)).unwrap();
        }
        for probe in &self.probes {
            let state = if probe.waits.get() { "parked" } else { "not parked" };
            writeln!(text, "  {}: {state}, {} done, was parked {}", probe.name, probe.done(), probe.parked()).unwrap();
        }
        for socket in &self.sockets {
            writeln!(text, "  ZMQ_EVENTS of {}: {}", socket.name, (socket.events)()).unwrap();
        }
        text
    }
}

/// What one task does, for the test to assert and a diagnosis to print.
pub(crate) struct Probe {
    name: &'static str,
    shared: Rc<Shared>,
    waits: Cell<bool>,
    parked: Cell<u64>,
    done: Cell<u64>,
}

impl Probe {
    /// Awaits, and counts how often that had to wait. Its end is progress.
    pub(crate) async fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        let output = poll_fn(|cx| {
            let poll = future.as_mut().poll(cx);
            self.waits.set(poll.is_pending());
            self.parked.set(self.parked.get() + u64::from(poll.is_pending()));
            poll
        })
        .await;
        self.done.set(self.done.get() + 1);
        self.shared.progressed();
        output
    }

    pub(crate) fn waits(&self) -> bool {
        self.waits.get()
    }

    /// How many polls said `Pending`.
    pub(crate) fn parked(&self) -> u64 {
        self.parked.get()
    }

    /// How many waits are over.
    pub(crate) fn done(&self) -> u64 {
        self.done.get()
    }
}

/// Wakes a task after the next turn that brought progress. Not after others: who waits on this keeps no loop awake.
#[derive(Clone)]
pub(crate) struct Pulse(Rc<Shared>);

impl Pulse {
    pub(crate) async fn next(&self) {
        let turn = self.0.turn.get();
        poll_fn(|cx| {
            if self.0.turn.get() != turn {
                return Poll::Ready(());
            }
            self.0.pulses.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Grows with each message and each task that ended.
    pub(crate) fn progress(&self) -> u64 {
        self.0.progress.get()
    }
}

/// `SplitMix64`. Prints its seed; `SEED` in the environment sets it.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new() -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() & u128::from(u64::MAX);
        let seed = env::var("SEED").map_or_else(|_| u64::try_from(clock).unwrap(), |seed| seed.parse().unwrap());
        println!("SEED={seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Another one, for another thread.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Whether the kernel calls the descriptor readable. Calls nothing on the socket.
fn fd_readable(fd: RawFd) -> bool {
    let mut entry = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    unsafe { libc::poll(&raw mut entry, 1, 0) > 0 }
}

/// A number as a message, and back from its first bytes.
pub(crate) fn numbered(number: u64) -> calloop_zmq::Multipart {
    (&number.to_le_bytes()).into()
}

pub(crate) fn number(frame: &zmq::Message) -> u64 {
    u64::from_le_bytes(frame[..8].try_into().unwrap())
}

/// A mandatory ROUTER, and bare DEALERs on it whose queues are full.
pub(crate) fn router_and_full_peers(
    rig: &mut Rig,
    names: &[impl AsRef<str>],
) -> (Rc<AsyncZmqSocket<Router>>, Vec<zmq::Socket>) {
    let router = rig.socket::<Router>("ROUTER", |raw| {
        raw.set_router_mandatory(true)?;
        raw.set_sndhwm(1)
    });
    let endpoint = router.bind("inproc://router").unwrap();
    let full_peer = |name: &str| {
        let peer = rig.context.zmq_context().socket(zmq::DEALER).unwrap();
        peer.set_identity(name.as_bytes()).unwrap();
        peer.set_rcvhwm(1).unwrap();
        peer.connect(&endpoint).unwrap();
        peer.send("hello", zmq::DONTWAIT).unwrap();
        assert!(router.try_recv().unwrap().is_some());
        while has_room(router.try_send([name, "fill"])) {}
        peer
    };
    let peers = names.iter().map(|name| full_peer(name.as_ref())).collect();
    (router, peers)
}

/// Takes all that is there, and answers how much that was.
pub(crate) fn drain(peer: &zmq::Socket) -> usize {
    let mut drained = 0;
    while peer.recv_multipart(zmq::DONTWAIT).is_ok() {
        drained += 1;
    }
    drained
}

struct WatchedSocket {
    name: &'static str,
    fd: RawFd,
    events: Box<dyn Fn() -> String>,
}

#[derive(Default)]
struct Shared {
    live: Cell<usize>,
    progress: Cell<u64>,
    turn: Cell<u64>,
    pulses: RefCell<Vec<Waker>>,
}

impl Shared {
    fn progressed(&self) {
        self.progress.set(self.progress.get() + 1);
    }
}

/// So long without progress is a stall: no peer in these tests pauses.
pub(crate) const STALL: Duration = Duration::from_secs(5);
/// So many turns without progress are a spin.
const SPIN: u64 = 10_000;
/// For everything that one test does.
const DEADLINE: Duration = Duration::from_secs(60);

/// As many, or a part of them (`FEWER=10`: a tenth) where a tool makes everything fifty times slower.
pub(crate) fn fewer(count: u64) -> u64 {
    count / env::var("FEWER").map_or(1, |part| part.parse().unwrap())
}

/// A source that does something before each sleep of the loop, and nothing else: behind the look of
/// this crate, if it came later.
pub(crate) struct BeforeSleep<F>(pub(crate) F);

impl<F: FnMut()> EventSource for BeforeSleep<F> {
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    const NEEDS_EXTRA_LIFECYCLE_EVENTS: bool = true;

    fn process_events<C>(&mut self, _: Readiness, _: Token, _: C) -> io::Result<PostAction>
    where
        C: FnMut((), &mut ()),
    {
        Ok(PostAction::Continue)
    }

    fn register(&mut self, _: &mut calloop::Poll, _: &mut TokenFactory) -> calloop::Result<()> {
        Ok(())
    }

    fn reregister(&mut self, _: &mut calloop::Poll, _: &mut TokenFactory) -> calloop::Result<()> {
        Ok(())
    }

    fn unregister(&mut self, _: &mut calloop::Poll) -> calloop::Result<()> {
        Ok(())
    }

    fn before_sleep(&mut self) -> calloop::Result<Option<(Readiness, Token)>> {
        (self.0)();
        Ok(None)
    }
}

/// True if it was sent, false if there was no room. Nothing else may come of it.
pub(crate) fn has_room(tried: Result<(), SendError>) -> bool {
    match tried {
        Ok(()) => true,
        Err(refused) if refused.is_full() => false,
        Err(refused) => panic!("{refused:?}"),
    }
}
