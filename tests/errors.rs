//! What fails, fails at once, with the right error and the message back; and every error says what it should.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod support;

use std::error::Error as StdError;
use std::io;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::kind::{Any, CanSend, Dealer, Pub, Pull, Push, Rep, Req, Router, Sub};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, Multipart, SendError};
use futures::{FutureExt, Sink, SinkExt, StreamExt};

use support::{now, poll_once, run};

/// Each test has a loop, though most never turn it.
fn fixture() -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().unwrap();
    let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
    (event_loop, context)
}

/// The error and its causes, printed, each without what the next one says.
fn chain(error: &dyn StdError) -> Vec<String> {
    let mut said = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        said.push(cause.to_string());
        source = cause.source();
    }
    println!("{}", said.join(": "));
    assert!(said.iter().all(|text| !text.is_empty() && !text.ends_with('.')), "{said:?}");
    for (text, cause) in said.iter().zip(&said[1..]) {
        assert!(!text.contains(cause.as_str()), "{text:?} repeats its cause {cause:?}");
    }
    said
}

fn io_kind(error: Error) -> io::ErrorKind {
    let text = error.to_string();
    let error = io::Error::from(error);
    let inner = error.get_ref().expect("the error itself is inside");
    assert!(inner.is::<Error>(), "{inner:?}");
    assert_eq!(inner.to_string(), text);
    error.kind()
}

fn zmq_error(error: &Error) -> zmq::Error {
    match error {
        Error::Zmq { source, .. } => *source,
        other => panic!("expected an error of libzmq, not {other:?}"),
    }
}

#[test]
fn the_wrong_kind_is_not_adopted() {
    let (_event_loop, context) = fixture();
    let push = context.zmq_context().socket(zmq::PUSH).unwrap();
    let error = context.adopt::<Pull>(push).unwrap_err();
    assert!(matches!(error, Error::KindMismatch { expected: zmq::PULL, actual: zmq::PUSH }), "{error:?}");
    assert_eq!(chain(&error), ["expected a PULL socket, this is a PUSH"]);
    assert_eq!(error.errno(), None);
    assert_eq!(io_kind(error), io::ErrorKind::InvalidInput);
}

const NUL: [&str; 4] = ["\0", "inproc://a\0b", "tcp://127.0.0.1:*\0", "ipc://\0/tmp/x"];

const NONSENSE: [&str; 9] = [
    "",
    ":",
    "://",
    "nonsense",
    "tcp:/127.0.0.1:1",
    "foo://bar",
    "tcp://",
    "tcp://127.0.0.1",
    "pgm://eth0;239.192.1.1:5555",
];

// libzmq takes the fourth for port 34463, the sixth for 65535, and most of the others for what their digits say.
const NO_PORT: [&str; 12] = [
    "tcp://127.0.0.1:",
    "tcp://127.0.0.1:port",
    "tcp://127.0.0.1:65536",
    "tcp://127.0.0.1:99999",
    "tcp://[::1]:99999",
    "tcp://127.0.0.1:-1",
    "tcp://127.0.0.1:5555/",
    "tcp://127.0.0.1:99999;127.0.0.1:5555",
    "tcp://127.0.0.1:5555;127.0.0.1:99999",
    "udp://127.0.0.1:99999",
    "ws://127.0.0.1:99999",
    "ws://127.0.0.1:99999/path:5555",
];

#[test]
fn a_port_that_is_none_is_not_taken_for_another() {
    let (_event_loop, context) = fixture();
    let socket = context.socket::<Dealer>().unwrap();
    for endpoint in NO_PORT {
        for (operation, error) in
            [("bind", socket.bind(endpoint).unwrap_err()), ("connect to", socket.connect(endpoint).unwrap_err())]
        {
            assert!(matches!(error, Error::Endpoint(_)), "{error:?}");
            assert_eq!(error.errno(), None);
            let said = format!("cannot {operation} {endpoint:?}: a port is a number up to 65535");
            assert_eq!(chain(&error), [said]);
            assert_eq!(io_kind(error), io::ErrorKind::InvalidInput);
        }
    }
    for endpoint in ["tcp://127.0.0.1:1", "tcp://127.0.0.1:65535", "tcp://[::1]:5555", "tcp://127.0.0.1:0;127.0.0.1:1"]
    {
        socket.connect(endpoint).unwrap();
    }
    // The port ends where the path begins, and neither is in a file's name.
    socket.bind("inproc://a:99999").unwrap();
    let directory = tempfile::tempdir().unwrap();
    socket.bind(&format!("ipc://{}/a:99999", directory.path().display())).unwrap();
    if calloop_zmq::features().ws {
        socket.bind("ws://127.0.0.1:*/path:99999").unwrap();
    }
}

