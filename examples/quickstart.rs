//! One loop on one thread: a subscription under a flood, a request that loses patience and is answered after all, and a
//! timer that keeps its beat all the while.
//!
//! Needs no arguments and no server, and ends by itself after two seconds. The last line says how far behind its beat
//! the timer ever was.

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::kind::{Rep, Req, Sub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket};
use futures::StreamExt;

const RUN_FOR: Duration = Duration::from_secs(2);
const BEAT: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_millis(250);
const THINKING_TIME: Duration = Duration::from_millis(600);

/// What the loop's callbacks share. Tasks never see it: what they share is in an `Rc`.
#[derive(Default)]
struct Figures {
    turns: u64,
    ticks: u64,
    longest_delay: Duration,
    failure: Option<calloop_zmq::Error>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<Figures>::try_new()?;
    let handle = event_loop.handle();
    let context = AsyncZmqContext::new(&handle)?;

    let (executor, scheduler) = calloop::futures::executor::<calloop_zmq::Result<()>>()?;
    handle.insert_source(executor, |ended, (), figures| {
        if let Err(error) = ended {
            figures.failure = Some(error);
        }
    })?;

    let subscriber = context.socket::<Sub>()?;
    subscriber.subscribe("")?;
    let endpoint = subscriber.bind("tcp://127.0.0.1:*")?;
    let zmq_context = context.zmq_context().clone();
    let publisher = thread::spawn(move || flood(&zmq_context, &endpoint));
    let received = Rc::new(Cell::new(0));
    scheduler.schedule(count(subscriber, Rc::clone(&received)))?;

    let server = context.socket::<Rep>()?;
    let client = context.socket::<Req>()?;
    client.connect(&server.bind("tcp://127.0.0.1:*")?)?;
    scheduler.schedule(answer(context.clone(), server))?;
    scheduler.schedule(ask(context, client))?;

    handle.insert_source(Timer::from_duration(BEAT), |due, (), figures| {
        figures.ticks += 1;
        figures.longest_delay = figures.longest_delay.max(due.elapsed());
        TimeoutAction::ToInstant(due + BEAT)
    })?;

    let (started, signal) = (Instant::now(), event_loop.get_signal());
    let mut figures = Figures::default();
    event_loop.run(None, &mut figures, |figures| {
        figures.turns += 1;
        if started.elapsed() >= RUN_FOR || figures.failure.is_some() {
            signal.stop();
        }
    })?;

    publisher.join().expect("the publisher does not panic")?;
    let Figures { turns, ticks, longest_delay, failure } = figures;
    if let Some(error) = failure {
        return Err(error.into());
    }
    println!(
        "{} messages received in {turns} turns of the loop; {ticks} timer ticks, at most {longest_delay:.1?} late",
        received.get()
    );
    Ok(())
}

/// Publishes as fast as it can, on a thread of its own and with nothing but the zmq crate.
fn flood(context: &zmq::Context, endpoint: &str) -> zmq::Result<()> {
    let publisher = context.socket(zmq::PUB)?;
    publisher.set_linger(0)?;
    publisher.connect(endpoint)?;
    let started = Instant::now();
    while started.elapsed() < RUN_FOR {
        publisher.send("one drop of the flood", 0)?;
    }
    Ok(())
}

/// There is always a next message, and still this gives way to the others: a socket has a budget for each turn.
async fn count(mut subscriber: AsyncZmqSocket<Sub>, received: Rc<Cell<u64>>) -> calloop_zmq::Result<()> {
    while let Some(message) = subscriber.next().await {
        message?;
        received.set(received.get() + 1);
    }
    Ok(())
}

async fn answer(context: AsyncZmqContext, server: AsyncZmqSocket<Rep>) -> calloop_zmq::Result<()> {
    server.recv().await?;
    context.sleep(THINKING_TIME).await;
    server.send("forty-two").await?;
    Ok(())
}

async fn ask(context: AsyncZmqContext, client: AsyncZmqSocket<Req>) -> calloop_zmq::Result<()> {
    let asked = Instant::now();
    client.send("What is the answer?").await?;
    let reply = loop {
        // The wait that gives up is dropped, and loses nothing: the next one finds the reply.
        match context.timeout(PATIENCE, client.recv()).await {
            Ok(reply) => break reply?,
            Err(_elapsed) => println!("no answer after {:.0?}, waiting again", asked.elapsed()),
        }
    };
    println!("answered after {:.0?}: {}", asked.elapsed(), reply[0].as_str().unwrap_or("(not text)"));
    Ok(())
}
