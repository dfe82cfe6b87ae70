//! The scenes that are played. Each is small, so that all of it can be played; together they have everything.

use super::setup::OnWake::{Cancel, Meddle, Poll, Queue};
use super::setup::Op::World;
use super::setup::Role::{HastyStream, Readable, Recv, RecvInto, RecvTwo, Send, Sink, Stream, TryRecv, Writable};
use super::setup::{Op, Setup, TO_THE_END};
use super::socket::Act;

/// Played each time.
pub(crate) static SCENES: [&Setup; 32] = [
    &ONE_EACH,
    &LATE,
    &MEANWHILE,
    &READERS,
    &READERS_AND_A_WRITER,
    &WRITERS,
    &WRITERS_AND_A_READER,
    &STREAM,
    &SINK,
    &TWO_STREAMS,
    &MOVED,
    &BUDGET,
    &BUDGET_OF_STREAM,
    &BUDGET_OF_SINK,
    &LENT,
    &ENDPOINTS,
    &INLINE,
    &MEANWHILE_INLINE,
    &KILLERS,
    &ENDINGS,
    &ENDINGS_OF_SLOTS,
    &AFTER_THE_HUB,
    &MEDDLE_AFTER_THE_HUB,
    &READABLE,
    &WRITABLE,
    &WITHOUT_WAITING,
    &PEERS,
    &PEERS_AND_A_READER,
    &JOINED,
    &JOINED_WITHOUT_WAITING,
    &PEERS_THAT_GO,
    &PEERS_AND_A_MEDDLER,
];

/// Too large for that.
pub(crate) static LARGE: [&Setup; 7] =
    [&ALL_PLACES, &ALL_PLACES_AND_A_BUDGET, &ALL_PLACES_AND_AN_END, &MANY, &TWO_PEERS, &ALL_INLINE, &THREE_SENDERS];

/// For random walks alone.
pub(crate) static CROWDS: [&Setup; 2] = [&CROWD, &CROWD_OF_PEERS];

pub(crate) static ONE_EACH: Setup = Setup {
    name: "a reader and a writer",
    depth: TO_THE_END,
    tasks: &[(Recv, Queue), (Send(0), Queue)],
    ops: &[
        Op::ThrottleEnds,
        Op::Cancel(0),
        Op::Cancel(1),
        Op::Spurious(0),
        Op::Spurious(1),
        Op::Doze,
        World(Act::Hundredth),
    ],
    ..Setup::PLAIN
};

