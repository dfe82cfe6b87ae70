//! tmq, on tokio's loop in the current thread. Its Streams and Sinks, as its README shows them.

use std::cell::RefCell;
use std::rc::Rc;

use futures::{SinkExt, Stream, StreamExt};
use tmq::{FromZmqSocket, Message, Multipart, SocketBuilder};
use tokio::task::LocalSet;

use super::tokio_loop::{beat, run};
use crate::clock::Measured;
use crate::contestant::{Job, Program};
use crate::course::{self, Beat, Counter};

/// `buffered`: with the buffer that a PULL can be given, which asks libzmq for its state once for each fill.
pub struct Tmq {
    pub buffered: bool,
}

/// How much that buffer holds.
const CAPACITY: usize = 100;

impl Program for Tmq {
    fn receive(&self, job: &'static Job) -> Option<Measured> {
        run(async {
            let pull = connect(tmq::pull(&job.context), job.endpoint());
            if self.buffered { receive(job, pull.buffered(CAPACITY)).await } else { receive(job, pull).await }
        })
    }

    fn receive_into(&self, _: &'static Job) -> Option<Measured> {
        None
    }

    fn send(&self, job: &'static Job) -> Option<Measured> {
        if self.buffered {
            return None;
        }
        run(async {
            let mut push = connect(tmq::push(&job.context), job.endpoint());
            let frames = job.frames();
            course::delivery(job, async move |count| {
                for _ in 0..count {
                    let message: Multipart = frames.iter().map(|frame| Message::from(&frame[..])).collect();
                    push.feed(message).await.expect("sent");
                }
                SinkExt::<Multipart>::flush(&mut push).await.expect("sent");
            })
            .await
        })
    }

    fn request(&self, job: &'static Job) -> Option<Measured> {
        if self.buffered {
            return None;
        }
        run(async {
            // Each operation gives the socket back as the other half of the pattern.
            let mut req = Some(connect(tmq::request(&job.context), job.endpoint()));
            let body = job.frame();
            course::trips(job, async move || {
                let sender = req.take().expect("it came back");
                let receiver = sender.send(Message::from(&body[..]).into()).await.expect("sent");
                let (_, sender) = receiver.recv().await.expect("a reply");
                req = Some(sender);
            })
            .await
        })
    }

    fn round_trip(&self, job: &'static Job) -> Option<Measured> {
        if self.buffered {
            return None;
        }
        run(round_trips(job))
    }

    fn beside_idle(&self, job: &'static Job) -> Option<Measured> {
        if self.buffered {
            return None;
        }
        let tasks = LocalSet::new();
        run(tasks.run_until(async {
            for endpoint in job.idle() {
                let mut pull = connect(tmq::pull(&job.context), endpoint);
                tokio::task::spawn_local(async move { drop(pull.next().await) });
            }
            round_trips(job).await
        }))
    }

    fn duplex(&self, job: &'static Job) -> Option<Measured> {
        if self.buffered {
            return None;
        }
        run(async {
            let dealer = connect(tmq::dealer(&job.context), job.endpoint());
            let body = job.frame();
            // Two tasks would take the one waker from each other and stand still, so they are one.
            let (mut sink, mut stream) = dealer.split::<Multipart>();
            let writer = async move {
                for _ in 0..job.warm_up + job.messages {
                    sink.feed(Message::from(&body[..]).into()).await.expect("sent");
                }
                sink.flush().await.expect("sent");
            };
            let reader = course::stream(job, async move || {
                stream.next().await.expect("a stream").expect("a message");
            });
            futures::join!(reader, writer).0
        })
    }

    fn fan_in(&self, job: &'static Job) -> Option<Measured> {
        let tasks = LocalSet::new();
        let counter = Rc::new(Counter::new(job));
        run(tasks.run_until(async {
            for endpoint in job.spread() {
                let pull = connect(tmq::pull(&job.context), endpoint);
                let counter = Rc::clone(&counter);
                if self.buffered {
                    tokio::task::spawn_local(receive_all(pull.buffered(CAPACITY), counter));
                } else {
                    tokio::task::spawn_local(receive_all(pull, counter));
                }
            }
            job.peers.go();
            std::future::pending().await
        }))
    }

    fn timer(&self, job: &'static Job) -> Option<Measured> {
        if self.buffered {
            return None;
        }
        let tasks = LocalSet::new();
        let late = Rc::new(RefCell::new(Beat::new(job)));
        run(tasks.run_until(async {
            let mut pull = connect(tmq::pull(&job.context), job.endpoint());
            tokio::task::spawn_local(beat(Rc::clone(&late)));
            for _ in 0..job.warm_up {
                pull.next().await.expect("a stream").expect("a message");
            }
            late.borrow_mut().begin();
            while !late.borrow().is_over() {
                pull.next().await.expect("a stream").expect("a message");
            }
            late.borrow_mut().measured()
        }))
    }
}

fn connect<T: FromZmqSocket<T>>(builder: SocketBuilder<T>, endpoint: &str) -> T {
    builder.connect(endpoint).expect("an endpoint")
}

async fn receive(job: &Job, mut pull: impl Stream<Item = tmq::Result<Multipart>> + Unpin) -> Measured {
    let frames = job.sizes().len();
    course::stream(job, async move || {
        let message = pull.next().await.expect("a stream").expect("a message");
        assert_eq!(message.len(), frames);
    })
    .await
}

async fn receive_all(mut pull: impl Stream<Item = tmq::Result<Multipart>> + Unpin, counter: Rc<Counter>) {
    loop {
        pull.next().await.expect("a stream").expect("a message");
        counter.one();
    }
}

async fn round_trips(job: &Job) -> Measured {
    let mut dealer = connect(tmq::dealer(&job.context), job.endpoint());
    let body = job.frame();
    course::trips(job, async move || {
        dealer.send(Message::from(&body[..])).await.expect("sent");
        dealer.next().await.expect("a stream").expect("a reply");
    })
    .await
}
