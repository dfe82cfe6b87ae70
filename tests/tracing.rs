//! The feature `tracing`: what is told and in which order, what is not, and that whoever listens changes nothing.

mod common;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::future::{Future, poll_fn};
use std::num::NonZeroUsize;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Dealer, Pull, Push, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket};
use common::Rig;
use common::hand::Hand;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, dispatcher};

const DEADLINE: Duration = Duration::from_secs(10);

thread_local! {
    /// The events of this thread, one line each, and what is done at each of them.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static REACTION: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
}

/// Writes down what this crate tells at this level or a graver one.
struct Listener {
    level: Option<Level>,
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "calloop_zmq" && self.level.is_some_and(|level| *metadata.level() <= level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { text: event.metadata().level().to_string(), fields: String::new() };
        event.record(&mut line);
        LINES.with_borrow_mut(|lines| lines.push(line.text + &line.fields));
        let reaction = REACTION.with_borrow(Clone::clone);
        if let Some(reaction) = reaction {
            reaction();
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Line {
    text: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => write!(self.text, " {value:?}").unwrap(),
            name => write!(self.fields, " {name}={value:?}").unwrap(),
        }
    }
}

/// What is told while `act` runs. Each socket is known by its place in the order of their making: its own number depends
/// on the other tests.
fn listen<T>(level: Option<Level>, act: impl FnOnce() -> T) -> (T, Vec<String>) {
    LINES.take();
    let result = dispatcher::with_default(&Dispatch::new(Listener { level }), act);
    let mut known: Vec<String> = Vec::new();
    let lines = LINES.take().into_iter().map(|line| {
        let words = line.split(' ').map(|word| match word.strip_prefix("socket=") {
            Some(number) => {
                let place = known.iter().position(|it| it == number).unwrap_or_else(|| {
                    known.push(number.to_owned());
                    known.len() - 1
                });
                format!("{}", place + 1)
            }
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    });
    let lines = lines.collect();
    (result, lines)
}

/// The same, all of it.
fn listen_to_all<T>(act: impl FnOnce() -> T) -> (T, Vec<String>) {
    listen(Some(Level::TRACE), act)
}

/// As above, with something done at each event.
fn react<T>(reaction: impl Fn() + 'static, act: impl FnOnce() -> T) -> (T, Vec<String>) {
    REACTION.replace(Some(Rc::new(reaction)));
    let told = listen_to_all(act);
    REACTION.take();
    told
}

/// A PULL waits, and gets what a PUSH sends it.
fn a_life() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let pull = context.socket::<Pull>().unwrap();
    pull.bind("inproc://life").unwrap();
    let push = context.socket::<Push>().unwrap();
    push.connect("inproc://life").unwrap();

    let hand = Hand::new();
    let mut waits = pull.recv();
    assert!(hand.poll(&mut waits).is_pending());
    push.try_send("secret").unwrap();
    for _ in 0..10 {
        if hand.is_woken() {
            break;
        }
        event_loop.dispatch(DEADLINE, &mut ()).unwrap();
    }
    let Poll::Ready(Ok(message)) = hand.poll(&mut waits) else { panic!("the message is there") };
    assert_eq!(message, "secret".into());
    drop(waits);
    push.disconnect("inproc://life").unwrap();
    drop(push);
    pull.unbind("inproc://life").unwrap();
    drop(pull);
}

#[test]
fn the_life_of_a_socket_is_told_in_order() {
    let ((), lines) = listen_to_all(a_life);
    assert_eq!(
        lines,
        [
            "TRACE open 1 kind=PULL",
            "TRACE bind 1 kind=PULL endpoint=\"inproc://life\"",
            "TRACE open 2 kind=PUSH",
            "TRACE connect 2 kind=PUSH endpoint=\"inproc://life\"",
            "TRACE park 1 kind=PULL direction=\"receive\"",
            "TRACE wake 1 kind=PULL direction=\"receive\"",
            "TRACE disconnect 2 kind=PUSH endpoint=\"inproc://life\"",
            "TRACE close 2 kind=PUSH",
            "TRACE unbind 1 kind=PULL endpoint=\"inproc://life\"",
            "TRACE close 1 kind=PULL",
        ]
    );
}

#[test]
fn nothing_is_told_to_who_asks_for_less() {
    for level in [None, Some(Level::ERROR), Some(Level::DEBUG)] {
        let ((), lines) = listen(level, a_life);
        assert_eq!(lines, [""; 0], "{level:?}");
    }
    assert!(!listen_to_all(a_life).1.is_empty(), "and to who does not, it is");
}

#[test]
fn the_endpoint_is_the_one_really_bound_and_a_failure_is_none() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let pull = context.socket::<Pull>().unwrap();
    let (endpoint, lines) = listen_to_all(|| {
        pull.connect("nonsense").unwrap_err();
        pull.unbind("tcp://127.0.0.1:1").unwrap_err();
        pull.bind("tcp://127.0.0.1:*").unwrap()
    });
    assert_eq!(lines, [format!("TRACE bind 1 kind=PULL endpoint={endpoint:?}")]);
}

#[test]
fn a_sender_that_waits_is_told_by_its_direction() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let push = context.socket::<Push>().unwrap();
    push.bind("inproc://late").unwrap();
    let ((), lines) = listen_to_all(|| {
        let hand = Hand::new();
        let mut waits = push.send("early");
        assert!(hand.poll(&mut waits).is_pending());
        let peer = context.zmq_context().socket(zmq::PULL).unwrap();
        peer.connect("inproc://late").unwrap();
        for _ in 0..10 {
            if hand.is_woken() {
                break;
            }
            event_loop.dispatch(DEADLINE, &mut ()).unwrap();
        }
        assert!(hand.poll(&mut waits).is_ready());
    });
    assert_eq!(lines, ["TRACE park 1 kind=PUSH direction=\"send\"", "TRACE wake 1 kind=PUSH direction=\"send\""]);
}

