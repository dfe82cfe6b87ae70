//! Sockets by the thousand: those that nobody touches cost nothing, and each wakes its task.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop_zmq::AsyncZmqContext;
use calloop_zmq::kind::Pull;

use crate::support::{Watchdog, turn_until};
use crate::{STALL, alone};

#[test]
fn nine_hundred_sockets_in_one_context() {
    many_sockets(1, 900);
}

#[test]
#[ignore = "needs 19,000 descriptors: a named step of .ci/slow"]
fn nine_and_a_half_thousand_sockets_in_ten_contexts() {
    many_sockets(10, 950);
}

fn many_sockets(contexts: usize, sockets: usize) {
    let _alone = alone();
    let needed = contexts * (2 * sockets + 20) + 100;
    let available = raise_descriptor_limit();
    if available < needed {
        // CI's machine has them.
        assert!(std::env::var_os("CI").is_none(), "{needed} descriptors are needed, {available} allowed");
        println!("skipped: {needed} descriptors are needed, {available} allowed");
        return;
    }
    let few = wake_latency(1, 10);
    let many = wake_latency(contexts, sockets);
    println!("wake to received, median: {few:?} with 10 sockets, {many:?} with {}", contexts * sockets);
    // The figure tells. A cost that grows with the number of sockets would be more than this, on any machine.
    assert!(many < 20 * few + Duration::from_millis(1), "{many:?} against {few:?}");
}

/// The median time from a send to its receiving task, each of so many sockets having its own.
fn wake_latency(contexts: usize, sockets: usize) -> Duration {
    let _watchdog = Watchdog::new();
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let (executor, scheduler) = calloop::futures::executor::<()>().unwrap();
    event_loop.handle().insert_source(executor, |(), (), ()| ()).unwrap();
    let received = Rc::new(Cell::new(0));
    let (mut pushes, mut all) = (Vec::new(), Vec::new());
    for _ in 0..contexts {
        let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
        // libzmq deals to its pulls in turn: each gets one of as many messages.
        let push = context.zmq_context().socket(zmq::PUSH).unwrap();
        push.set_linger(0).unwrap();
        for number in 0..sockets {
            let pull = context.socket::<Pull>().unwrap();
            let endpoint = format!("inproc://many-{number}");
            pull.bind(&endpoint).unwrap();
            push.connect(&endpoint).unwrap();
            let counts = Rc::new(Cell::new(0));
            let (total, own) = (Rc::clone(&received), Rc::clone(&counts));
            scheduler
                .schedule(async move {
                    while pull.recv().await.is_ok() {
                        total.set(total.get() + 1);
                        own.set(own.get() + 1);
                    }
                })
                .unwrap();
            all.push(counts);
        }
        pushes.push((push, context));
    }

    // All wait, and the loop sleeps.
    let turn = |event_loop: &mut EventLoop<'static, ()>, timeout| event_loop.dispatch(timeout, &mut ()).unwrap();
    let rest = |event_loop: &mut EventLoop<'static, ()>| {
        let begin = Instant::now();
        let mut turns = 0;
        while let Some(left) = Duration::from_millis(300).checked_sub(begin.elapsed()) {
            turn(event_loop, left);
            turns += 1;
        }
        turns
    };
    rest(&mut event_loop);
    let turns = rest(&mut event_loop);
    assert!(turns <= 3, "{} idle sockets cost {turns} turns", all.len());

    let mut times = Vec::new();
    let mut most_turns = 0;
    for round in 1..=3 {
        for (push, _) in &pushes {
            for _ in 0..sockets {
                let (before, begin) = (received.get(), Instant::now());
                push.send("wake up", zmq::DONTWAIT).unwrap();
                let mut turns = 0;
                while received.get() == before {
                    turn(&mut event_loop, STALL);
                    turns += 1;
                    assert!(begin.elapsed() < STALL, "a message woke nobody");
                }
                times.push(begin.elapsed());
                most_turns = most_turns.max(turns);
            }
        }
        assert!(all.iter().all(|own| own.get() == round), "not each got its own");
    }
    assert!(most_turns <= 5, "{most_turns} turns for one message");

    // And all at once.
    let before = received.get();
    for (push, _) in &pushes {
        for _ in 0..sockets {
            push.send("wake up", zmq::DONTWAIT).unwrap();
        }
    }
    turn_until(&mut event_loop, &mut (), |()| received.get() == before + all.len());
    times.sort();
    times[times.len() / 2]
}

/// Raises the soft limit to the hard one, and answers it.
fn raise_descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes a struct that outlives the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: reads a struct that outlives the call.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}
