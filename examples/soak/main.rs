//! A soak: all kinds of sockets at once over inproc, ipc and tcp, for as long as you like, and at the end an account of
//! what was lost, doubled, reordered or torn, of what the process used, and of whether that grew. Fails if anything did.
//!
//! `cargo run --release --example soak -- --minutes 30`. Without an argument it takes a few seconds. `--seed N` draws the
//! same random numbers again (what the threads do when is the machine's). `--only "desk tcp"` runs the loads whose names begin
//! so. `--spoil WHAT` breaks something on purpose, to
//! show that it is found: `lost`, `doubled`, `reordered`, `torn`, `stalled`, `descriptors`, or (in runs of 25 minutes) `memory`.
//!
//! Two threads, each with a loop, are the two ends of every load; see steady.rs and passing.rs for what they do.

mod gauges;
mod ledger;
mod parcel;
mod passing;
mod place;
mod random;
mod side;
mod steady;

use std::cell::Cell;
use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{env, thread};

use calloop::{EventLoop, LoopSignal};
use calloop_zmq::{AsyncZmqContext, Tasks, zmq};

use crate::gauges::{Series, descriptors, resident};
use crate::place::Place;
use crate::side::{Phase, Shared, Side};

type Bind = fn(&Place) -> calloop_zmq::Result<String>;
type Connect = fn(&Place) -> calloop_zmq::Result<()>;

/// What runs, and how both ends are made.
const LOADS: [(&str, &[Transport], Bind, Connect); 10] = [
    ("pipeline", &ALL, steady::bind_pipeline, steady::connect_pipeline),
    ("fan", &ALL, steady::bind_fan, steady::connect_fan),
    ("pair", &ALL, steady::bind_pair, steady::connect_pair),
    ("desk", &ALL, steady::bind_desk, steady::connect_desk),
    ("news", &ALL, steady::bind_news, steady::connect_news),
    ("flyers", &ALL, steady::bind_flyers, steady::connect_flyers),
    ("question", &ALL, steady::bind_question, steady::connect_question),
    ("bytes", &[Transport::Tcp], steady::bind_bytes, steady::connect_bytes),
    ("visitors", &ALL, passing::bind_visitors, passing::connect_visitors),
    // A connection over inproc is not made again.
    ("rebinding", &[Transport::Ipc, Transport::Tcp], passing::bind_rebinding, passing::connect_rebinding),
];

const ALL: [Transport; 3] = [Transport::Inproc, Transport::Ipc, Transport::Tcp];

#[derive(Clone, Copy, Debug)]
enum Transport {
    Inproc,
    Ipc,
    Tcp,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    println!("{:?}, --seed {}", arguments.time, arguments.seed);
    let before = descriptors();
    let directory = tempfile::tempdir()?;
    let routes: Vec<_> = (0..LOADS.len())
        .flat_map(|load| LOADS[load].1.iter().map(move |transport| (load, *transport)))
        .map(|(load, transport)| {
            let name = format!("{} {transport:?}", LOADS[load].0).to_lowercase();
            let endpoint = match transport {
                Transport::Inproc => format!("inproc://{name}"),
                Transport::Ipc => format!("ipc://{}/{load}", directory.path().display()),
                Transport::Tcp => "tcp://127.0.0.1:*".to_owned(),
            };
            (load, name, endpoint)
        })
        .filter(|(_, name, _)| arguments.only.as_ref().is_none_or(|only| name.starts_with(only)))
        .collect();