#[test]
fn a_task_that_used_its_budget_up_yields() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (pull, push) = (context.socket::<Pull>().unwrap(), context.socket::<Push>().unwrap());
    pull.bind("inproc://much").unwrap();
    push.connect("inproc://much").unwrap();
    pull.set_budget(NonZeroUsize::MIN);
    for _ in 0..2 {
        push.try_send("x").unwrap();
    }
    let ((), lines) = listen_to_all(|| {
        let hand = Hand::new();
        assert!(hand.poll(&mut pull.recv()).is_ready());
        let mut second = pull.recv();
        assert!(hand.poll(&mut second).is_pending());
        event_loop.dispatch(DEADLINE, &mut ()).unwrap();
        assert!(hand.poll(&mut second).is_ready());
    });
    assert_eq!(
        lines,
        ["TRACE yield 1 kind=PULL direction=\"receive\"", "TRACE wake 1 kind=PULL direction=\"receive\""]
    );
}

#[test]
fn a_guest_is_released_and_not_closed() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let guest = zmq::Context::new().socket(zmq::DEALER).unwrap();
    let (guest, lines) = listen_to_all(|| context.adopt::<Dealer>(guest).unwrap().into_inner());
    assert_eq!(lines, ["TRACE adopt 1 kind=DEALER", "TRACE release 1 kind=DEALER"]);
    let (refused, lines) = listen_to_all(|| context.adopt::<Pull>(guest));
    refused.unwrap_err();
    assert_eq!(lines, [""; 0], "it was never in the loop");
}

#[test]
fn an_end_that_takes_long_is_a_warning() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let held = context.socket::<Pull>().unwrap();
    let clock = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (ended, lines) = listen(Some(Level::WARN), || {
        let warned = async {
            let mut ends = pin!(context.terminate());
            // Polled as it asks to be, until the warning is there: then what it waits for is let go.
            poll_fn(|cx| match ends.as_mut().poll(cx) {
                Poll::Pending if LINES.with_borrow(Vec::is_empty) => Poll::Pending,
                Poll::Pending => Poll::Ready(()),
                Poll::Ready(_) => panic!("a socket is open"),
            })
            .await;
            drop(held);
            ends.await
        };
        event_loop.block_on(clock.timeout(DEADLINE, warned), &mut (), |()| {}).unwrap()
    });
    ended.unwrap().unwrap().unwrap();
    assert_eq!(lines, ["WARN the ZeroMQ context does not end yet open_sockets=1"]);
}

#[test]
fn a_listener_that_panics_changes_nothing() {
    let panics = Rc::new(RefCell::new(0));
    let count = Rc::clone(&panics);
    let reaction = move || {
        *count.borrow_mut() += 1;
        std::panic::resume_unwind(Box::new("as the test wants it"));
    };
    let ((), lines) = react(reaction, || {
        a_life();
        // In a drop while another panic unwinds, a second one would abort the process.
        let unwound = std::panic::catch_unwind(|| {
            let event_loop = EventLoop::<()>::try_new().unwrap();
            let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
            let _pull = context.socket::<Pull>().unwrap();
            std::panic::resume_unwind(Box::new("as the test wants it, too"));
        });
        assert!(unwound.is_err());
    });
    assert_eq!(*panics.borrow(), lines.len());
    assert_eq!(lines.last().unwrap(), "TRACE close 3 kind=PULL");
}

