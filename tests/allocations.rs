//! Messages cost no allocation in the steady state, and frames are not copied.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io::{ErrorKind, Write};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use calloop::generic::Generic;
use calloop::{EventLoop, Interest, Mode};
use calloop_zmq::kind::{CanRecv, CanSend, Pair, Pull, Push, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart, ProxyControl, SendError, Tasks, proxy};
use futures::{FutureExt, Sink, SinkExt, StreamExt};

use support::{now, poll_once, run, turn};

/// Counts the allocations of each thread. libzmq's own, in C++, do not come here.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // While a thread ends there is nothing to count in.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: everything is the system allocator's; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.get()
}

const MESSAGES: usize = 10_000;
/// In one go, well under the high-water mark.
const BURST: usize = 100;

static NAMES: AtomicUsize = AtomicUsize::new(0);

fn pair<S: CanSend, R: CanRecv>(context: &AsyncZmqContext) -> (AsyncZmqSocket<S>, AsyncZmqSocket<R>) {
    let (sender, receiver) = (context.socket::<S>().unwrap(), context.socket::<R>().unwrap());
    let endpoint = format!("inproc://{}", NAMES.fetch_add(1, Ordering::Relaxed));
    receiver.bind(&endpoint).unwrap();
    sender.connect(&endpoint).unwrap();
    // Budgets have their own tests.
    sender.set_budget(NonZeroUsize::MAX);
    receiver.set_budget(NonZeroUsize::MAX);
    (sender, receiver)
}

fn fixture() -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (event_loop, context)
}

/// How much `burst` allocates when it is run often, after it was run a few times.
async fn steady(mut burst: impl AsyncFnMut()) -> u64 {
    for _ in 0..10 {
        burst().await;
    }
    let before = allocations();
    for _ in 0..MESSAGES / BURST {
        burst().await;
    }
    allocations() - before
}

#[test]
fn the_counter_counts() {
    let before = allocations();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(allocations() - before, 1);
}

#[test]
fn single_frames_cost_nothing_to_send_and_receive() {
    let (mut event_loop, context) = fixture();
    let (push, pull) = pair::<Push, Pull>(&context);
    let total = run(&mut event_loop, async {
        steady(async || {
            for _ in 0..BURST {
                push.send("a frame of a size that libzmq keeps on its own heap").await.unwrap();
            }
            for _ in 0..BURST {
                assert_eq!(pull.recv().await.unwrap().len(), 1);
            }
        })
        .await
    });
    assert_eq!(total, 0, "allocations for {MESSAGES} messages");
}

#[test]
fn single_frames_cost_nothing_through_stream_and_sink() {
    let (mut event_loop, context) = fixture();
    let (push, pull) = pair::<Push, Pull>(&context);
    let total = run(&mut event_loop, async {
        steady(async || {
            let (mut sink, mut stream) = (&push, &pull);
            for _ in 0..BURST {
                sink.feed("frame".into()).await.unwrap();
            }
            sink.flush().await.unwrap();
            for _ in 0..BURST {
                assert_eq!(stream.next().await.unwrap().unwrap().len(), 1);
            }
        })
        .await
    });
    assert_eq!(total, 0, "allocations for {MESSAGES} messages");
}

#[test]
fn messages_of_any_number_of_frames_cost_nothing_to_pass_through_a_proxy() {
    let (mut event_loop, context) = fixture();
    let ((push, front), (back, pull)) = (pair::<Push, Pull>(&context), pair::<Push, Pull>(&context));
    let (tap, listener) = pair::<Push, Pull>(&context);
    let (push, pull, listener) = (push.into_inner(), pull.into_inner(), listener.into_inner());
    let control = ProxyControl::new();
    let mut running = proxy(&front, &back).control(&control).capture(&tap);
    let total = run(&mut event_loop, async {
        steady(async || {
            for _ in 0..BURST {
                push.send("one", zmq::DONTWAIT).unwrap();
                push.send("two", zmq::DONTWAIT | zmq::SNDMORE).unwrap();
                push.send("frames, of which the last is not inline in libzmq", zmq::DONTWAIT).unwrap();
            }
            let all = control.front_to_back().messages + 2 * BURST as u64;
            while control.front_to_back().messages < all {
                poll_fn(|cx| Poll::Ready(running.poll_unpin(cx).is_pending())).await;
                turn().await;
            }
            let mut frame = zmq::Message::new();
            for _ in 0..3 * BURST {
                pull.recv(&mut frame, zmq::DONTWAIT).unwrap();
                listener.recv(&mut frame, zmq::DONTWAIT).unwrap();
            }
        })
        .await
    });
    // The loop's turns with a wait may cost something each, see below. Messages do not.
    let bursts = (MESSAGES / BURST) as u64;
    assert!(total <= 2 * bursts, "{total} allocations for {bursts} bursts of {} messages", 2 * BURST);
}

