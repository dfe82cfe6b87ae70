//! A flooded socket does not keep the loop, or another task, for itself; an idle one costs nothing.

#![allow(clippy::unwrap_used, reason = "these are tests, clippy just cannot tell")]

mod common;

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::{Duration, Instant};

use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::AsyncZmqSocket;
use calloop_zmq::kind::{Pull, Push};
use common::Rig;
use futures::StreamExt;

/// A PULL with that many messages in its queue.
fn flooded(rig: &mut Rig, messages: usize, budget: usize) -> Rc<AsyncZmqSocket<Pull>> {
    let pull = rig.socket::<Pull>("PULL", |raw| raw.set_rcvhwm(0));
    let push = rig.context.zmq_context().socket(zmq::PUSH).unwrap();
    push.set_sndhwm(0).unwrap();
    pull.set_budget(NonZeroUsize::new(budget).unwrap());
    push.connect(&pull.bind("inproc://flood").unwrap()).unwrap();
    for _ in 0..messages {
        push.send("drop", zmq::DONTWAIT).unwrap();
    }
    pull
}

/// How the messages of a task were spread over the turns of the loop.
fn by_turn(rig: &mut Rig, received: &Cell<usize>) -> Vec<usize> {
    let mut turns = Vec::new();
    while rig.is_live() {
        let before = received.get();
        rig.turn(common::STALL);
        turns.push(received.get() - before);
        assert!(turns.len() < 100_000, "a spin");
    }
    println!("{} turns", turns.len());
    turns
}

#[test]
fn a_task_gets_its_budget_in_each_turn_and_no_more() {
    type Receive = fn(Rc<AsyncZmqSocket<Pull>>, Rc<Cell<usize>>) -> std::pin::Pin<Box<dyn Future<Output = ()>>>;
    const MESSAGES: usize = 1000;
    let by_recv: Receive = |pull, received| {
        Box::pin(async move {
            while received.get() < MESSAGES {
                pull.recv().await.unwrap();
                received.set(received.get() + 1);
            }
        })
    };
    let by_stream: Receive = |pull, received| {
        Box::pin(async move {
            while received.get() < MESSAGES {
                (&*pull).next().await.unwrap().unwrap();
                received.set(received.get() + 1);
            }
        })
    };
    let by_recv_into: Receive = |pull, received| {
        Box::pin(async move {
            let mut message = calloop_zmq::Multipart::new();
            while received.get() < MESSAGES {
                pull.recv_into(&mut message).await.unwrap();
                received.set(received.get() + 1);
            }
        })
    };
    for receive in [by_recv, by_stream, by_recv_into] {
        for budget in [1, 7, 100] {
            let mut rig = Rig::new();
            let pull = flooded(&mut rig, MESSAGES, budget);
            let received = Rc::new(Cell::new(0));
            rig.spawn(receive(pull, Rc::clone(&received)));
            let turns = by_turn(&mut rig, &received);
            let busy: Vec<_> = turns.iter().copied().filter(|&messages| messages > 0).collect();
            let (last, full) = busy.split_last().unwrap();
            assert!(full.iter().all(|&messages| messages == budget), "{turns:?}");
            assert_eq!(full.len() * budget + last, MESSAGES);
            // One turn to be woken in, one to run in.
            assert!(turns.len() <= 2 * busy.len() + 2, "{} turns, {} busy", turns.len(), busy.len());
        }
    }
}

#[test]
fn a_sender_gets_its_budget_in_each_turn_and_no_more() {
    const MESSAGES: usize = 1000;
    let mut rig = Rig::new();
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(0));
    let pull = rig.context.zmq_context().socket(zmq::PULL).unwrap();
    pull.set_rcvhwm(0).unwrap();
    push.set_budget(NonZeroUsize::new(10).unwrap());
    pull.connect(&push.bind("inproc://flood").unwrap()).unwrap();
    let sent = Rc::new(Cell::new(0));
    let counter = Rc::clone(&sent);
    rig.spawn(async move {
        while counter.get() < MESSAGES {
            push.send("drop").await.unwrap();
            counter.set(counter.get() + 1);
        }
    });
    let turns = by_turn(&mut rig, &sent);
    let busy: Vec<_> = turns.iter().filter(|&&messages| messages > 0).collect();
    assert!(busy.iter().all(|&&messages| messages == 10), "{turns:?}");
}

