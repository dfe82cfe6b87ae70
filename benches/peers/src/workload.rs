//! What is measured: every workload by name, with its number of messages.

use std::fmt;

/// One thing to measure. What it is called is also how a child process is told which one to run.
#[derive(Clone, Debug)]
pub struct Workload {
    pub shape: Shape,
    pub transport: Transport,
    /// All threads on one core.
    pub pinned: bool,
    pub messages: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A raw PUSH floods the contestant's PULL.
    Receive { frames: Frames, reuse: bool },
    /// The contestant's PUSH sends to a raw PULL, until that one has everything.
    Send { frames: Frames },
    /// One message at a time to a raw peer that echoes.
    RoundTrip { pattern: Pattern },
    /// The same on a DEALER, beside this many sockets on which the program waits too and which stay silent.
    BesideIdle { idle: usize },
    /// A DEALER that sends as fast as it can, and receives what a raw DEALER echoes.
    Duplex,
    /// Two raw PUSH sockets flood this many PULL sockets in turn.
    FanIn { sockets: usize },
    /// How late a 1 ms timer is in a loop that receives a flood.
    Timer,
}

/// The sizes of a message's frames.
pub type Frames = &'static [usize];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    ReqRep,
    DealerRouter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Inproc,
    Ipc,
    Tcp,
}

/// What the figure of a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Messages a second, more is better.
    Rate,
    /// The median of a round trip, less is better; its 99th percentile is told beside.
    Latency,
    /// The 99th percentile of a delay, less is better.
    Delay,
}

/// A routing id, a delimiter, a body.
const THREE: Frames = &[5, 0, 32];
/// What goes round, both ways, and into many sockets.
pub const SMALL: Frames = &[32];

impl Workload {
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |shape, transport, pinned, messages| all.push(Self { shape, transport, pinned, messages });
        for transport in Transport::ALL {
            for (frames, messages) in SIZES.into_iter().zip(transport.messages()) {
                add(Shape::Receive { frames, reuse: false }, transport, false, messages);
            }
        }
        for transport in Transport::ALL {
            for (frames, messages) in SIZES.into_iter().zip(transport.messages()) {
                add(Shape::Send { frames }, transport, false, messages);
            }
        }
        for transport in [Transport::Inproc, Transport::Tcp] {
            add(Shape::Receive { frames: THREE, reuse: false }, transport, false, 200_000);
            add(Shape::Receive { frames: THREE, reuse: true }, transport, false, 200_000);
            add(Shape::Send { frames: THREE }, transport, false, 200_000);
        }
        for pinned in [false, true] {
            for transport in [Transport::Inproc, Transport::Tcp] {
                for pattern in [Pattern::ReqRep, Pattern::DealerRouter] {
                    add(Shape::RoundTrip { pattern }, transport, pinned, 6_000);
                }
            }
        }
        for transport in [Transport::Inproc, Transport::Tcp] {
            add(Shape::Duplex, transport, false, 250_000);
        }
        for sockets in [1, 10, 100, 900] {
            add(Shape::FanIn { sockets }, Transport::Inproc, false, 500_000);
        }
        for idle in [0, 900] {
            add(Shape::BesideIdle { idle }, Transport::Inproc, true, 3_000);
        }
        add(Shape::Timer, Transport::Tcp, false, 300);
        all
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|workload| workload.to_string() == name)
    }

    pub fn unit(&self) -> Unit {
        match self.shape {
            Shape::Receive { .. } | Shape::Send { .. } | Shape::Duplex | Shape::FanIn { .. } => Unit::Rate,
            Shape::RoundTrip { .. } | Shape::BesideIdle { .. } => Unit::Latency,
            Shape::Timer => Unit::Delay,
        }
    }

    /// The heading under which its row stands.
    pub fn group(&self) -> &'static str {
        match self.shape {
            Shape::Receive { frames, .. } if frames.len() == 1 => "Receive throughput (PULL)",
            Shape::Send { frames } if frames.len() == 1 => "Send throughput (PUSH)",
            Shape::Receive { .. } | Shape::Send { .. } => "Messages of three frames",
            Shape::RoundTrip { .. } => "Round trip",
            Shape::Duplex => "Full duplex (DEALER)",
            Shape::FanIn { .. } => "Many PULL sockets in one loop",
            Shape::BesideIdle { .. } => "Round trip beside idle sockets",
            Shape::Timer => "A 1 ms timer beside a flood",
        }
    }

    /// What it is called in the chart.
    pub fn title(&self) -> String {
        let transport = self.transport;
        let pinned = if self.pinned { ", all threads on one core" } else { "" };
        match self.shape {
            Shape::Receive { frames: [size], .. } => format!("Receive {size} bytes, {transport}"),
            Shape::Send { frames: [size] } => format!("Send {size} bytes, {transport}"),
            Shape::Receive { reuse: false, .. } => format!("Receive three frames, {transport}"),
            Shape::Receive { reuse: true, .. } => format!("Receive three frames into the same room, {transport}"),
            Shape::Send { .. } => format!("Send three frames, {transport}"),
            Shape::RoundTrip { pattern: Pattern::ReqRep } => format!("Round trip REQ and REP, {transport}{pinned}"),
            Shape::RoundTrip { pattern: Pattern::DealerRouter } => {
                format!("Round trip DEALER and ROUTER, {transport}{pinned}")
            }
            Shape::BesideIdle { idle } => format!("Round trip beside {idle} idle sockets, {transport}{pinned}"),
            Shape::Duplex => format!("DEALER, both directions at once, {transport}"),
            Shape::FanIn { sockets } => format!("{sockets} PULL sockets in one loop, {transport}"),
            Shape::Timer => format!("A 1 ms timer beside a flood, {transport}"),
        }
    }

    /// One of those in the chart.
    pub fn is_charted(&self) -> bool {
        const CHARTED: [&str; 12] = [
            "throughput/receive/inproc/16",
            "throughput/receive/tcp/16",
            "throughput/receive/tcp/4096",
            "throughput/send/inproc/16",
            "throughput/send/tcp/16",
            "throughput/send/tcp/4096",
            "frames/receive/tcp",
            "roundtrip/req-rep/tcp/free",
            "roundtrip/dealer-router/tcp/pinned",
            "duplex/tcp",
            "fan-in/inproc/100",
            "idle/inproc/900",
        ];
        CHARTED.contains(&self.to_string().as_str())
    }

    /// One of those whose system calls are counted: long enough for a steady state, short enough under strace.
    pub fn calls_counted(&self) -> Option<u32> {
        match self.to_string().as_str() {
            "throughput/receive/tcp/256" | "throughput/send/tcp/256" | "fan-in/inproc/100" => Some(50_000),
            "roundtrip/dealer-router/tcp/free" => Some(3_000),
            "duplex/tcp" => Some(20_000),
            _ => None,
        }
    }
}

