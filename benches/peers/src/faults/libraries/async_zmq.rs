//! async_zmq. Its reactor is a thread of its own; its futures run on tokio, as in its examples.

use std::pin::pin;
use std::time::Duration;
use std::vec::IntoIter;

use async_zmq::{Error, Message, Multipart, MultipartIter, RecvError, RequestReplyError, SendError};
use futures::future::{Either, select};

use super::tokio_loop;
use crate::faults::finding::Finding;
use crate::faults::library::{Frames, Library, SOON, second_reply};

#[derive(Clone)]
pub struct AsyncZmq;

type Parts = IntoIter<Message>;

impl Library for AsyncZmq {
    const NAME: &str = "async_zmq";

    type Outgoing = MultipartIter<Parts, Message>;
    type Incoming = Multipart;
    type SendError = SendError;
    type RecvError = RecvError;
    type Pull = async_zmq::Pull;
    type Push = async_zmq::Push<Parts, Message>;
    type Dealer = async_zmq::Dealer<Parts, Message>;
    type Router = async_zmq::Router<Parts, Message>;

    fn run<F, T>(_: &zmq::Context, main: impl FnOnce(Self) -> F) -> T
    where
        F: Future<Output = T> + 'static,
        T: 'static,
    {
        tokio_loop::run(async { main(Self).await })
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        tokio::task::spawn_local(task);
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Unpin + 'static {
        Box::pin(tokio::time::sleep(duration))
    }

    fn pull(&self, raw: zmq::Socket) -> Self::Pull {
        raw.into()
    }

    fn push(&self, raw: zmq::Socket) -> Self::Push {
        raw.into()
    }

    fn dealer(&self, raw: zmq::Socket) -> Self::Dealer {
        raw.into()
    }

    fn router(&self, raw: zmq::Socket) -> Self::Router {
        raw.into()
    }

    fn raw(pull: &Self::Pull) -> &zmq::Socket {
        pull.as_raw_socket()
    }

    fn message(frames: Frames) -> Self::Outgoing {
        frames.into_iter().map(Message::from).collect::<Vec<_>>().into()
    }

    fn frames(message: &Multipart) -> Frames {
        message.iter().map(|frame| frame.to_vec()).collect()
    }

    async fn ask_twice(self, req: impl Fn() -> zmq::Socket + 'static) -> Finding {
        let req = async_zmq::Request::<Parts, Message>::from(req());
        req.send(Message::from("one")).await.expect("sent");
        drop(select(pin!(req.recv()), self.sleep(SOON)).await);
        match select(pin!(req.send(Message::from("two"))), self.sleep(20 * SOON)).await {
            Either::Left((Ok(()), _)) => {}
            Either::Left((Err(error), _)) => return Finding::wrong(&format!("the next request: {error}")),
            Either::Right(_) => return Finding::wrong("the next request's `send` waits for ever"),
        }
        let (reply, failed) = match req.recv().await {
            Err(RequestReplyError::Unexpected(Error::EAGAIN)) => (req.recv().await, true),
            reply => (reply, false),
        };
        match reply {
            Ok(_) if failed => Finding::wrong("the next `recv` fails with EAGAIN, the one after it is right"),
            Ok(reply) => second_reply(&reply[0]),
            Err(error) => Finding::wrong(&format!("the next request: {error}")),
        }
    }
}
