//! A socket that goes by libzmq's rules (4.3.4), and nothing else: no threads, no descriptors, no time of its own.
//!
//! What matters of libzmq is who knows what. The other side of a connection acts at any time; what it did is known here
//! only when its *command* was taken from the mailbox, and the descriptor says no more than that there are commands in
//! it. A message in a connection that was found empty is not seen before such a command; one in a connection that was
//! never found empty needs none, and none is sent. Room is known from commands alone. The rules of who takes commands
//! from the mailbox are those of `socket_base_t`: a receive that finds nothing, and now and then one that finds
//! something (each hundredth); a send, but only when the last one that did is a while ago; reading `ZMQ_EVENTS` always;
//! so do bind, connect, unbind and disconnect.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use zmq::SocketType;

use crate::clock;
use crate::events::Events;

#[derive(Debug)]
pub(crate) struct ModelSocket {
    kind: SocketType,
    inner: RefCell<Inner>,
    /// Calls made on the socket.
    calls: Cell<u64>,
    /// After so many more calls, the world does this.
    planned: Cell<Option<(u8, Act)>>,
}

/// What a call fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Again,
    Interrupted,
    Terminated,
    Unreachable,
}

#[allow(clippy::struct_excessive_bools, reason = "each is by itself")]
#[derive(Clone, Debug)]
struct Inner {
    peers: Vec<Peer>,
    mailbox: VecDeque<Command>,
    /// What the other side did, but has not announced yet.
    under_way: VecDeque<Command>,
    announces_late: bool,
    /// When a send last took commands from the mailbox.
    sent_at: Option<Instant>,
    /// The next receive is a hundredth.
    hundredth: bool,
    /// The next call is interrupted by a signal.
    interrupted: bool,
    terminated: bool,
    /// The middle of a message to this peer.
    sending_to: Option<usize>,
    /// Whose turn it is to be read from.
    next_in: usize,
    /// Messages that came out.
    received: usize,
}

/// A connection.
#[allow(clippy::struct_excessive_bools, reason = "each is by itself")]
#[derive(Clone, Debug, Default)]
struct Peer {
    /// The other side has connected, and not gone again.
    connected: bool,
    /// It has gone, and does not come again.
    gone: bool,
    /// We know of it.
    attached: bool,
    inbound: VecDeque<Payload>,
    /// How many messages it sent: the last one's number.
    sent: u8,
    /// We go on reading: it was not found empty since it last announced something.
    reads: bool,
    /// We found it empty, and the next message will be announced.
    announces: bool,
    /// We go on writing: it was not found full since it last announced something.
    writes: bool,
    /// Messages that we wrote.
    written: usize,
    /// As far as we know, the other side took so many of them.
    known_taken: usize,
    taken: usize,
}

/// A message says who sent it and what number it has there.
pub(crate) type Payload = [u8; 2];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Attach(usize),
    /// There are messages.
    Read(usize),
    /// So many were taken.
    Write(usize, usize),
    Detach(usize),
    Stop,
}

impl ModelSocket {
    /// A socket with this many peers, the first of them connected and known.
    pub(crate) fn new(kind: SocketType, peers: usize, connected: usize, announces_late: bool) -> Self {
        let mut inner = Inner {
            peers: vec![Peer::default(); peers],
            mailbox: VecDeque::new(),
            under_way: VecDeque::new(),
            announces_late,
            sent_at: None,
            hundredth: false,
            interrupted: false,
            terminated: false,
            sending_to: None,
            next_in: 0,
            received: 0,
        };
        for peer in 0..connected {
            inner.peers[peer].connected = true;
            inner.attach(peer);
            inner.has_in();
        }
        Self { kind, inner: RefCell::new(inner), calls: Cell::new(0), planned: Cell::new(None) }
    }

    pub(crate) fn kind(&self) -> SocketType {
        self.kind
    }

