//! What the workloads share: a loop whose peers act between any two steps, and a verdict instead of a hang.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::future::{Future, poll_fn};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use calloop::{EventLoop, LoopHandle};

use super::dice::Dice;
use super::executor::{Executor, Kind as ExecutorKind};
use super::panics;
use super::spoiler::Spoiler;
use super::workloads::Workload;
use crate::kind::Kind;
use crate::seeded::{Bug, Hook, Point, Seeded};
use crate::{AsyncZmqContext, AsyncZmqSocket, SendError};

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    /// Somebody waits, and the loop sleeps.
    Stall,
    /// The loop turns, or tasks are polled, and nothing comes of it.
    Spin,
    Lost,
    Doubled,
    Disorder,
    /// One was served who came later.
    Unfair,
    /// A wait ended as it should not.
    WrongEnd,
    Panic,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stall => "stall",
            Self::Spin => "spin",
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Disorder => "disorder",
            Self::Unfair => "unfair",
            Self::WrongEnd => "wrong end",
            Self::Panic => "panic",
        })
    }
}

/// How a run ended that was right.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) messages: u64,
    pub(super) turns: u64,
    pub(super) polls: u64,
    pub(super) parked: u64,
}

/// How one ended that was not.
#[derive(Debug)]
pub(super) struct Caught {
    pub(super) how: How,
    /// So many messages.
    pub(super) after: u64,
    pub(super) diagnosis: String,
}

/// One run of a workload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) workload: &'static Workload,
    pub(super) executor: ExecutorKind,
    pub(super) bug: Option<Bug>,
    pub(super) seed: u64,
    pub(super) messages: u64,
    /// So long without progress, though the peers did all they could, is a stall.
    pub(super) stall: Duration,
}

impl Run {
    pub(super) fn play(self) -> Result<Passed, Caught> {
        let _quiet = panics::collect();
        let dice = Dice::new(self.seed);
        let shared = Rc::<Shared>::default();
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut rig = Rig::new(self, dice, Rc::clone(&shared));
            let seeded = Seeded::new(self.bug, Some(rig.hook()));
            (self.workload.play)(&mut rig);
            let outcome = rig.run(self);
            drop(seeded);
            outcome
        }));
        played.unwrap_or_else(|_| {
            let diagnosis = panics::take().join("\n");
            Err(Caught { how: How::Panic, after: shared.progress.get(), diagnosis })
        })
    }
}

/// When a peer may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Between two turns of the loop.
    Turn,
    /// In the middle of one.
    Point(Point),
}

impl Moment {
    /// True if a program's own code might run at this moment, and not only its peers.
    pub(super) fn is_ours(self) -> bool {
        self != Self::Point(Point::Park)
    }
}

type Actor = Rc<RefCell<dyn FnMut(Moment)>>;

pub(super) struct Rig {
    pub(super) context: AsyncZmqContext,
    pub(super) dice: Dice,
    pub(super) messages: u64,
    pub(super) executor: Executor,
    pub(super) shared: Rc<Shared>,
    /// The dispatches that fail, and take their batch with them: one in so many.
    pub(super) spoils: Rc<Cell<u64>>,
    sockets: Vec<Watched>,
    probes: Vec<Rc<Probe>>,
    actor: Rc<RefCell<Option<Actor>>>,
    done: Option<Box<dyn Fn() -> bool>>,
    at_end: Vec<Box<dyn FnOnce()>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    event_loop: EventLoop<'static, ()>,
}

impl Rig {
    fn new(run: Run, dice: Dice, shared: Rc<Shared>) -> Self {
        let event_loop = EventLoop::try_new().unwrap();
        let spoils = Rc::new(Cell::new(0));
        let spoiler = Spoiler {
            one_in: Rc::clone(&spoils),
            dice: dice.clone(),
            token: None,
            shared: Rc::clone(&shared),
            fd: event_loop.as_raw_fd(),
        };
        event_loop.handle().insert_source(spoiler, |_, (), ()| {}).unwrap();
        let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
        Self {
            context,
            executor: Executor::new(run.executor, &event_loop, &dice),
            dice,
            messages: run.messages,
            shared,
            spoils,
            sockets: Vec::new(),
            probes: Vec::new(),
            actor: Rc::default(),
            done: None,
            at_end: Vec::new(),
            stop: Arc::default(),
            threads: Vec::new(),
            event_loop,
        }
    }

