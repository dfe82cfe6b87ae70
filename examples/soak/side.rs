//! One of the two threads, each with a loop: what its tasks need, and how each of them sends and receives.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::future::{Future, pending};
use std::os::fd::IntoRawFd;
use std::ptr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use calloop::futures::Scheduler;
use calloop_zmq::kind::{CanRecv, CanSend, Kind};
use calloop_zmq::zmq::{self, Message};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, Multipart, Tasks};
use futures::{SinkExt, StreamExt};

use crate::ledger::Ledger;
use crate::parcel::{Label, Parcels};
use crate::random::Random;

/// What both threads share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) ledger: Ledger,
    pub(crate) counts: Counts,
    phase: AtomicU8,
    seed: u64,
    drawn: AtomicU64,
    /// How many tasks of each load have not ended that end with the running.
    busy: Mutex<BTreeMap<String, usize>>,
    spoil: Option<String>,
    spoiled: AtomicBool,
}

/// That what the soak is about really happened.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) cancelled_sends: AtomicU64,
    pub(crate) cancelled_recvs: AtomicU64,
    pub(crate) meddlings: AtomicU64,
    pub(crate) given_up_requests: AtomicU64,
    pub(crate) visits: AtomicU64,
    pub(crate) rebinds: AtomicU64,
    pub(crate) contexts: AtomicU64,
    pub(crate) monitor_events: AtomicU64,
}