    /// The descriptor's level.
    pub(crate) fn is_high(&self) -> bool {
        !self.inner.borrow().mailbox.is_empty()
    }

    /// A send takes no commands now.
    pub(crate) fn is_throttled(&self) -> bool {
        self.inner.borrow().is_throttled()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.get()
    }

    // What is called on it.

    pub(crate) fn events(&self) -> Result<Events, Refusal> {
        self.call(|inner| {
            inner.process()?;
            Ok(inner.events(self.kind))
        })
    }

    /// Somebody reads `ZMQ_EVENTS`, and does not care.
    pub(crate) fn meddle(&self) {
        let _ = self.events();
    }

    pub(crate) fn recv(&self) -> Result<Payload, Refusal> {
        self.call(|inner| {
            if std::mem::take(&mut inner.hundredth) {
                inner.process()?;
            }
            if let Some(message) = inner.take() {
                return Ok(message);
            }
            inner.process()?;
            inner.take().ok_or(Refusal::Again)
        })
    }

    /// Sends one frame. Where it goes depends on the peer (ROUTER), the first frame names it, with a byte.
    pub(crate) fn send(&self, frame: &[u8], more: bool) -> Result<(), Refusal> {
        self.call(|inner| {
            if !inner.is_throttled() {
                inner.sent_at = Some(clock::now());
                inner.process()?;
            }
            if let Some(peer) = inner.sending_to.take_if(|_| !more) {
                inner.peers[peer].written += 1;
                return Ok(());
            }
            if self.kind == zmq::ROUTER {
                assert!(more, "the peer's name comes first");
                let peer = usize::from(frame[0]);
                inner.has_room_for(peer)?;
                inner.sending_to = Some(peer);
                return Ok(());
            }
            let peer = (0..inner.peers.len()).find(|peer| inner.has_room_for(*peer).is_ok());
            inner.peers[peer.ok_or(Refusal::Again)?].written += 1;
            Ok(())
        })
    }

    /// One of the four calls with an endpoint. It connects to the last peer, if that one is not connected.
    pub(crate) fn endpoint(&self) -> Result<(), Refusal> {
        self.call(|inner| {
            inner.process()?;
            let last = inner.peers.len() - 1;
            if !inner.peers[last].connected && !inner.peers[last].gone {
                inner.peers[last].connected = true;
                inner.attach(last);
            }
            Ok(())
        })
    }

    fn call<R>(&self, call: impl FnOnce(&mut Inner) -> Result<R, Refusal>) -> Result<R, Refusal> {
        self.calls.set(self.calls.get() + 1);
        let mut inner = self.inner.borrow_mut();
        if inner.terminated {
            return Err(Refusal::Terminated);
        }
        if std::mem::take(&mut inner.interrupted) {
            return Err(Refusal::Interrupted);
        }
        let done = call(&mut inner);
        drop(inner);
        self.carry_out_plan();
        done
    }

    fn carry_out_plan(&self) {
        match self.planned.get() {
            Some((1, act)) => {
                self.planned.set(None);
                if self.can(act) {
                    self.act(act);
                }
            }
            Some((calls, act)) => self.planned.set(Some((calls - 1, act))),
            None => {}
        }
    }

    // What the world does to it.

    pub(crate) fn can(&self, act: Act) -> bool {
        let inner = self.inner.borrow();
        match act {
            Act::Sends(peer) => inner.peers[peer].connected && inner.peers[peer].inbound.len() < MOST_QUEUED,
            Act::Takes(peer) => inner.peers[peer].connected && inner.peers[peer].taken < inner.peers[peer].written,
            Act::Connects(peer) => !inner.peers[peer].connected && !inner.peers[peer].gone,
            // What it sent before it went is read first: not until then does it make a difference.
            Act::Goes(peer) => inner.peers[peer].connected && inner.peers[peer].inbound.is_empty(),
            Act::Announces => !inner.under_way.is_empty(),
            Act::Stops => !inner.terminated && !inner.mailbox.contains(&Command::Stop),
            Act::Interrupts => !inner.interrupted,
            Act::Hundredth => !inner.hundredth,
        }
    }

