//! The monitor: what it tells, that it ends with whatever ends first, and that it holds nobody up.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod common;
mod support;

use std::cell::{Cell, RefCell};
use std::env;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Any, Dealer, Kind, Pair, Pull, Push, Rep, Req, Router, Stream};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Descriptor, Error, Monitor, MonitorEvent, ProtocolError, features};
use futures::stream::FusedStream;
use futures::{FutureExt, StreamExt};

use common::Rng;
use support::{alone, descriptors, eventually, run};

const TCP: &str = "tcp://127.0.0.1:*";

fn fixture() -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (event_loop, context)
}

async fn next(monitor: &mut Monitor) -> MonitorEvent {
    monitor.next().await.expect("there is more").unwrap()
}

/// The events up to one of that name, by name. Each is of that endpoint.
async fn names_until(monitor: &mut Monitor, last: &str, endpoint: &str) -> Vec<String> {
    let mut names = Vec::new();
    while names.last().is_none_or(|name| name != last) {
        let event = next(monitor).await;
        let debug = format!("{event:?}");
        names.push(debug.split([' ', '(']).next().unwrap().to_owned());
        if !matches!(event, MonitorEvent::Stopped) {
            assert_eq!(event.endpoint(), endpoint, "{event:?}");
        }
    }
    names
}

/// Reads to the end. The last event says that it stopped.
async fn drain(monitor: &mut Monitor) -> usize {
    let (mut count, mut stopped) = (0, false);
    while let Some(event) = monitor.next().await {
        assert!(!stopped, "nothing comes after the last event");
        stopped = matches!(event.unwrap(), MonitorEvent::Stopped);
        count += 1;
    }
    assert!(stopped && monitor.is_terminated());
    assert!(monitor.next().await.is_none(), "and it stays ended");
    count
}

/// Something goes over tcp: libzmq's I/O thread is alive.
async fn ping_over_tcp(context: &AsyncZmqContext) {
    let (pull, push) = (context.socket::<Pull>().unwrap(), context.socket::<Push>().unwrap());
    push.connect(&pull.bind(TCP).unwrap()).unwrap();
    push.send("ping").await.unwrap();
    assert_eq!(pull.recv().await.unwrap(), "ping".into());
}

#[test]
fn both_sides_of_a_connection_are_told_in_order() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let ipc = format!("ipc://{}/socket", directory.path().display());
    for wanted in [TCP, &ipc] {
        let (mut event_loop, context) = fixture();
        run(&mut event_loop, async {
            let (pull, push) = (context.socket::<Pull>().unwrap(), context.socket::<Push>().unwrap());
            let (mut server, mut client) = (pull.monitor().unwrap(), push.monitor().unwrap());
            let endpoint = pull.bind(wanted).unwrap();
            push.connect(&endpoint).unwrap();
            let told = names_until(&mut server, "HandshakeSucceeded", &endpoint).await;
            assert_eq!(told, ["Listening", "Accepted", "HandshakeSucceeded"]);
            let mut told = names_until(&mut client, "HandshakeSucceeded", &endpoint).await;
            // It may also stand at once, as over ipc.
            told.retain(|name| name != "ConnectDelayed");
            assert_eq!(told, ["Connected", "HandshakeSucceeded"]);
            assert_eq!((server.peers(), client.peers()), (1, 1));

            drop(push);
            assert_eq!(names_until(&mut client, "Stopped", "").await, ["Stopped"]);
            assert!(client.next().await.is_none());
            assert_eq!(names_until(&mut server, "Disconnected", &endpoint).await, ["Disconnected"]);
            assert_eq!(server.peers(), 0);

            pull.unbind(&endpoint).unwrap();
            assert_eq!(names_until(&mut server, "Closed", &endpoint).await, ["Closed"]);
            drop(pull);
            assert_eq!(drain(&mut server).await, 1);
        });
    }
}

#[test]
fn descriptors_tell_connections_apart() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let router = context.socket::<Router>().unwrap();
        let mut monitor = router.monitor().unwrap();
        let endpoint = router.bind(TCP).unwrap();
        let address = endpoint.strip_prefix("tcp://").unwrap();
        let _peers = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
        let MonitorEvent::Listening { fd: listener, .. } = next(&mut monitor).await else { panic!() };
        let MonitorEvent::Accepted { fd: first, .. } = next(&mut monitor).await else { panic!() };
        let MonitorEvent::Accepted { fd: second, .. } = next(&mut monitor).await else { panic!() };
        assert!(listener >= 0 && first >= 0 && second >= 0);
        assert!(listener != first && first != second && second != listener);
    });
}