#[test]
fn an_endpoint_that_is_refused_says_why() {
    let (_event_loop, context) = fixture();
    let socket = context.socket::<Dealer>().unwrap();
    for (endpoint, why) in [
        ("tcp://localhost:*", "here is no such address or interface, and host names cannot be bound"),
        ("foo://bar", "this libzmq has no such transport"),
        ("udp://127.0.0.1:5555", "not a transport for this kind of socket"),
        ("nonsense", "endpoints look like tcp://127.0.0.1:5555, ipc:///tmp/socket or inproc://name"),
    ] {
        let error = socket.bind(endpoint).unwrap_err();
        assert_eq!(chain(&error)[0], format!("cannot bind {endpoint:?}: {why}"));
    }
}

#[test]
fn an_endpoint_with_a_nul_never_reaches_libzmq() {
    let (_event_loop, context) = fixture();
    let socket = context.socket::<Dealer>().unwrap();
    for endpoint in NUL {
        for (operation, error) in [
            ("bind", socket.bind(endpoint).unwrap_err()),
            ("connect to", socket.connect(endpoint).unwrap_err()),
            ("unbind", socket.unbind(endpoint).unwrap_err()),
            ("disconnect from", socket.disconnect(endpoint).unwrap_err()),
        ] {
            let Error::Endpoint(inner) = &error else { panic!("{operation} {endpoint:?}: {error:?}") };
            assert_eq!(inner.endpoint(), endpoint);
            assert_eq!(error.errno(), None);
            let said = chain(&error);
            assert_eq!(said.len(), 1);
            assert!(said[0].starts_with(&format!("cannot {operation} {endpoint:?}")), "{said:?}");
            assert!(!said[0].contains('\0'), "printed raw: {said:?}");
            assert_eq!(io_kind(error), io::ErrorKind::InvalidInput);
        }
    }
}

#[test]
fn nonsense_is_no_endpoint() {
    let (_event_loop, context) = fixture();
    let socket = context.socket::<Dealer>().unwrap();
    for endpoint in NONSENSE {
        for (operation, error) in
            [("bind", socket.bind(endpoint).unwrap_err()), ("connect to", socket.connect(endpoint).unwrap_err())]
        {
            let Error::Endpoint(inner) = &error else { panic!("{operation} {endpoint:?}: {error:?}") };
            assert_eq!(inner.endpoint(), endpoint);
            assert!(error.errno().is_some());
            let said = chain(&error);
            assert_eq!(said.len(), 2, "{said:?}");
            assert!(said[0].starts_with(&format!("cannot {operation} {endpoint:?}")), "{said:?}");
            assert_eq!(io_kind(error), io::ErrorKind::InvalidInput);
        }
        for (operation, error) in [
            ("unbind", socket.unbind(endpoint).unwrap_err()),
            ("disconnect from", socket.disconnect(endpoint).unwrap_err()),
        ] {
            // libzmq looks some of these up before it looks at them.
            assert!(
                matches!(error, Error::Endpoint(_) | Error::Zmq { source: zmq::Error::ENOENT, .. }),
                "{operation} {endpoint:?}: {error:?}"
            );
            assert!(chain(&error)[0].starts_with(&format!("cannot {operation} ")));
        }
    }
    // The socket is as good as before.
    let endpoint = socket.bind("tcp://127.0.0.1:*").unwrap();
    socket.unbind(&endpoint).unwrap();
}

#[test]
fn very_long_endpoints_are_refused() {
    let (_event_loop, context) = fixture();
    let socket = context.socket::<Dealer>().unwrap();
    let long = "x".repeat(100_000);
    for error in [
        socket.bind(&format!("ipc:///{long}")).unwrap_err(),
        socket.connect(&format!("ipc:///{long}")).unwrap_err(),
        socket.bind(&format!("tcp://{long}:1")).unwrap_err(),
        socket.bind(&long).unwrap_err(),
        socket.connect(&long).unwrap_err(),
        // This one libzmq would take.
        socket.bind(&format!("inproc://{}", "x".repeat(1 << 20))).unwrap_err(),
    ] {
        assert!(error.errno().is_some() || matches!(error, Error::Endpoint(_)), "{error:?}");
    }
}

