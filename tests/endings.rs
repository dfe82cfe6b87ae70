//! Every wait ends: shutdown, termination, and what holds it up.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::{Duration, Instant};

use calloop::EventLoop;
use calloop_zmq::kind::{Dealer, Pull, Push};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error};
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};

fn run<F: Future<Output = ()>>(test: impl FnOnce(AsyncZmqContext) -> F) {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let test = context.timeout(Duration::from_secs(30), test(context.clone()));
    // The only clone is the test's own: a context ends with its last.
    let test = {
        let context = context;
        async move {
            drop(context);
            test.await
        }
    };
    let done = event_loop.block_on(test, &mut (), |()| ()).unwrap();
    done.expect("nobody stops the loop").expect("it takes less than 30 seconds");
}

#[test]
fn a_shutdown_ends_every_wait_on_every_socket() {
    run(|context| async move {
        let sockets: Vec<AsyncZmqSocket<Dealer>> = (0..8).map(|_| context.socket().unwrap()).collect();
        let waits = futures::future::join_all(sockets.iter().map(|socket| async move {
            // No peer: both directions wait, as futures and as Stream.
            let mut stream = socket;
            let (received, next, sent, readable, writable) =
                futures::join!(socket.recv(), stream.next(), socket.send("x"), socket.readable(), socket.writable());
            assert!(matches!(received.unwrap_err(), Error::Terminated));
            assert!(next.is_none());
            let refused = sent.unwrap_err();
            assert!(matches!(refused.error, Error::Terminated));
            assert_eq!(refused.into_message(), "x".into());
            assert!(matches!(readable.unwrap_err(), Error::Terminated));
            assert!(matches!(writable.unwrap_err(), Error::Terminated));
            assert!(stream.next().await.is_none(), "and it stays ended");
        }));
        let shutdown = async {
            context.sleep(Duration::from_millis(10)).await;
            context.shutdown();
        };
        futures::join!(waits, shutdown);

        let socket = &sockets[0];
        assert!(matches!(socket.try_recv(), Err(Error::Terminated)));
        assert!(matches!(socket.try_send("x").unwrap_err().error, Error::Terminated));
        assert!(matches!(socket.bind("inproc://late"), Err(Error::Terminated)));
        assert!(matches!(context.socket::<Pull>(), Err(Error::Terminated)));
    });
}

#[test]
fn termination_waits_until_what_was_sent_is_out() {
    const MESSAGES: usize = 5000;
    let peer = zmq::Context::new().socket(zmq::PULL).unwrap();
    peer.set_rcvtimeo(5000).unwrap();
    peer.bind("tcp://127.0.0.1:*").unwrap();
    let endpoint = peer.get_last_endpoint().unwrap().unwrap();
    let peer = std::thread::spawn(move || (0..MESSAGES).for_each(|_| drop(peer.recv_msg(0).unwrap())));
    run(|context| async move {
        let push = context.socket::<Push>().unwrap();
        push.get_ref().set_linger(-1).unwrap();
        push.connect(&endpoint).unwrap();
        for number in 0..MESSAGES {
            push.send(number.to_string()).await.unwrap();
        }
        push.close().await.unwrap();
        context.terminate().await.unwrap();
    });
    peer.join().expect("it received them all");
}

#[test]
fn termination_gives_up_what_nobody_fetches_after_the_linger() {
    // Nobody listens there, so the message cannot leave.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    run(|context| async move {
        let push = context.socket::<Push>().unwrap();
        push.get_ref().set_linger(300).unwrap();
        push.connect(&endpoint).unwrap();
        push.send("to nobody").await.unwrap();
        drop(push);
        let (begin, sleeper) = (Instant::now(), context.sleep(Duration::from_millis(100)));
        let mut termination = context.terminate();
        // The loop goes on meanwhile.
        futures::select_biased! {
            _ = (&mut termination).fuse() => panic!("after {:?}", begin.elapsed()),
            () = sleeper.fuse() => {}
        }
        termination.await.unwrap();
    });
}

#[test]
fn termination_tells_which_sockets_hold_it_up() {
    run(|context| async move {
        let clock = context.socket::<Pull>().unwrap();
        let open = [context.socket::<Pull>().unwrap(), context.socket::<Pull>().unwrap()];
        drop(clock);
        let mut termination = context.terminate();
        assert_eq!(termination.open_sockets(), 2);
        assert!((&mut termination).now_or_never().is_none());
        drop(open);
        assert_eq!(termination.open_sockets(), 0);
        termination.await.unwrap();
    });
}

#[test]
fn tasks_that_end_on_termination_let_the_context_end() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let (executor, scheduler) = calloop::futures::executor().unwrap();
    let ended = Rc::new(Cell::new(0));
    let counter = Rc::clone(&ended);
    event_loop.handle().insert_source(executor, move |(), (), ()| counter.set(counter.get() + 1)).unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    for _ in 0..8 {
        let mut pull = context.socket::<Pull>().unwrap();
        pull.bind("tcp://127.0.0.1:*").unwrap();
        scheduler.schedule(async move { while pull.next().await.is_some() {} }).unwrap();
    }
    for _ in 0..3 {
        event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
    }
    let done = event_loop.block_on(context.terminate(), &mut (), |()| ()).unwrap();
    done.expect("nobody stops the loop").unwrap();
    assert_eq!(ended.get(), 8);
}