#[test]
fn what_cannot_be_bound_is_told() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let pull = context.socket::<Pull>().unwrap();
        let mut monitor = pull.monitor().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        pull.bind(&format!("tcp://{address}")).unwrap_err();
        let MonitorEvent::Closed { .. } = next(&mut monitor).await else { panic!() };
        let MonitorEvent::BindFailed { endpoint, error } = next(&mut monitor).await else { panic!() };
        assert!(endpoint.ends_with(&address), "{endpoint}");
        assert_eq!(error.errno(), Some(libc::EADDRINUSE));
        assert!(error.to_string().starts_with("cannot bind"), "{error}");
    });
}

#[test]
fn a_peer_for_whom_there_is_no_descriptor_is_told() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let pull = context.socket::<Pull>().unwrap();
        let mut monitor = pull.monitor().unwrap();
        // Not over ipc: there libzmq 4.3.4 ends the process.
        let endpoint = pull.bind(TCP).unwrap();
        let MonitorEvent::Listening { .. } = next(&mut monitor).await else { panic!() };
        // Descriptors that another test's context closes in the background may come free: then the peer is accepted.
        let mut peers = Vec::new();
        let (limit, of, error) = loop {
            assert!(peers.len() < 50, "there is always one more descriptor");
            let limit = DescriptorLimit::reached_after_one();
            peers.push(TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap());
            match next(&mut monitor).await {
                MonitorEvent::AcceptFailed { endpoint, error } => break (limit, endpoint, error),
                event => assert!(matches!(event, MonitorEvent::Accepted { .. }), "{event:?}"),
            }
        };
        assert_eq!((&of, error.errno()), (&endpoint, Some(libc::EMFILE)));
        drop(limit);
        // The next one finds a descriptor.
        let _next = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
        while !matches!(next(&mut monitor).await, MonitorEvent::Accepted { .. }) {}
        drop(peers);
    });
}

/// One more descriptor may be opened by this process, until this is dropped.
struct DescriptorLimit(libc::rlimit);

impl DescriptorLimit {
    fn reached_after_one() -> Self {
        let (first, second) = (std::fs::File::open("/").unwrap(), std::fs::File::open("/").unwrap());
        let free = [first.as_raw_fd(), second.as_raw_fd()];
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both are structs of the right type, which outlive the calls.
        unsafe {
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut before), 0);
            let tight = libc::rlimit { rlim_cur: u64::try_from(free[1]).unwrap(), ..before };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const tight), 0);
        }
        Self(before)
    }
}

impl Drop for DescriptorLimit {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const self.0) };
    }
}

#[test]
fn a_refused_connection_is_tried_again() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let push = context.socket::<Push>().unwrap();
        push.get_ref().set_reconnect_ivl(7).unwrap();
        push.get_ref().set_linger(0).unwrap();
        let mut monitor = push.monitor().unwrap();
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoint = format!("tcp://{nobody}");
        push.connect(&endpoint).unwrap();
        for _ in 0..3 {
            let MonitorEvent::ConnectDelayed { error, .. } = next(&mut monitor).await else { panic!() };
            assert_eq!(error.errno(), Some(libc::EINPROGRESS));
            let MonitorEvent::Closed { endpoint: of, .. } = next(&mut monitor).await else { panic!() };
            assert_eq!(of, endpoint);
            let MonitorEvent::ConnectRetried { interval, .. } = next(&mut monitor).await else { panic!() };
            // libzmq adds up to as much again, at random.
            assert!((7..14).contains(&interval.as_millis()), "{interval:?}");
        }
        // And when somebody is there at last:
        let pull = context.socket::<Pull>().unwrap();
        pull.bind(&endpoint).unwrap();
        assert_eq!(monitor.connected().await.unwrap(), endpoint);
        assert_eq!(monitor.peers(), 1);
    });
}

#[test]
fn a_peer_that_does_not_speak_zmtp_fails_the_handshake() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let pull = context.socket::<Pull>().unwrap();
        let mut monitor = pull.monitor().unwrap();
        let endpoint = pull.bind(TCP).unwrap();
        let peer = context.socket::<Push>().unwrap();
        peer.connect(&endpoint).unwrap();
        monitor.wait_for_peers(1).await.unwrap();

        let greeting = |mechanism: &[u8]| {
            let mut greeting = vec![0; 64];
            (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
            greeting[12..12 + mechanism.len()].copy_from_slice(mechanism);
            greeting
        };
        let surprise = [&greeting(b"NULL")[..], b"\x04\x06\x05HELLO"].concat();
        let says = [
            (greeting(b"GARBAGE"), Some(ProtocolError::MechanismMismatch)),
            (surprise, Some(ProtocolError::UnexpectedCommand)),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), None),
            (Vec::new(), None),
        ];
        for (bytes, wanted) in says {
            let mut stranger = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
            stranger.write_all(&bytes).unwrap();
            let MonitorEvent::Accepted { fd, .. } = next(&mut monitor).await else { panic!() };
            if wanted.is_none() {
                drop(stranger);
            }
            match (next(&mut monitor).await, wanted) {
                (MonitorEvent::HandshakeFailedProtocol { endpoint: of, reason }, Some(wanted)) => {
                    assert_eq!((of, reason), (endpoint.clone(), wanted));
                }
                (MonitorEvent::HandshakeFailed { endpoint: of, error }, None) => {
                    assert_eq!(of, endpoint);
                    assert!(error.errno().is_some());
                }
                (event, wanted) => panic!("{event:?} instead of {wanted:?}"),
            }
            let MonitorEvent::Disconnected { fd: gone, .. } = next(&mut monitor).await else { panic!() };
            assert_eq!(gone, fd);
            assert_eq!(monitor.peers(), 1, "the good peer is still there");
        }
        peer.send("untouched").await.unwrap();
        assert_eq!(pull.recv().await.unwrap(), "untouched".into());
    });
}

