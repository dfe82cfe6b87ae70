//! Wakers that no executor would make: they run code, panic, come back in, and are counted.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Dealer, Pair, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use futures::{FutureExt, Sink, SinkExt, StreamExt};

use support::{Wakes, has_room, now, poll_once, poll_with, run, turn_until};

fn fixture() -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (event_loop, context)
}

fn endpoint() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("inproc://wakers-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

/// A socket with room for one message in each direction, and its peer, which no loop knows.
fn pair(context: &AsyncZmqContext) -> (AsyncZmqSocket<Pair>, zmq::Socket) {
    let (socket, peer) = (context.socket::<Pair>().unwrap(), context.zmq_context().socket(zmq::PAIR).unwrap());
    // A turn that is over would wake, too.
    socket.set_budget(NonZeroUsize::MAX);
    for bare in [socket.get_ref(), &peer] {
        bare.set_sndhwm(1).unwrap();
        bare.set_rcvhwm(1).unwrap();
    }
    peer.set_rcvtimeo(0).unwrap();
    // It learns of room in time, not before.
    peer.set_sndtimeo(10_000).unwrap();
    peer.set_linger(0).unwrap();
    let endpoint = endpoint();
    socket.bind(&endpoint).unwrap();
    peer.connect(&endpoint).unwrap();
    // Both know of each other.
    peer.send("hello", 0).unwrap();
    assert_eq!(socket.try_recv().unwrap(), Some("hello".into()));
    (socket, peer)
}

/// Sends until there is no room.
fn fill(socket: &AsyncZmqSocket<Pair>) {
    while has_room(socket.try_send("fill")) {}
}

fn drain(peer: &zmq::Socket) -> usize {
    std::iter::from_fn(|| peer.recv_bytes(0).ok()).count()
}

fn turns(event_loop: &mut EventLoop<'static, ()>) {
    for _ in 0..3 {
        event_loop.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
    }
}

/// A waker that does something when it is woken.
struct Does {
    wakes: Cell<usize>,
    what: Box<dyn Fn()>,
}

// SAFETY: it is woken and dropped on the thread of its test; nothing here hands it to another.
unsafe impl Send for Does {}
// SAFETY: as above.
unsafe impl Sync for Does {}

impl Wake for Does {
    fn wake(self: Arc<Self>) {
        self.wakes.set(self.wakes.get() + 1);
        (self.what)();
    }
}

fn does(what: impl Fn() + 'static) -> Arc<Does> {
    #[allow(clippy::arc_with_non_send_sync, reason = "a waker is an Arc")]
    Arc::new(Does { wakes: Cell::new(0), what: Box::new(what) })
}

fn poll_as<F: Future + Unpin>(future: &mut F, waker: &Arc<Does>) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(waker))))
}

#[test]
fn a_replaced_waker_of_the_stream_is_woken() {
    let (mut event_loop, context) = fixture();
    let (socket, peer) = pair(&context);
    let (first, second) = (Wakes::new(), Wakes::new());
    assert!(poll_with(&mut (&socket).next(), &first).is_pending());
    // The same one again is no replacement.
    for _ in 0..3 {
        assert!(poll_with(&mut (&socket).next(), &first).is_pending());
    }
    turns(&mut event_loop);
    assert_eq!(first.count(), 0);

    assert!(poll_with(&mut (&socket).next(), &second).is_pending());
    assert_eq!((first.count(), second.count()), (1, 0));
    assert_eq!(Arc::strong_count(&first), 1, "the replaced waker is kept");
    peer.send("message", 0).unwrap();
    turn_until(&mut event_loop, &mut (), |()| second.count() > 0);
    assert_eq!((first.count(), second.count()), (1, 1));
    assert!(poll_with(&mut (&socket).next(), &second).is_ready());
}

