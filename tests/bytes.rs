//! Frames from `bytes` and back: the same memory where that is promised, and freed once, on whichever thread.

#![cfg(feature = "bytes")]
#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::{Bytes, BytesMut};
use calloop::EventLoop;
use calloop_zmq::kind::{Pull, Push};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, IntoBytes, IntoFrame, Multipart, zmq};

use support::{eventually, run};

/// Counts how often the watched memory is freed.
struct Watching;

static WATCHED: AtomicUsize = AtomicUsize::new(0);
static FREED: AtomicUsize = AtomicUsize::new(0);
/// There is one memory to watch.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

// SAFETY: everything is the system allocator's.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        let pointer = unsafe { System.alloc(layout) };
        // Somebody else has it now, and frees it too.
        if pointer.addr() == WATCHED.load(Ordering::SeqCst) && freed() > 0 {
            WATCHED.store(0, Ordering::SeqCst);
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if pointer.addr() == WATCHED.load(Ordering::SeqCst) {
            FREED.fetch_add(1, Ordering::SeqCst);
        }
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

const SIZE: usize = 1 << 20;

/// Bytes whose end is counted.
fn watched() -> Vec<u8> {
    let bytes = vec![7; SIZE];
    FREED.store(0, Ordering::SeqCst);
    WATCHED.store(bytes.as_ptr().addr(), Ordering::SeqCst);
    bytes
}

fn freed() -> usize {
    FREED.load(Ordering::SeqCst)
}

type IntoMessage = fn(Vec<u8>) -> Multipart;

/// What has owned bytes and becomes a frame.
fn senders() -> [(&'static str, IntoMessage); 2] {
    [("Bytes", |bytes| Bytes::from(bytes).into()), ("BytesMut", |bytes| BytesMut::from(Bytes::from(bytes)).into())]
}

fn pair(context: &AsyncZmqContext, endpoint: &str) -> (AsyncZmqSocket<Push>, AsyncZmqSocket<Pull>) {
    let (push, pull) = (context.socket::<Push>().unwrap(), context.socket::<Pull>().unwrap());
    push.connect(&pull.bind(endpoint).unwrap()).unwrap();
    (push, pull)
}

#[test]
fn a_frame_is_the_bytes_that_nobody_else_has() {
    let bytes = Bytes::from(vec![7; 1000]);
    let given = bytes.as_ptr();
    assert_eq!(bytes.into_frame().as_ptr(), given);

    let mut bytes = BytesMut::zeroed(1000);
    let (given, rest) = (bytes.as_ptr(), bytes.split_off(500));
    let (first, second) = (bytes.into_frame(), rest.into_frame());
    assert_eq!((first.as_ptr(), first.len()), (given, 500));
    assert_eq!((second.as_ptr(), second.len()), (given.wrapping_add(500), 500));
}

#[test]
fn a_frame_that_is_written_to_changes_no_bytes_of_others() {
    static STATIC: [u8; 1000] = [7; 1000];
    let shared = Bytes::from(vec![7; 1000]);
    let frames =
        [shared.clone().into_frame(), shared.slice(100..200).into_frame(), Bytes::from_static(&STATIC).into_frame()];
    for mut frame in frames {
        frame.fill(0);
    }
    assert!(shared.iter().chain(&STATIC).all(|byte| *byte == 7));
}

#[test]
fn what_fits_into_the_frame_is_copied() {
    for length in [0, 1, 33, 34] {
        let bytes = Bytes::from(vec![7; length]);
        let given = bytes.as_ptr();
        let frame = bytes.into_frame();
        assert_eq!((frame.len(), frame.as_ptr() == given), (length, length > 33));
        let stands_at = frame.as_ptr();
        let back = frame.into_bytes();
        assert_eq!(back, vec![7; length]);
        assert_eq!(back.as_ptr() == stands_at, length > 33);
    }
}

#[test]
fn over_inproc_the_bytes_stay_where_they_are_all_the_way() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (push, pull) = pair(&context, "inproc://there");
    let bytes = Bytes::from(vec![7; 1000]);
    let given = bytes.as_ptr();
    let received = run(&mut event_loop, async {
        push.send(bytes).await.unwrap();
        let [frame] = pull.recv().await.unwrap().try_into().unwrap();
        frame.into_bytes()
    });
    assert_eq!((received.as_ptr(), received.len()), (given, 1000));
}

#[test]
fn bytes_that_are_not_sent_are_freed_once() {
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    for (name, into_message) in senders() {
        let message = into_message(watched());
        assert_eq!(freed(), 0, "{name}");
        drop(message);
        assert_eq!(freed(), 1, "{name}");

        let message = into_message(watched());
        thread::spawn(move || drop(message)).join().unwrap();
        assert_eq!(freed(), 1, "{name} on another thread");

        // Refused, and given back.
        let event_loop = EventLoop::<()>::try_new().unwrap();
        let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
        let nobody = context.socket::<Push>().unwrap();
        let message = nobody.try_send(into_message(watched())).unwrap_err().into_message();
        assert_eq!(freed(), 0, "{name}");
        drop(message);
        assert_eq!(freed(), 1, "{name}");

        // Queued, and never fetched.
        nobody.get_ref().set_linger(0).unwrap();
        nobody.connect("inproc://nobody").unwrap();
        assert!(nobody.try_send(into_message(watched())).is_ok());
        drop(nobody);
        drop(context);
        eventually("the queue is freed", || freed() > 0);
        drop(event_loop);
        assert_eq!(freed(), 1, "{name}");
    }
}

/// It is closed on a thread of its own, and waits there for as long as its linger, if it is the last of its context.
#[test]
fn the_end_of_a_context_waits_for_the_sockets_that_were_adopted() {
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    // It accepts, and never speaks: the message stays.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    for of_another in [true, false] {
        let mut event_loop = EventLoop::<()>::try_new().unwrap();
        let mut zmq_context = zmq::Context::new();
        let socket = zmq_context.socket(zmq::PUSH).unwrap();
        socket.set_linger(200).unwrap();
        if of_another {
            zmq_context = zmq::Context::new();
        }
        let context = AsyncZmqContext::with_context(&event_loop.handle(), zmq_context).unwrap();
        let push = context.adopt::<Push>(socket).unwrap();
        push.connect(&endpoint).unwrap();
        push.try_send(watched()).unwrap();
        drop(push);
        run(&mut event_loop, context.terminate()).unwrap();
        assert_eq!(freed(), 1, "what could not be sent is gone with its context; of another: {of_another}");
    }
}

