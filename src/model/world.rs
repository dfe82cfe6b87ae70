//! One socket of the crate on a model socket, tasks that use it, and a loop that does what calloop's dispatch does.
//!
//! Everything of the crate is what it is in a program, but for libzmq below it and calloop above. The loop here has
//! calloop's order: the hub before the sleep; then the poll, which samples the descriptor; then the hub's synthetic event,
//! then the descriptor's, then the timer's. Woken tasks run whenever the loop is awake, each by itself.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use calloop::ping::Ping;
use calloop::{EventLoop, RegistrationToken};
use futures_core::Stream;
use futures_sink::Sink;

use super::libzmq;
use super::setup::{OnWake, Op, Role, Setup};
use super::socket::{ModelSocket, THROTTLE, flags, small};
use crate::clock::{self, Stopped};
use crate::context::Core;
use crate::error::Error;
use crate::hub::inside::ModelHub;
use crate::kind::Any;
use crate::multipart::Multipart;
use crate::socket::AsyncZmqSocket;
use crate::source::Watched;

type AnySocket = AsyncZmqSocket<Any>;
type Operation = Pin<Box<dyn Future<Output = crate::Result<Option<Multipart>>>>>;

pub(crate) struct World {
    setup: &'static Setup,
    tasks: Vec<Task>,
    socket: Rc<AnySocket>,
    hub: ModelHub,
    model: Rc<ModelSocket>,
    clock: Stopped,
    phase: Cell<Phase>,
    /// How many messages of each peer came out: the last one's number.
    received: RefCell<Vec<u8>>,
    received_in_all: Cell<usize>,
    /// Messages received in this poll, and within.
    batch: RefCell<Vec<(u8, u8)>>,
    /// Messages that tasks were told libzmq has, and such that the Sink accepted.
    handed_over: Cell<usize>,
    fed: Cell<usize>,
    arrivals: Cell<u64>,
    completions: Cell<u64>,
    polls_within: Cell<usize>,
    violation: RefCell<Option<String>>,
    log: Option<RefCell<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Something runs on the loop's thread.
    Awake,
    /// The loop is about to poll, or in it.
    Dozing {
        /// The hub has asked for a synthetic event.
        act: bool,
        /// The hub has pinged.
        pinged: bool,
    },
}

struct Task {
    role: Role,
    on_wake: OnWake,
    wakers: [Waker; 2],
    waker: Cell<usize>,
    operation: RefCell<Option<Operation>>,
    /// An operation is under way.
    waits: Cell<bool>,
    /// It is being polled.
    polled: Cell<bool>,
    woken: Cell<bool>,
    /// Where its operation stands among all.
    arrived: Cell<u64>,
    /// The first half is done: a Sink's message was accepted, the first of two messages received.
    halfway: Cell<bool>,
}

impl World {
    pub(crate) fn new(setup: &'static Setup, with_log: bool) -> Rc<Self> {
        let clock = Stopped::new();
        let (ping, token) = STAGE.with(|stage| (stage.ping.clone(), stage.token));
        let model = Rc::new(ModelSocket::new(setup.kind, setup.peers, setup.connected, setup.announces_late));
        let hub = ModelHub::new(ping, token);
        let core = Core::of_model(Rc::clone(&hub.hub));
        let socket = AnySocket::new(libzmq::socket(&model), &core).expect("nothing fails there");
        socket.set_budget(setup.budget.try_into().expect("a budget is not zero"));
        let tasks = setup.tasks.iter().enumerate().map(|(at, (role, on_wake))| Task::new(at, *role, *on_wake));
        let world = Rc::new(Self {
            setup,
            tasks: tasks.collect(),
            socket: Rc::new(socket),
            hub,
            received: RefCell::new(vec![0; setup.peers]),
            received_in_all: Cell::new(0),
            batch: RefCell::default(),
            model,
            clock,
            phase: Cell::new(Phase::Awake),
            handed_over: Cell::new(0),
            fed: Cell::new(0),
            arrivals: Cell::new(0),
            completions: Cell::new(0),
            polls_within: Cell::new(0),
            violation: RefCell::new(None),
            log: with_log.then(RefCell::default),
        });
        if setup.lent {
            let _: &zmq::Socket = world.socket.get_ref();
        }
        WORLD.set(Some(Rc::clone(&world)));
        world
    }