const SIZES: [Frames; 4] = [&[16], &[256], &[4096], &[65_536]];

impl Transport {
    const ALL: [Self; 3] = [Self::Inproc, Self::Ipc, Self::Tcp];

    /// How many messages of each of the sizes take libzmq some tenths of a second.
    fn messages(self) -> [u32; 4] {
        match self {
            Self::Inproc => [800_000, 500_000, 150_000, 20_000],
            Self::Ipc | Self::Tcp => [500_000, 250_000, 40_000, 5_000],
        }
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = self.transport;
        let pinned = if self.pinned { "pinned" } else { "free" };
        match self.shape {
            Shape::Receive { frames: [size], .. } => write!(f, "throughput/receive/{transport}/{size}"),
            Shape::Send { frames: [size] } => write!(f, "throughput/send/{transport}/{size}"),
            Shape::Receive { reuse: false, .. } => write!(f, "frames/receive/{transport}"),
            Shape::Receive { reuse: true, .. } => write!(f, "frames/receive-into/{transport}"),
            Shape::Send { .. } => write!(f, "frames/send/{transport}"),
            Shape::RoundTrip { pattern: Pattern::ReqRep } => write!(f, "roundtrip/req-rep/{transport}/{pinned}"),
            Shape::RoundTrip { pattern: Pattern::DealerRouter } => {
                write!(f, "roundtrip/dealer-router/{transport}/{pinned}")
            }
            Shape::BesideIdle { idle } => write!(f, "idle/{transport}/{idle}"),
            Shape::Duplex => write!(f, "duplex/{transport}"),
            Shape::FanIn { sockets } => write!(f, "fan-in/{transport}/{sockets}"),
            Shape::Timer => write!(f, "timer/{transport}"),
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inproc => "inproc",
            Self::Ipc => "ipc",
            Self::Tcp => "tcp",
        })
    }
}