/// A ZAP handler's answers: refused, out of order, in another version.
#[test]
fn a_peer_that_is_refused_is_told_with_the_status() {
    let _alone = alone();
    for (version, status, wanted) in [
        ("1.0", "400", Ok(400)),
        ("1.0", "700", Err(ProtocolError::ZapInvalidStatusCode)),
        ("7", "200", Err(ProtocolError::ZapBadVersion)),
    ] {
        let (mut event_loop, context) = fixture();
        run(&mut event_loop, async {
            let zap = context.socket::<Rep>().unwrap();
            zap.bind("inproc://zeromq.zap.01").unwrap();
            let server = context.socket::<Pull>().unwrap();
            server.get_ref().set_plain_server(true).unwrap();
            let mut monitor = server.monitor().unwrap();
            let endpoint = server.bind(TCP).unwrap();
            let client = context.socket::<Push>().unwrap();
            client.get_ref().set_plain_username(Some("somebody")).unwrap();
            client.get_ref().set_plain_password(Some("guess")).unwrap();
            client.connect(&endpoint).unwrap();

            let question = zap.recv().await.unwrap();
            let id = question[1].as_str().unwrap();
            zap.send([version, id, status, "", "", ""]).await.unwrap();
            let MonitorEvent::Listening { .. } = next(&mut monitor).await else { panic!() };
            let MonitorEvent::Accepted { .. } = next(&mut monitor).await else { panic!() };
            let outcome = match next(&mut monitor).await {
                MonitorEvent::HandshakeFailedAuth { status, .. } => Ok(status),
                MonitorEvent::HandshakeFailedProtocol { reason, .. } => Err(reason),
                event => panic!("{event:?}"),
            };
            assert_eq!(outcome, wanted);
            assert_eq!(monitor.peers(), 0);
        });
    }
}

/// What ends the socket's part of a monitor, with peers and events in between.
type Ending = fn(AsyncZmqSocket<Pull>);

#[test]
fn whatever_ends_the_socket_ends_its_monitor() {
    let _alone = alone();
    let endings: [(&str, Ending); 3] = [
        ("drop", drop),
        ("into_inner", |pull| drop(pull.into_inner())),
        ("close", |pull| pull.close().now_or_never().unwrap().unwrap()),
    ];
    for (name, end) in endings {
        for read_before in [false, true] {
            let (mut event_loop, context) = fixture();
            run(&mut event_loop, async {
                let pull = context.socket::<Pull>().unwrap();
                let mut monitor = pull.monitor().unwrap();
                let push = context.socket::<Push>().unwrap();
                push.connect(&pull.bind(TCP).unwrap()).unwrap();
                push.send("there").await.unwrap();
                pull.recv().await.unwrap();
                if read_before {
                    monitor.wait_for_peers(1).await.unwrap();
                }
                // A reader that waits already is woken.
                let (ended, ()) = futures::join!(drain(&mut monitor), async {
                    context.sleep(Duration::from_millis(1)).await;
                    end(pull);
                });
                assert_eq!(ended, if read_before { 1 } else { 4 }, "{name}");
                assert!(matches!(monitor.connected().await.unwrap_err(), Error::MonitorStopped));
                assert!(matches!(monitor.wait_for_peers(0).await.unwrap_err(), Error::MonitorStopped));
                drop(monitor);
                ping_over_tcp(&context).await;
            });
        }
    }
}

#[test]
fn the_socket_that_was_taken_out_goes_on_without_its_monitor() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let pull = context.socket::<Pull>().unwrap();
        let mut monitor = pull.monitor().unwrap();
        let bare = pull.into_inner();
        // Were libzmq still to send events, and the monitor gone, this would block.
        drain(&mut monitor).await;
        drop(monitor);
        bare.bind(TCP).unwrap();
        let again = context.adopt::<Pull>(bare).unwrap();
        let mut monitor = again.monitor().unwrap();
        let push = context.socket::<Push>().unwrap();
        push.connect(&again.last_endpoint().unwrap()).unwrap();
        monitor.wait_for_peers(1).await.unwrap();
    });
}

