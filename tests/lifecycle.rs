//! Everything may be dropped at any time, in any order, anywhere: nothing panics, hangs, leaks or spins.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;

use std::cell::Cell;
use std::ffi::c_void;
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use calloop::ping::make_ping;
use calloop::timer::{TimeoutAction, Timer};
use calloop::{EventLoop, RegistrationToken};
use calloop_zmq::kind::{Dealer, Pair, Pull, Push, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, Multipart};
use futures::executor::{LocalPool, block_on};
use futures::stream::FusedStream;
use futures::task::LocalSpawnExt;
use futures::{FutureExt, Sink, SinkExt, StreamExt};

use support::{DEADLINE, Wakes, alone, descriptors, eventually, now, poll_once, poll_with, run, turn_until};

fn endpoint() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("inproc://lifecycle-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

fn fixture() -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (event_loop, context)
}

/// All orders of `0..N`.
fn orders<const N: usize>() -> Vec<[usize; N]> {
    fn permute<const N: usize>(from: usize, order: &mut [usize; N], all: &mut Vec<[usize; N]>) {
        if from == N {
            all.push(*order);
        }
        for other in from..N {
            order.swap(from, other);
            permute(from + 1, order, all);
            order.swap(from, other);
        }
    }
    let mut all = Vec::new();
    permute(0, &mut std::array::from_fn(|index| index), &mut all);
    all
}

type Task<'a> = Pin<Box<dyn Future<Output = calloop_zmq::Result<()>> + 'a>>;

/// One of everything, with tasks that wait in every way there is.
struct World {
    event_loop: Option<EventLoop<'static, Vec<Rc<()>>>>,
    executor: Option<RegistrationToken>,
    scheduler: Option<calloop::futures::Scheduler<()>>,
    context: Option<AsyncZmqContext>,
    socket: Option<Rc<AsyncZmqSocket<Dealer>>>,
    futures: Vec<Task<'static>>,
    wakes: Arc<Wakes>,
    data: Vec<Rc<()>>,
}

impl World {
    const PARTS: usize = 6;

    fn new(probe: &Rc<()>) -> Self {
        let mut event_loop = EventLoop::try_new().unwrap();
        let handle = event_loop.handle();
        let context = AsyncZmqContext::new(&handle).unwrap();
        let (executor, scheduler) = calloop::futures::executor().unwrap();
        let held = Rc::clone(probe);
        let executor =
            handle.insert_source(executor, move |(), (), data: &mut Vec<_>| data.push(Rc::clone(&held))).unwrap();

        // Tasks that own what they wait on.
        let schedule = |task: Task<'static>, probe: Rc<()>| {
            let task = async move {
                drop((task.await, probe));
            };
            scheduler.schedule(task).unwrap();
        };
        let pull = context.socket::<Pull>().unwrap();
        schedule(Box::pin(async move { pull.recv().await.map(drop) }), Rc::clone(probe));
        let push = context.socket::<Push>().unwrap();
        schedule(Box::pin(async move { Ok(push.send(["nobody", "takes this"]).await?) }), Rc::clone(probe));
        let mut stream = context.socket::<Pull>().unwrap();
        schedule(Box::pin(async move { stream.next().await.map_or(Ok(()), |item| item.map(drop)) }), Rc::clone(probe));
        let mut sink = context.socket::<Push>().unwrap();
        schedule(Box::pin(async move { SinkExt::send(&mut sink, "nor this".into()).await }), Rc::clone(probe));
        let sleeper = context.clone();
        schedule(Box::pin(async move { sleeper.timeout(DEADLINE * 60, pending()).await? }), Rc::clone(probe));

