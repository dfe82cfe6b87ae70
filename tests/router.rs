//! Senders that wait for their peers: ROUTER with `ROUTER_MANDATORY`, XPUB and PUB with `XPUB_NODROP`.

mod support;

use std::cell::Cell;
use std::env;
use std::future::Future;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Any, Dealer, Router, Sub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error};
use futures::future::select;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, SinkExt, StreamExt};
use support::has_room;

/// Runs the test in a loop of its own, counting turns; 30 seconds are a failure.
fn run<F: Future<Output = ()>>(test: impl FnOnce(AsyncZmqContext, Rc<Cell<u64>>) -> F) {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let turns = Rc::new(Cell::new(0));
    let counter = Rc::clone(&turns);
    let test = context.timeout(Duration::from_secs(30), test(context.clone(), turns));
    let done = event_loop.block_on(test, &mut (), |()| counter.set(counter.get() + 1)).unwrap();
    done.expect("nobody stops the loop").expect("it takes less than 30 seconds");
}

/// A mandatory ROUTER with room for one message per peer.
fn router(context: &AsyncZmqContext, endpoint: &str) -> AsyncZmqSocket<Router> {
    let router = context.socket::<Router>().unwrap();
    router.get_ref().set_router_mandatory(true).unwrap();
    router.get_ref().set_sndhwm(1).unwrap();
    router.bind(endpoint).unwrap();
    router
}

/// A peer of that name, known to the router.
async fn dealer(
    context: &AsyncZmqContext,
    router: &AsyncZmqSocket<Router>,
    endpoint: &str,
    name: &str,
) -> AsyncZmqSocket<Dealer> {
    let dealer = context.socket::<Dealer>().unwrap();
    dealer.get_ref().set_identity(name.as_bytes()).unwrap();
    dealer.get_ref().set_rcvhwm(1).unwrap();
    dealer.connect(endpoint).unwrap();
    dealer.send("hello").await.unwrap();
    assert_eq!(router.recv().await.unwrap(), [name, "hello"].into());
    dealer
}

/// Sends to that peer until it is full, and answers how many messages that took.
fn fill(router: &AsyncZmqSocket<Router>, name: &str) -> usize {
    (0..100).find(|number| !has_room(router.try_send([name, "fill", &number.to_string()]))).expect("it fills up")
}

fn is_unreachable(error: &Error) -> bool {
    matches!(error, Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. })
}

#[test]
fn an_unknown_peer_is_answered_at_once_and_no_frame_goes_astray() {
    run(|context, _| async move {
        let endpoint = "inproc://unknown";
        let router = router(&context, endpoint);
        // So that "at once" is not put off to the next turn.
        router.set_budget(NonZeroUsize::MAX);
        let peer = dealer(&context, &router, endpoint, "known").await;
        for _ in 0..100 {
            let refused = router.send(["nobody", "one", "two"]).now_or_never().expect("at once").unwrap_err();
            assert!(is_unreachable(&refused.error), "{refused:?}");
            assert_eq!(refused.into_message(), ["nobody", "one", "two"].into());
            router.send(["known", "next"]).await.unwrap();
            assert_eq!(peer.recv().await.unwrap(), "next".into());
        }
        assert!(peer.try_recv().unwrap().is_none());
    });
}

#[test]
fn a_full_peer_parks_its_sender_alone() {
    run(|context, turns| async move {
        let endpoint = "inproc://full";
        let router = router(&context, endpoint);
        let (slow, quick) =
            (dealer(&context, &router, endpoint, "slow").await, dealer(&context, &router, endpoint, "quick").await);
        let filled = fill(&router, "slow");

        let mut parked = router.send(["slow", "parked", "whole"]);
        assert!((&mut parked).now_or_never().is_none());
        for number in 0..100 {
            router.send(["quick".to_owned(), number.to_string()]).await.unwrap();
            assert_eq!(quick.recv().await.unwrap(), number.to_string().into());
        }
        assert!((&mut parked).now_or_never().is_none(), "the other peer's room is not ours");

        // What is still to be settled after the traffic takes a few turns; then there are none but the timer's.
        context.sleep(Duration::from_millis(50)).await;
        let before = turns.get();
        context.sleep(Duration::from_millis(300)).await;
        let idle = turns.get() - before;
        assert!(idle <= 3, "{idle} turns while parked");

        let drain = async {
            for _ in 0..filled {
                slow.recv().await.unwrap();
            }
            slow.recv().await.unwrap()
        };
        let (sent, last) = futures::join!(parked, drain);
        sent.unwrap();
        assert_eq!(last, ["parked", "whole"].into());
    });
}

