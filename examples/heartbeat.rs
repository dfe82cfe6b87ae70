//! The guide's "Paranoid Pirate" (chapter 4, "Robust Reliable Queuing"), with a queue that does more: a worker that falls
//! silent is taken off, and its job is given to another, so that clients need not ask again.
//!
//! Workers send heartbeats, also while they work: one task, two things joined. The guide's queue sends some too, for
//! workers to notice when it is gone; that is the same once more, and left out. Look at the worker that freezes over a job.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::pin::pin;
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop_zmq::kind::{Dealer, Req, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use futures::{FutureExt, future, select};

const CLIENTS: usize = 3;
const REQUESTS: usize = 3;
/// How many jobs each worker does before it freezes over the next.
const WORKERS: [usize; 3] = [usize::MAX, usize::MAX, 1];
const BEAT: Duration = Duration::from_millis(50);
/// After so long without a word, a worker is given up.
const SILENCE: Duration = Duration::from_millis(250);
/// Longer than that: if it were not for the heartbeats, nobody would ever finish.
const WORK: Duration = Duration::from_millis(400);
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (front, back) = (context.socket::<Router>()?, context.socket::<Router>()?);
    let (for_clients, for_workers) = (front.bind("tcp://127.0.0.1:*")?, back.bind("tcp://127.0.0.1:*")?);

    let redone = Cell::new(0);
    let all = async {
        let workers = WORKERS.map(|jobs| work(&context, &for_workers, jobs));
        let clients = (1..=CLIENTS).map(|client| ask(&context, &for_clients, client));
        let mut queue = pin!(queue(&context, &front, &back, &redone).fuse());
        select! {
            // Only the clients come to an end. The others are dropped then.
            done = future::try_join_all(clients).fuse() => done.map(drop),
            failed = future::try_join_all(workers).fuse() => failed.map(drop),
            failed = queue => failed,
        }
    };
    event_loop.block_on(context.timeout(DEADLINE, all), &mut (), |()| {})?.transpose()?.transpose()?;
    assert!(redone.get() > 0, "another one does the job of the worker that froze");
    Ok(())
}

struct Worker {
    expires: Instant,
    job: Option<Job>,
}

/// A client's request. Its envelope names the client and, as `request` made it, the request too.
struct Job {
    envelope: Multipart,
    body: Multipart,
}

async fn queue(
    context: &AsyncZmqContext,
    front: &AsyncZmqSocket<Router>,
    back: &AsyncZmqSocket<Router>,
    redone: &Cell<u32>,
) -> calloop_zmq::Result<()> {
    let (mut workers, mut jobs) = (BTreeMap::<Vec<u8>, Worker>::new(), VecDeque::new());
    loop {
        for (id, worker) in workers.iter_mut().filter(|(_, worker)| worker.job.is_none()) {
            let Some(job) = jobs.pop_front() else { break };
            let Job { envelope, body } = worker.job.insert(job);
            let mut message = Multipart::from(id);
            message.extend(envelope.iter().chain(body.iter()).map(|frame| &frame[..]));
            back.send(message).await?;
        }
        let expires = workers.values().map(|worker| worker.expires).min();
        let silence = expires.map_or(SILENCE, |expires| expires.saturating_duration_since(Instant::now()));
        select! {
            request = front.recv().fuse() => {
                let mut body = request?;
                jobs.push_back(Job { envelope: body.take_envelope(), body });
            }
            message = back.recv().fuse() => {
                let mut message = message?;
                let Some(id) = message.pop_front() else { continue };
                let expires = Instant::now() + SILENCE;
                let worker = workers.entry(id.to_vec()).or_insert(Worker { expires, job: None });
                worker.expires = expires;
                // A heartbeat has no envelope. And the job of one who was given up may be another's by now.
                let envelope = message.take_envelope();
                if worker.job.take_if(|job| job.envelope == envelope).is_some() {
                    message.put_envelope(envelope);
                    front.send(message).await?;
                }
            }
            () = context.sleep(silence).fuse() => {
                let now = Instant::now();
                workers.retain(|_, worker| {
                    let lives = worker.expires > now;
                    if let Some(job) = worker.job.take_if(|_| !lives) {
                        println!("queue: a worker has fallen silent over {}", text(&job.body));
                        redone.set(redone.get() + 1);
                        jobs.push_front(job);
                    }
                    lives
                });
            }
        }
    }
}

async fn work(context: &AsyncZmqContext, endpoint: &str, jobs: usize) -> calloop_zmq::Result<()> {
    let socket = context.socket::<Dealer>()?;
    socket.connect(endpoint)?;
    let beat = async {
        loop {
            socket.send("heartbeat").await?;
            context.sleep(BEAT).await;
        }
    };
    let work = async {
        for _ in 0..jobs {
            let job = socket.recv().await?;
            context.sleep(WORK).await;
            socket.send(job).await?;
        }
        println!("worker: freezing over {}", text(&socket.recv().await?));
        calloop_zmq::Result::Ok(())
    };
    // Neither goes on without the other. But the socket stays open: a peer cannot tell the frozen from the slow.
    future::select(pin!(beat), pin!(work)).await.factor_first().0?;
    future::pending().await
}

async fn ask(context: &AsyncZmqContext, endpoint: &str, client: usize) -> calloop_zmq::Result<()> {
    let socket = context.socket::<Req>()?;
    socket.connect(endpoint)?;
    for number in 1..=REQUESTS {
        let request = format!("request {number} of client {client}");
        let reply = socket.request(&request).await?;
        assert_eq!(text(&reply), request, "each has its own reply");
        println!("client {client}: request {number} is done");
    }
    Ok(())
}

fn text(message: &Multipart) -> &str {
    message.last().and_then(|frame| frame.as_str()).unwrap_or("(not text)")
}