    /// Takes it apart.
    pub(crate) fn end(self: Rc<Self>) {
        WORLD.set(None);
        for task in &self.tasks {
            let operation = task.operation.take();
            drop(operation);
        }
        self.hub.gone();
    }

    /// What the tests of the crate's own code find wrong, if they do.
    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.borrow().clone()
    }

    pub(crate) fn log(&self) -> String {
        self.log.as_ref().map(|log| log.borrow().clone()).unwrap_or_default()
    }

    /// Operations that were done.
    pub(crate) fn completions(&self) -> u64 {
        self.completions.get()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.model.calls()
    }

    // What may come next.

    pub(crate) fn can(&self, op: Op) -> bool {
        let dozing = matches!(self.phase.get(), Phase::Dozing { .. });
        // In its sleep a loop does nothing, unless something else wakes it. A synthetic event keeps it from sleeping.
        let acts = matches!(self.phase.get(), Phase::Dozing { act: true, .. });
        let task = |at: usize| &self.tasks[at];
        match op {
            Op::World(act) => self.model.can(act),
            Op::AfterCalls(_, act) => !self.model.plans() && self.model.can(act),
            Op::ThrottleEnds => self.model.is_throttled(),
            Op::TimePasses => dozing && self.hub.timers().armed().is_some_and(|at| at > clock::now()),
            Op::Turn => !dozing || self.has_events(),
            Op::TurnTasksFirst => dozing && acts && self.model.is_high() && self.anyone_woken(),
            Op::Doze => !dozing,
            Op::LoseBatch => dozing && self.has_events(),
            Op::Start(at) => !acts && !task(at).waits.get() && self.is_next(at),
            Op::Run(at) => !acts && task(at).waits.get() && task(at).woken.get(),
            Op::Spurious(at) | Op::OtherWaker(at) => !acts && task(at).waits.get() && !task(at).woken.get(),
            Op::Cancel(at) => !acts && task(at).waits.get(),
            Op::LateStart(at) => dozing && !task(at).waits.get() && self.is_next(at),
            Op::LateRun(at) => dozing && task(at).waits.get() && task(at).woken.get(),
            Op::LateWithRef => dozing,
            Op::Meddle => !acts && self.setup.lent,
            Op::TryRecv | Op::TrySend(_) | Op::WithRef | Op::Connect | Op::TakeUnsent => !acts,
            Op::Rest => true,
            Op::ShutDown | Op::LoopGone => !acts && self.socket.state().ended().is_none(),
        }
    }

    /// No task that is the same would be the one to start.
    fn is_next(&self, at: usize) -> bool {
        (0..at).all(|earlier| self.tasks[earlier].waits.get() || !self.setup.starts_before(earlier, at))
    }

    // What comes.

    pub(crate) fn apply(&self, op: Op) {
        self.note(|| format!("{op}"));
        match op {
            Op::World(act) => return self.model.act(act),
            Op::AfterCalls(calls, act) => return self.model.plan(Some((calls, act))),
            Op::ThrottleEnds => return self.clock.advance(THROTTLE + Duration::from_micros(100)),
            Op::TimePasses => {
                let at = self.hub.timers().armed().expect("it is armed");
                return self.clock.advance(at.saturating_duration_since(clock::now()));
            }
            Op::Turn => self.turn(),
            Op::Rest => self.rest(),
            Op::TurnTasksFirst => self.dispatch(true),
            Op::Doze => self.doze(),
            Op::LateStart(at) | Op::LateRun(at) => {
                self.poll(at);
                self.heed_ping();
            }
            Op::LateWithRef => {
                self.socket.with_ref(|_| self.model.meddle());
                self.heed_ping();
            }
            op => {
                // Somebody else's event.
                self.awake();
                self.apply_awake(op);
            }
        }
        self.check_counts();
    }

    fn apply_awake(&self, op: Op) {
        match op {
            Op::Start(at) | Op::Run(at) | Op::Spurious(at) => self.poll(at),
            Op::OtherWaker(at) => {
                let waker = &self.tasks[at].waker;
                waker.set(1 - waker.get());
                self.poll(at);
            }
            Op::Cancel(at) => self.cancel(at),
            Op::LoseBatch => {}
            Op::Meddle => self.model.meddle(),
            Op::WithRef => self.socket.with_ref(|_| self.model.meddle()),
            Op::Connect => drop(self.socket.connect("inproc://model")),
            Op::TryRecv => {
                if let Ok(Some(message)) = self.socket.try_recv() {
                    self.received(&message);
                    self.check_batch();
                }
            }
            Op::TrySend(peer) => {
                if self.socket.try_send(self.message(peer)).is_ok() {
                    self.handed_over.set(self.handed_over.get() + 1);
                }
            }
            Op::TakeUnsent => {
                if self.socket.take_unsent().is_some() {
                    self.fed.set(self.fed.get() - 1);
                }
            }
            Op::ShutDown => self.hub.hub.shut_down(),
            Op::LoopGone => self.hub.gone(),
            _ => unreachable!("it is applied elsewhere"),
        }
    }

    // The loop.

    /// One turn, from where the loop is. Without anything to do, it falls asleep.
    fn turn(&self) {
        if self.phase.get() == Phase::Awake {
            self.doze();
        }
        if self.has_events() || self.anyone_woken() {
            self.dispatch(false);
        } else {
            self.check_sleep();
        }
    }

    fn doze(&self) {
        let act = self.hub.before_sleep();
        self.phase.set(Phase::Dozing { act, pinged: false });
        self.note(|| format!("    the hub {}", if act { "has something to do" } else { "is content" }));
    }

    fn has_events(&self) -> bool {
        let Phase::Dozing { act, pinged } = self.phase.get() else { return false };
        act || pinged || self.is_high() || self.timer_is_due()
    }

    fn is_high(&self) -> bool {
        self.model.is_high() && self.socket.state().is_watched()
    }

    fn timer_is_due(&self) -> bool {
        self.hub.timers().armed().is_some_and(|at| at <= clock::now())
    }

    fn anyone_woken(&self) -> bool {
        self.tasks.iter().any(|task| task.waits.get() && task.woken.get())
    }

    /// From the poll to the end of the dispatch.
    fn dispatch(&self, tasks_first: bool) {
        let Phase::Dozing { act, .. } = self.phase.get() else { unreachable!("the poll comes after before_sleep") };
        let (high, due) = (self.is_high(), self.timer_is_due());
        self.awake();
        if act {
            self.hub.act();
        }
        if tasks_first {
            self.run_tasks();
        }
        if high && self.socket.state().is_watched() {
            self.note(|| "    the descriptor's event".into());
            self.socket.state().on_event();
        }
        if due {
            self.hub.timers().fire();
        }
    }

    fn awake(&self) {
        self.phase.set(Phase::Awake);
        self.hub.awake();
    }

    fn run_tasks(&self) {
        for (at, task) in self.tasks.iter().enumerate() {
            if task.waits.get() && task.woken.get() {
                self.poll(at);
            }
        }
    }

    /// Whether the hub pinged cannot be seen but by a loop.
    fn heed_ping(&self) {
        let Phase::Dozing { act, pinged } = self.phase.get() else { return };
        let pinged = STAGE.with(Stage::was_pinged) || pinged;
        self.phase.set(Phase::Dozing { act, pinged });
    }

    /// Leaves the world alone until it comes to rest, and then checks that again nothing happens.
    pub(crate) fn rest(&self) {
        self.note(|| "left alone:".into());
        self.model.plan(None);
        if self.phase.get() == Phase::Awake || self.has_events() || self.anyone_woken() {
            let most = if self.timer_is_due() { MOST_TURNS_OF_AN_ALARM } else { MOST_FUTILE_TURNS };
            self.rest_once(most);
        }
        if self.violation.borrow().is_none() {
            self.awake();
            self.doze();
            if self.has_events() {
                self.violate("the loop does something though nothing has happened".into());
            }
            self.check_sleep();
        }
        self.check_counts();
    }

    /// Commands may be processed by somebody else, again and again.
    fn is_disturbed(&self) -> bool {
        self.setup.lent || self.tasks.iter().any(|task| task.role == Role::TryRecv)
    }

    fn rest_once(&self, most_futile: usize) {
        let (mut futile, mut alarms) = (0, 0);
        while self.violation.borrow().is_none() {
            if self.phase.get() == Phase::Awake {
                let completions = self.completions.get();
                self.run_tasks();
                if completions != self.completions.get() {
                    futile = 0;
                }
                self.doze();
            }
            if !self.has_events() && !self.anyone_woken() {
                self.check_sleep();
                if alarms == MOST_ALARMS && self.socket.state().has_to_come_back() && !self.is_disturbed() {
                    self.violate("senders that wait for their peers do not settle".into());
                }
                let Some(at) = self.hub.timers().armed().filter(|_| alarms < MOST_ALARMS) else { return };
                self.clock.advance(at.saturating_duration_since(clock::now()));
                self.note(|| "    time passes".into());
                (futile, alarms) = (0, alarms + 1);
                if alarms == MOST_ALARMS {
                    self.check_settled();
                }
                continue;
            }
            if futile == if alarms > 0 { MOST_TURNS_OF_AN_ALARM } else { most_futile } {
                self.violate(format!("the loop spins: {futile} turns in which nothing got done"));
            }
            futile += 1;
            self.dispatch(false);
        }
    }

    // The tasks.

    fn poll(&self, at: usize) {
        let task = &self.tasks[at];
        if self.polls_within.get() > MOST_POLLS_WITHIN {
            return self.violate("wakers wake each other without end".into());
        }
        self.polls_within.set(self.polls_within.get() + 1);
        task.woken.set(false);
        task.polled.set(true);
        let again = task.waits.replace(true);
        if !again {
            self.arrives(task);
        }
        let done = self.poll_operation(at, task);
        task.polled.set(false);
        match done {
            Poll::Ready(done) => {
                self.note(|| format!("    {at} ({:?}) is done: {done:?}", task.role));
                let took_message = done.is_ok();
                self.completed(at, task, done);
                if again && took_message && self.setup.kind != zmq::ROUTER {
                    self.check_baton(at);
                }
            }
            // Cancelled within.
            Poll::Pending if !task.waits.get() => self.cancel(at),
            Poll::Pending => {
                self.note(|| format!("    {at} ({:?}) waits", task.role));
                if again && task.role.gives_up() {
                    task.waits.set(false);
                }
            }
        }
        self.polls_within.set(self.polls_within.get() - 1);
        if self.polls_within.get() == 0 {
            self.check_batch();
        }
    }

    fn arrives(&self, task: &Task) {
        self.arrivals.set(self.arrivals.get() + 1);
        task.arrived.set(self.arrivals.get());
    }

    fn poll_operation(&self, at: usize, task: &Task) -> Poll<crate::Result<Option<Multipart>>> {
        let cx = &mut Context::from_waker(&task.wakers[task.waker.get()]);
        let socket = &*self.socket;
        match task.role {
            Role::Stream | Role::HastyStream => Pin::new(&mut &*socket).poll_next(cx).map(Option::transpose),
            Role::TryRecv => match socket.try_recv() {
                Ok(None) => Poll::Pending,
                done => Poll::Ready(done),
            },
            Role::Sink(peer) => {
                let mut sink = socket;
                let mut sink = Pin::new(&mut sink);
                if !task.halfway.get() {
                    match sink.as_mut().poll_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        waits_or_failed => return waits_or_failed.map_ok(|()| None),
                    }
                    if let Err(error) = sink.as_mut().start_send(self.message(peer)) {
                        return Poll::Ready(Err(error));
                    }
                    self.fed.set(self.fed.get() + 1);
                    task.halfway.set(true);
                }
                let flushed = sink.poll_flush(cx);
                if flushed.is_ready() {
                    task.halfway.set(false);
                }
                flushed.map_ok(|()| None)
            }
            _ => {
                // Should it panic, it is not dropped: the panic may have come from a drop.
                let operation = task.operation.take().unwrap_or_else(|| self.operation(at, task.role));
                let mut operation = ManuallyDrop::new(operation);
                let done = operation.as_mut().poll(cx);
                let operation = ManuallyDrop::into_inner(operation);
                if done.is_pending() {
                    task.operation.replace(Some(operation));
                }
                done
            }
        }
    }

    fn operation(&self, at: usize, role: Role) -> Operation {
        let socket = Rc::clone(&self.socket);
        match role {
            Role::Recv => Box::pin(async move { socket.recv().await.map(Some) }),
            Role::RecvTwo => Box::pin(async move {
                let first = socket.recv().await?;
                with_world(|world| world.received_first(at, &first));
                socket.recv().await.map(Some)
            }),
            Role::RecvInto => Box::pin(async move {
                let mut message = Multipart::new();
                socket.recv_into(&mut message).await?;
                Ok(Some(message))
            }),
            Role::Readable => Box::pin(async move { socket.readable().await.map(|()| None) }),
            Role::Writable => Box::pin(async move { socket.writable().await.map(|()| None) }),
            Role::Send(peer) => {
                let message = self.message(peer);
                Box::pin(async move { socket.send(message).await.map(|()| None).map_err(Error::from) })
            }
            Role::Stream | Role::HastyStream | Role::TryRecv | Role::Sink(_) => {
                unreachable!("they stand in no line, and are polled")
            }
        }
    }

    fn message(&self, peer: usize) -> Multipart {
        let body = [0_u8];
        match self.setup.kind {
            zmq::ROUTER => [vec![small(peer)], body.to_vec()].into(),
            _ => body[..].into(),
        }
    }

    fn completed(&self, at: usize, task: &Task, done: crate::Result<Option<Multipart>>) {
        task.waits.set(false);
        task.halfway.set(false);
        self.completions.set(self.completions.get() + 1);
        match done {
            Ok(Some(message)) => {
                self.received(&message);
                self.check_turn(at, task);
            }
            Ok(None) if matches!(task.role, Role::Send(_)) => {
                self.handed_over.set(self.handed_over.get() + 1);
                self.check_turn(at, task);
                if self.setup.kind != zmq::ROUTER && !self.socket.outbox().is_empty() {
                    self.violate("a send overtook what the Sink holds".into());
                }
            }
            Ok(None) => {}
            Err(Error::Terminated | Error::LoopGone) if self.socket.state().ended().is_some() => {}
            Err(Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. }) if self.setup.kind == zmq::ROUTER => {}
            Err(error) => self.violate(format!("{at} ({:?}) failed: {error}", task.role)),
        }
    }

    /// Who stood in a line, and leaves it with a message, has called the next.
    fn check_baton(&self, at: usize) {
        let role = self.tasks[at].role;
        let mut behind = self
            .tasks
            .iter()
            .filter(|task| task.waits.get() && !task.polled.get() && task.role.stands_behind(role))
            .peekable();
        if behind.peek().is_some() && !behind.any(|task| task.woken.get() || task.on_wake != OnWake::Queue) {
            self.violate(format!("{at} left the line and called nobody"));
        }
    }

    /// First come, first served, among those that stand in a line.
    fn check_turn(&self, at: usize, task: &Task) {
        if self.setup.kind == zmq::ROUTER && !task.role.reads() {
            return;
        }
        let earlier = self.tasks.iter().position(|other| {
            other.waits.get()
                && !other.polled.get()
                && other.arrived.get() < task.arrived.get()
                && task.role.stands_behind(other.role)
        });
        if let Some(earlier) = earlier {
            self.violate(format!("{at} overtook {earlier}"));
        }
    }

    fn received_first(&self, at: usize, message: &Multipart) {
        let task = &self.tasks[at];
        task.halfway.set(true);
        self.received(message);
        self.check_turn(at, task);
        self.arrives(task);
    }

    fn received(&self, message: &Multipart) {
        let Some([peer, number]) = message.first().and_then(|frame| <[u8; 2]>::try_from(&frame[..]).ok()) else {
            return self.violate(format!("received {message:?}"));
        };
        self.batch.borrow_mut().push((peer, number));
    }

    /// In the order in which they were sent. Who was woken within a poll may have been done before the one polled.
    fn check_batch(&self) {
        let mut batch = self.batch.take();
        batch.sort_unstable();
        for (peer, number) in batch {
            self.received_in_all.set(self.received_in_all.get() + 1);
            let received = &mut self.received.borrow_mut()[usize::from(peer)];
            *received = received.wrapping_add(1);
            if *received != number {
                self.violate(format!("received message {number} of peer {peer} as the {received}th"));
            }
        }
    }

    fn cancel(&self, at: usize) {
        let task = &self.tasks[at];
        task.waits.set(false);
        task.woken.set(false);
        task.halfway.set(false);
        if task.polled.get() {
            return;
        }
        let operation = task.operation.take();
        drop(operation);
        let kept = task.wakers.iter().any(|waker| self.socket.state().keeps_in_line(waker));
        if kept {
            self.violate(format!("{at} is cancelled, and its waker kept"));
        }
    }

    fn woken(&self, at: usize, waker: usize) {
        let task = &self.tasks[at];
        if self.socket.state().is_borrowed() {
            // To go on from here would end in a panic, in the middle of another.
            return self.violate(format!("{at} is woken while the waiters are borrowed"));
        }
        if !task.waits.get() || task.waker.get() != waker {
            return;
        }
        self.note(|| format!("    {at} ({:?}) is woken", task.role));
        task.woken.set(true);
        if self.setup.joined {
            self.tasks.iter().for_each(|other| other.woken.set(other.waits.get()));
        }
        match task.on_wake {
            OnWake::Queue => {}
            OnWake::Poll if task.polled.get() => {}
            OnWake::Poll => self.poll(at),
            OnWake::Cancel(other) => {
                if self.tasks[other].waits.get() {
                    self.note(|| format!("    and cancels {other}"));
                    self.cancel(other);
                }
            }
            OnWake::Meddle => self.socket.with_ref(|_| self.model.meddle()),
        }
    }

    // What must be so.

    fn violate(&self, what: String) {
        self.note(|| format!("!!! {what}"));
        self.violation.borrow_mut().get_or_insert(what);
    }

    /// The loop sleeps: whoever waits has a reason to.
    fn check_sleep(&self) {
        let truth = self.model.truth();
        self.note(|| format!("    the loop sleeps; {truth:?}"));
        let ended = truth.terminated || self.socket.state().ended().is_some();
        let room = truth.room.iter().any(|room| *room);
        let settles = self.hub.timers().armed().is_some();
        for (at, task) in self.tasks.iter().enumerate().filter(|(_, task)| task.waits.get()) {
            let ready = match task.role {
                // Nobody promises to wake it.
                Role::TryRecv => false,
                _ if ended => true,
                role if role.reads() => truth.readable,
                Role::Send(peer) | Role::Sink(peer) if self.setup.kind == zmq::ROUTER => truth.room[peer] && !settles,
                _ => room,
            };
            if ready {
                self.violate(format!("the loop sleeps, and {at} ({:?}) waits though it could go on", task.role));
            }
        }
        if self.is_high() {
            self.violate("the loop sleeps while the descriptor is high".into());
        }
    }

    /// Senders that wait for their peers were called often enough.
    fn check_settled(&self) {
        let truth = self.model.truth();
        for (at, task) in self.tasks.iter().enumerate().filter(|(_, task)| task.waits.get() && !task.woken.get()) {
            if let Role::Send(peer) | Role::Sink(peer) = task.role {
                if truth.room[peer] {
                    self.violate(format!("{at} ({:?}) waits though it could go on, and time does not help", task.role));
                }
            }
        }
    }

    /// No message is lost, doubled, or in two places.
    fn check_counts(&self) {
        let (taken, written) = self.model.counts();
        let received = self.received_in_all.get();
        if taken != received {
            self.violate(format!("{taken} messages were taken from libzmq, and {received} received"));
        }
        let held = usize::from(!self.socket.outbox().is_empty());
        let ended = self.socket.state().ended().is_some();
        let handed_over = self.handed_over.get() + self.fed.get() - held;
        if written != handed_over && !(ended && self.fed.get() > 0) {
            self.violate(format!("{written} messages are with libzmq, and {handed_over} were handed over"));
        }
        let waits = self.tasks.iter().filter(|task| task.operation.borrow().is_some()).count();
        let in_lines = self.socket.state().in_lines();
        if in_lines > waits {
            self.violate(format!("{in_lines} stand in the lines, and {waits} wait"));
        }
    }

    fn note(&self, line: impl FnOnce() -> String) {
        if let Some(log) = &self.log {
            let high = if self.model.is_high() { "^" } else { " " };
            let _ = writeln!(log.borrow_mut(), "{high} {}", line());
        }
    }

    /// Everything that can make a difference from now on.
    pub(crate) fn print(&self) -> Box<[u8]> {
        let mut out = Vec::with_capacity(96);
        out.extend(match self.phase.get() {
            Phase::Awake => [0, 0],
            Phase::Dozing { act, pinged } => [1, flags([act, pinged])],
        });
        for task in &self.tasks {
            let [waits, woken, halfway] = [&task.waits, &task.woken, &task.halfway].map(Cell::get);
            out.push(flags([waits, woken, halfway, task.waker.get() == 1]));
            let rank = self.tasks.iter().filter(|other| other.waits.get() && other.arrived.get() < task.arrived.get());
            out.push(if waits { small(rank.count()) } else { 0 });
        }
        let name = |waker: &Waker| {
            let mut wakers = self.tasks.iter().flat_map(|task| &task.wakers);
            wakers.position(|known| known.will_wake(waker)).map_or(u8::MAX, |at| small(at + 1))
        };
        self.model.print(&mut out);
        self.socket.state().print(&name, &mut out);
        out.push(flags([self.socket.outbox().is_empty()]));
        self.hub.print(&mut out);
        out.into()
    }
}

