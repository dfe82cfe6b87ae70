//! async_zmq, whose reactor is a thread of its own; its futures run on the simplest executor, in this thread.

use std::rc::Rc;

use async_zmq::{Message, SinkExt, StreamExt};
use futures::executor::{LocalPool, block_on};
use futures::task::LocalSpawnExt;
use std::vec::IntoIter;

use crate::clock::Measured;
use crate::contestant::{Job, Program};
use crate::course::{self, Counter};

pub struct AsyncZmq;

type Frames = IntoIter<Message>;

impl Program for AsyncZmq {
    fn receive(&self, job: &'static Job) -> Option<Measured> {
        let mut pull = pull(job, job.endpoint());
        let frames = job.sizes().len();
        Some(block_on(course::stream(job, async move || {
            let message = pull.next().await.expect("a stream").expect("a message");
            assert_eq!(message.len(), frames);
        })))
    }

    fn receive_into(&self, _: &'static Job) -> Option<Measured> {
        None
    }

    fn send(&self, job: &'static Job) -> Option<Measured> {
        let builder = async_zmq::push::<Frames, Message>(job.endpoint()).expect("an endpoint");
        let mut push = builder.with_context(&job.context).connect().expect("an endpoint");
        let frames = job.frames();
        Some(block_on(course::delivery(job, async move |count| {
            for _ in 0..count {
                let message: Vec<_> = frames.iter().map(|frame| Message::from(&frame[..])).collect();
                push.feed(message.into()).await.expect("sent");
            }
            push.flush().await.expect("sent");
        })))
    }

    fn request(&self, job: &'static Job) -> Option<Measured> {
        let builder = async_zmq::request::<Frames, Message>(job.endpoint()).expect("an endpoint");
        let req = builder.with_context(&job.context).connect().expect("an endpoint");
        let body = job.frame();
        Some(block_on(course::trips(job, async move || {
            req.send(vec![Message::from(&body[..])]).await.expect("sent");
            req.recv().await.expect("a reply");
        })))
    }

    fn round_trip(&self, job: &'static Job) -> Option<Measured> {
        Some(block_on(round_trips(job)))
    }

    fn beside_idle(&self, job: &'static Job) -> Option<Measured> {
        let mut pool = LocalPool::new();
        for endpoint in job.idle() {
            let mut pull = pull(job, endpoint);
            pool.spawner().spawn_local(async move { drop(pull.next().await) }).expect("a task");
        }
        Some(pool.run_until(round_trips(job)))
    }

    fn duplex(&self, job: &'static Job) -> Option<Measured> {
        let body = job.frame();
        // Two tasks could lose each other's wake-ups, so they are one.
        let (mut sink, mut stream) = dealer(job).split();
        let writer = async move {
            for _ in 0..job.warm_up + job.messages {
                sink.feed(vec![Message::from(&body[..])].into()).await.expect("sent");
            }
            sink.flush().await.expect("sent");
        };
        let reader = course::stream(job, async move || {
            stream.next().await.expect("a stream").expect("a message");
        });
        Some(block_on(async { futures::join!(reader, writer).0 }))
    }

    fn fan_in(&self, job: &'static Job) -> Option<Measured> {
        let mut pool = LocalPool::new();
        let counter = Rc::new(Counter::new(job));
        for endpoint in job.spread() {
            let mut pull = pull(job, endpoint);
            let counter = Rc::clone(&counter);
            let receive = async move {
                loop {
                    pull.next().await.expect("a stream").expect("a message");
                    counter.one();
                }
            };
            pool.spawner().spawn_local(receive).expect("a task");
        }
        job.peers.go();
        pool.run_until(std::future::pending())
    }

    fn timer(&self, _: &'static Job) -> Option<Measured> {
        // It has no loop that a timer could be in.
        None
    }
}

fn pull(job: &Job, endpoint: &str) -> async_zmq::Pull {
    let builder = async_zmq::pull(endpoint).expect("an endpoint");
    builder.with_context(&job.context).connect().expect("an endpoint")
}

fn dealer(job: &Job) -> async_zmq::Dealer<Frames, Message> {
    let builder = async_zmq::dealer(job.endpoint()).expect("an endpoint");
    builder.with_context(&job.context).connect().expect("an endpoint")
}

async fn round_trips(job: &Job) -> Measured {
    let mut dealer = dealer(job);
    let body = job.frame();
    course::trips(job, async move || {
        dealer.send(vec![Message::from(&body[..])].into()).await.expect("sent");
        dealer.next().await.expect("a stream").expect("a reply");
    })
    .await
}