#[test]
fn a_socket_goes_on_when_its_monitor_is_dropped() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let (pull, push) = (context.socket::<Pull>().unwrap(), context.socket::<Push>().unwrap());
        for _ in 0..10 {
            let (server, mut client) = (pull.monitor().unwrap(), push.monitor().unwrap());
            let endpoint = pull.bind(TCP).unwrap();
            push.connect(&endpoint).unwrap();
            client.connected().await.unwrap();
            drop((server, client));
            push.send("still here").await.unwrap();
            pull.recv().await.unwrap();
            push.disconnect(&endpoint).unwrap();
            pull.unbind(&endpoint).unwrap();
        }
    });
}

#[test]
fn a_second_monitor_takes_the_place_of_the_first() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let pull = context.socket::<Pull>().unwrap();
        let mut first = pull.monitor().unwrap();
        let endpoint = pull.bind(TCP).unwrap();
        let mut second = pull.monitor().unwrap();
        assert_eq!(drain(&mut first).await, 2);
        // The first's drop is no matter of the second's.
        drop(first);
        let push = context.socket::<Push>().unwrap();
        push.connect(&endpoint).unwrap();
        assert_eq!(second.connected().await.unwrap(), endpoint);
        // Also when the first is dropped unread.
        let third = pull.monitor().unwrap();
        let mut fourth = pull.monitor().unwrap();
        drop((second, third));
        drop(push);
        let MonitorEvent::Disconnected { .. } = next(&mut fourth).await else { panic!() };
        drop(pull);
        drain(&mut fourth).await;
    });
}

#[test]
fn two_sockets_have_a_monitor_each() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let sockets: [AsyncZmqSocket<Pull>; 2] = [context.socket().unwrap(), context.socket().unwrap()];
        let mut monitors = sockets.each_ref().map(|socket| socket.monitor().unwrap());
        let endpoints = sockets.each_ref().map(|socket| socket.bind(TCP).unwrap());
        for (monitor, endpoint) in monitors.iter_mut().zip(&endpoints) {
            let event = next(monitor).await;
            assert!(matches!(&event, MonitorEvent::Listening { endpoint: of, .. } if of == endpoint), "{event:?}");
        }
    });
}

#[test]
fn every_kind_has_a_monitor() {
    async fn check<K: Kind>(context: &AsyncZmqContext, kind: zmq::SocketType) {
        let socket = context.adopt::<K>(context.zmq_context().socket(kind).unwrap()).unwrap();
        let mut monitor = socket.monitor().unwrap();
        let endpoint = socket.bind(TCP).unwrap();
        let event = next(&mut monitor).await;
        assert!(
            matches!(&event, MonitorEvent::Listening { endpoint: of, .. } if *of == endpoint),
            "{kind:?} {event:?}"
        );
        drop(socket);
        drain(&mut monitor).await;
    }
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let kinds = {
        use zmq::SocketType::{DEALER, PAIR, PUB, PULL, PUSH, REP, REQ, ROUTER, STREAM, SUB, XPUB, XSUB};
        [PAIR, PUB, SUB, REQ, REP, DEALER, ROUTER, PULL, PUSH, XPUB, XSUB, STREAM]
    };
    run(&mut event_loop, async {
        check::<Pair>(&context, zmq::PAIR).await;
        for kind in kinds {
            check::<Any>(&context, kind).await;
        }
    });
}

#[test]
fn an_adopted_socket_is_monitored_in_its_own_context_only() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let foreign = zmq::Context::new();
    run(&mut event_loop, async {
        let own = context.adopt::<Pull>(context.zmq_context().socket(zmq::PULL).unwrap()).unwrap();
        let mut monitor = own.monitor().unwrap();
        let endpoint = own.bind(TCP).unwrap();
        let push = context.socket::<Push>().unwrap();
        push.connect(&endpoint).unwrap();
        assert_eq!(monitor.connected().await.unwrap(), endpoint);

        let other = context.adopt::<Pull>(foreign.socket(zmq::PULL).unwrap()).unwrap();
        let refused = other.monitor().unwrap_err();
        assert_eq!(refused.errno(), Some(libc::ENOTSUP));
        assert_eq!(refused.to_string(), "cannot monitor a socket of another ZeroMQ context");
        // And it is none the worse for it.
        let push = context.socket::<Push>().unwrap();
        push.connect(&other.bind(TCP).unwrap()).unwrap();
        push.send("x").await.unwrap();
        other.recv().await.unwrap();
    });
    // As the error's documentation says.
    let home = AsyncZmqContext::with_context(&event_loop.handle(), foreign).unwrap();
    let socket = home.adopt::<Pull>(home.zmq_context().socket(zmq::PULL).unwrap()).unwrap();
    assert!(socket.monitor().is_ok());
}