pub(crate) static LATE: Setup = Setup {
    name: "the same, announced late and interrupted by signals",
    depth: TO_THE_END,
    announces_late: true,
    tasks: &[(RecvInto, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Doze, World(Act::Interrupts)],
    ..Setup::PLAIN
};

pub(crate) static MEANWHILE: Setup = Setup {
    name: "the same, and the other side acts in the middle of ours",
    tasks: &[(Recv, Queue), (Send(0), Queue)],
    ops: &[
        Op::ThrottleEnds,
        Op::AfterCalls(1, Act::Sends(0)),
        Op::AfterCalls(1, Act::Takes(0)),
        Op::AfterCalls(2, Act::Sends(0)),
        Op::AfterCalls(2, Act::Takes(0)),
        Op::AfterCalls(3, Act::Sends(0)),
        Op::AfterCalls(3, Act::Takes(0)),
    ],
    ..Setup::PLAIN
};

pub(crate) static READERS: Setup = Setup {
    name: "three readers",
    depth: TO_THE_END,
    tasks: &[(Recv, Queue), (Recv, Queue), (Recv, Queue)],
    ops: &[Op::Cancel(0), Op::Cancel(1), Op::Cancel(2), Op::Spurious(0), Op::Spurious(1), Op::Doze],
    ..Setup::PLAIN
};

pub(crate) static READERS_AND_A_WRITER: Setup = Setup {
    name: "two readers and a writer",
    depth: TO_THE_END,
    tasks: &[(Recv, Queue), (Recv, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(2)],
    ..Setup::PLAIN
};

pub(crate) static WRITERS: Setup = Setup {
    name: "three writers",
    depth: TO_THE_END,
    tasks: &[(Send(0), Queue), (Send(0), Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(1), Op::Cancel(2), Op::Spurious(1)],
    ..Setup::PLAIN
};

pub(crate) static WRITERS_AND_A_READER: Setup = Setup {
    name: "two writers and a reader",
    depth: TO_THE_END,
    tasks: &[(Send(0), Queue), (Send(0), Queue), (Recv, Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(2)],
    ..Setup::PLAIN
};

pub(crate) static STREAM: Setup = Setup {
    name: "a Stream beside a reader and a writer",
    depth: TO_THE_END,
    tasks: &[(Recv, Queue), (Stream, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(1)],
    ..Setup::PLAIN
};

pub(crate) static SINK: Setup = Setup {
    name: "a Sink beside a writer and a reader",
    tasks: &[(Send(0), Queue), (Sink(0), Queue), (Recv, Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(1), Op::TakeUnsent],
    ..Setup::PLAIN
};

pub(crate) static TWO_STREAMS: Setup = Setup {
    name: "two Streams that fight for the slot, and a reader",
    depth: TO_THE_END,
    tasks: &[(HastyStream, Queue), (HastyStream, Queue), (Recv, Queue)],
    ops: &[Op::Cancel(0), Op::Cancel(2), Op::OtherWaker(2)],
    ..Setup::PLAIN
};

pub(crate) static MOVED: Setup = Setup {
    name: "futures that move from task to task",
    tasks: &[(Recv, Queue), (Recv, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::OtherWaker(0), Op::OtherWaker(2), Op::Cancel(0)],
    ..Setup::PLAIN
};

pub(crate) static BUDGET: Setup = Setup {
    name: "a budget of one message for three readers",
    depth: TO_THE_END,
    budget: 1,
    tasks: &[(Recv, Queue), (Recv, Queue), (Recv, Queue)],
    ops: &[Op::Cancel(0), Op::Cancel(1), Op::Spurious(0), Op::LoseBatch, Op::Doze],
    ..Setup::PLAIN
};

pub(crate) static BUDGET_OF_STREAM: Setup = Setup {
    name: "a budget of one message for a Stream, a reader and a writer",
    budget: 1,
    tasks: &[(Recv, Queue), (Stream, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(1)],
    ..Setup::PLAIN
};

pub(crate) static BUDGET_OF_SINK: Setup = Setup {
    name: "a budget of one message for a Sink and a writer",
    depth: TO_THE_END,
    budget: 1,
    tasks: &[(Send(0), Queue), (Sink(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(1)],
    ..Setup::PLAIN
};

pub(crate) static LENT: Setup = Setup {
    name: "somebody meddles with the bare socket",
    depth: TO_THE_END,
    lent: true,
    tasks: &[(Recv, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Meddle, Op::WithRef, Op::Doze, Op::Cancel(0)],
    ..Setup::PLAIN
};

pub(crate) static ENDPOINTS: Setup = Setup {
    name: "a peer comes, and goes",
    depth: TO_THE_END,
    connected: 0,
    tasks: &[(Recv, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Connect, World(Act::Connects(0)), World(Act::Goes(0))],
    ..Setup::PLAIN
};

pub(crate) static INLINE: Setup = Setup {
    name: "wakers that poll at once",
    tasks: &[(Recv, Poll), (Send(0), Poll), (Recv, Poll)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(1)],
    ..Setup::PLAIN
};

pub(crate) static MEANWHILE_INLINE: Setup = Setup {
    name: "wakers that poll at once or meddle, while the other side acts",
    depth: TO_THE_END,
    tasks: &[(RecvTwo, Poll), (Send(0), Meddle)],
    ops: &[Op::ThrottleEnds, Op::AfterCalls(2, Act::Sends(0)), Op::AfterCalls(2, Act::Takes(0))],
    ..Setup::PLAIN
};

pub(crate) static KILLERS: Setup = Setup {
    name: "wakers that drop another operation, or meddle",
    tasks: &[(Recv, Cancel(1)), (Recv, Cancel(0)), (Send(0), Meddle)],
    ops: &[Op::ThrottleEnds, Op::Cancel(2)],
    ..Setup::PLAIN
};

pub(crate) static ENDINGS: Setup = Setup {
    name: "the end of the context, of us, and of the loop",
    depth: TO_THE_END,
    tasks: &[(Recv, Queue), (Send(0), Queue)],
    ops: &[World(Act::Stops), Op::ShutDown, Op::LoopGone, Op::ThrottleEnds],
    ..Setup::PLAIN
};

pub(crate) static ENDINGS_OF_SLOTS: Setup = Setup {
    name: "the same for a Stream and a Sink",
    depth: TO_THE_END,
    tasks: &[(Stream, Queue), (Sink(0), Queue)],
    ops: &[World(Act::Stops), Op::ShutDown, Op::LoopGone],
    ..Setup::PLAIN
};

pub(crate) static AFTER_THE_HUB: Setup = Setup {
    name: "tasks that run after the hub has looked, and batches that are lost",
    depth: TO_THE_END,
    tasks: &[(Recv, Queue), (Send(0), Queue)],
    ops: &[
        Op::ThrottleEnds,
        Op::Doze,
        Op::LateStart(0),
        Op::LateStart(1),
        Op::LateRun(0),
        Op::LateRun(1),
        Op::LoseBatch,
        Op::TurnTasksFirst,
    ],
    ..Setup::PLAIN
};

pub(crate) static MEDDLE_AFTER_THE_HUB: Setup = Setup {
    name: "somebody who meddles after the hub has looked",
    depth: TO_THE_END,
    connected: 0,
    tasks: &[(Recv, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Connect, Op::Doze, Op::LateWithRef, Op::Cancel(1)],
    ..Setup::PLAIN
};

pub(crate) static READABLE: Setup = Setup {
    name: "those who wait for readiness to receive alone",
    depth: TO_THE_END,
    tasks: &[(Readable, Queue), (Recv, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0)],
    ..Setup::PLAIN
};

pub(crate) static WRITABLE: Setup = Setup {
    name: "those who wait for readiness to send alone",
    depth: TO_THE_END,
    tasks: &[(Writable, Queue), (Send(0), Queue), (Recv, Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0)],
    ..Setup::PLAIN
};

pub(crate) static WITHOUT_WAITING: Setup = Setup {
    name: "those who do not wait at all",
    depth: TO_THE_END,
    tasks: &[(Recv, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::TryRecv, Op::TrySend(0), Op::Cancel(0), Op::Cancel(1)],
    ..Setup::PLAIN
};

pub(crate) static PEERS: Setup = Setup {
    name: "senders that wait for their peers",
    kind: zmq::ROUTER,
    peers: 2,
    connected: 2,
    tasks: &[(Send(0), Queue), (Send(1), Queue)],
    ops: &[Op::ThrottleEnds, Op::TimePasses, Op::Cancel(0)],
    ..Setup::PLAIN
};

pub(crate) static PEERS_AND_A_READER: Setup = Setup {
    name: "one of them, and a reader",
    kind: zmq::ROUTER,
    peers: 2,
    connected: 2,
    tasks: &[(Send(0), Queue), (Recv, Queue)],
    ops: &[Op::ThrottleEnds, Op::TimePasses],
    ..Setup::PLAIN
};

pub(crate) static JOINED: Setup = Setup {
    name: "a sender that waits for its peer, joined with a reader in one task",
    kind: zmq::ROUTER,
    peers: 2,
    connected: 2,
    joined: true,
    tasks: &[(Send(0), Queue), (Recv, Queue)],
    ops: &[Op::ThrottleEnds, Op::TimePasses],
    ..Setup::PLAIN
};

pub(crate) static JOINED_WITHOUT_WAITING: Setup = Setup {
    name: "the same, and the reader does not wait",
    kind: zmq::ROUTER,
    peers: 2,
    connected: 2,
    joined: true,
    tasks: &[(Send(0), Queue), (TryRecv, Queue)],
    ops: &[Op::ThrottleEnds, Op::TimePasses],
    ..Setup::PLAIN
};

pub(crate) static PEERS_THAT_GO: Setup = Setup {
    name: "senders to a peer that goes",
    kind: zmq::ROUTER,
    peers: 1,
    connected: 1,
    tasks: &[(Send(0), Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::TimePasses, World(Act::Goes(0)), World(Act::Stops)],
    ..Setup::PLAIN
};

pub(crate) static PEERS_AND_A_MEDDLER: Setup = Setup {
    name: "a sender that waits for its peer, a reader, and somebody who meddles",
    lent: true,
    kind: zmq::ROUTER,
    peers: 2,
    connected: 2,
    tasks: &[(Send(0), Queue), (Recv, Queue)],
    ops: &[Op::ThrottleEnds, Op::TimePasses, Op::Meddle],
    ..Setup::PLAIN
};

pub(crate) static ALL_PLACES: Setup = Setup {
    name: "futures beside a Stream and a Sink",
    tasks: &[(Recv, Queue), (Send(0), Queue), (Stream, Queue), (Sink(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(2), Op::Cancel(3), Op::TakeUnsent],
    ..Setup::PLAIN
};

pub(crate) static ALL_PLACES_AND_A_BUDGET: Setup = Setup {
    name: "the same with a budget of one message",
    budget: 1,
    tasks: &[(Recv, Queue), (Send(0), Queue), (Stream, Queue), (Sink(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(1)],
    ..Setup::PLAIN
};

pub(crate) static ALL_PLACES_AND_AN_END: Setup = Setup {
    name: "the same, and the end of the context, of us, and of the loop",
    tasks: &[(Recv, Queue), (Send(0), Queue), (Stream, Queue), (Sink(0), Queue)],
    ops: &[World(Act::Stops), Op::ShutDown, Op::LoopGone, Op::ThrottleEnds],
    ..Setup::PLAIN
};

pub(crate) static MANY: Setup = Setup {
    name: "three readers and two writers",
    tasks: &[(Recv, Queue), (Recv, Queue), (Recv, Queue), (Send(0), Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(1), Op::Cancel(3)],
    ..Setup::PLAIN
};

pub(crate) static TWO_PEERS: Setup = Setup {
    name: "two peers, of which one comes and one goes",
    peers: 2,
    tasks: &[(Recv, Queue), (Send(0), Queue)],
    ops: &[Op::ThrottleEnds, Op::Connect, Op::WithRef, World(Act::Connects(1)), World(Act::Goes(0))],
    ..Setup::PLAIN
};

pub(crate) static ALL_INLINE: Setup = Setup {
    name: "wakers that poll at once, in all places",
    tasks: &[(Recv, Poll), (Send(0), Poll), (Recv, Poll), (Stream, Poll), (Sink(0), Poll)],
    ops: &[Op::ThrottleEnds, Op::Cancel(0), Op::Cancel(3)],
    ..Setup::PLAIN
};

pub(crate) static THREE_SENDERS: Setup = Setup {
    name: "three senders that wait for their peers, and a reader",
    kind: zmq::ROUTER,
    peers: 2,
    connected: 2,
    tasks: &[(Send(0), Queue), (Send(1), Queue), (Send(1), Queue), (Recv, Queue)],
    ops: &[Op::ThrottleEnds, Op::TimePasses, Op::Cancel(1)],
    ..Setup::PLAIN
};

pub(crate) static CROWD: Setup = Setup {
    name: "nine who wait, and everything that may happen",
    budget: 2,
    announces_late: true,
    lent: true,
    tasks: &[
        (Recv, Queue),
        (Recv, Queue),
        (RecvInto, Queue),
        (Recv, Poll),
        (Stream, Queue),
        (Send(0), Queue),
        (Send(0), Queue),
        (Send(0), Queue),
        (Sink(0), Queue),
    ],
    ops: &[
        Op::ThrottleEnds,
        Op::TimePasses,
        Op::Doze,
        Op::LoseBatch,
        Op::TurnTasksFirst,
        Op::Cancel(0),
        Op::Cancel(3),
        Op::Cancel(5),
        Op::Cancel(8),
        Op::Spurious(1),
        Op::Spurious(7),
        Op::OtherWaker(2),
        Op::OtherWaker(6),
        Op::LateStart(0),
        Op::LateStart(6),
        Op::LateRun(1),
        Op::LateRun(7),
        Op::LateWithRef,
        Op::WithRef,
        Op::Meddle,
        Op::TryRecv,
        Op::TrySend(0),
        Op::TakeUnsent,
        Op::AfterCalls(1, Act::Sends(0)),
        Op::AfterCalls(2, Act::Takes(0)),
        Op::AfterCalls(3, Act::Takes(0)),
        World(Act::Hundredth),
        World(Act::Interrupts),
    ],
    ..Setup::PLAIN
};

pub(crate) static CROWD_OF_PEERS: Setup = Setup {
    name: "nine who wait for three peers, and everything that may happen",
    kind: zmq::ROUTER,
    peers: 3,
    connected: 3,
    tasks: &[
        (Recv, Queue),
        (Recv, Queue),
        (Stream, Queue),
        (Send(0), Queue),
        (Send(1), Queue),
        (Send(2), Queue),
        (Send(0), Queue),
        (Send(1), Queue),
        (Sink(2), Queue),
    ],
    ops: &[
        Op::ThrottleEnds,
        Op::TimePasses,
        Op::Doze,
        Op::LoseBatch,
        Op::TurnTasksFirst,
        Op::Cancel(0),
        Op::Cancel(3),
        Op::Cancel(5),
        Op::Cancel(8),
        Op::Spurious(1),
        Op::Spurious(7),
        Op::OtherWaker(2),
        Op::OtherWaker(6),
        Op::LateStart(0),
        Op::LateStart(6),
        Op::LateRun(1),
        Op::LateRun(7),
        Op::LateWithRef,
        Op::WithRef,
        Op::TryRecv,
        Op::TrySend(0),
        Op::TakeUnsent,
        Op::AfterCalls(1, Act::Sends(0)),
        Op::AfterCalls(2, Act::Takes(0)),
        Op::AfterCalls(3, Act::Takes(0)),
        World(Act::Hundredth),
        World(Act::Interrupts),
        World(Act::Goes(1)),
    ],
    ..Setup::PLAIN
};