#[test]
fn single_frames_cost_nothing_to_try() {
    let (mut event_loop, context) = fixture();
    let (push, pull) = pair::<Push, Pull>(&context);
    let total = run(&mut event_loop, async {
        steady(async || {
            for _ in 0..BURST {
                assert!(push.try_send("frame").is_ok());
            }
            let mut received = 0;
            while let Some(message) = pull.try_recv().unwrap() {
                assert_eq!(message.len(), 1);
                received += 1;
            }
            assert_eq!(received, BURST);
        })
        .await
    });
    assert_eq!(total, 0, "allocations for {MESSAGES} messages");
}

/// Both directions of one socket, and a waiting reader on each side: every message owes somebody a look.
#[test]
fn waiting_costs_nothing_once_it_has_happened() {
    let (mut event_loop, context) = fixture();
    let (left, right) = pair::<Pair, Pair>(&context);
    let total = run(&mut event_loop, async {
        steady(async || {
            let mut reader = right.recv();
            assert!(poll_once(&mut reader).is_pending());
            for _ in 1..BURST {
                left.send("frame").await.unwrap();
            }
            for _ in 1..BURST {
                assert!(poll_once(&mut reader).is_ready());
                reader = right.recv();
            }
            assert!(poll_once(&mut reader).is_pending());
        })
        .await
    });
    assert_eq!(total, 0, "allocations for {MESSAGES} messages");
}

#[test]
fn three_frames_cost_nothing_to_receive_into_the_same_room() {
    let (mut event_loop, context) = fixture();
    let (push, pull) = pair::<Push, Pull>(&context);
    let total = run(&mut event_loop, async {
        let mut message = Multipart::new();
        let mut received = 0;
        for round in 0..MESSAGES / BURST + 10 {
            for _ in 0..BURST {
                push.send(["routing", "", "body"]).await.unwrap();
            }
            let before = allocations();
            for _ in 0..BURST {
                pull.recv_into(&mut message).await.unwrap();
                assert_eq!(message.len(), 3);
            }
            if round >= 10 {
                received += allocations() - before;
            }
        }
        received
    });
    assert_eq!(total, 0, "allocations for {MESSAGES} messages");
}

/// Received, its envelope looked at, sent on: a broker's day.
#[test]
fn three_frames_passed_on_cost_no_more_than_their_list() {
    let (mut event_loop, context) = fixture();
    let (push, pull) = pair::<Push, Pull>(&context);
    let total = run(&mut event_loop, async {
        // One message goes round and round; its list is made once, by the first send, and moves along.
        let mut message = Multipart::from(["a", "b", "c"]);
        steady(async || {
            for _ in 0..BURST {
                assert!(push.try_send(std::mem::take(&mut message)).is_ok());
                pull.recv_into(&mut message).await.unwrap();
            }
        })
        .await
    });
    // A sent message takes its list with it.
    assert!(total <= MESSAGES as u64 * 2, "{total} allocations for {MESSAGES} messages");
}