#[test]
fn what_the_sink_holds_for_a_full_peer_holds_up_nobody_else() {
    run(|context, _| async move {
        let endpoint = "inproc://held";
        let router = router(&context, endpoint);
        let (slow, quick) =
            (dealer(&context, &router, endpoint, "slow").await, dealer(&context, &router, endpoint, "quick").await);
        let filled = fill(&router, "slow");
        let mut sink = &router;
        sink.feed(["slow", "held"].into()).await.unwrap();
        router.try_send(["quick", "tried"]).unwrap();
        assert_eq!(quick.recv().await.unwrap(), "tried".into());
        router.send(["quick", "sent"]).await.unwrap();
        assert_eq!(quick.recv().await.unwrap(), "sent".into());

        let drain = async {
            for _ in 0..filled {
                slow.recv().await.unwrap();
            }
            slow.recv().await.unwrap()
        };
        let (flushed, last) = futures::join!(sink.flush(), drain);
        flushed.unwrap();
        assert_eq!(last, "held".into());
    });
}

#[test]
fn a_sender_parked_on_a_full_peer_ends_when_the_peer_goes() {
    for endpoint in ["inproc://goes", "tcp://127.0.0.1:*"] {
        run(|context, _| async move {
            let router = router(&context, endpoint);
            let endpoint = router.last_endpoint().unwrap();
            let peer = dealer(&context, &router, &endpoint, "slow").await;
            // tcp has room in the kernel too, for what is small.
            let block = vec![0; 1 << 20];
            let full = || !has_room(router.try_send([b"slow".to_vec(), block.clone()]));
            // Full is full when it stays so.
            while !(full() && context.timeout(Duration::from_millis(50), router.send(["slow", ""])).await.is_err()) {}
            let gone = async {
                context.sleep(Duration::from_millis(20)).await;
                drop(peer);
            };
            let parked = async {
                // A tcp connection may take one more message to its grave before libzmq knows.
                loop {
                    if let Err(refused) = router.send(["slow", "parked"]).await {
                        return refused;
                    }
                }
            };
            let (refused, ()) = futures::join!(parked, gone);
            assert!(is_unreachable(&refused.error), "{refused:?}");
            assert_eq!(refused.into_message(), ["slow", "parked"].into());
        });
    }
}

/// libzmq 4.3.4 keeps a connection until it has read on to the end of it, and reads no further than to a message that
/// nobody receives. To a peer that is full it says EAGAIN for so long. So this waits for that, and no longer.
#[test]
fn a_send_to_a_full_peer_that_has_gone_ends_when_what_came_before_is_received() {
    run(|context, _| async move {
        let router = router(&context, "inproc://gone");
        let gone = dealer(&context, &router, "inproc://gone", "gone").await;
        let other = dealer(&context, &router, "inproc://gone", "other").await;
        fill(&router, "gone");
        other.send("unread").await.unwrap();
        drop(gone);
        let mut send = router.send(["gone", "late"]);
        let waits = context.timeout(Duration::from_millis(100), &mut send).await;
        if waits.is_err() {
            assert_eq!(router.recv().await.unwrap(), ["other", "unread"].into());
            let refused = context.timeout(Duration::from_secs(10), send).await.expect("the send ends").unwrap_err();
            assert!(is_unreachable(&refused.error), "{refused:?}");
            assert_eq!(refused.into_message(), ["gone", "late"].into());
        }
    });
}

