//! The zeromq crate: ZeroMQ in Rust without libzmq, on tokio's loop in the current thread. It has no inproc.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::LocalSet;
use zeromq::{DealerSocket, PullSocket, PushSocket, ReqSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use super::tokio_loop::{beat, run};
use crate::clock::{Clock, Measured};
use crate::contestant::{Job, Program};
use crate::course::{self, Beat};
use crate::workload::Transport;

pub struct Zeromq;

impl Program for Zeromq {
    fn receive(&self, job: &'static Job) -> Option<Measured> {
        run_if_possible(job, async {
            let mut pull: PullSocket = connect(job).await;
            let frames = job.sizes().len();
            course::stream(job, async move || {
                let message = pull.recv().await.expect("a message");
                assert_eq!(message.len(), frames);
            })
            .await
        })
    }

    fn receive_into(&self, _: &'static Job) -> Option<Measured> {
        None
    }

    fn send(&self, job: &'static Job) -> Option<Measured> {
        run_if_possible(job, async {
            let mut push: PushSocket = connect(job).await;
            let frames = job.frames();
            let mut send = async |count| {
                for _ in 0..count {
                    push.send(message(&frames)).await.expect("sent");
                }
            };
            // The loop has to go on until its own tasks have written everything, so nothing may block here.
            send(job.warm_up).await;
            counted(job).await;
            let clock = Clock::start();
            send(job.messages).await;
            clock.stop_at(counted(job).await, job.messages)
        })
    }

    fn request(&self, job: &'static Job) -> Option<Measured> {
        run_if_possible(job, round_trips::<ReqSocket>(job))
    }

    fn round_trip(&self, job: &'static Job) -> Option<Measured> {
        run_if_possible(job, round_trips::<DealerSocket>(job))
    }

    fn beside_idle(&self, _: &'static Job) -> Option<Measured> {
        None
    }

    fn duplex(&self, job: &'static Job) -> Option<Measured> {
        run_if_possible(job, async {
            let dealer: DealerSocket = connect(job).await;
            let (mut sender, mut receiver) = dealer.split();
            let (frames, total) = (job.frames(), job.warm_up + job.messages);
            tokio::spawn(async move {
                for _ in 0..total {
                    sender.send(message(&frames)).await.expect("sent");
                }
            });
            course::stream(job, async move || {
                receiver.recv().await.expect("a message");
            })
            .await
        })
    }

    fn fan_in(&self, _: &'static Job) -> Option<Measured> {
        None
    }

    fn timer(&self, job: &'static Job) -> Option<Measured> {
        let tasks = LocalSet::new();
        let late = Rc::new(RefCell::new(Beat::new(job)));
        run(tasks.run_until(async {
            let mut pull: PullSocket = connect(job).await;
            tokio::task::spawn_local(beat(Rc::clone(&late)));
            for _ in 0..job.warm_up {
                pull.recv().await.expect("a message");
            }
            late.borrow_mut().begin();
            while !late.borrow().is_over() {
                pull.recv().await.expect("a message");
            }
            late.borrow_mut().measured()
        }))
    }
}

fn run_if_possible(job: &Job, main: impl Future<Output = Measured>) -> Option<Measured> {
    if job.workload.transport == Transport::Inproc { None } else { run(main) }
}

async fn connect<S: Socket>(job: &Job) -> S {
    let mut socket = S::new();
    socket.connect(job.endpoint()).await.expect("an endpoint");
    socket
}

fn message(frames: &[Vec<u8>]) -> ZmqMessage {
    match frames {
        [frame] => Bytes::copy_from_slice(frame).into(),
        frames => {
            let frames: Vec<_> = frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
            frames.try_into().expect("frames")
        }
    }
}

/// As [`Job::counted`], but the loop goes on.
async fn counted(job: &Job) -> std::time::Instant {
    loop {
        if let Ok(reached) = job.peers.counted.try_recv() {
            return reached;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn round_trips<S: Socket + SocketSend + SocketRecv>(job: &Job) -> Measured {
    let mut socket: S = connect(job).await;
    let frames = job.frames();
    course::trips(job, async move || {
        socket.send(message(&frames)).await.expect("sent");
        socket.recv().await.expect("a reply");
    })
    .await
}
