//! Waiters of several kinds beside each other, and waits that change hands.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures::StreamExt;
use futures::future::LocalBoxFuture;

use crate::kind::Pull;
use crate::stress::books::{InOrder, Ledger, number};
use crate::stress::rig::{Moment, Rig};
use crate::{AsyncZmqSocket, Multipart};

/// Three tasks that receive, two that wait until they may, and a stream that is polled now and then: its waker stays
/// when nobody cares any more.
pub(super) fn three_kinds(rig: &mut Rig) {
    let (pull, ledger) = pull_and_ledger(rig);
    for _ in 0..3 {
        let (pull, ledger, probe) = (Rc::clone(&pull), ledger.clone(), rig.probe("receiver"));
        rig.executor.spawn(async move {
            loop {
                let message = probe.wait(pull.recv()).await.unwrap();
                ledger.arrived(number(&message[0]));
            }
        });
    }
    for _ in 0..2 {
        let (pull, ledger, probe, shared) =
            (Rc::clone(&pull), ledger.clone(), rig.probe("readable"), Rc::clone(&rig.shared));
        rig.executor.spawn(async move {
            loop {
                probe.look_on(pull.readable()).await.unwrap();
                if let Some(message) = pull.try_recv().unwrap() {
                    ledger.arrived(number(&message[0]));
                    shared.progressed();
                }
            }
        });
    }
    passer_by(rig, &pull, &ledger);
}

/// Many tasks that receive one message each, and as many messages at once: all are served in the same turn.
pub(super) fn one_each(rig: &mut Rig) {
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let peer = rig.raw(zmq::PUSH, |_| Ok(()));
    peer.connect(&pull.bind("inproc://pull").unwrap()).unwrap();
    let (ledger, rounds) = (Ledger::new(&rig.shared), rig.messages / EACH);
    for _ in 0..EACH {
        let (pull, ledger, probe, shared) =
            (Rc::clone(&pull), ledger.clone(), rig.probe("receiver"), Rc::clone(&rig.shared));
        rig.spawn(async move {
            for _ in 0..rounds {
                let message = probe.wait(pull.recv()).await.unwrap();
                ledger.arrived(number(&message[0]));
                while ledger.arrivals() % EACH != 0 {
                    shared.pulse().await;
                }
            }
        });
    }
    let mut turns = 0;
    rig.peer(move |moment| {
        if moment != Moment::Turn || ledger.open() > 0 || ledger.count() == rounds * EACH {
            return;
        }
        turns += 1;
        // By then they wait.
        if turns % 4 == 0 {
            for _ in 0..EACH {
                peer.send(&ledger.count().to_le_bytes()[..], zmq::DONTWAIT).unwrap();
                ledger.sent(ledger.count());
            }
        }
    });
}

const EACH: u64 = 32;

/// A stream that one task reads, and another polls now and then.
pub(super) fn two_streams(rig: &mut Rig) {
    let (pull, ledger) = pull_and_ledger(rig);
    let (reader, arrivals, probe) = (Rc::clone(&pull), ledger.clone(), rig.probe("stream"));
    rig.executor.spawn(async move {
        let mut stream = &*reader;
        loop {
            let message = probe.wait(stream.next()).await.unwrap().unwrap();
            arrivals.arrived(number(&message[0]));
        }
    });
    passer_by(rig, &pull, &ledger);
}

fn passer_by(rig: &mut Rig, pull: &Rc<AsyncZmqSocket<Pull>>, ledger: &Ledger) {
    let (pull, ledger, shared, dice) = (Rc::clone(pull), ledger.clone(), Rc::clone(&rig.shared), rig.dice.clone());
    rig.executor.spawn(async move {
        let mut stream = &*pull;
        loop {
            let message = poll_fn(|cx| Poll::Ready(stream.poll_next_unpin(cx))).await;
            if let Poll::Ready(message) = message {
                ledger.arrived(number(&message.unwrap().unwrap()[0]));
                shared.progressed();
            }
            for _ in 0..=dice.below(3) {
                shared.pulse().await;
            }
        }
    });
}