impl Counts {
    pub(crate) fn all(&self) -> [(&'static str, u64); 8] {
        [
            ("sends cancelled", &self.cancelled_sends),
            ("receives cancelled", &self.cancelled_recvs),
            ("calls on the bare socket", &self.meddlings),
            ("requests given up", &self.given_up_requests),
            ("visits", &self.visits),
            ("rebinds", &self.rebinds),
            ("contexts made and ended", &self.contexts),
            ("monitor events", &self.monitor_events),
        ]
        .map(|(what, counter)| (what, counter.load(Ordering::Relaxed)))
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Running,
    /// Nobody sends anything new.
    Draining,
    Closing,
}

impl Shared {
    pub(crate) fn new(seed: u64, spoil: Option<String>) -> Self {
        Self { seed, spoil, ..Self::default() }
    }

    /// Says that a task is busy, until this is dropped.
    pub(crate) fn begin(self: &Arc<Self>, load: &str) -> Busy {
        *self.lock_busy().entry(load.to_owned()).or_default() += 1;
        Busy { shared: Arc::clone(self), load: load.to_owned() }
    }

    /// The loads whose tasks are busy, and how many.
    pub(crate) fn busy(&self) -> BTreeMap<String, usize> {
        self.lock_busy().clone()
    }

    fn lock_busy(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True once, if this is what is to be spoiled.
    fn spoils(&self, what: &str) -> bool {
        self.spoil.as_deref() == Some(what) && !self.spoiled.swap(true, Ordering::Relaxed)
    }

    /// Spoils what the process uses, if that is to be.
    pub(crate) fn spoil_process(&self) {
        if self.spoils("descriptors") {
            let _never_closed = fs::File::open("/dev/null").map(IntoRawFd::into_raw_fd);
        }
        if self.spoil.as_deref() == Some("memory") {
            Vec::leak(vec![1_u8; 50_000]);
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        [Phase::Running, Phase::Draining, Phase::Closing][usize::from(self.phase.load(Ordering::SeqCst))]
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::SeqCst);
    }

    /// Random numbers for one more task.
    pub(crate) fn random(&self) -> Random {
        Random::new(self.seed.wrapping_add(self.drawn.fetch_add(1, Ordering::Relaxed) << 32))
    }
}

/// One task that ends with the running.
pub(crate) struct Busy {
    shared: Arc<Shared>,
    load: String,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut busy = self.shared.lock_busy();
        if let Some(count) = busy.get_mut(&self.load) {
            *count -= 1;
            if *count == 0 {
                busy.remove(&self.load);
            }
        }
    }
}

/// A thread's part. Its tasks run on calloop's executor and on [`Tasks`] by turns.
#[derive(Clone)]
pub(crate) struct Side {
    pub(crate) context: AsyncZmqContext,
    pub(crate) shared: Arc<Shared>,
    pub(crate) tasks: Tasks,
    pub(crate) scheduler: Scheduler<()>,
    pub(crate) spawned: Rc<Cell<usize>>,
}

impl Side {
    /// Runs a task that ends with the soak.
    pub(crate) fn spawn(&self, load: &str, task: impl Future<Output = calloop_zmq::Result<()>> + 'static) {
        let (shared, load) = (Arc::clone(&self.shared), load.to_owned());
        let task = async move {
            match task.await {
                Ok(()) => {}
                Err(Error::Terminated) if shared.phase() == Phase::Closing => {}
                Err(error) => shared.ledger.fault(format!("{load}: a task failed: {error:?}")),
            }
        };
        let spawned = self.spawned.get();
        self.spawned.set(spawned + 1);
        if spawned % 2 == 0 {
            self.tasks.spawn(task);
        } else if self.scheduler.schedule(task).is_err() {
            self.shared.ledger.fault("calloop's executor is gone".to_owned());
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.shared.phase() == Phase::Running
    }

    /// Sends on a lane of its own, in bursts, until the running is over. `envelope` goes in front of each message.
    pub(crate) async fn send_all<K: CanSend>(
        &self,
        load: &str,
        lane: u64,
        socket: &AsyncZmqSocket<K>,
        style: Style,
        envelope: Option<Vec<u8>>,
    ) -> calloop_zmq::Result<()> {
        let (_busy, mut sender) = (self.shared.begin(load), Sender::new(self, load, lane, socket, style, envelope));
        while self.is_running() {
            for _ in 0..=sender.random.below(BURST) {
                sender.send_next().await?;
            }
            sender.flush().await?;
            // A lane whose queue has no limit gets one.
            while self.is_running() && self.shared.ledger.on_their_way(lane) > WINDOW {
                self.context.sleep(Duration::from_millis(1)).await;
            }
            self.context.sleep(Duration::from_millis(sender.random.below(PAUSE))).await;
        }
        Ok(())
    }

    /// Receives until the soak ends. So many frames in front of each message are its envelope.
    pub(crate) async fn recv_all<K: CanRecv>(
        &self,
        load: &str,
        socket: &AsyncZmqSocket<K>,
        style: Style,
        envelope: usize,
    ) -> calloop_zmq::Result<()> {
        let mut receiver = Receiver::new(self, socket, style);
        loop {
            let name = receiver.name;
            let message = receiver.next().await?;
            self.shared.ledger.received(load, name, message.get(envelope..).unwrap_or_default());
        }
    }

    /// Calls the bare socket now and then, as a program may: each call can swallow what others wait for. Half of the
    /// meddlers keep the socket lent, so that it is looked at in each turn; the others leave no such help behind.
    pub(crate) async fn meddle<K: Kind>(&self, socket: &AsyncZmqSocket<K>) -> calloop_zmq::Result<()> {
        let (_busy, mut random) = (self.shared.begin("meddling"), self.shared.random());
        let lends = random.below(2) == 0;
        while self.is_running() {
            self.context.sleep(Duration::from_millis(random.below(10))).await;
            let what = random.below(4);
            let call = |raw: &zmq::Socket| match what {
                0 => raw.get_last_endpoint().map(drop),
                1 => raw.set_backlog(100),
                2 => raw.poll(zmq::POLLIN | zmq::POLLOUT, 0).map(drop),
                _ => raw.get_events().map(drop),
            };
            if lends { call(socket.get_ref()) } else { socket.with_ref(call) }?;
            count(&self.shared.counts.meddlings);
        }
        Ok(())
    }
}

/// How a task uses its socket. Stream and Sink have room for one task in each direction; the others take futures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Futures,
    StreamAndSink,
}

/// One lane's end.
pub(crate) struct Sender<'a, K: CanSend> {
    side: &'a Side,
    load: &'a str,
    lane: u64,
    number: u64,
    socket: &'a AsyncZmqSocket<K>,
    style: Style,
    envelope: Option<Vec<u8>>,
    parcels: Parcels,
    pub(crate) random: Random,
}

impl<'a, K: CanSend> Sender<'a, K> {
    pub(crate) fn new(
        side: &'a Side,
        load: &'a str,
        lane: u64,
        socket: &'a AsyncZmqSocket<K>,
        style: Style,
        envelope: Option<Vec<u8>>,
    ) -> Self {
        let (parcels, random) = (Parcels::new(side.shared.random()), side.shared.random());
        Self { side, load, lane, number: 0, socket, style, envelope, parcels, random }
    }

    fn make(&mut self) -> Multipart {
        let mut message = self.parcels.make(Label { lane: self.lane, number: self.number });
        if let Some(envelope) = &self.envelope {
            message.push_front(envelope);
        }
        message
    }

