//! `wait_for_subscribers`: who subscribed misses nothing, and nobody sleeps to make sure of that.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Sub, XPub, XSub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error};
use futures::FutureExt;

use support::{Wakes, poll_with, run};

const TCP: &str = "tcp://127.0.0.1:*";

fn fixture() -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (event_loop, context)
}

fn subscriber(context: &AsyncZmqContext, endpoint: &str, topics: &[&str]) -> AsyncZmqSocket<Sub> {
    let subscriber = context.socket::<Sub>().unwrap();
    for topic in topics {
        subscriber.subscribe(topic).unwrap();
    }
    subscriber.connect(endpoint).unwrap();
    subscriber
}

#[test]
fn nobody_misses_the_first_message() {
    for endpoint in [TCP, "inproc://news"] {
        for round in 0..20 {
            let (mut event_loop, context) = fixture();
            run(&mut event_loop, async {
                let publisher = context.socket::<XPub>().unwrap();
                let all_listen = publisher.wait_for_subscribers("news", 3);
                let endpoint = publisher.bind(endpoint).unwrap();
                let subscribers = [(); 3].map(|()| subscriber(&context, &endpoint, &["news"]));
                all_listen.await.unwrap();
                publisher.send(["news", "first"]).await.unwrap();
                for subscriber in &subscribers {
                    let first = context.timeout(Duration::from_secs(5), subscriber.recv()).await;
                    assert_eq!(first.unwrap_or_else(|_| panic!("missed in round {round}")).unwrap().len(), 2);
                }
            });
        }
    }
}

#[test]
fn topics_are_counted_each_for_itself_and_in_any_order() {
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let publisher = context.socket::<XPub>().unwrap();
        publisher.wait_for_subscribers("a", 0).await.unwrap();
        let endpoint = publisher.bind("inproc://topics").unwrap();
        let _both = subscriber(&context, &endpoint, &["a", "ab"]);
        publisher.wait_for_subscribers("ab", 1).await.unwrap();
        // Came before, and was kept.
        publisher.wait_for_subscribers("a", 1).now_or_never().unwrap().unwrap();
        assert!(publisher.wait_for_subscribers("", 1).now_or_never().is_none(), "nobody asked for everything");
        assert!(publisher.wait_for_subscribers("a", 2).now_or_never().is_none(), "exactly this topic");
        assert!(publisher.try_recv().unwrap().is_none(), "all were read");
    });
}

#[test]
fn who_has_gone_does_not_count() {
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let publisher = context.socket::<XPub>().unwrap();
        let two = publisher.wait_for_subscribers("x", 2);
        let endpoint = publisher.bind(TCP).unwrap();
        let (first, second) = (subscriber(&context, &endpoint, &["x"]), subscriber(&context, &endpoint, &["x"]));
        two.await.unwrap();
        // One unsubscribes, the other goes.
        first.unsubscribe("x").unwrap();
        drop(second);
        // What that leaves in the socket, the next wait reads on its way to this one.
        subscriber(&context, &endpoint, &["last"]).connect(&endpoint).unwrap();
        let third = subscriber(&context, &endpoint, &["x"]);
        publisher.wait_for_subscribers("last", 1).await.unwrap();
        let (mut left, wakes) = (publisher.wait_for_subscribers("x", 3), Wakes::new());
        assert!(poll_with(&mut left, &wakes).is_pending());
        drop(third);
    });
}

#[test]
fn a_dropped_wait_keeps_its_count() {
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let publisher = context.socket::<XPub>().unwrap();
        // So that what has come is counted at once, and not put off to the next turn.
        publisher.set_budget(NonZeroUsize::MAX);
        let endpoint = publisher.bind("inproc://dropped").unwrap();
        let wakes = Wakes::new();
        let mut subscribers = Vec::new();
        for number in 1..=5 {
            let mut wait = publisher.wait_for_subscribers("x", 5);
            assert!(poll_with(&mut wait, &wakes).is_pending());
            subscribers.push(subscriber(&context, &endpoint, &["x"]));
            assert_eq!(poll_with(&mut wait, &wakes).is_ready(), number == 5, "{number}");
        }
    });
}