        // Futures without an executor, on a socket that others hold too.
        let socket = Rc::new(context.socket::<Dealer>().unwrap());
        socket.bind(&endpoint()).unwrap();
        let (reader, writer, late) = (Rc::clone(&socket), Rc::clone(&socket), Rc::clone(&socket));
        let patient = context.clone();
        let (held, held_too) = (Rc::clone(probe), Rc::clone(probe));
        let mut futures: Vec<Task<'static>> = vec![
            Box::pin(async move {
                let (received, _held) = (reader.recv().await, held);
                received.map(drop)
            }),
            Box::pin(async move {
                let (sent, _held) = (writer.send("nor that").await, held_too);
                Ok(sent?)
            }),
            Box::pin(async move { patient.timeout(DEADLINE * 60, late.recv()).await?.map(drop) }),
        ];
        let wakes = Wakes::new();
        for future in &mut futures {
            assert!(poll_with(future, &wakes).is_pending());
        }
        let mut data = vec![Rc::clone(probe)];
        for _ in 0..3 {
            event_loop.dispatch(Some(Duration::ZERO), &mut data).unwrap();
        }
        Self {
            event_loop: Some(event_loop),
            executor: Some(executor),
            scheduler: Some(scheduler),
            context: Some(context),
            socket: Some(socket),
            futures,
            wakes,
            data,
        }
    }

    fn drop_part(&mut self, part: usize) {
        match part {
            0 => drop(self.event_loop.take()),
            1 => {
                let token = self.executor.take().unwrap();
                if let Some(event_loop) = &self.event_loop {
                    event_loop.handle().remove(token);
                }
            }
            2 => drop(self.scheduler.take()),
            3 => drop(self.context.take()),
            4 => drop(self.socket.take()),
            _ => self.futures.clear(),
        }
    }

    fn turn(&mut self) {
        if let Some(event_loop) = &mut self.event_loop {
            event_loop.dispatch(Some(Duration::ZERO), &mut self.data).unwrap();
        }
    }
}

#[test]
fn everything_drops_in_every_order() {
    let alone = alone();
    let probe = Rc::new(());
    let orders = orders::<{ World::PARTS }>();
    assert_eq!(orders.len(), 720);
    let mut ended_by_the_loop = 0;
    for (number, order) in orders.iter().enumerate() {
        let mut world = World::new(&probe);
        // A socket of the last context may still be closing; a thousand are too many.
        for part in order {
            world.drop_part(*part);
            if number % 2 == 0 {
                world.turn();
            }
            if world.event_loop.is_none() && !world.futures.is_empty() {
                for future in &mut world.futures {
                    match poll_with(future, &world.wakes) {
                        Poll::Ready(Err(Error::LoopGone | Error::Elapsed(_))) => ended_by_the_loop += 1,
                        other => panic!("{order:?}: {other:?}"),
                    }
                }
                world.futures.clear();
            }
        }
        drop(world.data);
        assert_eq!(Rc::strong_count(&probe), 1, "a leak after {order:?}");
        assert_eq!(Arc::strong_count(&world.wakes), 1, "a waker is kept after {order:?}");
        if number % 20 == 19 {
            eventually("the sockets are closed", || descriptors() <= alone.descriptors);
        }
    }
    println!("{ended_by_the_loop} waits ended with their loop");
    assert!(ended_by_the_loop > 0);
}

/// A socket whose descriptor is readable and whose Stream has a waker.
fn busy_socket(context: &AsyncZmqContext, wakes: &Arc<Wakes>) -> (AsyncZmqSocket<Pull>, zmq::Socket) {
    let (mut pull, push) = (context.socket::<Pull>().unwrap(), context.zmq_context().socket(zmq::PUSH).unwrap());
    let endpoint = endpoint();
    pull.bind(&endpoint).unwrap();
    push.connect(&endpoint).unwrap();
    assert!(poll_with(&mut pull.next(), wakes).is_pending());
    push.send("event", 0).unwrap();
    (pull, push)
}

type Sockets = Vec<AsyncZmqSocket<Pull>>;

/// Counts the sockets that it drops.
struct Counted(Sockets, Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.set(self.1.get() + std::mem::take(&mut self.0).len());
    }
}

