//! How many instructions one message costs: this crate's share, and libzmq's by hand.
//!
//! `cargo bench` here needs valgrind and gungraun-runner. Counts do not depend on how busy the machine is, so a rise of
//! more than three percent fails. They do depend on the compiler: when a new one moves them, enter what it prints.

use std::cell::Cell;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use calloop::EventLoop;
use calloop_zmq::kind::{Pull, Push};
use calloop_zmq::zmq::{DONTWAIT, Message};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart, Tasks};
use futures::{SinkExt, StreamExt};
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

/// Messages in each count.
const MESSAGES: usize = 1_000;

/// What is allowed: what was counted, and three percent.
fn limit(instructions_per_message: u64) -> LibraryBenchmarkConfig {
    let limit = instructions_per_message * MESSAGES as u64 * 103 / 100;
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, limit)]));
    config
}

struct Scene {
    pull: AsyncZmqSocket<Pull>,
    push: AsyncZmqSocket<Push>,
    context: AsyncZmqContext,
    event_loop: EventLoop<'static, ()>,
}

/// Two connected sockets and nothing to receive.
fn empty() -> Scene {
    let event_loop = EventLoop::try_new().expect("a loop");
    let context = AsyncZmqContext::new(&event_loop.handle()).expect("a context");
    let pull = context.socket::<Pull>().expect("a socket");
    let push = context.socket::<Push>().expect("a socket");
    for socket in [pull.get_ref(), push.get_ref()] {
        socket.set_sndhwm(0).expect("an option");
        socket.set_rcvhwm(0).expect("an option");
    }
    pull.set_budget(NonZeroUsize::MAX);
    push.set_budget(NonZeroUsize::MAX);
    pull.bind("inproc://instructions").expect("an endpoint");
    push.connect("inproc://instructions").expect("an endpoint");
    // The first message on a pipe costs more.
    push.get_ref().send("first", 0).expect("sent");
    assert_eq!(pull.get_ref().recv_bytes(0).expect("received"), b"first");
    Scene { pull, push, context, event_loop }
}

/// As [`empty`], with the messages there.
fn full() -> Scene {
    let scene = empty();
    for _ in 0..MESSAGES {
        scene.push.get_ref().send(&[0; 32][..], 0).expect("sent");
    }
    scene
}

/// Runs a future that never has to wait.
fn run<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

#[library_benchmark(setup = full)]
fn receive_by_hand(scene: Scene) -> Scene {
    let mut message = Message::new();
    for _ in 0..MESSAGES {
        scene.pull.get_ref().recv(&mut message, DONTWAIT).expect("a message");
        black_box(&message);
    }
    scene
}

#[library_benchmark(setup = full, config = limit(649))]
fn receive(scene: Scene) -> Scene {
    run(async {
        for _ in 0..MESSAGES {
            black_box(scene.pull.recv().await.expect("a message"));
        }
    });
    scene
}

#[library_benchmark(setup = full, config = limit(640))]
fn receive_by_stream(mut scene: Scene) -> Scene {
    run(async {
        for _ in 0..MESSAGES {
            black_box(scene.pull.next().await.expect("no end").expect("a message"));
        }
    });
    scene
}

#[library_benchmark(setup = full, config = limit(547))]
fn receive_into(scene: Scene) -> Scene {
    run(async {
        let mut message = Multipart::new();
        for _ in 0..MESSAGES {
            scene.pull.recv_into(&mut message).await.expect("a message");
            black_box(&message);
        }
    });
    scene
}

#[library_benchmark(setup = empty)]
fn send_by_hand(scene: Scene) -> Scene {
    for _ in 0..MESSAGES {
        scene.push.get_ref().send(black_box(&[0; 32][..]), DONTWAIT).expect("sent");
    }
    scene
}

#[library_benchmark(setup = empty, config = limit(768))]
fn send(scene: Scene) -> Scene {
    run(async {
        for _ in 0..MESSAGES {
            scene.push.send(black_box(&[0; 32][..])).await.expect("sent");
        }
    });
    scene
}

#[library_benchmark(setup = empty, config = limit(744))]
fn send_by_sink(mut scene: Scene) -> Scene {
    run(async {
        for _ in 0..MESSAGES {
            SinkExt::send(&mut scene.push, black_box(&[0; 32][..]).into()).await.expect("sent");
        }
    });
    scene
}

// A task waits for each message, and the loop wakes it.
#[library_benchmark(setup = empty, config = limit(6075))]
fn park_and_wake(mut scene: Scene) -> EventLoop<'static, ()> {
    let tasks = Tasks::new(&scene.event_loop.handle()).expect("an executor");
    let received = Rc::new(Cell::new(0));
    let count = Rc::clone(&received);
    tasks.spawn(async move {
        while let Some(message) = scene.pull.next().await {
            black_box(message.expect("a message"));
            count.set(count.get() + 1);
        }
    });
    scene.event_loop.dispatch(None, &mut ()).expect("a turn");
    for _ in 0..MESSAGES {
        scene.push.get_ref().send(&[0; 32][..], 0).expect("sent");
        scene.event_loop.dispatch(None, &mut ()).expect("a turn");
    }
    assert_eq!(received.get(), MESSAGES);
    drop(scene.context);
    scene.event_loop
}

library_benchmark_group!(
    name = hot_paths,
    benchmarks =
        [receive_by_hand, receive, receive_by_stream, receive_into, send_by_hand, send, send_by_sink, park_and_wake]
);
main!(library_benchmark_groups = hot_paths);
