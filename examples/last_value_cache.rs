//! The guide's "Last Value Caching" (chapter 5): who subscribes late has the last value at once, and not only the next.
//!
//! The cache stands between publisher and subscribers. Its XPUB receives the subscriptions, and it answers each with what
//! it has on that topic. Look at the two who come when the publisher has long gone.

use std::collections::BTreeMap;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Sub, XPub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Subscription};
use futures::{FutureExt, select};

const TOPICS: u32 = 100;
const UPDATES: u32 = 3;
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (publisher, updates, subscribers) =
        (context.socket::<XPub>()?, context.socket::<Sub>()?, context.socket::<XPub>()?);
    updates.subscribe("")?;
    updates.connect(&publisher.bind("tcp://127.0.0.1:*")?)?;
    // Else it would hear of a topic's first subscriber only.
    subscribers.get_ref().set_xpub_verbose(true)?;
    let endpoint = subscribers.bind("tcp://127.0.0.1:*")?;

    let visit = async {
        publish(publisher).await?;
        let newest = format!("update {UPDATES}");
        // Updates keep their order: who has this one knows that the cache has them all.
        let early = subscribe(&context, &endpoint, &topic(TOPICS))?;
        while next_value(&early).await? != newest {}
        println!("the cache has all updates, and the publisher has gone");

        let late = subscribe(&context, &endpoint, &topic(42))?;
        assert_eq!(next_value(&late).await?, newest);
        let later = subscribe(&context, &endpoint, &topic(42))?;
        assert_eq!(next_value(&later).await?, newest);
        Ok(())
    };
    let all = async {
        let (mut visit, mut cache) = (pin!(visit.fuse()), pin!(cache(&updates, &subscribers).fuse()));
        select! {
            done = visit => done,
            // It goes on until it fails.
            failed = cache => failed,
        }
    };
    event_loop.block_on(context.timeout(DEADLINE, all), &mut (), |()| {})?.transpose()?.transpose()?;
    Ok(())
}

async fn cache(updates: &AsyncZmqSocket<Sub>, subscribers: &AsyncZmqSocket<XPub>) -> calloop_zmq::Result<()> {
    let mut last = BTreeMap::new();
    loop {
        select! {
            update = updates.recv().fuse() => {
                let [topic, value] = update?.try_into()?;
                last.insert(topic.to_vec(), value.to_vec());
                subscribers.send([topic, value]).await?;
            }
            subscription = subscribers.recv().fuse() => {
                let Subscription::Subscribe(topic) = subscription?.into() else { continue };
                if let Some(value) = last.get(&topic) {
                    // All who subscribed to the topic receive it once more.
                    subscribers.send([&topic, value]).await?;
                }
            }
        }
    }
}

async fn publish(publisher: AsyncZmqSocket<XPub>) -> calloop_zmq::Result<()> {
    publisher.wait_for_subscribers("", 1).await?;
    for update in 1..=UPDATES {
        for number in 1..=TOPICS {
            publisher.send([topic(number), format!("update {update}")]).await?;
        }
    }
    Ok(())
}

fn subscribe(context: &AsyncZmqContext, endpoint: &str, topic: &str) -> calloop_zmq::Result<AsyncZmqSocket<Sub>> {
    let subscriber = context.socket::<Sub>()?;
    subscriber.subscribe(topic)?;
    subscriber.connect(endpoint)?;
    Ok(subscriber)
}

async fn next_value(subscriber: &AsyncZmqSocket<Sub>) -> calloop_zmq::Result<String> {
    let [topic, value] = subscriber.recv().await?.try_into()?;
    let value = value.as_str().unwrap_or_default().to_owned();
    println!("{}: {value}", topic.as_str().unwrap_or_default());
    Ok(value)
}

/// All of one length: a subscription takes whatever begins with its topic.
fn topic(number: u32) -> String {
    format!("topic {number:03}")
}