    let shared = Arc::new(Shared::new(arguments.seed, arguments.spoil));
    let zmq_context = zmq::Context::new();
    let (bound, endpoints) = mpsc::channel();
    let (far_context, far_shared, far_routes) = (zmq_context.clone(), Arc::clone(&shared), routes.clone());
    let near = spawn_side("binds", &shared, &zmq_context, move |side| {
        for (load, name, endpoint) in routes {
            let place = Place { side: side.clone(), load: name, endpoint };
            let _ = bound.send(LOADS[load].2(&place)?);
        }
        Ok(())
    })?;
    let far = spawn_side("connects", &far_shared, &far_context, move |side| {
        for ((load, name, _), endpoint) in far_routes.into_iter().zip(endpoints) {
            LOADS[load].3(&Place { side: side.clone(), load: name, endpoint })?;
        }
        Ok(())
    })?;
    drop((zmq_context, far_context));

    let memory = soak(&shared, arguments.time);
    close(&shared, [near, far]);
    Ok(if report(&shared, arguments.time, &memory, before) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A thread with a loop, and how to end it.
struct End {
    signal: LoopSignal,
    thread: thread::JoinHandle<()>,
}

fn spawn_side(
    name: &str,
    shared: &Arc<Shared>,
    zmq_context: &zmq::Context,
    set_up: impl FnOnce(&Side) -> calloop_zmq::Result<()> + Send + 'static,
) -> Result<End, Box<dyn Error>> {
    let (shared, zmq_context) = (Arc::clone(shared), zmq_context.clone());
    let (tell, signal) = mpsc::channel();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        if let Err(error) = run_side(&shared, zmq_context, &tell, set_up) {
            shared.ledger.fault(format!("a loop ended: {error}"));
        }
    })?;
    Ok(End { signal: signal.recv()?, thread })
}

fn run_side(
    shared: &Arc<Shared>,
    zmq_context: zmq::Context,
    tell: &mpsc::Sender<LoopSignal>,
    set_up: impl FnOnce(&Side) -> calloop_zmq::Result<()>,
) -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let handle = event_loop.handle();
    let (executor, scheduler) = calloop::futures::executor()?;
    handle.insert_source(executor, |(), (), ()| {})?;
    let side = Side {
        context: AsyncZmqContext::with_context(&handle, zmq_context)?,
        shared: Arc::clone(shared),
        tasks: Tasks::new(&handle)?,
        scheduler,
        spawned: Rc::new(Cell::new(0)),
    };
    tell.send(event_loop.get_signal())?;
    set_up(&side)?;
    let place = Place { side: side.clone(), load: "contexts".to_owned(), endpoint: String::new() };
    place.clone().spawn(passing::contexts(place, handle));
    event_loop.run(None, &mut (), |()| {})?;
    let context = side.context.clone();
    drop(side);
    event_loop.block_on(context.terminate(), &mut (), |()| {})?.ok_or("stopped while it ended")??;
    Ok(())
}

