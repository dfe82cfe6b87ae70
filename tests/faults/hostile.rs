//! Raw TCP peers that speak ZMTP badly, or not at all, to each kind of bound socket, while a good peer keeps talking.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use calloop_zmq::kind::{Any, Stream};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, Multipart, SendError};
use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, join, select};
use zmq::SocketType;

use crate::common::Rng;
use crate::support::run;
use crate::{STALL, TCP, alone, descriptors, down_to, fixture};

#[test]
fn hostile_input_to_a_pair() {
    hostile_input(zmq::PAIR, zmq::PAIR, "PAIR");
}

#[test]
fn hostile_input_to_a_pub() {
    hostile_input(zmq::PUB, zmq::SUB, "SUB");
}

#[test]
fn hostile_input_to_a_sub() {
    hostile_input(zmq::SUB, zmq::PUB, "PUB");
}

#[test]
fn hostile_input_to_a_req() {
    hostile_input(zmq::REQ, zmq::REP, "REP");
}

#[test]
fn hostile_input_to_a_rep() {
    hostile_input(zmq::REP, zmq::REQ, "DEALER");
}

#[test]
fn hostile_input_to_a_dealer() {
    hostile_input(zmq::DEALER, zmq::DEALER, "DEALER");
}

#[test]
fn hostile_input_to_a_router() {
    hostile_input(zmq::ROUTER, zmq::DEALER, "DEALER");
}

#[test]
fn hostile_input_to_a_pull() {
    hostile_input(zmq::PULL, zmq::PUSH, "PUSH");
}

#[test]
fn hostile_input_to_a_push() {
    hostile_input(zmq::PUSH, zmq::PULL, "PULL");
}

#[test]
fn hostile_input_to_an_xpub() {
    hostile_input(zmq::XPUB, zmq::XSUB, "XSUB");
}

#[test]
fn hostile_input_to_an_xsub() {
    hostile_input(zmq::XSUB, zmq::XPUB, "XPUB");
}

fn hostile_input(kind: SocketType, good_kind: SocketType, hostile_kind: &str) {
    let _alone = alone();
    let mut rng = Rng::new();
    let (mut event_loop, context) = fixture();
    // The first socket starts libzmq's threads.
    let _first = socket(&context, kind);
    let at_first = descriptors();
    let ours = socket(&context, kind);
    let endpoint = ours.bind(TCP).unwrap();
    let address = endpoint.strip_prefix("tcp://").unwrap();
    let good = socket(&context, good_kind);
    good.connect(&endpoint).unwrap();
    run(&mut event_loop, async {
        let mut talk = Talk::new(&context, &ours, &good, kind);
        // The good one comes first: a PAIR has no ear for a second.
        talk.on().await;
        let baseline = descriptors();
        let (mut held, mut thrown_out) = (Vec::new(), 0);
        let mut attacks = attacks(hostile_kind);
        attacks.extend((0..20).map(|_| garbage(hostile_kind, &mut rng)));
        for (name, bytes) in &attacks {
            println!("{name}");
            // All at once, and left open.
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(bytes);
            talk.on().await;
            thrown_out += u32::from(is_closed(&mut stream));
            held.push(stream);
            // A peer that stays may take every other message of a PUSH: it is not to take nearly all.
            if held.len() > 5 {
                held.remove(0);
            }
            // All at once, and gone.
            let _ = TcpStream::connect(address).unwrap().write_all(bytes);
            talk.on().await;
            // In two halves.
            let mut stream = TcpStream::connect(address).unwrap();
            let (first, second) = bytes.split_at(usize::try_from(rng.below(bytes.len() as u64)).unwrap());
            let _ = stream.write_all(first);
            talk.on().await;
            let _ = stream.write_all(second);
            talk.on().await;
        }
        // Byte by byte.
        let (name, bytes) = &attacks[0];
        println!("{name}, slowly");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in bytes {
            let _ = stream.write_all(&[*byte]);
            talk.on().await;
        }
        drop(stream);
        drop(held);
        println!("{thrown_out} thrown out, {} messages of theirs", talk.from_others);
        assert!(thrown_out >= 10, "libzmq did not mind {} of {} attacks", thrown_out, attacks.len());
        // A PAIR has one peer, a REQ only hears whom it asked. The others were spoken to, so the handshakes are right.
        let hears = !matches!(kind, SocketType::PAIR | SocketType::REQ | SocketType::PUSH | SocketType::PUB);
        assert_eq!(talk.from_others > 0, hears);
        // libzmq 4.3.4 leaves a second peer of a PAIR connected, and if that one says something it does not see it go:
        // the descriptor stays until the PAIR is closed.
        if kind != SocketType::PAIR {
            down_to(&context, baseline).await;
        }
        talk.on().await;
    });
    drop((ours, good));
    run(&mut event_loop, down_to(&context, at_first));
}