#[test]
fn a_replaced_waker_of_the_sink_is_woken() {
    let (mut event_loop, context) = fixture();
    let (socket, peer) = pair(&context);
    fill(&socket);
    now((&socket).feed("held".into())).unwrap();
    let (first, second) = (Wakes::new(), Wakes::new());
    assert!(poll_with(&mut (&socket).flush(), &first).is_pending());
    assert!(poll_with(&mut (&socket).flush(), &second).is_pending());
    assert_eq!((first.count(), second.count()), (1, 0));
    assert_eq!(Arc::strong_count(&first), 1);
    assert!(drain(&peer) > 0);
    turn_until(&mut event_loop, &mut (), |()| second.count() > 0);
    assert!(poll_with(&mut (&socket).flush(), &second).is_ready());
    assert_eq!(first.count(), 1);
}

#[test]
fn wakers_are_given_back_when_the_wait_is_over() {
    let (mut event_loop, context) = fixture();
    let (mut socket, peer) = pair(&context);
    let wakes = Wakes::new();
    let kept = || Arc::strong_count(&wakes) - 1;

    // Ready, for a future that is not dropped yet.
    let mut reader = socket.recv();
    assert!(poll_with(&mut reader, &wakes).is_pending());
    assert_eq!(kept(), 1);
    peer.send("message", 0).unwrap();
    turn_until(&mut event_loop, &mut (), |()| wakes.count() == 1);
    assert_eq!(kept(), 0, "woken");
    assert!(poll_with(&mut reader, &wakes).is_ready());
    assert_eq!(kept(), 0, "ready");
    drop(reader);

    // Polled many times, then dropped.
    let mut readers = [socket.recv(), socket.recv(), socket.recv()];
    for _ in 0..4 {
        assert!(readers.iter_mut().all(|reader| poll_with(reader, &wakes).is_pending()));
    }
    assert_eq!(kept(), 3);
    drop(readers);
    assert_eq!(kept(), 0, "dropped");

    // Ready before it was woken.
    let mut reader = socket.recv();
    assert!(poll_with(&mut reader, &wakes).is_pending());
    peer.send("message", 0).unwrap();
    assert!(poll_with(&mut reader, &wakes).is_ready());
    assert_eq!(kept(), 0, "ready without a wake");
    drop(reader);

    // Writers.
    fill(&socket);
    let mut writer = socket.send("more");
    assert!(poll_with(&mut writer, &wakes).is_pending());
    let mut other = socket.writable();
    assert!(poll_with(&mut other, &wakes).is_pending());
    assert_eq!(kept(), 2);
    drop(writer);
    drop(other);
    assert_eq!(kept(), 0, "writers dropped");

    // The slot of the stream outlives the future that used it, but not a wake, nor the socket.
    let before = wakes.count();
    assert!(poll_with(&mut socket.next(), &wakes).is_pending());
    assert_eq!(kept(), 1);
    peer.send("message", 0).unwrap();
    turn_until(&mut event_loop, &mut (), |()| wakes.count() > before);
    assert!(poll_with(&mut socket.next(), &wakes).is_ready());
    assert_eq!(kept(), 0, "an item of the stream");
    assert!(poll_with(&mut socket.next(), &wakes).is_pending());
    now(socket.feed("held".into())).unwrap();
    assert!(poll_with(&mut socket.flush(), &wakes).is_pending());
    assert_eq!(kept(), 2);
    drop(socket.into_inner());
    assert_eq!(kept(), 0, "the socket left the loop");

    let (mut socket, _peer) = pair(&context);
    assert!(poll_with(&mut socket.next(), &wakes).is_pending());
    drop(socket);
    assert_eq!(kept(), 0, "the socket was dropped");

    let mut sleep = context.sleep(Duration::from_secs(3600));
    assert!(poll_with(&mut sleep, &wakes).is_pending());
    assert_eq!(kept(), 1);
    drop(sleep);
    assert_eq!(kept(), 0, "a sleep was dropped");
    turns(&mut event_loop);
}

/// What a waker might find when it comes back in.
#[derive(Default)]
struct Shared {
    context: RefCell<Option<AsyncZmqContext>>,
    socket: RefCell<Option<Rc<AsyncZmqSocket<Pair>>>>,
    futures: RefCell<Vec<Pin<Box<dyn Future<Output = ()>>>>>,
}

