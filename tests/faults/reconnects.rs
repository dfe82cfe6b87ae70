//! A peer that comes and goes all the time: connections are made again and again, and leave nothing behind.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use calloop_zmq::kind::{Pull, Push};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use futures::channel::oneshot;
use futures::future::{Either, select};

use crate::common::Rng;
use crate::support::{eventually, run_counted};
use crate::zmtp::Peer;
use crate::{STALL, STALL_MS, TCP, alone, descriptors, down_to, fixture, resident, rounds};

#[test]
fn a_peer_that_rebinds_is_found_each_time() {
    let _alone = alone();
    let rounds = rounds(200);
    let (mut event_loop, context) = fixture();
    let push = eager(&context);
    let ((), turns) = run_counted(&mut event_loop, &mut (), async {
        let (baseline, memory) = (descriptors(), resident());
        let (found, peer) = oneshot::channel();
        let endpoint = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let endpoint = format!("tcp://{endpoint}");
        push.connect(&endpoint).unwrap();
        let rebinding = thread::spawn(move || rebind(&endpoint, rounds, found));
        let send = async {
            for number in 0_u64.. {
                push.send([&number.to_le_bytes()[..], b"second frame"].map(<[u8]>::to_vec)).await.unwrap();
            }
        };
        let ended = context.timeout(Duration::from_secs(50), select(Box::pin(send), peer));
        let Ok(Either::Right((received, _))) = ended.await else { panic!("not found {rounds} times in time") };
        rebinding.join().unwrap();
        println!("{rounds} rebinds, {} messages", received.unwrap());
        down_to(&context, baseline).await;
        let grown = resident().saturating_sub(memory);
        assert!(grown < 16 << 20, "{grown} bytes");
    });
    println!("{turns} turns");
}

/// A peer that binds, takes a message, and goes, so many times. Answers how many messages it got.
fn rebind(endpoint: &str, rounds: u64, found: oneshot::Sender<u64>) {
    let context = zmq::Context::new();
    let (mut received, mut last) = (0, None);
    for round in 0..rounds {
        let pull = context.socket(zmq::PULL).unwrap();
        pull.set_rcvtimeo(STALL_MS).unwrap();
        pull.set_rcvhwm(1).unwrap();
        // The last one's descriptor is closed by libzmq's own thread.
        eventually("the endpoint is free again", || pull.bind(endpoint).is_ok());
        for _ in 0..=round % 3 {
            let Ok([number, second]) = <[_; 2]>::try_from(pull.recv_multipart(0).expect("in time")) else {
                panic!("torn")
            };
            assert_eq!(second, b"second frame");
            let number = u64::from_le_bytes(number.try_into().unwrap());
            // What was on its way to the last one is lost with it; nothing comes twice, or late.
            assert!(last < Some(number), "{number} after {last:?}");
            last = Some(number);
            received += 1;
        }
    }
    let _ = found.send(received);
}

#[test]
fn a_peer_that_accepts_and_closes_costs_nothing_and_is_served_when_it_stays() {
    let _alone = alone();
    let rounds = rounds(200);
    let (mut event_loop, context) = fixture();
    let push = eager(&context);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    push.connect(&format!("tcp://{}", listener.local_addr().unwrap())).unwrap();
    let ((), turns) = run_counted(&mut event_loop, &mut (), async {
        let (baseline, memory) = (descriptors(), resident());
        let (ended, peer) = oneshot::channel();
        let accepting = thread::spawn(move || {
            for round in 0..rounds {
                let (mut stream, _) = listener.accept().unwrap();
                match round % 4 {
                    // At once, after half a greeting, after the handshake, in the middle of a message.
                    0 => {}
                    1 => stream.write_all(&GREETING[..5]).unwrap(),
                    2 => drop(Peer::handshake(stream, "PULL", "")),
                    _ => {
                        let Ok(mut peer) = Peer::handshake(stream, "PULL", "") else { continue };
                        let _ = peer.frame();
                    }
                }
            }
            // And now it stays.
            let (stream, _) = listener.accept().unwrap();
            let mut peer = Peer::handshake(stream, "PULL", "").unwrap();
            let whole = (0..100).filter(|_| {
                let (first, second) = (peer.frame().unwrap(), peer.frame().unwrap());
                first.more && !second.more && first.bytes == b"first" && second.bytes == b"second"
            });
            let _ = ended.send(whole.count());
        });
        let send = async {
            loop {
                push.send(["first", "second"]).await.unwrap();
            }
        };
        let ended = context.timeout(Duration::from_secs(50), select(Box::pin(send), peer));
        let Ok(Either::Right((whole, _))) = ended.await else { panic!("not served in time") };
        assert_eq!(whole.unwrap(), 100);
        accepting.join().unwrap();
        // libzmq goes on trying to connect; that takes a descriptor for moments.
        down_to(&context, baseline).await;
        let grown = resident().saturating_sub(memory);
        assert!(grown < 16 << 20, "{grown} bytes");
    });
    println!("{turns} turns");
}

#[test]
fn visitors_that_leave_at_once_leave_nothing_behind() {
    let _alone = alone();
    let (mut rng, visits) = (Rng::new(), 5 * rounds(200));
    let (mut event_loop, context) = fixture();
    let pull = context.socket::<Pull>().unwrap();
    let endpoint = pull.bind(TCP).unwrap();
    let address = endpoint.replace("tcp://", "");
    let good = context.socket::<Push>().unwrap();
    good.connect(&endpoint).unwrap();
    let ((), turns) = run_counted(&mut event_loop, &mut (), async {
        let talk = async |text: &str| {
            good.send(["still", text]).await.unwrap();
            let received = context.timeout(STALL, pull.recv()).await.expect("in time");
            assert_eq!(received.unwrap(), Multipart::from(["still", text]));
        };
        talk("here").await;
        let (baseline, memory) = (descriptors(), resident());
        for visit in 0..visits {
            let mut stream = TcpStream::connect(&address).unwrap();
            match rng.below(3) {
                0 => {}
                1 => stream.write_all(&GREETING[..=usize::try_from(rng.below(9)).unwrap()]).unwrap(),
                _ => drop(Peer::handshake(stream, "PUSH", "")),
            }
            if visit % 20 == 0 {
                talk("good friends").await;
            }
        }
        down_to(&context, baseline).await;
        let grown = resident().saturating_sub(memory);
        assert!(grown < 16 << 20, "{grown} bytes");
        talk("alive").await;
    });
    println!("{visits} visits, {turns} turns");
    assert!(turns < 20 * visits, "{turns} turns for {visits} visits");
}

/// A PUSH that connects again at once, and has a queue of one message.
fn eager(context: &AsyncZmqContext) -> AsyncZmqSocket<Push> {
    let push = context.socket::<Push>().unwrap();
    let raw = push.get_ref();
    raw.set_reconnect_ivl(1).unwrap();
    raw.set_sndhwm(1).unwrap();
    raw.set_linger(0).unwrap();
    push
}

/// How ZMTP 3.0 begins: signature and version.
const GREETING: [u8; 11] = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3];