#[test]
fn a_dropped_context_ends_without_holding_up_the_loop() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let push = context.socket::<Push>().unwrap();
    push.get_ref().set_linger(-1).unwrap();
    // It accepts, and never speaks: the message stays for ever.
    push.connect(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    push.try_send("to nobody").unwrap();
    let begin = Instant::now();
    drop(push);
    drop(context);
    event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(5), "a drop waited for libzmq");
}

#[test]
fn an_adopted_socket_may_be_the_last_of_its_context() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let raw = zmq::Context::new().socket(zmq::PUSH).unwrap();
    raw.connect(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    raw.send("to nobody", zmq::DONTWAIT).unwrap();
    let adopted = context.adopt::<Push>(raw).unwrap();
    let begin = Instant::now();
    drop(adopted);
    assert!(begin.elapsed() < Duration::from_secs(5), "a drop waited for libzmq");
}

#[test]
fn after_the_loop_is_gone_waits_end_and_what_is_there_is_still_received() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (push, mut pull) = (context.socket::<Push>().unwrap(), context.socket::<Pull>().unwrap());
    pull.bind("inproc://gone").unwrap();
    push.connect("inproc://gone").unwrap();
    push.try_send("there").unwrap();
    drop(event_loop);
    assert_eq!(pull.recv().now_or_never().expect("no wait").unwrap(), "there".into());
    assert!(matches!(pull.recv().now_or_never().expect("no wait"), Err(Error::LoopGone)));
    assert!(!pull.is_terminated(), "it has not told");
    assert!(matches!(pull.next().now_or_never().expect("no wait"), Some(Err(Error::LoopGone))));
    assert!(pull.is_terminated());
    assert!(pull.next().now_or_never().expect("no wait").is_none());
    context.sleep(Duration::from_secs(3600)).now_or_never().expect("no wait");
    assert!(matches!(context.socket::<Pull>(), Err(Error::LoopGone)));
}

#[test]
fn a_stream_in_a_task_sees_the_end_of_a_context_that_another_thread_shuts_down() {
    // The zmq crate has no call for it: a raw context.
    // SAFETY: the context is ended below, after all its sockets.
    let raw = unsafe { zmq_sys::zmq_ctx_new() };
    let new_dealer = || {
        // SAFETY: a live context; the new socket is owned by what wraps it.
        unsafe { zmq::Socket::from_raw(zmq_sys::zmq_socket(raw, i32::try_from(zmq_sys::ZMQ_DEALER).unwrap())) }
    };
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (executor, scheduler) = calloop::futures::executor::<()>().unwrap();
    event_loop.handle().insert_source(executor, |(), (), ()| ()).unwrap();
    let log = Rc::new(RefCell::new(Vec::new()));
    for number in 0..8 {
        let dealer = Rc::new(context.adopt::<Dealer>(new_dealer()).unwrap());
        let (reader, writer) = (Rc::clone(&dealer), dealer);
        let [reader_log, writer_log] = [(); 2].map(|()| Rc::clone(&log));
        scheduler
            .schedule(async move {
                assert!((&*reader).next().await.is_none());
                reader_log.borrow_mut().push((number, "read"));
            })
            .unwrap();
        scheduler
            .schedule(async move {
                assert!(matches!(writer.send("x").await.unwrap_err().error, Error::Terminated));
                writer_log.borrow_mut().push((number, "write"));
            })
            .unwrap();
    }
    for _ in 0..3 {
        event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
    }
    let address = raw.expose_provenance();
    let shutter = std::thread::spawn(move || {
        // SAFETY: a live context; any thread may shut it down.
        unsafe { zmq_sys::zmq_ctx_shutdown(std::ptr::with_exposed_provenance_mut(address)) }
    });
    let mut turns = 0;
    while log.borrow().len() < 16 {
        event_loop.dispatch(Duration::from_secs(10), &mut ()).unwrap();
        turns += 1;
        assert!(turns < 100, "it spins, or some wait does not end: {:?}", log.borrow());
    }
    assert_eq!(shutter.join().unwrap(), 0);
    // Then it sleeps again: what the descriptors still announce is nobody's business here.
    let (begin, mut turns) = (Instant::now(), 0);
    while begin.elapsed() < Duration::from_millis(100) {
        event_loop.dispatch(Duration::from_millis(50), &mut ()).unwrap();
        turns += 1;
    }
    assert!(turns < 10, "{turns} turns in 100 ms without work");
    // SAFETY: its sockets are closed, or about to be on their own threads; this waits for them.
    assert_eq!(unsafe { zmq_sys::zmq_ctx_term(raw) }, 0);
}