impl Shared {
    fn socket(&self) -> Option<Rc<AsyncZmqSocket<Pair>>> {
        self.socket.borrow().clone()
    }

    /// A recv that owns what it borrows, so that the waker can drop it.
    fn push_reader(&self, waker: &Arc<Does>) {
        let socket = self.socket().unwrap();
        let reader = async move { drop(socket.recv().await) };
        self.push(Box::pin(reader), waker);
    }

    fn push_writer(&self, waker: &Arc<Does>) {
        let socket = self.socket().unwrap();
        let writer = async move { drop(socket.send("waits").await) };
        self.push(Box::pin(writer), waker);
    }

    fn push(&self, mut future: Pin<Box<dyn Future<Output = ()>>>, waker: &Arc<Does>) {
        assert!(poll_as(&mut future, waker).is_pending());
        self.futures.borrow_mut().push(future);
    }
}

type Action = (&'static str, fn(&Shared));

const ACTIONS: [Action; 9] = [
    ("poll the stream", |shared| {
        if let Some(socket) = shared.socket() {
            let _ = (&*socket).poll_next_unpin(&mut Context::from_waker(Waker::noop()));
        }
    }),
    ("poll a recv", |shared| {
        if let Some(socket) = shared.socket() {
            let _ = poll_once(&mut socket.recv());
        }
    }),
    ("poll the futures", |shared| {
        let futures = shared.futures.take();
        for mut future in futures {
            let _ = poll_once(&mut future);
        }
    }),
    ("send", |shared| {
        if let Some(socket) = shared.socket() {
            let _ = socket.try_send("from the waker");
            let _ = poll_once(&mut socket.send("from the waker"));
        }
    }),
    ("use the sink", |shared| {
        if let Some(socket) = shared.socket() {
            let mut cx = Context::from_waker(Waker::noop());
            let mut sink = &*socket;
            if let Poll::Ready(Ok(())) = Pin::new(&mut sink).poll_ready(&mut cx) {
                let _ = Pin::new(&mut sink).start_send("from the waker".into());
            }
            let _ = Pin::new(&mut sink).poll_flush(&mut cx);
        }
    }),
    ("call the bare socket", |shared| {
        if let Some(socket) = shared.socket() {
            let _ = socket.get_ref().get_events();
            let _ = socket.connect("inproc://nobody");
        }
    }),
    ("make sockets and sleeps", |shared| {
        if let Some(context) = &*shared.context.borrow() {
            drop(context.socket::<Pair>());
            let _ = poll_once(&mut context.sleep(Duration::from_millis(1)));
        }
    }),
    ("drop the futures", |shared| drop(shared.futures.take())),
    ("drop everything", |shared| {
        drop(shared.futures.take());
        drop(shared.socket.take());
        drop(shared.context.take());
    }),
];

type Site = (&'static str, fn(&mut EventLoop<'static, ()>, &Shared, &zmq::Socket, &Arc<Does>));

fn poll_stream(shared: &Shared, waker: &Arc<Does>) {
    let socket = shared.socket().unwrap();
    let waker = Waker::from(Arc::clone(waker));
    assert!((&*socket).poll_next_unpin(&mut Context::from_waker(&waker)).is_pending());
}

