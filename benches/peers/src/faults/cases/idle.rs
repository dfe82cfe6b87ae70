//! A task waits and cannot go on: how often is it polled?

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use futures::{SinkExt, StreamExt};

use super::router::{family, greeted};
use crate::faults::finding::Finding;
use crate::faults::library::Library;
use crate::faults::scene::{INPROC, Scene};

#[derive(Clone, Copy)]
pub enum Waits {
    ToReceive,
    ToSend,
}

const WHILE: Duration = Duration::from_millis(300);

/// Polls a future that will not be ready, and says how often.
async fn count<L: Library, T>(library: &L, future: impl Future<Output = T>) -> Finding {
    let mut future = pin!(future);
    let mut polls = 0;
    let counted = poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx)
    });
    if let Either::Left(_) = select(pin!(counted), library.sleep(WHILE)).await {
        return Finding::wrong("does not wait");
    }
    // The timer's own wake-up polls it once more.
    if polls <= 100 {
        Finding::right_with("right: {} polls", polls)
    } else {
        Finding::wrong_with("spins: {} polls", polls)
    }
}

pub fn polls<L: Library>(scene: Scene, waits: Waits) -> Finding {
    let (raw, endpoint) = scene.bound(zmq::DEALER, 1, INPROC);
    let peer = scene.connected(zmq::DEALER, 1, &endpoint);
    peer.send("a message", 0).expect("sent");
    L::run(&scene.context, |library| async move {
        // Not to be closed.
        let _peer = peer;
        let mut dealer = library.dealer(raw);
        match waits {
            Waits::ToReceive => {
                assert!(dealer.next().await.is_some_and(|message| message.is_ok()), "a message");
                count(&library, dealer.next()).await
            }
            Waits::ToSend => {
                let flood = async { while dealer.send(L::message(vec![vec![0]])).await.is_ok() {} };
                count(&library, flood).await
            }
        }
    })
}

/// Whether a ROUTER can send it says for all peers together.
pub fn router<L: Library>(scene: Scene) -> Finding {
    let (raw, peers) = family(&scene, [b"full", b"free"]);
    L::run(&scene.context, |library| async move {
        let _peers = peers;
        let mut router = greeted(&library, raw, 2).await;
        let flood = async { while router.send(L::message(vec![b"full".to_vec(), vec![0]])).await.is_ok() {} };
        count(&library, flood).await
    })
}
