//! The loads whose sockets stay. Of theirs, nothing may be lost but what a PUB drops.

use std::rc::Rc;
use std::time::Duration;

use calloop_zmq::kind::{Dealer, Pair, Pub, Pull, Push, Rep, Req, Router, Stream, Sub, XPub, XSub};
use calloop_zmq::{AsyncZmqSocket, Error, Multipart, zmq};

use crate::ledger::Terms;
use crate::parcel::{Label, Parcels};
use crate::place::Place;
use crate::side::{Sender, Style, count};

type Outcome<T = ()> = calloop_zmq::Result<T>;

/// Two tasks push, two pull, and the queue holds one message.
pub(crate) fn bind_pipeline(place: &Place) -> Outcome<String> {
    let pull = place.open::<Pull>(Some(1))?;
    place.listen(&pull, Style::StreamAndSink, 0);
    place.listen(&pull, Style::Futures, 0);
    place.meddle(&pull);
    pull.bind(&place.endpoint)
}

pub(crate) fn connect_pipeline(place: &Place) -> Outcome {
    let push = place.open::<Push>(Some(1))?;
    place.talk(&push, Style::StreamAndSink, None, Terms::Once);
    place.talk(&push, Style::Futures, None, Terms::Once);
    place.meddle(&push);
    push.connect(&place.endpoint)
}

/// One PUSH, two PULLs, and queues as long as they are by default.
pub(crate) fn bind_fan(place: &Place) -> Outcome<String> {
    let push = place.open::<Push>(None)?;
    place.talk(&push, Style::Futures, None, Terms::Once);
    push.bind(&place.endpoint)
}

pub(crate) fn connect_fan(place: &Place) -> Outcome {
    for style in [Style::StreamAndSink, Style::Futures] {
        let pull = place.open::<Pull>(None)?;
        place.listen(&pull, style, 0);
        pull.connect(&place.endpoint)?;
    }
    Ok(())
}

/// Both directions at once on short queues.
pub(crate) fn bind_pair(place: &Place) -> Outcome<String> {
    let pair = place.open::<Pair>(Some(1))?;
    both_ways(place, &pair);
    pair.bind(&place.endpoint)
}

pub(crate) fn connect_pair(place: &Place) -> Outcome {
    let pair = place.open::<Pair>(Some(1))?;
    both_ways(place, &pair);
    pair.connect(&place.endpoint)
}

fn both_ways(place: &Place, pair: &Rc<AsyncZmqSocket<Pair>>) {
    place.talk(pair, Style::StreamAndSink, None, Terms::Once);
    place.talk(pair, Style::Futures, None, Terms::Once);
    place.listen(pair, Style::StreamAndSink, 0);
    place.listen(pair, Style::Futures, 0);
}

/// A mandatory ROUTER and two DEALERs, both directions at once on short queues.
pub(crate) fn bind_desk(place: &Place) -> Outcome<String> {
    let router = place.open::<Router>(Some(2))?;
    router.get_ref().set_router_mandatory(true)?;
    for name in DEALERS {
        let (place, router) = (place.clone(), Rc::clone(&router));
        let lane = place.side.shared.ledger.open(&place.load, Terms::Once);
        place.clone().spawn(async move {
            // Until it has come, it is unknown.
            let mut sender = Sender::new(&place.side, &place.load, lane, &router, Style::Futures, Some(name.into()));
            while let Err(Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. }) = sender.send_next().await {
                place.side.context.sleep(Duration::from_millis(10)).await;
            }
            drop(sender);
            let lane = place.side.shared.ledger.open(&place.load, Terms::Once);
            place.side.send_all(&place.load, lane, &router, Style::Futures, Some(name.into())).await
        });
    }
    place.listen(&router, Style::StreamAndSink, 1);
    place.listen(&router, Style::Futures, 1);
    place.meddle(&router);
    place.watch(&router)?;
    router.bind(&place.endpoint)
}