    pub(crate) fn plans(&self) -> bool {
        self.planned.get().is_some()
    }

    /// The world does this after so many more calls.
    pub(crate) fn plan(&self, plan: Option<(u8, Act)>) {
        self.planned.set(plan);
    }

    pub(crate) fn act(&self, act: Act) {
        let inner = &mut *self.inner.borrow_mut();
        match act {
            Act::Sends(at) => {
                let peer = &mut inner.peers[at];
                peer.sent = peer.sent.wrapping_add(1);
                peer.inbound.push_back([small(at), peer.sent]);
                if std::mem::take(&mut peer.announces) {
                    inner.command(Command::Read(at));
                }
            }
            Act::Takes(at) => {
                let peer = &mut inner.peers[at];
                peer.taken += 1;
                let taken = peer.taken;
                inner.command(Command::Write(at, taken));
            }
            Act::Connects(at) => {
                inner.peers[at].connected = true;
                inner.command(Command::Attach(at));
            }
            Act::Goes(at) => {
                (inner.peers[at].connected, inner.peers[at].gone) = (false, true);
                inner.command(Command::Detach(at));
            }
            Act::Announces => inner.mailbox.extend(inner.under_way.pop_front()),
            Act::Stops => inner.command(Command::Stop),
            Act::Interrupts => inner.interrupted = true,
            Act::Hundredth => inner.hundredth = true,
        }
    }

    /// What a call would find, if one were made now; the call is not made.
    pub(crate) fn truth(&self) -> Truth {
        let mut inner = self.inner.borrow().clone();
        let terminated = inner.terminated || inner.process().is_err();
        Truth {
            terminated,
            readable: inner.has_in(),
            room: (0..inner.peers.len())
                .map(|peer| match inner.has_room_for(peer) {
                    Err(Refusal::Unreachable) => self.kind == zmq::ROUTER,
                    room => room.is_ok(),
                })
                .collect(),
        }
    }

    /// Messages that were received, and such that were sent.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let inner = self.inner.borrow();
        (inner.received, inner.peers.iter().map(|peer| peer.written).sum())
    }

    /// Everything that can make a difference from now on.
    pub(crate) fn print(&self, out: &mut Vec<u8>) {
        let inner = self.inner.borrow();
        match self.planned.get() {
            None => out.push(0),
            Some(plan) => out.extend(format!("{plan:?}").bytes()),
        }
        for peer in &inner.peers {
            out.push(flags([peer.connected, peer.gone, peer.attached, peer.reads, peer.announces, peer.writes]));
            out.extend([peer.inbound.len(), peer.written - peer.taken, peer.taken - peer.known_taken].map(small));
        }
        for commands in [&inner.mailbox, &inner.under_way] {
            out.push(small(commands.len()));
            for command in commands {
                out.extend(match *command {
                    Command::Attach(peer) => [1, small(peer), 0],
                    Command::Read(peer) => [2, small(peer), 0],
                    Command::Write(peer, taken) => [3, small(peer), small(inner.peers[peer].taken - taken)],
                    Command::Detach(peer) => [4, small(peer), 0],
                    Command::Stop => [5, 0, 0],
                });
            }
        }
        let throttled = inner.sent_at.map_or(u8::MAX, |at| {
            let passed = clock::now().duration_since(at).min(THROTTLE + Duration::from_micros(100));
            small(passed.as_micros() as usize / 100)
        });
        out.extend([throttled, flags([inner.hundredth, inner.interrupted, inner.terminated])]);
        out.extend([inner.sending_to.map_or(u8::MAX, small), small(inner.next_in)]);
    }
}