#[test]
fn a_shutdown_ends_the_stream_and_every_wait() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let pull = context.socket::<Pull>().unwrap();
        pull.bind(TCP).unwrap();
        let (mut streams, mut waits) = (pull.monitor().unwrap(), context.socket::<Pull>().unwrap().monitor().unwrap());
        let other = context.socket::<Pull>().unwrap();
        other.bind(TCP).unwrap();
        let mut connects = other.monitor().unwrap();
        let (end, stopped, connected, ()) =
            futures::join!(streams.next(), waits.wait_for_peers(1), connects.connected(), async {
                context.sleep(Duration::from_millis(5)).await;
                context.shutdown();
            });
        assert!(end.is_none());
        assert!(matches!(stopped.unwrap_err(), Error::MonitorStopped), "its socket was dropped at once");
        assert!(matches!(connected.unwrap_err(), Error::Terminated));
        assert!(matches!(streams.connected().await.unwrap_err(), Error::Terminated));
        assert!(matches!(pull.monitor().unwrap_err(), Error::Terminated));
    });
}

#[test]
fn the_context_ends_when_its_monitors_are_dropped_too() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    pull.bind(TCP).unwrap();
    let monitor = pull.monitor().unwrap();
    let pause = context.sleep(Duration::from_millis(5));
    let mut terminate = context.terminate();
    assert_eq!(terminate.open_sockets(), 2, "a socket and its monitor");
    run(&mut event_loop, async {
        let before = async {
            pause.await;
            drop(pull);
        };
        futures::select! {
            _ = (&mut terminate).fuse() => panic!("the monitor is open"),
            () = before.fuse() => {}
        }
        assert_eq!(terminate.open_sockets(), 1);
        drop(monitor);
        terminate.await.unwrap();
    });
}

/// `zmq_ctx_term` on another thread: libzmq itself says ETERM, to whichever of the two looks first.
#[test]
fn the_end_of_libzmqs_context_ends_the_monitor() {
    // Freed by `destroy`; no clone of it may end it again.
    static ENDED: Mutex<Vec<zmq::Context>> = Mutex::new(Vec::new());
    let _alone = alone();
    for socket_first in [true, false] {
        let (mut event_loop, context) = fixture();
        let mut ends = context.zmq_context().clone();
        ENDED.lock().unwrap().push(ends.clone());
        let pull = context.socket::<Pull>().unwrap();
        let mut monitor = pull.monitor().unwrap();
        pull.bind(TCP).unwrap();
        let ending = thread::spawn(move || {
            ends.destroy().unwrap();
            ENDED.lock().unwrap().push(ends);
        });
        run(&mut event_loop, async {
            let end = async { while monitor.next().await.is_some() {} };
            let (received, ()) = futures::join!(pull.recv(), end);
            assert!(matches!(received.unwrap_err(), Error::Terminated));
        });
        if socket_first {
            drop(pull);
            drop(monitor);
        } else {
            drop(monitor);
            drop(pull);
        }
        ending.join().unwrap();
    }
}

