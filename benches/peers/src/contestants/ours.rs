//! calloop-zmq: the tasks are written once, and run in each of the ways that there are.

use std::cell::RefCell;
use std::rc::Rc;

use calloop::EventLoop;
use calloop::timer::{TimeoutAction, Timer};
use calloop_zmq::kind::{Dealer, Kind, Pull, Push, Req};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Multipart, Tasks};
use futures::future::{self, LocalBoxFuture};
use futures::{FutureExt, StreamExt};

use crate::clock::Measured;
use crate::contestant::{Job, Program};
use crate::course::{self, Beat, Counter};

pub struct Ours(pub Runner);

/// A way to run tasks on calloop.
#[derive(Clone, Copy)]
pub enum Runner {
    /// calloop's own executor, a source in the loop.
    Executor,
    /// The crate's own executor, which runs what was woken in a turn of the loop at the end of that turn.
    Tasks,
    /// All tasks as one future under `EventLoop::block_on`.
    BlockOn,
}

impl Runner {
    /// Runs until `main` is ready.
    fn run<T: 'static>(
        self,
        event_loop: &mut EventLoop<'static, ()>,
        main: impl Future<Output = T> + 'static,
        others: Vec<LocalBoxFuture<'static, ()>>,
    ) -> T {
        match self {
            Self::Executor => {
                let (executor, scheduler) = calloop::futures::executor().expect("an executor");
                event_loop.handle().insert_source(executor, |(), (), ()| {}).expect("a source");
                for other in others {
                    scheduler.schedule(other).expect("a task");
                }
                let (done, main) = finished(main);
                scheduler.schedule(main).expect("a task");
                dispatch_until(event_loop, &done)
            }
            Self::Tasks => {
                let tasks = Tasks::new(&event_loop.handle()).expect("an executor");
                for other in others {
                    tasks.spawn(other);
                }
                let (done, main) = finished(main);
                tasks.spawn(main);
                dispatch_until(event_loop, &done)
            }
            Self::BlockOn => {
                let others = future::join_all(others).then(|_| future::pending::<()>());
                let all = future::select(Box::pin(main), others).map(|either| match either {
                    future::Either::Left((output, _)) => output,
                    future::Either::Right(((), _)) => unreachable!("that one is pending"),
                });
                event_loop.block_on(all, &mut (), |()| {}).expect("a loop").expect("not stopped")
            }
        }
    }
}

type Slot<T> = Rc<RefCell<Option<T>>>;

/// A task that leaves the future's output in a slot.
fn finished<T: 'static>(future: impl Future<Output = T> + 'static) -> (Slot<T>, LocalBoxFuture<'static, ()>) {
    let slot = Slot::default();
    let done = Rc::clone(&slot);
    (done, future.map(move |output| *slot.borrow_mut() = Some(output)).boxed_local())
}

fn dispatch_until<T>(event_loop: &mut EventLoop<'static, ()>, done: &Slot<T>) -> T {
    loop {
        event_loop.dispatch(None, &mut ()).expect("a turn");
        if let Some(output) = done.borrow_mut().take() {
            return output;
        }
    }
}

/// The loop and the context in it.
fn scene(job: &Job) -> (EventLoop<'static, ()>, AsyncZmqContext) {
    let event_loop = EventLoop::try_new().expect("a loop");
    let context = AsyncZmqContext::with_context(&event_loop.handle(), job.context.clone()).expect("a context");
    (event_loop, context)
}

fn connect<K: Kind>(context: &AsyncZmqContext, endpoint: &str) -> AsyncZmqSocket<K> {
    let socket = context.socket().expect("a socket");
    socket.connect(endpoint).expect("an endpoint");
    socket
}

impl Program for Ours {
    fn receive(&self, job: &'static Job) -> Option<Measured> {
        let (mut event_loop, context) = scene(job);
        let mut pull = connect::<Pull>(&context, job.endpoint());
        let frames = job.sizes().len();
        let main = course::stream(job, async move || {
            let message = pull.next().await.expect("a stream").expect("a message");
            assert_eq!(message.len(), frames);
        });
        Some(self.0.run(&mut event_loop, main, Vec::new()))
    }

    fn receive_into(&self, job: &'static Job) -> Option<Measured> {
        let (mut event_loop, context) = scene(job);
        let pull = connect::<Pull>(&context, job.endpoint());
        let frames = job.sizes().len();
        let mut message = Multipart::new();
        let main = course::stream(job, async move || {
            pull.recv_into(&mut message).await.expect("a message");
            assert_eq!(message.len(), frames);
        });
        Some(self.0.run(&mut event_loop, main, Vec::new()))
    }