#[test]
fn a_socket_may_be_dropped_in_a_callback() {
    let _alone = alone();
    let wakes = Wakes::new();
    // Before and after the sockets in the batch, and in a timer, which comes last; in an idle, which comes after all.
    for place in 0..5 {
        let mut event_loop = EventLoop::<Sockets>::try_new().unwrap();
        let handle = event_loop.handle();
        let (ping, source) = make_ping().unwrap();
        let mut source = Some(source);
        let dropped = Rc::new(Cell::new(0));
        let counted = Rc::clone(&dropped);
        let clear = move |sockets: &mut Sockets| counted.set(counted.get() + std::mem::take(sockets).len());
        if place == 0 {
            let clear = clear.clone();
            handle.insert_source(source.take().unwrap(), move |(), (), data| clear(data)).unwrap();
        }
        let context = AsyncZmqContext::new(&handle).unwrap();
        let mut holds_handle = None;
        let (mut sockets, peers): (Sockets, Vec<_>) = (0..8).map(|_| busy_socket(&context, &wakes)).unzip();
        match place {
            0 => {}
            1 => _ = handle.insert_source(source.take().unwrap(), move |(), (), data| clear(data)).unwrap(),
            2 => {
                let timer = Timer::immediate();
                let clear = move |_, (): &mut (), data: &mut _| {
                    clear(data);
                    TimeoutAction::Drop
                };
                handle.insert_source(timer, clear).unwrap();
            }
            3 => drop(handle.insert_idle(move |data| clear(data))),
            // The callback of a source that is being removed owns them.
            _ => {
                let owned = Counted(std::mem::take(&mut sockets), Rc::clone(&dropped));
                let (other, other_source) = make_ping().unwrap();
                let token = handle.insert_source(other_source, move |(), (), _| assert_eq!(owned.0.len(), 8)).unwrap();
                let remover = handle.clone();
                let source = source.take().unwrap();
                let removing = handle.insert_source(source, move |(), (), _| remover.remove(token)).unwrap();
                holds_handle = Some((removing, other));
            }
        }
        ping.ping();
        turn_until(&mut event_loop, &mut sockets, |_| dropped.get() == 8);
        for _ in 0..3 {
            event_loop.dispatch(Some(Duration::ZERO), &mut sockets).unwrap();
        }
        assert_eq!(Arc::strong_count(&wakes), 1, "a waker of a dropped socket is kept");
        // The loop goes on, with new sockets, whose descriptors may have the old numbers.
        let (mut pull, push) = busy_socket(&context, &wakes);
        let before = wakes.count();
        turn_until(&mut event_loop, &mut sockets, |_| wakes.count() > before);
        assert!(poll_once(&mut pull.next()).is_ready());
        drop((peers, push));
        // A loop that holds a handle of itself is never freed.
        if let Some((token, _other)) = holds_handle {
            handle.remove(token);
        }
    }
    assert!(wakes.count() > 0);
}

/// What the loop has of a socket holds the context, and that the hub, with descriptors of its own.
#[test]
fn a_loop_that_goes_on_keeps_nothing_of_a_socket_and_a_context_that_are_gone() {
    let _alone = alone();
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    for with_socket in [false, true] {
        let before = descriptors();
        let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
        let socket = with_socket.then(|| context.socket::<Pull>().unwrap());
        event_loop.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
        drop((context, socket));
        eventually("the descriptors are back", || {
            event_loop.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
            descriptors() <= before
        });
    }
}

#[test]
fn a_socket_may_be_dropped_in_a_task() {
    let _alone = alone();
    let mut event_loop = EventLoop::<usize>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (executor, scheduler) = calloop::futures::executor().unwrap();
    event_loop.handle().insert_source(executor, |(), (), ended| *ended += 1).unwrap();
    let endpoint = endpoint();
    let pull = context.socket::<Pull>().unwrap();
    pull.bind(&endpoint).unwrap();
    let closing = async move {
        let first = pull.recv().await.unwrap();
        assert_eq!(first, "one".into());
        drop(pull);
    };
    scheduler.schedule(closing).unwrap();
    let push = context.socket::<Push>().unwrap();
    push.connect(&endpoint).unwrap();
    let sending = async move {
        push.send("one").await.unwrap();
        push.close().await.unwrap();
    };
    scheduler.schedule(sending).unwrap();
    turn_until(&mut event_loop, &mut 0, |ended| *ended == 2);
}

/// Waits of every kind, each with a waker of its own.
fn waits<'a>(reader: &'a AsyncZmqSocket<Pull>, writer: &'a AsyncZmqSocket<Push>) -> Vec<(Task<'a>, Arc<Wakes>)> {
    let waits: [Task<'a>; 9] = [
        Box::pin(reader.recv().map(|outcome| outcome.map(drop))),
        Box::pin(reader.recv().map(|outcome| outcome.map(drop))),
        Box::pin(async move { reader.recv_into(&mut Multipart::new()).await }),
        Box::pin(reader.readable()),
        Box::pin(async move {
            let (mut stream, mut ended) = (reader, Ok(()));
            while let Some(item) = stream.next().await {
                ended = item.map(drop);
            }
            assert!(stream.is_terminated());
            assert!(stream.next().await.is_none());
            ended
        }),
        Box::pin(async move { SinkExt::send(&mut &*writer, "kept by the sink".into()).await }),
        Box::pin(async move {
            let refused = writer.send(["a", "b"]).await.unwrap_err();
            assert_eq!(refused.message, ["a", "b"].into());
            Err(refused.error)
        }),
        Box::pin(async move { Ok(writer.send("c").await?) }),
        Box::pin(writer.writable()),
    ];
    waits
        .into_iter()
        .map(|mut wait| {
            let wakes = Wakes::new();
            assert!(poll_with(&mut wait, &wakes).is_pending());
            (wait, wakes)
        })
        .collect()
}

