//! What an XSUB sends upstream is at the XPUB what it was.

#![allow(clippy::unwrap_used, reason = "this is a test, clippy just cannot tell")]

mod common;

use calloop_zmq::Subscription;
use calloop_zmq::kind::{XPub, XSub};
use common::Rig;

#[test]
fn subscriptions_and_messages_go_upstream_and_are_told_apart() {
    for endpoint in ["inproc://upstream", "tcp://127.0.0.1:*"] {
        let mut rig = Rig::new();
        let (publisher, subscriber) = (rig.socket::<XPub>("XPUB", |_| Ok(())), rig.socket::<XSub>("XSUB", |_| Ok(())));
        subscriber.connect(&publisher.bind(endpoint).unwrap()).unwrap();
        rig.complete(async move {
            let next = async || Subscription::from(publisher.recv().await.unwrap());
            let topic = || b"oslo".to_vec();
            subscriber.subscribe(topic()).unwrap();
            assert_eq!(next().await, Subscription::Subscribe(topic()));
            publisher.send(["oslo", "12C"]).await.unwrap();
            assert_eq!(subscriber.recv().await.unwrap(), ["oslo", "12C"].into());

            subscriber.send(Subscription::Message("more of it".into())).await.unwrap();
            assert_eq!(next().await, Subscription::Message("more of it".into()));
            subscriber.send(["two", "frames"]).await.unwrap();
            assert_eq!(next().await, Subscription::Message(["two", "frames"].into()));

            subscriber.unsubscribe(topic()).unwrap();
            assert_eq!(next().await, Subscription::Unsubscribe(topic()));
        });
    }
}
