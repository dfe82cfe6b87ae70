//! What is played: who is there, and what may happen.

use std::fmt;

use zmq::SocketType;

use super::socket::Act;

/// A scene.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    /// How long the interleavings are.
    pub(crate) depth: usize,
    pub(crate) kind: SocketType,
    pub(crate) peers: usize,
    /// So many of them are connected from the start.
    pub(crate) connected: usize,
    /// What a peer does and what it announces are two steps.
    pub(crate) announces_late: bool,
    pub(crate) budget: usize,
    /// `get_ref` was called, and what it answered is kept.
    pub(crate) lent: bool,
    /// The operations are joined in one task: who is woken, wakes all, in this order.
    pub(crate) joined: bool,
    pub(crate) tasks: &'static [(Role, OnWake)],
    /// What may happen besides: the tasks' starts and runs, and the loop's turns.
    pub(crate) ops: &'static [Op],
}

impl Setup {
    pub(crate) const PLAIN: Self = Self {
        name: "",
        depth: 10,
        kind: zmq::DEALER,
        peers: 1,
        connected: 1,
        announces_late: false,
        budget: 1_000,
        lent: false,
        joined: false,
        tasks: &[],
        ops: &[],
    };

    /// All that may happen.
    pub(crate) fn ops(&self) -> Vec<Op> {
        let mut ops = vec![Op::Turn];
        ops.extend((0..self.tasks.len()).flat_map(|at| [Op::Start(at), Op::Run(at)]));
        let reads = self.tasks.iter().any(|(role, _)| role.reads());
        // A reader has one peer to read from, and that is enough.
        ops.extend(reads.then_some(Op::World(Act::Sends(0))));
        let writes = self.tasks.iter().any(|(role, _)| !role.reads());
        let gets = |peer| self.kind != zmq::ROUTER || self.tasks.iter().any(|(role, _)| role.sends_to(peer));
        ops.extend((0..self.peers).filter(|peer| writes && gets(*peer)).map(|peer| Op::World(Act::Takes(peer))));
        if self.announces_late {
            ops.push(Op::World(Act::Announces));
        }
        ops.extend(self.ops);
        ops
    }

    /// Tasks that are equal may as well start in this order.
    pub(crate) fn starts_before(&self, earlier: usize, later: usize) -> bool {
        earlier < later && self.tasks[earlier] == self.tasks[later]
    }
}

/// What a task does, again each time that it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Recv,
    /// One message, and then another.
    RecvTwo,
    RecvInto,
    Readable,
    Send(usize),
    Writable,
    Stream,
    /// As `Stream`, but when it was woken and finds nothing, it does not wait any more.
    HastyStream,
    /// `try_recv` whenever it is polled: what woke it was for others in its task.
    TryRecv,
    /// `poll_ready`, `start_send`, `poll_flush`.
    Sink(usize),
}

impl Role {
    pub(crate) fn reads(self) -> bool {
        !matches!(self, Self::Send(_) | Self::Writable | Self::Sink(_))
    }

    fn sends_to(self, peer: usize) -> bool {
        matches!(self, Self::Send(to) | Self::Sink(to) if to == peer)
    }

    /// True if both stand in the same line. Polled traits stand in none.
    pub(crate) fn stands_behind(self, other: Self) -> bool {
        let in_line = |role| !matches!(role, Self::Stream | Self::HastyStream | Self::TryRecv | Self::Sink(_));
        in_line(self) && in_line(other) && self.reads() == other.reads()
    }

    pub(crate) fn gives_up(self) -> bool {
        self == Self::HastyStream
    }
}

/// What a waker does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnWake {
    /// Nothing: its task runs later.
    Queue,
    /// Polls its task at once.
    Poll,
    /// Drops the operation of another task.
    Cancel(usize),
    /// Reads `ZMQ_EVENTS`.
    Meddle,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// The other side acts.
    World(Act),
    /// The other side acts in the middle of ours: when so many more calls to libzmq were made.
    AfterCalls(u8, Act),
    /// The next send processes commands.
    ThrottleEnds,
    /// The loop sleeps until its timer goes off.
    TimePasses,
    /// One turn of the loop, from where it is; without anything to do, it falls asleep.
    Turn,
    /// The same, and tasks run between the synthetic event and the descriptor's.
    TurnTasksFirst,
    /// The loop gets as far as its poll.
    Doze,
    /// Another source fails, and ends the dispatch before there was any event.
    LoseBatch,
    /// The world is left alone until it comes to rest.
    Rest,
    /// A task begins.
    Start(usize),
    /// A woken task is polled.
    Run(usize),
    /// A task is polled that was not woken.
    Spurious(usize),
    /// A task is polled with another waker.
    OtherWaker(usize),
    /// An operation is dropped. Of a polled trait: it is polled no more.
    Cancel(usize),
    /// As `Start` and `Run`, after the hub's `before_sleep` and before the poll, or its synthetic event.
    LateStart(usize),
    LateRun(usize),
    LateWithRef,
    /// Somebody reads `ZMQ_EVENTS` on the bare socket that was lent out.
    Meddle,
    /// The same, in `with_ref`.
    WithRef,
    Connect,
    TryRecv,
    TrySend(usize),
    TakeUnsent,
    /// The context is shut down by us.
    ShutDown,
    LoopGone,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World(act) => write!(f, "{act:?}"),
            Self::AfterCalls(calls, act) => write!(f, "{act:?}, but after {calls} more calls to libzmq"),
            op => write!(f, "{op:?}"),
        }
    }
}

/// Until there is nothing new.
pub(crate) const TO_THE_END: usize = 100;