#[test]
fn senders_parked_side_by_side_never_lose_their_turn() {
    // Each sender's try processes commands, and may swallow the one that another waits for. The peers pause together
    // now and then: all is quiet then, and nobody comes by to repair a lost turn. Every task has a waker of its own.
    const SENDERS: usize = 4;
    let rounds = env::var("ROUNDS").map_or(5000, |rounds| rounds.parse().unwrap());
    run(move |context, _| async move {
        let endpoint = "inproc://beside";
        let router = router(&context, endpoint);
        let mut peers = Vec::new();
        for number in 0..SENDERS {
            peers.push(dealer(&context, &router, endpoint, &number.to_string()).await);
        }
        let (router, parked) = (&router, Cell::new(0));
        let tasks = FuturesUnordered::new();
        for (number, peer) in peers.iter().enumerate() {
            let (context, parked) = (&context, &parked);
            let sender = async move {
                for round in 0..rounds {
                    let mut send = router.send([number.to_string(), round.to_string()]);
                    if (&mut send).now_or_never().is_none() {
                        parked.set(parked.get() + 1);
                        send.await.unwrap();
                    }
                }
            };
            let drain = async move {
                for round in 0..rounds {
                    if round % 100 == 10 * number {
                        context.sleep(Duration::from_millis(1)).await;
                    }
                    assert_eq!(peer.recv().await.unwrap(), round.to_string().into());
                }
            };
            tasks.push(sender.boxed_local());
            tasks.push(drain.boxed_local());
        }
        // Somebody reads on the router, too: a third party to swallow from, and to be swallowed from.
        let reader = router.recv();
        select(tasks.collect::<Vec<()>>(), reader).await;
        assert!(parked.get() > rounds, "senders were parked {} times", parked.get());
    });
}

#[test]
fn a_publisher_that_must_not_drop_waits_for_its_subscriber() {
    for kind in [zmq::XPUB, zmq::PUB] {
        must_not_drop(kind);
    }
}

fn must_not_drop(kind: zmq::SocketType) {
    run(move |context, turns| async move {
        let mut raw = context.zmq_context().socket(kind).unwrap();
        raw.set_sndhwm(1).unwrap();
        let on: i32 = 1;
        // SAFETY: a live socket, and an int that outlives the call.
        let status = unsafe {
            zmq_sys::zmq_setsockopt(
                raw.as_mut_ptr(),
                i32::try_from(zmq_sys::ZMQ_XPUB_NODROP).unwrap(),
                (&raw const on).cast(),
                size_of::<i32>(),
            )
        };
        assert_eq!(status, 0);
        let publisher = context.adopt::<Any>(raw).unwrap();
        publisher.bind("inproc://nodrop").unwrap();
        let subscriber = context.socket::<Sub>().unwrap();
        subscriber.get_ref().set_rcvhwm(1).unwrap();
        subscriber.subscribe("").unwrap();
        subscriber.connect("inproc://nodrop").unwrap();
        // A PUB takes the subscription in when it is looked at.
        publisher.with_ref(zmq::Socket::get_events).unwrap();

        let filled = (0..100).find(|_| !has_room(publisher.try_send("fill"))).expect("it fills up");
        let mut parked = publisher.send(["parked", "whole"]);
        assert!((&mut parked).now_or_never().is_none());
        context.sleep(Duration::from_millis(50)).await;
        let before = turns.get();
        context.sleep(Duration::from_millis(300)).await;
        assert!(turns.get() - before <= 3, "{} turns while parked, {kind:?}", turns.get() - before);

        let drain = async {
            for _ in 0..filled {
                assert_eq!(subscriber.recv().await.unwrap(), "fill".into());
            }
            subscriber.recv().await.unwrap()
        };
        let (sent, last) = futures::join!(parked, drain);
        sent.unwrap();
        assert_eq!(last, ["parked", "whole"].into());
    });
}
