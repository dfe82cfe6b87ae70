//! Strangers by the thousand, at each kind of bound socket: they connect as fast as they can, say something that is nearly
//! ZMTP, or say it very slowly, and go, or do not. The good peer is served all the while, and nothing of them is left.
//!
//! What they say are seeded mutations of a good session. `STORM` in the environment sets how many come to each socket.

use std::collections::VecDeque;
use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use calloop_zmq::kind::Stream;
use calloop_zmq::{Error, SendError};
use futures::channel::oneshot;
use futures::future::{Either, select};
use zmq::SocketType;

use crate::common::Rng;
use crate::hostile::{Attack, Talk, attacks, frame, greeting, ready, socket, words};
use crate::support::run_counted;
use crate::{STALL, TCP, alone, descriptors, down_to, fixture, resident};

#[test]
fn a_storm_on_a_pair() {
    storm(zmq::PAIR, zmq::PAIR, "PAIR");
}

#[test]
fn a_storm_on_a_pub() {
    storm(zmq::PUB, zmq::SUB, "SUB");
}

#[test]
fn a_storm_on_a_sub() {
    storm(zmq::SUB, zmq::PUB, "PUB");
}

#[test]
fn a_storm_on_a_req() {
    storm(zmq::REQ, zmq::REP, "REP");
}

#[test]
fn a_storm_on_a_rep() {
    storm(zmq::REP, zmq::REQ, "DEALER");
}

#[test]
fn a_storm_on_a_dealer() {
    storm(zmq::DEALER, zmq::DEALER, "DEALER");
}

#[test]
fn a_storm_on_a_router() {
    storm(zmq::ROUTER, zmq::DEALER, "DEALER");
}

#[test]
fn a_storm_on_a_pull() {
    storm(zmq::PULL, zmq::PUSH, "PUSH");
}

#[test]
fn a_storm_on_a_push() {
    storm(zmq::PUSH, zmq::PULL, "PULL");
}

#[test]
fn a_storm_on_an_xpub() {
    storm(zmq::XPUB, zmq::XSUB, "XSUB");
}

#[test]
fn a_storm_on_an_xsub() {
    storm(zmq::XSUB, zmq::XPUB, "XPUB");
}

fn storm(kind: SocketType, good_kind: SocketType, hostile_kind: &str) {
    let _alone = alone();
    let mut rng = Rng::new();
    let (mut event_loop, context) = fixture();
    let _first = socket(&context, kind);
    let at_first = descriptors();
    let ours = socket(&context, kind);
    let endpoint = ours.bind(TCP).unwrap();
    let good = socket(&context, good_kind);
    good.connect(&endpoint).unwrap();
    let ((memory, slowest, exchanges), turns) = run_counted(&mut event_loop, &mut (), async {
        let mut talk = Talk::new(&context, &ours, &good, kind);
        talk.on().await;
        let baseline = descriptors();
        let (mut memory, mut slowest, mut exchanges) = (Vec::new(), Duration::ZERO, 0);
        // The first wave shows what so many connections take, the second that it is taken once.
        for wave in [strangers(kind) / 2, strangers(kind)] {
            let strangers = Strangers::send(&endpoint, hostile_kind, wave, &mut rng);
            while !strangers.are_done() {
                let begin = Instant::now();
                talk.on().await;
                slowest = slowest.max(begin.elapsed());
                exchanges += 1;
            }
            strangers.join();
            // libzmq 4.3.4 keeps the descriptor of a PAIR's second peer that said something, until the PAIR is closed.
            if kind != zmq::PAIR {
                down_to(&context, baseline).await;
            }
            talk.on().await;
            memory.push(resident());
        }
        // Who comes late is served as well. A PAIR has its peer for good.
        // To a ROUTER somebody else may have come by its name.
        if kind != zmq::PAIR && kind != zmq::ROUTER {
            let strangers = Strangers::send(&endpoint, hostile_kind, strangers(kind) / 4, &mut rng);
            good.disconnect(&endpoint).unwrap();
            good.connect(&endpoint).unwrap();
            talk.on().await;
            strangers.join();
        }
        (memory[1].saturating_sub(memory[0]), slowest, exchanges)
    });
    println!("{exchanges} exchanges, the slowest took {slowest:?}; {turns} turns; {memory} bytes more");
    assert!(memory < 8 << 20, "{memory} bytes");
    drop((ours, good));
    run_counted(&mut event_loop, &mut (), down_to(&context, at_first));
}

