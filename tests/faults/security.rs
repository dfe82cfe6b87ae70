//! Set-ups with which libzmq aborts the process: they are refused, and past the check they still do. Should they not any
//! more, the check can go.

use std::os::unix::process::ExitStatusExt;

use calloop_zmq::kind::Pull;
use calloop_zmq::{Error, SetupError};

use crate::{Child, STALL_MS, TCP, fixture, role};

#[test]
fn a_handler_of_the_wrong_kind_aborts_the_process() {
    let Some(_) = role() else {
        let (_event_loop, context) = fixture();
        let error = context.socket::<Pull>().unwrap().bind(HANDLER).unwrap_err();
        assert!(matches!(error, Error::Setup(SetupError::HandlerKind { .. })), "{error:?}");
        return aborts("security::a_handler_of_the_wrong_kind_aborts_the_process");
    };
    let context = zmq::Context::new();
    let handler = context.socket(zmq::PULL).unwrap();
    handler.bind(HANDLER).unwrap();
    let server = context.socket(zmq::PULL).unwrap();
    server.set_plain_server(true).unwrap();
    meet(&context, &server);
}

#[test]
fn an_enforced_domain_that_is_not_there_aborts_the_process() {
    let Some(_) = role() else {
        let (_event_loop, context) = fixture();
        let socket = context.adopt::<Pull>(without_domain(context.zmq_context())).unwrap();
        let error = socket.bind(TCP).unwrap_err();
        assert!(matches!(error, Error::Setup(SetupError::PlainWithoutDomain)), "{error:?}");
        return aborts("security::an_enforced_domain_that_is_not_there_aborts_the_process");
    };
    let context = zmq::Context::new();
    meet(&context, &without_domain(&context));
}

/// Runs the test in another process, and sees that abort.
fn aborts(test: &str) {
    let status = Child::start(test, "past the check").ended();
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
}

/// A PLAIN server with `ZMQ_ZAP_ENFORCE_DOMAIN`.
fn without_domain(context: &zmq::Context) -> zmq::Socket {
    let mut server = context.socket(zmq::PULL).unwrap();
    server.set_linger(0).unwrap();
    server.set_plain_server(true).unwrap();
    let on = 1_i32;
    // SAFETY: a live socket, and an int that outlives the call.
    let done = unsafe { zmq_sys::zmq_setsockopt(server.as_mut_ptr(), 93, (&raw const on).cast(), size_of::<i32>()) };
    assert_eq!(done, 0);
    server
}

/// Somebody connects.
fn meet(context: &zmq::Context, server: &zmq::Socket) {
    server.bind(TCP).unwrap();
    server.set_rcvtimeo(STALL_MS).unwrap();
    let client = context.socket(zmq::PUSH).unwrap();
    client.set_linger(0).unwrap();
    client.set_plain_username(Some("alice")).unwrap();
    client.set_plain_password(Some("secret")).unwrap();
    client.connect(&server.get_last_endpoint().unwrap().unwrap()).unwrap();
    client.send("hello", 0).unwrap();
    panic!("it is alive: {:?}", server.recv_msg(0));
}

const HANDLER: &str = "inproc://zeromq.zap.01";