#[test]
fn waits_end_with_their_loop() {
    let _alone = alone();
    let (event_loop, context) = fixture();
    let (reader, writer) = (context.socket::<Pull>().unwrap(), context.socket::<Push>().unwrap());
    let mut waits = waits(&reader, &writer);
    drop(event_loop);
    for (number, (wait, wakes)) in waits.iter_mut().enumerate() {
        assert!(wakes.count() > 0, "wait {number} was not woken");
        match poll_with(wait, wakes) {
            Poll::Ready(Err(Error::LoopGone)) => {}
            other => panic!("wait {number}: {other:?}"),
        }
    }
    drop(waits);
    // New ones do not even begin.
    assert!(matches!(block_on(reader.recv()), Err(Error::LoopGone)));
    assert!(matches!(block_on(writer.writable()), Err(Error::LoopGone)));
    assert!(matches!(block_on(writer.send("d")), Err(refused) if matches!(refused.error, Error::LoopGone)));
    assert_eq!(writer.take_unsent(), Some("kept by the sink".into()));
    // What needs no loop goes on.
    let endpoint = reader.bind(&endpoint()).unwrap();
    writer.connect(&endpoint).unwrap();
    assert!(writer.try_send("without").is_ok());
    assert_eq!(block_on(reader.recv()).unwrap(), "without".into());
}

#[test]
fn waits_of_another_executor_end_with_the_loop() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let (probe, mut pool) = (Rc::new(()), LocalPool::new());
    let ended = Rc::new(Cell::new(0));
    for _ in 0..4 {
        let socket = context.socket::<Pull>().unwrap();
        let (probe, ended) = (Rc::clone(&probe), Rc::clone(&ended));
        let task = async move {
            assert!(matches!(socket.recv().await, Err(Error::LoopGone)));
            ended.set(ended.get() + 1);
            drop(probe);
        };
        pool.spawner().spawn_local(task).unwrap();
    }
    pool.run_until_stalled();
    event_loop.dispatch(Some(Duration::ZERO), &mut ()).unwrap();
    pool.run_until_stalled();
    assert_eq!(ended.get(), 0);
    drop(event_loop);
    pool.run_until_stalled();
    assert_eq!((ended.get(), Rc::strong_count(&probe)), (4, 1));
}

#[test]
fn a_socket_goes_in_and_comes_out() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let (push, pull) = (context.socket::<Push>().unwrap(), context.zmq_context().socket(zmq::PULL).unwrap());
    let endpoint = endpoint();
    pull.bind(&endpoint).unwrap();
    push.connect(&endpoint).unwrap();
    pull.set_rcvtimeo(1234).unwrap();
    pull.set_sndtimeo(-1).unwrap();
    pull.set_linger(77).unwrap();
    // Queued before it is adopted, while it is, and after.
    run(&mut event_loop, push.send(["1", "first"])).unwrap();
    let mut pull = context.adopt::<Pull>(pull).unwrap();
    assert_eq!((pull.get_ref().get_rcvtimeo().unwrap(), pull.get_ref().get_sndtimeo().unwrap()), (0, 0));
    run(&mut event_loop, async {
        assert_eq!(pull.next().await.unwrap().unwrap(), ["1", "first"].into());
        push.send(["2", "second"]).await.unwrap();
        push.send(["3", "third"]).await.unwrap();
        assert_eq!(pull.recv().await.unwrap(), ["2", "second"].into());
    });
    let wakes = Wakes::new();
    assert!(poll_with(&mut pull.next(), &wakes).is_ready(), "the third");
    assert!(poll_with(&mut pull.next(), &wakes).is_pending());
    run(&mut event_loop, push.send(["4", "fourth"])).unwrap();
    let pull = pull.into_inner();
    assert_eq!(Arc::strong_count(&wakes), 1, "the stream's waker is kept");
    assert_eq!((pull.get_rcvtimeo().unwrap(), pull.get_sndtimeo().unwrap()), (1234, -1));
    assert_eq!(pull.get_linger().unwrap(), 77);
    // A blocking receive works, and so does its timeout.
    assert_eq!(pull.recv_multipart(0).unwrap(), [b"4".to_vec(), b"fourth".to_vec()]);
    pull.set_rcvtimeo(1).unwrap();
    assert_eq!(pull.recv_bytes(0), Err(zmq::Error::EAGAIN));
    pull.set_rcvtimeo(1234).unwrap();
    // In again, and out again after the loop has gone.
    let pull = context.adopt::<Pull>(pull).unwrap();
    run(&mut event_loop, async {
        push.send("5").await.unwrap();
        assert_eq!(pull.recv().await.unwrap(), "5".into());
    });
    drop(event_loop);
    let pull = pull.into_inner();
    assert_eq!(pull.get_rcvtimeo().unwrap(), 1234);
    // It may go to another thread, and outlive all that is here.
    drop((push, context));
    thread::spawn(move || drop(pull)).join().unwrap();
}