#[test]
fn an_address_in_use_says_so() {
    let (_event_loop, context) = fixture();
    let (first, second) = (context.socket::<Pull>().unwrap(), context.socket::<Pull>().unwrap());
    for endpoint in [first.bind("tcp://127.0.0.1:*").unwrap(), first.bind("inproc://taken").unwrap()] {
        let error = second.bind(&endpoint).unwrap_err();
        assert_eq!(zmq_error(&error), zmq::Error::EADDRINUSE);
        assert_eq!(error.errno(), Some(libc::EADDRINUSE));
        assert_eq!(chain(&error), [format!("cannot bind {endpoint}"), "Address already in use".to_owned()]);
        assert_eq!(io_kind(error), io::ErrorKind::AddrInUse);
    }
}

#[test]
fn an_errno_unknown_to_the_zmq_crate_is_an_error_and_no_panic() {
    let (_event_loop, context) = fixture();
    let socket = context.socket::<Pull>().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let endpoint = format!("ipc://{}/x", file.path().display());
    let error = socket.bind(&endpoint).unwrap_err();
    let Error::Os(inner) = &error else { panic!("{error:?}") };
    assert_eq!(inner.raw_os_error(), Some(libc::ENOTDIR));
    assert_eq!(error.errno(), Some(libc::ENOTDIR));
    let said = chain(&error);
    assert_eq!((said.len(), &said[0]), (2, &format!("cannot bind {endpoint}")));
    assert_eq!(io_kind(error), io::ErrorKind::NotADirectory);
}

/// libzmq has one list of endpoints, and both calls take from it.
#[test]
fn unbind_and_disconnect_end_whatever_has_the_endpoint() {
    let (_event_loop, context) = fixture();
    let socket = context.socket::<Dealer>().unwrap();
    let bound = socket.bind("tcp://127.0.0.1:*").unwrap();
    socket.disconnect(&bound).unwrap();
    socket.unbind(&bound).unwrap_err();
    socket.connect("tcp://127.0.0.1:1").unwrap();
    socket.unbind("tcp://127.0.0.1:1").unwrap();
    socket.disconnect("tcp://127.0.0.1:1").unwrap_err();
}

#[test]
fn what_is_not_bound_is_not_unbound() {
    let (_event_loop, context) = fixture();
    let socket = context.socket::<Dealer>().unwrap();
    let bound = socket.bind("tcp://127.0.0.1:*").unwrap();
    socket.unbind(&bound).unwrap();
    let (unbound, disconnected) = ("where it is not bound", "where it is not connected");
    for (operation, endpoint, why, error) in [
        ("unbind", &*bound, unbound, socket.unbind(&bound).unwrap_err()),
        ("unbind", "inproc://nowhere", unbound, socket.unbind("inproc://nowhere").unwrap_err()),
        ("disconnect from", &*bound, disconnected, socket.disconnect(&bound).unwrap_err()),
        ("disconnect from", "inproc://nowhere", disconnected, socket.disconnect("inproc://nowhere").unwrap_err()),
    ] {
        assert_eq!(zmq_error(&error), zmq::Error::ENOENT);
        assert_eq!(chain(&error)[0], format!("cannot {operation} {endpoint}, {why}"));
        assert_eq!(io_kind(error), io::ErrorKind::NotFound);
    }
    // Where there is no directory to bind in, that is what the file system's ENOENT says.
    let error = socket.bind("ipc:///nonexistent/socket").unwrap_err();
    assert_eq!(chain(&error)[0], "cannot bind ipc:///nonexistent/socket");
}

/// By each way to send: the error, and what came back.
fn refusals<K: CanSend>(socket: &AsyncZmqSocket<K>, message: impl Fn() -> Multipart) -> Vec<(Error, Multipart)> {
    let both = |refused: SendError| (refused.error, refused.message);
    let sent = both(now(socket.send(message())).unwrap_err());
    let tried = both(socket.try_send(message()).unwrap_err());
    let mut sink = socket;
    let from_sink = now(SinkExt::send(&mut sink, message())).unwrap_err();
    let from_sink = (from_sink, socket.take_unsent().expect("the sink kept it"));
    assert!(socket.take_unsent().is_none());
    vec![sent, tried, from_sink]
}

