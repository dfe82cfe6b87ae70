//! Receiving a flood of 32-byte messages: this crate on calloop's executor, and libzmq called by hand in a blocking loop,
//! in turns. Prints medians of their ratio, and how late a 1 ms timer beside the flood was, for several budgets.
//!
//! `cargo bench --bench receive` prints the table. `cargo bench --bench receive -- ours` receives once with the default
//! budget and does nothing else, to run under strace.

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::AsyncZmqContext;
use calloop_zmq::kind::Pull;
use futures::StreamExt;

const MESSAGES: u32 = 1_000_000;
const SIZE: usize = 32;
const ROUNDS: usize = 7;
const BUDGETS: [usize; 7] = [16, 64, 256, 512, 1024, 2048, 4096];

fn main() {
    if std::env::args().any(|argument| argument == "ours") {
        let run = ours("inproc://flood", None);
        println!("{:.1} ns a message, {} turns of the loop for {MESSAGES} messages", run.nanoseconds, run.turns);
        return;
    }
    println!(
        "| endpoint | budget | messages a second, ours to blocking libzmq | turns per 1000 | timer late, 99th percentile |"
    );
    println!("|---|---|---|---|---|");
    for endpoint in ["inproc://flood", "tcp://127.0.0.1:*"] {
        for budget in BUDGETS {
            let runs: Vec<_> = (0..ROUNDS)
                .map(|_| {
                    let by_hand = by_hand(endpoint);
                    let ours = ours(endpoint, NonZeroUsize::new(budget));
                    (by_hand / ours.nanoseconds, ours.turns * 1000 / u64::from(MESSAGES), ours.late)
                })
                .collect();
            println!(
                "| {endpoint} | {budget} | {:.2} | {} | {:.0?} |",
                median(runs.iter().map(|run| run.0)),
                median(runs.iter().map(|run| run.1)),
                median(runs.iter().map(|run| run.2)),
            );
        }
    }
}

struct Run {
    nanoseconds: f64,
    turns: u64,
    late: Duration,
}

/// A task on calloop's executor, and a timer in the same loop.
fn ours(endpoint: &str, budget: Option<NonZeroUsize>) -> Run {
    let mut event_loop = EventLoop::<()>::try_new().expect("a loop");
    let (executor, scheduler) = calloop::futures::executor().expect("an executor");
    let elapsed = Rc::new(Cell::new(None));
    let slot = Rc::clone(&elapsed);
    event_loop.handle().insert_source(executor, move |elapsed, (), ()| slot.set(Some(elapsed))).expect("a source");
    let context = AsyncZmqContext::new(&event_loop.handle()).expect("a context");
    let mut pull = context.socket::<Pull>().expect("a socket");
    if let Some(budget) = budget {
        pull.set_budget(budget);
    }
    let sender = flood(context.zmq_context(), &pull.bind(endpoint).expect("an endpoint"));
    let late = Rc::new(RefCell::new(Vec::new()));
    let lateness = Rc::clone(&late);
    let timer = Timer::from_duration(Duration::from_millis(1));
    event_loop
        .handle()
        .insert_source(timer, move |due, (), ()| {
            lateness.borrow_mut().push(due.elapsed());
            TimeoutAction::ToDuration(Duration::from_millis(1))
        })
        .expect("a timer");
    scheduler
        .schedule(async move {
            pull.next().await.expect("a stream").expect("a message");
            let begin = Instant::now();
            for _ in 1..MESSAGES {
                pull.next().await.expect("a stream").expect("a message");
            }
            begin.elapsed()
        })
        .expect("a task");
    let mut turns = 0;
    while elapsed.get().is_none() {
        event_loop.dispatch(None, &mut ()).expect("a turn");
        turns += 1;
    }
    sender.join().expect("it sent all");
    let mut late = late.take();
    late.sort_unstable();
    let percentile = late.get(late.len() * 99 / 100).copied().unwrap_or_default();
    Run { nanoseconds: per_message(elapsed.get().expect("measured")), turns, late: percentile }
}

/// A blocking loop that receives into one message.
fn by_hand(endpoint: &str) -> f64 {
    let context = zmq::Context::new();
    let pull = context.socket(zmq::PULL).expect("a socket");
    pull.bind(endpoint).expect("an endpoint");
    let sender = flood(&context, &pull.get_last_endpoint().expect("bound").expect("text"));
    let mut message = zmq::Message::new();
    pull.recv(&mut message, 0).expect("a message");
    let begin = Instant::now();
    for _ in 1..MESSAGES {
        pull.recv(&mut message, 0).expect("a message");
    }
    let elapsed = begin.elapsed();
    sender.join().expect("it sent all");
    per_message(elapsed)
}

fn flood(context: &zmq::Context, endpoint: &str) -> thread::JoinHandle<()> {
    let push = context.socket(zmq::PUSH).expect("a socket");
    push.connect(endpoint).expect("an endpoint");
    thread::spawn(move || {
        for _ in 0..MESSAGES {
            push.send(&[0; SIZE][..], 0).expect("sent");
        }
    })
}

fn per_message(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e9 / f64::from(MESSAGES)
}

fn median<T: PartialOrd>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|one, other| one.partial_cmp(other).expect("numbers"));
    values.swap_remove(values.len() / 2)
}