/// The worst that a listener can do to who is about to sleep: make its socket ready, and swallow the announcement.
#[test]
fn what_a_listener_swallows_is_looked_after() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (pull, push) = (Rc::new(context.socket::<Pull>().unwrap()), context.socket::<Push>().unwrap());
    pull.bind("inproc://swallowed").unwrap();
    push.connect("inproc://swallowed").unwrap();
    let swallows = Rc::clone(&pull);
    let reaction = move || {
        REACTION.take();
        push.try_send("now").unwrap();
        assert!(swallows.with_ref(zmq::Socket::get_events).unwrap().contains(zmq::POLLIN));
    };
    let (hand, mut waits) = (Hand::new(), pull.recv());
    let (polled, lines) = react(reaction, || hand.poll(&mut waits));
    assert!(polled.is_pending());
    assert_eq!(lines[0], "TRACE park 1 kind=PULL direction=\"receive\"");
    event_loop.dispatch(Duration::from_millis(100), &mut ()).unwrap();
    assert!(hand.is_woken(), "it sleeps beside its message");
    assert!(hand.poll(&mut waits).is_ready());

    // And the same to who waits to send.
    let push = Rc::new(context.socket::<Push>().unwrap());
    push.bind("inproc://swallowed too").unwrap();
    let peer = Rc::new(context.zmq_context().socket(zmq::PULL).unwrap());
    let (swallows, comes) = (Rc::clone(&push), Rc::clone(&peer));
    let reaction = move || {
        REACTION.take();
        comes.connect("inproc://swallowed too").unwrap();
        assert!(swallows.with_ref(zmq::Socket::get_events).unwrap().contains(zmq::POLLOUT));
    };
    let (hand, mut waits) = (Hand::new(), push.send("now"));
    let (polled, lines) = react(reaction, || hand.poll(&mut waits));
    assert!(polled.is_pending());
    assert_eq!(lines[0], "TRACE park 1 kind=PUSH direction=\"send\"");
    event_loop.dispatch(Duration::from_millis(100), &mut ()).unwrap();
    assert!(hand.is_woken(), "it sleeps though there is room");
    assert!(hand.poll(&mut waits).is_ready());
}

/// Short queues, and one task for each direction of each socket: whoever swallows what another waits for is found out.
/// The listener does so at each event. What it does must come to its end each time: nothing was borrowed.
#[test]
fn a_listener_that_comes_back_in_harms_nobody() {
    const MESSAGES: u64 = 2_000;
    let mut rig = Rig::new();
    let short = |socket: &zmq::Socket| socket.set_sndhwm(2).and_then(|()| socket.set_rcvhwm(2));
    let router =
        rig.socket::<Router>("router", |socket| short(socket).and_then(|()| socket.set_router_mandatory(true)));
    let dealer = rig.socket::<Dealer>("dealer", |socket| short(socket).and_then(|()| socket.set_identity(b"d")));
    // A turn that is over would make them yield, not park.
    router.set_budget(NonZeroUsize::MAX);
    dealer.set_budget(NonZeroUsize::MAX);
    router.bind("inproc://meddled").unwrap();
    dealer.connect("inproc://meddled").unwrap();

    let (begun, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (first, last) = (Arc::clone(&begun), Arc::clone(&done));
    let (meddled, other) = (Rc::clone(&router), Rc::clone(&dealer));
    let context = rig.context.clone();
    let reaction = move || {
        // Its own events are not to bring it back in without end.
        let this = REACTION.take();
        first.fetch_add(1, Ordering::Relaxed);
        meddle(&meddled);
        meddle(&other);
        assert!(context.socket::<Pull>().unwrap().try_recv().unwrap().is_none());
        last.fetch_add(1, Ordering::Relaxed);
        REACTION.replace(this);
    };

    let received = Rc::new(RefCell::new([0; 2]));
    let ((), lines) = react(reaction, || {
        let sender = Rc::clone(&router);
        rig.spawn(async move {
            for number in 0..MESSAGES {
                sender.send(["d", &number.to_string()]).await.unwrap();
            }
        });
        let sender = Rc::clone(&dealer);
        rig.spawn(async move {
            for number in 0..MESSAGES {
                sender.send(number.to_string()).await.unwrap();
            }
        });
        for (side, probe) in ["at the dealer", "at the router"].map(|name| rig.probe(name)).into_iter().enumerate() {
            let (router, dealer, received) = (Rc::clone(&router), Rc::clone(&dealer), Rc::clone(&received));
            rig.spawn(async move {
                for number in 0..MESSAGES {
                    let message =
                        if side == 0 { probe.wait(dealer.recv()).await } else { probe.wait(router.recv()).await };
                    assert_eq!(message.unwrap().last().unwrap().as_str(), Some(&*number.to_string()));
                    received.borrow_mut()[side] += 1;
                }
            });
        }
        rig.run();
    });
    assert_eq!(*received.borrow(), [MESSAGES; 2]);
    assert_eq!(begun.load(Ordering::Relaxed), done.load(Ordering::Relaxed), "something was borrowed");
    for expected in ["park 1", "park 2", "wake 1", "wake 2"] {
        assert!(lines.iter().any(|line| line.contains(expected)), "no {expected}");
    }
    assert!(done.load(Ordering::Relaxed) > 100, "the listener came in");
}

/// Reads `ZMQ_EVENTS`, which swallows whatever was announced, and looks at the socket in other ways.
fn meddle<K: calloop_zmq::kind::Kind>(socket: &AsyncZmqSocket<K>) {
    socket.with_ref(zmq::Socket::get_events).unwrap();
    socket.last_endpoint().unwrap();
}
