//! The parallel pipeline: a ventilator deals jobs to workers, whose results come together in a sink.
//!
//! Each stage is one line of stream combinators. A busy worker takes no further job, and a socket that has no room
//! makes the stage before it wait.

use std::error::Error;
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop_zmq::kind::{Pull, Push};
use calloop_zmq::{AsyncZmqContext, Multipart};
use futures::{StreamExt, TryStreamExt, future, stream};

const JOBS: u64 = 100;
const WORKERS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::<()>::try_new()?;
    let context = AsyncZmqContext::new(&event_loop.handle())?;
    let (executor, scheduler) = calloop::futures::executor::<calloop_zmq::Result<()>>()?;
    event_loop.handle().insert_source(executor, |ended, (), ()| {
        if let Err(error) = ended {
            eprintln!("a worker failed: {error}");
        }
    })?;

    let (ventilator, sink) = (context.socket::<Push>()?, context.socket::<Pull>()?);
    // PUSH deals round-robin as long as there is room: with short queues, a worker gets its next job when it has done
    // one, instead of a quarter of all jobs at once. (An inproc queue is as long as both marks together.)
    ventilator.get_ref().set_sndhwm(1)?;
    ventilator.bind("inproc://jobs")?;
    sink.bind("inproc://results")?;
    for _ in 0..WORKERS {
        let (jobs, results) = (context.socket::<Pull>()?, context.socket::<Push>()?);
        jobs.get_ref().set_rcvhwm(1)?;
        jobs.connect("inproc://jobs")?;
        results.connect("inproc://results")?;
        let context = context.clone();
        scheduler.schedule(jobs.and_then(move |job| work(context.clone(), job)).forward(results))?;
    }

    // How long each job takes, in milliseconds: some are short, some long, in no order.
    let costs: Vec<u64> = (1..=JOBS).map(|job| job * 37 % 19 + 1).collect();
    let started = Instant::now();
    let deal = stream::iter(&costs).map(|cost| Ok(Multipart::from(cost.to_string()))).forward(&ventilator);
    let collect = (&sink).take(costs.len()).try_fold(0, |count, _result| future::ok(count + 1));
    let both = async { context.timeout(DEADLINE, future::try_join(deal, collect)).await? };
    if let Some(((), count)) = event_loop.block_on(both, &mut (), |()| {})?.transpose()? {
        let work = Duration::from_millis(costs.iter().sum());
        println!("{count} jobs, {work:?} of work, done by {WORKERS} workers in {:.0?}", started.elapsed());
    }
    Ok(())
}

/// Stands for whatever a worker waits for: a database, a disk, another server.
async fn work(context: AsyncZmqContext, job: Multipart) -> calloop_zmq::Result<Multipart> {
    let milliseconds = job[0].as_str().and_then(|text| text.parse().ok()).unwrap_or_default();
    context.sleep(Duration::from_millis(milliseconds)).await;
    Ok(job)
}
