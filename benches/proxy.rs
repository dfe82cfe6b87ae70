//! 32-byte messages through a proxy: this crate's, on a loop in a thread of its own, and `zmq_proxy` in a thread of its
//! own, in turns. Prints medians of their ratio.
//!
//! `cargo bench --bench proxy` prints the table. PULL and PUSH: messages a second in one direction. ROUTER and DEALER: a
//! client keeps some requests under way, and an echo at the other end answers; `1` is the time of a round trip.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop_zmq::kind::Any;
use calloop_zmq::{AsyncZmqContext, ProxyControl, proxy};

const SIZE: usize = 32;
const ROUNDS: usize = 7;
const STREAMED: u32 = 300_000;
const REQUESTS: u32 = 50_000;
const ROUND_TRIPS: u32 = 5_000;

fn main() {
    println!("| kinds | endpoint | messages under way | `zmq_proxy`, messages a second | ours to `zmq_proxy` |");
    println!("|---|---|---|---|---|");
    for transport in ["inproc", "tcp"] {
        row("PULL/PUSH", transport, "all there is room for", STREAMED, &|run| streamed(transport, run));
        for (under_way, requests) in [(1, ROUND_TRIPS), (100, REQUESTS)] {
            let measure = |run: Run| answered(transport, run, requests, under_way);
            row("ROUTER/DEALER", transport, &under_way.to_string(), requests, &measure);
        }
    }
}

fn row(kinds: &str, transport: &str, under_way: &str, messages: u32, measure: &dyn Fn(Run) -> Duration) {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (measure(by_libzmq), measure(ours))).collect();
    let ratio = median(rounds.iter().map(|(theirs, ours)| theirs.as_secs_f64() / ours.as_secs_f64()));
    let theirs = median(rounds.iter().map(|(theirs, _)| f64::from(messages) / theirs.as_secs_f64()));
    println!("| {kinds} | {transport} | {under_way} | {theirs:.0} | {ratio:.2} |");
}

/// Runs a proxy between two sockets in a thread, until the context ends or it is told to.
type Run = fn(&zmq::Context, zmq::Socket, zmq::Socket) -> Stop;
type Stop = Box<dyn FnOnce()>;

fn by_libzmq(context: &zmq::Context, front: zmq::Socket, back: zmq::Socket) -> Stop {
    let control = context.socket(zmq::PAIR).expect("a socket");
    control.bind("inproc://control").expect("an endpoint");
    let steered = context.socket(zmq::PAIR).expect("a socket");
    steered.connect("inproc://control").expect("an endpoint");
    let thread = thread::spawn(move || {
        let (mut front, mut back, mut steered) = (front, back, steered);
        zmq::proxy_steerable(&mut front, &mut back, &mut steered).expect("a proxy");
    });
    Box::new(move || {
        control.send("TERMINATE", 0).expect("sent");
        thread.join().expect("it ended");
    })
}

fn ours(context: &zmq::Context, front: zmq::Socket, back: zmq::Socket) -> Stop {
    let (context, (sender, receiver)) = (context.clone(), mpsc::channel());
    let thread: JoinHandle<()> = thread::spawn(move || {
        let mut event_loop = EventLoop::<()>::try_new().expect("a loop");
        let context = AsyncZmqContext::with_context(&event_loop.handle(), context).expect("a context");
        let (front, back) =
            (context.adopt::<Any>(front).expect("a front"), context.adopt::<Any>(back).expect("a back"));
        let control = ProxyControl::new();
        let (executor, scheduler) = calloop::futures::executor().expect("an executor");
        event_loop.handle().insert_source(executor, |(), (), ()| {}).expect("a source");
        let (ping, pinged) = calloop::ping::make_ping().expect("a ping");
        let stopped = control.clone();
        event_loop.handle().insert_source(pinged, move |(), (), ()| stopped.stop()).expect("a source");
        sender.send(ping).expect("it waits");
        let signal = event_loop.get_signal();
        scheduler
            .schedule(async move {
                proxy(&front, &back).control(&control).await.expect("a proxy");
                signal.stop();
            })
            .expect("a task");
        event_loop.run(None, &mut (), |()| {}).expect("a loop");
    });
    let ping = receiver.recv().expect("it runs");
    Box::new(move || {
        ping.ping();
        thread.join().expect("it ended");
    })
}

/// The time to receive what a producer sends as fast as it can.
fn streamed(transport: &str, run: Run) -> Duration {
    let context = zmq::Context::new();
    let (front, for_producers) = bound(&context, zmq::PULL, transport, "front");
    let (back, for_consumers) = bound(&context, zmq::PUSH, transport, "back");
    let (producer, consumer) =
        (context.socket(zmq::PUSH).expect("a socket"), context.socket(zmq::PULL).expect("a socket"));
    producer.connect(&for_producers).expect("an endpoint");
    consumer.connect(&for_consumers).expect("an endpoint");
    let stop = run(&context, front, back);
    let sender = thread::spawn(move || {
        for _ in 0..=STREAMED {
            producer.send(&[0; SIZE][..], 0).expect("sent");
        }
    });
    let mut message = zmq::Message::new();
    consumer.recv(&mut message, 0).expect("a message");
    let begin = Instant::now();
    for _ in 0..STREAMED {
        consumer.recv(&mut message, 0).expect("a message");
    }
    let elapsed = begin.elapsed();
    sender.join().expect("it sent all");
    stop();
    elapsed
}

/// The time to get all requests answered.
fn answered(transport: &str, run: Run, requests: u32, under_way: u32) -> Duration {
    let context = zmq::Context::new();
    let (front, for_clients) = bound(&context, zmq::ROUTER, transport, "front");
    let (back, for_workers) = bound(&context, zmq::DEALER, transport, "back");
    let (client, worker) =
        (context.socket(zmq::DEALER).expect("a socket"), context.socket(zmq::REP).expect("a socket"));
    client.connect(&for_clients).expect("an endpoint");
    worker.connect(&for_workers).expect("an endpoint");
    let stop = run(&context, front, back);
    let echo = thread::spawn(move || {
        let mut message = zmq::Message::new();
        for _ in 0..=requests {
            worker.recv(&mut message, 0).expect("a request");
            worker.send(&message[..], 0).expect("sent");
        }
    });
    let ask = || {
        client.send("", zmq::SNDMORE).expect("sent");
        client.send(&[0; SIZE][..], 0).expect("sent");
    };
    let mut message = zmq::Message::new();
    let mut answer = || {
        client.recv(&mut message, 0).expect("a delimiter");
        client.recv(&mut message, 0).expect("a reply");
    };
    ask();
    answer();
    let begin = Instant::now();
    (0..under_way).for_each(|_| ask());
    for asked in under_way..requests + under_way {
        answer();
        if asked < requests {
            ask();
        }
    }
    let elapsed = begin.elapsed();
    echo.join().expect("it answered all");
    stop();
    elapsed
}

fn bound(context: &zmq::Context, kind: zmq::SocketType, transport: &str, name: &str) -> (zmq::Socket, String) {
    let socket = context.socket(kind).expect("a socket");
    let endpoint = if transport == "tcp" { "tcp://127.0.0.1:*".to_owned() } else { format!("inproc://{name}") };
    socket.bind(&endpoint).expect("an endpoint");
    let endpoint = socket.get_last_endpoint().expect("bound").expect("text");
    (socket, endpoint)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.swap_remove(values.len() / 2)
}