    /// Sends the next message, however often it is cancelled.
    pub(crate) async fn send_next(&mut self) -> calloop_zmq::Result<()> {
        if self.number == SPOILED {
            self.spoil().await?;
        }
        loop {
            let (message, context) = (self.make(), &self.side.context);
            let patience = Duration::from_micros(self.random.below(2000));
            let (mut sink, impatient) = (self.socket, self.random.below(4) == 0);
            let sent = match self.style {
                Style::Futures if impatient => {
                    context.timeout(patience, self.socket.send(message)).await.map(|sent| sent.map_err(Error::from))
                }
                Style::Futures => Ok(self.socket.send(message).await.map_err(Error::from)),
                Style::StreamAndSink if impatient => context.timeout(patience, sink.feed(message)).await,
                Style::StreamAndSink => Ok(sink.feed(message).await),
            };
            let Ok(sent) = sent else {
                count(&self.side.shared.counts.cancelled_sends);
                continue;
            };
            sent?;
            self.number += 1;
            self.side.shared.ledger.sent(self.lane);
            self.side.shared.ledger.progress(self.load);
            return Ok(());
        }
    }

    /// Does wrong, if that is asked for.
    async fn spoil(&mut self) -> calloop_zmq::Result<()> {
        let shared = &self.side.shared;
        if !self.load.starts_with("pair") {
            return Ok(());
        }
        if shared.spoils("stalled") {
            pending::<()>().await;
        } else if shared.spoils("lost") {
            self.number += 1;
            shared.ledger.sent(self.lane);
        } else if shared.spoils("doubled") {
            self.socket.send(self.make()).await?;
        } else if shared.spoils("torn") {
            let mut message = self.make();
            message.pop_back();
            self.socket.send(message).await?;
        } else if shared.spoils("reordered") {
            self.number += 1;
            self.socket.send(self.make()).await?;
            self.number -= 1;
            self.socket.send(self.make()).await?;
            self.number += 2;
            shared.ledger.sent(self.lane);
            shared.ledger.sent(self.lane);
        }
        Ok(())
    }

    /// Hands over what the Sink still holds; sometimes only begins to.
    pub(crate) async fn flush(&mut self) -> calloop_zmq::Result<()> {
        let mut sink = self.socket;
        if self.style == Style::StreamAndSink {
            if self.random.below(4) == 0 {
                let _ = self.side.context.timeout(Duration::ZERO, SinkExt::<Multipart>::flush(&mut sink)).await;
            }
            SinkExt::<Multipart>::flush(&mut sink).await?;
        }
        Ok(())
    }
}

/// One task that receives.
pub(crate) struct Receiver<'a, K: CanRecv> {
    side: &'a Side,
    socket: &'a AsyncZmqSocket<K>,
    style: Style,
    random: Random,
    message: Multipart,
    pub(crate) name: u64,
}

impl<'a, K: CanRecv> Receiver<'a, K> {
    pub(crate) fn new(side: &'a Side, socket: &'a AsyncZmqSocket<K>, style: Style) -> Self {
        // Tasks of one socket receive in order, all together.
        let name = ptr::from_ref(socket).addr() as u64;
        Self { side, socket, style, random: side.shared.random(), message: Multipart::new(), name }
    }

    /// The next message's frames, however often the wait is cancelled.
    pub(crate) async fn next(&mut self) -> calloop_zmq::Result<&[Message]> {
        let (context, mut stream) = (&self.side.context, self.socket);
        loop {
            let patience = Duration::from_micros(self.random.below(2000));
            let received = match (self.style, self.random.below(8)) {
                (Style::Futures, 0) => {
                    self.socket.readable().await?;
                    // Another task may have been quicker.
                    let Some(message) = self.socket.try_recv()? else { continue };
                    Ok(Ok(message))
                }
                (Style::Futures, 1) => {
                    self.socket.recv_into(&mut self.message).await?;
                    return Ok(&self.message);
                }
                (Style::Futures, 2..4) => context.timeout(patience, self.socket.recv()).await,
                (Style::Futures, _) => Ok(self.socket.recv().await),
                (Style::StreamAndSink, 0..2) => {
                    context.timeout(patience, stream.next()).await.map(|next| next.unwrap_or(Err(Error::Terminated)))
                }
                (Style::StreamAndSink, _) => Ok(stream.next().await.unwrap_or(Err(Error::Terminated))),
            };
            match received {
                Err(_elapsed) => count(&self.side.shared.counts.cancelled_recvs),
                Ok(message) => {
                    self.message = message?;
                    return Ok(&self.message);
                }
            }
        }
    }
}

/// The number of the message at which something goes wrong if that is asked for.
const SPOILED: u64 = 500;
/// So many messages at most between two pauses.
const BURST: u64 = 64;
/// The longest pause, in milliseconds.
const PAUSE: u64 = 40;
/// So many messages of a lane may be on their way.
const WINDOW: u64 = 2000;