/// Each way to be woken that there is.
const SITES: [Site; 10] = [
    ("an event, to the slot", |event_loop, shared, peer, waker| {
        poll_stream(shared, waker);
        peer.send("message", 0).unwrap();
        turns(event_loop);
    }),
    ("an event, to the line", |event_loop, shared, peer, waker| {
        shared.push_reader(waker);
        shared.push_reader(waker);
        peer.send("message", 0).unwrap();
        turns(event_loop);
    }),
    ("an event, to writers", |event_loop, shared, peer, waker| {
        fill(&shared.socket().unwrap());
        shared.push_writer(waker);
        shared.push_writer(waker);
        assert!(drain(peer) > 0);
        turns(event_loop);
    }),
    ("a look before the loop sleeps", |event_loop, shared, peer, waker| {
        poll_stream(shared, waker);
        shared.push_reader(waker);
        peer.send("message", 0).unwrap();
        // Swallows the announcement.
        shared.socket().unwrap().get_ref().get_events().unwrap();
        turns(event_loop);
    }),
    ("a budget that is used up", |event_loop, shared, peer, waker| {
        let socket = shared.socket().unwrap();
        socket.set_budget(NonZeroUsize::MIN);
        turns(event_loop);
        peer.send("first", 0).unwrap();
        let Some(Some(Ok(_))) = (&*socket).next().now_or_never() else { panic!("it is there") };
        drop(socket);
        peer.send("second", 0).unwrap();
        poll_stream(shared, waker);
        turns(event_loop);
    }),
    ("the next in the line", |event_loop, shared, peer, waker| {
        let socket = shared.socket().unwrap();
        let (mut first, wakes) = (socket.recv(), Wakes::new());
        assert!(poll_with(&mut first, &wakes).is_pending());
        shared.push_reader(waker);
        peer.send("message", 0).unwrap();
        turn_until(event_loop, &mut (), |()| wakes.count() == 1);
        assert_eq!(waker.wakes.get(), 0);
        drop(first);
        drop(socket);
        turns(event_loop);
    }),
    ("a replaced waker", |event_loop, shared, _, waker| {
        poll_stream(shared, waker);
        poll_stream(shared, &does(|| ()));
        turns(event_loop);
    }),
    ("a send that finds a message", |event_loop, shared, peer, waker| {
        let socket = shared.socket().unwrap();
        fill(&socket);
        poll_stream(shared, waker);
        shared.push_reader(waker);
        peer.send("message", 0).unwrap();
        assert!(socket.try_send(["no", "room"]).is_err_and(|error| error.is_full()));
        drop(socket);
        turns(event_loop);
    }),
    ("a receive that finds room", |event_loop, shared, peer, waker| {
        let socket = shared.socket().unwrap();
        fill(&socket);
        shared.push_writer(waker);
        assert!(drain(peer) > 0);
        let received = socket.try_recv().unwrap();
        assert_eq!(received, None);
        drop(socket);
        turns(event_loop);
    }),
    ("the end of the loop", |event_loop, shared, _, waker| {
        fill(&shared.socket().unwrap());
        poll_stream(shared, waker);
        shared.push_reader(waker);
        shared.push_reader(waker);
        shared.push_writer(waker);
        drop(std::mem::replace(event_loop, EventLoop::try_new().unwrap()));
    }),
];

#[test]
fn a_waker_may_come_back_in() {
    for (site, wake) in SITES {
        for (action, act) in ACTIONS {
            println!("{site}: {action}");
            let (mut event_loop, context) = fixture();
            let (socket, peer) = pair(&context);
            let shared = Rc::new(Shared::default());
            shared.socket.replace(Some(Rc::new(socket)));
            shared.context.replace(Some(context));
            let seen = Rc::clone(&shared);
            let waker = does(move || act(&seen));
            wake(&mut event_loop, &shared, &peer, &waker);
            assert!(waker.wakes.get() > 0, "{site}: {action}: not woken");
            // Whatever is left goes on, or ends.
            turns(&mut event_loop);
            drop(shared.futures.take());
            if let Some(socket) = shared.socket.take() {
                while let Ok(Some(_)) = socket.try_recv() {}
                drain(&peer);
                let mut last = socket.recv();
                if let Poll::Ready(Ok(_)) = poll_once(&mut last) {
                    panic!("it was drained");
                }
                drop(last);
                if peer.send("still alive", 0).is_ok()
                    && shared.context.borrow().is_some()
                    && site != "the end of the loop"
                {
                    assert_eq!(run(&mut event_loop, socket.recv()).unwrap(), "still alive".into());
                }
            }
            assert!(Arc::strong_count(&waker) == 1, "{site}: {action}: the waker is kept");
            drop(shared.context.take());
        }
    }
}

