//! Peers that are killed with SIGKILL in the middle of a message of three large frames.

use std::time::{Duration, Instant};

use calloop_zmq::kind::{Pull, Push};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart};
use futures::future::{Either, select};

use crate::common::Rng;
use crate::support::run;
use crate::{Child, STALL, STALL_MS, TCP, alone, descriptors, down_to, fixture, role, rounds};

#[test]
fn a_peer_killed_in_mid_message_leaves_whole_messages_only() {
    peer_killed_in_mid_message("killed::a_peer_killed_in_mid_message_leaves_whole_messages_only", 1);
}

#[test]
#[ignore = "many rounds: a named step of .ci/slow"]
fn a_peer_killed_in_mid_message_leaves_whole_messages_only_200_times() {
    peer_killed_in_mid_message("killed::a_peer_killed_in_mid_message_leaves_whole_messages_only_200_times", 20);
}

#[test]
fn a_peer_killed_while_we_send_tears_nothing_and_the_next_one_is_served() {
    peer_killed_while_we_send("killed::a_peer_killed_while_we_send_tears_nothing_and_the_next_one_is_served", 1);
}

#[test]
#[ignore = "many rounds: a named step of .ci/slow"]
fn a_peer_killed_while_we_send_tears_nothing_and_the_next_one_is_served_200_times() {
    peer_killed_while_we_send(
        "killed::a_peer_killed_while_we_send_tears_nothing_and_the_next_one_is_served_200_times",
        20,
    );
}

fn peer_killed_in_mid_message(test: &'static str, batches: u32) {
    if let Some(role) = role() {
        return send_until_killed(&role);
    }
    let _alone = alone();
    each_transport(batches, |endpoint, rng| {
        let rounds = rounds(10);
        let (mut event_loop, context) = fixture();
        let pull = context.socket::<Pull>().unwrap();
        // At most one in libzmq's queue: the child is in the middle of one whenever it dies.
        pull.get_ref().set_rcvhwm(1).unwrap();
        let endpoint = pull.bind(endpoint).unwrap();
        let pattern = Pattern::new(8);
        run(&mut event_loop, async {
            let baseline = descriptors();
            let (mut whole, mut slowest) = (0, Duration::ZERO);
            for round in 0..rounds {
                let begin = Instant::now();
                let child = Child::start(test, &format!("{endpoint} {round}"));
                // The tail of the last child's messages may come first.
                loop {
                    let message = recv(&context, &pull).await;
                    if message == greeting(round) {
                        break;
                    }
                    pattern.check(&message);
                    whole += 1;
                }
                slowest = slowest.max(begin.elapsed());
                // Most are killed in their first message, some in a later one.
                if round % 4 == 3 {
                    pattern.check(&recv(&context, &pull).await);
                    whole += 1;
                }
                let killed_at = Instant::now() + Duration::from_micros(1_000 + rng.below(19_000));
                while let Some(left) = killed_at.checked_duration_since(Instant::now()) {
                    if let Ok(message) = context.timeout(left, pull.recv()).await {
                        pattern.check(&message.unwrap());
                        whole += 1;
                    }
                }
                child.kill();
            }
            println!("{rounds} children, {whole} whole messages, the next one greeted within {slowest:?}");
            // What is left is whole as well.
            while let Ok(message) = context.timeout(Duration::from_millis(50), pull.recv()).await {
                pattern.check(&message.unwrap());
            }
            down_to(&context, baseline).await;
        });
    });
}

fn peer_killed_while_we_send(test: &'static str, batches: u32) {
    if let Some(role) = role() {
        return receive_until_killed(&role);
    }
    let _alone = alone();
    each_transport(batches, |endpoint, rng| {
        let rounds = rounds(10);
        let (mut event_loop, context) = fixture();
        let (push, acks) = (context.socket::<Push>().unwrap(), context.socket::<Pull>().unwrap());
        push.get_ref().set_sndhwm(1).unwrap();
        let endpoints = format!("{} {}", push.bind(endpoint).unwrap(), acks.bind(&second(endpoint)).unwrap());
        let pattern = Pattern::new(2);
        run(&mut event_loop, async {
            let baseline = descriptors();
            let send = async {
                for number in 0.. {
                    push.send(pattern.message(0, number)).await.unwrap();
                }
            };
            let kill = async {
                let mut whole = 0;
                for round in 0..rounds {
                    let child = Child::start(test, &format!("{endpoints} {round}"));
                    // Acknowledged by this one: it lives, and takes messages.
                    while recv(&context, &acks).await != greeting(round) {
                        whole += 1;
                    }
                    context.sleep(Duration::from_micros(1_000 + rng.below(19_000))).await;
                    child.kill();
                }
                println!("{rounds} children acknowledged more than {whole} whole messages");
            };
            let Either::Right(_) = select(Box::pin(send), Box::pin(kill)).await else { panic!("it sends for ever") };
            down_to(&context, baseline).await;
        });
    });
}