/// There are no strangers to a STREAM: whoever comes is answered.
#[test]
fn a_storm_on_a_stream() {
    let _alone = alone();
    let mut rng = Rng::new();
    let (mut event_loop, context) = fixture();
    let _first = socket(&context, zmq::STREAM);
    let at_first = descriptors();
    let ours = context.socket::<Stream>().unwrap();
    let endpoint = ours.bind(TCP).unwrap();
    let strangers = Strangers::send(&endpoint, "PAIR", strangers(zmq::STREAM), &mut rng);
    let (done, asked) = oneshot::channel();
    let good = thread::spawn(move || {
        let mut good = connect(endpoint.replace("tcp://", "").parse().unwrap());
        good.set_read_timeout(Some(STALL)).unwrap();
        let mut exchanges = 0_u32;
        while !strangers.are_done() {
            good.write_all(&exchanges.to_le_bytes()).unwrap();
            let mut echo = [0; 4];
            good.read_exact(&mut echo).expect("in time");
            assert_eq!(echo, exchanges.to_le_bytes());
            exchanges += 1;
        }
        strangers.join();
        done.send(exchanges).unwrap();
    });
    let (exchanges, turns) = run_counted(&mut event_loop, &mut (), async {
        let echo = async {
            loop {
                let message = ours.recv().await.unwrap();
                if message[1].is_empty() {
                    continue;
                }
                // A send to a stranger that has gone ends when its end is received. Nobody else need wait for that.
                match ours.try_send(message) {
                    Ok(())
                    | Err(SendError {
                        error: Error::Full | Error::Zmq { source: zmq::Error::EHOSTUNREACH, .. }, ..
                    }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        };
        let Either::Right((exchanges, _)) = select(Box::pin(echo), asked).await;
        exchanges.unwrap()
    });
    good.join().unwrap();
    println!("{exchanges} exchanges, {turns} turns");
    drop(ours);
    run_counted(&mut event_loop, &mut (), down_to(&context, at_first));
}

/// A socket that is bound, and that no task uses, is looked after by the loop alone.
#[test]
fn a_storm_on_sockets_that_nobody_uses() {
    let _alone = alone();
    let mut rng = Rng::new();
    let (mut event_loop, context) = fixture();
    for (kind, hostile_kind) in [
        (zmq::PUB, "SUB"),
        (zmq::SUB, "PUB"),
        (zmq::REQ, "REP"),
        (zmq::REP, "DEALER"),
        (zmq::DEALER, "DEALER"),
        (zmq::ROUTER, "DEALER"),
        (zmq::PULL, "PUSH"),
        (zmq::PUSH, "PULL"),
        (zmq::XPUB, "XSUB"),
        (zmq::XSUB, "XPUB"),
    ] {
        let ours = socket(&context, kind);
        let endpoint = ours.bind(TCP).unwrap();
        let baseline = descriptors();
        let count = strangers(kind) / 4;
        let strangers = Strangers::send(&endpoint, hostile_kind, count, &mut rng);
        let begin = Instant::now();
        let ((), turns) = run_counted(&mut event_loop, &mut (), async {
            while !strangers.are_done() {
                context.sleep(Duration::from_millis(1)).await;
            }
            strangers.join();
            down_to(&context, baseline).await;
        });
        // Four for each who came, and two for each look at the clock.
        let limit = 4 * u128::from(count) + 2 * begin.elapsed().as_millis() + 50;
        println!("{kind:?}: {turns} turns, {limit} at most");
        assert!(u128::from(turns) <= limit, "{turns} turns");
    }
}

/// How many come to a socket of this kind.
fn strangers(kind: SocketType) -> u64 {
    let strangers = env::var("STORM").map_or(600, |count| count.parse().unwrap());
    // Each may take a descriptor for good.
    if kind == zmq::PAIR { strangers.min(600) } else { strangers }
}

/// Threads that connect, and connect.
struct Strangers {
    threads: Vec<JoinHandle<()>>,
    count: u64,
    begin: Instant,
}

impl Strangers {
    fn send(endpoint: &str, kind: &str, count: u64, rng: &mut Rng) -> Self {
        let address: SocketAddr = endpoint.strip_prefix("tcp://").unwrap().parse().unwrap();
        let session = Session::new(kind);
        let thread = |_| {
            let (session, mut rng) = (session.clone(), rng.fork());
            thread::spawn(move || {
                let mut slow = VecDeque::new();
                for _ in 0..count / THREADS {
                    visit(connect(address), &session, &mut slow, &mut rng);
                }
            })
        };
        Self { threads: (0..THREADS).map(thread).collect(), count, begin: Instant::now() }
    }

    fn are_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    fn join(self) {
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        println!("{} strangers in {:?}", self.count, self.begin.elapsed());
    }
}

/// One of them comes, says something, and goes, or stays for some time. The other side may well have thrown it out before.
fn visit(mut stream: TcpStream, session: &Session, slow: &mut VecDeque<Slow>, rng: &mut Rng) {
    let bytes = session.mutated(rng);
    match rng.below(5) {
        0 => {
            let _ = stream.write_all(&bytes);
        }
        1 => {
            let _ = stream.write_all(&bytes);
            reset(&stream);
        }
        2 => {
            // In pieces, and each in a packet.
            for piece in bytes.chunks(1 + index(rng, bytes.len())) {
                let _ = stream.write_all(piece);
            }
        }
        3 => {
            let _ = stream.write_all(&bytes);
            // It waits to see what comes of it.
            stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
            let _ = stream.read(&mut [0; 1024]);
        }
        _ => slow.push_back(Slow { stream, bytes, said: 0 }),
    }
    slow.iter_mut().for_each(Slow::goes_on);
    if slow.len() > 20 {
        slow.pop_front();
    }
}

/// Somebody who says one byte at a time, whenever another comes.
struct Slow {
    stream: TcpStream,
    bytes: Vec<u8>,
    said: usize,
}

impl Slow {
    fn goes_on(&mut self) {
        if let Some(byte) = self.bytes.get(self.said) {
            let _ = self.stream.write_all(&[*byte]);
            self.said += 1;
        }
    }
}

/// What a good peer would say, and worse.
#[derive(Clone)]
struct Session {
    kind: String,
    attacks: Vec<Attack>,
}

impl Session {
    fn new(kind: &str) -> Self {
        let mut attacks = attacks(kind);
        // In their thousands these are a test of the machine.
        attacks.retain(|(_, bytes)| bytes.len() < 5_000);
        Self { kind: kind.to_owned(), attacks }
    }

    /// One, with some changes or none.
    fn mutated(&self, rng: &mut Rng) -> Vec<u8> {
        let mut bytes =
            if rng.below(3) == 0 { self.attacks[index(rng, self.attacks.len())].1.clone() } else { self.good(rng) };
        for _ in 0..rng.below(4) {
            let at = index(rng, bytes.len());
            let end = at + index(rng, bytes.len() - at);
            match rng.below(6) {
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes[at] = [0, 1, 2, 4, 0x7f, 0x80, 0xff][index(rng, 7)],
                2 => bytes.truncate(at + 1),
                3 => drop(bytes.drain(at..end)),
                4 => bytes.extend_from_within(at..end),
                // A length, perhaps.
                _ => drop(bytes.splice(at..end, (1_u64 << rng.below(64)).to_be_bytes())),
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    }

    fn good(&self, rng: &mut Rng) -> Vec<u8> {
        // One of these is a name that is taken.
        let identity = ["", "stranger", "good"][index(rng, 3)];
        let mut bytes = [greeting(3, b"NULL"), ready(&self.kind, identity.as_bytes())].concat();
        for _ in 0..rng.below(4) {
            bytes.extend(words(&self.kind));
        }
        bytes.extend(frame(1, b"some"));
        bytes.extend(frame(0, &vec![7; index(rng, 600)]));
        bytes
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Has the connection end with a reset, whatever is unread.
fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = libc::socklen_t::try_from(size_of_val(&linger)).unwrap();
    // SAFETY: the descriptor is open, and the option a struct of that size.
    let set = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), size)
    };
    assert_eq!(set, 0);
}

/// A place in what has so many. At least one.
fn index(rng: &mut Rng, count: usize) -> usize {
    usize::try_from(rng.below(count.max(1) as u64)).unwrap()
}

const THREADS: u64 = 2;