pub(crate) fn connect_desk(place: &Place) -> Outcome {
    for name in DEALERS {
        let dealer = place.open::<Dealer>(Some(2))?;
        dealer.get_ref().set_identity(name.as_bytes())?;
        place.talk(&dealer, Style::StreamAndSink, None, Terms::Once);
        place.listen(&dealer, Style::Futures, 0);
        place.listen(&dealer, Style::StreamAndSink, 0);
        dealer.connect(&place.endpoint)?;
    }
    Ok(())
}

/// An XPUB that waits for its subscribers: what it sends then reaches them all.
pub(crate) fn bind_news(place: &Place) -> Outcome<String> {
    let publisher = place.open::<XPub>(Some(0))?;
    let ready = publisher.wait_for_subscribers(TOPIC, 2);
    let endpoint = publisher.bind(&place.endpoint)?;
    drop(ready);
    place.keep(&publisher);
    let (place, publisher) = (place.clone(), Rc::clone(&publisher));
    let lane = place.side.shared.ledger.open(&place.load, Terms::Copies(2));
    place.clone().spawn(async move {
        publisher.wait_for_subscribers(TOPIC, 2).await?;
        place.side.send_all(&place.load, lane, &publisher, Style::Futures, Some(TOPIC.into())).await
    });
    Ok(endpoint)
}

pub(crate) fn connect_news(place: &Place) -> Outcome {
    let (sub, xsub) = (place.open::<Sub>(Some(0))?, place.open::<XSub>(Some(0))?);
    place.listen(&sub, Style::StreamAndSink, 1);
    place.listen(&xsub, Style::Futures, 1);
    sub.connect(&place.endpoint)?;
    xsub.connect(&place.endpoint)?;
    sub.subscribe(TOPIC)?;
    xsub.subscribe(TOPIC)
}

/// A PUB that drops what its subscribers have no room for.
pub(crate) fn bind_flyers(place: &Place) -> Outcome<String> {
    let publisher = place.open::<Pub>(Some(10))?;
    place.talk(&publisher, Style::Futures, Some(TOPIC.into()), Terms::AtMostCopies);
    publisher.bind(&place.endpoint)
}

pub(crate) fn connect_flyers(place: &Place) -> Outcome {
    for style in [Style::Futures, Style::StreamAndSink] {
        let subscriber = place.open::<Sub>(Some(10))?;
        subscriber.subscribe(TOPIC)?;
        place.listen(&subscriber, style, 1);
        subscriber.connect(&place.endpoint)?;
    }
    Ok(())
}

/// A server that is slow at times.
pub(crate) fn bind_question(place: &Place) -> Outcome<String> {
    let rep = place.open::<Rep>(None)?;
    let endpoint = rep.bind(&place.endpoint)?;
    let place = place.clone();
    place.clone().spawn(async move {
        let mut random = place.side.shared.random();
        loop {
            let request = rep.recv().await?;
            if random.below(20) == 0 {
                place.side.context.sleep(Duration::from_millis(random.below(8))).await;
            }
            rep.send(request).await?;
        }
    });
    Ok(endpoint)
}

/// A client that loses patience. Each reply that it gets is that to its last request.
pub(crate) fn connect_question(place: &Place) -> Outcome {
    let req = place.open::<Req>(None)?;
    req.connect(&place.endpoint)?;
    let place = place.clone();
    place.clone().spawn(async move {
        let (context, shared) = (&place.side.context, &place.side.shared);
        let (mut parcels, mut random) = (Parcels::new(shared.random()), shared.random());
        let lane = shared.ledger.open(&place.load, Terms::AtMostOnce);
        let (_busy, mut number) = (shared.begin(&place.load), 0);
        while place.side.is_running() {
            let label = Label { lane, number };
            let patience = Duration::from_millis(1 + random.below(20));
            let reply = context.timeout(patience, req.request(parcels.make(label))).await;
            number += 1;
            shared.ledger.sent(lane);
            let Ok(reply) = reply else {
                count(&shared.counts.given_up_requests);
                continue;
            };
            let answered = shared.ledger.received(&place.load, 0, &reply?);
            if answered != Some(label) {
                shared.ledger.fault(format!("{}: the reply to {label:?} is that to {answered:?}", place.load));
            }
            context.sleep(Duration::from_millis(random.below(4))).await;
        }
        Ok(())
    });
    Ok(())
}