#[test]
fn a_monitor_without_a_loop_says_so() {
    let _alone = alone();
    let (event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    let mut monitor = pull.monitor().unwrap();
    pull.bind(TCP).unwrap();
    drop(event_loop);
    assert!(matches!(pull.monitor().unwrap_err(), Error::LoopGone));
    let mut said = Vec::new();
    while let Some(event) = monitor.next().now_or_never().expect("it waits for nothing") {
        said.push(event);
    }
    assert!(matches!(said.last(), Some(Err(Error::LoopGone))), "{said:?}");
    drop(pull);
    drop(monitor);
}

/// Socket, monitor, context and loop, dropped in all orders, in the open and in a task that the executor drops.
#[test]
fn everything_may_go_in_any_order() {
    let _alone = alone();
    let mut orders = 0;
    for order in 0..24 {
        for in_task in [false, true] {
            let (event_loop, context) = fixture();
            let pull = context.socket::<Pull>().unwrap();
            let monitor = pull.monitor().unwrap();
            let push = context.socket::<Push>().unwrap();
            push.connect(&pull.bind(TCP).unwrap()).unwrap();
            let (executor, scheduler) = calloop::futures::executor::<()>().unwrap();
            let token = event_loop.handle().insert_source(executor, |(), (), ()| ()).unwrap();
            let mut things: Vec<Box<dyn std::any::Any>> =
                vec![Box::new(push), Box::new(pull), Box::new(monitor), Box::new(context)];
            // The order's digits in the factorial system pick who goes next.
            let mut rest = order;
            let mut queue = Vec::new();
            for left in (1..=things.len()).rev() {
                queue.push(things.remove(rest % left));
                rest /= left;
            }
            if in_task {
                scheduler
                    .schedule(async move {
                        let _queue = queue;
                        futures::future::pending::<()>().await;
                    })
                    .unwrap();
                let mut event_loop = event_loop;
                event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
                // Drops the task, and all it has, while the loop's list is borrowed.
                event_loop.handle().remove(token);
                event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
            } else {
                let mut event_loop = Some(event_loop);
                for (at, thing) in queue.into_iter().enumerate() {
                    if at == order % 5 {
                        event_loop = None;
                    }
                    drop(thing);
                }
                drop(event_loop);
            }
            orders += 1;
        }
    }
    assert_eq!(orders, 48);
}

/// Dropped where an event of its own is being told.
#[test]
fn either_may_go_from_a_callback() {
    let _alone = alone();
    for monitor_first in [true, false] {
        let (mut event_loop, context) = fixture();
        let pull = context.socket::<Pull>().unwrap();
        let monitor = pull.monitor().unwrap();
        let endpoint = pull.bind(TCP).unwrap();
        let push = context.socket::<Push>().unwrap();
        push.connect(&endpoint).unwrap();
        let told = Rc::new(Cell::new(0));
        let both = RefCell::new(Some(pull));
        let source = calloop::stream::StreamSource::new(monitor).unwrap();
        let (count, handle) = (Rc::clone(&told), event_loop.handle());
        let token = Rc::new(Cell::new(None));
        let own = Rc::clone(&token);
        let inserted = handle.clone().insert_source(source, move |event, (), ()| {
            count.set(count.get() + 1);
            if event.is_none_or(|event| matches!(event, Ok(MonitorEvent::HandshakeSucceeded { .. }))) {
                if monitor_first && let_go(&own, &handle) {
                    return;
                }
                drop(both.take());
            }
        });
        token.set(Some(inserted.unwrap()));
        let target = if monitor_first { 3 } else { 4 };
        support::turn_until(&mut event_loop, &mut (), |()| told.get() >= target);
        drop(push);
        run(&mut event_loop, ping_over_tcp(&context));
    }
}

fn let_go(token: &Cell<Option<calloop::RegistrationToken>>, handle: &calloop::LoopHandle<'static, ()>) -> bool {
    token.take().map(|token| handle.remove(token)).is_some()
}

/// Nobody reads, and libzmq's I/O thread never waits for it.
#[test]
fn ten_thousand_connections_hold_up_nobody_if_no_one_reads() {
    let connections = env::var("ROUNDS").map_or(10_000, |rounds| rounds.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let endpoint = format!("ipc://{}", path.display());
    for order in ["read", "socket first", "monitor first"] {
        let _alone = alone();
        let (mut event_loop, context) = fixture();
        let pull = context.socket::<Pull>().unwrap();
        let mut monitor = pull.monitor().unwrap();
        pull.bind(&endpoint).unwrap();
        let path = path.clone();
        let storm = thread::spawn(move || (0..connections).for_each(|_| drop(UnixStream::connect(&path).unwrap())));
        storm.join().unwrap();
        // A whole round by the same I/O thread, behind them all.
        run(&mut event_loop, async {
            let push = context.socket::<Push>().unwrap();
            push.connect(&endpoint).unwrap();
            push.send("after the storm").await.unwrap();
            pull.recv().await.unwrap();
            ping_over_tcp(&context).await;
            match order {
                "socket first" => {
                    drop(pull);
                    drop(monitor);
                }
                "monitor first" => {
                    drop(monitor);
                    drop(pull);
                }
                _ => {
                    let told = names_until(&mut monitor, "HandshakeSucceeded", &endpoint).await;
                    let of = |name: &str| told.iter().filter(|told| *told == name).count();
                    assert_eq!(of("Accepted"), connections + 1);
                    drop(pull);
                    let late = drain(&mut monitor).await;
                    assert!(of("Disconnected") + late > connections);
                    println!("{} events and {late} more", told.len());
                }
            }
            ping_over_tcp(&context).await;
        });
    }
}

/// A seeded life of sockets and monitors: made, connected, read a little, dropped, in a random order.
#[test]
fn a_random_life_ends_and_hangs_nobody() {
    let steps = env::var("ROUNDS").map_or(600, |rounds| rounds.parse().unwrap());
    let _alone = alone();
    let mut rng = Rng::new();
    let (mut event_loop, context) = fixture();
    let (mut sockets, mut monitors) = (Vec::<AsyncZmqSocket<Dealer>>::new(), Vec::<Monitor>::new());
    let (mut endpoints, mut ended) = (Vec::new(), 0);
    run(&mut event_loop, async {
        for _ in 0..steps {
            let pick = |rng: &mut Rng, len: usize| usize::try_from(rng.below(len.max(1) as u64)).unwrap();
            let (socket, monitor) = (pick(&mut rng, sockets.len()), pick(&mut rng, monitors.len()));
            match rng.below(10) {
                0 | 1 => sockets.push(context.socket::<Dealer>().unwrap()),
                2 if !sockets.is_empty() => endpoints.push(sockets[socket].bind(TCP).unwrap()),
                3 if !sockets.is_empty() && !endpoints.is_empty() => {
                    let endpoint = pick(&mut rng, endpoints.len());
                    sockets[socket].connect(&endpoints[endpoint]).unwrap();
                }
                4 | 5 if !sockets.is_empty() => monitors.push(sockets[socket].monitor().unwrap()),
                6 if !monitors.is_empty() => {
                    while let Some(Some(event)) = monitors[monitor].next().now_or_never() {
                        ended += u32::from(matches!(event.unwrap(), MonitorEvent::Stopped));
                    }
                }
                7 if !sockets.is_empty() => drop(sockets.swap_remove(socket)),
                8 if !monitors.is_empty() => drop(monitors.swap_remove(monitor)),
                _ => support::turn().await,
            }
        }
        ping_over_tcp(&context).await;
        drop(sockets);
        for monitor in &mut monitors {
            while monitor.next().await.is_some() {}
        }
        println!("{ended} ended on the way, {} at the end", monitors.len());
        ping_over_tcp(&context).await;
    });
}

#[test]
fn a_wait_for_peers_counts_those_that_come_and_go() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let push = context.socket::<Push>().unwrap();
        let mut monitor = push.monitor().unwrap();
        let endpoint = push.bind(TCP).unwrap();
        monitor.wait_for_peers(0).await.unwrap();
        let pull = || {
            let pull = context.socket::<Pull>().unwrap();
            pull.connect(&endpoint).unwrap();
            pull
        };
        let mut pulls = vec![pull(), pull(), pull()];
        monitor.wait_for_peers(3).await.unwrap();
        assert_eq!(monitor.peers(), 3);
        // They all are there: each gets a third, from the first message on.
        for number in 0..9 {
            push.send(number.to_string()).await.unwrap();
        }
        for pull in &pulls {
            for _ in 0..3 {
                pull.recv().await.unwrap();
            }
        }
        pulls.pop();
        let MonitorEvent::Disconnected { .. } = next(&mut monitor).await else { panic!() };
        assert_eq!(monitor.peers(), 2);

        // A dropped wait loses no peer: two of the three come in the time of some that are.
        pulls.push(pull());
        pulls.push(pull());
        while monitor.peers() < 4 {
            context.timeout(Duration::from_millis(1), monitor.wait_for_peers(5)).await.unwrap_err();
        }
        pulls.push(pull());
        monitor.wait_for_peers(5).await.unwrap();
        assert_eq!(monitor.peers(), 5);
        // What has come already is seen at once.
        monitor.wait_for_peers(5).now_or_never().unwrap().unwrap();
        push.unbind(&endpoint).unwrap();
        let MonitorEvent::Closed { .. } = next(&mut monitor).await else { panic!() };
        assert_eq!(monitor.peers(), 0);
    });
}