#[test]
fn an_empty_message_comes_back() {
    let (mut event_loop, context) = fixture();
    let (push, pull) = (context.socket::<Push>().unwrap(), context.socket::<Pull>().unwrap());
    let expected = |(error, message): (Error, Multipart)| {
        assert!(matches!(error, Error::EmptyMessage), "{error:?}");
        assert!(message.is_empty());
        assert_eq!(chain(&error), ["a message needs at least one frame"]);
        assert_eq!(io_kind(error), io::ErrorKind::InvalidInput);
    };
    // Without a peer any other message would wait.
    refusals(&push, Multipart::new).into_iter().for_each(expected);
    pull.bind("inproc://empty").unwrap();
    push.connect("inproc://empty").unwrap();
    refusals(&push, Multipart::new).into_iter().for_each(expected);
    // The next message is untouched.
    run(&mut event_loop, async {
        push.send(["still", "whole"]).await.unwrap();
        assert_eq!(pull.recv().await.unwrap(), ["still", "whole"].into());
    });
    for kind in [zmq::PUB, zmq::XPUB, zmq::XSUB, zmq::REQ, zmq::ROUTER, zmq::DEALER, zmq::PAIR, zmq::STREAM] {
        let socket = context.adopt::<Any>(context.zmq_context().socket(kind).unwrap()).unwrap();
        refusals(&socket, Multipart::new).into_iter().for_each(expected);
    }
}

#[test]
fn out_of_turn_is_answered_at_once() {
    let (mut event_loop, context) = fixture();
    let (req, rep) = (context.socket::<Req>().unwrap(), context.socket::<Rep>().unwrap());
    // So that "at once" is not put off to the next turn of the loop.
    req.set_budget(NonZeroUsize::MAX);
    rep.set_budget(NonZeroUsize::MAX);
    rep.bind("inproc://turns").unwrap();
    req.connect("inproc://turns").unwrap();
    let refused = |error: Error, operation: &str| {
        assert_eq!(zmq_error(&error), zmq::Error::EFSM);
        assert_eq!(chain(&error)[0], format!("cannot {operation}: this socket sends and receives by turns"));
        assert_eq!(io_kind(error), io::ErrorKind::Other);
    };
    let cannot_send = |outcome: Vec<(Error, Multipart)>| {
        for (error, message) in outcome {
            refused(error, "send");
            assert_eq!(message, ["a", "b", "c"].into());
        }
    };
    let message = || Multipart::from(["a", "b", "c"]);

    // A REQ that has not asked, a REP that was not asked.
    refused(now(req.recv()).unwrap_err(), "receive");
    refused(now(req.recv_into(&mut Multipart::new())).unwrap_err(), "receive");
    refused(req.try_recv().unwrap_err(), "receive");
    refused(now((&req).next()).unwrap().unwrap_err(), "receive");
    cannot_send(refusals(&rep, message));
    // The stream goes on after such an error; here, to the next one.
    refused(now((&req).next()).unwrap().unwrap_err(), "receive");

    // A REQ that has asked, a REP that was asked.
    run(&mut event_loop, async {
        req.send("question").await.unwrap();
        assert_eq!(rep.recv().await.unwrap(), "question".into());
    });
    cannot_send(refusals(&req, message));
    refused(now(rep.recv()).unwrap_err(), "receive");
    refused(rep.try_recv().unwrap_err(), "receive");

    // None of this broke the turn.
    run(&mut event_loop, async {
        rep.send("answer").await.unwrap();
        assert_eq!(req.recv().await.unwrap(), "answer".into());
    });
}

#[test]
fn any_learns_at_run_time_what_it_cannot() {
    let (_event_loop, context) = fixture();
    let adopt = |kind| context.adopt::<Any>(context.zmq_context().socket(kind).unwrap()).unwrap();
    let refused = |error: Error, operation: &str| {
        assert_eq!(zmq_error(&error), zmq::Error::ENOTSUP);
        assert_eq!(chain(&error)[0], format!("cannot {operation}"));
        io_kind(error);
    };
    for kind in [zmq::PULL, zmq::SUB] {
        for message in [Multipart::from("a"), Multipart::from(["a", "b"])] {
            let again = || message.iter().map(|frame| &frame[..]).collect();
            for (error, back) in refusals(&adopt(kind), again) {
                refused(error, "send");
                assert_eq!(back, message);
            }
        }
    }
    for kind in [zmq::PUSH, zmq::PUB] {
        let socket = adopt(kind);
        refused(now(socket.recv()).unwrap_err(), "receive");
        refused(socket.try_recv().unwrap_err(), "receive");
        refused(now((&socket).next()).unwrap().unwrap_err(), "receive");
    }
}