impl Inner {
    fn command(&mut self, command: Command) {
        if self.announces_late { self.under_way.push_back(command) } else { self.mailbox.push_back(command) }
    }

    fn is_throttled(&self) -> bool {
        self.sent_at.is_some_and(|at| clock::now().duration_since(at) <= THROTTLE)
    }

    fn attach(&mut self, peer: usize) {
        let peer = &mut self.peers[peer];
        // Nobody has found it empty, so what is in there, or comes next, is not announced.
        (peer.attached, peer.reads, peer.writes) = (true, true, true);
    }

    /// Takes all commands from the mailbox.
    fn process(&mut self) -> Result<(), Refusal> {
        while let Some(command) = self.mailbox.pop_front() {
            match command {
                Command::Attach(peer) => self.attach(peer),
                Command::Read(peer) => self.peers[peer].reads = true,
                Command::Write(peer, taken) => {
                    self.peers[peer].known_taken = taken;
                    self.peers[peer].writes = true;
                }
                Command::Detach(peer) => self.peers[peer].attached = false,
                Command::Stop => self.terminated = true,
            }
        }
        if self.terminated { Err(Refusal::Terminated) } else { Ok(()) }
    }

    fn take(&mut self) -> Option<Payload> {
        for _ in 0..self.peers.len() {
            let at = self.next_in;
            self.next_in = (at + 1) % self.peers.len();
            if self.check_read(at) {
                self.received += 1;
                return self.peers[at].inbound.pop_front();
            }
        }
        None
    }

    fn has_in(&mut self) -> bool {
        let mut found = false;
        for peer in 0..self.peers.len() {
            found |= self.check_read(peer);
        }
        found
    }

    fn check_read(&mut self, peer: usize) -> bool {
        let peer = &mut self.peers[peer];
        if peer.attached && peer.reads && peer.inbound.is_empty() {
            peer.reads = false;
            peer.announces = true;
        }
        peer.attached && peer.reads
    }

    fn has_room_for(&mut self, peer: usize) -> Result<(), Refusal> {
        let peer = &mut self.peers[peer];
        if !peer.attached {
            return Err(Refusal::Unreachable);
        }
        if peer.writes && peer.written - peer.known_taken >= HIGH_WATER_MARK {
            peer.writes = false;
        }
        if peer.writes { Ok(()) } else { Err(Refusal::Again) }
    }

    fn events(&mut self, kind: SocketType) -> Events {
        let room = (0..self.peers.len()).filter(|peer| self.has_room_for(*peer).is_ok()).count() > 0;
        // What an XPUB says means nothing at all; that of a ROUTER, that there is some peer with room.
        Events { readable: self.has_in(), writable: room || kind == zmq::XPUB }
    }
}

/// What the world can do to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// A peer sends a message.
    Sends(usize),
    /// A peer takes a message, and so makes room.
    Takes(usize),
    Connects(usize),
    Goes(usize),
    /// What was done without being announced is.
    Announces,
    /// The context is terminated.
    Stops,
    /// The next call is interrupted by a signal.
    Interrupts,
    /// The next receive is one of those that process commands though there is a message.
    Hundredth,
}

/// What is so, whatever anybody knows.
#[derive(Debug)]
pub(crate) struct Truth {
    pub(crate) terminated: bool,
    pub(crate) readable: bool,
    /// For each peer: a message to it would be sent, or refused for good.
    pub(crate) room: Vec<bool>,
}

pub(crate) fn flags<const N: usize>(flags: [bool; N]) -> u8 {
    flags.into_iter().fold(0, |all, flag| all << 1 | u8::from(flag))
}

pub(crate) fn small(number: usize) -> u8 {
    u8::try_from(number).expect("everything is small here")
}

/// How long sends take no commands: 3 million ticks.
pub(crate) const THROTTLE: Duration = Duration::from_millis(1);
const HIGH_WATER_MARK: usize = 1;
const MOST_QUEUED: usize = 2;
