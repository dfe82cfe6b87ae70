use calloop_zmq::{AsyncZmqSocket, Multipart, kind::Sub};

fn takes_sink(_: impl futures::Sink<Multipart>) {}

fn give(subscriber: AsyncZmqSocket<Sub>) {
    takes_sink(subscriber);
}

fn main() {}