#[test]
fn connected_answers_each_connection_in_turn() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let servers: [AsyncZmqSocket<Rep>; 2] = [context.socket().unwrap(), context.socket().unwrap()];
        let endpoints = servers.each_ref().map(|server| server.bind(TCP).unwrap());
        let req = context.socket::<Req>().unwrap();
        let mut monitor = req.monitor().unwrap();
        for endpoint in &endpoints {
            req.connect(endpoint).unwrap();
            assert_eq!(monitor.connected().await.unwrap(), *endpoint);
        }
        assert_eq!(monitor.peers(), 2);
        assert!(monitor.connected().now_or_never().is_none(), "no third one");
    });
}

#[test]
fn a_stream_counts_connections() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let stream = context.socket::<Stream>().unwrap();
        let mut monitor = stream.monitor().unwrap();
        let endpoint = stream.bind(TCP).unwrap();
        let peer = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).unwrap();
        assert_eq!(monitor.connected().await.unwrap(), endpoint);
        assert_eq!(monitor.peers(), 1);
        drop(peer);
        while !matches!(next(&mut monitor).await, MonitorEvent::Disconnected { .. }) {}
        assert_eq!(monitor.peers(), 0);
    });
}

/// libzmq has no events for inproc. A wait says so, unless there is another transport to wait for.
#[test]
fn a_wait_for_peers_over_inproc_does_not_wait_for_ever() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let (pull, push) = (context.socket::<Pull>().unwrap(), context.socket::<Push>().unwrap());
        let (mut server, mut client) = (pull.monitor().unwrap(), push.monitor().unwrap());
        pull.bind("inproc://silent").unwrap();
        push.connect("inproc://silent").unwrap();
        push.send("they are peers all the same").await.unwrap();
        pull.recv().await.unwrap();
        assert!(server.next().now_or_never().is_none() && client.next().now_or_never().is_none(), "no event");
        for monitor in [&mut server, &mut client] {
            for refused in [monitor.wait_for_peers(1).await.unwrap_err(), monitor.connected().await.unwrap_err()] {
                assert_eq!(refused.errno(), Some(libc::ENOTSUP));
                assert_eq!(refused.to_string(), "cannot wait for peers over inproc, where libzmq has no events");
            }
            monitor.wait_for_peers(0).await.unwrap();
        }
        // No event has come, and the last endpoint is inproc; but there is another one.
        let other = context.socket::<Pull>().unwrap();
        let endpoint = other.bind(TCP).unwrap();
        let mut both = other.monitor().unwrap();
        other.bind("inproc://too").unwrap();
        assert!(both.connected().now_or_never().is_none());
        push.connect(&endpoint).unwrap();
        both.wait_for_peers(1).await.unwrap();
        // Nothing is known of a socket without an endpoint.
        let late = context.socket::<Pull>().unwrap();
        let mut monitor = late.monitor().unwrap();
        assert!(monitor.connected().now_or_never().is_none());
    });
}