impl Task {
    fn new(at: usize, role: Role, on_wake: OnWake) -> Self {
        Self {
            role,
            on_wake,
            wakers: WAKERS.with(|wakers| wakers[at].clone()),
            waker: Cell::new(0),
            operation: RefCell::new(None),
            waits: Cell::new(false),
            polled: Cell::new(false),
            woken: Cell::new(false),
            arrived: Cell::new(0),
            halfway: Cell::new(false),
        }
    }
}

/// The waker of a task in whatever world there is.
struct TaskWaker {
    task: usize,
    number: usize,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        with_world(|world| world.woken(self.task, self.number));
    }
}

/// A loop in the background: it has what cannot be made by hand, and sees pings.
struct Stage {
    ping: Ping,
    token: RegistrationToken,
    event_loop: RefCell<EventLoop<'static, bool>>,
}

impl Stage {
    fn new() -> Self {
        let event_loop = EventLoop::try_new().expect("a loop");
        let (ping, source) = calloop::ping::make_ping().expect("a ping");
        let token = event_loop.handle().insert_source(source, |(), (), pinged| *pinged = true).expect("a source");
        Self { ping, token, event_loop: RefCell::new(event_loop) }
    }

    fn was_pinged(&self) -> bool {
        let mut pinged = false;
        self.event_loop.borrow_mut().dispatch(Duration::ZERO, &mut pinged).expect("a turn");
        pinged
    }
}

pub(crate) fn with_world(then: impl FnOnce(&World)) {
    if let Some(world) = WORLD.with_borrow(Clone::clone) {
        then(&world);
    }
}

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
    static STAGE: Stage = Stage::new();
    static WAKERS: Vec<[Waker; 2]> =
        (0..MOST_TASKS).map(|task| [0, 1].map(|number| Arc::new(TaskWaker { task, number }).into())).collect();
}

/// Turns in a row in which nothing got done, before the loop sleeps.
const MOST_FUTILE_TURNS: usize = 2;
/// The same, for the loop's timer that goes off: its own, that of those who are called, and one to set it again.
const MOST_TURNS_OF_AN_ALARM: usize = 3;
/// Wakers that poll at once, within each other.
const MOST_POLLS_WITHIN: usize = 40;
/// How often senders are called in vain before the world counts as left alone.
const MOST_ALARMS: usize = 3;
const MOST_TASKS: usize = 16;