/// As a task is that waits with a deadline, again and again, while nobody comes.
#[test]
fn a_dropped_wait_gives_its_waker_back() {
    let (_event_loop, context) = fixture();
    let publisher = context.socket::<XPub>().unwrap();
    let wakes = Wakes::new();
    let mut other = publisher.wait_for_subscribers("y", 1);
    assert!(poll_with(&mut other, &wakes).is_pending());
    let held = Arc::strong_count(&wakes);
    for _ in 0..3 {
        let (mut wait, own) = (publisher.wait_for_subscribers("x", 1), Wakes::new());
        assert!(poll_with(&mut wait, &own).is_pending());
        assert!(poll_with(&mut wait, &wakes).is_pending());
        assert_eq!(Arc::strong_count(&own), 1, "replaced by another, and kept");
        drop(wait);
        assert_eq!(Arc::strong_count(&wakes), held, "kept after the wait was dropped");
    }
}

/// One task reads what another one waits for.
#[test]
fn waits_for_several_topics_wake_each_other() {
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let publisher = context.socket::<XPub>().unwrap();
        let endpoint = publisher.bind(TCP).unwrap();
        for round in 0..50 {
            let topics = ["a", "b", "c", "d"].map(|topic| format!("{topic}{round}"));
            let waits = topics.iter().map(|topic| publisher.wait_for_subscribers(topic, 1));
            let all = futures::future::join_all(waits);
            let subscribe = async {
                let order: Vec<_> = topics.iter().rev().map(String::as_str).collect();
                subscriber(&context, &endpoint, &order)
            };
            let (counted, subscriber) = futures::join!(all, subscribe);
            assert!(counted.into_iter().all(|counted| counted.is_ok()));
            drop(subscriber);
        }
    });
}

/// As above, step by step: who receives the message wakes who waits for it, wherever that one stands in the line.
#[test]
fn who_reads_a_subscription_wakes_who_waits_for_it() {
    let (_event_loop, context) = fixture();
    let publisher = context.socket::<XPub>().unwrap();
    let endpoint = publisher.bind("inproc://steps").unwrap();
    let mut waits = ["a", "b", "c"].map(|topic| (publisher.wait_for_subscribers(topic, 1), Wakes::new()));
    for (wait, wakes) in &mut waits {
        assert!(poll_with(wait, wakes).is_pending());
    }
    let _subscriber = subscriber(&context, &endpoint, &["c"]);
    let [(first, wakes), (second, later), (third, last)] = &mut waits;
    assert!(poll_with(first, wakes).is_pending());
    // Next in the line, it finds nothing and keeps its place.
    assert!(poll_with(second, later).is_pending());
    assert!(last.count() > 0);
    assert!(poll_with(third, last).is_ready());
}

#[test]
fn what_is_no_subscription_is_left() {
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let publisher = context.socket::<XPub>().unwrap();
        let endpoint = publisher.bind("inproc://upstream").unwrap();
        let upstream = context.socket::<XSub>().unwrap();
        upstream.connect(&endpoint).unwrap();
        upstream.send("one").await.unwrap();
        upstream.send(["two", "frames"]).await.unwrap();
        upstream.subscribe("x").unwrap();
        upstream.send("after").await.unwrap();
        publisher.wait_for_subscribers("x", 1).await.unwrap();
        assert_eq!(publisher.take_passed_over(), Some("one".into()));
        let mut two = Vec::new();
        while let Some(message) = publisher.take_passed_over() {
            two.extend(message.iter().map(|frame| frame.as_str().unwrap().to_owned()));
        }
        assert_eq!(two, ["two", "frames"]);
        assert_eq!(publisher.recv().await.unwrap(), "after".into());
    });
}

#[test]
fn a_wait_ends_with_its_context() {
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let publisher = context.socket::<XPub>().unwrap();
        let end = async {
            context.sleep(Duration::from_millis(1)).await;
            context.shutdown();
        };
        let (waited, ()) = futures::join!(publisher.wait_for_subscribers("x", 1), end);
        assert!(matches!(waited.unwrap_err(), Error::Terminated));
        assert!(matches!(publisher.wait_for_subscribers("x", 1).await.unwrap_err(), Error::Terminated));
    });
}