/// Each batch has a deadline of its own.
fn each_transport(batches: u32, mut test: impl FnMut(&str, &mut Rng)) {
    let mut rng = Rng::new();
    for _ in 0..batches {
        let directory = tempfile::tempdir().unwrap();
        for endpoint in [TCP, &format!("ipc://{}/socket", directory.path().display())] {
            println!("{endpoint}");
            test(endpoint, &mut rng);
        }
    }
}

fn second(endpoint: &str) -> String {
    if endpoint == TCP { TCP.to_owned() } else { format!("{endpoint}2") }
}

async fn recv(context: &AsyncZmqContext, pull: &AsyncZmqSocket<Pull>) -> Multipart {
    context.timeout(STALL, pull.recv()).await.expect("the next child is heard of soon").unwrap()
}

fn greeting(round: u64) -> Multipart {
    format!("child {round}").into()
}

/// The sender that is killed: another program, with nothing but the zmq crate.
fn send_until_killed(role: &str) {
    let (endpoint, round) = role.split_once(' ').unwrap();
    let round = round.parse().unwrap();
    let pattern = Pattern::new(8);
    let push = zmq::Context::new().socket(zmq::PUSH).unwrap();
    push.set_sndhwm(1).unwrap();
    // If nobody kills it, it ends by itself.
    push.set_sndtimeo(STALL_MS).unwrap();
    push.set_linger(0).unwrap();
    push.connect(endpoint).unwrap();
    push.send_multipart(greeting(round), 0).unwrap();
    for number in 0.. {
        push.send_multipart(pattern.message(round, number), 0).unwrap();
    }
}

/// The receiver that is killed.
fn receive_until_killed(role: &str) {
    let [endpoint, acks_endpoint, round] = role.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let pattern = Pattern::new(2);
    let context = zmq::Context::new();
    let (pull, acks) = (context.socket(zmq::PULL).unwrap(), context.socket(zmq::PUSH).unwrap());
    pull.set_rcvhwm(1).unwrap();
    pull.set_rcvtimeo(STALL_MS).unwrap();
    acks.set_linger(0).unwrap();
    pull.connect(endpoint).unwrap();
    acks.connect(acks_endpoint).unwrap();
    loop {
        // A torn one ends this process before it is killed, and that fails the test.
        pattern.check(&pull.recv_multipart(0).unwrap().iter().collect::<Multipart>());
        acks.send_multipart(greeting(round.parse().unwrap()), 0).unwrap();
    }
}

/// Bytes that both sides know: each frame has its own, so that a torn, mixed or shifted one is seen.
struct Pattern {
    bytes: Vec<u8>,
    times: usize,
}

impl Pattern {
    /// Frames of that many MiB.
    fn new(times: usize) -> Self {
        let mut bytes = Vec::with_capacity(1 << 20);
        let mut state = 1_u64;
        while bytes.len() < 1 << 20 {
            // Knuth's MMIX generator: the same in every process.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.extend(state.to_le_bytes());
        }
        Self { bytes, times }
    }

    fn frame(&self, round: u64, number: u64, index: u64) -> Vec<u8> {
        let turned = usize::try_from((number * FRAMES + index) * 4_099).unwrap() % self.bytes.len();
        let head = [round, number, index].map(u64::to_le_bytes).concat();
        let body = [&self.bytes[turned..], &self.bytes[..turned]].concat();
        [&head[..], &body.repeat(self.times)].concat()
    }

    fn message(&self, round: u64, number: u64) -> Multipart {
        (0..FRAMES).map(|index| zmq::Message::from(self.frame(round, number, index))).collect()
    }

    /// Checks that these are all the bytes of all the frames of one message.
    fn check(&self, message: &Multipart) {
        assert_eq!(message.len() as u64, FRAMES, "a message was torn");
        let word = |at: usize| u64::from_le_bytes(message[0][at * 8..][..8].try_into().unwrap());
        let (round, number) = (word(0), word(1));
        for (index, frame) in (0..).zip(message.iter()) {
            assert!(
                frame[..] == self.frame(round, number, index)[..],
                "frame {index} of {number} is not as it was sent"
            );
        }
    }
}

const FRAMES: u64 = 3;
