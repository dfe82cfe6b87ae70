//! tmq, on tokio.

use std::pin::pin;
use std::time::Duration;

use futures::future::select;
use tmq::request_reply::RequestSender;
use tmq::{AsZmqSocket, FromZmqSocket, Message, Multipart, TmqError};

use super::tokio_loop;
use crate::faults::finding::Finding;
use crate::faults::library::{Frames, Library, SOON, second_reply};

#[derive(Clone)]
pub struct Tmq;

impl Library for Tmq {
    const NAME: &str = "tmq";

    type Outgoing = Multipart;
    type Incoming = Multipart;
    type SendError = TmqError;
    type RecvError = TmqError;
    type Pull = tmq::pull::Pull;
    type Push = tmq::push::Push;
    type Dealer = tmq::dealer::Dealer;
    type Router = tmq::router::Router;

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
        Self::Pull::from_zmq_socket(raw).expect("a socket")
    }

    fn push(&self, raw: zmq::Socket) -> Self::Push {
        Self::Push::from_zmq_socket(raw).expect("a socket")
    }

    fn dealer(&self, raw: zmq::Socket) -> Self::Dealer {
        Self::Dealer::from_zmq_socket(raw).expect("a socket")
    }

    fn router(&self, raw: zmq::Socket) -> Self::Router {
        Self::Router::from_zmq_socket(raw).expect("a socket")
    }

    fn raw(pull: &Self::Pull) -> &zmq::Socket {
        pull.get_socket()
    }

    fn message(frames: Frames) -> Multipart {
        frames.into()
    }

    fn frames(message: &Multipart) -> Frames {
        message.iter().map(|frame| frame.to_vec()).collect()
    }

    async fn ask_twice(self, req: impl Fn() -> zmq::Socket + 'static) -> Finding {
        let sender = RequestSender::from_zmq_socket(req()).expect("a socket");
        let receiver = sender.send(Message::from("one").into()).await.expect("sent");
        // The future owns the socket.
        drop(select(pin!(receiver.recv()), self.sleep(SOON)).await);
        let sender = RequestSender::from_zmq_socket(req()).expect("a socket");
        let receiver = sender.send(Message::from("two").into()).await.expect("sent");
        receiver.recv().await.map_or_else(
            |error| Finding::wrong(&format!("the next request: {error}")),
            |(reply, _)| match second_reply(&reply[0]) {
                right if right.is_right() => {
                    Finding::right_with("right, with a new socket: the old one goes with the future", 0)
                }
                wrong => wrong,
            },
        )
    }
}
