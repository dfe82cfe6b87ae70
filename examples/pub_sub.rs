//! Publish and subscribe: the weather of three cities, and three subscribers with a favourite each.
//!
//! The publisher is an XPUB, which knows its subscribers. So it waits for them (nothing is lost at the start, and nobody
//! sleeps to make sure of that), and stops when nobody listens any more.

use std::error::Error;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Sub, XPub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket};
use futures::{StreamExt, TryStreamExt, future};

const FAVOURITES: [(&str, usize); 3] = [("oslo", 3), ("paris", 5), ("oslo", 2)];
const HOUR: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (executor, scheduler) = calloop::futures::executor::<calloop_zmq::Result<()>>()?;
    event_loop.handle().insert_source(executor, |ended, (), ()| {
        if let Err(error) = ended {
            eprintln!("a subscriber failed: {error}");
        }
    })?;

    let publisher = context.socket::<XPub>()?;
    // Called before anybody can subscribe, so that the two who listen to the same city count as two.
    let audience =
        future::try_join(publisher.wait_for_subscribers("oslo", 2), publisher.wait_for_subscribers("paris", 1));
    let endpoint = publisher.bind("tcp://127.0.0.1:*")?;
    for (city, hours) in FAVOURITES {
        let subscriber = context.socket::<Sub>()?;
        subscriber.subscribe(city)?;
        subscriber.connect(&endpoint)?;
        scheduler.schedule(listen(subscriber, hours))?;
    }

    let forecast = async {
        context.timeout(DEADLINE, audience).await??;
        println!("all listen");
        context.timeout(DEADLINE, publish(&context, &publisher)).await?
    };
    event_loop.block_on(forecast, &mut (), |()| {})?.transpose()?;
    Ok(())
}

async fn publish(context: &AsyncZmqContext, publisher: &AsyncZmqSocket<XPub>) -> calloop_zmq::Result<()> {
    let mut listeners = FAVOURITES.len();
    for hour in 9.. {
        for (city, temperature) in [("oslo", hour), ("paris", hour + 5), ("rome", hour + 10)] {
            publisher.send([city, &format!("{hour:02}:00"), &format!("{temperature} degrees")]).await?;
        }
        context.sleep(HOUR).await;
        while let Some(news) = publisher.try_recv()? {
            // What an XPUB receives: a byte 1 to subscribe or 0 to unsubscribe, then the topic.
            if let Some((0, city)) = news[0].split_first() {
                println!("somebody had enough of {}", String::from_utf8_lossy(city));
                listeners -= 1;
            }
        }
        if listeners == 0 {
            break;
        }
    }
    println!("nobody listens any more");
    Ok(())
}

/// Ends after so many reports. With the task goes its socket, and with the socket the subscription.
async fn listen(subscriber: AsyncZmqSocket<Sub>, hours: usize) -> calloop_zmq::Result<()> {
    let mut reports = subscriber.take(hours);
    while let Some(report) = reports.try_next().await? {
        let [city, time, weather] = report.try_into()?;
        let text = |frame: zmq::Message| String::from_utf8_lossy(&frame).into_owned();
        println!("{:>5} at {}: {}", text(city), text(time), text(weather));
    }
    Ok(())
}
