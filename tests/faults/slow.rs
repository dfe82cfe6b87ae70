//! A peer that pauses: who sends to it waits, and that costs neither turns of the loop nor memory.

use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use calloop_zmq::kind::Push;

use crate::common::{Probe, Rig, STALL, number};
use crate::{STALL_MS, TCP, alone, resident};

const PAUSE: Duration = Duration::from_millis(500);
/// For what is on its way when the pause begins: all is quiet when nothing has moved for as long.
const REST: Duration = Duration::from_millis(200);
/// Below the size of a message. A size of our own also keeps the kernel from finding a better one in the pause.
const KERNEL_BUFFER: i32 = 128 * 1024;
const PAUSES: u64 = 2;
const TAKEN: u64 = 40;
const SIZE: usize = 256 * 1024;

#[test]
fn a_slow_peer_costs_neither_turns_nor_memory_inproc() {
    slow_peer("inproc://slow");
}

#[test]
fn a_slow_peer_costs_neither_turns_nor_memory_ipc() {
    let directory = tempfile::tempdir().unwrap();
    slow_peer(&format!("ipc://{}/slow", directory.path().display()));
}

#[test]
fn a_slow_peer_costs_neither_turns_nor_memory_tcp() {
    slow_peer(TCP);
}

fn slow_peer(endpoint: &str) {
    let _alone = alone();
    let in_the_kernel = u64::from(!endpoint.starts_with("inproc"));
    let mut rig = Rig::new();
    let push = rig.socket::<Push>("PUSH", |raw| {
        raw.set_sndbuf(KERNEL_BUFFER)?;
        raw.set_sndhwm(1)
    });
    let endpoint = push.bind(endpoint).unwrap();
    let peer = rig.context.zmq_context().socket(zmq::PULL).unwrap();
    peer.set_rcvbuf(KERNEL_BUFFER).unwrap();
    peer.set_rcvhwm(1).unwrap();
    peer.set_rcvtimeo(STALL_MS).unwrap();
    peer.connect(&endpoint).unwrap();
    // It takes as many messages as it is told to, and pauses until the next time.
    let (take, taken) = mpsc::channel::<u64>();
    let peer = thread::spawn(move || {
        let mut next = 0;
        for count in taken {
            for expected in next..next + count {
                assert_eq!(number(&peer.recv_msg(0).unwrap()), expected);
            }
            next += count;
        }
    });

    let probe = rig.probe("sender");
    let sender = Rc::clone(&probe);
    rig.spawn_aside(async move {
        for number in 0_u64.. {
            let mut bytes = vec![0; SIZE];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            sender.wait(push.send(bytes)).await.unwrap();
        }
    });
    rig.run_until(|| probe.waits());
    let mut before = 0;
    for pause in 0..PAUSES {
        rest(&mut rig, &probe);
        assert!(probe.waits(), "nobody takes anything, and still there is room");
        let (done, memory) = (probe.done(), resident());
        let turns = rig.idle(PAUSE);
        let grown = resident().saturating_sub(memory);
        println!("pause {pause} after {done} messages: {turns} turns, {grown} bytes");
        // The kernel tries a closed window now and then, and may find room for one more.
        let moved = probe.done() - done;
        assert!(moved <= in_the_kernel, "{moved} messages went into a queue that nobody knows of");
        assert!(turns <= 3 + 3 * moved, "a parked sender cost {turns} turns");
        assert!(grown < 1 << 20, "the pause cost {grown} bytes");
        assert!(done >= before, "it did not go on");
        // And on: what the peer takes is replaced.
        before = done + TAKEN / 2;
        take.send(TAKEN).unwrap();
        rig.run_until(|| probe.done() >= before);
    }
    drop(take);
    // Its last messages may still be on their way. That it has them all wakes nobody here.
    let begin = Instant::now();
    while !peer.is_finished() {
        assert!(begin.elapsed() < STALL, "the peer still waits for its messages");
        rig.turn(Duration::from_millis(1));
    }
    peer.join().unwrap();
}

/// Until the sender has not moved for a [`REST`]: on a busy machine what is on its way takes its time.
fn rest(rig: &mut Rig, sender: &Probe) {
    let begin = Instant::now();
    loop {
        let done = sender.done();
        rig.idle(REST);
        if sender.done() == done {
            return;
        }
        assert!(begin.elapsed() < STALL, "nobody takes anything, and still it goes on");
    }
}