/// Through the loop, with a task that waits for each message: what a turn of the loop itself costs, and little more.
#[test]
fn a_turn_with_a_wait_costs_little_more_than_a_turn() {
    const TURNS: u64 = 1000;
    let (mut event_loop, context) = fixture();
    let (push, pull) = pair::<Push, Pull>(&context);
    let (idle, waiting) = run(&mut event_loop, async {
        let exchange = async || {
            let mut reader = pull.recv();
            assert!(poll_once(&mut reader).is_pending());
            push.send("frame").await.unwrap();
            reader.await.unwrap();
            turn().await;
        };
        for _ in 0..100 {
            exchange().await;
            turn().await;
        }
        let start = allocations();
        for _ in 0..TURNS {
            turn().await;
        }
        let idle = allocations();
        for _ in 0..TURNS {
            exchange().await;
        }
        (idle - start, allocations() - idle)
    });
    println!("{TURNS} turns: {idle} allocations idle, {waiting} with a message each");
    assert!(waiting <= idle + 2 * TURNS, "{waiting} allocations, {idle} of an idle loop");
}

/// A task that is woken in each turn, and one that never is.
#[test]
fn a_wake_up_of_a_task_costs_nothing_beyond_the_turn_s_idle_callback() {
    const TURNS: u64 = 1000;
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let tasks = Tasks::new(&event_loop.handle()).unwrap();
    let waker = Rc::new(RefCell::new(None::<Waker>));
    let polls = Rc::new(Cell::new(0));
    let [without, waiting, woken] = run(&mut event_loop, async {
        let turns = async |wakes: bool| {
            for _ in 0..100 {
                turn().await;
            }
            let start = allocations();
            for _ in 0..TURNS {
                if wakes {
                    waker.borrow().as_ref().unwrap().wake_by_ref();
                }
                turn().await;
            }
            allocations() - start
        };
        let without = turns(false).await;
        let (slot, count) = (Rc::clone(&waker), Rc::clone(&polls));
        tasks.spawn(poll_fn(move |cx| -> Poll<()> {
            count.set(count.get() + 1);
            if slot.borrow().is_none() {
                slot.replace(Some(cx.waker().clone()));
            }
            Poll::Pending
        }));
        [without, turns(false).await, turns(true).await]
    });
    println!(
        "{TURNS} turns: {without} allocations without a task, {waiting} while one waits, {woken} with a wake-up each"
    );
    assert_eq!(polls.get(), TURNS + 1);
    // The callback itself, and calloop's list of them.
    assert!(waiting <= without + 2 * TURNS, "{waiting} allocations, {without} without a task");
    assert_eq!(woken, waiting);
}

/// calloop keeps the idle callbacks of a turn in which a source fails: they must not pile up.
#[test]
fn turns_in_which_a_source_fails_pile_nothing_up() {
    const TURNS: u64 = 1000;
    let failing = |with_task: bool| {
        let mut event_loop = EventLoop::<()>::try_new().unwrap();
        let tasks = Tasks::new(&event_loop.handle()).unwrap();
        if with_task {
            tasks.spawn(pending::<()>());
        }
        event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"never read").unwrap();
        let source = Generic::new(ours, Interest::READ, Mode::Level);
        event_loop.handle().insert_source(source, |_, _, ()| Err(ErrorKind::Other.into())).unwrap();
        let mut total = 0;
        for turn in 0..TURNS + 10 {
            let before = allocations();
            assert!(event_loop.dispatch(Duration::ZERO, &mut ()).is_err());
            if turn >= 10 {
                total += allocations() - before;
            }
        }
        total
    };
    let (without, with) = (failing(false), failing(true));
    println!("{TURNS} turns that fail: {without} allocations without a task, {with} with one");
    assert_eq!(with, without);
}

fn pointer(message: &Multipart) -> *const u8 {
    message[0].as_ptr()
}

