//! What may cross threads and what may not, and which futures need no pin.

mod support;

use std::marker::PhantomData;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Any, Dealer, Pub, Pull, XPub};
use calloop_zmq::{
    AsyncZmqContext, AsyncZmqSocket, Elapsed, EndpointError, Error, Features, FrameCountError, JoinError, JoinHandle,
    Monitor, MonitorEvent, Multipart, OsError, ProtocolError, Proxy, ProxyControl, SendError, SetupError, Subscription,
    Tasks, Terminate, Traffic, zap,
};
use futures::stream::FusedStream;
use futures::{Sink, Stream};

/// Answers whether the type has the trait, where a bound could only fail to compile.
macro_rules! is {
    ($type:ty: $($bound:tt)+) => {{
        #[allow(dead_code, reason = "found only if the bound does not hold")]
        trait No {
            const ANSWER: bool = false;
        }
        impl<T: ?Sized> No for T {}
        struct Ask<T: ?Sized>(PhantomData<T>);
        #[allow(dead_code, reason = "found first if the bound holds")]
        impl<T: ?Sized + $($bound)+> Ask<T> {
            const ANSWER: bool = true;
        }
        <Ask<$type>>::ANSWER
    }};
}

#[test]
fn messages_and_errors_cross_threads() {
    assert!(is!(Multipart: Send + Sync + 'static));
    assert!(is!(Error: Send + Sync + 'static));
    assert!(is!(SendError: Send + Sync + 'static));
    assert!(is!(EndpointError: Send + Sync + 'static));
    assert!(is!(OsError: Send + Sync + 'static));
    assert!(is!(Elapsed: Send + Sync + 'static));
    assert!(is!(MonitorEvent: Send + Sync + 'static));
    assert!(is!(JoinError: Send + Sync + 'static));
    assert!(is!(FrameCountError: Send + Sync + 'static));
    assert!(is!(SetupError: Send + Sync + 'static) && is!(ProtocolError: Send + Sync + 'static));
    assert!(is!(Subscription: Send + Sync + 'static));
    assert!(is!(Features: Send + Sync + 'static) && is!(Traffic: Send + Sync + 'static));
    assert!(is!(zap::Request: Send + Sync + 'static) && is!(zap::Decision: Send + Sync + 'static));
    assert!(is!(zap::InvalidKey: Send + Sync + 'static) && is!(zap::Malformed: Send + Sync + 'static));
}

#[test]
fn what_holds_nothing_is_copied_and_compared() {
    assert!(is!(Multipart: Clone + Eq + Default) && is!(Subscription: Clone + Eq));
    assert!(is!(EndpointError: Clone + Eq) && is!(Elapsed: Copy + Eq) && is!(SetupError: Copy + Eq));
    assert!(is!(Features: Copy + Eq) && is!(Traffic: Copy + Eq + Default));
    assert!(is!(zap::Request: Clone + Eq) && is!(zap::Decision: Clone + Eq));
    assert!(is!(zap::PublicKey: Copy + Ord + std::hash::Hash));
}

#[test]
fn what_belongs_to_a_loop_stays_on_its_thread() {
    assert!(!is!(AsyncZmqSocket<Pull>: Send) && !is!(AsyncZmqSocket<Pull>: Sync));
    assert!(!is!(AsyncZmqSocket<Any>: Send) && !is!(AsyncZmqSocket<Any>: Sync));
    assert!(is!(AsyncZmqSocket<Any>: Unpin));
    assert!(!is!(AsyncZmqContext: Send) && !is!(AsyncZmqContext: Sync));
    assert!(!is!(Monitor: Send) && !is!(Monitor: Sync) && !is!(Monitor: Clone));
    assert!(is!(Monitor: FusedStream + Unpin + 'static));
    assert!(!is!(Tasks: Send) && !is!(Tasks: Sync) && is!(Tasks: Clone));
    assert!(!is!(JoinHandle<u8>: Send) && !is!(JoinHandle<u8>: Sync));
    assert!(!is!(Proxy<'static>: Send) && is!(Proxy<'static>: Unpin));
    assert!(!is!(ProxyControl: Send) && is!(ProxyControl: Clone + 'static));
    assert!(!is!(Terminate: Send) && is!(Terminate: Unpin + 'static));
    assert!(!is!(zap::Rules: Send) && is!(zap::Rules: Clone + Default));
    assert!(is!(AsyncZmqContext: Clone) && !is!(AsyncZmqSocket<Any>: Clone));
}

#[test]
fn a_socket_has_the_traits_of_its_kind() {
    assert!(is!(AsyncZmqSocket<Pull>: Stream) && is!(&AsyncZmqSocket<Pull>: FusedStream));
    assert!(!is!(AsyncZmqSocket<Pull>: Sink<Multipart>) && !is!(&AsyncZmqSocket<Pull>: Sink<Multipart>));
    assert!(is!(AsyncZmqSocket<Pub>: Sink<Multipart>) && is!(&AsyncZmqSocket<Pub>: Sink<Multipart>));
    assert!(!is!(AsyncZmqSocket<Pub>: Stream) && !is!(&AsyncZmqSocket<Pub>: Stream));
    assert!(is!(AsyncZmqSocket<Dealer>: Stream) && is!(AsyncZmqSocket<Dealer>: Sink<Multipart>));
}

#[test]
fn waits_are_unpin() {
    fn unpin<T: Unpin>(_: T) {}
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let socket = context.socket::<Dealer>().unwrap();
    unpin(Tasks::new(&event_loop.handle()).unwrap().spawn(std::future::pending::<std::marker::PhantomPinned>()));
    unpin(socket.recv());
    unpin(socket.recv_into(&mut Multipart::new()));
    unpin(socket.readable());
    unpin(socket.send("a"));
    unpin(socket.writable());
    unpin(context.socket::<XPub>().unwrap().wait_for_subscribers("topic", 1));
    unpin(context.sleep(Duration::ZERO));
    unpin(context.timeout(Duration::ZERO, socket.recv()));
}

#[test]
fn a_sleep_holds_no_borrow_of_its_context() {
    let event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    let (sleep, timeout) = (context.sleep(Duration::ZERO), context.timeout(Duration::ZERO, std::future::ready(1)));
    drop(context);
    // A sleep waits for a turn of the loop at least, or for its end.
    drop(event_loop);
    support::now(sleep);
    assert_eq!(support::now(timeout), Ok(1));
}
