//! calloop-zmq, with calloop's own executor.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use calloop::EventLoop;
use calloop::futures::Scheduler;
use calloop_zmq::kind::{Dealer, Kind, Pull, Push, Req, Router};
use calloop_zmq::{AsyncZmqContext, AsyncZmqSocket, Error, Multipart};
use futures::future::select;

use crate::faults::finding::Finding;
use crate::faults::library::{Frames, Library, SOON, second_reply};

#[derive(Clone)]
pub struct Ours {
    context: AsyncZmqContext,
    scheduler: Scheduler<()>,
}

impl Library for Ours {
    const NAME: &str = "calloop-zmq";

    type Outgoing = Multipart;
    type Incoming = Multipart;
    type SendError = Error;
    type RecvError = Error;
    type Pull = AsyncZmqSocket<Pull>;
    type Push = AsyncZmqSocket<Push>;
    type Dealer = AsyncZmqSocket<Dealer>;
    type Router = AsyncZmqSocket<Router>;

    fn run<F, T>(context: &zmq::Context, main: impl FnOnce(Self) -> F) -> T
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        let mut event_loop = EventLoop::<()>::try_new().expect("a loop");
        let (executor, scheduler) = calloop::futures::executor().expect("an executor");
        event_loop.handle().insert_source(executor, |(), (), ()| {}).expect("a source");
        let context = AsyncZmqContext::with_context(&event_loop.handle(), context.clone()).expect("a context");
        let main = main(Self { context, scheduler: scheduler.clone() });
        let done = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&done);
        scheduler.schedule(async move { *slot.borrow_mut() = Some(main.await) }).expect("a task");
        loop {
            event_loop.dispatch(None, &mut ()).expect("a turn");
            if let Some(output) = done.borrow_mut().take() {
                return output;
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.scheduler.schedule(task).expect("a task");
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Unpin + 'static {
        self.context.sleep(duration)
    }

    fn pull(&self, raw: zmq::Socket) -> Self::Pull {
        self.adopt(raw)
    }

    fn push(&self, raw: zmq::Socket) -> Self::Push {
        self.adopt(raw)
    }

    fn dealer(&self, raw: zmq::Socket) -> Self::Dealer {
        self.adopt(raw)
    }

    fn router(&self, raw: zmq::Socket) -> Self::Router {
        self.adopt(raw)
    }

    fn raw(pull: &Self::Pull) -> &zmq::Socket {
        pull.get_ref()
    }

    fn message(frames: Frames) -> Multipart {
        frames.into_iter().collect()
    }

    fn frames(message: &Multipart) -> Frames {
        message.iter().map(|frame| frame.to_vec()).collect()
    }

    async fn ask_twice(self, req: impl Fn() -> zmq::Socket + 'static) -> Finding {
        let req = self.adopt::<Req>(req());
        drop(select(req.request("one"), self.sleep(SOON)).await);
        match req.request("two").await {
            Ok(reply) => second_reply(&reply[0]),
            Err(error) => Finding::wrong(&format!("the next request: {error}")),
        }
    }

    async fn goodbye(self) {
        self.context.terminate().await.expect("an end");
    }
}

impl Ours {
    fn adopt<K: Kind>(&self, raw: zmq::Socket) -> AsyncZmqSocket<K> {
        // As it is with the sockets that the context makes.
        let linger = AsyncZmqContext::DEFAULT_LINGER.as_millis();
        raw.set_linger(i32::try_from(linger).expect("a second")).expect("a number");
        self.context.adopt(raw).expect("a socket")
    }
}