/// There is no bad input to a STREAM, but there are peers that go before they are answered.
#[test]
fn hostile_input_to_a_stream() {
    let _alone = alone();
    let (mut event_loop, context) = fixture();
    let _first = socket(&context, zmq::STREAM);
    let at_first = descriptors();
    let ours = context.socket::<Stream>().unwrap();
    let address = ours.bind(TCP).unwrap().replace("tcp://", "");
    let (answered, gone) = (Cell::new(0), Cell::new(0));
    run(&mut event_loop, async {
        // Whoever it is gets back what it sent. Receiving does not wait for that: to libzmq 4.3.4 a peer that has gone is
        // full until all it sent was received, so that a send to it ends only then.
        let (received, to_answer) = mpsc::unbounded::<Multipart>();
        let receive = async {
            loop {
                let message = ours.recv().await.unwrap();
                // An empty body says that somebody came, or went.
                if !message[1].is_empty() {
                    received.unbounded_send(message).unwrap();
                }
            }
        };
        let answer = to_answer.for_each(async |message| match ours.send(message).await {
            Ok(()) => answered.set(answered.get() + 1),
            Err(SendError { error: Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. }, .. }) => {
                gone.set(gone.get() + 1);
            }
            Err(error) => panic!("{error:?}"),
        });
        let serve = join(receive, answer);
        let (done, peers) = oneshot::channel();
        thread::spawn(move || {
            for (name, bytes) in attacks("PAIR") {
                println!("{name}");
                let mut held = TcpStream::connect(&address).unwrap();
                let _ = held.write_all(&bytes);
                let _ = TcpStream::connect(&address).unwrap().write_all(&bytes);
                let mut good = TcpStream::connect(&address).unwrap();
                good.set_read_timeout(Some(STALL)).unwrap();
                good.write_all(b"good").unwrap();
                let mut echo = [0; 4];
                good.read_exact(&mut echo).expect("in time");
                assert_eq!(&echo, b"good");
            }
            done.send(()).unwrap();
        });
        let Either::Right((done, _)) = select(Box::pin(serve), peers).await;
        done.expect("the good peer was answered each time");
    });
    println!("{} answers, {} to somebody who has gone", answered.get(), gone.get());
    assert!(answered.get() > 50);
    drop(ours);
    run(&mut event_loop, down_to(&context, at_first));
}

/// The conversation with the good peer.
pub(crate) struct Talk<'a> {
    context: &'a AsyncZmqContext,
    ours: &'a AsyncZmqSocket<Any>,
    good: &'a AsyncZmqSocket<Any>,
    kind: SocketType,
    number: u64,
    /// Messages that came from somebody else.
    from_others: u64,
}

impl<'a> Talk<'a> {
    pub(crate) fn new(
        context: &'a AsyncZmqContext,
        ours: &'a AsyncZmqSocket<Any>,
        good: &'a AsyncZmqSocket<Any>,
        kind: SocketType,
    ) -> Self {
        Self { context, ours, good, kind, number: 0, from_others: 0 }
    }