/// Lets the loads run for that time and then drain, and answers what memory they took when.
fn soak(shared: &Shared, time: Duration) -> Series {
    let (begin, mut memory, mut minutes) = (Instant::now(), Series::default(), 0);
    while begin.elapsed() < time {
        thread::sleep(SAMPLE.min(time.saturating_sub(begin.elapsed())));
        shared.spoil_process();
        memory.add(begin.elapsed(), resident().unwrap_or(0.0));
        let stalled = shared.ledger.stalled(STALL);
        if !stalled.is_empty() {
            shared.ledger.fault(format!("nothing went on for {STALL:?} in {stalled:?}"));
            break;
        }
        if begin.elapsed().as_secs() / 60 > minutes {
            minutes = begin.elapsed().as_secs() / 60;
            let received: u64 = shared.ledger.loads().values().map(|load| load.received).sum();
            println!("{minutes} min: {received} received, {} faults, {}", shared.ledger.faults().len(), process_uses());
        }
    }
    shared.enter(Phase::Draining);
    let drain = Instant::now();
    while !(shared.busy().is_empty() && shared.ledger.is_settled()) {
        if drain.elapsed() > STALL {
            shared.ledger.fault(format!("after {STALL:?} of draining, these still send: {:?}", shared.busy()));
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    println!("drained in {:?}", drain.elapsed());
    if drain.elapsed() > STALL / 3 {
        // By then each socket was called, which may have repaired it.
        shared.ledger.fault("the draining took too long".to_owned());
    }
    memory
}

/// Ends both loops. They must end in time.
fn close(shared: &Shared, ends: [End; 2]) {
    shared.enter(Phase::Closing);
    for end in &ends {
        end.signal.stop();
        end.signal.wakeup();
    }
    let begin = Instant::now();
    for end in ends {
        while !end.thread.is_finished() {
            if begin.elapsed() > STALL {
                return shared.ledger.fault(format!("the loops have not ended after {STALL:?}"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        if end.thread.join().is_err() {
            shared.ledger.fault("a loop's thread panicked".to_owned());
        }
    }
}

/// Prints the account, and answers whether all is well.
fn report(shared: &Shared, time: Duration, memory: &Series, before: Option<usize>) -> bool {
    let loads = shared.ledger.close();
    println!(
        "\n{:20} {:>12} {:>12} {:>10} {:>6} {:>8} {:>10} {:>5}",
        "load", "sent", "received", "by design", "lost", "doubled", "reordered", "torn"
    );
    for (name, it) in &loads {
        println!(
            "{name:20} {:>12} {:>12} {:>10} {:>6} {:>8} {:>10} {:>5}",
            it.sent, it.received, it.left_behind, it.lost, it.doubled, it.reordered, it.torn
        );
    }
    println!();
    for (what, counter) in shared.counts.all() {
        println!("{what}: {counter}");
        if counter == 0 {
            shared.ledger.fault(format!("{what}: none, so that was not tried"));
        }
    }
    let growth = memory.growth_per_hour();
    println!("{}; memory grew by {growth:.1} MiB an hour", process_uses());
    if time >= LONG && growth > MOST_GROWTH {
        shared.ledger.fault(format!("memory grew by {growth:.1} MiB an hour, at most {MOST_GROWTH} is noise"));
    }
    // libzmq closes descriptors on its own threads.
    let begin = Instant::now();
    while descriptors() > before && begin.elapsed() < STALL {
        thread::sleep(Duration::from_millis(10));
    }
    println!("descriptors before: {before:?}, after: {:?}", descriptors());
    if descriptors() > before {
        shared.ledger.fault("descriptors were left open".to_owned());
    }
    let faults = shared.ledger.faults();
    faults.iter().take(20).for_each(|fault| println!("FAULT: {fault}"));
    println!("{}", if faults.is_empty() { "all is well".to_owned() } else { format!("{} faults", faults.len()) });
    faults.is_empty()
}

fn process_uses() -> String {
    let (memory, open) = (resident().unwrap_or(0.0), descriptors().unwrap_or(0));
    format!("{memory:.1} MiB resident, {open} descriptors")
}

struct Arguments {
    time: Duration,
    seed: u64,
    spoil: Option<String>,
    only: Option<String>,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut parsed = Self { time: SHORT, seed: RandomState::new().hash_one("seed"), spoil: None, only: None };
        let mut arguments = env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match &*name {
                "--minutes" => parsed.time = Duration::try_from_secs_f64(60.0 * value.parse::<f64>()?)?,
                "--seed" => parsed.seed = value.parse()?,
                "--spoil" => parsed.spoil = Some(value),
                "--only" => parsed.only = Some(value),
                _ => return Err(format!("{name} is none of --minutes, --seed, --only, --spoil").into()),
            }
        }
        Ok(parsed)
    }
}

/// Without an argument.
const SHORT: Duration = Duration::from_secs(5);
/// From here on growth is told from warming up: that takes ten minutes, and the first third does not count.
const LONG: Duration = Duration::from_secs(1500);
const SAMPLE: Duration = Duration::from_millis(500);
/// So long without anything in one load is a stall.
const STALL: Duration = Duration::from_secs(30);
/// In MiB an hour.
const MOST_GROWTH: f64 = 20.0;
