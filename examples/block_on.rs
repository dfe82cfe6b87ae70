//! The guide's hello world without an executor: `EventLoop::block_on` drives one future, and whatever else is in the
//! loop goes on meanwhile.
//!
//! The client and the server are two futures joined into one. A timer beside them counts in the loop's data.

use std::error::Error;
use std::time::Duration;

use calloop::EventLoop;
use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::kind::{Rep, Req};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket};
use futures::future;

const GREETINGS: usize = 5;
const WORK: Duration = Duration::from_millis(100);
const TICK: Duration = Duration::from_millis(10);
const DEADLINE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<u32>::try_new()?;
    event_loop.handle().insert_source(Timer::from_duration(TICK), |due, (), ticks| {
        *ticks += 1;
        TimeoutAction::ToInstant(due + TICK)
    })?;

    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (server, client) = (context.socket::<Rep>()?, context.socket::<Req>()?);
    client.connect(&server.bind("tcp://127.0.0.1:*")?)?;

    let mut ticks = 0;
    let both = future::try_join(serve(&context, &server), greet(&client));
    let bounded = async { context.timeout(DEADLINE, both).await? };
    // The result is the loop's, the option is empty if somebody stopped it, and inside is the future's own result.
    event_loop.block_on(bounded, &mut ticks, |_| {})?.ok_or("the loop was stopped")??;
    println!("the timer ticked {ticks} times meanwhile");
    Ok(())
}

async fn serve(context: &AsyncZmqContext, server: &AsyncZmqSocket<Rep>) -> calloop_zmq::Result<()> {
    for _ in 0..GREETINGS {
        server.recv().await?;
        context.sleep(WORK).await;
        server.send("World").await?;
    }
    Ok(())
}

async fn greet(client: &AsyncZmqSocket<Req>) -> calloop_zmq::Result<()> {
    for number in 1..=GREETINGS {
        client.send("Hello").await?;
        let reply = client.recv().await?;
        println!("{number}: Hello, {}", reply[0].as_str().unwrap_or("(not text)"));
    }
    Ok(())
}