#[test]
fn closing_hands_over_what_the_sink_held() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let endpoint = endpoint();
    let (push, pull) = (context.socket::<Push>().unwrap(), context.socket::<Pull>().unwrap());
    push.get_ref().set_sndhwm(1).unwrap();
    pull.get_ref().set_rcvhwm(1).unwrap();
    pull.bind(&endpoint).unwrap();
    push.connect(&endpoint).unwrap();
    let mut sent = 0_u32;
    // Until one stays in the sink.
    let mut held = false;
    run(&mut event_loop, async {
        while !held {
            (&push).feed((&sent.to_le_bytes()).into()).await.unwrap();
            sent += 1;
            held = (&push).flush().now_or_never().is_none();
        }
    });
    assert!(sent > 1, "some went out");
    let mut closing = Box::pin(push.close());
    assert!(poll_once(&mut closing).is_pending(), "there is no room");
    run(&mut event_loop, async {
        let drain = async {
            for expected in 0..sent {
                assert_eq!(pull.recv().await.unwrap(), (&expected.to_le_bytes()).into());
            }
        };
        futures::join!(drain, async { closing.await.unwrap() });
    });
    assert_eq!(pull.try_recv().unwrap(), None);
}

#[test]
fn closing_gives_back_what_it_could_not_hand_over() {
    let _alone = alone();
    let (event_loop, context) = fixture();
    let push = context.socket::<Push>().unwrap();
    now((&push).feed(["held", "back"].into())).unwrap();
    let (mut closing, wakes) = (Box::pin(push.close()), Wakes::new());
    assert!(poll_with(&mut closing, &wakes).is_pending());
    drop(event_loop);
    assert!(wakes.count() > 0);
    let Poll::Ready(Err(refused)) = poll_with(&mut closing, &wakes) else { panic!("the loop is gone") };
    assert!(matches!(refused.error, Error::LoopGone));
    assert_eq!(refused.into_message(), ["held", "back"].into());
}

/// A context that somebody else owns, and ends when they like.
#[derive(Clone, Copy)]
struct RawContext(*mut c_void);

// SAFETY: libzmq's contexts are for all threads.
unsafe impl Send for RawContext {}

impl RawContext {
    fn new() -> Self {
        // SAFETY: it has no conditions.
        Self(unsafe { zmq_sys::zmq_ctx_new() })
    }

    fn socket(self, kind: zmq::SocketType) -> zmq::Socket {
        // SAFETY: the context is alive until `terminated`; the socket has no other owner.
        let socket = unsafe { zmq::Socket::from_raw(zmq_sys::zmq_socket(self.0, kind as i32)) };
        socket.set_linger(0).unwrap();
        socket
    }

    fn shut_down_elsewhere(self) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            let context = self;
            // SAFETY: as above.
            assert_eq!(unsafe { zmq_sys::zmq_ctx_shutdown(context.0) }, 0);
        })
    }

    /// Waits for the end, which comes when all sockets are closed.
    fn terminated(self) {
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            let context = self;
            // SAFETY: as above, and nobody uses it after this.
            done.send(unsafe { zmq_sys::zmq_ctx_term(context.0) }).unwrap();
        });
        assert_eq!(ended.recv_timeout(DEADLINE).expect("a socket is still open"), 0);
    }
}