#[test]
fn a_panicking_waker_harms_no_one() {
    let (mut event_loop, context) = fixture();
    let panics = does(|| panic!("a waker that panics, as it should here"));

    // In one batch: two sockets, and the one behind it in the slot of the same socket.
    let (left, left_peer) = pair(&context);
    let (right, right_peer) = pair(&context);
    let wakes = Wakes::new();
    let mut readers = [left.recv(), right.recv()];
    assert!(readers.iter_mut().all(|reader| poll_as(reader, &panics).is_pending()));
    assert!(poll_with(&mut (&left).next(), &wakes).is_pending());
    assert!(poll_with(&mut (&right).next(), &wakes).is_pending());
    left_peer.send("message", 0).unwrap();
    right_peer.send("message", 0).unwrap();
    turns(&mut event_loop);
    assert_eq!((panics.wakes.get(), wakes.count()), (2, 2));
    assert!(readers.iter_mut().all(|reader| poll_once(reader).is_ready()));

    // Among several deadlines of one turn.
    let mut sleeps: Vec<_> = (0..3).map(|_| context.sleep(Duration::from_millis(1))).collect();
    assert!(poll_as(&mut sleeps[0], &panics).is_pending());
    assert!(poll_with(&mut sleeps[1], &wakes).is_pending() && poll_with(&mut sleeps[2], &wakes).is_pending());
    turn_until(&mut event_loop, &mut (), |()| wakes.count() == 4);
    assert_eq!(panics.wakes.get(), 3);
    run(&mut event_loop, context.sleep(Duration::from_millis(1)));

    // Writers of a ROUTER, who are all called at once.
    let (router, dealer) = (context.socket::<Router>().unwrap(), context.socket::<Dealer>().unwrap());
    router.get_ref().set_router_mandatory(true).unwrap();
    router.get_ref().set_sndhwm(1).unwrap();
    dealer.get_ref().set_rcvhwm(1).unwrap();
    dealer.get_ref().set_identity(b"peer").unwrap();
    // Moved: nothing is lent out any more.
    let (router, dealer) = (Rc::new(router), Rc::new(dealer));
    let endpoint = endpoint();
    router.bind(&endpoint).unwrap();
    dealer.connect(&endpoint).unwrap();
    run(&mut event_loop, async {
        dealer.send("hello").await.unwrap();
        router.recv().await.unwrap();
    });
    let message = || Multipart::from(["peer", "fill"]);
    while has_room(router.try_send(message())) {}
    let mut writers = [router.send(message()), router.send(message()), router.send(message())];
    assert!(poll_with(&mut writers[0], &wakes).is_pending());
    assert!(poll_as(&mut writers[1], &panics).is_pending());
    assert!(poll_with(&mut writers[2], &wakes).is_pending());
    let before = (panics.wakes.get(), wakes.count());
    while dealer.try_recv().unwrap().is_some() {}
    turn_until(&mut event_loop, &mut (), |()| wakes.count() >= before.1 + 2);
    assert!(panics.wakes.get() > before.0);

    // At the end of the loop: sleepers and readers.
    let mut reader = right.recv();
    let mut sleeps = [context.sleep(Duration::from_secs(60)), context.sleep(Duration::from_secs(61))];
    assert!(poll_as(&mut reader, &panics).is_pending() && poll_as(&mut sleeps[0], &panics).is_pending());
    let wakes = Wakes::new();
    let mut other = left.recv();
    assert!(poll_with(&mut other, &wakes).is_pending() && poll_with(&mut sleeps[1], &wakes).is_pending());
    drop(event_loop);
    assert_eq!(wakes.count(), 2);
}

