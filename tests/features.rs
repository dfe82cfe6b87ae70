//! What `features` says, held against what libzmq does. True for whichever libzmq is linked.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;

use std::{env, fs};

use calloop::EventLoop;
use calloop_zmq::kind::{Pair, Pull, Push};
use calloop_zmq::{AsyncZmqContext, Descriptor, Error, features};

use support::run;

#[test]
fn features_are_what_libzmq_does() {
    let mut event_loop = EventLoop::<()>::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();

    // Before anything is asked: `features` makes a socket, and libzmq closes it some time later.
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let socket = context.socket::<Pull>().unwrap();
    let before = descriptors();
    let sockets = [(); 8].map(|()| context.socket::<Pull>().unwrap());
    let each = (descriptors() - before) / sockets.len();

    let features = features();
    println!("{features}");
    match features.descriptor.unwrap() {
        Descriptor::EventFd => assert_eq!(each, 1),
        Descriptor::SocketPair => assert_eq!(each, 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(features, calloop_zmq::features());
    assert_eq!(features.version, zmq::version());
    assert!(features.to_string().starts_with(&format!("libzmq {}.", features.version.0)));

    let curve = socket.get_ref().set_curve_server(true);
    assert_eq!(curve.is_ok(), features.curve);
    assert_eq!(zmq::CurveKeyPair::new().is_ok(), features.curve);
    if features.curve {
        features.require_curve().unwrap();
    } else {
        assert!(env::var_os("CALLOOP_ZMQ_CURVE").is_none(), "CURVE is expected here: {features}");
        assert_eq!(curve, Err(zmq::Error::EINVAL), "as the documentation says");
        assert!(matches!(zmq::CurveKeyPair::new(), Err(zmq::Error::ENOTSUP)));
        let error = features.require_curve().unwrap_err();
        assert!(matches!(error, Error::CurveMissing));
        assert!(error.to_string().contains("rustc-link-lib"), "it says what to do: {error}");
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::Unsupported);
    }

    let directory = tempfile::tempdir().unwrap();
    let ipc = format!("ipc://{}", directory.path().join("socket").display());
    for (endpoint, has) in [(&*ipc, features.ipc), ("ws://127.0.0.1:*", features.ws)] {
        let bound = context.socket::<Pull>().unwrap().bind(endpoint);
        assert_eq!(bound.is_ok(), has, "{endpoint}: {bound:?}");
    }

    let (server, client) = (context.socket::<Pull>().unwrap(), context.socket::<Push>().unwrap());
    let endpoint = server.bind("tcp://127.0.0.1:*").unwrap();
    client.get_ref().set_tcp_keepalive(1).unwrap();
    let monitor = context.socket::<Pair>().unwrap();
    monitor.get_ref().set_rcvhwm(0).unwrap();
    monitor.connect("inproc://monitor").unwrap();
    client.get_ref().monitor("inproc://monitor", CONNECTED).unwrap();
    client.connect(&endpoint).unwrap();
    run(&mut event_loop, async {
        let event = monitor.recv().await.unwrap();
        let connection = i32::from_ne_bytes(event[0][2..].try_into().unwrap());
        // The options are set before the event is sent. The message says that the connection stands.
        client.send("hello").await.unwrap();
        server.recv().await.unwrap();
        assert_eq!(Some(has_keepalive(connection)), features.tcp_keepalive);
    });
}

/// `SO_KEEPALIVE` of a descriptor of this process.
fn has_keepalive(descriptor: i32) -> bool {
    let mut on: libc::c_int = 0;
    let mut size = libc::socklen_t::try_from(size_of_val(&on)).unwrap();
    // SAFETY: an int, and its size, that outlive the call.
    let done = unsafe {
        libc::getsockopt(descriptor, libc::SOL_SOCKET, libc::SO_KEEPALIVE, (&raw mut on).cast(), &raw mut size)
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    on != 0
}

/// `ZMQ_EVENT_CONNECTED`, whose value is the connection's descriptor.
const CONNECTED: i32 = 1;