fn pull_and_ledger(rig: &mut Rig) -> (Rc<AsyncZmqSocket<Pull>>, Ledger) {
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let peer = rig.raw(zmq::PUSH, |_| Ok(()));
    peer.connect(&pull.bind("inproc://pull").unwrap()).unwrap();
    let (ledger, dice, messages) = (Ledger::new(&rig.shared), rig.dice.clone(), rig.messages);
    let (arrived, book) = (ledger.clone(), ledger.clone());
    rig.until(move || arrived.arrivals() == messages);
    rig.peer(move |_| {
        if book.count() < messages && book.open() <= dice.below(3) {
            peer.send(&book.count().to_le_bytes()[..], zmq::DONTWAIT).unwrap();
            book.sent(book.count());
        }
    });
    (pull, ledger)
}

type Polling = Box<dyn FnMut(&Waker)>;

thread_local! {
    static POLLED: RefCell<Option<Polling>> = const { RefCell::new(None) };
}

/// Polls the stream of this thread, in the middle of whatever woke it.
struct Polls;

impl Wake for Polls {
    fn wake(self: Arc<Self>) {
        if let Some(mut poll) = POLLED.take() {
            poll(&self.into());
            POLLED.set(Some(poll));
        }
    }
}

/// A stream that nothing polls but its own waker.
pub(super) fn polled_by_its_waker(rig: &mut Rig) {
    let (pull, ledger) = pull_and_ledger(rig);
    let shared = Rc::clone(&rig.shared);
    POLLED.set(Some(Box::new(move |waker| {
        let mut cx = Context::from_waker(waker);
        while let Poll::Ready(message) = (&*pull).poll_next_unpin(&mut cx) {
            ledger.arrived(number(&message.unwrap().unwrap()[0]));
            shared.progressed();
        }
    })));
    rig.at_end(|| drop(POLLED.take()));
    Waker::from(Arc::new(Polls)).wake();
}

/// A receive that two tasks poll in turn: the last one is woken.
pub(super) fn handed_over(rig: &mut Rig) {
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let peer = rig.raw(zmq::PUSH, |_| Ok(()));
    peer.connect(&pull.bind("inproc://pull").unwrap()).unwrap();
    let wait = Rc::new(Wait {
        pull,
        arrivals: InOrder::new(&rig.shared),
        messages: rig.messages,
        future: RefCell::default(),
        holder: Cell::new(0),
        wakers: RefCell::new([Waker::noop().clone(), Waker::noop().clone()]),
    });
    for me in 0..2 {
        let (wait, probe, dice) = (Rc::clone(&wait), rig.probe("one of two"), rig.dice.clone());
        rig.spawn(async move {
            probe.look_on(poll_fn(|cx| wait.poll(me, cx, || dice.one_in(2)))).await;
        });
    }
    let (shared, messages, mut sent) = (Rc::clone(&rig.shared), rig.messages, 0_u64);
    rig.peer(move |_| {
        if sent < messages && sent == wait.arrivals.count() {
            peer.send(&sent.to_le_bytes()[..], zmq::DONTWAIT).unwrap();
            sent += 1;
            // The message before this one has arrived.
            shared.progressed();
        }
    });
}

struct Wait {
    pull: Rc<AsyncZmqSocket<Pull>>,
    arrivals: InOrder,
    messages: u64,
    future: RefCell<Option<LocalBoxFuture<'static, Multipart>>>,
    holder: Cell<usize>,
    wakers: RefCell<[Waker; 2]>,
}

impl Wait {
    fn poll(&self, me: usize, cx: &mut Context<'_>, mut hands_over: impl FnMut() -> bool) -> Poll<()> {
        self.wakers.borrow_mut()[me] = cx.waker().clone();
        if self.arrivals.count() == self.messages {
            return Poll::Ready(());
        }
        if self.holder.get() != me {
            return Poll::Pending;
        }
        while self.arrivals.count() < self.messages {
            let future = self.future.take();
            let mut future = future.unwrap_or_else(|| {
                let pull = Rc::clone(&self.pull);
                Box::pin(async move { pull.recv().await.unwrap() })
            });
            let polled = Pin::new(&mut future).poll(cx);
            if let Poll::Ready(message) = polled {
                self.arrivals.arrived(number(&message[0]));
                continue;
            }
            self.future.replace(Some(future));
            if hands_over() {
                self.holder.set(1 - me);
                self.wake(1 - me);
            }
            return Poll::Pending;
        }
        self.wake(1 - me);
        Poll::Ready(())
    }

    fn wake(&self, other: usize) {
        let waker = self.wakers.borrow()[other].clone();
        waker.wake();
    }
}