    pub(super) fn handle(&self) -> LoopHandle<'static, ()> {
        self.event_loop.handle()
    }

    /// A socket of ours, whose state a diagnosis prints. Its options are set before it is adopted: nothing is lent.
    pub(super) fn socket<K: Kind>(
        &mut self,
        name: &'static str,
        setup: impl FnOnce(&zmq::Socket) -> zmq::Result<()>,
    ) -> Rc<AsyncZmqSocket<K>> {
        let raw = self.raw(K::SOCKET_TYPE.unwrap(), setup);
        let fd = raw.get_fd().unwrap();
        let socket = Rc::new(self.context.adopt::<K>(raw).unwrap());
        let watched = Rc::clone(&socket);
        let events = Box::new(move || format!("{:?}", watched.raw().events()));
        self.sockets.push(Watched { name, fd, events });
        socket
    }

    /// A peer's socket.
    pub(super) fn raw(
        &self,
        kind: zmq::SocketType,
        setup: impl FnOnce(&zmq::Socket) -> zmq::Result<()>,
    ) -> zmq::Socket {
        let raw = self.context.zmq_context().socket(kind).unwrap();
        raw.set_linger(0).unwrap();
        setup(&raw).unwrap();
        raw
    }

    pub(super) fn probe(&mut self, name: &'static str) -> Rc<Probe> {
        let probe = Rc::new(Probe { name, shared: Rc::clone(&self.shared), waits: Cell::new(false) });
        self.probes.push(Rc::clone(&probe));
        probe
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        spawn(&self.executor, &self.shared, task);
    }

    /// What the peers do: at any delicate point, perhaps, and when nothing else moves.
    pub(super) fn peer(&mut self, act: impl FnMut(Moment) + 'static) {
        self.actor.replace(Some(Rc::new(RefCell::new(act))));
    }

    /// A peer in a thread of its own, until the flag is up.
    pub(super) fn thread(&mut self, run: impl FnOnce(&AtomicBool) + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(thread::spawn(move || run(&stop)));
    }

    /// When it is over, if not when all tasks have ended.
    pub(super) fn until(&mut self, done: impl Fn() -> bool + 'static) {
        self.done = Some(Box::new(done));
    }

    /// Done when the rig goes.
    pub(super) fn at_end(&mut self, clean: impl FnOnce() + 'static) {
        self.at_end.push(Box::new(clean));
    }

    /// What happens at the delicate points: a pause, short or long, or a peer acts; mostly nothing.
    fn hook(&self) -> Hook {
        let (actor, dice, shared) = (Rc::clone(&self.actor), self.dice.clone(), Rc::clone(&self.shared));
        Box::new(move |point| {
            shared.something_happens();
            match dice.below(1024) {
                0 => pause(Duration::from_micros(dice.below(4_000))),
                1..64 => pause(Duration::from_micros(dice.below(20))),
                64..320 => act(&actor, Moment::Point(point)),
                _ => {}
            }
            if point == Point::Sleep {
                shared.sleeps();
            }
        })
    }

    fn run(&mut self, run: Run) -> Result<Passed, Caught> {
        let shared = Rc::clone(&self.shared);
        let (mut turns, mut moved, mut idle, mut overslept) = (0, true, 0, 0);
        let (mut last, mut last_turn, mut last_polls) = (Instant::now(), 0, 0);
        while shared.fault.borrow().is_none() && !self.is_done() {
            let before = shared.progress.get();
            let acts = !moved || self.dice.one_in(2);
            if acts {
                act(&self.actor, Moment::Turn);
            }
            // Now and then it sleeps though nobody has acted yet: they may just before it does.
            let naps = acts || self.dice.one_in(8);
            // Not for long: the peers do not act while it sleeps.
            self.turn(if naps { NAP } else { Duration::ZERO });
            // A turn that slept, and found nothing when it woke, is not for a message.
            turns += u64::from(!shared.slept());
            if naps && run.workload.strict && shared.slept() && self.overslept() {
                overslept += 1;
                // Once or twice it may have been the machine that slept.
                if overslept == 3 {
                    shared.fault(How::Stall, "the loop slept, and the next turn found what it could have found before");
                }
            }
            moved = shared.progress.get() != before;
            if moved {
                shared.pulse.set(shared.pulse.get() + 1);
                shared.pulses.take().into_iter().for_each(Waker::wake);
                (last, last_turn, last_polls, idle) = (Instant::now(), turns, shared.polls.get(), 0);
            } else {
                idle += u32::from(acts);
            }
            // The time alone may be the machine's own pause.
            if idle >= STALL_TURNS && last.elapsed() >= run.stall {
                shared.fault(How::Stall, "no progress");
            }
            if turns - last_turn > SPIN || shared.polls.get() - last_polls > SPIN {
                shared.fault(How::Spin, "no progress");
            }
            if let [panic, ..] = &panics::take()[..] {
                shared.fault(How::Panic, panic);
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            if thread.join().is_err() {
                shared.fault(How::WrongEnd, "a peer's thread panicked");
            }
        }
        let messages = shared.progress.get();
        if turns * 100 > run.workload.most_turns * messages + EXTRA_TURNS * 100 {
            shared.fault(How::Spin, &format!("{turns} turns for {messages} messages"));
        }
        let fault = shared.fault.take();
        match fault {
            None => Ok(Passed { messages, turns, polls: shared.polls.get(), parked: shared.parked.get() }),
            Some((how, after, text)) => Err(Caught { how, after, diagnosis: self.diagnosis(&text) }),
        }
    }

    fn turn(&mut self, timeout: Duration) {
        let spoilt = self.event_loop.dispatch(timeout, &mut ()).is_err();
        assert!(!spoilt || self.spoils.get() > 0, "only the spoiler fails");
    }

    /// Whether something moves though nobody acts.
    fn overslept(&mut self) -> bool {
        let before = self.shared.progress.get();
        let actor = self.actor.take();
        for _ in 0..3 {
            self.turn(Duration::ZERO);
        }
        self.actor.replace(actor);
        self.shared.progress.get() != before
    }

    fn is_done(&self) -> bool {
        self.done.as_ref().map_or(self.shared.live.get() == 0, |done| done())
    }

    /// In this order: reading `ZMQ_EVENTS` repairs what it is to show.
    fn diagnosis(&self, text: &str) -> String {
        let mut text = format!("{text}\n");
        for Watched { name, fd, .. } in &self.sockets {
            let readable = zmq::poll(&mut [zmq::PollItem::from_fd(*fd, zmq::POLLIN)], 0) == Ok(1);
            writeln!(text, "  the kernel on the descriptor of {name}: readable = {readable}").unwrap();
        }
        for probe in &self.probes {
            let state = if probe.waits.get() { "parked" } else { "not parked" };
            writeln!(text, "  {}: {state}", probe.name).unwrap();
        }
        for Watched { name, events, .. } in &self.sockets {
            writeln!(text, "  ZMQ_EVENTS of {name}: {}", events()).unwrap();
        }
        text
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // What the peers hold may be sockets of ours.
        self.actor.take();
        self.executor.end();
        for clean in std::mem::take(&mut self.at_end) {
            clean();
        }
    }
}

