//! Stopping in good order. On Ctrl-C or SIGTERM every wait ends, so that the tasks do; what they had sent is delivered;
//! the process ends by itself, with exit code 0.
//!
//! Run it with the argument `wait` to stop it yourself. Without, it sends itself a SIGTERM after a second. A second
//! signal does not wait for the delivery.

use std::cell::Cell;
use std::error::Error;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;
use std::{env, io, process};

use calloop::EventLoop;
use calloop::signals::{Signal, Signals};
use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::kind::{Push, Rep};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket};
use futures::StreamExt;

const RUN_FOR: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(1);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let handle = event_loop.handle();

    // Before there are threads, libzmq's included: each inherits which signals are the loop's.
    let (signals, stop) = (Signals::new(&[Signal::SIGINT, Signal::SIGTERM])?, event_loop.get_signal());
    handle.insert_source(signals, move |event, (), ()| {
        println!("{:?}: stopping", event.signal());
        stop.stop();
    })?;

    let (executor, scheduler) = calloop::futures::executor::<(&str, calloop_zmq::Result<()>)>()?;
    handle.insert_source(executor, |(task, ended), (), ()| match ended {
        // What a `send` answers once the context is shut down. A stream just ends.
        Ok(()) | Err(calloop_zmq::Error::Terminated) => println!("the {task} has ended"),
        Err(error) => eprintln!("the {task} failed: {error}"),
    })?;

    // Stands for another program: it has a context of its own, and the loop knows nothing of it.
    let collector = zmq::Context::new().socket(zmq::PULL)?;
    collector.set_rcvhwm(0)?;
    collector.set_rcvtimeo(5_000)?;
    collector.bind("tcp://127.0.0.1:*")?;
    let endpoint = collector.get_last_endpoint()?.unwrap_or_default();

    let context = AsyncZmqContext::new(&handle)?;
    let (sensor, server) = (context.socket::<Push>()?, context.socket::<Rep>()?);
    sensor.connect(&endpoint)?;
    server.bind("tcp://127.0.0.1:*")?;
    let sent = Rc::new(Cell::new(0));
    let (clock, count) = (context.clone(), Rc::clone(&sent));
    scheduler.schedule(async { ("sensor", measure(clock, sensor, count).await) })?;
    scheduler.schedule(async { ("server", serve(server).await) })?;

    if env::args().nth(1).as_deref() != Some("wait") {
        handle.insert_source(Timer::from_duration(RUN_FOR), |_, (), ()| {
            println!("a second is over: sending myself a SIGTERM");
            if let Err(error) = terminate_myself() {
                eprintln!("that failed: {error}");
            }
            TimeoutAction::Drop
        })?;
    }
    println!("process {} is running, press Ctrl-C to stop it", process::id());
    event_loop.run(None, &mut (), |()| {})?;

    // The tasks end in these turns of the loop, and their sockets with them. libzmq goes on sending what it has, for as
    // long as their linger allows: a second, if nothing else was set.
    match event_loop.block_on(context.terminate(), &mut (), |()| {})? {
        Some(ended) => ended?,
        None => return Err("stopped before all was delivered".into()),
    }

    for _ in 0..sent.get() {
        collector.recv_msg(0)?;
    }
    println!("{} values sent, and all of them delivered", sent.get());
    Ok(())
}

/// Sends a value now and then, until it may not any more.
async fn measure(
    context: AsyncZmqContext,
    sensor: AsyncZmqSocket<Push>,
    sent: Rc<Cell<u64>>,
) -> calloop_zmq::Result<()> {
    loop {
        sensor.send(format!("value {}", sent.get())).await?;
        sent.set(sent.get() + 1);
        context.sleep(INTERVAL).await;
    }
}

/// Waits for requests. Nobody sends one: a shutdown must end that wait too.
async fn serve(mut server: AsyncZmqSocket<Rep>) -> calloop_zmq::Result<()> {
    while let Some(request) = server.next().await {
        server.send(request?).await?;
    }
    Ok(())
}

/// Does what an operator or a supervisor would do.
fn terminate_myself() -> io::Result<()> {
    Command::new("sh").args(["-c", "kill -TERM $PPID"]).spawn()?.wait()?;
    Ok(())
}
