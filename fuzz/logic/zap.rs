//! Whatever is handed in where libzmq asks who may connect: read as a request, and put to an authenticator, which has to
//! answer all that can be answered, and to go on.

use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use calloop::EventLoop;
use calloop_zmq::zap::{Authenticator, Credentials, Request, Rules};
use calloop_zmq::{AsyncZmqContext, Multipart};

use crate::source::Source;

pub(crate) fn run(data: &[u8]) {
    let mut source = Source(data);
    let mut frames = Vec::new();
    while !source.is_empty() && frames.len() < 20 {
        frames.push(field(&mut source));
    }
    let parsed = Request::parse(&frames.iter().collect::<Multipart>());
    assert_eq!(parsed.is_ok(), is_request(&frames));
    if let Ok(request) = parsed {
        check(&request, &frames);
    }
    if !frames.is_empty() {
        OFFICE.with_borrow_mut(|office| office.get_or_insert_with(Office::open).ask(&frames));
    }
}

/// A field: one of those that a good request has, or anything.
fn field(source: &mut Source<'_>) -> Vec<u8> {
    let known: [&[u8]; 14] = [
        b"",
        b"1.0",
        b"1",
        b"shop",
        b"192.0.2.7",
        b"::ffff:192.0.2.9",
        b"fe80::1%eth0",
        b"NULL",
        b"PLAIN",
        b"CURVE",
        b"alice",
        b"secret",
        &KEY,
        b"GSSAPI",
    ];
    match source.byte() {
        0xff => source.frame(),
        other => known[usize::from(other) % known.len()].to_vec(),
    }
}

/// RFC 27, written once more.
fn is_request(frames: &[Vec<u8>]) -> bool {
    let is_text = |frame: &[u8]| frame.len() <= 255 && !frame.contains(&0) && std::str::from_utf8(frame).is_ok();
    let [version, _, domain, address, identity, mechanism, credentials @ ..] = frames else { return false };
    let shown = match (&mechanism[..], credentials) {
        (b"NULL", []) => true,
        (b"PLAIN", [username, password]) => is_text(username) && password.len() <= 255,
        (b"CURVE", [key]) => key.len() == 32,
        _ => false,
    };
    version == b"1.0" && is_text(domain) && is_text(address) && identity.len() <= 255 && shown
}

/// It says what the frames say.
fn check(request: &Request, frames: &[Vec<u8>]) {
    assert_eq!((request.domain.as_bytes(), request.address.as_bytes()), (&frames[2][..], &frames[3][..]));
    assert_eq!(request.identity, frames[4]);
    match &request.credentials {
        Credentials::Null => assert_eq!(frames.len(), 6),
        Credentials::Plain { username, password } => {
            assert_eq!((username.as_bytes(), password), (&frames[6][..], &frames[7]));
        }
        Credentials::Curve { key } => assert_eq!(key.as_bytes(), &frames[6][..]),
        _ => panic!("a mechanism that nobody knows"),
    }
    let _ = request.ip();
    let shown = frames.iter().take(7).any(|frame| frame.windows(6).any(|text| text == b"secret"));
    assert!(shown || !format!("{request:?}").contains("secret"), "no password is printed");
}

/// An authenticator, and somebody who asks it in libzmq's place.
struct Office {
    rules: Rules,
    service: Pin<Box<dyn Future<Output = calloop_zmq::Result<()>>>>,
    visitor: zmq::Socket,
    event_loop: EventLoop<'static, ()>,
}

impl Office {
    fn open() -> Self {
        let event_loop = EventLoop::try_new().unwrap();
        let context = AsyncZmqContext::new(&event_loop.handle()).unwrap();
        let rules = Rules::new();
        rules.add_user("shop", "alice", "secret");
        rules.allow_anonymous("");
        rules.deny_address("shop", IpAddr::from([192, 0, 2, 9]));
        let service = Box::pin(Authenticator::new(&context, rules.clone()).unwrap().run());
        let visitor = context.zmq_context().socket(zmq::DEALER).unwrap();
        visitor.connect("inproc://zeromq.zap.01").unwrap();
        Self { rules, service, visitor, event_loop }
    }

    fn ask(&mut self, frames: &[Vec<u8>]) {
        self.visitor.send_multipart(frames, 0).unwrap();
        // A good one at the end, which is answered in any case.
        let last = [&b""[..], b"1.0", b"last", b"shop", b"192.0.2.7", b"", b"PLAIN", b"alice", b"secret"];
        self.visitor.send_multipart(last, 0).unwrap();
        if let Some(expected) = self.expected(frames) {
            let reply = self.reply();
            let at = frames.iter().position(Vec::is_empty).unwrap() + 1;
            assert_eq!(reply[..at], frames[..at], "the envelope");
            assert_eq!(reply.len(), at + 6);
            assert_eq!((&reply[at][..], &reply[at + 1]), (&b"1.0"[..], &frames[at + 1]));
            assert_eq!(reply[at + 2], expected.to_string().as_bytes());
        }
        assert_eq!(self.reply()[1..4], [&b"1.0"[..], b"last", b"200"].map(<[u8]>::to_vec));
    }

    /// The status that answers this; `None` if there is nobody to answer to, or no request id to answer with.
    fn expected(&self, frames: &[Vec<u8>]) -> Option<u16> {
        let delimiter = frames.iter().position(Vec::is_empty)?;
        let frames = &frames[delimiter + 1..];
        frames.get(1)?;
        let request = Request::parse(&frames.iter().collect::<Multipart>());
        Some(request.map_or(400, |request| self.rules.check(&request).status()))
    }

    fn reply(&mut self) -> Vec<Vec<u8>> {
        for _ in 0..100 {
            if let Ok(reply) = self.visitor.recv_multipart(zmq::DONTWAIT) {
                return reply;
            }
            self.event_loop.dispatch(Duration::ZERO, &mut ()).unwrap();
            let served = self.service.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(served, Poll::Pending), "{served:?}");
        }
        panic!("no answer");
    }
}

thread_local! {
    static OFFICE: RefCell<Option<Office>> = const { RefCell::new(None) };
}

const KEY: [u8; 32] = [7; 32];