/// A monitor that cannot be made leaves nothing: the PAIR's place in the context is free again.
#[test]
fn a_context_without_room_refuses_a_monitor_and_loses_no_place() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    let mut others = Vec::new();
    while let Ok(other) = context.zmq_context().socket(zmq::PAIR) {
        others.push(other);
    }
    assert!(others.len() > 500, "{} sockets", others.len());
    let free = |others: &mut Vec<zmq::Socket>, places: usize| {
        others.truncate(others.len() - places);
    };
    let take = |others: &mut Vec<zmq::Socket>, places: usize| {
        for _ in 0..places {
            eventually("a place is free", || {
                context.zmq_context().socket(zmq::PAIR).map(|other| others.push(other)).is_ok()
            });
        }
    };
    let begin = descriptors();
    let each = if features().descriptor == Some(Descriptor::EventFd) { 1 } else { 2 };
    for places in [0, 1, 1, 1] {
        free(&mut others, places);
        eventually("a place is free", || descriptors() <= begin - each * places);
        let refused = pull.monitor().unwrap_err();
        assert_eq!(refused.errno(), Some(libc::EMFILE), "{refused}");
        // The receiver's source leaves the loop at its next turn.
        event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
        take(&mut others, places);
    }
    free(&mut others, 2);
    eventually("two places are free", || descriptors() <= begin - 2 * each);
    drop(pull.monitor().unwrap());
}

/// As it is used: a task of its own reads it, and ends with the socket.
#[test]
fn a_task_that_reads_ends_with_the_socket() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let (executor, scheduler) = calloop::futures::executor::<usize>().unwrap();
    let told = Rc::new(Cell::new(None));
    let tells = Rc::clone(&told);
    event_loop.handle().insert_source(executor, move |count, (), ()| tells.set(Some(count))).unwrap();
    let pull = context.socket::<Pull>().unwrap();
    let mut monitor = pull.monitor().unwrap();
    scheduler.schedule(async move { drain(&mut monitor).await }).unwrap();
    run(&mut event_loop, async {
        let push = context.socket::<Push>().unwrap();
        push.connect(&pull.bind(TCP).unwrap()).unwrap();
        push.send("x").await.unwrap();
        pull.recv().await.unwrap();
        drop(pull);
    });
    support::turn_until(&mut event_loop, &mut (), |()| told.get().is_some());
    assert_eq!(told.get(), Some(4), "listening, accepted, shaken hands, stopped");
}

/// Reads are budgeted like any: a backlog does not keep the loop from going on, not even after the end.
#[test]
fn a_backlog_is_read_in_turns() {
    const CONNECTIONS: usize = 1500;
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (mut event_loop, context) = fixture();
    run(&mut event_loop, async {
        let pull = context.socket::<Pull>().unwrap();
        let mut monitor = pull.monitor().unwrap();
        let endpoint = pull.bind(&format!("ipc://{}", path.display())).unwrap();
        let connect = || (0..CONNECTIONS).for_each(|_| drop(UnixStream::connect(&path).unwrap()));
        thread::scope(|scope| scope.spawn(connect).join().unwrap());
        // The last to be accepted: so many events are there.
        let push = context.socket::<Push>().unwrap();
        push.connect(&endpoint).unwrap();
        push.send("last").await.unwrap();
        pull.recv().await.unwrap();
        let mut pull = Some(pull);
        for _ in 0..2 {
            support::turn().await;
            let mut at_once = 0;
            while at_once <= CONNECTIONS && monitor.next().now_or_never().is_some() {
                at_once += 1;
                // The work of a task on each, of which a turn has time for five.
                thread::sleep(Duration::from_micros(100));
            }
            assert!((1..100).contains(&at_once), "{at_once} in one turn");
            drop(pull.take());
        }
        assert!(drain(&mut monitor).await > CONNECTIONS - 200);
    });
}