/// Woken for nothing, again and again: nothing is lost and nobody is entered twice.
#[test]
fn spurious_polls_change_nothing() {
    let (mut event_loop, context) = fixture();
    let (socket, peer) = pair(&context);
    let mut readers: Vec<_> = (0..3).map(|_| (socket.recv(), Wakes::new())).collect();
    for round in 0..10 {
        for (reader, wakes) in &mut readers {
            assert!(poll_with(reader, wakes).is_pending());
            assert_eq!(Arc::strong_count(wakes), 2);
        }
        if round % 3 == 0 {
            turns(&mut event_loop);
        }
    }
    assert!(readers.iter().all(|(_, wakes)| wakes.count() == 0));
    // One message, one of them, the first.
    peer.send("message", 0).unwrap();
    turn_until(&mut event_loop, &mut (), |()| readers.iter().any(|(_, wakes)| wakes.count() > 0));
    turns(&mut event_loop);
    let counts: Vec<_> = readers.iter().map(|(_, wakes)| wakes.count()).collect();
    assert_eq!(counts, [1, 0, 0]);
    // The others do not overtake it, even if they try.
    assert!(poll_once(&mut readers[2].0).is_pending() && poll_once(&mut readers[1].0).is_pending());
    assert!(poll_once(&mut socket.recv()).is_pending());
    assert!(poll_once(&mut readers[0].0).is_ready());
}

/// The options of a ROUTER are set through `get_ref`, and the address of the socket is the same ever after.
#[test]
fn a_router_whose_bare_socket_was_lent_still_wakes_its_writers() {
    let (mut event_loop, context) = fixture();
    let (router, dealer) = (context.socket::<Router>().unwrap(), context.socket::<Dealer>().unwrap());
    dealer.get_ref().set_identity(b"peer").unwrap();
    dealer.get_ref().set_rcvhwm(1).unwrap();
    router.get_ref().set_sndhwm(1).unwrap();
    router.get_ref().set_router_mandatory(true).unwrap();
    let endpoint = endpoint();
    router.bind(&endpoint).unwrap();
    dealer.connect(&endpoint).unwrap();
    dealer.try_send("hello").unwrap();
    assert_eq!(run(&mut event_loop, router.recv()).unwrap(), ["peer", "hello"].into());
    while has_room(router.try_send(["peer", "fill"])) {}
    let (mut writer, wakes) = (router.send(["peer", "waits"]), Wakes::new());
    assert!(poll_with(&mut writer, &wakes).is_pending());
    while dealer.try_recv().unwrap().is_some() {}
    turn_until(&mut event_loop, &mut (), |()| wakes.count() > 0);
    assert!(poll_with(&mut writer, &wakes).is_ready());
}

/// The last waker of a task may own it, and with it another wait on the same socket.
#[test]
fn dropping_a_waker_may_drop_another_wait() {
    let (mut event_loop, context) = fixture();
    let (socket, peer) = pair(&context);
    let shared = Rc::new(Shared::default());
    shared.socket.replace(Some(Rc::new(socket)));
    // A waker that owns a reader, which nobody else knows.
    let owner = || {
        let (owned, idle) = (Rc::new(Shared::default()), does(|| ()));
        owned.socket.replace(shared.socket());
        owned.push_reader(&idle);
        does(move || drop(owned.futures.take()))
    };
    let socket = shared.socket().unwrap();

    // Its wait is given up.
    let mut reader = socket.recv();
    assert!(poll_as(&mut reader, &owner()).is_pending());
    drop(reader);

    // Its wait goes on in another task.
    let mut reader = socket.recv();
    assert!(poll_as(&mut reader, &owner()).is_pending());
    assert!(poll_once(&mut reader).is_pending());
    drop(reader);

    // It is woken, in a line and in the slot.
    let mut reader = socket.recv();
    assert!(poll_as(&mut reader, &owner()).is_pending());
    assert!(poll_as(&mut (&*socket).next(), &owner()).is_pending());
    peer.send("message", 0).unwrap();
    turns(&mut event_loop);
    // The turn is that of the reader which the waker owns. With the waker, it goes, and passes its turn on.
    assert!(poll_once(&mut reader).is_pending());
    assert!(poll_once(&mut reader).is_ready());
}