    /// A message from the good peer and one to it, where the kind allows that, and soon.
    pub(crate) async fn on(&mut self) {
        self.number += 1;
        let (context, number) = (self.context, self.number);
        let said = context.timeout(STALL, async {
            match self.kind {
                SocketType::REQ => self.ask().await,
                SocketType::REP => self.answer().await,
                SocketType::PULL | SocketType::SUB => self.hear().await,
                SocketType::PUSH | SocketType::PUB => self.say().await,
                SocketType::XPUB => {
                    // Whatever subscribers send up.
                    while self.ours.try_recv().unwrap().is_some() {
                        self.from_others += 1;
                    }
                    self.say().await;
                }
                _ => {
                    self.hear().await;
                    self.say().await;
                }
            }
        });
        said.await.unwrap_or_else(|_| panic!("the good peer was not heard of in exchange {number}"));
    }

    fn word(&self) -> Multipart {
        word(self.number)
    }

    /// As the receiver gets it: a ROUTER adds the sender.
    fn is_word(&self, message: &mut Multipart) -> bool {
        if self.kind == SocketType::ROUTER && message.pop_front().is_none_or(|id| &id[..] != b"good") {
            return false;
        }
        *message == self.word()
    }

    async fn hear(&mut self) {
        let patience = if matches!(self.kind, SocketType::SUB | SocketType::XSUB) {
            // A publisher drops what comes before the subscription.
            Duration::from_millis(20)
        } else {
            STALL
        };
        loop {
            self.good.send(self.word()).await.unwrap();
            while let Ok(heard) = self.context.timeout(patience, self.ours.recv()).await {
                let mut message = heard.unwrap();
                if self.is_word(&mut message) {
                    return;
                }
                self.from_others += u64::from(message.first().is_none_or(|frame| &frame[..] != b"good"));
            }
        }
    }

    async fn say(&mut self) {
        loop {
            // Who stays connected takes its share of what a PUSH or a DEALER deals: until it is the good one's turn.
            let mut word = self.word();
            if self.kind == SocketType::ROUTER {
                word.push_front("good");
            }
            self.ours.send(word).await.unwrap();
            while let Ok(heard) = self.context.timeout(Duration::from_millis(2), self.good.recv()).await {
                if heard.unwrap() == self.word() {
                    return;
                }
            }
        }
    }

    /// REQ to the good REP.
    async fn ask(&mut self) {
        let serve = async {
            loop {
                let question = self.good.recv().await.unwrap();
                self.good.send(question).await.unwrap();
            }
        };
        let ask = async {
            loop {
                self.ours.send(self.word()).await.unwrap();
                // Others do not answer.
                if let Ok(reply) = self.context.timeout(Duration::from_millis(10), self.ours.recv()).await {
                    assert_eq!(reply.unwrap(), self.word());
                    break;
                }
            }
        };
        let Either::Left(_) = select(Box::pin(ask), Box::pin(serve)).await;
    }

    /// REP to the good REQ.
    async fn answer(&mut self) {
        let (number, context, good, ours) = (self.number, self.context, self.good, self.ours);
        let serve = async {
            loop {
                let question = ours.recv().await.unwrap();
                self.from_others += u64::from(&question[0][..] != b"good");
                ours.send(question).await.unwrap();
            }
        };
        // A request without a delimiter whose sender has gone swallows the reply to the next one, whoever that is from
        // (libzmq 4.3.4: `router_t::rollback` leaves `_more_out` set when there is no pipe). So ask again.
        let ask = async {
            loop {
                good.send(word(number)).await.unwrap();
                if let Ok(reply) = context.timeout(Duration::from_millis(100), good.recv()).await {
                    break reply.unwrap();
                }
            }
        };
        let Either::Left((reply, _)) = select(Box::pin(ask), Box::pin(serve)).await;
        assert_eq!(reply, self.word());
    }
}

fn word(number: u64) -> Multipart {
    ["good".to_owned(), number.to_string()].into()
}

