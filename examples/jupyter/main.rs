//! A Jupyter front end without Jupyter: starts a real Python kernel and talks to it over all of its five channels, in one
//! loop with a timer that keeps its beat (the dots).
//!
//! Needs a Python with ipykernel (`pip install ipykernel`, or name one in `PYTHON`), and says so where there is none.
//! Things to look at: output that comes while its cell runs, a question and its answer, a traceback, a cell that never
//! ends and is interrupted, and a kernel that is still there afterwards, until it is asked to go.
//!
//! * `wire.rs` is the protocol's messages and their signatures. It knows nothing of sockets.
//! * `kernel.rs` is the kernel's process, from its start to its end.
//! * `client.rs` is the five sockets, and a cell as something to wait for.

mod client;
mod kernel;
mod wire;

use std::cell::Cell;
use std::error::Error;
use std::io::Write as _;
use std::pin::pin;
use std::time::{Duration, Instant};
use std::{env, io};

use calloop::EventLoop;
use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::AsyncZmqContext;
use futures::{FutureExt, select};

use client::{Client, Event};
use kernel::{Kernel, Spec};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Each cell, how long it may take, and the error that it is to end with.
const CELLS: [(&str, Duration, Option<&str>); 6] = [
    ("import time\nfor number in range(1, 6):\n    print(number, end=' ')\n    time.sleep(0.2)", AMPLE, None),
    ("number * 8 + 2", AMPLE, None),
    ("print('hello,', input('who is there? '))", AMPLE, None),
    ("def halve(n):\n    return n / (number - 5)\nhalve(number)", AMPLE, Some("ZeroDivisionError")),
    ("print('round and round')\nwhile True: number += 1", Duration::from_secs(2), Some("KeyboardInterrupt")),
    ("number > 5", AMPLE, None),
];
const AMPLE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);
/// About half of what there are. A machine that stands still for a while makes fewer.
const MIN_TICKS: u32 = 16;
/// For everything.
const DEADLINE: Duration = Duration::from_secs(50);

#[derive(Default)]
struct Ticks {
    count: u32,
    longest_delay: Duration,
}

fn main() -> Result {
    let spec = match Spec::find() {
        Ok(spec) => spec,
        Err(missing) if env::var_os("CI").is_some() => return Err(missing.into()),
        Err(missing) => {
            println!("{missing}; install it with `pip install ipykernel`");
            return Ok(());
        }
    };
    let mut event_loop = EventLoop::<Ticks>::try_new()?;
    event_loop.handle().insert_source(Timer::from_duration(TICK), |due, (), ticks| {
        ticks.count += 1;
        ticks.longest_delay = ticks.longest_delay.max(due.elapsed());
        show(".");
        TimeoutAction::ToDuration(TICK)
    })?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;

    let (started, mut ticks) = (Instant::now(), Ticks::default());
    let session = context.timeout(DEADLINE, session(&context, &spec));
    event_loop.block_on(session, &mut ticks, |_| {})?.ok_or("the loop was stopped")???;

    let Ticks { count, longest_delay } = ticks;
    println!("\n{count} ticks in {:.1?}, at most {longest_delay:.1?} late", started.elapsed());
    assert!(count >= MIN_TICKS, "the timer lost its beat");
    Ok(())
}

/// From the start of a kernel to its end.
async fn session(context: &AsyncZmqContext, spec: &Spec) -> Result {
    let mut kernel = Kernel::start(spec)?;
    let client = Client::new(context, kernel.connection())?;
    let beats = Cell::new(0);
    {
        let mut work = pin!(work(context, &client).fuse());
        let mut heart = pin!(client.watch_heart(|| beats.set(beats.get() + 1)).fuse());
        let mut exited = pin!(kernel.exited(context).fuse());
        select! {
            done = work => done?,
            stopped = heart => return stopped.and(Err("the kernel's heart has stopped".into())),
            status = exited => return Err(format!("the kernel has gone: {}", status?).into()),
        }
    }
    context.timeout(AMPLE, client.shut_down()).await??;
    let status = context.timeout(AMPLE, kernel.exited(context)).await??;
    println!("\nthe kernel has ended after {} heartbeats: {status}", beats.get());
    Ok(())
}

async fn work(context: &AsyncZmqContext, client: &Client) -> Result {
    let about = client.ready().await?;
    println!("\n{} {}", about["implementation"], about["implementation_version"]);
    for (code, limit, error) in CELLS {
        println!("\n>>> {}", code.replace('\n', "\n... "));
        let ended = run(context, client, code, limit).await?;
        if ended.as_deref() != error {
            return Err(format!("the cell ended with {ended:?} instead of {error:?}").into());
        }
    }
    Ok(())
}

/// Runs a cell and shows what it tells; interrupts it when its time is up. Returns the error that it ended with, if any.
async fn run(context: &AsyncZmqContext, client: &Client, code: &str, limit: Duration) -> Result<Option<String>> {
    let mut cell = client.execute(code).await?;
    let (mut until, mut interrupted, mut failed) = (Instant::now() + limit, false, None);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match context.timeout(left, cell.next()).await {
            Ok(event) => match event? {
                None => return Ok(failed),
                Some(Event::Text(text)) => show(&text),
                Some(Event::Value(value)) => println!("{value}"),
                Some(Event::Error { name, traceback }) => {
                    println!("{traceback}");
                    failed = Some(name);
                }
                Some(Event::Input { prompt }) => {
                    println!("{prompt}the loop");
                    cell.answer("the loop").await?;
                }
            },
            Err(elapsed) if interrupted => return Err(elapsed.into()),
            Err(_elapsed) => {
                show("(that is enough)");
                context.timeout(AMPLE, client.interrupt()).await??;
                (until, interrupted) = (Instant::now() + AMPLE, true);
            }
        }
    }
}

/// Prints what is no whole line.
fn show(text: &str) {
    print!("{text}");
    // Whoever closed our output does not care.
    let _ = io::stdout().flush();
}