/// Turns the loop for a while in which nothing happens.
fn assert_quiet<D>(event_loop: &mut EventLoop<'static, D>, data: &mut D) {
    let (start, mut turns) = (Instant::now(), 0);
    let end = start + Duration::from_millis(100);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        event_loop.dispatch(Some(left), data).unwrap();
        turns += 1;
    }
    assert!(turns <= 5, "{turns} turns while nothing happened");
}

#[test]
fn the_end_of_the_context_wakes_reader_and_writer() {
    let _alone = alone();
    for round in 0..8 {
        let (mut event_loop, context) = fixture();
        let raw = RawContext::new();
        let dealer = context.adopt::<Dealer>(raw.socket(zmq::DEALER)).unwrap();
        let (reads, writes) = (Wakes::new(), Wakes::new());
        let (mut read, mut write) = (dealer.recv(), dealer.send(["a", "b"]));
        assert!(poll_with(&mut read, &reads).is_pending() && poll_with(&mut write, &writes).is_pending());
        if round % 2 == 0 {
            assert_quiet(&mut event_loop, &mut ());
        }
        let ending = raw.shut_down_elsewhere();
        let turns = turn_until(&mut event_loop, &mut (), |()| reads.count() > 0 && writes.count() > 0);
        ending.join().unwrap();
        println!("{turns} turns");
        assert!(matches!(poll_with(&mut read, &reads), Poll::Ready(Err(Error::Terminated))));
        let Poll::Ready(Err(refused)) = poll_with(&mut write, &writes) else { panic!("it is terminated") };
        assert!(matches!(refused.error, Error::Terminated));
        assert_eq!(refused.into_message(), ["a", "b"].into());
        assert_eq!((reads.count(), writes.count()), (1, 1), "woken more than once");
        drop((read, write));
        assert_quiet(&mut event_loop, &mut ());

        // Everything answers the same from now on, and nothing panics.
        assert!(matches!(now(dealer.recv()), Err(Error::Terminated)));
        assert!(matches!(now(dealer.readable()), Err(Error::Terminated)));
        assert!(matches!(now(dealer.writable()), Err(Error::Terminated)));
        assert!(matches!(dealer.try_recv(), Err(Error::Terminated)));
        assert!(matches!(dealer.try_send("x").unwrap_err().error, Error::Terminated));
        assert!(matches!(dealer.bind("inproc://x"), Err(Error::Terminated)));
        assert!(matches!(dealer.connect("inproc://x"), Err(Error::Terminated)));
        assert!(matches!(dealer.unbind("inproc://x"), Err(Error::Terminated)));
        assert!(matches!(dealer.last_endpoint(), Err(Error::Terminated)));
        assert!(matches!(now(SinkExt::send(&mut &dealer, "x".into())), Err(Error::Terminated)));
        assert!(now((&dealer).next()).is_none());
        println!("{dealer:?} {context:?}");
        if round % 4 == 0 {
            drop(dealer);
        } else {
            drop(dealer.into_inner());
        }
        raw.terminated();
        assert_quiet(&mut event_loop, &mut ());
    }
}

#[test]
fn the_end_of_the_context_ends_every_wait_once() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let raw = RawContext::new();
    let reader = context.adopt::<Pull>(raw.socket(zmq::PULL)).unwrap();
    let writer = context.adopt::<Push>(raw.socket(zmq::PUSH)).unwrap();
    let mut waits = waits(&reader, &writer);
    raw.shut_down_elsewhere().join().unwrap();
    turn_until(&mut event_loop, &mut (), |()| waits.iter().all(|(_, wakes)| wakes.count() > 0));
    for (number, (wait, wakes)) in waits.iter_mut().enumerate() {
        match (number, poll_with(wait, wakes)) {
            // The stream: `None`, and nothing else before it.
            (4, Poll::Ready(Ok(()))) | (_, Poll::Ready(Err(Error::Terminated))) => {}
            (_, other) => panic!("wait {number}: {other:?}"),
        }
        assert_eq!(wakes.count(), 1, "wait {number}");
    }
    drop(waits);
    assert!(reader.is_terminated() && now((&reader).next()).is_none());
    assert_quiet(&mut event_loop, &mut ());
    drop((reader, writer));
    raw.terminated();
}