#[test]
fn a_timer_keeps_its_beat_under_a_flood() {
    const MESSAGES: usize = 200_000;
    let mut rig = Rig::new();
    let pull = flooded(&mut rig, MESSAGES, 256);
    let (ticks, last_tick) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(Instant::now())));
    let (tick, at) = (Rc::clone(&ticks), Rc::clone(&last_tick));
    rig.handle()
        .insert_source(Timer::immediate(), move |_, &mut (), ()| {
            tick.set(tick.get() + 1);
            at.set(Instant::now());
            TimeoutAction::ToDuration(Duration::from_millis(1))
        })
        .unwrap();
    let received = Rc::new(Cell::new(0));
    let counter = Rc::clone(&received);
    rig.spawn(async move {
        while counter.get() < MESSAGES {
            pull.recv().await.unwrap();
            counter.set(counter.get() + 1);
        }
    });
    let (mut turns, mut late) = (0, 0);
    while rig.is_live() {
        // Due before this turn begins: it must come in this turn, however many messages there are.
        let (before, due) = (ticks.get(), last_tick.get().elapsed() >= Duration::from_millis(1));
        let so_far = received.get();
        rig.turn(common::STALL);
        turns += 1;
        late += u32::from(due);
        assert!(!due || ticks.get() > before, "a beat was left out in turn {turns}");
        assert!(received.get() - so_far <= 256, "more than the budget in one turn");
    }
    println!("{} beats, {late} of them due at the start of a turn, {turns} turns", ticks.get());
    assert!(late > 0, "the timer was never due");
}

#[test]
fn two_tasks_on_one_flooded_socket_both_make_progress() {
    const MESSAGES: usize = 10_000;
    let mut rig = Rig::new();
    let pull = flooded(&mut rig, MESSAGES, 10);
    let total = Rc::new(Cell::new(0));
    let each = [(); 2].map(|()| Rc::new(Cell::new(0)));
    for own in &each {
        let (pull, own, total) = (Rc::clone(&pull), Rc::clone(own), Rc::clone(&total));
        rig.spawn(async move {
            // The last message ends both: the other one is in its wait then.
            while total.get() < MESSAGES - 1 {
                pull.recv().await.unwrap();
                own.set(own.get() + 1);
                total.set(total.get() + 1);
            }
        });
    }
    by_turn(&mut rig, &total);
    let [one, other] = each.map(|own| own.get());
    println!("{one} and {other}");
    assert!(one >= MESSAGES / 4 && other >= MESSAGES / 4, "{one} and {other}");
}

#[test]
fn an_idle_second_costs_at_most_three_turns() {
    let mut rig = Rig::new();
    let pull = flooded(&mut rig, 10, 256);
    let push = rig.socket::<Push>("PUSH", |raw| raw.set_sndhwm(1));
    let other = Rc::clone(&pull);
    rig.spawn_aside(async move { while pull.recv().await.is_ok() {} });
    rig.spawn_aside(async move { while (&*other).next().await.is_some() {} });
    rig.spawn_aside(async move { while push.send("nobody is there").await.is_ok() {} });
    rig.idle(Duration::from_millis(50));
    let turns = rig.idle(Duration::from_secs(1));
    assert!(turns <= 3, "{turns} turns");
}

#[test]
fn a_message_that_nobody_waits_for_costs_at_most_three_turns() {
    let mut rig = Rig::new();
    let pull = rig.socket::<Pull>("PULL", |_| Ok(()));
    let push = rig.context.zmq_context().socket(zmq::PUSH).unwrap();
    push.connect(&pull.bind("inproc://nobody").unwrap()).unwrap();
    rig.idle(Duration::from_millis(10));
    push.send("unwanted", zmq::DONTWAIT).unwrap();
    assert!(rig.fd_readable("PULL"), "the message does not announce itself");
    let turns = rig.idle(Duration::from_millis(300));
    assert!(turns <= 3, "{turns} turns");
}