pub(crate) fn socket(context: &AsyncZmqContext, kind: SocketType) -> AsyncZmqSocket<Any> {
    let raw = context.zmq_context().socket(kind).unwrap();
    raw.set_linger(0).unwrap();
    match kind {
        SocketType::SUB => raw.set_subscribe(b"").unwrap(),
        SocketType::XSUB => raw.send(&b"\x01"[..], 0).unwrap(),
        SocketType::DEALER => raw.set_identity(b"good").unwrap(),
        SocketType::REQ => {
            // It may ask again, and knows which question a reply is for.
            raw.set_req_relaxed(true).unwrap();
            raw.set_req_correlate(true).unwrap();
        }
        _ => {}
    }
    context.adopt(raw).unwrap()
}

/// True if libzmq has ended the connection. It is given some time for that.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut bytes = [0; 4096];
    for _ in 0..100 {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }
    false
}

pub(crate) type Attack = (String, Vec<u8>);

/// What they send. The first is nearly good: it ends in a message of one frame that libzmq takes.
pub(crate) fn attacks(kind: &str) -> Vec<Attack> {
    let hello = [greeting(3, b"NULL"), ready(kind, b"stranger")].concat();
    let mut attacks = vec![("a message".to_owned(), [&hello[..], &words(kind)].concat())];
    let mut add = |name: &str, bytes: &[u8]| attacks.push((name.to_owned(), bytes.to_vec()));

    add("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    add("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    add("a part of a signature", &greeting(3, b"NULL")[..4]);
    add("a part of a greeting", &greeting(3, b"NULL")[..40]);
    add("version 255", &[greeting(255, b"NULL"), ready(kind, b"")].concat());
    add("version 0", &[greeting(0, b"NULL"), ready(kind, b"")].concat());
    add("a mechanism that nobody has", &[greeting(3, b"ROT13"), ready(kind, b"")].concat());
    add("a mechanism that is another's", &[greeting(3, b"PLAIN"), command(b"\x05HELLO\x01a\x01b")].concat());
    add("CURVE", &[greeting(3, b"CURVE"), command(&[&b"\x05HELLO"[..], &[7; 194]].concat())].concat());
    add("version 1, and a message", b"\x01\x00\x06\x00hello");
    add("version 1, endless", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00and more");
    add("version 1, empty", b"\x00\x00\x00\x00");
    add("version 2", &[&greeting(3, b"NULL")[..10], b"\x01\x07\x00\x00\x00\x05hello"].concat());

    let after_greeting: [(&str, Vec<u8>); 15] = [
        ("a message before READY", frame(0, b"hello")),
        ("a command that nobody knows", command(b"\x05HELLO")),
        ("a command without a name", command(b"")),
        ("a command whose name is too long", command(b"\xffREADY")),
        ("ERROR", command(b"\x05ERROR\x04what")),
        ("a cut ERROR", command(b"\x05ERROR\xffwhat")),
        ("READY without a type", command(b"\x05READY")),
        ("READY of a type that nobody knows", ready("NONSENSE", b"")),
        ("READY of the wrong type", ready(if kind == "PUSH" { "PULL" } else { "PUSH" }, b"x")),
        ("READY with a cut name", command(b"\x05READY\x0bSock")),
        ("READY with a cut value", command(b"\x05READY\x0bSocket-Type\x00\x00\x00\x07PU")),
        ("READY with an endless value", command(b"\x05READY\x0bSocket-Type\xff\xff\xff\xffPULL")),
        ("READY with an empty name", command(b"\x05READY\x00\x00\x00\x00\x00")),
        ("READY with a long identity", ready(kind, &[b'x'; 1000])),
        ("READY with libzmq's own identity", ready(kind, b"\x00\x00\x00\x00\x01")),
    ];
    for (name, bytes) in after_greeting {
        add(name, &[&greeting(3, b"NULL")[..], &bytes].concat());
    }

    let after_handshake: [(&str, Vec<u8>); 20] = [
        ("READY twice", ready(kind, b"again")),
        ("a frame of 2^64 - 1 bytes", b"\x02\xff\xff\xff\xff\xff\xff\xff\xffx".to_vec()),
        ("a frame of 2^63 - 1 bytes", b"\x02\x7f\xff\xff\xff\xff\xff\xff\xffx".to_vec()),
        ("a frame of 2^60 bytes", b"\x02\x10\x00\x00\x00\x00\x00\x00\x00x".to_vec()),
        ("a frame of a GiB that does not come", b"\x02\x00\x00\x00\x00\x40\x00\x00\x00x".to_vec()),
        ("a command of 2^63 bytes", b"\x06\x80\x00\x00\x00\x00\x00\x00\x00x".to_vec()),
        ("a frame with flags that nobody has", b"\xf8\x05hello".to_vec()),
        ("a command with more to follow", b"\x05\x05\x04PINGx".to_vec()),
        ("a command that nobody knows, later", command(b"\x05HELLO")),
        ("an empty command", b"\x04\x00".to_vec()),
        ("a cut PING", command(b"\x04PING\x00")),
        ("a PING with a long context", command(&[&b"\x04PING\x00\x00"[..], &[1; 200]].concat())),
        ("a PONG that nobody asked for", command(b"\x04PONG")),
        ("a cut SUBSCRIBE", command(b"\x09SUBSC")),
        ("half a message", frame(1, b"first of two")),
        ("half a frame", b"\x00\x05he".to_vec()),
        ("half a length", b"\x02\x00\x00\x00".to_vec()),
        ("ten thousand frames without an end", frame(1, b"x").repeat(10_000)),
        ("a hundred empty messages", b"\x00\x00".repeat(100)),
        ("subscriptions", [frame(0, &[1; 5_000]), frame(0, b"\x02what"), frame(0, b"\x00never")].concat()),
    ];
    for (name, bytes) in after_handshake {
        add(name, &[&hello[..], &bytes].concat());
    }
    attacks
}

/// Good bytes with some of them changed, from different places on, or random ones.
fn garbage(kind: &str, rng: &mut Rng) -> Attack {
    let good = [&greeting(3, b"NULL")[..], &ready(kind, b"stranger"), &frame(1, b"some"), &frame(0, b"body")].concat();
    let keep = usize::try_from(rng.below(good.len() as u64)).unwrap();
    let mut bytes = good[..keep].to_vec();
    if rng.below(2) == 0 {
        bytes.extend((0..200).map(|_| u8::try_from(rng.below(256)).unwrap()));
    } else {
        bytes = good;
        bytes[keep] ^= 1 << rng.below(8);
    }
    (format!("garbage from byte {keep} on"), bytes)
}

/// A message that libzmq passes on to the peer of such a socket. A REP wants the delimiter, a PUB a subscription.
pub(crate) fn words(kind: &str) -> Vec<u8> {
    match kind {
        "XSUB" | "SUB" => frame(0, b"\x01strange"),
        "DEALER" => [frame(1, b""), frame(0, b"strange words")].concat(),
        _ => frame(0, b"strange words"),
    }
}

pub(crate) fn greeting(version: u8, mechanism: &[u8]) -> Vec<u8> {
    let mut greeting = vec![0; 64];
    greeting[0] = 0xff;
    greeting[8] = 1;
    greeting[9] = 0x7f;
    greeting[10] = version;
    greeting[12..12 + mechanism.len()].copy_from_slice(mechanism);
    greeting
}

pub(crate) fn ready(kind: &str, identity: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", kind.as_bytes()), ("Identity", identity)] {
        body.push(u8::try_from(name.len()).unwrap());
        body.extend(name.bytes());
        body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend(value);
    }
    command(&body)
}

fn command(body: &[u8]) -> Vec<u8> {
    frame(4, body)
}

pub(crate) fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    match u8::try_from(body.len()) {
        Ok(size) => [&[flags, size], body].concat(),
        Err(_) => [&[flags | 2][..], &(body.len() as u64).to_be_bytes(), body].concat(),
    }
}