#[test]
fn the_end_of_the_context_ends_tasks() {
    let _alone = alone();
    let mut event_loop = EventLoop::<Vec<&'static str>>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (executor, scheduler) = calloop::futures::executor().unwrap();
    event_loop.handle().insert_source(executor, |ended, (), all| all.push(ended)).unwrap();
    let raw = RawContext::new();
    // Peers that are full in one direction and empty in the other.
    let endpoint = endpoint();
    let left = Rc::new(context.adopt::<Pair>(raw.socket(zmq::PAIR)).unwrap());
    let right = context.adopt::<Pair>(raw.socket(zmq::PAIR)).unwrap();
    right.bind(&endpoint).unwrap();
    left.connect(&endpoint).unwrap();
    let (reader, writer) = (Rc::clone(&left), left);
    let reading = async move {
        let items: Vec<_> = (&*reader).collect().await;
        assert!(items.iter().all(Result::is_ok));
        "stream"
    };
    let writing = async move {
        let mut sent = 0_u32;
        loop {
            if let Err(refused) = writer.send("fills up").await {
                assert!(matches!(refused.error, Error::Terminated) && sent > 0, "{refused:?}");
                return "send";
            }
            sent += 1;
        }
    };
    scheduler.schedule(reading).unwrap();
    scheduler.schedule(writing).unwrap();
    let mut ended = Vec::new();
    for _ in 0..50 {
        event_loop.dispatch(Some(Duration::ZERO), &mut ended).unwrap();
    }
    assert_eq!(ended, [""; 0]);
    raw.shut_down_elsewhere().join().unwrap();
    let turns = turn_until(&mut event_loop, &mut ended, |ended| ended.len() == 2);
    println!("{turns} turns");
    assert_quiet(&mut event_loop, &mut ended);
    drop(right);
    raw.terminated();
}

/// Nobody waits, and nobody looks: the descriptor that stays readable must not keep the loop awake.
#[test]
fn the_end_of_the_context_of_an_idle_socket_is_quiet() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let raw = RawContext::new();
    let router = context.adopt::<Router>(raw.socket(zmq::ROUTER)).unwrap();
    raw.shut_down_elsewhere().join().unwrap();
    assert_quiet(&mut event_loop, &mut ());
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(Pin::new(&mut &router).poll_next_unpin(&mut cx), Poll::Ready(None)));
    assert!(matches!(Pin::new(&mut &router).poll_ready(&mut cx), Poll::Ready(Ok(()) | Err(Error::Terminated))));
    // Not even a socket that cannot be adopted any more harms anyone.
    drop(router);
    raw.terminated();
    assert_quiet(&mut event_loop, &mut ());
}

#[test]
fn a_socket_of_an_ended_context_ends_at_once() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let raw = RawContext::new();
    let (unaware, aware) = (raw.socket(zmq::PULL), raw.socket(zmq::PULL));
    raw.shut_down_elsewhere().join().unwrap();
    // A socket learns of the end with the first command that it processes.
    assert_eq!(aware.recv_bytes(zmq::DONTWAIT), Err(zmq::Error::ETERM));
    assert!(matches!(context.adopt::<Pull>(aware), Err(Error::Terminated)));
    let socket = context.adopt::<Pull>(unaware).unwrap();
    assert!(matches!(now(socket.recv()), Err(Error::Terminated)));
    assert_quiet(&mut event_loop, &mut ());
    drop(socket);
    raw.terminated();
    assert_quiet(&mut event_loop, &mut ());
}

#[test]
fn the_loop_outlives_a_context() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    drop(context.socket::<Pull>().unwrap());
    drop(context);
    assert_quiet(&mut event_loop, &mut ());
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    run(&mut event_loop, context.sleep(Duration::from_millis(1)));
}

/// The context of an adopted socket may have no other owner left, and a linger that never ends.
#[test]
fn dropping_an_adopted_socket_does_not_block() {
    let _alone = alone();
    let (dropped, done) = mpsc::channel();
    thread::spawn(move || {
        let (_event_loop, context) = fixture();
        let other = zmq::Context::new();
        let socket = other.socket(zmq::PUSH).unwrap();
        // Longer than the patience below; the default of the zmq crate's sockets is for ever.
        socket.set_linger(5000).unwrap();
        // Nobody is there.
        socket.connect("tcp://127.0.0.1:9").unwrap();
        socket.send("lingers", 0).unwrap();
        drop(other);
        let start = Instant::now();
        drop(context.adopt::<Push>(socket).unwrap());
        dropped.send(start.elapsed()).unwrap();
    });
    let took = done.recv_timeout(DEADLINE).unwrap();
    assert!(took < Duration::from_secs(2), "the drop took {took:?}");
}
