//! A million timeouts that were dropped: in a process of their own, for its memory is measured.

mod support;

use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop_zmq::AsyncZmqContext;
use calloop_zmq::kind::Pull;
use support::{Wakes, poll_with, run_counted};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_million_dropped_timeouts_leave_no_trace() {
    const ROUND: u32 = 100_000;
    let (mut event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    let wakes = Wakes::new();
    let round = || {
        let start = Instant::now();
        for number in 0..ROUND {
            // Deadlines in every order, and the earliest of all among them.
            let far = HOUR + MS * (number.wrapping_mul(2_654_435_761) >> 12);
            let mut timeout = Box::pin(context.timeout(far, pull.recv()));
            assert!(poll_with(&mut timeout, &wakes).is_pending());
        }
        start.elapsed()
    };
    let first = round();
    let before = resident();
    for _ in 0..8 {
        round();
    }
    let last = round();
    let grown = resident().saturating_sub(before);
    println!("first {first:?}, last {last:?}, {grown} bytes grown");
    assert!(last < first * 3 + 50 * MS, "the first {ROUND} took {first:?}, the last {last:?}");
    // A single byte for each would be 900 kB; other tests run beside this one.
    assert!(grown < 16 << 20, "{grown} bytes more after 900,000 timeouts");
    assert_eq!(wakes.count(), 0);

    // Nor does the loop wake for them: in a while of nothing, it only does what it was asked for.
    let ((), turns) = run_counted(&mut event_loop, &mut (), context.sleep(100 * MS));
    assert!(turns <= 5, "{turns} turns");
    assert_eq!(wakes.count(), 0);
}

/// Resident memory of the process, in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn fixture() -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (event_loop, context)
}