/// Two STREAMs: bytes both ways, cut anywhere.
pub(crate) fn bind_bytes(place: &Place) -> Outcome<String> {
    let stream = place.open::<Stream>(None)?;
    let endpoint = stream.bind(&place.endpoint)?;
    let place = place.clone();
    place.clone().spawn(async move { bytes_both_ways(place, stream).await });
    Ok(endpoint)
}

pub(crate) fn connect_bytes(place: &Place) -> Outcome {
    let stream = place.open::<Stream>(None)?;
    stream.connect(&place.endpoint)?;
    let place = place.clone();
    place.clone().spawn(async move { bytes_both_ways(place, stream).await });
    Ok(())
}

async fn bytes_both_ways(place: Place, stream: Rc<AsyncZmqSocket<Stream>>) -> Outcome {
    // An empty message tells that the peer is there, and by which name.
    let [peer, _empty] = stream.recv().await?.try_into()?;
    let (name, sending, sender) = (peer.to_vec(), Rc::clone(&stream), place.clone());
    place.spawn(async move { send_bytes(&sender, &sending, &name).await });
    let mut received = Vec::new();
    loop {
        let [_peer, bytes] = stream.recv().await?.try_into()?;
        received.extend_from_slice(&bytes);
        while let Some((record, rest)) = take_record(&received) {
            place.side.shared.ledger.received(&place.load, 0, &record);
            received = received.split_off(received.len() - rest);
        }
    }
}

async fn send_bytes(place: &Place, stream: &AsyncZmqSocket<Stream>, peer: &[u8]) -> Outcome {
    let (side, shared) = (&place.side, &place.side.shared);
    let lane = shared.ledger.open(&place.load, Terms::Once);
    let (mut parcels, mut random) = (Parcels::new(shared.random()), shared.random());
    let (_busy, mut number) = (shared.begin(&place.load), 0);
    while side.is_running() {
        let record = make_record(&parcels.make(Label { lane, number }));
        // In pieces: the other end gets others.
        let mut rest = &record[..];
        while !rest.is_empty() {
            let piece = rest.len().min(1 + usize::try_from(random.below(100_000)).unwrap_or(0));
            let patience = Duration::from_micros(random.below(2000));
            match side.context.timeout(patience, stream.send([peer, &rest[..piece]])).await {
                Err(_elapsed) => count(&shared.counts.cancelled_sends),
                Ok(sent) => {
                    sent?;
                    rest = &rest[piece..];
                }
            }
        }
        number += 1;
        shared.ledger.sent(lane);
        side.context.sleep(Duration::from_millis(random.below(4))).await;
    }
    Ok(())
}

/// The number of frames, then each with its length in front.
fn make_record(message: &Multipart) -> Vec<u8> {
    let word = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut record = word(message.len()).to_vec();
    for frame in message {
        record.extend(word(frame.len()));
        record.extend_from_slice(frame);
    }
    record
}

/// The first record if it is complete, and how many bytes are behind it.
fn take_record(bytes: &[u8]) -> Option<(Multipart, usize)> {
    let word = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).unwrap_or(usize::MAX);
    let (frames, mut rest) = bytes.split_first_chunk()?;
    let mut record = Multipart::new();
    for _ in 0..word(frames) {
        let (length, behind) = rest.split_first_chunk()?;
        let (frame, behind) = behind.split_at_checked(word(length))?;
        record.push_back(frame);
        rest = behind;
    }
    Some((record, rest.len()))
}

const DEALERS: [&str; 2] = ["left", "right"];
const TOPIC: &str = "news";