    fn send(&self, job: &'static Job) -> Option<Measured> {
        let (mut event_loop, context) = scene(job);
        let push = connect::<Push>(&context, job.endpoint());
        let frames = job.frames();
        let main = course::delivery(job, async move |count| match frames.as_slice() {
            [frame] => {
                for _ in 0..count {
                    push.send(&frame[..]).await.expect("sent");
                }
            }
            [id, delimiter, body] => {
                for _ in 0..count {
                    push.send([&id[..], &delimiter[..], &body[..]]).await.expect("sent");
                }
            }
            _ => panic!("one frame or three"),
        });
        Some(self.0.run(&mut event_loop, main, Vec::new()))
    }

    fn request(&self, job: &'static Job) -> Option<Measured> {
        let (mut event_loop, context) = scene(job);
        let req = connect::<Req>(&context, job.endpoint());
        let body = job.frame();
        // `request` would set ZMQ_REQ_CORRELATE, which puts a frame on the wire that the others do not have.
        let main = course::trips(job, async move || {
            req.send(&body[..]).await.expect("sent");
            req.recv().await.expect("a reply");
        });
        Some(self.0.run(&mut event_loop, main, Vec::new()))
    }

    fn round_trip(&self, job: &'static Job) -> Option<Measured> {
        let (mut event_loop, context) = scene(job);
        Some(self.0.run(&mut event_loop, round_trips(&context, job), Vec::new()))
    }

    fn beside_idle(&self, job: &'static Job) -> Option<Measured> {
        let (mut event_loop, context) = scene(job);
        let wait = |endpoint| {
            let mut pull = connect::<Pull>(&context, endpoint);
            async move { drop(pull.next().await) }.boxed_local()
        };
        let idle = job.idle().map(wait).collect();
        Some(self.0.run(&mut event_loop, round_trips(&context, job), idle))
    }

    fn duplex(&self, job: &'static Job) -> Option<Measured> {
        let (mut event_loop, context) = scene(job);
        let dealer = Rc::new(connect::<Dealer>(&context, job.endpoint()));
        let sender = Rc::clone(&dealer);
        let body = job.frame();
        let writer = async move {
            for _ in 0..job.warm_up + job.messages {
                sender.send(&body[..]).await.expect("sent");
            }
        };
        let mut message = Multipart::new();
        let reader = course::stream(job, async move || {
            dealer.recv_into(&mut message).await.expect("a message");
        });
        Some(self.0.run(&mut event_loop, reader, vec![writer.boxed_local()]))
    }

    fn fan_in(&self, job: &'static Job) -> Option<Measured> {
        let (mut event_loop, context) = scene(job);
        let counter = Rc::new(Counter::new(job));
        let receive = |endpoint| {
            let mut pull = connect::<Pull>(&context, endpoint);
            let counter = Rc::clone(&counter);
            async move {
                loop {
                    pull.next().await.expect("a stream").expect("a message");
                    counter.one();
                }
            }
            .boxed_local()
        };
        let receivers = job.spread().map(receive).collect();
        job.peers.go();
        self.0.run(&mut event_loop, future::pending(), receivers)
    }

    fn timer(&self, job: &'static Job) -> Option<Measured> {
        let (mut event_loop, context) = scene(job);
        let mut pull = connect::<Pull>(&context, job.endpoint());
        let beat = Rc::new(RefCell::new(Beat::new(job)));
        let late = Rc::clone(&beat);
        let timer = Timer::from_duration(Beat::PERIOD);
        event_loop
            .handle()
            .insert_source(timer, move |due, (), ()| {
                late.borrow_mut().push(due.elapsed());
                TimeoutAction::ToDuration(Beat::PERIOD)
            })
            .expect("a timer");
        let main = async move {
            for _ in 0..job.warm_up {
                pull.next().await.expect("a stream").expect("a message");
            }
            beat.borrow_mut().begin();
            while !beat.borrow().is_over() {
                pull.next().await.expect("a stream").expect("a message");
            }
            beat.borrow_mut().measured()
        };
        Some(self.0.run(&mut event_loop, main, Vec::new()))
    }
}

fn round_trips(context: &AsyncZmqContext, job: &'static Job) -> impl Future<Output = Measured> + 'static {
    let dealer = connect::<Dealer>(context, job.endpoint());
    let body = job.frame();
    course::trips(job, async move || {
        dealer.send(&body[..]).await.expect("sent");
        dealer.recv().await.expect("a reply");
    })
}
