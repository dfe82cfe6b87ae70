//! The guide's "Load Balancing Broker" (chapter 3, the "LRU queue"): ROUTER to ROUTER, and each request goes to the worker
//! that has been free for longest.
//!
//! A worker says when it is ready, so a slow one is given less to do; a DEALER would give each the same. And while all are
//! busy no request is taken: the clients' wait in their queues, not in the broker. Look at the last line.

use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error;
use std::pin::pin;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Req, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use futures::future::{self, Either, FutureExt};
use futures::select;

const CLIENTS: u32 = 5;
const REQUESTS: u32 = 8;
/// How long each worker takes for a request.
const WORKERS: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(10), Duration::from_millis(100)];
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (front, back) = (context.socket::<Router>()?, context.socket::<Router>()?);
    let (for_clients, for_workers) = (front.bind("tcp://127.0.0.1:*")?, back.bind("tcp://127.0.0.1:*")?);

    let served = WORKERS.map(|_| Cell::new(0));
    let all = async {
        let workers = WORKERS.iter().zip(&served).map(|(time, served)| work(&context, &for_workers, *time, served));
        let clients = (1..=CLIENTS).map(|client| ask(&context, &for_clients, client));
        let mut broker = pin!(broker(&front, &back).fuse());
        select! {
            // Only the clients come to an end. The others are dropped then.
            done = future::try_join_all(clients).fuse() => done.map(drop),
            failed = future::try_join_all(workers).fuse() => failed.map(drop),
            failed = broker => failed,
        }
    };
    event_loop.block_on(context.timeout(DEADLINE, all), &mut (), |()| {})?.transpose()?.transpose()?;

    let [fast, fast_too, slow] = served.map(Cell::into_inner);
    println!("the fast workers served {fast} and {fast_too} requests, the slow one {slow}");
    assert_eq!(fast + fast_too + slow, CLIENTS * REQUESTS);
    assert!(0 < slow && slow < fast && slow < fast_too, "each as much as it can");
    Ok(())
}

async fn broker(front: &AsyncZmqSocket<Router>, back: &AsyncZmqSocket<Router>) -> calloop_zmq::Result<()> {
    // The envelopes of the workers that are free, the one who is so for longest in front.
    let mut free = VecDeque::new();
    loop {
        let request = if free.is_empty() { Either::Left(future::pending()) } else { Either::Right(front.recv()) };
        select! {
            message = back.recv().fuse() => {
                let mut message = message?;
                free.push_back(message.take_envelope());
                // What is left is the client's envelope and the reply, or the word that a worker is there.
                if message.len() > 1 {
                    front.send(message).await?;
                }
            }
            request = request.fuse() => {
                let mut request = request?;
                request.put_envelope(free.pop_front().unwrap_or_default());
                back.send(request).await?;
            }
        }
    }
}

async fn work(
    context: &AsyncZmqContext,
    endpoint: &str,
    time: Duration,
    served: &Cell<u32>,
) -> calloop_zmq::Result<()> {
    let socket = context.socket::<Req>()?;
    socket.connect(endpoint)?;
    let mut done = Multipart::from("ready");
    loop {
        let mut request = socket.request(done).await?;
        let envelope = request.take_envelope();
        context.sleep(time).await;
        served.set(served.get() + 1);
        done = format!("done: {}", request[0].as_str().unwrap_or("(not text)")).into();
        done.put_envelope(envelope);
    }
}

async fn ask(context: &AsyncZmqContext, endpoint: &str, client: u32) -> calloop_zmq::Result<()> {
    let socket = context.socket::<Req>()?;
    socket.connect(endpoint)?;
    for number in 1..=REQUESTS {
        let request = format!("request {number} of client {client}");
        assert_eq!(socket.request(&request).await?, format!("done: {request}").into());
    }
    println!("client {client} is content");
    Ok(())
}