pub(super) fn spawn(executor: &Executor, shared: &Rc<Shared>, task: impl Future<Output = ()> + 'static) {
    let shared = Rc::clone(shared);
    shared.live.set(shared.live.get() + 1);
    executor.spawn(async move {
        task.await;
        shared.live.set(shared.live.get() - 1);
        shared.progressed();
    });
}

/// One that acts already does not act again.
fn act(actor: &RefCell<Option<Actor>>, moment: Moment) {
    let actor = actor.borrow().clone();
    if let Some(Ok(mut act)) = actor.as_ref().map(|actor| actor.try_borrow_mut()) {
        act(moment);
    }
}

/// Not a sleep: it shall be short, and nothing waits for its end.
pub(super) fn pause(duration: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        thread::yield_now();
    }
}

/// What one task does, for the diagnosis.
pub(super) struct Probe {
    name: &'static str,
    shared: Rc<Shared>,
    waits: Cell<bool>,
}

impl Probe {
    /// Awaits, and counts. Its end is progress.
    pub(super) async fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        let output = self.look_on(future).await;
        self.shared.progressed();
        output
    }

    pub(super) fn waits(&self) -> bool {
        self.waits.get()
    }

    /// As [`wait`](Self::wait), without progress.
    pub(super) async fn look_on<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let poll = future.as_mut().poll(cx);
            self.waits.set(poll.is_pending());
            self.shared.something_happens();
            self.shared.polls.set(self.shared.polls.get() + 1);
            self.shared.parked.set(self.shared.parked.get() + u64::from(poll.is_pending()));
            poll
        })
        .await
    }
}