#[test]
fn a_socket_that_is_released_holds_up_nobody() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let other = zmq::Context::new();
    let bare = context.adopt::<Push>(other.socket(zmq::PUSH).unwrap()).unwrap().into_inner();
    run(&mut event_loop, context.terminate()).unwrap();
    drop(bare);
}

#[test]
fn bytes_that_are_sent_are_freed_once() {
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    for endpoint in ["inproc://there", "tcp://127.0.0.1:*"] {
        for (name, into_message) in senders() {
            let mut event_loop = EventLoop::<()>::try_new().unwrap();
            let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
            let (push, pull) = pair(&context, endpoint);
            let received = run(&mut event_loop, async {
                push.send(into_message(watched())).await.unwrap();
                pull.recv().await.unwrap()
            });
            assert_eq!(received, Multipart::from(vec![7; SIZE]));
            // Over tcp it is libzmq's own thread that is done with them.
            drop(received);
            eventually("the bytes are freed", || freed() > 0);
            drop((push, pull, context, event_loop));
            assert_eq!(freed(), 1, "{name} over {endpoint}");
        }
    }
}

#[test]
fn a_frame_that_became_bytes_is_freed_with_the_last_of_them() {
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let bytes = watched().into_frame().into_bytes();
    assert_eq!(bytes.as_ptr().addr(), WATCHED.load(Ordering::SeqCst));
    let part = bytes.slice(10..20);
    let (one, other) = (bytes.clone(), bytes);
    drop(one);
    thread::spawn(move || drop(other)).join().unwrap();
    assert_eq!((freed(), &part[..]), (0, &[7; 10][..]));
    thread::spawn(move || drop(part)).join().unwrap();
    assert_eq!(freed(), 1);
}
