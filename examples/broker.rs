//! A broker between clients that come and go and the workers that serve them: ROUTER in front, DEALER behind, and
//! everything that comes in at one side goes out at the other. It is stopped when the clients are content, and tells what
//! went through it.

use std::error::Error;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Dealer, Rep, Req, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, ProxyControl, proxy};
use futures::{TryFutureExt, future};

const CLIENTS: usize = 3;
const WORKERS: usize = 2;
const REQUESTS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (executor, scheduler) = calloop::futures::executor::<calloop_zmq::Result<()>>()?;
    event_loop.handle().insert_source(executor, |ended, (), ()| {
        if let Err(error) = ended {
            eprintln!("a worker failed: {error}");
        }
    })?;

    let (front, back) = (context.socket::<Router>()?, context.socket::<Dealer>()?);
    let (for_clients, for_workers) = (front.bind("tcp://127.0.0.1:*")?, back.bind("tcp://127.0.0.1:*")?);

    for worker in 1..=WORKERS {
        let socket = context.socket::<Rep>()?;
        socket.connect(&for_workers)?;
        scheduler.schedule(serve(worker, socket))?;
    }
    let clients = (1..=CLIENTS)
        .map(|client| {
            let socket = context.socket::<Req>()?;
            socket.connect(&for_clients)?;
            Ok(ask(client, socket))
        })
        .collect::<calloop_zmq::Result<Vec<_>>>()?;

    let control = ProxyControl::new();
    let broker = proxy(&front, &back).control(&control);
    let clients = future::try_join_all(clients).map_ok(|_| control.stop());
    let bounded = async { context.timeout(DEADLINE, future::try_join(broker, clients)).await? };
    event_loop.block_on(bounded, &mut (), |()| {})?.transpose()?;
    let (requests, replies) = (control.front_to_back(), control.back_to_front());
    println!("{} requests, {} replies, {} bytes", requests.messages, replies.messages, requests.bytes + replies.bytes);
    Ok(())
}

async fn ask(client: usize, socket: AsyncZmqSocket<Req>) -> calloop_zmq::Result<()> {
    for number in 1..=REQUESTS {
        socket.send(format!("request {number} of client {client}")).await?;
        let reply = socket.recv().await?;
        println!("{}", reply[0].as_str().unwrap_or("(not text)"));
    }
    Ok(())
}

async fn serve(worker: usize, socket: AsyncZmqSocket<Rep>) -> calloop_zmq::Result<()> {
    loop {
        let request = socket.recv().await?;
        socket.send(format!("worker {worker} served {}", request[0].as_str().unwrap_or("(not text)"))).await?;
    }
}