#[test]
fn a_mandatory_router_gives_back_what_nobody_can_take() {
    let (mut event_loop, context) = fixture();
    let (router, dealer) = (context.socket::<Router>().unwrap(), context.socket::<Dealer>().unwrap());
    router.get_ref().set_router_mandatory(true).unwrap();
    // So that a refusal is not put off to the next turn of the loop.
    router.set_budget(NonZeroUsize::MAX);
    router.bind("inproc://mandatory").unwrap();
    let unreachable = || {
        for (error, message) in refusals(&router, || ["ghost", "x", "y"].into()) {
            assert_eq!(zmq_error(&error), zmq::Error::EHOSTUNREACH);
            assert_eq!(message, ["ghost", "x", "y"].into());
            assert_eq!(chain(&error)[0], "cannot send: there is no such peer");
            assert_eq!(io_kind(error), io::ErrorKind::HostUnreachable);
        }
    };
    let error: io::Error = router.try_send(["ghost", "x"]).unwrap_err().into();
    assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
    unreachable();
    dealer.get_ref().set_identity(b"known").unwrap();
    dealer.connect("inproc://mandatory").unwrap();
    run(&mut event_loop, async {
        dealer.send("hello").await.unwrap();
        assert_eq!(router.recv().await.unwrap(), ["known", "hello"].into());
        unreachable();
        router.send(["known", "x", "y"]).await.unwrap();
        assert_eq!(dealer.recv().await.unwrap(), ["x", "y"].into());
    });
    assert!(poll_once(&mut dealer.recv()).is_pending(), "nothing else reached the peer");
}

#[test]
fn without_a_loop_there_is_nothing_to_wait_for() {
    let (event_loop, context) = fixture();
    let (push, raw) = (context.socket::<Push>().unwrap(), context.zmq_context().socket(zmq::PULL).unwrap());
    drop(event_loop);
    for error in [context.socket::<Pull>().unwrap_err(), context.adopt::<Pull>(raw).unwrap_err()] {
        assert!(matches!(error, Error::LoopGone), "{error:?}");
        assert_eq!(chain(&error), ["the event loop of this socket is gone"]);
        assert_eq!(io_kind(error), io::ErrorKind::NotConnected);
    }
    let refused = now(push.send(["a", "b"])).unwrap_err();
    assert!(matches!(refused.error, Error::LoopGone), "{refused:?}");
    assert_eq!(refused.into_message(), ["a", "b"].into());
}

#[test]
fn the_wrong_number_of_frames_is_an_error_with_the_message_in_it() {
    let refused = <[zmq::Message; 3]>::try_from(Multipart::from(["a", "b"])).unwrap_err();
    assert_eq!(chain(&refused), ["expected 3 frames, the message has 2"]);
    assert_eq!(refused.message.len(), 2);
    assert_eq!(format!("{refused:?}"), "FrameCountError { expected: 3, actual: 2 }", "and prints without it");
    let error = Error::from(refused);
    assert!(matches!(error, Error::FrameCount { expected: 3, actual: 2 }));
    assert_eq!(chain(&error), ["expected 3 frames, the message has 2"]);
    assert_eq!(io_kind(error), io::ErrorKind::InvalidData);
}

#[test]
fn what_the_zmq_crate_answers_converts_too() {
    let ended = Error::from(zmq::Error::ETERM);
    assert!(matches!(ended, Error::Terminated), "{ended:?}");
    assert_eq!(ended.errno(), Some(zmq::Error::ETERM.to_raw()));
    let out_of_turn = Error::from(zmq::Error::EFSM);
    assert_eq!(zmq_error(&out_of_turn), zmq::Error::EFSM);
    assert_eq!(out_of_turn.errno(), Some(zmq::Error::EFSM.to_raw()));
    assert_eq!(
        chain(&out_of_turn)[0],
        "cannot complete a call of the zmq crate: this socket sends and receives by turns"
    );
}

#[test]
fn a_build_without_curve_is_unsupported() {
    assert_eq!(chain(&Error::CurveMissing).len(), 1);
    assert_eq!(io_kind(Error::CurveMissing), io::ErrorKind::Unsupported);
}