#[derive(Default)]
pub(super) struct Shared {
    live: Cell<usize>,
    progress: Cell<u64>,
    polls: Cell<u64>,
    /// Counts whatever happens.
    happened: Cell<u64>,
    asleep_since: Cell<Option<Instant>>,
    /// How long the last sleep was, and what had happened by its end.
    slept: Cell<(Duration, u64)>,
    parked: Cell<u64>,
    pulse: Cell<u64>,
    pulses: RefCell<Vec<Waker>>,
    fault: RefCell<Option<(How, u64, String)>>,
}

impl Shared {
    pub(super) fn progressed(&self) {
        self.progress.set(self.progress.get() + 1);
    }

    fn something_happens(&self) {
        self.happened.set(self.happened.get() + 1);
    }

    fn sleeps(&self) {
        self.asleep_since.set(Some(Instant::now()));
    }

    pub(super) fn wakes(&self, no_event: bool) {
        let since = self.asleep_since.take().filter(|_| no_event);
        let slept = since.map_or(Duration::ZERO, |since| since.elapsed());
        self.slept.set((slept, self.happened.get()));
    }

    /// True if the last turn was a sleep with nothing behind it.
    fn slept(&self) -> bool {
        let (slept, happened) = self.slept.get();
        slept >= NAP && happened == self.happened.get()
    }

    pub(super) fn progress(&self) -> u64 {
        self.progress.get()
    }

    /// So many tasks have not ended.
    pub(super) fn live(&self) -> usize {
        self.live.get()
    }

    /// The first one counts.
    pub(super) fn fault(&self, how: How, text: &str) {
        self.fault.borrow_mut().get_or_insert_with(|| (how, self.progress.get(), text.to_owned()));
    }

    /// Waits for the end of the next turn that brought progress. Who waits on this keeps no loop awake.
    pub(super) async fn pulse(&self) {
        let before = self.pulse.get();
        poll_fn(|cx| {
            if self.pulse.get() != before {
                return Poll::Ready(());
            }
            self.pulses.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Has the waker woken then.
    pub(super) fn wake_at_pulse(&self, waker: &Waker) {
        self.pulses.borrow_mut().push(waker.clone());
    }
}

struct Watched {
    name: &'static str,
    fd: zmq_sys::RawFd,
    events: Box<dyn Fn() -> String>,
}

/// How long one turn sleeps at most.
const NAP: Duration = Duration::from_millis(1);
/// A stall has so many of them.
const STALL_TURNS: u32 = 30;
/// Turns without a sleep, or polls, and no progress.
const SPIN: u64 = 1_000;
/// Turns that are not for a message.
const EXTRA_TURNS: u64 = 100;

/// True if it was sent, false if there was no room. Nothing else may come of it.
pub(crate) fn has_room(tried: Result<(), SendError>) -> bool {
    match tried {
        Ok(()) => true,
        Err(refused) if refused.is_full() => false,
        Err(refused) => panic!("{refused:?}"),
    }
}