#[test]
fn frames_are_not_copied() {
    let (mut event_loop, context) = fixture();
    let (push, pull) = pair::<Push, Pull>(&context);
    run(&mut event_loop, async {
        let frame = || vec![7_u8; 1 << 20];
        // One frame, by each way out and in.
        let bytes = frame();
        let sent = bytes.as_ptr();
        push.send(bytes).await.unwrap();
        assert_eq!(pointer(&pull.recv().await.unwrap()), sent);

        let bytes = frame();
        let sent = bytes.as_ptr();
        SinkExt::send(&mut &push, bytes.into()).await.unwrap();
        assert_eq!(pointer(&(&pull).next().await.unwrap().unwrap()), sent);

        let bytes = frame();
        let sent = bytes.as_ptr();
        assert!(push.try_send(bytes).is_ok());
        assert_eq!(pointer(&pull.try_recv().unwrap().unwrap()), sent);

        // Each of several.
        let frames = [frame(), frame(), frame()];
        let sent = frames.each_ref().map(Vec::as_ptr);
        push.send(frames).await.unwrap();
        let mut received = Multipart::new();
        pull.recv_into(&mut received).await.unwrap();
        assert_eq!(received.iter().map(|frame| frame.as_ptr()).collect::<Vec<_>>(), sent);

        // And on again.
        push.send(received).await.unwrap();
        let received = pull.recv().await.unwrap();
        assert_eq!(received.iter().map(|frame| frame.as_ptr()).collect::<Vec<_>>(), sent);
    });
}

#[test]
fn what_libzmq_has_no_room_for_is_untouched() {
    let (mut event_loop, context) = fixture();
    // No peer: no room for anything.
    let push = context.socket::<Push>().unwrap();
    let bytes = vec![7_u8; 1 << 20];
    let given = bytes.as_ptr();
    let mut message = Multipart::from(bytes);
    for _ in 0..3 {
        message = no_room(push.try_send(message));
        assert_eq!((pointer(&message), message[0].len()), (given, 1 << 20));
    }
    message.push_back("more");
    message = no_room(push.try_send(message));
    assert_eq!((pointer(&message), message.len()), (given, 2));

    // Through the Sink, and back out of it.
    let mut sink = &push;
    now(sink.feed(message)).unwrap();
    let waits = run(&mut event_loop, poll_fn(|cx| Poll::Ready(Pin::new(&mut sink).poll_flush(cx))));
    assert!(waits.is_pending());
    message = push.take_unsent().unwrap();
    assert_eq!((pointer(&message), message.len()), (given, 2));

    // Kept through the wait of a send, and delivered.
    let pull = context.socket::<Pull>().unwrap();
    let mut sending = push.send(message);
    assert!(poll_once(&mut sending).is_pending());
    pull.bind("inproc://late").unwrap();
    push.connect("inproc://late").unwrap();
    let received = run(&mut event_loop, async {
        sending.await.unwrap();
        pull.recv().await.unwrap()
    });
    assert_eq!((pointer(&received), received.len()), (given, 2));
}

#[test]
fn a_refused_message_is_untouched() {
    let (_event_loop, context) = fixture();
    let router = context.socket::<Router>().unwrap();
    router.get_ref().set_router_mandatory(true).unwrap();
    let bytes = vec![7_u8; 1 << 20];
    let given = bytes.as_ptr();
    let message = Multipart::from([b"ghost".to_vec(), bytes]);
    let back = router.try_send(message).unwrap_err().into_message();
    assert_eq!((back.len(), &back[0][..], back[1].as_ptr()), (2, &b"ghost"[..], given));
    let back = now(router.send(back)).unwrap_err().into_message();
    assert_eq!((back.len(), &back[0][..], back[1].as_ptr()), (2, &b"ghost"[..], given));
}

#[test]
fn three_frames_cost_one_list_to_build_and_one_to_receive() {
    let (mut event_loop, context) = fixture();
    let (push, pull) = pair::<Push, Pull>(&context);
    let total = run(&mut event_loop, async {
        steady(async || {
            for _ in 0..BURST {
                push.send(["routing", "", "body"]).await.unwrap();
            }
            for _ in 0..BURST {
                assert_eq!(pull.recv().await.unwrap().len(), 3);
            }
        })
        .await
    });
    assert_eq!(total, 2 * MESSAGES as u64, "allocations for {MESSAGES} messages");
}

fn no_room(tried: Result<(), SendError>) -> Multipart {
    let refused = tried.expect_err("there is no room");
    assert!(refused.is_full(), "{refused:?}");
    refused.into_message()
}