#[test]
fn a_deadline_is_an_error_too() {
    let (mut event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    let outcome: Result<Multipart, Error> =
        run(&mut event_loop, async { context.timeout(Duration::from_millis(1), pull.recv()).await? });
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Elapsed(_)), "{error:?}");
    assert_eq!(chain(&error), ["deadline has elapsed"]);
    assert_eq!(io_kind(error), io::ErrorKind::TimedOut);
}

#[test]
fn a_program_of_io_errors_takes_all_that_is_awaited() {
    let (mut event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    let outcome: io::Result<[zmq::Message; 2]> = run(&mut event_loop, async {
        let message = context.timeout(Duration::from_millis(1), pull.recv()).await??;
        Ok(message.try_into()?)
    });
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
    let two: io::Result<[zmq::Message; 2]> = (|| Ok(Multipart::from("one").try_into()?))();
    assert_eq!(two.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn a_refused_message_converts_and_prints_without_its_payload() {
    let (_event_loop, context) = fixture();
    let router = context.socket::<Router>().unwrap();
    router.get_ref().set_router_mandatory(true).unwrap();
    let refused = || router.try_send(["ghost", "swordfish"]).unwrap_err();
    let (debug, pretty) = (format!("{:?}", refused()), format!("{:#?}", refused()));
    println!("{debug}");
    for text in [debug, pretty] {
        assert!(text.contains("SendError") && text.contains("EHOSTUNREACH") || text.contains("unreachable"), "{text}");
        assert!(text.contains("2 frames"), "{text}");
        for bytes in ["swordfish", "ghost", "115, 119", "73 77"] {
            assert!(!text.contains(bytes), "{text}");
        }
    }
    let message = refused().into_message();
    assert_eq!(format!("{message:?}"), "Multipart[5, 9]");
    assert_eq!(chain(&refused()), ["cannot send: there is no such peer", "Host unreachable"]);
    let error: Error = refused().into();
    assert_eq!(zmq_error(&error), zmq::Error::EHOSTUNREACH);
}

#[test]
fn a_stream_and_a_sink_have_the_same_error() {
    let (mut event_loop, context) = fixture();
    let (source, target) = (context.socket::<Pull>().unwrap(), context.socket::<Pub>().unwrap());
    let subscriber = context.socket::<Sub>().unwrap();
    subscriber.subscribe("").unwrap();
    // It need only type-check, and wait.
    let mut forward = (&source).forward(&target);
    assert!(run(&mut event_loop, async { poll_once(&mut forward) }).is_pending());
}

#[test]
fn what_waits_in_a_sink_does_not_hide_an_error() {
    let (_event_loop, context) = fixture();
    let push = context.socket::<Push>().unwrap();
    let mut sink = &push;
    assert!(sink.feed("waits for a peer".into()).now_or_never().unwrap().is_ok());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(Pin::new(&mut sink).poll_flush(&mut cx), Poll::Pending));
    assert!(matches!(Pin::new(&mut sink).poll_ready(&mut cx), Poll::Pending), "it holds one message at most");
    assert_eq!(push.take_unsent(), Some("waits for a peer".into()));
}

/// libzmq takes it; the zmq crate's buffer for the endpoint holds 255 bytes.
#[test]
fn a_bind_that_fails_has_not_bound() {
    let (_event_loop, context) = fixture();
    let (first, second) = (context.socket::<Pull>().unwrap(), context.socket::<Pull>().unwrap());
    let endpoint = format!("inproc://{}", "x".repeat(300));
    match first.bind(&endpoint) {
        Ok(bound) => assert_eq!(bound, endpoint),
        Err(error) => {
            chain(&error);
            assert!(second.get_ref().bind(&endpoint).is_ok(), "the bind that failed took the endpoint");
        }
    }
}

#[test]
fn an_empty_message_does_not_wait_in_line() {
    let (_event_loop, context) = fixture();
    let push = context.socket::<Push>().unwrap();
    let mut first = push.send("waits for a peer");
    assert!(poll_once(&mut first).is_pending());
    assert!(matches!(now(push.send(Multipart::new())).unwrap_err().error, Error::EmptyMessage));
    drop(first);
    now((&push).feed("waits for a peer".into())).unwrap();
    assert!(matches!(push.try_send(Multipart::new()).unwrap_err().error, Error::EmptyMessage));
}
