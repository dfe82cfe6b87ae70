//! Who takes part, and what is asked of each.

use std::fmt;
use std::time::Instant;

use crate::clock::{Measured, note_peers};
use crate::contestants::{async_zmq, blocking, epoll, ours, pyzmq, tmq, zeromq};
use crate::peer::Peers;
use crate::workload::{Frames, Pattern, SMALL, Shape, Unit, Workload};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    OursTasks,
    OursExecutor,
    OursBlockOn,
    Blocking,
    Epoll,
    Tmq,
    TmqBuffered,
    AsyncZmq,
    Zeromq,
    Pyzmq,
}

impl Contestant {
    pub const ALL: [Self; 10] = [
        Self::OursTasks,
        Self::OursExecutor,
        Self::OursBlockOn,
        Self::Blocking,
        Self::Epoll,
        Self::Tmq,
        Self::TmqBuffered,
        Self::AsyncZmq,
        Self::Zeromq,
        Self::Pyzmq,
    ];

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|contestant| contestant.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::OursTasks => "ours-tasks",
            Self::OursExecutor => "ours-executor",
            Self::OursBlockOn => "ours-block-on",
            Self::Blocking => "blocking",
            Self::Epoll => "epoll",
            Self::Tmq => "tmq",
            Self::TmqBuffered => "tmq-buffered",
            Self::AsyncZmq => "async_zmq",
            Self::Zeromq => "zeromq",
            Self::Pyzmq => "pyzmq",
        }
    }

    /// What stands over its column.
    pub fn title(self) -> &'static str {
        match self {
            Self::OursTasks => "calloop-zmq, Tasks",
            Self::OursExecutor => "calloop-zmq, executor",
            Self::OursBlockOn => "calloop-zmq, block_on",
            Self::Blocking => "libzmq, blocking",
            Self::Epoll => "libzmq, epoll",
            Self::Tmq => "tmq",
            Self::TmqBuffered => "tmq, buffered",
            Self::AsyncZmq => "async_zmq",
            Self::Zeromq => "zeromq (pure Rust)",
            Self::Pyzmq => "pyzmq asyncio",
        }
    }

    fn program(self) -> Box<dyn Program> {
        match self {
            Self::OursTasks => Box::new(ours::Ours(ours::Runner::Tasks)),
            Self::OursExecutor => Box::new(ours::Ours(ours::Runner::Executor)),
            Self::OursBlockOn => Box::new(ours::Ours(ours::Runner::BlockOn)),
            Self::Blocking => Box::new(blocking::Blocking),
            Self::Epoll => Box::new(epoll::Epoll),
            Self::Tmq => Box::new(tmq::Tmq { buffered: false }),
            Self::TmqBuffered => Box::new(tmq::Tmq { buffered: true }),
            Self::AsyncZmq => Box::new(async_zmq::AsyncZmq),
            Self::Zeromq => Box::new(zeromq::Zeromq),
            Self::Pyzmq => Box::new(pyzmq::Pyzmq),
        }
    }

    /// Asyncio is a hundred times slower than some here, and would take minutes over as many messages.
    pub fn fewer(self, messages: u32) -> u32 {
        if self == Self::Pyzmq { messages.min(20_000) } else { messages }
    }

    /// Runs one workload, on this thread. `None`: it cannot.
    pub fn run(self, workload: &Workload, messages: u32) -> Option<Measured> {
        // Both queues of a connection hold 2,000 messages: after so many they are as full as they will be.
        let warm_up = if workload.unit() == Unit::Rate { 2_500.max(messages / 100) } else { 200 };
        let context = zmq::Context::new();
        let peers = Peers::start(workload, &context, [warm_up, messages]);
        note_peers();
        // For tasks, which want what lives for ever. The process runs this once and ends.
        let job = Box::leak(Box::new(Job { context, peers, warm_up, messages, workload: workload.clone() }));
        let program = self.program();
        match workload.shape {
            Shape::Receive { reuse: false, .. } => program.receive(job),
            Shape::Receive { reuse: true, .. } => program.receive_into(job),
            Shape::Send { .. } => program.send(job),
            Shape::RoundTrip { pattern: Pattern::ReqRep } => program.request(job),
            Shape::RoundTrip { pattern: Pattern::DealerRouter } => program.round_trip(job),
            Shape::BesideIdle { .. } => program.beside_idle(job),
            Shape::Duplex => program.duplex(job),
            Shape::FanIn { .. } => program.fan_in(job),
            Shape::Timer => program.timer(job),
        }
    }
}

/// What a contestant is given.
pub struct Job {
    /// For its sockets. Of inproc, the peers are in there too.
    pub context: zmq::Context,
    pub peers: Peers,
    /// Messages before the clock starts.
    pub warm_up: u32,
    /// Messages on the clock.
    pub messages: u32,
    pub workload: Workload,
}

impl Job {
    pub fn endpoint(&self) -> &str {
        &self.peers.endpoints[0]
    }

    /// Where each of the sockets of a fan-in connects to.
    pub fn spread(&self) -> impl Iterator<Item = &str> {
        let Shape::FanIn { sockets } = self.workload.shape else { panic!("this is no fan-in") };
        self.peers.endpoints.iter().map(String::as_str).cycle().take(sockets)
    }

    /// Where each of the sockets that stay silent connects to.
    pub fn idle(&self) -> impl Iterator<Item = &str> {
        let Shape::BesideIdle { idle } = self.workload.shape else { panic!("there are no idle sockets") };
        std::iter::repeat_n(self.peers.endpoints[1].as_str(), idle)
    }

    /// The frames to send.
    pub fn frames(&self) -> Vec<Vec<u8>> {
        self.sizes().iter().map(|size| vec![0; *size]).collect()
    }

    pub fn sizes(&self) -> Frames {
        match self.workload.shape {
            Shape::Receive { frames, .. } | Shape::Send { frames } => frames,
            _ => SMALL,
        }
    }

    /// The one frame to send.
    pub fn frame(&self) -> Vec<u8> {
        let frames: [Vec<u8>; 1] = self.frames().try_into().expect("one frame");
        frames.into_iter().flatten().collect()
    }

    /// Waits until the counting peer has reached its next mark.
    pub fn counted(&self) -> Instant {
        self.peers.counted.recv().expect("the peer counts")
    }
}

/// The workloads, as one contestant does them. `None`: that is not for it.
pub trait Program {
    /// A PULL, into whatever its API hands out.
    fn receive(&self, job: &'static Job) -> Option<Measured>;
    /// A PULL, into room that is used again, where the API has that.
    fn receive_into(&self, job: &'static Job) -> Option<Measured>;
    /// A PUSH.
    fn send(&self, job: &'static Job) -> Option<Measured>;
    /// A REQ.
    fn request(&self, job: &'static Job) -> Option<Measured>;
    /// A DEALER, one message at a time.
    fn round_trip(&self, job: &'static Job) -> Option<Measured>;
    /// The same, beside PULL sockets on which it waits as well.
    fn beside_idle(&self, job: &'static Job) -> Option<Measured>;
    /// A DEALER, both directions at once.
    fn duplex(&self, job: &'static Job) -> Option<Measured>;
    /// Many PULL sockets.
    fn fan_in(&self, job: &'static Job) -> Option<Measured>;
    /// A timer beside a PULL.
    fn timer(&self, job: &'static Job) -> Option<Measured>;
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
